//! Which service kube-proxy refused, and for want of which endpoints.

use knet_dataplane::trace::{Evidence, Reason, What};

use super::{Cx, Loss, RuleAt};
use crate::owner::Owner;
use crate::service_chain::{self, ServicePortName};

/// A refusal.
pub(super) struct Refusal {
    /// The service port that was asked.
    pub service: ServicePortName,
    /// There are endpoints, but a policy of `Local` keeps them from this node.
    pub local: bool,
    /// The rows that say so.
    pub evidence: Vec<Evidence>,
}

/// Chains of the nftables mode that refuse services: what they refuse stands in maps.
const CHAINS: &[&str] = &["reject-chain", "service-endpoints-check", "nodeport-endpoints-check"];

/// Reads the refusal out of a loss. kube-proxy's iptables mode says it in the comment of the rule.
pub(super) fn of(cx: &Cx<'_, '_>, loss: &Loss<'_>) -> Option<Refusal> {
    if !matches!(loss.end.reason, Reason::RejectRule | Reason::Rule) {
        return None;
    }
    let steps = || loss.hops.last().into_iter().flat_map(|h| h.steps.iter().rev());
    let rows = steps()
        .filter(|s| matches!(s.what, What::Rule { .. }))
        .flat_map(|s| &s.evidence);
    let says = |e: &&Evidence| e.text.contains("has no endpoints") || e.text.contains("has no local endpoints");
    if let Some(row) = loss.end.evidence.iter().chain(rows).find(says) {
        return Some(Refusal {
            service: service_chain::of_comment(&row.text)?,
            local: row.text.contains("has no local endpoints"),
            evidence: vec![row.clone()],
        });
    }
    let rule = steps().find_map(RuleAt::of)?;
    if rule.owner() != Some(Owner::KubeProxy) || !CHAINS.contains(&rule.chain) {
        return None;
    }
    let packet = &loss.end.packet;
    let service = cx.service_at(packet.dst, packet.dport()?.value, packet.proto)?;
    // kube-proxy refuses aloud what has no endpoints, and drops what has them on other nodes only.
    let local = loss.end.reason == Reason::Rule;
    let chain = steps().filter(|s| RuleAt::of(s).is_some_and(|r| CHAINS.contains(&r.chain)));
    let evidence = chain.flat_map(|s| s.evidence.iter().cloned()).collect();
    Some(Refusal {
        service,
        local,
        evidence,
    })
}
