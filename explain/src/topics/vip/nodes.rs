//! What one node has to do with the address.

use std::net::IpAddr;

use knet_dataplane::choice::Oracle;
use knet_dataplane::table::fib::{Answer, Query as Lookup};
use knet_dataplane::trace::{Detail, Evidence, NsId};
use knet_dataplane::walk;
use knet_snapshot::id::IfIndex;
use knet_snapshot::link::LinkKind;
use knet_snapshot::route::RouteKind;

use super::announce::{self, Announcement};
use super::{Segment, Told, VipRole, VipService};
use crate::explainer::Explainer;
use crate::explanation::Explanation;
use crate::names::Named;
use crate::owner::{self, RouteOwner};
use crate::query::Query;
use crate::resolve::Context;

/// One node.
#[derive(Clone, Debug)]
pub struct VipNode {
    /// Its name.
    pub node: String,
    /// The devices that have the address.
    pub stands: Vec<Stand>,
    /// Its route to the address.
    pub route: Option<Route>,
    /// Devices out of which a packet with this source makes the node ask its neighbours in the name of the
    /// address (`arp_announce`): whoever hears it takes the node for the owner.
    pub asks_as: Vec<String>,
    /// Whether the node announces a route to the address to other routers.
    pub advertises: Announcement,
    /// Ready endpoints of the Services on this node, and in all; `None` when slices were not captured.
    pub endpoints: Option<(usize, usize)>,
    /// What a client outside sees whose packet comes to this node, by port.
    pub clients: Vec<ClientView>,
}

/// A device that has the address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stand {
    /// Device.
    pub dev: String,
    /// A dummy, which leads nowhere: `kube-ipvs0`, `kube-lb0`.
    pub dummy: bool,
    /// It is up.
    pub up: bool,
    /// It does no ARP.
    pub noarp: bool,
    /// Prefix length.
    pub prefix_len: u8,
    /// The device has another address before this one.
    pub secondary: bool,
}

/// A route to the address.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// The address is the node's own.
    pub local: bool,
    /// Next hop, when the route has one.
    pub via: Option<IpAddr>,
    /// Device.
    pub dev: Option<String>,
    /// It is a route for this address alone or a part of the address space; not the default route.
    pub specific: bool,
    /// Who wrote it.
    pub owner: Option<RouteOwner>,
    /// The row.
    pub row: Evidence,
}

/// What a client outside sees.
#[derive(Clone, Debug)]
pub struct ClientView {
    /// Port.
    pub port: u16,
    /// Protocol.
    pub proto: String,
    /// The walk.
    pub explanation: Explanation,
}

/// More walks than this are not made: ports beyond the first are left out then.
const WALKS: usize = 256;

/// Every captured node.
pub fn all(
    explainer: &Explainer<'_>,
    address: IpAddr,
    services: &[VipService],
    segments: &[Segment],
    controller: Option<&Told>,
) -> Vec<VipNode> {
    let systems = explainer.systems();
    let context = explainer.context();
    let nodes: Vec<(String, NsId)> = context
        .names
        .all_nodes()
        .filter_map(|(name, n)| Some((name.to_owned(), n.ns?)))
        .collect();
    let outer = services.iter().filter(|s| s.role != VipRole::ClusterIp);
    let mut ports: Vec<(u16, String)> = outer
        .flat_map(|s| &s.ports)
        .map(|(port, proto, _)| (*port, proto.to_ascii_lowercase()))
        .collect();
    ports.sort();
    ports.dedup();
    if nodes.len().saturating_mul(ports.len()) > WALKS {
        ports.truncate(1);
    }
    nodes
        .into_iter()
        .map(|(node, ns)| VipNode {
            stands: stands(context, ns, address),
            route: route(context, ns, address),
            asks_as: asks_as(context, ns, address),
            advertises: announce::of_node(context, &node, address, controller, &systems),
            endpoints: endpoints(context, services, &node),
            clients: ports
                .iter()
                .filter_map(|port| view(explainer, &node, address, port, segments))
                .collect(),
            node,
        })
        .collect()
}

fn stands(context: Context<'_, '_>, ns: NsId, address: IpAddr) -> Vec<Stand> {
    let links = context.world.space(ns).links();
    let all = links.iter().filter_map(|link| {
        let (place, own) = links
            .addresses_of(link.index)
            .enumerate()
            .find(|(_, a)| a.local == address)?;
        Some(Stand {
            dev: link.name.clone(),
            dummy: matches!(link.kind, LinkKind::Dummy),
            up: link.flags.up,
            noarp: link.flags.noarp,
            prefix_len: own.prefix_len,
            secondary: place > 0,
        })
    });
    all.collect()
}

fn route(context: Context<'_, '_>, ns: NsId, address: IpAddr) -> Option<Route> {
    let space = context.world.space(ns);
    let lookup = space.fib().lookup(&Lookup::to(address), &mut Oracle::default());
    let Answer::Route(hit) = &lookup.answer else {
        return None;
    };
    Some(Route {
        local: hit.kind == RouteKind::Local,
        via: hit.nexthop.and_then(|n| n.gateway),
        dev: hit.oif.map(|dev| space.links().name(dev).to_owned()),
        specific: hit.route.dst.prefix_len() > 0,
        owner: hit.route.protocol.map(owner::of_route),
        row: lookup.evidence.last()?.clone(),
    })
}

/// The node's devices on which it asks in the name of the address.
fn asks_as(context: Context<'_, '_>, ns: NsId, address: IpAddr) -> Vec<String> {
    let space = context.world.space(ns);
    if space.links().owner(address).is_none() || !address.is_ipv4() {
        return Vec::new();
    }
    let here = context.world.underlay_devices().iter().filter(|(of, _)| *of == ns);
    here.filter(|&&(_, dev)| {
        // Any neighbour will do.
        let Some(own) = space.links().addresses_of(dev).find(|a| a.local.is_ipv4()) else {
            return false;
        };
        walk::asks_as(context.world, (ns, dev), own.local, address) == Some(address)
    })
    .map(|&(_, dev): &(NsId, IfIndex)| space.links().name(dev).to_owned())
    .collect()
}

fn endpoints(context: Context<'_, '_>, services: &[VipService], node: &str) -> Option<(usize, usize)> {
    if !context.names.slices_known {
        return None;
    }
    let mut names: Vec<&Named> = services.iter().map(|s| &s.name).collect();
    names.sort();
    names.dedup();
    let ready: Vec<_> = names
        .into_iter()
        .flat_map(|name| context.names.slices(name))
        .flat_map(|slice| &slice.endpoints)
        .filter(|e| e.ready != Some(false))
        .collect();
    let here = ready.iter().filter(|e| e.node.as_deref() == Some(node)).count();
    Some((here, ready.len()))
}

/// A client outside whose packet comes to this node.
fn view(
    explainer: &Explainer<'_>,
    node: &str,
    address: IpAddr,
    (port, proto): &(u16, String),
    segments: &[Segment],
) -> Option<ClientView> {
    let of_node = |s: &&Segment| s.members.iter().any(|(n, _)| n == node);
    let client = segments.iter().find(of_node)?.asker;
    let dst = match address {
        IpAddr::V4(_) => format!("{address}:{port}"),
        IpAddr::V6(_) => format!("[{address}]:{port}"),
    };
    let query = Query {
        src: format!("ip/{client}"),
        dst,
        via: Some(format!("node/{node}")),
        proto: Some(proto.clone()),
        ..Query::default()
    };
    let explanation = explainer.walked(&query, Detail::Outcome).ok()?;
    Some(ClientView {
        port: *port,
        proto: proto.clone(),
        explanation,
    })
}

impl ClientView {
    /// Who answers: `ns/pod`, or `node NAME`.
    #[must_use]
    pub fn servers(&self) -> Vec<String> {
        let places = &self.explanation.glossary.places;
        let mut all: Vec<String> = self
            .reached()
            .filter_map(|b| places.get(&b.end.place.ns?))
            .map(|place| match &place.pod {
                Some(pod) => pod.to_string(),
                None => format!("node {}", place.node),
            })
            .collect();
        all.sort();
        all.dedup();
        all
    }

    /// The servers see the client's own address; `None` when nobody is reached.
    #[must_use]
    pub fn source_kept(&self) -> Option<bool> {
        let mut kept = self.reached().map(|b| !b.snat).peekable();
        kept.peek()?;
        Some(kept.all(|k| k))
    }

    fn reached(&self) -> impl Iterator<Item = &crate::explanation::Branch> {
        let delivered = |b: &&crate::explanation::Branch| b.end.outcome == crate::explanation::Outcome::Delivered;
        self.explanation.branches.iter().filter(delivered)
    }
}
