//! The reverse path check dropped the packet.

use knet_dataplane::trace::Reason;

use super::{Cx, Finding, Found, Severity};
use crate::resolve;

/// The device it came in by, the device the way back takes, and the value in force.
pub(super) fn check(cx: &Cx<'_, '_>) -> Vec<Finding> {
    let losses = cx.losses().filter(|l| l.end.reason == Reason::RpFilter);
    losses
        .filter_map(|loss| {
            let ns = loss.end.place.ns?;
            let space = cx.world.space(ns);
            let hop = loss.hops.last()?;
            let iif = hop.iif?;
            // Of a bridge port the network layer sees the bridge.
            let link = space.links().get(iif)?;
            let dev = link.master.clone().unwrap_or_else(|| link.name.clone());
            let src = loss.end.packet.src;
            let back = resolve::way_to(cx.world, ns, src).map(|oif| space.links().name(oif).to_owned());
            let value = space.sysctl().conf4_max(&dev, "rp_filter");
            let what = Found::RpFilter {
                node: cx.place(ns),
                dev,
                src,
                back,
                value,
            };
            Some(Cx::found(Severity::Error, what, loss.end.evidence.clone()))
        })
        .collect()
}
