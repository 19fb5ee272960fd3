//! Matches on transport headers and other header fields.

use knet_snapshot::id::Family;

use super::super::matches::{Cmp, Icmp, L4Ports, Match, Multiport, PortRange, Side, Tcp};
use super::{Group, value};
use crate::packet::{proto, tcp_flag};

pub(super) fn matches(group: &Group<'_>, family: Family) -> Option<Match> {
    Some(match group.module {
        "tcp" => Match::Tcp(tcp(group)?),
        "udp" => ports(group, proto::UDP)?,
        "udplite" => ports(group, proto::UDPLITE)?,
        "sctp" => ports(group, proto::SCTP)?,
        "dccp" => ports(group, proto::DCCP)?,
        "icmp" => icmp(group, false)?,
        "icmp6" | "icmpv6" | "ipv6-icmp" => icmp(group, true)?,
        "multiport" => multiport(group)?,
        "length" => length(group)?,
        "ttl" | "hl" => ttl(group)?,
        "tos" => tos(group)?,
        "dscp" => dscp(group)?,
        "iprange" => iprange(group, family)?,
        "ah" => spi(group, proto::AH, "ahspi")?,
        "esp" => spi(group, proto::ESP, "espspi")?,
        "frag" | "rt" | "hbh" | "dst" | "mh" => Match::ExtensionHeader,
        "ipv6header" => ipv6header(group)?,
        _ => return None,
    })
}

fn range(arg: &str, invert: bool) -> Option<PortRange> {
    let (min, max) = value::port_range(arg, ':')?;
    Some(PortRange { min, max, invert })
}

fn tcp(group: &Group<'_>) -> Option<Tcp> {
    let mut out = Tcp::default();
    for o in &group.opts {
        match o.name {
            "sport" | "source-port" => out.sport = Some(range(o.arg()?, o.neg)?),
            "dport" | "destination-port" => out.dport = Some(range(o.arg()?, o.neg)?),
            "syn" => {
                let mask = tcp_flag::FIN | tcp_flag::SYN | tcp_flag::RST | tcp_flag::ACK;
                out.flags = Some((mask, tcp_flag::SYN, o.neg));
            }
            "tcp-flags" => {
                let [mask, want] = o.args[..] else { return None };
                out.flags = Some((flags(mask)?, flags(want)?, o.neg));
            }
            "tcp-option" => out.option = Some(o.neg),
            _ => return None,
        }
    }
    Some(out)
}

fn flags(list: &str) -> Option<u8> {
    // A save writes names; a mask in hexadecimal is what some versions print for unnamed bits.
    if list.starts_with("0x") {
        return value::byte(list);
    }
    list.split(',').try_fold(0, |acc, name| {
        Some(
            acc | match name.to_ascii_uppercase().as_str() {
                "FIN" => tcp_flag::FIN,
                "SYN" => tcp_flag::SYN,
                "RST" => tcp_flag::RST,
                "PSH" => tcp_flag::PSH,
                "ACK" => tcp_flag::ACK,
                "URG" => tcp_flag::URG,
                // libxt_tcp.c: ALL is the six flags above, without ECE and CWR.
                "ALL" => 0x3f,
                "NONE" => 0,
                _ => return None,
            },
        )
    })
}

fn ports(group: &Group<'_>, proto: u8) -> Option<Match> {
    let mut out = L4Ports {
        proto,
        sport: None,
        dport: None,
        more: false,
    };
    for o in &group.opts {
        match o.name {
            "sport" | "source-port" => out.sport = Some(range(o.arg()?, o.neg)?),
            "dport" | "destination-port" => out.dport = Some(range(o.arg()?, o.neg)?),
            "chunk-types" | "dccp-types" | "dccp-option" => out.more = true,
            _ => return None,
        }
    }
    Some(Match::Ports(out))
}

fn icmp(group: &Group<'_>, v6: bool) -> Option<Match> {
    let Some(o) = group.opts.last() else {
        return Some(Match::Icmp(Icmp {
            v6,
            ty: None,
            codes: (0, 255),
            invert: false,
        }));
    };
    let arg = o.arg()?;
    let (ty, codes) = match arg.split_once('/') {
        Some((t, c)) if t.bytes().all(|b| b.is_ascii_digit()) => {
            let c = value::byte(c)?;
            (value::byte(t)?, (c, c))
        }
        _ => match value::byte(arg) {
            Some(t) => (t, (0, 255)),
            None => icmp_name(arg, v6)?,
        },
    };
    // libipt_icmp.c: `any` is type 0xff, which ip_tables.c takes for every type. ICMPv6 has no such type.
    let ty = (v6 || ty != 0xff).then_some(ty);
    Some(Match::Icmp(Icmp {
        v6,
        ty,
        codes,
        invert: o.neg,
    }))
}

#[rustfmt::skip]
fn icmp_name(name: &str, v6: bool) -> Option<(u8, (u8, u8))> {
    const ANY: (u8, u8) = (0, 255);
    let code = |c: u8| (c, c);
    Some(if v6 {
        match name {
            "destination-unreachable" => (1, ANY),
            "no-route" => (1, code(0)),
            "communication-prohibited" => (1, code(1)),
            "beyond-scope" => (1, code(2)),
            "address-unreachable" => (1, code(3)),
            "port-unreachable" => (1, code(4)),
            "failed-policy" => (1, code(5)),
            "reject-route" => (1, code(6)),
            "packet-too-big" => (2, ANY),
            "time-exceeded" | "ttl-exceeded" => (3, ANY),
            "ttl-zero-during-transit" => (3, code(0)),
            "ttl-zero-during-reassembly" => (3, code(1)),
            "parameter-problem" => (4, ANY),
            "bad-header" => (4, code(0)),
            "unknown-header-type" => (4, code(1)),
            "unknown-option" => (4, code(2)),
            "echo-request" | "ping" => (128, ANY),
            "echo-reply" | "pong" => (129, ANY),
            "mld-listener-query" => (130, ANY),
            "mld-listener-report" => (131, ANY),
            "mld-listener-done" | "mld-listener-reduction" => (132, ANY),
            "router-solicitation" => (133, ANY),
            "router-advertisement" => (134, ANY),
            "neighbour-solicitation" | "neighbor-solicitation" => (135, ANY),
            "neighbour-advertisement" | "neighbor-advertisement" => (136, ANY),
            "redirect" => (137, ANY),
            _ => return None,
        }
    } else {
        match name {
            "any" => (0xff, ANY),
            "echo-reply" | "pong" => (0, ANY),
            "destination-unreachable" => (3, ANY),
            "network-unreachable" => (3, code(0)),
            "host-unreachable" => (3, code(1)),
            "protocol-unreachable" => (3, code(2)),
            "port-unreachable" => (3, code(3)),
            "fragmentation-needed" => (3, code(4)),
            "source-route-failed" => (3, code(5)),
            "network-unknown" => (3, code(6)),
            "host-unknown" => (3, code(7)),
            "network-prohibited" => (3, code(9)),
            "host-prohibited" => (3, code(10)),
            "TOS-network-unreachable" => (3, code(11)),
            "TOS-host-unreachable" => (3, code(12)),
            "communication-prohibited" => (3, code(13)),
            "host-precedence-violation" => (3, code(14)),
            "precedence-cutoff" => (3, code(15)),
            "source-quench" => (4, ANY),
            "redirect" => (5, ANY),
            "network-redirect" => (5, code(0)),
            "host-redirect" => (5, code(1)),
            "TOS-network-redirect" => (5, code(2)),
            "TOS-host-redirect" => (5, code(3)),
            "echo-request" | "ping" => (8, ANY),
            "router-advertisement" => (9, ANY),
            "router-solicitation" => (10, ANY),
            "time-exceeded" | "ttl-exceeded" => (11, ANY),
            "ttl-zero-during-transit" => (11, code(0)),
            "ttl-zero-during-reassembly" => (11, code(1)),
            "parameter-problem" => (12, ANY),
            "ip-header-bad" => (12, code(0)),
            "required-option-missing" => (12, code(1)),
            "timestamp-request" => (13, ANY),
            "timestamp-reply" => (14, ANY),
            "address-mask-request" => (17, ANY),
            "address-mask-reply" => (18, ANY),
            _ => return None,
        }
    })
}

fn multiport(group: &Group<'_>) -> Option<Match> {
    let o = group.opts.last()?;
    let side = match o.name {
        "sports" | "source-ports" => Side::Src,
        "dports" | "destination-ports" => Side::Dst,
        "ports" | "port" => Side::Either,
        _ => return None,
    };
    let ranges = o
        .arg()?
        .split(',')
        .map(|p| value::port_range(p, ':'))
        .collect::<Option<_>>()?;
    Some(Match::Multiport(Multiport {
        side,
        ranges,
        invert: o.neg,
    }))
}

fn length(group: &Group<'_>) -> Option<Match> {
    let o = group.opts.last()?;
    let (min, max) = value::port_range(o.arg()?, ':')?;
    Some(Match::Length {
        min,
        max,
        invert: o.neg,
    })
}

fn ttl(group: &Group<'_>) -> Option<Match> {
    let o = group.opts.last()?;
    let cmp = match (o.name, o.neg) {
        ("ttl-eq" | "ttl" | "hl-eq" | "hl", false) => Cmp::Eq,
        ("ttl-eq" | "ttl" | "hl-eq" | "hl", true) => Cmp::Ne,
        ("ttl-lt" | "hl-lt", false) => Cmp::Lt,
        ("ttl-gt" | "hl-gt", false) => Cmp::Gt,
        _ => return None,
    };
    Some(Match::Ttl {
        cmp,
        value: value::byte(o.arg()?)?,
    })
}

/// `xtables_parse_tos_mask`: a number with or without mask, or a symbolic name with the mask 0x3f.
pub(super) fn tos_value(arg: &str) -> Option<(u8, u8)> {
    let named = match arg {
        "Minimize-Delay" => 0x10,
        "Maximize-Throughput" => 0x08,
        "Maximize-Reliability" => 0x04,
        "Minimize-Cost" => 0x02,
        "Normal-Service" => 0x00,
        _ => {
            let (v, m) = arg.split_once('/').map_or((arg, "0xff"), |x| x);
            return Some((value::byte(v)?, value::byte(m)?));
        }
    };
    Some((named, 0x3f))
}

fn tos(group: &Group<'_>) -> Option<Match> {
    let o = group.opts.last()?;
    let (value, mask) = tos_value(o.arg()?)?;
    Some(Match::Tos {
        value,
        mask,
        invert: o.neg,
    })
}

/// The six DSCP bits of a class name.
pub(super) fn dscp_class(name: &str) -> Option<u8> {
    let upper = name.to_ascii_uppercase();
    if upper == "BE" {
        return Some(0);
    }
    if upper == "EF" {
        return Some(0x2e);
    }
    if let Some(n) = upper
        .strip_prefix("CS")
        .and_then(|n| n.parse::<u8>().ok())
        .filter(|&n| n < 8)
    {
        return Some(n << 3);
    }
    match *upper.strip_prefix("AF")?.as_bytes() {
        [x @ b'1'..=b'4', y @ b'1'..=b'3'] => Some(((x - b'0') << 3) | ((y - b'0') << 1)),
        _ => None,
    }
}

fn dscp(group: &Group<'_>) -> Option<Match> {
    let o = group.opts.last()?;
    let value = if o.name == "dscp-class" {
        dscp_class(o.arg()?)?
    } else {
        value::byte(o.arg()?)?
    };
    (value < 64).then_some(Match::Dscp { value, invert: o.neg })
}

fn iprange(group: &Group<'_>, family: Family) -> Option<Match> {
    let (mut src, mut dst) = (None, None);
    for o in &group.opts {
        let (a, b) = value::addr_range(o.arg()?, family)?;
        *if o.name == "src-range" { &mut src } else { &mut dst } = Some((a, b, o.neg));
    }
    Some(Match::Iprange { src, dst })
}

fn spi(group: &Group<'_>, proto: u8, option: &str) -> Option<Match> {
    // Length and reserved fields do not decide for packets that carry no such header in the model.
    let any = group
        .opts
        .iter()
        .filter(|o| o.name == option || o.name != "ahres")
        .count()
        == 0;
    Some(Match::Spi { proto, any })
}

/// Bits of ip6t_ipv6header.h, in header order.
fn ipv6header(group: &Group<'_>) -> Option<Match> {
    let mut out = (0, false, false);
    for o in &group.opts {
        if o.name == "soft" {
            out.1 = true;
            continue;
        }
        out.2 = o.neg;
        for name in o.arg()?.split(',') {
            out.0 |= match name {
                "hop" | "hop-by-hop" | "0" => 0x80,
                "dst" | "ipv6-opts" | "60" => 0x40,
                "route" | "ipv6-route" | "43" => 0x20,
                "frag" | "ipv6-frag" | "44" => 0x10,
                "auth" | "ah" | "51" => 0x08,
                "esp" | "50" => 0x04,
                "none" | "ipv6-nonxt" | "59" => 0x02,
                "prot" | "proto" | "protocol" | "255" => 0x01,
                _ => return None,
            };
        }
    }
    Some(Match::Ipv6Header {
        wanted: out.0,
        soft: out.1,
        invert: out.2,
    })
}
