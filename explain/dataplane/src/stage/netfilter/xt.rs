//! One base chain of an iptables table, run over a packet (`ipt_do_table`, `ip6t_do_table`).

mod act;
mod chance;
mod device;
mod field;
mod lookup;
pub(super) mod nat;
mod recent;
mod state;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use knet_snapshot::Row;
use knet_snapshot::xtsave::XtPolicy;

use self::act::Act;
use super::{HookCx, Verdict};
use crate::choice::Unknown;
use crate::table::xt::BaseChain;
use crate::table::xt::matches::{Match, RecentOp};
use crate::table::xt::rule::Rule;
use crate::trace::{Detail, Evidence, RuleVerdict, Step, What};
use crate::tri::Tri;

/// So many jumps are followed in one base chain. The kernel refuses a ruleset with a loop; a damaged save
/// may hold one.
const MAX_JUMPS: u32 = 100_000;

/// The rule that is being looked at, for evidence and for the names of questions.
struct Here<'x, 's> {
    base: BaseChain<'x, 's>,
    chain: Arc<str>,
    rule: &'x Rule,
    /// Number of this run of the base chain: the same rule met by another packet is another question.
    visit: u64,
}

impl Here<'_, '_> {
    fn evidence(&self) -> Evidence {
        self.evidence_of(self.rule.at)
    }

    fn evidence_of(&self, at: Row) -> Evidence {
        let table = self.base.table;
        Evidence {
            artifact: table.artifact.clone(),
            at,
            handle: None,
            text: Arc::from(&*table.text(at)),
        }
    }

    /// A name for a question about this rule: the same rule visited twice by a packet in one chain run
    /// gets the same answer.
    fn key(&self, what: &str) -> String {
        format!(
            "xt {} {} {} {what}",
            self.base.table.artifact, self.rule.at.start, self.visit
        )
    }

    fn step(&self, verdict: Option<RuleVerdict>, mut more: Vec<Evidence>) -> Step {
        more.insert(0, self.evidence());
        let table = self.base.table;
        let what = What::Rule {
            engine: table.engine,
            table: table.name.clone(),
            chain: self.chain.clone(),
            verdict,
        };
        Step { what, evidence: more }
    }
}

/// Where in a table the packet is.
#[derive(Clone, Copy)]
struct Frame {
    chain: usize,
    next: usize,
}

/// Runs a base chain over the packet.
///
/// 1. rules in order; a rule whose header and matches all say yes acts;
/// 2. `-j CHAIN` remembers the next rule, `-g CHAIN` does not;
/// 3. `RETURN`, or the end of a user chain, goes on at the last remembered rule;
/// 4. with none remembered, and at the end of the base chain, the policy decides.
pub fn run_base(base: BaseChain<'_, '_>, cx: &mut HookCx<'_, '_>) -> Verdict {
    let table = base.table;
    let visit = cx.oracle.serial();
    let mut stack: Vec<Frame> = Vec::new();
    let mut frame = Frame {
        chain: base.chain,
        next: 0,
    };
    let mut name = table.chain_name(frame.chain);
    let mut jumps = 0;
    loop {
        let Some(chain) = table.chain(frame.chain) else {
            return Verdict::Unknown;
        };
        // At full detail every rule is shown, so none is skipped by the index.
        let dst = (cx.sink.detail != Detail::Full).then_some(cx.skb.packet.dst);
        let found = chain
            .next(frame.next, dst)
            .and_then(|i| Some((i, table.rule(chain, i)?)));
        let Some((position, rule)) = found else {
            if table.may_be_cut(frame.chain) && !goes_on_after_cut(&base, &name, visit, cx) {
                return Verdict::NotCaptured;
            }
            match stack.pop() {
                Some(caller) => frame = caller,
                None => return policy(&base, cx),
            }
            name = table.chain_name(frame.chain);
            continue;
        };
        frame.next = position + 1;
        let here = Here {
            base,
            chain: name.clone(),
            rule,
            visit,
        };
        let mut more = Vec::new();
        match matches(&here, cx, &mut more) {
            Matched::Yes => {}
            Matched::No => {
                cx.sink.visited(|| here.step(None, more));
                continue;
            }
            Matched::Moot => {
                cx.sink.visited(|| Step {
                    what: What::Undecided,
                    evidence: vec![here.evidence()],
                });
                continue;
            }
            Matched::NotCaptured(artifact) => {
                cx.sink.step(|| Step {
                    what: What::NotCaptured(artifact),
                    evidence: vec![here.evidence()],
                });
                return Verdict::NotCaptured;
            }
        }
        match act::act(&here, cx, more) {
            Act::Continue => {}
            Act::End(verdict) => return verdict,
            Act::Return => match stack.pop() {
                Some(caller) => {
                    frame = caller;
                    name = table.chain_name(frame.chain);
                }
                None => return policy(&base, cx),
            },
            Act::Enter { chain, back } => {
                jumps += 1;
                if jumps > MAX_JUMPS {
                    return Verdict::Unknown;
                }
                if back {
                    stack.push(frame);
                }
                frame = Frame {
                    chain: chain.index,
                    next: 0,
                };
                name = chain.name;
            }
        }
    }
}

fn policy(base: &BaseChain<'_, '_>, cx: &mut HookCx<'_, '_>) -> Verdict {
    let table = base.table;
    let (drop, verdict) = match table.policy(base.chain) {
        XtPolicy::Accept => (false, Verdict::Accept),
        XtPolicy::Drop => (true, Verdict::Drop { policy: true }),
        XtPolicy::Return | XtPolicy::Other => return Verdict::Unknown,
    };
    cx.sink.step(|| {
        let at = table.policy_row(base.chain).unwrap_or_default();
        let text = Arc::from(&*table.text(at));
        let evidence = Evidence {
            artifact: table.artifact.clone(),
            at,
            handle: None,
            text,
        };
        let what = What::Policy {
            engine: table.engine,
            table: table.name.clone(),
            chain: base.name(),
            drop,
        };
        Step {
            what,
            evidence: vec![evidence],
        }
    });
    verdict
}

/// The save was cut off where more rules of this chain may have stood.
fn goes_on_after_cut(base: &BaseChain<'_, '_>, chain: &str, visit: u64, cx: &mut HookCx<'_, '_>) -> bool {
    let artifact = &base.table.artifact;
    let key = format!("xt {artifact} {} {chain} {visit} cut", base.table.name);
    let goes_on = cx.oracle.unknown(key, Unknown::Table(artifact.clone()), 2) == 0;
    if !goes_on {
        cx.sink.step(|| Step {
            what: What::NotCaptured(artifact.clone()),
            evidence: Vec::new(),
        });
    }
    goes_on
}

/// Whether a rule matches.
enum Matched {
    Yes,
    No,
    /// It cannot be told and does not matter, because the rule changes nothing that anybody here could see.
    Moot,
    /// It asks for sets that nobody captured, and that have something for the packet.
    NotCaptured(Arc<str>),
}

/// Whether the rule matches.
///
/// Matches are ANDed in order, and order shows only through side effects. So everything that is certain
/// is asked first, up to the next match that changes something; one certain no ends it, before any
/// question is put to the oracle.
fn matches(here: &Here<'_, '_>, cx: &mut HookCx<'_, '_>, more: &mut Vec<Evidence>) -> Matched {
    let mut known = field::head(&here.rule.head, cx);
    if known == Tri::No {
        return Matched::No;
    }
    let mut listed = Tri::Yes;
    let all = &here.rule.matches;
    let inert = here.rule.target.is_inert() && !all.iter().any(has_effect);
    let mut start = 0;
    loop {
        let effect = all[start..].iter().position(has_effect).map(|i| start + i);
        let segment = &all[start..effect.unwrap_or(all.len())];
        for m in segment {
            let known = if matches!(m, Match::Recent(_)) {
                &mut listed
            } else {
                &mut known
            };
            *known = known.and(certain(m, cx, more));
            if *known == Tri::No {
                return Matched::No;
            }
        }
        if inert && (known.and(listed) == Tri::Unknown || segment.iter().any(is_chance)) {
            return Matched::Moot;
        }
        if known == Tri::Unknown {
            if let Some(end) = lost_sets(segment, cx) {
                return end;
            }
            if !asked(here, cx, start) {
                return Matched::No;
            }
        }
        if !segment.iter().all(|m| recent::settled(m, here, cx)) {
            return Matched::No;
        }
        if !segment.iter().all(|m| chance::drawn(m, here, cx)) {
            return Matched::No;
        }
        let Some(effect) = effect else { return Matched::Yes };
        if let Match::Recent(r) = &all[effect]
            && !recent::run(r, here, cx)
        {
            return Matched::No;
        }
        (known, listed) = (Tri::Yes, Tri::Yes);
        start = effect + 1;
    }
}

/// One question for all rules that want the packet in a set, where no set was captured: else they would be asked for one
/// by one.
fn lost_sets(segment: &[Match], cx: &mut HookCx<'_, '_>) -> Option<Matched> {
    let artifact = cx.ns.ipsets().missing()?;
    if !segment.iter().any(|m| matches!(m, Match::Set(s) if !s.invert)) {
        return None;
    }
    let what = Unknown::Table(artifact.clone());
    Some(match cx.oracle.unknown(format!("{artifact}?"), what, 2) {
        0 => Matched::No,
        _ => Matched::NotCaptured(artifact.clone()),
    })
}

fn asked(here: &Here<'_, '_>, cx: &mut HookCx<'_, '_>, segment: usize) -> bool {
    let yes = cx.oracle.unknown(
        here.key(&format!("match {segment}")),
        Unknown::Match(here.evidence()),
        2,
    ) == 0;
    if yes {
        cx.sink.step(|| Step {
            what: What::Undecided,
            evidence: vec![here.evidence()],
        });
    }
    yes
}

/// Matching it changes what later matches see.
fn has_effect(m: &Match) -> bool {
    matches!(m, Match::Recent(r) if r.op != RecentOp::Check)
}

/// The kernel draws.
fn is_chance(m: &Match) -> bool {
    matches!(m, Match::Random { .. } | Match::Nth { .. })
}

/// What a match without side effects says. Matches by chance say yes here: [`chance::drawn`] draws later.
fn certain(m: &Match, cx: &mut HookCx<'_, '_>, more: &mut Vec<Evidence>) -> Tri {
    match m {
        Match::Tcp(m) => field::tcp(m, cx),
        Match::Ports(m) => field::ports(m, cx),
        Match::Icmp(m) => field::icmp(m, cx),
        Match::Multiport(m) => field::multiport(m, cx),
        Match::Length { min, max, invert } => Tri::from((*min..=*max).contains(&cx.skb.packet.len)).xor(*invert),
        Match::Ttl { cmp, value } => field::ttl(*cmp, *value, cx),
        Match::Tos { value, mask, invert } => Tri::from(cx.skb.packet.tos & mask == *value).xor(*invert),
        Match::Dscp { value, invert } => Tri::from(cx.skb.packet.tos >> 2 == *value).xor(*invert),
        Match::Iprange { src, dst } => field::iprange(src.as_ref(), dst.as_ref(), cx),
        Match::Ipv6Header { wanted, soft, invert } => field::ipv6header(*wanted, *soft, *invert, cx),
        Match::ExtensionHeader => Tri::No,
        Match::Spi { proto, any } => field::spi(*proto, *any, cx),
        Match::Mark(m) => state::masked(cx.skb.mark, m),
        Match::Connmark(m) => state::connmark(m, cx),
        Match::Conntrack(m) => state::conntrack(m, cx),
        Match::Helper { name, invert } => state::helper(name, *invert, cx),
        Match::Physdev(m) => device::physdev(m, cx),
        Match::Devgroup { src, dst } => device::devgroup(*src, *dst, cx),
        Match::Mac { mac, invert } => device::mac(*mac, *invert, cx),
        Match::Pkttype { kind, invert } => device::pkttype(*kind, cx).xor(*invert),
        Match::Owner(m) => device::owner(m, cx),
        Match::Cgroup => device::cgroup(cx),
        Match::Policy { none } => lookup::policy(*none, cx),
        Match::Addrtype(m) => lookup::addrtype(m, cx),
        Match::Rpfilter(m) => lookup::rpfilter(m, cx),
        Match::Realm(m) => lookup::realm(m, cx),
        Match::Socket(m) => lookup::socket(m, cx),
        Match::Ipvs(asked) => lookup::ipvs(asked, cx),
        Match::Set(m) => lookup::set(m, cx, more),
        Match::Always | Match::Random { .. } | Match::Nth { .. } => Tri::Yes,
        Match::Recent(r) => recent::check(r, cx),
        Match::Opaque(_) | Match::Unknown(_) => Tri::Unknown,
    }
}
