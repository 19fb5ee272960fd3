//! `fib_rules_lookup`: which table is asked, and in what order.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use knet_snapshot::id::{Family, IfIndex, TableId};
use knet_snapshot::link::LinkKind;
use knet_snapshot::route::RouteKind;
use knet_snapshot::rule::{Rule, RuleAction};
use knet_snapshot::store::NetnsFacts;

use super::{Answer, Fib, Found, Lookup, Query, is_reject, text};
use crate::choice::{Oracle, Unknown};
use crate::table::source::{l3_table, vrf_of};
use crate::trace::{Assumption, Evidence};
use crate::tri::Tri;

/// `LOOPBACK_IFINDEX`
const LO: IfIndex = IfIndex(1);

/// The rules of one family in the order they are tried.
#[derive(Debug)]
pub(super) struct Rules<'s> {
    family: Family,
    artifact: Arc<str>,
    /// `None`: not captured.
    list: Option<Vec<&'s Rule>>,
    damaged: bool,
}

impl<'s> Rules<'s> {
    pub fn compile(facts: &'s NetnsFacts, family: Family) -> Self {
        let Some(table) = facts.rules(family).get() else {
            return Self {
                family,
                artifact: Arc::from(""),
                list: None,
                damaged: false,
            };
        };
        let mut list: Vec<&Rule> = table.rows.iter().collect();
        // Stable: a rule added later stands behind those of its priority, and the dump keeps that order.
        list.sort_by_key(|r| r.priority);
        // A kernel that cannot have policy rules has the default tables all the same.
        let absent = table.rows.is_empty() && table.artifact.is_empty();
        Self {
            family,
            artifact: table.artifact.clone(),
            list: (!absent).then_some(list),
            damaged: !table.problems.is_empty(),
        }
    }

    /// `fib_rule_requires_fldissect`: for the sake of these rules the kernel reads protocol and ports out of packets.
    pub fn dissects(&self) -> bool {
        let list = self.list.as_deref().unwrap_or_default();
        list.iter()
            .any(|r| r.iif.as_deref() != Some("lo") && (r.ipproto.is_some() || r.sport.is_some() || r.dport.is_some()))
    }

    /// Other rules than the kernel makes by itself.
    pub fn custom(&self) -> Option<bool> {
        let list = self.list.as_ref()?;
        if self.damaged {
            return Some(true);
        }
        let default = default_rules(self.family);
        Some(list.len() != default.len() || list.iter().zip(default).any(|(r, d)| !is_default(r, d)))
    }
}

/// Priority and table of the rules that are there from the start.
pub(super) const fn default_rules(family: Family) -> &'static [(u32, TableId)] {
    match family {
        Family::V4 => &[(0, TableId::LOCAL), (32766, TableId::MAIN), (32767, TableId::DEFAULT)],
        Family::V6 => &[(0, TableId::LOCAL), (32766, TableId::MAIN)],
    }
}

fn is_default(r: &Rule, (priority, table): &(u32, TableId)) -> bool {
    r.priority == *priority && r.action == RuleAction::Table(*table) && selects_everything(r)
}

fn selects_everything(r: &Rule) -> bool {
    let any = |net: Option<IpNet>| net.is_none_or(|n| n.prefix_len() == 0);
    !r.invert
        && any(r.src)
        && any(r.dst)
        && r.tos.unwrap_or(0) == 0
        && r.fwmark.is_none_or(|(_, mask)| mask == 0)
        && r.iif.is_none()
        && r.oif.is_none()
        && !r.l3mdev
        && r.ipproto.is_none()
        && r.sport.is_none()
        && r.dport.is_none()
        && r.uidrange.is_none()
        && r.tun_id.is_none()
        && r.suppress_prefixlength.is_none()
        && r.suppress_ifgroup.is_none()
        && r.unknown.is_empty()
}

/// The query as the rules see it (`l3mdev_update_flow`).
pub(super) struct Flow<'q> {
    pub query: &'q Query,
    /// Output device; none when the caller named a VRF, which is no next hop's device.
    pub oif: Option<IfIndex>,
    pub iif: IfIndex,
    /// `flowi_l3mdev`
    pub l3: Option<IfIndex>,
}

impl<'s> Fib<'s> {
    pub(super) fn flow<'q>(&self, query: &'q Query) -> Flow<'q> {
        let master = |i: IfIndex| vrf_of(&self.links, i);
        let iif = query.iif.unwrap_or(LO);
        let l3 = query.l3.or_else(|| query.oif.map_or_else(|| master(iif), master));
        let oif = query.oif.filter(|&o| master(o) != Some(o));
        Flow { query, oif, iif, l3 }
    }

    /// Ordered filters: rules by priority; a rule that matches and whose table has an answer ends the walk.
    /// Throw and no match go on, and so does an answer the rule suppresses.
    pub(super) fn walk_rules(
        &self,
        flow: &Flow<'_>,
        oracle: &mut Oracle,
        mut table: impl FnMut(TableId, &mut Oracle) -> Found<'s>,
    ) -> Lookup<'s> {
        let rules = self.rules(flow.family());
        let Some(list) = &rules.list else {
            let mut lookup = walk_default(rules.family, |t| table(t, oracle));
            lookup.assumed.push(Assumption::DefaultRules);
            return lookup;
        };
        if rules.damaged && unreadable(&rules.artifact, oracle) {
            return Lookup::new(Answer::Unknown("rules"));
        }
        let mut at = 0;
        while let Some(&rule) = list.get(at) {
            at += 1;
            let matched = self.rule_matches(rule, flow);
            if matched == Tri::No {
                continue;
            }
            let evidence = || Evidence {
                artifact: rules.artifact.clone(),
                at: rule.at,
                handle: None,
                text: Arc::from(text::rule(rule)),
            };
            // An undecided match is put to the oracle only when it makes a difference.
            let taken = |oracle: &mut Oracle| {
                matched == Tri::Yes
                    || oracle.unknown(
                        format!("rule {} {}", rules.artifact, rule.at.start),
                        Unknown::Match(evidence()),
                        2,
                    ) == 0
            };
            let answer = match &rule.action {
                RuleAction::Nop => continue,
                RuleAction::Goto(target) => {
                    // Only forward, as the kernel enforces; a target that does not exist goes on.
                    if let Some(to) = list.iter().position(|r| r.priority == *target)
                        && to >= at
                        && taken(oracle)
                    {
                        at = to;
                    }
                    continue;
                }
                RuleAction::Blackhole => Answer::Rule(RouteKind::Blackhole),
                RuleAction::Unreachable => Answer::Rule(RouteKind::Unreachable),
                RuleAction::Prohibit => Answer::Rule(RouteKind::Prohibit),
                RuleAction::Other(_) => Answer::Unknown("rule action"),
                RuleAction::Table(_) | RuleAction::L3mdev => {
                    let id = match rule.action {
                        RuleAction::Table(id) if !rule.l3mdev => Some(id),
                        _ => self.l3_table_of(flow),
                    };
                    let Some(id) = id else { continue };
                    match table(id, oracle) {
                        Found::Continue => continue,
                        Found::Unknown(what) => Answer::Unknown(what),
                        Found::Hit(hit) if !is_reject(hit.kind) && self.suppressed(rule, &hit) => continue,
                        Found::Hit(hit) => Answer::Route(hit),
                    }
                }
            };
            if !taken(oracle) {
                continue;
            }
            let mut lookup = Lookup::new(answer);
            lookup.rule = Some(rule);
            lookup.table = match (&lookup.answer, &rule.action) {
                (Answer::Route(hit), _) => Some(hit.route.table),
                (_, RuleAction::Table(t)) => Some(*t),
                _ => None,
            };
            if !default_rules(rules.family).iter().any(|d| is_default(rule, d)) {
                lookup.evidence.push(evidence());
            }
            return lookup;
        }
        Lookup::new(Answer::None)
    }

    /// `fib_rule_match`, `fib4_rule_match`, `fib6_rule_match`: every selector must hold, then `not` turns it.
    fn rule_matches(&self, r: &Rule, flow: &Flow<'_>) -> Tri {
        let q = flow.query;
        let mut all = Tri::Yes;
        if let Some(name) = &r.iif {
            all = all.and(self.is_device(name, Some(flow.iif), flow.l3));
        }
        if let Some(name) = &r.oif {
            all = all.and(self.is_device(name, flow.oif, flow.l3));
        }
        if let Some((value, mask)) = r.fwmark {
            all = all.and(((q.mark ^ value) & mask == 0).into());
        }
        if r.tun_id.is_some_and(|id| id != 0) {
            all = all.and(self.may_carry_tunnel_key(q.iif));
        }
        if r.l3mdev || r.action == RuleAction::L3mdev {
            all = all.and(self.l3_table_of(flow).is_some().into());
        }
        if let Some((from, to)) = r.uidrange {
            // A received packet has no sender here: uid 0.
            let uid = q.uid.or(q.iif.map(|_| 0));
            all = all.and(uid.map_or(Tri::Unknown, |u| (from..=to).contains(&u).into()));
        }
        if let Some(net) = r.dst {
            all = all.and(net.contains(&q.dst).into());
        }
        if let Some(net) = r.src.filter(|n| n.prefix_len() > 0) {
            // IPv4 compares an unset source as 0.0.0.0; IPv6 has a flag for it and does not match.
            let src = q.src.or_else(|| q.dst.is_ipv4().then_some(IpAddr::from([0; 4])));
            all = all.and(src.is_some_and(|s| net.contains(&s)).into());
        }
        if let Some(tos) = r.tos.filter(|&t| t != 0) {
            // The IPv4 selector knows only the three bits of the old TOS that DSCP kept.
            let mask = if q.dst.is_ipv4() && tos & !0x1c == 0 {
                0x1c
            } else {
                0xfc
            };
            all = all.and((q.tos & mask == tos).into());
        }
        if let Some(proto) = r.ipproto.filter(|&p| p != 0) {
            all = all.and((q.proto == proto).into());
        }
        for (range, port) in [(r.sport, q.sport), (r.dport, q.dport)] {
            if let Some((from, to)) = range {
                all = all.and((from..=to).contains(&port.unwrap_or(0)).into());
            }
        }
        if !r.unknown.is_empty() {
            all = all.and(Tri::Unknown);
        }
        all.xor(r.invert)
    }

    /// A device by name. A name nobody has never matches (`[detached]`). A VRF's name matches its members.
    fn is_device(&self, name: &str, index: Option<IfIndex>, l3: Option<IfIndex>) -> Tri {
        let Some(index) = index.or(l3) else { return Tri::No };
        match self.links.named(name) {
            Some(link) => {
                let vrf = matches!(link.kind, LinkKind::Vrf { .. }) && l3 == Some(link.index);
                (link.index == index || vrf).into()
            }
            None if name == "lo" => (index == LO).into(),
            None if self.links.known || index == LO => Tri::No,
            None => Tri::Unknown,
        }
    }

    fn may_carry_tunnel_key(&self, iif: Option<IfIndex>) -> Tri {
        match iif.and_then(|i| self.links.get(i)).map(|l| &l.kind) {
            Some(LinkKind::Tunnel(_, info)) if info.external => Tri::Unknown,
            Some(LinkKind::Vxlan(info)) if info.vni.is_none() => Tri::Unknown,
            _ => Tri::No,
        }
    }

    fn l3_table_of(&self, flow: &Flow<'_>) -> Option<TableId> {
        let link = self.links.get(flow.l3?)?;
        l3_table(&self.links, link).map(TableId)
    }

    /// `fib4_rule_suppress`, `fib6_rule_suppress`
    fn suppressed(&self, rule: &Rule, hit: &super::Hit<'_>) -> bool {
        let short = rule
            .suppress_prefixlength
            .is_some_and(|n| u32::from(hit.route.dst.prefix_len()) <= n);
        // IPv4 looks at the device of the first next hop, whichever one it found.
        let first = hit.hops.first().and_then(|h| h.oif);
        let dev = if hit.route.dst.addr().is_ipv4() { first } else { hit.oif };
        let group = dev.and_then(|i| self.links.get(i)).map(|l| l.group.unwrap_or(0));
        short || (rule.suppress_ifgroup.is_some() && rule.suppress_ifgroup == group)
    }
}

impl Flow<'_> {
    const fn family(&self) -> Family {
        Family::of(self.query.dst)
    }
}

/// The rules every namespace starts with.
pub(super) fn walk_default<'s>(family: Family, mut table: impl FnMut(TableId) -> Found<'s>) -> Lookup<'s> {
    for &(_, id) in default_rules(family) {
        let answer = match table(id) {
            Found::Continue => continue,
            Found::Hit(hit) => Answer::Route(hit),
            Found::Unknown(what) => Answer::Unknown(what),
        };
        let mut lookup = Lookup::new(answer);
        lookup.table = Some(id);
        return lookup;
    }
    Lookup::new(Answer::None)
}

/// Rows that could not be read may decide: either they do not, or nobody can tell.
pub(super) fn unreadable(artifact: &Arc<str>, oracle: &mut Oracle) -> bool {
    oracle.unknown(
        format!("unreadable rows in {artifact}"),
        Unknown::Table(artifact.clone()),
        2,
    ) == 1
}
