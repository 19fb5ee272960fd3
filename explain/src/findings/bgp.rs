//! Why a node has no route to the pods of another: what its routing daemon says of the session to that node.

use std::collections::BTreeSet;
use std::net::IpAddr;

use knet_dataplane::trace::{Evidence, NsId};
use knet_snapshot::id::{Family, TableId};
use knet_snapshot::route::RouteKind;
use knet_snapshot::routing_daemon;

use super::{Cx, Finding, Found, Severity};
use crate::names::Whose;
use crate::resolve;

/// What a routing daemon tells of a route that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WhyNoRoute {
    /// The session to the node is not up.
    SessionDown {
        /// Its name.
        session: String,
        /// Its state, in the daemon's word.
        state: String,
        /// The daemon's own word on it.
        error: Option<String>,
    },
    /// There are sessions, but none to the node.
    NoSession,
    /// The session is up, and brought no route for the address.
    NotAnnounced {
        /// Its name.
        session: String,
    },
    /// The daemon has the route, and the kernel does not.
    NotInKernel {
        /// From which protocol.
        from: String,
    },
}

/// Looks at every node on the way of a lost packet that has no route to the pod it is for.
pub(super) fn check(cx: &Cx<'_, '_>) -> Vec<Finding> {
    let mut out = Vec::new();
    let mut looked: BTreeSet<(NsId, IpAddr)> = BTreeSet::new();
    for loss in cx.losses() {
        for hop in loss.hops {
            let dst = hop.packet.dst;
            if cx.world.space(hop.ns).name.id.is_none() && looked.insert((hop.ns, dst)) {
                out.extend(look(cx, hop.ns, dst));
            }
        }
    }
    out
}

fn look(cx: &Cx<'_, '_>, ns: NsId, dst: IpAddr) -> Option<Finding> {
    let node = cx.node(ns);
    let of = cx.names.whose(dst).find_map(|whose| match whose {
        Whose::Pod(pod) => node_of(cx, pod),
        _ => None,
    })?;
    if of == node || has_route(cx, ns, dst) {
        return None;
    }
    let snapshot = cx.world.snapshot;
    let files = snapshot.paths().filter_map(|path| Some((path, snapshot.bytes(path)?)));
    let said = routing_daemon::of_node(snapshot.node(node)?, files);
    let context = resolve::Context {
        world: cx.world,
        names: cx.names,
    };
    let addresses = resolve::node_addresses(context, &of);
    let to_it = |neighbour: Option<IpAddr>| neighbour.is_some_and(|a| addresses.contains(&a));
    let known = said
        .routes
        .iter()
        .find(|(_, _, r)| r.prefix.prefix_len() > 0 && r.prefix.contains(&dst));
    let session = said.sessions.iter().find(|(_, _, s)| to_it(s.neighbour));
    let evidence = |path: &str, at| Evidence {
        artifact: path.into(),
        at,
        handle: None,
        text: snapshot
            .row_text(path, at)
            .map(|text| text.chars().take(200).collect::<String>())
            .unwrap_or_default()
            .into(),
    };
    let (daemon, why, rows) = match (known, session) {
        (Some((daemon, path, route)), _) if !is_own_block(&route.from) => (
            *daemon,
            WhyNoRoute::NotInKernel {
                from: route.from.clone(),
            },
            vec![evidence(path, route.at)],
        ),
        (_, Some((daemon, path, session))) if !session.is_up() => (
            *daemon,
            WhyNoRoute::SessionDown {
                session: session.name.clone(),
                state: session.state.clone(),
                error: session.error.clone(),
            },
            vec![evidence(path, session.at)],
        ),
        // Only who has the daemon's routes can say that one is not among them.
        (None, Some((daemon, path, session))) if said.routes_known(path, Family::of(dst)) => (
            *daemon,
            WhyNoRoute::NotAnnounced {
                session: session.name.clone(),
            },
            vec![evidence(path, session.at)],
        ),
        (None, None) if said.sessions.iter().all(|(_, _, s)| s.neighbour.is_some()) => {
            let (daemon, _, _) = said.sessions.first()?;
            (*daemon, WhyNoRoute::NoSession, Vec::new())
        }
        _ => return None,
    };
    let what = Found::NoBgpRoute {
        node: node.to_owned(),
        of,
        dst,
        daemon,
        why,
    };
    Some(Cx::found(Severity::Warning, what, rows))
}

/// A block of the node's own, which it blackholes, is no route to another node.
fn is_own_block(from: &str) -> bool {
    from.starts_with("static") || from.starts_with("kernel") || from == "(unspec)"
}

fn node_of(cx: &Cx<'_, '_>, pod: &crate::names::Named) -> Option<String> {
    let entry = cx.names.pod(pod)?;
    let by_object = entry.object.and_then(|o| o.node.clone());
    by_object.or_else(|| Some(cx.node(entry.ns?).to_owned()))
}

/// Some table but the default route leads there.
fn has_route(cx: &Cx<'_, '_>, ns: NsId, dst: IpAddr) -> bool {
    let routes = cx.world.space(ns).facts.routes(Family::of(dst)).get();
    // Where nobody looked, nobody can say that it is missing.
    routes.is_none_or(|table| {
        table.rows.iter().any(|r| {
            r.kind == RouteKind::Unicast && r.table != TableId::LOCAL && r.dst.prefix_len() > 0 && r.dst.contains(&dst)
        })
    })
}
