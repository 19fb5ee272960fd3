//! The walk beside a recording of the kernel's trace.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::Serialize;

use super::convert::Names;
use super::model::Evidence;
use super::steps::{self, Step};
use crate::against::{Against, Compared, Comparison, Difference, Direction, Part, Passed, Recorder};
use crate::explanation::Glossary;
use crate::render::words;

/// The walk beside a recording.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct AgainstDoc {
    /// What the recording is called.
    pub file: String,
    /// Kernel and walk agree; null when the walk could not tell where the kernel went on.
    pub agrees: Option<bool>,
    /// The request, and the reply when the recording has it too.
    pub comparisons: Vec<ComparisonDoc>,
    /// Packets of other flows in the recording.
    pub other_packets: usize,
    /// Lines that are not understood, the first of them.
    pub not_understood: Vec<LineDoc>,
    /// How many lines are not understood.
    pub not_understood_count: usize,
}

/// One packet of the recording beside the walk.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ComparisonDoc {
    /// `request` or `reply`.
    pub direction: String,
    /// Node.
    pub node: String,
    /// Namespace: `host`, or a folder under `netns/`.
    pub netns: String,
    /// `nftables` (native rules and those of iptables-nft) or `kernel-log` (legacy iptables).
    pub recorded_by: String,
    /// The packet in the recording.
    pub packet: RecordedPacket,
    /// The branch that agrees furthest: its index in `branches`.
    pub branch: usize,
    /// How many branches agree as far.
    pub branches_alike: usize,
    /// Rules and policies that both have, up to the difference.
    pub steps: usize,
    /// Of these, those where only chain and verdict could be compared.
    pub by_verdict_only: usize,
    /// Rules that matched in the kernel and of which the walk could not tell; they change nothing.
    pub undecided: usize,
    /// Steps of the walk before the kernel's trace begins.
    pub before_trace: usize,
    /// Events of the rule that switched tracing on.
    pub of_tracing: usize,
    /// `agrees`, `differs` or `cannot-tell`.
    pub result: String,
    /// Where they part.
    pub difference: Option<DifferenceDoc>,
}

/// A packet of a recording.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct RecordedPacket {
    /// Source.
    pub src: IpAddr,
    /// Source port.
    pub sport: Option<u16>,
    /// Destination.
    pub dst: IpAddr,
    /// Destination port.
    pub dport: Option<u16>,
    /// Device it came in by.
    pub iif: Option<String>,
    /// First line.
    pub first_line: u64,
    /// Last line.
    pub last_line: u64,
    /// Which of the packets that are like it, from 1.
    pub number: usize,
    /// How many of the recording's packets are like it.
    pub of: usize,
}

/// The first step where kernel and walk part.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct DifferenceDoc {
    /// `rule`, `verdict`, `packet`, `kernel-ends`, `walk-ends`.
    pub what: String,
    /// The kernel's side; null when its trace ends here.
    pub kernel: Option<KernelDoc>,
    /// The walk's side; null when it ends here.
    pub walk: Option<Step>,
    /// The walk's packet, where the packets differ: `SRC → DST`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub walk_packet: Option<String>,
}

/// A line of the recording.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct KernelDoc {
    /// Line, from 1.
    pub line: u64,
    /// As written.
    pub text: String,
    /// The same rule in the capture; several when they read alike.
    pub captured: Vec<Evidence>,
    /// The capture has no such rule or chain.
    pub absent_from_capture: bool,
    /// What the walk says about that rule: `no-match`, `undecided`, `later`, `not-reached`.
    pub walk_says: Option<String>,
}

/// A line as written.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct LineDoc {
    /// Line, from 1.
    pub line: u64,
    /// As written.
    pub text: String,
}

/// Converts.
pub fn document(glossary: &Glossary, against: &Against) -> AgainstDoc {
    AgainstDoc {
        file: against.file.clone(),
        agrees: match against.exit_code() {
            0 => Some(true),
            1 => Some(false),
            _ => None,
        },
        comparisons: against
            .comparisons
            .iter()
            .map(|c| comparison(glossary, against, c))
            .collect(),
        other_packets: against.other_packets,
        not_understood: against
            .unread
            .iter()
            .map(|u| LineDoc {
                line: u.line,
                text: u.text.to_string(),
            })
            .collect(),
        not_understood_count: against.unread_count,
    }
}

fn comparison(glossary: &Glossary, against: &Against, c: &Comparison) -> ComparisonDoc {
    let (node, netns) = Names { glossary }.place(c.ns);
    let (result, parted) = match &c.result {
        Compared::Agrees => ("agrees", None),
        Compared::CannotTell(d) => ("cannot-tell", Some(d)),
        Compared::Differs(d) => ("differs", Some(d)),
    };
    ComparisonDoc {
        direction: match c.direction {
            Direction::Request => "request",
            Direction::Reply => "reply",
        }
        .to_owned(),
        node,
        netns,
        recorded_by: match c.recorder {
            Recorder::NfTables => "nftables",
            Recorder::KernelLog => "kernel-log",
        }
        .to_owned(),
        packet: RecordedPacket {
            src: c.packet.src,
            sport: c.packet.sport,
            dst: c.packet.dst,
            dport: c.packet.dport,
            iif: c.packet.iif.as_ref().map(ToString::to_string),
            first_line: c.lines.0,
            last_line: c.lines.1,
            number: c.candidate.0,
            of: c.candidate.1,
        },
        branch: c.branch,
        branches_alike: c.alike,
        steps: c.steps,
        by_verdict_only: c.by_verdict,
        undecided: c.undecided,
        before_trace: c.untraced,
        of_tracing: c.tracer,
        result: result.to_owned(),
        difference: parted.map(|d| difference(glossary, against, c, d)),
    }
}

fn difference(glossary: &Glossary, against: &Against, c: &Comparison, d: &Difference) -> DifferenceDoc {
    let cites = Names {
        glossary: &against.glossary,
    };
    DifferenceDoc {
        what: match &d.what {
            Part::Step => "rule",
            Part::Verdict => "verdict",
            Part::Packet(_) => "packet",
            Part::KernelEnds => "kernel-ends",
            Part::WalkEnds => "walk-ends",
        }
        .to_owned(),
        kernel: d.kernel.as_ref().map(|k| KernelDoc {
            line: k.line,
            text: k.text.to_string(),
            captured: cites.all_evidence(&k.captured),
            absent_from_capture: k.absent,
            walk_says: d.passed.map(|p| {
                match p {
                    Passed::NoMatch => "no-match",
                    Passed::Undecided => "undecided",
                    Passed::Later => "later",
                    Passed::NotReached => "not-reached",
                }
                .to_owned()
            }),
        }),
        walk: d.walk.as_ref().map(|step| {
            let mut doc = steps::step(Names { glossary }, c.ns, step);
            doc.evidence = cites.all_evidence(&step.evidence);
            doc
        }),
        walk_packet: match &d.what {
            Part::Packet(face) => Some(format!(
                "{} → {}",
                words::socket(face.src, face.sport),
                words::socket(face.dst, face.dport)
            )),
            _ => None,
        },
    }
}
