//! Header fields by name: where they are, how wide, and which packets have them.

use knet_snapshot::nft as raw;

use super::expr::{Base, Expr, Gate, Node, Payload, int, one};
use super::ty::Kind;
use crate::packet::proto;

/// A field by name (the header templates of nft's `proto.c`), or raw.
pub(super) fn payload<'s>(p: &raw::Payload) -> Expr<'s> {
    if p.tunnel.is_some() {
        return Expr {
            node: Node::Unknown(Gate::Any),
            tys: int(128),
        };
    }
    if let Some(base) = &p.base {
        let base = match &**base {
            "ll" => Base::Ll,
            "nh" => Base::Nh,
            "th" => Base::Th,
            _ => return Expr::unknown(),
        };
        let (Ok(offset), Ok(len @ 1..=128)) = (u16::try_from(p.offset), u16::try_from(p.len)) else {
            return Expr::unknown();
        };
        let node = Node::Payload(Payload {
            gate: Gate::Any,
            base,
            offset,
            len,
        });
        return Expr { node, tys: int(len) };
    }
    let (protocol, field) = (
        p.protocol.as_deref().unwrap_or_default(),
        p.field.as_deref().unwrap_or_default(),
    );
    let gate = gate(protocol);
    let found = match protocol {
        "ether" => ether(field).map(|f| (Base::Ll, f)),
        "vlan" => vlan(field).map(|f| (Base::Ll, f)),
        "arp" => arp(field).map(|f| (Base::Nh, f)),
        "ip" | "ip6" => network(protocol, field).map(|f| (Base::Nh, f)),
        _ => transport(protocol, field).map(|f| (Base::Th, f)),
    };
    match found {
        Some((base, (offset, len, kind))) => Expr {
            node: Node::Payload(Payload {
                gate,
                base,
                offset,
                len,
            }),
            tys: one(kind, len),
        },
        None => Expr {
            node: Node::Unknown(gate),
            tys: int(128),
        },
    }
}

fn gate(protocol: &str) -> Gate {
    match protocol {
        "ether" => Gate::Ether,
        "vlan" => Gate::Vlan,
        "arp" => Gate::Arp,
        "ip" => Gate::Ip,
        "ip6" => Gate::Ip6,
        "th" => Gate::Th,
        "icmp" => Gate::L4(proto::ICMP),
        "icmpv6" => Gate::L4(proto::ICMPV6),
        "igmp" => Gate::L4(proto::IGMP),
        "tcp" => Gate::L4(proto::TCP),
        "udp" | "vxlan" | "geneve" => Gate::L4(proto::UDP),
        "udplite" => Gate::L4(proto::UDPLITE),
        "sctp" => Gate::L4(proto::SCTP),
        "dccp" => Gate::L4(proto::DCCP),
        "ah" => Gate::L4(proto::AH),
        "esp" => Gate::L4(proto::ESP),
        "comp" => Gate::L4(108),
        "gre" | "gretap" => Gate::L4(proto::GRE),
        _ => Gate::Any,
    }
}

type Place = (u16, u16, Kind);

fn ether(field: &str) -> Option<Place> {
    Some(match field {
        "daddr" => (0, 48, Kind::Ether),
        "saddr" => (48, 48, Kind::Ether),
        "type" => (96, 16, Kind::EtherType),
        _ => return None,
    })
}

/// Of a message about IPv4 on Ethernet.
fn arp(field: &str) -> Option<Place> {
    Some(match field {
        "htype" => (0, 16, Kind::Int),
        "ptype" => (16, 16, Kind::EtherType),
        "hlen" => (32, 8, Kind::Int),
        "plen" => (40, 8, Kind::Int),
        "operation" => (48, 16, Kind::ArpOp),
        "saddr ether" => (64, 48, Kind::Ether),
        "saddr ip" => (112, 32, Kind::Ipv4),
        "daddr ether" => (144, 48, Kind::Ether),
        "daddr ip" => (192, 32, Kind::Ipv4),
        _ => return None,
    })
}

fn vlan(field: &str) -> Option<Place> {
    Some(match field {
        "pcp" => (112, 3, Kind::Int),
        "dei" | "cfi" => (115, 1, Kind::Int),
        "id" => (116, 12, Kind::Int),
        "type" => (128, 16, Kind::EtherType),
        _ => return None,
    })
}

fn network(protocol: &str, field: &str) -> Option<Place> {
    Some(match (protocol, field) {
        (_, "version") => (0, 4, Kind::Int),
        ("ip", "hdrlength") => (4, 4, Kind::Int),
        ("ip", "dscp") => (8, 6, Kind::Dscp),
        ("ip", "ecn") => (14, 2, Kind::Ecn),
        ("ip", "length") => (16, 16, Kind::Int),
        ("ip", "id") => (32, 16, Kind::Int),
        ("ip", "frag-off") => (48, 16, Kind::Int),
        ("ip", "ttl") => (64, 8, Kind::Int),
        ("ip", "protocol") => (72, 8, Kind::L4Proto),
        ("ip", "checksum") => (80, 16, Kind::Int),
        ("ip", "saddr") => (96, 32, Kind::Ipv4),
        ("ip", "daddr") => (128, 32, Kind::Ipv4),
        ("ip6", "dscp") => (4, 6, Kind::Dscp),
        ("ip6", "ecn") => (10, 2, Kind::Ecn),
        ("ip6", "flowlabel") => (12, 20, Kind::Int),
        ("ip6", "length") => (32, 16, Kind::Int),
        ("ip6", "nexthdr") => (48, 8, Kind::L4Proto),
        ("ip6", "hoplimit") => (56, 8, Kind::Int),
        ("ip6", "saddr") => (64, 128, Kind::Ipv6),
        ("ip6", "daddr") => (192, 128, Kind::Ipv6),
        _ => return None,
    })
}

fn transport(protocol: &str, field: &str) -> Option<Place> {
    Some(match (protocol, field) {
        ("th" | "tcp" | "udp" | "udplite" | "sctp" | "dccp", "sport") => (0, 16, Kind::Port),
        ("th" | "tcp" | "udp" | "udplite" | "sctp" | "dccp", "dport") => (16, 16, Kind::Port),
        ("icmp", "type") => (0, 8, Kind::Icmp),
        ("icmp", "code") => (8, 8, Kind::IcmpCode),
        ("icmpv6", "type") => (0, 8, Kind::Icmp6),
        ("icmpv6", "code") => (8, 8, Kind::Icmp6Code),
        ("icmp" | "icmpv6", "checksum") => (16, 16, Kind::Int),
        ("icmp" | "icmpv6", "id") => (32, 16, Kind::Int),
        ("icmp" | "icmpv6", "sequence") => (48, 16, Kind::Int),
        ("icmp", "gateway") => (32, 32, Kind::Ipv4),
        ("icmp", "mtu") => (48, 16, Kind::Int),
        ("icmpv6", "mtu" | "packet-too-big" | "parameter-problem") => (32, 32, Kind::Int),
        ("icmpv6", "max-delay") => (32, 16, Kind::Int),
        ("icmpv6", "taddr") => (64, 128, Kind::Ipv6),
        ("icmpv6", "daddr") => (192, 128, Kind::Ipv6),
        ("igmp", "type") => (0, 8, Kind::Igmp),
        ("igmp", "group") => (32, 32, Kind::Ipv4),
        ("tcp", "sequence") => (32, 32, Kind::Int),
        ("tcp", "ackseq") => (64, 32, Kind::Int),
        ("tcp", "doff") => (96, 4, Kind::Int),
        ("tcp", "reserved") => (100, 4, Kind::Int),
        ("tcp", "flags") => (104, 8, Kind::TcpFlags),
        ("tcp", "window") => (112, 16, Kind::Int),
        ("tcp", "checksum") => (128, 16, Kind::Int),
        ("tcp", "urgptr") => (144, 16, Kind::Int),
        ("udp", "length") => (32, 16, Kind::Int),
        ("udplite", "csumcov" | "cscov") => (32, 16, Kind::Int),
        ("udp" | "udplite", "checksum") => (48, 16, Kind::Int),
        ("sctp", "vtag") => (32, 32, Kind::Int),
        ("sctp", "checksum") => (64, 32, Kind::Int),
        ("ah", "nexthdr") => (0, 8, Kind::L4Proto),
        ("ah", "hdrlength") => (8, 8, Kind::Int),
        ("ah", "spi") => (32, 32, Kind::Int),
        ("ah", "sequence") => (64, 32, Kind::Int),
        ("esp", "spi") => (0, 32, Kind::Int),
        ("esp", "sequence") => (32, 32, Kind::Int),
        ("comp", "nexthdr") => (0, 8, Kind::L4Proto),
        ("comp", "cpi") => (16, 16, Kind::Int),
        _ => return None,
    })
}
