//! Who answers for a load balancer's address, and what each node does with a packet to it.
//!
//! Where the address stands, who answers ARP or neighbour discovery for it and which way a packet goes are
//! facts of the captured kernels. Services and annotations only say who put the address there and what he
//! expects.

mod announce;
mod controller;
mod nodes;

use std::net::IpAddr;

use ipnet::IpNet;
use knet_dataplane::trace::{Assumption, NsId};
use knet_dataplane::walk::{self, Said};
use knet_snapshot::id::{Family, IfIndex, Mac};

use crate::explainer::Explainer;
use crate::names::{Named, Whose};
use crate::resolve::{Context, QueryError, service_named};

use super::client;

pub use announce::{Advertises, Announcement, BgpSession, Unsure};
pub use controller::{Controller, Expects, Told};
pub use nodes::{ClientView, Route, Stand, VipNode};

/// Which address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VipQuery {
    /// An address, or `svc/[NS/]NAME`, whose load balancer and external addresses are meant.
    pub target: String,
    /// Namespace of a bare service name.
    pub namespace: Option<String>,
    /// Who asks on the segment; `None` = an address of the segment that nobody has.
    pub from: Option<IpAddr>,
}

/// The answer about one address.
#[derive(Clone, Debug)]
pub struct VipExplanation {
    /// The address.
    pub address: IpAddr,
    /// The Services that name it.
    pub services: Vec<VipService>,
    /// Who put it there, when that can be told.
    pub controller: Option<Told>,
    /// The layer-2 segments that captured nodes are on.
    pub segments: Vec<Segment>,
    /// Every captured node.
    pub nodes: Vec<VipNode>,
    /// What comes of it.
    pub outcome: VipOutcome,
    /// What was taken for granted about who answers.
    pub assumptions: Vec<Assumption>,
}

/// A Service that names the address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VipService {
    /// Which.
    pub name: Named,
    /// As what it names it.
    pub role: VipRole,
    /// `externalTrafficPolicy`
    pub external_traffic_policy: Option<String>,
    /// `internalTrafficPolicy`
    pub internal_traffic_policy: Option<String>,
    /// Port, protocol and NodePort.
    pub ports: Vec<(u16, String, Option<u16>)>,
}

/// As what a Service names an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VipRole {
    /// `status.loadBalancer.ingress`
    LoadBalancer {
        /// `ipMode: Proxy`: kube-proxy leaves the address alone.
        proxy: bool,
    },
    /// `spec.externalIPs`
    ExternalIp,
    /// `spec.clusterIPs`
    ClusterIp,
}

/// Devices that are taken to be on one wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Node and device of its members.
    pub members: Vec<(String, String)>,
    /// Its subnets, of the address's family.
    pub subnets: Vec<IpNet>,
    /// The address is in one of them: its neighbours ask for it.
    pub on_link: bool,
    /// Who asks.
    pub asker: IpAddr,
    /// What every device that hears the question does, the nodes' own first.
    pub heard: Vec<Hearing>,
}

/// A device that hears the question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hearing {
    /// Node.
    pub node: String,
    /// Namespace of the device, when it is not the node's own.
    pub netns: Option<String>,
    /// Device.
    pub dev: String,
    /// Its MAC.
    pub mac: Option<Mac>,
    /// What it does.
    pub said: Said,
}

/// What comes of it for a client on the address's own segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VipOutcome {
    /// One device answers.
    One(String),
    /// Several nodes answer: which one a client believes is a race.
    Several(Vec<String>),
    /// Whether these nodes answer is not known, and at most one other does for certain.
    Doubtful(Vec<String>),
    /// No kernel answers, and nothing tells that a program does: packets get nowhere.
    Nobody,
    /// No kernel answers, as it should be: a program of the controller answers in user space, on a node that
    /// the snapshot does not name.
    Program,
    /// The address is in no subnet of the nodes: routers bring its packets to a node.
    Routed,
}

impl VipExplanation {
    /// 0: one node answers; 1: several do, or nobody; 3: what decides is not in the snapshot.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self.outcome {
            VipOutcome::One(_) => 0,
            VipOutcome::Several(_) | VipOutcome::Nobody => 1,
            VipOutcome::Doubtful(_) | VipOutcome::Program | VipOutcome::Routed => 3,
        }
    }
}

/// Answers the question, for every address that is meant.
pub fn explain(explainer: &Explainer<'_>, query: &VipQuery) -> Result<Vec<VipExplanation>, QueryError> {
    let context = explainer.context();
    let addresses = addresses(context, query)?;
    Ok(addresses
        .into_iter()
        .map(|address| of_address(explainer, address, query.from))
        .collect())
}

/// A Service names it as an address for clients outside.
pub(crate) fn concerns(context: Context<'_, '_>, address: IpAddr) -> bool {
    let outer = |w: &Whose| matches!(w, Whose::LoadBalancer(_) | Whose::ExternalIp(_));
    context.names.whose(address).any(outer)
}

fn addresses(context: Context<'_, '_>, query: &VipQuery) -> Result<Vec<IpAddr>, QueryError> {
    if let Ok(address) = query.target.parse() {
        return Ok(vec![address]);
    }
    let named = service_named(context, &query.target, query.namespace.as_deref())?;
    let service = context.names.service(&named);
    let mut all: Vec<IpAddr> = service
        .iter()
        .flat_map(|s| {
            s.ingress
                .iter()
                .filter_map(|i| i.ip)
                .chain(s.external_ips.iter().copied())
        })
        .collect();
    all.sort_unstable();
    all.dedup();
    if all.is_empty() {
        return Err(QueryError::NoVip {
            service: named,
            hostname: service.and_then(|s| s.ingress.iter().find_map(|i| i.hostname.clone())),
        });
    }
    Ok(all)
}

/// The answer about one address.
pub(crate) fn of_address(explainer: &Explainer<'_>, address: IpAddr, from: Option<IpAddr>) -> VipExplanation {
    let context = explainer.context();
    let services = services(context, address);
    let controller = controller::tell(context, &services, address);
    let mut assumptions = Vec::new();
    let segments: Vec<Segment> = wires(context)
        .into_iter()
        .filter_map(|wire| segment(context, &wire, address, from, &mut assumptions))
        .collect();
    assumptions.sort_unstable();
    assumptions.dedup();
    let nodes = nodes::all(explainer, address, &services, &segments, controller.as_ref());
    let outcome = outcome(&segments, unseen(context), controller.as_ref());
    VipExplanation {
        address,
        services,
        controller,
        segments,
        nodes,
        outcome,
        assumptions,
    }
}

fn services(context: Context<'_, '_>, address: IpAddr) -> Vec<VipService> {
    let role_of = |whose: &Whose| match whose {
        Whose::LoadBalancer(name) => {
            let service = context.names.service(name)?;
            let proxy = service
                .ingress
                .iter()
                .any(|i| i.ip == Some(address) && i.ip_mode.as_deref() == Some("Proxy"));
            Some((name.clone(), VipRole::LoadBalancer { proxy }))
        }
        Whose::ExternalIp(name) => Some((name.clone(), VipRole::ExternalIp)),
        Whose::ClusterIp(name) => Some((name.clone(), VipRole::ClusterIp)),
        _ => None,
    };
    let roles = context.names.whose(address).filter_map(role_of);
    roles
        .filter_map(|(name, role)| {
            let service = context.names.service(&name)?;
            Some(VipService {
                role,
                external_traffic_policy: service.external_traffic_policy.clone(),
                internal_traffic_policy: service.internal_traffic_policy.clone(),
                ports: service
                    .ports
                    .iter()
                    .map(|p| (p.port, p.protocol.clone(), p.node_port))
                    .collect(),
                name,
            })
        })
        .collect()
}

/// The wires: devices that lead out of their nodes, each with those it shares a subnet with.
fn wires(context: Context<'_, '_>) -> Vec<Vec<(NsId, IfIndex)>> {
    let mut wires: Vec<Vec<(NsId, IfIndex)>> = Vec::new();
    for &(ns, dev) in context.world.underlay_devices() {
        if wires.iter().any(|w| w.contains(&(ns, dev))) {
            continue;
        }
        wires.push(walk::segment(context.world, ns, dev));
    }
    wires
}

fn segment(
    context: Context<'_, '_>,
    wire: &[(NsId, IfIndex)],
    address: IpAddr,
    from: Option<IpAddr>,
    assumptions: &mut Vec<Assumption>,
) -> Option<Segment> {
    let named = |&(ns, dev): &(NsId, IfIndex)| {
        let space = context.world.space(ns);
        (space.name.node.clone(), space.links().name(dev).to_owned())
    };
    let mut subnets: Vec<IpNet> = wire.iter().flat_map(|at| subnets(context, *at, address)).collect();
    subnets.sort_unstable();
    subnets.dedup();
    // Without an address of the family on the wire nobody knows how its neighbours ask.
    let near = |net: &IpNet| net.contains(&address);
    let subnet = subnets.iter().find(|n| near(n)).or(subnets.first())?;
    let member = wire.iter().find_map(|&(ns, _)| {
        let space = context.world.space(ns);
        let own = space
            .links()
            .addresses(Family::of(address))
            .find(|a| subnet.contains(&a.local) && a.local != address)?;
        Some((&space.name.node, own.local))
    });
    let asker = from.or_else(|| member.and_then(|(node, own)| client::stand_in(context, node, own)))?;
    let (heard, assumed) = walk::who_has(context.world, *wire.first()?, address, Some(asker));
    assumptions.extend(assumed);
    let mut heard: Vec<Hearing> = heard
        .into_iter()
        .filter(|h| context.world.space(h.ns).name.id.is_none() || h.said.may_answer())
        .map(|h| {
            let space = context.world.space(h.ns);
            Hearing {
                node: space.name.node.clone(),
                netns: space.name.id.clone(),
                dev: space.links().name(h.dev).to_owned(),
                mac: h.mac,
                said: h.said,
            }
        })
        .collect();
    heard.sort_by(|a, b| (&a.netns, &a.node, &a.dev).cmp(&(&b.netns, &b.node, &b.dev)));
    Some(Segment {
        members: wire.iter().map(named).collect(),
        on_link: subnets.iter().any(|n| n.contains(&address)),
        subnets,
        asker,
        heard,
    })
}

/// The subnets of a device and of the bridge it is a port of.
fn subnets(context: Context<'_, '_>, (ns, dev): (NsId, IfIndex), like: IpAddr) -> Vec<IpNet> {
    let links = context.world.space(ns).links();
    let bridge = links
        .get(dev)
        .and_then(|l| l.master.as_deref())
        .and_then(|m| links.named(m));
    let family = Family::of(like);
    let all = links
        .addresses_of(dev)
        .chain(bridge.into_iter().flat_map(|b| links.addresses_of(b.index)));
    all.filter(|a| Family::of(a.local) == family)
        .filter(|a| !matches!(a.local, IpAddr::V6(v) if v.is_unicast_link_local()))
        .filter_map(|a| IpNet::new(a.local, a.prefix_len).ok())
        .filter(|n| n.prefix_len() < n.max_prefix_len())
        .map(|n| n.trunc())
        .collect()
}

/// Nodes of which nobody knows on which wires they are, and as whom.
fn unseen(context: Context<'_, '_>) -> Vec<String> {
    let seen = |ns: NsId| {
        let links = context.world.space(ns).links();
        links.known && links.addresses_known
    };
    let nodes = context.names.all_nodes().filter(|(_, node)| !node.ns.is_some_and(seen));
    nodes.map(|(name, _)| name.to_owned()).collect()
}

fn outcome(segments: &[Segment], unseen: Vec<String>, controller: Option<&Told>) -> VipOutcome {
    let on_link = || segments.iter().filter(|s| s.on_link);
    if on_link().next().is_none() {
        return VipOutcome::Routed;
    }
    let mut answering: Vec<(&str, Option<Mac>)> = on_link()
        .flat_map(|s| &s.heard)
        .filter(|h| h.said.answer().is_some())
        .map(|h| (h.node.as_str(), h.mac))
        .collect();
    answering.sort_unstable();
    answering.dedup();
    let mut nodes: Vec<String> = answering.iter().map(|(node, _)| (*node).to_owned()).collect();
    nodes.dedup();
    let mut doubtful: Vec<String> = on_link()
        .flat_map(|s| &s.heard)
        .filter(|h| h.said == Said::Doubtful)
        .map(|h| h.node.clone())
        .chain(unseen)
        .collect();
    doubtful.sort_unstable();
    doubtful.dedup();
    let by_program = controller.is_some_and(|c| c.controller.expects() == Expects::Program);
    match (answering.as_slice(), by_program) {
        ([] | [_], _) if !doubtful.is_empty() => VipOutcome::Doubtful(doubtful),
        ([], true) => VipOutcome::Program,
        ([], false) => VipOutcome::Nobody,
        ([(node, _)], _) => VipOutcome::One((*node).to_owned()),
        _ => VipOutcome::Several(nodes),
    }
}
