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
        // A save can have 50 MB: rules are counted only where both back ends hold some.
        if rules(cx, ns, legacy).next().is_some() && rules(cx, ns, nft).next().is_some() {
            let (legacy, nft) = (rules(cx, ns, legacy).count(), rules(cx, ns, nft).count());
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

/// The lines of a save that are rules, with or without counters.
fn rules<'c>(cx: &'c Cx<'_, '_>, ns: NsId, file: &'static str) -> impl Iterator<Item = &'c [u8]> {
    let bytes = cx.world.space(ns).facts.bytes(file).get().copied().unwrap_or_default();
    let is_rule = |line: &&[u8]| {
        let rest = match line {
            [b'[', counters @ ..] => counters
                .iter()
                .position(|b| *b == b']')
                .map_or(*line, |end| counters[end + 1..].trim_ascii_start()),
            _ => line,
        };
        rest.starts_with(b"-A ")
    };
    bytes.split(|b| *b == b'\n').filter(is_rule)
}
