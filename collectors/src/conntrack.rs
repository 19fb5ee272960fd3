//! The connection table over nfnetlink (`net/netfilter/nf_conntrack_netlink.c`), written as
//! `conntrack -L -o extended` prints it. It only asks; the caller makes sure that asking loads no module.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_sys::protocols::NETLINK_NETFILTER;

use crate::exec::Limits;
use crate::netlink::socket::{Netlink, NetlinkError, attributes};

/// `NFNL_SUBSYS_CTNETLINK`, `IPCTNL_MSG_CT_GET`
const GET: u16 = 0x0101;
/// `struct nfgenmsg`
const HEADER: usize = 4;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_STATUS: u16 = 3;
const CTA_PROTOINFO: u16 = 4;
const CTA_HELP: u16 = 5;
const CTA_TIMEOUT: u16 = 7;
const CTA_MARK: u16 = 8;
const CTA_COUNTERS_ORIG: u16 = 9;
const CTA_COUNTERS_REPLY: u16 = 10;
const CTA_ZONE: u16 = 18;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_TUPLE_ZONE: u16 = 3;
const IPS_SEEN_REPLY: u64 = 1 << 1;
const IPS_ASSURED: u64 = 1 << 2;
const IPS_OFFLOAD: u64 = 1 << 14;
const IPS_HW_OFFLOAD: u64 = 1 << 15;

/// Names of `enum tcp_conntrack`, `sctp_conntrack` and `ct_dccp_states`, as `conntrack` writes them.
const TCP: &[&str] = &[
    "NONE",
    "SYN_SENT",
    "SYN_RECV",
    "ESTABLISHED",
    "FIN_WAIT",
    "CLOSE_WAIT",
    "LAST_ACK",
    "TIME_WAIT",
    "CLOSE",
    "LISTEN",
];
const SCTP: &[&str] = &[
    "NONE",
    "CLOSED",
    "COOKIE_WAIT",
    "COOKIE_ECHOED",
    "ESTABLISHED",
    "SHUTDOWN_SENT",
    "SHUTDOWN_RECD",
    "SHUTDOWN_ACK_SENT",
    "HEARTBEAT_SENT",
];
const DCCP: &[&str] = &[
    "NONE", "REQUEST", "RESPOND", "PARTOPEN", "OPEN", "CLOSEREQ", "CLOSING", "TIMEWAIT",
];

/// The table of this thread's namespace, a line for each connection, and whether the dump was not interrupted.
///
/// # Errors
/// When the kernel refuses (`CAP_NET_ADMIN`), or answers what cannot be read.
pub fn read(limits: Limits) -> Result<(Vec<u8>, bool), NetlinkError> {
    let mut netlink = Netlink::open(NETLINK_NETFILTER, limits)?;
    let mut out = String::new();
    let interrupted = netlink.dump(GET, &[0; HEADER], |message| {
        line(message.payload, &mut out).ok_or("a connection without a tuple")?;
        Ok(())
    })?;
    Ok((out.into_bytes(), !interrupted))
}

/// Decodes one message (with its header) into a line.
fn line(payload: &[u8], out: &mut String) -> Option<()> {
    let body = payload.get(HEADER..)?;
    let (orig, reply) = (
        Tuple::of(find(body, CTA_TUPLE_ORIG)?)?,
        Tuple::of(find(body, CTA_TUPLE_REPLY)?)?,
    );
    let (family, number) = match orig.src {
        IpAddr::V4(_) => ("ipv4", 2),
        IpAddr::V6(_) => ("ipv6", 10),
    };
    let proto = match orig.proto {
        1 => "icmp",
        6 => "tcp",
        17 => "udp",
        33 => "dccp",
        47 => "gre",
        58 => "icmpv6",
        132 => "sctp",
        136 => "udplite",
        _ => "unknown",
    };
    // Writing to a String cannot fail.
    let _ = write!(out, "{family:<8} {number} {proto:<8} {}", orig.proto);
    if let Some(timeout) = find(body, CTA_TIMEOUT) {
        let _ = write!(out, " {}", number_of(timeout));
    }
    if let Some(state) = find(body, CTA_PROTOINFO).and_then(state) {
        let _ = write!(out, " {state}");
    }
    let status = find(body, CTA_STATUS).map_or(0, number_of);
    orig.write(out);
    counters(find(body, CTA_COUNTERS_ORIG), out);
    if status & IPS_SEEN_REPLY == 0 {
        out.push_str(" [UNREPLIED]");
    }
    reply.write(out);
    counters(find(body, CTA_COUNTERS_REPLY), out);
    if status & IPS_HW_OFFLOAD != 0 {
        out.push_str(" [HW_OFFLOAD]");
    } else if status & IPS_OFFLOAD != 0 {
        out.push_str(" [OFFLOAD]");
    } else if status & IPS_ASSURED != 0 {
        out.push_str(" [ASSURED]");
    }
    let _ = write!(out, " mark={}", find(body, CTA_MARK).map_or(0, number_of));
    if let Some(zone) = find(body, CTA_ZONE) {
        let _ = write!(out, " zone={}", number_of(zone));
    }
    for (name, zone) in [("zone-orig", orig.zone), ("zone-reply", reply.zone)] {
        if let Some(zone) = zone {
            let _ = write!(out, " {name}={zone}");
        }
    }
    // `CTA_HELP_NAME`
    if let Some(name) = find(body, CTA_HELP).and_then(|nest| find(nest, 1)) {
        let name = String::from_utf8_lossy(name);
        let _ = write!(out, " helper={}", name.trim_end_matches('\0'));
    }
    out.push('\n');
    Some(())
}

/// One direction.
struct Tuple {
    src: IpAddr,
    dst: IpAddr,
    proto: u8,
    /// Source and destination port, or keys of GRE.
    ports: Option<(u64, u64)>,
    /// Type, code and id.
    icmp: Option<(u64, u64, u64)>,
    zone: Option<u64>,
}

impl Tuple {
    fn of(nest: &[u8]) -> Option<Self> {
        let (ip, proto) = (find(nest, CTA_TUPLE_IP)?, find(nest, CTA_TUPLE_PROTO)?);
        let address_of = |v4, v6| find(ip, v4).or_else(|| find(ip, v6)).and_then(address);
        let value = |kind| find(proto, kind).map(number_of);
        // `CTA_PROTO_ICMP_*`, `CTA_PROTO_ICMPV6_*`
        let icmp = |id, kind, code| Some((value(kind)?, value(code)?, value(id)?));
        Some(Self {
            src: address_of(1, 3)?,
            dst: address_of(2, 4)?,
            proto: *find(proto, 1)?.first()?,
            ports: value(2).zip(value(3)),
            icmp: icmp(4, 5, 6).or_else(|| icmp(7, 8, 9)),
            zone: find(nest, CTA_TUPLE_ZONE).map(number_of),
        })
    }

    fn write(&self, out: &mut String) {
        const GRE: u8 = 47;
        let _ = write!(out, " src={} dst={}", self.src, self.dst);
        if let Some((kind, code, id)) = self.icmp {
            let _ = write!(out, " type={kind} code={code} id={id}");
        }
        match self.ports {
            Some((src, dst)) if self.proto == GRE => {
                let _ = write!(out, " srckey={src:#x} dstkey={dst:#x}");
            }
            Some((src, dst)) => {
                let _ = write!(out, " sport={src} dport={dst}");
            }
            None => {}
        }
    }
}

/// `CTA_PROTOINFO_TCP`, `.._DCCP`, `.._SCTP`; the state is the first attribute of each.
fn state(nest: &[u8]) -> Option<&'static str> {
    let (kind, inner) = attributes(nest).next()?;
    let names = match kind {
        1 => TCP,
        2 => DCCP,
        3 => SCTP,
        _ => return None,
    };
    names.get(usize::from(*find(inner, 1)?.first()?)).copied()
}

/// `CTA_COUNTERS_PACKETS`, `CTA_COUNTERS_BYTES`; only where they are counted.
fn counters(nest: Option<&[u8]>, out: &mut String) {
    let counted = nest.and_then(|nest| Some((number_of(find(nest, 1)?), number_of(find(nest, 2)?))));
    if let Some((packets, bytes)) = counted {
        let _ = write!(out, " packets={packets} bytes={bytes}");
    }
}

fn find(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes)
        .find(|(kind, _)| *kind == wanted)
        .map(|(_, value)| value)
}

/// In network byte order, of any size up to eight bytes.
fn number_of(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

fn address(raw: &[u8]) -> Option<IpAddr> {
    match raw.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(raw).ok()?).into()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(raw).ok()?).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::socket::put;

    fn nest(attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        for (kind, value) in attributes {
            put(&mut out, *kind, value);
        }
        out
    }

    fn tuple(src: [u8; 4], dst: [u8; 4], proto: &[(u16, &[u8])]) -> Vec<u8> {
        let ip = nest(&[(1, &src), (2, &dst)]);
        nest(&[(CTA_TUPLE_IP, &ip), (CTA_TUPLE_PROTO, &nest(proto))])
    }

    #[test]
    fn a_line_is_that_of_conntrack() {
        let orig = tuple([10, 0, 0, 1], [10, 0, 0, 2], &[(1, &[6]), (2, &[0, 1]), (3, &[0, 80])]);
        let reply = tuple([10, 0, 0, 2], [10, 0, 0, 1], &[(1, &[6]), (2, &[0, 80]), (3, &[0, 1])]);
        let info = nest(&[(1, &nest(&[(1, &[3])]))]);
        let body = nest(&[
            (CTA_TUPLE_ORIG, &orig),
            (CTA_TUPLE_REPLY, &reply),
            (CTA_STATUS, &[0, 0, 0, 0x0e]),
            (CTA_PROTOINFO, &info),
            (CTA_TIMEOUT, &[0, 0, 0, 99]),
            (CTA_MARK, &[0, 0, 0, 7]),
            (CTA_ZONE, &[0, 5]),
            (CTA_HELP, &nest(&[(1, b"ftp\0")])),
        ]);
        let message = [&[2, 0, 0, 0][..], &body].concat();
        let mut out = String::new();
        line(&message, &mut out).expect("it is whole");
        assert_eq!(
            out,
            "ipv4     2 tcp      6 99 ESTABLISHED src=10.0.0.1 dst=10.0.0.2 sport=1 dport=80 \
             src=10.0.0.2 dst=10.0.0.1 sport=80 dport=1 [ASSURED] mark=7 zone=5 helper=ftp\n"
        );
        for end in 0..message.len() {
            let _ = line(&message[..end], &mut String::new());
        }
    }
}
