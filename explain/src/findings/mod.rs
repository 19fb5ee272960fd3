//! What looks wrong in the snapshot along this path, or explains the answer.
//!
//! A finding compares what the walk met with what Kubernetes intends, one node with the others, or names
//! the setting behind a decision. It never changes an outcome. One file per kind; words are made in
//! `render`.

mod backends;
mod bad_route;
mod bgp;
mod bridge_netfilter;
mod captured;
mod context;
mod default_route;
mod drift;
mod foreign_mark;
mod forwarding;
mod hairpin;
mod kube_proxy;
mod localnet;
mod mtu;
mod neighbour;
mod netfilter_drop;
mod no_endpoints;
mod pod_route;
mod policy_rule;
mod redirect;
mod refusal;
mod rp_filter;
mod service_address;
mod shadowed;
mod source_changed;
mod source_ranges;
mod traffic_policy;
mod vxlan;

use std::net::IpAddr;

use ipnet::IpNet;
use knet_dataplane::trace::Evidence;
use knet_snapshot::id::Mac;
use knet_snapshot::route::RouteKind;
use knet_snapshot::routing_daemon::Daemon;

use crate::names::{Named, Whose};
use crate::owner::Owner;
use crate::service_chain::ServicePortName;

pub use bgp::WhyNoRoute;
pub(crate) use context::Cx;
use context::{Loss, RuleAt};

/// How grave a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Breaks this flow, or a part of it.
    Error,
    /// May break this flow or others.
    Warning,
    /// Explains what people ask about.
    Info,
}

/// Something found.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// How grave.
    pub severity: Severity,
    /// What.
    pub what: Found,
    /// The rows that show it.
    pub evidence: Vec<Evidence>,
}

/// An address and a port, when there is one.
pub type Socket = (IpAddr, Option<u16>);

/// What was found, as data.
#[derive(Clone, Debug, PartialEq)]
#[allow(
    missing_docs,
    reason = "fields say what they hold; `render/findings.rs` says it in words"
)]
pub enum Found {
    /// Rules send to an address that is no ready endpoint.
    StaleEndpoint {
        node: String,
        service: Option<ServicePortName>,
        to: Socket,
        whose: Option<Whose>,
        owner: Option<Owner>,
    },
    /// A service has no endpoints, so kube-proxy refuses its connections.
    NoEndpoints {
        service: ServicePortName,
        selector: Vec<(String, String)>,
        /// Pods the selector matches, none of which is ready.
        not_ready: Vec<Named>,
        /// When it matches none: the nearest pods, with the labels that differ (key, wanted, has).
        nearest: Vec<Near>,
    },
    /// Ready endpoints that the rules of a node never send to.
    MissingEndpoint {
        node: String,
        service: ServicePortName,
        missing: Vec<Socket>,
    },
    /// The rules of a node use endpoints that topology hints keep from it.
    HintsIgnored {
        node: String,
        service: ServicePortName,
        used: Vec<Socket>,
    },
    /// Another rule takes a service's packets before kube-proxy's.
    Shadowed {
        node: String,
        service: ServicePortName,
        owner: Option<Owner>,
        to: Socket,
    },
    /// Both iptables back ends hold rules on a node.
    TwoBackEnds {
        node: String,
        legacy: usize,
        nft: usize,
        family_v6: bool,
    },
    /// Bridged replies bypass netfilter.
    BridgeNetfilter {
        node: String,
        bridge: String,
        key: &'static str,
        value: Option<i64>,
    },
    /// The masquerade mark is set or cleared by a rule that is not kube-proxy's.
    ForeignMark {
        node: String,
        table: String,
        chain: String,
        owner: Option<Owner>,
        set: bool,
    },
    /// Captured connections match the question but for the source port.
    Captured {
        node: String,
        count: usize,
        to: Vec<(Socket, usize, bool)>,
    },
    /// The path carries less than the sender's device lets it send.
    Mtu {
        node: String,
        dev: String,
        mtu: u32,
        sender: u32,
    },
    /// A neighbour entry has another MAC than the one who has the address.
    WrongNeighbour {
        node: String,
        dev: String,
        addr: IpAddr,
        has: Option<Mac>,
        should: Option<Mac>,
    },
    /// A route or rule refuses what is a pod subnet.
    BadRoute {
        node: String,
        kind: RouteKind,
        prefix: Option<IpNet>,
        covers: Option<String>,
    },
    /// The reverse path check.
    RpFilter {
        node: String,
        dev: String,
        src: IpAddr,
        back: Option<String>,
        value: Option<i64>,
    },
    /// Forwarding is off.
    ForwardingOff { node: String, key: String },
    /// A node has no route to the pods of another one, or one to the wrong place.
    PodRoute {
        node: String,
        of: String,
        cidr: IpNet,
        via: Option<IpAddr>,
        should: Vec<IpAddr>,
    },
    /// A VXLAN device knows no remote, or another one than its peers' addresses.
    VxlanRemote {
        node: String,
        dev: String,
        mac: Mac,
        has: Option<IpAddr>,
        should: IpAddr,
        of: String,
    },
    /// A node has no service rules while others have.
    NoKubeProxy { node: String, others: Vec<String> },
    /// A pod has no default route.
    NoDefaultRoute { pod: String },
    /// `externalTrafficPolicy: Local` and no endpoint here.
    LocalPolicy {
        node: String,
        service: ServicePortName,
        on: Vec<String>,
        external: bool,
        health_check: Option<u16>,
    },
    /// The server sees another source, and why.
    SourceChanged {
        node: String,
        to: Vec<IpAddr>,
        why: WhySource,
        owner: Option<Owner>,
    },
    /// The answer would have to leave by the bridge port it came in by.
    Hairpin {
        node: String,
        port: String,
        bridge: Option<String>,
    },
    /// A policy-routing rule that is none of the three default ones decides the route.
    PolicyRule {
        node: String,
        priority: u32,
        table: Option<u32>,
        dev: Option<String>,
        owner: Option<Owner>,
    },
    /// Packets are redirected to a port nobody listens on.
    RedirectDead {
        pod: String,
        from: u16,
        to: u16,
        owner: Option<Owner>,
    },
    /// A filter rule or policy that is not kube-proxy's answer to a service without endpoints.
    Filtered {
        node: String,
        table: String,
        chain: String,
        owner: Option<Owner>,
        policy: bool,
        docker: bool,
        undo: Option<String>,
    },
    /// A service address is asked by ping.
    PingService { service: Named, ready: usize },
    /// A service address is asked on a port the service does not have.
    WrongPort {
        service: Named,
        port: u16,
        ports: Vec<(Option<String>, u16, String)>,
    },
    /// An address that is on another node is looked for on the sender's own link.
    NotOnLink { place: String, addr: IpAddr, of: String },
    /// `loadBalancerSourceRanges` does not name the client.
    SourceRanges {
        node: String,
        service: ServicePortName,
        src: IpAddr,
        ranges: Vec<IpNet>,
    },
    /// A node has no route to another node's pod, and its routing daemon tells why.
    NoBgpRoute {
        node: String,
        of: String,
        dst: IpAddr,
        daemon: Daemon,
        why: WhyNoRoute,
    },
    /// `route_localnet` is off, so 127.0.0.1 cannot be translated to a pod.
    LocalnetOff { node: String, key: String },
}

/// A pod that a selector nearly matches.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Near {
    /// The pod.
    pub pod: Named,
    /// The labels that differ.
    pub labels: Vec<LabelDiff>,
}

/// A label that differs from what a selector wants.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LabelDiff {
    /// Key.
    pub key: String,
    /// What the selector wants.
    pub wanted: String,
    /// What the pod has.
    pub has: Option<String>,
}

/// Why a source was translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WhySource {
    /// From outside to a Service with `externalTrafficPolicy: Cluster`.
    ExternalCluster,
    /// A sender that is no pod (by `clusterCIDR` or the interface) to a ClusterIP.
    OffClusterSource,
    /// kube-proxy masquerades everything (`--masquerade-all`).
    MasqueradeAll,
    /// A pod reaches itself through a Service.
    Hairpin,
    /// A pod's packet leaves the pod network.
    LeavesPodNetwork,
    /// From outside the pod network into it, by the CNI's rule.
    EntersPodNetwork,
    /// By the mark, set for another reason.
    Marked,
    /// By another rule.
    Rule,
}

impl Found {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::StaleEndpoint { .. } => "KNET-F001",
            Self::NoEndpoints { .. } => "KNET-F002",
            Self::MissingEndpoint { .. } => "KNET-F003",
            Self::HintsIgnored { .. } => "KNET-F004",
            Self::Shadowed { .. } => "KNET-F005",
            Self::TwoBackEnds { .. } => "KNET-F006",
            Self::BridgeNetfilter { .. } => "KNET-F007",
            Self::ForeignMark { .. } => "KNET-F008",
            Self::Captured { .. } => "KNET-F009",
            Self::Mtu { .. } => "KNET-F010",
            Self::WrongNeighbour { .. } => "KNET-F011",
            Self::BadRoute { .. } => "KNET-F012",
            Self::RpFilter { .. } => "KNET-F013",
            Self::ForwardingOff { .. } => "KNET-F014",
            Self::PodRoute { .. } => "KNET-F015",
            Self::VxlanRemote { .. } => "KNET-F016",
            Self::NoKubeProxy { .. } => "KNET-F017",
            Self::NoDefaultRoute { .. } => "KNET-F018",
            Self::LocalPolicy { .. } => "KNET-F019",
            Self::SourceChanged { .. } => "KNET-F020",
            Self::Hairpin { .. } => "KNET-F021",
            Self::PolicyRule { .. } => "KNET-F022",
            Self::RedirectDead { .. } => "KNET-F023",
            Self::Filtered { .. } => "KNET-F024",
            Self::PingService { .. } => "KNET-F025",
            Self::WrongPort { .. } => "KNET-F026",
            Self::LocalnetOff { .. } => "KNET-F027",
            Self::NotOnLink { .. } => "KNET-F028",
            Self::SourceRanges { .. } => "KNET-F029",
            Self::NoBgpRoute { .. } => "KNET-F030",
        }
    }
}

/// Runs every check. The gravest first, then by code.
pub(crate) fn all(cx: &Cx<'_, '_>) -> Vec<Finding> {
    const CHECKS: &[fn(&Cx<'_, '_>) -> Vec<Finding>] = &[
        drift::check,
        no_endpoints::check,
        shadowed::check,
        traffic_policy::check,
        source_ranges::check,
        kube_proxy::check,
        service_address::check,
        netfilter_drop::check,
        backends::check,
        bad_route::check,
        policy_rule::check,
        pod_route::check,
        bgp::check,
        default_route::check,
        forwarding::check,
        rp_filter::check,
        localnet::check,
        bridge_netfilter::check,
        hairpin::check,
        neighbour::check,
        vxlan::check,
        redirect::check,
        foreign_mark::check,
        captured::check,
        mtu::check,
        source_changed::check,
    ];
    let mut all: Vec<Finding> = Vec::new();
    for finding in CHECKS.iter().flat_map(|check| check(cx)) {
        if !all.iter().any(|f| f.what == finding.what) {
            all.push(finding);
        }
    }
    all.sort_by_key(|f| (f.severity, f.what.code()));
    all
}
