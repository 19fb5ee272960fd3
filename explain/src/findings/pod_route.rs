//! A node's route to the pods of another node: missing, or to the wrong next hop.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use knet_dataplane::trace::{Branch, ClientSees, NsId, Outcome};
use knet_snapshot::id::{Family, TableId};
use knet_snapshot::route::{Route, RouteKind};

use super::{Cx, Finding, Found, Severity};
use crate::resolve;

/// Looks at the pod subnets that packets were meant for, in every node's own namespace on the way.
pub(super) fn check(cx: &Cx<'_, '_>) -> Vec<Finding> {
    let mut out = Vec::new();
    let mut looked: BTreeSet<(NsId, IpAddr)> = BTreeSet::new();
    // Branches in trouble first: what they show is graver.
    let well = |b: &&Branch| b.client_sees == ClientSees::Reply && b.end.outcome != Outcome::LeavesCluster;
    let (fine, troubled): (Vec<_>, Vec<_>) = cx.branches.iter().partition(well);
    for (branch, works) in troubled
        .into_iter()
        .map(|b| (b, false))
        .chain(fine.into_iter().map(|b| (b, true)))
    {
        let reply = branch.reply.iter().flat_map(|r| &r.hops);
        for hop in branch.hops.iter().chain(reply) {
            if cx.world.space(hop.ns).name.id.is_none() && looked.insert((hop.ns, hop.packet.dst)) {
                out.extend(look(cx, hop.ns, hop.packet.dst, works));
            }
        }
    }
    out
}

fn look(cx: &Cx<'_, '_>, ns: NsId, dst: IpAddr, works: bool) -> Option<Finding> {
    let node = cx.node(ns);
    let (of, cidr) = cx.names.all_nodes().find_map(|(name, n)| {
        let cidr = n.object?.pod_cidrs.iter().copied().find(|c: &IpNet| c.contains(&dst))?;
        (name != node).then_some((name, cidr))
    })?;
    let table = cx.world.space(ns).facts.routes(Family::of(dst)).get()?;
    let mut covering: Vec<&Route> = table
        .rows
        .iter()
        .filter(|r| r.table == TableId::MAIN && r.kind == RouteKind::Unicast && r.dst.contains(&dst))
        .collect();
    covering.sort_by_key(|r| std::cmp::Reverse(r.dst.prefix_len()));
    let context = resolve::Context {
        world: cx.world,
        names: cx.names,
    };
    let should: Vec<IpAddr> = resolve::node_addresses(context, of);
    let best = covering.first();
    let found = |via| Found::PodRoute {
        node: node.to_owned(),
        of: of.to_owned(),
        cidr,
        via,
        should: should.clone(),
    };
    let severity = if works { Severity::Warning } else { Severity::Error };
    match best {
        // A router outside may know the way: where it works, all is well.
        None => (!works).then(|| Cx::found(severity, found(None), Vec::new())),
        Some(route) if route.dst.prefix_len() == 0 => (!works).then(|| Cx::found(severity, found(None), Vec::new())),
        Some(route) => {
            let via = route.nexthops.first().and_then(|n| n.gateway)?;
            // A next hop that is an address of another captured node than the pods' own.
            let other = cx.names.node_at(via)?;
            (other != of).then(|| Cx::found(severity, found(Some(via)), Vec::new()))
        }
    }
}
