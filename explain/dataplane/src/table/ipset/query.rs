//! What xtables hands to a set: the packet, and which of its fields each dimension takes.

use std::net::IpAddr;

use knet_snapshot::id::Mac;

use super::Doubt;
use super::kind::Field;
use crate::packet::{Eth, L4, Packet, proto};

/// One of the comma-separated flags of `--match-set NAME src,dst`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// Source address or port, source MAC, input device.
    Src,
    /// Destination address or port, destination MAC, output device.
    Dst,
}

/// What a rule asks beside membership.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetFlags {
    /// `--return-nomatch`: only members marked `nomatch` match.
    pub return_nomatch: bool,
    /// A condition on counters is there (`--packets-gt`, `--bytes-eq`, ...).
    pub counters: bool,
    /// `IPSET_FLAG_PHYSDEV`: device dimensions are bridge ports. No option of iptables sets it, so
    /// `physdev:` members never match there.
    pub physdev: bool,
}

/// A packet at a hook, and how a rule reads it.
#[derive(Clone, Copy, Debug)]
pub struct SetQuery<'a> {
    /// The packet.
    pub packet: &'a Packet,
    /// The Ethernet header it was received with; `None` when it has none (sent here, or from a device
    /// without link-layer header).
    pub eth: Option<&'a Eth>,
    /// Name of the input device at this hook.
    pub iif: Option<&'a str>,
    /// Name of the output device at this hook.
    pub oif: Option<&'a str>,
    /// Name of the bridge port it came in by.
    pub physin: Option<&'a str>,
    /// Name of the bridge port it will leave by.
    pub physout: Option<&'a str>,
    /// `skb->mark`
    pub mark: u32,
    /// The rule's directions, one a dimension. Surplus ones are ignored.
    pub dirs: &'a [Side],
    /// The rule's options.
    pub flags: SetFlags,
}

/// What a dimension of a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Addr(u128),
    L4 {
        proto: u8,
        port: u16,
    },
    Mac(Mac),
    Mark(u32),
    Iface(&'a str),
    /// The packet has no such field: `kadt` gives up, the set does not match.
    Absent,
    /// The model does not know.
    Doubt(Doubt),
}

impl<'a> SetQuery<'a> {
    /// The field a dimension reads from the packet.
    pub(super) fn value(&self, field: Field, side: Side) -> Value<'a> {
        match field {
            Field::Ip | Field::Net => Value::Addr(bits(match side {
                Side::Src => self.packet.src,
                Side::Dst => self.packet.dst,
            })),
            Field::L4 => self.l4(side),
            Field::AnyPort => match self.packet.proto {
                proto::TCP | proto::UDP => match self.l4(side) {
                    Value::L4 { port, .. } => Value::L4 { proto: 0, port },
                    other => other,
                },
                _ => Value::Absent,
            },
            Field::Mac => self.mac(side),
            Field::Mark => Value::Mark(self.mark),
            Field::Iface => self.iface(side),
        }
    }

    /// `ip_set_get_ip4_port`, `ip_set_get_ip6_port`: ICMP has type and code for a port, a protocol
    /// without ports (to the kernel DCCP is one) has port 0, and a packet of protocol 0 has nothing.
    fn l4(&self, side: Side) -> Value<'a> {
        let proto = self.packet.proto;
        let port = match proto {
            0 => return Value::Absent,
            proto::TCP | proto::UDP | proto::UDPLITE | proto::SCTP => {
                let port = match side {
                    Side::Src => self.packet.sport(),
                    Side::Dst => self.packet.dport(),
                };
                match port {
                    Some(port) if !port.drawn => port.value,
                    _ => return Value::Doubt(Doubt::Port),
                }
            }
            proto::ICMP | proto::ICMPV6 => match self.packet.l4 {
                L4::Icmp { ty, code, .. } => u16::from_be_bytes([ty, code]),
                _ => return Value::Doubt(Doubt::Port),
            },
            _ => 0,
        };
        Value::L4 { proto, port }
    }

    fn mac(&self, side: Side) -> Value<'a> {
        let Some(eth) = self.eth else { return Value::Absent };
        let mac = match side {
            Side::Src => eth.src,
            Side::Dst => eth.dst,
        };
        match mac {
            None => Value::Doubt(Doubt::Mac),
            Some(Mac([0, 0, 0, 0, 0, 0])) => Value::Absent,
            Some(mac) => Value::Mac(mac),
        }
    }

    fn iface(&self, side: Side) -> Value<'a> {
        let name = match (self.flags.physdev, side) {
            (false, Side::Src) => self.iif,
            (false, Side::Dst) => self.oif,
            (true, Side::Src) => self.physin,
            (true, Side::Dst) => self.physout,
        };
        name.filter(|n| !n.is_empty()).map_or(Value::Absent, Value::Iface)
    }
}

/// An address in the low bits of a `u128`.
pub(super) fn bits(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(a) => u128::from(a.to_bits()),
        IpAddr::V6(a) => a.to_bits(),
    }
}
