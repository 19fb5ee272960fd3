//! A pod that reaches itself through a service: the frame has to leave by the port it came in by.

use knet_dataplane::trace::{FdbTo, Reason, What};

use super::{Cx, Finding, Found, Severity};

/// The port and its bridge.
pub(super) fn check(cx: &Cx<'_, '_>) -> Vec<Finding> {
    let losses = cx.losses().filter(|l| l.end.reason == Reason::NoHairpin);
    losses
        .filter_map(|loss| {
            let ns = loss.end.place.ns?;
            let space = cx.world.space(ns);
            let hop = loss.hops.last()?;
            let out = hop.steps.iter().rev().find_map(|s| match s.what {
                What::Fdb {
                    to: FdbTo::Port(port), ..
                } => Some(port),
                _ => None,
            });
            let dev = out.or(hop.iif)?;
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
