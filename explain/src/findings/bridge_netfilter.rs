//! Replies that cross a bridge without meeting netfilter are never translated back.

use knet_dataplane::trace::{Outcome, Reason, Stage};
use knet_snapshot::id::Family;

use super::{Cx, Finding, Found, Severity};

/// The request was translated, the reply arrived with the wrong address, and it was bridged on a node
/// where bridged packets do not pass netfilter.
pub(super) fn check(cx: &Cx<'_, '_>) -> Vec<Finding> {
    let mut out = Vec::new();
    let key = match Family::of(cx.sent.dst) {
        Family::V4 => "net.bridge.bridge-nf-call-iptables",
        Family::V6 => "net.bridge.bridge-nf-call-ip6tables",
    };
    for branch in cx.branches {
        let Some(reply) = &branch.reply else { continue };
        let stranger = reply.end.outcome == Outcome::Delivered || reply.end.reason == Reason::UnexpectedReply;
        if !branch.dnat || reply.fits || !stranger {
            continue;
        }
        let Some(hop) = reply.hops.iter().find(|h| h.stage == Stage::Bridge) else {
            continue;
        };
        let space = cx.world.space(hop.ns);
        let value = space.sysctl().get(key);
        if value == Some(1) {
            continue;
        }
        let bridge = hop
            .iif
            .and_then(|dev| space.links().get(dev))
            .and_then(|l| l.master.clone())
            .unwrap_or_else(|| "?".to_owned());
        let what = Found::BridgeNetfilter {
            node: cx.node(hop.ns).to_owned(),
            bridge,
            key,
            value,
        };
        out.push(Cx::found(Severity::Error, what, space.sysctl().evidence(key)));
    }
    out
}
