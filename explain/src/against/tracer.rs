//! The rule that switches tracing on: where the kernel's trace begins because of it, and what of the recording is
//! its own.

use knet_dataplane::trace::Hook;
use knet_snapshot::id::Family;
use knet_snapshot::kernel_trace::{Event, EventKind, Form, TraceVerdict, TracedPacket};

use super::rules::{Known, Rules};

/// The rule that switches tracing on stands first in a chain of table raw.
#[derive(Clone, Debug, Default)]
pub(super) struct Shift(Vec<(Box<str>, u64)>);

/// The place is passed before another.
pub(super) fn earlier(place: (Hook, i32), start: (Hook, i32), output: bool) -> bool {
    match (place.0, start.0) {
        (a, b) if a == b => place.1 < start.1,
        (Hook::Ingress, _) => true,
        // The loopback device brings the packet back in: there it was traced.
        (Hook::Output | Hook::Postrouting, Hook::Prerouting | Hook::Input) => output,
        (Hook::Prerouting, _) => true,
        (Hook::Input | Hook::Forward | Hook::Output, Hook::Postrouting) => true,
        _ => false,
    }
}

/// The rule switches tracing on.
pub(super) fn is_tracer(rule: &str) -> bool {
    rule.contains("nftrace set 1") || rule.ends_with(" -j TRACE")
}

/// The event is of such a rule.
fn of_tracer(event: &Event) -> bool {
    matches!(&event.what, EventKind::Rule { rule: Some(text), .. } if is_tracer(text))
}

/// Where tracing was switched on: what `--verify-commands` uses, or the place of the rule that did it.
pub(super) fn start(packet: &TracedPacket, rules: &Rules<'_, '_>, family: Family) -> Option<(Hook, i32)> {
    let first = packet.events.first()?;
    let incoming = first.header.as_ref().is_none_or(|h| h.iif.is_some());
    let hook = if incoming { Hook::Prerouting } else { Hook::Output };
    if first.form == Form::Log {
        // Only `-t raw … -j TRACE` does it.
        return matches!(&*first.chain, "PREROUTING" | "OUTPUT").then_some((hook, -300));
    }
    let tracer = packet.events.iter().find(|e| of_tracer(e))?;
    match rules.base_of(family, tracer) {
        Some(place) => Some(place),
        None if &*tracer.table == "raw" => Some((hook, -300)),
        None => Some((hook, -350)),
    }
}

/// The events without those of the rule that switched tracing on, unless it was there already when the node
/// was captured: itself, and the base chain it is in when that was made for it.
pub(super) fn without_tracer<'p>(packet: &'p TracedPacket, rules: &Rules<'_, '_>, family: Family) -> Vec<&'p Event> {
    let new = |e: &&Event| of_tracer(e) && !matches!(rules.find(family, e, 0), Known::Rule(_));
    let runs: Vec<usize> = packet.events.iter().filter(new).map(|e| e.run).collect();
    let kept = |event: &&Event| {
        if of_tracer(event) {
            return !new(event);
        }
        // iptables-legacy shows nothing of its TRACE rule but the policy of the table it made.
        let raw = &*event.table == "raw" && matches!(event.what, EventKind::Policy { .. });
        let made = runs.contains(&event.run) || raw;
        let dropped = matches!(
            &event.what,
            EventKind::Policy {
                verdict: Some(TraceVerdict::Drop),
                ..
            }
        );
        dropped || !made || rules.has_chain(family, event) != Some(false)
    };
    packet.events.iter().filter(kept).collect()
}

/// The policy of a chain has the number behind its last rule.
pub(super) fn shifts(packet: &TracedPacket, rules: &Rules<'_, '_>, family: Family) -> Shift {
    let mut out = Shift::default();
    for event in packet
        .events
        .iter()
        .filter(|e| e.form == Form::Log && &*e.table == "raw")
    {
        if out.0.iter().any(|(chain, _)| **chain == *event.chain) || !matches!(&*event.chain, "PREROUTING" | "OUTPUT") {
            continue;
        }
        let policy = packet.events.iter().find_map(|e| match &e.what {
            EventKind::Policy { number, .. } if e.table == event.table && e.chain == event.chain => *number,
            _ => None,
        });
        let captured = rules.legacy_rules(family, &event.table, &event.chain);
        let shift = match (policy, captured) {
            (Some(policy), Some(captured)) => policy.saturating_sub(captured + 1),
            // `--verify-commands` puts its rule first.
            _ => 1,
        };
        out.0.push((event.chain.clone(), shift));
    }
    out
}

impl Shift {
    /// By how much the numbers of a chain are too large.
    pub fn of(&self, table: &str, chain: &str) -> u64 {
        let found = self.0.iter().find(|(c, _)| **c == *chain);
        found.filter(|_| table == "raw").map_or(0, |(_, by)| *by)
    }
}
