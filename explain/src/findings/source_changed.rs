//! The server sees another source than the client's: by which rule, and why.

use std::net::IpAddr;

use knet_dataplane::trace::{Evidence, RuleVerdict, What};

use super::{Cx, Finding, Found, Severity, WhySource};
use crate::names::Whose;
use crate::owner::{self, Owner};

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

/// kube-proxy marks in one place and masquerades in another: the rule that jumped to `KUBE-MARK-MASQ` is why.
fn why(
    cx: &Cx<'_, '_>,
    steps: &[knet_dataplane::trace::Step],
    owner: Option<Owner>,
    src: IpAddr,
    dst: IpAddr,
) -> (WhySource, Vec<Evidence>) {
    let pod = |addr: IpAddr| cx.names.whose(addr).any(|w| matches!(w, Whose::Pod(_)));
    if owner != Some(Owner::KubeProxy) {
        let why = match (pod(src), pod(dst)) {
            (true, false) => WhySource::LeavesPodNetwork,
            (false, true) => WhySource::EntersPodNetwork,
            _ => WhySource::Rule,
        };
        return (why, Vec::new());
    }
    let marking = steps.iter().find_map(|s| match &s.what {
        What::Rule {
            chain,
            verdict: Some(RuleVerdict::Jump(to)),
            ..
        } if &**to == "KUBE-MARK-MASQ" => Some((chain, s.evidence.clone())),
        _ => None,
    });
    match marking {
        Some((chain, evidence)) if chain.starts_with("KUBE-SEP-") => (WhySource::Hairpin, evidence),
        Some((chain, evidence)) if chain.starts_with("KUBE-EXT-") || chain.starts_with("KUBE-XLB-") => {
            (WhySource::ExternalCluster, evidence)
        }
        Some((chain, evidence)) if chain.starts_with("KUBE-SVC-") || chain.starts_with("KUBE-SVL-") => {
            (WhySource::OffClusterSource, evidence)
        }
        Some((_, evidence)) => (WhySource::Marked, evidence),
        None => (WhySource::Marked, Vec::new()),
    }
}
