//! The masquerade mark (0x4000) is kube-proxy's; another program's rule set or cleared it.

use knet_dataplane::trace::{Field, What};

use super::{Cx, Finding, Found, Severity};
use crate::owner::{self, Owner};

/// Bit 14, kube-proxy's default (`--iptables-masquerade-bit`).
const MASQUERADE: u32 = 0x4000;

/// Rewrites of the mark that touch the bit, by rules of others.
pub(super) fn check(cx: &Cx<'_, '_>) -> Vec<Finding> {
    let mut out = Vec::new();
    for hop in cx.request_hops() {
        for (i, step) in hop.steps.iter().enumerate() {
            let What::Rewrite(Field::Mark { from, to }) = step.what else {
                continue;
            };
            if (from ^ to) & MASQUERADE == 0 {
                continue;
            }
            let rule = i.checked_sub(1).map(|i| &hop.steps[i]);
            let Some(What::Rule {
                engine, table, chain, ..
            }) = rule.map(|r| &r.what)
            else {
                continue;
            };
            let text = step.evidence.first().map_or("", |e| &*e.text);
            let owner = owner::of_rule(*engine, table, chain, text);
            if matches!(
                owner,
                Some(Owner::KubeProxy | Owner::Kubelet | Owner::KubeletOrKubeProxy)
            ) {
                continue;
            }
            let what = Found::ForeignMark {
                node: cx.place(hop.ns),
                table: table.to_string(),
                chain: chain.to_string(),
                owner,
                set: to & MASQUERADE != 0,
            };
            out.push(Cx::found(Severity::Warning, what, step.evidence.clone()));
        }
    }
    out
}
