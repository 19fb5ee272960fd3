//! Missing is not empty: without one of its files a capture gives the answer that it gave with it, or it cannot tell, or
//! it says which assumption took the file's place.
//!
//! `KNET_MISSING=all` leaves out each file of each node in turn, and asks more; otherwise one node in turn loses it.

use std::collections::{BTreeMap, BTreeSet};

use knet_explain::findings::Severity;
use knet_explain::topics::vip::VipQuery;
use knet_explain::{Detail, Explainer, render};
use serde_json::Value;

use crate::shipped::{Files, files, snapshot};
use crate::{ask, compare, list, truth};

/// Captures that have between them every kind of file, and faults that only one file shows.
const SETS: &[&str] = &[
    "three-node",
    "good/nftables-vxlan",
    "good/iptables-legacy-hostgw",
    "vm/ipvs-rr-strictarp",
    "vm/calico-ipip",
    "vm/overlay-xfrm-tunnel",
    "vm/overlay-fault-wg-allowedips-cal1",
    "faults/iptables/vpn-rule-from-podcidr-node1",
    "faults/iptables/hairpin-off-node2",
    "faults/iptables/neigh-wrong-node2",
];

/// A file, and the assumption that may stand for it.
const STANDS_FOR: &[(&str, &str)] = &[
    ("neigh.json", "neighbour-resolves"),
    ("fdb.json", "bridge-learns"),
    ("sysctl.txt", "sysctl-default"),
    ("rule.json", "default-rules"),
    ("rule6.json", "default-rules"),
    ("xfrm.txt", "no-ipsec-policies"),
];

/// Every file at once.
const ALL: &str = "*";

/// Addresses of load balancers: one that nobody answers for, and one that all do.
const VIPS: &[(&str, &str)] = &[
    ("vm/ipvs-metallb-l2", "192.168.56.240"),
    ("vm/ipvs-fault-strictarp-off", "192.168.56.241"),
];

/// What goes missing together: a file of a node's own namespace, of all others on the node, or of the cluster; or
/// [`ALL`] that is known of such.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Part {
    file: String,
    of: String,
    node: String,
}

impl Part {
    /// The file at a path goes with this part.
    fn takes(&self, path: &str) -> bool {
        Self::of(path).is_some_and(|one| {
            let of = self.of == one.of || self.of == "node and pods" && one.of != "cluster";
            of && self.node == one.node && [ALL, &one.file].contains(&&*self.file)
        })
    }

    fn of(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.split('/').collect();
        let (file, of, node) = match parts[..] {
            ["nodes", node, "host", file] => (file, "node", node),
            ["nodes", node, "netns", _, file] => (file, "pods", node),
            ["cluster", file] => (file, "cluster", ""),
            _ => return None,
        };
        Some(Self {
            file: file.to_owned(),
            of: of.to_owned(),
            node: node.to_owned(),
        })
    }
}

fn answers(files: Files, queries: &[Value]) -> Option<Vec<Value>> {
    let snapshot = snapshot(files).ok()?;
    let explainer = Explainer::new(&snapshot);
    Some(queries.iter().map(|query| ask(&explainer, query.clone())).collect())
}

/// How the packet may end: what the client sees, where it ends, and as what it arrives.
fn ends(answer: &Value) -> BTreeSet<String> {
    let end = |b: &Value| {
        format!(
            "{} {} {} from {}",
            b["client_sees"], b["outcome"], b["at"]["pod"], b["packet"]["src"]
        )
    };
    list(answer, "branches").iter().map(end).collect()
}

/// The answer is the same, holds it among others, is open, or rests on an assumption about the file.
fn is_honest(part: &Part, whole: &Value, without: &Value) -> bool {
    let ends_now = ends(without);
    let unknown = |end: &String| end.starts_with("\"unknown\"");
    let stands = STANDS_FOR.iter().filter(|(file, _)| *file == part.file);
    let assumes = |kind: &str| list(without, "assumptions").iter().any(|a| a["kind"] == kind);
    !without["error"].is_null()
        || without["truncated"] == true
        || ends(whole).is_subset(&ends_now)
        || ends_now.iter().any(unknown)
        || list(without, "branches")
            .iter()
            .any(|b| b["outcome"] == "leaves-cluster")
        || stands.into_iter().any(|(_, kind)| assumes(kind))
}

/// All parts, or each file once: of one node after the other.
fn parts(all: &Files, every: bool) -> Vec<Part> {
    let mut by_file: BTreeMap<(String, String), BTreeSet<Part>> = BTreeMap::new();
    for part in all.keys().filter_map(|path| Part::of(path)) {
        let whole = |of: &str| Part {
            file: ALL.to_owned(),
            of: of.to_owned(),
            node: part.node.clone(),
        };
        for part in [whole("node and pods"), whole(&part.of), part.clone()] {
            let key = (part.file.clone(), part.of.clone());
            by_file.entry(key).or_default().insert(part);
        }
    }
    let turn = |(i, parts): (usize, BTreeSet<Part>)| {
        let n = parts.len();
        let only = move |(at, _): &(usize, Part)| every || *at == i % n;
        parts.into_iter().enumerate().filter(only).map(|(_, part)| part)
    };
    by_file.into_values().enumerate().flat_map(turn).collect()
}

fn without(all: &Files, part: &Part) -> Files {
    let rest = all.iter().filter(|(path, _)| !part.takes(path));
    rest.map(|(path, bytes)| (path.clone(), bytes.clone())).collect()
}

/// Who answers for an address: the outcome, and how many do.
fn who_answers(files: Files, address: &str) -> (String, usize) {
    let snapshot = snapshot(files).expect("it opens without one file");
    let query = VipQuery {
        target: address.to_owned(),
        namespace: None,
        from: None,
    };
    let answers = Explainer::new(&snapshot)
        .vip(&query)
        .expect("an address needs no object");
    let document = render::json::vip(&answers);
    let only = &document["addresses"][0];
    (only["outcome"].to_string(), list(only, "answered_by").len())
}

/// The same for who answers for an address: nobody else does, and whoever is not seen any more leaves it open, unless
/// there are several all the same.
pub(crate) fn check_vips() -> Vec<String> {
    let mut wrong = Vec::new();
    for (set, address) in VIPS {
        let all = files(set);
        let whole = who_answers(all.clone(), address);
        for part in parts(&all, true) {
            let now = who_answers(without(&all, &part), address);
            let open = ["\"doubtful\"", "\"routed\""].contains(&&*now.0);
            if !(open || now == whole || now.0 == whole.0 && now.1 > 1) {
                wrong.push(format!("{set} without {part:?}: {address} was {whole:?} is {now:?}"));
            }
        }
    }
    wrong
}

/// Errors that are told as facts, for some of a capture's flows.
fn errors(files: Files, queries: &[Value]) -> Vec<BTreeSet<String>> {
    let snapshot = snapshot(files).expect("it opens without one file");
    let explainer = Explainer::new(&snapshot);
    let of = |query: &Value| {
        let query = serde_json::from_value(query.clone()).expect("the flow is a query");
        let answer = explainer.trace(&query, Detail::Decisions).ok();
        let found = answer.into_iter().flat_map(|a| a.findings);
        let grave = found.filter(|f| f.severity == Severity::Error);
        grave.map(|f| f.what.code().to_owned()).collect()
    };
    queries.iter().map(of).collect()
}

/// A file that is missing is no error of the cluster.
pub(crate) fn check_findings() -> Vec<String> {
    let mut wrong = Vec::new();
    for set in SETS {
        let all = files(set);
        let truth = truth(&crate::fixtures().join(set));
        let flows = truth.as_array().into_iter().flatten();
        let queries: Vec<Value> = flows.map(|flow| compare::query(flow).1).step_by(97).take(5).collect();
        let whole = errors(all.clone(), &queries);
        for part in parts(&all, false) {
            let now = errors(without(&all, &part), &queries);
            for ((query, whole), now) in queries.iter().zip(&whole).zip(&now) {
                if !now.is_subset(whole) {
                    wrong.push(format!("{set} without {part:?}: {query} had {whole:?} has {now:?}"));
                }
            }
        }
    }
    wrong
}

/// Leaves out one part after the other, and returns what should not be.
pub(crate) fn check() -> Vec<String> {
    let every = std::env::var("KNET_MISSING").is_ok_and(|v| v == "all");
    let most = if every { 80 } else { 24 };
    let (mut wrong, mut asked, mut open) = (Vec::new(), 0, 0);
    for set in SETS {
        let all = files(set);
        let truth = truth(&crate::fixtures().join(set));
        let flows: Vec<&Value> = list(&truth, "flows")
            .iter()
            .chain(truth.as_array().into_iter().flatten())
            .collect();
        let flows = flows.iter().step_by((flows.len() / most).max(1));
        let queries: Vec<Value> = flows.map(|flow| compare::query(flow).1).collect();
        let whole = answers(all.clone(), &queries).expect("the fixture opens");
        for part in parts(&all, every) {
            let without = answers(without(&all, &part), &queries).expect("it opens without one file");
            for ((query, whole), without) in queries.iter().zip(&whole).zip(&without) {
                asked += 1;
                open += usize::from(ends(whole) != ends(without));
                if !is_honest(&part, whole, without) {
                    let (was, is) = (ends(whole), ends(without));
                    wrong.push(format!("{set} without {part:?}: {query} was {was:?} is {is:?}"));
                }
            }
        }
    }
    println!("KNET-RAN missing_files {asked} answers {open} of them open or assumed");
    assert!(open * 20 > asked, "files that go missing must leave something open");
    wrong
}
