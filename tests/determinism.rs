//! Same snapshot and same question, same bytes; also when rows whose order means nothing come in another order.

#[path = "support/shipped.rs"]
#[allow(dead_code, reason = "shared by tests that each use a part")]
mod shipped;

use knet_explain::render::{self, text::Style};
use knet_explain::{Detail, Explainer, Query};
use serde_json::Value;
use serde_json::value::RawValue;

use shipped::{Files, Random, files, snapshot};

const FLOWS: &[&str] = &[
    r#"{"src":"pod/default/toolbox-1","dst":"shop/web"}"#,
    r#"{"src":"pod/default/toolbox-1","dst":"10.96.0.10:53","proto":"udp"}"#,
    r#"{"src":"pod/default/toolbox-2","dst":"10.244.2.3:8080"}"#,
    r#"{"src":"node/node-1","dst":"10.96.1.2:80"}"#,
    r#"{"src":"node/node-3","dst":"node/node-1:30080"}"#,
    r#"{"src":"node/node-2","dst":"[fd00:10:244:1::5]:8081"}"#,
    r#"{"src":"ip/192.168.56.100","dst":"192.168.56.13:30600","via":"node/node-3"}"#,
    r#"{"src":"ip/203.0.113.99","dst":"192.168.56.11:30080","via":"node/node-1"}"#,
    r#"{"src":"pod/shop/web-5d9c7f6b8-7tq9v","dst":"192.168.56.13:30999"}"#,
    r#"{"src":"pod/default/toolbox-1","dst":"8.8.8.8:53","proto":"udp"}"#,
    r#"{"src":"pod/default/toolbox-1","dst":"node/node-2:9","proto":"icmp"}"#,
];

/// Everything that is said about the flows, as JSON and as text.
fn answers(files: Files) -> Vec<(Value, String)> {
    let snapshot = snapshot(files).expect("it is a snapshot");
    let explainer = Explainer::new(&snapshot);
    let ask = |line: &&str| {
        let query: Query = serde_json::from_str(line).expect("it is a query");
        match explainer.trace(&query, Detail::Full) {
            Ok(answer) => (
                render::json::trace(&answer, false),
                render::text::trace(&answer, &Style::default()),
            ),
            Err(error) => (render::json::error(Some(&query), &error), error.to_string()),
        }
    };
    FLOWS.iter().map(ask).collect()
}

#[test]
fn the_same_question_twice_has_the_same_answer() {
    let set = files("three-node");
    let (first, second) = (answers(set.clone()), answers(set));
    for (flow, (a, b)) in FLOWS.iter().zip(first.iter().zip(&second)) {
        assert_eq!(a.0.to_string(), b.0.to_string(), "{flow}");
        assert_eq!(a.1, b.1, "{flow}");
    }
}

#[test]
fn rows_may_come_in_any_order() {
    let set = files("three-node");
    let expected = answers(set.clone());
    for seed in 1..=3 {
        let mut random = Random(seed);
        let shuffled = set
            .iter()
            .map(|(path, bytes)| (path.clone(), shuffle(path, bytes, &mut random)))
            .collect();
        for (flow, (a, b)) in FLOWS.iter().zip(expected.iter().zip(answers(shuffled))) {
            let (a, b) = (without_places(a.0.clone()), without_places(b.0));
            assert_eq!(pretty(&a), pretty(&b), "seed {seed}: {flow}");
        }
    }
}

fn pretty(value: &Value) -> String {
    format!("{value:#}")
}

/// Where a row stands in its file is exactly what was changed.
fn without_places(mut value: Value) -> Value {
    match &mut value {
        Value::Object(map) => {
            map.retain(|key, _| key != "line" && key != "index");
            map.values_mut().for_each(|value| *value = without_places(value.take()));
        }
        Value::Array(items) => items.iter_mut().for_each(|value| *value = without_places(value.take())),
        _ => {}
    }
    value
}

/// Shuffles the rows of a table that has no order. Rules and routes have one: it breaks ties.
fn shuffle(path: &str, bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let name = path.rsplit('/').next().unwrap_or_default();
    match name {
        "link.json" | "addr.json" | "neigh.json" | "fdb.json" | "bridge-link.json" | "netns.json" => {
            let Ok(mut rows) = serde_json::from_slice::<Vec<&RawValue>>(bytes) else {
                return bytes.to_vec();
            };
            random.shuffle(&mut rows);
            let rows: Vec<&str> = rows.iter().map(|row| row.get()).collect();
            format!("[{}]\n", rows.join(",")).into_bytes()
        }
        "conntrack.txt" | "sockets.txt" | "sysctl.txt" => {
            let mut rows: Vec<&[u8]> = bytes.split(|&b| b == b'\n').filter(|row| !row.is_empty()).collect();
            random.shuffle(&mut rows);
            rows.iter().flat_map(|row| row.iter().copied().chain([b'\n'])).collect()
        }
        _ => bytes.to_vec(),
    }
}
