//! The server sees another source than the client's: by which rule, and why.

use std::net::IpAddr;

use knet_dataplane::trace::{Engine, Evidence, RuleVerdict, Step, What};

use super::{Cx, Finding, Found, RuleAt, Severity, WhySource};
use crate::names::Whose;
use crate::owner::{self, Owner};
use crate::service_chain::{self, Role};

/// One finding for each node and reason.
pub(super) fn check(cx: &Cx<'_, '_>) -> Vec<Finding> {
    let mut out: Vec<Finding> = Vec::new();
    for branch in cx.branches {
        for hop in &branch.hops {
            for (i, step) in hop.steps.iter().enumerate() {
                let What::Nat { source: true, from, to } = &step.what else {
                    continue;
                };
                if from.0 == to.0 {
                    continue;
                }
                let Some(rule) = i.checked_sub(1).map(|i| &hop.steps[i]) else {
                    continue;
                };
                let What::Rule {
                    engine, table, chain, ..
                } = &rule.what
                else {
                    continue;
                };
                let text = rule.evidence.first().map_or("", |e| &*e.text);
                let owner = owner::of_rule(*engine, table, chain, text);
                let (why, mut evidence) = why(cx, &hop.steps[..i], owner, from.0, hop.packet.dst);
                evidence.extend(rule.evidence.iter().cloned());
                let node = cx.node(hop.ns);
                let same = out.iter_mut().find_map(|f| match &mut f.what {
                    Found::SourceChanged {
                        node: n,
                        to,
                        why: w,
                        owner: o,
                    } if n == node && *w == why && *o == owner => Some((to, &mut f.evidence)),
                    _ => None,
                });
                match same {
                    Some((addresses, rows)) => {
                        if !addresses.contains(&to.0) {
                            addresses.push(to.0);
                        }
                        evidence.retain(|e| !rows.contains(e));
                        rows.append(&mut evidence);
                    }
                    None => {
                        let what = Found::SourceChanged {
                            node: node.to_owned(),
                            to: vec![to.0],
                            why,
                            owner,
                        };
                        out.push(Cx::found(Severity::Info, what, evidence));
                    }
                }
            }
        }
    }
    out
}

/// kube-proxy marks in one place and masquerades in another: where the mark was set is why.
fn why(cx: &Cx<'_, '_>, steps: &[Step], owner: Option<Owner>, src: IpAddr, dst: IpAddr) -> (WhySource, Vec<Evidence>) {
    let pod = |addr: IpAddr| cx.names.whose(addr).any(|w| matches!(w, Whose::Pod(_)));
    if owner != Some(Owner::KubeProxy) {
        let why = match (pod(src), pod(dst)) {
            (true, false) => WhySource::LeavesPodNetwork,
            (false, true) => WhySource::EntersPodNetwork,
            _ => WhySource::Rule,
        };
        return (why, Vec::new());
    }
    let rule = steps.last().and_then(RuleAt::of);
    if rule.is_some_and(|r| r.row.text.contains("@hairpin-connections")) {
        return (WhySource::Hairpin, Vec::new());
    }
    // iptables: the rule that jumps to the marking chain; nftables: the marking rule itself.
    let marking = steps.iter().find(|s| match &s.what {
        What::Rule {
            verdict: Some(RuleVerdict::Jump(to)),
            ..
        } => &**to == "KUBE-MARK-MASQ",
        What::Rule {
            engine: Engine::Nft, ..
        } => s.evidence.iter().any(|e| e.text.contains("meta mark set meta mark |")),
        _ => false,
    });
    let Some(rule) = marking.and_then(RuleAt::of) else {
        return (WhySource::Marked, Vec::new());
    };
    let why = match service_chain::role(rule.chain) {
        Some(Role::Endpoint) => WhySource::Hairpin,
        Some(Role::External | Role::ExternalOld) => WhySource::ExternalCluster,
        // `! -s clusterCIDR`, or `! -i` a bridge or prefix: only what is no pod. Without it, everything.
        Some(Role::Cluster | Role::Local) if rule.row.text.contains(" ! -") => WhySource::OffClusterSource,
        Some(Role::Cluster | Role::Local) => WhySource::MasqueradeAll,
        _ if rule.chain.starts_with("external-") => WhySource::ExternalCluster,
        _ if rule.chain == "services" && rule.row.text.contains("!=") => WhySource::OffClusterSource,
        _ if rule.chain == "services" => WhySource::MasqueradeAll,
        _ => WhySource::Marked,
    };
    (why, marking.map(|s| s.evidence.clone()).unwrap_or_default())
}
