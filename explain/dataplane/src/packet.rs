//! A packet as it is on the wire: the header fields that Linux decides by.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use knet_snapshot::id::{Family, Mac};

/// IP protocol numbers with a meaning here.
pub mod proto {
    #![allow(missing_docs, reason = "each constant is the protocol it names")]
    pub const ICMP: u8 = 1;
    pub const IGMP: u8 = 2;
    pub const IPIP: u8 = 4;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const DCCP: u8 = 33;
    pub const IPV6: u8 = 41;
    pub const GRE: u8 = 47;
    pub const ESP: u8 = 50;
    pub const AH: u8 = 51;
    pub const ICMPV6: u8 = 58;
    pub const SCTP: u8 = 132;
    pub const UDPLITE: u8 = 136;
}

/// TCP flag bits, as in the header.
pub mod tcp_flag {
    #![allow(missing_docs, reason = "each constant is the flag it names")]
    pub const FIN: u8 = 0x01;
    pub const SYN: u8 = 0x02;
    pub const RST: u8 = 0x04;
    pub const PSH: u8 = 0x08;
    pub const ACK: u8 = 0x10;
    pub const URG: u8 = 0x20;
    pub const ECE: u8 = 0x40;
    pub const CWR: u8 = 0x80;
}

/// A transport port. `drawn` says that the kernel draws it at random: the value is only a stand-in by
/// which later packets of the same connection are recognised, and nobody may be shown it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    /// The value, or the stand-in.
    pub value: u16,
    /// Drawn at random by NAT.
    pub drawn: bool,
}

impl From<u16> for Port {
    fn from(value: u16) -> Self {
        Self { value, drawn: false }
    }
}

/// The transport header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum L4 {
    /// TCP.
    Tcp {
        /// Source port.
        sport: Port,
        /// Destination port.
        dport: Port,
        /// Flag bits, see [`tcp_flag`].
        flags: u8,
    },
    /// UDP, UDP-Lite, SCTP or DCCP: ports and nothing else that decides.
    Ports {
        /// Source port.
        sport: Port,
        /// Destination port.
        dport: Port,
    },
    /// ICMP or `ICMPv6`.
    Icmp {
        /// Type.
        ty: u8,
        /// Code.
        code: u8,
        /// Identifier of an echo or similar query; stand-in when drawn.
        id: Port,
        /// The packet an error quotes, as it was where the error was made.
        quoted: Option<Box<Packet>>,
    },
    /// Anything else.
    Other,
}

/// What an IP packet carries beside a transport header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encapsulated {
    /// The inner Ethernet header, when the tunnel carries frames.
    pub eth: Option<Eth>,
    /// VNI, GRE key, SPI, ...
    pub key: Option<u32>,
    /// WireGuard: who says what to whom.
    pub noise: Option<Noise>,
    /// An ARP message in the place of an inner packet.
    pub arp: Option<Arp>,
    /// The inner packet.
    pub packet: Packet,
}

/// A message between two devices of WireGuard. A handshake has no packet inside; its own header stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noise {
    /// The public key of the sender.
    pub from: Arc<str>,
    /// The public key of the peer it is for.
    pub to: Arc<str>,
    /// What it is.
    pub message: Message,
}

/// `enum message_type`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// Asks for a session.
    Initiation,
    /// Agrees to it.
    Response,
    /// A packet, sealed.
    Data,
}

/// An Ethernet header. `None` in a MAC means that the model does not know it (a sender outside the
/// snapshot).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Eth {
    /// Source.
    pub src: Option<Mac>,
    /// Destination.
    pub dst: Option<Mac>,
    /// VLAN tag.
    pub vlan: Option<u16>,
}

/// An IP packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// IP protocol (the upper-layer protocol for IPv6).
    pub proto: u8,
    /// Transport header.
    pub l4: L4,
    /// TTL or hop limit.
    pub ttl: u8,
    /// TOS or traffic class, all eight bits.
    pub tos: u8,
    /// Total length in bytes, IP header included.
    pub len: u16,
    /// Don't-fragment (always so for IPv6).
    pub df: bool,
    /// The packet inside, for a tunnel's outer packet.
    pub inner: Option<Box<Encapsulated>>,
}

impl Packet {
    /// Address family.
    #[must_use]
    pub const fn family(&self) -> Family {
        Family::of(self.dst)
    }

    /// Source port, of protocols that have ports.
    #[must_use]
    pub const fn sport(&self) -> Option<Port> {
        match self.l4 {
            L4::Tcp { sport, .. } | L4::Ports { sport, .. } => Some(sport),
            L4::Icmp { .. } | L4::Other => None,
        }
    }

    /// Destination port, of protocols that have ports.
    #[must_use]
    pub const fn dport(&self) -> Option<Port> {
        match self.l4 {
            L4::Tcp { dport, .. } | L4::Ports { dport, .. } => Some(dport),
            L4::Icmp { .. } | L4::Other => None,
        }
    }

    /// Sets the source port, or the id of an ICMP query.
    pub fn set_sport(&mut self, port: Port) {
        match &mut self.l4 {
            L4::Tcp { sport, .. } | L4::Ports { sport, .. } => *sport = port,
            L4::Icmp { id, .. } => *id = port,
            L4::Other => {}
        }
    }

    /// Sets the destination port.
    pub fn set_dport(&mut self, port: Port) {
        match &mut self.l4 {
            L4::Tcp { dport, .. } | L4::Ports { dport, .. } => *dport = port,
            L4::Icmp { .. } | L4::Other => {}
        }
    }

    /// TCP flags, 0 for other protocols.
    #[must_use]
    pub const fn tcp_flags(&self) -> u8 {
        match self.l4 {
            L4::Tcp { flags, .. } => flags,
            _ => 0,
        }
    }
}

/// An ARP message about IPv4 addresses on Ethernet (RFC 826).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// An answer, not a question.
    pub reply: bool,
    /// Whose message it is: MAC, if it is known, and address.
    pub sender: (Option<Mac>, Ipv4Addr),
    /// About whom (a question, which has no MAC of him), or for whom.
    pub target: (Option<Mac>, Ipv4Addr),
}
