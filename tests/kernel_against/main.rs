//! The commands that knet prints are run for real, the kernel's trace of a packet is recorded, and the walk is
//! put beside it: with the rules as captured they agree to the end, and with a changed rule the first step where
//! they part is the changed one.
//!
//! Needs root, network namespaces, iproute2, iptables (both back ends), nftables, conntrack and bash. The kernel
//! log of iptables-legacy is read only where other namespaces than the first may write to it.

#[path = "../support/netns.rs"]
#[allow(dead_code, reason = "not every test draws numbers")]
mod netns;

mod lab;
mod rulesets;

use lab::{Lab, Packet, Recorded};
use serde_json::Value;

const TOOLS: &[&str] = &[
    "bash",
    "nft",
    "iptables-nft",
    "iptables-legacy",
    "xtables-monitor",
    "conntrack",
    "nsenter",
    "sysctl",
    "bridge",
    "ss",
    "dmesg",
];

/// The comparison of one recording that has the flow's request.
fn request<'a>(recorded: &'a Recorded, answer: &'a Value) -> &'a Value {
    let all = answer["against"]["comparisons"].as_array().expect("comparisons");
    all.iter()
        .find(|c| c["direction"] == "request")
        .unwrap_or_else(|| panic!("no request in {}", recorded.page(answer)))
}

/// The packet as it is recorded now agrees with the capture everywhere; how many steps were compared.
fn agrees(lab: &Lab, packet: &Packet) -> u64 {
    let mut steps = 0;
    for recorded in lab.record(packet) {
        let (code, answer) = lab.against(packet, &recorded);
        let page = recorded.page(&answer);
        assert_eq!(code, 0, "{page}");
        assert_eq!(answer["against"]["agrees"], true, "{page}");
        assert_eq!(answer["against"]["not_understood_count"], 0, "{page}");
        for comparison in answer["against"]["comparisons"].as_array().expect("comparisons") {
            assert_eq!(comparison["by_verdict_only"], 0, "{page}");
            assert_eq!(comparison["before_trace"], 0, "{page}");
            steps += comparison["steps"].as_u64().expect("a number");
        }
        request(&recorded, &answer);
    }
    steps
}

/// A program on the node: to a Service, to its own address over the loopback device, and from the client to it.
fn by_node(lab: &Lab) -> u64 {
    agrees(lab, &Packet::tcp("10.96.0.1", 80).by_node())
        + agrees(lab, &Packet::tcp("10.1.0.1", 81).by_node())
        + agrees(lab, &Packet::tcp("10.1.0.1", 81))
}

/// What the first difference is like.
struct Parts {
    what: &'static str,
    /// In the kernel's line.
    kernel: &'static str,
    /// In the walk's row.
    walk: &'static str,
    absent: bool,
}

/// After a change on the node, the capture of before and the kernel part at that step.
fn differs(lab: &Lab, packet: &Packet, place: &str, change: &str, parts: &Parts) {
    netns::must(change, "");
    let recorded = lab.record(packet);
    let recorded = recorded
        .iter()
        .find(|r| r.place == place)
        .expect("it was recorded there");
    let (code, answer) = lab.against(packet, recorded);
    let page = recorded.page(&answer);
    assert_eq!(code, 1, "{page}");
    assert_eq!(answer["against"]["agrees"], false, "{page}");
    let comparison = request(recorded, &answer);
    let difference = &comparison["difference"];
    assert_eq!(difference["what"], parts.what, "{page}");
    let kernel = difference["kernel"]["text"].as_str().unwrap_or_default();
    assert!(kernel.contains(parts.kernel), "{page}");
    assert_eq!(difference["kernel"]["absent_from_capture"], parts.absent, "{page}");
    let walk = difference["walk"]["evidence"][0]["text"].as_str().unwrap_or_default();
    assert!(walk.contains(parts.walk), "{page}");
    // What is quoted stands there.
    let line = difference["kernel"]["line"].as_u64().expect("a line");
    let written = recorded.text.lines().nth(usize::try_from(line).expect("small") - 1);
    assert_eq!(written.map(str::trim), Some(kernel), "{page}");
}

#[test]
fn nftables() {
    if !netns::alone("nftables", TOOLS) {
        return;
    }
    let lab = Lab::new();
    netns::must("nft -f -", rulesets::NFT);
    lab.must_in("c", "nft -f -", rulesets::NFT_POD);
    lab.capture();
    let packet = Packet::tcp("10.96.0.1", 80);
    let mut steps = 0;
    // Which of two servers it gets is drawn: both branches come up.
    for _ in 0..4 {
        steps += agrees(&lab, &packet);
    }
    steps += agrees(&lab, &Packet::udp("10.96.0.1", 53));
    steps += agrees(&lab, &Packet::udp("fd00:96::1", 53));
    steps += by_node(&lab);
    netns::say(&format!("KNET-RAN kernel_against::nftables {steps} steps agree"));
    assert!(steps > 60, "{steps}");
    let parts = Parts {
        what: "rule",
        kernel: "rule tcp dport 8080 counter packets 0 bytes 0 drop # handle",
        walk: "meta mark set 0x00000010",
        absent: true,
    };
    differs(
        &lab,
        &packet,
        "lab/host",
        "nft insert rule inet filt app tcp dport 8080 counter drop",
        &parts,
    );
    netns::must("nft flush chain inet filt app", "");
    let parts = Parts {
        what: "rule",
        kernel: "inet filt front policy drop",
        walk: "tcp dport { 8080, 9090 } meta mark set 0x00000010",
        absent: false,
    };
    differs(&lab, &packet, "lab/host", "true", &parts);
    // The map holds another server: the same rule, and then another packet.
    netns::must("nft flush ruleset; nft -f -", rulesets::NFT);
    lab.capture();
    let packet = Packet::udp("10.96.0.1", 53);
    assert!(agrees(&lab, &packet) > 0);
    let parts = Parts {
        what: "packet",
        kernel: "inet filt front rule jump app",
        walk: "jump app",
        absent: false,
    };
    let change = "nft 'delete element ip kube pool { 10.1.0.2 }'; \
                  nft 'add element ip kube pool { 10.1.0.2 : 10.2.0.4 }'";
    differs(&lab, &packet, "lab/host", change, &parts);
}

#[test]
fn iptables_nft() {
    if !netns::alone("iptables_nft", TOOLS) {
        return;
    }
    let lab = Lab::new();
    netns::must("iptables-nft-restore", rulesets::IPTABLES);
    netns::must("ip6tables-nft-restore", rulesets::IP6TABLES);
    lab.capture();
    let packet = Packet::tcp("10.96.0.1", 80);
    let mut steps = 0;
    for _ in 0..4 {
        steps += agrees(&lab, &packet);
    }
    steps += agrees(&lab, &Packet::udp("10.2.0.2", 5353));
    steps += agrees(&lab, &Packet::udp("fd00:2::2", 5353));
    steps += by_node(&lab);
    // Native rules beside them: then one monitor of nftables shows both.
    netns::must("nft -f -", rulesets::NFT_BESIDE);
    lab.capture();
    steps += agrees(&lab, &packet);
    netns::must("nft delete table inet beside", "");
    netns::say(&format!("KNET-RAN kernel_against::iptables_nft {steps} steps agree"));
    assert!(steps > 60, "{steps}");
    lab.capture();
    let parts = Parts {
        what: "rule",
        kernel: "-A APP -p tcp -j DROP",
        walk: "-A APP -m mark --mark 0x10/0x10 -j RETURN",
        absent: true,
    };
    differs(&lab, &packet, "lab/host", "iptables-nft -I APP -p tcp -j DROP", &parts);
    let parts = Parts {
        what: "rule",
        kernel: "filter:FORWARD:rule:",
        walk: "-A FORWARD -j EMPTY",
        absent: false,
    };
    // The rule is in the capture, behind the one that is gone.
    let change = "iptables-nft -D APP 1; iptables-nft -D FORWARD -j EMPTY";
    differs(&lab, &packet, "lab/host", change, &parts);
}

#[test]
fn iptables_legacy() {
    // Before the test goes into a namespace of its own, which has no such switch.
    let log = lab::KernelLog::open();
    if log.is_none() && !netns::is_child("iptables_legacy") {
        netns::say(
            "KNET-SKIP kernel_against::iptables_legacy: other namespaces than the first may not write to the kernel \
             log, or it cannot be read",
        );
        return;
    }
    if !netns::alone("iptables_legacy", TOOLS) {
        return;
    }
    let lab = Lab::new();
    netns::must("iptables-legacy-restore", rulesets::IPTABLES);
    lab.capture();
    let packet = Packet::tcp("10.96.0.1", 80);
    let mut steps = 0;
    for _ in 0..3 {
        steps += agrees(&lab, &packet);
    }
    steps += by_node(&lab);
    netns::say(&format!("KNET-RAN kernel_against::iptables_legacy {steps} steps agree"));
    assert!(steps > 20, "{steps}");
    let parts = Parts {
        what: "rule",
        kernel: "TRACE: filter:APP:rule:1 ",
        walk: "-A APP -m mark --mark 0x10/0x10 -j RETURN",
        absent: false,
    };
    differs(
        &lab,
        &packet,
        "lab/host",
        "iptables-legacy -R APP 1 -p tcp -j DROP",
        &parts,
    );
}
