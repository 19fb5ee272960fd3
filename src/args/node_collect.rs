//! `kubectl knet node-collect`

use std::path::PathBuf;

use clap::Args;

const ABOUT: &str = "\
Runs on a node as root, or in a privileged pod that sees the node's processes (hostPID): by hand on a machine
without Kubernetes too. It reads every network namespace it finds and changes nothing.";

/// Arguments of `node-collect`.
#[derive(Debug, Args)]
#[command(after_help = ABOUT)]
pub struct NodeCollectArgs {
    /// Snapshot to write: a directory, a .tar, .tar.gz or .tar.zst, or `-` for a .tar.gz on standard output
    #[arg(short = 'f', long = "file", value_name = "PATH", default_value = "-")]
    pub file: PathBuf,

    /// The node's name in Kubernetes [default: the host name]
    #[arg(long, value_name = "NAME", env = "NODE_NAME")]
    pub node: Option<String>,

    /// Seconds for all of it; what is not captured by then is noted as absent
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: u64,

    /// Seconds for one table
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    pub table_timeout: u64,

    /// Megabytes of one table
    #[arg(long, value_name = "MB", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..))]
    pub table_size: u64,

    /// Network namespaces read at once
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..))]
    pub parallel: u8,

    /// The host's root, where its own tools are [default: that of process 1, when it has another than this one]
    #[arg(long, value_name = "DIR")]
    pub host_root: Option<PathBuf>,

    /// The network namespace that is the node's own [default: that of process 1]
    #[arg(long, value_name = "FILE")]
    pub host_netns: Option<PathBuf>,

    /// Only this network namespace besides the node's own; may be repeated [default: every one there is]
    #[arg(long, value_name = "FILE")]
    pub netns: Vec<PathBuf>,

    /// No network namespace besides the node's own
    #[arg(long, conflicts_with = "netns")]
    pub host_only: bool,
}
