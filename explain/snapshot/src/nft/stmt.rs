//! Statements of a rule.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::expr::{Expr, Key, Lookup, Verdict};

/// A statement as `nft -j` writes it. Every key this model does not know is kept with its text.
#[derive(Clone, Debug, PartialEq)]
pub enum Stmt {
    /// A comparison.
    Match(Box<Match>),
    /// A verdict.
    Verdict(Verdict),
    /// A verdict looked up in a map.
    Vmap(Box<Lookup>),
    /// Sets a mark or header field.
    Mangle(Box<Mangle>),
    /// `snat`, `dnat`, `masquerade`, `redirect`.
    Nat(NatKind, Box<Nat>),
    /// `reject`
    Reject(Box<Reject>),
    /// `notrack`
    Notrack,
    /// `counter`
    Counter(Stateful),
    /// `log`: its text.
    Log(Box<str>),
    /// `limit`
    Limit(Stateful),
    /// `quota`
    Quota(Stateful),
    /// `queue`: its text.
    Queue(Box<str>),
    /// `add @set { ... }` and the like.
    Set(Box<SetUpdate>),
    /// `ct helper set`
    CtHelper(Box<str>),
    /// An iptables match or target: type and name. `nft -j` does not print its arguments.
    Xt(Box<str>, Box<str>),
    /// Any other statement, by key, and its text.
    Other(Box<str>, Box<str>),
}

/// A statement that keeps state: in place or by the name of an object, or an object that a map names.
#[derive(Clone, Debug, PartialEq)]
pub enum Stateful {
    /// Its text.
    Text(Box<str>),
    /// From key to object.
    Map(Box<Lookup>),
}

/// A comparison.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Match {
    /// `==`, `!=`, `<`, `>`, `<=`, `>=`, `in`, `!`.
    pub op: Box<str>,
    /// Left side.
    pub left: Expr,
    /// Right side.
    pub right: Expr,
}

/// A field and its new value.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Mangle {
    /// Field.
    pub key: Expr,
    /// Value.
    pub value: Expr,
}

/// Which translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NatKind {
    /// `snat`
    Snat,
    /// `dnat`
    Dnat,
    /// `masquerade`
    Masquerade,
    /// `redirect`
    Redirect,
    /// `tproxy`: no translation, but written like one.
    Tproxy,
}

/// What a translation translates to.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Nat {
    /// `ip` or `ip6`, where the table's family does not say.
    pub family: Option<Box<str>>,
    /// Address, range, prefix or map.
    pub addr: Option<Expr>,
    /// Port, range or map.
    pub port: Option<Expr>,
    /// `random`, `fully-random`, `persistent`, `netmap`.
    #[serde(deserialize_with = "super::words")]
    pub flags: Vec<Box<str>>,
    /// `prefix`, `interval`, `concat`.
    #[serde(deserialize_with = "super::words")]
    pub type_flags: Vec<Box<str>>,
}

/// How a packet is refused.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Reject {
    /// `tcp reset`, `icmp`, `icmpv6`, `icmpx`; `None` = the default.
    #[serde(rename = "type")]
    pub kind: Option<Box<str>>,
    /// ICMP code.
    pub expr: Option<Expr>,
}

/// A set changed by a packet.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct SetUpdate {
    /// `add`, `update`, `delete`.
    pub op: Box<str>,
    /// Element.
    pub elem: Expr,
    /// Value, for maps.
    #[serde(default)]
    pub data: Option<Expr>,
    /// `@name`
    #[serde(alias = "map")]
    pub set: Box<str>,
    /// Statements of the element.
    #[serde(default)]
    pub stmt: Vec<Stmt>,
}

#[derive(Deserialize)]
struct Target {
    target: Box<str>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct XtBody {
    #[serde(rename = "type")]
    kind: Box<str>,
    name: Box<str>,
}

impl<'de> Deserialize<'de> for Stmt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(StmtVisitor)
    }
}

struct StmtVisitor;

impl<'de> Visitor<'de> for StmtVisitor {
    type Value = Stmt;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an nft statement")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Stmt, A::Error> {
        let key: Key<'de> = map.next_key()?.ok_or_else(|| de::Error::custom("an empty object"))?;
        let stmt = match &*key.0 {
            "match" => Stmt::Match(map.next_value()?),
            "vmap" => Stmt::Vmap(map.next_value()?),
            "mangle" => Stmt::Mangle(map.next_value()?),
            "snat" => nat(&mut map, NatKind::Snat)?,
            "dnat" => nat(&mut map, NatKind::Dnat)?,
            "masquerade" => nat(&mut map, NatKind::Masquerade)?,
            "redirect" => nat(&mut map, NatKind::Redirect)?,
            "tproxy" => nat(&mut map, NatKind::Tproxy)?,
            "reject" => Stmt::Reject(map.next_value::<Option<Box<Reject>>>()?.unwrap_or_default()),
            "jump" => Stmt::Verdict(Verdict::Jump(map.next_value::<Target>()?.target)),
            "goto" => Stmt::Verdict(Verdict::Goto(map.next_value::<Target>()?.target)),
            "accept" => bare(&mut map, Stmt::Verdict(Verdict::Accept))?,
            "drop" => bare(&mut map, Stmt::Verdict(Verdict::Drop))?,
            "continue" => bare(&mut map, Stmt::Verdict(Verdict::Continue))?,
            "return" => bare(&mut map, Stmt::Verdict(Verdict::Return))?,
            "notrack" => bare(&mut map, Stmt::Notrack)?,
            "counter" => Stmt::Counter(stateful(&mut map)?),
            "log" => Stmt::Log(text(&mut map)?),
            "limit" => Stmt::Limit(stateful(&mut map)?),
            "quota" => Stmt::Quota(stateful(&mut map)?),
            "queue" => Stmt::Queue(text(&mut map)?),
            "ct helper" => Stmt::CtHelper(text(&mut map)?),
            "set" | "map" => Stmt::Set(map.next_value()?),
            "xt" => {
                let raw = text(&mut map)?;
                match serde_json::from_str::<XtBody>(&raw) {
                    Ok(body) => Stmt::Xt(body.kind, body.name),
                    Err(_) => Stmt::Xt("".into(), raw),
                }
            }
            other => {
                let key = other.into();
                Stmt::Other(key, text(&mut map)?)
            }
        };
        if map.next_key::<IgnoredAny>()?.is_some() {
            return Err(de::Error::custom("a statement with more than one key"));
        }
        Ok(stmt)
    }
}

fn text<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Box<str>, A::Error> {
    Ok(map.next_value::<Box<RawValue>>()?.get().into())
}

fn stateful<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Stateful, A::Error> {
    let text = text(map)?;
    if let Ok(Expr::Map(lookup)) = serde_json::from_str(&text) {
        return Ok(Stateful::Map(lookup));
    }
    Ok(Stateful::Text(text))
}

fn bare<'de, A: MapAccess<'de>>(map: &mut A, stmt: Stmt) -> Result<Stmt, A::Error> {
    map.next_value::<IgnoredAny>()?;
    Ok(stmt)
}

fn nat<'de, A: MapAccess<'de>>(map: &mut A, kind: NatKind) -> Result<Stmt, A::Error> {
    Ok(Stmt::Nat(
        kind,
        map.next_value::<Option<Box<Nat>>>()?.unwrap_or_default(),
    ))
}
