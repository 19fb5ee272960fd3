//! Both iptables back ends hold rules: a packet has to pass both, and tools show one.

use std::collections::BTreeSet;

use knet_dataplane::trace::NsId;
use knet_snapshot::artifact::name;
use knet_snapshot::id::Family;

use super::{Cx, Finding, Found, Severity};

/// Looks at every node's own namespace on the way.
pub(super) fn check(cx: &Cx<'_, '_>) -> Vec<Finding> {
    let family = Family::of(cx.sent.dst);
    let (legacy, nft) = match family {
        Family::V4 => (name::IPTABLES_LEGACY, name::IPTABLES_NFT),
        Family::V6 => (name::IP6TABLES_LEGACY, name::IP6TABLES_NFT),
    };
    let places: BTreeSet<NsId> = cx.request_hops().map(|h| h.ns).collect();
    let mut out = Vec::new();
    for ns in places {
        let (legacy, nft) = (rules(cx, ns, legacy), rules(cx, ns, nft));
        if legacy > 0 && nft > 0 {
            let node = cx.place(ns);
            let what = Found::TwoBackEnds {
                node,
                legacy,
                nft,
                family_v6: family == Family::V6,
            };
            out.push(Cx::found(Severity::Warning, what, Vec::new()));
        }
    }
    out
}

/// Rules in a save, not counting the chain that only shows which back end the kubelet uses.
fn rules(cx: &Cx<'_, '_>, ns: NsId, file: &'static str) -> usize {
    let fact = cx.world.space(ns).facts.bytes(file);
    let Some(bytes) = fact.get() else { return 0 };
    bytes
        .split(|b| *b == b'\n')
        .filter(|line| {
            line.starts_with(b"-A ")
                || (line.starts_with(b"[") && line.windows(4).any(|w| w == b" -A " || w == b"]-A "))
        })
        .count()
}
