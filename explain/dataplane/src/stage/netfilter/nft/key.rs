//! `meta` and `ct` keys.

use std::net::IpAddr;

use knet_snapshot::id::IfIndex;
use knet_snapshot::link::{Link, LinkKind};
use knet_snapshot::xfrm::Xfrm;

use super::Here;
use super::header::ether_type;
use super::value::Val;
use crate::packet::Port;
use crate::skb::{Ct, CtState, Dir, PktType};
use crate::stage::netfilter::HookCx;
use crate::table::nft::NfFamily;
use crate::table::nft::expr::{CtField, Meta};
use crate::table::nft::ty::name;
use crate::trace::Hook;

/// `nft_in`
pub(super) fn input(cx: &HookCx<'_, '_>) -> Option<IfIndex> {
    if cx.hook == Hook::Output || cx.hook == Hook::Egress {
        return None;
    }
    cx.skb.iif
}

/// `nft_out`
pub(super) fn output(cx: &HookCx<'_, '_>) -> Option<IfIndex> {
    if matches!(cx.hook, Hook::Prerouting | Hook::Input | Hook::Ingress) {
        return None;
    }
    cx.skb.oif
}

/// `nft_meta_get_eval`. `None`: `NFT_BREAK`.
pub(super) fn meta(key: Meta, here: &Here<'_, '_>, cx: &HookCx<'_, '_>) -> Option<Val> {
    let skb = &*cx.skb;
    let links = cx.ns.links();
    let dev = |out: bool| if out { output(cx) } else { input(cx) };
    let index = |d: Option<IfIndex>| Val::from(d.map_or(0, |d| d.0));
    // A device that is not there has the empty name and the index 0: the rule goes on.
    let name_of = |d: Option<IfIndex>| match d {
        None => Val::of(0),
        Some(d) => links.get(d).and_then(|l| name(&l.name)).map_or(Val::UNKNOWN, Val::of),
    };
    // What needs the device itself ends the rule when there is none.
    let of_link = |out: bool, f: &dyn Fn(&Link) -> Option<Val>| match dev(out) {
        None => None,
        Some(d) => links.get(d).map_or(Some(Val::UNKNOWN), f),
    };
    Some(match key {
        Meta::Mark => Val::from(skb.mark),
        Meta::Priority => Val::from(skb.priority),
        Meta::Iif => index(dev(false)),
        Meta::Oif => index(dev(true)),
        Meta::Iifname => name_of(dev(false)),
        Meta::Oifname => name_of(dev(true)),
        Meta::Iiftype => of_link(false, &|l| Some(link_type(l)))?,
        Meta::Oiftype => of_link(true, &|l| Some(link_type(l)))?,
        Meta::Iifgroup => of_link(false, &|l| Some(l.group.map_or(Val::UNKNOWN, Val::from)))?,
        Meta::Oifgroup => of_link(true, &|l| Some(l.group.map_or(Val::UNKNOWN, Val::from)))?,
        Meta::Iifkind => of_link(false, &link_kind)?,
        Meta::Oifkind => of_link(true, &link_kind)?,
        Meta::Ibrname => of_link(false, &|l| {
            l.master.as_deref().map(|m| name(m).map_or(Val::UNKNOWN, Val::of))
        })?,
        Meta::Obrname => of_link(true, &|l| {
            l.master.as_deref().map(|m| name(m).map_or(Val::UNKNOWN, Val::of))
        })?,
        // No NFT_PKTINFO_L4PROTO.
        Meta::L4Proto if skb.arp.is_some() => return None,
        Meta::L4Proto => Val::from(u32::from(skb.packet.proto)),
        Meta::NfProto => Val::from(match here.family() {
            NfFamily::Bridge => 7_u32,
            NfFamily::Netdev => 5,
            NfFamily::Arp => 3,
            _ if skb.packet.src.is_ipv4() => 2,
            _ => 10,
        }),
        Meta::Protocol => Val::from(u32::from(ether_type(skb))),
        Meta::PktType => Val::from(match skb.pkt_type {
            PktType::Host => 0_u32,
            PktType::Broadcast => 1,
            PktType::Multicast => 2,
            PktType::OtherHost => 3,
        }),
        Meta::Skuid => sender(cx, |s| s.uid)?,
        Meta::Skgid => sender(cx, |s| s.gid)?,
        Meta::OfSocket => sender(cx, |_| None)?,
        Meta::Length => Val::from(u32::from(skb.packet.len)),
        // nft_meta_get_eval_sdif: 0 and an empty name but for what a VRF has taken, and in families of frames.
        Meta::Sdif | Meta::Sdifname if matches!(here.family(), NfFamily::Bridge | NfFamily::Netdev) => Val::of(0),
        Meta::Sdif => Val::from(sdif(cx).map_or(0, |dev| dev.0)),
        Meta::Sdifname => match sdif(cx) {
            Some(dev) => links
                .get(dev)
                .map_or(Val::UNKNOWN, |l| name(&l.name).map_or(Val::UNKNOWN, Val::of)),
            None => Val::of(0),
        },
        Meta::Nftrace => Val::of(0),
        // Without a state of IPsec nothing was opened in this namespace.
        Meta::Secpath => match cx.ns.facts.xfrm().get() {
            Some(table) if !table.rows.iter().any(|row| matches!(row, Xfrm::State(_))) => Val::of(0),
            _ => Val::UNKNOWN,
        },
        Meta::Random | Meta::Cpu | Meta::Other => Val::UNKNOWN,
    })
}

/// `inet_sdif`: the port of a VRF, and once it was taken the VRF itself for what it sends to itself.
fn sdif(cx: &HookCx<'_, '_>) -> Option<IfIndex> {
    let is_vrf = |dev| matches!(cx.ns.links().get(dev).map(|l| &l.kind), Some(LinkKind::Vrf { .. }));
    let itself = cx.skb.iif.filter(|&dev| cx.hook == Hook::Input && is_vrf(dev));
    cx.skb.vrf_port.or(itself)
}

/// Keys of the socket end the rule for a packet without a full socket.
fn sender(cx: &HookCx<'_, '_>, id: impl Fn(&crate::skb::Sender) -> Option<u32>) -> Option<Val> {
    match &cx.skb.sender {
        Some(s) if s.socket => Some(id(s).map_or(Val::UNKNOWN, Val::from)),
        Some(_) => None,
        // Early demultiplexing may have found the receiving socket.
        None if cx.hook == Hook::Input => Some(Val::UNKNOWN),
        None => None,
    }
}

/// `ARPHRD_*`
fn link_type(link: &Link) -> Val {
    match &link.kind {
        LinkKind::Device if link.flags.loopback => Val::of(772),
        LinkKind::Veth
        | LinkKind::Bridge(_)
        | LinkKind::Vxlan(_)
        | LinkKind::Vlan { .. }
        | LinkKind::Macvlan { .. }
        | LinkKind::Ipvlan { .. }
        | LinkKind::Dummy
        | LinkKind::Vrf { .. }
        | LinkKind::Bond => Val::of(1),
        LinkKind::Device if link.mac.is_some() => Val::of(1),
        LinkKind::Wireguard => Val::of(65534),
        LinkKind::Tunnel(kind, _) => match kind.as_str() {
            "ipip" => Val::of(768),
            "ip6tnl" => Val::of(769),
            "sit" => Val::of(776),
            "gre" => Val::of(778),
            "gretap" | "geneve" | "ip6gretap" | "erspan" => Val::of(1),
            _ => Val::UNKNOWN,
        },
        LinkKind::Device | LinkKind::Tun | LinkKind::Other(_) => Val::UNKNOWN,
    }
}

/// `rtnl_link_ops->kind`; a device without one ends the rule.
fn link_kind(link: &Link) -> Option<Val> {
    let kind = match &link.kind {
        LinkKind::Device => return None,
        LinkKind::Veth => "veth",
        LinkKind::Bridge(_) => "bridge",
        LinkKind::Vxlan(_) => "vxlan",
        LinkKind::Vlan { .. } => "vlan",
        LinkKind::Dummy => "dummy",
        LinkKind::Tun => "tun",
        LinkKind::Wireguard => "wireguard",
        LinkKind::Vrf { .. } => "vrf",
        LinkKind::Tunnel(kind, _) | LinkKind::Other(kind) => kind,
        LinkKind::Macvlan { .. } | LinkKind::Ipvlan { .. } | LinkKind::Bond => return Some(Val::UNKNOWN),
    };
    Some(name(kind).map_or(Val::UNKNOWN, Val::of))
}

/// `nft_ct_get_eval`. `None`: `NFT_BREAK`, for every key but the state when there is no connection.
pub(super) fn ct(field: CtField, dir: Option<Dir>, cx: &HookCx<'_, '_>) -> Option<Val> {
    if field == CtField::State {
        return Some(Val::of(match cx.skb.ct {
            Ct::None if cx.skb.template => 8,
            Ct::None | Ct::Invalid => 1,
            Ct::Untracked => 64,
            Ct::Of {
                state: CtState::Established,
                ..
            } => 2,
            Ct::Of {
                state: CtState::Related,
                ..
            } => 4,
            Ct::Of {
                state: CtState::New, ..
            } => 8,
        }));
    }
    if cx.skb.template {
        return Some(template(field, cx));
    }
    let entry = cx.ct.entry(cx.skb.ct)?;
    let Ct::Of { dir: packet_dir, .. } = cx.skb.ct else {
        return None;
    };
    let tuple = match dir.unwrap_or(packet_dir) {
        Dir::Original => &entry.orig,
        Dir::Reply => &entry.reply,
    };
    let addr = |addr: IpAddr, family: Option<NfFamily>| match (addr, family) {
        (IpAddr::V4(a), None | Some(NfFamily::Ip)) => Some(Val::from(a.to_bits())),
        (IpAddr::V6(a), None | Some(NfFamily::Ip6)) => Some(Val::of(a.to_bits())),
        _ => None,
    };
    let port = |p: Port| {
        if p.drawn {
            Val {
                bits: 0,
                known: !0xffff,
            }
        } else {
            Val::from(u32::from(p.value))
        }
    };
    Some(match field {
        CtField::State | CtField::Other => Val::UNKNOWN,
        CtField::Direction => Val::from(packet_dir == Dir::Reply),
        CtField::Status => status(entry),
        CtField::Mark => entry.mark.map_or(Val::UNKNOWN, Val::from),
        CtField::Zone => Val::from(u32::from(entry.zone.0)),
        CtField::Helper => match &entry.helper {
            Some(helper) => name(helper).map_or(Val::UNKNOWN, Val::of),
            None => return None,
        },
        CtField::L3Proto => Val::from(if entry.orig.src.is_ipv4() { 2_u32 } else { 10 }),
        CtField::Protocol => Val::from(u32::from(entry.proto)),
        CtField::Saddr(family) => addr(tuple.src, family)?,
        CtField::Daddr(family) => addr(tuple.dst, family)?,
        CtField::ProtoSrc => port(tuple.sport),
        CtField::ProtoDst => port(tuple.dport),
    })
}

/// The template that a packet has until conntrack sees it: `IPS_CONFIRMED | IPS_TEMPLATE`.
fn template(field: CtField, cx: &HookCx<'_, '_>) -> Val {
    match field {
        CtField::Mark | CtField::Direction => Val::of(0),
        CtField::Status => Val::of(1 << 3 | 1 << 11),
        CtField::Zone => Val::from(u32::from(cx.skb.zone.0)),
        _ => Val::UNKNOWN,
    }
}

/// `IPS_*`; bits that no tool shows (sequence adjustment, fixed timeout) are not known.
fn status(entry: &crate::stage::conntrack::Entry) -> Val {
    let bits = [
        (entry.master.is_some(), 0),
        (entry.seen_reply, 1),
        (entry.assured, 2),
        (entry.confirmed, 3),
        (entry.snat, 4),
        (entry.dnat, 5),
        (entry.snat_done, 7),
        (entry.dnat_done, 8),
        (entry.helper.is_some(), 13),
    ];
    let set = bits
        .iter()
        .filter(|(on, _)| *on)
        .fold(0_u128, |all, (_, bit)| all | 1 << bit);
    let unknown = if entry.captured.is_some() { 1 << 6 | 1 << 10 } else { 0 };
    Val {
        bits: set,
        known: !unknown,
    }
}
