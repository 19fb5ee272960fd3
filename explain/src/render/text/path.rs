//! The hops of each kind of path, grouped by node and namespace, and the way back in a few lines.

use crate::explanation::{Branch, ClientSees, Explanation, Hop, NsId, Outcome, Stage, Step, What};
use crate::fold::{self, Group};
use crate::render::{sentence, words};

use super::layout::{Page, Span, Tone, dim, strong};
use super::steps::Steps;
use super::{odds, verdict};

/// At most this many kinds of paths below full detail.
const MOST: usize = 4;

/// Every kind of path: those that fail first, then by their order.
pub fn paths(page: &mut Page, explanation: &Explanation, full: bool) {
    let fails = |g: &&Group| explanation.branches[g.members[0]].client_sees != ClientSees::Reply;
    let groups = || explanation.groups.iter().filter(|g| !g.alternative);
    let order: Vec<&Group> = groups().filter(fails).chain(groups().filter(|g| !fails(g))).collect();
    let many = order.len() > 1;
    let first = order.first().map(|g| &explanation.branches[g.members[0]]);
    for (i, group) in order.iter().enumerate() {
        if i == MOST && !full {
            page.gap();
            page.flow(
                0,
                2,
                &[dim(format!(
                    "{} more kinds of paths: --detail full shows them",
                    order.len() - MOST
                ))],
            );
            return;
        }
        let branch = &explanation.branches[group.members[0]];
        page.gap();
        if many {
            heading(page, explanation, group, branch, (i + 1, order.len()));
        }
        let before = first.filter(|_| i > 0);
        path(page, explanation, branch, before, full);
    }
}

/// `PATH 2 of 3: 1/4, timeout` and which branches it stands for.
fn heading(page: &mut Page, explanation: &Explanation, group: &Group, branch: &Branch, (n, of): (usize, usize)) {
    let (word, tone) = verdict::of(branch.client_sees);
    let mut spans = vec![
        Span(format!("PATH {n} of {of}:"), Tone::Head),
        strong(odds::range(&group.at_least, &group.at_most)),
        Span(word.to_lowercase(), tone),
    ];
    let glossary = &explanation.glossary;
    let place = |i: &usize| sentence::place(glossary, explanation.branches[*i].end.place.ns);
    let mut others: Vec<String> = group.members[1..].iter().map(place).collect();
    others.dedup();
    others.retain(|o| *o != sentence::place(glossary, branch.end.place.ns));
    if branch.end.outcome == Outcome::Delivered {
        spans.push(format!("to {}", sentence::place(glossary, branch.end.place.ns)).into());
        if !others.is_empty() {
            spans.push(dim(format!("(likewise {})", others.join(", ").replace("pod ", ""))));
        }
    }
    page.flow(0, 2, &spans);
    for (unknown, option) in fold::conditions(branch) {
        page.field(2, 6, &dim("if"), &[Span(words::condition(unknown, option), Tone::Warn)]);
    }
}

/// Every hop of a request.
pub fn request(page: &mut Page, explanation: &Explanation, branch: &Branch) {
    hops(page, explanation, &branch.hops, 0, &explanation.sent, true);
}

fn path(page: &mut Page, explanation: &Explanation, branch: &Branch, before: Option<&Branch>, full: bool) {
    let same = before.map_or(0, |b| {
        b.hops.iter().zip(&branch.hops).take_while(|(x, y)| x == y).count()
    });
    let start = explanation.sent.clone();
    hops(page, explanation, &branch.hops, same, &start, full);
    if let Some(reply) = &branch.reply {
        page.gap();
        let (src, dst) = words::ends(&reply.end.packet);
        let fine = reply.fits && reply.end.outcome == Outcome::Delivered;
        let what = match reply.answer {
            crate::explanation::Answer::Data => "answer".to_owned(),
            other => words::answer(other).to_owned(),
        };
        let mut spans = vec![strong("Reply"), dim(format!("({what})"))];
        if !fine {
            let how = if reply.end.outcome == Outcome::Delivered {
                format!("arrives as {src} → {dst}, which fits no question")
            } else {
                sentence::end(&explanation.glossary, &reply.end, &reply.hops, None)
            };
            spans.push(Span(how, Tone::Bad));
        }
        page.flow(0, 2, &spans);
        if full {
            let first = reply
                .hops
                .first()
                .map_or_else(|| reply.end.packet.clone(), |h| h.packet.clone());
            hops(page, explanation, &reply.hops, 0, &first, true);
        } else {
            page.flow(2, 4, &[way(explanation, &reply.hops).into()]);
            if !fine && let Some(last) = reply.hops.last() {
                hops(page, explanation, std::slice::from_ref(last), 0, &last.packet, false);
            }
        }
    }
    if let Some(followup) = &branch.followup {
        page.gap();
        let how = sentence::end(&explanation.glossary, &followup.end, &followup.hops, None);
        page.flow(0, 2, &[strong("Next packet of the client"), Span(how, Tone::Bad)]);
        let shown = if full {
            &followup.hops[..]
        } else {
            followup.hops.last().map(std::slice::from_ref).unwrap_or(&[])
        };
        if let Some(last) = shown.first() {
            hops(page, explanation, shown, 0, &last.packet, full);
        }
    }
}

/// Hops under headings of their namespaces. The first `same` are those of the first path.
fn hops(
    page: &mut Page,
    explanation: &Explanation,
    hops: &[Hop],
    same: usize,
    start: &crate::explanation::Packet,
    full: bool,
) {
    let mut at: Option<NsId> = None;
    let mut packet = start;
    for (i, hop) in hops.iter().enumerate() {
        if i < same {
            if at != Some(hop.ns) {
                page.flow(0, 2, &[strong(place(explanation, hop.ns)), dim("as in path 1")]);
            }
        } else {
            if at != Some(hop.ns) || i == same {
                if i > same || same == 0 {
                    page.gap();
                }
                let folder = explanation.glossary.places.get(&hop.ns).map(|p| match &p.netns {
                    Some(id) => format!("nodes/{}/netns/{id}/", p.node),
                    None => format!("nodes/{}/host/", p.node),
                });
                page.ends(
                    0,
                    &[Span(place(explanation, hop.ns), Tone::Head)],
                    &dim(folder.unwrap_or_default()),
                );
            }
            Steps {
                page: &mut *page,
                explanation,
                full,
            }
            .hop(hop, packet, i == 0);
        }
        at = Some(hop.ns);
        packet = &hop.packet;
    }
}

/// `node-1 · pod default/toolbox-1`
fn place(explanation: &Explanation, ns: NsId) -> String {
    let Some(place) = explanation.glossary.places.get(&ns) else {
        return "?".to_owned();
    };
    match (&place.pod, &place.netns) {
        (Some(pod), _) => format!("{} · pod {pod}", place.node),
        (None, Some(id)) => format!("{} · netns {id}", place.node),
        (None, None) => format!("{} · host", place.node),
    }
}

/// The way of a reply: places, and what was translated in them.
fn way(explanation: &Explanation, hops: &[Hop]) -> String {
    let glossary = &explanation.glossary;
    let mut parts: Vec<String> = Vec::new();
    let mut at: Option<NsId> = None;
    for hop in hops {
        let mut notes: Vec<String> = Vec::new();
        let mut tunnel = false;
        for Step { what, .. } in &hop.steps {
            match what {
                What::Nat { source, from, to } => {
                    let side = if *source { "from" } else { "to" };
                    notes.push(format!(
                        "{side} {} becomes {}",
                        words::socket(from.0, from.1),
                        words::socket(to.0, to.1)
                    ));
                }
                What::Encap { dev, .. } => {
                    tunnel = true;
                    notes.push(format!("tunnel {}", glossary.device(hop.ns, *dev)));
                }
                _ => {}
            }
        }
        let note = if notes.is_empty() {
            String::new()
        } else {
            format!(" ({})", notes.join(", "))
        };
        // The outer packet of a tunnel is sent and unwrapped where the inner one is: one place to a reader.
        let outer =
            matches!(hop.stage, Stage::Encap | Stage::Decap) || (hop.stage == Stage::Output && at == Some(hop.ns));
        if at == Some(hop.ns) && (outer || !tunnel) {
            if let Some(last) = parts.last_mut() {
                last.push_str(&note);
            }
        } else {
            parts.push(format!("{}{note}", sentence::place(glossary, Some(hop.ns))));
        }
        at = Some(hop.ns);
    }
    if let crate::explanation::Source::Client { addr, .. } = &explanation.src {
        parts.push(format!("client {addr}"));
    }
    parts.join(" → ")
}
