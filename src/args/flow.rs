//! What a packet is like when it is sent: the options of one flow.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use clap::Args;

/// The header fields of the first packet, and who sends it.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Packet")]
pub struct FlowArgs {
    /// Protocol: tcp, udp, sctp, icmp, icmp6 or a number [default: what the service says, else tcp]
    #[arg(short, long = "proto", value_name = "PROTO")]
    pub proto: Option<Protocol>,

    /// Where an off-cluster packet enters: node/NAME or node/NAME/IFACE
    #[arg(long, value_name = "NODE")]
    pub via: Option<String>,

    /// Source port [default: any]. With one, a captured connection of the same flow is shown as well
    #[arg(long, value_name = "PORT")]
    pub sport: Option<u16>,

    /// TCP flags of the packet, e.g. SYN,ACK [default: SYN]
    #[arg(long, value_name = "FLAGS")]
    pub tcp_flags: Option<String>,

    /// ICMP type, and code: TYPE or TYPE/CODE [default: echo request]
    #[arg(long, value_name = "TYPE")]
    pub icmp_type: Option<String>,

    /// TTL or hop limit [default: 64]
    #[arg(long, value_name = "N")]
    pub ttl: Option<u8>,

    /// TOS or traffic class, 0x.. or decimal
    #[arg(long, value_name = "N", value_parser = parse_u8)]
    pub tos: Option<u8>,

    /// Mark the sender sets (SO_MARK), 0x.. or decimal
    #[arg(long, value_name = "MARK")]
    pub mark: Option<Mark>,

    /// User id of the sending program
    #[arg(long, value_name = "UID")]
    pub uid: Option<u32>,

    /// Address the sending program binds to
    #[arg(long, value_name = "ADDR")]
    pub source_ip: Option<IpAddr>,
}

/// An IP protocol by name or number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protocol(pub String);

impl FromStr for Protocol {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let name = s.to_ascii_lowercase();
        let known = matches!(
            name.as_str(),
            "tcp" | "udp" | "sctp" | "icmp" | "icmp6" | "icmpv6" | "ipv6-icmp"
        );
        if known || name.parse::<u8>().is_ok() {
            return Ok(Self(name));
        }
        Err("use tcp, udp, sctp, icmp, icmp6 or a number from 0 to 255".to_owned())
    }
}

/// A packet mark, written as iptables writes it (`0x4000`) or in decimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(pub u32);

impl FromStr for Mark {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        parse_int(s)
            .and_then(|n| u32::try_from(n).ok())
            .map(Self)
            .ok_or_else(|| "use 0x4000 or 16384".to_owned())
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

fn parse_u8(s: &str) -> Result<u8, String> {
    parse_int(s)
        .and_then(|n| u8::try_from(n).ok())
        .ok_or_else(|| "use a number from 0 to 255, or 0x00 to 0xff".to_owned())
}

fn parse_int(s: &str) -> Option<u64> {
    match s.strip_prefix("0x").or_else(|| s.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => s.parse().ok(),
    }
}
