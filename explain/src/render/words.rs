//! The stable word for each value of a closed enum, the same in text and JSON.

use std::net::IpAddr;

use knet_dataplane::trace::IpvsBy;
use knet_snapshot::ipvs::Forward;
use knet_snapshot::manifest::AbsentReason;
use knet_snapshot::neigh::NudState;
use knet_snapshot::route::RouteKind;
use knet_snapshot::routing_daemon::Daemon;

use crate::explanation::{
    Answer, ClientSees, CtEvent, L4, Outcome, Packet, Port, Ratio, Reason, Reject, Source, Stage, Target, Unknown,
};
use crate::owner::{Owner, RouteOwner};

/// How a packet ends.
#[must_use]
pub const fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Delivered => "delivered",
        Outcome::Rejected => "rejected",
        Outcome::Dropped => "dropped",
        Outcome::NoRoute => "no-route",
        Outcome::Blackholed => "blackholed",
        Outcome::NeighbourFailed => "neighbour-failed",
        Outcome::NoListener => "no-listener",
        Outcome::Loop => "loop",
        Outcome::LeavesCluster => "leaves-cluster",
        Outcome::Unknown => "unknown",
    }
}

/// What the client sees.
#[must_use]
pub const fn sees(sees: ClientSees) -> &'static str {
    match sees {
        ClientSees::Reply => "reply",
        ClientSees::Timeout => "timeout",
        ClientSees::Refused => "refused",
        ClientSees::Unreachable => "unreachable",
        ClientSees::Prohibited => "prohibited",
        ClientSees::Invalid => "invalid",
        ClientSees::Permission => "permission",
        ClientSees::Unknown => "unknown",
    }
}

/// Why a packet ended.
#[must_use]
pub const fn reason(reason: Reason) -> &'static str {
    match reason {
        Reason::Rule => "rule",
        Reason::Policy => "policy",
        Reason::RejectRule => "reject-rule",
        Reason::NoRoute => "no-route",
        Reason::UnreachableRoute => "unreachable-route",
        Reason::ProhibitRoute => "prohibit-route",
        Reason::BlackholeRoute => "blackhole-route",
        Reason::RpFilter => "rp-filter",
        Reason::Martian => "martian",
        Reason::ForwardingOff => "forwarding-off",
        Reason::TtlExpired => "ttl-expired",
        Reason::HopLimit => "hop-limit",
        Reason::NoNeighbour => "no-neighbour",
        Reason::QuestionLost => "question-lost",
        Reason::WrongMac => "wrong-mac",
        Reason::LinkDown => "link-down",
        Reason::PortState => "port-state",
        Reason::NoHairpin => "no-hairpin",
        Reason::Isolated => "isolated",
        Reason::VlanFilter => "vlan-filter",
        Reason::NoFloodTarget => "no-flood-target",
        Reason::NoTunnelRemote => "no-tunnel-remote",
        Reason::NoTunnelDevice => "no-tunnel-device",
        Reason::NoTunnelSession => "no-tunnel-session",
        Reason::NoListener => "no-listener",
        Reason::NoProtocol => "no-protocol",
        Reason::HasSocket => "has-socket",
        Reason::TooBig => "too-big",
        Reason::PeerOutside => "peer-outside",
        Reason::NextHopOutside => "next-hop-outside",
        Reason::Userspace => "userspace",
        Reason::Program => "program",
        Reason::NotCaptured => "not-captured",
        Reason::NotModelled => "not-modelled",
        Reason::UnexpectedReply => "unexpected-reply",
        Reason::Socket => "socket",
        Reason::Kernel => "kernel",
        Reason::Client => "client",
        Reason::MasqueradeMoved => "masquerade-moved",
        Reason::NatFailed => "nat-failed",
        Reason::NoSource => "no-source",
        Reason::NoRealServer => "no-real-server",
        Reason::NoIpvsConnection => "no-ipvs-connection",
    }
}

/// How a packet was refused, as `--reject-with` has it.
#[must_use]
pub const fn reject(how: Reject) -> &'static str {
    match how {
        Reject::IcmpNetUnreachable => "icmp-net-unreachable",
        Reject::IcmpHostUnreachable => "icmp-host-unreachable",
        Reject::IcmpProtoUnreachable => "icmp-proto-unreachable",
        Reject::IcmpPortUnreachable => "icmp-port-unreachable",
        Reject::IcmpNetProhibited => "icmp-net-prohibited",
        Reject::IcmpHostProhibited => "icmp-host-prohibited",
        Reject::IcmpAdminProhibited => "icmp-admin-prohibited",
        Reject::TcpReset => "tcp-reset",
        Reject::Icmp6NoRoute => "icmp6-no-route",
        Reject::Icmp6AdmProhibited => "icmp6-adm-prohibited",
        Reject::Icmp6AddrUnreachable => "icmp6-addr-unreachable",
        Reject::Icmp6PortUnreachable => "icmp6-port-unreachable",
        Reject::Icmp6PolicyFail => "icmp6-policy-fail",
        Reject::Icmp6RejectRoute => "icmp6-reject-route",
        Reject::Icmp6BeyondScope => "icmp6-beyond-scope",
    }
}

/// What comes back.
#[must_use]
pub const fn answer(answer: Answer) -> &'static str {
    match answer {
        Answer::Data => "data",
        Answer::Reset => "reset",
        Answer::Error(how) => reject(how),
        Answer::TimeExceeded => "time-exceeded",
        Answer::TooBig => "too-big",
    }
}

/// What a hop does.
#[must_use]
pub const fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Output => "output",
        Stage::Forward => "forward",
        Stage::Bridge => "bridge",
        Stage::Input => "input",
        Stage::Encap => "encap",
        Stage::Decap => "decap",
        Stage::Ingress => "ingress",
    }
}

/// How IPVS hands packets to a real server.
#[must_use]
pub const fn forward(forward: Forward) -> &'static str {
    match forward {
        Forward::Masq => "nat",
        Forward::Route => "direct-routing",
        Forward::Tunnel => "tunnel",
    }
}

/// Which way IPVS found a real server.
#[must_use]
pub const fn ipvs_by(by: IpvsBy) -> &'static str {
    match by {
        IpvsBy::Scheduler => "scheduler",
        IpvsBy::Template => "persistence",
        IpvsBy::Connection => "connection",
    }
}

/// What conntrack made of a packet.
#[must_use]
pub const fn conntrack(event: CtEvent) -> &'static str {
    match event {
        CtEvent::New => "new",
        CtEvent::Established => "established",
        CtEvent::Captured => "captured",
        CtEvent::Related => "related",
        CtEvent::Invalid => "invalid",
        CtEvent::Untracked => "untracked",
    }
}

/// Type of a route.
#[must_use]
pub const fn route_kind(kind: RouteKind) -> &'static str {
    match kind {
        RouteKind::Unicast => "unicast",
        RouteKind::Local => "local",
        RouteKind::Broadcast => "broadcast",
        RouteKind::Anycast => "anycast",
        RouteKind::Multicast => "multicast",
        RouteKind::Blackhole => "blackhole",
        RouteKind::Unreachable => "unreachable",
        RouteKind::Prohibit => "prohibit",
        RouteKind::Throw => "throw",
        RouteKind::Other(_) => "other",
    }
}

/// State of a neighbour entry.
#[must_use]
pub const fn nud(state: NudState) -> &'static str {
    match state {
        NudState::Incomplete => "incomplete",
        NudState::Reachable => "reachable",
        NudState::Stale => "stale",
        NudState::Delay => "delay",
        NudState::Probe => "probe",
        NudState::Failed => "failed",
        NudState::NoArp => "noarp",
        NudState::Permanent => "permanent",
        NudState::None => "none",
    }
}

/// Who wrote something.
#[must_use]
pub const fn owner(owner: Owner) -> &'static str {
    match owner {
        Owner::KubeProxy => "kube-proxy",
        Owner::Kubelet => "kubelet",
        Owner::KubeletOrKubeProxy => "kubelet or kube-proxy",
        Owner::Flannel => "flannel",
        Owner::Docker => "docker",
        Owner::Podman => "podman",
        Owner::CniPortmap => "CNI portmap",
        Owner::CniFirewall => "CNI firewall",
        Owner::CniBandwidth => "CNI bandwidth",
        Owner::CniMasquerade => "CNI bridge or ptp",
        Owner::Calico => "Calico",
        Owner::Cilium => "Cilium",
        Owner::Antrea => "Antrea",
        Owner::KubeRouter => "kube-router",
        Owner::Weave => "Weave Net",
        Owner::Istio => "Istio",
        Owner::Linkerd => "Linkerd",
        Owner::NodeLocalDns => "node-local-dns",
        Owner::Firewalld => "firewalld",
        Owner::Ufw => "ufw",
        Owner::Fail2ban => "fail2ban",
        Owner::Libvirt => "libvirt",
        Owner::Tailscale => "tailscale",
        Owner::AwsVpcCni => "AWS VPC CNI",
        Owner::IpMasqAgent => "ip-masq-agent",
        Owner::MetalLb => "MetalLB",
        Owner::PureLb => "PureLB",
        Owner::KubeOvn => "Kube-OVN",
        Owner::OvnKubernetes => "OVN-Kubernetes",
        Owner::AzureCni => "Azure CNI",
        Owner::Gke => "GKE",
        Owner::KubeVip => "kube-vip",
    }
}

/// How a path is compared: as a word of JSON, and as the specifications write it.
#[must_use]
pub const fn path_kind(kind: crate::resolve::http::PathKind) -> (&'static str, &'static str) {
    use crate::resolve::http::PathKind;
    match kind {
        PathKind::Exact => ("exact", "Exact"),
        PathKind::Prefix => ("prefix", "Prefix"),
        PathKind::ImplementationSpecific => ("implementation-specific", "ImplementationSpecific"),
        PathKind::Regex => ("regular-expression", "regular expression"),
        PathKind::Other => ("other", "of a kind that is not known"),
    }
}

/// A network system: as a word of JSON, and as people call it.
#[must_use]
pub const fn system(system: crate::systems::System) -> (&'static str, &'static str) {
    use crate::systems::System;
    match system {
        System::Calico => ("calico", "Calico"),
        System::CalicoEbpf => ("calico-ebpf", "Calico's eBPF dataplane"),
        System::Flannel => ("flannel", "flannel"),
        System::Cilium => ("cilium", "Cilium"),
        System::KubeRouter => ("kube-router", "kube-router"),
        System::Weave => ("weave", "Weave Net"),
        System::Antrea => ("antrea", "Antrea"),
        System::AwsVpcCni => ("aws-vpc-cni", "AWS VPC CNI"),
        System::AwsNetworkPolicy => ("aws-network-policy", "the AWS network policy agent"),
        System::AzureCni => ("azure-cni", "Azure CNI"),
        System::Gke => ("gke", "GKE"),
        System::K3s => ("k3s", "k3s or RKE2"),
        System::MicroK8s => ("microk8s", "MicroK8s"),
        System::OvnKubernetes => ("ovn-kubernetes", "OVN-Kubernetes"),
        System::KubeOvn => ("kube-ovn", "Kube-OVN"),
        System::OpenVswitch => ("open-vswitch", "Open vSwitch"),
        System::KubeProxyIptables => ("kube-proxy-iptables", "kube-proxy (iptables)"),
        System::KubeProxyIpvs => ("kube-proxy-ipvs", "kube-proxy (IPVS)"),
        System::KubeProxyNftables => ("kube-proxy-nftables", "kube-proxy (nftables)"),
        System::PureLb => ("purelb", "PureLB"),
        System::ServiceLb => ("servicelb", "ServiceLB"),
        System::NodeLocalDns => ("node-local-dns", "node-local-dns"),
        System::Istio => ("istio", "Istio"),
        System::Docker => ("docker", "Docker"),
        System::Containerd => ("containerd", "containerd"),
        System::CriO => ("cri-o", "CRI-O"),
    }
}

/// Who wrote a route.
#[must_use]
pub fn route_owner(owner: RouteOwner) -> String {
    match owner {
        RouteOwner::Redirect => "an ICMP redirect",
        RouteOwner::Kernel => "kernel",
        RouteOwner::Boot => "proto boot (a CNI or a script)",
        RouteOwner::Static => "proto static (an administrator)",
        RouteOwner::RouterAdvertisement => "a router advertisement",
        RouteOwner::Zebra => "zebra",
        RouteOwner::Bird => "BIRD",
        RouteOwner::Dhcp => "DHCP",
        RouteOwner::Keepalived => "keepalived",
        RouteOwner::Babel => "babel",
        RouteOwner::Felix => "Calico Felix",
        RouteOwner::Bgp => "BGP (FRR)",
        RouteOwner::Isis => "IS-IS",
        RouteOwner::Ospf => "OSPF",
        RouteOwner::FrrStatic => "FRR staticd",
        RouteOwner::Other(n) => return format!("proto {n}"),
    }
    .to_owned()
}

/// A protocol number as `-p` takes it.
#[must_use]
pub fn protocol(number: u8) -> String {
    match number {
        1 => "icmp",
        2 => "igmp",
        4 => "ipip",
        6 => "tcp",
        17 => "udp",
        33 => "dccp",
        47 => "gre",
        50 => "esp",
        51 => "ah",
        58 => "icmp6",
        132 => "sctp",
        136 => "udplite",
        other => return other.to_string(),
    }
    .to_owned()
}

/// A fraction: `1`, `0`, `1/3`.
#[must_use]
pub fn fraction(ratio: &Ratio) -> String {
    if ratio.is_integer() {
        ratio.numer().to_string()
    } else {
        format!("{}/{}", ratio.numer(), ratio.denom())
    }
}

/// `addr:port`, with brackets for IPv6; no port when there is none; `addr:*` when NAT draws it.
#[must_use]
pub fn socket(addr: IpAddr, port: Option<Port>) -> String {
    match (addr, port) {
        (addr, None) => addr.to_string(),
        (IpAddr::V4(addr), Some(port)) => format!("{addr}:{}", port_word(port)),
        (IpAddr::V6(addr), Some(port)) => format!("[{addr}]:{}", port_word(port)),
    }
}

fn port_word(port: Port) -> String {
    if port.drawn {
        "*".to_owned()
    } else {
        port.value.to_string()
    }
}

/// Source and destination of a packet, with ports.
#[must_use]
pub fn ends(packet: &Packet) -> (String, String) {
    (socket(packet.src, packet.sport()), socket(packet.dst, packet.dport()))
}

/// ICMP type and code.
#[must_use]
pub const fn icmp(packet: &Packet) -> Option<(u8, u8)> {
    match packet.l4 {
        L4::Icmp { ty, code, .. } => Some((ty, code)),
        _ => None,
    }
}

/// SRC as it can be written.
#[must_use]
pub fn source(source: &Source) -> String {
    match source {
        Source::Pod { pod, .. } => format!("pod/{pod}"),
        Source::Node(node) => format!("node/{node}"),
        Source::Netns { node, id } => format!("netns/{node}/{id}"),
        Source::Client { addr, .. } => format!("ip/{addr}"),
    }
}

/// DST as it can be written, without a port that is not part of a name.
#[must_use]
pub fn target(target: &Target, sent: &Packet) -> String {
    match target {
        Target::Address => sent.dst.to_string(),
        Target::Localhost => "localhost".to_owned(),
        Target::Node(node) => format!("node/{node}"),
        Target::Pod(pod) => format!("pod/{pod}"),
        Target::Service { port, .. } => format!("svc/{port}"),
    }
}

/// A condition under which a branch is the real one.
#[must_use]
pub fn condition(unknown: &Unknown, option: usize) -> String {
    match unknown {
        Unknown::Match(evidence) if option == 0 => format!("this rule matches: {}", evidence.text),
        Unknown::Match(evidence) => format!("this rule does not match: {}", evidence.text),
        Unknown::Target(evidence) if option == 0 => format!("the packet goes on after: {}", evidence.text),
        Unknown::Target(evidence) => format!("the packet ends at: {}", evidence.text),
        Unknown::Table(artifact) => format!(
            "{artifact}, which was not captured in full, has {} for this packet",
            if option == 0 { "nothing" } else { "something" }
        ),
        Unknown::Sysctl(key) => format!("{key}, which was not captured, says so (case {})", option + 1),
        Unknown::ErrorLimit(key) if option == 0 => format!("{key} still lets an ICMP error through"),
        Unknown::ErrorLimit(key) => format!("{key} keeps the ICMP error back"),
        Unknown::Patience(seconds) if option == 0 => format!("the client waits longer than {seconds} s"),
        Unknown::Patience(seconds) => format!("the client gives up within {seconds} s"),
        Unknown::Program(_) if option == 0 => {
            "the programs at devices (XDP, tc) let the packet pass as it is".to_owned()
        }
        Unknown::Program(_) => "one of the programs at devices (XDP, tc) does something else with it".to_owned(),
        Unknown::Learned(addr) if option == 0 => format!("{addr} has not asked for its neighbours lately"),
        Unknown::Learned(addr) => format!("{addr} has asked for its neighbours, and so told its MAC"),
        Unknown::Session(peer) if option == 0 => format!("the session is still good with {}", peer.text),
        Unknown::Session(peer) => format!("there is no session any more with {}", peer.text),
        Unknown::Outside(what) => format!("{what} (case {})", option + 1),
    }
}

/// Code and name of a routing daemon.
pub const fn daemon(daemon: Daemon) -> (&'static str, &'static str) {
    match daemon {
        Daemon::Bird => ("bird", "BIRD"),
        Daemon::Frr => ("frr", "FRR"),
    }
}

/// Why something was not captured.
pub const fn absent(reason: AbsentReason) -> &'static str {
    match reason {
        AbsentReason::NotSupported => "the kernel cannot have it",
        AbsentReason::ModuleNotLoaded => "its module is not loaded",
        AbsentReason::NotRunning => "its program does not run",
        AbsentReason::ToolMissing => "its tool is not installed",
        AbsentReason::Permission => "not allowed",
        AbsentReason::Timeout => "it took too long",
        AbsentReason::Error => "it failed",
        AbsentReason::NotRequested => "nobody asked",
        AbsentReason::UnknownToSource => "the source never has it",
        AbsentReason::Inconsistent => "it changed meanwhile",
        AbsentReason::Other => "for a reason that this version does not know",
    }
}

/// A controller of load balancer addresses: as a word of JSON, and as people call it.
#[must_use]
pub const fn controller(controller: crate::topics::vip::Controller) -> (&'static str, &'static str) {
    use crate::topics::vip::Controller;
    match controller {
        Controller::MetalLb => ("metallb", "MetalLB"),
        Controller::PureLb => ("purelb", "PureLB"),
        Controller::KubeVip => ("kube-vip", "kube-vip"),
        Controller::ServiceLb => ("servicelb", "ServiceLB of k3s and RKE2"),
        Controller::Cilium => ("cilium", "Cilium"),
        Controller::OpenElb => ("openelb", "OpenELB"),
        Controller::Cloud => ("cloud", "a cloud's load balancer"),
        Controller::Administrator => ("administrator", "whoever wrote the Service"),
    }
}

/// What a device does with a question about an address, and the `arp_ignore` behind it.
#[must_use]
pub const fn said(said: knet_dataplane::walk::Said) -> (&'static str, Option<i64>) {
    use knet_dataplane::walk::Said;
    match said {
        Said::Own => ("own", None),
        Said::Proxy => ("proxy", None),
        Said::Down => ("down", None),
        Said::NoArp => ("noarp", None),
        Said::NotLocal => ("not-local", None),
        Said::NotRead => ("not-read", None),
        Said::Ignored(value) => ("arp-ignore", Some(value)),
        Said::Filtered => ("arp-filter", None),
        Said::NotOnDevice => ("not-on-device", None),
        Said::Ruled => ("rule", None),
        Said::Doubtful => ("doubtful", None),
    }
}
