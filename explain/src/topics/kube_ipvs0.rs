//! "What is kube-ipvs0, and why is it DOWN?"

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use knet_dataplane::choice::Oracle;
use knet_dataplane::table::fib::{Answer, Query as Lookup};
use knet_dataplane::trace::{Evidence, NsId};
use knet_dataplane::walk::{self, Said};
use knet_snapshot::Snapshot;
use knet_snapshot::artifact::name;
use knet_snapshot::id::Family;
use knet_snapshot::route::RouteKind;
use knet_snapshot::row::Row;

use crate::explainer::Explainer;
use crate::explanation::Glossary;
use crate::glossary;
use crate::names::Whose;
use crate::resolve::{self, Context, QueryError};

/// The device.
const DEVICE: &str = "kube-ipvs0";

/// The answer for one node.
#[derive(Clone, Debug)]
pub struct KubeIpvs0 {
    /// The node.
    pub node: String,
    /// Its links were captured.
    pub links_known: bool,
    /// The device; `None` = the node has none, as far as its links are known.
    pub device: Option<Device>,
    /// How many virtual services IPVS has here; `None` = not captured.
    pub services: Option<usize>,
    /// Addresses on it, by what they are; `None` = not captured.
    pub addresses: Option<BTreeMap<IpAddr, Held>>,
    /// Addresses that Services give and that are on no device of the node: packets from outside and from pods
    /// do not reach IPVS.
    pub missing: Vec<(IpAddr, Whose)>,
    /// What it does when neighbours ask for them; `None` = it has no such address or no device to neighbours.
    pub arp: Option<Arp>,
    /// The route that makes the first of its addresses local.
    pub local: Option<Evidence>,
    /// The sysctls by which the node answers ARP for them or is silent.
    pub arp_rows: Vec<Evidence>,
    /// Where the rows stand.
    pub cites: Glossary,
}

/// Which devices of a node answer ARP for addresses of `kube-ipvs0`; all others are silent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arp {
    /// These do.
    pub answers_on: Vec<String>,
    /// Of these it is not known: a sysctl or a table was not captured, or nobody knows what a rule does.
    pub may_answer_on: Vec<String>,
}

/// The device as captured.
#[derive(Clone, Debug, PartialEq)]
pub struct Device {
    /// `UP` is among its flags.
    pub up: bool,
    /// `NOARP` is.
    pub noarp: bool,
    /// The row.
    pub row: Evidence,
}

/// What an address on the device is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Held {
    /// A Service's.
    Service(Whose),
    /// It is also somebody else's: packets to him end on this node.
    Swallowed(Whose),
    /// No Service names it any more.
    Stale,
    /// No Service that was captured names it, and not all were.
    Nobodys,
}

impl KubeIpvs0 {
    /// 0: it is there and nothing is amiss; 1: an address is missing, or it swallows one; 3: cannot tell.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match (&self.device, &self.addresses) {
            (None, _) | (_, None) => 3,
            (Some(_), Some(held)) => {
                let amiss = !self.missing.is_empty() || held.values().any(|h| matches!(h, Held::Swallowed(_)));
                let open = held.values().any(|h| *h == Held::Nobodys);
                match (amiss, open) {
                    (true, _) => 1,
                    (false, true) => 3,
                    (false, false) => 0,
                }
            }
        }
    }
}

/// Answers the question.
pub fn explain(explainer: &Explainer<'_>, node: Option<&str>) -> Result<KubeIpvs0, QueryError> {
    let context = explainer.context();
    let node = resolve::captured_node(context, node)?;
    let Some(ns) = context.names.node(&node).and_then(|n| n.ns) else {
        return Err(QueryError::NoNodes);
    };
    let space = context.world.space(ns);
    let link = space.links().named(DEVICE);
    let held: Vec<IpAddr> = link.map_or_else(Vec::new, |l| {
        space.links().addresses_of(l.index).map(|a| a.local).collect()
    });
    let device = link.map(|l| Device {
        up: l.flags.up,
        noarp: l.flags.noarp,
        row: link_row(context.world.snapshot, &space.facts.path(name::LINK), l.at),
    });
    let local = held.first().and_then(|&address| {
        let lookup = space.fib().lookup(&Lookup::to(address), &mut Oracle::default());
        match &lookup.answer {
            Answer::Route(hit) if hit.kind == RouteKind::Local => lookup.evidence.last().cloned(),
            _ => None,
        }
    });
    let arp_rows = if held.is_empty() {
        Vec::new()
    } else {
        arp_rows(context, ns)
    };
    let rows = device.iter().map(|d| &d.row).chain(&local).chain(&arp_rows);
    let cites = glossary::cites(context.world.snapshot, rows);
    let ipvs = space.ipvs();
    let missing = if device.is_some() {
        missing(context, ns)
    } else {
        Vec::new()
    };
    Ok(KubeIpvs0 {
        links_known: space.links().known,
        services: ipvs.known.then(|| ipvs.service_count()),
        addresses: (device.is_none() || space.links().addresses_known)
            .then(|| held.iter().map(|&a| (a, what(context, a))).collect()),
        missing,
        arp: arp(context, ns, &held),
        local,
        arp_rows,
        cites,
        device,
        node,
    })
}

fn link_row(snapshot: &Snapshot, artifact: &Arc<str>, at: Row) -> Evidence {
    let text = snapshot.row_text(artifact, at).unwrap_or_default();
    Evidence {
        artifact: artifact.clone(),
        at,
        handle: None,
        text: text.into(),
    }
}

/// `arp_ignore` of the devices that lead to neighbours, with that of `all`.
fn arp_rows(context: Context<'_, '_>, ns: NsId) -> Vec<Evidence> {
    let space = context.world.space(ns);
    let here = context.world.underlay_devices().iter().filter(|(of, _)| *of == ns);
    let mut rows: Vec<Evidence> = Vec::new();
    for &(_, dev) in here {
        let key = format!("net.ipv4.conf.{}.arp_ignore", space.links().name(dev));
        for row in space.sysctl().evidence(&key) {
            if !rows.contains(&row) {
                rows.push(row);
            }
        }
    }
    rows
}

fn what(context: Context<'_, '_>, address: IpAddr) -> Held {
    let node = context.names.all_nodes().find(|(_, n)| {
        let of =
            |o: &knet_snapshot::cluster::Node| o.ips("InternalIP").chain(o.ips("ExternalIP")).any(|a| a == address);
        n.object.is_some_and(of)
    });
    if let Some((node, _)) = node {
        return Held::Swallowed(Whose::Node(node.to_owned()));
    }
    let mut all = context.names.whose(address);
    let pod = |w: &&Whose| matches!(w, Whose::Pod(_));
    let service = |w: &&Whose| matches!(w, Whose::ClusterIp(_) | Whose::LoadBalancer(_) | Whose::ExternalIp(_));
    match all.find(|w| pod(w) || service(w)) {
        Some(whose) if pod(&whose) => Held::Swallowed(whose.clone()),
        Some(whose) => Held::Service(whose.clone()),
        None if context.names.services_known => Held::Stale,
        None => Held::Nobodys,
    }
}

fn missing(context: Context<'_, '_>, ns: NsId) -> Vec<(IpAddr, Whose)> {
    let links = context.world.space(ns).links();
    let has_family = |a: IpAddr| {
        links
            .addresses(Family::of(a))
            .any(|own| !own.local.is_loopback() && own.scope == 0)
    };
    let mut all: Vec<(IpAddr, Whose)> = Vec::new();
    for (name, service) in context.names.services() {
        let cluster = service.cluster_ips.iter().map(|a| (*a, Whose::ClusterIp(name.clone())));
        let proxied = |i: &&knet_snapshot::cluster::LoadBalancerIngress| i.ip_mode.as_deref() != Some("Proxy");
        let ingress = service.ingress.iter().filter(proxied).filter_map(|i| i.ip);
        let ingress = ingress.map(|a| (a, Whose::LoadBalancer(name.clone())));
        let external = service
            .external_ips
            .iter()
            .map(|a| (*a, Whose::ExternalIp(name.clone())));
        all.extend(cluster.chain(ingress).chain(external));
    }
    all.retain(|(a, _)| links.owner(*a).is_none() && has_family(*a));
    all.sort();
    all.dedup_by(|a, b| a.0 == b.0);
    all
}

/// What neighbours hear who ask for one of the addresses.
fn arp(context: Context<'_, '_>, ns: NsId, held: &[IpAddr]) -> Option<Arp> {
    let &address = held.iter().find(|a| a.is_ipv4())?;
    let links = context.world.space(ns).links();
    let devices = context.world.underlay_devices().iter().filter(|(of, _)| *of == ns);
    let mut arp = None;
    for &(_, dev) in devices {
        let own = links.addresses_of(dev).find(|a| a.local.is_ipv4());
        let asker = own.and_then(|own| {
            let node = &context.world.space(ns).name.node;
            super::client::stand_in(context, node, own.local)
        });
        let (heard, _) = walk::who_has(context.world, (ns, dev), address, asker);
        let arp: &mut Arp = arp.get_or_insert_default();
        let name = links.name(dev).to_owned();
        match heard.iter().find(|h| (h.ns, h.dev) == (ns, dev)).map(|h| h.said) {
            Some(Said::Doubtful) => arp.may_answer_on.push(name),
            Some(said) if said.may_answer() => arp.answers_on.push(name),
            _ => {}
        }
    }
    arp
}
