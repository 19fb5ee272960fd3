//! A blackhole, unreachable or prohibit route or rule took the packet.

use ipnet::IpNet;
use knet_dataplane::trace::{Reason, What};
use knet_snapshot::id::Family;
use knet_snapshot::route::RouteKind;

use super::{Cx, Finding, Found, Severity};

/// Says which prefix it has and whose pod subnet it cuts.
pub(super) fn check(cx: &Cx<'_, '_>) -> Vec<Finding> {
    let mut out = Vec::new();
    for loss in cx.losses() {
        let kind = match loss.end.reason {
            Reason::BlackholeRoute => RouteKind::Blackhole,
            Reason::UnreachableRoute => RouteKind::Unreachable,
            Reason::ProhibitRoute => RouteKind::Prohibit,
            _ => continue,
        };
        let Some(ns) = loss.end.place.ns else { continue };
        let dst = loss.end.packet.dst;
        let prefix = loss.end.evidence.iter().find_map(|evidence| {
            let table = cx.world.space(ns).facts.routes(Family::of(dst)).get()?;
            (table.artifact == evidence.artifact)
                .then(|| table.rows.iter().find(|r| r.at == evidence.at))??
                .dst
                .into()
        });
        let covers = cx.names.all_nodes().find_map(|(name, n)| {
            n.object?
                .pod_cidrs
                .iter()
                .any(|c: &IpNet| c.contains(&dst))
                .then(|| name.to_owned())
        });
        // The walk's last route step is the same row; its kind is what was met.
        let steps = loss.hops.last().into_iter().flat_map(|h| h.steps.iter().rev());
        let met = steps.into_iter().find_map(|s| match s.what {
            What::Route { kind, .. } if !matches!(kind, RouteKind::Unicast | RouteKind::Local) => Some(kind),
            _ => None,
        });
        let what = Found::BadRoute {
            node: cx.place(ns),
            kind: met.unwrap_or(kind),
            prefix,
            covers,
        };
        out.push(Cx::found(Severity::Error, what, loss.end.evidence.clone()));
    }
    out
}
