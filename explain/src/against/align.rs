//! The kernel's events and the walk's steps, one beside the other.

use std::sync::Arc;

use knet_dataplane::trace::{Engine, Evidence, Hook, RuleVerdict, What};
use knet_dataplane::world::Netns;
use knet_snapshot::kernel_trace::{Event, EventKind, Form, Header, TraceVerdict, TracedPacket};

use super::path::{Line, Path};
use super::rules::{Known, Rules, table_family};
use super::tracer::{Shift, earlier, shifts, start, without_tracer};
use super::{Compared, Comparison, Difference, Direction, KernelSide, Part, Passed, Recorder};

/// A comparison, and what it takes to choose among several.
#[derive(Debug)]
pub(super) struct Found {
    pub comparison: Comparison,
    /// First lines of the packets of the recording that are like it.
    pub like: Vec<u64>,
    /// The devices of the packet have the names they have here.
    devices: bool,
}

impl Found {
    /// The more the better.
    pub fn score(&self) -> (bool, usize, bool) {
        let agrees = matches!(self.comparison.result, Compared::Agrees);
        (agrees, self.comparison.steps, self.devices)
    }

    /// Rows to quote.
    pub fn evidence(&self) -> impl Iterator<Item = &Evidence> {
        let difference = match &self.comparison.result {
            Compared::Agrees => None,
            Compared::CannotTell(d) | Compared::Differs(d) => Some(d),
        };
        difference.into_iter().flat_map(|d| {
            let walk = d.walk.iter().flat_map(|step| &step.evidence);
            walk.chain(d.kernel.iter().flat_map(|k| &k.captured))
        })
    }
}

/// Where the two are, and what was counted.
struct Aligner<'x, 't, 'a, 's> {
    path: &'x Path<'t>,
    rules: &'x Rules<'a, 's>,
    any: Option<u16>,
    /// The next line of the walk.
    next: usize,
    /// By how much numbers of legacy rules are too large, by chain.
    shift: Shift,
    comparison: Comparison,
}

/// Puts a packet of the recording beside one branch.
pub(super) fn align(
    path: &Path<'_>,
    (packet, header): (&TracedPacket, &Arc<Header>),
    rules: &Rules<'_, '_>,
    space: &Netns<'_>,
    any: Option<u16>,
) -> Found {
    let family = path.family;
    let ours = path.iif.map(|dev| space.links().name(dev));
    let devices = header.iif.as_deref() == ours;
    let shift = shifts(packet, rules, family);
    let events = without_tracer(packet, rules, family);
    let mut this = Aligner {
        path,
        rules,
        any,
        next: 0,
        shift,
        comparison: Comparison {
            direction: Direction::Request,
            ns: space.id,
            recorder: if packet.in_log() {
                Recorder::KernelLog
            } else {
                Recorder::NfTables
            },
            packet: header.clone(),
            lines: packet.lines(),
            candidate: (1, 1),
            branch: 0,
            alike: 1,
            steps: 0,
            by_verdict: 0,
            undecided: 0,
            untraced: 0,
            tracer: packet.events.len() - events.len(),
            result: Compared::Agrees,
        },
    };
    this.skip_untraced(packet, &events);
    this.comparison.result = this.compare(&events);
    Found {
        comparison: this.comparison,
        like: Vec::new(),
        devices,
    }
}

impl<'t> Aligner<'_, 't, '_, '_> {
    fn compare(&mut self, events: &[&Event]) -> Compared {
        let mut run = None;
        for &event in events {
            // A chain's own end is no step of the walk; an old kernel says it of a rule that returns, too.
            if event.what == EventKind::Return {
                let returns = |l: &&Line<'_>| {
                    matches!(&l.step.what, What::Rule { verdict: Some(RuleVerdict::Return), chain, .. }
                        if **chain == *event.chain)
                };
                if event.form != Form::Log && self.peek().as_ref().filter(|(_, l)| returns(&l)).is_some() {
                    self.step_over();
                }
                continue;
            }
            if run != Some(event.run)
                && let Some(difference) = self.other_packet(event)
            {
                return self.parted(difference);
            }
            run = Some(event.run);
            if let Err(difference) = self.beside(event) {
                return self.parted(*difference);
            }
        }
        let mut rest = self.path.lines.iter().skip(self.next);
        match rest.find(|l| l.shown && !l.perhaps) {
            None => Compared::Agrees,
            Some(line) => {
                let difference = Difference {
                    what: Part::KernelEnds,
                    kernel: None,
                    walk: Some(line.step.clone()),
                    passed: None,
                };
                self.parted(difference)
            }
        }
    }

    /// The walk that ends without knowing does not contradict a kernel that goes on.
    fn parted(&self, difference: Difference) -> Compared {
        let open = difference.what == Part::WalkEnds && self.path.unknown;
        if open {
            Compared::CannotTell(Box::new(difference))
        } else {
            Compared::Differs(Box::new(difference))
        }
    }

    /// The next step of the walk that a kernel would show.
    fn peek(&self) -> Option<(usize, Line<'t>)> {
        let rest = self.path.lines.iter().enumerate().skip(self.next);
        rest.filter(|(_, l)| l.shown).map(|(i, l)| (i, *l)).next()
    }

    fn step_over(&mut self) {
        if let Some((i, _)) = self.peek() {
            self.next = i + 1;
            self.comparison.steps += 1;
        }
    }

    /// The packet as it comes into a base chain is another than the walk's.
    fn other_packet(&self, event: &Event) -> Option<Difference> {
        let header = event.header.as_deref()?;
        // In another chain the walk's packet may yet change: then the chain is the difference to tell.
        let (_, line) = self.peek().filter(|(_, line)| self.same_chain(event, line))?;
        (!line.face.fits(header, self.any)).then(|| Difference {
            what: Part::Packet(line.face),
            kernel: Some(self.side(event)),
            walk: Some(line.step.clone()),
            passed: None,
        })
    }

    /// Puts one event beside the next step.
    fn beside(&mut self, event: &Event) -> Result<(), Box<Difference>> {
        let mut peeked = self.peek();
        while let Some((at, _)) = peeked.filter(|(_, line)| line.perhaps && !self.same_chain(event, line)) {
            self.next = at + 1;
            peeked = self.peek();
        }
        let Some((at, line)) = peeked else {
            return if self.undecided(event, self.path.lines.len()) {
                Ok(())
            } else {
                Err(self.difference(Part::WalkEnds, event, None))
            };
        };
        let same = self.same_chain(event, &line);
        let said = match (&line.step.what, &event.what) {
            (What::Policy { drop, .. }, EventKind::Policy { verdict, .. }) if same => {
                Some(verdict.as_ref().is_none_or(|v| (*v == TraceVerdict::Drop) == *drop))
            }
            (
                What::Rule {
                    verdict: Some(ours), ..
                },
                EventKind::Rule { verdict, .. },
            ) if same => match self.find(event) {
                Known::Rule(all) => {
                    let own = line.step.evidence.first();
                    own.filter(|e| all.iter().any(|a| a.artifact == e.artifact && a.at == e.at))
                        .map(|_| agree(ours, verdict.as_ref()))
                }
                Known::Absent => None,
                Known::Unclear => {
                    let agrees = verdict.is_some() && agree(ours, verdict.as_ref());
                    self.comparison.by_verdict += usize::from(agrees);
                    agrees.then_some(true)
                }
            },
            _ => None,
        };
        match said {
            Some(true) => {
                self.next = at + 1;
                self.comparison.steps += 1;
                Ok(())
            }
            Some(false) => Err(self.difference(Part::Verdict, event, Some(&line))),
            None if self.undecided(event, at) => Ok(()),
            None => Err(self.difference(Part::Step, event, Some(&line))),
        }
    }

    /// The kernel's rule changes nothing, and the walk passed it without being able to tell.
    fn undecided(&mut self, event: &Event, until: usize) -> bool {
        let goes_on = matches!(
            &event.what,
            EventKind::Rule {
                verdict: None | Some(TraceVerdict::Continue),
                ..
            }
        );
        if !goes_on {
            return false;
        }
        let Known::Rule(all) = self.find(event) else {
            return false;
        };
        let passed = self.passed_at(&all, until);
        if let Some((at, Passed::Undecided)) = passed {
            self.next = at + 1;
            self.comparison.undecided += 1;
            return true;
        }
        false
    }

    /// Where, between here and there, the walk looked at one of these rules.
    fn passed_at(&self, rules: &[Evidence], until: usize) -> Option<(usize, Passed)> {
        let between = self.path.lines.iter().enumerate().take(until).skip(self.next);
        between.filter(|(_, l)| !l.shown).find_map(|(i, line)| {
            let own = line.step.evidence.first()?;
            let found = rules.iter().any(|r| r.artifact == own.artifact && r.at == own.at);
            let how = if matches!(line.step.what, What::Undecided) {
                Passed::Undecided
            } else {
                Passed::NoMatch
            };
            found.then_some((i, how))
        })
    }

    /// The walk comes to one of these rules from a place on, and it matches.
    fn later(&self, rules: &[Evidence], from: usize) -> bool {
        let mut rest = self.path.lines.iter().skip(from).filter(|l| l.shown);
        rest.any(|line| {
            let own = line.step.evidence.first();
            own.is_some_and(|own| rules.iter().any(|r| r.artifact == own.artifact && r.at == own.at))
        })
    }

    fn difference(&self, what: Part, event: &Event, line: Option<&Line<'t>>) -> Box<Difference> {
        let kernel = self.side(event);
        let until = self.peek().map_or(self.path.lines.len(), |(i, _)| i);
        let passed = (what != Part::Verdict && !kernel.captured.is_empty()).then(|| {
            let later = || self.later(&kernel.captured, until);
            let none = || if later() { Passed::Later } else { Passed::NotReached };
            self.passed_at(&kernel.captured, until)
                .map_or_else(none, |(_, how)| how)
        });
        Box::new(Difference {
            what,
            kernel: Some(kernel),
            walk: line.map(|l| l.step.clone()),
            passed,
        })
    }

    fn side(&self, event: &Event) -> KernelSide {
        let known = match &event.what {
            EventKind::Rule { .. } => self.find(event),
            _ => match self.rules.has_chain(self.path.family, event) {
                Some(false) => Known::Absent,
                _ => Known::Unclear,
            },
        };
        KernelSide {
            line: event.line,
            text: event.text.clone(),
            absent: matches!(known, Known::Absent),
            captured: match known {
                Known::Rule(all) => all,
                Known::Absent | Known::Unclear => Vec::new(),
            },
        }
    }

    fn find(&self, event: &Event) -> Known {
        self.rules
            .find(self.path.family, event, self.shift.of(&event.table, &event.chain))
    }

    /// The step is in the event's chain.
    fn same_chain(&self, event: &Event, line: &Line<'_>) -> bool {
        let (What::Rule {
            engine, table, chain, ..
        }
        | What::Policy {
            engine, table, chain, ..
        }) = &line.step.what
        else {
            return false;
        };
        if **chain != *event.chain {
            return false;
        }
        if *engine == Engine::Nft {
            return table
                .split_once(' ')
                .is_some_and(|(family, name)| family == event.family.as_str() && *name == *event.table);
        }
        **table == *event.table && event.family == table_family(self.path.family)
    }

    /// Base chains that the packet passed before tracing was switched on are not in the recording.
    fn skip_untraced(&mut self, packet: &TracedPacket, events: &[&Event]) {
        let family = self.path.family;
        let Some(start) = start(packet, self.rules, family) else {
            // Nobody knows where it begins: at the first chain that both have.
            let Some(first) = events.first() else { return };
            let lines = self.path.lines.iter().enumerate();
            let found = lines.filter(|(_, l)| self.same_chain(first, l)).map(|(i, _)| i).next();
            let Some(found) = found else { return };
            let run = self.path.lines[found].run;
            let begin = self.path.lines.iter().position(|l| l.run == run).unwrap_or(found);
            self.untraced_before(begin);
            return;
        };
        let mut begin = 0;
        while let Some(line) = self.path.lines.get(begin) {
            let run = line.run;
            let earlier = match self.base(line) {
                Some((hook, priority)) => earlier((hook, priority), start, line.output),
                None => false,
            };
            if !earlier {
                break;
            }
            begin += self.path.lines[begin..].iter().take_while(|l| l.run == run).count();
        }
        self.untraced_before(begin);
    }

    fn untraced_before(&mut self, begin: usize) {
        self.comparison.untraced = self.path.lines[..begin].iter().filter(|l| l.shown).count();
        self.next = begin;
    }

    fn base(&self, line: &Line<'_>) -> Option<(Hook, i32)> {
        let (What::Rule {
            engine, table, chain, ..
        }
        | What::Policy {
            engine, table, chain, ..
        }) = &line.step.what
        else {
            return None;
        };
        self.rules.base(self.path.family, *engine, table, chain)
    }
}

/// A walk's verdict and the kernel's: REJECT drops after it has answered, and NAT accepts.
fn agree(ours: &RuleVerdict, theirs: Option<&TraceVerdict>) -> bool {
    let Some(theirs) = theirs else { return true };
    match (ours, theirs) {
        (RuleVerdict::Unknown, _) => true,
        (RuleVerdict::Jump(a), TraceVerdict::Jump(b)) | (RuleVerdict::Goto(a), TraceVerdict::Goto(b)) => **a == **b,
        (RuleVerdict::Continue, TraceVerdict::Continue)
        | (RuleVerdict::Accept | RuleVerdict::Nat, TraceVerdict::Accept)
        | (RuleVerdict::Drop | RuleVerdict::Reject(_), TraceVerdict::Drop)
        | (RuleVerdict::Return, TraceVerdict::Return)
        | (RuleVerdict::Queue, TraceVerdict::Queue) => true,
        _ => false,
    }
}
