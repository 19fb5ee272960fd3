//! Matches that ask another table: xt_addrtype.c, ipt_rpfilter.c, ip6t_rpfilter.c, xt_realm.c, xt_socket.c,
//! xt_set.c, xt_policy.c, xt_ipvs.c.

use std::net::IpAddr;

use knet_snapshot::artifact::name;
use knet_snapshot::id::{Family, IfIndex};
use knet_snapshot::ipvs::Forward;
use knet_snapshot::route::RouteKind;
use smallvec::SmallVec;

use super::device;
use crate::choice::Oracle;
use crate::packet::{proto, tcp_flag};
use crate::skb::{Ct, CtState, Dir};
use crate::stage::netfilter::HookCx;
use crate::table::fib::{Answer, Depth, Query};
use crate::table::ipset;
use crate::table::socket::{SocketAnswer, SocketQuery, Taker};
use crate::table::source::vrf_of;
use crate::table::xt::matches::{Addrtype, Ipvs, Masked, Rpfilter, SetMatch, SocketMatch};
use crate::trace::Evidence;
use crate::tri::Tri;

pub(super) fn addrtype(m: &Addrtype, cx: &HookCx<'_, '_>) -> Tri {
    let dev = match (m.limit_in, m.limit_out) {
        (true, _) => device::input(cx),
        (_, true) => device::output(cx),
        _ => None,
    };
    let (src, dst) = (cx.skb.packet.src, cx.skb.packet.dst);
    let one = |want: Option<(u16, bool)>, addr: IpAddr| match want {
        None => Tri::Yes,
        Some((types, invert)) => match Family::of(addr) {
            Family::V4 => cx
                .ns
                .fib()
                .addr_type(addr, dev)
                .map_or(Tri::Unknown, |kind| Tri::from(types & bit(kind) != 0)),
            Family::V6 => addrtype6(types, addr, dev, cx),
        }
        .xor(invert),
    };
    // The destination is looked up only when the source fits.
    match one(m.src, src) {
        Tri::No => Tri::No,
        source => source.and(one(m.dst, dst)),
    }
}

/// `match_type6`: multicast, unicast and unspecified by the address itself, the rest by a route lookup.
fn addrtype6(types: u16, addr: IpAddr, dev: Option<IfIndex>, cx: &HookCx<'_, '_>) -> Tri {
    let asks = |kind: RouteKind| types & bit(kind) != 0;
    if asks(RouteKind::Multicast) && !addr.is_multicast() {
        return Tri::No;
    }
    // ipv6_addr_type: everything but multicast and :: has the unicast bit.
    if asks(RouteKind::Unicast) && (addr.is_multicast() || addr.is_unspecified()) {
        return Tri::No;
    }
    if types & 1 != 0 && !addr.is_unspecified() {
        return Tri::No;
    }
    let looked_up = bit(RouteKind::Anycast) | bit(RouteKind::Local) | bit(RouteKind::Unreachable);
    if types & looked_up == 0 {
        return Tri::Yes;
    }
    match cx.ns.fib().addr_type(addr, dev) {
        None => Tri::Unknown,
        Some(kind) => {
            let found = match kind {
                RouteKind::Local | RouteKind::Anycast => bit(kind),
                // Any lookup error, and every RTF_REJECT route, is "unreachable" here.
                RouteKind::Unreachable | RouteKind::Blackhole | RouteKind::Prohibit | RouteKind::Throw => {
                    bit(RouteKind::Unreachable)
                }
                _ => 0,
            };
            Tri::from(types & looked_up & found != 0)
        }
    }
}

/// `1 << RTN_*`
const fn bit(kind: RouteKind) -> u16 {
    match kind {
        RouteKind::Unicast => 1 << 1,
        RouteKind::Local => 1 << 2,
        RouteKind::Broadcast => 1 << 3,
        RouteKind::Anycast => 1 << 4,
        RouteKind::Multicast => 1 << 5,
        RouteKind::Blackhole => 1 << 6,
        RouteKind::Unreachable => 1 << 7,
        RouteKind::Prohibit => 1 << 8,
        RouteKind::Throw => 1 << 9,
        _ => 0,
    }
}

/// `rpfilter_mt`: is the packet's source reached by the device it came in by, in this order:
///
/// 1. what comes in by loopback, and an unspecified source that cannot be routed, pass;
/// 2. the source is looked up as a local sender would, with the packet's mark only under `--validmark`;
/// 3. a route that is not unicast fails (`--accept-local`: a local one goes on);
/// 4. any next hop by the same device passes; `--loose`: by any device.
pub(super) fn rpfilter(m: &Rpfilter, cx: &HookCx<'_, '_>) -> Tri {
    let Some(dev) = device::input(cx) else {
        return Tri::Unknown;
    };
    let packet = &cx.skb.packet;
    match cx.ns.links().get(dev) {
        Some(link) if link.flags.loopback => return Tri::Yes.xor(m.invert),
        Some(_) => {}
        None => return Tri::Unknown,
    }
    let unroutable = match (packet.src, packet.dst) {
        // DHCP: from 0.0.0.0/8 to the broadcast address or a link-local group.
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            src.octets()[0] == 0 && (dst.is_broadcast() || dst.octets()[..3] == [224, 0, 0])
        }
        (src, _) => src.is_unspecified(),
    };
    if unroutable {
        return Tri::Yes.xor(m.invert);
    }
    let v6 = packet.src.is_ipv6();
    let link_local = matches!(packet.src, IpAddr::V6(a) if a.is_unicast_link_local());
    let zero = matches!(packet.dst, IpAddr::V4(a) if a.octets()[0] == 0 || a.is_broadcast());
    let query = Query {
        src: (!zero && !packet.dst.is_multicast()).then_some(packet.dst),
        oif: (v6 && (link_local || !m.loose)).then_some(dev),
        l3: vrf_of(cx.ns.links(), dev),
        bound: link_local,
        mark: if m.validmark { cx.skb.mark } else { 0 },
        tos: packet.tos,
        proto: if v6 { packet.proto } else { 0 },
        ..Query::to(packet.src)
    };
    // Whatever the lookup would have to draw or ask does not matter, or is not known.
    let mut oracle = Oracle::default();
    let depth = Depth {
        any_path: true,
        ignore_linkstate: true,
    };
    let answer = cx.ns.fib().lookup_to(&query, depth, &mut oracle).answer;
    if !oracle.taken().is_empty() {
        return Tri::Unknown;
    }
    let passes = match answer {
        Answer::Unknown(_) => return Tri::Unknown,
        Answer::Rule(_) | Answer::None => false,
        Answer::Route(hit) => match hit.kind {
            RouteKind::Local if !m.accept_local => false,
            RouteKind::Local if v6 => true,
            RouteKind::Unicast | RouteKind::Local => m.loose || hit.hops.iter().any(|h| h.oif == Some(dev)),
            _ => false,
        },
    };
    Tri::from(passes).xor(m.invert)
}

/// `skb_dst(skb)->tclassid`: 0 where no route and no rule of the namespace names a realm.
pub(super) fn realm(m: &Masked, cx: &HookCx<'_, '_>) -> Tri {
    let family = cx.skb.packet.family();
    let facts = cx.ns.facts;
    let routes = facts
        .routes(family)
        .get()
        .map(|t| t.problems.is_empty() && t.rows.iter().all(|r| r.realm.is_none()));
    if routes == Some(true) {
        super::state::masked(0, m)
    } else {
        Tri::Unknown
    }
}

/// Only listeners are captured: the first packet of a connection has no other socket.
fn opens(cx: &HookCx<'_, '_>) -> bool {
    match cx.skb.ct {
        Ct::Of {
            state: CtState::New, ..
        } => cx.ct.entry(cx.skb.ct).is_some_and(|e| e.captured.is_none()),
        Ct::Of { .. } => false,
        Ct::None | Ct::Untracked | Ct::Invalid => cx.skb.packet.tcp_flags() == tcp_flag::SYN,
    }
}

/// A socket for the packet that is not bound to the wildcard address, or any with `--nowildcard`.
pub(super) fn socket(m: &SocketMatch, cx: &HookCx<'_, '_>) -> Tri {
    let packet = &cx.skb.packet;
    let (Some(sport), Some(dport)) = (packet.sport(), packet.dport()) else {
        // xt_socket.c: TCP and UDP, and ICMP errors about them.
        return if matches!(packet.proto, proto::ICMP | proto::ICMPV6) {
            Tri::Unknown
        } else {
            Tri::No
        };
    };
    if !matches!(packet.proto, proto::TCP | proto::UDP) {
        return Tri::No;
    }
    let query = SocketQuery {
        proto: packet.proto,
        src: packet.src,
        sport: (!sport.drawn).then_some(sport.value),
        dst: packet.dst,
        dport: dport.value,
        iif: device::known_name(device::input(cx), cx),
        vrf_port: None,
    };
    let takers = match cx.ns.sockets().lookup(&query) {
        SocketAnswer::Unknown(_) => return Tri::Unknown,
        SocketAnswer::Nobody => return if opens(cx) { Tri::No } else { Tri::Unknown },
        SocketAnswer::Listener(takers) | SocketAnswer::Connected(takers) => takers,
    };
    let counts = |t: &Taker<'_>| m.nowildcard || t.socket.local.is_some_and(|a| !a.is_unspecified());
    let found = match (takers.iter().all(counts), takers.iter().any(counts)) {
        (true, _) => Tri::Yes,
        (_, false) => Tri::No,
        _ => Tri::Unknown,
    };
    // A packet that does not open its connection may have the socket of that instead.
    if found == Tri::No && !opens(cx) {
        return Tri::Unknown;
    }
    // IP_TRANSPARENT and SO_MARK of a socket are not in a snapshot.
    if found == Tri::Yes && (m.transparent || m.restore_skmark) {
        Tri::Unknown
    } else {
        found
    }
}

pub(super) fn set(m: &SetMatch, cx: &HookCx<'_, '_>, more: &mut Vec<Evidence>) -> Tri {
    if cx.oracle.recall(&set_changed(&m.name, cx)).is_some() {
        // An earlier rule of this walk added to it or deleted from it.
        return Tri::Unknown;
    }
    let dirs: SmallVec<[ipset::Side; 6]> = m
        .dirs
        .iter()
        .map(|src| if *src { ipset::Side::Src } else { ipset::Side::Dst })
        .collect();
    let query = ipset::SetQuery {
        packet: &cx.skb.packet,
        eth: cx.skb.eth.as_ref(),
        iif: device::known_name(device::input(cx), cx),
        oif: device::known_name(device::output(cx), cx),
        physin: device::known_name(cx.skb.physin, cx),
        physout: device::known_name(cx.skb.physout, cx),
        mark: cx.skb.mark,
        dirs: &dirs,
        flags: ipset::SetFlags {
            return_nomatch: m.return_nomatch,
            counters: m.counters,
            physdev: false,
        },
    };
    let answer = cx.ns.ipsets().test(&m.name, &query);
    more.extend(answer.evidence());
    answer.matched.xor(m.invert)
}

/// Name under which a walk remembers that it changed a set.
pub(super) fn set_changed(name: &str, cx: &HookCx<'_, '_>) -> String {
    format!("ipset {} {name}", cx.ns.id.0)
}

/// xt_policy.c: a packet that no IPsec state of the namespace can have handled is `none`.
pub(super) fn policy(none: bool, cx: &HookCx<'_, '_>) -> Tri {
    if empty(cx, name::XFRM) {
        none.into()
    } else {
        Tri::Unknown
    }
}

/// `ipvs_mt`. A connection is looked up as for a packet of the real server with both ends swapped: only a packet
/// that is on its way to one, translated, is found.
pub(super) fn ipvs(asked: &Ipvs, cx: &HookCx<'_, '_>) -> Tri {
    let handled = cx.skb.ipvs_in(cx.ns.id);
    let Ipvs {
        property,
        proto,
        vaddr,
        vport,
        reply,
        method,
        control,
    } = asked;
    let more = proto.is_some() || vaddr.is_some() || vport.is_some() || reply.is_some() || method.is_some() || *control;
    if !more {
        return Tri::from(handled != property.unwrap_or(false));
    }
    let served = cx.skb.ipvs.and_then(|i| i.served);
    let Some(served) = served.filter(|s| handled && s.forward == Forward::Masq) else {
        return Tri::No;
    };
    let holds = proto.is_none_or(|(number, invert)| (cx.skb.packet.proto == number) != invert)
        && vaddr.as_ref().is_none_or(|net| net.holds(served.virt.0))
        && vport.is_none_or(|(port, invert)| (served.virt.1.value == port) != invert)
        && method.is_none_or(|(is, invert)| (served.forward == is) != invert);
    let direction = match (reply, cx.skb.ct) {
        (None, _) => true,
        (Some(reply), Ct::Of { dir, .. }) => (dir == Dir::Reply) == *reply,
        (Some(_), _) => false,
    };
    match holds && direction {
        false => Tri::No,
        // The connection that controls this one is not in the table of the walk.
        true if *control && served.controlled => Tri::Unknown,
        true => Tri::from(!*control),
    }
}

/// The artifact was captured and says nothing, or the kernel cannot have such state.
fn empty(cx: &HookCx<'_, '_>, file: &'static str) -> bool {
    let facts = cx.ns.facts.bytes(file);
    facts
        .get()
        .is_some_and(|bytes| bytes.iter().all(u8::is_ascii_whitespace))
}
