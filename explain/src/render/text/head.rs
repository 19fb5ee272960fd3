//! Who sends what to whom, who answers with which odds, and the rows that decide.

use crate::explanation::{
    Branch, ClientSees, Entry, Evidence, Explanation, Glossary, L4, Outcome, Source, Target, What,
};
use crate::render::{sentence, words};

use super::layout::{Page, Span, dim, strong};
use super::{odds, verdict};

/// Columns of the labels of the head.
pub const MARGIN: usize = 2;
/// Where the text beside labels begins.
pub const INDENT: usize = 12;

/// The block under the verdict.
pub fn block(page: &mut Page, explanation: &Explanation) {
    let glossary = &explanation.glossary;
    let sent = &explanation.sent;
    let mut from = vec![strong(words::source(&explanation.src))];
    match &explanation.src {
        Source::Pod { node, host_network, .. } => {
            from.push(dim(match sent.src.is_unspecified() {
                true => format!("on {node}"),
                false => format!("{} on {node}", sent.src),
            }));
            if *host_network {
                from.push(dim("(hostNetwork)"));
            }
        }
        Source::Node(_) | Source::Netns { .. } => {
            from.extend((!sent.src.is_unspecified()).then(|| dim(sent.src.to_string())))
        }
        Source::Client { node, dev, entry, .. } => from.push(dim(match entry {
            Entry::OnSegment => format!("on the segment of {dev} of {node}"),
            _ => format!("enters {node} by {dev}"),
        })),
    }
    page.field(MARGIN, INDENT, &dim("from"), &from);
    let mut to = vec![strong(words::target(&explanation.dst, sent))];
    let (_, socket) = words::ends(sent);
    let written = matches!(explanation.dst, Target::Address | Target::Localhost);
    let what = match (&sent.l4, words::icmp(sent)) {
        (L4::Icmp { .. }, Some((ty, code))) => format!("{} type {ty} code {code}", words::protocol(sent.proto)),
        _ => words::protocol(sent.proto),
    };
    to.push(dim(format!("{socket} {what}")));
    if written && let Some(whose) = sentence::whose(glossary, sent.dst) {
        to.push(dim(format!("({whose})")));
    }
    if written {
        to.remove(0);
    }
    page.field(MARGIN, INDENT, &dim("to"), &to);
    servers(page, explanation);
    source_seen(page, explanation);
}

/// Who gets the packet, with odds.
fn servers(page: &mut Page, explanation: &Explanation) {
    let mut rows: Vec<(Vec<&Branch>, String)> = Vec::new();
    for branch in verdict::main(explanation) {
        let text = destination(&explanation.glossary, branch);
        match rows
            .iter_mut()
            .find(|(of, t)| *t == text && of[0].client_sees == branch.client_sees)
        {
            Some((of, _)) => of.push(branch),
            None => rows.push((vec![branch], text)),
        }
    }
    if rows.len() < 2 {
        return;
    }
    // Those that fail first: they are why somebody asks.
    rows.sort_by_key(|(of, _)| of[0].client_sees == ClientSees::Reply);
    const MOST: usize = 12;
    let more = rows.len().saturating_sub(MOST);
    let mixed = rows.iter().any(|(of, _)| of[0].client_sees != rows[0].0[0].client_sees);
    let odds_of = |of: &[&Branch]| {
        let (least, most) = verdict::total(of);
        odds::range(&least, &most)
    };
    let width = rows
        .iter()
        .take(MOST)
        .map(|(of, _)| odds_of(of).chars().count())
        .max()
        .unwrap_or(0);
    for (i, (of, text)) in rows.iter().take(MOST).enumerate() {
        let label = if i == 0 { "odds" } else { "" };
        let (word, tone) = verdict::of(of[0].client_sees);
        let share = odds_of(of);
        let mut spans = vec![strong(share.clone())];
        // Shares line up: the words of a field are joined by one blank, so the first is padded.
        spans[0].0 = format!("{share:<width$}").replace(' ', "\u{a0}");
        if mixed {
            spans.push(Span(word.to_lowercase(), tone));
        }
        spans.push(text.as_str().into());
        page.field(MARGIN, INDENT, &dim(label), &spans);
    }
    if more > 0 {
        page.field(
            MARGIN,
            INDENT,
            &dim(""),
            &[dim(format!("and {more} more (all in -o json)"))],
        );
    }
}

/// Where a branch's request ends, in a few words.
fn destination(glossary: &Glossary, branch: &Branch) -> String {
    match branch.end.outcome {
        Outcome::Delivered => sentence::server(glossary, branch),
        outcome => {
            let (_, socket) = words::ends(&branch.end.packet);
            let whose = sentence::whose(glossary, branch.end.packet.dst);
            let whose = whose.map(|w| format!(" ({w})")).unwrap_or_default();
            let at = sentence::place(glossary, branch.end.place.ns);
            format!("{} at {at}, on its way to {socket}{whose}", words::outcome(outcome))
        }
    }
}

/// Which source the server sees, when it is another than the client's.
fn source_seen(page: &mut Page, explanation: &Explanation) {
    let mut seen: Vec<(String, String)> = Vec::new();
    for branch in explanation
        .branches
        .iter()
        .filter(|b| b.end.outcome == Outcome::Delivered)
    {
        if branch.end.packet.src == explanation.sent.src {
            continue;
        }
        let by = branch.hops.iter().find_map(|hop| {
            hop.steps.iter().find_map(|s| match s.what {
                What::Nat { source: true, .. } => sentence::node(&explanation.glossary, Some(hop.ns)),
                _ => None,
            })
        });
        let Some(by) = by else { continue };
        let row = (branch.end.packet.src.to_string(), by.to_owned());
        if !seen.contains(&row) {
            seen.push(row);
        }
    }
    if seen.is_empty() {
        return;
    }
    let parts: Vec<String> = seen
        .iter()
        .map(|(addr, by)| format!("{addr} (translated on {by})"))
        .collect();
    let text = format!(
        "the server sees {} instead of {}",
        parts.join(" or "),
        explanation.sent.src
    );
    page.field(MARGIN, INDENT, &dim("source"), &[text.into()]);
}

/// The rows that decide, for every group of branches that does not get an answer.
pub fn why(page: &mut Page, explanation: &Explanation) {
    let mut shown: Vec<&Evidence> = Vec::new();
    for group in &explanation.groups {
        let branch = &explanation.branches[group.members[0]];
        if branch.client_sees == ClientSees::Reply {
            continue;
        }
        let (end, hops) = match (&branch.reply, &branch.followup) {
            _ if branch.end.outcome != Outcome::Delivered => (&branch.end, &branch.hops),
            (_, Some(followup)) => (&followup.end, &followup.hops),
            (Some(reply), None) => (&reply.end, &reply.hops),
            (None, None) => (&branch.end, &branch.hops),
        };
        for evidence in sentence::deciding(end, hops) {
            if shown.contains(&evidence) {
                continue;
            }
            shown.push(evidence);
            let label = if shown.len() == 1 { "why" } else { "" };
            page.field(MARGIN, INDENT, &dim(label), &[strong(evidence.text.to_string())]);
            page.field(MARGIN, INDENT, &dim(""), &[dim(cite(&explanation.glossary, evidence))]);
        }
    }
}

/// `nodes/node-1/host/iptables-nft.save:412`, `…/route.json[2]`.
pub fn cite(glossary: &Glossary, evidence: &Evidence) -> String {
    match glossary.cite(evidence) {
        Some(cite) => match cite.index {
            Some(index) => format!("{}[{index}]", evidence.artifact),
            None => format!("{}:{}", evidence.artifact, cite.line),
        },
        None => evidence.artifact.to_string(),
    }
}

/// The same without the folder, under a heading that names it.
pub fn short_cite(glossary: &Glossary, evidence: &Evidence) -> String {
    let full = cite(glossary, evidence);
    match full.rsplit_once('/') {
        Some((_, file)) => file.to_owned(),
        None => full,
    }
}
