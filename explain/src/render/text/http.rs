//! A request to a URL: what comes of it, the client's way, what the objects intend, and the way to the backend.

use crate::explanation::Explanation;
use crate::render::{sentence, words};
use crate::resolve::http::{Action, HttpRule, PathKind};
use crate::topics::http::{Controller, HttpExplanation, Leg, Way};

use super::layout::{Page, Span, Tone, dim, strong};
use super::{Show, Style, verdict};

const MARGIN: usize = 2;
const INDENT: usize = 12;

/// The whole answer.
pub fn answer(answer: &HttpExplanation, style: &Style) -> String {
    let mut page = Page::new(style.width, style.colour);
    headline(&mut page, answer);
    page.gap();
    summary(&mut page, answer);
    let mut out = page.finish();
    if style.show == Show::Summary && answer.exit_code() == 0 {
        intent_alone(&mut out, answer, style);
        return out;
    }
    out.push_str(&heading(
        style,
        "1",
        "from the client to what answers at the address",
        "by the kernels' tables",
    ));
    out.push_str(&super::trace(&answer.client, style));
    intent_alone(&mut out, answer, style);
    for leg in &answer.legs {
        let title = format!(
            "{} to {}",
            controller(&answer.controllers[leg.controller]),
            backend(leg)
        );
        out.push_str(&heading(style, "3", &title, "by the kernels' tables"));
        match &leg.way {
            Way::Walked(explanation) => out.push_str(&super::trace(explanation, style)),
            Way::Refused(error) => out.push_str(&super::error(error, style)),
            Way::NoEndpoints => {
                let mut page = Page::new(style.width, style.colour);
                let text = format!("svc/{} has no ready endpoint", leg.backend.service);
                page.flow(0, 2, &[Span("NOBODY:".to_owned(), Tone::Bad), text.into()]);
                out.push_str(&page.finish());
            }
        }
    }
    out
}

fn heading(style: &Style, number: &str, title: &str, by: &str) -> String {
    let mut page = Page::new(style.width, style.colour);
    page.flow(
        0,
        4,
        &[
            Span(format!("== {number} =="), Tone::Head),
            strong(title),
            dim(format!("({by})")),
        ],
    );
    format!("\n{}\n", page.finish())
}

fn intent_alone(out: &mut String, answer: &HttpExplanation, style: &Style) {
    out.push_str(&heading(
        style,
        "2",
        "what Kubernetes objects intend for the request",
        "intent, no fact of a kernel",
    ));
    let mut page = Page::new(style.width, style.colour);
    intent(&mut page, answer);
    out.push_str(&page.finish());
}

fn url(answer: &HttpExplanation) -> String {
    let request = &answer.request;
    let (scheme, default) = if request.https { ("https", 443) } else { ("http", 80) };
    match request.port {
        port if port == default => format!("{scheme}://{}{}", request.host, request.path),
        port => format!("{scheme}://{}:{port}{}", request.host, request.path),
    }
}

/// One line: what comes of the request, and where it stops.
fn headline(page: &mut Page, answer: &HttpExplanation) {
    let (word, tone) = match answer.exit_code() {
        0 => ("REPLY", Tone::Good),
        1 => ("FAILS", Tone::Bad),
        _ => ("CANNOT TELL", Tone::Warn),
    };
    page.flow(0, 2, &[Span(format!("{word}:"), tone), said(answer).into()]);
}

fn said(answer: &HttpExplanation) -> String {
    let url = url(answer);
    let fate = |explanation: &Explanation| {
        let (word, _) = verdict::word(explanation);
        format!(
            "{} ({})",
            verdict::sentence(explanation).trim_end_matches('.'),
            word.to_lowercase()
        )
    };
    if answer.client.exit_code() != 0 {
        return format!(
            "{url} does not surely get as far as a controller: {}.",
            fate(&answer.client)
        );
    }
    let bad = answer.legs.iter().find(|leg| leg.way.exit_code() != 0);
    match bad {
        Some(Leg {
            way: Way::Walked(explanation),
            ..
        }) => format!("{url} comes to {}, and behind it: {}.", whom(answer), fate(explanation)),
        Some(Leg {
            way: Way::Refused(error),
            ..
        }) => format!("{url} comes to {}, and behind it: {error}.", whom(answer)),
        Some(leg) => format!(
            "{url} comes to {}, and svc/{} has no ready endpoint.",
            whom(answer),
            leg.backend.service
        ),
        None if answer.decision.rules.is_empty() && !answer.decision.missing.is_empty() => format!(
            "{url} comes to {}; what takes it there is not known, because {} {} not captured.",
            whom(answer),
            answer.decision.missing.join(" and "),
            if answer.decision.missing.len() == 1 {
                "was"
            } else {
                "were"
            },
        ),
        None if answer.decision.rules.is_empty() => format!(
            "{url} comes to {}, and no Ingress and no HTTPRoute takes it: the controller answers by itself.",
            whom(answer)
        ),
        None if answer.exit_code() != 0 => format!(
            "{url} comes to {}; which rule takes it there is not certain.",
            whom(answer)
        ),
        None => format!(
            "{url} comes to {}, and from there to {}.",
            whom(answer),
            backends(answer)
        ),
    }
}

fn whom(answer: &HttpExplanation) -> String {
    match answer.controllers.as_slice() {
        [] => "nobody".to_owned(),
        [one] => controller(one),
        [first, rest @ ..] => format!("{} and {} more", controller(first), rest.len()),
    }
}

fn controller(of: &Controller) -> String {
    match &of.pod {
        Some(pod) => format!("pod {pod} on {}", of.node),
        None => format!("a program on {}", of.node),
    }
}

fn backends(answer: &HttpExplanation) -> String {
    let mut all: Vec<String> = Vec::new();
    for leg in &answer.legs {
        let name = format!("svc/{}", leg.backend.service);
        if !all.contains(&name) {
            all.push(name);
        }
    }
    all.join(", ")
}

fn backend(leg: &Leg) -> String {
    let port = leg.backend.port.as_ref().map(|p| format!(":{p}")).unwrap_or_default();
    let share = if leg.share == num_traits::One::one() {
        String::new()
    } else {
        format!(", {} of the requests", words::fraction(&leg.share))
    };
    match leg.endpoint {
        Some((address, port_there)) => format!(
            "endpoint {} of svc/{}{port}{share}",
            std::net::SocketAddr::new(address, port_there),
            leg.backend.service
        ),
        None => format!("svc/{}{port}{share}", leg.backend.service),
    }
}

fn summary(page: &mut Page, answer: &HttpExplanation) {
    let source = sentence::source(&answer.client.src);
    page.field(MARGIN, INDENT, &dim("from"), &[source.into()]);
    let addresses: Vec<String> = answer.addresses.iter().map(ToString::to_string).collect();
    let at = match answer.request.address {
        Some(_) => format!("{}, as the URL says", addresses.join(", ")),
        None => format!("{}, by the status of objects that name the host", addresses.join(", ")),
    };
    page.field(MARGIN, INDENT, &dim("at"), &[at.into()]);
    for (i, of) in answer.controllers.iter().enumerate() {
        let label = if i == 0 { "taken by" } else { "" };
        page.field(MARGIN, INDENT, &dim(label), &[controller(of).into()]);
    }
}

fn intent(page: &mut Page, answer: &HttpExplanation) {
    for file in &answer.decision.missing {
        let text = format!("{file} was not captured: what it says is not known");
        page.field(MARGIN, INDENT, &dim("unknown"), &[Span(text, Tone::Warn)]);
    }
    for (i, rule) in answer.decision.rules.iter().enumerate() {
        let label = if i == 0 { "rule" } else { "else" };
        page.field(
            MARGIN,
            INDENT,
            &dim(label),
            &[strong(object(rule)), matching(rule).into()],
        );
        if let Some(by) = &rule.by {
            let served = match rule.kind {
                crate::resolve::http::RuleKind::Ingress => format!("class {by}"),
                crate::resolve::http::RuleKind::HttpRoute => format!("Gateway {by}"),
            };
            page.field(MARGIN, INDENT, &dim(""), &[format!("served by {served}").into()]);
        }
        page.field(MARGIN, INDENT, &dim("to"), &[action(rule).into()]);
        for open in &rule.open {
            page.field(MARGIN, INDENT, &dim("if"), &[Span(open.clone(), Tone::Warn)]);
        }
        let cite = match rule.line {
            Some(line) => format!("{}:{line}", rule.artifact),
            None => rule.artifact.to_owned(),
        };
        page.field(MARGIN, INDENT, &dim(""), &[dim(cite)]);
    }
    if !answer.decision.ends() {
        let text = "the controller's own answer, usually 404";
        page.field(MARGIN, INDENT, &dim("else"), &[text.into()]);
    }
    for of in &answer.controllers {
        let Some(label) = &of.direct else { continue };
        let text = format!(
            "{} ({label}) connects to endpoints itself, past the Service's address",
            controller(of)
        );
        page.field(MARGIN, INDENT, &dim("upstream"), &[text.into()]);
    }
    if answer.controllers.iter().any(|of| of.direct.is_none()) {
        let text = "taken as connections to the Service's address; many controllers connect to its endpoints instead, \
                    and nothing tells what this one does";
        page.field(MARGIN, INDENT, &dim("upstream"), &[text.into()]);
    }
    if answer.truncated {
        let text = format!("only the first {} ways to backends were walked", answer.legs.len());
        page.field(MARGIN, INDENT, &dim("unknown"), &[Span(text, Tone::Warn)]);
    }
}

fn object(rule: &HttpRule) -> String {
    let kind = match rule.kind {
        crate::resolve::http::RuleKind::Ingress => "ingress",
        crate::resolve::http::RuleKind::HttpRoute => "httproute",
    };
    format!("{kind}/{}", rule.object)
}

fn matching(rule: &HttpRule) -> String {
    let host = rule.host.as_deref().unwrap_or("every host");
    match &rule.path {
        None => "default backend".to_owned(),
        Some((PathKind::ImplementationSpecific, path)) if path.is_empty() => format!("{host}, every path"),
        Some((kind, path)) => format!("{host}, path {path} ({})", words::path_kind(*kind).1),
    }
}

fn action(rule: &HttpRule) -> String {
    match &rule.action {
        Action::Backends(backends) => {
            let total: u64 = backends.iter().map(|b| b.weight).sum();
            let one = |b: &crate::resolve::http::Backend| {
                let port = b.port.as_ref().map(|p| format!(":{p}")).unwrap_or_default();
                match backends.len() {
                    1 => format!("svc/{}{port}", b.service),
                    _ => format!("svc/{}{port} ({} of {total})", b.service, b.weight),
                }
            };
            backends.iter().map(one).collect::<Vec<_>>().join(", ")
        }
        Action::Redirect(to) => format!("the client is sent elsewhere: {to}"),
        Action::Other(what) => what.clone(),
    }
}
