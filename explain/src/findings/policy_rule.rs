//! A policy-routing rule beyond the three default ones decided a route.

use knet_dataplane::trace::{ClientSees, What};
use knet_snapshot::id::Family;
use knet_snapshot::rule::RuleAction;

use super::{Cx, Finding, Found, Severity};
use crate::owner;

/// Rules whose row is evidence of a route step (the walk cites only those that are not default).
pub(super) fn check(cx: &Cx<'_, '_>) -> Vec<Finding> {
    let mut out = Vec::new();
    for branch in cx.branches {
        let reply = branch.reply.iter().flat_map(|r| &r.hops);
        for hop in branch.hops.iter().chain(reply) {
            for step in &hop.steps {
                let dev = match &step.what {
                    What::Route { oif, .. } => oif.map(|oif| cx.world.space(hop.ns).links().name(oif).to_owned()),
                    What::RouteRule { .. } | What::NoRoute => None,
                    _ => continue,
                };
                let facts = cx.world.space(hop.ns).facts;
                let Some(table) = facts.rules(Family::of(hop.packet.dst)).get() else {
                    continue;
                };
                for evidence in step.evidence.iter().filter(|e| e.artifact == table.artifact) {
                    let Some(rule) = table.rows.iter().find(|r| r.at == evidence.at) else {
                        continue;
                    };
                    // A rule that refuses is `bad_route`'s.
                    let to = match rule.action {
                        RuleAction::Table(to) => Some(to.0),
                        RuleAction::Blackhole | RuleAction::Unreachable | RuleAction::Prohibit => continue,
                        // The kernel's own, made with the first VRF.
                        RuleAction::L3mdev => continue,
                        _ => None,
                    };
                    let fails = branch.client_sees != ClientSees::Reply;
                    let severity = if fails { Severity::Error } else { Severity::Info };
                    let owner = dev.as_deref().and_then(owner::of_device);
                    let node = cx.place(hop.ns);
                    let what = Found::PolicyRule {
                        node,
                        priority: rule.priority,
                        table: to,
                        dev: dev.clone(),
                        owner,
                    };
                    out.push(Cx::found(severity, what, vec![evidence.clone()]));
                }
            }
        }
    }
    out
}
