//! `fib`: `nft_fib4_eval`, `nft_fib6_eval` and their type variants.

use std::net::IpAddr;

use knet_snapshot::id::IfIndex;
use knet_snapshot::route::RouteKind;

use super::key::{input, output};
use super::value::Val;
use crate::stage::netfilter::HookCx;
use crate::table::fib::{Answer, Depth, Hit, Query};
use crate::table::nft::expr::{Fib, FibResult};
use crate::table::nft::ty::name;
use crate::table::source::vrf_of;
use crate::trace::Hook;

/// The answer of a lookup: a device (`None` inside: none), or not known.
pub(super) enum Device {
    Is(Option<IfIndex>),
    Unknown,
}

/// Evaluates the expression as its declared result.
pub(super) fn fib(fib: &Fib, cx: &mut HookCx<'_, '_>) -> Val {
    match fib.result {
        FibResult::Unknown => Val::UNKNOWN,
        FibResult::Type => kind(fib, cx),
        _ => match (device(fib, cx), fib.result) {
            (Device::Unknown, _) => Val::UNKNOWN,
            (Device::Is(dev), FibResult::Check) => Val::from(dev.is_some()),
            (Device::Is(dev), FibResult::Oif) => Val::from(dev.map_or(0, |d| d.0)),
            (Device::Is(None), _) => Val::of(0),
            (Device::Is(Some(dev)), _) => cx
                .ns
                .links()
                .get(dev)
                .and_then(|l| name(&l.name))
                .map_or(Val::UNKNOWN, Val::of),
        },
    }
}

fn kind(fib: &Fib, cx: &HookCx<'_, '_>) -> Val {
    let addr = if fib.saddr {
        cx.skb.packet.src
    } else {
        cx.skb.packet.dst
    };
    let dev = if fib.iif {
        input(cx)
    } else if fib.oif {
        output(cx)
    } else {
        None
    };
    let Some(kind) = cx.ns.fib().addr_type(addr, dev) else {
        return Val::UNKNOWN;
    };
    Val::of(match kind {
        RouteKind::Unicast => 1,
        RouteKind::Local => 2,
        RouteKind::Broadcast => 3,
        RouteKind::Anycast => 4,
        RouteKind::Multicast => 5,
        RouteKind::Blackhole => 6,
        RouteKind::Unreachable => 7,
        RouteKind::Prohibit => 8,
        RouteKind::Throw => 9,
        _ => return Val::UNKNOWN,
    })
}

/// The device a route to the address leads out of, and with `iif` or `oif` only when it is that one.
pub(super) fn device(fib: &Fib, cx: &mut HookCx<'_, '_>) -> Device {
    let packet = &cx.skb.packet;
    let (inp, out) = (input(cx), output(cx));
    let wanted = if fib.oif {
        out
    } else if fib.iif {
        inp
    } else {
        None
    };
    // "Do not look up packets from loopback."
    if cx.hook == Hook::Prerouting
        && let Some(dev) = inp
        && cx.ns.links().get(dev).is_some_and(|l| l.flags.loopback)
    {
        return Device::Is(Some(dev));
    }
    // DHCP, and neighbour discovery from the unspecified address, have no route back.
    if packet.src.is_unspecified() && inp.is_some() {
        let special = match packet.dst {
            IpAddr::V4(dst) => dst.is_broadcast() || dst.octets()[..3] == [224, 0, 0],
            IpAddr::V6(dst) => dst.is_multicast() || dst.is_unicast_link_local(),
        };
        if special {
            return Device::Is(inp);
        }
    }
    let (dst, src) = if fib.saddr {
        (packet.src, packet.dst)
    } else {
        (packet.dst, packet.src)
    };
    let linklocal = matches!(dst, IpAddr::V6(a) if a.is_unicast_link_local());
    let query = Query {
        src: (!src.is_multicast() && !src.is_unspecified()).then_some(src),
        iif: if fib.saddr && fib.iif && cx.hook == Hook::Forward && dst.is_ipv4() {
            out
        } else {
            None
        },
        oif: if linklocal { wanted } else { None },
        // nft_fib6_flowi_init has it for `iif` alone.
        l3: inp
            .filter(|_| dst.is_ipv4() || fib.iif)
            .and_then(|dev| vrf_of(cx.ns.links(), dev)),
        bound: linklocal && wanted.is_some(),
        mark: if fib.mark { cx.skb.mark } else { 0 },
        tos: packet.tos,
        // `pkt->tprot`, and no ports.
        proto: packet.proto,
        uid: Some(0),
        ..Query::to(dst)
    };
    let depth = Depth {
        // IPv4 asks whether any next hop is by the device, IPv6 about the one that the hash selects.
        any_path: wanted.is_some() && dst.is_ipv4(),
        ignore_linkstate: dst.is_ipv4(),
    };
    let v4 = dst.is_ipv4();
    let lookup = cx.ns.fib().lookup_to(&query, depth, cx.oracle);
    match lookup.answer {
        Answer::Unknown(_) => Device::Unknown,
        Answer::None | Answer::Rule(_) => Device::Is(None),
        Answer::Route(hit) => found(&hit, wanted, v4),
    }
}

fn found(hit: &Hit<'_>, wanted: Option<IfIndex>, v4: bool) -> Device {
    let usable = match hit.kind {
        RouteKind::Unicast => true,
        // "Should not see RTN_LOCAL here."
        RouteKind::Local | RouteKind::Blackhole | RouteKind::Unreachable | RouteKind::Prohibit => false,
        RouteKind::Anycast => v4,
        RouteKind::Broadcast | RouteKind::Multicast => true,
        _ => return Device::Unknown,
    };
    if !usable {
        return Device::Is(None);
    }
    match wanted {
        None => hit.oif.map_or(Device::Unknown, |d| Device::Is(Some(d))),
        // fib_info_nh_uses_dev: any next hop of an IPv4 route will do.
        Some(dev) => {
            let devs: Vec<Option<IfIndex>> = if v4 {
                hit.hops.iter().map(|h| h.oif).chain([hit.oif]).collect()
            } else {
                vec![hit.oif]
            };
            if devs.contains(&Some(dev)) {
                Device::Is(Some(dev))
            } else if devs.iter().all(Option::is_some) || hit.oif.is_some() {
                Device::Is(None)
            } else {
                Device::Unknown
            }
        }
    }
}
