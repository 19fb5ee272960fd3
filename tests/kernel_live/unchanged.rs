//! A capture changes nothing: not in a namespace nobody ever used, and not in one with rules.

use std::fs;

use assert_cmd::cargo::cargo_bin_cmd;

use crate::netns::{alone, must, say, shell};

/// What a module, a table or a namespace that came into being would show in.
fn state() -> String {
    let mut out = String::new();
    let mut add = |what: &str, text: String| out.push_str(&format!("== {what}\n{text}\n"));
    add("modules", fs::read_to_string("/proc/modules").unwrap_or_default());
    for names in ["ip_tables_names", "ip6_tables_names", "arp_tables_names"] {
        add(
            names,
            fs::read_to_string(format!("/proc/thread-self/net/{names}")).unwrap_or_default(),
        );
    }
    for folder in ["/proc/thread-self/net", "/proc/sys/net/netfilter", "/sys/module"] {
        let mut names: Vec<String> = fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| e.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        add(folder, names.join(" "));
    }
    for command in [
        "nft -a list ruleset",
        "ipset list",
        "ip -d link",
        "ip addr",
        "ip rule",
        "ip route show table all",
        "ip neigh",
        "ip netns list-id",
        "bridge fdb",
        "cat /proc/sys/net/ipv4/conf/*/* /proc/sys/net/netfilter/nf_conntrack_max 2>/dev/null",
    ] {
        add(
            command,
            String::from_utf8_lossy(&shell(command, "").stdout).into_owned(),
        );
    }
    out
}

fn capture() {
    let folder = tempfile::tempdir().expect("a directory");
    let to = folder.path().join("s");
    cargo_bin_cmd!("kubectl-knet")
        .args([
            "node-collect",
            "--node",
            "n",
            "--host-only",
            "--host-netns",
            "/proc/self/ns/net",
            "-f",
        ])
        .arg(&to)
        .assert()
        .success();
    assert!(to.join("nodes/n/host/link.json").is_file());
}

#[test]
fn live_unchanged() {
    if !alone(
        "unchanged::live_unchanged",
        &["nft", "iptables-nft-save", "iptables-legacy-save", "ipset", "conntrack"],
    ) {
        return;
    }
    // The namespace is as it was born, but for what looking with the tools below makes: so that comes first.
    let _ = state();
    let before = state();
    capture();
    assert_eq!(before, state(), "a namespace nobody used");
    must(
        "ip link set lo up && ipset create s hash:ip && ipset add s 10.0.0.1",
        "",
    );
    must(
        "nft add table ip t && nft add chain ip t c '{ type filter hook input priority 0; }'",
        "",
    );
    let legacy = shell("iptables-legacy -A INPUT -s 10.9.9.9 -j DROP", "")
        .status
        .success();
    must("iptables-nft -A INPUT -s 10.9.9.8 -j DROP", "");
    let before = state();
    assert!(before.contains("filter"), "{before}");
    capture();
    assert_eq!(before, state(), "a namespace with rules");
    say(&format!(
        "KNET-RAN live_unchanged 2 namespaces (legacy iptables: {legacy})"
    ));
}
