//! Who answered ARP for an address: `arp.json` against `vip`.
//!
//! The questions were asked under several settings of one capture. What a case changed is in its name, and is
//! changed in the captured files in the same way.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use knet_explain::Explainer;
use knet_explain::topics::vip::VipQuery;
use serde_json::{Value, json};

use crate::shipped::{self, Files};
use crate::{Verdict, list};

/// Every question of a set, each with its verdict.
pub(crate) fn set(folder: &Path, name: &str) -> Vec<(String, Verdict)> {
    let read = |file: &str| -> Option<Value> {
        let text = fs::read_to_string(folder.join(file)).ok()?;
        Some(serde_json::from_str(&text).expect("it is JSON"))
    };
    let cases = read("arp.json").expect("arp.json is there");
    let mut verdicts = Vec::new();
    let whole = json!([{"case": "as captured", "table": cases}]);
    let cases = if cases[0].get("case").is_some() { cases } else { whole };
    for case in cases.as_array().expect("a list of cases") {
        let title = case["case"].as_str().unwrap_or_default();
        let snapshot = shipped::snapshot(changed(name, title)).expect("it opens");
        let explainer = Explainer::new(&snapshot);
        for row in list(case, "table") {
            let asked = row["who_has"].as_str().expect("an address");
            let from = row["from"].as_str().unwrap_or_default();
            let client = from.split(' ').nth(1).and_then(|a| a.parse().ok());
            let query = VipQuery {
                target: asked.to_owned(),
                namespace: None,
                from: client,
            };
            let answer = explainer.vip(&query).expect("an address is no name");
            let ours: BTreeSet<(String, String)> = answer[0]
                .segments
                .iter()
                .flat_map(|s| &s.heard)
                .filter(|h| h.said.answer().is_some())
                .filter_map(|h| Some((h.node.clone(), h.mac?.to_string())))
                .collect();
            let seen: BTreeSet<(String, String)> = list(row, "answers")
                .iter()
                .filter(|a| !only_the_speaker(title, a))
                .map(|a| {
                    let word = |key: &str| a[key].as_str().unwrap_or_default().to_owned();
                    (word("node"), word("mac"))
                })
                .collect();
            let verdict = if ours == seen {
                Verdict::Agree
            } else {
                Verdict::Differ(format!("answered by {seen:?}, predicted {ours:?}"))
            };
            verdicts.push((format!("{title}: {asked}"), verdict));
        }
    }
    // Which address a node asks from when the packet has the virtual one.
    for (setting, sender) in read("announce.json").iter().filter_map(Value::as_object).flatten() {
        let snapshot = shipped::snapshot(changed(name, setting)).expect("it opens");
        let query = VipQuery {
            target: "192.168.56.240".to_owned(),
            ..VipQuery::default()
        };
        let answer = Explainer::new(&snapshot).vip(&query).expect("an address is no name");
        let ours = !answer[0].nodes[0].asks_as.is_empty();
        let verdict = match ours == (sender == "192.168.56.240") {
            true => Verdict::Agree,
            false => Verdict::Differ(format!(
                "asked from {sender}, predicted from the virtual address: {ours}"
            )),
        };
        verdicts.push((setting.clone(), verdict));
    }
    verdicts
}

/// A program on node-3 answered in user space; with `strictARP` it was the only one.
fn only_the_speaker(case: &str, answer: &Value) -> bool {
    case.starts_with("user-space speaker on node-3, strictARP true")
        && answer["node"] == "node-3"
        // Its own address is answered by the kernel.
        && answer["n"] == 2
}

/// The files of a capture, changed as the name of a case says.
fn changed(set: &str, case: &str) -> Files {
    let mut files = shipped::files(set);
    let words = case.split(|c: char| !(c.is_ascii_alphanumeric() || "._=".contains(c)));
    for (key, value) in words.filter_map(|w| w.split_once('=')) {
        let key = match key.strip_prefix("conf.") {
            Some(own) => format!("net.ipv4.conf.{own}"),
            None => format!("net.ipv4.conf.all.{key}"),
        };
        for (path, bytes) in &mut files {
            if path.ends_with("/host/sysctl.txt") {
                *bytes = set_sysctl(bytes, &key, value);
            }
        }
    }
    let vip = "192.168.56.250";
    if case.contains("kube-lb0 dummy on node-2") {
        let link = json!({"ifindex": 900, "ifname": "kube-lb0", "flags": ["BROADCAST", "NOARP", "UP", "LOWER_UP"],
            "mtu": 1500, "operstate": "UNKNOWN", "link_type": "ether", "address": "02:00:00:00:09:00",
            "linkinfo": {"info_kind": "dummy"}});
        push(&mut files, "link.json", link);
        address(&mut files, json!({"ifindex": 900, "ifname": "kube-lb0"}), vip, 32);
        local_route(&mut files, "kube-lb0", vip);
    } else if case.contains("node-2 eth0 holds") {
        let mut rows = rows(&files, "addr.json");
        let nic = list_mut(&mut rows)
            .iter_mut()
            .find(|l| l["ifname"] == "eth0")
            .expect("node-2 has eth0");
        list_mut(&mut nic["addr_info"]).push(entry(vip, 24));
        write(&mut files, "addr.json", &rows);
        local_route(&mut files, "eth0", vip);
    }
    files
}

fn set_sysctl(bytes: &[u8], key: &str, value: &str) -> Vec<u8> {
    let text = String::from_utf8_lossy(bytes);
    let lines = text.lines().map(|line| match line.split_once(" = ") {
        Some((k, _)) if k == key => format!("{key} = {value}\n"),
        _ => format!("{line}\n"),
    });
    lines.collect::<String>().into_bytes()
}

fn path(file: &str) -> String {
    format!("nodes/node-2/host/{file}")
}

fn rows(files: &Files, file: &str) -> Value {
    serde_json::from_slice(&files[&path(file)]).expect("it is JSON")
}

fn write(files: &mut Files, file: &str, rows: &Value) {
    files.insert(path(file), rows.to_string().into_bytes());
}

fn list_mut(value: &mut Value) -> &mut Vec<Value> {
    value.as_array_mut().expect("a list")
}

fn push(files: &mut Files, file: &str, row: Value) {
    let mut all = rows(files, file);
    list_mut(&mut all).push(row);
    write(files, file, &all);
}

fn entry(addr: &str, prefixlen: u8) -> Value {
    json!({"family": "inet", "local": addr, "prefixlen": prefixlen, "scope": "global"})
}

fn address(files: &mut Files, mut link: Value, addr: &str, prefixlen: u8) {
    link["addr_info"] = json!([entry(addr, prefixlen)]);
    push(files, "addr.json", link);
}

fn local_route(files: &mut Files, dev: &str, addr: &str) {
    push(
        files,
        "route.json",
        json!({"type": "local", "dst": addr, "dev": dev, "table": "local", "protocol": "kernel", "scope": "host",
            "prefsrc": addr, "flags": []}),
    );
}
