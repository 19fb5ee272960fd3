//! Ingress objects.

use std::cmp::Reverse;
use std::net::IpAddr;

use knet_snapshot::Snapshot;
use knet_snapshot::cluster::Document;
use serde_json::Value;

use super::path::{self, PathKind};
use super::{Action, Backend, HttpRule, Rank, Request, RuleKind, host_rank, list, named, word};
use crate::names::Named;

const FILE: &str = "cluster/ingresses.json";

/// Addresses in the status of Ingresses that name the host.
pub fn addresses(snapshot: &Snapshot, request: &Request) -> Vec<IpAddr> {
    let mut all = Vec::new();
    for document in snapshot.cluster().ingresses().get().map_or(&[][..], |t| &t.rows) {
        let mut hosts = list(&document.raw, "/spec/rules").iter().map(|r| word(r, "/host"));
        if hosts.any(|host| host.is_some_and(|host| path::ingress_host(host, &request.host))) {
            all.extend(status(document));
        }
    }
    all
}

fn status(document: &Document) -> impl Iterator<Item = IpAddr> {
    let entries = list(&document.raw, "/status/loadBalancer/ingress");
    entries.iter().filter_map(|entry| word(entry, "/ip")?.parse().ok())
}

/// Every rule that takes the request, or may, with what it is ordered by.
pub fn rules(
    snapshot: &Snapshot,
    request: &Request,
    address: IpAddr,
    missing: &mut Vec<&'static str>,
) -> Vec<(Rank, HttpRule)> {
    let Some(table) = snapshot.cluster().ingresses().get() else {
        missing.push(FILE);
        return Vec::new();
    };
    let default_class = default_class(snapshot);
    let class = |document: &Document| class(document).or_else(|| default_class.clone());
    // Which classes are served at the address: those of Ingresses whose status says so.
    let here: Vec<Option<String>> = table
        .rows
        .iter()
        .filter(|d| status(d).any(|ip| ip == address))
        .map(class)
        .collect();
    let mut all = Vec::new();
    for document in &table.rows {
        let class = class(document);
        if !here.is_empty() && !here.contains(&class) {
            continue;
        }
        let mut open = Vec::new();
        if here.is_empty() {
            let of = class.as_deref().unwrap_or("no class");
            open.push(format!(
                "no status says which class is served at {address} (this one is of {of})"
            ));
        }
        let line = snapshot.line_of(FILE, document.at.start);
        of_document(document, class, open, line, request, &mut all);
    }
    all
}

fn class(document: &Document) -> Option<String> {
    let annotation = document
        .raw
        .pointer("/metadata/annotations")
        .and_then(|a| a.get("kubernetes.io/ingress.class"))
        .and_then(Value::as_str);
    word(&document.raw, "/spec/ingressClassName")
        .or(annotation)
        .map(str::to_owned)
}

/// The class of Ingresses that name none.
fn default_class(snapshot: &Snapshot) -> Option<String> {
    let classes = snapshot.cluster().ingress_classes().get()?;
    let is_default = |d: &&Document| {
        let annotations = d.raw.pointer("/metadata/annotations");
        annotations
            .and_then(|a| a.get("ingressclass.kubernetes.io/is-default-class"))
            .and_then(Value::as_str)
            == Some("true")
    };
    classes.rows.iter().find(is_default).map(|d| d.name.clone())
}

fn of_document(
    document: &Document,
    class: Option<String>,
    open: Vec<String>,
    line: Option<u64>,
    request: &Request,
    all: &mut Vec<(Rank, HttpRule)>,
) {
    let annotation = |key: &str| {
        let annotations = document.raw.pointer("/metadata/annotations")?;
        annotations.get(key)?.as_str()
    };
    let regex = annotation("nginx.ingress.kubernetes.io/use-regex") == Some("true");
    let canary = annotation("nginx.ingress.kubernetes.io/canary") == Some("true");
    let redirects = annotation("nginx.ingress.kubernetes.io/permanent-redirect")
        .or_else(|| annotation("nginx.ingress.kubernetes.io/temporal-redirect"));
    let mut push = |host: Option<&str>, path: Option<(PathKind, &str)>, backend: &Value, more: Vec<String>| {
        let mut open = open.clone();
        open.extend(more);
        if canary {
            open.push("it is a canary: weight, header or cookie choose".to_owned());
        }
        let rank = Rank {
            default: path.is_none(),
            host: host_rank(host),
            path: match path {
                // The longest path, and of equal ones an exact one.
                Some((kind, text)) => (
                    0,
                    Reverse(text.trim_end_matches('/').len()),
                    u8::from(kind != PathKind::Exact),
                ),
                None => (1, Reverse(0), 0),
            },
            conditions: Reverse(0),
            beside: !canary,
            object: (super::created(document), named(document).to_string(), all.len()),
        };
        let action = match redirects {
            Some(to) => Action::Redirect(to.to_owned()),
            None => action(document, backend),
        };
        all.push((
            rank,
            HttpRule {
                kind: RuleKind::Ingress,
                object: named(document),
                by: class.clone(),
                host: host.map(str::to_owned),
                path: path.map(|(kind, text)| (kind, text.to_owned())),
                open,
                action,
                artifact: FILE,
                line,
            },
        ));
    };
    for rule in list(&document.raw, "/spec/rules") {
        let host = word(rule, "/host");
        if !host.is_none_or(|host| path::ingress_host(host, &request.host)) {
            continue;
        }
        for entry in list(rule, "/http/paths") {
            let text = word(entry, "/path").unwrap_or_default();
            let kind = match word(entry, "/pathType") {
                Some("Exact") => PathKind::Exact,
                Some("Prefix") => PathKind::Prefix,
                Some("ImplementationSpecific") | None => PathKind::ImplementationSpecific,
                Some(_) => PathKind::Other,
            };
            let kind = if regex && kind != PathKind::Exact {
                PathKind::Regex
            } else {
                kind
            };
            let more = match path::fits(kind, text, &request.path) {
                Some(true) => Vec::new(),
                Some(false) => continue,
                None if kind == PathKind::Regex => vec![format!("path {text} is a regular expression")],
                None => vec![format!("how path {text} is compared is up to the implementation")],
            };
            push(
                host,
                Some((kind, text)),
                entry.get("backend").unwrap_or(&Value::Null),
                more,
            );
        }
    }
    if let Some(backend) = document.raw.pointer("/spec/defaultBackend") {
        push(None, None, backend, Vec::new());
    }
}

fn action(document: &Document, backend: &Value) -> Action {
    let Some(service) = word(backend, "/service/name") else {
        let kind = word(backend, "/resource/kind").unwrap_or("?");
        let name = word(backend, "/resource/name").unwrap_or("?");
        return Action::Other(format!("{kind} {name}"));
    };
    let number = backend.pointer("/service/port/number").and_then(Value::as_u64);
    let port = number
        .map(|n| n.to_string())
        .or_else(|| word(backend, "/service/port/name").map(str::to_owned));
    Action::Backends(vec![Backend {
        service: Named::new(&*document.namespace, service),
        port,
        weight: 1,
    }])
}
