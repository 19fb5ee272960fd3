//! 5,000 nodes and 100,000 pods: disk is used, memory is not. The tests are small; `KNET_NODES` and `KNET_PODS` ask
//! for the real thing.

use std::io::Write as _;
use std::process::Child;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{cluster, knet, open};

fn of(key: &str, default: usize) -> usize {
    std::env::var(key).ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

/// Until it ends: most memory it ever had, in kB.
fn most(child: &mut Child) -> u64 {
    let status = format!("/proc/{}/status", child.id());
    let mut most = 0;
    while child.try_wait().expect("it is ours").is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let now = line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok());
        most = most.max(now.unwrap_or(0));
        std::thread::sleep(Duration::from_millis(20));
    }
    most
}

#[test]
fn objects_stream_to_disk() {
    let (nodes, pods) = (of("KNET_NODES", 500), of("KNET_PODS", 10_000));
    let api = cluster(nodes, pods);
    let folder = tempfile::tempdir().expect("a directory");
    let to = folder.path().join("s.tar.gz").display().to_string();
    let begun = Instant::now();
    let mut child = knet(&api, folder.path(), &["collect", "-f", &to, "--agent", "none"])
        .spawn()
        .expect("it runs");
    let most = most(&mut child);
    let out = child.wait_with_output().expect("it ended");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    println!(
        "{nodes} nodes, {pods} pods, objects only: {:?}, {} MB at most",
        begun.elapsed(),
        most / 1024
    );
    // One page of 500 objects, the program, and a line for each pod.
    assert!(most < 100_000 + pods as u64 * 2, "{most} kB");
}

/// Tables of one namespace of a pod, of the usual sizes; a node's own are more.
const TABLES: [(&str, usize); 25] = [
    ("link.json", 1400),
    ("addr.json", 900),
    ("route.json", 400),
    ("route6.json", 600),
    ("rule.json", 300),
    ("rule6.json", 200),
    ("nexthop.json", 3),
    ("neigh.json", 300),
    ("fdb.json", 3),
    ("bridge-link.json", 3),
    ("bridge-vlan.json", 3),
    ("iptables-nft.save", 0),
    ("ip6tables-nft.save", 0),
    ("iptables-legacy.save", 0),
    ("ip6tables-legacy.save", 0),
    ("nft.json", 120),
    ("nft.txt", 0),
    ("ipset.save", 0),
    ("ipvs.save", 0),
    ("conntrack.txt", 500),
    ("sockets.txt", 300),
    ("sysctl.txt", 30_000),
    ("xfrm.txt", 0),
    ("wg.txt", 0),
    ("tc.json", 3),
];

/// What a node with 20 pods answers: 520 files, most of them like those of any other.
fn answer(node: &str) -> Vec<u8> {
    let mut artifacts = Vec::new();
    let mut files = Vec::new();
    let mut spaces = Vec::new();
    for space in 0..=20 {
        let folder = match space {
            0 => format!("nodes/{node}/host"),
            i => format!("nodes/{node}/netns/pod-{i}"),
        };
        if space > 0 {
            let uid = format!("u{space}");
            spaces.push(
                json!({"id": format!("pod-{space}"), "inode": space, "path": "/proc/1/ns/net",
                "pod": {"namespace": "", "name": "", "uid": uid}, "peers": [], "nsid": space}),
            );
        }
        for (name, bytes) in TABLES {
            let bytes = if space == 0 { bytes * 8 } else { bytes };
            let content = if name == "link.json" {
                format!(
                    "[{{\"ifindex\":1,\"ifname\":\"lo\",\"flags\":[\"LOOPBACK\"],\"mtu\":65536,\"x\":\"{}\"}}]",
                    "y".repeat(bytes)
                )
            } else if name.ends_with(".json") {
                "[]\n".to_owned()
            } else if name == "sysctl.txt" {
                format!("net.ipv4.conf.eth0.tag = {node}\n").repeat(bytes / 40)
            } else {
                String::new()
            };
            let path = format!("{folder}/{name}");
            artifacts.push(
                json!({"path": path, "via": "netlink", "argv": [], "tool": "", "exit": null,
                "at": "2026-01-01T00:00:00Z", "bytes": content.len(), "sha256": "", "consistent": true, "notes": []}),
            );
            files.push((path, content));
        }
    }
    files.push((format!("nodes/{node}/netns.json"), json!(spaces).to_string()));
    let manifest = json!({"schema": "knet.snapshot/v1", "origin": "native", "nodes": [{"name": node, "status": "complete"}],
        "artifacts": artifacts, "absent": []});
    files.insert(0, ("manifest.json".to_owned(), manifest.to_string()));
    let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        tar.append_data(&mut header, path, content.as_bytes())
            .expect("it is written");
    }
    let mut gzip = tar.into_inner().expect("it is ended");
    gzip.flush().expect("it is written");
    gzip.finish().expect("it is ended")
}

#[test]
fn nodes_stream_to_disk() {
    let (nodes, pods) = (of("KNET_NODES", 40), of("KNET_PODS", 800));
    let api = cluster(nodes, pods);
    api.state().canned = Some(answer);
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("s.tar");
    let to = file.display().to_string();
    let begun = Instant::now();
    let asked = ["collect", "-q", "-f", &to, "--agent", "image", "--parallel", "16"];
    let mut child = knet(&api, folder.path(), &asked).spawn().expect("it runs");
    let most = most(&mut child);
    let out = child.wait_with_output().expect("it ended");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let collected = begun.elapsed();
    assert!(api.state().agents.is_empty());
    let begun = Instant::now();
    let snapshot = open(&file);
    assert_eq!(
        snapshot.nodes().filter(|n| n.host.links().get().is_some()).count(),
        nodes
    );
    assert_eq!(snapshot.paths().count(), nodes * 526 + 12);
    println!(
        "{nodes} nodes with 20 pods each: {} files, {} MB, collected in {collected:?} with {} MB at most; read in {:?}",
        nodes * 526 + 12,
        file.metadata().expect("it is there").len() >> 20,
        most / 1024,
        begun.elapsed()
    );
    // A page, the program, a line for each pod, and one node's answer at a time.
    assert!(most < 120_000 + pods as u64 * 2, "{most} kB");
}
