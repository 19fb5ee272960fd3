//! A node without service rules, while other nodes have them.

use knet_dataplane::trace::NsId;
use knet_snapshot::artifact::name;
use knet_snapshot::id::Family;

use super::{Cx, Finding, Found, Severity};

/// The request passes, or comes to, a node that knows no services although it is addressed to one.
pub(super) fn check(cx: &Cx<'_, '_>) -> Vec<Finding> {
    let port = cx.sent.dport().map(|p| p.value);
    let to_service = cx.names.whose(cx.sent.dst).any(|w| {
        use crate::names::Whose::{ClusterIp, ExternalIp, LoadBalancer};
        matches!(w, ClusterIp(_) | LoadBalancer(_) | ExternalIp(_))
    }) || port
        .is_some_and(|p| cx.names.node_at(cx.sent.dst).is_some() && cx.names.node_ports().contains(&p));
    if !to_service || cx.branches.iter().any(|b| b.dnat) {
        return Vec::new();
    }
    // A node's address is for that node to translate; a service's for the first node on the way.
    let own = cx
        .names
        .node_at(cx.sent.dst)
        .and_then(|n| cx.names.node(n))
        .and_then(|n| n.ns);
    let first = || {
        cx.request_hops()
            .map(|h| h.ns)
            .find(|ns| cx.world.space(*ns).name.id.is_none())
    };
    let Some(ns) = own.or_else(first) else {
        return Vec::new();
    };
    if serves(cx, ns, Family::of(cx.sent.dst)) != Some(false) {
        return Vec::new();
    }
    let others: Vec<String> = cx
        .names
        .all_nodes()
        .filter(|(_, n)| {
            n.ns.is_some_and(|ns| serves(cx, ns, Family::of(cx.sent.dst)) == Some(true))
        })
        .map(|(n, _)| n.to_owned())
        .collect();
    if others.is_empty() {
        return Vec::new();
    }
    let what = Found::NoKubeProxy {
        node: cx.node(ns).to_owned(),
        others,
    };
    vec![Cx::found(Severity::Error, what, Vec::new())]
}

/// Does a node hold service rules of any mode? `None`: not everything was captured.
fn serves(cx: &Cx<'_, '_>, ns: NsId, family: Family) -> Option<bool> {
    let facts = cx.world.space(ns).facts;
    let files = match family {
        Family::V4 => [name::IPTABLES_NFT, name::IPTABLES_LEGACY, name::NFT_JSON, name::IPVS],
        Family::V6 => [name::IP6TABLES_NFT, name::IP6TABLES_LEGACY, name::NFT_JSON, name::IPVS],
    };
    let mut unknown = false;
    for file in files {
        let fact = facts.bytes(file);
        let Some(bytes) = fact.get() else {
            unknown |= !matches!(file, name::IPVS);
            continue;
        };
        let text = String::from_utf8_lossy(bytes);
        let found = match file {
            name::NFT_JSON => text.contains("\"service-ips\""),
            name::IPVS => text.lines().any(|l| l.starts_with("-A")),
            _ => text.contains("\n:KUBE-SERVICES "),
        };
        if found {
            return Some(true);
        }
    }
    if unknown { None } else { Some(false) }
}
