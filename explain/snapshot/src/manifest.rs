//! `manifest.json`: where each artifact came from, and what is absent and why.

use serde::{Deserialize, Serialize};

use crate::json::null_is_default;

/// Why an artifact is not there. Only the first two mean that the table is *empty*.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AbsentReason {
    /// The kernel cannot have it: equals empty.
    NotSupported,
    /// The module that would hold it is not loaded: equals empty.
    ModuleNotLoaded,
    /// The program that would have it does not run: equals empty.
    NotRunning,
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
    /// Nobody can hold such state, so the table is empty rather than unknown.
    #[must_use]
    pub const fn means_empty(self) -> bool {
        matches!(self, Self::NotSupported | Self::ModuleNotLoaded | Self::NotRunning)
    }
}

/// `manifest.json`, schema `knet.snapshot/v1`. Unknown keys are ignored.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Manifest {
    /// `knet.snapshot/v1`
    #[serde(deserialize_with = "null_is_default")]
    pub schema: String,
    /// What made the snapshot.
    #[serde(deserialize_with = "null_is_default")]
    pub tool: Tool,
    /// `native`, or the name of the foreign bundle's format.
    #[serde(deserialize_with = "null_is_default")]
    pub origin: String,
    /// Capture window, RFC 3339.
    #[serde(deserialize_with = "null_is_default")]
    pub window: Window,
    /// `none`, `secrets` or `share`.
    #[serde(deserialize_with = "null_is_default")]
    pub redaction: String,
    /// The nodes.
    #[serde(deserialize_with = "null_is_default")]
    pub nodes: Vec<NodeEntry>,
    /// The artifacts that are there.
    #[serde(deserialize_with = "null_is_default")]
    pub artifacts: Vec<ArtifactEntry>,
    /// The artifacts that are not, and why.
    #[serde(deserialize_with = "null_is_default")]
    pub absent: Vec<AbsentEntry>,
}

/// Program name and version.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Tool {
    /// Name.
    #[serde(deserialize_with = "null_is_default")]
    pub name: String,
    /// Version.
    #[serde(deserialize_with = "null_is_default")]
    pub version: String,
}

/// Start and end of the capture.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Window {
    /// RFC 3339.
    #[serde(deserialize_with = "null_is_default")]
    pub start: String,
    /// RFC 3339.
    #[serde(deserialize_with = "null_is_default")]
    pub end: String,
}

/// One node.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeEntry {
    /// Name.
    #[serde(deserialize_with = "null_is_default")]
    pub name: String,
    /// `complete`, `partial`, `failed`.
    #[serde(deserialize_with = "null_is_default")]
    pub status: String,
}

/// Where one artifact came from.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ArtifactEntry {
    /// Path inside the snapshot.
    #[serde(deserialize_with = "null_is_default")]
    pub path: String,
    /// `exec`, `netlink`, `proc`, `api`, ...
    #[serde(deserialize_with = "null_is_default")]
    pub via: String,
    /// Command, when a command printed it.
    #[serde(deserialize_with = "null_is_default")]
    pub argv: Vec<String>,
    /// Tool version.
    #[serde(deserialize_with = "null_is_default")]
    pub tool: String,
    /// Exit code.
    pub exit: Option<i32>,
    /// When, RFC 3339.
    #[serde(deserialize_with = "null_is_default")]
    pub at: String,
    /// Size.
    pub bytes: Option<u64>,
    /// Hash of the bytes at capture.
    #[serde(deserialize_with = "null_is_default")]
    pub sha256: String,
    /// Read twice and unchanged, or a dump the kernel did not interrupt.
    pub consistent: Option<bool>,
    /// Remarks of the collector.
    #[serde(deserialize_with = "null_is_default")]
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
    #[serde(default, deserialize_with = "null_is_default")]
    pub detail: String,
}
