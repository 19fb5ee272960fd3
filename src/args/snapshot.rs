//! `kubectl knet snapshot`

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Output;

/// Arguments of `snapshot`.
#[derive(Debug, Args)]
pub struct SnapshotArgs {
    /// What to do
    #[command(subcommand)]
    pub action: SnapshotAction,
}

/// What can be done with a snapshot.
#[derive(Debug, Subcommand)]
pub enum SnapshotAction {
    /// What is in it: nodes, namespaces, artifacts, what is absent and why, what cannot be read
    Show {
        /// A directory, a .tar, .tar.gz or .tar.zst, or `-` for an archive on standard input
        #[arg(value_name = "PATH", env = "KNET_SNAPSHOT", hide_env_values = true)]
        path: PathBuf,

        /// How to say it
        #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
        output: Output,
    },
    /// Write a copy that can be shared: names and addresses replaced, every verdict as before
    ///
    /// Addresses keep their prefixes in common and names stay the same throughout the copy, so that it can be traced
    /// like the original. Flows are traced in both; a copy that answers another way is not written. What stays:
    /// interface names, ports, and the names of an administrator's own chains and comments. Keys and environment values are in no snapshot to begin with.
    Redact {
        /// A directory, a .tar, .tar.gz or .tar.zst, or `-` for an archive on standard input
        #[arg(value_name = "FROM")]
        from: PathBuf,

        /// Snapshot to write, as for `node-collect --file`
        #[arg(value_name = "TO")]
        to: PathBuf,
    },
}
