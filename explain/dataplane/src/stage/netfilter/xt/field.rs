//! Header fields: ip_tables.c, ip6_tables.c, xt_tcpudp.c, xt_multiport.c, xt_sctp.c, xt_hl.c, xt_iprange.c.

use std::net::IpAddr;

use super::device;
use crate::packet::{L4, Port, proto};
use crate::stage::netfilter::HookCx;
use crate::table::xt::matches::{Cmp, Icmp, L4Ports, Multiport, PortRange, Side, Tcp};
use crate::table::xt::rule::{Head, bits};
use crate::tri::Tri;

/// `ip_packet_match`, `ip6_packet_match`
pub(super) fn head(head: &Head, cx: &HookCx<'_, '_>) -> Tri {
    let packet = &cx.skb.packet;
    if head.src.is_some_and(|n| !n.holds(packet.src)) || head.dst.is_some_and(|n| !n.holds(packet.dst)) {
        return Tri::No;
    }
    if head.proto.is_some_and(|p| (p.number == packet.proto) == p.invert) {
        return Tri::No;
    }
    // Packets here are whole: `-f` asks for the second and further fragments.
    if head.fragment == Some(false) {
        return Tri::No;
    }
    let iif = head
        .iif
        .as_ref()
        .map_or(Tri::Yes, |d| device::named(d, device::input(cx), cx));
    iif.and(
        head.oif
            .as_ref()
            .map_or(Tri::Yes, |d| device::named(d, device::output(cx), cx)),
    )
}

/// A port against a range. A port that NAT drew is in no known place, unless the range is everything.
fn in_range(port: Port, range: Option<&PortRange>) -> Tri {
    let Some(range) = range else { return Tri::Yes };
    if port.drawn && (range.min, range.max) != (0, u16::MAX) {
        return Tri::Unknown;
    }
    range.holds(port.value).into()
}

pub(super) fn tcp(m: &Tcp, cx: &HookCx<'_, '_>) -> Tri {
    let L4::Tcp { sport, dport, flags } = cx.skb.packet.l4 else {
        return Tri::No;
    };
    let wanted = match m.flags {
        Some((mask, want, invert)) => Tri::from(flags & mask == want).xor(invert),
        None => Tri::Yes,
    };
    let option = if m.option.is_some() { Tri::Unknown } else { Tri::Yes };
    in_range(sport, m.sport.as_ref())
        .and(in_range(dport, m.dport.as_ref()))
        .and(wanted)
        .and(option)
}

pub(super) fn ports(m: &L4Ports, cx: &HookCx<'_, '_>) -> Tri {
    let packet = &cx.skb.packet;
    let (L4::Ports { sport, dport }, true) = (&packet.l4, packet.proto == m.proto) else {
        return Tri::No;
    };
    let more = if m.more { Tri::Unknown } else { Tri::Yes };
    in_range(*sport, m.sport.as_ref())
        .and(in_range(*dport, m.dport.as_ref()))
        .and(more)
}

pub(super) fn icmp(m: &Icmp, cx: &HookCx<'_, '_>) -> Tri {
    let packet = &cx.skb.packet;
    let expected = if m.v6 { proto::ICMPV6 } else { proto::ICMP };
    let (L4::Icmp { ty, code, .. }, true) = (&packet.l4, packet.proto == expected) else {
        return Tri::No;
    };
    // icmp_type_code_match: the type 0xff stands for any type and any code.
    let hit =
        m.ty.is_none_or(|want| want == *ty && (m.codes.0..=m.codes.1).contains(code));
    Tri::from(hit).xor(m.invert)
}

pub(super) fn multiport(m: &Multiport, cx: &HookCx<'_, '_>) -> Tri {
    let packet = &cx.skb.packet;
    let (Some(sport), Some(dport)) = (packet.sport(), packet.dport()) else {
        return Tri::No;
    };
    let any = |port: Port| {
        m.ranges.iter().fold(Tri::No, |acc, &(min, max)| {
            acc.or(in_range(
                port,
                Some(&PortRange {
                    min,
                    max,
                    invert: false,
                }),
            ))
        })
    };
    let hit = match m.side {
        Side::Src => any(sport),
        Side::Dst => any(dport),
        Side::Either => any(sport).or(any(dport)),
    };
    hit.xor(m.invert)
}

pub(super) fn ttl(cmp: Cmp, value: u8, cx: &HookCx<'_, '_>) -> Tri {
    let ttl = cx.skb.packet.ttl;
    Tri::from(match cmp {
        Cmp::Eq => ttl == value,
        Cmp::Ne => ttl != value,
        Cmp::Lt => ttl < value,
        Cmp::Gt => ttl > value,
    })
}

type Range = (IpAddr, IpAddr, bool);

pub(super) fn iprange(src: Option<&Range>, dst: Option<&Range>, cx: &HookCx<'_, '_>) -> Tri {
    let holds = |range: Option<&Range>, addr: IpAddr| {
        range.is_none_or(|(a, b, invert)| (bits(*a)..=bits(*b)).contains(&bits(addr)) != *invert)
    };
    Tri::from(holds(src, cx.skb.packet.src) && holds(dst, cx.skb.packet.dst))
}

/// ip6t_ipv6header.c for a packet whose only headers are the fixed one and its upper layer.
pub(super) fn ipv6header(wanted: u8, soft: bool, invert: bool, cx: &HookCx<'_, '_>) -> Tri {
    let present = match cx.skb.packet.proto {
        proto::ESP => 0x04,
        proto::AH => return Tri::Unknown,
        59 => 0x02,
        _ => 0x01,
    };
    let hit = if soft {
        // (temp ^ matchflags ^ invflags) & matchflags; invflags is all ones or none.
        let flipped = if invert { 0xff } else { 0 };
        (present ^ wanted ^ flipped) & wanted == 0
    } else {
        (present == wanted) != invert
    };
    Tri::from(hit)
}

pub(super) fn spi(protocol: u8, any: bool, cx: &HookCx<'_, '_>) -> Tri {
    match (cx.skb.packet.proto == protocol, any) {
        (false, _) => Tri::No,
        (true, true) => Tri::Yes,
        (true, false) => Tri::Unknown,
    }
}
