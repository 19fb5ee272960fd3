//! `route.json`, `route6.json`.

use std::net::IpAddr;

use netlink_packet_core::Nla;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteLwTunnelEncap, RouteMessage, RouteMetric, RouteNextHop,
    RouteNextHopFlags, RouteVia,
};

use super::encap::encap;
use super::row::{Row, Rows};
use super::socket::{Netlink, NetlinkError};
use super::{Devices, decode, device, devices, ip};

const RTM_GETROUTE: u16 = 26;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

pub(super) fn v4(netlink: &mut Netlink) -> Result<(Rows, bool), NetlinkError> {
    table(netlink, AF_INET)
}

pub(super) fn v6(netlink: &mut Netlink) -> Result<(Rows, bool), NetlinkError> {
    table(netlink, AF_INET6)
}

/// All tables: an empty `struct rtmsg` filters nothing.
fn table(netlink: &mut Netlink, family: u8) -> Result<(Rows, bool), NetlinkError> {
    let devices = devices(netlink)?;
    let mut rows = Rows::new();
    let mut request = [0; 12];
    request[0] = family;
    let interrupted = netlink.dump(RTM_GETROUTE, &request, |message| {
        if let RouteNetlinkMessage::NewRoute(route) = decode(message)?
            && !route.header.flags.contains(RouteFlags::Cloned)
            && u8::from(route.header.address_family) == family
        {
            rows.push(row(&route, &devices));
        }
        Ok(())
    })?;
    Ok((rows, interrupted))
}

fn row(route: &RouteMessage, devices: &Devices) -> Row {
    let header = &route.header;
    let prefix = |addr: Option<&RouteAddress>, len: u8| match addr.and_then(address) {
        Some(addr) if usize::from(len) == bits(addr) => addr.to_string(),
        Some(addr) => format!("{addr}/{len}"),
        None if len == 0 => "default".to_owned(),
        None => format!("0/{len}"),
    };
    let find = |pick: fn(&RouteAttribute) -> Option<&RouteAddress>| route.attributes.iter().find_map(pick);
    let dst = find(|a| {
        if let RouteAttribute::Destination(d) = a {
            Some(d)
        } else {
            None
        }
    });
    let src = find(|a| {
        if let RouteAttribute::Source(s) = a {
            Some(s)
        } else {
            None
        }
    });
    let mut row = Row::new();
    row.text("type", u8::from(header.kind));
    row.text("dst", prefix(dst, header.destination_prefix_length));
    if header.source_prefix_length > 0 {
        row.text("from", prefix(src, header.source_prefix_length));
    }
    for a in &route.attributes {
        if let RouteAttribute::NhId(id) = a {
            row.bare("nhid", id);
        }
    }
    if header.tos != 0 {
        row.text("tos", format!("{:#04x}", header.tos));
    }
    hop(&mut row, &route.attributes, devices);
    let table = route.attributes.iter().find_map(|a| match a {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    row.text("table", table.unwrap_or_else(|| header.table.into()));
    row.text("protocol", u8::from(header.protocol));
    row.text("scope", u8::from(header.scope));
    for a in &route.attributes {
        if let RouteAttribute::PrefSource(addr) = a
            && let Some(addr) = address(addr)
        {
            row.text("prefsrc", addr);
        }
    }
    for a in &route.attributes {
        if let RouteAttribute::Priority(metric) = a {
            row.bare("metric", metric);
        }
    }
    let flags = header.flags;
    row.words(
        "flags",
        [
            (RouteFlags::Dead, "dead"),
            (RouteFlags::Onlink, "onlink"),
            (RouteFlags::Pervasive, "pervasive"),
            (RouteFlags::Offload, "offload"),
            (RouteFlags::Trap, "trap"),
            (RouteFlags::Notify, "notify"),
            (RouteFlags::Linkdown, "linkdown"),
            (RouteFlags::Unresolved, "unresolved"),
            (RouteFlags::RtOffload, "rt_offload"),
            (RouteFlags::RtTrap, "rt_trap"),
        ]
        .into_iter()
        .filter(|(flag, _)| flags.contains(*flag))
        .map(|(_, word)| word),
    );
    rest(&mut row, route, devices);
    row
}

/// What stands behind the flags.
fn rest(row: &mut Row, route: &RouteMessage, devices: &Devices) {
    for a in &route.attributes {
        match a {
            RouteAttribute::Realm(realm) => {
                let mut flow = Row::new();
                if realm.source != 0 {
                    flow.text("from", realm.source);
                }
                flow.text("to", realm.destination);
                row.object("flow", flow);
            }
            RouteAttribute::Metrics(metrics) => {
                let mut one = Row::new();
                for metric in metrics {
                    self::metric(&mut one, metric);
                }
                if !one.is_empty() {
                    row.objects("metrics", [one]);
                }
            }
            RouteAttribute::Mark(mark) => {
                row.text("mark", format!("{mark:#x}"));
            }
            RouteAttribute::Uid(uid) => {
                row.bare("uid", uid);
            }
            RouteAttribute::Preference(pref) => {
                let word = match u8::from(*pref) {
                    0 => "medium".to_owned(),
                    1 => "high".to_owned(),
                    3 => "low".to_owned(),
                    other => other.to_string(),
                };
                row.text("pref", word);
            }
            RouteAttribute::MultiPath(hops) => {
                row.objects("nexthops", hops.iter().map(|hop| nexthop(hop, devices)));
            }
            _ => {}
        }
    }
}

fn nexthop(next: &RouteNextHop, devices: &Devices) -> Row {
    let mut row = Row::new();
    hop(&mut row, &next.attributes, devices);
    if next.interface_index != 0 {
        row.text("dev", device(devices, next.interface_index));
    }
    row.bare("weight", u32::from(next.hops) + 1);
    row.words(
        "flags",
        [
            (RouteNextHopFlags::Dead, "dead"),
            (RouteNextHopFlags::Onlink, "onlink"),
            (RouteNextHopFlags::Pervasive, "pervasive"),
            (RouteNextHopFlags::Offload, "offload"),
            (RouteNextHopFlags::Trap, "trap"),
            (RouteNextHopFlags::Linkdown, "linkdown"),
            (RouteNextHopFlags::Unresolved, "unresolved"),
        ]
        .into_iter()
        .filter(|(flag, _)| next.flags.contains(*flag))
        .map(|(_, word)| word),
    );
    row
}

/// Encapsulation, gateway and device.
fn hop(row: &mut Row, attributes: &[RouteAttribute], devices: &Devices) {
    let kind = attributes.iter().find_map(|a| match a {
        RouteAttribute::EncapType(kind) => Some(*kind),
        _ => None,
    });
    if let Some(kind) = kind {
        let tunnel = attributes.iter().find_map(|a| match a {
            RouteAttribute::Encap(tunnel) => Some(tunnel.as_slice()),
            _ => None,
        });
        // In a multipath route the kernel writes the tunnel before its type, and the message crate keeps it raw.
        let parts: Vec<(u16, Vec<u8>)> = tunnel.unwrap_or_default().iter().map(raw).collect();
        encap(
            row,
            kind.into(),
            parts.iter().map(|(kind, value)| (*kind, value.as_slice())),
        );
    }
    for a in attributes {
        match a {
            RouteAttribute::Gateway(gateway) => {
                if let Some(gateway) = address(gateway) {
                    row.text("gateway", gateway);
                }
            }
            RouteAttribute::Via(via) => {
                let (family, host) = match via {
                    RouteVia::Inet(v4) => ("inet".to_owned(), v4.to_string()),
                    RouteVia::Inet6(v6) => ("inet6".to_owned(), v6.to_string()),
                    RouteVia::Packet(bytes) => ("link".to_owned(), super::link_address(bytes, 1)),
                    RouteVia::Other((family, bytes)) => (u8::from(*family).to_string(), super::link_address(bytes, 1)),
                    _ => continue,
                };
                let mut inner = Row::new();
                inner.text("family", family);
                inner.text("host", host);
                row.object("via", inner);
            }
            _ => {}
        }
    }
    for a in attributes {
        if let RouteAttribute::Oif(index) = a {
            row.text("dev", device(devices, *index));
        }
    }
}

fn raw(part: &RouteLwTunnelEncap) -> (u16, Vec<u8>) {
    let mut value = vec![0; part.value_len()];
    part.emit_value(&mut value);
    (part.kind(), value)
}

fn metric(row: &mut Row, metric: &RouteMetric) {
    let (key, value) = match metric {
        RouteMetric::Mtu(v) => ("mtu", v),
        RouteMetric::Window(v) => ("window", v),
        RouteMetric::Rtt(v) => ("rtt", v),
        RouteMetric::RttVar(v) => ("rttvar", v),
        RouteMetric::SsThresh(v) => ("ssthresh", v),
        RouteMetric::Cwnd(v) => ("cwnd", v),
        RouteMetric::Advmss(v) => ("advmss", v),
        RouteMetric::Reordering(v) => ("reordering", v),
        RouteMetric::Hoplimit(v) => ("hoplimit", v),
        RouteMetric::InitCwnd(v) => ("initcwnd", v),
        RouteMetric::RtoMin(v) => ("rto_min", v),
        RouteMetric::InitRwnd(v) => ("initrwnd", v),
        RouteMetric::QuickAck(v) => ("quickack", v),
        _ => return,
    };
    row.bare(key, value);
}

fn address(addr: &RouteAddress) -> Option<IpAddr> {
    match addr {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        RouteAddress::Other(bytes) => ip(bytes),
        _ => None,
    }
}

const fn bits(addr: IpAddr) -> usize {
    if addr.is_ipv4() { 32 } else { 128 }
}
