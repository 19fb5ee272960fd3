//! What somebody asks: the fields of one flow, as written.

use std::fmt;
use std::net::IpAddr;

use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize};

/// One flow to trace, nothing looked up yet. On the command line its fields are options; in a `--flows`
/// file it is one JSON object a line, and a key that is not here is an error.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Query {
    /// Echoed in the answer.
    #[serde(default)]
    pub id: Option<serde_json::Value>,
    /// `name`, `ns/name`, `pod/ns/name`, `node/NAME` or `ip/ADDR`.
    pub src: String,
    /// `name`, `svc/ns/name[:port]`, `pod/…[:port]`, `node/NAME:PORT`, `ADDR:PORT`, `localhost:PORT`.
    pub dst: String,
    /// Kubernetes namespace of names that do not say one.
    #[serde(default)]
    pub namespace: Option<String>,
    /// `node/NAME` or `node/NAME/IFACE`: where an off-cluster client's packet comes in.
    #[serde(default)]
    pub via: Option<String>,
    /// `tcp`, `udp`, `sctp`, `icmp`, `icmp6`, or a number. Default: the service port's, else tcp.
    #[serde(default, deserialize_with = "text_or_number")]
    pub proto: Option<String>,
    /// Source port. Default: any.
    #[serde(default)]
    pub sport: Option<u16>,
    /// `syn`, `syn,ack`, `ack,fin`, `none` or a number. Default: `syn`.
    #[serde(default, deserialize_with = "text_or_number")]
    pub tcp_flags: Option<String>,
    /// `echo-request` (default), another name, `TYPE` or `TYPE/CODE`.
    #[serde(default, deserialize_with = "text_or_number")]
    pub icmp_type: Option<String>,
    /// TTL or hop limit. Default 64.
    #[serde(default)]
    pub ttl: Option<u8>,
    /// TOS or traffic class; decimal or 0x….
    #[serde(default, deserialize_with = "text_or_number")]
    pub tos: Option<String>,
    /// `SO_MARK` of the sender; decimal or 0x….
    #[serde(default, deserialize_with = "text_or_number")]
    pub mark: Option<String>,
    /// UID of the sending program.
    #[serde(default)]
    pub uid: Option<u32>,
    /// Address the sender's socket is bound to.
    #[serde(default)]
    pub source_ip: Option<IpAddr>,
    /// Address family, where names leave a choice.
    #[serde(default, deserialize_with = "family")]
    pub family: Option<IpFamily>,
}

/// IPv4 or IPv6, as asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum IpFamily {
    /// IPv4
    #[serde(rename = "4")]
    V4,
    /// IPv6
    #[serde(rename = "6")]
    V6,
}

/// A string, or a number written without quotes.
fn text_or_number<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    struct Flex;
    impl Visitor<'_> for Flex {
        type Value = Option<String>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string or a number")
        }
        fn visit_str<E: Error>(self, v: &str) -> Result<Self::Value, E> {
            Ok(Some(v.to_owned()))
        }
        fn visit_u64<E: Error>(self, v: u64) -> Result<Self::Value, E> {
            Ok(Some(v.to_string()))
        }
        fn visit_i64<E: Error>(self, v: i64) -> Result<Self::Value, E> {
            Ok(Some(v.to_string()))
        }
        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }
    }
    from.deserialize_any(Flex)
}

fn family<'de, D: Deserializer<'de>>(from: D) -> Result<Option<IpFamily>, D::Error> {
    match text_or_number(from)?.as_deref() {
        None => Ok(None),
        Some("4" | "ipv4" | "inet") => Ok(Some(IpFamily::V4)),
        Some("6" | "ipv6" | "inet6") => Ok(Some(IpFamily::V6)),
        Some(other) => Err(D::Error::custom(format!("family {other:?} is neither 4 nor 6"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_may_write_numbers_without_quotes() {
        let q: Query = serde_json::from_str(
            r#"{"id":7,"src":"pod/default/toolbox-1","dst":"10.96.1.1:80","proto":6,"mark":16384,"family":4}"#,
        )
        .expect("it is a query");
        assert_eq!(q.proto.as_deref(), Some("6"));
        assert_eq!(q.mark.as_deref(), Some("16384"));
        assert_eq!(q.family, Some(IpFamily::V4));
    }

    #[test]
    fn a_misspelt_key_is_an_error() {
        let err = serde_json::from_str::<Query>(r#"{"src":"a","dst":"b","prot":"udp"}"#).expect_err("prot is no key");
        assert!(err.to_string().contains("prot"), "{err}");
    }
}
