//! Packets as bytes: built for sending, parsed when they come out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use knet_dataplane::packet::{Encapsulated, L4, Packet, Port, proto, tcp_flag};

/// First bytes of the payload of every packet of the judge, before its number.
const MARKER: &[u8; 4] = b"knet";

/// Sequence numbers of a connection, so that every packet of it is in the other's window.
pub const FIRST_SEQ: u32 = 0x0100_0000;
const OTHER_SEQ: u32 = 0x0200_0000;

/// MSS, selective acknowledgements, time stamps, window scale: `tcp_syn_options`.
const SYN_OPTIONS: [u8; 20] = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0x10, 0, 0, 0, 0, 0, 1, 3, 3, 7];

/// Which side of a connection a packet is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one that opened it.
    Client,
    /// The other one.
    Server,
}

/// A packet with its number, as an Ethernet payload. The length in the packet decides how much payload
/// there is.
pub fn build(packet: &Packet, number: u32, side: Side) -> Vec<u8> {
    let head = if packet.dst.is_ipv4() { 20 } else { 40 };
    let room = usize::from(packet.len).saturating_sub(head);
    let l4 = transport(packet, number, side, room);
    let mut out = ip_header(packet, l4.len(), number);
    out.extend(l4);
    out
}

fn ip_header(packet: &Packet, payload: usize, number: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(40 + payload);
    match (packet.src, packet.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let len = (20 + payload) as u16;
            out.extend([0x45, packet.tos]);
            out.extend(len.to_be_bytes());
            out.extend((number as u16).to_be_bytes());
            out.extend(if packet.df { [0x40, 0] } else { [0, 0] });
            out.extend([packet.ttl, packet.proto, 0, 0]);
            out.extend(src.octets());
            out.extend(dst.octets());
            let sum = checksum(&[&out]);
            out[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            out.extend((6u32 << 28 | u32::from(packet.tos) << 20).to_be_bytes());
            out.extend((payload as u16).to_be_bytes());
            out.extend([packet.proto, packet.ttl]);
            out.extend(src.octets());
            out.extend(dst.octets());
        }
        _ => panic!("mixed families in {packet:?}"),
    }
    out
}

fn transport(packet: &Packet, number: u32, side: Side, room: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(room);
    let mut filled = true;
    let at = match &packet.l4 {
        L4::Tcp { sport, dport, flags } => {
            out.extend(sport.value.to_be_bytes());
            out.extend(dport.value.to_be_bytes());
            let (own, other) = match side {
                Side::Client => (FIRST_SEQ, OTHER_SEQ),
                Side::Server => (OTHER_SEQ, FIRST_SEQ),
            };
            let seq = own + u32::from(flags & tcp_flag::SYN == 0);
            let ack = if flags & tcp_flag::ACK == 0 { 0 } else { other + 1 };
            out.extend(seq.to_be_bytes());
            out.extend(ack.to_be_bytes());
            if *flags == tcp_flag::SYN {
                out.extend([0xa0, *flags, 0x20, 0, 0, 0, 0, 0]);
                out.extend(SYN_OPTIONS);
            } else {
                out.extend([0x50, *flags, 0x20, 0, 0, 0, 0, 0]);
            }
            Some(16)
        }
        L4::Ports { sport, dport } => {
            out.extend(sport.value.to_be_bytes());
            out.extend(dport.value.to_be_bytes());
            match packet.proto {
                proto::SCTP => {
                    // A verification tag of 0 and an INIT chunk.
                    out.extend([0; 8]);
                    out.extend([1, 0, 0, 20, 0, 0, 0, 1, 0, 0, 0x20, 0, 0, 1, 0, 1, 0, 0, 0, 1]);
                    let sum = crc32c(&out);
                    out[8..12].copy_from_slice(&sum.to_le_bytes());
                    return out;
                }
                proto::UDPLITE => {
                    out.extend((room as u16).to_be_bytes());
                    out.extend([0, 0]);
                }
                _ => {
                    out.extend((room as u16).to_be_bytes());
                    out.extend([0, 0]);
                }
            }
            Some(6)
        }
        L4::Icmp { ty, code, id, quoted } => {
            out.extend([*ty, *code, 0, 0]);
            match quoted {
                None => {
                    out.extend(id.value.to_be_bytes());
                    out.extend([0, 1]);
                }
                Some(quoted) => {
                    out.extend([0; 4]);
                    out.extend(build(quoted, number, Side::Client));
                    filled = false;
                }
            }
            Some(2)
        }
        L4::Other => None,
    };
    if filled {
        out.extend(MARKER);
        out.extend(number.to_be_bytes());
        let short = room.saturating_sub(out.len());
        out.extend(std::iter::repeat_n(0x5a, short));
    }
    if let Some(at) = at {
        let sum = if packet.proto == proto::ICMP {
            checksum(&[&out])
        } else {
            checksum(&[&pseudo(packet.src, packet.dst, packet.proto, out.len()), &out])
        };
        let sum = if packet.proto == proto::UDP && sum == 0 {
            0xffff
        } else {
            sum
        };
        out[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }
    out
}

fn pseudo(src: IpAddr, dst: IpAddr, proto: u8, len: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for addr in [src, dst] {
        match addr {
            IpAddr::V4(a) => out.extend(a.octets()),
            IpAddr::V6(a) => out.extend(a.octets()),
        }
    }
    out.extend((len as u32).to_be_bytes());
    out.extend(u32::from(proto).to_be_bytes());
    out
}

fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u32;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
        }
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}

/// An IP packet and its number, if it carries one of the judge's.
pub fn parse(bytes: &[u8]) -> Option<(Packet, Option<u32>)> {
    match bytes.first()? >> 4 {
        4 => {
            let head = usize::from(bytes[0] & 15) * 4;
            if bytes.len() < head.max(20) {
                return None;
            }
            let src = Ipv4Addr::from(<[u8; 4]>::try_from(&bytes[12..16]).ok()?).into();
            let dst = Ipv4Addr::from(<[u8; 4]>::try_from(&bytes[16..20]).ok()?).into();
            let len = u16::from_be_bytes([bytes[2], bytes[3]]);
            let end = usize::from(len).min(bytes.len()).max(head);
            let fixed = Fixed {
                src,
                dst,
                proto: bytes[9],
                ttl: bytes[8],
                tos: bytes[1],
                len,
                df: bytes[6] & 0x40 != 0,
            };
            Some(upper(fixed, &bytes[head..end]))
        }
        6 => {
            if bytes.len() < 40 {
                return None;
            }
            let src = Ipv6Addr::from(<[u8; 16]>::try_from(&bytes[8..24]).ok()?).into();
            let dst = Ipv6Addr::from(<[u8; 16]>::try_from(&bytes[24..40]).ok()?).into();
            let payload = u16::from_be_bytes([bytes[4], bytes[5]]);
            let tos = (bytes[0] & 15) << 4 | bytes[1] >> 4;
            let end = (usize::from(payload) + 40).min(bytes.len());
            let fixed = Fixed {
                src,
                dst,
                proto: bytes[6],
                ttl: bytes[7],
                tos,
                len: payload + 40,
                df: true,
            };
            Some(upper(fixed, &bytes[40..end]))
        }
        _ => None,
    }
}

/// The number that a packet carries, or the packet it quotes.
pub fn marked(bytes: &[u8]) -> Option<u32> {
    let at = bytes.windows(MARKER.len()).position(|w| w == MARKER)? + MARKER.len();
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// The fields of an IP header.
#[derive(Clone, Copy, Debug)]
pub struct Fixed {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub proto: u8,
    pub ttl: u8,
    pub tos: u8,
    pub len: u16,
    pub df: bool,
}

/// A packet of an IP header and what is behind it.
pub fn upper(fixed: Fixed, l4: &[u8]) -> (Packet, Option<u32>) {
    let port = |at: usize| Port::from(l4.get(at..at + 2).map_or(0, |b| u16::from_be_bytes([b[0], b[1]])));
    let byte = |at: usize| l4.get(at).copied().unwrap_or(0);
    let (header, payload) = match fixed.proto {
        proto::TCP => (
            L4::Tcp {
                sport: port(0),
                dport: port(2),
                flags: byte(13),
            },
            usize::from(byte(12) >> 4) * 4,
        ),
        proto::UDP | proto::UDPLITE | proto::SCTP | proto::DCCP => (
            L4::Ports {
                sport: port(0),
                dport: port(2),
            },
            8,
        ),
        proto::ICMP | proto::ICMPV6 => {
            let (ty, code) = (byte(0), byte(1));
            let error = if fixed.proto == proto::ICMP {
                matches!(ty, 3 | 4 | 5 | 11 | 12)
            } else {
                ty < 128
            };
            let quoted = if error {
                l4.get(8..).and_then(parse).map(|(p, _)| Box::new(p))
            } else {
                None
            };
            let id = if error { Port::from(0) } else { port(4) };
            (L4::Icmp { ty, code, id, quoted }, if error { usize::MAX } else { 8 })
        }
        _ => (L4::Other, 0),
    };
    let (inner, carried) = match inside(fixed.proto, l4).and_then(parse) {
        Some((packet, number)) => (Some(packet), number),
        None => (None, None),
    };
    let number = l4
        .get(payload..)
        .and_then(|rest| rest.strip_prefix(MARKER))
        .and_then(|rest| Some(u32::from_be_bytes(rest.get(..4)?.try_into().ok()?)))
        .or(carried);
    let Fixed {
        src,
        dst,
        proto,
        ttl,
        tos,
        len,
        df,
    } = fixed;
    (
        Packet {
            src,
            dst,
            proto,
            l4: header,
            ttl,
            tos,
            len,
            df,
            inner: inner.map(|packet| {
                Box::new(Encapsulated {
                    eth: None,
                    key: None,
                    noise: None,
                    arp: None,
                    packet,
                })
            }),
        },
        number,
    )
}

/// Port of the GUE tunnels.
pub const GUE: u16 = 6080;

/// The IP packet in a tunnel's.
fn inside(protocol: u8, l4: &[u8]) -> Option<&[u8]> {
    match protocol {
        proto::IPIP | proto::IPV6 => Some(l4),
        // Without a checksum or a key.
        proto::GRE => l4.get(4..),
        proto::UDP if l4.get(2..4)? == GUE.to_be_bytes() => {
            // The header's length is in words, and does not count its first.
            let header = l4.get(8)?;
            l4.get(8 + 4 + usize::from(header & 31) * 4..)
        }
        _ => None,
    }
}

/// What a program hands to its socket for a packet: the payload, or the whole ICMP message.
pub fn payload(packet: &Packet, number: u32) -> Vec<u8> {
    let head = if packet.dst.is_ipv4() { 20 } else { 40 };
    let mut bytes = transport(
        packet,
        number,
        Side::Client,
        usize::from(packet.len).saturating_sub(head),
    );
    match packet.l4 {
        L4::Icmp { .. } => bytes,
        L4::Tcp { .. } => Vec::new(),
        _ => bytes.split_off(8),
    }
}
