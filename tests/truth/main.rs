//! Every flow that was really sent when the shipped captures were taken, predicted and compared.
//!
//! The comparison is in `compare` (clusters) and `cases` (kube-proxy's packet-flow tables). One line is printed per
//! set, `KNET-TRUTH <set> agree/total`, and every flow that differs must be in [`DIFFERENCES`] with its reason.

mod arp;
mod cases;
mod compare;
mod decisive;
mod missing;
#[allow(dead_code, reason = "shared by tests that each use a part")]
#[path = "../support/shipped.rs"]
mod shipped;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use knet_explain::{Detail, Explainer, Query, render};
use knet_snapshot::Snapshot;
use kubectl_knet::archive::Limits;
use serde_json::Value;

/// Flows that differ for a reason that is understood: set, flow, reason. Everything else must agree.
const DIFFERENCES: &[(&str, &str, &str)] = &[(
    "faults/nftables/nft-hostfw-forward-drop-node2",
    "pod/default/toolbox-1 -> 192.168.56.12:30082/tcp",
    "two tries, both lost right after a flow that is dropped; another pod of the same node, masqueraded to the same \
     address, was answered 8 of 8 times on the same path: the prober's loss, not the cluster's",
)];

/// How one flow compares.
enum Verdict {
    Agree,
    /// The truth says nothing that can be compared.
    Skip,
    Differ(String),
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// The folders below a folder of `fixtures/`, in name order.
fn sets(folder: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(fixtures().join(folder))
        .expect("the fixtures are there")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_dir())
        .collect();
    found.sort();
    assert!(!found.is_empty(), "fixtures/{folder} holds no set");
    found
}

fn open(set: &Path) -> (Snapshot, Value) {
    let snapshot = kubectl_knet::commands::load(&set.join("snapshot.tar.zst"), &Limits::default())
        .unwrap_or_else(|failure| panic!("{failure}"));
    (snapshot, truth(set))
}

fn truth(set: &Path) -> Value {
    let mut truth = String::new();
    let packed = fs::File::open(set.join("truth.json.gz")).expect("the truth is there");
    flate2::read::GzDecoder::new(packed)
        .read_to_string(&mut truth)
        .expect("the truth is gzip");
    serde_json::from_str(&truth).expect("the truth is JSON")
}

/// The answer to one flow, as `trace --flows --brief -o json` prints it.
fn ask(explainer: &Explainer<'_>, flow: Value) -> Value {
    let query: Query = serde_json::from_value(flow).expect("the flow is a query");
    match explainer.trace(&query, Detail::Outcome) {
        Ok(explanation) => render::json::trace(&explanation, true),
        Err(error) => render::json::error(Some(&query), &error),
    }
}

/// `ADDR:PORT` as a destination is written.
fn host_port(ip: &str, port: u64) -> String {
    if ip.contains(':') {
        format!("[{ip}]:{port}")
    } else {
        format!("{ip}:{port}")
    }
}

fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

/// Counts one set, prints its line, and returns what should not be.
fn grade(name: &str, verdicts: Vec<(String, Verdict)>) -> Vec<String> {
    let mut wrong = Vec::new();
    let (mut agree, mut total) = (0, 0);
    for (flow, verdict) in verdicts {
        match verdict {
            Verdict::Skip => {}
            Verdict::Agree => (agree, total) = (agree + 1, total + 1),
            Verdict::Differ(why) => {
                total += 1;
                wrong.push((flow, why));
            }
        }
    }
    println!("KNET-TRUTH {name} {agree}/{total}");
    assert!(total > 0, "{name}: nothing was compared");
    let explained: BTreeMap<&str, &str> = DIFFERENCES
        .iter()
        .filter(|(set, ..)| *set == name)
        .map(|(_, flow, why)| (*flow, *why))
        .collect();
    wrong
        .into_iter()
        .filter(|(flow, _)| !explained.contains_key(flow.as_str()))
        .map(|(flow, why)| format!("{name}: {flow}: {why}"))
        .collect()
}

#[track_caller]
fn finish(wrong: &[String]) {
    const SHOWN: usize = 40;
    let shown = wrong
        .iter()
        .take(SHOWN)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join("\n  ");
    assert!(
        wrong.is_empty(),
        "{} flows differ without a known reason:\n  {shown}",
        wrong.len()
    );
}

fn clusters(paths: Vec<PathBuf>) {
    let mut wrong = Vec::new();
    for set in paths {
        let name = set
            .strip_prefix(fixtures())
            .expect("below fixtures")
            .to_string_lossy()
            .into_owned();
        let (snapshot, truth) = open(&set);
        let explainer = Explainer::new(&snapshot);
        let flows = truth.as_array().expect("a list of flows");
        let verdicts = flows
            .iter()
            .map(|flow| compare::flow(flow, |query| ask(&explainer, query)))
            .collect();
        wrong.extend(grade(&name, verdicts));
    }
    finish(&wrong);
}

fn kube_proxy_cases(mode: &str) {
    let folder = format!("kube-proxy-cases/{mode}");
    let mut verdicts = Vec::new();
    for case in sets(&folder) {
        let (snapshot, truth) = open(&case);
        let explainer = Explainer::new(&snapshot);
        let name = case.file_name().expect("it has a name").to_string_lossy().into_owned();
        for flow in truth["flows"].as_array().expect("a list of flows") {
            let (id, verdict) = cases::flow(&truth, flow, |query| ask(&explainer, query));
            verdicts.push((format!("{name}/{id}"), verdict));
        }
    }
    finish(&grade(&folder, verdicts));
}

#[test]
fn three_nodes() {
    clusters(vec![fixtures().join("three-node")]);
}

#[test]
fn healthy_clusters() {
    clusters(sets("good"));
}

#[test]
fn faults_in_iptables_mode() {
    clusters(sets("faults/iptables"));
}

#[test]
fn faults_in_nftables_mode() {
    clusters(sets("faults/nftables"));
}

/// The row that is the fault is the row that is named.
fn named(folder: &str) {
    let mut wrong = Vec::new();
    for set in sets(folder) {
        let name = set.file_name().expect("it has a name").to_string_lossy().into_owned();
        let (snapshot, truth) = open(&set);
        let meta = fs::read(set.join("META.json")).expect("META.json is there");
        let meta: Value = serde_json::from_slice(&meta).expect("META.json is JSON");
        let flows = truth.as_array().expect("a list of flows");
        let (asked, unnamed) = decisive::check(&snapshot, &Explainer::new(&snapshot), &meta, flows);
        println!(
            "KNET-TRUTH {folder}/{name}: fault named {}/{asked}",
            asked - unnamed.len()
        );
        if asked == 0 {
            wrong.push(format!("{name}: no changed flow fails"));
        }
        wrong.extend(unnamed.into_iter().map(|flow| format!("{name}: {flow}")));
    }
    finish(&wrong);
}

#[test]
fn faults_are_named_in_iptables_mode() {
    named("faults/iptables");
}

#[test]
fn faults_are_named_in_nftables_mode() {
    named("faults/nftables");
}

#[test]
fn ipvs_calico_and_overlays_in_virtual_machines() {
    clusters(sets("vm"));
}

#[test]
fn who_answered_arp_in_virtual_machines() {
    let mut wrong = Vec::new();
    for set in sets("vm").iter().filter(|set| set.join("arp.json").exists()) {
        let name = format!("vm/{}", set.file_name().expect("it has a name").to_string_lossy());
        wrong.extend(grade(&format!("{name}/arp"), arp::set(set, &name)));
    }
    finish(&wrong);
}

#[test]
fn what_is_missing_is_not_taken_for_empty() {
    finish(&missing::check());
    finish(&missing::check_vips());
    finish(&missing::check_findings());
}

#[test]
fn kube_proxy_cases_in_iptables_mode() {
    kube_proxy_cases("iptables");
}

#[test]
fn kube_proxy_cases_in_nftables_mode() {
    kube_proxy_cases("nftables");
}
