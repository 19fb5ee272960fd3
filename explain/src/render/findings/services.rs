//! Findings about services in words.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Said, by, list, said};
use crate::findings::{Near, WhySource};
use crate::names::Named;
use crate::owner::Owner;
use crate::service_chain::ServicePortName;

/// Who changed the source, and why.
pub fn source_changed(node: &str, to: &[IpAddr], why: WhySource, owner: Option<Owner>) -> Said {
    let why = match why {
        WhySource::ExternalCluster => {
            "externalTrafficPolicy is Cluster: the answer has to come back by this node, so it hides the client"
                .to_owned()
        }
        WhySource::OffClusterSource => {
            "the sender is no pod in kube-proxy's eyes (clusterCIDR), so its traffic to services is masqueraded"
                .to_owned()
        }
        WhySource::MasqueradeAll => "kube-proxy masquerades everything to services (masqueradeAll)".to_owned(),
        WhySource::Hairpin => "the pod reaches itself, and would drop an answer from its own address".to_owned(),
        WhySource::LeavesPodNetwork => "pod addresses mean nothing outside the pod network".to_owned(),
        WhySource::EntersPodNetwork => "the rule masquerades what enters the pod network from outside it".to_owned(),
        WhySource::Marked => "a rule set the masquerade mark".to_owned(),
        WhySource::Rule => "a rule says so".to_owned(),
    };
    let to = to.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ");
    said(format!("{} on {node} makes {to} the source: {why}.", by(owner)), "")
}

/// A traffic policy of Local without an endpoint.
pub fn local_policy(
    node: &str,
    service: &ServicePortName,
    on: &[String],
    external: bool,
    health_check: Option<u16>,
) -> Said {
    let policy = if external {
        "externalTrafficPolicy"
    } else {
        "internalTrafficPolicy"
    };
    let check = match health_check {
        Some(port) if external => {
            format!(" Load balancers learn which nodes to use from healthCheckNodePort {port}.")
        }
        _ => String::new(),
    };
    said(
        format!(
            "{service} has {policy}: Local and no ready endpoint on {node}, so {node} drops it on purpose. \
                     It has endpoints on {}.{check}",
            list(on)
        ),
        format!("send to a node with an endpoint, run one on {node}, or set {policy}: Cluster"),
    )
}

/// A service without endpoints.
pub fn no_endpoints(
    service: &ServicePortName,
    selector: &[(String, String)],
    not_ready: &[Named],
    nearest: &[Near],
) -> Said {
    let ns = &service.service.namespace;
    let pairs = selector
        .iter()
        .map(|(k, v)| format!("{k}={v}"))
        .collect::<Vec<_>>()
        .join(",");
    if selector.is_empty() {
        return said(
            format!(
                "{service} has no endpoints, so kube-proxy refuses its connections. It has no selector: somebody has to write its EndpointSlice."
            ),
            format!(
                "kubectl -n {ns} get endpointslices -l kubernetes.io/service-name={}",
                service.service.name
            ),
        );
    }
    if !not_ready.is_empty() {
        let pods: Vec<String> = not_ready.iter().take(3).map(ToString::to_string).collect();
        return said(
            format!(
                "{service} has no ready endpoint, so kube-proxy refuses its connections. Its selector {pairs} matches {} \
                 pods, none of them ready or with the port: {}.",
                not_ready.len(),
                pods.join(", ")
            ),
            format!("kubectl -n {ns} describe pod -l {pairs}"),
        );
    }
    let near: Vec<String> = nearest
        .iter()
        .map(|Near { pod, labels }| {
            let has: Vec<String> = labels
                .iter()
                .map(|l| format!("{}={}", l.key, l.has.as_deref().unwrap_or("")))
                .collect();
            format!("{pod} has {}", has.join(","))
        })
        .collect();
    let near = if near.is_empty() {
        String::new()
    } else {
        format!(" The nearest: {}.", near.join("; "))
    };
    said(
        format!(
            "{service} has no endpoints, so kube-proxy refuses its connections: its selector {pairs} matches no pod.{near}"
        ),
        format!("kubectl -n {ns} get pods --show-labels"),
    )
}

/// A load balancer's source ranges.
pub fn source_ranges(node: &str, service: &ServicePortName, src: IpAddr, ranges: &[IpNet]) -> Said {
    let ranges: Vec<String> = ranges.iter().map(ToString::to_string).collect();
    said(
        format!(
            "{node} drops it: {src} is in none of the loadBalancerSourceRanges of {service} ({}).",
            if ranges.is_empty() {
                "not in the capture".to_owned()
            } else {
                ranges.join(", ")
            }
        ),
        "add the client's range to the Service; a load balancer or proxy in front may have changed the source",
    )
}
