//! `rule.json`, `rule6.json`.

use std::net::IpAddr;

use netlink_packet_core::Nla;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage, RulePortRange};

use super::decode;
use super::row::{Row, Rows};
use super::socket::{Netlink, NetlinkError, u16_at};

const RTM_GETRULE: u16 = 34;

pub(super) fn v4(netlink: &mut Netlink) -> Result<(Rows, bool), NetlinkError> {
    table(netlink, 2)
}

pub(super) fn v6(netlink: &mut Netlink) -> Result<(Rows, bool), NetlinkError> {
    table(netlink, 10)
}

fn table(netlink: &mut Netlink, family: u8) -> Result<(Rows, bool), NetlinkError> {
    let mut rows = Rows::new();
    let mut request = [0; 12];
    request[0] = family;
    let interrupted = netlink.dump(RTM_GETRULE, &request, |message| {
        if let RouteNetlinkMessage::NewRule(rule) = decode(message)? {
            rows.push(row(&rule));
        }
        Ok(())
    })?;
    Ok((rows, interrupted))
}

fn row(rule: &RuleMessage) -> Row {
    let flag = |flag| rule.header.flags.contains(flag);
    let mut row = Row::new();
    let priority = rule.attributes.iter().find_map(|a| match a {
        RuleAttribute::Priority(priority) => Some(*priority),
        _ => None,
    });
    row.bare("priority", priority.unwrap_or(0));
    row.null_if("not", flag(RuleFlags::Invert));
    let (mut src, mut dst) = (None, None);
    for a in &rule.attributes {
        match a {
            RuleAttribute::Source(addr) => src = Some(*addr),
            RuleAttribute::Destination(addr) => dst = Some(*addr),
            _ => {}
        }
    }
    match (src, rule.header.src_len) {
        (Some(addr), len) => selector(&mut row, ("src", "srclen"), addr, len),
        (None, 0) => row.text("src", "all"),
        (None, len) => {
            row.text("src", "0");
            row.bare("srclen", len);
        }
    }
    match (dst, rule.header.dst_len) {
        (Some(addr), len) => selector(&mut row, ("dst", "dstlen"), addr, len),
        (None, 0) => {}
        (None, len) => {
            row.text("dst", "0");
            row.bare("dstlen", len);
        }
    }
    if rule.header.tos != 0 {
        row.text("tos", format!("{:#04x}", rule.header.tos));
    }
    selectors(&mut row, rule);
    action(&mut row, rule);
    row
}

fn selector(row: &mut Row, (key, length): (&str, &str), addr: IpAddr, len: u8) {
    row.text(key, addr);
    if len != if addr.is_ipv4() { 32 } else { 128 } {
        row.bare(length, len);
    }
}

fn selectors(row: &mut Row, rule: &RuleMessage) {
    let mark = rule.attributes.iter().find_map(|a| match a {
        RuleAttribute::FwMark(mark) => Some(*mark),
        _ => None,
    });
    let mask = rule.attributes.iter().find_map(|a| match a {
        RuleAttribute::FwMask(mask) => Some(*mask),
        _ => None,
    });
    if mark.is_some() || mask.is_some_and(|mask| mask != 0) {
        row.text("fwmark", format!("{:#x}", mark.unwrap_or(0)));
        if let Some(mask) = mask.filter(|mask| *mask != u32::MAX) {
            row.text("fwmask", format!("{mask:#x}"));
        }
    }
    for a in &rule.attributes {
        match a {
            RuleAttribute::Iifname(name) => {
                row.text("iif", name);
                row.null_if("iif_detached", rule.header.flags.contains(RuleFlags::IifDetached));
            }
            RuleAttribute::Oifname(name) => {
                row.text("oif", name);
                row.null_if("oif_detached", rule.header.flags.contains(RuleFlags::OifDetached));
            }
            RuleAttribute::L3MDev(true) => row.null("l3mdev"),
            RuleAttribute::UidRange(range) => {
                row.bare("uid_start", range.start);
                row.bare("uid_end", range.end);
            }
            RuleAttribute::IpProtocol(proto) => {
                row.text("ipproto", format!("ipproto-{}", u8::from(*proto)));
            }
            RuleAttribute::SourcePortRange(range) => ports(row, "sport", range),
            RuleAttribute::DestinationPortRange(range) => ports(row, "dport", range),
            RuleAttribute::TunId(id) => row.bare("tun_id", id),
            RuleAttribute::Other(other) => unknown(row, other),
            _ => {}
        }
    }
}

/// Selectors that came after `ip` learnt its own list, by their name: whoever reads the rule must not take it
/// for one that matches more. A mask over the whole port is what every rule on one port has.
fn unknown(row: &mut Row, other: &impl Nla) {
    let mut value = vec![0; other.value_len()];
    other.emit_value(&mut value);
    let key = match other.kind() {
        25 => "dscp",
        26 => "flowlabel",
        27 => "flowlabel_mask",
        28 => "sport_mask",
        29 => "dport_mask",
        30 => "dscp_mask",
        // FRA_PAD
        18 => return,
        _ => "attribute",
    };
    if matches!(key, "sport_mask" | "dport_mask") && u16_at(&value, 0) == u16::MAX {
        return;
    }
    let hex: String = value.iter().map(|b| format!("{b:02x}")).collect();
    match key {
        "attribute" => row.text(key, format!("{}:{hex}", other.kind())),
        _ => row.text(key, format!("0x{hex}")),
    };
}

fn ports(row: &mut Row, key: &str, range: &RulePortRange) {
    if range.start == range.end {
        row.bare(key, range.start);
    } else {
        row.bare(&format!("{key}_start"), range.start);
        row.bare(&format!("{key}_end"), range.end);
    }
}

fn action(row: &mut Row, rule: &RuleMessage) {
    let table = rule.attributes.iter().find_map(|a| match a {
        RuleAttribute::Table(table) => Some(*table),
        _ => None,
    });
    let l3mdev = rule.attributes.contains(&RuleAttribute::L3MDev(true));
    match table.unwrap_or_else(|| rule.header.table.into()) {
        0 => {}
        table if rule.header.action == RuleAction::ToTable && !l3mdev => row.text("table", table),
        _ => {}
    }
    for a in &rule.attributes {
        match a {
            RuleAttribute::SuppressPrefixLen(len) if *len != u32::MAX => row.bare("suppress_prefixlen", len),
            RuleAttribute::SuppressIfGroup(group) if *group != u32::MAX => {
                row.text("suppress_ifgroup", group);
            }
            RuleAttribute::Realm(realm) => {
                if realm.source != 0 {
                    row.text("flow_from", realm.source);
                }
                row.text("flow_to", realm.destination);
            }
            _ => {}
        }
    }
    match rule.header.action {
        RuleAction::ToTable => {}
        RuleAction::Goto => {
            let target = rule.attributes.iter().find_map(|a| match a {
                RuleAttribute::Goto(priority) => Some(*priority),
                _ => None,
            });
            match target {
                Some(priority) => row.bare("goto", priority),
                None => row.text("goto", "none"),
            };
            row.null_if("unresolved", rule.header.flags.contains(RuleFlags::Unresolved));
        }
        RuleAction::Nop => row.null("nop"),
        other => row.text("action", u8::from(other)),
    }
    for a in &rule.attributes {
        if let RuleAttribute::Protocol(protocol) = a {
            row.text("protocol", u8::from(*protocol));
        }
    }
}
