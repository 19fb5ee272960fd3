//! `linkinfo.info_data`: what a kind of device decides, by the keys that `ip -d -j link` has for it.

use std::net::Ipv4Addr;

use netlink_packet_core::Nla;
use netlink_packet_route::link::{
    InfoBridge, InfoData, InfoGeneve, InfoGre, InfoGre6, InfoIpTunnel, InfoIpVlan, InfoIpVtap, InfoKind, InfoMacVlan,
    InfoMacVtap, InfoVlan, InfoVrf, InfoVti, InfoVxlan, InfoXfrm, XdpAttached,
};

use super::row::Row;
use super::{Devices, device};

pub(super) fn data(of: Option<&InfoKind>, data: &InfoData, devices: &Devices) -> Row {
    let mut row = Row::new();
    let r = &mut row;
    match data {
        InfoData::Bridge(all) => all.iter().for_each(|a| bridge(r, a)),
        InfoData::Vxlan(all) => vxlan(r, all, devices),
        InfoData::Vlan(all) => all.iter().for_each(|a| vlan(r, a)),
        InfoData::MacVlan(all) => {
            for a in all {
                if let InfoMacVlan::Mode(mode) = a {
                    r.text("mode", macvlan((*mode).into()));
                }
            }
        }
        InfoData::MacVtap(all) => {
            for a in all {
                if let InfoMacVtap::Mode(mode) = a {
                    r.text("mode", macvlan((*mode).into()));
                }
            }
        }
        InfoData::IpVlan(all) => {
            for a in all {
                match a {
                    InfoIpVlan::Mode(mode) => r.text("mode", ipvlan((*mode).into())),
                    InfoIpVlan::Flags(flags) => r.null(ipvlan_flag(flags.bits())),
                    _ => {}
                }
            }
        }
        InfoData::IpVtap(all) => {
            for a in all {
                match a {
                    InfoIpVtap::Mode(mode) => r.text("mode", ipvlan((*mode).into())),
                    InfoIpVtap::Flags(flags) => r.null(ipvlan_flag(flags.bits())),
                    _ => {}
                }
            }
        }
        InfoData::Vrf(all) => {
            for a in all {
                if let InfoVrf::TableId(table) = a {
                    r.bare("table", table);
                }
            }
        }
        InfoData::Geneve(all) => all.iter().for_each(|a| geneve(r, a)),
        InfoData::IpTunnel(all) => all.iter().for_each(|a| ip_tunnel(r, of, a, devices)),
        InfoData::GreTun(all) | InfoData::GreTap(all) | InfoData::ErSpan(all) => {
            all.iter().for_each(|a| gre(r, a, devices));
        }
        InfoData::GreTun6(all) | InfoData::GreTap6(all) | InfoData::Ip6ErSpan(all) => {
            all.iter().for_each(|a| gre6(r, a, devices));
        }
        InfoData::Vti(all) => {
            for a in all {
                match a {
                    InfoVti::Link(index) => lower(r, *index, devices),
                    InfoVti::IKey(key) => r.text("ikey", Ipv4Addr::from(*key)),
                    InfoVti::OKey(key) => r.text("okey", Ipv4Addr::from(*key)),
                    InfoVti::Local(addr) => r.text("local", addr),
                    InfoVti::Remote(addr) => r.text("remote", addr),
                    _ => {}
                }
            }
        }
        InfoData::Xfrm(all) => {
            for a in all {
                match a {
                    InfoXfrm::Link(index) => lower(r, *index, devices),
                    InfoXfrm::IfId(id) => r.text("if_id", format!("{id:#x}")),
                    _ => {}
                }
            }
        }
        _ => {}
    }
    row
}

fn bridge(row: &mut Row, a: &InfoBridge) {
    match a {
        InfoBridge::ForwardDelay(time) => row.bare("forward_delay", time),
        InfoBridge::HelloTime(time) => row.bare("hello_time", time),
        InfoBridge::MaxAge(time) => row.bare("max_age", time),
        InfoBridge::AgeingTime(time) => row.bare("ageing_time", time),
        InfoBridge::StpState(state) => row.bare("stp_state", u32::from(*state)),
        InfoBridge::Priority(priority) => row.bare("priority", priority),
        InfoBridge::VlanFiltering(on) => row.bare("vlan_filtering", u8::from(*on)),
        InfoBridge::VlanProtocol(protocol) => row.text("vlan_protocol", vlan_protocol((*protocol).into())),
        InfoBridge::VlanDefaultPvid(vlan) => row.bare("vlan_default_pvid", vlan),
        InfoBridge::GroupFwdMask(mask) => row.text("group_fwd_mask", format!("{mask:#x}")),
        InfoBridge::MulticastSnooping(on) => row.bare("mcast_snooping", u8::from(*on)),
        InfoBridge::NfCallIpTables(on) => row.bare("nf_call_iptables", u8::from(*on)),
        InfoBridge::NfCallIp6Tables(on) => row.bare("nf_call_ip6tables", u8::from(*on)),
        InfoBridge::NfCallArpTables(on) => row.bare("nf_call_arptables", u8::from(*on)),
        _ => {}
    }
}

fn vxlan(row: &mut Row, all: &[InfoVxlan], devices: &Devices) {
    let inherits = all.iter().any(|a| matches!(a, InfoVxlan::TtlInherit(1..)));
    for a in all {
        match a {
            InfoVxlan::Id(vni) => row.bare("id", vni),
            InfoVxlan::Group(addr) if addr.is_multicast() => row.text("group", addr),
            InfoVxlan::Group(addr) => row.text("remote", addr),
            InfoVxlan::Group6(addr) if addr.is_multicast() => row.text("group6", addr),
            InfoVxlan::Group6(addr) => row.text("remote6", addr),
            InfoVxlan::Link(index) => lower(row, *index, devices),
            InfoVxlan::Local(addr) => row.text("local", addr),
            InfoVxlan::Local6(addr) => row.text("local6", addr),
            InfoVxlan::PortRange((low, high)) => {
                let mut range = Row::new();
                range.bare("low", low);
                range.bare("high", high);
                row.object("port_range", range);
            }
            InfoVxlan::Port(port) => row.bare("port", port),
            InfoVxlan::Learning(on) => row.bare("learning", on),
            InfoVxlan::Proxy(true) => row.bare("proxy", true),
            InfoVxlan::Rsc(true) => row.bare("rsc", true),
            InfoVxlan::L2Miss(true) => row.bare("l2miss", true),
            InfoVxlan::L3Miss(true) => row.bare("l3miss", true),
            InfoVxlan::CollectMetadata(true) => row.bare("external", true),
            InfoVxlan::Vnifilter(true) => row.bare("vnifilter", true),
            InfoVxlan::Tos(tos) if *tos != 0 => row.text("tos", format!("{tos:#x}")),
            InfoVxlan::Ttl(ttl) if !inherits => row.bare("ttl", ttl),
            InfoVxlan::Ageing(time) => row.bare("ageing", time),
            InfoVxlan::UDPCsum(on) => row.bare("udp_csum", on),
            InfoVxlan::Gbp => row.bare("gbp", true),
            InfoVxlan::Gpe => row.bare("gpe", true),
            InfoVxlan::Df(df) => match u8::from(*df) {
                0 => row.text("df", "unset"),
                1 => row.text("df", "set"),
                _ => row.text("df", "inherit"),
            },
            _ => {}
        }
    }
    // `ip` 6.1 says it in text only, and leaves the TTL out of its JSON.
    if inherits {
        row.text("ttl", "inherit");
    }
}

fn vlan(row: &mut Row, a: &InfoVlan) {
    match a {
        InfoVlan::Protocol(protocol) => row.text("protocol", vlan_protocol((*protocol).into())),
        InfoVlan::Id(id) => row.bare("id", id),
        _ => {}
    }
}

fn geneve(row: &mut Row, a: &InfoGeneve) {
    match a {
        InfoGeneve::Id(vni) => row.bare("id", vni),
        InfoGeneve::Remote(addr) => row.text("remote", addr),
        InfoGeneve::Remote6(addr) => row.text("remote6", addr),
        InfoGeneve::Ttl(ttl) => row.bare("ttl", ttl),
        InfoGeneve::TtlInherit(true) => row.text("ttl", "inherit"),
        InfoGeneve::Tos(tos) if *tos != 0 => row.text("tos", format!("{tos:#x}")),
        InfoGeneve::Port(port) => row.bare("port", port),
        InfoGeneve::CollectMetadata => row.bare("external", true),
        _ => {}
    }
}

fn ip_tunnel(row: &mut Row, of: Option<&InfoKind>, a: &InfoIpTunnel, devices: &Devices) {
    match a {
        InfoIpTunnel::Remote(addr) if addr.is_unspecified() => row.text("remote", "any"),
        InfoIpTunnel::Remote(addr) => row.text("remote", addr),
        InfoIpTunnel::Local(addr) if addr.is_unspecified() => row.text("local", "any"),
        InfoIpTunnel::Local(addr) => row.text("local", addr),
        InfoIpTunnel::Link(index) => lower(row, *index, devices),
        InfoIpTunnel::Ttl(limit) if of == Some(&InfoKind::Ip6Tnl) => row.bare("ttl", limit),
        InfoIpTunnel::Ttl(0) => row.text("ttl", "inherit"),
        InfoIpTunnel::Ttl(ttl) => row.bare("ttl", ttl),
        InfoIpTunnel::Tos(tos) if *tos != 0 => row.text("tos", format!("{tos:#x}")),
        InfoIpTunnel::PMtuDisc(on) => row.bare("pmtudisc", on),
        InfoIpTunnel::CollectMetadata => row.bare("external", true),
        _ => {}
    }
}

fn gre(row: &mut Row, a: &InfoGre, devices: &Devices) {
    match a {
        InfoGre::Remote(addr) if addr.is_unspecified() => row.text("remote", "any"),
        InfoGre::Remote(addr) => row.text("remote", addr),
        InfoGre::Local(addr) if addr.is_unspecified() => row.text("local", "any"),
        InfoGre::Local(addr) => row.text("local", addr),
        InfoGre::Link(index) => lower(row, *index, devices),
        InfoGre::Ttl(0) => row.text("ttl", "inherit"),
        InfoGre::Ttl(ttl) => row.bare("ttl", ttl),
        InfoGre::PathMTUDiscovery(on) => row.bare("pmtudisc", on),
        InfoGre::IKey(key) => row.text("ikey", Ipv4Addr::from(*key)),
        InfoGre::OKey(key) => row.text("okey", Ipv4Addr::from(*key)),
        InfoGre::CollectMetadata => row.bare("external", true),
        _ => {}
    }
}

fn gre6(row: &mut Row, a: &InfoGre6, devices: &Devices) {
    match a {
        InfoGre6::Remote(addr) if addr.is_unspecified() => row.text("remote", "any"),
        InfoGre6::Remote(addr) => row.text("remote", addr),
        InfoGre6::Local(addr) if addr.is_unspecified() => row.text("local", "any"),
        InfoGre6::Local(addr) => row.text("local", addr),
        InfoGre6::Link(index) => lower(row, *index, devices),
        InfoGre6::Ttl(ttl) => row.bare("ttl", ttl),
        InfoGre6::IKey(key) => row.text("ikey", Ipv4Addr::from(*key)),
        InfoGre6::OKey(key) => row.text("okey", Ipv4Addr::from(*key)),
        InfoGre6::CollectMetadata => row.bare("external", true),
        _ => {}
    }
}

fn lower(row: &mut Row, index: u32, devices: &Devices) {
    if index != 0 {
        row.text("link", device(devices, index));
    }
}

/// `MACVLAN_MODE_*`
fn macvlan(mode: u32) -> String {
    match mode {
        1 => "private".to_owned(),
        2 => "vepa".to_owned(),
        4 => "bridge".to_owned(),
        8 => "passthru".to_owned(),
        16 => "source".to_owned(),
        other => other.to_string(),
    }
}

/// `IPVLAN_MODE_*`
fn ipvlan(mode: u16) -> String {
    match mode {
        0 => "l2".to_owned(),
        1 => "l3".to_owned(),
        2 => "l3s".to_owned(),
        other => other.to_string(),
    }
}

/// `IPVLAN_F_*`
const fn ipvlan_flag(flags: u16) -> &'static str {
    if flags & 1 != 0 {
        "private"
    } else if flags & 2 != 0 {
        "vepa"
    } else {
        "bridge"
    }
}

/// `ETH_P_8021Q`, `ETH_P_8021AD`
fn vlan_protocol(protocol: u16) -> String {
    match protocol {
        0x8100 => "802.1Q".to_owned(),
        0x88a8 => "802.1ad".to_owned(),
        other => format!("[{other}]"),
    }
}

/// `XDP_ATTACHED_*`
pub(super) fn attached(attached: &XdpAttached) -> u8 {
    let mut value = [0];
    netlink_packet_route::link::LinkXdp::Attached(*attached).emit_value(&mut value);
    value[0]
}
