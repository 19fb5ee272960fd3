//! A load balancer's source ranges keep the client out.

use knet_dataplane::trace::Reason;

use super::{Cx, Finding, Found, RuleAt, Severity};
use crate::service_chain;

/// kube-proxy's firewall chain of a service dropped the packet: `KUBE-PROXY-FIREWALL` with the comment
/// "traffic not accepted by KUBE-FW-…", or `firewall-…` of its nftables mode.
pub(super) fn check(cx: &Cx<'_, '_>) -> Vec<Finding> {
    let mut out = Vec::new();
    for loss in cx.losses().filter(|l| l.end.reason == Reason::Rule) {
        let Some(ns) = loss.end.place.ns else { continue };
        let steps = loss.hops.last().into_iter().flat_map(|h| h.steps.iter().rev());
        let Some(rule) = steps.filter_map(RuleAt::of).next() else {
            continue;
        };
        let service = if rule.chain == "KUBE-PROXY-FIREWALL" {
            service_chain::of_comment(&rule.row.text)
        } else if rule.chain.starts_with("firewall-") {
            service_chain::of_nft_chain(rule.chain).map(|(port, _)| port)
        } else {
            None
        };
        let Some(service) = service else { continue };
        let ranges = cx
            .names
            .service(&service.service)
            .map(|s| s.source_ranges.clone())
            .unwrap_or_default();
        let src = loss.end.packet.src;
        let what = Found::SourceRanges {
            node: cx.node(ns).to_owned(),
            service,
            src,
            ranges,
        };
        out.push(Cx::found(Severity::Error, what, vec![rule.row.clone()]));
    }
    out
}
