//! Data types: how wide a value is, and how `nft` writes one.
//!
//! Every value the kernel compares is at most 128 bits here, most significant bit first: an interface name
//! is its sixteen bytes. Wider ones (a raw payload of 20 bytes) are not modelled.

use std::net::{Ipv4Addr, Ipv6Addr};

use hashbrown::HashMap;
use knet_snapshot::Fact;
use knet_snapshot::id::Mac;
use knet_snapshot::nft::{Expr, Op};
use knet_snapshot::store::NetnsFacts;

use super::names::{self, Names};

/// A data type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ty {
    /// How it is written.
    pub kind: Kind,
    /// Width.
    pub bits: u16,
}

/// How values of a type are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each variant is the nft type it names")]
pub enum Kind {
    Int,
    Ipv4,
    Ipv6,
    Ether,
    EtherType,
    L4Proto,
    Port,
    Icmp,
    Icmp6,
    IcmpCode,
    Icmp6Code,
    IcmpxCode,
    Igmp,
    TcpFlags,
    CtState,
    CtDir,
    CtStatus,
    CtLabel,
    IfIndex,
    IfName,
    IfType,
    Group,
    PktType,
    AddrType,
    Dscp,
    Ecn,
    NfProto,
    ArpOp,
    TcHandle,
    Text,
    Bool,
}

/// Values from `.0` to `.1`, both included.
pub type Span = (u128, u128);

/// Indices of devices by name, for constants: the kernel compares `iif` with an index.
#[derive(Debug, Default)]
pub struct IfNames<'s> {
    by_name: HashMap<&'s str, u32>,
}

impl<'s> IfNames<'s> {
    /// From the links of a namespace.
    #[must_use]
    pub fn compile(facts: &'s NetnsFacts) -> Self {
        let mut this = Self::default();
        if let Fact::Known(table) | Fact::Empty(table, _) = facts.links() {
            this.by_name = table.rows.iter().map(|l| (l.name.as_str(), l.index.0)).collect();
        }
        this
    }
}

impl Ty {
    /// A type of a width.
    #[must_use]
    pub const fn new(kind: Kind, bits: u16) -> Self {
        Self { kind, bits }
    }

    /// A type as a set declares it.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let (kind, bits) = match name {
            "ipv4_addr" => (Kind::Ipv4, 32),
            "ipv6_addr" => (Kind::Ipv6, 128),
            "ether_addr" => (Kind::Ether, 48),
            "ether_type" => (Kind::EtherType, 16),
            "inet_proto" => (Kind::L4Proto, 8),
            "inet_service" => (Kind::Port, 16),
            "icmp_type" => (Kind::Icmp, 8),
            "icmpv6_type" => (Kind::Icmp6, 8),
            "icmp_code" => (Kind::IcmpCode, 8),
            "icmpv6_code" => (Kind::Icmp6Code, 8),
            "icmpx_code" => (Kind::IcmpxCode, 8),
            "igmp_type" => (Kind::Igmp, 8),
            "tcp_flag" => (Kind::TcpFlags, 8),
            "ct_state" => (Kind::CtState, 32),
            "ct_dir" => (Kind::CtDir, 8),
            "ct_status" => (Kind::CtStatus, 32),
            "ct_label" => (Kind::CtLabel, 128),
            "mark" | "uid" | "gid" | "cgroupsv2" | "time" => (Kind::Int, 32),
            "realm" => (Kind::Int, 32),
            "iface_index" => (Kind::IfIndex, 32),
            "ifname" => (Kind::IfName, 128),
            "iface_type" => (Kind::IfType, 16),
            "devgroup" => (Kind::Group, 32),
            "pkt_type" => (Kind::PktType, 8),
            "fib_addrtype" => (Kind::AddrType, 32),
            "dscp" => (Kind::Dscp, 6),
            "ecn" => (Kind::Ecn, 2),
            "nf_proto" => (Kind::NfProto, 8),
            "arp_op" => (Kind::ArpOp, 16),
            "classid" => (Kind::TcHandle, 32),
            "string" => (Kind::Text, 128),
            "boolean" => (Kind::Bool, 1),
            _ => return None,
        };
        Some(Self { kind, bits })
    }

    /// All bits of the type.
    #[must_use]
    pub const fn mask(self) -> u128 {
        if self.bits >= 128 {
            u128::MAX
        } else {
            (1 << self.bits) - 1
        }
    }

    /// `ct state new,established` asks whether one of the bits is set.
    #[must_use]
    pub const fn is_bitmask(self) -> bool {
        matches!(
            self.kind,
            Kind::TcpFlags | Kind::CtState | Kind::CtStatus | Kind::CtLabel
        )
    }

    const fn names(self) -> Names {
        match self.kind {
            Kind::EtherType => names::ETHER_TYPE,
            Kind::L4Proto => names::L4PROTO,
            Kind::Icmp => names::ICMP,
            Kind::Icmp6 => names::ICMP6,
            Kind::IcmpCode => names::ICMP_CODE,
            Kind::Icmp6Code => names::ICMP6_CODE,
            Kind::IcmpxCode => names::ICMPX_CODE,
            Kind::Igmp => names::IGMP,
            Kind::TcpFlags => names::TCP_FLAGS,
            Kind::CtState => names::CT_STATE,
            Kind::CtDir => names::CT_DIR,
            Kind::CtStatus => names::CT_STATUS,
            Kind::IfType => names::IF_TYPE,
            Kind::Group => names::GROUP,
            Kind::PktType => names::PKT_TYPE,
            Kind::AddrType => names::ADDR_TYPE,
            Kind::Dscp => names::DSCP,
            Kind::Ecn => names::ECN,
            Kind::NfProto => names::NFPROTO,
            Kind::ArpOp => names::ARP_OP,
            Kind::Bool => names::BOOL,
            _ => &[],
        }
    }

    /// A constant of this type. `None`: not understood, or too wide.
    #[must_use]
    pub fn constant(self, expr: &Expr, ifs: &IfNames<'_>) -> Option<Span> {
        let single = |n: u128| (n & !self.mask() == 0).then_some((n, n));
        match expr {
            Expr::Number(n) if self.kind == Kind::CtLabel => single(1_u128.checked_shl(u32::try_from(*n).ok()?)?),
            Expr::Number(n) if *n < 0 => single(n.cast_unsigned() & self.mask()),
            Expr::Number(n) => single(n.cast_unsigned()),
            Expr::Bool(b) => single(u128::from(*b)),
            Expr::Text(text) => self.text(text, ifs),
            Expr::List(list) | Expr::Binary(Op::Or, list) => {
                let mut all = 0;
                for item in list {
                    let (lo, hi) = self.constant(item, ifs)?;
                    if lo != hi {
                        return None;
                    }
                    all |= lo;
                }
                single(all)
            }
            Expr::Prefix(addr, len) => {
                let (base, _) = self.constant(addr, ifs)?;
                let host = u32::from(self.bits).checked_sub(u32::from(*len))?;
                let host = if host >= 128 { u128::MAX } else { (1_u128 << host) - 1 };
                Some((base & !host, base | host))
            }
            Expr::Range(ends) => {
                let (lo, hi) = (self.constant(&ends.0, ifs)?.0, self.constant(&ends.1, ifs)?.1);
                (lo <= hi).then_some((lo, hi))
            }
            Expr::Elem(elem) => self.constant(&elem.val, ifs),
            _ => None,
        }
    }

    fn text(self, text: &str, ifs: &IfNames<'_>) -> Option<Span> {
        let one = |n: u128| Some((n, n));
        match self.kind {
            Kind::Ipv4 => one(u128::from(text.parse::<Ipv4Addr>().ok()?.to_bits())),
            Kind::Ipv6 => one(text.parse::<Ipv6Addr>().ok()?.to_bits()),
            Kind::Ether => one(mac(text.parse().ok()?)),
            Kind::IfName | Kind::Text => name_span(text),
            Kind::IfIndex => match ifs.by_name.get(text) {
                Some(index) => one(u128::from(*index)),
                None => one(number(text)?),
            },
            Kind::TcHandle => match text {
                "none" => one(0),
                "root" => one(0xffff_ffff),
                _ => {
                    let (major, minor) = text.split_once(':')?;
                    let half = |t: &str| {
                        if t.is_empty() {
                            Some(0)
                        } else {
                            u16::from_str_radix(t, 16).ok()
                        }
                    };
                    one(u128::from(half(major)?) << 16 | u128::from(half(minor)?))
                }
            },
            _ => {
                let found = self.names().iter().find(|(name, _)| *name == text).map(|(_, n)| *n);
                one(found.or_else(|| number(text))?)
            }
        }
    }
}

/// A decimal or hexadecimal number in a string.
fn number(text: &str) -> Option<u128> {
    match text.strip_prefix("0x") {
        Some(hex) => u128::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// A link-layer address as a number.
#[must_use]
pub fn mac(mac: Mac) -> u128 {
    mac.0.iter().fold(0, |n, b| n << 8 | u128::from(*b))
}

/// A name as the kernel compares it: sixteen bytes, padded with zeros.
#[must_use]
pub fn name(text: &str) -> Option<u128> {
    let bytes = text.as_bytes();
    if bytes.len() > 16 {
        return None;
    }
    let mut all = [0; 16];
    all[..bytes.len()].copy_from_slice(bytes);
    Some(u128::from_be_bytes(all))
}

/// `eth*` is every name that begins so; `eth\*` is a name with a star in it.
fn name_span(text: &str) -> Option<Span> {
    if let Some(head) = text.strip_suffix("\\*") {
        let n = name(&format!("{head}*"))?;
        return Some((n, n));
    }
    let Some(head) = text.strip_suffix('*') else {
        let n = name(text)?;
        return Some((n, n));
    };
    let lo = name(head)?;
    let free = 128 - 8 * u32::try_from(head.len()).ok()?;
    let host = if free >= 128 { u128::MAX } else { (1_u128 << free) - 1 };
    Some((lo, lo | host))
}
