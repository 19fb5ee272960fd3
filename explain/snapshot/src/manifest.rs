//! `manifest.json`: where each artifact came from, and what is absent and why.

use serde::{Deserialize, Serialize};

/// Why an artifact is not there. Only the first two mean that the table is *empty*.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AbsentReason {
    /// The kernel cannot have it: equals empty.
    NotSupported,
    /// The module that would hold it is not loaded: equals empty.
    ModuleNotLoaded,
    /// The tool that prints it is not installed.
    ToolMissing,
    /// Not allowed.
    Permission,
    /// Took too long.
    Timeout,
    /// Failed, or the file cannot be read.
    Error,
    /// Nobody asked for it.
    NotRequested,
    /// The source of this snapshot never has it.
    UnknownToSource,
    /// Changed while it was read.
    Inconsistent,
    /// A reason this version does not know; treated as "could not look".
    #[serde(other)]
    Other,
}

impl AbsentReason {
    /// The kernel cannot hold such state, so the table is empty rather than unknown.
    #[must_use]
    pub const fn means_empty(self) -> bool {
        matches!(self, Self::NotSupported | Self::ModuleNotLoaded)
    }
}

/// `manifest.json`, schema `knet.snapshot/v1`. Unknown keys are ignored.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Manifest {
    /// `knet.snapshot/v1`
    pub schema: String,
    /// What made the snapshot.
    pub tool: Tool,
    /// `native`, or the name of the foreign bundle's format.
    pub origin: String,
    /// Capture window, RFC 3339.
    pub window: Window,
    /// `none`, `secrets` or `share`.
    pub redaction: String,
    /// The nodes.
    pub nodes: Vec<NodeEntry>,
    /// The artifacts that are there.
    pub artifacts: Vec<ArtifactEntry>,
    /// The artifacts that are not, and why.
    pub absent: Vec<AbsentEntry>,
}

/// Program name and version.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Tool {
    /// Name.
    pub name: String,
    /// Version.
    pub version: String,
}

/// Start and end of the capture.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Window {
    /// RFC 3339.
    pub start: String,
    /// RFC 3339.
    pub end: String,
}

/// One node.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeEntry {
    /// Name.
    pub name: String,
    /// `complete`, `partial`, `failed`.
    pub status: String,
}

/// Where one artifact came from.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ArtifactEntry {
    /// Path inside the snapshot.
    pub path: String,
    /// `exec`, `netlink`, `proc`, `api`, ...
    pub via: String,
    /// Command, when a command printed it.
    pub argv: Vec<String>,
    /// Tool version.
    pub tool: String,
    /// Exit code.
    pub exit: Option<i32>,
    /// When, RFC 3339.
    pub at: String,
    /// Size.
    pub bytes: Option<u64>,
    /// Hash of the bytes at capture.
    pub sha256: String,
    /// Read twice and unchanged, or a dump the kernel did not interrupt.
    pub consistent: Option<bool>,
    /// Remarks of the collector.
    pub notes: Vec<String>,
}

/// One absent artifact.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AbsentEntry {
    /// Path inside the snapshot.
    pub path: String,
    /// Why.
    pub reason: AbsentReason,
    /// In words.
    #[serde(default)]
    pub detail: String,
}
