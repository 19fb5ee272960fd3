//! A snapshot: raw files, what is absent and why, and typed tables parsed on first use.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use hashbrown::HashMap;

use crate::cluster::Cluster;
use crate::fact::{Fact, Problem};
use crate::index::LineIndex;
use crate::manifest::{ArtifactEntry, Manifest};
use crate::node::{NetnsInfo, NodeInfo};
use crate::row::Row;
use crate::time;

pub use crate::namespace::NetnsFacts;

/// The bytes of one file. Whoever opened the snapshot decides what is behind it (a buffer, a mapping).
pub type Blob = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// A network namespace of a snapshot: a node's own, or another one on that node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetnsId {
    /// Node name.
    pub node: String,
    /// Folder name under `netns/`; `None` is the node's own namespace (`host/`).
    pub id: Option<String>,
}

impl NetnsId {
    /// Folder of the namespace inside the snapshot, with a trailing slash.
    #[must_use]
    pub fn folder(&self) -> String {
        match &self.id {
            None => format!("nodes/{}/host/", self.node),
            Some(id) => format!("nodes/{}/netns/{id}/", self.node),
        }
    }
}

impl fmt::Display for NetnsId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.id {
            None => f.write_str("host"),
            Some(id) => f.write_str(id),
        }
    }
}

/// What can be wrong with a snapshot as a whole. Trouble inside one artifact is a [`Problem`] instead.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// `manifest.json` says another major version.
    #[error("schema {0:?} is not knet.snapshot/v1: this version cannot read it")]
    Schema(String),
    /// `manifest.json` cannot be parsed.
    #[error("manifest.json: {0}")]
    Manifest(String),
    /// There is nothing of a snapshot in it.
    #[error("neither manifest.json nor nodes/ nor cluster/ is in it: not a snapshot")]
    NotASnapshot,
}

/// A whole snapshot.
pub struct Snapshot {
    /// `manifest.json`, when there is one.
    pub manifest: Option<Manifest>,
    /// Trouble found while opening: entries that could not be read, hashes that differ, missing `netns.json`.
    pub problems: Vec<Problem>,
    pub(crate) nodes: BTreeMap<String, NodeFacts>,
    pub(crate) files: BTreeMap<String, File>,
    pub(crate) cluster: Cluster,
    /// Position in the manifest's list by path; for look-ups only.
    pub(crate) entries: HashMap<String, usize>,
}

/// One node of a snapshot.
pub struct NodeFacts {
    /// Name (the folder under `nodes/`).
    pub name: String,
    /// `node.json`
    pub info: Fact<NodeInfo>,
    /// `netns.json`
    pub netns_info: Fact<Vec<NetnsInfo>>,
    /// The node's own namespace.
    pub host: NetnsFacts,
    /// The other namespaces, by folder name.
    pub netns: BTreeMap<String, NetnsFacts>,
}

/// A file and, once somebody asked for a line number, where its lines begin.
pub(crate) struct File {
    pub(crate) blob: Blob,
    pub(crate) lines: OnceLock<LineIndex>,
}

impl File {
    fn bytes(&self) -> &[u8] {
        (*self.blob).as_ref()
    }
}

impl Snapshot {
    /// The nodes, in name order.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeFacts> {
        self.nodes.values()
    }

    /// A node by name.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&NodeFacts> {
        self.nodes.get(name)
    }

    /// A network namespace.
    #[must_use]
    pub fn netns(&self, id: &NetnsId) -> Option<&NetnsFacts> {
        let node = self.node(&id.node)?;
        match &id.id {
            None => Some(&node.host),
            Some(id) => node.netns.get(id),
        }
    }

    /// Every network namespace: node by node, the node's own first.
    pub fn namespaces(&self) -> impl Iterator<Item = &NetnsFacts> {
        self.nodes().flat_map(NodeFacts::namespaces)
    }

    /// The Kubernetes objects.
    #[must_use]
    pub const fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Paths of the files that are there, in order.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// The bytes of a file, by its path inside the snapshot.
    #[must_use]
    pub fn bytes(&self, path: &str) -> Option<&[u8]> {
        self.files.get(path).map(File::bytes)
    }

    /// Number of the line a byte offset is in, from 1.
    #[must_use]
    pub fn line_of(&self, path: &str, offset: u64) -> Option<u64> {
        let file = self.files.get(path)?;
        file.lines
            .get_or_init(|| LineIndex::new(file.bytes()))
            .line_of(file.bytes(), offset)
    }

    /// The line a byte offset is in, as written. JSON may be one long line: see [`Self::row_text`].
    #[must_use]
    pub fn line_text(&self, path: &str, offset: u64) -> Option<Cow<'_, str>> {
        let bytes = self.bytes(path)?;
        let offset = usize::try_from(offset).ok().filter(|offset| *offset < bytes.len())?;
        let start = memchr::memrchr(b'\n', &bytes[..offset]).map_or(0, |end| end + 1);
        let end = memchr::memchr(b'\n', &bytes[offset..]).map_or(bytes.len(), |len| offset + len);
        Some(String::from_utf8_lossy(bytes[start..end].trim_ascii_end()))
    }

    /// A row as written.
    #[must_use]
    pub fn row_text(&self, path: &str, row: Row) -> Option<Cow<'_, str>> {
        let start = usize::try_from(row.start).ok()?;
        let bytes = self.bytes(path)?.get(start..start.checked_add(row.len as usize)?)?;
        Some(String::from_utf8_lossy(bytes))
    }

    /// What the manifest says about a file.
    #[must_use]
    pub fn artifact(&self, path: &str) -> Option<&ArtifactEntry> {
        self.manifest.as_ref()?.artifacts.get(*self.entries.get(path)?)
    }

    /// When a file was captured, RFC 3339.
    #[must_use]
    pub fn artifact_time(&self, path: &str) -> Option<&str> {
        self.artifact(path)
            .map(|entry| entry.at.as_str())
            .filter(|at| !at.is_empty())
    }

    /// The second since 1970 in which a file was captured, or by which the whole capture had ended.
    #[must_use]
    pub fn captured_at(&self, path: &str) -> Option<u64> {
        let end = || self.manifest.as_ref().and_then(|m| time::seconds(&m.window.end));
        self.artifact_time(path).and_then(time::seconds).or_else(end)
    }

    /// Compares every file with the hash in the manifest and records those that differ. Support tools redact in
    /// place, so this is a warning. The hash function (lower-case hex) is passed in: this crate has none.
    pub fn verify(&mut self, sha256: impl Fn(&[u8]) -> String) {
        let Some(manifest) = &self.manifest else { return };
        for entry in manifest.artifacts.iter().filter(|entry| !entry.sha256.is_empty()) {
            let Some(file) = self.files.get(&entry.path) else {
                continue;
            };
            if !sha256(file.bytes()).eq_ignore_ascii_case(&entry.sha256) {
                let what = "modified after capture: its hash is not the one in the manifest".to_owned();
                self.problems.push(Problem {
                    artifact: entry.path.clone(),
                    offset: None,
                    what,
                });
            }
        }
    }

    /// The problems of the snapshot and of every table parsed so far.
    #[must_use]
    pub fn all_problems(&self) -> Vec<Problem> {
        let mut all = self.problems.clone();
        for namespace in self.namespaces() {
            namespace.problems(&mut all);
        }
        self.cluster.problems(&mut all);
        all
    }
}

impl NodeFacts {
    /// The node's network namespaces, its own first.
    pub fn namespaces(&self) -> impl Iterator<Item = &NetnsFacts> {
        std::iter::once(&self.host).chain(self.netns.values())
    }

    /// What `netns.json` says about a namespace of this node.
    #[must_use]
    pub fn netns_entry(&self, id: &str) -> Option<&NetnsInfo> {
        self.netns_info.get()?.iter().find(|entry| entry.id == id)
    }

    /// The path of a file of this node's folder (`node.json`, `netns.json`, `files/...`).
    #[must_use]
    pub fn path(&self, file: &str) -> String {
        format!("nodes/{}/{file}", self.name)
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("nodes", &self.nodes.len())
            .field("files", &self.files.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for NodeFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeFacts")
            .field("name", &self.name)
            .field("netns", &self.netns.len())
            .finish_non_exhaustive()
    }
}
