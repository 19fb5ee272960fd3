//! Which backend Kubernetes objects intend for an HTTP request.
//!
//! An ingress controller or a gateway is a program: no table of a kernel says what it does with a request.
//! Ingress and HTTPRoute objects say what it is meant to do, by the rules of their specifications. What those
//! leave to the implementation, and what a request's headers would decide, stays open with its text.

mod gateway;
mod ingress;
mod path;

use std::net::IpAddr;

use knet_snapshot::Snapshot;
use knet_snapshot::cluster::Document;
use serde_json::Value;

use crate::names::Named;
use crate::resolve::QueryError;

pub use path::PathKind;

/// An HTTP request, as far as objects can tell requests apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Over TLS.
    pub https: bool,
    /// What the client's `Host` says, in lower case and without a port.
    pub host: String,
    /// Path, without query and fragment.
    pub path: String,
    /// Port the client connects to.
    pub port: u16,
    /// Address the client connects to, when the URL says it.
    pub address: Option<IpAddr>,
}

/// What a rule is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RuleKind {
    /// `networking.k8s.io/v1` Ingress.
    Ingress,
    /// `gateway.networking.k8s.io/v1` HTTPRoute.
    HttpRoute,
}

/// A rule that takes the request, or may.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpRule {
    /// What it is written in.
    pub kind: RuleKind,
    /// The object.
    pub object: Named,
    /// Who serves it: the class of an Ingress, the Gateway of a route.
    pub by: Option<String>,
    /// Its host, as written; `None` = every host.
    pub host: Option<String>,
    /// Its path and how it is compared; `None` = a default backend.
    pub path: Option<(PathKind, String)>,
    /// What would have to be known to be sure that it takes the request. Empty: it does.
    pub open: Vec<String>,
    /// What is meant to happen then.
    pub action: Action,
    /// Where the object stands.
    pub artifact: &'static str,
    /// Line of the artifact, from 1.
    pub line: Option<u64>,
}

/// What is meant to happen to a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// One of these gets it.
    Backends(Vec<Backend>),
    /// The client is told to go elsewhere.
    Redirect(String),
    /// Something that is no Service, as written.
    Other(String),
}

/// A Service that a rule names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// The Service.
    pub service: Named,
    /// Its port, by number or name.
    pub port: Option<String>,
    /// Its weight among the backends of the rule.
    pub weight: u64,
}

/// What the objects say about a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// Rules by precedence, up to the first that certainly takes the request.
    pub rules: Vec<HttpRule>,
    /// Resources that would have to be asked and were not captured.
    pub missing: Vec<&'static str>,
}

impl Decision {
    /// Everything was captured, and some rule certainly takes the request.
    #[must_use]
    pub fn is_certain(&self) -> bool {
        self.missing.is_empty() && self.ends()
    }

    /// Of what was captured, some rule certainly takes the request.
    #[must_use]
    pub fn ends(&self) -> bool {
        self.rules.last().is_some_and(|rule| rule.open.is_empty())
    }
}

/// It is a URL, or names an Ingress.
#[must_use]
pub fn is_request(dst: &str) -> bool {
    let dst = dst.trim();
    let scheme = dst.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    matches!(scheme.as_deref(), Some("http" | "https"))
}

/// Reads a URL. `host` stands in for the URL's when the client connects to an address.
///
/// # Errors
/// When it is no URL of HTTP.
pub fn request(url: &str, host: Option<&str>) -> Result<Request, QueryError> {
    let bad = || QueryError::Form {
        text: url.to_owned(),
        expected: "a URL of HTTP",
        examples: &["https://shop.example.com/cart", "http://203.0.113.10:8080/"],
    };
    let (scheme, rest) = url.trim().split_once("://").ok_or_else(bad)?;
    let https = match scheme.to_ascii_lowercase().as_str() {
        "http" => false,
        "https" => true,
        _ => return Err(bad()),
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    // No program puts a password into a Host header.
    let authority = authority.rsplit('@').next().unwrap_or(authority);
    let (name, port) = match authority.strip_prefix('[') {
        Some(v6) => {
            let (address, after) = v6.split_once(']').ok_or_else(bad)?;
            (address, after.strip_prefix(':'))
        }
        None => match authority.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (authority, None),
        },
    };
    let port = match port {
        None => {
            if https {
                443
            } else {
                80
            }
        }
        Some(port) => port.parse().ok().filter(|&p| p != 0).ok_or_else(bad)?,
    };
    if name.is_empty() {
        return Err(bad());
    }
    let path = rest.split(['?', '#']).next().unwrap_or_default();
    let host = host.unwrap_or(name).trim_end_matches('.').to_ascii_lowercase();
    Ok(Request {
        https,
        host,
        path: if path.is_empty() { "/" } else { path }.to_owned(),
        port,
        address: name.parse().ok(),
    })
}

/// Where clients find the host: addresses in the status of objects that name it, each once, in order.
#[must_use]
pub fn addresses(snapshot: &Snapshot, request: &Request) -> Vec<IpAddr> {
    let mut all = ingress::addresses(snapshot, request);
    all.extend(gateway::addresses(snapshot, request));
    all.sort_unstable();
    all.dedup();
    all
}

/// What the objects say about a request to an address.
#[must_use]
pub fn decide(snapshot: &Snapshot, request: &Request, address: IpAddr) -> Decision {
    let mut decision = Decision::default();
    let mut rules = ingress::rules(snapshot, request, address, &mut decision.missing);
    rules.extend(gateway::rules(snapshot, request, address, &mut decision.missing));
    rules.sort_by(|a, b| a.0.cmp(&b.0));
    // Two rules that claim the same: which one a controller prefers, the specifications leave open.
    for i in 1..rules.len() {
        let (before, after) = rules.split_at_mut(i);
        let ((key, first), (other, second)) = (&mut before[i - 1], &mut after[0]);
        if key.same_claim(other) && first.open.is_empty() && second.open.is_empty() && first.kind == second.kind {
            let say = |rule: &HttpRule| format!("{} claims the same host and path", rule.object);
            let (of_first, of_second) = (say(second), say(first));
            if first.object != second.object {
                first.open.push(of_first);
                second.open.push(of_second);
            }
        }
    }
    for (_, rule) in rules {
        let certain = rule.open.is_empty();
        decision.rules.push(rule);
        if certain {
            break;
        }
    }
    decision
}

/// What rules are ordered by: the smaller first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    /// A default backend comes after every rule.
    default: bool,
    /// Precise hosts, then wildcards with the longest first, then none.
    host: (u8, std::cmp::Reverse<usize>),
    /// Exact paths first where the specification says so, then the longest.
    path: (u8, std::cmp::Reverse<usize>, u8),
    /// More conditions first.
    conditions: std::cmp::Reverse<usize>,
    /// Rules that stand beside another on purpose (a canary) are asked first.
    beside: bool,
    /// Age, then name.
    object: (String, String, usize),
}

impl Rank {
    fn same_claim(&self, other: &Self) -> bool {
        let key = |r: &Self| (r.default, r.host, r.path, r.conditions, r.beside);
        key(self) == key(other)
    }
}

/// How specific a host is: precise, wildcard, none.
fn host_rank(host: Option<&str>) -> (u8, std::cmp::Reverse<usize>) {
    match host {
        Some(host) if host.starts_with("*.") => (1, std::cmp::Reverse(host.len())),
        Some(host) => (0, std::cmp::Reverse(host.len())),
        None => (2, std::cmp::Reverse(0)),
    }
}

/// A string field.
fn word<'v>(value: &'v Value, pointer: &str) -> Option<&'v str> {
    value.pointer(pointer)?.as_str().filter(|text| !text.is_empty())
}

/// The entries of a list field.
fn list<'v>(value: &'v Value, pointer: &str) -> &'v [Value] {
    value
        .pointer(pointer)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn named(document: &Document) -> Named {
    Named::new(&*document.namespace, &*document.name)
}

fn created(document: &Document) -> String {
    word(&document.raw, "/metadata/creationTimestamp")
        .unwrap_or_default()
        .to_owned()
}
