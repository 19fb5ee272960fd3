//! What an answer names as the cause, against what the fault really is.
//!
//! `META.json` of a fault says which row of which artifact is the evidence, and which flows changed. Every changed
//! flow that fails must cite that row: where its packet goes, or in a finding. A row that is missing cannot be cited;
//! then the artifact it is missing from must be.

use knet_explain::explanation::{Branch, ClientSees, End, Evidence, Explanation, Hop};
use knet_explain::{Detail, Explainer, Query};
use knet_snapshot::Snapshot;
use regex::Regex;
use serde_json::Value;

use crate::compare;

/// Changed flows that another row decides: fault, what their name holds, reason.
const ELSEWHERE: &[(&str, &str, &str)] = &[
    (
        "brnf-off-node2",
        "-> [",
        "IPv6 is decided by bridge-nf-call-ip6tables, which is 0 as well",
    ),
    (
        "neigh-wrong-node2",
        "-> 10.96.1.12:5432",
        "the server is outside the capture: its answer is not walked",
    ),
    (
        "neigh-wrong-node2",
        "-> 10.96.0.1:443",
        "the server is outside the capture: its answer is not walked",
    ),
    ("stale-proxy-node1", "-> [", "the same rules of ip6tables"),
    (
        "stale-proxy-node1",
        "-> 10.244.2.3:8080",
        "straight to the pod that is gone: no rule is asked",
    ),
    (
        "nft-hostfw-forward-drop-node2",
        "toolbox-1 -> 192.168.56.12:30082",
        "the prober's loss, see DIFFERENCES",
    ),
];

/// What shows the fault.
struct Decisive {
    node: String,
    netns: String,
    artifact: String,
    row: Regex,
    absent: bool,
}

impl Decisive {
    fn read(meta: &Value) -> Vec<Self> {
        let place = |key: &str| meta["where"][key].as_str().unwrap_or_default().to_owned();
        let list = meta["decisive_evidence"].as_array().expect("a list of evidence");
        let read = |one: &Value| Self {
            node: place("node"),
            netns: place("netns"),
            artifact: one["artifact"].as_str().expect("an artifact").to_owned(),
            row: Regex::new(one["regex"].as_str().expect("a pattern")).expect("the pattern is a regular expression"),
            absent: one["must_be_absent"] == true,
        };
        list.iter().map(read).collect()
    }

    /// The answer names it: a failing branch or a finding cites the row; or, where a row is missing, a failing packet
    /// or its answer ends where it is missing, or something of that artifact is cited.
    fn is_named(&self, snapshot: &Snapshot, answer: &Explanation) -> bool {
        let there = |end: &End| {
            let place = end.place.ns.and_then(|ns| answer.glossary.places.get(&ns));
            place.is_some_and(|p| p.node == self.node && p.netns.as_deref().unwrap_or("host") == self.netns)
        };
        let ends = |b: &Branch| there(&b.end) || b.reply.as_ref().is_some_and(|reply| there(&reply.end));
        (self.absent && failing(answer).any(ends)) || cited(answer).any(|evidence| self.is(snapshot, evidence))
    }

    fn is(&self, snapshot: &Snapshot, evidence: &Evidence) -> bool {
        // A fault of the cluster's objects shows on every node.
        let artifact = match self.node == "cluster" {
            true => evidence.artifact.rsplit('/').next() == self.artifact.rsplit('/').next(),
            false => *evidence.artifact == *self.artifact,
        };
        let rows = [
            Some(evidence.text.to_string()),
            snapshot.row_text(&evidence.artifact, evidence.at).map(Into::into),
            table(snapshot, evidence),
        ];
        artifact && (self.absent || rows.iter().flatten().any(|row| self.row.is_match(row)))
    }
}

/// The nft table that a row of a listing is in.
fn table(snapshot: &Snapshot, evidence: &Evidence) -> Option<String> {
    let before = snapshot.bytes(&evidence.artifact)?.get(..evidence.at.start as usize)?;
    let before = String::from_utf8_lossy(before);
    before
        .lines()
        .rfind(|line| line.starts_with("table "))
        .map(str::to_owned)
}

/// A source as `META.json` calls it.
fn source(flow: &Value) -> String {
    let source = &flow["source"];
    let text = |key: &str| source[key].as_str().unwrap_or_default();
    match text("kind") {
        "pod" => text("name").to_owned(),
        "node" => text("node").to_owned(),
        _ => format!("{} via {}", text("ip"), text("via_node")),
    }
}

/// Asks about every changed flow that fails. Returns how many there are, and those whose answer does not name the fault.
pub(crate) fn check(
    snapshot: &Snapshot,
    explainer: &Explainer<'_>,
    meta: &Value,
    truth: &[Value],
) -> (usize, Vec<String>) {
    let decisive = Decisive::read(meta);
    let mut asked = 0;
    let mut wrong = Vec::new();
    for changed in meta["changed"].as_array().expect("a list of flows") {
        let fails = changed["change"]
            .as_str()
            .and_then(|change| change.split_once(" -> "))
            .is_some_and(|(_, now)| now != "ok" && now != "reply");
        let flow = truth.iter().find(|flow| {
            let port = flow["dst_port"].as_u64().unwrap_or(0);
            let dst = format!("{}:{port}", flow["dst_ip"].as_str().unwrap_or_default());
            let proto = flow["proto"].as_str().unwrap_or_default();
            flow["name"] == changed["flow"]
                && changed["source"] == source(flow)
                && changed["dst"] == format!("{proto} {dst}")
        });
        let (true, Some(flow)) = (fails, flow) else { continue };
        let (name, query) = compare::query(flow);
        let query: Query = serde_json::from_value(query).expect("the flow is a query");
        let answer = explainer
            .trace(&query, Detail::Decisions)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let elsewhere = |(fault, flow, _): &(&str, &str, &str)| meta["id"] == *fault && name.contains(flow);
        if ELSEWHERE.iter().any(elsewhere) {
            continue;
        }
        asked += 1;
        if !decisive.iter().any(|fault| fault.is_named(snapshot, &answer)) {
            wrong.push(name);
        }
    }
    (asked, wrong)
}

/// Everything the failing branches and the findings cite.
fn cited(answer: &Explanation) -> impl Iterator<Item = &Evidence> {
    let findings = answer.findings.iter().flat_map(|finding| &finding.evidence);
    failing(answer).flat_map(of_branch).chain(findings)
}

fn failing(answer: &Explanation) -> impl Iterator<Item = &Branch> {
    answer.branches.iter().filter(|b| b.client_sees != ClientSees::Reply)
}

fn of_branch(branch: &Branch) -> impl Iterator<Item = &Evidence> {
    let reply = branch.reply.iter().map(|reply| (&reply.end, &reply.hops));
    let followup = branch.followup.iter().map(|followup| (&followup.end, &followup.hops));
    let ways = std::iter::once((&branch.end, &branch.hops))
        .chain(reply)
        .chain(followup);
    ways.flat_map(|(end, hops)| end.evidence.iter().chain(hops.iter().flat_map(of_hop)))
}

fn of_hop(hop: &Hop) -> impl Iterator<Item = &Evidence> {
    hop.steps.iter().flat_map(|step| &step.evidence)
}
