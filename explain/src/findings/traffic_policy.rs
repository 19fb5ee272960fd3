//! A traffic policy of Local and no endpoint on the node: dropped on purpose.

use std::collections::BTreeSet;

use super::{Cx, Finding, Found, Severity, refusal};

/// kube-proxy dropped the packet although the service has endpoints on other nodes.
pub(super) fn check(cx: &Cx<'_, '_>) -> Vec<Finding> {
    let mut out = Vec::new();
    for loss in cx.losses() {
        let Some(refusal::Refusal {
            service,
            local: true,
            evidence,
        }) = refusal::of(cx, &loss)
        else {
            continue;
        };
        let Some(ns) = loss.end.place.ns else { continue };
        let object = cx.names.service(&service.service);
        let on: BTreeSet<String> = cx
            .names
            .slices(&service.service)
            .iter()
            .flat_map(|s| &s.endpoints)
            .filter(|e| e.ready != Some(false) || (e.serving == Some(true) && e.terminating == Some(true)))
            .filter_map(|e| e.node.clone())
            .collect();
        let internal = object.is_some_and(|s| {
            s.internal_traffic_policy.as_deref() == Some("Local") && s.cluster_ips.contains(&cx.sent.dst)
        });
        let what = Found::LocalPolicy {
            node: cx.node(ns).to_owned(),
            service,
            on: on.into_iter().collect(),
            external: !internal,
            health_check: object.and_then(|s| s.health_check_node_port),
        };
        out.push(Cx::found(Severity::Error, what, evidence));
    }
    out
}
