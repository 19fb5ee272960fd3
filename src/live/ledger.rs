//! The manifest of a capture while it grows: a line for each table of 100,000 namespaces is too much to hold.

use std::fs::File;
use std::io::{self, BufWriter, Read as _, Seek as _, Write as _};

use knet_collectors::spool;
use knet_snapshot::manifest::{AbsentEntry, AbsentReason, ArtifactEntry, Manifest, NodeEntry, Tool, Window};
use serde::Serialize;

use super::merge::Sink;

/// What is known so far: the head in memory, the long lists on disk.
pub(super) struct Ledger {
    head: Manifest,
    artifacts: Rows,
    absent: Rows,
}

impl Ledger {
    /// Of a capture that begins now.
    pub(super) fn begin() -> io::Result<Self> {
        Ok(Self {
            head: Manifest {
                schema: "knet.snapshot/v1".to_owned(),
                tool: Tool {
                    name: "kubectl-knet".to_owned(),
                    version: env!("CARGO_PKG_VERSION").to_owned(),
                },
                origin: "native".to_owned(),
                window: Window {
                    start: knet_collectors::now(),
                    end: String::new(),
                },
                redaction: "secrets".to_owned(),
                ..Manifest::default()
            },
            artifacts: Rows::new()?,
            absent: Rows::new()?,
        })
    }

    pub(super) fn artifact(&mut self, entry: &ArtifactEntry) -> io::Result<()> {
        self.artifacts.add(entry)
    }

    pub(super) fn absent(&mut self, entry: &AbsentEntry) -> io::Result<()> {
        self.absent.add(entry)
    }

    pub(super) fn node(&mut self, name: &str, status: &str) {
        self.head.nodes.push(NodeEntry {
            name: name.to_owned(),
            status: status.to_owned(),
        });
    }

    /// A node nobody could read, or was to.
    pub(super) fn failed(&mut self, name: &str, reason: AbsentReason, detail: String) -> io::Result<()> {
        self.node(name, "failed");
        self.absent(&AbsentEntry {
            path: format!("nodes/{name}/host"),
            reason,
            detail,
        })
    }

    /// How many tables are there.
    pub(super) const fn artifacts(&self) -> u64 {
        self.artifacts.count
    }

    /// Writes `manifest.json`. The capture ends now.
    pub(super) fn finish(mut self, sink: &mut dyn Sink) -> io::Result<()> {
        self.head.window.end = knet_collectors::now();
        let mut whole = spool()?;
        let mut out = BufWriter::new(&mut whole);
        // The head is an object whose two long lists are empty: everything but those, and then their rows.
        let mut head = serde_json::to_value(&self.head).map_err(io::Error::from)?;
        if let Some(head) = head.as_object_mut() {
            head.remove("artifacts");
            head.remove("absent");
        }
        let head = head.to_string();
        let head = head.strip_suffix('}').unwrap_or(&head);
        write!(out, "{head},\n\"artifacts\":[")?;
        self.artifacts.copy(&mut out)?;
        write!(out, "],\n\"absent\":[")?;
        self.absent.copy(&mut out)?;
        writeln!(out, "]}}")?;
        out.flush()?;
        drop(out);
        sink.add_file("manifest.json", &mut whole)
    }
}

/// Rows of one list, on disk.
struct Rows {
    file: BufWriter<File>,
    count: u64,
}

impl Rows {
    fn new() -> io::Result<Self> {
        Ok(Self {
            file: BufWriter::new(spool()?),
            count: 0,
        })
    }

    fn add(&mut self, row: &impl Serialize) -> io::Result<()> {
        self.file.write_all(if self.count > 0 { b",\n" } else { b"\n" })?;
        self.count += 1;
        serde_json::to_writer(&mut self.file, row).map_err(io::Error::from)
    }

    fn copy(&mut self, out: &mut impl io::Write) -> io::Result<()> {
        self.file.flush()?;
        let file = self.file.get_mut();
        file.rewind()?;
        io::copy(&mut file.take(u64::MAX), out).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::Files;

    #[test]
    fn a_manifest_that_grew_on_disk_is_a_manifest() {
        let mut ledger = Ledger::begin().expect("a folder for temporary files");
        for path in ["a", "b"] {
            let entry = ArtifactEntry {
                path: path.to_owned(),
                ..ArtifactEntry::default()
            };
            ledger.artifact(&entry).expect("it is written");
        }
        ledger.node("n1", "complete");
        ledger
            .failed("n2", AbsentReason::Timeout, "too \"slow\"".to_owned())
            .expect("it is written");
        assert_eq!(ledger.artifacts(), 2);
        let mut files = Files::default();
        ledger.finish(&mut files).expect("it is written");
        let read: Manifest = serde_json::from_slice(&files.0["manifest.json"]).expect("it is JSON");
        assert_eq!(
            read.artifacts.iter().map(|a| a.path.as_str()).collect::<Vec<_>>(),
            ["a", "b"]
        );
        assert_eq!((read.nodes.len(), read.absent[0].detail.as_str()), (2, "too \"slow\""));
        assert!(!read.window.end.is_empty() && read.schema == "knet.snapshot/v1");
        let mut files = Files::default();
        Ledger::begin()
            .and_then(|ledger| ledger.finish(&mut files))
            .expect("it is written");
        let empty: Manifest = serde_json::from_slice(&files.0["manifest.json"]).expect("it is JSON");
        assert!(empty.artifacts.is_empty() && empty.absent.is_empty());
    }
}
