//! The same flows and the same requests before and after.

use std::collections::BTreeSet;
use std::net::IpAddr;

use knet_explain::render::json;
use knet_explain::resolve::http as request;
use knet_explain::{Detail, Explainer, Query};
use knet_snapshot::Snapshot;
use knet_snapshot::cluster::Document;
use serde_json::Value;

use super::{RedactError, Redaction, http};

/// What was traced twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Proof {
    /// Flows that were asked.
    pub flows: usize,
    /// Requests to URLs of Ingress and HTTPRoute objects that were asked.
    pub requests: usize,
    /// Of all these, answered with a verdict on every branch.
    pub decided: usize,
}

/// Senders and receivers of each kind; a flow for every pair.
const SENDERS: usize = 8;
const RECEIVERS: usize = 12;
/// Requests, each made by a pod and by a node.
const REQUESTS: usize = 24;

pub(super) fn prove(before: &Snapshot, after: &Snapshot, redaction: &Redaction) -> Result<Proof, RedactError> {
    let (old, new) = (Explainer::new(before), Explainer::new(after));
    let mut proof = Proof::default();
    for (src, dst) in flows(before) {
        let first = answer(&old, &src, &dst, |addr| redaction.string("", addr));
        let second = answer(
            &new,
            &renamed(&src, redaction),
            &renamed(&dst, redaction),
            str::to_owned,
        );
        if first != second {
            return Err(RedactError::Differs {
                flow: format!("{src} to {dst}"),
                before: first,
                after: second,
            });
        }
        proof.flows += 1;
        proof.decided += usize::from(is_decided(&first));
    }
    for Asked { src, url } in requests(before) {
        let first = requested(&old, &src, &url.text(), Some(redaction));
        let second = requested(&new, &renamed(&src, redaction), &url.renamed(redaction).text(), None);
        if first != second {
            return Err(RedactError::Differs {
                flow: format!("{src} to {}", url.text().0),
                before: first,
                after: second,
            });
        }
        proof.requests += 1;
        proof.decided += usize::from(is_decided(&first));
    }
    Ok(proof)
}

fn is_decided(answer: &str) -> bool {
    !answer.contains("unknown") && !answer.starts_with("error")
}

/// `pod/ns/name` and `svc/ns/name:port`, spread over the lists.
fn flows(snapshot: &Snapshot) -> Vec<(String, String)> {
    let cluster = snapshot.cluster();
    let (pods, nodes) = senders(snapshot);
    let services = cluster
        .services()
        .get()
        .into_iter()
        .flat_map(|t| &t.rows)
        .flat_map(|service| {
            let name = format!("svc/{}/{}", service.namespace, service.name);
            service
                .ports
                .iter()
                .map(move |port| format!("{name}:{}", port.port))
                .collect::<Vec<_>>()
        });
    let services: Vec<String> = services.collect();
    let mut flows = Vec::new();
    for src in spread(&pods, SENDERS).chain(spread(&nodes, SENDERS / 2)) {
        let ports = spread(&pods, RECEIVERS / 2).map(|pod| format!("{pod}:80"));
        flows.extend(
            spread(&services, RECEIVERS)
                .cloned()
                .chain(ports)
                .map(|dst| (src.clone(), dst)),
        );
    }
    flows
}

/// Pods and nodes.
fn senders(snapshot: &Snapshot) -> (Vec<String>, Vec<String>) {
    let pods = snapshot.cluster().pods().get().into_iter().flat_map(|t| &t.rows);
    let pods = pods
        .filter(|pod| !pod.host_network && !pod.ips.is_empty())
        .map(|pod| format!("pod/{}/{}", pod.namespace, pod.name));
    let nodes = snapshot.nodes().map(|node| format!("node/{}", node.name));
    (pods.collect(), nodes.collect())
}

/// At most so many, from the whole of a list.
fn spread(all: &[String], most: usize) -> impl Iterator<Item = &String> {
    all.iter().step_by(all.len().div_ceil(most).max(1))
}

fn renamed(name: &str, redaction: &Redaction) -> String {
    let mut parts: Vec<String> = Vec::new();
    for part in name.split('/') {
        let (name, port) = part
            .split_once(':')
            .map_or((part, ""), |(name, _)| (name, &part[name.len()..]));
        parts.push(format!("{}{port}", redaction.names.map(name)));
    }
    parts.join("/")
}

/// A request, and who makes it.
struct Asked {
    src: String,
    url: Url,
}

/// A URL in its parts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Url {
    scheme: &'static str,
    /// Where clients find the host. There may be several, and which comes first is no meaning.
    address: Option<IpAddr>,
    host: String,
    port: u16,
    path: String,
}

impl Url {
    /// What is asked, and for which host.
    fn text(&self) -> (String, Option<&str>) {
        let Self {
            scheme,
            address,
            host,
            port,
            path,
        } = self;
        match address {
            Some(IpAddr::V6(address)) => (format!("{scheme}://[{address}]:{port}{path}"), Some(host)),
            Some(address) => (format!("{scheme}://{address}:{port}{path}"), Some(host)),
            None => (format!("{scheme}://{host}:{port}{path}"), None),
        }
    }

    fn renamed(&self, redaction: &Redaction) -> Self {
        Self {
            address: self.address.map(|address| redaction.addresses.map(address)),
            host: http::host(&self.host, redaction),
            path: http::path(&self.path, redaction),
            ..self.clone()
        }
    }
}

/// Hosts and paths of the objects, and a path below each, at every address where the host is found.
fn requests(snapshot: &Snapshot) -> Vec<Asked> {
    let cluster = snapshot.cluster();
    let rows = |table: Option<&knet_snapshot::Table<Document>>| table.map_or(Vec::new(), |t| t.rows.clone());
    let words = |value: &Value| -> Vec<String> {
        let list = value.as_array().into_iter().flatten();
        list.filter_map(|word| word.as_str().map(str::to_owned)).collect()
    };
    let mut fronts: BTreeSet<(String, String)> = BTreeSet::new();
    for ingress in rows(cluster.ingresses().get()) {
        for rule in ingress.raw["spec"]["rules"].as_array().into_iter().flatten() {
            let host = rule["host"].as_str().unwrap_or("*.any");
            for path in rule["http"]["paths"].as_array().into_iter().flatten() {
                fronts.insert((host.to_owned(), path["path"].as_str().unwrap_or("/").to_owned()));
            }
        }
    }
    for route in rows(cluster.http_routes().get()) {
        let mut hosts = words(&route.raw["spec"]["hostnames"]);
        if hosts.is_empty() {
            hosts.push("*.any".to_owned());
        }
        let rules = route.raw["spec"]["rules"].as_array().into_iter().flatten();
        for one in rules.flat_map(|rule| rule["matches"].as_array().into_iter().flatten()) {
            let path = one["path"]["value"].as_str().unwrap_or("/");
            fronts.extend(hosts.iter().map(|host| (host.clone(), path.to_owned())));
        }
    }
    let mut ports = BTreeSet::from([("http", 80), ("https", 443)]);
    for gateway in rows(cluster.gateways().get()) {
        for listener in gateway.raw["spec"]["listeners"].as_array().into_iter().flatten() {
            let scheme = match listener["protocol"].as_str() {
                Some("HTTP") => "http",
                Some("HTTPS") => "https",
                _ => continue,
            };
            let port = listener["port"].as_u64().and_then(|port| u16::try_from(port).ok());
            ports.extend(port.map(|port| (scheme, port)));
        }
    }
    let mut urls = BTreeSet::new();
    for (host, path) in fronts {
        let host = host.replacen('*', "a", 1).to_ascii_lowercase();
        // What a regular expression begins with.
        let end = path.find(['*', '(', '[', '\\', '^', '$', '|', '+', '?', '#']);
        let path = path[..end.unwrap_or(path.len())].to_owned();
        if !path.starts_with('/') && !path.is_empty() {
            continue;
        }
        for &(scheme, port) in &ports {
            let url = |address, path: &str| Url {
                scheme,
                address,
                host: host.clone(),
                port,
                path: path.to_owned(),
            };
            let Ok(asked) = request::request(&url(None, &path).text().0, None) else {
                continue;
            };
            let found = request::addresses(snapshot, &asked);
            // One address needs no choice, and none is an answer as well.
            let of_host = (found.len() < 2).then_some(None);
            for address in of_host.into_iter().chain(found.into_iter().map(Some)) {
                urls.insert(url(address, &path));
                urls.insert(url(address, &format!("{}/x", path.trim_end_matches('/'))));
            }
        }
    }
    let urls: Vec<Url> = urls.into_iter().collect();
    let (pods, nodes) = senders(snapshot);
    let senders: Vec<String> = spread(&pods, 1).chain(spread(&nodes, 1)).cloned().collect();
    let mut asked = Vec::new();
    for url in urls.iter().step_by(urls.len().div_ceil(REQUESTS).max(1)) {
        asked.extend(senders.iter().map(|src| Asked {
            src: src.clone(),
            url: url.clone(),
        }));
    }
    asked
}

/// What the objects intend, how each walk ends, and what it comes to. `before`: under the names of the copy.
fn requested(
    explainer: &Explainer<'_>,
    src: &str,
    (url, host): &(String, Option<&str>),
    before: Option<&Redaction>,
) -> String {
    let query = Query {
        src: src.to_owned(),
        dst: url.clone(),
        ..Query::default()
    };
    let answer = match explainer.http(&query, *host, Detail::Decisions) {
        Ok(answer) => answer,
        Err(e) => return format!("error {}", e.code()),
    };
    let document = json::http(&answer, true);
    let addr = |addr: &str| before.map_or_else(|| addr.to_owned(), |map| map.string("", addr));
    let name = |name: &str| before.map_or_else(|| name.to_owned(), |map| object(name, map));
    let list = |key: &str| document[key].as_array().cloned().unwrap_or_default();
    let rules = document["intent"]["rules"].as_array().into_iter().flatten();
    // Some rules are equal, and no order of names is kept.
    let mut rules: Vec<String> = rules
        .map(|rule| {
            let conditions = rule["conditions"].as_array().map_or(0, Vec::len);
            let path = rule["path"].as_str().map(str::len);
            format!(
                "{} {} {path:?} {} if {conditions}",
                rule["kind"], rule["path_type"], rule["action"]
            )
        })
        .collect();
    rules.sort();
    let legs = list("backends").into_iter().map(|leg| {
        let end = match &leg["error"]["code"] {
            Value::String(code) => code.clone(),
            _ => branches(&leg["trace"], addr),
        };
        let at = leg["endpoint"].as_str().map(&addr).unwrap_or_default();
        let service = name(leg["service"].as_str().unwrap_or_default());
        format!("{} of {service}:{} {at} {end}", leg["share"], leg["port"])
    });
    let mut legs: Vec<String> = legs.collect();
    legs.sort();
    let mut controllers: Vec<String> = list("controllers")
        .iter()
        .map(|c| {
            format!(
                "{} {}",
                name(c["pod"].as_str().unwrap_or_default()),
                c["connects_to_endpoints"]
            )
        })
        .collect();
    controllers.sort();
    let client = branches(&document["client"], addr);
    format!(
        "{} {client} at {controllers:?}, {rules:?} certain {}: {legs:?}",
        document["outcome"].as_str().unwrap_or_default(),
        document["intent"]["certain"]
    )
}

/// `ns/name` of an object, be it that there is none.
fn object(name: &str, redaction: &Redaction) -> String {
    let parts = name.split('/').map(|part| redaction.object(part));
    if name.is_empty() {
        String::new()
    } else {
        parts.collect::<Vec<_>>().join("/")
    }
}

/// Shares, ends, reasons and addresses of the branches, in an order of their own.
fn answer(explainer: &Explainer<'_>, src: &str, dst: &str, addr: impl Fn(&str) -> String) -> String {
    let query = Query {
        src: src.to_owned(),
        dst: dst.to_owned(),
        ..Query::default()
    };
    let explanation = match explainer.trace(&query, Detail::Decisions) {
        Ok(explanation) => explanation,
        Err(e) => return format!("error {}", e.code()),
    };
    branches(&json::trace(&explanation, true), addr)
}

fn branches(document: &Value, addr: impl Fn(&str) -> String) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut branches: Vec<String> = document["branches"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|branch| {
            let packet = &branch["packet"];
            format!(
                "{} {} {} {} {}→{}",
                text(&branch["probability"]),
                text(&branch["outcome"]),
                text(&branch["reason"]),
                text(&branch["client_sees"]),
                addr(&text(&packet["src"])),
                addr(&text(&packet["dst"])),
            )
        })
        .collect();
    branches.sort();
    format!("{} [{}]", text(&document["outcome"]), branches.join("; "))
}
