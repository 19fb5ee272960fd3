//! The one line that says it: what the client sees, and who answers or what is in the way.

use crate::explanation::{Branch, ClientSees, Explanation, Fork, Outcome, Ratio, Unknown};
use crate::fold;
use crate::render::{sentence, words};

use super::layout::{Page, Span, Tone};
use super::odds;

/// The branches of the main case: those in which errors are told and clients wait.
pub fn main(explanation: &Explanation) -> Vec<&Branch> {
    let main: Vec<&Branch> = explanation.branches.iter().filter(|b| !fold::alternative(b)).collect();
    if main.is_empty() {
        explanation.branches.iter().collect()
    } else {
        main
    }
}

/// The word in front, and its tone.
pub fn word(explanation: &Explanation) -> (&'static str, Tone) {
    let main = main(explanation);
    if main
        .iter()
        .all(|b| b.end.outcome == Outcome::LeavesCluster && !explanation.programs_decide(b))
    {
        return ("LEAVES", Tone::Warn);
    }
    let first = main.first().map_or(ClientSees::Unknown, |b| explanation.sees(b));
    if main.iter().all(|b| explanation.sees(b) == first) {
        return of(first);
    }
    if !main
        .iter()
        .any(|b| matches!(explanation.sees(b), ClientSees::Reply | ClientSees::Unknown))
    {
        ("FAILS", Tone::Bad)
    } else if main.iter().any(|b| fold::conditions(b).next().is_some()) {
        ("DEPENDS", Tone::Warn)
    } else {
        ("MIXED", Tone::Warn)
    }
}

/// What a client sees, as one word and its tone.
pub const fn of(sees: ClientSees) -> (&'static str, Tone) {
    match sees {
        ClientSees::Reply => ("REPLY", Tone::Good),
        ClientSees::Timeout => ("TIMEOUT", Tone::Bad),
        ClientSees::Refused => ("REFUSED", Tone::Bad),
        ClientSees::Unreachable => ("UNREACHABLE", Tone::Bad),
        ClientSees::Prohibited => ("PROHIBITED", Tone::Bad),
        ClientSees::Invalid => ("INVALID", Tone::Bad),
        ClientSees::Permission => ("NOT PERMITTED", Tone::Bad),
        ClientSees::Unknown => ("CANNOT TELL", Tone::Warn),
    }
}

/// The verdict line.
pub fn line(page: &mut Page, explanation: &Explanation) {
    let (word, tone) = word(explanation);
    page.flow(0, 2, &[Span(format!("{word}:"), tone), sentence(explanation).into()]);
}

/// The sentence after the word.
#[must_use]
pub fn sentence(explanation: &Explanation) -> String {
    let main = main(explanation);
    let first = main.first().map_or(ClientSees::Unknown, |b| b.client_sees);
    let mut said = if main.iter().all(|b| b.client_sees == first) {
        alike(explanation, &main)
    } else {
        differing(explanation, &main)
    };
    if let Some(seen) = main.iter().find_map(|b| explanation.taken_over(b)) {
        let system = words::system(seen.system).1;
        said = format!(
            "programs of {system} decide on {}, and they are not run. By the kernel's own tables alone: {said}",
            seen.node
        );
    }
    if let Some(other) = beside(explanation, first) {
        said.push_str(&format!(" {other}"));
    }
    said
}

/// The client fares the same on every branch, for one or for several reasons.
fn alike(explanation: &Explanation, main: &[&Branch]) -> String {
    let glossary = &explanation.glossary;
    let client = sentence::source(&explanation.src);
    let target = sentence::target(explanation);
    let Some(first) = main.first() else {
        return "there is no way to follow.".to_owned();
    };
    if first.client_sees == ClientSees::Reply {
        let servers = servers(main);
        return match servers.len() {
            0 | 1 => format!("{}.", answered(&sentence::branch(glossary, first), &client, &target)),
            n => format!("{n} servers answer {client} for {target}{}.", even(main, &servers)),
        };
    }
    let mut clauses: Vec<String> = Vec::new();
    for branch in main {
        let clause = sentence::branch(glossary, branch);
        if !clauses.contains(&clause) {
            clauses.push(clause);
        }
    }
    let dots = if clauses.len() > 2 {
        format!("; and {} more", clauses.len() - 2)
    } else {
        String::new()
    };
    clauses.truncate(2);
    format!("{client} to {target}: {}{dots}.", clauses.join("; or "))
}

/// So many unknowns make a sentence; with more it only says how many there are.
const TELLABLE: usize = 3;

/// The client fares differently: each fate with its share and its reason, those that fail first.
fn differing(explanation: &Explanation, main: &[&Branch]) -> String {
    let glossary = &explanation.glossary;
    if let Some(said) = too_many(main) {
        return said;
    }
    let mut parts: Vec<String> = Vec::new();
    for group in explanation.groups.iter().filter(|g| !g.alternative) {
        let branch = &explanation.branches[group.members[0]];
        if branch.client_sees == ClientSees::Reply {
            continue;
        }
        let sees = words::sees(branch.client_sees);
        let how = sentence::branch(glossary, branch);
        parts.push(match conditions(branch) {
            Some(condition) => format!("{sees} if {condition}: {how}"),
            None => format!("{} {sees}: {how}", odds::range(&group.at_least, &group.at_most)),
        });
    }
    let replies: Vec<&Branch> = main
        .iter()
        .copied()
        .filter(|b| b.client_sees == ClientSees::Reply)
        .collect();
    if !replies.is_empty() {
        let who = match servers(&replies).len() {
            1 => "1 server answers".to_owned(),
            n => format!("{n} servers answer"),
        };
        let (least, most) = total(&replies);
        parts.push(match replies.iter().find_map(|b| conditions(b)) {
            Some(condition) => format!("reply if {condition}: {who}"),
            None => format!("{} reply: {who}", odds::range(&least, &most)),
        });
    }
    format!("{}.", parts.join("; "))
}

/// What is not known is too much to be told of every fate.
fn too_many(main: &[&Branch]) -> Option<String> {
    let (mut unknowns, mut fates): (Vec<&Unknown>, Vec<&str>) = (Vec::new(), Vec::new());
    for branch in main {
        for (unknown, _) in fold::conditions(branch) {
            if !unknowns.contains(&unknown) {
                unknowns.push(unknown);
            }
        }
        let sees = words::sees(branch.client_sees);
        if !fates.contains(&sees) {
            fates.push(sees);
        }
    }
    if unknowns.len() <= TELLABLE {
        return None;
    }
    let (n, fates) = (unknowns.len(), fates.join(" or "));
    let taken = main.iter().flat_map(|b| fold::conditions(b)).next();
    let first = taken.map(|(unknown, option)| words::condition(unknown, option))?;
    Some(format!(
        "{fates}, by {n} things that cannot be told: whether {first}; and {} more, listed below.",
        n - 1
    ))
}

/// What the client sees beside the main case, when errors are held back or it does not wait.
fn beside(explanation: &Explanation, main: ClientSees) -> Option<String> {
    let branch = explanation
        .branches
        .iter()
        .find(|b| fold::alternative(b) && b.client_sees != main)?;
    let condition = branch.path.iter().find_map(|t| match &t.fork {
        Fork::Unknown(unknown) if t.option > 0 => Some(words::condition(unknown, t.option)),
        _ => None,
    })?;
    Some(format!("(A {} if {condition}.)", words::sees(branch.client_sees)))
}

/// What must hold for a branch, of what could not be told.
fn conditions(branch: &Branch) -> Option<String> {
    let all: Vec<String> = fold::conditions(branch)
        .map(|(unknown, option)| words::condition(unknown, option))
        .collect();
    (!all.is_empty()).then(|| all.join(" and "))
}

fn answered(clause: &str, client: &str, target: &str) -> String {
    format!("{clause} {client} for {target}")
}

/// Servers by where and how they are reached, in the order of the branches.
fn servers(branches: &[&Branch]) -> Vec<(Option<u32>, String)> {
    let mut all = Vec::new();
    for branch in branches {
        let server = server(branch);
        if !all.contains(&server) {
            all.push(server);
        }
    }
    all
}

fn server(branch: &Branch) -> (Option<u32>, String) {
    (branch.end.place.ns.map(|ns| ns.0), words::ends(&branch.end.packet).1)
}

/// `, 1/4 each` when it is so.
fn even(branches: &[&Branch], servers: &[(Option<u32>, String)]) -> String {
    let share = |of: &(Option<u32>, String)| {
        let its: Vec<&Branch> = branches.iter().copied().filter(|b| server(b) == *of).collect();
        let (least, most) = total(&its);
        odds::range(&least, &most)
    };
    let shares: Vec<String> = servers.iter().map(share).collect();
    match shares.first() {
        Some(first) if shares.iter().all(|s| s == first) => format!(", {first} each"),
        _ => String::new(),
    }
}

/// The shares of some branches together.
pub fn total(branches: &[&Branch]) -> (Ratio, Ratio) {
    fold::together(branches.iter().map(|branch| fold::share(branch)))
}
