//! The model's answer about a set against the kernel's: `ipset test` for every type the kernel has, and
//! packets against `-m set` where the packet path differs from it.

#[path = "../support/netns.rs"]
mod netns;
mod packets;
mod random;

use std::sync::Arc;
use std::time::Instant;

use knet_dataplane::table::ipset::{Doubt, IpSets};
use knet_dataplane::tri::Tri;
use knet_snapshot::Table;
use knet_snapshot::ipset::IpSet;

use netns::{Rng, alone, must, say, shell};
use random::{Set, TYPES};

/// Sets a type and family.
const ROUNDS: usize = 6;
/// `ipset test`s a set.
const TESTS: usize = 120;

#[test]
fn kernel_ipset() {
    if !alone(
        "kernel_ipset",
        &["ipset", "iptables-restore", "ip6tables-restore", "nsenter"],
    ) {
        return;
    }
    let start = Instant::now();
    let mut rng = Rng::seeded("kernel_ipset");
    let mut sets = Vec::new();
    let mut lacking = Vec::new();
    for kind in TYPES {
        for v6 in [false, true] {
            if v6 && (kind.starts_with("bitmap:") || *kind == "hash:mac") {
                continue;
            }
            for round in 0..ROUNDS {
                let set = random::set(
                    &mut rng,
                    format!("{}-{v6}-{round}", kind.replace([':', ','], "_")),
                    kind,
                    v6,
                );
                let made = shell("ipset -exist restore", &set.lines);
                let why = String::from_utf8_lossy(&made.stderr).into_owned();
                if made.status.success() {
                    sets.push(set);
                } else if why.contains("type not supported") || why.contains("unknown settype") {
                    lacking.push(*kind);
                    break;
                } else {
                    // `bitmask` is younger than some kernels in use.
                    assert!(why.contains("installed revision"), "{why}\n{}", set.lines);
                }
            }
        }
    }
    assert!(
        sets.len() > 3 * ROUNDS,
        "a kernel with IP sets has more types than that"
    );
    lacking.dedup();
    say(&format!("kernel_ipset: this kernel has no {lacking:?}"));

    let table = capture();
    assert!(table.problems.is_empty(), "{:?}", table.problems);
    let model = IpSets::from_table(&table);
    let asked = by_hand(&mut rng, &sets, &model);
    say(&format!(
        "kernel_ipset: {asked} ipset tests after {:?}",
        start.elapsed()
    ));
    let sent = packets::against_rules(&mut rng, &sets);
    say(&format!("kernel_ipset: {sent} packets after {:?}", start.elapsed()));
    say(&format!("KNET-RAN kernel_ipset {}", asked + sent));
}

/// What `ipset save` prints now, through the parser.
pub fn capture() -> Table<IpSet> {
    knet_snapshot::ipset::parse(Arc::from("ipset.save"), must("ipset save", "").as_bytes())
}

/// Compares one answer. Unknown is allowed where the set's hash seed decides.
pub fn compare(matched: Tri, doubt: Option<Doubt>, kernel: bool, what: impl Fn() -> String) {
    match matched {
        Tri::Unknown => assert_eq!(doubt, Some(Doubt::HashSeed), "{}", what()),
        known => assert_eq!(known, Tri::from(kernel), "{}", what()),
    }
}

/// `ipset test`, many in one go.
fn by_hand(rng: &mut Rng, sets: &[Set], model: &IpSets<'_>) -> usize {
    let mut script = String::new();
    let mut probes = Vec::new();
    for set in sets {
        for _ in 0..TESTS {
            let probe = random::probe(rng, set);
            script.push_str(&format!("test {} {}\n", set.name, probe.entry(set)));
            probes.push((set, probe));
        }
    }
    script.push_str("quit\n");
    let output = shell("ipset -", &script);
    let said = String::from_utf8_lossy(&output.stderr);
    let verdicts: Vec<&str> = said.lines().collect();
    let mut yes = 0;
    assert_eq!(
        verdicts.len(),
        probes.len(),
        "one line a test: {:?}",
        verdicts.iter().find(|v| !v.contains(" in set "))
    );
    for ((set, probe), verdict) in probes.iter().zip(&verdicts) {
        let kernel = match (verdict.contains(" is in set "), verdict.contains(" is NOT in set ")) {
            (true, false) => true,
            (false, true) => false,
            _ => panic!("{verdict}"),
        };
        yes += usize::from(kernel);
        let answer = model.test(&set.name, &probe.query());
        compare(answer.matched, answer.doubt, kernel, || {
            let saved = must(&format!("ipset save {}", set.name), "");
            format!(
                "{verdict}\nasked: {}\nmodel: {:?}\n{saved}",
                probe.entry(set),
                answer.evidence()
            )
        });
    }
    assert!(yes * 10 > probes.len(), "too few hits to mean anything: {yes}");
    probes.len()
}
