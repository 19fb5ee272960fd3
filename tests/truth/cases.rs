//! One flow of kube-proxy's packet-flow tables: verdict, destinations after DNAT, and masquerade.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{Verdict, host_port};

/// Asks about a flow and compares it with what the kernel did. Returns the flow's id with the verdict.
pub(crate) fn flow(case: &Value, flow: &Value, ask: impl Fn(Value) -> Value) -> (String, Verdict) {
    let text = |key: &str| flow[key].as_str().unwrap_or_default();
    let dst = host_port(text("dst_ip"), flow["dst_port"].as_u64().unwrap_or(0));
    let mut query = json!({"dst": dst, "proto": text("proto")});
    if flow["source_is_local"] == true {
        query["src"] = json!("node/node-1");
        query["source_ip"] = flow["source_ip"].clone();
    } else {
        query["src"] = json!(format!("ip/{}", text("source_ip")));
        let device = case["ingress_device_of_remote_sources"].as_str().unwrap_or_default();
        query["via"] = json!(format!("node/node-1/{device}"));
    }
    let name = format!("{} {} -> {dst}/{}", text("id"), text("source_ip"), text("proto"));
    let verdict = difference(&ask(query), &flow["kernel"]).map_or(Verdict::Agree, Verdict::Differ);
    (name, verdict)
}

fn difference(answer: &Value, kernel: &Value) -> Option<String> {
    let branches = answer["branches"].as_array().filter(|b| !b.is_empty());
    let Some(branches) = branches else {
        return Some(format!("no answer: {}", answer["error"]));
    };
    let outcomes: BTreeSet<&str> = branches.iter().filter_map(|b| b["outcome"].as_str()).collect();
    let natted = || branches.iter().filter(|b| b["dnat"] == true);
    let to = |b: &Value| {
        host_port(
            b["packet"]["dst"].as_str().unwrap_or_default(),
            b["packet"]["dport"].as_u64().unwrap_or(0),
        )
    };
    let dnat: BTreeSet<String> = natted().map(to).collect();
    let wanted: BTreeSet<String> = kernel["dnat"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(bracketed)
        .collect();
    let snat: BTreeSet<bool> = natted().map(|b| b["snat"] == true).collect();
    let masquerade = kernel["masquerade"] == true;
    if outcomes.contains("unknown") {
        return Some(format!("unknown: {}", answer["unknowns"]));
    }
    let only = |what: &[&str]| outcomes.iter().all(|outcome| what.contains(outcome));
    let verdict = kernel["verdict"].as_str().unwrap_or_default();
    let agrees = match verdict {
        "DNAT" => dnat == wanted && (dnat.is_empty() || snat == BTreeSet::from([masquerade])),
        "DROP" => only(&["dropped"]),
        "REJECT" => only(&["rejected"]),
        "LOCAL" => only(&["delivered", "no-listener"]),
        "FORWARD" => dnat.is_empty() && !outcomes.contains("dropped") && !outcomes.contains("rejected"),
        _ => true,
    };
    (!agrees).then(|| {
        format!("{outcomes:?} to {dnat:?} masqueraded {snat:?}, seen {verdict} to {wanted:?} masqueraded {masquerade}")
    })
}

/// `fd00::1:80` is written without brackets in some truths.
fn bracketed(text: &str) -> String {
    match text.rsplit_once(':') {
        Some((ip, port)) if ip.contains(':') && !text.starts_with('[') => format!("[{ip}]:{port}"),
        _ => text.to_owned(),
    }
}
