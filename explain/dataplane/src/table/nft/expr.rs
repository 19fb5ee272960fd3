//! Expressions, resolved: header fields by place, keys by number, sets by reference.

use knet_snapshot::nft::{self as raw, Op};
use smallvec::{SmallVec, smallvec};

use super::NfFamily;
use super::set::Set;
use super::ty::{IfNames, Kind, Ty};
use crate::choice::Chance;
use crate::packet::proto;
use crate::skb::Dir;

/// Types of the parts of a value.
pub type Tys = SmallVec<[Ty; 4]>;

/// An expression and the types of its parts.
#[derive(Debug)]
pub struct Expr<'s> {
    /// What is computed.
    pub node: Node<'s>,
    /// Types.
    pub tys: Tys,
}

/// What an expression computes.
#[derive(Debug)]
pub enum Node<'s> {
    /// A constant.
    Const(u128),
    /// A header field.
    Payload(Payload),
    /// `meta`
    Meta(Meta),
    /// `ct`
    Ct(CtField, Option<Dir>),
    /// `rt nexthop`; every other routing key is unknown.
    Nexthop(NfFamily),
    /// `fib`
    Fib(Fib),
    /// `numgen`, `symhash`, `jhash` without a seed in the rule.
    Draw(Draw),
    /// `jhash` with a seed in the rule.
    Jhash {
        /// How many values.
        modulus: u32,
        /// The first.
        offset: u32,
        /// Seed.
        seed: u32,
        /// What is hashed.
        inner: Box<Expr<'s>>,
    },
    /// Bitwise.
    Binary(Op, Vec<Expr<'s>>),
    /// Several parts.
    Concat(Vec<Expr<'s>>),
    /// Looked up.
    Map(Box<Expr<'s>>, SetRef<'s>),
    /// A header or option that no packet here has, asked only of packets of this protocol: an extension header of
    /// IPv6, an option of IPv4.
    Absent(Gate),
    /// Not modelled, and asked only of packets of this protocol.
    Unknown(Gate),
}

/// A set by name or in place.
#[derive(Debug)]
pub enum SetRef<'s> {
    /// Position in the ruleset's sets.
    Named(usize),
    /// In the rule.
    Anonymous(Box<Set<'s>>),
    /// Not in the ruleset.
    Missing,
}

/// Which packets have a field. The rule ends for the others: `nft` puts a test for it before the field and
/// prints it neither in its JSON nor in its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// All.
    Any,
    /// Frames.
    Ether,
    /// Tagged frames.
    Vlan,
    /// ARP.
    Arp,
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
    /// A transport protocol.
    L4(u8),
    /// Any transport protocol.
    Th,
}

/// Where a header begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// Link layer.
    Ll,
    /// Network layer.
    Nh,
    /// Transport layer.
    Th,
}

/// Bits of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payload {
    /// Which packets have it.
    pub gate: Gate,
    /// Header.
    pub base: Base,
    /// First bit.
    pub offset: u16,
    /// Number of bits.
    pub len: u16,
}

/// `meta` keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each variant is the key it names")]
pub enum Meta {
    Mark,
    Priority,
    Iif,
    Iifname,
    Oif,
    Oifname,
    Iiftype,
    Oiftype,
    Iifgroup,
    Oifgroup,
    Iifkind,
    Oifkind,
    Ibrname,
    Obrname,
    L4Proto,
    NfProto,
    Protocol,
    PktType,
    Skuid,
    Skgid,
    Length,
    Cpu,
    Secpath,
    Nftrace,
    Random,
    Sdif,
    Sdifname,
    /// Depends on the sending or receiving socket (cgroup).
    OfSocket,
    /// Not in a snapshot (time, cpu, secmark).
    Other,
}

/// `ct` keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each variant is the key it names")]
pub enum CtField {
    State,
    Direction,
    Status,
    Mark,
    Zone,
    Helper,
    L3Proto,
    Protocol,
    Saddr(Option<NfFamily>),
    Daddr(Option<NfFamily>),
    ProtoSrc,
    ProtoDst,
    /// Not in a snapshot (label, counters, expiration, id).
    Other,
}

/// A FIB lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fib {
    /// What is asked.
    pub result: FibResult,
    /// Looks the source up, else the destination.
    pub saddr: bool,
    /// With the packet's mark.
    pub mark: bool,
    /// Through the input device.
    pub iif: bool,
    /// Through the output device.
    pub oif: bool,
}

/// What a FIB lookup answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each variant is the result it names")]
pub enum FibResult {
    Oif,
    Oifname,
    Type,
    Check,
    Unknown,
}

/// A number drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    /// How.
    pub chance: DrawKind,
    /// How many values.
    pub modulus: u32,
    /// The first.
    pub offset: u32,
}

/// How a number is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrawKind {
    /// Counter or random number.
    Numgen,
    /// Hash of the flow.
    Hash,
}

impl DrawKind {
    /// As the oracle is asked.
    #[must_use]
    pub const fn chance(self) -> Chance {
        match self {
            Self::Numgen => Chance::Statistic,
            Self::Hash => Chance::Hash,
        }
    }
}

/// What expressions are resolved with.
pub struct Scope<'x, 's> {
    /// Family of the table.
    pub family: NfFamily,
    /// Sets of the table by name.
    pub set: &'x dyn Fn(&str) -> Option<usize>,
    /// Types of a named set's value.
    pub value_of: &'x dyn Fn(usize) -> Tys,
    /// Devices.
    pub ifs: &'x IfNames<'s>,
}

pub(super) fn int(bits: u16) -> Tys {
    smallvec![Ty::new(Kind::Int, bits)]
}

pub(super) fn one(kind: Kind, bits: u16) -> Tys {
    smallvec![Ty::new(kind, bits)]
}

impl<'s> Expr<'s> {
    /// Not modelled.
    pub fn unknown() -> Self {
        Self {
            node: Node::Unknown(Gate::Any),
            tys: int(128),
        }
    }

    /// Type of the only part.
    #[must_use]
    pub fn ty(&self) -> Ty {
        self.tys.first().copied().unwrap_or(Ty::new(Kind::Int, 128))
    }

    /// Computing it twice gives the same and asks nobody.
    #[must_use]
    pub fn is_pure(&self) -> bool {
        match &self.node {
            Node::Draw(_) | Node::Meta(Meta::Random) | Node::Fib(_) => false,
            Node::Jhash { inner, .. } => inner.is_pure(),
            Node::Binary(_, list) | Node::Concat(list) => list.iter().all(Self::is_pure),
            Node::Map(key, _) => key.is_pure(),
            _ => true,
        }
    }

    /// Resolves an expression; `hint` types constants.
    pub fn compile(expr: &'s raw::Expr, hint: &[Ty], scope: &Scope<'_, 's>) -> Self {
        use raw::Expr as E;
        let constant = |ty: Option<&Ty>| {
            let ty = *ty?;
            let (lo, hi) = ty.constant(expr, scope.ifs)?;
            (lo == hi).then(|| Self {
                node: Node::Const(lo),
                tys: smallvec![ty],
            })
        };
        match expr {
            E::Text(_) | E::Number(_) | E::Bool(_) | E::List(_) => constant(hint.first()).unwrap_or_else(Self::unknown),
            E::Payload(p) => super::field::payload(p),
            E::Meta(key) => meta(key),
            E::Ct(key) => ct(key),
            E::Rt(key) => rt(key),
            E::Fib(fib) => fib_expr(fib),
            E::Numgen(n) => draw(DrawKind::Numgen, n.modulus, n.offset),
            E::Symhash(h) => draw(DrawKind::Hash, h.modulus, h.offset),
            E::Jhash(h) => match h.seed {
                Some(seed) => Self {
                    node: Node::Jhash {
                        modulus: h.modulus,
                        offset: h.offset,
                        seed,
                        inner: Box::new(Self::compile(&h.expr, &[], scope)),
                    },
                    tys: int(32),
                },
                None => draw(DrawKind::Hash, h.modulus, h.offset),
            },
            E::Binary(op, operands) => {
                let mut list: Vec<Self> = Vec::with_capacity(operands.len());
                for operand in operands {
                    let hint: Tys = match (op, list.first()) {
                        (Op::Shl | Op::Shr, Some(_)) => int(32),
                        (_, Some(first)) => first.tys.clone(),
                        (_, None) => hint.iter().copied().collect(),
                    };
                    list.push(Self::compile(operand, &hint, scope));
                }
                let Some(tys) = list.first().map(|e| e.tys.clone()) else {
                    return Self::unknown();
                };
                Self {
                    node: Node::Binary(*op, list),
                    tys,
                }
            }
            E::Concat(parts) => {
                let list: Vec<Self> = parts
                    .iter()
                    .enumerate()
                    .map(|(i, part)| Self::compile(part, hint.get(i..=i).unwrap_or_default(), scope))
                    .collect();
                let tys = list.iter().flat_map(|e| e.tys.iter().copied()).collect();
                Self {
                    node: Node::Concat(list),
                    tys,
                }
            }
            E::Map(lookup) => {
                let key = Self::compile(&lookup.key, &[], scope);
                let set = SetRef::compile(&lookup.data, &key, hint, true, scope);
                let tys = match &set {
                    SetRef::Named(i) => (scope.value_of)(*i),
                    SetRef::Anonymous(set) => set.value.clone(),
                    SetRef::Missing => hint.iter().copied().collect(),
                };
                Self {
                    node: Node::Map(Box::new(key), set),
                    tys,
                }
            }
            E::Option(option) => {
                let node = match &*option.class {
                    "ip option" => Node::Absent(Gate::Ip),
                    "exthdr" => Node::Absent(Gate::Ip6),
                    "tcp option" => Node::Unknown(Gate::L4(proto::TCP)),
                    "sctp chunk" => Node::Unknown(Gate::L4(proto::SCTP)),
                    "dccp option" => Node::Unknown(Gate::L4(proto::DCCP)),
                    _ => Node::Unknown(Gate::Any),
                };
                Self { node, tys: int(128) }
            }
            E::Elem(elem) => Self::compile(&elem.val, hint, scope),
            E::Set(_) | E::Prefix(..) | E::Range(_) | E::Socket(_) | E::Verdict(_) | E::Unknown(..) => {
                constant(hint.first()).unwrap_or_else(Self::unknown)
            }
        }
    }
}

impl<'s> SetRef<'s> {
    /// Resolves `@name` or a literal that is asked with `key`.
    pub fn compile(data: &'s raw::Expr, key: &Expr<'s>, value: &[Ty], map: bool, scope: &Scope<'_, 's>) -> Self {
        match data {
            raw::Expr::Text(name) => name
                .strip_prefix('@')
                .and_then(|name| (scope.set)(name))
                .map_or(Self::Missing, Self::Named),
            raw::Expr::Set(elems) => {
                let mut value: Tys = value.iter().copied().collect();
                // A NAT map gives an address, or an address and a port.
                let first = elems.first().and_then(|e| match e {
                    raw::Expr::List(pair) => pair.get(1),
                    _ => None,
                });
                match first {
                    Some(raw::Expr::Concat(parts)) => value.truncate(parts.len()),
                    Some(_) => value.truncate(1),
                    None => {}
                }
                Self::Anonymous(Box::new(Set::new(elems, key.tys.clone(), value, map)))
            }
            _ => Self::Missing,
        }
    }
}

fn draw<'s>(chance: DrawKind, modulus: u32, offset: u32) -> Expr<'s> {
    Expr {
        node: Node::Draw(Draw {
            chance,
            modulus,
            offset,
        }),
        tys: int(32),
    }
}

fn meta<'s>(key: &str) -> Expr<'s> {
    let (meta, tys) = match key {
        "mark" => (Meta::Mark, int(32)),
        "priority" => (Meta::Priority, one(Kind::TcHandle, 32)),
        "iif" => (Meta::Iif, one(Kind::IfIndex, 32)),
        "oif" => (Meta::Oif, one(Kind::IfIndex, 32)),
        "sdif" => (Meta::Sdif, one(Kind::IfIndex, 32)),
        "iifname" => (Meta::Iifname, one(Kind::IfName, 128)),
        "oifname" => (Meta::Oifname, one(Kind::IfName, 128)),
        "sdifname" => (Meta::Sdifname, one(Kind::IfName, 128)),
        "iiftype" => (Meta::Iiftype, one(Kind::IfType, 16)),
        "oiftype" => (Meta::Oiftype, one(Kind::IfType, 16)),
        "iifgroup" => (Meta::Iifgroup, one(Kind::Group, 32)),
        "oifgroup" => (Meta::Oifgroup, one(Kind::Group, 32)),
        "iifkind" => (Meta::Iifkind, one(Kind::IfName, 128)),
        "oifkind" => (Meta::Oifkind, one(Kind::IfName, 128)),
        "ibrname" | "ibridgename" => (Meta::Ibrname, one(Kind::IfName, 128)),
        "obrname" | "obridgename" => (Meta::Obrname, one(Kind::IfName, 128)),
        "l4proto" => (Meta::L4Proto, one(Kind::L4Proto, 8)),
        "nfproto" => (Meta::NfProto, one(Kind::NfProto, 8)),
        "protocol" => (Meta::Protocol, one(Kind::EtherType, 16)),
        "pkttype" => (Meta::PktType, one(Kind::PktType, 8)),
        "skuid" => (Meta::Skuid, int(32)),
        "skgid" => (Meta::Skgid, int(32)),
        "length" => (Meta::Length, int(32)),
        "cpu" => (Meta::Cpu, int(32)),
        "random" => (Meta::Random, int(32)),
        "nftrace" => (Meta::Nftrace, int(1)),
        "secpath" | "ipsec" => (Meta::Secpath, one(Kind::Bool, 1)),
        "cgroup" => (Meta::OfSocket, int(32)),
        _ => (Meta::Other, int(128)),
    };
    Expr {
        node: Node::Meta(meta),
        tys,
    }
}

fn ct<'s>(key: &raw::CtKey) -> Expr<'s> {
    let dir = match key.dir.as_deref() {
        Some("original") => Some(Dir::Original),
        Some("reply") => Some(Dir::Reply),
        _ => None,
    };
    let (family, name) = match key.key.split_once(' ') {
        Some((family, name)) => (NfFamily::parse(family), name),
        None => (key.family.as_deref().and_then(NfFamily::parse), &*key.key),
    };
    let addr = || match family {
        Some(NfFamily::Ip6) => one(Kind::Ipv6, 128),
        _ => one(Kind::Ipv4, 32),
    };
    let (field, tys) = match name {
        "state" => (CtField::State, one(Kind::CtState, 32)),
        "direction" => (CtField::Direction, one(Kind::CtDir, 8)),
        "status" => (CtField::Status, one(Kind::CtStatus, 32)),
        "mark" => (CtField::Mark, int(32)),
        "zone" => (CtField::Zone, int(16)),
        "helper" => (CtField::Helper, one(Kind::Text, 128)),
        "l3proto" => (CtField::L3Proto, one(Kind::NfProto, 8)),
        "protocol" => (CtField::Protocol, one(Kind::L4Proto, 8)),
        "saddr" => (CtField::Saddr(family), addr()),
        "daddr" => (CtField::Daddr(family), addr()),
        "proto-src" => (CtField::ProtoSrc, one(Kind::Port, 16)),
        "proto-dst" => (CtField::ProtoDst, one(Kind::Port, 16)),
        "label" => (CtField::Other, one(Kind::CtLabel, 128)),
        _ => (CtField::Other, int(128)),
    };
    Expr {
        node: Node::Ct(field, dir),
        tys,
    }
}

fn rt<'s>(key: &raw::RtKey) -> Expr<'s> {
    let family = key.family.as_deref().and_then(NfFamily::parse);
    match (&*key.key, family) {
        ("nexthop", Some(NfFamily::Ip6)) => Expr {
            node: Node::Nexthop(NfFamily::Ip6),
            tys: one(Kind::Ipv6, 128),
        },
        ("nexthop", _) => Expr {
            node: Node::Nexthop(NfFamily::Ip),
            tys: one(Kind::Ipv4, 32),
        },
        _ => Expr::unknown(),
    }
}

fn fib_expr<'s>(fib: &raw::Fib) -> Expr<'s> {
    let has = |flag: &str| fib.flags.iter().any(|f| &**f == flag);
    let (result, tys) = match &*fib.result {
        "oif" => (FibResult::Oif, one(Kind::IfIndex, 32)),
        "oifname" => (FibResult::Oifname, one(Kind::IfName, 128)),
        "type" => (FibResult::Type, one(Kind::AddrType, 32)),
        "check" => (FibResult::Check, one(Kind::Bool, 1)),
        _ => (FibResult::Unknown, int(128)),
    };
    let node = Node::Fib(Fib {
        result,
        saddr: has("saddr"),
        mark: has("mark"),
        iif: has("iif"),
        oif: has("oif"),
    });
    Expr { node, tys }
}
