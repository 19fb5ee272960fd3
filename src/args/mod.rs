//! The command line: what can be asked. One file per command; nothing here does anything.

#[cfg(feature = "cluster")]
mod cluster;
mod explain;
mod flow;
mod node_collect;
mod snapshot;
mod trace;
mod vip;

use clap::{Parser, Subcommand, ValueEnum};

#[cfg(feature = "cluster")]
pub use cluster::{AgentArg, CleanupArgs, ClusterArgs, CollectArgs, LiveArgs};
pub use explain::{ClusterIpArgs, ExplainArgs, KubeIpvs0Args, NodePortArgs, Topic};
pub use flow::{FlowArgs, Mark, Protocol};
pub use node_collect::NodeCollectArgs;
pub use snapshot::{SnapshotAction, SnapshotArgs};
pub use trace::{DetailArg, TraceArgs};
pub use vip::VipArgs;

use crate::console::Color;

const EXIT_CODES: &str = "\
Exit codes:
  0  delivered and answered on every branch (or: the command did what it was asked)
  1  on some branch it is not
  2  usage or input error: the question or the snapshot is wrong
  3  cannot tell: the snapshot does not hold what decides, or the model does not know it
With --flows the worst of all lines decides: 2 before 1 before 3 before 0.
With trace --against the question is whether kernel and walk agree: 0 they do, 1 they part, 3 cannot tell.

Environment:
  KNET_SNAPSHOT   snapshot to use when --snapshot is not given
  NO_COLOR        no colour; CLICOLOR_FORCE=1: colour also in a pipe
  COLUMNS         width of the text when stdout is no terminal";

/// What Linux does with a packet in a Kubernetes cluster, hop by hop, from the nodes' own tables
#[derive(Debug, Parser)]
#[command(
    name = "kubectl-knet",
    bin_name = "kubectl knet",
    version,
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = EXIT_CODES,
    max_term_width = 100
)]
pub struct Args {
    /// When to colour the text
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "WHEN",
        help_heading = "Output"
    )]
    pub color: Color,

    /// Columns to lay the text out for [default: the terminal's, else 80]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(40..=1000), help_heading = "Output")]
    pub width: Option<u16>,

    /// No progress and no remarks on standard error, only warnings and errors
    #[arg(short, long, global = true, help_heading = "Output")]
    pub quiet: bool,

    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Walk a packet from its sender to the socket that answers, and the answer back
    Trace(Box<TraceArgs>),
    /// Answer a question about one thing of the cluster
    Explain(ExplainArgs),
    /// Who answers for a load balancer's address, and what each node does with a packet to it
    Vip(Box<VipArgs>),
    /// Look into a snapshot
    Snapshot(SnapshotArgs),
    /// Capture a running cluster
    #[cfg(feature = "cluster")]
    Collect(CollectArgs),
    /// Take away agents that an interrupted run left in the cluster
    #[cfg(feature = "cluster")]
    Cleanup(CleanupArgs),
    /// Print the roles that `collect` and a live `trace` need
    #[cfg(feature = "cluster")]
    Rbac {
        /// Only what `--agent none` needs
        #[arg(long)]
        read_only: bool,
    },
    /// Capture the node this runs on
    NodeCollect(Box<NodeCollectArgs>),
    /// Print the JSON Schema of an output
    Schema {
        /// Of which document
        #[arg(value_enum, default_value_t)]
        of: SchemaOf,
    },
    /// Print a completion script
    Completion {
        /// For which shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Wait to be asked, as the container of an agent
    #[command(hide = true)]
    AgentWait {
        /// And end after so many seconds
        seconds: u64,
    },
    /// Write the manual pages into a directory
    #[command(hide = true)]
    Man {
        /// Made when it is not there
        directory: std::path::PathBuf,
    },
    /// Print the version
    Version,
}

/// The published documents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum SchemaOf {
    /// `trace -o json` and every line of `trace --flows`
    #[default]
    Trace,
    /// `explain -o json`
    Explain,
    /// `vip -o json`
    Vip,
    /// `trace -o json` of a URL
    Http,
    /// One line of the input of `trace --flows`
    Flows,
}

/// How to say it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    #[default]
    Text,
    /// One JSON document
    Json,
    /// The same as YAML
    Yaml,
}

/// Without the client of the API server there is no running cluster to ask.
#[cfg(not(feature = "cluster"))]
#[derive(Clone, Debug, clap::Args)]
pub struct LiveArgs {}

/// What a question is answered from.
#[derive(Clone, Debug, clap::Args)]
pub struct FactsArgs {
    /// Where the snapshot is
    #[command(flatten)]
    pub snapshot: SnapshotOption,

    /// The cluster, without a snapshot
    #[command(flatten)]
    pub live: LiveArgs,
}

/// What a question is answered from, and how. `trace` says it in more ways.
#[derive(Clone, Debug, clap::Args)]
pub struct AnswerArgs {
    /// From what
    #[command(flatten)]
    pub facts: FactsArgs,

    /// How to say it
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Output,
}

/// `--snapshot`, shared by every command that reads one.
#[derive(Clone, Debug, clap::Args)]
pub struct SnapshotOption {
    /// Snapshot to read: a directory, a .tar, .tar.gz or .tar.zst, or `-` for an archive on standard input
    /// [default: the running cluster]
    #[arg(
        long = "snapshot",
        short = 's',
        value_name = "PATH",
        env = "KNET_SNAPSHOT",
        hide_env_values = true
    )]
    pub path: Option<std::path::PathBuf>,
}
