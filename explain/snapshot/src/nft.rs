//! `nft.json` and `nft.txt`: `nft -j list ruleset`, `nft -a list ruleset`.
//!
//! Every object, statement and expression of `nft -j` is a JSON object with one key, which makes a model
//! possible that is typed, quick and total: what it does not know it keeps with its text, and one object
//! it cannot read never costs the rest.

mod expr;
mod stmt;
mod text;

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;

pub use expr::{CtKey, Elem, Expr, Fib, HeaderOption, Jhash, Lookup, Numgen, Op, Payload, RtKey, Symhash, Verdict};
pub use stmt::{Mangle, Match, Nat, NatKind, Reject, SetUpdate, Stateful, Stmt};
pub use text::{ChainText, Listing, TableText, parse as parse_listing};

use crate::fact::Problem;
use crate::row::{Row, Table};

/// One object of a ruleset and its place in the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Where the object stands.
    pub at: Row,
    /// What it is.
    pub kind: ObjectKind,
}

/// What can be in a ruleset.
#[derive(Clone, Debug, PartialEq)]
pub enum ObjectKind {
    /// Version of the writer.
    Metainfo(Metainfo),
    /// A table.
    Table(TableDecl),
    /// A chain.
    Chain(ChainDecl),
    /// A rule.
    Rule(Rule),
    /// A set or map.
    Set(Set),
    /// Elements listed apart from their set.
    Element(Elements),
    /// A named counter, quota, limit, helper and the like: its key.
    Named(Box<str>, NamedObject),
    /// An object this model does not know or could not read: key and text.
    Unknown(Box<str>, Box<str>),
}

/// `metainfo`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Metainfo {
    /// Version of nft.
    pub version: Box<str>,
}

/// A table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct TableDecl {
    /// `ip`, `ip6`, `inet`, `arp`, `bridge`, `netdev`.
    pub family: Box<str>,
    /// Name.
    pub name: Box<str>,
    /// Handle; tables made later have larger ones.
    pub handle: u64,
    /// `dormant` and the like. nft 1.0.6 does not print them here.
    #[serde(deserialize_with = "words")]
    pub flags: Vec<Box<str>>,
}

/// A chain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ChainDecl {
    /// Family.
    pub family: Box<str>,
    /// Table.
    pub table: Box<str>,
    /// Name.
    pub name: Box<str>,
    /// Handle.
    pub handle: u64,
    /// `filter`, `nat`, `route`; `None` = not a base chain.
    #[serde(rename = "type")]
    pub kind: Option<Box<str>>,
    /// Hook of a base chain.
    pub hook: Option<Box<str>>,
    /// Priority of a base chain.
    pub prio: Option<i32>,
    /// `accept` or `drop`.
    pub policy: Option<Box<str>>,
    /// Devices of a netdev chain. nft 1.0.6 does not print them here.
    #[serde(deserialize_with = "words", alias = "devices")]
    pub dev: Vec<Box<str>>,
}

/// A rule.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Rule {
    /// Family.
    pub family: Box<str>,
    /// Table.
    pub table: Box<str>,
    /// Chain.
    pub chain: Box<str>,
    /// Handle.
    pub handle: u64,
    /// Comment.
    pub comment: Option<Box<str>>,
    /// Statements in order.
    pub expr: Vec<Stmt>,
}

/// A set or map.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Set {
    /// Family.
    pub family: Box<str>,
    /// Table.
    pub table: Box<str>,
    /// Name.
    pub name: Box<str>,
    /// Handle.
    pub handle: u64,
    /// Types of the key's parts; empty when the writer gave an expression.
    #[serde(rename = "type", deserialize_with = "types")]
    pub key: Vec<Box<str>>,
    /// Types of the value's parts; `verdict`, or an object's type. Empty for a set.
    #[serde(deserialize_with = "types")]
    pub map: Vec<Box<str>>,
    /// `constant`, `interval`, `timeout`, `dynamic`.
    #[serde(deserialize_with = "words")]
    pub flags: Vec<Box<str>>,
    /// Elements; in a map each is a [`Expr::List`] of key and value.
    #[serde(deserialize_with = "many")]
    pub elem: Vec<Expr>,
    /// Comment.
    pub comment: Option<Box<str>>,
}

/// Elements apart from their set.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Elements {
    /// Family.
    pub family: Box<str>,
    /// Table.
    pub table: Box<str>,
    /// Set.
    pub name: Box<str>,
    /// Elements.
    #[serde(deserialize_with = "many")]
    pub elem: Vec<Expr>,
}

/// A named object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct NamedObject {
    /// Family.
    pub family: Box<str>,
    /// Table.
    pub table: Box<str>,
    /// Name.
    pub name: Box<str>,
    /// Handle.
    pub handle: u64,
    /// `type` of a ct helper.
    #[serde(rename = "type")]
    pub kind: Option<Box<str>>,
}

/// Reads `nft.json`. A file that is not JSON from end to end gives the problem instead.
pub fn parse(artifact: Arc<str>, bytes: &[u8]) -> Result<Table<Object>, Problem> {
    #[derive(Deserialize)]
    struct File<'a> {
        #[serde(borrow)]
        nftables: Vec<&'a RawValue>,
    }
    let mut table = Table::empty(artifact);
    let text = crate::json::utf8(bytes, &table.artifact, &mut table.problems);
    let file: File<'_> = serde_json::from_str(&text).map_err(|e| Problem {
        artifact: table.artifact.to_string(),
        offset: Some(0),
        what: format!("not a complete ruleset in JSON, so nothing in it is used: {e}"),
    })?;
    table.rows.reserve(file.nftables.len());
    for raw in file.nftables {
        let at = crate::json::place(&text, raw);
        let kind = object(raw.get(), &mut |what| table.problem(at.start, what));
        table.rows.push(Object { at, kind });
    }
    Ok(table)
}

/// Reads one object. What cannot be read as it stands is read again piece by piece, so that a rule keeps
/// its other statements and a set its other elements.
fn object(text: &str, problem: &mut dyn FnMut(String)) -> ObjectKind {
    if let Ok(Whole(kind)) = serde_json::from_str(text) {
        return kind;
    }
    let Some((key, body)) = single(text) else {
        problem("an object without exactly one key".to_owned());
        return ObjectKind::Unknown("".into(), text.into());
    };
    let read = match key.as_str() {
        "metainfo" => serde_json::from_str(body).map(ObjectKind::Metainfo),
        "table" => serde_json::from_str(body).map(ObjectKind::Table),
        "chain" => serde_json::from_str(body).map(ObjectKind::Chain),
        "rule" => serde_json::from_str(body)
            .map(ObjectKind::Rule)
            .or_else(|e| rule_by_pieces(body, e, problem)),
        "set" | "map" => serde_json::from_str(body)
            .map(ObjectKind::Set)
            .or_else(|e| set_by_pieces(body, e, problem)),
        "element" => serde_json::from_str(body).map(ObjectKind::Element),
        "counter" | "quota" | "limit" | "secmark" | "synproxy" | "ct helper" | "ct timeout" | "ct expectation"
        | "flowtable" | "tunnel" => serde_json::from_str(body).map(|o| ObjectKind::Named(key.as_str().into(), o)),
        _ => Ok(ObjectKind::Unknown(key.as_str().into(), body.into())),
    };
    read.unwrap_or_else(|e| {
        problem(format!("{key}: {e}"));
        ObjectKind::Unknown(key.into(), body.into())
    })
}

/// An object read in one pass, when every piece of it can be read.
struct Whole(ObjectKind);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WholeVisitor;
        impl<'de> Visitor<'de> for WholeVisitor {
            type Value = Whole;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of a ruleset")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Whole, A::Error> {
                let key: Option<expr::Key<'de>> = map.next_key()?;
                let kind = match key.as_ref().map(|k| &*k.0) {
                    Some("table") => ObjectKind::Table(map.next_value()?),
                    Some("chain") => ObjectKind::Chain(map.next_value()?),
                    Some("rule") => ObjectKind::Rule(map.next_value()?),
                    Some("set" | "map") => ObjectKind::Set(map.next_value()?),
                    _ => return Err(serde::de::Error::custom("another object")),
                };
                if map.next_key::<serde::de::IgnoredAny>()?.is_some() {
                    return Err(serde::de::Error::custom("not exactly one key"));
                }
                Ok(Whole(kind))
            }
        }
        deserializer.deserialize_map(WholeVisitor)
    }
}

/// The only key of an object, and its value as written.
fn single(text: &str) -> Option<(String, &str)> {
    struct OneKey<'a>(String, &'a RawValue);
    impl<'de> Deserialize<'de> for OneKey<'de> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct OneVisitor;
            impl<'de> Visitor<'de> for OneVisitor {
                type Value = OneKey<'de>;
                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("an object with one key")
                }
                fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                    let entry = map.next_entry::<String, &'de RawValue>()?;
                    let extra = map.next_key::<serde::de::IgnoredAny>()?.is_some();
                    match entry {
                        Some((key, value)) if !extra => Ok(OneKey(key, value)),
                        _ => Err(serde::de::Error::custom("not exactly one key")),
                    }
                }
            }
            deserializer.deserialize_map(OneVisitor)
        }
    }
    let OneKey(key, value) = serde_json::from_str(text).ok()?;
    Some((key, value.get()))
}

fn rule_by_pieces(body: &str, e: serde_json::Error, problem: &mut dyn FnMut(String)) -> serde_json::Result<ObjectKind> {
    #[derive(Deserialize)]
    struct Pieces<'a> {
        family: Box<str>,
        table: Box<str>,
        chain: Box<str>,
        #[serde(default)]
        handle: u64,
        #[serde(default, borrow)]
        expr: Option<&'a RawValue>,
    }
    problem(format!("rule: {e}"));
    let Pieces {
        family,
        table,
        chain,
        handle,
        expr,
    } = serde_json::from_str(body)?;
    let mut stmts = Vec::new();
    match expr.map(|raw| (raw, serde_json::from_str::<Vec<&RawValue>>(raw.get()))) {
        Some((_, Ok(list))) => stmts.extend(list.into_iter().map(|raw| {
            serde_json::from_str(raw.get()).unwrap_or_else(|_| {
                let key = single(raw.get()).map(|(key, _)| key).unwrap_or_default();
                Stmt::Other(key.into(), raw.get().into())
            })
        })),
        Some((raw, Err(_))) => stmts.push(Stmt::Other("".into(), raw.get().into())),
        None => stmts.push(Stmt::Other("".into(), body.into())),
    }
    Ok(ObjectKind::Rule(Rule {
        family,
        table,
        chain,
        handle,
        comment: None,
        expr: stmts,
    }))
}

fn set_by_pieces(body: &str, e: serde_json::Error, problem: &mut dyn FnMut(String)) -> serde_json::Result<ObjectKind> {
    #[derive(Deserialize)]
    struct Pieces<'a> {
        family: Box<str>,
        table: Box<str>,
        name: Box<str>,
        #[serde(default)]
        handle: u64,
        #[serde(default, rename = "type", deserialize_with = "types")]
        key: Vec<Box<str>>,
        #[serde(default, deserialize_with = "types")]
        map: Vec<Box<str>>,
        #[serde(default, deserialize_with = "words")]
        flags: Vec<Box<str>>,
        #[serde(default, borrow)]
        elem: Option<&'a RawValue>,
    }
    problem(format!("set: {e}"));
    let Pieces {
        family,
        table,
        name,
        handle,
        key,
        map,
        flags,
        elem,
    } = serde_json::from_str(body)?;
    let mut elems = Vec::new();
    match elem.map(|raw| (raw, serde_json::from_str::<Vec<&RawValue>>(raw.get()))) {
        Some((_, Ok(list))) => {
            elems.extend(list.into_iter().map(|raw| {
                serde_json::from_str(raw.get()).unwrap_or_else(|_| Expr::Unknown("".into(), raw.get().into()))
            }))
        }
        Some((raw, Err(_))) => elems.push(Expr::Unknown("".into(), raw.get().into())),
        None => {}
    }
    Ok(ObjectKind::Set(Set {
        family,
        table,
        name,
        handle,
        key,
        map,
        flags,
        elem: elems,
        comment: None,
    }))
}

/// One value, or a list of them: nft writes a single flag bare, and versions differ.
pub(crate) struct Many<T>(pub Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Many<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ManyVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ManyVisitor<T> {
            type Value = Many<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value or a list")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = seq.next_element()? {
                    list.push(item);
                }
                Ok(Many(list))
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Many(Vec::new()))
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
                T::deserialize(serde::de::value::StrDeserializer::new(text)).map(|t| Many(vec![t]))
            }
            fn visit_u64<E: serde::de::Error>(self, n: u64) -> Result<Self::Value, E> {
                T::deserialize(serde::de::value::U64Deserializer::new(n)).map(|t| Many(vec![t]))
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(serde::de::value::MapAccessDeserializer::new(map)).map(|t| Many(vec![t]))
            }
        }
        deserializer.deserialize_any(ManyVisitor(PhantomData))
    }
}

pub(crate) fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Box<str>>, D::Error> {
    Many::deserialize(deserializer).map(|m| m.0)
}

fn many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Expr>, D::Error> {
    Many::deserialize(deserializer).map(|m| m.0)
}

/// Types: one, a list, `"a . b"` in one string, or an expression (`typeof`), which gives none.
fn types<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Box<str>>, D::Error> {
    let exprs: Many<Expr> = Many::deserialize(deserializer)?;
    let mut out = Vec::new();
    for expr in exprs.0 {
        match expr {
            Expr::Text(text) => out.extend(text.split(" . ").map(|t| t.trim().into())),
            _ => return Ok(Vec::new()),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests;
