//! The one line that says it: what the client sees, and who answers or what is in the way.

use crate::explanation::{Branch, ClientSees, Explanation, Outcome, Verdict};
use crate::render::{sentence, words};

use super::layout::{Page, Span, Tone};
use super::odds;

/// The word in front.
fn word(explanation: &Explanation) -> (&'static str, Tone) {
    if explanation.outcome() == Some(Outcome::LeavesCluster) {
        return ("LEAVES", Tone::Warn);
    }
    match explanation.verdict() {
        Verdict::Mixed => ("MIXED", Tone::Warn),
        Verdict::Same(sees) => of(sees),
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
    let glossary = &explanation.glossary;
    let client = sentence::source(&explanation.src);
    let target = sentence::target(explanation);
    let branches = &explanation.branches;
    let Some(first) = branches.first() else {
        return "there is no way to follow".to_owned();
    };
    let replies = |b: &&Branch| b.client_sees == ClientSees::Reply;
    let answering = branches.iter().filter(replies).count();
    if answering == branches.len() {
        let servers = servers(branches.iter());
        return match servers.len() {
            0 | 1 => format!("{}.", capital(&sentence::branch(glossary, first), &client, &target)),
            n => format!(
                "{n} servers answer {client} for {target}{}.",
                even(explanation, &servers)
            ),
        };
    }
    if explanation.verdict() == Verdict::Mixed {
        let mut parts = Vec::new();
        for group in &explanation.groups {
            let branch = &branches[group.members[0]];
            let share = odds::range(&group.at_least, &group.at_most);
            let what = match branch.client_sees {
                ClientSees::Reply => continue,
                sees => format!("{share} {}: {}", words::sees(sees), sentence::branch(glossary, branch)),
            };
            parts.push(what);
        }
        if answering > 0 {
            let (least, most) = total(branches.iter().filter(replies));
            let servers = servers(branches.iter().filter(replies));
            let who = if servers.len() == 1 {
                "1 server answers".to_owned()
            } else {
                format!("{} servers answer", servers.len())
            };
            parts.push(format!("{} reply: {who}", odds::range(&least, &most)));
        }
        return format!("{}.", parts.join("; "));
    }
    // The same for the client on every branch, for one or for several reasons.
    let mut clauses: Vec<String> = Vec::new();
    for group in &explanation.groups {
        let clause = sentence::branch(glossary, &branches[group.members[0]]);
        if !clauses.contains(&clause) {
            clauses.push(clause);
        }
    }
    let dots = if clauses.len() > 2 {
        format!("; and {} more", clauses.len() - 2)
    } else {
        String::new()
    };
    format!(
        "{client} to {target}: {}{dots}.",
        clauses.into_iter().take(2).collect::<Vec<_>>().join("; or ")
    )
}

fn capital(clause: &str, client: &str, target: &str) -> String {
    format!("{clause} {client} for {target}")
}

/// Servers by where and how they are reached, in the order of the branches.
fn servers<'a>(branches: impl Iterator<Item = &'a Branch>) -> Vec<(Option<u32>, String)> {
    let mut all = Vec::new();
    for branch in branches {
        let key = (branch.end.place.ns.map(|ns| ns.0), words::ends(&branch.end.packet).1);
        if !all.contains(&key) {
            all.push(key);
        }
    }
    all
}

/// `, 1/4 each` when it is so.
fn even(explanation: &Explanation, servers: &[(Option<u32>, String)]) -> String {
    let mut shares: Vec<String> = Vec::new();
    for server in servers {
        let of = explanation
            .branches
            .iter()
            .filter(|b| (b.end.place.ns.map(|ns| ns.0), words::ends(&b.end.packet).1) == *server);
        let (least, most) = total(of);
        shares.push(odds::range(&least, &most));
    }
    match shares.first() {
        Some(first) if shares.iter().all(|s| s == first) => format!(", {first} each"),
        _ => String::new(),
    }
}

/// The shares of some branches together.
pub fn total<'a>(branches: impl Iterator<Item = &'a Branch>) -> (crate::explanation::Ratio, crate::explanation::Ratio) {
    use num_traits::Zero;
    branches.fold((Zero::zero(), Zero::zero()), |(least, most), b| {
        (least + &b.at_least, most + &b.at_most)
    })
}
