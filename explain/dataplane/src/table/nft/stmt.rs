//! Statements, resolved.

use knet_snapshot::nft::{self as raw, NatKind, Stateful, Verdict};
use smallvec::smallvec;

use super::NfFamily;
use super::expr::{CtField, Expr, FibResult, Gate, Meta, Node, Payload, Scope, SetRef, Tys};
use super::set::{Spans, spans};
use super::ty::{Kind, Ty};
use crate::packet::proto;

/// A statement.
#[derive(Debug)]
pub enum Stmt<'s> {
    /// A comparison.
    Match(Match<'s>),
    /// A verdict.
    Verdict(&'s Verdict),
    /// A verdict looked up.
    Vmap(Expr<'s>, SetRef<'s>),
    /// An object looked up by key: the rule ends when there is none. What the object does is `effect`.
    Object(Expr<'s>, SetRef<'s>, Effect),
    /// Without a key.
    Plain(Effect),
    /// Adds an element to a set, or deletes it.
    Update {
        /// Adds or updates.
        add: bool,
        /// Element.
        key: Expr<'s>,
        /// Set.
        set: SetRef<'s>,
        /// What a statement of the element does.
        effect: Effect,
    },
    /// Sets something.
    Mangle(Target, Expr<'s>),
    /// Translation.
    Nat(Nat<'s>),
    /// Refusal.
    Reject(Reject),
    /// `notrack`
    Notrack,
    /// To a program; with `bypass` only if there is one.
    Queue {
        /// `bypass`
        bypass: bool,
    },
    /// `ct helper set`; `None` = the helper's object is not in the ruleset.
    Helper(Option<&'s str>),
}

/// What a statement does that neither decides by the packet nor changes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing that matters here.
    None,
    /// Whether the rule goes on depends on earlier packets or on what is not in a snapshot.
    Decides,
    /// It sends the packet out of another device.
    Forwards,
    /// It answers a TCP handshake itself.
    Proxies,
    /// It takes an established connection past the rules.
    Offloads,
    /// It may change what is not modelled; the packet goes on.
    Changes,
    /// A statement nobody knows, or a target without its arguments: it may end the rule, or change anything.
    Acts,
}

/// A comparison.
#[derive(Debug)]
pub struct Match<'s> {
    /// Left side.
    pub left: Expr<'s>,
    /// Operator.
    pub op: Cmp,
    /// Right side.
    pub right: Right<'s>,
}

/// Comparison operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cmp {
    /// `==`
    Eq,
    /// `!=`
    Ne,
    /// `<`
    Lt,
    /// `>`
    Gt,
    /// `<=`
    Le,
    /// `>=`
    Ge,
    /// One of the bits is set.
    AnyBit,
    /// None of the bits is set.
    NoBit,
}

/// What is compared with.
#[derive(Debug)]
pub enum Right<'s> {
    /// Constants; a range or prefix is a span.
    Spans(Spans),
    /// A set.
    Set(SetRef<'s>),
    /// Another expression.
    Expr(Expr<'s>),
    /// `exists` and `missing` of a FIB lookup.
    Exists(bool),
    /// A masked value against a constant with bits outside of the mask: they are never equal.
    Never,
    /// Not understood.
    Unknown,
}

/// What can be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// `meta mark`
    Mark,
    /// `meta priority`
    Priority,
    /// `meta pkttype`
    PktType,
    /// `ct mark`
    CtMark,
    /// `ct zone`
    CtZone,
    /// A header field.
    Payload(Payload),
    /// `tcp option maxseg size`
    Mss,
    /// Nothing a later decision of this model depends on.
    Nothing,
    /// Not modelled; only packets of this protocol.
    Unknown(Gate),
}

/// `snat`, `dnat`, `masquerade`, `redirect`
#[derive(Debug)]
pub struct Nat<'s> {
    /// Which.
    pub kind: NatKind,
    /// Family the rule names.
    pub family: Option<NfFamily>,
    /// Address, with the port when a map gives both.
    pub addr: Option<NatArg<'s>>,
    /// Port.
    pub port: Option<NatArg<'s>>,
    /// `random`
    pub random: bool,
    /// `fully-random`
    pub fully_random: bool,
    /// `persistent`
    pub persistent: bool,
    /// `prefix`: keeps the host bits.
    pub netmap: bool,
}

/// Where a translation takes its addresses or ports from.
#[derive(Debug)]
pub enum NatArg<'s> {
    /// Constants.
    Spans(Spans),
    /// A map; its value may be a range.
    Map(Expr<'s>, SetRef<'s>),
    /// Computed.
    Expr(Expr<'s>),
}

/// `reject`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    /// TCP reset.
    TcpReset,
    /// ICMP code.
    Icmp(u8),
    /// `ICMPv6` code.
    Icmp6(u8),
    /// Either, by packet.
    Icmpx(u8),
    /// A type that is not understood.
    Unknown,
}

impl<'s> Stmt<'s> {
    /// Resolves a statement. `helper` gives a helper object's type.
    pub fn compile(stmt: &'s raw::Stmt, scope: &Scope<'_, 's>, helper: &dyn Fn(&str) -> Option<&'s str>) -> Self {
        use raw::Stmt as S;
        match stmt {
            S::Match(m) => Self::Match(Match::compile(m, scope)),
            S::Verdict(verdict) => Self::Verdict(verdict),
            S::Vmap(lookup) => {
                let key = Expr::compile(&lookup.key, &[], scope);
                let set = SetRef::compile(&lookup.data, &key, &[], true, scope);
                Self::Vmap(key, set)
            }
            S::Mangle(m) => {
                let key = Expr::compile(&m.key, &[], scope);
                let value = Expr::compile(&m.value, &key.tys, scope);
                Self::Mangle(target(&m.key, &key), value)
            }
            S::Nat(kind, nat) => Self::Nat(Nat::compile(*kind, nat, scope)),
            S::Reject(reject) => Self::Reject(Reject::compile(reject, scope)),
            S::Notrack => Self::Notrack,
            S::Counter(object) => Self::object(object, Effect::None, scope),
            S::Limit(object) | S::Quota(object) => Self::object(object, Effect::Decides, scope),
            S::Log(_) => Self::Plain(Effect::None),
            S::Xt(kind, name) => Self::Plain(match (&**kind, &**name) {
                // comment_mt is always true; these targets return XT_CONTINUE and change nothing.
                ("match", "comment")
                | ("target" | "watcher", "LOG" | "NFLOG" | "TRACE" | "AUDIT" | "log" | "nflog") => Effect::None,
                ("match", _) => Effect::Decides,
                _ => Effect::Acts,
            }),
            S::Set(update) => {
                let key = Expr::compile(&update.elem, &[], scope);
                let set = match update.set.strip_prefix('@').and_then(|name| (scope.set)(name)) {
                    Some(i) => SetRef::Named(i),
                    None => SetRef::Missing,
                };
                let counts = |s: &raw::Stmt| matches!(s, S::Counter(_));
                let effect = if update.stmt.iter().all(counts) {
                    Effect::None
                } else {
                    Effect::Decides
                };
                Self::Update {
                    add: &*update.op != "delete",
                    key,
                    set,
                    effect,
                }
            }
            S::Queue(text) => Self::Queue {
                bypass: text.contains("\"bypass\""),
            },
            S::CtHelper(text) => match serde_json::from_str::<String>(text) {
                Ok(name) => Self::Helper(helper(&name)),
                Err(_) => Self::Helper(None),
            },
            S::Other(key, _) => Self::Plain(match &**key {
                "last" | "secmark" | "ct timeout" | "ct expectation" | "dup" => Effect::None,
                "flow" => Effect::Offloads,
                "fwd" => Effect::Forwards,
                "synproxy" => Effect::Proxies,
                "exthdr" | "optstrip" | "reset" => Effect::Changes,
                "meter" | "ct count" => Effect::Decides,
                _ => Effect::Acts,
            }),
        }
    }

    /// A counter, limit or quota: in place, by name, or by a map from key to name.
    fn object(object: &'s Stateful, effect: Effect, scope: &Scope<'_, 's>) -> Self {
        match object {
            Stateful::Map(lookup) => {
                let key = Expr::compile(&lookup.key, &[], scope);
                let set = SetRef::compile(&lookup.data, &key, &[], true, scope);
                Self::Object(key, set, effect)
            }
            Stateful::Text(_) => Self::Plain(effect),
        }
    }
}

impl<'s> Match<'s> {
    fn compile(m: &'s raw::Match, scope: &Scope<'_, 's>) -> Self {
        let left = Expr::compile(&m.left, &[], scope);
        let bitmask = left.tys.len() == 1 && left.ty().is_bitmask();
        let op = match &*m.op {
            "==" => Cmp::Eq,
            "!=" => Cmp::Ne,
            "<" => Cmp::Lt,
            ">" => Cmp::Gt,
            "<=" => Cmp::Le,
            ">=" => Cmp::Ge,
            "in" if bitmask => Cmp::AnyBit,
            "in" => Cmp::Eq,
            "!" => Cmp::NoBit,
            _ => {
                return Self {
                    left,
                    op: Cmp::Eq,
                    right: Right::Unknown,
                };
            }
        };
        let right = right(&m.right, &left, scope);
        // A set holds whole values, so membership is never by bits.
        let op = if op == Cmp::AnyBit && matches!(right, Right::Set(_)) {
            Cmp::Eq
        } else {
            op
        };
        Self { left, op, right }
    }
}

fn right<'s>(expr: &'s raw::Expr, left: &Expr<'s>, scope: &Scope<'_, 's>) -> Right<'s> {
    use raw::Expr as E;
    let presence = match &left.node {
        Node::Fib(f) => matches!(f.result, FibResult::Oif | FibResult::Oifname),
        node => matches!(node, Node::Absent(_)),
    };
    match expr {
        E::Bool(b) if presence => Right::Exists(*b),
        E::Text(name) if name.starts_with('@') && left.ty().kind != Kind::IfName => {
            Right::Set(SetRef::compile(expr, left, &[], false, scope))
        }
        E::Text(name) if name.starts_with('@') => match SetRef::compile(expr, left, &[], false, scope) {
            SetRef::Missing => spans(expr, &left.tys, scope.ifs).map_or(Right::Unknown, Right::Spans),
            set => Right::Set(set),
        },
        E::Set(_) => Right::Set(SetRef::compile(expr, left, &[], false, scope)),
        // `netlink_delinearize.c` prints `& 0x80000000 == 0x1` as a prefix, with the bits the kernel compares.
        E::Prefix(addr, _) if sticks_out(addr, expr, left, scope) => Right::Never,
        _ => match spans(expr, &left.tys, scope.ifs) {
            Some(spans) => Right::Spans(spans),
            None => {
                let expr = Expr::compile(expr, &left.tys, scope);
                if matches!(expr.node, Node::Unknown(Gate::Any)) {
                    Right::Unknown
                } else {
                    Right::Expr(expr)
                }
            }
        },
    }
}

/// A prefix whose address has host bits.
fn sticks_out(addr: &raw::Expr, prefix: &raw::Expr, left: &Expr<'_>, scope: &Scope<'_, '_>) -> bool {
    let ends = (
        left.ty().constant(addr, scope.ifs),
        left.ty().constant(prefix, scope.ifs),
    );
    left.tys.len() == 1 && matches!(ends, (Some((base, _)), Some((lo, _))) if base != lo)
}

fn target(raw: &raw::Expr, key: &Expr<'_>) -> Target {
    match (&key.node, raw) {
        (Node::Meta(Meta::Mark), _) => Target::Mark,
        (Node::Meta(Meta::Priority), _) => Target::Priority,
        (Node::Meta(Meta::PktType), _) => Target::PktType,
        (Node::Meta(Meta::Nftrace), _) => Target::Nothing,
        (_, raw::Expr::Meta(k)) if &**k == "secmark" => Target::Nothing,
        (Node::Ct(CtField::Mark, _), _) => Target::CtMark,
        (Node::Ct(CtField::Zone, _), _) => Target::CtZone,
        // Labels and events: no expression of this model reads them.
        (Node::Ct(CtField::Other, _), _) => Target::Nothing,
        (Node::Payload(p), _) => Target::Payload(*p),
        (_, raw::Expr::Option(o)) if &*o.class == "tcp option" => match o.name.as_deref() {
            Some("maxseg") => Target::Mss,
            _ => Target::Unknown(Gate::L4(proto::TCP)),
        },
        (Node::Unknown(gate), _) => Target::Unknown(*gate),
        _ => Target::Unknown(Gate::Any),
    }
}

impl<'s> Nat<'s> {
    fn compile(kind: NatKind, nat: &'s raw::Nat, scope: &Scope<'_, 's>) -> Self {
        let has = |flag: &str| nat.flags.iter().any(|f| &**f == flag);
        let family = nat.family.as_deref().and_then(NfFamily::parse).or(match scope.family {
            f @ (NfFamily::Ip | NfFamily::Ip6) => Some(f),
            _ => None,
        });
        let addr_ty = match family {
            Some(NfFamily::Ip6) => Ty::new(Kind::Ipv6, 128),
            _ => Ty::new(Kind::Ipv4, 32),
        };
        let port_ty = Ty::new(Kind::Port, 16);
        Self {
            kind,
            family,
            addr: nat
                .addr
                .as_ref()
                .map(|e| NatArg::compile(e, &smallvec![addr_ty, port_ty], scope)),
            port: nat
                .port
                .as_ref()
                .map(|e| NatArg::compile(e, &smallvec![port_ty], scope)),
            random: has("random"),
            fully_random: has("fully-random"),
            persistent: has("persistent"),
            netmap: has("netmap") || nat.type_flags.iter().any(|f| &**f == "prefix"),
        }
    }
}

impl<'s> NatArg<'s> {
    fn compile(expr: &'s raw::Expr, tys: &Tys, scope: &Scope<'_, 's>) -> Self {
        let constant = match expr {
            raw::Expr::Concat(_) => spans(expr, tys, scope.ifs),
            _ => spans(expr, &tys[..1], scope.ifs),
        };
        match (constant, expr) {
            (Some(spans), _) => Self::Spans(spans),
            (None, raw::Expr::Map(lookup)) => {
                let key = Expr::compile(&lookup.key, &[], scope);
                let set = SetRef::compile(&lookup.data, &key, tys, true, scope);
                Self::Map(key, set)
            }
            (None, _) => Self::Expr(Expr::compile(expr, tys, scope)),
        }
    }
}

impl Reject {
    fn compile(reject: &raw::Reject, scope: &Scope<'_, '_>) -> Self {
        let code = |kind: Kind, default: u8| match &reject.expr {
            None => Some(default),
            Some(expr) => Ty::new(kind, 8)
                .constant(expr, scope.ifs)
                .and_then(|(n, _)| u8::try_from(n).ok()),
        };
        let how = match reject.kind.as_deref() {
            Some("tcp reset") => Some(Self::TcpReset),
            Some("icmp") => code(Kind::IcmpCode, 3).map(Self::Icmp),
            Some("icmpv6") => code(Kind::Icmp6Code, 4).map(Self::Icmp6),
            Some("icmpx") => code(Kind::IcmpxCode, 1).map(Self::Icmpx),
            None => Some(Self::Icmpx(1)),
            Some(_) => None,
        };
        how.unwrap_or(Self::Unknown)
    }
}
