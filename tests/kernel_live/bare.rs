//! A node with no tools at all: what netlink and procfs say is there, and of the rest it is said why not.

use std::process::Command;

use knet_snapshot::Snapshot;
use knet_snapshot::artifact::name;
use knet_snapshot::manifest::AbsentReason;
use kubectl_knet::archive::Limits;
use kubectl_knet::commands::load;

use crate::netns::{alone, must, say, shell};

#[test]
fn live_bare() {
    if !alone("bare::live_bare", &["chroot", "mount"]) {
        return;
    }
    // A root that holds nothing but what the kernel makes.
    let root = tempfile::tempdir().expect("a directory");
    let at = root.path().display();
    let mounted = shell(
        &format!("mkdir {at}/proc {at}/sys {at}/tmp && unshare -m mount --rbind /proc {at}/proc"),
        "",
    );
    if !mounted.status.success() {
        say("KNET-SKIP live_bare: may not mount");
        return;
    }
    must(
        "ip link set lo up && ip link add br0 type bridge && ip link add v0 type veth peer name v1 && \
         ip link set v0 master br0 && ip addr add 10.0.0.1/24 dev br0 && ip link set br0 up && ip link set v0 up && \
         ip route add 10.9.0.0/16 via 10.0.0.2 && ip rule add pref 77 from 10.0.0.0/8 lookup main",
        "",
    );
    let to = root.path().join("tmp/s");
    let program = env!("CARGO_BIN_EXE_kubectl-knet");
    let line = format!(
        "mount --rbind /proc {at}/proc && mount --rbind /sys {at}/sys && exec {program} node-collect --node n \
         --host-root {at} --host-only --host-netns /proc/self/ns/net -f {}",
        to.display()
    );
    let out = Command::new("unshare")
        .args(["-m", "sh", "-c", &line])
        .output()
        .expect("it was there a moment ago");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "{said}");
    let snapshot: Snapshot = load(&to, &Limits::default()).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(snapshot.problems, []);
    let manifest = snapshot.manifest.as_ref().expect("it has one");
    assert_eq!(manifest.nodes[0].status, "partial");
    // What this program reads itself.
    let own = [
        name::LINK,
        name::ADDR,
        name::ROUTE,
        name::ROUTE6,
        name::RULE,
        name::RULE6,
        name::NEXTHOP,
        name::NEIGH,
        name::FDB,
        name::BRIDGE_LINK,
        name::BRIDGE_VLAN,
        name::TC,
        name::SYSCTL,
        name::SOCKETS,
        name::WG,
    ];
    for artifact in own {
        let path = format!("nodes/n/host/{artifact}");
        let entry = snapshot.artifact(&path).unwrap_or_else(|| panic!("{artifact}: {said}"));
        assert!(
            matches!(entry.via.as_str(), "netlink" | "proc"),
            "{artifact} by {}",
            entry.via
        );
    }
    // What it cannot: each with a reason that is not "empty", or with the kernel's word that there is none.
    let mut missing = 0;
    for artifact in name::ALL.iter().filter(|artifact| !own.contains(artifact)) {
        let path = format!("nodes/n/host/{artifact}");
        let absent = manifest.absent.iter().find(|absent| absent.path == path);
        match absent {
            Some(absent) if absent.reason == AbsentReason::ToolMissing => {
                missing += 1;
                assert!(
                    said.contains(&format!("could not get {artifact}")),
                    "{artifact}: {said}"
                );
            }
            Some(absent) => assert!(absent.reason.means_empty(), "{artifact}: {absent:?}"),
            // Nothing is there, or the kernel has such state and says it.
            None => {
                let entry = snapshot.artifact(&path).unwrap_or_else(|| panic!("{artifact}: {said}"));
                assert!(
                    matches!(entry.via.as_str(), "netlink" | "proc"),
                    "{artifact} by {}",
                    entry.via
                );
            }
        }
    }
    assert!(missing > 0, "{said}");
    // And an answer says so: a route is known, and whether a rule drops the packet is not.
    let trace = ["trace", "node/n", "10.9.0.9:80", "--snapshot"];
    let out = Command::new(program).args(trace).arg(&to).output().expect("it runs");
    let answer = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(answer.contains("10.9.0.0/16 via 10.0.0.2 dev br0"), "{answer}");
    assert!(
        answer.contains("iptables-nft.save is asked here and was not captured"),
        "{answer}"
    );
    assert_ne!(out.status.code(), Some(0), "{answer}");
    say(&format!(
        "KNET-RAN live_bare {} tables without a tool, {missing} said to be missing",
        own.len()
    ));
}
