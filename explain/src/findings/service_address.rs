//! A service address that is pinged, or asked on a port the service does not have.

use knet_dataplane::packet::proto;

use super::{Cx, Finding, Found, Severity};
use crate::names::{Named, Whose};
use crate::resolve::Target;

/// The destination is an address that only service rules answer for.
pub(super) fn check(cx: &Cx<'_, '_>) -> Vec<Finding> {
    let virtual_of = || {
        cx.names.whose(cx.sent.dst).find_map(|w| match w {
            Whose::ClusterIp(n) | Whose::LoadBalancer(n) | Whose::ExternalIp(n) => Some(n.clone()),
            Whose::Pod(_) | Whose::Node(_) | Whose::Netns(_) => None,
        })
    };
    let Some(service) = virtual_of() else { return Vec::new() };
    let Some(object) = cx.names.service(&service) else {
        return Vec::new();
    };
    if matches!(cx.sent.proto, proto::ICMP | proto::ICMPV6) {
        let ready = cx
            .names
            .slices(&service)
            .iter()
            .flat_map(|s| &s.endpoints)
            .filter(|e| e.ready != Some(false))
            .count();
        return vec![Cx::found(
            Severity::Info,
            Found::PingService { service, ready },
            Vec::new(),
        )];
    }
    let Some(port) = cx.sent.dport().map(|p| p.value) else {
        return Vec::new();
    };
    // Several services may share an address; any of them may have the port.
    let sharing: Vec<&Named> = cx
        .names
        .whose(cx.sent.dst)
        .filter_map(|w| match w {
            Whose::ClusterIp(n) | Whose::LoadBalancer(n) | Whose::ExternalIp(n) => Some(n),
            Whose::Pod(_) | Whose::Node(_) | Whose::Netns(_) => None,
        })
        .collect();
    let has = sharing
        .iter()
        .filter_map(|n| cx.names.service(n))
        .flat_map(|s| &s.ports)
        .any(|p| p.port == port && crate::resolve::protocol(&p.protocol) == Ok(cx.sent.proto));
    if has || matches!(cx.dst, Target::Service { .. }) || cx.branches.iter().any(|b| b.dnat) {
        return Vec::new();
    }
    let ports = object
        .ports
        .iter()
        .map(|p| (p.name.clone(), p.port, p.protocol.to_lowercase()))
        .collect();
    vec![Cx::found(
        Severity::Error,
        Found::WrongPort { service, port, ports },
        Vec::new(),
    )]
}
