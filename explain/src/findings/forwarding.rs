//! Forwarding is off.

use knet_dataplane::trace::Reason;
use knet_snapshot::id::Family;

use super::{Cx, Finding, Found, Severity};

/// The setting behind a packet that was not forwarded.
pub(super) fn check(cx: &Cx<'_, '_>) -> Vec<Finding> {
    let losses = cx.losses().filter(|l| l.end.reason == Reason::ForwardingOff);
    losses
        .filter_map(|loss| {
            let ns = loss.end.place.ns?;
            let sysctl = cx.world.space(ns).sysctl();
            let keys: &[&str] = match Family::of(loss.end.packet.dst) {
                Family::V4 => &["net.ipv4.ip_forward", "net.ipv4.conf.all.forwarding"],
                Family::V6 => &["net.ipv6.conf.all.forwarding"],
            };
            let off = keys.iter().find(|k| sysctl.get(k) == Some(0)).map(|k| (*k).to_owned());
            let iif = loss
                .hops
                .last()
                .and_then(|h| h.iif)
                .map(|dev| cx.world.space(ns).links().name(dev));
            let family = if loss.end.packet.dst.is_ipv6() { "ipv6" } else { "ipv4" };
            let key = off.unwrap_or_else(|| format!("net.{family}.conf.{}.forwarding", iif.unwrap_or("all")));
            let what = Found::ForwardingOff {
                node: cx.place(ns),
                key,
            };
            Some(Cx::found(Severity::Error, what, loss.end.evidence.clone()))
        })
        .collect()
}
