//! Connections that were there at capture and match the question but for the source port.

use std::collections::BTreeMap;

use knet_dataplane::trace::Evidence;

use super::{Cx, Finding, Found, Severity, Socket};

/// Looks in the node's own namespace where the request is first translated, or would be.
pub(super) fn check(cx: &Cx<'_, '_>) -> Vec<Finding> {
    let Some(hop) = cx.request_hops().find(|h| cx.world.space(h.ns).name.id.is_none()) else {
        return Vec::new();
    };
    let facts = cx.world.space(hop.ns).facts;
    let Some(table) = facts.conntrack().get() else {
        return Vec::new();
    };
    let dport = cx.sent.dport().map(|p| p.value);
    let mut to: BTreeMap<(Socket, bool), (usize, u64, u32)> = BTreeMap::new();
    for c in &table.rows {
        let fits = c.proto == cx.sent.proto
            && c.orig.src == cx.sent.src
            && c.orig.dst == cx.sent.dst
            && dport.is_some_and(|p| p == c.orig.dport);
        // A connection that is over leads nowhere any more.
        let over = matches!(
            c.state.as_deref(),
            Some("TIME_WAIT" | "CLOSE" | "CLOSE_WAIT" | "LAST_ACK" | "FIN_WAIT")
        );
        if fits && !over {
            let server = (c.reply.src, Some(c.reply.sport));
            let entry = to.entry((server, c.unreplied)).or_insert((0, c.at.start, c.at.len));
            entry.0 += 1;
        }
    }
    if to.is_empty() {
        return Vec::new();
    }
    // Where this node sends the packet: another node may translate it again.
    let reached: Vec<Socket> = cx
        .request_hops()
        .filter(|h| h.ns == hop.ns)
        .map(|h| (h.packet.dst, h.packet.dport().map(|p| p.value)))
        .collect();
    // A connection without an answer goes nowhere but over UDP, where each packet keeps it alive.
    let alive = |unreplied: bool| !unreplied || cx.sent.proto == knet_dataplane::packet::proto::UDP;
    let elsewhere = to
        .keys()
        .any(|&(server, unreplied)| alive(unreplied) && !reached.contains(&server));
    let evidence = to
        .values()
        .filter_map(|&(_, start, len)| {
            let at = knet_snapshot::Row { start, len };
            let text = cx.world.snapshot.row_text(&table.artifact, at)?;
            let text = text.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
            Some(Evidence {
                artifact: table.artifact.clone(),
                at,
                handle: None,
                text: text.into(),
            })
        })
        .collect();
    let what = Found::Captured {
        node: cx.node(hop.ns).to_owned(),
        count: to.values().map(|(n, _, _)| n).sum(),
        to: to
            .into_iter()
            .map(|((server, unreplied), (n, _, _))| (server, n, unreplied))
            .collect(),
    };
    let severity = if elsewhere { Severity::Warning } else { Severity::Info };
    vec![Cx::found(severity, what, evidence)]
}
