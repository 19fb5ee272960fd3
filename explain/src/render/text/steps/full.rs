//! A step at full detail: every one, with file and line.

use super::{Steps, Trail, conntrack, engine_note, text};
use crate::explanation::{FdbTo, Field, Hop, RuleVerdict, Step, What};
use crate::owner;
use crate::render::words;

use super::super::head::{INDENT, short_cite};
use super::super::layout::{Span, Tone, dim, strong};

impl Steps<'_> {
    /// A step at full detail: every one, with file and line.
    pub fn step_in_full(&mut self, hop: &Hop, step: &Step) {
        let glossary = self.glossary();
        let dev = |d| glossary.device(hop.ns, d).to_owned();
        let (label, spans): (&str, Vec<Span>) = match &step.what {
            What::Rule {
                engine,
                table,
                chain,
                verdict,
            } => {
                let hit = verdict.is_some();
                let what = match verdict {
                    None => "no match".to_owned(),
                    Some(RuleVerdict::Jump(to)) => format!("jump to {to}"),
                    Some(RuleVerdict::Goto(to)) => format!("goto {to}"),
                    Some(RuleVerdict::Reject(how)) => format!("reject with {}", words::reject(*how)),
                    Some(RuleVerdict::Continue) => "matches, goes on".to_owned(),
                    Some(RuleVerdict::Accept) => "accept".to_owned(),
                    Some(RuleVerdict::Drop) => "drop".to_owned(),
                    Some(RuleVerdict::Return) => "return".to_owned(),
                    Some(RuleVerdict::Queue) => "queue".to_owned(),
                    Some(RuleVerdict::Nat) => "nat".to_owned(),
                    Some(RuleVerdict::Unknown) => "not known".to_owned(),
                };
                let owner = owner::of_rule(*engine, table, chain, text(step)).map(words::owner);
                let head = format!("{}{table} {chain}", engine_note(*engine));
                let mut spans = vec![Span(head, if hit { Tone::Plain } else { Tone::Dim })];
                spans.push(if hit { strong(what) } else { dim(what) });
                spans.extend(owner.filter(|_| hit).map(|o| dim(format!("({o})"))));
                (if hit { "rule" } else { "-" }, spans)
            }
            What::Policy {
                engine,
                table,
                chain,
                drop,
            } => {
                let what = if *drop { "policy DROP" } else { "policy ACCEPT" };
                (
                    "policy",
                    vec![format!("{}{table} {chain}", engine_note(*engine)).into(), strong(what)],
                )
            }
            What::Rewrite(Field::Ttl { from, to }) => ("ttl", vec![format!("{from} → {to}").into()]),
            What::Rewrite(_) => ("rewrite", vec![rewritten(&step.what).into()]),
            What::Conntrack(event) => ("conntrack", vec![conntrack(*event).into()]),
            What::Neighbour { addr, state, mac } => {
                let state = state.map_or("not in the table", words::nud);
                let mac = mac.map_or_else(|| "no MAC".to_owned(), |m| m.to_string());
                ("neighbour", vec![format!("{addr} is {mac} ({state})").into()])
            }
            What::Fdb { mac, to } => {
                let mac = mac.map(|m| m.to_string()).unwrap_or_default();
                let to = match to {
                    FdbTo::Local => "the bridge itself".to_owned(),
                    FdbTo::Port(port) => format!("port {}", dev(*port)),
                    FdbTo::Flood(ports) => format!(
                        "flooded to {}",
                        ports.iter().map(|p| dev(*p)).collect::<Vec<_>>().join(", ")
                    ),
                };
                ("bridge", vec![format!("{mac} → {to}").into()])
            }
            What::Mtu { dev: by, mtu } => ("mtu", vec![format!("{mtu} on {}", dev(*by)).into()]),
            What::Nat { source, from, to } => {
                let label = if *source { "SNAT" } else { "DNAT" };
                let text = format!("{} → {}", words::socket(from.0, from.1), words::socket(to.0, to.1));
                (label, vec![strong(text)])
            }
            What::Route { .. } => {
                self.route(step);
                return;
            }
            _ => {
                let mut trail = Trail::default();
                self.step(hop, &[], step, &mut trail);
                return;
            }
        };
        let rows = step.evidence.clone();
        let miss = label == "-";
        self.line(label, &spans);
        for evidence in &rows {
            let cite = short_cite(self.glossary(), evidence);
            let text = evidence.text.to_string();
            let text = if miss { dim(text) } else { text.into() };
            self.page.flow_right(INDENT, INDENT + 2, &[text], &dim(cite));
        }
    }
}

fn rewritten(what: &What) -> String {
    match what {
        What::Rewrite(Field::Mark { from, to }) => format!("mark {from:#x} → {to:#x}"),
        What::Rewrite(Field::ConnMark { from, to }) => format!("connmark {from:#x} → {to:#x}"),
        What::Rewrite(Field::Tos { from, to }) => format!("tos {from:#x} → {to:#x}"),
        What::Rewrite(Field::Priority { to }) => format!("priority {to:#x}"),
        What::Rewrite(Field::Zone(zone)) => format!("conntrack zone {}", zone.0),
        What::Rewrite(Field::Untracked) => "not tracked".to_owned(),
        What::Rewrite(Field::Mss) => "TCP MSS".to_owned(),
        _ => String::new(),
    }
}
