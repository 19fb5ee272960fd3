//! Captures of one node as a snapshot: files by path, and the manifest that says where each came from.

use std::fs;
use std::io;
use std::path::Path;

use knet_snapshot::manifest::{AbsentEntry, Manifest, NodeEntry, Tool, Window};
use knet_snapshot::store::NetnsId;
use serde_json::{Value, json};

use crate::clock;
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
}

impl Bundle {
    /// An empty bundle whose window begins now.
    #[must_use]
    pub fn begin(node: &str) -> Self {
        Self {
            node: node.to_owned(),
            start: clock::now(),
            spaces: Vec::new(),
        }
    }

    /// Adds a namespace.
    #[must_use]
    pub fn with(mut self, space: Space) -> Self {
        self.spaces.push(space);
        self
    }

    /// The files of the snapshot by path, `manifest.json` first.
    #[must_use]
    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
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
                status: "complete".to_owned(),
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
                let path = format!("{folder}{}", captured.entry.path);
                match &captured.content {
                    Ok(bytes) => {
                        let mut entry = captured.entry.clone();
                        entry.path.clone_from(&path);
                        manifest.artifacts.push(entry);
                        files.push((path, bytes.clone()));
                    }
                    Err((reason, detail)) => {
                        manifest.absent.push(AbsentEntry {
                            path,
                            reason: *reason,
                            detail: detail.clone(),
                        });
                    }
                }
            }
            if let Some(id) = &space.id {
                let mut entry = space.entry.clone().unwrap_or_else(|| json!({}));
                entry["id"] = json!(id);
                spaces.push(entry);
            }
        }
        files.push((format!("nodes/{}/netns.json", self.node), pretty(&Value::Array(spaces))));
        files.push((format!("nodes/{}/node.json", self.node), pretty(&node_json(&self.node))));
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
        for (path, bytes) in self.files() {
            let path = directory.join(path);
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::write(path, bytes)?;
        }
        Ok(())
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
    json!({"hostname": node, "kernel": read("/proc/sys/kernel/osrelease"), "os": os, "modules": modules})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Limits, Target, capture_netns};
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
            .files()
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
