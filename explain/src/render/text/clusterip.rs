//! `explain clusterip` and `explain kube-ipvs0`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::explanation::Explanation;
use crate::names::Whose;
use crate::render::{systems, words};
use crate::topics::clusterip::ClusterIpExplanation;
use crate::topics::kube_ipvs0::{Held, KubeIpvs0};

use super::head::cite;
use super::layout::{Page, Span, Tone, dim, strong};
use super::{nodeport, verdict};

const MARGIN: usize = 2;
const INDENT: usize = 12;

/// How a ClusterIP's packets are taken on a node.
pub fn answer(page: &mut Page, answer: &ClusterIpExplanation) {
    let services: Vec<String> = answer.services.iter().map(|s| format!("svc/{s}")).collect();
    let whose = match services.as_slice() {
        [] => "is no ClusterIP of a captured Service.".to_owned(),
        all => format!("is the ClusterIP of {}.", all.join(", ")),
    };
    let socket = format!("{}:{}/{}", answer.address, answer.port, words::protocol(answer.proto));
    page.flow(
        0,
        2,
        &[Span(format!("{socket} on {}", answer.node), Tone::Head), whose.into()],
    );
    page.gap();
    let ipvs = answer.taker.as_ref().is_some_and(|t| t.ipvs);
    match &answer.stands {
        Some((dev, up)) => {
            let state = if *up {
                ""
            } else {
                ", which is down: an address is local all the same"
            };
            page.field(
                MARGIN,
                INDENT,
                &dim("local"),
                &[format!("it is an address on {dev}{state}").into()],
            );
        }
        None if ipvs => {
            let text = if answer.only_own {
                "it is on no device: packets of pods and clients are routed past IPVS, and only the node's own meet it"
            } else {
                "it is on no device: only the node's own packets meet IPVS"
            };
            page.field(MARGIN, INDENT, &dim("local"), &[Span(text.to_owned(), Tone::Bad)]);
        }
        None => page.field(
            MARGIN,
            INDENT,
            &dim("local"),
            &["it is on no device, and needs to be on none".into()],
        ),
    }
    if let Some(row) = &answer.local {
        page.field(MARGIN, INDENT, &dim(""), &[strong(row.text.to_string())]);
        page.field(MARGIN, INDENT, &dim(""), &[dim(cite(&answer.cites, row))]);
    }
    match &answer.taker {
        Some(taker) if taker.ipvs => {
            let at = taker.chains.join(" ");
            let text = match answer.only_own {
                true => format!("IPVS at {at}, of the node's own packets only"),
                false => format!("IPVS at {at}, after filter has seen the service's port"),
            };
            page.field(MARGIN, INDENT, &dim("taken by"), &[text.into()]);
        }
        Some(taker) => {
            let text = format!("{} {}", taker.table, taker.chains.join(" > "));
            page.field(MARGIN, INDENT, &dim("taken by"), &[text.into()]);
            page.field(MARGIN, INDENT, &dim(""), &[strong(taker.rule.text.to_string())]);
            page.field(MARGIN, INDENT, &dim(""), &[dim(cite(&answer.cites, &taker.rule))]);
        }
        None => {
            let over = systems::taken_over(&answer.own);
            let nothing = match over.is_empty() {
                true => Span("nothing on this node".to_owned(), Tone::Bad),
                false => Span("nothing in the kernel's tables of this node".to_owned(), Tone::Warn),
            };
            page.field(MARGIN, INDENT, &dim("taken by"), &[nothing]);
        }
    }
    for text in systems::taken_over(&answer.own) {
        page.field(MARGIN, INDENT, &dim("outside"), &[Span(text, Tone::Warn)]);
    }
    for row in &answer.service_rows {
        page.field(MARGIN, INDENT, &dim(""), &[strong(row.text.to_string())]);
    }
    if let Some(row) = answer.service_rows.first() {
        page.field(MARGIN, INDENT, &dim(""), &[dim(cite(&answer.cites, row))]);
    }
    page.gap();
    if let Some((pod, seen)) = &answer.pod {
        view(page, &format!("pod {pod}"), seen);
    }
    view(page, &answer.node, &answer.own);
    if ipvs {
        page.gap();
        nodeport::ipvs_order(page);
    }
}

fn view(page: &mut Page, who: &str, seen: &Explanation) {
    let (word, tone) = verdict::word(seen);
    page.flow(
        MARGIN,
        MARGIN + 2,
        &[
            strong(who.to_owned()),
            Span(format!("{}:", word.to_lowercase()), tone),
            verdict::sentence(seen).into(),
        ],
    );
}

/// What `kube-ipvs0` is.
pub fn device(page: &mut Page, answer: &KubeIpvs0) {
    let node = &answer.node;
    let Some(device) = &answer.device else {
        if !answer.links_known {
            let text = format!("Whether {node} has kube-ipvs0 cannot be told: its links were not captured.");
            page.flow(0, 2, &[Span(text, Tone::Warn)]);
            return;
        }
        page.flow(
            0,
            2,
            &[
                Span(format!("{node} has no kube-ipvs0."), Tone::Warn),
                "kube-proxy makes it in IPVS mode only; in the other modes ClusterIPs are on no device.".into(),
            ],
        );
        return;
    };
    let state = if device.up {
        "up, which is not needed"
    } else {
        "DOWN, and that is right"
    };
    page.flow(
        0,
        2,
        &[
            Span(format!("kube-ipvs0 on {node}"), Tone::Head),
            format!("is a dummy device of kube-proxy, {state}.").into(),
        ],
    );
    page.gap();
    page.flow(
        0,
        0,
        &[
            "No packet ever crosses it. It holds the addresses of Services, so that routing finds them local (table \
             local has them whether the device is up or not) and packets come to INPUT, where IPVS takes them."
                .into(),
        ],
    );
    page.gap();
    let flags = format!(
        "{}{}",
        if device.up { "UP" } else { "not UP" },
        if device.noarp { ", NOARP" } else { "" }
    );
    let row = dim(cite(&answer.cites, &device.row));
    page.field(MARGIN, INDENT, &dim("device"), &[flags.into(), row]);
    if let Some(row) = &answer.local {
        page.field(MARGIN, INDENT, &dim("local"), &[strong(row.text.to_string())]);
        page.field(MARGIN, INDENT, &dim(""), &[dim(cite(&answer.cites, row))]);
    }
    let services = answer
        .services
        .map_or("not captured".to_owned(), |n| format!("{n} virtual services of IPVS"));
    page.field(MARGIN, INDENT, &dim("services"), &[services.into()]);
    match &answer.addresses {
        Some(all) => held(page, all),
        None => page.field(
            MARGIN,
            INDENT,
            &dim("holds"),
            &[Span("addresses were not captured".to_owned(), Tone::Warn)],
        ),
    }
    for (address, whose) in &answer.missing {
        let text = format!(
            "{address} of {}: packets of pods and clients do not reach IPVS",
            owner(whose)
        );
        page.field(MARGIN, INDENT, &dim("missing"), &[Span(text, Tone::Bad)]);
    }
    if let Some(arp) = &answer.arp {
        let (sure, perhaps) = (arp.answers_on.join(", "), arp.may_answer_on.join(", "));
        let each = "for every one of these addresses, ClusterIPs included";
        let text = match (sure.is_empty(), perhaps.is_empty()) {
            (true, true) => "it is silent about these addresses (strictARP: arp_ignore)".to_owned(),
            (false, true) => format!("asked on {sure} it answers {each} (strictARP is off)"),
            (true, false) => format!("cannot tell whether it answers {each}, asked on {perhaps}"),
            (false, false) => format!("asked on {sure} it answers {each}; cannot tell whether on {perhaps} too"),
        };
        page.field(MARGIN, INDENT, &dim("ARP"), &[text.into()]);
    }
    for row in &answer.arp_rows {
        page.field(
            MARGIN,
            INDENT,
            &dim(""),
            &[strong(row.text.to_string()), dim(cite(&answer.cites, row))],
        );
    }
}

/// What its addresses are.
fn held(page: &mut Page, addresses: &BTreeMap<IpAddr, Held>) {
    let (mut cluster, mut balancers, mut external, mut stale) = (0, 0, 0, Vec::new());
    let mut nobodys = 0;
    for (address, held) in addresses {
        match held {
            Held::Service(Whose::ClusterIp(_)) => cluster += 1,
            Held::Service(Whose::LoadBalancer(_)) => balancers += 1,
            Held::Service(_) => external += 1,
            Held::Stale => stale.push(address.to_string()),
            Held::Nobodys => nobodys += 1,
            Held::Swallowed(_) => {}
        }
    }
    let text = format!("{cluster} ClusterIPs, {balancers} of load balancers, {external} external IPs");
    page.field(MARGIN, INDENT, &dim("holds"), &[text.into()]);
    if nobodys > 0 {
        let text = format!("{nobodys} more, whose is not known: Services were not captured");
        page.field(MARGIN, INDENT, &dim(""), &[Span(text, Tone::Warn)]);
    }
    if !stale.is_empty() {
        let text = format!("{}: no Service names them any more", stale.join(", "));
        page.field(MARGIN, INDENT, &dim("stale"), &[Span(text, Tone::Warn)]);
    }
    for (address, held) in addresses {
        if let Held::Swallowed(whose) = held {
            let text = format!(
                "{address} is also {}: what this node sends there ends here, and what comes from there is a martian",
                owner(whose)
            );
            page.field(MARGIN, INDENT, &dim("swallows"), &[Span(text, Tone::Bad)]);
        }
    }
}

fn owner(whose: &Whose) -> String {
    match whose {
        Whose::Pod(name) => format!("pod {name}"),
        Whose::Node(name) => format!("node {name}"),
        Whose::ClusterIp(name) | Whose::LoadBalancer(name) | Whose::ExternalIp(name) => format!("svc/{name}"),
        Whose::Netns(_) => "a captured namespace".to_owned(),
    }
}
