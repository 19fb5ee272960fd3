//! The decisions of one hop, line by line.

mod full;
mod trail;

use crate::explanation::{
    CtEvent, Engine, Evidence, Explanation, FdbTo, Field, Glossary, Hop, Packet, RuleVerdict, Stage, Step, What,
};
use crate::owner;
use crate::render::{sentence, words};

use super::head::{INDENT, MARGIN, short_cite};
use super::layout::{Page, Span, Tone, dim, strong};
use trail::Trail;

/// Prints hops.
pub struct Steps<'a> {
    /// Where to.
    pub page: &'a mut Page,
    /// Of what.
    pub explanation: &'a Explanation,
    /// Every rule that was looked at.
    pub full: bool,
}

impl Steps<'_> {
    fn glossary(&self) -> &Glossary {
        &self.explanation.glossary
    }

    fn line(&mut self, label: &str, spans: &[Span]) {
        self.page.field(MARGIN, INDENT, &dim(label), spans);
    }

    /// A line, then the row it rests on and where that is written.
    fn with(&mut self, label: &str, spans: Vec<Span>, evidence: &[Evidence], rows: bool) {
        if !rows {
            let cite = evidence
                .first()
                .map(|e| short_cite(self.glossary(), e))
                .unwrap_or_default();
            self.page.field_right(MARGIN, INDENT, &dim(label), &spans, &dim(cite));
            return;
        }
        // Where the row says it all, it stands behind the label.
        let below = match evidence {
            [row, below @ ..] if spans.is_empty() => {
                let cite = short_cite(self.glossary(), row);
                let spans = [row.text.to_string().into()];
                self.page.field_right(MARGIN, INDENT, &dim(label), &spans, &dim(cite));
                below
            }
            all => {
                self.line(label, &spans);
                all
            }
        };
        for evidence in below {
            let cite = short_cite(self.glossary(), evidence);
            self.page
                .flow_right(INDENT, INDENT + 2, &[evidence.text.to_string().into()], &dim(cite));
        }
    }

    /// One hop. `before` is the packet as it came in.
    pub fn hop(&mut self, hop: &Hop, before: &Packet, first: bool) {
        let outer = before.inner.is_none() && hop.packet.inner.is_some();
        let (src, dst) = words::ends(if outer || first { &hop.packet } else { before });
        let glossary = &self.explanation.glossary;
        let proto = words::protocol(hop.packet.proto);
        match (hop.stage, hop.iif) {
            (Stage::Output, _) if outer => {
                self.line(
                    "outer",
                    &[
                        format!("{src} → {dst} {proto}").into(),
                        dim("(the tunnel's own packet)"),
                    ],
                );
            }
            (Stage::Output, _) => {
                let (src, dst) = self.sent(hop, before, first);
                self.line("send", &[format!("{src} → {dst} {proto}").into()]);
            }
            (_, Some(dev)) => {
                let device = glossary.devices.get(&(hop.ns, dev));
                let mut spans: Vec<Span> = vec![glossary.device(hop.ns, dev).into()];
                if let Some(master) = device.and_then(|d| d.master.as_deref()) {
                    spans.push(dim(format!("(port of {master})")));
                }
                if first {
                    let (src, dst) = self.sent(hop, before, first);
                    spans.push(format!("{src} → {dst} {proto}").into());
                }
                self.line("in", &spans);
            }
            (_, None) => {}
        }
        let mut trail = Trail::default();
        for (i, step) in hop.steps.iter().enumerate() {
            if self.full {
                self.step_in_full(hop, step);
            } else {
                self.step(hop, &hop.steps[..i], step, &mut trail);
            }
        }
    }

    /// The packet of the first hop before it was translated there.
    fn sent(&self, hop: &Hop, before: &Packet, first: bool) -> (String, String) {
        if first && self.explanation.sent.proto == hop.packet.proto && before == &self.explanation.sent {
            let any = self.explanation.query.sport.is_none();
            let (src, dst) = words::ends(&self.explanation.sent);
            let src = match (any, self.explanation.sent.sport()) {
                (true, Some(port)) => src.strip_suffix(&format!(":{}", port.value)).unwrap_or(&src).to_owned(),
                _ => src,
            };
            return (src, dst);
        }
        words::ends(before)
    }

    /// A step at the usual detail: what changed or decided something.
    fn step(&mut self, hop: &Hop, earlier: &[Step], step: &Step, trail: &mut Trail) {
        let ns = hop.ns;
        match &step.what {
            What::Rule {
                engine,
                table,
                chain,
                verdict: Some(verdict),
            } => {
                trail.rule(step);
                let owner = owner::of_rule(*engine, table, chain, text(step));
                let mut spans = vec![Span::from(trail.breadcrumb(*engine, table, chain))];
                if let Some(owner) = owner {
                    spans.push(dim(format!("({})", words::owner(owner))));
                }
                match verdict {
                    RuleVerdict::Accept if &**table == "filter" => self.with("accept", spans, &step.evidence, false),
                    RuleVerdict::Drop => self.deciding("DROP", spans, &step.evidence),
                    RuleVerdict::Reject(how) => {
                        spans.push(strong(words::reject(*how)));
                        self.deciding("REJECT", spans, &step.evidence);
                    }
                    RuleVerdict::Queue => self.deciding("QUEUE", spans, &step.evidence),
                    RuleVerdict::Unknown => self.deciding("unknown", spans, &step.evidence),
                    _ => {}
                }
            }
            What::Rule { verdict: None, .. } => {}
            What::Policy {
                engine,
                table,
                chain,
                drop,
            } => {
                if *drop {
                    let spans = vec![format!("{} {table} {chain}: its policy", engine_note(*engine)).into()];
                    self.deciding("DROP", spans, &step.evidence);
                }
            }
            What::Nat { source, from, to } => self.nat(earlier, *source, *from, *to, trail),
            What::Rewrite(field) => self.rewrite(step, *field, trail),
            What::Conntrack(event) => match event {
                CtEvent::New | CtEvent::Established => {}
                event => self.with("conntrack", vec![conntrack(*event).into()], &step.evidence, true),
            },
            What::RouteRule { .. } => self.with("rule", Vec::new(), &step.evidence, true),
            What::Route { .. } => {
                // The kernel asks again after choosing a source, and when it delivers: once is enough here.
                let again = earlier
                    .iter()
                    .rev()
                    .find(|s| matches!(s.what, What::Route { .. } | What::Reroute));
                let repeated =
                    again.is_some_and(|s| matches!(s.what, What::Route { .. }) && s.evidence == step.evidence);
                let arrives = hop.stage == Stage::Input || hop.stage == Stage::Decap;
                if !repeated && !arrives {
                    self.route(step);
                }
            }
            What::NoRoute => self.with("route", vec![Span("none".to_owned(), Tone::Bad)], &step.evidence, true),
            What::Neighbour { addr, state, mac } => {
                let state = state.map_or("not in the table", words::nud);
                if mac.is_none() {
                    let spans = vec![format!("{addr}: {state}, so the kernel asks").into()];
                    self.with("neighbour", spans, &step.evidence, false);
                }
            }
            What::Answered { addr, by, dev, proxy } => {
                let who = sentence::place(self.glossary(), Some(*by));
                let dev = self.glossary().device(*by, *dev).to_owned();
                let proxy = if *proxy { " by proxy" } else { "" };
                self.line("", &[format!("{who} answers for {addr}{proxy}, from {dev}").into()]);
            }
            What::Fdb {
                to: FdbTo::Flood(ports),
                mac,
            } => {
                let mac = mac.map(|m| m.to_string()).unwrap_or_default();
                let spans = vec![format!("{mac} is not in the table: flooded to {} ports", ports.len()).into()];
                self.with("bridge", spans, &step.evidence, false);
            }
            What::Fdb { .. } | What::Mtu { .. } => {}
            What::Cross { to, dev } => {
                let from = hop
                    .oif
                    .map(|dev| self.glossary().device(ns, dev).to_owned())
                    .unwrap_or_default();
                let dev = self.glossary().device(*to, *dev).to_owned();
                let who = sentence::place(self.glossary(), Some(*to));
                self.line("out", &[format!("{from} → {who}, {dev}").into()]);
            }
            What::Encap {
                dev,
                local,
                remote,
                key,
            } => {
                let dev = self.glossary().device(ns, *dev).to_owned();
                let show = |a: Option<std::net::IpAddr>| a.map_or_else(|| "?".to_owned(), |a| a.to_string());
                let key = key.map(|k| format!(" VNI {k}")).unwrap_or_default();
                let spans = vec![format!("{dev}: wrapped for {} → {}{key}", show(*local), show(*remote)).into()];
                self.with("tunnel", spans, &step.evidence, true);
            }
            What::Decap { dev } => {
                let dev = self.glossary().device(ns, *dev).to_owned();
                self.line("tunnel", &[format!("{dev} unwraps it").into()]);
            }
            What::Sysctl { key, value } => {
                let value = value.map_or_else(|| "not captured".to_owned(), |v| v.to_string());
                self.with("sysctl", vec![format!("{key} = {value}").into()], &step.evidence, false);
            }
            What::Ipvs { server, forward, by } => match server {
                Some((addr, port)) => {
                    let how = forward.map_or("", words::forward);
                    let spans = vec![
                        strong(words::socket(*addr, Some(*port))),
                        dim(format!("(by {}, {how})", words::ipvs_by(*by))),
                    ];
                    self.with("IPVS", spans, &step.evidence, true);
                }
                None => self.deciding(
                    "IPVS",
                    vec!["no real server takes it".to_owned().into()],
                    &step.evidence,
                ),
            },
            What::Socket { program } => {
                let program = program.as_deref().unwrap_or("a program that is not named");
                self.with("socket", vec![strong(program.to_owned())], &step.evidence, true);
            }
            What::Reroute => self.line(
                "reroute",
                &[dim("the packet was changed in OUTPUT, so the kernel routes again")],
            ),
            What::NotCaptured(artifact) => {
                self.line("unknown", &[Span(format!("{artifact} was not captured"), Tone::Warn)]);
            }
            What::Program { .. } => {
                self.with(
                    "program",
                    vec![Span("not run:".to_owned(), Tone::Warn)],
                    &step.evidence,
                    true,
                );
            }
            What::Undecided => {
                self.with(
                    "unknown",
                    vec![Span("cannot be decided:".to_owned(), Tone::Warn)],
                    &step.evidence,
                    true,
                );
            }
        }
    }

    fn deciding(&mut self, label: &str, spans: Vec<Span>, evidence: &[Evidence]) {
        self.page
            .field(MARGIN, INDENT, &Span(label.to_owned(), Tone::Bad), &spans);
        for evidence in evidence {
            let cite = short_cite(self.glossary(), evidence);
            self.page
                .flow_right(INDENT, INDENT + 2, &[strong(evidence.text.to_string())], &dim(cite));
        }
    }

    fn nat(
        &mut self,
        earlier: &[Step],
        source: bool,
        from: (std::net::IpAddr, Option<crate::explanation::Port>),
        to: (std::net::IpAddr, Option<crate::explanation::Port>),
        trail: &Trail,
    ) {
        let label = if source { "SNAT" } else { "DNAT" };
        let mut spans = vec![
            strong(words::socket(from.0, from.1)),
            "→".into(),
            strong(words::socket(to.0, to.1)),
        ];
        if let Some(whose) = sentence::whose(self.glossary(), to.0) {
            spans.push(dim(format!("({whose})")));
        }
        if to.1.is_some_and(|p| p.drawn) {
            spans.push(dim("port drawn at random"));
        }
        let rule = earlier.last().filter(|s| {
            matches!(
                s.what,
                What::Rule {
                    verdict: Some(RuleVerdict::Nat),
                    ..
                }
            )
        });
        let Some(rule) = rule else {
            spans.push(dim("as the connection has it"));
            self.line(label, &spans);
            return;
        };
        if let What::Rule {
            engine, table, chain, ..
        } = &rule.what
        {
            let owner = owner::of_rule(*engine, table, chain, text(rule)).map(words::owner);
            let service = self
                .glossary()
                .chain(*engine, table, chain)
                .and_then(|n| n.service.clone());
            let by = match (owner, service) {
                (Some(owner), Some(service)) => format!("{owner} for {service}: "),
                (Some(owner), None) => format!("{owner}: "),
                (None, _) => String::new(),
            };
            let crumbs = trail.breadcrumb(*engine, table, chain);
            self.line(label, &spans);
            self.page.flow(INDENT, INDENT + 2, &[dim(format!("{by}{crumbs}"))]);
        }
        for evidence in &rule.evidence {
            let cite = short_cite(self.glossary(), evidence);
            self.page
                .flow_right(INDENT, INDENT + 2, &[evidence.text.to_string().into()], &dim(cite));
        }
    }

    fn rewrite(&mut self, step: &Step, field: Field, trail: &Trail) {
        let (label, text) = match field {
            Field::Ttl { .. } => return,
            Field::Mark { from, to } => ("mark", format!("{from:#x} → {to:#x}")),
            Field::ConnMark { from, to } => ("connmark", format!("{from:#x} → {to:#x}")),
            Field::Tos { from, to } => ("tos", format!("{from:#x} → {to:#x}")),
            Field::Priority { to } => ("priority", format!("{to:#x}")),
            Field::Zone(zone) => ("zone", zone.0.to_string()),
            Field::Untracked => ("notrack", "the connection is not tracked: no NAT".to_owned()),
            Field::Mss => ("mss", "the TCP MSS is clamped".to_owned()),
        };
        let spans = vec![text.into(), dim(trail.last_chain.clone())];
        self.with(label, spans, &step.evidence, false);
    }

    fn route(&mut self, step: &Step) {
        let route = step
            .evidence
            .iter()
            .find_map(|e| self.glossary().routes.get(&(e.artifact.clone(), e.at.start)).cloned());
        let owner = route.and_then(|r| r.owner).map(words::route_owner);
        let mut first = true;
        for evidence in &step.evidence {
            let cite = short_cite(self.glossary(), evidence);
            let label = if first { "route" } else { "" };
            first = false;
            self.page.field_right(
                MARGIN,
                INDENT,
                &dim(label),
                &[evidence.text.to_string().into()],
                &dim(cite),
            );
        }
        if step.evidence.is_empty() {
            self.line("route", &[dim("found")]);
        } else if let Some(owner) = owner.filter(|o| o != "kernel" && !o.starts_with("proto boot")) {
            self.page
                .flow(INDENT, INDENT + 2, &[dim(format!("written by {owner}"))]);
        }
    }
}

const fn conntrack(event: CtEvent) -> &'static str {
    match event {
        CtEvent::New => "a new connection",
        CtEvent::Established => "of the connection",
        CtEvent::Captured => "an existing connection, captured: rules of nat are not asked",
        CtEvent::Related => "about an existing connection",
        CtEvent::Invalid => "INVALID: of no connection, and it cannot start one",
        CtEvent::Untracked => "not tracked",
    }
}

/// The back end, where it is not the usual one.
const fn engine_note(engine: Engine) -> &'static str {
    match engine {
        Engine::XtNft => "",
        Engine::XtLegacy => "legacy ",
        Engine::Nft => "nft ",
    }
}

fn text(step: &Step) -> &str {
    step.evidence.first().map_or("", |e| &*e.text)
}
