//! 127.0.0.1:NodePort needs `route_localnet`.

use knet_dataplane::trace::ClientSees;

use super::{Cx, Finding, Found, Severity};

/// A packet to 127.0.0.1 was translated and lost, and the sysctl is off.
pub(super) fn check(cx: &Cx<'_, '_>) -> Vec<Finding> {
    if !cx.sent.dst.is_loopback() || cx.sent.dst.is_ipv6() {
        return Vec::new();
    }
    if !cx.branches.iter().any(|b| b.dnat && b.client_sees != ClientSees::Reply) {
        return Vec::new();
    }
    let key = "net.ipv4.conf.all.route_localnet";
    if cx.world.space(cx.start).sysctl().get(key) != Some(0) {
        return Vec::new();
    }
    let what = Found::LocalnetOff {
        node: cx.place(cx.start),
        key: key.to_owned(),
    };
    let rows = cx.world.space(cx.start).sysctl().evidence(key);
    vec![Cx::found(Severity::Error, what, rows)]
}
