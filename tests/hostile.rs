//! A broken or hostile snapshot gets an error, a recorded problem, or an answer. Never a panic.
//!
//! `KNET_FUZZ=N` sets the number of broken snapshots, `KNET_SEED=S` the first seed; the seed of a failure is printed.

#[path = "support/shipped.rs"]
#[allow(dead_code, reason = "shared by tests that each use a part")]
mod shipped;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio};

use knet_explain::render::{self, text::Style};
use knet_explain::topics::nodeport::NodePortQuery;
use knet_explain::{Detail, Explainer, Query};

use shipped::{Files, Random, files, snapshot};

const SETS: &[&str] = &[
    "three-node",
    "good/iptables-legacy-hostgw",
    "good/nftables-vxlan",
    "faults/iptables/brnf-off-node2",
];

const FLOWS: &[&str] = &[
    r#"{"src":"pod/default/toolbox-1","dst":"shop/web"}"#,
    r#"{"src":"pod/default/toolbox-2","dst":"10.96.0.10:53","proto":"udp"}"#,
    r#"{"src":"node/node-1","dst":"[fd00:10:244:1::5]:8081"}"#,
    r#"{"src":"ip/192.168.56.100","dst":"192.168.56.13:30080","via":"node/node-3"}"#,
    r#"{"src":"pod/shop/web-5d9c7f6b8-7tq9v","dst":"10.96.1.1:80"}"#,
];

/// Things that parsers trip over.
const TOKENS: &[&[u8]] = &[
    b"\"",
    b"{",
    b"]",
    b"-1",
    b"18446744073709551616",
    b"1e999",
    b"\xff\xfe",
    b"\0",
    b"null",
    b"-j ",
    b"!",
    b"0.0.0.0/33",
    b"::/129",
    b"-A KUBE-SERVICES -j KUBE-SERVICES\n",
    b"--mode random --probability 2",
    b"*nat\n",
    b"COMMIT\n",
    b"\n",
    b",",
];

fn number(key: &str, otherwise: u64) -> u64 {
    std::env::var(key)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(otherwise)
}

/// Breaks one to four files, preferably of the nodes the flows pass.
fn mutate(files: &mut Files, random: &mut Random) {
    for _ in 0..=random.below(4) {
        let paths: Vec<String> = files.keys().cloned().collect();
        let Some(path) = paths.get(random.below(paths.len())).cloned() else {
            return;
        };
        let other = paths[random.below(paths.len())].clone();
        let Some(bytes) = files.get_mut(&path) else { return };
        let at = random.below(bytes.len() + 1);
        match random.below(8) {
            0 => bytes.truncate(at),
            1 => {
                for _ in 0..=random.below(20) {
                    let at = random.below(bytes.len());
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte ^= 1 << random.below(8);
                    }
                }
            }
            2 => {
                files.remove(&path);
            }
            3 => {
                let theirs = files[&other].clone();
                let ours = files.insert(path, theirs).unwrap_or_default();
                files.insert(other, ours);
            }
            4 => {
                bytes.splice(at..at, TOKENS[random.below(TOKENS.len())].iter().copied());
            }
            5 => {
                let end = (at + random.below(200)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                let to = random.below(bytes.len() + 1);
                bytes.splice(to..to, piece);
            }
            6 => bytes
                .drain(at..(at + random.below(400)).min(bytes.len()))
                .for_each(drop),
            _ => {
                // A digit: addresses, ports, indexes, prefix lengths, probabilities.
                let digits: Vec<usize> = (0..bytes.len()).filter(|&i| bytes[i].is_ascii_digit()).collect();
                if let Some(&at) = digits.get(random.below(digits.len())) {
                    bytes[at] = b'0' + u8::try_from(random.below(10)).expect("a digit");
                }
            }
        }
    }
}

/// Asks everything that can be asked; returns how many flows had an answer.
fn ask(files: Files) -> usize {
    let Ok(snapshot) = snapshot(files) else { return 0 };
    let explainer = Explainer::new(&snapshot);
    let mut answered = 0;
    for line in FLOWS {
        let query: Query = serde_json::from_str(line).expect("it is a query");
        match explainer.trace(&query, Detail::Full) {
            Ok(answer) => {
                answered += 1;
                assert!(answer.exit_code() < 4);
                assert!(render::json::trace(&answer, false).is_object());
                assert!(!render::text::trace(&answer, &Style::default()).is_empty());
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    let nodeport = NodePortQuery {
        port: 30080,
        proto: None,
        node: Some("node-1".into()),
        family: None,
    };
    if let Ok(answer) = explainer.nodeport(&nodeport) {
        let _ = render::text::nodeport(&answer, &Style::default());
    }
    let _ = snapshot.all_problems();
    answered
}

#[test]
fn broken_snapshots_never_panic() {
    let (first, count) = (number("KNET_SEED", 1), number("KNET_FUZZ", 120));
    let sets: Vec<Files> = SETS.iter().map(|set| files(set)).collect();
    let mut answered = 0;
    for seed in (0..count).map(|i| first.wrapping_add(i)) {
        let mut random = Random(seed);
        let mut files = sets[random.below(sets.len())].clone();
        mutate(&mut files, &mut random);
        match catch_unwind(AssertUnwindSafe(|| ask(files))) {
            Ok(n) => answered += n,
            Err(_) => panic!("KNET_SEED={seed} KNET_FUZZ=1 breaks it"),
        }
    }
    println!("KNET-RAN hostile-snapshots {count}");
    // Most of a snapshot with one broken file still answers.
    assert!(
        answered as u64 > count,
        "only {answered} answers from {count} snapshots"
    );
}

#[test]
fn the_binary_ends_with_a_documented_code() {
    let dir = tempfile::tempdir().expect("a directory");
    let packed = std::fs::read(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/fixtures/three-node/snapshot.tar.zst"
    ))
    .expect("it is there");
    for seed in 0..number("KNET_FUZZ", 120) / 8 {
        let mut random = Random(seed);
        let mut bytes = packed.clone();
        for _ in 0..=random.below(3) {
            let at = random.below(bytes.len());
            if seed % 3 == 0 {
                bytes.truncate(at.max(1))
            } else {
                bytes[at] ^= 1 << random.below(8)
            }
        }
        let path = dir.path().join("snapshot");
        std::fs::write(&path, bytes).expect("it can be written");
        let out = Command::new(env!("CARGO_BIN_EXE_kubectl-knet"))
            .args(["trace", "toolbox-1", "shop/web", "--snapshot"])
            .arg(&path)
            .stdin(Stdio::null())
            .output()
            .expect("it runs");
        let stderr = String::from_utf8_lossy(&out.stderr);
        assert!(
            matches!(out.status.code(), Some(0..=3)),
            "seed {seed}: {:?} {stderr}",
            out.status
        );
        assert!(!stderr.contains("panicked"), "seed {seed}: {stderr}");
    }
}
