//! Files in, snapshot out: which file belongs to which namespace, what is absent and why.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::OnceLock;

use hashbrown::HashMap;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::artifact::name;
use crate::cluster::Cluster;
use crate::fact::{Fact, Problem};
use crate::lazy::Raw;
use crate::manifest::{AbsentReason, Manifest};
use crate::namespace::NetnsFacts;
use crate::node::NetnsInfo;
use crate::store::{Blob, File, NetnsId, NodeFacts, Snapshot, SnapshotError};

/// The major version this reader understands.
const SCHEMA: &str = "knet.snapshot/v1";

impl Snapshot {
    /// Opens a snapshot from its files: paths inside its root, separated by `/`, and their bytes.
    ///
    /// One folder around everything (`snapshot/manifest.json`) is taken off. Only `manifest.json`, `node.json` and
    /// `netns.json` are parsed here; every table waits until it is asked for.
    ///
    /// # Errors
    ///
    /// The manifest has another major version or cannot be read, or there is nothing of a snapshot in the files.
    pub fn from_files(files: Vec<(String, Blob)>) -> Result<Self, SnapshotError> {
        let mut problems = Vec::new();
        let files = arrange(files, &mut problems);
        let manifest = match files.get("manifest.json") {
            Some(file) => Some(read_manifest((*file.blob).as_ref())?),
            None => None,
        };
        if manifest.is_none()
            && !files
                .keys()
                .any(|path| path.starts_with("nodes/") || path.starts_with("cluster/"))
        {
            return Err(SnapshotError::NotASnapshot);
        }
        let absences = Absences::new(manifest.as_ref(), &files, &mut problems);
        let nodes = nodes(&files, manifest.as_ref(), &absences, &mut problems);
        let cluster = Cluster::new(|path| raw(&files, &absences, path));
        drop(absences);
        let listed = manifest
            .iter()
            .flat_map(|manifest| manifest.artifacts.iter().enumerate());
        let entries = listed.map(|(i, entry)| (entry.path.clone(), i)).collect();
        Ok(Self {
            manifest,
            problems,
            nodes,
            files,
            cluster,
            entries,
        })
    }
}

/// The files by path, without a folder around all of them.
fn arrange(mut files: Vec<(String, Blob)>, problems: &mut Vec<Problem>) -> BTreeMap<String, File> {
    let outer = outer_folder(&files);
    for (path, _) in &mut files {
        let inner = path.len() - trim(path).len() + outer;
        path.drain(..inner);
    }
    let mut refuse = |path: &str, what: &str| {
        problems.push(Problem {
            artifact: path.to_owned(),
            offset: None,
            what: what.to_owned(),
        });
    };
    files.retain(|(path, _)| {
        let odd = path.split('/').any(|part| matches!(part, "" | "." | ".."));
        if odd {
            refuse(path, "a path that leads nowhere in a snapshot");
        }
        !odd
    });
    // Sorted once: a map built in order is several times faster than a million insertions. The sort is stable.
    files.sort_by(|(a, _), (b, _)| a.cmp(b));
    files.dedup_by(|(again, _), (first, _)| {
        let same = again == first;
        if same {
            refuse(again, "a path that is there twice; the first is used");
        }
        same
    });
    files
        .into_iter()
        .map(|(path, blob)| {
            (
                path,
                File {
                    blob,
                    lines: OnceLock::new(),
                },
            )
        })
        .collect()
}

fn trim(path: &str) -> &str {
    path.trim_start_matches("./").trim_start_matches('/')
}

/// Length of the folder that everything is in, with its slash; 0 when the root is the snapshot's.
fn outer_folder(files: &[(String, Blob)]) -> usize {
    let Some(end) = files.first().and_then(|(path, _)| trim(path).find('/')) else {
        return 0;
    };
    let outer = &trim(&files[0].0)[..=end];
    if matches!(outer, "nodes/" | "cluster/") || !files.iter().all(|(path, _)| trim(path).starts_with(outer)) {
        return 0;
    }
    end + 1
}

fn read_manifest(bytes: &[u8]) -> Result<Manifest, SnapshotError> {
    #[derive(Deserialize)]
    struct Schema {
        #[serde(default)]
        schema: String,
    }
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    let broken = |e: serde_json::Error| SnapshotError::Manifest(e.to_string());
    // The version first: another one may look different in everything else.
    let Schema { schema } = serde_json::from_slice(bytes).map_err(broken)?;
    match schema.strip_prefix(SCHEMA) {
        Some("") => {}
        Some(minor) if minor.starts_with('.') => {}
        _ => return Err(SnapshotError::Schema(schema)),
    }
    serde_json::from_slice(bytes).map_err(broken)
}

/// Why something is not there, by path. A reason given for a folder holds for all in it.
struct Absences<'m>(HashMap<&'m str, AbsentReason>);

impl<'m> Absences<'m> {
    fn new(manifest: Option<&'m Manifest>, files: &BTreeMap<String, File>, problems: &mut Vec<Problem>) -> Self {
        let mut reasons = HashMap::new();
        for entry in manifest.iter().flat_map(|manifest| &manifest.absent) {
            let path = trim(&entry.path).trim_end_matches('/');
            if files.contains_key(path) {
                let what = "listed as absent, but it is there; it is used".to_owned();
                problems.push(Problem {
                    artifact: path.to_owned(),
                    offset: None,
                    what,
                });
            } else {
                reasons.insert(path, entry.reason);
            }
        }
        for entry in manifest.iter().flat_map(|manifest| &manifest.artifacts) {
            let path = trim(&entry.path);
            if !files.contains_key(path) && !reasons.contains_key(path) {
                let what = "listed in the manifest, but it is not there".to_owned();
                problems.push(Problem {
                    artifact: path.to_owned(),
                    offset: None,
                    what,
                });
                reasons.insert(path, AbsentReason::Error);
            }
        }
        Self(reasons)
    }

    fn exact(&self, path: &str) -> Option<AbsentReason> {
        self.0.get(path).copied()
    }

    /// For the file itself or a folder it is in.
    fn of(&self, path: &str) -> AbsentReason {
        let mut path = path.trim_end_matches('/');
        loop {
            if let Some(why) = self.exact(path) {
                return why;
            }
            match path.rfind('/') {
                Some(end) => path = &path[..end],
                None => return AbsentReason::NotRequested,
            }
        }
    }
}

fn raw(files: &BTreeMap<String, File>, absences: &Absences<'_>, path: &str) -> Raw {
    match files.get(path) {
        Some(file) => Ok(file.blob.clone()),
        None => Err(absences.of(path)),
    }
}

/// `node/host` and `node/netns/<id>` with what is after it.
fn place(path: &str) -> Option<(&str, Option<&str>)> {
    let (node, rest) = path.strip_prefix("nodes/")?.split_once('/')?;
    let id = rest
        .strip_prefix("netns/")
        .map(|rest| rest.split_once('/').map_or(rest, |(id, _)| id));
    (!node.is_empty()).then_some((node, id.filter(|id| !id.is_empty())))
}

fn nodes(
    files: &BTreeMap<String, File>,
    manifest: Option<&Manifest>,
    absences: &Absences<'_>,
    problems: &mut Vec<Problem>,
) -> BTreeMap<String, NodeFacts> {
    // Nodes and namespaces that only the manifest knows are there too: nobody could look at them.
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for entry in manifest
        .iter()
        .flat_map(|manifest| &manifest.nodes)
        .filter(|entry| !entry.name.is_empty())
    {
        found.entry(entry.name.clone()).or_default();
    }
    let absent = manifest
        .iter()
        .flat_map(|manifest| manifest.absent.iter().map(|entry| trim(&entry.path)));
    for path in files.keys().map(String::as_str).chain(absent) {
        let Some((node, id)) = place(path) else { continue };
        // One look-up a file, and an allocation only for what is new.
        if !found.contains_key(node) {
            found.insert(node.to_owned(), BTreeSet::new());
        }
        if let (Some(ids), Some(id)) = (found.get_mut(node), id)
            && !ids.contains(id)
        {
            ids.insert(id.to_owned());
        }
    }
    let node = |(name, ids): (String, BTreeSet<String>)| (name.clone(), node(name, ids, files, absences, problems));
    found.into_iter().map(node).collect()
}

fn node(
    name: String,
    mut ids: BTreeSet<String>,
    files: &BTreeMap<String, File>,
    absences: &Absences<'_>,
    problems: &mut Vec<Problem>,
) -> NodeFacts {
    let path = format!("nodes/{name}/node.json");
    let info = match raw(files, absences, &path) {
        Ok(blob) => one(&path, (*blob).as_ref(), problems),
        Err(why) => absent(why),
    };
    let path = format!("nodes/{name}/netns.json");
    let netns_info = match raw(files, absences, &path) {
        Ok(blob) => list::<NetnsInfo>(&path, (*blob).as_ref(), problems),
        Err(why) => {
            if !ids.is_empty() {
                let what = "not there: nothing says which namespace belongs to which pod".to_owned();
                problems.push(Problem {
                    artifact: path,
                    offset: None,
                    what,
                });
            }
            absent(why)
        }
    };
    let safe = |id: &&String| !id.is_empty() && !id.contains('/');
    ids.extend(
        netns_info
            .get()
            .into_iter()
            .flatten()
            .map(|entry| &entry.id)
            .filter(safe)
            .cloned(),
    );
    let facts = |id: Option<String>| namespace(NetnsId { node: name.clone(), id }, files, absences);
    let host = facts(None);
    let netns = ids.into_iter().map(|id| (id.clone(), facts(Some(id)))).collect();
    NodeFacts {
        host,
        netns,
        info,
        netns_info,
        name,
    }
}

fn namespace(id: NetnsId, files: &BTreeMap<String, File>, absences: &Absences<'_>) -> NetnsFacts {
    let mut path = id.folder();
    let folder = path.len();
    let registered = |name: &str| name::ALL.iter().find(|known| **known == name).copied();
    let mut known = Vec::new();
    // The files of a folder stand one after the other.
    for (there, file) in files.range::<str, _>((Bound::Included(path.as_str()), Bound::Unbounded)) {
        let Some(name) = there.strip_prefix(path.as_str()) else {
            break;
        };
        known.extend(registered(name).map(|name| (name, Ok(file.blob.clone()))));
    }
    if !absences.0.is_empty() {
        for name in name::ALL {
            path.truncate(folder);
            path.push_str(name);
            // An absence of what is there was refused before.
            known.extend(absences.exact(&path).map(|why| (*name, Err(why))));
        }
    }
    path.truncate(folder);
    NetnsFacts::new(id, known, absences.of(&path))
}

/// An absent file that has no empty form to stand for it.
fn absent<T: Default>(why: AbsentReason) -> Fact<T> {
    if why.means_empty() {
        Fact::Empty(T::default(), why)
    } else {
        Fact::Unknown(why)
    }
}

fn one<T: DeserializeOwned>(path: &str, bytes: &[u8], problems: &mut Vec<Problem>) -> Fact<T> {
    match serde_json::from_slice(bytes) {
        Ok(value) => Fact::Known(value),
        Err(e) => {
            problems.push(Problem {
                artifact: path.to_owned(),
                offset: None,
                what: e.to_string(),
            });
            Fact::Unknown(AbsentReason::Error)
        }
    }
}

/// A list of which one bad entry does not cost the others.
fn list<T: DeserializeOwned>(path: &str, bytes: &[u8], problems: &mut Vec<Problem>) -> Fact<Vec<T>> {
    let rows: Vec<&RawValue> = match serde_json::from_slice(bytes) {
        Ok(rows) => rows,
        Err(e) => {
            problems.push(Problem {
                artifact: path.to_owned(),
                offset: None,
                what: e.to_string(),
            });
            return Fact::Unknown(AbsentReason::Error);
        }
    };
    let mut entries = Vec::new();
    for row in rows {
        match serde_json::from_str(row.get()) {
            Ok(entry) => entries.push(entry),
            Err(e) => {
                let offset = (row.get().as_ptr() as usize).saturating_sub(bytes.as_ptr() as usize) as u64;
                problems.push(Problem {
                    artifact: path.to_owned(),
                    offset: Some(offset),
                    what: e.to_string(),
                });
            }
        }
    }
    Fact::Known(entries)
}
