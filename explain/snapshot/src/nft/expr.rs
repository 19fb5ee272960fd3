//! Expressions: values, header fields, and what is computed from them.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// An expression as `nft -j` writes it. Every key this model does not know is kept with its text.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// A word, an address, `@set`, or `*`.
    Text(Box<str>),
    /// A number. The kernel has none wider than this that `nft` prints in decimal.
    Number(i128),
    /// `exists` / `missing`.
    Bool(bool),
    /// Several flags, or a list of values.
    List(Vec<Expr>),
    /// `a . b . c`
    Concat(Vec<Expr>),
    /// `{ ... }`; in a map each entry is a [`Expr::List`] of key and value.
    Set(Vec<Expr>),
    /// `addr/len`
    Prefix(Box<Expr>, u8),
    /// `from-to`
    Range(Box<(Expr, Expr)>),
    /// A map lookup that gives a value.
    Map(Box<Lookup>),
    /// A set element with a comment, timeout or statement.
    Elem(Box<Elem>),
    /// A header field.
    Payload(Box<Payload>),
    /// An extension header, TCP option, IP option or SCTP chunk (the key says which).
    Option(Box<HeaderOption>),
    /// `meta KEY`
    Meta(Box<str>),
    /// `ct [DIR] KEY`
    Ct(Box<CtKey>),
    /// `rt [FAMILY] KEY`
    Rt(Box<RtKey>),
    /// `fib FLAGS RESULT`
    Fib(Box<Fib>),
    /// `numgen`
    Numgen(Box<Numgen>),
    /// `jhash`
    Jhash(Box<Jhash>),
    /// `symhash`
    Symhash(Box<Symhash>),
    /// `socket KEY`
    Socket(Box<str>),
    /// `& | ^ << >>` over two or more operands.
    Binary(Op, Vec<Expr>),
    /// A verdict, as the value of a map.
    Verdict(Verdict),
    /// A key this model does not know, and its text.
    Unknown(Box<str>, Box<str>),
}

/// Bitwise operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// `&`
    And,
    /// `|`
    Or,
    /// `^`
    Xor,
    /// `<<`
    Shl,
    /// `>>`
    Shr,
}

impl Op {
    /// As written.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::And => "&",
            Self::Or => "|",
            Self::Xor => "^",
            Self::Shl => "<<",
            Self::Shr => ">>",
        }
    }
}

/// What a rule or a map element does with the packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Ends this base chain.
    Accept,
    /// Ends the packet.
    Drop,
    /// On to the next rule.
    Continue,
    /// Back to the calling chain.
    Return,
    /// To a program.
    Queue,
    /// Into a chain and back.
    Jump(Box<str>),
    /// Into a chain for good.
    Goto(Box<str>),
}

/// `KEY map DATA`, `KEY vmap DATA`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Lookup {
    /// What is looked up.
    pub key: Expr,
    /// In what: a set literal or `@name`.
    pub data: Expr,
}

/// A set element that is more than its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Elem {
    /// The value.
    pub val: Expr,
    /// Lifetime in seconds.
    pub timeout: Option<u64>,
    /// Seconds left.
    pub expires: Option<u64>,
    /// Comment.
    pub comment: Option<Box<str>>,
    /// Statements attached to the element: key and text.
    pub stmts: Vec<(Box<str>, Box<str>)>,
}

/// A header field by name, or raw.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Payload {
    /// Protocol (`ip`, `tcp`, `th`).
    pub protocol: Option<Box<str>>,
    /// Field of it.
    pub field: Option<Box<str>>,
    /// Raw access: `ll`, `nh`, `th` or `ih`.
    pub base: Option<Box<str>>,
    /// Bit offset of raw access.
    pub offset: u32,
    /// Bit length of raw access.
    pub len: u32,
    /// The header is inside this tunnel (`vxlan`, `gre`, ...).
    pub tunnel: Option<Box<str>>,
}

/// `exthdr`, `tcp option`, `ip option`, `sctp chunk`, `dccp option`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderOption {
    /// Which of them, by its JSON key.
    pub class: Box<str>,
    /// Name.
    pub name: Option<Box<str>>,
    /// Field; without one the question is whether it is there.
    pub field: Option<Box<str>>,
    /// The rest as text, for people.
    pub text: Box<str>,
}

/// A conntrack key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct CtKey {
    /// Key.
    pub key: Box<str>,
    /// `original` or `reply`.
    pub dir: Option<Box<str>>,
    /// `ip` or `ip6` (older writers).
    pub family: Option<Box<str>>,
}

/// A routing key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct RtKey {
    /// Key.
    pub key: Box<str>,
    /// `ip` or `ip6`.
    pub family: Option<Box<str>>,
}

/// A FIB lookup.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Fib {
    /// `oif`, `oifname`, `type`, `check`.
    pub result: Box<str>,
    /// `saddr`, `daddr`, `mark`, `iif`, `oif`.
    #[serde(deserialize_with = "super::words")]
    pub flags: Vec<Box<str>>,
}

/// A number generator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Numgen {
    /// `random` or `inc`.
    pub mode: Box<str>,
    /// How many values.
    #[serde(rename = "mod")]
    pub modulus: u32,
    /// The first.
    pub offset: u32,
}

/// Jenkins hash.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Jhash {
    /// How many values.
    #[serde(rename = "mod")]
    pub modulus: u32,
    /// The first.
    #[serde(default)]
    pub offset: u32,
    /// Seed, when the rule gives one.
    #[serde(default)]
    pub seed: Option<u32>,
    /// What is hashed.
    pub expr: Expr,
}

/// Symmetric flow hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Symhash {
    /// How many values.
    #[serde(rename = "mod")]
    pub modulus: u32,
    /// The first.
    pub offset: u32,
}

#[derive(Deserialize)]
struct Target {
    target: Box<str>,
}

#[derive(Deserialize)]
struct PrefixBody {
    addr: Expr,
    len: u8,
}

#[derive(Deserialize)]
struct KeyBody {
    key: Box<str>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct OptionBody {
    name: Option<Box<str>>,
    field: Option<Box<str>>,
}

impl<'de> Deserialize<'de> for Expr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ExprVisitor)
    }
}

struct ExprVisitor;

impl<'de> Visitor<'de> for ExprVisitor {
    type Value = Expr;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an nft expression")
    }

    fn visit_bool<E>(self, b: bool) -> Result<Expr, E> {
        Ok(Expr::Bool(b))
    }

    fn visit_i64<E>(self, n: i64) -> Result<Expr, E> {
        Ok(Expr::Number(i128::from(n)))
    }

    fn visit_u64<E>(self, n: u64) -> Result<Expr, E> {
        Ok(Expr::Number(i128::from(n)))
    }

    fn visit_f64<E>(self, n: f64) -> Result<Expr, E> {
        Ok(Expr::Unknown("number".into(), n.to_string().into()))
    }

    fn visit_unit<E>(self) -> Result<Expr, E> {
        Ok(Expr::Unknown("null".into(), "null".into()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Expr, E> {
        Ok(Expr::Text(text.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Expr, A::Error> {
        let mut list = Vec::with_capacity(2);
        while let Some(item) = seq.next_element()? {
            list.push(item);
        }
        Ok(Expr::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Expr, A::Error> {
        let key: Key<'de> = map.next_key()?.ok_or_else(|| de::Error::custom("an empty object"))?;
        let expr = match &*key.0 {
            "concat" => Expr::Concat(map.next_value()?),
            "elem" => Expr::Elem(map.next_value()?),
            "prefix" => {
                let body: PrefixBody = map.next_value()?;
                Expr::Prefix(Box::new(body.addr), body.len)
            }
            "range" => Expr::Range(map.next_value()?),
            "set" => Expr::Set(map.next_value::<super::Many<Expr>>()?.0),
            "map" => Expr::Map(map.next_value()?),
            "payload" => Expr::Payload(map.next_value()?),
            "meta" => Expr::Meta(map.next_value::<KeyBody>()?.key),
            "ct" => Expr::Ct(map.next_value()?),
            "rt" => Expr::Rt(map.next_value()?),
            "fib" => Expr::Fib(map.next_value()?),
            "numgen" => Expr::Numgen(map.next_value()?),
            "jhash" => Expr::Jhash(map.next_value()?),
            "symhash" => Expr::Symhash(map.next_value()?),
            "socket" => Expr::Socket(map.next_value::<KeyBody>()?.key),
            "&" => Expr::Binary(Op::And, map.next_value()?),
            "|" => Expr::Binary(Op::Or, map.next_value()?),
            "^" => Expr::Binary(Op::Xor, map.next_value()?),
            "<<" => Expr::Binary(Op::Shl, map.next_value()?),
            ">>" => Expr::Binary(Op::Shr, map.next_value()?),
            class @ ("exthdr" | "tcp option" | "ip option" | "sctp chunk" | "dccp option") => {
                let text: Box<RawValue> = map.next_value()?;
                let body: OptionBody = serde_json::from_str(text.get()).unwrap_or_default();
                let text = text.get().into();
                Expr::Option(Box::new(HeaderOption {
                    class: class.into(),
                    name: body.name,
                    field: body.field,
                    text,
                }))
            }
            "accept" => verdict(&mut map, Verdict::Accept)?,
            "drop" => verdict(&mut map, Verdict::Drop)?,
            "continue" => verdict(&mut map, Verdict::Continue)?,
            "return" => verdict(&mut map, Verdict::Return)?,
            "queue" => verdict(&mut map, Verdict::Queue)?,
            "jump" => Expr::Verdict(Verdict::Jump(map.next_value::<Target>()?.target)),
            "goto" => Expr::Verdict(Verdict::Goto(map.next_value::<Target>()?.target)),
            other => {
                let text: Box<RawValue> = map.next_value()?;
                Expr::Unknown(other.into(), text.get().into())
            }
        };
        // A second key would change the meaning, and nobody writes one.
        if map.next_key::<IgnoredAny>()?.is_some() {
            return Err(de::Error::custom("an expression with more than one key"));
        }
        Ok(expr)
    }
}

fn verdict<'de, A: MapAccess<'de>>(map: &mut A, verdict: Verdict) -> Result<Expr, A::Error> {
    map.next_value::<IgnoredAny>()?;
    Ok(Expr::Verdict(verdict))
}

/// A key borrowed from the file where it has no escapes.
pub(super) struct Key<'de>(pub Cow<'de, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}

impl<'de> Deserialize<'de> for Elem {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ElemVisitor;
        impl<'de> Visitor<'de> for ElemVisitor {
            type Value = Elem;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a set element")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Elem, A::Error> {
                let mut val = None;
                let mut elem = Elem {
                    val: Expr::Bool(false),
                    timeout: None,
                    expires: None,
                    comment: None,
                    stmts: Vec::new(),
                };
                while let Some(Key(key)) = map.next_key()? {
                    match &*key {
                        "val" => val = Some(map.next_value()?),
                        "timeout" => elem.timeout = map.next_value()?,
                        "expires" => elem.expires = map.next_value()?,
                        "comment" => elem.comment = map.next_value()?,
                        other => {
                            let text: Box<RawValue> = map.next_value()?;
                            elem.stmts.push((other.into(), text.get().into()));
                        }
                    }
                }
                elem.val = val.ok_or_else(|| de::Error::missing_field("val"))?;
                Ok(elem)
            }
        }
        deserializer.deserialize_map(ElemVisitor)
    }
}
