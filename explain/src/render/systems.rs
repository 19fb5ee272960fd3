//! Network systems in words.

use crate::explanation::Explanation;
use crate::systems::{Sign, Standing, System};

use super::words;

/// A system: as a word of JSON, and as people call it.
#[must_use]
pub const fn name(system: System) -> (&'static str, &'static str) {
    words::system(system)
}

/// Whose programs take the packets of an answer's nodes away from the kernel's tables, and what is known all the
/// same; one sentence for each.
#[must_use]
pub fn taken_over(explanation: &Explanation) -> Vec<String> {
    let taking = explanation.outside.iter().filter(|seen| seen.takes_over());
    taking
        .map(|seen| {
            let signs: Vec<Sign> = seen.signs.iter().map(|(sign, _)| sign.clone()).collect();
            boundary(&seen.node, seen.system, &signs, seen.at_work)
        })
        .collect()
}

/// What told that a system is there.
#[must_use]
pub fn sign(sign: &Sign) -> String {
    match sign {
        Sign::Device(dev) => format!("device {dev}"),
        Sign::Program { name, dev } => format!("program {name} at {dev}"),
        Sign::Chain(chain) => format!("chain {chain}"),
        Sign::Table(table) => format!("table {table}"),
        Sign::VirtualServices(count) => format!("{count} virtual services"),
        Sign::File(path) => format!("file {path}"),
        Sign::Runtime(runtime) => format!("runtime {runtime}"),
        Sign::Pod(pod) => format!("pod {pod}"),
        Sign::NoKubeProxy => "no rules of kube-proxy in any mode".to_owned(),
    }
}

/// What is outside the walk because of a system, and what is still known.
#[must_use]
pub fn boundary(node: &str, system: System, signs: &[Sign], at_work: bool) -> String {
    let (_, name) = words::system(system);
    let signs: Vec<String> = signs.iter().map(sign).collect();
    let signs = signs.join(", ");
    match (system.standing(), at_work) {
        (Standing::Modelled, _) => format!("{name} on {node} ({signs})"),
        (_, false) => format!("{name} has left something on {node} ({signs}), and nothing tells that it is at work"),
        (Standing::Programs, true) => format!(
            "{name} on {node} ({signs}): its eBPF programs translate Services, enforce policies and redirect packets \
             past routes and iptables, and its maps are in no artifact; still known are devices, addresses, routes, \
             rules and sockets as captured, and what the objects intend"
        ),
        (Standing::Switch, true) => format!(
            "{name} on {node} ({signs}): the flows of Open vSwitch are in no artifact, and the walk ends at its \
             devices; still known is everything up to them"
        ),
    }
}
