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
}
