//! Rulesets as a save prints them, and what a packet meets in them. Each test is a situation somebody
//! else's simulator got wrong, or a kernel told us about.

mod faults;
mod kernel;

use std::fmt::Write as _;
use std::sync::Arc;

use knet_snapshot::Snapshot;
use knet_snapshot::id::{Family, IfIndex};
use knet_snapshot::store::Blob;

use super::run_base;
use crate::choice::{Explored, Fork, Oracle, explore, ratio};
use crate::packet::{L4, Packet, proto, tcp_flag};
use crate::skb::{Ct, CtState, Dir, Sender, Skb};
use crate::stage::conntrack::Conntrack;
use crate::stage::netfilter::{HookCx, Verdict};
use crate::table::xt::MissingWhat;
use crate::trace::{Detail, Hook, Reject, RuleVerdict, Sink, Step, What};
use crate::world::{Netns, World};

const LINKS: &str = r#"[
 {"ifindex":1,"ifname":"lo","flags":["LOOPBACK","UP","LOWER_UP"],"mtu":65536,"operstate":"UNKNOWN","link_type":"loopback"},
 {"ifindex":2,"ifname":"eth0","flags":["BROADCAST","UP","LOWER_UP"],"mtu":1500,"operstate":"UP","link_type":"ether","address":"02:00:00:00:00:02"},
 {"ifindex":3,"ifname":"cali1234","flags":["BROADCAST","UP","LOWER_UP"],"mtu":1500,"operstate":"UP","link_type":"ether","address":"ee:ee:ee:ee:ee:ee"}]"#;
const ADDRS: &str = r#"[{"ifindex":2,"ifname":"eth0","addr_info":[
 {"family":"inet","local":"192.168.0.7","prefixlen":24,"scope":"global"},
 {"family":"inet","local":"10.0.0.7","prefixlen":24,"scope":"global"}]}]"#;

fn snapshot(files: &[(&str, &str)]) -> Snapshot {
    let mut all = vec![("link.json", LINKS), ("addr.json", ADDRS)];
    all.extend(files);
    let files = all
        .into_iter()
        .map(|(name, text)| {
            (
                format!("nodes/n/host/{name}"),
                Arc::new(text.as_bytes().to_vec()) as Blob,
            )
        })
        .collect();
    Snapshot::from_files(files).expect("the test's own files")
}

/// `*TABLE` with base chains of policy ACCEPT unless the body declares them.
fn save(table: &str, body: &str) -> String {
    let mut out = format!("*{table}\n");
    for chain in ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"] {
        if !body.contains(&format!(":{chain} ")) {
            writeln!(out, ":{chain} ACCEPT [0:0]").expect("writing to a string");
        }
    }
    out + body + "COMMIT\n"
}

fn tcp(src: &str, dst: &str, dport: u16) -> Skb {
    let packet = Packet {
        src: src.parse().expect("an address"),
        dst: dst.parse().expect("an address"),
        proto: proto::TCP,
        l4: L4::Tcp {
            sport: 40000.into(),
            dport: dport.into(),
            flags: tcp_flag::SYN,
        },
        ttl: 64,
        tos: 0,
        len: 60,
        df: true,
        inner: None,
    };
    Skb {
        iif: Some(IfIndex(3)),
        oif: Some(IfIndex(2)),
        ..Skb::new(packet)
    }
}

struct Run {
    verdict: Verdict,
    skb: Skb,
    steps: Vec<Step>,
    ct: Conntrack,
}

impl Run {
    /// The rules that matched.
    fn rules(&self) -> Vec<&str> {
        let matched = |s: &&Step| matches!(s.what, What::Rule { verdict: Some(_), .. });
        self.steps
            .iter()
            .filter(matched)
            .map(|s| &*s.evidence[0].text)
            .collect()
    }
}

/// Runs the one base chain of `table` at a hook for a new connection, in every way it can go.
fn every(ns: &Netns<'_>, table: &str, hook: Hook, skb: &Skb, detail: Detail) -> Explored<Run> {
    explore(1000, |oracle| {
        let mut ct = Conntrack::with_captured(false);
        let mut skb = skb.clone();
        if skb.ct == Ct::None && table != "raw" {
            let _ = ct.track(ns, &mut skb);
        }
        one(ns, table, hook, skb, ct, oracle, detail)
    })
}

fn one(
    ns: &Netns<'_>,
    table: &str,
    hook: Hook,
    mut skb: Skb,
    mut ct: Conntrack,
    oracle: &mut Oracle,
    detail: Detail,
) -> Run {
    let mut sink = Sink {
        detail,
        ..Sink::default()
    };
    let chains = ns.xt().base_chains(skb.packet.family(), hook);
    let chain = *chains
        .iter()
        .find(|c| &*c.table.name == table)
        .expect("the table has the chain");
    let mut cx = HookCx {
        ns,
        hook,
        skb: &mut skb,
        ct: &mut ct,
        oracle,
        sink: &mut sink,
    };
    let verdict = run_base(chain, &mut cx);
    Run {
        verdict,
        skb,
        steps: sink.steps,
        ct,
    }
}

/// The only way a packet goes through one table's FORWARD chain.
fn forward(table: &str, body: &str, skb: &Skb) -> Run {
    at(Hook::Forward, table, body, skb)
}

fn at(hook: Hook, table: &str, body: &str, skb: &Skb) -> Run {
    let snapshot = snapshot(&[("iptables-legacy.save", &save(table, body))]);
    let world = World::new(&snapshot);
    let mut all = every(&world.spaces()[0], table, hook, skb, Detail::Decisions).leaves;
    assert_eq!(all.len(), 1, "nothing in this ruleset is a matter of chance or unknown");
    all.remove(0).value
}

fn unknowns(all: &Explored<Run>) -> usize {
    all.leaves
        .iter()
        .map(|l| l.path.iter().filter(|t| matches!(t.fork, Fork::Unknown(_))).count())
        .max()
        .unwrap_or(0)
}

const POD: (&str, &str) = ("10.244.1.5", "10.244.2.6");

fn pod() -> Skb {
    tcp(POD.0, POD.1, 80)
}
