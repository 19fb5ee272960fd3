//! From a ruleset that makes a difference to the smallest one that still does, with both traces.

use std::collections::BTreeMap;
use std::fmt::Write;

use knet_dataplane::trace::Detail;
use knet_dataplane::walk::Limits;
use knet_dataplane::world::World;
use knet_snapshot::artifact::name;

use super::cases;
use super::environment::Environment;
use super::exchange::{self, Step, Verdict};
use super::flow::Flow;
use super::lab::{self, Lab, snapshot};
use super::ours;
use super::report;
use super::rules::{Back, Loaded, Ruleset};
use super::run::alone;

/// Does the conversation still differ under these rules?
fn differs(lab: &mut Lab, loaded: &mut Loaded, rules: &Ruleset, flow: &Flow) -> Option<Step> {
    loaded.replace(rules).ok()?;
    let files = lab.files(&rules.artifacts());
    alone(lab, &files, flow)
}

/// Everything that can be taken out of a ruleset in one go, largest pieces first.
fn smaller(rules: &Ruleset) -> Vec<Ruleset> {
    let mut out = Vec::new();
    for p in 0..rules.parts.len() {
        let mut less = rules.clone();
        less.parts.remove(p);
        out.push(less);
        for t in 0..rules.parts[p].tables.len() {
            let mut less = rules.clone();
            less.parts[p].tables.remove(t);
            out.push(less);
        }
        for l in (0..rules.parts[p].lines.len()).rev() {
            let mut less = rules.clone();
            less.parts[p].lines.remove(l);
            out.push(less);
        }
    }
    for p in 0..rules.parts.len() {
        for t in 0..rules.parts[p].tables.len() {
            let table = &rules.parts[p].tables[t];
            for c in 0..table.chains.len() {
                let chain = &table.chains[c];
                if !chain.rules.is_empty() {
                    let mut less = rules.clone();
                    less.parts[p].tables[t].chains[c].rules.clear();
                    out.push(less);
                }
                let mut less = rules.clone();
                less.parts[p].tables[t].chains.remove(c);
                out.push(less);
                if chain.head == "DROP" {
                    let mut less = rules.clone();
                    less.parts[p].tables[t].chains[c].head = "ACCEPT".to_owned();
                    out.push(less);
                }
                for r in 0..chain.rules.len() {
                    let mut less = rules.clone();
                    less.parts[p].tables[t].chains[c].rules.remove(r);
                    out.push(less);
                    for m in 0..chain.rules[r].matches.len() {
                        let mut less = rules.clone();
                        less.parts[p].tables[t].chains[c].rules[r].matches.remove(m);
                        out.push(less);
                    }
                }
            }
            for o in 0..table.objects.len() {
                let mut less = rules.clone();
                less.parts[p].tables[t].objects.remove(o);
                out.push(less);
            }
        }
    }
    out
}

/// What differed, and where.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    pub rules: &'a Ruleset,
    pub env: &'a Environment,
    pub flow: &'a Flow,
}

/// The least of an epoch's routes, policy rules and sysctls that the difference needs. The laboratory stays in it.
fn smaller_epoch(lab: &mut Lab, loaded: &mut Loaded, rules: &Ruleset, flow: &Flow, env: &Environment) -> Environment {
    let usual = cases::usual();
    let mut best = env.clone();
    for at in (0..env.ip.len()).rev().filter(|&at| !usual.ip.contains(&env.ip[at])) {
        let mut less = best.clone();
        less.ip.remove(at);
        lab.enter(&less);
        if differs(lab, loaded, rules, flow).is_some() {
            best = less;
        }
    }
    for at in 0..best.sysctl.len() {
        let (key, value) = best.sysctl[at].clone();
        let default = usual.sysctl.iter().rev().find(|(k, _)| *k == key);
        let default = default.map_or("0", |(_, v)| v.as_str()).to_owned();
        if value == default || key.ends_with(".forwarding") {
            continue;
        }
        let mut less = best.clone();
        less.sysctl[at].1 = default;
        lab.enter(&less);
        if differs(lab, loaded, rules, flow).is_some() {
            best = less;
        }
    }
    lab.enter(&best);
    best
}

/// Shrinks and tells. The ruleset is cleared afterwards.
pub fn explain(
    lab: &mut Lab,
    loaded: &mut Loaded,
    found: &Found<'_>,
    (seed, number): (u64, u64),
    most: usize,
) -> String {
    let Found { rules, env, flow } = *found;
    let mut best = rules.clone();
    let mut flow = flow.clone();
    let mut tries = 0;
    if let Some(step) = differs(lab, loaded, &best, &flow) {
        flow.follow.truncate(step.stage);
    }
    // Passes over every piece, until a whole pass takes nothing out.
    let mut taken = true;
    while taken && tries < most {
        taken = false;
        let mut at = 0;
        while let Some(less) = smaller(&best).into_iter().nth(at) {
            tries += 1;
            if tries >= most {
                break;
            }
            if differs(lab, loaded, &less, &flow).is_some() {
                best = less;
                taken = true;
            } else {
                at += 1;
            }
        }
    }
    // A slow machine is not asked that often.
    let env = if most < 100 {
        env.clone()
    } else {
        smaller_epoch(lab, loaded, &best, &flow, env)
    };
    let mut out = format!(
        "DIFFERENCE seed {seed} ruleset {number} ({} rules left of {})\n",
        best.rules(),
        rules.rules()
    );
    let _ = writeln!(out, "{}", best.text());
    let Some(step) = differs(lab, loaded, &best, &flow) else {
        let _ = writeln!(out, "  it does not differ any more");
        return out;
    };
    let _ = writeln!(
        out,
        "  conversation: {:?} {} then {:?}",
        flow.entry,
        report::packet(&flow.packet),
        flow.follow
    );
    let _ = writeln!(out, "  packet of stage {}: {:?}", step.stage, step.start);
    let _ = write!(
        out,
        "    kernel (send: {:?}, request only: {}):\n{}",
        step.sees,
        step.request_only,
        report::seen(&step.seen)
    );
    let _ = write!(out, "    ours:\n{}", report::predicted(&step.prediction));
    let mut files = lab.files(&best.artifacts());
    lab.forget();
    lab.listen();
    // Once more from new ports: the packet and the connections before it are of one conversation.
    let again = flow.renewed();
    let (mut start, mut connections) = (None, None);
    exchange::run(lab, &files, std::slice::from_ref(&again), |_, now| {
        if now.stage + 1 == step.stage {
            connections = Some(lab.connections());
        }
        if now.stage == step.stage {
            start = Some(now.start);
        }
    });
    if let Some(connections) = connections {
        let _ = write!(
            out,
            "    connections:\n{}",
            String::from_utf8_lossy((*connections).as_ref())
        );
        files.insert(name::CONNTRACK, connections);
    }
    let snapshot = snapshot(&files);
    let world = World::new(&snapshot);
    match start {
        Some(start) => {
            let (ours, _) = ours::ask(&world, &start, step.stage > 0, Detail::Full, Limits::default());
            let _ = write!(out, "  our steps:\n{}", report::branches(&ours));
        }
        None => out.push_str("  this time the conversation ends before that packet\n"),
    }
    let _ = write!(out, "  the kernel's:\n{}", kernel(lab, loaded, &best, &flow));
    let name = format!("seed {seed} ruleset {number}");
    let _ = write!(
        out,
        "  as a case:\n{}",
        cases::written(&name, &best, &env, &flow, &step)
    );
    loaded.clear();
    out
}

/// What the protocols of this namespace count (`/proc/net/snmp`, `/proc/net/netstat`), and conntrack.
fn counters() -> BTreeMap<String, u64> {
    let mut out = BTreeMap::new();
    for file in ["snmp", "netstat"] {
        let text = std::fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        for pair in lines.chunks_exact(2) {
            let of: Vec<&str> = pair[0].split_whitespace().collect();
            for (name, value) in of.iter().zip(pair[1].split_whitespace()).skip(1) {
                out.insert(format!("{}{name}", of[0]), value.parse().unwrap_or(0));
            }
        }
    }
    let conntrack = std::fs::read_to_string("/proc/thread-self/net/stat/nf_conntrack").unwrap_or_default();
    let mut lines = conntrack.lines();
    let names: Vec<&str> = lines.next().unwrap_or_default().split_whitespace().collect();
    for line in lines {
        for (name, value) in names.iter().zip(line.split_whitespace()) {
            *out.entry(format!("conntrack:{name}")).or_default() += u64::from_str_radix(value, 16).unwrap_or(0);
        }
    }
    out
}

/// What the kernel says it did: rule counters, and its own trace where nf_tables runs the rules.
fn kernel(lab: &mut Lab, loaded: &mut Loaded, rules: &Ruleset, flow: &Flow) -> String {
    let mut out = String::new();
    if loaded.replace(rules).is_err() {
        return out;
    }
    let files = lab.files(&rules.artifacts());
    lab.forget();
    lab.listen();
    let traced = rules
        .parts
        .iter()
        .any(|p| matches!(p.back, Back::XtNft | Back::XtNft6 | Back::Nft));
    let monitor = traced.then(|| {
        lab::must(
            &["nft", "-f", "-"],
            "table inet knet_trace {
               chain pre { type filter hook prerouting priority -400; meta nftrace set 1; }
               chain out { type filter hook output priority -400; meta nftrace set 1; }
             }",
        );
        let child = std::process::Command::new("nft")
            .args(["monitor", "trace"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("nft is there");
        std::thread::sleep(std::time::Duration::from_millis(150));
        child
    });
    let before = counters();
    let flow = &flow.renewed();
    exchange::run(lab, &files, std::slice::from_ref(flow), |_, step| {
        let _ = writeln!(out, "    stage {}: {:?}", step.stage, step.verdict == Verdict::Differs);
    });
    for (name, count) in counters() {
        let was = before.get(&name).copied().unwrap_or(0);
        if count != was {
            let _ = writeln!(out, "    {name} +{}", count.wrapping_sub(was));
        }
    }
    if let Some(mut child) = monitor {
        std::thread::sleep(std::time::Duration::from_millis(150));
        let _ = child.kill();
        let output = child.wait_with_output().expect("it was started");
        for line in String::from_utf8_lossy(&output.stdout)
            .lines()
            .filter(|l| !l.contains("knet_trace"))
        {
            let _ = writeln!(out, "    {line}");
        }
    }
    for (back, tool) in [
        (Back::Legacy, "iptables-legacy-save"),
        (Back::Legacy6, "ip6tables-legacy-save"),
    ] {
        if rules.parts.iter().any(|p| p.back == back) {
            let saved = lab::must(&[tool, "-c"], "");
            for line in String::from_utf8_lossy(&saved).lines() {
                let hit = line.starts_with('*') || (line.starts_with('[') && !line.starts_with("[0:"));
                if hit || (line.starts_with(':') && !line.ends_with("[0:0]")) {
                    let _ = writeln!(out, "    {line}");
                }
            }
        }
    }
    out
}
