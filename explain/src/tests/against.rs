//! Recordings of the kernel's trace beside walks through the mini snapshot.

use serde_json::Value;

use super::schema::conforms;
use super::{mini, query};
use crate::render::{json as render, schema, text};
use crate::{AgainstError, Explainer};
use knet_dataplane::trace::Detail;
use knet_snapshot::kernel_trace::parse;

/// What `xtables-monitor` prints of the walk from toolbox to web, put together by hand.
const RECORDING: &str = "\
PACKET: 2 00000001 IN=cni0 SRC=10.244.0.2 DST=10.96.1.1 LEN=60 TTL=64 ID=7 DF SPORT=41000 DPORT=80 SYN
 TRACE: 2 00000001 raw:PREROUTING:rule:0x2:CONTINUE  -4 -t raw -A PREROUTING -p tcp -j TRACE
 TRACE: 2 00000001 raw:PREROUTING:policy:ACCEPT
PACKET: 2 00000001 IN=cni0 SRC=10.244.0.2 DST=10.96.1.1 LEN=60 TTL=64 ID=7 DF SPORT=41000 DPORT=80 SYN
 TRACE: 2 00000001 nat:PREROUTING:rule:0x5:JUMP:KUBE-SERVICES  -4 -t nat -A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
 TRACE: 2 00000001 nat:KUBE-SERVICES:rule:0x6:JUMP:KUBE-SVC-67NZLRHBNDSAWJRO  -4 -t nat -A KUBE-SERVICES -d 10.96.1.1/32 -p tcp -m comment --comment \"shop/web:http cluster IP\" -m tcp --dport 80 -j KUBE-SVC-67NZLRHBNDSAWJRO
 TRACE: 2 00000001 nat:KUBE-SVC-67NZLRHBNDSAWJRO:rule:0x7:JUMP:KUBE-SEP-AAAAAAAAAAAAAAAA  -4 -t nat -A KUBE-SVC-67NZLRHBNDSAWJRO -m comment --comment \"shop/web:http -> 10.244.0.3:8080\" -j KUBE-SEP-AAAAAAAAAAAAAAAA
 TRACE: 2 00000001 nat:KUBE-SEP-AAAAAAAAAAAAAAAA:rule:0x8:ACCEPT  -4 -t nat -A KUBE-SEP-AAAAAAAAAAAAAAAA -p tcp -m comment --comment \"shop/web:http\" -m tcp -j DNAT --to-destination 10.244.0.3:8080
PACKET: 2 00000001 IN=cni0 OUT=cni0 SRC=10.244.0.2 DST=10.244.0.3 LEN=60 TTL=63 ID=7 DF SPORT=41000 DPORT=8080 SYN
 TRACE: 2 00000001 filter:FORWARD:rule:0x3:JUMP:KUBE-SERVICES  -4 -t filter -A FORWARD -m conntrack --ctstate NEW -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
 TRACE: 2 00000001 filter:FORWARD:policy:ACCEPT
PACKET: 2 00000001 OUT=cni0 SRC=10.244.0.2 DST=10.244.0.3 LEN=60 TTL=63 ID=7 DF SPORT=41000 DPORT=8080 SYN
 TRACE: 2 00000001 nat:POSTROUTING:rule:0x9:JUMP:KUBE-POSTROUTING  -4 -t nat -A POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING
 TRACE: 2 00000001 nat:KUBE-POSTROUTING:rule:0xa:RETURN  -4 -t nat -A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
 TRACE: 2 00000001 nat:POSTROUTING:policy:ACCEPT
";

fn compared(recording: &str) -> Result<(Value, String), AgainstError> {
    let snapshot = mini::snapshot(true);
    let explainer = Explainer::new(&snapshot);
    let recording = parse(recording.as_bytes());
    let query = query("toolbox", "web");
    let explanation = explainer.trace_against(&query, Detail::Decisions, ("trace.txt", &recording), None)?;
    let page = text::trace(&explanation, &text::Style::default());
    Ok((render::trace(&explanation, false), page))
}

fn document(recording: &str) -> Value {
    compared(recording).expect("the flow is in it").0
}

#[test]
fn the_walk_agrees_and_the_document_has_the_published_shape() {
    let (document, page) = compared(RECORDING).expect("the flow is in it");
    let comparison = &document["against"]["comparisons"][0];
    assert_eq!(comparison["result"], "agrees", "{comparison:#}");
    assert_eq!(comparison["steps"], 9);
    assert_eq!(comparison["of_tracing"], 2);
    assert_eq!(
        (&comparison["node"], &comparison["netns"]),
        (&"node-1".into(), &"host".into())
    );
    assert!(page.contains("KERNEL AGREES with the walk over 9 steps"), "{page}");
    let schema = schema::trace();
    conforms(&schema, &schema, &document, "$").expect("the published shape");
}

/// One line changed: what the difference is then.
fn difference(from: &str, to: &str) -> Value {
    assert!(RECORDING.contains(from), "{from}");
    let document = document(&RECORDING.replace(from, to));
    let schema = schema::trace();
    conforms(&schema, &schema, &document, "$").expect("the published shape");
    let comparison = document["against"]["comparisons"][0].clone();
    assert_eq!(comparison["result"], "differs", "{comparison:#}");
    comparison
}

#[test]
fn every_line_that_is_changed_is_the_difference() {
    // Another verdict of the same rule.
    let found = difference("rule:0xa:RETURN", "rule:0xa:DROP");
    assert_eq!(
        (&found["difference"]["what"], &found["steps"]),
        (&"verdict".into(), &7.into())
    );
    assert_eq!(found["difference"]["kernel"]["line"], 14);
    assert_eq!(found["difference"]["walk"]["verdict"], "return");
    // Another jump.
    let found = difference("rule:0x3:JUMP:KUBE-SERVICES", "rule:0x3:JUMP:OTHER");
    assert_eq!(
        (&found["difference"]["what"], &found["steps"]),
        (&"verdict".into(), &4.into())
    );
    // A policy.
    let found = difference("filter:FORWARD:policy:ACCEPT", "filter:FORWARD:policy:DROP");
    assert_eq!(
        (&found["difference"]["what"], &found["steps"]),
        (&"verdict".into(), &5.into())
    );
    // A rule that the walk looked at and that did not match.
    let found = difference(
        "-A KUBE-SEP-AAAAAAAAAAAAAAAA -p tcp -m comment --comment \"shop/web:http\" -m tcp -j DNAT --to-destination 10.244.0.3:8080",
        "-A KUBE-SEP-AAAAAAAAAAAAAAAA -s 10.244.0.3/32 -m comment --comment \"shop/web:http\" -j KUBE-MARK-MASQ",
    );
    assert_eq!(found["difference"]["kernel"]["walk_says"], "no-match");
    assert_eq!(found["steps"], 3);
    // A rule nobody captured.
    let found = difference("--comment \"kubernetes postrouting rules\"", "--comment \"new\"");
    assert_eq!(found["difference"]["kernel"]["absent_from_capture"], true);
    // A chain nobody captured.
    let found = difference("filter:FORWARD:policy", "filter:STRANGE:policy");
    assert_eq!(found["difference"]["kernel"]["absent_from_capture"], true);
    // The packet itself.
    let found = difference(
        "OUT=cni0 SRC=10.244.0.2 DST=10.244.0.3 LEN",
        "OUT=cni0 SRC=10.244.0.2 DST=10.244.0.4 LEN",
    );
    assert_eq!(
        (&found["difference"]["what"], &found["steps"]),
        (&"packet".into(), &4.into())
    );
}

#[test]
fn the_kernel_that_goes_on_or_ends_is_a_difference() {
    let more = format!("{RECORDING} TRACE: 2 00000001 security:OUTPUT:policy:ACCEPT\n");
    let found = document(&more)["against"]["comparisons"][0].clone();
    assert_eq!(found["difference"]["what"], "walk-ends");
    let lines: Vec<&str> = RECORDING.lines().collect();
    let found = document(&lines[..9].join("\n"))["against"]["comparisons"][0].clone();
    assert_eq!(
        (&found["difference"]["what"], &found["steps"]),
        (&"kernel-ends".into(), &4.into())
    );
}

/// Nothing in a recording is trusted: lines left out, doubled, cut and mixed up are told or refused.
#[test]
fn no_recording_breaks_the_comparison() {
    let lines: Vec<&str> = RECORDING.lines().collect();
    let mut seed = 11_u64;
    let mut below = |n: usize| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % n.max(1)
    };
    let snapshot = mini::snapshot(true);
    let explainer = Explainer::new(&snapshot);
    let query = query("toolbox", "web");
    let mut differ = 0;
    for _ in 0..300 {
        let mut mixed: Vec<String> = lines.iter().map(|l| (*l).to_owned()).collect();
        for _ in 0..=below(3) {
            let at = below(mixed.len());
            match below(4) {
                0 => drop(mixed.remove(at)),
                1 => mixed.insert(below(mixed.len()), mixed[at].clone()),
                2 => {
                    let cut = below(mixed[at].len());
                    mixed[at].truncate(cut);
                }
                _ => {
                    let other = below(mixed.len());
                    mixed.swap(at, other);
                }
            }
        }
        let recording = parse(mixed.join("\n").as_bytes());
        match explainer.trace_against(&query, Detail::Outcome, ("x", &recording), None) {
            Ok(explanation) => {
                let against = explanation.against.expect("it was asked for");
                assert!(!against.comparisons.is_empty());
                for c in &against.comparisons {
                    assert!(c.steps <= recording.packets.iter().map(|p| p.events.len()).sum());
                }
                differ += usize::from(against.exit_code() == 1);
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    assert!(differ > 100, "{differ}");
}

#[test]
fn the_commands_have_the_published_shape() {
    let snapshot = mini::snapshot(true);
    let explainer = Explainer::new(&snapshot);
    let explanation = explainer
        .trace(&query("toolbox", "web"), Detail::Decisions)
        .expect("it resolves");
    let document = render::trace(&explainer.with_commands(explanation), false);
    let schema = schema::trace();
    conforms(&schema, &schema, &document, "$").expect("the published shape");
    let places = document["verify"].as_array().expect("places");
    assert!(
        places
            .iter()
            .any(|p| p["netns"] == "host" && p["recordings"][0]["tool"] == "xtables-monitor"),
        "{places:#?}"
    );
}
