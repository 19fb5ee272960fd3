//! The signs by which systems are known.

use std::collections::BTreeMap;

use knet_dataplane::trace::{Evidence, NsId};
use knet_dataplane::world::World;
use knet_snapshot::artifact::name;
use knet_snapshot::link::{Link, LinkKind};

use super::{Seen, System};

/// What tells that a system is there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sign {
    /// A device.
    Device(String),
    /// A BPF program at a device.
    Program {
        /// Name of the program.
        name: String,
        /// The device.
        dev: String,
    },
    /// A chain of iptables.
    Chain(String),
    /// A table of nftables, `family name`.
    Table(String),
    /// Virtual services of IPVS: how many.
    VirtualServices(usize),
    /// A file that sets a CNI plugin up.
    File(String),
    /// What the Node object says its runtime is.
    Runtime(String),
    /// A pod of it on the node.
    Pod(String),
    /// No rules of kube-proxy, in no mode, although everything that could hold them was captured.
    NoKubeProxy,
}

/// Devices, by the start of their name (`=`: the whole name).
const DEVICES: &[(&str, System)] = &[
    ("flannel.", System::Flannel),
    ("flannel-v6.", System::Flannel),
    ("flannel-wg", System::Flannel),
    ("=vxlan.calico", System::Calico),
    ("=vxlan-v6.calico", System::Calico),
    ("wireguard.cali", System::Calico),
    ("cali", System::Calico),
    ("=bpfin.cali", System::CalicoEbpf),
    ("=bpfout.cali", System::CalicoEbpf),
    ("=cilium_host", System::Cilium),
    ("=cilium_net", System::Cilium),
    ("=cilium_vxlan", System::Cilium),
    ("=cilium_geneve", System::Cilium),
    ("=kube-bridge", System::KubeRouter),
    ("=kube-dummy-if", System::KubeRouter),
    ("=weave", System::Weave),
    ("vethwe", System::Weave),
    ("antrea-gw", System::Antrea),
    ("antrea-tun", System::Antrea),
    ("=ovn-k8s-mp0", System::OvnKubernetes),
    ("=ovn0", System::KubeOvn),
    ("azv", System::AzureCni),
    ("=azure0", System::AzureCni),
    ("gke", System::Gke),
    ("=kube-ipvs0", System::KubeProxyIpvs),
    ("=kube-lb0", System::PureLb),
    ("=nodelocaldns", System::NodeLocalDns),
    ("=docker0", System::Docker),
];

/// Names of BPF programs, by their start.
const PROGRAMS: &[(&str, System)] = &[
    ("cali_tc", System::CalicoEbpf),
    ("calico_tc", System::CalicoEbpf),
    ("cali_xdp", System::CalicoEbpf),
    ("cil_", System::Cilium),
    ("bpf_lxc", System::Cilium),
    ("bpf_netdev", System::Cilium),
    ("bpf_host", System::Cilium),
    ("bpf_overlay", System::Cilium),
    ("handle_ingress", System::AwsNetworkPolicy),
    ("handle_egress", System::AwsNetworkPolicy),
];

/// Chains of iptables, by their whole name.
const CHAINS: &[(&str, System)] = &[
    ("AWS-SNAT-CHAIN-0", System::AwsVpcCni),
    ("AWS-CONNMARK-CHAIN-0", System::AwsVpcCni),
    ("FLANNEL-POSTRTG", System::Flannel),
    ("FLANNEL-FWD", System::Flannel),
    ("cali-FORWARD", System::Calico),
    ("CILIUM_FORWARD", System::Cilium),
    ("WEAVE", System::Weave),
    ("ANTREA-FORWARD", System::Antrea),
    ("KUBE-ROUTER-FORWARD", System::KubeRouter),
    ("KUBE-ROUTER-SERVICES", System::KubeRouter),
    ("DOCKER-USER", System::Docker),
    ("ISTIO_OUTPUT", System::Istio),
];

/// Tables of nftables, by `family name`.
const TABLES: &[(&str, System)] = &[
    ("ip kube-proxy", System::KubeProxyNftables),
    ("ip6 kube-proxy", System::KubeProxyNftables),
    ("ip flannel-ipv4", System::Flannel),
    ("ip6 flannel-ipv6", System::Flannel),
    ("ip calico", System::Calico),
    ("ip antrea", System::Antrea),
    ("ip docker-bridges", System::Docker),
    ("inet ovn-kubernetes", System::OvnKubernetes),
];

/// Words in the path of a file that sets a CNI plugin up.
const FILES: &[(&str, System)] = &[
    ("-flannel.conf", System::Flannel),
    ("-calico.conf", System::Calico),
    ("-cilium.conf", System::Cilium),
    ("-kuberouter.conf", System::KubeRouter),
    ("-weave.conf", System::Weave),
    ("-antrea.conf", System::Antrea),
    ("-aws.conf", System::AwsVpcCni),
    ("-azure.conf", System::AzureCni),
    ("-gke-ptp.conf", System::Gke),
    ("-ovn-kubernetes.conf", System::OvnKubernetes),
    ("-kube-ovn.conf", System::KubeOvn),
    ("var/lib/rancher/k3s/", System::K3s),
    ("var/snap/microk8s/", System::MicroK8s),
    ("-containerd-net.conf", System::Containerd),
    ("-crio-bridge.conf", System::CriO),
    ("-crio.conf", System::CriO),
];

type Signs = BTreeMap<System, (Vec<(Sign, Option<Evidence>)>, bool)>;

/// What runs on the node of a namespace.
pub(super) fn of_node(world: &World<'_>, host: NsId) -> Vec<Seen> {
    let mut signs = Signs::new();
    let mut add = |system: System, sign: Sign, evidence: Option<Evidence>, at_work: bool| {
        let (all, works) = signs.entry(system).or_default();
        *works |= at_work;
        // One of a kind is enough to be told; the rest only repeats it.
        if !all
            .iter()
            .any(|(s, _)| std::mem::discriminant(s) == std::mem::discriminant(&sign))
        {
            all.push((sign, evidence));
        }
    };
    devices(world, host, &mut add);
    programs(world, host, &mut add);
    rules(world, host, &mut add);
    objects(world, host, &mut add);
    let node = &world.space(host).name.node;
    let folder = format!("nodes/{node}/files/");
    for path in world.snapshot.paths() {
        let Some(file) = path.strip_prefix(&folder) else {
            continue;
        };
        for (_, system) in FILES.iter().filter(|(part, _)| file.contains(part)) {
            add(*system, Sign::File(path.to_owned()), None, false);
        }
    }
    // Who replaces kube-proxy is plain only where nothing of kube-proxy is left.
    if !signs.keys().any(|s| is_kube_proxy(*s)) && knows_rules(world, host) {
        for system in [System::Cilium, System::CalicoEbpf] {
            if let Some((all, _)) = signs.get_mut(&system) {
                all.push((Sign::NoKubeProxy, None));
            }
        }
    }
    // The name of a system's own switch says more than that of the switch.
    let switch = |s: &System| s.standing() == super::Standing::Switch && *s != System::OpenVswitch;
    if signs.keys().any(switch) {
        signs.remove(&System::OpenVswitch);
    }
    let seen = signs.into_iter().map(|(system, (signs, at_work))| Seen {
        host,
        node: node.clone(),
        system,
        signs,
        at_work,
    });
    seen.collect()
}

const fn is_kube_proxy(system: System) -> bool {
    matches!(
        system,
        System::KubeProxyIptables | System::KubeProxyIpvs | System::KubeProxyNftables
    )
}

type Add<'a> = &'a mut dyn FnMut(System, Sign, Option<Evidence>, bool);

fn devices(world: &World<'_>, host: NsId, add: Add<'_>) {
    let space = world.space(host);
    let evidence = |link: &Link| Evidence {
        artifact: space.facts.path(name::LINK),
        at: link.at,
        handle: None,
        text: format!("dev {}", link.name).into(),
    };
    for link in space.links().iter() {
        let named = DEVICES.iter().find(|(name, _)| match name.strip_prefix('=') {
            Some(whole) => link.name == whole,
            None => link.name.starts_with(name),
        });
        if let Some(&(_, system)) = named {
            add(
                system,
                Sign::Device(link.name.clone()),
                Some(evidence(link)),
                link.flags.up,
            );
        }
        if matches!(&link.kind, LinkKind::Other(kind) if kind == "openvswitch") {
            let sign = Sign::Device(link.name.clone());
            add(System::OpenVswitch, sign, Some(evidence(link)), true);
        }
    }
}

fn programs(world: &World<'_>, host: NsId, add: Add<'_>) {
    let facts = world.space(host).facts;
    for filter in facts.tc().get().map_or(&[][..], |t| &t.rows[..]) {
        let Some(program) = &filter.name else { continue };
        if let Some(&(_, system)) = PROGRAMS.iter().find(|(start, _)| program.starts_with(start)) {
            let sign = Sign::Program {
                name: program.clone(),
                dev: filter.dev.clone(),
            };
            let evidence = Evidence {
                artifact: facts.path(name::TC),
                at: filter.at,
                handle: None,
                text: format!("dev {} bpf {program}", filter.dev).into(),
            };
            add(system, sign, Some(evidence), true);
        }
    }
}

fn rules(world: &World<'_>, host: NsId, add: Add<'_>) {
    let space = world.space(host);
    for table in space.xt().tables() {
        for &(chain, system) in CHAINS {
            if table.find(chain).is_some() {
                add(system, Sign::Chain(chain.to_owned()), None, false);
            }
        }
        // Chains without a Service's own stay behind in every other mode.
        if table.find("KUBE-SERVICES").is_some() && table.find("KUBE-NODEPORTS").is_some() {
            add(
                System::KubeProxyIptables,
                Sign::Chain("KUBE-NODEPORTS".to_owned()),
                None,
                true,
            );
        }
    }
    for table in space.nft().tables() {
        if let Some(&(_, system)) = TABLES.iter().find(|(known, _)| *known == &*table.label) {
            add(system, Sign::Table(table.label.to_string()), None, true);
        }
    }
    let count = space.ipvs().service_count();
    if count > 0 {
        add(System::KubeProxyIpvs, Sign::VirtualServices(count), None, true);
    }
}

fn objects(world: &World<'_>, host: NsId, add: Add<'_>) {
    let node = world.space(host).name.node.as_str();
    let cluster = world.snapshot.cluster();
    for pod in cluster.pods().get().map_or(&[][..], |t| &t.rows) {
        if pod.node.as_deref() == Some(node) && pod.name.starts_with("svclb-") {
            add(
                System::ServiceLb,
                Sign::Pod(format!("{}/{}", pod.namespace, pod.name)),
                None,
                true,
            );
        }
    }
    let nodes = cluster.nodes().get().map_or(&[][..], |t| &t.rows[..]);
    let runtime = nodes.iter().find(|n| n.name == node).and_then(|n| n.runtime.as_deref());
    if let Some(runtime) = runtime {
        let system = match runtime.split("://").next() {
            Some("containerd") => System::Containerd,
            Some("cri-o") => System::CriO,
            Some("docker") => System::Docker,
            _ => return,
        };
        add(system, Sign::Runtime(runtime.to_owned()), None, true);
    }
}

/// Everything that could hold rules of kube-proxy was captured.
fn knows_rules(world: &World<'_>, host: NsId) -> bool {
    let space = world.space(host);
    space.xt().missing().is_empty() && space.nft().missing().is_none() && space.ipvs().is_empty()
}
