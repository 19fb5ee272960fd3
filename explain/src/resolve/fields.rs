//! The plain fields of a query: protocol, flags, ICMP type, marks.

use knet_dataplane::packet::{proto, tcp_flag};
use knet_snapshot::id::Family;

use super::error::QueryError;

/// A protocol by name or number.
pub fn protocol(text: &str) -> Result<u8, QueryError> {
    Ok(match text.to_ascii_lowercase().as_str() {
        "tcp" => proto::TCP,
        "udp" => proto::UDP,
        "sctp" => proto::SCTP,
        "dccp" => proto::DCCP,
        "udplite" => proto::UDPLITE,
        "icmp" => proto::ICMP,
        "icmp6" | "icmpv6" | "ipv6-icmp" => proto::ICMPV6,
        "igmp" => proto::IGMP,
        "gre" => proto::GRE,
        "esp" => proto::ESP,
        "ah" => proto::AH,
        "ipip" | "ipencap" => proto::IPIP,
        number => number.parse().map_err(|_| QueryError::Field {
            field: "proto",
            text: text.to_owned(),
            expected: "tcp, udp, sctp, icmp, icmp6 or a number up to 255",
        })?,
    })
}

/// Has the protocol ports?
#[must_use]
pub const fn has_ports(protocol: u8) -> bool {
    matches!(
        protocol,
        proto::TCP | proto::UDP | proto::SCTP | proto::DCCP | proto::UDPLITE
    )
}

/// TCP flags: names in any case separated by commas, or a number.
pub fn tcp_flags(text: &str) -> Result<u8, QueryError> {
    let bad = || QueryError::Field {
        field: "tcp_flags",
        text: text.to_owned(),
        expected: "names out of syn, ack, fin, rst, psh, urg, ece, cwr separated by commas, none, or a number",
    };
    if let Some(n) = number(text) {
        return u8::try_from(n).map_err(|_| bad());
    }
    let mut flags = 0;
    for word in text.split([',', '|', '+', ' ']).filter(|w| !w.is_empty()) {
        flags |= match word.to_ascii_lowercase().as_str() {
            "syn" | "s" => tcp_flag::SYN,
            "ack" | "a" => tcp_flag::ACK,
            "fin" | "f" => tcp_flag::FIN,
            "rst" | "r" => tcp_flag::RST,
            "psh" | "push" | "p" => tcp_flag::PSH,
            "urg" | "u" => tcp_flag::URG,
            "ece" | "e" => tcp_flag::ECE,
            "cwr" | "c" => tcp_flag::CWR,
            "none" => 0,
            _ => return Err(bad()),
        };
    }
    Ok(flags)
}

/// ICMP type and code: a name, `TYPE` or `TYPE/CODE`.
pub fn icmp_type(text: &str, family: Family) -> Result<(u8, u8), QueryError> {
    const V4: &[(&str, u8)] = &[
        ("echo-request", 8),
        ("ping", 8),
        ("echo-reply", 0),
        ("pong", 0),
        ("destination-unreachable", 3),
        ("redirect", 5),
        ("time-exceeded", 11),
        ("timestamp-request", 13),
        ("timestamp-reply", 14),
    ];
    const V6: &[(&str, u8)] = &[
        ("echo-request", 128),
        ("ping", 128),
        ("echo-reply", 129),
        ("pong", 129),
        ("destination-unreachable", 1),
        ("packet-too-big", 2),
        ("time-exceeded", 3),
        ("parameter-problem", 4),
    ];
    let names = if family == Family::V4 { V4 } else { V6 };
    if let Some(&(_, ty)) = names.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)) {
        return Ok((ty, 0));
    }
    let (ty, code) = text.split_once('/').unwrap_or((text, "0"));
    match (ty.parse(), code.parse()) {
        (Ok(ty), Ok(code)) => Ok((ty, code)),
        _ => Err(QueryError::Field {
            field: "icmp_type",
            text: text.to_owned(),
            expected: "a name such as echo-request, TYPE or TYPE/CODE",
        }),
    }
}

/// A mark.
pub fn mark(text: &str) -> Result<u32, QueryError> {
    number(text)
        .and_then(|n| u32::try_from(n).ok())
        .ok_or_else(|| QueryError::Field {
            field: "mark",
            text: text.to_owned(),
            expected: "a 32-bit number, decimal or 0x…",
        })
}

/// A TOS byte.
pub fn tos(text: &str) -> Result<u8, QueryError> {
    number(text)
        .and_then(|n| u8::try_from(n).ok())
        .ok_or_else(|| QueryError::Field {
            field: "tos",
            text: text.to_owned(),
            expected: "a number up to 255, decimal or 0x…",
        })
}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_as_people_write_them() {
        assert_eq!(protocol("TCP"), Ok(6));
        assert_eq!(protocol("47"), Ok(47));
        assert!(protocol("300").is_err());
        assert_eq!(tcp_flags("SYN,ack"), Ok(0x12));
        assert_eq!(tcp_flags("0x10"), Ok(0x10));
        assert_eq!(icmp_type("echo-request", Family::V6), Ok((128, 0)));
        assert_eq!(icmp_type("3/4", Family::V4), Ok((3, 4)));
        assert_eq!(mark("0x4000"), Ok(0x4000));
        assert!(mark("0x100000000").is_err());
        assert!(tos("256").is_err());
    }
}
