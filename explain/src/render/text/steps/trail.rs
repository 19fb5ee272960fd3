//! By which jumps a packet came into a chain.

use super::engine_note;
use crate::explanation::{Engine, RuleVerdict, Step, What};

/// By which jumps a packet came into a chain.
#[derive(Default)]
pub struct Trail {
    /// Jumps taken in this hop: engine, table, from, to.
    jumps: Vec<(Engine, String, String, String)>,
    /// Table and chain of the last rule that was met.
    pub last_chain: String,
}

impl Trail {
    /// Notes a rule.
    pub fn rule(&mut self, step: &Step) {
        if let What::Rule {
            engine,
            table,
            chain,
            verdict,
        } = &step.what
        {
            self.last_chain = format!("{table} {chain}");
            if let Some(RuleVerdict::Jump(to) | RuleVerdict::Goto(to)) = verdict {
                self.jumps
                    .push((*engine, table.to_string(), chain.to_string(), to.to_string()));
            }
        }
    }

    /// `nat PREROUTING > KUBE-SERVICES > KUBE-SVC-… > KUBE-SEP-…`
    pub fn breadcrumb(&self, engine: Engine, table: &str, chain: &str) -> String {
        let mut crumbs = vec![chain.to_owned()];
        let mut at = chain;
        for (e, t, from, to) in self.jumps.iter().rev() {
            if *e == engine && t == table && to == at && !crumbs.contains(from) {
                crumbs.push(from.clone());
                at = from;
            }
        }
        crumbs.reverse();
        format!("{}{table} {}", engine_note(engine), crumbs.join(" > "))
    }
}
