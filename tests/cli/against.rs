//! `trace --against` and `--verify-commands`, on captures with recordings of the kernel.

use serde_json::Value;

use crate::{Ran, command, fixture, run, run_with};

fn case(backend: &str, recording: &str, to: &str, more: &[&str]) -> Ran {
    let snapshot = fixture(&format!("kernel-trace/{backend}/snapshot.tar.zst"));
    let recording = fixture(&format!("kernel-trace/{backend}/{recording}"));
    run(&[&["trace", "c", to, "-s", &snapshot, "--against", &recording], more].concat())
}

fn json(ran: &Ran) -> Value {
    let answer: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|e| panic!("{e}: {}", ran.stderr));
    answer["against"].clone()
}

const WEB: &str = "10.96.0.1:80";

#[test]
fn the_kernel_agrees() {
    for (backend, recording, to, steps) in [
        ("nftables", "agrees.txt", WEB, [10, 2]),
        ("nftables", "agrees-pod.txt", WEB, [2, 1]),
        ("nftables", "ipv6.txt", "[fd00:96::1]:53", [5, 2]),
        ("iptables-nft", "agrees.txt", WEB, [14, 5]),
        ("iptables-legacy", "agrees.txt", WEB, [13, 4]),
    ] {
        let udp: &[&str] = if recording == "ipv6.txt" { &["-p", "udp"] } else { &[] };
        let ran = case(backend, recording, to, &[udp, &["-o", "json"]].concat());
        // The packet is refused, and the kernel says so too: they agree.
        assert_eq!(ran.code, 0, "{backend}/{recording}: {}", ran.page());
        let against = json(&ran);
        assert_eq!(against["agrees"], true);
        assert_eq!(against["not_understood"], serde_json::json!([]));
        let all = against["comparisons"].as_array().expect("comparisons");
        let counted: Vec<_> = all
            .iter()
            .map(|c| (c["direction"].clone(), c["steps"].clone()))
            .collect();
        assert_eq!(
            counted,
            [("request".into(), steps[0].into()), ("reply".into(), steps[1].into())],
            "{backend}"
        );
    }
}

#[test]
fn the_first_step_where_they_part() {
    let ran = case("nftables", "differs.txt", WEB, &["--detail", "summary"]);
    assert_eq!(ran.code, 1, "{}", ran.page());
    for wanted in [
        "KERNEL DIFFERS from the walk after 5 steps in common (request, lab)",
        "inet filt app rule tcp dport 8080 counter packets",
        "the capture has no such rule or chain",
        "tcp dport { 8080, 9090 } meta mark set 0x00000010",
        "nodes/lab/host/nft.txt:",
    ] {
        assert!(ran.stdout.contains(wanted), "{wanted}: {}", ran.page());
    }
    // A rule that is gone: the kernel is at the next one, which the walk comes to later.
    let ran = case("iptables-nft", "differs.txt", WEB, &["-o", "json"]);
    assert_eq!(ran.code, 1, "{}", ran.page());
    let difference = &json(&ran)["comparisons"][0]["difference"];
    assert_eq!(difference["what"], "rule");
    assert_eq!(difference["kernel"]["captured"][0]["text"], "-A FORWARD -j APP");
    assert_eq!(difference["kernel"]["walk_says"], "later");
    assert_eq!(difference["walk"]["evidence"][0]["text"], "-A FORWARD -j EMPTY");
    assert_eq!(difference["walk"]["evidence"][0]["line"], 25);
    // The kernel log has only numbers: the capture says which rule that was.
    let ran = case("iptables-legacy", "differs.txt", WEB, &["-o", "json"]);
    assert_eq!(ran.code, 1, "{}", ran.page());
    let difference = &json(&ran)["comparisons"][0]["difference"];
    assert_eq!(
        difference["kernel"]["captured"][0]["text"],
        "-A APP -m mark --mark 0x20/0x20 -j ACCEPT"
    );
    assert_eq!(difference["kernel"]["walk_says"], "no-match");
    assert_eq!(
        difference["walk"]["evidence"][0]["text"],
        "-A APP -m mark --mark 0x10/0x10 -j RETURN"
    );
}

/// A recording on standard input.
fn piped(backend: &str, text: &str, more: &[&str]) -> Ran {
    let snapshot = fixture(&format!("kernel-trace/{backend}/snapshot.tar.zst"));
    let args = [&["trace", "c", WEB, "-s", &snapshot, "--against", "-"], more].concat();
    run_with(command(&args), text.as_bytes())
}

fn recording(backend: &str, file: &str) -> String {
    std::fs::read_to_string(fixture(&format!("kernel-trace/{backend}/{file}"))).expect("the fixture is there")
}

#[test]
fn what_is_not_understood_is_kept_and_said() {
    let text = recording("nftables", "agrees.txt");
    let (head, tail) = text.split_once('\n').expect("lines");
    let ran = piped(
        "nftables",
        &format!("{head}\nhello there\n{tail}"),
        &["--detail", "summary"],
    );
    assert_eq!(ran.code, 0, "{}", ran.page());
    for wanted in [
        "1 line of standard input not understood",
        "hello there",
        "standard input:2",
    ] {
        assert!(ran.stdout.contains(wanted), "{wanted}: {}", ran.page());
    }
    let ran = piped("nftables", &format!("{head}\nhello there\n{tail}"), &["-o", "json"]);
    assert_eq!(
        json(&ran)["not_understood"][0],
        serde_json::json!({"line": 2, "text": "hello there"})
    );
}

#[test]
fn without_handles_the_text_tells() {
    let text: String = recording("nftables", "agrees.txt")
        .lines()
        .map(|line| match line.split_once(" # handle ") {
            Some((rule, rest)) => format!("{rule} {}\n", rest.split_once(' ').map_or("", |(_, verdict)| verdict)),
            None => format!("{line}\n"),
        })
        .collect();
    assert!(!text.contains("handle"));
    let ran = piped("nftables", &text, &["-o", "json"]);
    assert_eq!(ran.code, 0, "{}", ran.page());
    let against = json(&ran);
    assert_eq!(against["comparisons"][0]["steps"], 10);
    assert_eq!(against["comparisons"][0]["by_verdict_only"], 0);
}

#[test]
fn a_recording_that_ends_early_is_a_difference() {
    let text = recording("iptables-nft", "agrees.txt");
    let lines: Vec<&str> = text.lines().collect();
    let cut = lines
        .iter()
        .position(|l| l.contains("mangle:FORWARD"))
        .expect("it is there");
    let ran = piped("iptables-nft", &lines[..cut].join("\n"), &["-o", "json"]);
    assert_eq!(ran.code, 1, "{}", ran.page());
    let difference = &json(&ran)["comparisons"][0]["difference"];
    assert_eq!(difference["what"], "kernel-ends");
    assert_eq!(difference["kernel"], Value::Null);
    assert_eq!(difference["walk"]["table"], "mangle");
}

#[test]
fn another_server_than_the_walk_has() {
    let text = recording("nftables", "agrees.txt").replace("ip daddr 10.2.0.3", "ip daddr 10.2.0.77");
    let text = text.replace("ip daddr 10.2.0.2", "ip daddr 10.2.0.77");
    let ran = piped("nftables", &text, &["-o", "json"]);
    assert_eq!(ran.code, 1, "{}", ran.page());
    let difference = &json(&ran)["comparisons"][0]["difference"];
    assert_eq!(difference["what"], "packet");
    assert!(
        difference["walk_packet"]
            .as_str()
            .is_some_and(|p| p.contains("→ 10.2.0."))
    );
}

#[test]
fn several_packets_fit() {
    let once = recording("nftables", "agrees.txt");
    let again = once.replace("ip id ", "ip id 1");
    let ran = piped("nftables", &format!("{once}{again}"), &["--detail", "summary"]);
    assert_eq!(ran.code, 0, "{}", ran.page());
    assert!(ran.stdout.contains("(packet 1 of 2"), "{}", ran.page());
}

#[test]
fn mistakes_are_one_clear_line() {
    for (text, wanted) in [
        ("", "error: standard input: the recording is empty"),
        ("\n\n", "error: standard input: the recording is empty"),
        (
            "no trace\nat all\n",
            "error: standard input: none of its 2 lines is of a kernel trace; line 1 is \"no trace\"",
        ),
        (
            "\u{0}\u{fffd}",
            "error: standard input: none of its 1 lines is of a kernel trace; line 1 is \"\\0\u{fffd}\"",
        ),
    ] {
        let ran = piped("nftables", text, &[]);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{}", ran.page());
        assert_eq!(ran.stderr.lines().next(), Some(wanted));
    }
    let ran = case("nftables", "no-such-file", WEB, &[]);
    assert_eq!(ran.code, 2);
    assert!(
        ran.stderr.contains("no-such-file: No such file or directory"),
        "{}",
        ran.stderr
    );
    // A recording of other flows: what it has.
    let ran = case("nftables", "agrees.txt", "10.96.0.1:81", &[]);
    assert_eq!(ran.code, 2);
    assert!(
        ran.stderr
            .contains("the recording has no packet of this flow (tcp 10.1.0.2 → 10.96.0.1:81"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("it has tcp 10.1.0.2:"), "{}", ran.stderr);
    let ran = case("nftables", "agrees.txt", WEB, &["--against-node", "lba"]);
    assert_eq!(ran.code, 2);
    assert!(
        ran.stderr.contains("there is no node \"lba\" in the snapshot"),
        "{}",
        ran.stderr
    );
    let ran = case("nftables", "agrees.txt", WEB, &["--against-node", "lab/x"]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("it passes lab/c, lab/host"), "{}", ran.stderr);
    let ran = case("nftables", "agrees.txt", WEB, &["--verify-commands"]);
    assert_eq!(ran.code, 2, "one or the other");
}

#[test]
fn commands_for_every_place() {
    let snapshot = fixture("kernel-trace/nftables/snapshot.tar.zst");
    let ran = run(&["trace", "c", WEB, "-s", &snapshot, "--verify-commands"]);
    assert_eq!(ran.code, 0, "{}", ran.page());
    for wanted in [
        "nft add table ip knet_trace\n",
        "nft 'add chain ip knet_trace prerouting { type filter hook prerouting priority -350; policy accept; }'\n",
        "nft 'add rule ip knet_trace prerouting ip saddr 10.1.0.2 ip daddr 10.96.0.1 tcp dport 80 tcp flags & (fin | \
         syn | rst | ack) == syn meta nftrace set 1'\n",
        "nft delete table ip knet_trace\n",
        // The client's namespace, as the capture says where it is.
        "nsenter --net=/run/netns/",
        "--against knet-trace-lab-host.txt --against-node lab/host\n",
    ] {
        assert!(ran.stdout.contains(wanted), "{wanted}: {}", ran.page());
    }
    let snapshot = fixture("kernel-trace/iptables-legacy/snapshot.tar.zst");
    let ran = run(&[
        "trace",
        "c",
        WEB,
        "-s",
        &snapshot,
        "--verify-commands",
        "--sport",
        "999",
        "-o",
        "json",
    ]);
    let answer: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let host = answer["verify"]
        .as_array()
        .expect("places")
        .iter()
        .find(|p| p["netns"] == "host")
        .expect("the host");
    let recording = &host["recordings"][0];
    assert_eq!(recording["tool"], "kernel-log");
    let set_up = recording["set_up"].as_array().expect("commands");
    let rule = "PREROUTING -s 10.1.0.2/32 -d 10.96.0.1/32 -p tcp -m tcp --sport 999 --dport 80 \
                --tcp-flags FIN,SYN,RST,ACK SYN -j TRACE";
    let put = format!("iptables-legacy -w -t raw -I {rule}");
    let gone = format!("iptables-legacy -w -t raw -D {rule}");
    assert!(set_up.iter().any(|c| *c == *put), "{set_up:#?}");
    assert!(
        recording["undo"]
            .as_array()
            .expect("commands")
            .iter()
            .any(|c| *c == *gone)
    );
    // Namespaces without rules: nothing to trace, and it says so.
    let pod = answer["verify"]
        .as_array()
        .expect("places")
        .iter()
        .find(|p| p["netns"] == "c")
        .expect("the pod");
    assert_eq!(pod["recordings"], serde_json::json!([]));
    assert_eq!(pod["notes"][0], "no rules here: there is nothing to trace");
}

#[test]
fn everything_that_is_set_up_is_undone() {
    for backend in ["nftables", "iptables-nft", "iptables-legacy"] {
        let snapshot = fixture(&format!("kernel-trace/{backend}/snapshot.tar.zst"));
        let ran = run(&["trace", "c", WEB, "-s", &snapshot, "--verify-commands", "-o", "json"]);
        let answer: Value = serde_json::from_str(&ran.stdout).expect("JSON");
        let mut rules = 0;
        for recording in answer["verify"]
            .as_array()
            .expect("places")
            .iter()
            .flat_map(|p| p["recordings"].as_array().expect("a list"))
        {
            let list = |key: &str| -> Vec<String> {
                let all = recording[key].as_array().expect("commands");
                all.iter().map(|c| c.as_str().unwrap_or_default().to_owned()).collect()
            };
            let undo = list("undo");
            for command in list("set_up").iter().filter(|c| c.contains(" -I ")) {
                assert!(undo.contains(&command.replacen(" -I ", " -D ", 1)), "{command}");
                rules += 1;
            }
            for command in list("set_up").iter().filter(|c| c.contains("nft add table")) {
                assert!(undo.contains(&command.replacen(" add ", " delete ", 1)), "{command}");
                rules += 1;
            }
        }
        assert!(rules > 0, "{backend}");
    }
}
