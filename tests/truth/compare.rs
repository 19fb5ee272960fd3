//! One flow of a cluster: what was seen against what is predicted.
//!
//! What was seen is a sample. So predicted must contain it; a server predicted with a good share that never
//! answered differs; a failure must be predicted with the errno its program saw; and the source address each
//! server saw must be among those predicted for it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::{Verdict, host_port, list};

/// Less likely than this by the prediction, and it is taken for a difference.
const CHANCE: f64 = 1e-3;
/// A lone timeout among many replies is noise of the prober.
const NOISE: f64 = 0.15;

/// Asks about a flow of a truth and compares. Returns the flow's name with the verdict.
pub(crate) fn flow(truth: &Value, ask: impl Fn(Value) -> Value) -> (String, Verdict) {
    let (name, query) = query(truth);
    let answer = ask(query);
    // The very connection that was there when the capture was taken, or a packet with its addresses and ports.
    let captured = answer["connections"]
        .get(0)
        .filter(|_| truth["src_port"].is_u64())
        .unwrap_or(&answer);
    (name, compare(&truth["result"], captured))
}

/// A flow's name, and the query that asks for it.
pub(crate) fn query(truth: &Value) -> (String, Value) {
    let source = &truth["source"];
    let src = match text(source, "kind") {
        "pod" => format!("pod/{}/{}", text(source, "namespace"), text(source, "name")),
        "node" => format!("node/{}", text(source, "node")),
        _ => format!("ip/{}", text(source, "ip")),
    };
    let dst = host_port(text(truth, "dst_ip"), truth["dst_port"].as_u64().unwrap_or(0));
    let proto = text(truth, "proto");
    let mut query = json!({"src": src, "dst": dst, "proto": proto});
    if let Some(node) = source["via_node"].as_str() {
        query["via"] = json!(format!("node/{node}"));
    }
    if let Some(port) = truth["src_port"].as_u64() {
        query["sport"] = json!(port);
    }
    let via = source["via_node"]
        .as_str()
        .map(|node| format!(" via {node}"))
        .unwrap_or_default();
    (format!("{src}{via} -> {dst}/{proto}"), query)
}

/// A branch, as the JSON says it.
struct Predicted<'a> {
    share: f64,
    outcome: &'a str,
    sees: &'a str,
    at: String,
    source: Option<&'a str>,
}

impl<'a> Predicted<'a> {
    fn of(branch: &'a Value) -> Self {
        let at = &branch["at"];
        Self {
            share: share(text(branch, "probability")),
            outcome: text(branch, "outcome"),
            sees: text(branch, "client_sees"),
            at: at["pod"]
                .as_str()
                .map_or_else(|| format!("node:{}", text(at, "node")), str::to_owned),
            source: branch["packet"]["src"].as_str(),
        }
    }

    fn leaves(&self) -> bool {
        self.outcome == "leaves-cluster"
    }
}

/// Who answered: `namespace/pod` (or the bare name of a server on a node), how often, and the sources seen.
struct Answered<'a> {
    who: String,
    times: u64,
    saw: BTreeSet<&'a str>,
}

fn compare(result: &Value, answer: &Value) -> Verdict {
    let branches: Vec<Predicted<'_>> = list(answer, "branches").iter().map(Predicted::of).collect();
    if branches.is_empty() {
        return differ(format!("no branches: {}", answer["error"]));
    }
    let outside = |a: &&Value| a["ns"].is_null() || a["ns"] == "external";
    let beyond: u64 = list(result, "answered")
        .iter()
        .filter(outside)
        .map(|a| count(&a["n"]))
        .sum();
    let answered: Vec<Answered<'_>> = list(result, "answered")
        .iter()
        .filter(|a| !outside(a))
        .map(|a| Answered {
            who: match text(a, "ns") {
                "" => text(a, "pod").to_owned(),
                // A server in the node's own namespace.
                "host" => format!("node:{}", text(a, "pod")),
                ns => format!("{ns}/{}", text(a, "pod")),
            },
            times: count(&a["n"]),
            saw: match &a["seen_src"] {
                Value::String(one) => BTreeSet::from([one.as_str()]),
                _ => list(a, "seen_src").iter().filter_map(Value::as_str).collect(),
            },
        })
        .collect();
    let mut failed: BTreeMap<&str, u64> = result["failed"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(class, times)| (class.as_str(), count(times)))
        .collect();
    let strangers = failed.remove("reply").unwrap_or(0) + beyond;
    if failed.remove("connected-no-reply").unwrap_or(0) > 0 {
        return Verdict::Skip;
    }
    if branches.iter().all(Predicted::leaves) {
        return leaves(&answered, &failed);
    }
    // What is out there is not in the snapshot: such a branch is never wrong about a server outside.
    let branches: Vec<_> = branches.into_iter().filter(|b| !b.leaves() || beyond == 0).collect();
    if branches.iter().any(|b| b.sees == "unknown") {
        return differ("what the client sees is unknown".to_owned());
    }
    let ok = answered.iter().map(|a| a.times).sum::<u64>() + strangers;
    let bad: u64 = failed.values().sum();
    if ok + bad == 0 {
        return Verdict::Skip;
    }
    let noise = ok > 0 && ratio(bad, ok + bad) <= NOISE && failed.keys().all(|class| *class == "timeout");
    let failures = if noise { 0 } else { bad };
    let (good, lost): (Vec<_>, Vec<_>) = branches.iter().partition(|b| b.sees == "reply");
    match reachability(&good, &lost, ok, failures, bad, &failed) {
        Some(why) => differ(why),
        None => who_answered(&answered, &good, ok + bad, failures > 0).map_or(Verdict::Agree, differ),
    }
}

/// Every branch leaves the cluster.
fn leaves(answered: &[Answered<'_>], failed: &BTreeMap<&str, u64>) -> Verdict {
    const POSSIBLE: &[&str] = &["timeout", "EHOSTUNREACH", "ENETUNREACH", "ECONNREFUSED"];
    if !answered.is_empty() {
        return differ(format!(
            "answered by {}, predicted: leaves the cluster",
            names(answered)
        ));
    }
    match failed.keys().find(|class| !POSSIBLE.contains(class)) {
        Some(class) => differ(format!("seen {class}, predicted: leaves the cluster")),
        None => Verdict::Agree,
    }
}

/// Does it work, and when it fails, how?
fn reachability(
    good: &[&Predicted<'_>],
    lost: &[&Predicted<'_>],
    ok: u64,
    failures: u64,
    bad: u64,
    failed: &BTreeMap<&str, u64>,
) -> Option<String> {
    let says: BTreeSet<&str> = lost.iter().map(|b| b.sees).collect();
    if ok > 0 && good.is_empty() {
        return Some(format!("a reply was seen, predicted: {says:?}"));
    }
    if failures > 0 && lost.is_empty() {
        return Some(format!("seen {failed:?}, predicted: a reply"));
    }
    if failures > 0 {
        let unforeseen = failed
            .keys()
            .find(|class| !classes(class).iter().any(|sees| says.contains(sees)));
        if let Some(class) = unforeseen {
            return Some(format!("seen {class}, predicted: {says:?}"));
        }
    }
    let replies: f64 = good.iter().map(|b| b.share).sum();
    (ok == 0 && !good.is_empty() && never(replies, bad.max(1)))
        .then(|| format!("seen {failed:?}, predicted: a reply with {replies}"))
}

/// Who answered, how evenly, and from which source they were reached.
fn who_answered(answered: &[Answered<'_>], good: &[&Predicted<'_>], tries: u64, failures: bool) -> Option<String> {
    if answered.is_empty() {
        return None;
    }
    let mut shares: BTreeMap<&str, f64> = BTreeMap::new();
    for branch in good {
        *shares.entry(&branch.at).or_default() += branch.share;
    }
    let seen: BTreeSet<&str> = answered.iter().map(|a| a.who.as_str()).collect();
    let missing: Vec<_> = seen.iter().filter(|who| !shares.contains_key(*who)).collect();
    let elsewhere = shares
        .keys()
        .any(|at| at.starts_with("node:") || at.starts_with("external"));
    if !missing.is_empty() && !elsewhere {
        return Some(format!("answered by {missing:?}, not among {:?}", shares.keys()));
    }
    if !failures
        && let Some((at, share)) = shares
            .iter()
            .find(|(at, share)| !seen.contains(*at) && never(**share, tries))
    {
        return Some(format!("{at} predicted with {share}, never answered in {tries}"));
    }
    for one in answered {
        let here = |b: &&&Predicted<'_>| b.at == one.who;
        let predicted: BTreeSet<&str> = good.iter().filter(here).filter_map(|b| b.source).collect();
        if !predicted.is_empty() && !one.saw.is_subset(&predicted) {
            return Some(format!("{} saw source {:?}, predicted {predicted:?}", one.who, one.saw));
        }
    }
    None
}

/// What a program is told, as a prediction may say it.
fn classes(errno: &str) -> &'static [&'static str] {
    match errno {
        "timeout" => &["timeout"],
        "ECONNREFUSED" => &["refused"],
        "EPERM" => &["permission", "timeout"],
        "EHOSTUNREACH" => &["unreachable", "timeout", "prohibited"],
        "EINVAL" => &["invalid", "unreachable"],
        "ENETUNREACH" => &["unreachable"],
        "EACCES" => &["prohibited", "permission"],
        "ECONNRESET" => &["refused", "timeout"],
        "ENOKEY" => &["unreachable", "permission"],
        _ => &[],
    }
}

/// Would something with this share really not show up in so many tries?
fn never(share: f64, tries: u64) -> bool {
    (1.0 - share).max(0.0).powi(i32::try_from(tries).unwrap_or(i32::MAX)) < CHANCE
}

/// `1/3`, `1`, or a decimal.
fn share(text: &str) -> f64 {
    let number = |t: &str| t.trim().parse::<f64>().ok();
    match text.split_once('/') {
        Some((a, b)) => number(a).zip(number(b)).map_or(0.0, |(a, b)| a / b),
        None => number(text).unwrap_or(0.0),
    }
}

#[allow(clippy::cast_precision_loss, reason = "tens of tries")]
fn ratio(a: u64, b: u64) -> f64 {
    a as f64 / b as f64
}

fn names(answered: &[Answered<'_>]) -> String {
    answered.iter().map(|a| a.who.as_str()).collect::<Vec<_>>().join(", ")
}

const fn differ(why: String) -> Verdict {
    Verdict::Differ(why)
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}

fn count(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}
