//! Findings about routes, neighbours and devices in words.

use std::net::IpAddr;

use ipnet::IpNet;
use knet_snapshot::id::Mac;
use knet_snapshot::route::RouteKind;
use knet_snapshot::routing_daemon::Daemon;

use super::{Said, said};
use crate::findings::WhyNoRoute;
use crate::render::words;

/// A route or rule that refuses.
pub fn bad_route(node: &str, kind: RouteKind, prefix: Option<IpNet>, covers: Option<&str>) -> Said {
    let what = words::route_kind(kind);
    let covers = covers
        .map(|n| format!(" It cuts the pod subnet of {n}."))
        .unwrap_or_default();
    match prefix {
        Some(prefix) => said(
            format!("{node} has a {what} route for {prefix}.{covers}"),
            format!("on {node}: ip route del {what} {prefix}, once you know who wrote it"),
        ),
        None => {
            let kind = if kind == RouteKind::Unicast { "refusing" } else { what };
            said(
                format!("{node} has a policy-routing rule of type {kind} that takes the packet.{covers}"),
                format!("on {node}: ip rule show, and ip rule del the rule once you know who wrote it"),
            )
        }
    }
}

/// A node's route to another node's pods.
pub fn pod_route(node: &str, of: &str, cidr: &IpNet, via: Option<IpAddr>, should: &[IpAddr]) -> Said {
    let should: Vec<String> = should
        .iter()
        .filter(|a| a.is_ipv4() == cidr.addr().is_ipv4())
        .map(ToString::to_string)
        .collect();
    let hop = should.first().cloned().unwrap_or_else(|| of.to_owned());
    match via {
        None => said(
            format!("{node} has no route to {cidr}, the pods of {of}: packets for them take the default route."),
            format!("the CNI should have written one; by hand on {node}: ip route add {cidr} via {hop}"),
        ),
        Some(via) => said(
            format!("{node} sends {cidr}, the pods of {of}, to {via}, which is another node ({of} is {hop})."),
            format!("on {node}: ip route replace {cidr} via {hop}"),
        ),
    }
}

/// What a routing daemon says of a route that is not there.
pub fn no_bgp_route(node: &str, of: &str, dst: IpAddr, daemon: Daemon, why: &WhyNoRoute) -> Said {
    let name = words::daemon(daemon).1;
    let show = match daemon {
        Daemon::Bird => "birdc show protocols all",
        Daemon::Frr => "vtysh -c 'show bgp summary'",
    };
    let head = format!("{node} has no route to {dst}, a pod of {of}");
    match why {
        WhyNoRoute::SessionDown { session, state, error } => {
            let error = error.as_ref().map(|e| format!(" ({e})")).unwrap_or_default();
            said(
                format!("{head}: {name} there says that its session {session} to {of} is {state}{error}."),
                format!("on {node}: {show}; is TCP 179 open between {node} and {of}, and does {of} know {node}?"),
            )
        }
        WhyNoRoute::NoSession => said(
            format!("{head}, and {name} there has no session to {of}."),
            format!("see why {node} does not peer with {of}: node addresses, peers, node-to-node mesh"),
        ),
        WhyNoRoute::NotAnnounced { session } => said(
            format!("{head}: {name}'s session {session} to {of} is up and brought none."),
            format!("on {of}: see what it exports to {node}"),
        ),
        WhyNoRoute::NotInKernel { from } => said(
            format!("{head}, although {name} there has one from {from}: it is not in the kernel's table."),
            format!("on {node}: see {name}'s log and its export to the kernel"),
        ),
    }
}

/// The reverse path check.
pub fn rp_filter(node: &str, dev: &str, src: IpAddr, back: Option<&str>, value: Option<i64>) -> Said {
    let back = match back {
        Some(back) if back != dev => format!("{node} would answer {src} by {back}"),
        _ => format!("{node} has no way back to {src} by it"),
    };
    let value = value.map_or_else(String::new, |v| format!("={v}"));
    said(
        format!(
            "The packet came in by {dev}, but {back}, and rp_filter{value} drops what comes in by another device than the answer leaves by."
        ),
        format!(
            "mend the route, or on {node}: sysctl -w net.ipv4.conf.{dev}.rp_filter=2 (loose; the larger of all and {dev} counts)"
        ),
    )
}

/// A neighbour entry.
pub fn wrong_neighbour(node: &str, dev: &str, addr: IpAddr, has: Option<Mac>, should: Option<Mac>) -> Said {
    let has = has.map_or_else(|| "no MAC".to_owned(), |m| m.to_string());
    match should {
        Some(should) => said(
            format!("{node} has {has} for {addr} on {dev}, but {addr} is at {should}."),
            format!("on {node}: ip neigh del {addr} dev {dev}"),
        ),
        None => said(
            format!("{node} has {has} for {addr} on {dev}, and nothing in the snapshot has that address."),
            format!("on {node}: ip neigh show {addr}; see who should have the address"),
        ),
    }
}
