//! The entries of a snapshot before links are resolved and the root is found.

use std::collections::{BTreeMap, BTreeSet};

use knet_snapshot::Problem;
use knet_snapshot::store::Blob;

use super::{ArchiveError, Files, Limits, Refusal};

/// What was found under the root, by normalised path.
#[derive(Default)]
pub(super) struct Entries {
    files: BTreeMap<String, Blob>,
    links: BTreeMap<String, String>,
    problems: Vec<Problem>,
    seen: usize,
}

impl Entries {
    /// Counts an entry of any kind.
    pub(super) fn count(&mut self, limits: &Limits) -> Result<(), Refusal> {
        self.seen += 1;
        if self.seen > limits.entries {
            Err(Refusal::TooManyEntries(limits.entries))
        } else {
            Ok(())
        }
    }

    /// Adds a regular file.
    pub(super) fn file(&mut self, path: String, blob: Blob) -> Result<(), Refusal> {
        self.is_new(&path)?;
        self.files.insert(path, blob);
        Ok(())
    }

    /// Adds a link; `target` is normalised and inside the root.
    pub(super) fn link(&mut self, path: String, target: String) -> Result<(), Refusal> {
        self.is_new(&path)?;
        self.links.insert(path, target);
        Ok(())
    }

    /// Records something that was skipped or cannot be read.
    pub(super) fn problem(&mut self, artifact: &str, what: String) {
        self.problems.push(Problem {
            artifact: artifact.to_owned(),
            offset: None,
            what,
        });
    }

    fn is_new(&self, path: &str) -> Result<(), Refusal> {
        if self.files.contains_key(path) || self.links.contains_key(path) {
            Err(Refusal::Duplicate)
        } else {
            Ok(())
        }
    }

    /// Resolves links, finds the root and strips it.
    pub(super) fn finish(mut self, source_name: &str, limits: &Limits) -> Result<Files, ArchiveError> {
        let refused = |entry: &str, why| ArchiveError::Refused {
            source_name: source_name.to_owned(),
            entry: entry.to_owned(),
            why,
        };
        for link in self.links.keys().cloned().collect::<Vec<_>>() {
            let target = resolve(&link, &self.links, limits).map_err(|why| refused(&link, why))?;
            if let Some(blob) = self.files.get(&target).cloned() {
                self.files.insert(link, blob);
                continue;
            }
            let below: Vec<(String, Blob)> = under(&self.files, &target)
                .map(|(path, blob)| (format!("{link}{}", &path[target.len()..]), blob.clone()))
                .collect();
            if below.is_empty() {
                let what = format!("is a link to {target:?}, which is not in the snapshot");
                self.problem(&link, what);
                continue;
            }
            for (path, blob) in below {
                self.count(limits).map_err(|why| refused(&path, why))?;
                self.files.insert(path, blob);
            }
        }
        let Some(root) = self.root() else {
            return Err(ArchiveError::NotASnapshot(source_name.to_owned()));
        };
        let strip = |path: String| path.strip_prefix(&root).map(str::to_owned);
        Ok(Files {
            files: self
                .files
                .into_iter()
                .filter_map(|(p, b)| Some((strip(p)?, b)))
                .collect(),
            problems: self.problems,
        })
    }

    /// The folder that is the snapshot: the top, or the only folder at the top (`tar c snapshot/`).
    fn root(&self) -> Option<String> {
        let paths = || self.files.keys();
        if paths().any(|p| is_snapshot_path(p)) {
            return Some(String::new());
        }
        let tops: BTreeSet<&str> = paths().filter_map(|p| p.split_once('/').map(|(top, _)| top)).collect();
        let mut roots = tops
            .into_iter()
            .map(|top| format!("{top}/"))
            .filter(|top| paths().any(|p| p.strip_prefix(top.as_str()).is_some_and(is_snapshot_path)));
        // Two snapshots side by side: which one is meant cannot be guessed.
        roots.next().filter(|_| roots.next().is_none())
    }
}

/// Is this how a path inside a snapshot begins?
pub(super) fn is_snapshot_path(path: &str) -> bool {
    path == "manifest.json" || path.starts_with("nodes/") || path.starts_with("cluster/")
}

/// Files below a folder.
fn under<'a>(files: &'a BTreeMap<String, Blob>, folder: &str) -> impl Iterator<Item = (&'a String, &'a Blob)> {
    let from = format!("{folder}/");
    files
        .range(from.clone()..)
        .take_while(move |(path, _)| path.starts_with(&from))
}

/// Brings a path inside an archive to the form `a/b/c`.
///
/// # Errors
/// Absolute paths, `..`, and paths beyond the limits.
pub(super) fn normalise(path: &str, limits: &Limits) -> Result<String, Refusal> {
    if path.starts_with('/') {
        return Err(Refusal::Absolute);
    }
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => return Err(Refusal::ParentDir),
            part => parts.push(part),
        }
    }
    if path.len() > limits.path_bytes || parts.len() > limits.path_depth {
        return Err(Refusal::PathTooLong);
    }
    Ok(parts.join("/"))
}

/// Where a symbolic link at `path` points, inside the root.
///
/// # Errors
/// Absolute targets, and targets that climb out of the root.
pub(super) fn link_target(path: &str, target: &str, limits: &Limits) -> Result<String, Refusal> {
    if target.starts_with('/') {
        return Err(Refusal::LinkLeaves);
    }
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop().ok_or(Refusal::LinkLeaves)?;
            }
            part => parts.push(part),
        }
    }
    if target.len() > limits.path_bytes || parts.len() > limits.path_depth {
        return Err(Refusal::PathTooLong);
    }
    Ok(parts.join("/"))
}

/// Follows links, component by component as the kernel does, until the path has none.
fn resolve(path: &str, links: &BTreeMap<String, String>, limits: &Limits) -> Result<String, Refusal> {
    let mut path = path.to_owned();
    for _ in 0..limits.links {
        let ends = path.match_indices('/').map(|(i, _)| i).chain([path.len()]);
        let Some((end, target)) = ends.into_iter().find_map(|end| Some((end, links.get(&path[..end])?))) else {
            return Ok(path);
        };
        let next = format!("{target}{}", &path[end..]);
        if next.len() > limits.path_bytes {
            return Err(Refusal::LinkLoop);
        }
        path = next;
    }
    Err(Refusal::LinkLoop)
}
