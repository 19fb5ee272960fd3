//! Gateways and HTTPRoutes of the Gateway API.

use std::cmp::Reverse;
use std::net::IpAddr;

use knet_snapshot::Snapshot;
use knet_snapshot::cluster::Document;
use serde_json::Value;

use super::path::{self, PathKind};
use super::{Action, Backend, HttpRule, Rank, Request, RuleKind, host_rank, list, named, word};
use crate::names::Named;

const FILE: &str = "cluster/httproutes.json";
const GATEWAYS: &str = "cluster/gateways.json";

/// Addresses in the status of Gateways that a route for the host hangs on.
pub fn addresses(snapshot: &Snapshot, request: &Request) -> Vec<IpAddr> {
    let mut all = Vec::new();
    for route in documents(snapshot.cluster().http_routes().get()) {
        if hosts(route, request).is_none_or(|host| host.is_none()) {
            continue;
        }
        for parent in list(&route.raw, "/spec/parentRefs") {
            all.extend(gateway(snapshot, route, parent).into_iter().flat_map(status));
        }
    }
    all
}

fn documents(table: Option<&knet_snapshot::Table<Document>>) -> &[Document] {
    table.map_or(&[], |t| &t.rows)
}

fn status(gateway: &Document) -> impl Iterator<Item = IpAddr> {
    let entries = list(&gateway.raw, "/status/addresses");
    entries.iter().filter_map(|entry| word(entry, "/value")?.parse().ok())
}

/// The Gateway of a `parentRef`.
fn gateway<'s>(snapshot: &'s Snapshot, route: &Document, parent: &Value) -> Option<&'s Document> {
    let namespace = word(parent, "/namespace").unwrap_or(&route.namespace);
    let name = word(parent, "/name")?;
    let is_gateway = word(parent, "/kind").is_none_or(|kind| kind == "Gateway");
    let all = documents(snapshot.cluster().gateways().get());
    all.iter()
        .find(|g| is_gateway && g.namespace == namespace && g.name == name)
}

/// The hostname by which a route takes the request: `Some(None)` when it names none, `None` when none fits.
fn hosts<'r>(route: &'r Document, request: &Request) -> Option<Option<&'r str>> {
    let all = list(&route.raw, "/spec/hostnames");
    if all.is_empty() {
        return Some(None);
    }
    let fitting = all
        .iter()
        .filter_map(Value::as_str)
        .filter(|h| path::gateway_host(h, &request.host));
    fitting.min_by_key(|h| host_rank(Some(h))).map(Some)
}

/// Every rule that takes the request, or may, with what it is ordered by.
pub fn rules(
    snapshot: &Snapshot,
    request: &Request,
    address: IpAddr,
    missing: &mut Vec<&'static str>,
) -> Vec<(Rank, HttpRule)> {
    let cluster = snapshot.cluster();
    let Some(table) = cluster.http_routes().get() else {
        missing.push(FILE);
        return Vec::new();
    };
    let known = cluster.gateways().get().is_some();
    if !known && !table.rows.is_empty() {
        missing.push(GATEWAYS);
    }
    let mut all = Vec::new();
    for route in &table.rows {
        let Some(host) = hosts(route, request) else { continue };
        for parent in list(&route.raw, "/spec/parentRefs") {
            let name = word(parent, "/name").unwrap_or("?");
            let by = format!("{}/{name}", word(parent, "/namespace").unwrap_or(&route.namespace));
            let mut open = Vec::new();
            match gateway(snapshot, route, parent) {
                Some(gateway) => {
                    let Some(why) = attached(route, parent, gateway, request, address) else {
                        continue;
                    };
                    open.extend(why);
                }
                None if known => continue,
                None => open.push(format!("Gateway {by} was not captured")),
            }
            of_route(snapshot, route, &by, host, &open, request, &mut all);
        }
    }
    all
}

/// Whether a route hangs on a listener of the Gateway that takes the request: `None` when it does not, else
/// what would have to be known.
fn attached(
    route: &Document,
    parent: &Value,
    gateway: &Document,
    request: &Request,
    address: IpAddr,
) -> Option<Vec<String>> {
    let mut open = Vec::new();
    let mut addresses = status(gateway).peekable();
    if addresses.peek().is_none() {
        open.push(format!("the status of Gateway {} says no address", named(gateway)));
    } else if !addresses.any(|ip| ip == address) {
        return None;
    }
    let section = word(parent, "/sectionName");
    let port = parent.pointer("/port").and_then(Value::as_u64);
    let takes = |listener: &&Value| {
        let of = listener.pointer("/port").and_then(Value::as_u64);
        let protocol = word(listener, "/protocol");
        let scheme = if request.https { "HTTPS" } else { "HTTP" };
        section.is_none_or(|s| word(listener, "/name") == Some(s))
            && port.is_none_or(|p| of == Some(p))
            && of == Some(u64::from(request.port))
            && protocol == Some(scheme)
            && word(listener, "/hostname").is_none_or(|h| path::gateway_host(h, &request.host))
    };
    list(&gateway.raw, "/spec/listeners").iter().find(takes)?;
    // What the controller says of the pair.
    let of_parent = |entry: &&Value| {
        word(entry, "/parentRef/name") == word(parent, "/name")
            && word(entry, "/parentRef/namespace").unwrap_or(&route.namespace)
                == word(parent, "/namespace").unwrap_or(&route.namespace)
    };
    match list(&route.raw, "/status/parents").iter().find(of_parent) {
        None => open.push("no controller has said that it accepts the route".to_owned()),
        Some(entry) => {
            let condition = |kind: &str| {
                let mut all = list(entry, "/conditions").iter();
                let found = all.find(|c| word(c, "/type") == Some(kind))?;
                word(found, "/status")
            };
            if condition("Accepted") == Some("False") {
                return None;
            }
        }
    }
    Some(open)
}

fn of_route(
    snapshot: &Snapshot,
    route: &Document,
    by: &str,
    host: Option<&str>,
    open: &[String],
    request: &Request,
    all: &mut Vec<(Rank, HttpRule)>,
) {
    let always = Value::Object(serde_json::Map::new());
    for rule in list(&route.raw, "/spec/rules") {
        let matches = list(rule, "/matches");
        // Without any, every request.
        let matches = if matches.is_empty() {
            std::slice::from_ref(&always)
        } else {
            matches
        };
        for one in matches {
            let text = word(one, "/path/value").unwrap_or("/");
            let kind = match word(one, "/path/type") {
                Some("PathPrefix") | None => PathKind::Prefix,
                Some("Exact") => PathKind::Exact,
                Some("RegularExpression") => PathKind::Regex,
                Some(_) => PathKind::Other,
            };
            let mut why = open.to_vec();
            match path::fits(kind, text, &request.path) {
                Some(true) => {}
                Some(false) => continue,
                None => why.push(format!("path {text} is a regular expression")),
            }
            let method = word(one, "/method");
            if let Some(method) = method {
                why.push(format!("only for method {method}"));
            }
            let mut conditions = usize::from(method.is_some()) << 16;
            for (field, shift, what) in [("/headers", 8, "header"), ("/queryParams", 0, "query parameter")] {
                let wanted = list(one, field);
                conditions += wanted.len().min(255) << shift;
                why.extend(wanted.iter().map(|w| {
                    let (name, value) = (word(w, "/name").unwrap_or("?"), word(w, "/value").unwrap_or("?"));
                    format!("only with {what} {name}: {value}")
                }));
            }
            let rank = Rank {
                default: false,
                host: host_rank(host),
                path: (
                    u8::from(kind != PathKind::Exact),
                    Reverse(text.trim_end_matches('/').len()),
                    0,
                ),
                conditions: Reverse(conditions),
                beside: true,
                object: (super::created(route), named(route).to_string(), all.len()),
            };
            all.push((
                rank,
                HttpRule {
                    kind: RuleKind::HttpRoute,
                    object: named(route),
                    by: Some(by.to_owned()),
                    host: host.map(str::to_owned),
                    path: Some((kind, text.to_owned())),
                    open: why,
                    action: action(route, rule),
                    artifact: FILE,
                    line: snapshot.line_of(FILE, route.at.start),
                },
            ));
        }
    }
}

fn action(route: &Document, rule: &Value) -> Action {
    for filter in list(rule, "/filters") {
        if word(filter, "/type") == Some("RequestRedirect") {
            let to = filter.pointer("/requestRedirect").map(ToString::to_string);
            return Action::Redirect(to.unwrap_or_default());
        }
    }
    let mut backends = Vec::new();
    for reference in list(rule, "/backendRefs") {
        let kind = word(reference, "/kind").unwrap_or("Service");
        let name = word(reference, "/name").unwrap_or("?");
        let weight = reference.pointer("/weight").and_then(Value::as_u64).unwrap_or(1);
        if kind != "Service" {
            return Action::Other(format!("{kind} {name}"));
        }
        if weight > 0 {
            backends.push(Backend {
                service: Named::new(word(reference, "/namespace").unwrap_or(&route.namespace), name),
                port: reference
                    .pointer("/port")
                    .and_then(Value::as_u64)
                    .map(|p| p.to_string()),
                weight,
            });
        }
    }
    if backends.is_empty() {
        return Action::Other("no backend: the gateway answers 500".to_owned());
    }
    Action::Backends(backends)
}
