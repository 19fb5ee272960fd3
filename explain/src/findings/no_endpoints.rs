//! A service without endpoints: what its selector matches, and what it nearly matches.

use knet_dataplane::trace::Evidence;
use knet_snapshot::cluster::{Pod, Service};

use super::{Cx, Finding, Found, LabelDiff, Near, Severity, refusal};
use crate::names::Named;
use crate::service_chain::ServicePortName;

/// kube-proxy refused the packet because the service has no endpoints anywhere.
pub(super) fn check(cx: &Cx<'_, '_>) -> Vec<Finding> {
    let refusals = cx.losses().filter_map(|loss| refusal::of(cx, &loss));
    refusals
        .filter(|r| !r.local)
        .map(|r| describe(cx, r.service, r.evidence))
        .collect()
}

fn describe(cx: &Cx<'_, '_>, name: ServicePortName, evidence: Vec<Evidence>) -> Finding {
    let service = cx.names.service(&name.service);
    let selector: Vec<(String, String)> = service
        .and_then(|s| s.selector.as_ref())
        .map(|s| s.iter().map(|(k, v)| (k.clone(), v.clone())).collect())
        .unwrap_or_default();
    let (not_ready, nearest) = match service {
        Some(service) if !selector.is_empty() => pods(cx, service, &selector),
        _ => (Vec::new(), Vec::new()),
    };
    let what = Found::NoEndpoints {
        service: name,
        selector,
        not_ready,
        nearest,
    };
    Cx::found(Severity::Error, what, evidence)
}

/// Pods that the selector matches; when there are none, the pods of the namespace that differ least.
fn pods(cx: &Cx<'_, '_>, service: &Service, selector: &[(String, String)]) -> (Vec<Named>, Vec<Near>) {
    let here = || {
        cx.names
            .pods()
            .filter_map(|(name, entry)| Some((name, entry.object?)))
            .filter(|(name, pod)| {
                name.namespace == service.namespace && !matches!(pod.phase.as_str(), "Succeeded" | "Failed")
            })
    };
    let differs = |pod: &Pod| -> Vec<LabelDiff> {
        let wrong = selector.iter().filter(|(k, v)| pod.labels.get(k) != Some(v));
        wrong
            .map(|(k, v)| LabelDiff {
                key: k.clone(),
                wanted: v.clone(),
                has: pod.labels.get(k).cloned(),
            })
            .collect()
    };
    let matching: Vec<Named> = here()
        .filter(|(_, p)| differs(p).is_empty())
        .map(|(n, _)| n.clone())
        .collect();
    if !matching.is_empty() {
        return (matching, Vec::new());
    }
    let mut near: Vec<(i64, Near)> = here()
        .filter_map(|(name, pod)| {
            let wrong = differs(pod);
            // How alike the values are; a pod without the label at all is not near.
            let likeness: f64 = wrong
                .iter()
                .map(|l| l.has.as_deref().map_or(0.0, |has| strsim::jaro_winkler(&l.wanted, has)))
                .sum::<f64>()
                / wrong.len().max(1) as f64;
            (likeness > 0.7).then(|| {
                (
                    (likeness * -1000.0) as i64,
                    Near {
                        pod: name.clone(),
                        labels: wrong,
                    },
                )
            })
        })
        .collect();
    near.sort();
    near.truncate(3);
    (Vec::new(), near.into_iter().map(|(_, near)| near).collect())
}
