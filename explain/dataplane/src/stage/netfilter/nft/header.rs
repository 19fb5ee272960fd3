//! Header fields: the bytes of a packet as far as the model knows them, and what writing them means.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::value::Val;
use knet_snapshot::id::Mac;

use crate::packet::{Arp, L4, Packet, Port, proto};
use crate::skb::Skb;
use crate::table::nft::expr::{Base, Gate, Payload};
use crate::table::nft::ty::mac;
use crate::trace::Field;

/// A header: its bytes, and which of their bits are known.
struct Header {
    bytes: [u8; 48],
    known: [u8; 48],
    len: usize,
}

impl Header {
    const fn new(len: usize) -> Self {
        Self {
            bytes: [0; 48],
            known: [0; 48],
            len,
        }
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        self.known[at..at + bytes.len()].fill(0xff);
    }

    fn port(&mut self, at: usize, port: Port) {
        if !port.drawn {
            self.put(at, &port.value.to_be_bytes());
        }
    }

    fn bits(&self, offset: u16, len: u16) -> Option<Val> {
        let (offset, len) = (usize::from(offset), usize::from(len));
        let end = offset + len;
        if len == 0 || len > 128 || end > self.len * 8 {
            return None;
        }
        let mut out = Val::UNKNOWN;
        for i in offset..end {
            let bit = |bytes: &[u8; 48]| u128::from(bytes[i / 8] >> (7 - i % 8) & 1);
            out.bits = out.bits << 1 | bit(&self.bytes);
            out.known = out.known << 1 | bit(&self.known);
        }
        let mask = if len == 128 { u128::MAX } else { (1 << len) - 1 };
        Some(out.masked(mask))
    }
}

/// Whether a packet has the header a field is in.
pub(super) fn passes(gate: Gate, skb: &Skb) -> bool {
    let packet = &skb.packet;
    let ip = skb.arp.is_none();
    match gate {
        Gate::Any => true,
        Gate::Ether => skb.eth.is_some(),
        Gate::Vlan => skb.eth.is_some_and(|e| e.vlan.is_some()),
        Gate::Arp => !ip,
        Gate::Ip => ip && packet.src.is_ipv4(),
        Gate::Ip6 => ip && packet.src.is_ipv6(),
        Gate::L4(proto) => ip && packet.proto == proto,
        Gate::Th => ip,
    }
}

/// Reads a field. `None`: the packet has none, and the rule ends.
pub(super) fn read(p: &Payload, skb: &Skb) -> Option<Val> {
    if !passes(p.gate, skb) {
        return None;
    }
    let header = match (p.base, &skb.arp) {
        (Base::Ll, _) => link(skb)?,
        (Base::Nh, Some(arp)) => message(arp),
        (Base::Nh, None) => network(&skb.packet),
        (Base::Th, Some(_)) => return None,
        (Base::Th, None) => transport(&skb.packet),
    };
    match header.bits(p.offset, p.len) {
        Some(val) => Some(val),
        // Behind the header there is data, unless the packet ends before.
        None => {
            let end = u32::from(p.offset) + u32::from(p.len);
            let room = match p.base {
                Base::Ll => u32::from(skb.packet.len) + 14,
                Base::Nh => u32::from(skb.packet.len),
                Base::Th => u32::from(skb.packet.len).saturating_sub(network(&skb.packet).len as u32),
            };
            (end.div_ceil(8) <= room).then_some(Val::UNKNOWN)
        }
    }
}

fn link(skb: &Skb) -> Option<Header> {
    let eth = skb.eth?;
    let mut h = Header::new(if eth.vlan.is_some() { 18 } else { 14 });
    let bytes = |m| mac(m).to_be_bytes();
    if let Some(dst) = eth.dst {
        h.put(0, &bytes(dst)[10..]);
    }
    if let Some(src) = eth.src {
        h.put(6, &bytes(src)[10..]);
    }
    let ty = ether_type(skb);
    match eth.vlan {
        Some(vlan) => {
            h.put(12, &0x8100_u16.to_be_bytes());
            h.put(14, &(vlan & 0xfff).to_be_bytes());
            // The priority bits are not kept.
            h.known[14] = 0x0f;
            h.put(16, &ty.to_be_bytes());
        }
        None => h.put(12, &ty.to_be_bytes()),
    }
    Some(h)
}

/// `skb->protocol`
pub(super) fn ether_type(skb: &Skb) -> u16 {
    match (&skb.arp, skb.packet.src) {
        (Some(_), _) => 0x0806,
        (None, IpAddr::V4(_)) => 0x0800,
        (None, IpAddr::V6(_)) => 0x86dd,
    }
}

/// An ARP message; a MAC that is not known stays so.
fn message(arp: &Arp) -> Header {
    let mut h = Header::new(28);
    h.put(0, &[0, 1, 0x08, 0, 6, 4, 0, if arp.reply { 2 } else { 1 }]);
    let mut end = |at: usize, (hardware, addr): (Option<Mac>, Ipv4Addr)| {
        if let Some(hardware) = hardware {
            h.put(at, &hardware.0);
        }
        h.put(at + 6, &addr.octets());
    };
    end(8, arp.sender);
    end(18, arp.target);
    h
}

fn network(packet: &Packet) -> Header {
    match (packet.src, packet.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let mut h = Header::new(20);
            h.put(0, &[0x45, packet.tos]);
            h.put(2, &packet.len.to_be_bytes());
            // No fragments are walked; the identification is anything.
            h.put(6, &[if packet.df { 0x40 } else { 0 }, 0, packet.ttl, packet.proto]);
            h.put(12, &src.octets());
            h.put(16, &dst.octets());
            h
        }
        (src, dst) => {
            let mut h = Header::new(40);
            h.put(0, &[0x60 | packet.tos >> 4, packet.tos << 4]);
            // The flow label is anything.
            h.known[1] = 0xf0;
            h.put(4, &packet.len.saturating_sub(40).to_be_bytes());
            h.put(6, &[packet.proto, packet.ttl]);
            let v6 = |a: IpAddr| match a {
                IpAddr::V6(a) => a,
                IpAddr::V4(a) => a.to_ipv6_mapped(),
            };
            h.put(8, &v6(src).octets());
            h.put(24, &v6(dst).octets());
            h
        }
    }
}

fn transport(packet: &Packet) -> Header {
    match &packet.l4 {
        L4::Tcp { sport, dport, flags } => {
            let mut h = Header::new(20);
            h.port(0, *sport);
            h.port(2, *dport);
            h.put(13, &[*flags]);
            h
        }
        L4::Ports { sport, dport } => {
            let mut h = Header::new(if packet.proto == proto::SCTP { 12 } else { 8 });
            h.port(0, *sport);
            h.port(2, *dport);
            if packet.proto == proto::UDP {
                let ip = if packet.src.is_ipv4() { 20 } else { 40 };
                h.put(4, &packet.len.saturating_sub(ip).to_be_bytes());
            }
            h
        }
        L4::Icmp { ty, code, id, quoted } => {
            let mut h = Header::new(8);
            h.put(0, &[*ty, *code]);
            if quoted.is_none() {
                h.port(4, *id);
            }
            h
        }
        L4::Other => Header::new(8),
    }
}

/// What writing a field did.
pub(super) enum Written {
    /// These fields changed.
    Fields(Vec<Field>),
    /// An address or port changed.
    Tuple,
    /// The packet has no such field.
    NotThere,
    /// A field that nothing here looks at.
    Ignored,
    /// A field that decides, and its new value is not known.
    Unknown,
}

/// Writes a field.
pub(super) fn write(p: &Payload, val: Val, skb: &mut Skb) -> Written {
    if !passes(p.gate, skb) {
        return Written::NotThere;
    }
    if skb.arp.is_some() && p.base != Base::Ll {
        return Written::Unknown;
    }
    let mask = if p.len >= 128 { u128::MAX } else { (1 << p.len) - 1 };
    let known = val.get(mask);
    let v4 = skb.packet.src.is_ipv4();
    let packet = &mut skb.packet;
    let ports = matches!(packet.l4, L4::Tcp { .. } | L4::Ports { .. });
    let narrow = |n: u128| u8::try_from(n & 0xff).unwrap_or_default();
    match (p.base, p.offset, p.len) {
        (Base::Nh, 64, 8) if v4 => set_ttl(packet, known.map(narrow)),
        (Base::Nh, 56, 8) if !v4 => set_ttl(packet, known.map(narrow)),
        (Base::Nh, 8, 8) if v4 => set_tos(packet, known.map(narrow)),
        (Base::Nh, 4, 8) if !v4 => set_tos(packet, known.map(narrow)),
        (Base::Nh, 8, 6) if v4 => set_tos(packet, known.map(|n| narrow(n) << 2 | packet.tos & 3)),
        (Base::Nh, 4, 6) if !v4 => set_tos(packet, known.map(|n| narrow(n) << 2 | packet.tos & 3)),
        (Base::Nh, 14, 2) if v4 => set_tos(packet, known.map(|n| packet.tos & !3 | narrow(n))),
        (Base::Nh, 10, 2) if !v4 => set_tos(packet, known.map(|n| packet.tos & !3 | narrow(n))),
        (Base::Nh, 96, 32) if v4 => set_addr(&mut packet.src, known),
        (Base::Nh, 128, 32) if v4 => set_addr(&mut packet.dst, known),
        (Base::Nh, 64, 128) if !v4 => set_addr(&mut packet.src, known),
        (Base::Nh, 192, 128) if !v4 => set_addr(&mut packet.dst, known),
        // Identification and checksum.
        (Base::Nh, 32 | 80, 16) if v4 => Written::Ignored,
        // The flow label.
        (Base::Nh, 12, 20) if !v4 => Written::Ignored,
        (Base::Th, 0 | 16, 16) if ports => {
            let Some(n) = known.and_then(|n| u16::try_from(n).ok()) else {
                return Written::Unknown;
            };
            if p.offset == 0 {
                packet.set_sport(n.into())
            } else {
                packet.set_dport(n.into())
            }
            Written::Tuple
        }
        (Base::Th, 104, 8) => match (&mut packet.l4, known) {
            (L4::Tcp { flags, .. }, Some(n)) => {
                *flags = narrow(n);
                Written::Tuple
            }
            (L4::Tcp { .. }, None) => Written::Unknown,
            _ => Written::Ignored,
        },
        (Base::Th, offset, _) if offset >= 32 => Written::Ignored,
        (Base::Ll, 0 | 48, 48) => {
            let Some(eth) = &mut skb.eth else {
                return Written::NotThere;
            };
            let mac = known.map(|n| {
                let b = n.to_be_bytes();
                Mac([b[10], b[11], b[12], b[13], b[14], b[15]])
            });
            if p.offset == 0 {
                eth.dst = mac
            } else {
                eth.src = mac
            }
            Written::Tuple
        }
        _ => Written::Unknown,
    }
}

fn set_ttl(packet: &mut Packet, to: Option<u8>) -> Written {
    let Some(to) = to else { return Written::Unknown };
    let from = std::mem::replace(&mut packet.ttl, to);
    Written::Fields(if from == to {
        Vec::new()
    } else {
        vec![Field::Ttl { from, to }]
    })
}

fn set_tos(packet: &mut Packet, to: Option<u8>) -> Written {
    let Some(to) = to else { return Written::Unknown };
    let from = std::mem::replace(&mut packet.tos, to);
    Written::Fields(if from == to {
        Vec::new()
    } else {
        vec![Field::Tos { from, to }]
    })
}

fn set_addr(addr: &mut IpAddr, to: Option<u128>) -> Written {
    let Some(to) = to else { return Written::Unknown };
    *addr = match addr {
        IpAddr::V4(_) => Ipv4Addr::from_bits(u32::try_from(to & 0xffff_ffff).unwrap_or_default()).into(),
        IpAddr::V6(_) => Ipv6Addr::from_bits(to).into(),
    };
    Written::Tuple
}
