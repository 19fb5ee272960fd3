//! `explain nodeport`, also a section of a trace to a NodePort.

use crate::render::{sentence, systems, words};
use crate::topics::nodeport::{From, Listener, Meaning, NodePortExplanation, PortOwner, View};

use super::layout::{Page, Span, Tone, dim, strong};
use super::{Show, odds, verdict};

const MARGIN: usize = 2;
const INDENT: usize = 12;

/// The answer as a section of a trace: in a summary only whose the port is and what takes it.
pub fn section(page: &mut Page, answer: &NodePortExplanation, show: Show) {
    if show == Show::Summary {
        headline(page, answer);
        sockets(page, answer);
        taker(page, answer);
    } else {
        self::answer(page, answer);
    }
}

/// The whole answer.
pub fn answer(page: &mut Page, answer: &NodePortExplanation) {
    headline(page, answer);
    page.gap();
    sockets(page, answer);
    page.gap();
    taker(page, answer);
    backends(page, answer);
    page.gap();
    page.flow(0, 2, &[strong("What you would see")]);
    tool(page, answer);
    for view in &answer.views {
        self::view(page, answer, view);
    }
    if matches!(answer.owner, PortOwner::Service { .. })
        && let Some(taker) = &answer.taker
    {
        page.gap();
        if taker.ipvs {
            ipvs_order(page);
        } else {
            order(page);
        }
    }
}

fn port(answer: &NodePortExplanation) -> String {
    format!("{}/{}", answer.port, words::protocol(answer.proto))
}

fn headline(page: &mut Page, answer: &NodePortExplanation) {
    let node = &answer.node;
    let port = port(answer);
    match &answer.owner {
        PortOwner::Service { name, .. } => page.flow(
            0,
            2,
            &[
                Span(format!("NodePort {port} on {node}"), Tone::Head),
                "is".into(),
                strong(format!("svc/{name}.")),
            ],
        ),
        PortOwner::HealthCheck(name) => page.flow(
            0,
            2,
            &[
                Span(format!("Port {port} on {node}"), Tone::Head),
                "is the".into(),
                strong("healthCheckNodePort"),
                format!("of svc/{name}: kube-proxy answers load balancers there, no pod does.").into(),
            ],
        ),
        PortOwner::Nobody => {
            page.flow(
                0,
                2,
                &[
                    Span(format!("Port {port} on {node}"), Tone::Head),
                    "is no NodePort of any Service.".into(),
                ],
            );
            let closest: Vec<String> = answer
                .closest
                .iter()
                .map(|(p, name)| format!("{p} (svc/{name})"))
                .collect();
            if !closest.is_empty() {
                page.flow(
                    0,
                    2,
                    &[format!("The closest NodePorts are {}.", closest.join(", ")).into()],
                );
            }
        }
        PortOwner::NotCaptured => page.flow(
            0,
            2,
            &[
                Span(format!("Port {port} on {node}"), Tone::Head),
                "- Services were not captured, so whose it is can only be read from the rules.".into(),
            ],
        ),
    }
}

fn sockets(page: &mut Page, answer: &NodePortExplanation) {
    let taken = answer.taker.is_some();
    match answer.listeners.as_deref() {
        None => page.flow(0, 0, &["Whether a socket listens on it is not known: sockets were not captured.".into()]),
        Some([]) if answer.taker.as_ref().is_some_and(|t| t.ipvs) => page.flow(
            0,
            0,
            &[
                "No socket listens on it, and none has to. ss and netstat list sockets; this port is a virtual service \
                 of IPVS, in the kernel, which takes the packet before it looks for a socket (ipvsadm -Ln lists them)."
                    .into(),
            ],
        ),
        Some([]) if answer.taker.as_ref().is_some_and(|t| t.refuses) => page.flow(
            0,
            0,
            &["No socket listens on it, and none would help: a rule refuses the packet before the kernel looks for one."
                .into()],
        ),
        Some([]) if taken => page.flow(
            0,
            0,
            &[
                "No socket listens on it, and none has to. ss and netstat list sockets; this port is a rule that \
                 rewrites the packet before the kernel looks for a socket."
                    .into(),
            ],
        ),
        Some([]) => page.flow(0, 0, &["No socket listens on it, and no rule takes packets for it.".into()]),
        Some(listeners) => {
            for listener in listeners {
                self::listener(page, listener, taken);
            }
        }
    }
}

fn listener(page: &mut Page, listener: &Listener, taken: bool) {
    let programs: Vec<String> = listener
        .programs
        .iter()
        .map(|(name, pid)| format!("{name} (pid {pid})"))
        .collect();
    let who = if programs.is_empty() {
        "A program that is not named".to_owned()
    } else {
        programs.join(", ")
    };
    let what = match listener.meaning {
        Meaning::HealthCheck => "listens on it to answer load balancers' health checks.",
        Meaning::Placeholder if taken => {
            "holds the port so that no other program takes it, as kube-proxy did before 1.27. It never accepts a \
             connection: a rule rewrites the packets before."
        }
        Meaning::Placeholder => "holds the port, but no rule takes packets for it on this node.",
        Meaning::Shadowed if taken => {
            "listens on it but never sees a packet for the node's addresses: a rule sends them to the Service before \
             a socket is looked up. Give the program, or the Service, another port."
        }
        Meaning::Shadowed | Meaning::Program if taken => "listens on it, but a rule takes the packets before.",
        Meaning::Shadowed | Meaning::Program => "listens on it and takes the packets.",
    };
    page.flow(0, 0, &[strong(who), what.into()]);
    let cite = listener.cite.map_or(String::new(), |c| format!(":{}", c.line));
    page.flow(2, 4, &[listener.evidence.text.to_string().into()]);
    page.flow(2, 4, &[dim(format!("{}{cite}", listener.evidence.artifact))]);
}

fn taker(page: &mut Page, answer: &NodePortExplanation) {
    for text in answer
        .views
        .first()
        .map(|v| systems::taken_over(&v.explanation))
        .unwrap_or_default()
    {
        page.field(MARGIN, INDENT, &dim("outside"), &[Span(text, Tone::Warn)]);
    }
    let Some(taker) = &answer.taker else { return };
    let mut spans = vec![format!("{} {}", taker.table, taker.chains.join(" > ")).into()];
    if let Some(owner) = taker.owner {
        spans.push(dim(format!("({})", words::owner(owner))));
    }
    page.field(
        MARGIN,
        INDENT,
        &dim(if taker.refuses { "refused" } else { "taken by" }),
        &spans,
    );
    page.field(MARGIN, INDENT, &dim(""), &[strong(taker.rule.text.to_string())]);
    if let Some(element) = &taker.element {
        page.field(MARGIN, INDENT, &dim(""), &[strong(element.text.to_string())]);
    }
    let cite = match taker.cite {
        Some(cite) => format!("{}:{}", taker.rule.artifact, cite.line),
        None => taker.rule.artifact.to_string(),
    };
    page.field(MARGIN, INDENT, &dim(""), &[dim(cite)]);
}

fn backends(page: &mut Page, answer: &NodePortExplanation) {
    let Some(view) = answer.views.first() else { return };
    let explanation = &view.explanation;
    if answer.taker.as_ref().is_none_or(|t| t.refuses) {
        return;
    }
    for (i, branch) in explanation.branches.iter().enumerate().take(12) {
        let label = if i == 0 { "sent to" } else { "" };
        let (_, socket) = words::ends(&branch.end.packet);
        let whose = sentence::whose(&explanation.glossary, branch.end.packet.dst).unwrap_or_default();
        let share = odds::range(&branch.at_least, &branch.at_most);
        page.field(MARGIN, INDENT, &dim(label), &[strong(share), socket.into(), dim(whose)]);
    }
}

/// What `ss` prints.
fn tool(page: &mut Page, answer: &NodePortExplanation) {
    let flag = if answer.proto == 17 { "u" } else { "t" };
    let command = format!("ss -l{flag}np 'sport = :{}'", answer.port);
    let sees = match answer.listeners.as_deref() {
        None => "not known",
        Some([]) => "nothing",
        Some(_) => "the socket above",
    };
    row(
        page,
        &command,
        &format!("on {}", answer.node),
        sees,
        Tone::Plain,
        "netstat shows the same".to_owned(),
    );
}

fn view(page: &mut Page, answer: &NodePortExplanation, view: &View) {
    let socket = words::ends(&view.explanation.sent).1;
    let verb = if answer.proto == 6 { "curl" } else { "a packet to" };
    let (command, place) = match view.from {
        From::Outside(client) => (
            format!("{verb} {socket}"),
            format!("from outside ({client} stands for any client)"),
        ),
        From::Node => (format!("{verb} {socket}"), format!("on {}", answer.node)),
        From::Localhost => (format!("{verb} {socket}"), format!("on {}", answer.node)),
    };
    let explanation = &view.explanation;
    let (word, tone) = verdict::word(explanation);
    row(
        page,
        &command,
        &place,
        &word.to_lowercase(),
        tone,
        verdict::sentence(explanation),
    );
    for branch in explanation
        .branches
        .iter()
        .filter(|b| b.client_sees != crate::explanation::ClientSees::Reply)
        .take(1)
    {
        for evidence in sentence::deciding(&branch.end, &branch.hops) {
            page.flow(6, 8, &[evidence.text.to_string().into()]);
            page.flow(6, 8, &[dim(super::head::cite(&explanation.glossary, evidence))]);
        }
    }
}

fn row(page: &mut Page, command: &str, place: &str, sees: &str, tone: Tone, why: String) {
    page.flow(
        MARGIN,
        MARGIN + 2,
        &[strong(command), dim(format!("{place}:")), Span(sees.to_owned(), tone)],
    );
    page.flow(6, 6, &[dim(why)]);
}

/// The way of a packet that IPVS takes.
pub fn ipvs_order(page: &mut Page) {
    page.flow(
        0,
        0,
        &[dim(
            "Order in the kernel, from outside and from pods: PREROUTING (raw, conntrack, mangle, nat), routing, which \
             must find the address local, INPUT (filter sees the service's port), IPVS picks a server, OUTPUT with \
             the server as destination, POSTROUTING (masquerade). From the node itself: OUTPUT, where IPVS picks. \
             The answer comes back by FORWARD, and IPVS puts the service's address on it.",
        )],
    );
}

fn order(page: &mut Page) {
    page.flow(
        0,
        0,
        &[dim(
            "Order in the kernel, from outside: PREROUTING (raw, conntrack, mangle, nat: the rewrite happens here), \
             then routing, then FORWARD or INPUT, then the socket. From the node itself: OUTPUT (nat: the rewrite \
             happens here), routing again, then the socket. A rewritten packet is looked up by its new address.",
        )],
    );
}
