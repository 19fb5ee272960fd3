//! The header fields a trace prints.

use std::net::IpAddr;

/// A packet as a trace shows it. What is `None` was not printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Device it came in by.
    pub iif: Option<Box<str>>,
    /// Device it leaves by.
    pub oif: Option<Box<str>>,
    /// Source.
    pub src: IpAddr,
    /// Destination.
    pub dst: IpAddr,
    /// Protocol. `xtables-monitor` prints none: it is known of TCP by the flags.
    pub proto: Option<u8>,
    /// Source port.
    pub sport: Option<u16>,
    /// Destination port.
    pub dport: Option<u16>,
    /// TCP flag bits, as in the header.
    pub flags: Option<u8>,
    /// ICMP type.
    pub icmp: Option<u8>,
    /// IPv4 identification, or IPv6 flow label.
    pub ident: Option<u32>,
    /// Length, as the tool counts it.
    pub len: Option<u32>,
}

/// Fields as they are collected from a line.
#[derive(Debug, Default)]
pub(super) struct Fields {
    pub iif: Option<Box<str>>,
    pub oif: Option<Box<str>>,
    pub src: Option<IpAddr>,
    pub dst: Option<IpAddr>,
    pub proto: Option<u8>,
    pub sport: Option<u16>,
    pub dport: Option<u16>,
    pub flags: Option<u8>,
    pub icmp: Option<u8>,
    pub ident: Option<u32>,
    pub len: Option<u32>,
}

impl Fields {
    /// The header, when it is one of an IP packet.
    pub fn header(self) -> Option<Header> {
        let Self {
            iif,
            oif,
            src,
            dst,
            proto,
            sport,
            dport,
            flags,
            icmp,
            ident,
            len,
        } = self;
        Some(Header {
            iif,
            oif,
            src: src?,
            dst: dst?,
            proto,
            sport,
            dport,
            flags,
            icmp,
            ident,
            len,
        })
    }

    /// `SRC=…`: the fields that the kernel log and `xtables-monitor` have in common. Stops at the packet
    /// that an ICMP error quotes.
    pub fn of_pairs(line: &str) -> Self {
        let mut this = Self::default();
        for word in line.split_whitespace() {
            if word.starts_with('[') && this.src.is_some() {
                break;
            }
            let Some((key, value)) = word.split_once('=') else {
                if let Some(flag) = tcp_flag(word) {
                    this.flags = Some(this.flags.unwrap_or_default() | flag);
                }
                continue;
            };
            let name = || (!value.is_empty()).then(|| Box::from(value));
            match key {
                "IN" => this.iif = name(),
                "OUT" => this.oif = name(),
                "SRC" => this.src = value.parse().ok(),
                "DST" => this.dst = value.parse().ok(),
                "PROTO" => this.proto = protocol(value),
                "SPT" | "SPORT" => this.sport = value.parse().ok(),
                "DPT" | "DPORT" => this.dport = value.parse().ok(),
                "TYPE" => this.icmp = value.parse().ok(),
                // UDP has a length of its own after the packet's.
                "LEN" => this.len = this.len.or_else(|| value.parse().ok()),
                // Some versions print `DF` without a blank after it.
                "ID" => this.ident = value.trim_end_matches(|c: char| c.is_ascii_uppercase()).parse().ok(),
                "FLOWLBL" => this.ident = value.parse().ok(),
                _ => {}
            }
        }
        this
    }
}

/// A protocol by name or number.
pub(super) fn protocol(word: &str) -> Option<u8> {
    Some(match word.to_ascii_lowercase().as_str() {
        "icmp" => 1,
        "tcp" => 6,
        "udp" => 17,
        "dccp" => 33,
        "esp" => 50,
        "ah" => 51,
        "icmpv6" | "ipv6-icmp" => 58,
        "sctp" => 132,
        "udplite" => 136,
        other => return other.parse().ok(),
    })
}

/// A TCP flag by name.
pub(super) fn tcp_flag(word: &str) -> Option<u8> {
    Some(match word.to_ascii_lowercase().as_str() {
        "fin" => 0x01,
        "syn" => 0x02,
        "rst" => 0x04,
        "psh" => 0x08,
        "ack" => 0x10,
        "urg" => 0x20,
        "ece" | "ecn" => 0x40,
        "cwr" => 0x80,
        _ => return None,
    })
}
