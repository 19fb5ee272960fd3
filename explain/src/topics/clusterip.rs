//! "How does a ClusterIP reach IPVS?"
//!
//! What makes the address local on a node, which virtual service takes its packets, and what clients see. In
//! the other modes of kube-proxy: the rule that takes them.

use std::net::IpAddr;

use knet_dataplane::choice::Oracle;
use knet_dataplane::table::fib::{Answer, Query as Lookup};
use knet_dataplane::trace::{Detail, Evidence};
use knet_snapshot::route::RouteKind;

use super::nodeport::{self, Taker};
use crate::explainer::Explainer;
use crate::explanation::{Explanation, Glossary};
use crate::glossary;
use crate::names::Named;
use crate::query::Query;
use crate::resolve::{self, QueryError};

/// Which address, where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterIpQuery {
    /// An address with a port, or `svc/[NS/]NAME[:PORT]`.
    pub target: String,
    /// Namespace of a bare service name.
    pub namespace: Option<String>,
    /// Node name; `None` = the first captured node by name.
    pub node: Option<String>,
    /// `tcp`, `udp` or `sctp`; `None` = what the Service says.
    pub proto: Option<String>,
}

/// The answer.
#[derive(Clone, Debug)]
pub struct ClusterIpExplanation {
    /// The address.
    pub address: IpAddr,
    /// Port.
    pub port: u16,
    /// IP protocol.
    pub proto: u8,
    /// The node.
    pub node: String,
    /// The Services that have the address.
    pub services: Vec<Named>,
    /// The device of the node that has the address, and whether it is up.
    pub stands: Option<(String, bool)>,
    /// The route that makes it local.
    pub local: Option<Evidence>,
    /// What takes its packets.
    pub taker: Option<Taker>,
    /// Only packets of the node itself are taken: those of pods and of clients go by.
    pub only_own: bool,
    /// The virtual service and its real servers, as captured.
    pub service_rows: Vec<Evidence>,
    /// What a pod of the node sees; `None` when no pod of it was captured.
    pub pod: Option<(Named, Explanation)>,
    /// What a program on the node sees.
    pub own: Explanation,
    /// Where the rows stand.
    pub cites: Glossary,
}

impl ClusterIpExplanation {
    /// As of a trace from a pod, or else from the node.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        self.pod.as_ref().map_or(&self.own, |(_, seen)| seen).exit_code()
    }
}

/// Answers the question.
pub fn explain(explainer: &Explainer<'_>, query: &ClusterIpQuery) -> Result<ClusterIpExplanation, QueryError> {
    let context = explainer.context();
    let node = resolve::captured_node(context, query.node.as_deref())?;
    let base = Query {
        dst: query.target.clone(),
        namespace: query.namespace.clone(),
        proto: query.proto.clone(),
        ..Query::default()
    };
    let from = |src: String| explainer.walked(&Query { src, ..base.clone() }, Detail::Decisions);
    if let Ok(service) = resolve::service_named(context, &query.target, query.namespace.as_deref())
        && context
            .names
            .service(&service)
            .is_some_and(|s| s.cluster_ips.is_empty())
    {
        return Err(QueryError::NoClusterIp { service });
    }
    let own = from(format!("node/{node}"))?;
    let address = own.sent.dst;
    let port = own.sent.dport().map_or(0, |p| p.value);
    let pods = context.names.pods().find(|(_, entry)| {
        let place = entry.ns.and_then(|ns| context.names.place(ns));
        place.is_some_and(|p| p.node == node && p.pod.is_some()) && !entry.object.is_some_and(|o| o.host_network)
    });
    let pod = pods.and_then(|(name, _)| Some((name.clone(), from(format!("pod/{name}")).ok()?)));
    let taken = |seen: &Explanation| {
        let mut hops = seen.branches.iter().flat_map(|b| &b.hops);
        hops.find_map(|hop| nodeport::taker_at(seen, hop, port))
    };
    let of_pod = pod.as_ref().map(|(_, seen)| (seen, taken(seen)));
    // Where the address is not local, IPVS still meets what the node sends itself (LOCAL_OUT).
    let (seen, taker, only_own) = match of_pod {
        Some((seen, Some(taker))) => (seen, Some(taker), false),
        other => {
            let taker = taken(&own);
            (&own, taker.clone(), other.is_some() && taker.is_some())
        }
    };
    let service_rows = service_rows(seen, &node);
    let space = context
        .names
        .node(&node)
        .and_then(|n| n.ns)
        .map(|ns| context.world.space(ns));
    let stands = space.and_then(|space| {
        let dev = space.links().owner(address)?;
        let up = space.links().get(dev).is_some_and(|l| l.flags.up);
        Some((space.links().name(dev).to_owned(), up))
    });
    let local = space.and_then(|space| {
        let lookup = space.fib().lookup(&Lookup::to(address), &mut Oracle::default());
        match &lookup.answer {
            Answer::Route(hit) if hit.kind == RouteKind::Local => lookup.evidence.last().cloned(),
            _ => None,
        }
    });
    let services = context.names.whose(address).filter_map(|whose| match whose {
        crate::names::Whose::ClusterIp(name) => Some(name.clone()),
        _ => None,
    });
    let rule = taker.as_ref().map(|taker| &taker.rule);
    let rows = service_rows.iter().chain(&local).chain(rule);
    Ok(ClusterIpExplanation {
        cites: glossary::cites(context.world.snapshot, rows),
        only_own,
        address,
        port,
        proto: own.sent.proto,
        services: services.collect(),
        stands,
        local,
        taker,
        service_rows,
        pod,
        own,
        node,
    })
}

/// The rows by which IPVS on the node chose, over all branches.
fn service_rows(seen: &Explanation, node: &str) -> Vec<Evidence> {
    use knet_dataplane::trace::What;
    let mut rows: Vec<Evidence> = Vec::new();
    for hop in seen.branches.iter().flat_map(|b| &b.hops) {
        let here = seen.glossary.places.get(&hop.ns).is_some_and(|p| p.node == node);
        for step in hop.steps.iter().filter(|s| here && matches!(s.what, What::Ipvs { .. })) {
            for row in &step.evidence {
                if !rows.contains(row) {
                    rows.push(row.clone());
                }
            }
        }
    }
    rows
}
