//! One base chain of native nftables, run over a packet (`nft_do_chain`).

mod act;
mod eval;
mod fib;
mod header;
mod jhash;
mod key;
mod lookup;
mod nat;
#[cfg(test)]
mod tests;
mod value;

use super::{HookCx, Verdict};
use crate::choice::Unknown;
use crate::table::nft::{BaseChain, Chain, NfFamily, Rule};
use crate::trace::{Engine, Evidence, RuleVerdict, Step, What};

/// `NFT_JUMP_STACK_SIZE`
const MAX_DEPTH: usize = 16;

/// So many jumps are followed in one base chain. The kernel refuses a ruleset with a loop; a damaged
/// listing may hold one.
const MAX_JUMPS: u32 = 100_000;

/// The rule that is being looked at, for evidence and for the names of questions.
struct Here<'x, 's> {
    base: BaseChain<'x, 's>,
    chain: &'x Chain<'s>,
    rule: &'x Rule<'s>,
    /// Number of this run of the base chain: the same rule met by another packet is another question.
    visit: u64,
}

impl Here<'_, '_> {
    fn family(&self) -> NfFamily {
        self.base.table.family
    }

    fn evidence(&self) -> Evidence {
        self.base.nft.evidence(self.chain, self.rule)
    }

    fn key(&self, what: &str) -> String {
        format!(
            "nft {} {} {} {what}",
            self.base.nft.artifact(),
            self.rule.at.start,
            self.visit
        )
    }

    fn step(&self, verdict: Option<RuleVerdict>, mut more: Vec<Evidence>) -> Step {
        more.insert(0, self.evidence());
        let what = What::Rule {
            engine: Engine::Nft,
            table: self.base.table.label.clone(),
            chain: self.chain.name.clone(),
            verdict,
        };
        Step { what, evidence: more }
    }
}

/// What a statement or rule does to the walk through the chains.
enum Flow<'x> {
    /// On to the next statement; after the last one, to the next rule.
    Next,
    /// `NFT_BREAK`: the rule does not match.
    Broken,
    /// Back to the caller.
    Return,
    /// Into a chain.
    Enter {
        /// Its name.
        name: &'x str,
        /// A jump, not a goto.
        back: bool,
    },
    /// The base chain ends.
    Act(RuleVerdict, Verdict),
}

/// Where in a table the packet is.
#[derive(Clone, Copy)]
struct Frame<'x, 's> {
    chain: &'x Chain<'s>,
    next: usize,
}

/// Runs a base chain over the packet.
///
/// 1. the statements of a rule from left to right; the first that breaks ends the rule;
/// 2. `jump` remembers the next rule, `goto` does not;
/// 3. `return`, or the end of a chain, goes on at the last remembered rule;
/// 4. with none remembered, and at the end of the base chain, the policy decides.
pub fn run_base(base: BaseChain<'_, '_>, cx: &mut HookCx<'_, '_>) -> Verdict {
    let nft = base.nft;
    let visit = cx.oracle.serial();
    if nft.damaged() {
        let key = format!("nft {} damaged {visit}", nft.artifact());
        if cx.oracle.unknown(key, Unknown::Table(nft.artifact().clone()), 2) == 1 {
            cx.sink.step(|| Step {
                what: What::NotCaptured(nft.artifact().clone()),
                evidence: Vec::new(),
            });
            return Verdict::NotCaptured;
        }
    }
    let mut stack: Vec<Frame<'_, '_>> = Vec::new();
    let mut frame = Frame {
        chain: base.chain,
        next: 0,
    };
    let mut jumps = 0;
    loop {
        let Some(rule) = nft.rules(frame.chain).get(frame.next) else {
            match stack.pop() {
                Some(caller) => frame = caller,
                None => return policy(base, cx),
            }
            continue;
        };
        frame.next += 1;
        match run_rule(
            &Here {
                base,
                chain: frame.chain,
                rule,
                visit,
            },
            cx,
        ) {
            Flow::Next | Flow::Broken => {}
            Flow::Return => match stack.pop() {
                Some(caller) => frame = caller,
                None => return policy(base, cx),
            },
            Flow::Enter { name, back } => {
                jumps += 1;
                let target = nft.chain_of(frame.chain.table, name).filter(|c| c.decl.is_some());
                let Some(chain) = target.filter(|_| jumps <= MAX_JUMPS && stack.len() <= MAX_DEPTH) else {
                    return Verdict::Unknown;
                };
                if back {
                    stack.push(frame);
                }
                frame = Frame { chain, next: 0 };
            }
            Flow::Act(_, verdict) => return verdict,
        }
    }
}

fn run_rule<'x>(here: &Here<'x, '_>, cx: &mut HookCx<'_, '_>) -> Flow<'x> {
    let mut more = Vec::new();
    let mut changes = Vec::new();
    let mut flow = Flow::Next;
    for at in 0..here.rule.stmts.len() {
        flow = act::act(at, here, cx, &mut more, &mut changes);
        if !matches!(flow, Flow::Next) {
            break;
        }
    }
    let verdict = match &flow {
        Flow::Next => Some(RuleVerdict::Continue),
        // A statement before the one that broke has done its work.
        Flow::Broken => None,
        Flow::Return => Some(RuleVerdict::Return),
        Flow::Enter { name, back: true } => Some(RuleVerdict::Jump((*name).into())),
        Flow::Enter { name, back: false } => Some(RuleVerdict::Goto((*name).into())),
        Flow::Act(verdict, _) => Some(verdict.clone()),
    };
    match verdict {
        None if changes.is_empty() => cx.sink.visited(|| here.step(None, more)),
        verdict => cx.sink.step(|| here.step(verdict, more)),
    }
    for what in changes {
        cx.sink.step(|| Step {
            what,
            evidence: vec![here.evidence()],
        });
    }
    flow
}

fn policy(base: BaseChain<'_, '_>, cx: &mut HookCx<'_, '_>) -> Verdict {
    let drop = base.drops();
    cx.sink.step(|| {
        let what = What::Policy {
            engine: Engine::Nft,
            table: base.table.label.clone(),
            chain: base.chain.name.clone(),
            drop,
        };
        Step {
            what,
            evidence: base.nft.policy(base.chain).into_iter().collect(),
        }
    });
    if drop {
        Verdict::Drop { policy: true }
    } else {
        Verdict::Accept
    }
}
