//! `kubectl knet explain`

use clap::{Args, Subcommand};

use super::{AnswerArgs, Protocol};

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// About what
    #[command(subcommand)]
    pub topic: Topic,
}

/// What can be explained.
#[derive(Debug, Subcommand)]
pub enum Topic {
    /// Why a NodePort is in no `netstat`, and which rule takes its packets instead
    Nodeport(Box<NodePortArgs>),
    /// How a ClusterIP's packets reach IPVS, or the rule that takes them
    Clusterip(Box<ClusterIpArgs>),
    /// What kube-ipvs0 is, why it is DOWN, and what it swallows
    #[command(name = "kube-ipvs0")]
    KubeIpvs0(Box<KubeIpvs0Args>),
}

/// Arguments of `explain clusterip`.
#[derive(Debug, Args)]
pub struct ClusterIpArgs {
    /// ADDR:PORT, or svc/[NS/]NAME[:PORT]
    #[arg(value_name = "ADDR|SVC")]
    pub target: String,

    /// Namespace of a bare service name [default: that of the kubeconfig's context, else `default`]
    #[arg(short, long, value_name = "NS")]
    pub namespace: Option<String>,

    /// On which node [default: the first by name]
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,

    /// Protocol: tcp, udp or sctp [default: what the service says]
    #[arg(short, long, value_name = "PROTO")]
    pub proto: Option<Protocol>,

    /// From what, and how to say it
    #[command(flatten)]
    pub answer: AnswerArgs,
}

/// Arguments of `explain kube-ipvs0`.
#[derive(Debug, Args)]
pub struct KubeIpvs0Args {
    /// On which node [default: the first by name]
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,

    /// From what, and how to say it
    #[command(flatten)]
    pub answer: AnswerArgs,
}

/// Arguments of `explain nodeport`.
#[derive(Debug, Args)]
pub struct NodePortArgs {
    /// The port
    pub port: u16,

    /// On which node [default: the first by name]
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,

    /// Protocol: tcp, udp or sctp [default: what the service says]
    #[arg(short, long, value_name = "PROTO")]
    pub proto: Option<Protocol>,

    /// From what, and how to say it
    #[command(flatten)]
    pub answer: AnswerArgs,
}
