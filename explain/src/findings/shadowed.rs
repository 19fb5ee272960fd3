//! A rule in front of kube-proxy's takes the packets of a NodePort or another service address.

use knet_snapshot::cluster::Service;

use super::{Cx, Finding, Found, Severity};
use crate::names::Named;
use crate::owner::Owner;
use crate::service_chain::ServicePortName;

/// The first translation of the request was not kube-proxy's, though the address and port are a Service's.
pub(super) fn check(cx: &Cx<'_, '_>) -> Vec<Finding> {
    let mut out = Vec::new();
    for dnat in cx.dnats() {
        let Some(rule) = dnat.rule() else { continue };
        let node = cx.node(dnat.hop.ns);
        let is_host = cx.world.space(dnat.hop.ns).name.id.is_none();
        let owner = rule.owner();
        if !is_host || owner == Some(Owner::KubeProxy) {
            continue;
        }
        let Some(port) = dnat.from.1 else { continue };
        let local = cx.names.node_at(dnat.from.0).is_some() || dnat.from.0.is_loopback();
        let proto = dnat.hop.packet.proto;
        let found = cx
            .names
            .services()
            .find_map(|(named, s)| taken(named, s, dnat.from.0, port.value, proto, local));
        if let Some(service) = found {
            let to = (dnat.to.0, dnat.to.1.map(|p| p.value));
            let what = Found::Shadowed {
                node: node.to_owned(),
                service,
                owner,
                to,
            };
            out.push(Cx::found(Severity::Error, what, vec![rule.row.clone()]));
        }
    }
    out
}

fn taken(
    named: &Named,
    service: &Service,
    addr: std::net::IpAddr,
    port: u16,
    proto: u8,
    local: bool,
) -> Option<ServicePortName> {
    let own = service.cluster_ips.contains(&addr)
        || service.external_ips.contains(&addr)
        || service.ingress.iter().any(|i| i.ip == Some(addr));
    let fits = |p: &&knet_snapshot::cluster::ServicePort| {
        crate::resolve::protocol(&p.protocol) == Ok(proto)
            && ((own && p.port == port) || (local && p.node_port == Some(port)))
    };
    let found = service.ports.iter().find(fits)?;
    Some(ServicePortName {
        service: named.clone(),
        port: found.name.clone().unwrap_or_default(),
    })
}
