//! Rules as a kernel would run them. The outcomes with a remark on the kernel were seen on one.

use std::sync::Arc;

use knet_snapshot::Snapshot;
use knet_snapshot::id::{Family, IfIndex, Mac};
use knet_snapshot::store::Blob;

use super::run_base;
use crate::choice::{Explored, Fork, explore};
use crate::packet::{Eth, L4, Packet, proto, tcp_flag};
use crate::skb::{Ct, Skb};
use crate::stage::conntrack::Conntrack;
use crate::stage::netfilter::{HookCx, Verdict};
use crate::table::nft::NfFamily;
use crate::trace::{Detail, Hook, Reject, RuleVerdict, Sink, Step, What};
use crate::world::World;

mod kube;
mod mutate;
mod rules;

const LINKS: &str = r#"[
 {"ifindex":1,"ifname":"lo","flags":["LOOPBACK","UP","LOWER_UP"],"mtu":65536,"operstate":"UNKNOWN","group":"default"},
 {"ifindex":2,"ifname":"eth0","flags":["BROADCAST","UP","LOWER_UP"],"mtu":1500,"operstate":"UP","address":"02:00:00:00:00:01","group":"default"},
 {"ifindex":3,"ifname":"cni0","flags":["BROADCAST","UP","LOWER_UP"],"mtu":1500,"operstate":"UP","address":"02:00:00:00:00:02","group":"default","linkinfo":{"info_kind":"bridge"}}]"#;
const ADDRS: &str = r#"[
 {"ifindex":1,"ifname":"lo","addr_info":[{"family":"inet","local":"127.0.0.1","prefixlen":8,"scope":"host"}]},
 {"ifindex":2,"ifname":"eth0","addr_info":[{"family":"inet","local":"10.0.0.1","prefixlen":24,"scope":"global"}]},
 {"ifindex":3,"ifname":"cni0","addr_info":[{"family":"inet","local":"10.244.0.1","prefixlen":24,"scope":"global"}]}]"#;
const ROUTES: &str = r#"[
 {"type":"unicast","dst":"default","gateway":"10.0.0.254","dev":"eth0","table":"main"},
 {"type":"unicast","dst":"10.0.0.0/24","dev":"eth0","table":"main","scope":"link"},
 {"type":"unicast","dst":"10.244.0.0/24","dev":"cni0","table":"main","scope":"link"},
 {"type":"local","dst":"10.0.0.1","dev":"eth0","table":"local","scope":"host"},
 {"type":"local","dst":"10.244.0.1","dev":"cni0","table":"local","scope":"host"},
 {"type":"local","dst":"127.0.0.0/8","dev":"lo","table":"local","scope":"host"}]"#;
const RULES: &str = r#"[{"priority":0,"src":"all","table":"local"},{"priority":32766,"src":"all","table":"main"},
 {"priority":32767,"src":"all","table":"default"}]"#;

/// What one run through every base chain at a hook gave.
pub(super) struct Run {
    pub verdict: Verdict,
    pub skb: Skb,
    pub steps: Vec<Step>,
    pub ct: Conntrack,
}

/// Files of the host's namespace.
pub(super) fn snapshot(files: &[(&str, &str)]) -> Snapshot {
    let base = [
        ("link.json", LINKS),
        ("addr.json", ADDRS),
        ("route.json", ROUTES),
        ("rule.json", RULES),
    ];
    let all = base.iter().chain(files).map(|(name, text)| {
        let blob: Blob = Arc::new(text.as_bytes().to_vec());
        (format!("nodes/n/host/{name}"), blob)
    });
    Snapshot::from_files(all.collect()).expect("it is a snapshot")
}

/// Runs the packet through the base chains at a hook, in every way it can go.
pub(super) fn walk(snapshot: &Snapshot, hook: Hook, skb: &Skb, tracked: bool) -> Explored<Run> {
    let world = World::new(snapshot);
    let ns = &world.spaces()[0];
    explore(512, |oracle| {
        let mut skb = skb.clone();
        let mut ct = Conntrack::default();
        let mut sink = Sink {
            detail: Detail::Full,
            ..Sink::default()
        };
        if tracked {
            ct.track(ns, &mut skb);
        }
        let mut verdict = Verdict::Accept;
        let family = skb.packet.family();
        for base in ns.nft().base_chains(family, hook) {
            let mut cx = HookCx {
                ns,
                hook,
                skb: &mut skb,
                ct: &mut ct,
                oracle: &mut *oracle,
                sink: &mut sink,
            };
            verdict = run_base(base, &mut cx);
            if verdict != Verdict::Accept {
                break;
            }
        }
        Run {
            verdict,
            skb,
            steps: sink.steps,
            ct,
        }
    })
}

/// A ruleset of one table and one base chain at a hook, with rules and sets as JSON.
pub(super) fn ruleset(family: &str, hook: &str, rules: &[&str], others: &[&str]) -> String {
    let kind = "filter";
    let mut all = vec![
        format!(r#"{{"table":{{"family":"{family}","name":"t","handle":1}}}}"#),
        format!(
            r#"{{"chain":{{"family":"{family}","table":"t","name":"base","handle":1,"type":"{kind}","hook":"{hook}","prio":0,"policy":"accept"}}}}"#
        ),
        format!(r#"{{"chain":{{"family":"{family}","table":"t","name":"sub","handle":2}}}}"#),
    ];
    all.extend(others.iter().map(|o| (*o).replace("FAM", family)));
    for (i, expr) in rules.iter().enumerate() {
        let (chain, expr) = expr.strip_prefix("sub:").map_or(("base", *expr), |e| ("sub", e));
        all.push(format!(
            r#"{{"rule":{{"family":"{family}","table":"t","chain":"{chain}","handle":{},"expr":[{expr}]}}}}"#,
            i + 10
        ));
    }
    format!(r#"{{"nftables":[{}]}}"#, all.join(","))
}

pub(super) fn packet(src: &str, dst: &str, proto: u8, l4: L4) -> Skb {
    let packet = Packet {
        src: src.parse().expect("address"),
        dst: dst.parse().expect("address"),
        proto,
        l4,
        ttl: 64,
        tos: 0,
        len: 60,
        df: true,
        inner: None,
    };
    Skb {
        eth: Some(Eth {
            src: Some(Mac([2, 0, 0, 0, 0, 9])),
            dst: Some(Mac([2, 0, 0, 0, 0, 1])),
            vlan: None,
        }),
        iif: Some(IfIndex(2)),
        oif: Some(IfIndex(3)),
        ..Skb::new(packet)
    }
}

pub(super) fn tcp(src: &str, dst: &str, dport: u16) -> Skb {
    let l4 = L4::Tcp {
        sport: 40000.into(),
        dport: dport.into(),
        flags: tcp_flag::SYN,
    };
    packet(src, dst, proto::TCP, l4)
}

pub(super) fn udp(src: &str, dst: &str, dport: u16) -> Skb {
    packet(
        src,
        dst,
        proto::UDP,
        L4::Ports {
            sport: 40000.into(),
            dport: dport.into(),
        },
    )
}

/// The verdict of a chain whose rules come from `rules`, when there is only one way to go.
pub(super) fn verdict(family: &str, rules: &[&str], others: &[&str], skb: &Skb) -> Verdict {
    let snapshot = snapshot(&[("nft.json", &ruleset(family, "forward", rules, others))]);
    let explored = walk(&snapshot, Hook::Forward, skb, true);
    assert_eq!(
        explored.leaves.len(),
        1,
        "{:?}",
        explored.leaves.iter().map(|l| &l.path).collect::<Vec<_>>()
    );
    explored.leaves.into_iter().next().expect("one leaf").value.verdict
}

/// Whether the one rule `expr` (without its verdict) matches.
pub(super) fn hits(family: &str, expr: &str, skb: &Skb) -> bool {
    verdict(family, &[&format!(r#"{expr},{{"drop":null}}"#)], &[], skb) == Verdict::Drop { policy: false }
}
