//! Options of everything that asks a running cluster.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

/// The API server, as kubectl has these, and how nodes are read.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Cluster")]
pub struct ClusterArgs {
    /// Kubeconfig file [default: KUBECONFIG, then ~/.kube/config]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,

    /// User to impersonate
    #[arg(long = "as", value_name = "USER")]
    pub impersonate: Option<String>,

    /// Group to impersonate; may be repeated
    #[arg(long = "as-group", value_name = "GROUP")]
    pub groups: Vec<String>,

    /// How long to wait for one answer of the API server, e.g. 10s, 2m; 0 is for ever
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = parse_time)]
    pub request_timeout: Duration,

    /// How nodes are read
    #[arg(long, value_enum, default_value_t, value_name = "HOW")]
    pub agent: AgentArg,

    /// Make no pod, and read the nodes from inside pods that are there: short for `--agent exec`
    #[arg(long, conflicts_with = "agent")]
    pub agentless: bool,

    /// Image of the agent: with `stream` any that has sh and cat, with `image` one that holds this program
    #[arg(
        long,
        value_name = "IMAGE",
        env = "KNET_AGENT_IMAGE",
        default_value = "docker.io/library/busybox:stable"
    )]
    pub image: String,

    /// Namespace of the agents
    #[arg(long, value_name = "NS", default_value = "kube-system")]
    pub agent_namespace: String,

    /// How long one node may take, e.g. 90s, 5m
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = parse_time)]
    pub agent_timeout: Duration,

    /// Program to send to the nodes: a static Linux build of this one [default: this one]
    #[arg(long, value_name = "FILE")]
    pub agent_binary: Option<PathBuf>,

    /// Ask for a privileged agent instead of named capabilities
    #[arg(long)]
    pub privileged: bool,

    /// Nodes read at once
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub parallel: u16,
}

impl ClusterArgs {
    /// How nodes are read.
    #[must_use]
    pub const fn how(&self) -> AgentArg {
        if self.agentless { AgentArg::Exec } else { self.agent }
    }
}

/// Without a snapshot: the running cluster, shared by every command that answers a question.
#[derive(Clone, Debug, Args)]
pub struct LiveArgs {
    /// Keep the snapshot that the answer about the running cluster was made from
    #[arg(long, value_name = "PATH", conflicts_with = "path", help_heading = "Cluster")]
    pub save: Option<PathBuf>,

    /// The cluster
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// How nodes are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum AgentArg {
    /// A short-lived pod on the node, into which this program is sent
    #[default]
    Stream,
    /// A short-lived pod of an image that holds this program
    Image,
    /// In a pod that is there already and shares the node's network (kube-proxy, the CNI's agent): no pod namespaces
    Exec,
    /// Not at all: objects of the API server only
    None,
}

/// `30s`, `2m`, `1h`, `1m30s`, or bare seconds.
fn parse_time(text: &str) -> Result<Duration, String> {
    let wrong = || "use 30s, 2m, 1h or a number of seconds".to_owned();
    let mut total = 0_u64;
    let mut number = String::new();
    for c in text.chars() {
        if c.is_ascii_digit() {
            number.push(c);
            continue;
        }
        let factor = match c {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            _ => return Err(wrong()),
        };
        let value: u64 = number.parse().map_err(|_| wrong())?;
        number.clear();
        total = value
            .checked_mul(factor)
            .and_then(|v| total.checked_add(v))
            .ok_or_else(wrong)?;
    }
    if !number.is_empty() {
        total = total
            .checked_add(number.parse().map_err(|_| wrong())?)
            .ok_or_else(wrong)?;
    } else if text.is_empty() {
        return Err(wrong());
    }
    Ok(Duration::from_secs(total))
}

/// Arguments of `collect`.
#[derive(Debug, Args)]
pub struct CollectArgs {
    /// Snapshot to write: a directory, a .tar, .tar.gz or .tar.zst, or `-` for a .tar.gz on standard output
    #[arg(
        short = 'f',
        long = "file",
        value_name = "PATH",
        default_value = "knet-snapshot.tar.gz"
    )]
    pub file: PathBuf,

    /// Only these nodes [default: all]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub nodes: Vec<String>,

    /// Only nodes with these labels: KEY=VALUE or KEY, joined by commas
    #[arg(short = 'l', long, value_name = "LABELS", value_delimiter = ',')]
    pub selector: Vec<String>,

    /// The cluster
    #[command(flatten)]
    pub cluster: Box<ClusterArgs>,
}

/// Arguments of `cleanup`.
#[derive(Debug, Args)]
pub struct CleanupArgs {
    /// Agents of everybody, also those that may be at work
    #[arg(long)]
    pub all: bool,

    /// Only say what is there
    #[arg(long)]
    pub dry_run: bool,

    /// The cluster
    #[command(flatten)]
    pub cluster: Box<ClusterArgs>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_kubectl() {
        for (text, seconds) in [
            ("0", 0),
            ("30", 30),
            ("30s", 30),
            ("2m", 120),
            ("1m30s", 90),
            ("1h", 3600),
        ] {
            assert_eq!(parse_time(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "x", "1d", "s", "-1s", "99999999999999999999h"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }
}
