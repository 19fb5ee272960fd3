//! Captures of one node as a snapshot: files by path, and the manifest that says where each came from.

use std::fs;
use std::io;
use std::path::Path;

use knet_snapshot::manifest::{AbsentEntry, Manifest, NodeEntry, Tool, Window};
use knet_snapshot::store::NetnsId;
use serde_json::{Value, json};

use crate::clock;
use crate::exec::Limits;
use crate::tools::Captured;

/// One captured namespace of the node.
#[derive(Debug)]
pub struct Space {
    /// Folder name under `netns/`; `None` is the node's own namespace.
    pub id: Option<String>,
    /// Its artifacts.
    pub captured: Vec<Captured>,
    /// Its entry in `netns.json` (pod, peers, nsid), when it is known.
    pub entry: Option<Value>,
}

/// Everything captured on one node.
#[derive(Debug)]
pub struct Bundle {
    /// Node name.
    pub node: String,
    /// When the capture began, RFC 3339.
    pub start: String,
    /// Its namespaces.
    pub spaces: Vec<Space>,
    /// What its routing daemons say; their paths begin at the node's folder.
    pub daemons: Vec<Captured>,
    /// Files of the node, by their path below its root.
    pub files: Vec<(String, Vec<u8>)>,
    /// Remarks of the collector about the node as a whole.
    pub notes: Vec<String>,
}

impl Bundle {
    /// An empty bundle whose window begins now.
    #[must_use]
    pub fn begin(node: &str) -> Self {
        Self {
            node: node.to_owned(),
            start: clock::now(),
            spaces: Vec::new(),
            daemons: Vec::new(),
            files: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Whether everything could be looked at: `complete`, or `partial`.
    #[must_use]
    pub fn status(&self) -> &'static str {
        let looked = |c: &Captured| c.content.as_ref().err().is_none_or(|(reason, _)| reason.means_empty());
        if self.captured().all(looked) {
            "complete"
        } else {
            "partial"
        }
    }

    /// Everything that was captured, or could not be.
    pub fn captured(&self) -> impl Iterator<Item = &Captured> {
        self.spaces
            .iter()
            .flat_map(|space| &space.captured)
            .chain(&self.daemons)
    }

    /// Adds a namespace.
    #[must_use]
    pub fn with(mut self, space: Space) -> Self {
        self.spaces.push(space);
        self
    }

    /// The files of the snapshot by path, `manifest.json` first.
    #[must_use]
    pub fn to_files(&self) -> Vec<(String, Vec<u8>)> {
        let mut manifest = Manifest {
            schema: "knet.snapshot/v1".to_owned(),
            tool: Tool {
                name: "kubectl-knet".to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
            },
            origin: "native".to_owned(),
            window: Window {
                start: self.start.clone(),
                end: clock::now(),
            },
            redaction: "secrets".to_owned(),
            nodes: vec![NodeEntry {
                name: self.node.clone(),
                status: self.status().to_owned(),
            }],
            ..Manifest::default()
        };
        let mut files = Vec::new();
        let mut spaces = Vec::new();
        for space in &self.spaces {
            let folder = NetnsId {
                node: self.node.clone(),
                id: space.id.clone(),
            }
            .folder();
            for captured in &space.captured {
                file(&folder, captured, &mut manifest, &mut files);
            }
            if let Some(id) = &space.id {
                let mut entry = space.entry.clone().unwrap_or_else(|| json!({}));
                entry["id"] = json!(id);
                spaces.push(entry);
            }
        }
        for captured in &self.daemons {
            file(&format!("nodes/{}/", self.node), captured, &mut manifest, &mut files);
        }
        files.push((format!("nodes/{}/netns.json", self.node), pretty(&Value::Array(spaces))));
        let mut node = node_json(&self.node);
        node["cni_files"] = self.files.iter().map(|(path, _)| path.as_str()).collect();
        if !self.notes.is_empty() {
            node["notes"] = json!(self.notes);
        }
        files.push((format!("nodes/{}/node.json", self.node), pretty(&node)));
        for (path, bytes) in &self.files {
            files.push((format!("nodes/{}/files/{path}", self.node), bytes.clone()));
        }
        // Kubernetes objects are not on the node.
        manifest.absent.extend(
            ["nodes", "pods", "services", "endpointslices"].map(|resource| AbsentEntry {
                path: format!("cluster/{resource}.json"),
                reason: knet_snapshot::manifest::AbsentReason::UnknownToSource,
                detail: "captured on a node, without the API server".to_owned(),
            }),
        );
        // A manifest holds strings, numbers and lists only: it always has a JSON form.
        let manifest = serde_json::to_value(&manifest).unwrap_or_default();
        files.insert(0, ("manifest.json".to_owned(), pretty(&manifest)));
        files
    }

    /// Writes the snapshot as a directory.
    ///
    /// # Errors
    /// When a file cannot be written; what was written before stays.
    pub fn write(&self, directory: &Path) -> io::Result<()> {
        for (path, bytes) in self.to_files() {
            let path = directory.join(path);
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::write(path, bytes)?;
        }
        Ok(())
    }
}

/// One artifact below a folder, in the files and the manifest, or only there.
fn file(folder: &str, captured: &Captured, manifest: &mut Manifest, files: &mut Vec<(String, Vec<u8>)>) {
    let path = format!("{folder}{}", captured.entry.path);
    match &captured.content {
        Ok(bytes) => {
            let mut entry = captured.entry.clone();
            entry.path.clone_from(&path);
            manifest.artifacts.push(entry);
            files.push((path, bytes.clone()));
        }
        Err((reason, detail)) => manifest.absent.push(AbsentEntry {
            path,
            reason: *reason,
            detail: detail.clone(),
        }),
    }
}

fn pretty(value: &Value) -> Vec<u8> {
    let mut text = format!("{value:#}");
    text.push('\n');
    text.into_bytes()
}

fn node_json(node: &str) -> Value {
    let read = |path: &str| {
        fs::read_to_string(path)
            .map(|text| text.trim().to_owned())
            .unwrap_or_default()
    };
    let os = read("/etc/os-release");
    let os = os
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))
        .unwrap_or_default()
        .trim_matches('"');
    let modules = fs::read_to_string("/proc/modules").ok().map(|text| {
        text.lines()
            .filter_map(|line| line.split(' ').next())
            .map(str::to_owned)
            .collect::<Vec<_>>()
    });
    let tools: serde_json::Map<String, Value> = VERSIONS
        .iter()
        .filter_map(|argv| Some((argv[0].to_owned(), Value::from(version(argv)?))))
        .collect();
    json!({
        "hostname": node,
        "kernel": read("/proc/sys/kernel/osrelease"),
        "os": os,
        "modules": modules,
        "tools": tools,
    })
}

/// What says the version of each tool.
const VERSIONS: &[&[&str]] = &[
    &["nft", "--version"],
    &["iptables-nft-save", "--version"],
    &["iptables-legacy-save", "--version"],
    &["ipset", "--version"],
    &["conntrack", "--version"],
    &["ss", "-V"],
];

fn version(argv: &[&str]) -> Option<String> {
    let limits = Limits {
        time: std::time::Duration::from_secs(2),
        bytes: 4096,
    };
    let ran = crate::exec::run(argv, limits).ok().filter(|ran| ran.code == Some(0))?;
    let text = String::from_utf8_lossy(&ran.stdout).into_owned();
    text.lines().next().map(|line| line.trim().to_owned())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::{Target, capture_netns};
    use knet_snapshot::Snapshot;
    use knet_snapshot::store::Blob;
    use std::sync::Arc;

    #[test]
    fn what_is_captured_is_read_back() {
        let captured = capture_netns(&Target::Current, Limits::default());
        let there = captured.iter().filter(|c| c.content.is_ok()).count();
        let bundle = Bundle::begin("here").with(Space {
            id: None,
            captured,
            entry: None,
        });
        let files: Vec<(String, Blob)> = bundle
            .to_files()
            .into_iter()
            .map(|(path, bytes)| (path, Arc::new(bytes) as Blob))
            .collect();
        let snapshot = Snapshot::from_files(files).expect("it is a snapshot");
        let node = snapshot.node("here").expect("the node is there");
        assert_eq!(snapshot.problems, []);
        assert_eq!(snapshot.paths().count(), there + 3);
        assert!(node.info.get().is_some_and(|info| !info.kernel.is_empty()));

        let dir = tempfile::tempdir().expect("a directory");
        bundle.write(dir.path()).expect("it can be written");
        assert!(dir.path().join("manifest.json").is_file());
    }
}
