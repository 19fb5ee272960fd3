//! The forms in which ends of a flow are written.

use std::net::{IpAddr, Ipv6Addr};

use super::error::QueryError;

/// SRC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceForm {
    /// `ip/ADDR`
    Client(IpAddr),
    /// An address without `ip/`: whose it is decides.
    Address(IpAddr),
    /// `node/NAME`
    Node(String),
    /// `netns/NODE/FOLDER`
    Netns(String, String),
    /// `pod/ns/name`, `pod/name`
    Pod(Option<String>, String),
    /// `ns/name`, `name`
    Name(Option<String>, String),
}

/// DST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetForm {
    /// `ADDR`, `ADDR:PORT`, `[v6]:PORT`
    Address(IpAddr, Option<u16>),
    /// `localhost:PORT`
    Localhost(Option<u16>),
    /// `node/NAME`, `node/NAME:PORT`
    Node(String, Option<String>),
    /// `pod/…`
    Pod(Option<String>, String, Option<String>),
    /// `svc/…`
    Service(Option<String>, String, Option<String>),
    /// `ns/name[:port]`, `name[:port]`
    Name(Option<String>, String, Option<String>),
}

const SOURCES: &[&str] = &[
    "web-0",
    "shop/web-0",
    "pod/shop/web-0",
    "node/node-1",
    "ip/198.51.100.7",
];
const TARGETS: &[&str] = &[
    "web:80",
    "svc/shop/web:http",
    "pod/shop/web-0:8080",
    "node/node-1:30080",
    "10.96.0.10:53",
    "[fd00::10]:53",
];

/// Reads SRC.
pub fn source(text: &str) -> Result<SourceForm, QueryError> {
    let bad = |expected| QueryError::Form {
        text: text.to_owned(),
        expected,
        examples: SOURCES,
    };
    let text = text.trim();
    if let Ok(addr) = bare_address(text) {
        return Ok(SourceForm::Address(addr));
    }
    let parts: Vec<&str> = text.split('/').collect();
    if parts.iter().any(|p| p.is_empty()) {
        return Err(bad("a source"));
    }
    Ok(match *parts.as_slice() {
        ["ip", addr] => {
            SourceForm::Client(bare_address(addr).map_err(|()| bad("a source: after ip/ stands an address"))?)
        }
        ["node" | "nodes" | "no", name] => SourceForm::Node(name.to_owned()),
        ["netns", node, id] => SourceForm::Netns(node.to_owned(), id.to_owned()),
        ["pod" | "pods" | "po", namespace, name] => SourceForm::Pod(Some(namespace.to_owned()), name.to_owned()),
        ["pod" | "pods" | "po", name] => SourceForm::Pod(None, name.to_owned()),
        ["svc" | "service" | "services", ..] => return Err(bad("a source: a service sends nothing, its pods do")),
        [namespace, name] => SourceForm::Name(Some(namespace.to_owned()), name.to_owned()),
        [name] => SourceForm::Name(None, name.to_owned()),
        _ => return Err(bad("a source")),
    })
}

/// Reads DST.
pub fn target(text: &str) -> Result<TargetForm, QueryError> {
    let bad = || QueryError::Form {
        text: text.to_owned(),
        expected: "a destination",
        examples: TARGETS,
    };
    let text = text.trim();
    if super::http::is_request(text) {
        return Err(QueryError::Form {
            text: text.to_owned(),
            expected: "a destination here: a URL is traced alone",
            examples: TARGETS,
        });
    }
    let text = text.strip_prefix("ip/").unwrap_or(text);
    if let Some((addr, port)) = address(text) {
        return Ok(TargetForm::Address(
            addr,
            port.map(|p| port_number(p).ok_or_else(bad)).transpose()?,
        ));
    }
    let (path, port) = match text.rsplit_once(':') {
        Some((_, "")) => return Err(bad()),
        Some((path, port)) if !port.contains('/') => (path, Some(port.to_owned())),
        _ => (text, None),
    };
    if path == "localhost" {
        return Ok(TargetForm::Localhost(
            port.map(|p| port_number(&p).ok_or_else(bad)).transpose()?,
        ));
    }
    let parts: Vec<&str> = path.split('/').collect();
    if parts.iter().any(|p| p.is_empty() || p.contains(':')) {
        return Err(bad());
    }
    Ok(match *parts.as_slice() {
        ["node" | "nodes" | "no", name] => TargetForm::Node(name.to_owned(), port),
        ["pod" | "pods" | "po", namespace, name] => TargetForm::Pod(Some(namespace.to_owned()), name.to_owned(), port),
        ["pod" | "pods" | "po", name] => TargetForm::Pod(None, name.to_owned(), port),
        ["svc" | "service" | "services", namespace, name] => {
            TargetForm::Service(Some(namespace.to_owned()), name.to_owned(), port)
        }
        ["svc" | "service" | "services", name] => TargetForm::Service(None, name.to_owned(), port),
        [namespace, name] => TargetForm::Name(Some(namespace.to_owned()), name.to_owned(), port),
        [name] => TargetForm::Name(None, name.to_owned(), port),
        _ => return Err(bad()),
    })
}

/// `1.2.3.4`, `fd00::1` or `[fd00::1]`.
fn bare_address(text: &str) -> Result<IpAddr, ()> {
    let inner = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    inner.parse().map_err(|_| ())
}

/// An address with or without a port.
fn address(text: &str) -> Option<(IpAddr, Option<&str>)> {
    if let Ok(addr) = bare_address(text) {
        return Some((addr, None));
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (addr, port) = rest.split_once("]:")?;
        return Some((addr.parse::<Ipv6Addr>().ok()?.into(), Some(port)));
    }
    let (addr, port) = text.split_once(':')?;
    Some((addr.parse().ok()?, Some(port)))
}

/// 1 to 65535.
fn port_number(text: &str) -> Option<u16> {
    text.parse().ok().filter(|&p| p != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn sources() {
        let ip = |text: &str| text.parse().expect("an address");
        assert_eq!(source("ip/192.0.2.1"), Ok(SourceForm::Client(ip("192.0.2.1"))));
        assert_eq!(source("10.0.0.1"), Ok(SourceForm::Address(ip("10.0.0.1"))));
        assert_eq!(
            source("shop/web-0"),
            Ok(SourceForm::Name(s("shop"), "web-0".to_owned()))
        );
        assert_eq!(source("pod/web-0"), Ok(SourceForm::Pod(None, "web-0".to_owned())));
        assert!(source("ip/web").is_err());
        assert!(source("svc/shop/web").is_err());
        assert!(source("a//b").is_err());
        assert!(source("").is_err());
    }

    #[test]
    fn targets() {
        let ip = |text: &str| text.parse().expect("an address");
        assert_eq!(
            target("10.96.0.10:53"),
            Ok(TargetForm::Address(ip("10.96.0.10"), Some(53)))
        );
        assert_eq!(
            target("[fd00::10]:53"),
            Ok(TargetForm::Address(ip("fd00::10"), Some(53)))
        );
        assert_eq!(target("fd00::10"), Ok(TargetForm::Address(ip("fd00::10"), None)));
        assert_eq!(target("localhost:30080"), Ok(TargetForm::Localhost(Some(30080))));
        assert_eq!(
            target("svc/shop/web:http"),
            Ok(TargetForm::Service(s("shop"), "web".to_owned(), s("http")))
        );
        assert_eq!(
            target("shop/web:80"),
            Ok(TargetForm::Name(s("shop"), "web".to_owned(), s("80")))
        );
        assert_eq!(target("web"), Ok(TargetForm::Name(None, "web".to_owned(), None)));
        assert_eq!(
            target("node/node-1:30080"),
            Ok(TargetForm::Node("node-1".to_owned(), s("30080")))
        );
        for wrong in [
            "10.0.0.1:0",
            "10.0.0.1:99999",
            "web:",
            "a/b/c/d",
            "",
            "[fd00::1]:x",
            ":80",
            "/web",
        ] {
            assert!(target(wrong).is_err(), "{wrong}");
        }
    }
}
