//! A redirect inside a namespace to a port nobody listens on (a sidecar that is not there).

use knet_dataplane::trace::{Reason, What};

use super::{Cx, Finding, Found, Severity};
use crate::owner;

/// The last hop changed the port, and then found no listener.
pub(super) fn check(cx: &Cx<'_, '_>) -> Vec<Finding> {
    let mut out = Vec::new();
    for loss in cx.losses().filter(|l| l.end.reason == Reason::NoListener) {
        let Some(hop) = loss.hops.last() else { continue };
        let Some(at) = hop
            .steps
            .iter()
            .rposition(|s| matches!(s.what, What::Nat { source: false, .. }))
        else {
            continue;
        };
        let What::Nat { from, to, .. } = &hop.steps[at].what else {
            continue;
        };
        let (Some(from), Some(to)) = (from.1, to.1) else {
            continue;
        };
        let rule = at.checked_sub(1).map(|i| &hop.steps[i]);
        let owner = rule.and_then(|r| match &r.what {
            What::Rule {
                engine, table, chain, ..
            } => owner::of_rule(*engine, table, chain, r.evidence.first().map_or("", |e| &e.text)),
            _ => None,
        });
        let evidence = rule.map(|r| r.evidence.clone()).unwrap_or_default();
        let what = Found::RedirectDead {
            pod: cx.place(hop.ns),
            from: from.value,
            to: to.value,
            owner,
        };
        out.push(Cx::found(Severity::Error, what, evidence));
    }
    out
}
