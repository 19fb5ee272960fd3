//! The flow as part of a connection that conntrack holds.

use crate::explanation::{Connection, Evidence, Explanation};
use crate::fold;
use crate::render::{sentence, words};

use super::head::cite;
use super::layout::{Page, Span, Tone, dim};
use super::{Show, odds, path, verdict};

/// Every captured connection of the flow: its rows, and what becomes of a packet of it.
pub fn sections(page: &mut Page, explanation: &Explanation, show: Show) {
    for connection in &explanation.connections {
        page.gap();
        section(page, explanation, connection, show);
    }
}

fn section(page: &mut Page, explanation: &Explanation, connection: &Connection, show: Show) {
    let glossary = &explanation.glossary;
    let mut places: Vec<String> = Vec::new();
    for (ns, _) in &connection.entries {
        let place = sentence::place(glossary, Some(*ns));
        if !places.contains(&place) {
            places.push(place);
        }
    }
    page.flow(
        0,
        2,
        &[
            Span("Captured connection:".to_owned(), Tone::Head),
            format!(
                "{} of {} has this flow. What is said above is for a new one; a packet of this one keeps its server \
                 and its translation, and no nat rule is asked:",
                tables(connection),
                places.join(", ")
            )
            .into(),
        ],
    );
    for group in connection.groups.iter().filter(|g| !g.alternative) {
        let branch = &connection.branches[group.members[0]];
        let (word, tone) = verdict::of(branch.client_sees);
        let mut spans = vec![Span(format!("{word}:"), tone)];
        if connection.groups.len() > 1 {
            spans.push(odds::range(&group.at_least, &group.at_most).into());
        }
        spans.push(format!("{}.", sentence::branch(glossary, branch)).into());
        page.flow(2, 4, &spans);
        for (unknown, option) in fold::conditions(branch) {
            page.field(4, 8, &dim("if"), &[Span(words::condition(unknown, option), Tone::Warn)]);
        }
        if show == Show::Full {
            path::request(page, explanation, branch);
        }
    }
    for (_, evidence) in &connection.entries {
        page.flow(2, 4, &[evidence.text.to_string().into()]);
        page.flow(2, 4, &[dim(cite(glossary, evidence))]);
    }
}

/// Whose table it is.
fn tables(connection: &Connection) -> &'static str {
    let ipvs = |(_, row): &(_, Evidence)| row.artifact.ends_with("/ipvs-conn.txt");
    let (all, any) = (connection.entries.iter().all(ipvs), connection.entries.iter().any(ipvs));
    match (all, any) {
        (true, _) => "IPVS",
        (false, true) => "conntrack and IPVS",
        (false, false) => "conntrack",
    }
}
