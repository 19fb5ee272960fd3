//! A pod that reaches itself through a service: the frame has to leave by the port it came in by.

use knet_dataplane::trace::Reason;

use super::{Cx, Finding, Found, Severity};

/// The port and its bridge.
pub(super) fn check(cx: &Cx<'_, '_>) -> Vec<Finding> {
    let losses = cx.losses().filter(|l| l.end.reason == Reason::NoHairpin);
    losses
        .filter_map(|loss| {
            let ns = loss.end.place.ns?;
            let space = cx.world.space(ns);
            let dev = loss.end.place.oif.or_else(|| loss.hops.last().and_then(|h| h.iif))?;
            let link = space.links().get(dev)?;
            let what = Found::Hairpin {
                node: cx.node(ns).to_owned(),
                port: link.name.clone(),
                bridge: link.master.clone(),
            };
            Some(Cx::found(Severity::Error, what, loss.end.evidence.clone()))
        })
        .collect()
}
