//! A rule or route as `ip` prints it on one line.

use std::fmt::Write;
use std::net::IpAddr;

use ipnet::IpNet;
use knet_snapshot::id::{Family, TableId};
use knet_snapshot::route::{NextHop, Route, RouteKind};
use knet_snapshot::rule::{Rule, RuleAction};

/// `ip rule`: `100:`, a tab, `from all to 10.244.2.0/24 blackhole`
pub(super) fn rule(r: &Rule) -> String {
    let mut s = format!("{}:\t", r.priority);
    if r.invert {
        s.push_str("not ");
    }
    s.push_str("from ");
    s.push_str(&r.src.map_or_else(|| "all".to_owned(), prefix));
    if let Some(dst) = r.dst {
        put(&mut s, "to", prefix(dst));
    }
    if let Some(tos) = r.tos {
        put(&mut s, "tos", format_args!("{tos:#x}"));
    }
    match r.fwmark {
        Some((value, u32::MAX)) => put(&mut s, "fwmark", format_args!("{value:#x}")),
        Some((value, mask)) => put(&mut s, "fwmark", format_args!("{value:#x}/{mask:#x}")),
        None => {}
    }
    if let Some(dev) = &r.iif {
        put(&mut s, "iif", dev);
    }
    if let Some(dev) = &r.oif {
        put(&mut s, "oif", dev);
    }
    if let Some((a, b)) = r.uidrange {
        put(&mut s, "uidrange", format_args!("{a}-{b}"));
    }
    if let Some(p) = r.ipproto {
        put(&mut s, "ipproto", protocol_name(p));
    }
    for (word, range) in [("sport", r.sport), ("dport", r.dport)] {
        match range {
            Some((a, b)) if a == b => put(&mut s, word, a),
            Some((a, b)) => put(&mut s, word, format_args!("{a}-{b}")),
            None => {}
        }
    }
    if let Some(id) = r.tun_id {
        put(&mut s, "tun_id", id);
    }
    for unknown in &r.unknown {
        s.push(' ');
        s.push_str(unknown);
    }
    match &r.action {
        RuleAction::Table(t) => put(&mut s, "lookup", t),
        RuleAction::L3mdev => s.push_str(" lookup [l3mdev-table]"),
        RuleAction::Goto(to) => put(&mut s, "goto", to),
        RuleAction::Nop => s.push_str(" nop"),
        RuleAction::Blackhole => s.push_str(" blackhole"),
        RuleAction::Unreachable => s.push_str(" unreachable"),
        RuleAction::Prohibit => s.push_str(" prohibit"),
        RuleAction::Other(text) => {
            s.push(' ');
            s.push_str(text);
        }
    }
    if let Some(n) = r.suppress_prefixlength {
        put(&mut s, "suppress_prefixlength", n);
    }
    if let Some(n) = r.suppress_ifgroup {
        put(&mut s, "suppress_ifgroup", n);
    }
    s
}

/// `ip route`: `10.244.1.0/24 via 10.244.1.0 dev flannel.1 onlink`; the table is named when it is not main.
pub(super) fn route(r: &Route) -> String {
    let mut s = String::new();
    let word = match r.kind {
        RouteKind::Unicast => "",
        RouteKind::Local => "local ",
        RouteKind::Broadcast => "broadcast ",
        RouteKind::Anycast => "anycast ",
        RouteKind::Multicast => "multicast ",
        RouteKind::Blackhole => "blackhole ",
        RouteKind::Unreachable => "unreachable ",
        RouteKind::Prohibit => "prohibit ",
        RouteKind::Throw => "throw ",
        RouteKind::Other(_) => "? ",
    };
    s.push_str(word);
    s.push_str(&prefix(r.dst));
    if let Some(src) = r.src {
        put(&mut s, "from", prefix(src));
    }
    if r.tos != 0 {
        put(&mut s, "tos", format_args!("{:#04x}", r.tos));
    }
    if let Some(id) = r.nhid {
        put(&mut s, "nhid", id);
    }
    let single = if let [one] = r.nexthops.as_slice() {
        Some(one)
    } else {
        None
    };
    if let Some(nh) = single {
        hop(&mut s, nh, Family::of(r.dst.addr()));
    }
    if r.table != TableId::MAIN {
        put(&mut s, "table", r.table);
    }
    match r.protocol {
        None | Some(3) => {}
        Some(p) => put(&mut s, "proto", origin(p)),
    }
    if r.dst.addr().is_ipv4() {
        match r.scope {
            0 => {}
            253 => s.push_str(" scope link"),
            254 => s.push_str(" scope host"),
            255 => s.push_str(" scope nowhere"),
            n => put(&mut s, "scope", n),
        }
    }
    if let Some(src) = r.prefsrc {
        put(&mut s, "src", src);
    }
    if r.metric != 0 {
        put(&mut s, "metric", r.metric);
    }
    if let Some(mtu) = r.mtu {
        put(&mut s, "mtu", mtu);
    }
    if let Some(nh) = single {
        hop_flags(&mut s, nh);
    } else {
        for nh in &r.nexthops {
            s.push_str(" nexthop");
            hop(&mut s, nh, Family::of(r.dst.addr()));
            put(&mut s, "weight", nh.weight);
            hop_flags(&mut s, nh);
        }
    }
    if let Some(pref) = &r.pref
        && pref != "medium"
    {
        put(&mut s, "pref", pref);
    }
    s
}

fn hop(s: &mut String, nh: &NextHop, family: Family) {
    if let Some(encap) = &nh.encap {
        put(s, "encap", &encap.kind);
    }
    match nh.gateway {
        Some(gw) if Family::of(gw) == family => put(s, "via", gw),
        Some(gw @ IpAddr::V6(_)) => put(s, "via inet6", gw),
        Some(gw) => put(s, "via inet", gw),
        None => {}
    }
    if let Some(dev) = &nh.dev {
        put(s, "dev", dev);
    }
}

fn hop_flags(s: &mut String, nh: &NextHop) {
    for (set, word) in [(nh.dead, " dead"), (nh.onlink, " onlink"), (nh.linkdown, " linkdown")] {
        if set {
            s.push_str(word);
        }
    }
}

fn prefix(net: IpNet) -> String {
    if net.prefix_len() == 0 {
        "default".to_owned()
    } else if net.prefix_len() == net.max_prefix_len() {
        net.addr().to_string()
    } else {
        net.to_string()
    }
}

fn put(s: &mut String, word: &str, value: impl std::fmt::Display) {
    // Writing to a String cannot fail.
    let _ = write!(s, " {word} {value}");
}

/// `/etc/iproute2/rt_protos` as shipped.
fn origin(p: u8) -> String {
    let name = match p {
        1 => "redirect",
        2 => "kernel",
        4 => "static",
        8 => "gated",
        9 => "ra",
        11 => "zebra",
        12 => "bird",
        16 => "dhcp",
        18 => "keepalived",
        186 => "bgp",
        187 => "isis",
        188 => "ospf",
        189 => "rip",
        192 => "eigrp",
        _ => return p.to_string(),
    };
    name.to_owned()
}

fn protocol_name(p: u8) -> String {
    let name = match p {
        1 => "icmp",
        6 => "tcp",
        17 => "udp",
        58 => "ipv6-icmp",
        132 => "sctp",
        _ => return p.to_string(),
    };
    name.to_owned()
}
