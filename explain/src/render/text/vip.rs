//! `vip`, also the first section of a trace from outside to such an address.

use crate::explanation::{ClientSees, Verdict};
use crate::render::{notes, words};
use crate::topics::vip::{
    Advertises, Announcement, BgpSession, ClientView, Controller, Expects, Hearing, Segment, Unsure, VipExplanation,
    VipNode, VipOutcome, VipRole,
};

use super::layout::{Page, Span, Tone, dim, strong};

const MARGIN: usize = 2;
const INDENT: usize = 12;

/// The whole answer about one address.
pub fn answer(page: &mut Page, answer: &VipExplanation) {
    headline(page, answer);
    page.gap();
    services(page, answer);
    controller(page, answer);
    for segment in &answer.segments {
        self::segment(page, answer, segment);
    }
    for node in &answer.nodes {
        self::node(page, answer, node);
    }
    policies(page, answer);
    for assumption in &answer.assumptions {
        let text = notes::assumption(&crate::explanation::Assumed::Walk(assumption.clone())).text;
        page.field(MARGIN, INDENT, &dim("assumed"), &[text.into()]);
    }
}

fn headline(page: &mut Page, answer: &VipExplanation) {
    let (tone, text) = match &answer.outcome {
        VipOutcome::One(node) => (Tone::Good, format!("{node} answers, and nobody else.")),
        VipOutcome::Several(nodes) if nodes.len() == 1 => (
            Tone::Bad,
            format!(
                "{} answers on several devices: which MAC a neighbour learns is a race.",
                nodes[0]
            ),
        ),
        VipOutcome::Several(nodes) => (
            Tone::Bad,
            format!(
                "{} answer: which one a neighbour believes is a race, and it may change.",
                nodes.join(", ")
            ),
        ),
        VipOutcome::Nobody => (
            Tone::Bad,
            "nobody answers: no kernel does, and nothing tells of a program that would.".to_owned(),
        ),
        VipOutcome::Doubtful(nodes) => (
            Tone::Warn,
            format!(
                "cannot tell who answers: whether {} does was not captured, or is not known.",
                some(nodes)
            ),
        ),
        VipOutcome::Program => (
            Tone::Warn,
            "no kernel answers, as it should be: a program on one of the nodes does, which the snapshot does not show."
                .to_owned(),
        ),
        VipOutcome::Routed => (Tone::Warn, routed(answer)),
    };
    page.flow(0, 2, &[Span(format!("{}:", answer.address), tone), text.into()]);
}

/// The first few.
fn some(nodes: &[String]) -> String {
    const FEW: usize = 4;
    match nodes.split_at_checked(FEW) {
        Some((first, rest)) if rest.len() > 1 => format!("{} or one of {} more", first.join(", "), rest.len()),
        _ => nodes.join(" or "),
    }
}

/// Who tells routers of it.
fn routed(answer: &VipExplanation) -> String {
    let mut by: Vec<&str> = Vec::new();
    let mut all_known = true;
    for node in &answer.nodes {
        match node.advertises.answer {
            Advertises::Yes => by.push(&node.node),
            Advertises::No => {}
            Advertises::Unknown(_) => all_known = false,
        }
    }
    let who = match (by.as_slice(), all_known) {
        ([], true) => "and no captured node announces a route to it".to_owned(),
        ([], false) => "routers bring its packets to a node, or nobody does".to_owned(),
        ([one], _) => format!("{one} announces a route to it"),
        (many, _) => format!("{} announce a route to it", many.join(", ")),
    };
    format!("in no subnet of the nodes: {who}.")
}

fn services(page: &mut Page, answer: &VipExplanation) {
    if answer.services.is_empty() {
        page.field(
            MARGIN,
            INDENT,
            &dim("service"),
            &["no Service names this address".into()],
        );
    }
    for service in &answer.services {
        let role = match service.role {
            VipRole::LoadBalancer { proxy: false } => "load balancer address",
            VipRole::LoadBalancer { proxy: true } => "load balancer address, ipMode Proxy: kube-proxy leaves it alone",
            VipRole::ExternalIp => "external IP",
            VipRole::ClusterIp => "ClusterIP",
        };
        let ports: Vec<String> = service
            .ports
            .iter()
            .map(|(port, proto, node_port)| {
                let proto = proto.to_ascii_lowercase();
                match node_port {
                    Some(node_port) => format!("{port}/{proto} (NodePort {node_port})"),
                    None => format!("{port}/{proto}"),
                }
            })
            .collect();
        let text = format!("{role}; ports {}", ports.join(", "));
        page.field(
            MARGIN,
            INDENT,
            &dim("service"),
            &[strong(format!("svc/{}", service.name)), text.into()],
        );
    }
}

fn controller(page: &mut Page, answer: &VipExplanation) {
    let Some(told) = &answer.controller else {
        let load_balancer = answer
            .services
            .iter()
            .any(|s| matches!(s.role, VipRole::LoadBalancer { .. }));
        if load_balancer {
            let text = "no annotation, label, class or pod tells which controller gave it";
            page.field(MARGIN, INDENT, &dim("by"), &[text.into()]);
        }
        return;
    };
    let expects = match (told.controller, told.controller.expects()) {
        (_, Expects::Program) => {
            "the kernels must keep silent (strictARP in IPVS mode): one speaker answers ARP in user space, or routers \
             learn the address by BGP"
        }
        (Controller::KubeVip, _) => {
            "the leader has the address on a device and its kernel answers; with BGP all nodes may have it"
        }
        (_, Expects::Device) => {
            "in the nodes' subnet: a secondary address of one node's NIC, whose kernel answers; else on kube-lb0 of \
             every node, and routers learn it from a routing daemon"
        }
        (_, Expects::NodeAddress) => "it is an address of the nodes: hostPorts of svclb- pods take the packets there",
        (_, Expects::Elsewhere) => "a balancer outside takes the packets and sends them to NodePorts or to the address",
        (_, Expects::Nothing) => "whoever wrote externalIPs sees to it that packets come to a node",
    };
    let (_, name) = words::controller(told.controller);
    page.field(
        MARGIN,
        INDENT,
        &dim("by"),
        &[strong(name), format!("({})", told.by).into()],
    );
    page.field(MARGIN, INDENT, &dim("expects"), &[expects.into()]);
    if let Some(node) = &told.node {
        page.field(
            MARGIN,
            INDENT,
            &dim(""),
            &[format!("it says that {node} announces it").into()],
        );
    }
}

fn segment(page: &mut Page, answer: &VipExplanation, segment: &Segment) {
    page.gap();
    let subnets: Vec<String> = segment.subnets.iter().map(ToString::to_string).collect();
    let asks = if answer.address.is_ipv4() { "ARP" } else { "ND" };
    let on = if segment.on_link {
        ""
    } else {
        " (the address is in no subnet of it)"
    };
    page.flow(
        0,
        2,
        &[
            strong(format!("{asks} on {}{on}", subnets.join(", "))),
            dim(format!("asked by {}", segment.asker)),
        ],
    );
    let width = segment
        .heard
        .iter()
        .map(|h| place(h).chars().count())
        .max()
        .unwrap_or(0);
    for hearing in &segment.heard {
        let (tone, text) = heard(hearing);
        let mac = hearing.mac.filter(|_| hearing.said.answer().is_some());
        let mac = mac.map(|m| dim(m.to_string()));
        let mut spans = vec![Span(text, tone)];
        spans.extend(mac);
        page.field(MARGIN, MARGIN + width + 2, &place(hearing).into(), &spans);
    }
}

fn place(hearing: &Hearing) -> String {
    match &hearing.netns {
        Some(netns) => format!("{} {netns} {}", hearing.node, hearing.dev),
        None => format!("{} {}", hearing.node, hearing.dev),
    }
}

fn heard(hearing: &Hearing) -> (Tone, String) {
    use knet_dataplane::walk::Said;
    let silent = |why: String| (Tone::Dim, format!("silent: {why}"));
    match hearing.said {
        Said::Own => (Tone::Good, "answers".to_owned()),
        Said::Proxy => (Tone::Warn, "answers as a proxy".to_owned()),
        Said::Down => silent("it is down".to_owned()),
        Said::NoArp => silent("NOARP".to_owned()),
        Said::NotLocal => silent("not an address of the node".to_owned()),
        Said::NotRead => silent("rp_filter or a martian: the question is thrown away".to_owned()),
        Said::Ignored(value) => silent(format!("arp_ignore {value}, and the address is on another device")),
        Said::Filtered => silent("arp_filter: the way back to the asker is by another device".to_owned()),
        Said::NotOnDevice => silent("the address is on another device".to_owned()),
        Said::Ruled => silent("a rule takes the question or the answer".to_owned()),
        Said::Doubtful => (
            Tone::Warn,
            "answers perhaps: what decides was not captured, or is not known".to_owned(),
        ),
    }
}

fn node(page: &mut Page, answer: &VipExplanation, node: &VipNode) {
    page.gap();
    page.flow(0, 2, &[strong(&*node.node)]);
    let stands: Vec<String> = node
        .stands
        .iter()
        .map(|s| {
            let mut notes = Vec::new();
            if s.dummy {
                notes.push("dummy");
            }
            if !s.up {
                notes.push("down, and local all the same");
            }
            if s.secondary && !s.dummy {
                notes.push("secondary");
            }
            match notes.is_empty() {
                true => format!("{}/{}", s.dev, s.prefix_len),
                false => format!("{}/{} ({})", s.dev, s.prefix_len, notes.join(", ")),
            }
        })
        .collect();
    let stands = if stands.is_empty() {
        "on no device".to_owned()
    } else {
        stands.join("; ")
    };
    page.field(MARGIN, INDENT, &dim("stands"), &[stands.into()]);
    if let Some(route) = node.route.as_ref().filter(|r| !r.local && r.specific) {
        page.field(
            MARGIN,
            INDENT,
            &dim("route"),
            &[route.row.text.to_string().into(), dim(route.row.artifact.to_string())],
        );
    }
    advertises(page, &node.advertises);
    if !node.asks_as.is_empty() {
        let text = format!(
            "a packet with this source out of {} makes the node ask ARP as {} (arp_announce): neighbours then take it \
             for the owner",
            node.asks_as.join(", "),
            answer.address
        );
        page.field(MARGIN, INDENT, &dim("ARP"), &[Span(text, Tone::Warn)]);
    }
    for client in &node.clients {
        self::client(page, client);
    }
    if let Some((here, all)) = node.endpoints.filter(|_| !node.clients.is_empty()) {
        page.field(
            MARGIN,
            INDENT,
            &dim("endpoints"),
            &[format!("{here} of {all} ready ones are on this node").into()],
        );
    }
}

/// More sessions than this are counted.
const SESSIONS: usize = 3;

fn advertises(page: &mut Page, said: &Announcement) {
    let daemons = || {
        let mut names: Vec<&str> = said.sessions.iter().map(|s| words::daemon(s.daemon).1).collect();
        names.dedup();
        names.join(" and ")
    };
    let (tone, text, rows) = match &said.answer {
        Advertises::Yes => {
            let to: Vec<String> = said.sessions.iter().take(SESSIONS).map(peer).collect();
            let more = said.sessions.len().saturating_sub(SESSIONS);
            let more = if more > 0 {
                format!(" and {more} more")
            } else {
                String::new()
            };
            let text = format!("yes: {} to {}{more}", daemons(), to.join(", "));
            (Tone::Good, text, 1)
        }
        Advertises::No => {
            let up = said
                .sessions
                .iter()
                .filter(|s| s.state.eq_ignore_ascii_case("established"))
                .count();
            let text = match said.sessions.len() {
                0 => "no: the routing daemon that runs here has no BGP session".to_owned(),
                all => format!(
                    "no: {} announces no route to it ({up} of {all} sessions are up)",
                    daemons()
                ),
            };
            (Tone::Warn, text, SESSIONS)
        }
        Advertises::Unknown(why) => {
            let why = match why {
                Unsure::NoState => "nothing of a routing daemon was captured".to_owned(),
                Unsure::NotRunning => {
                    "neither BIRD nor FRR runs here, and other programs that speak BGP are not asked".to_owned()
                }
                Unsure::OtherDaemon(daemon) => {
                    let other = words::daemon(*daemon).1;
                    format!("{} does not; whether {other} runs here was not captured", daemons())
                }
                Unsure::NotCaptured { path, reason } => format!("{path} was not captured ({})", words::absent(*reason)),
                Unsure::Session(name) => format!("what is announced on session {name}, which is up, was not captured"),
                Unsure::Itself(program) => format!("{program} speaks BGP itself, and is not asked"),
            };
            (Tone::Dim, format!("unknown: {why}"), 0)
        }
    };
    page.field(MARGIN, INDENT, &dim("by BGP"), &[Span(text, tone)]);
    for session in said.sessions.iter().take(rows) {
        let text = session.row.text.split_whitespace().collect::<Vec<_>>().join(" ");
        page.field(MARGIN, INDENT, &dim(""), &[text.into()]);
        let cite = match session.line {
            Some(line) => format!("{}:{line}", session.row.artifact),
            None => session.row.artifact.to_string(),
        };
        page.field(MARGIN, INDENT, &dim(""), &[dim(cite)]);
    }
}

fn peer(session: &BgpSession) -> String {
    match session.neighbour {
        Some(neighbour) if neighbour.to_string() != session.name => format!("{neighbour} ({})", session.name),
        _ => session.name.clone(),
    }
}

fn client(page: &mut Page, client: &ClientView) {
    let label = format!("to :{}", client.port);
    let (word, tone) = match client.explanation.verdict() {
        Verdict::Same(sees) => super::verdict::of(sees),
        Verdict::Mixed => ("MIXED", Tone::Warn),
    };
    let servers = client.servers();
    let mut text = match servers.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        many => format!("{} servers", many.len()),
    };
    let replies = client
        .explanation
        .branches
        .iter()
        .any(|b| client.explanation.sees(b) == ClientSees::Reply);
    match client.source_kept().filter(|_| replies) {
        Some(true) => text.push_str("; the client's address is kept"),
        Some(false) => text.push_str("; the client's address is translated"),
        None => {}
    }
    let mut spans = vec![Span(word.to_lowercase(), tone)];
    if !text.is_empty() {
        spans.push(text.into());
    }
    page.field(MARGIN, INDENT, &dim(label), &spans);
}

/// What the traffic policies do to packets that come to a node.
fn policies(page: &mut Page, answer: &VipExplanation) {
    let local = |policy: &Option<String>| policy.as_deref() == Some("Local");
    let external = answer.services.iter().any(|s| local(&s.external_traffic_policy));
    let internal = answer.services.iter().any(|s| local(&s.internal_traffic_policy));
    if !external && !internal {
        return;
    }
    page.gap();
    if external {
        page.flow(
            0,
            2,
            &[
                strong("externalTrafficPolicy: Local"),
                "sends packets from outside to endpoints on the same node, with the client's address. iptables and \
                 nftables modes drop them on a node without one; IPVS mode keeps the others there."
                    .into(),
            ],
        );
    }
    if internal {
        page.flow(
            0,
            2,
            &[
                strong("internalTrafficPolicy: Local"),
                "does the same to packets from inside to the ClusterIP, and not to this address.".into(),
            ],
        );
    }
}
