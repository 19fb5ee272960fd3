//! `trace --flows`: many flows, one answer a line, in order, whatever a line holds.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use serde_json::Value;

use crate::{command, run_with, three_node};

fn flows(input: &[u8], args: &[&str]) -> (i32, Vec<Value>, String) {
    let snapshot = three_node();
    let ran = run_with(
        command(&[&["trace", "-s", &snapshot, "--flows", "-", "-o", "json"], args].concat()),
        input,
    );
    let lines = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).expect("every line is an object"))
        .collect();
    (ran.code, lines, ran.stderr)
}

const GOOD: &str = r#"{"id":"a","src":"pod/default/toolbox-1","dst":"10.96.1.1:80","proto":"tcp"}"#;

#[test]
fn one_answer_a_line_in_order_with_its_id() {
    let input = format!(
        "{GOOD}\n\n{}\n{GOOD}",
        r#"{"id":2,"src":"node/node-1","dst":"10.96.0.10:53","proto":"udp"}"#
    );
    let (code, answers, stderr) = flows(input.as_bytes(), &["--brief"]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    let ids: Vec<&Value> = answers.iter().map(|a| &a["id"]).collect();
    assert_eq!(ids, ["a".into(), Value::from(2), "a".into()].iter().collect::<Vec<_>>());
    assert_eq!(answers[0], answers[2]);
    for answer in &answers {
        assert_eq!(answer["schema"], "knet.trace/v1");
        for branch in answer["branches"].as_array().expect("branches") {
            assert!(branch.get("hops").is_none(), "--brief leaves hops out");
        }
    }
}

#[test]
fn brief_says_the_same_as_long() {
    let (_, brief, _) = flows(GOOD.as_bytes(), &["--brief"]);
    let (_, long, _) = flows(GOOD.as_bytes(), &[]);
    let gist = |answer: &Value| -> Vec<Value> {
        let keep = [
            "probability",
            "outcome",
            "client_sees",
            "at",
            "packet",
            "snat",
            "dnat",
            "reject",
        ];
        let branches = answer["branches"].as_array().expect("branches");
        let branch = |b: &Value| {
            let mut kept: Vec<Value> = keep.iter().map(|key| b[*key].clone()).collect();
            // The mark is kept hop by hop, and there are none.
            kept[4]["mark"] = Value::Null;
            kept.into()
        };
        branches.iter().map(branch).collect()
    };
    assert_eq!(gist(&brief[0]), gist(&long[0]));
    assert!(long[0]["branches"][0]["hops"].is_array());
}

#[test]
fn a_wrong_line_is_answered_and_the_rest_goes_on() {
    let lines: &[&[u8]] = &[
        b"not json",
        br#"{"id":"typo","src":"pod/default/toolbox-1","dst":"10.96.1.1:80","prot":"tcp"}"#,
        br#"{"id":"missing","src":"pod/default/toolbox-1"}"#,
        br#"{"id":"unknown","src":"pod/default/nobody","dst":"10.96.1.1:80"}"#,
        br#"{"id":"type","src":7,"dst":"10.96.1.1:80"}"#,
        b"[1,2]",
        b"\xff\xfe{}",
        GOOD.as_bytes(),
    ];
    let (code, answers, _) = flows(&lines.join(&b'\n'), &["--brief"]);
    assert_eq!(code, 2, "the worst line decides");
    assert_eq!(answers.len(), lines.len());
    let (good, wrong) = answers.split_last().expect("answers");
    assert_eq!(good["outcome"], "delivered");
    for answer in wrong {
        assert!(!answer["error"].is_null(), "{answer}");
        assert!(answer.get("branches").is_none(), "{answer}");
    }
    let ids: Vec<Option<&str>> = wrong.iter().map(|a| a["id"].as_str()).collect();
    assert_eq!(
        ids,
        [
            None,
            Some("typo"),
            Some("missing"),
            Some("unknown"),
            Some("type"),
            None,
            None
        ]
    );
}

#[test]
fn a_line_without_end_is_one_wrong_line() {
    let mut input = vec![b'x'; 3 << 20];
    input.extend_from_slice(b"\n");
    input.extend_from_slice(GOOD.as_bytes());
    let (code, answers, _) = flows(&input, &["--brief"]);
    assert_eq!((code, answers.len()), (2, 2));
    assert_eq!(answers[1]["outcome"], "delivered");
}

#[test]
fn the_worst_outcome_decides() {
    let lost = r#"{"src":"pod/default/toolbox-1","dst":"node/node-1:9"}"#;
    let open = r#"{"src":"pod/default/toolbox-1","dst":"8.8.8.8:53","proto":"udp"}"#;
    let code = |lines: &[&str]| flows(lines.join("\n").as_bytes(), &["--brief"]).0;
    assert_eq!(code(&[GOOD]), 0);
    assert_eq!(code(&[GOOD, open]), 3);
    assert_eq!(code(&[open, lost, GOOD]), 1);
    assert_eq!(code(&[]), 0);
}

#[test]
fn answers_come_before_the_next_question() {
    let snapshot = three_node();
    let mut child = command(&["trace", "-s", &snapshot, "--flows", "-", "--brief"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary was built");
    let mut ask = child.stdin.take().expect("stdin is piped");
    let mut answers = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
    for _ in 0..3 {
        writeln!(ask, "{GOOD}").expect("it listens");
        let answer = answers.next().expect("an answer").expect("it is text");
        assert!(answer.contains(r#""id":"a""#), "{answer}");
    }
    drop(ask);
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}
