//! The walk beside a recording of the kernel's trace.

use crate::against::{Against, Compared, Comparison, Difference, Direction, Part, Passed, Recorder};
use crate::explanation::{Engine, Explanation, RuleVerdict, Step, What};
use crate::render::{sentence, words};

use super::head::{INDENT, MARGIN, cite};
use super::layout::{Page, Span, Tone, dim, strong};
use super::odds;

/// At most this many lines that are not understood are quoted.
const MOST: usize = 3;

/// The section.
pub fn section(page: &mut Page, explanation: &Explanation, against: &Against) {
    let file = &*against.file;
    for comparison in &against.comparisons {
        page.gap();
        heading(page, explanation, comparison);
        packet(page, explanation, comparison, file);
        match &comparison.result {
            Compared::Agrees => {}
            Compared::CannotTell(d) | Compared::Differs(d) => difference(page, against, d, file),
        }
        counted(page, comparison);
    }
    if against.other_packets > 0 {
        let n = against.other_packets;
        let text = format!("{file} has {n} more packet{} that are not this flow's", plural(n));
        page.flow(MARGIN, INDENT, &[dim(text)]);
    }
    if against.unread_count > 0 {
        let n = against.unread_count;
        let text = format!("{n} line{} of {file} not understood:", plural(n));
        page.flow(MARGIN, INDENT, &[Span(text, Tone::Warn)]);
        for unread in against.unread.iter().take(MOST) {
            let text: String = unread.text.chars().take(200).collect();
            page.flow(
                INDENT,
                INDENT + 2,
                &[text.into(), dim(format!("{file}:{}", unread.line))],
            );
        }
        if n > MOST {
            page.flow(INDENT, INDENT, &[dim("… (more in -o json)")]);
        }
    }
}

const fn plural(n: usize) -> &'static str {
    if n == 1 { "" } else { "s" }
}

/// `KERNEL AGREES with the walk over 14 steps (request, node-1)`
fn heading(page: &mut Page, explanation: &Explanation, c: &Comparison) {
    let n = c.steps;
    let steps = format!("{n} step{}", plural(n));
    let (word, tone, rest) = match &c.result {
        Compared::Agrees => ("KERNEL AGREES", Tone::Good, format!("with the walk over {steps}")),
        Compared::CannotTell(_) => (
            "KERNEL GOES ON",
            Tone::Warn,
            format!("where the walk cannot tell, after {steps} in common"),
        ),
        Compared::Differs(_) => (
            "KERNEL DIFFERS",
            Tone::Bad,
            format!("from the walk after {steps} in common"),
        ),
    };
    let place = sentence::place(&explanation.glossary, Some(c.ns));
    let node = sentence::node(&explanation.glossary, Some(c.ns)).unwrap_or_default();
    let place = if place.contains(node) {
        place
    } else {
        format!("{place} on {node}")
    };
    let which = match c.direction {
        Direction::Request => "request",
        Direction::Reply => "reply",
    };
    let by = match c.recorder {
        Recorder::NfTables => "",
        Recorder::KernelLog => ", iptables-legacy",
    };
    page.flow(
        0,
        2,
        &[
            Span(word.to_owned(), tone),
            rest.into(),
            dim(format!("({which}, {place}{by})")),
        ],
    );
}

fn packet(page: &mut Page, explanation: &Explanation, c: &Comparison, file: &str) {
    let (first, last) = c.lines;
    let mut spans = vec![
        strong(crate::against::header(&c.packet)),
        dim(format!("{file}:{first}-{last}")),
    ];
    if c.candidate.1 > 1 {
        spans.push(dim(format!(
            "(packet {} of {} that fit the flow)",
            c.candidate.0, c.candidate.1
        )));
    }
    page.field(MARGIN, INDENT, &dim("packet"), &spans);
    if explanation.branches.len() > 1
        && let Some(branch) = explanation.branches.get(c.branch)
    {
        let mut spans = vec![
            odds::range(&branch.at_least, &branch.at_most).into(),
            sentence::branch(&explanation.glossary, branch).into(),
        ];
        if c.alike > 1 {
            spans.push(dim(format!("(and {} that agree as far)", c.alike - 1)));
        }
        page.field(MARGIN, INDENT, &dim("branch"), &spans);
    }
}

fn difference(page: &mut Page, against: &Against, d: &Difference, file: &str) {
    match &d.kernel {
        None => page.field(MARGIN, INDENT, &strong("kernel"), &["its trace ends here".into()]),
        Some(side) => {
            let text = strong(side.text.to_string());
            page.field(MARGIN, INDENT, &strong("kernel"), &[text]);
            page.flow(INDENT, INDENT + 2, &[dim(format!("{file}:{}", side.line))]);
            for evidence in &side.captured {
                let row = [
                    dim("in the capture:"),
                    evidence.text.to_string().into(),
                    dim(cite(&against.glossary, evidence)),
                ];
                page.flow(INDENT, INDENT + 2, &row);
            }
            if side.absent {
                page.flow(INDENT, INDENT + 2, &["the capture has no such rule or chain".into()]);
            }
        }
    }
    let said = match d.passed {
        Some(Passed::NoMatch) => Some("the walk came to the kernel's rule, and it did not match"),
        Some(Passed::Undecided) => Some("the walk came to the kernel's rule and could not tell whether it matches"),
        Some(Passed::Later) => Some("the walk comes to the kernel's rule too, but later"),
        Some(Passed::NotReached) => Some("the walk does not come to the kernel's rule"),
        None => None,
    };
    let Some(step) = &d.walk else {
        page.field(MARGIN, INDENT, &strong("walk"), &["it ends here".into()]);
        return;
    };
    let mut spans = vec![strong(decision(step))];
    if let Part::Packet(face) = &d.what {
        spans = vec![
            "the packet is".into(),
            strong(format!(
                "{} → {}",
                words::socket(face.src, face.sport),
                words::socket(face.dst, face.dport)
            )),
            format!("when it comes to {}", decision(step)).into(),
        ];
    }
    page.field(MARGIN, INDENT, &strong("walk"), &spans);
    for evidence in &step.evidence {
        let row = [evidence.text.to_string().into(), dim(cite(&against.glossary, evidence))];
        page.flow(INDENT, INDENT + 2, &row);
    }
    if let Some(said) = said {
        page.flow(INDENT, INDENT + 2, &[said.into()]);
    }
}

/// `nat KUBE-SVC jump KUBE-SEP-…`
fn decision(step: &Step) -> String {
    let note = |engine: &Engine| match engine {
        Engine::XtLegacy => "legacy ",
        Engine::XtNft | Engine::Nft => "",
    };
    match &step.what {
        What::Rule {
            engine,
            table,
            chain,
            verdict,
        } => {
            let verdict = match verdict {
                Some(RuleVerdict::Continue) => "goes on".to_owned(),
                Some(RuleVerdict::Accept) => "accept".to_owned(),
                Some(RuleVerdict::Drop) => "drop".to_owned(),
                Some(RuleVerdict::Reject(how)) => format!("reject with {}", words::reject(*how)),
                Some(RuleVerdict::Jump(to)) => format!("jump {to}"),
                Some(RuleVerdict::Goto(to)) => format!("goto {to}"),
                Some(RuleVerdict::Return) => "return".to_owned(),
                Some(RuleVerdict::Queue) => "queue".to_owned(),
                Some(RuleVerdict::Nat) => "NAT".to_owned(),
                Some(RuleVerdict::Unknown) | None => "unknown".to_owned(),
            };
            format!("{}{table} {chain}: {verdict}", note(engine))
        }
        What::Policy {
            engine,
            table,
            chain,
            drop,
        } => {
            let policy = if *drop { "drop" } else { "accept" };
            format!("{}{table} {chain}: policy {policy}", note(engine))
        }
        _ => String::new(),
    }
}

/// What was not compared, and how.
fn counted(page: &mut Page, c: &Comparison) {
    let mut notes: Vec<String> = Vec::new();
    if c.untraced > 0 {
        notes.push(format!("{} before tracing was switched on", c.untraced));
    }
    if c.tracer > 0 {
        notes.push(format!("{} of the tracing itself left out", c.tracer));
    }
    if c.by_verdict > 0 {
        notes.push(format!("{} compared by chain and verdict only", c.by_verdict));
    }
    if c.undecided > 0 {
        notes.push(format!(
            "{} that the walk could not decide and that change nothing",
            c.undecided
        ));
    }
    if !notes.is_empty() {
        page.field(MARGIN, INDENT, &dim("steps"), &[dim(notes.join("; "))]);
    }
}
