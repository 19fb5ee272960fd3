//! `kubectl knet trace`

use clap::{Args, ValueEnum};

use super::{FactsArgs, FlowArgs, Output};

const EXAMPLES: &str = "\
Senders (SRC):
  NAME, NS/NAME, pod/NS/NAME   a pod (NAME: in the namespace of -n)
  node/NAME                    a program on a node, in the node's own network namespace
  ip/ADDR                      somebody outside the cluster; --via says where the packet enters
Receivers (DST):
  NAME[:PORT]                  a service, else a pod, in the namespace of -n
  svc/NS/NAME[:PORT]           a service; the port by number or name
  pod/NS/NAME[:PORT]           a pod
  node/NAME:PORT               a node's address
  ADDR:PORT, [ADDR6]:PORT, localhost:PORT
  http(s)://HOST[:PORT]/PATH   a request: to what answers at HOST, and from there to the backend
                               that Ingress and HTTPRoute objects intend (two traces)

Examples:
  kubectl knet trace toolbox-1 shop/web --snapshot cluster.tar.zst
  kubectl knet trace node/node-1 10.96.0.10:53 -p udp --snapshot ./snapshot
  kubectl knet trace ip/203.0.113.7 node/node-1:30080 --via node/node-1/eth0 -o json
  kubectl knet trace ip/203.0.113.7 https://shop.example.com/cart
  kubectl knet trace ip/203.0.113.7 http://192.0.2.10/cart --host shop.example.com
  kubectl knet trace --flows flows.jsonl --brief -o json --snapshot cluster.tar.zst
  kubectl knet trace toolbox-1 shop/web --verify-commands
  kubectl knet trace toolbox-1 shop/web --against knet-trace-node-1-host.txt --against-node node-1

Exit codes: 0 delivered on every branch, 1 some branch is not, 2 usage or input error, 3 cannot tell.
With --flows the worst line decides: 2 before 1 before 3 before 0.
With --against: 0 kernel and walk agree (be it that the packet is lost), 1 they part, 2 usage or
input error (or no packet of this flow is in FILE), 3 the walk cannot tell where the kernel went on.
With --verify-commands: 0, or 2.";

/// Arguments of `trace`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct TraceArgs {
    /// Who sends
    #[arg(value_name = "SRC", required_unless_present = "flows", conflicts_with = "flows")]
    pub src: Option<String>,

    /// To whom
    #[arg(value_name = "DST", required_unless_present = "flows")]
    pub dst: Option<String>,

    /// From what
    #[command(flatten)]
    pub facts: FactsArgs,

    /// Namespace of names that have none [default: that of the kubeconfig's context, else `default`]
    #[arg(short, long, value_name = "NS")]
    pub namespace: Option<String>,

    /// The packet
    #[command(flatten)]
    pub flow: FlowArgs,

    /// The host a request names, when DST is a URL with an address
    #[arg(long, value_name = "HOST", conflicts_with_all = ["flows", "against", "verify_commands"])]
    pub host: Option<String>,

    /// IPv4 only
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    pub ipv4: bool,

    /// IPv6 only
    #[arg(short = '6', long)]
    pub ipv6: bool,

    /// Trace every line of a JSON Lines file (`-`: standard input) and answer with one JSON object per line.
    /// Without a snapshot the nodes of all ends are read once, before the first answer
    #[arg(
        long,
        value_name = "FILE",
        help_heading = "Many flows",
        conflicts_with_all = ["via", "sport", "tcp_flags", "icmp_type", "ttl", "tos", "mark", "uid", "source_ip"]
    )]
    pub flows: Option<std::path::PathBuf>,

    /// Leave the hops out of the answers
    #[arg(long, requires = "flows", help_heading = "Many flows")]
    pub brief: bool,

    /// Put a recording of the kernel's own trace beside the walk and tell where they part (`-`: standard
    /// input): the output of `nft monitor trace` or `xtables-monitor --trace`, or the kernel log of legacy
    /// iptables
    #[arg(
        long,
        value_name = "FILE",
        help_heading = "The kernel's own trace",
        conflicts_with = "flows"
    )]
    pub against: Option<std::path::PathBuf>,

    /// Where the recording was made: NODE, or NODE/NETNS [default: where it agrees furthest]
    #[arg(
        long,
        value_name = "NODE",
        help_heading = "The kernel's own trace",
        requires = "against"
    )]
    pub against_node: Option<String>,

    /// Print the commands that record the kernel's own trace of this flow at every place it passes, and their
    /// undo. knet runs none of them
    #[arg(long, help_heading = "The kernel's own trace", conflicts_with_all = ["flows", "against", "detail"])]
    pub verify_commands: bool,

    /// How much to tell
    #[arg(long, value_enum, default_value_t, value_name = "LEVEL", help_heading = "Output")]
    pub detail: DetailArg,

    /// How to say it [default: text, json with --flows]
    #[arg(short, long, value_enum, value_name = "FORMAT", help_heading = "Output")]
    pub output: Option<Output>,
}

/// How much to tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum DetailArg {
    /// The verdict and what decided
    Summary,
    /// Every hop with the rules and routes that decided
    #[default]
    Hops,
    /// Every rule that was looked at, with file and line
    Full,
}
