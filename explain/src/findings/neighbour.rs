//! A neighbour entry that sends frames to the wrong place, or to nobody.

use std::net::IpAddr;

use ipnet::IpNet;
use knet_dataplane::trace::{Evidence, NsId, Reason, What};
use knet_snapshot::artifact::name;
use knet_snapshot::id::Mac;
use knet_snapshot::link::Address;

use super::{Cx, Finding, Found, Severity};
use crate::names::Whose;

/// The address of a namespace by whose prefix another one is taken to be on its link.
fn address(cx: &Cx<'_, '_>, ns: NsId, of: IpAddr) -> Option<Evidence> {
    let facts = cx.world.space(ns).facts;
    let net = |row: &Address| IpNet::new(row.local, row.prefix_len).is_ok_and(|net| net.contains(&of));
    let row = facts.addrs().get()?.rows.iter().find(|row| net(row))?;
    Some(Evidence {
        artifact: facts.path(name::ADDR),
        at: row.at,
        handle: None,
        text: format!("{}/{}", row.local, row.prefix_len).into(),
    })
}

/// Compares the MAC of the entry with the MAC of the device that has the address.
pub(super) fn check(cx: &Cx<'_, '_>) -> Vec<Finding> {
    let mut out = Vec::new();
    for loss in cx.losses() {
        let near = matches!(
            loss.end.reason,
            Reason::WrongMac | Reason::NoNeighbour | Reason::NoFloodTarget | Reason::NoTunnelRemote
        );
        if !near {
            continue;
        }
        let Some(hop) = loss.hops.last() else { continue };
        for step in &hop.steps {
            let What::Neighbour { addr, mac, .. } = step.what else {
                continue;
            };
            let should = mac_of(cx, addr);
            // Of an address that nobody has, no entry is what there should be.
            if mac == should {
                continue;
            }
            let nobody = should.is_none() && cx.names.whose(addr).next().is_none();
            if nobody && cx.dnats().any(|d| d.to.0 == addr) {
                // `drift` says it: rules send to an address that is gone.
                continue;
            }
            if let (None, Some(of)) = (mac, node_of(cx, addr).filter(|of| *of != cx.node(hop.ns))) {
                let prefix = hop.steps.iter().rev().find_map(|s| match &s.what {
                    What::Route { via: None, .. } => s.evidence.first().cloned(),
                    _ => None,
                });
                let what = Found::NotOnLink {
                    place: cx.place(hop.ns),
                    addr,
                    of: of.to_owned(),
                };
                let rows = prefix.into_iter().chain(address(cx, hop.ns, addr)).collect();
                out.push(Cx::found(Severity::Error, what, rows));
                continue;
            }
            let dev = hop
                .oif
                .or(loss.end.place.oif)
                .map(|d| cx.world.space(hop.ns).links().name(d).to_owned());
            let evidence: Vec<Evidence> = step.evidence.clone();
            let what = Found::WrongNeighbour {
                node: cx.place(hop.ns),
                dev: dev.unwrap_or_else(|| "?".to_owned()),
                addr,
                has: mac,
                should,
            };
            out.push(Cx::found(Severity::Error, what, evidence));
        }
    }
    out
}

/// The node that an address is on, when it is a pod's or a node's own.
fn node_of<'s>(cx: &Cx<'_, 's>, addr: IpAddr) -> Option<&'s str> {
    cx.names.whose(addr).find_map(|whose| match whose {
        Whose::Pod(pod) => Some(cx.node(cx.names.pod(pod)?.ns?)),
        Whose::Node(node) => Some(cx.node(cx.names.node(node)?.ns?)),
        Whose::Netns(ns) => Some(cx.node(*ns)),
        Whose::ClusterIp(_) | Whose::LoadBalancer(_) | Whose::ExternalIp(_) => None,
    })
}

/// The MAC of the device that has an address, when exactly one captured namespace has it.
fn mac_of(cx: &Cx<'_, '_>, addr: IpAddr) -> Option<Mac> {
    let mut spaces = Vec::new();
    for whose in cx.names.whose(addr) {
        match whose {
            Whose::Pod(pod) => spaces.extend(cx.names.pod(pod).and_then(|p| p.ns)),
            Whose::Node(node) => spaces.extend(cx.names.node(node).and_then(|n| n.ns)),
            Whose::Netns(ns) => spaces.push(*ns),
            Whose::ClusterIp(_) | Whose::LoadBalancer(_) | Whose::ExternalIp(_) => {}
        }
    }
    let found = spaces.iter().filter_map(|ns| {
        let links = cx.world.space(*ns).links();
        links.owner(addr).and_then(|dev| links.get(dev)).and_then(|l| l.mac)
    });
    found.into_iter().next()
}
