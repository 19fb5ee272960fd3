//! A rule in front of kube-proxy's takes the packets of a NodePort or another service address.

use super::{Cx, Finding, Found, Severity};
use crate::owner::Owner;

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
        let found = cx.service_at(dnat.from.0, port.value, dnat.hop.packet.proto);
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
