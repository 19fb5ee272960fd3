//! EndpointSlices say one thing, the rules another: kube-proxy is behind, or stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use knet_snapshot::id::Family;

use super::{Cx, Finding, Found, Severity, Socket};
use crate::service_chain::ServicePortName;

/// Compares the endpoints that rules sent this packet to with the endpoints that are ready.
pub(super) fn check(cx: &Cx<'_, '_>) -> Vec<Finding> {
    let mut out = Vec::new();
    let mut used: BTreeMap<(String, ServicePortName), BTreeSet<Socket>> = BTreeMap::new();
    for dnat in cx.dnats() {
        let node = cx.node(dnat.hop.ns).to_owned();
        let to = (dnat.to.0, dnat.to.1.map(|p| p.value));
        let Some(rule) = dnat.rule() else { continue };
        let owner = rule.owner();
        let Some(service) = dnat.service() else {
            // hostPort rules of a pod that is gone.
            if owner.is_some() && cx.names.pods_known && cx.names.whose(to.0).next().is_none() && !to.0.is_loopback() {
                let what = Found::StaleEndpoint {
                    node,
                    service: None,
                    to,
                    whose: None,
                    owner,
                };
                out.push(Cx::found(Severity::Error, what, vec![rule.row.clone()]));
            }
            continue;
        };
        if !cx.names.slices_known {
            continue;
        }
        used.entry((node.clone(), service.clone())).or_default().insert(to);
        if !endpoints(cx, &service, Family::of(to.0))
            .iter()
            .any(|e| e.socket == to && e.usable)
        {
            let whose = cx.names.whose(to.0).next().cloned();
            let what = Found::StaleEndpoint {
                node,
                service: Some(service),
                to,
                whose,
                owner,
            };
            out.push(Cx::found(Severity::Error, what, vec![rule.row.clone()]));
        }
    }
    for ((node, service), used) in used {
        out.extend(missing(cx, &node, &service, &used));
        out.extend(hints(cx, &node, &service, &used));
    }
    out
}

struct Endpoint {
    socket: Socket,
    /// Ready, or serving while it terminates.
    usable: bool,
    ready: bool,
    /// Zones it is kept for.
    zones: Option<Vec<String>>,
}

fn endpoints(cx: &Cx<'_, '_>, service: &ServicePortName, family: Family) -> Vec<Endpoint> {
    let mut all = Vec::new();
    for slice in cx.names.slices(&service.service) {
        let port = slice.ports.iter().find(|p| p.name == service.port).and_then(|p| p.port);
        for endpoint in &slice.endpoints {
            let ready = endpoint.ready != Some(false);
            let usable = ready || (endpoint.serving == Some(true) && endpoint.terminating == Some(true));
            let addresses = endpoint
                .addresses
                .iter()
                .filter(|a: &&IpAddr| Family::of(**a) == family);
            let zones = &endpoint.for_zones;
            all.extend(addresses.map(|&a| Endpoint {
                socket: (a, port),
                usable,
                ready,
                zones: zones.clone(),
            }));
        }
    }
    all
}

/// Ready endpoints that no branch goes to. Policies and hints narrow the choice on purpose, and affinity
/// may, so nothing is said where they are in play.
fn missing(cx: &Cx<'_, '_>, node: &str, service: &ServicePortName, used: &BTreeSet<Socket>) -> Option<Finding> {
    let object = cx.names.service(&service.service)?;
    let local = |policy: &Option<String>| policy.as_deref() == Some("Local");
    if local(&object.external_traffic_policy) || local(&object.internal_traffic_policy) {
        return None;
    }
    let family = Family::of(used.first()?.0);
    let all = endpoints(cx, service, family);
    if all.iter().any(|e| e.zones.is_some())
        || object.traffic_distribution.is_some()
        || object.client_ip_affinity.is_some()
    {
        return None;
    }
    let missing: Vec<Socket> = all
        .iter()
        .filter(|e| e.ready && !used.contains(&e.socket))
        .map(|e| e.socket)
        .collect();
    if missing.is_empty() {
        return None;
    }
    let what = Found::MissingEndpoint {
        node: node.to_owned(),
        service: service.clone(),
        missing,
    };
    Some(Cx::found(Severity::Warning, what, Vec::new()))
}

/// Endpoints in use that hints keep for other zones. kube-proxy honours hints only when every ready endpoint
/// has one and some are for its own zone.
fn hints(cx: &Cx<'_, '_>, node: &str, service: &ServicePortName, used: &BTreeSet<Socket>) -> Option<Finding> {
    let zone = cx.names.node(node)?.object?.labels.get("topology.kubernetes.io/zone")?;
    let all = endpoints(cx, service, Family::of(used.first()?.0));
    let ready = || all.iter().filter(|e| e.ready);
    let mine = |e: &Endpoint| e.zones.as_ref().is_some_and(|zones| zones.contains(zone));
    if !ready().all(|e| e.zones.is_some()) || !ready().any(mine) {
        return None;
    }
    let foreign: Vec<Socket> = ready()
        .filter(|e| !mine(e) && used.contains(&e.socket))
        .map(|e| e.socket)
        .collect();
    if foreign.is_empty() {
        return None;
    }
    let what = Found::HintsIgnored {
        node: node.to_owned(),
        service: service.clone(),
        used: foreign,
    };
    Some(Cx::found(Severity::Warning, what, Vec::new()))
}
