//! Text for people.

use super::{mini, query, with};
use crate::explainer::Explainer;
use crate::query::Query;
use crate::render::text::{self, Show, Style};
use crate::topics::nodeport::{Meaning, NodePortQuery, PortOwner};
use knet_dataplane::trace::Detail;

fn page(query: &Query, width: usize, show: Show) -> String {
    let detail = if show == Show::Full {
        Detail::Full
    } else {
        Detail::Decisions
    };
    with(query, detail, |r| {
        text::trace(
            &r.expect("it resolves"),
            &Style {
                width,
                colour: false,
                show,
            },
        )
    })
}

fn longest(text: &str) -> usize {
    text.lines().map(|l| l.chars().count()).max().unwrap_or(0)
}

#[test]
fn the_first_line_says_it() {
    let reply = page(&query("toolbox", "web"), 160, Show::Summary);
    assert!(
        reply.starts_with("REPLY: shop/web-0 (10.244.0.3:8080 on node-1) answers default/toolbox for shop/web:http.\n"),
        "{reply}"
    );
    let refused = page(&query("toolbox", "shop/void"), 160, Show::Summary);
    assert!(
        refused.starts_with("REFUSED: default/toolbox to shop/void:http: node-1 rejects it with"),
        "{refused}"
    );
}

#[test]
fn a_service_without_endpoints_is_explained() {
    let text = page(&query("toolbox", "shop/void"), 80, Show::Summary).replace("\n  ", " ");
    assert!(text.contains("KNET-F002"), "{text}");
    assert!(text.contains("its selector app=wed matches no pod"), "{text}");
    assert!(text.contains("shop/web-0 has app=web"), "{text}");
    assert!(text.contains("nodes/node-1/host/iptables-nft.save:"), "{text}");
}

#[test]
fn the_deciding_rule_stands_as_written_with_its_line() {
    let text = page(&query("toolbox", "web"), 160, Show::Hops);
    assert!(text.contains("-A KUBE-SEP-AAAAAAAAAAAAAAAA -p tcp -m comment --comment \"shop/web:http\" -m tcp -j DNAT"));
    assert!(text.contains("iptables-nft.save:27"), "{text}");
    assert!(
        text.contains("nat PREROUTING > KUBE-SERVICES > KUBE-SVC-67NZLRHBNDSAWJRO > KUBE-SEP-"),
        "{text}"
    );
    assert!(text.contains("route.json[1]") || text.contains("route.json:"), "{text}");
}

#[test]
fn every_page_fits_its_width() {
    let queries = [
        query("toolbox", "web"),
        query("toolbox", "shop/void"),
        query("ip/192.168.0.50", "node/node-1:30080"),
    ];
    for query in &queries {
        for show in [Show::Summary, Show::Hops, Show::Full] {
            for width in [40, 80, 160] {
                let text = page(query, width, show);
                assert!(
                    longest(&text) <= width,
                    "{} columns at {width}:\n{text}",
                    longest(&text)
                );
                assert!(text.ends_with('\n'));
            }
        }
    }
}

#[test]
fn colour_changes_no_word() {
    let plain = page(&query("toolbox", "web"), 80, Show::Hops);
    let painted = with(&query("toolbox", "web"), Detail::Decisions, |r| {
        text::trace(
            &r.expect("it resolves"),
            &Style {
                width: 80,
                colour: true,
                show: Show::Hops,
            },
        )
    });
    let mut stripped = String::new();
    let mut code = false;
    for c in painted.chars() {
        match (code, c) {
            (false, '\u{1b}') => code = true,
            (false, c) => stripped.push(c),
            (true, 'm') => code = false,
            (true, _) => {}
        }
    }
    assert_eq!(plain, stripped);
}

#[test]
fn the_same_question_gets_the_same_bytes() {
    let once = page(&query("toolbox", "web"), 80, Show::Full);
    assert_eq!(once, page(&query("toolbox", "web"), 80, Show::Full));
}

#[test]
fn a_node_port_is_a_rule_and_no_socket() {
    let snapshot = mini::snapshot(true);
    let explainer = Explainer::new(&snapshot);
    let ask = |port| NodePortQuery {
        port,
        proto: None,
        node: None,
        family: None,
    };
    let answer = explainer.nodeport(&ask(30080)).expect("the node is there");
    assert!(matches!(&answer.owner, PortOwner::Service { name, .. } if name.to_string() == "shop/web:http"));
    assert_eq!(answer.listeners.as_deref(), Some(&[][..]));
    let taker = answer.taker.as_ref().expect("a rule takes it");
    assert_eq!(taker.chains, ["PREROUTING", "KUBE-SERVICES", "KUBE-NODEPORTS"]);
    assert!(taker.rule.text.contains("--dport 30080"));
    let text = text::nodeport(&answer, &Style::default());
    assert!(text.contains("No socket listens on it, and none has to."), "{text}");
    assert!(longest(&text) <= 80, "{text}");

    let answer = explainer.nodeport(&ask(31000)).expect("the node is there");
    assert_eq!(answer.owner, PortOwner::Nobody);
    assert_eq!(answer.closest[0].0, 30080);
    assert_eq!(answer.exit_code(), 1);
}

#[test]
fn a_program_on_a_node_port_is_shadowed() {
    let mut files = mini::files(true);
    for (path, text) in &mut files {
        if path == "nodes/node-1/host/sockets.txt" {
            text.push_str("tcp LISTEN 0 128 0.0.0.0:30080 0.0.0.0:* users:((\"java\",pid=9,fd=3))\n");
        }
    }
    let snapshot = mini::open(files);
    let query = NodePortQuery {
        port: 30080,
        proto: None,
        node: None,
        family: None,
    };
    let answer = Explainer::new(&snapshot).nodeport(&query).expect("the node is there");
    let listeners = answer.listeners.as_deref().expect("sockets were captured");
    assert_eq!(listeners[0].meaning, Meaning::Shadowed);
}

#[test]
fn errors_are_printed_with_their_hints() {
    let text = with(&query("toolbox", "svc/shop/two"), Detail::Outcome, |r| {
        text::error(&r.map(|_| ()).expect_err("a port is needed"), &Style::default())
    });
    assert!(
        text.starts_with("error: which port of svc/shop/two?\nhint: it has 53/udp (dns), 53/tcp (dns-tcp)"),
        "{text}"
    );
}
