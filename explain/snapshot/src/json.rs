//! JSON as the tools print it: rows that keep their place in the file, objects that may repeat a key, and
//! values that come as a name or as a number depending on `-N`.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::fact::Problem;
use crate::id::Family;
use crate::row::{Row, Table};

/// Why a row could not be read, in one line.
pub(crate) type Unreadable = String;

/// A JSON value that borrows its strings from the file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Json<'a> {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    Text(Cow<'a, str>),
    List(Vec<Json<'a>>),
    Object(Object<'a>),
}

/// An object in file order. `ip -j` repeats keys (a route's `dst` and its encapsulation's `dst`), so this is a list.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Object<'a>(pub Vec<(Cow<'a, str>, Json<'a>)>);

/// Reads the rows of a list of objects. `read` gets each row's place and content and pushes what it makes of it.
///
/// A row that `read` refuses becomes a problem of the table. When the file as a whole is not JSON (truncated, or
/// an error message instead of a list) nothing in it can be taken for complete, and the answer is the problem.
pub(crate) fn table<T>(
    artifact: Arc<str>,
    bytes: &[u8],
    mut read: impl FnMut(Row, &Object<'_>, &mut Vec<T>) -> Result<(), Unreadable>,
) -> Result<Table<T>, Problem> {
    let mut table = Table::empty(artifact);
    let text = utf8(bytes, &table.artifact, &mut table.problems);
    for raw in lists(&text, &table.artifact)? {
        let at = place(&text, raw);
        let object: Object<'_> = match serde_json::from_str(raw.get()) {
            Ok(Json::Object(object)) => object,
            Ok(_) => Object::default(),
            Err(e) => {
                table.problem(at.start, e.to_string());
                continue;
            }
        };
        // Older iproute2 prints `{}` for what a filter left out.
        if object.0.is_empty() {
            if raw.get().trim_start().starts_with('{') {
                continue;
            }
            table.problem(at.start, "a row that is not an object".to_owned());
        } else if let Err(what) = read(at, &object, &mut table.rows) {
            table.problem(at.start, what);
        }
    }
    Ok(table)
}

/// The bytes as text of the same length: what is not UTF-8 (an interface alias in an old encoding) becomes `?`,
/// so that offsets stay right and one bad name does not cost the whole file.
pub(crate) fn utf8<'a>(bytes: &'a [u8], artifact: &str, problems: &mut Vec<Problem>) -> Cow<'a, str> {
    let first = match std::str::from_utf8(bytes) {
        Ok(text) => return Cow::Borrowed(text),
        Err(e) => e.valid_up_to(),
    };
    problems.push(Problem {
        artifact: artifact.to_owned(),
        offset: Some(first as u64),
        what: "bytes that are not UTF-8 are read as '?'".to_owned(),
    });
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(std::iter::repeat_n('?', chunk.invalid().len()));
    }
    Cow::Owned(text)
}

/// The rows of one list, or of several lists written one after the other.
fn lists<'a>(text: &'a str, artifact: &str) -> Result<Vec<&'a RawValue>, Problem> {
    let broken = |offset: usize, what: String| Problem {
        artifact: artifact.to_owned(),
        offset: Some(offset as u64),
        what: format!("not a complete JSON list, so nothing in it is used: {what}"),
    };
    let start = if text.starts_with('\u{feff}') { 3 } else { 0 };
    let mut rows = Vec::new();
    let mut stream = serde_json::Deserializer::from_str(&text[start..]).into_iter::<Vec<&'a RawValue>>();
    let mut lists = 0;
    loop {
        match stream.next() {
            Some(Ok(list)) if rows.is_empty() => rows = list,
            Some(Ok(mut list)) => rows.append(&mut list),
            Some(Err(e)) => return Err(broken(start + stream.byte_offset(), e.to_string())),
            None if lists == 0 => return Err(broken(0, "the file is empty".to_owned())),
            None => return Ok(rows),
        }
        lists += 1;
    }
}

/// Where a raw value stands in the text it was borrowed from.
pub(crate) fn place(text: &str, raw: &RawValue) -> Row {
    let start = (raw.get().as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
    Row {
        start: start as u64,
        len: u32::try_from(raw.get().len()).unwrap_or(u32::MAX),
    }
}

impl<'a> Object<'a> {
    /// The value of a key; of a repeated key the last one, as every JSON library does.
    pub(crate) fn get(&self, key: &str) -> Option<&Json<'a>> {
        self.0.iter().rev().find(|(k, _)| k == key).map(|(_, v)| v)
    }

    /// The value of a repeated key that was written first.
    pub(crate) fn first(&self, key: &str) -> Option<&Json<'a>> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v)
    }

    /// Text, also of a number.
    pub(crate) fn text(&self, key: &str) -> Option<Cow<'_, str>> {
        self.get(key)?.text()
    }

    /// A key that says yes by being there (`"router":null`) or by `true`.
    pub(crate) fn flag(&self, key: &str) -> bool {
        self.get(key).is_some_and(|v| v.truth() != Some(false))
    }

    /// `true`/`false`, `0`/`1`, `on`/`off`; `None` when not printed.
    pub(crate) fn switch(&self, key: &str) -> Option<bool> {
        self.get(key).and_then(Json::truth)
    }

    /// A number, also when written as text (`"254"`, `"0x10"`). Names are refused.
    pub(crate) fn number<N: TryFrom<i128>>(&self, key: &str) -> Result<Option<N>, Unreadable> {
        self.named(key, &[])
    }

    /// A number, or a name out of `names`.
    pub(crate) fn named<N: TryFrom<i128>>(&self, key: &str, names: &[(&str, i128)]) -> Result<Option<N>, Unreadable> {
        match self.get(key) {
            None | Some(Json::Null) => Ok(None),
            Some(value) => match value.number(names).and_then(|n| N::try_from(n).ok()) {
                Some(n) => Ok(Some(n)),
                None => Err(format!("{key:?} is {value}: not a number it can be")),
            },
        }
    }

    /// An address; `any` and `all` mean none.
    pub(crate) fn addr(&self, key: &str) -> Result<Option<IpAddr>, Unreadable> {
        match self.get(key) {
            None | Some(Json::Null) => Ok(None),
            Some(value) => value.addr().map_err(|()| format!("{key:?} is {value}: not an address")),
        }
    }

    /// An interface name, without the `@peer` that text output appends.
    pub(crate) fn ifname(&self, key: &str) -> Option<String> {
        Some(bare_ifname(&self.text(key)?).to_owned())
    }

    /// The words of a list (`"flags":["onlink"]`), also when a single word is not in a list.
    pub(crate) fn words(&self, key: &str) -> impl Iterator<Item = &str> {
        let (one, many) = match self.get(key) {
            Some(Json::List(list)) => (None, list.as_slice()),
            Some(Json::Text(word)) => (Some(&**word), [].as_slice()),
            _ => (None, [].as_slice()),
        };
        one.into_iter().chain(
            many.iter()
                .filter_map(|v| if let Json::Text(word) = v { Some(&**word) } else { None }),
        )
    }

    /// The objects of a list.
    pub(crate) fn objects(&self, key: &str) -> impl Iterator<Item = &Object<'a>> {
        let list = if let Some(Json::List(list)) = self.get(key) {
            list.as_slice()
        } else {
            &[]
        };
        list.iter()
            .filter_map(|v| if let Json::Object(o) = v { Some(o) } else { None })
    }

    /// An object inside.
    pub(crate) fn object(&self, key: &str) -> Option<&Object<'a>> {
        if let Some(Json::Object(o)) = self.get(key) {
            Some(o)
        } else {
            None
        }
    }
}

impl Json<'_> {
    /// Text, also of a number or a truth value.
    pub(crate) fn text(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Text(text) => Some(Cow::Borrowed(text)),
            Self::Number(n) => Some(Cow::Owned(n.to_string())),
            Self::Bool(b) => Some(Cow::Borrowed(if *b { "true" } else { "false" })),
            Self::Null | Self::List(_) | Self::Object(_) => None,
        }
    }

    fn truth(&self) -> Option<bool> {
        match self {
            Self::Bool(b) => Some(*b),
            Self::Number(n) => Some(n.as_f64() != Some(0.0)),
            Self::Text(text) => match &**text {
                "on" | "true" | "yes" | "1" => Some(true),
                "off" | "false" | "no" | "0" => Some(false),
                _ => None,
            },
            Self::Null | Self::List(_) | Self::Object(_) => None,
        }
    }

    /// A number, a number as text, `[number]` (how iproute2 prints what it has no name for), or one of `names`.
    pub(crate) fn number(&self, names: &[(&str, i128)]) -> Option<i128> {
        match self {
            Self::Number(n) => n
                .as_u64()
                .map(i128::from)
                .or_else(|| n.as_i64().map(i128::from))
                .or_else(|| whole(n.as_f64()?)),
            Self::Text(text) => number(text).or_else(|| names.iter().find(|(name, _)| name == text).map(|(_, n)| *n)),
            _ => None,
        }
    }

    /// `Ok(None)` for `any` and `all`.
    pub(crate) fn addr(&self) -> Result<Option<IpAddr>, ()> {
        match self {
            Self::Text(text) => match &**text {
                "any" | "all" | "" => Ok(None),
                text => text.parse().map(Some).map_err(|_| ()),
            },
            _ => Err(()),
        }
    }
}

/// A float without a fraction (`15.0`).
fn whole(f: f64) -> Option<i128> {
    (f.fract() == 0.0 && f.abs() < 9e15).then_some(f as i128)
}

/// A decimal or `0x` number, bare or in brackets.
pub(crate) fn number(text: &str) -> Option<i128> {
    let text = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    match text.strip_prefix("0x") {
        Some(hex) => i128::from(u64::from_str_radix(hex, 16).ok()?).into(),
        None if text.len() <= 20 => text.parse().ok(),
        None => None,
    }
}

/// A prefix as `ip` prints it: `default`, an address, or `address/length`. Host bits are cleared.
pub(crate) fn prefix(text: &str, family: Option<Family>) -> Option<IpNet> {
    if matches!(text, "default" | "any" | "all" | "0/0" | "::/0") {
        let any = match family {
            Some(Family::V6) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            _ if text == "::/0" => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            _ => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        };
        return IpNet::new(any, 0).ok();
    }
    let (addr, len) = match text.split_once('/') {
        Some((addr, len)) => (addr, Some(len.parse::<u8>().ok()?)),
        None => (text, None),
    };
    let addr: IpAddr = match (addr, family) {
        ("0", Some(Family::V6)) => Ipv6Addr::UNSPECIFIED.into(),
        ("0", _) => Ipv4Addr::UNSPECIFIED.into(),
        _ => addr.parse().ok()?,
    };
    Some(
        IpNet::new(addr, len.unwrap_or(if addr.is_ipv4() { 32 } else { 128 }))
            .ok()?
            .trunc(),
    )
}

/// `eth0@if5` and `eth0@bond0` are `eth0`.
pub(crate) fn bare_ifname(name: &str) -> &str {
    name.split_once('@').map_or(name, |(name, _)| name)
}

/// `RT_SCOPE_*`
pub(crate) const SCOPES: &[(&str, i128)] = &[
    ("global", 0),
    ("universe", 0),
    ("site", 200),
    ("link", 253),
    ("host", 254),
    ("nowhere", 255),
];

/// `RT_TABLE_*`
pub(crate) const TABLES: &[(&str, i128)] = &[("unspec", 0), ("default", 253), ("main", 254), ("local", 255)];

/// `RTPROT_*`, as `/etc/iproute2/rt_protos` and `/usr/share/iproute2/rt_protos` name them.
pub(crate) const PROTOCOLS: &[(&str, i128)] = &[
    ("none", 0),
    ("unspec", 0),
    ("redirect", 1),
    ("kernel", 2),
    ("boot", 3),
    ("static", 4),
    ("gated", 8),
    ("ra", 9),
    ("mrt", 10),
    ("zebra", 11),
    ("bird", 12),
    ("dnrouted", 13),
    ("xorp", 14),
    ("ntk", 15),
    ("dhcp", 16),
    ("mrouted", 17),
    ("keepalived", 18),
    ("babel", 42),
    ("ovn", 84),
    ("openr", 99),
    ("bgp", 186),
    ("isis", 187),
    ("ospf", 188),
    ("rip", 189),
    ("eigrp", 192),
];

impl fmt::Display for Json<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(b) => write!(f, "{b}"),
            Self::Number(n) => write!(f, "{n}"),
            Self::Text(text) => write!(f, "{text:?}"),
            Self::List(_) => f.write_str("a list"),
            Self::Object(_) => f.write_str("an object"),
        }
    }
}

/// For a field of which `null` says no more than leaving it out: Go writes an empty list that way.
pub(crate) fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(d: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(d)?.unwrap_or_default())
}

impl<'de> Deserialize<'de> for Json<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Json<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Json::Null)
            }
            fn visit_bool<E>(self, b: bool) -> Result<Self::Value, E> {
                Ok(Json::Bool(b))
            }
            fn visit_i64<E>(self, n: i64) -> Result<Self::Value, E> {
                Ok(Json::Number(n.into()))
            }
            fn visit_u64<E>(self, n: u64) -> Result<Self::Value, E> {
                Ok(Json::Number(n.into()))
            }
            fn visit_f64<E>(self, n: f64) -> Result<Self::Value, E> {
                Ok(serde_json::Number::from_f64(n).map_or(Json::Null, Json::Number))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Json::Text(Cow::Owned(text.to_owned())))
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Json::Text(Cow::Borrowed(text)))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut list = Vec::new();
                while let Some(value) = seq.next_element()? {
                    list.push(value);
                }
                Ok(Json::List(list))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some((key, value)) = map.next_entry::<Json<'de>, Json<'de>>()? {
                    if let Json::Text(key) = key {
                        entries.push((key, value));
                    }
                }
                Ok(Json::Object(Object(entries)))
            }
        }
        deserializer.deserialize_any(Any)
    }
}
