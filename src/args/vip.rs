//! `kubectl knet vip`

use std::net::IpAddr;

use clap::Args;

use super::AnswerArgs;

/// Arguments of `vip`.
#[derive(Debug, Args)]
pub struct VipArgs {
    /// An address, or svc/[NS/]NAME for its load balancer and external addresses
    #[arg(value_name = "ADDR|SVC")]
    pub target: String,

    /// Namespace of a bare service name [default: that of the kubeconfig's context, else `default`]
    #[arg(short, long, value_name = "NS")]
    pub namespace: Option<String>,

    /// Who asks on the segment [default: an address of it that nobody has]
    #[arg(long, value_name = "ADDR")]
    pub from: Option<IpAddr>,

    /// From what, and how to say it
    #[command(flatten)]
    pub answer: AnswerArgs,
}
