//! The walk beside a recording of the kernel's own trace: where do they part?
//!
//! The recording is one namespace's. Its packet of this flow is found by addresses, ports, protocol and TCP
//! flags; every rule and policy it met is put beside the walk's, in order, until one differs.

mod align;
mod error;
mod path;
mod rules;
mod tracer;
pub mod verify;

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use knet_dataplane::packet::{L4, tcp_flag};
use knet_dataplane::trace::{Branch, Evidence, Hop, NsId, Outcome, Step};
use knet_snapshot::kernel_trace::{Header, KernelTrace, TracedPacket, Unread};

use crate::explanation::Glossary;
use crate::glossary::Builder;
use crate::resolve::Context;
use align::Found;
use path::Path;
use rules::Rules;

pub use error::{AgainstError, SeenPacket, header};
pub use path::Face;

/// What a recording says about a walk.
#[derive(Clone, Debug)]
pub struct Against {
    /// What the recording is called.
    pub file: String,
    /// The request, and the reply when the recording has it too.
    pub comparisons: Vec<Comparison>,
    /// Packets of other flows in the recording.
    pub other_packets: usize,
    /// Lines that are not understood: the first of them.
    pub unread: Vec<Unread>,
    /// How many lines are not understood.
    pub unread_count: usize,
    /// Where evidence stands that the recording led to.
    pub glossary: Glossary,
}

/// Which way a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client.
    Request,
    /// To the client.
    Reply,
}

/// Who recorded, and so which rules can be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorder {
    /// A monitor of `nf_tables`: native rules and those of iptables-nft.
    NfTables,
    /// The kernel log: the rules of legacy iptables.
    KernelLog,
}

/// One packet of the recording beside the walk.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Which way it goes.
    pub direction: Direction,
    /// Where it was recorded.
    pub ns: NsId,
    /// Who recorded it.
    pub recorder: Recorder,
    /// The packet as it was first printed.
    pub packet: Arc<Header>,
    /// Its first and last line.
    pub lines: (u64, u64),
    /// Which of the recording's packets that are like it, from 1, and how many there are.
    pub candidate: (usize, usize),
    /// The branch of the walk that agrees furthest; an index into the branches of the explanation.
    pub branch: usize,
    /// How many branches agree as far.
    pub alike: usize,
    /// Rules and policies that both have.
    pub steps: usize,
    /// Of these, the ones where only chain and verdict could be compared: the recording does not say which
    /// rule it was, or the capture does not.
    pub by_verdict: usize,
    /// Rules that the kernel says matched and of which the walk could not tell, and which change nothing.
    pub undecided: usize,
    /// Steps of the walk before the kernel's trace begins.
    pub untraced: usize,
    /// Events of the rule that switched tracing on.
    pub tracer: usize,
    /// What came of it.
    pub result: Compared,
}

/// What came of a comparison.
#[derive(Clone, Debug)]
pub enum Compared {
    /// No difference.
    Agrees,
    /// The walk could not tell where the kernel went on.
    CannotTell(Box<Difference>),
    /// They part.
    Differs(Box<Difference>),
}

/// The first step where kernel and walk part.
#[derive(Clone, Debug)]
pub struct Difference {
    /// In what.
    pub what: Part,
    /// The kernel's side. `None`: its trace ends here.
    pub kernel: Option<KernelSide>,
    /// The walk's side. `None`: it ends here.
    pub walk: Option<Step>,
    /// What the walk says about the kernel's rule.
    pub passed: Option<Passed>,
}

/// In what kernel and walk part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Another rule, chain or policy.
    Step,
    /// The same rule (or policy) with another verdict.
    Verdict,
    /// The packet itself, as it comes into a base chain. The walk has these addresses.
    Packet(Face),
    /// The kernel's trace ends and the walk goes on.
    KernelEnds,
    /// The walk ends and the kernel's trace goes on.
    WalkEnds,
}

/// A line of the recording.
#[derive(Clone, Debug)]
pub struct KernelSide {
    /// Line, from 1.
    pub line: u64,
    /// As written.
    pub text: Box<str>,
    /// The same rule in the capture: several when they read alike. Empty when it is not there.
    pub captured: Vec<Evidence>,
    /// The capture holds no such rule (or chain). False also when that cannot be told.
    pub absent: bool,
}

/// What the walk says about a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passed {
    /// It looked at it, and it did not match.
    NoMatch,
    /// It could not tell whether it matched.
    Undecided,
    /// It comes to it, and it matches, later.
    Later,
    /// It did not come to it.
    NotReached,
}

impl Against {
    /// The exit code: 0 no difference, 1 they part, 3 the walk could not tell where the kernel went on.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        let any = |wanted: fn(&Compared) -> bool| self.comparisons.iter().any(|c| wanted(&c.result));
        if any(|r| matches!(r, Compared::Differs(_))) {
            1
        } else if any(|r| matches!(r, Compared::CannotTell(_))) {
            3
        } else {
            0
        }
    }
}

/// What is compared: every branch of a walk at full detail, in the order of the explanation's.
pub(crate) struct Walked {
    pub branches: Vec<Branch>,
    /// The client's port is any: a value that stands for it matches all.
    pub any_port: Option<u16>,
    /// More branches than the limit.
    pub truncated: bool,
}

/// Compares a walk with a recording. `place` is `NODE` or `NODE/NETNS`; without it, the namespace where the
/// walk agrees furthest is taken.
pub(crate) fn compare(
    context: Context<'_, '_>,
    walked: &Walked,
    recording: &KernelTrace,
    place: Option<&str>,
) -> Result<Against, AgainstError> {
    if recording.packets.is_empty() {
        return Err(AgainstError::NoTrace {
            first: recording.unread.first().cloned(),
            lines: recording.unread_count,
        });
    }
    let spaces = error::spaces(context, walked, place)?;
    let mut best: Option<Vec<(Found, NsId)>> = None;
    for &ns in &spaces {
        let rules = Rules::new(context.world.space(ns));
        let mut here: Vec<(Found, NsId)> = Vec::new();
        for in_log in [false, true] {
            for direction in [Direction::Request, Direction::Reply] {
                let found = one(context, walked, recording, (ns, direction, in_log), &rules);
                here.extend(found.map(|found| (found, ns)));
            }
        }
        // Of two namespaces that fit as well, the one the packet comes to first.
        let score = |all: &[(Found, NsId)]| all.iter().map(|(f, _)| f.score()).max();
        if !here.is_empty() && best.as_deref().and_then(score) < score(&here) {
            best = Some(here);
        }
    }
    let Some(best) = best else {
        return Err(error::no_packet(context, walked, recording, &spaces));
    };
    let mut taken: BTreeSet<u64> = BTreeSet::new();
    let mut builder = Builder::new(context.world, context.names, true);
    let mut comparisons = Vec::new();
    for (found, ns) in best {
        taken.extend(&found.like);
        found.evidence().for_each(|e| builder.evidence(e));
        builder.place(ns);
        comparisons.push(found.comparison);
    }
    Ok(Against {
        file: String::new(),
        comparisons,
        other_packets: recording
            .packets
            .iter()
            .filter(|p| !taken.contains(&p.lines().0))
            .count(),
        unread: recording.unread.clone(),
        unread_count: recording.unread_count,
        glossary: builder.finish(),
    })
}

/// The packet of one direction in one namespace, beside every branch.
fn one(
    context: Context<'_, '_>,
    walked: &Walked,
    recording: &KernelTrace,
    (ns, direction, in_log): (NsId, Direction, bool),
    rules: &Rules<'_, '_>,
) -> Option<Found> {
    let space = context.world.space(ns);
    let paths: Vec<(usize, Path<'_>)> = walked
        .branches
        .iter()
        .enumerate()
        .filter_map(|(i, branch)| {
            let (hops, ended) = hops(branch, direction)?;
            let unknown = ended == Outcome::Unknown;
            let path = Path::of(hops, ns, in_log, unknown, rules)?;
            Some((i, path))
        })
        .collect();
    let like: Vec<&TracedPacket> = recording
        .packets
        .iter()
        .filter(|p| p.in_log() == in_log)
        .filter(|p| {
            p.header.as_ref().is_some_and(|h| {
                let fits =
                    |path: &Path<'_>| path.flags_fit(h) && path.faces.iter().any(|face| face.fits(h, walked.any_port));
                paths.iter().any(|(_, path)| fits(path))
            })
        })
        .collect();
    let packet = *like.first()?;
    let header = packet.header.as_ref()?;
    let mut best: Option<Found> = None;
    let mut alike = 0;
    for (i, path) in &paths {
        let mut found = align::align(path, (packet, header), rules, space, walked.any_port);
        found.comparison.direction = direction;
        found.comparison.branch = *i;
        found.comparison.candidate = (1, like.len());
        let share = |f: &Found| &walked.branches[f.comparison.branch].at_most;
        match best.as_ref().map(|b| b.score().cmp(&found.score())) {
            Some(Ordering::Greater) => {}
            Some(Ordering::Equal) => {
                alike += 1;
                // The likelier one stands for all.
                best = best.map(|b| if share(&b) < share(&found) { found } else { b });
            }
            Some(Ordering::Less) | None => (best, alike) = (Some(found), 1),
        }
    }
    let mut best = best?;
    best.comparison.alike = alike;
    best.like = like.iter().map(|p| p.lines().0).collect();
    if walked.truncated
        && let Compared::Differs(difference) = best.comparison.result
    {
        // A branch that is not looked at may agree.
        best.comparison.result = Compared::CannotTell(difference);
    }
    Some(best)
}

/// The hops of a direction, and how they end.
fn hops(branch: &Branch, direction: Direction) -> Option<(&[Hop], Outcome)> {
    match direction {
        Direction::Request => Some((&branch.hops, branch.end.outcome)),
        Direction::Reply => branch.reply.as_ref().map(|r| (&*r.hops, r.end.outcome)),
    }
}

/// The flags that tell one packet of a TCP connection from another.
const TELLING: u8 = tcp_flag::SYN | tcp_flag::ACK | tcp_flag::FIN | tcp_flag::RST;

/// TCP flags of a packet, those that tell.
const fn telling(l4: &L4) -> Option<u8> {
    match l4 {
        L4::Tcp { flags, .. } => Some(*flags & TELLING),
        _ => None,
    }
}
