//! The same flows before and after.

use knet_explain::render::json;
use knet_explain::{Detail, Explainer, Query};
use knet_snapshot::Snapshot;
use serde_json::Value;

use super::{RedactError, Redaction};

/// What was traced twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Proof {
    /// Flows that were asked.
    pub flows: usize,
    /// Of these, answered with a verdict on every branch.
    pub decided: usize,
}

/// Senders and receivers of each kind; a flow for every pair.
const SENDERS: usize = 8;
const RECEIVERS: usize = 12;

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
        proof.decided += usize::from(!first.contains("unknown") && !first.starts_with("error"));
    }
    Ok(proof)
}

/// `pod/ns/name` and `svc/ns/name:port`, spread over the lists.
fn flows(snapshot: &Snapshot) -> Vec<(String, String)> {
    let cluster = snapshot.cluster();
    let pods: Vec<String> = cluster
        .pods()
        .get()
        .into_iter()
        .flat_map(|t| &t.rows)
        .filter(|pod| !pod.host_network && !pod.ips.is_empty())
        .map(|pod| format!("pod/{}/{}", pod.namespace, pod.name))
        .collect();
    let nodes: Vec<String> = snapshot.nodes().map(|node| format!("node/{}", node.name)).collect();
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
    let document = json::trace(&explanation, true);
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
