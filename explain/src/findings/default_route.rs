//! A pod that has no default route.

use knet_dataplane::trace::{Reason, What};

use super::{Cx, Finding, Found, Severity};

/// A namespace other than a node's own found no route.
pub(super) fn check(cx: &Cx<'_, '_>) -> Vec<Finding> {
    let mut out = Vec::new();
    for loss in cx.losses() {
        let Some(ns) = loss.end.place.ns else { continue };
        let no_route = loss.end.reason == Reason::NoRoute
            || loss
                .hops
                .last()
                .is_some_and(|h| h.steps.iter().any(|s| matches!(s.what, What::NoRoute)));
        if !no_route || cx.world.space(ns).name.id.is_none() {
            continue;
        }
        let family = knet_snapshot::id::Family::of(loss.end.packet.dst);
        let routes = cx.world.space(ns).facts.routes(family);
        if routes
            .get()
            .is_some_and(|t| !t.rows.iter().any(|r| r.dst.prefix_len() == 0))
        {
            let what = Found::NoDefaultRoute { pod: cx.place(ns) };
            out.push(Cx::found(Severity::Error, what, loss.end.evidence.clone()));
        }
    }
    out
}
