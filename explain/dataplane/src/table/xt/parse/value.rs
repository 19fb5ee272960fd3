//! Numbers, addresses and names as the extensions read them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use knet_snapshot::id::Family;

use super::super::rule::{Net, bits};

/// `xtables_strtoui`: decimal, `0x` hexadecimal or `0` octal, 32 bits unsigned.
pub(super) fn number(s: &str) -> Option<u32> {
    if let Some(hex) = s.strip_prefix("0x").or_else(|| s.strip_prefix("0X")) {
        u32::from_str_radix(hex, 16).ok()
    } else if s.len() > 1 && s.starts_with('0') {
        u32::from_str_radix(&s[1..], 8).ok()
    } else {
        s.parse().ok()
    }
}

/// An 8-bit number.
pub(super) fn byte(s: &str) -> Option<u8> {
    u8::try_from(number(s)?).ok()
}

/// A 16-bit number.
pub(super) fn short(s: &str) -> Option<u16> {
    u16::try_from(number(s)?).ok()
}

/// `value[/mask]`; without a mask all bits count.
pub(super) fn masked(s: &str) -> Option<(u32, u32)> {
    match s.split_once('/') {
        Some((v, m)) => Some((number(v)?, number(m)?)),
        None => Some((number(s)?, u32::MAX)),
    }
}

/// A port, by number or by one of the few names people write by hand. A save writes numbers.
pub(super) fn port(s: &str) -> Option<u16> {
    short(s).or(match s {
        "ssh" => Some(22),
        "domain" => Some(53),
        "http" => Some(80),
        "ntp" => Some(123),
        "https" => Some(443),
        _ => None,
    })
}

/// `a`, `a:b`, `a:`, `:b`, with the separator given.
pub(super) fn port_range(s: &str, sep: char) -> Option<(u16, u16)> {
    match s.split_once(sep) {
        None => port(s).map(|p| (p, p)),
        Some((a, b)) => {
            let min = if a.is_empty() { 0 } else { port(a)? };
            let max = if b.is_empty() { u16::MAX } else { port(b)? };
            Some((min, max))
        }
    }
}

/// An address of the family.
pub(super) fn addr(s: &str, family: Family) -> Option<IpAddr> {
    match family {
        Family::V4 => s.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        Family::V6 => s.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
    }
}

/// All bits of an address of the family.
pub(super) const fn all_ones(family: Family) -> u128 {
    match family {
        Family::V4 => u32::MAX as u128,
        Family::V6 => u128::MAX,
    }
}

/// The mask of a prefix length.
pub(super) fn prefix_mask(len: u32, family: Family) -> Option<u128> {
    let width = if family == Family::V4 { 32 } else { 128 };
    match len {
        0 => Some(0),
        n if n <= width => Some((all_ones(family) >> (width - n)) << (width - n)),
        _ => None,
    }
}

/// `address[/length]` or `address/mask`, contiguous or not.
pub(super) fn net(s: &str, family: Family, invert: bool) -> Option<Net> {
    let (a, m) = match s.split_once('/') {
        None => (s, all_ones(family)),
        Some((a, m)) => match m.parse::<u32>() {
            Ok(len) => (a, prefix_mask(len, family)?),
            Err(_) => (a, bits(addr(m, family)?)),
        },
    };
    Some(Net {
        addr: bits(addr(a, family)?) & m,
        mask: m,
        invert,
    })
}

/// `a` or `a-b`.
pub(super) fn addr_range(s: &str, family: Family) -> Option<(IpAddr, IpAddr)> {
    match s.split_once('-') {
        Some((a, b)) => Some((addr(a, family)?, addr(b, family)?)),
        None => addr(s, family).map(|a| (a, a)),
    }
}

/// `a` or `a-b` of 32-bit numbers.
pub(super) fn id_range(s: &str) -> Option<(u32, u32)> {
    match s.split_once('-') {
        Some((a, b)) => Some((number(a)?, number(b)?)),
        None => number(s).map(|n| (n, n)),
    }
}

/// A protocol by number or by its name in `/etc/protocols` and `xtables_chain_protos`. 0 is all.
pub(super) fn protocol(s: &str) -> Option<u8> {
    let lower = s.to_ascii_lowercase();
    Some(match lower.as_str() {
        "all" => 0,
        "ip" | "hopopt" => 0,
        "icmp" => 1,
        "igmp" => 2,
        "ggp" => 3,
        "ipencap" | "ip-encap" => 4,
        "st" => 5,
        "tcp" => 6,
        "egp" => 8,
        "igp" => 9,
        "pup" => 12,
        "udp" => 17,
        "hmp" => 20,
        "xns-idp" => 22,
        "rdp" => 27,
        "iso-tp4" => 29,
        "dccp" => 33,
        "xtp" => 36,
        "ddp" => 37,
        "idpr-cmtp" => 38,
        "ipv6" => 41,
        "ipv6-route" => 43,
        "ipv6-frag" => 44,
        "idrp" => 45,
        "rsvp" => 46,
        "gre" => 47,
        "esp" | "ipv6-crypt" => 50,
        "ah" | "ipv6-auth" => 51,
        "skip" => 57,
        "icmpv6" | "ipv6-icmp" | "icmp6" => 58,
        "ipv6-nonxt" => 59,
        "ipv6-opts" => 60,
        "rspf" => 73,
        "vmtp" => 81,
        "eigrp" => 88,
        "ospf" | "ospfigp" => 89,
        "ax.25" => 93,
        "ipip" => 94,
        "etherip" => 97,
        "encap" => 98,
        "pim" => 103,
        "ipcomp" => 108,
        "vrrp" => 112,
        "l2tp" => 115,
        "isis" => 124,
        "sctp" => 132,
        "fc" => 133,
        "mobility-header" | "ipv6-mh" | "mh" => 135,
        "udplite" => 136,
        "mpls-in-ip" => 137,
        "manet" => 138,
        "hip" => 139,
        "shim6" => 140,
        "wesp" => 141,
        "rohc" => 142,
        "ethernet" => 143,
        other => byte(other)?,
    })
}
