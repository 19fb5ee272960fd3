//! VXLAN forwarding entries compared with the peers' own tunnel devices.

use std::net::IpAddr;

use knet_dataplane::trace::{Evidence, NsId, Reason, What};
use knet_snapshot::id::Mac;
use knet_snapshot::link::LinkKind;

use super::{Cx, Finding, Found, Severity};

/// The MAC a frame was to go to belongs to the tunnel device of a node; the entry must name that node.
pub(super) fn check(cx: &Cx<'_, '_>) -> Vec<Finding> {
    let mut out = Vec::new();
    for branch in cx.branches {
        let reply = branch.reply.iter().flat_map(|r| &r.hops);
        for hop in branch.hops.iter().chain(reply) {
            let mac = hop.steps.iter().rev().find_map(|s| match s.what {
                What::Neighbour { mac, .. } => mac,
                _ => None,
            });
            for step in &hop.steps {
                if let (What::Encap { dev, remote, .. }, Some(mac)) = (&step.what, mac) {
                    out.extend(compare(cx, hop.ns, *dev, mac, *remote, &step.evidence));
                }
            }
        }
    }
    for loss in cx.losses().filter(|l| l.end.reason == Reason::NoTunnelRemote) {
        let Some(hop) = loss.hops.last() else { continue };
        let mac = hop.steps.iter().rev().find_map(|s| match s.what {
            What::Neighbour { mac, .. } => mac,
            _ => None,
        });
        let dev = loss.end.place.oif.or(hop.oif);
        if let (Some(mac), Some(dev)) = (mac, dev) {
            out.extend(compare(cx, hop.ns, dev, mac, None, &loss.end.evidence));
        }
    }
    out
}

fn compare(
    cx: &Cx<'_, '_>,
    ns: NsId,
    dev: knet_snapshot::id::IfIndex,
    mac: Mac,
    has: Option<IpAddr>,
    evidence: &[Evidence],
) -> Option<Finding> {
    let links = cx.world.space(ns).links();
    let link = links.get(dev)?;
    if !matches!(link.kind, LinkKind::Vxlan(_)) {
        return None;
    }
    let (of, should) = cx.names.all_nodes().find_map(|(name, n)| {
        let links = cx.world.space(n.ns?).links();
        links.iter().find_map(|l| match &l.kind {
            LinkKind::Vxlan(info) if l.mac == Some(mac) => Some((name.to_owned(), info.local?)),
            _ => None,
        })
    })?;
    if has == Some(should) {
        return None;
    }
    let what = Found::VxlanRemote {
        node: cx.node(ns).to_owned(),
        dev: link.name.clone(),
        mac,
        has,
        should,
        of,
    };
    Some(Cx::found(Severity::Error, what, evidence.to_vec()))
}
