//! Which network systems a node runs, by what they leave in the captured facts, and which of them take
//! packets away from the kernel's own tables.
//!
//! Names of devices, chains, tables, programs and files as the systems' sources write them. A sign tells that
//! a system is, or was, there; it decides nothing a walk does.

mod signs;

use std::collections::BTreeSet;

use knet_dataplane::trace::{Evidence, NsId};
use knet_dataplane::world::World;

pub use signs::Sign;

/// A network system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "each variant is the system it names")]
pub enum System {
    Calico,
    CalicoEbpf,
    Flannel,
    Cilium,
    KubeRouter,
    Weave,
    Antrea,
    AwsVpcCni,
    AwsNetworkPolicy,
    AzureCni,
    Gke,
    K3s,
    MicroK8s,
    OvnKubernetes,
    KubeOvn,
    OpenVswitch,
    KubeProxyIptables,
    KubeProxyIpvs,
    KubeProxyNftables,
    PureLb,
    ServiceLb,
    NodeLocalDns,
    Istio,
    Docker,
    Containerd,
    CriO,
}

/// How far the walk goes with a system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// What it programs is in the kernel's tables, and those are walked.
    Modelled,
    /// eBPF programs take the packets of a node: nothing that the kernel's tables say of them is certain.
    Programs,
    /// A switch of its own, below the kernel's tables: the walk ends at its devices.
    Switch,
}

impl System {
    /// How far the walk goes with it.
    #[must_use]
    pub const fn standing(self) -> Standing {
        match self {
            Self::CalicoEbpf | Self::Cilium => Standing::Programs,
            Self::Antrea | Self::OvnKubernetes | Self::KubeOvn | Self::OpenVswitch => Standing::Switch,
            _ => Standing::Modelled,
        }
    }
}

/// A system on a node, and what tells so.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// The node's own namespace.
    pub host: NsId,
    /// The node.
    pub node: String,
    /// Which.
    pub system: System,
    /// What tells: never empty.
    pub signs: Vec<(Sign, Option<Evidence>)>,
    /// It is at work: a device of it is up, or a program of it is attached.
    pub at_work: bool,
}

impl Seen {
    /// It decides what becomes of packets on its node, and is not run.
    #[must_use]
    pub fn takes_over(&self) -> bool {
        self.at_work && self.system.standing() == Standing::Programs
    }
}

/// What runs on some nodes, given by their own namespaces.
#[must_use]
pub fn seen(world: &World<'_>, hosts: &BTreeSet<NsId>) -> Vec<Seen> {
    hosts.iter().flat_map(|&host| signs::of_node(world, host)).collect()
}

/// What runs on every node.
#[must_use]
pub fn all(world: &World<'_>) -> Vec<Seen> {
    let hosts = world.spaces().iter().map(|s| world.host_of(s.id)).collect();
    seen(world, &hosts)
}
