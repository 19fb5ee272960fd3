//! Where the files of a live capture go, and how a node's own archive becomes part of the whole.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek};

use knet_snapshot::manifest::Manifest;
use serde_json::Value;

use super::Index;
use super::ledger::Ledger;
use crate::archive::{self, Limits, Writer};

/// Takes files as they come.
pub trait Sink {
    /// A file in memory.
    ///
    /// # Errors
    /// When it cannot be kept.
    fn add(&mut self, path: &str, bytes: Vec<u8>) -> io::Result<()>;
    /// A file on disk.
    ///
    /// # Errors
    /// When it cannot be read or kept.
    fn add_file(&mut self, path: &str, file: &mut File) -> io::Result<()>;
}

/// A snapshot in memory, for one trace.
#[derive(Default)]
pub struct Files(pub BTreeMap<String, Vec<u8>>);

impl Sink for Files {
    fn add(&mut self, path: &str, bytes: Vec<u8>) -> io::Result<()> {
        self.0.insert(path.to_owned(), bytes);
        Ok(())
    }

    fn add_file(&mut self, path: &str, file: &mut File) -> io::Result<()> {
        let mut bytes = Vec::new();
        file.rewind()?;
        file.read_to_end(&mut bytes)?;
        self.add(path, bytes)
    }
}

impl Sink for Writer {
    fn add(&mut self, path: &str, bytes: Vec<u8>) -> io::Result<()> {
        Self::add(self, path, &bytes)
    }

    fn add_file(&mut self, path: &str, file: &mut File) -> io::Result<()> {
        file.rewind()?;
        let length = file.metadata()?.len();
        Self::add_stream(self, path, length, file)
    }
}

/// Takes a node's archive apart. It comes from the node, so only what is the node's own is taken, and nothing in
/// it may be out of proportion.
///
/// # Errors
/// Why it is not taken, in words.
pub(super) fn node(
    name: &str,
    archive: &File,
    index: &Index,
    ledger: &mut Ledger,
    sink: &mut dyn Sink,
) -> Result<(), String> {
    let files = archive::read(archive, name, &Limits::default()).map_err(|e| e.to_string())?;
    let folder = format!("nodes/{name}/");
    let own: Manifest = files
        .files
        .get("manifest.json")
        .and_then(|bytes| serde_json::from_slice((**bytes).as_ref()).ok())
        .ok_or("it has no manifest")?;
    // All of it or nothing.
    let others = |path: &&String| *path != "manifest.json" && !path.starts_with(&folder);
    if let Some(path) = files.files.keys().find(others) {
        return Err(format!("it holds {path}, which is not the node's own"));
    }
    for (path, bytes) in files.files.iter().filter(|(path, _)| *path != "manifest.json") {
        let mut bytes = (**bytes).as_ref().to_vec();
        if path.strip_prefix(&folder) == Some("netns.json") {
            bytes = named(&bytes, index).unwrap_or(bytes);
        }
        sink.add(path, bytes).map_err(|e| e.to_string())?;
    }
    let ours = |path: &str| path.starts_with(&folder);
    let mut note = || {
        for entry in own.artifacts.iter().filter(|entry| ours(&entry.path)) {
            ledger.artifact(entry)?;
        }
        for entry in own.absent.iter().filter(|entry| ours(&entry.path)) {
            ledger.absent(entry)?;
        }
        Ok::<(), io::Error>(())
    };
    note().map_err(|e| e.to_string())?;
    let status = own.nodes.iter().find(|node| node.name == name);
    ledger.node(name, status.map_or("partial", |node| node.status.as_str()));
    Ok(())
}

/// The node knew some pods by their UID only.
fn named(bytes: &[u8], index: &Index) -> Option<Vec<u8>> {
    let mut list: Value = serde_json::from_slice(bytes).ok()?;
    for entry in list.as_array_mut()? {
        let pod = &mut entry["pod"];
        let known = pod["uid"].as_str().and_then(|uid| index.uids.get(uid));
        if let Some((namespace, name)) = known {
            pod["namespace"] = Value::from(namespace.as_str());
            pod["name"] = Value::from(name.as_str());
        } else if pod["name"] == "" {
            *pod = Value::Null;
        }
    }
    Some(format!("{list:#}\n").into_bytes())
}
