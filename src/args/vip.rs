//! `kubectl knet vip`

use std::net::IpAddr;

use clap::Args;

use super::{Output, SnapshotOption};

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

    /// Where the snapshot is
    #[command(flatten)]
    pub snapshot: SnapshotOption,

    /// The cluster, without a snapshot
    #[command(flatten)]
    pub live: super::LiveArgs,

    /// How to say it
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Output,
}
