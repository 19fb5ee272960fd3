//! Words for people: outcomes, packets, differences.

use knet_dataplane::packet::{L4, Packet, proto};
use knet_dataplane::trace::Branch;

use super::environment::DEVICES;
use super::exchange::Step;
use super::lab::{Place, Seen};
use super::ours::Prediction;

/// A class of outcomes, for the tally.
pub fn outcome(step: &Step) -> String {
    if let Some(sees) = step.sees {
        return format!("send fails: {sees:?}");
    }
    let mut words: Vec<&str> = step
        .seen
        .iter()
        .map(|s| match (s.place, &s.packet.l4) {
            (Place::Out(_), L4::Icmp { quoted: Some(_), .. }) => "icmp error",
            (Place::Out(_), L4::Tcp { flags, .. }) if flags & 4 != 0 => "reset",
            (Place::Out(_), _) if s.number.is_none() => "answered",
            (Place::Out(_), _) => "out",
            (Place::Local, _) => "local",
        })
        .collect();
    words.sort_unstable();
    words.dedup();
    let stage = if step.stage == 0 { "" } else { "later: " };
    if words.is_empty() {
        format!("{stage}nothing")
    } else {
        format!("{stage}{}", words.join("+"))
    }
}

pub fn packet(p: &Packet) -> String {
    let name = match p.proto {
        proto::TCP => "tcp".to_owned(),
        proto::UDP => "udp".to_owned(),
        proto::ICMP => "icmp".to_owned(),
        proto::ICMPV6 => "icmp6".to_owned(),
        proto::SCTP => "sctp".to_owned(),
        other => format!("proto {other}"),
    };
    let l4 = match &p.l4 {
        L4::Tcp { sport, dport, flags } => format!("{}>{} flags {flags:#04x}", port(*sport), port(*dport)),
        L4::Ports { sport, dport } => format!("{}>{}", port(*sport), port(*dport)),
        L4::Icmp { ty, code, id, quoted } => {
            let quoted = quoted
                .as_ref()
                .map_or(String::new(), |q| format!(" about [{}]", packet(q)));
            format!("type {ty} code {code} id {}{quoted}", port(*id))
        }
        L4::Other => String::new(),
    };
    format!(
        "{name} {} > {} {l4} ttl {} tos {:#04x} len {}",
        p.src, p.dst, p.ttl, p.tos, p.len
    )
}

fn port(p: knet_dataplane::packet::Port) -> String {
    if p.drawn { "any".to_owned() } else { p.value.to_string() }
}

pub fn place(p: Place) -> String {
    match p {
        Place::Out(device) => format!("out {}", DEVICES[device]),
        Place::Local => "local".to_owned(),
    }
}

pub fn seen(seen: &[Seen]) -> String {
    if seen.is_empty() {
        return "      nothing\n".to_owned();
    }
    seen.iter()
        .map(|s| {
            format!(
                "      {}: {} (number {:?})\n",
                place(s.place),
                packet(&s.packet),
                s.number
            )
        })
        .collect()
}

pub fn predicted(p: &Prediction) -> String {
    let mut out = String::new();
    for way in &p.ways {
        out.push_str(&format!("      way (client sees {:?}):\n", way.sees));
        for (what, spot) in [("packet", &way.request), ("answer", &way.reply)] {
            match spot {
                Some(spot) => out.push_str(&format!(
                    "        {what} {}: {}\n",
                    place(spot.place),
                    packet(&spot.packet)
                )),
                None => out.push_str(&format!("        {what}: nothing\n")),
            }
        }
    }
    if let Some(unknown) = &p.unknown {
        out.push_str(&format!("      cannot tell: {unknown} ({} open)\n", p.open));
    }
    out
}

/// One line about a step.
pub fn line(step: &Step) -> String {
    let ours = step.prediction.ways.first().map_or("no way".to_owned(), |w| {
        w.request.as_ref().map_or("nothing".to_owned(), |s| {
            format!("{}: {}", place(s.place), packet(&s.packet))
        })
    });
    let kernel = step.seen.first().map_or("nothing".to_owned(), |s| {
        format!("{}: {}", place(s.place), packet(&s.packet))
    });
    format!(
        "stage {} {:?} | ours {ours} | kernel {kernel}",
        step.stage, step.start.l4
    )
}

/// Every step of the ways with its evidence.
pub fn branches(branches: &[Branch]) -> String {
    let mut out = String::new();
    for branch in branches.iter().take(4) {
        out.push_str(&format!(
            "    branch {:?} {:?}\n",
            branch.end.outcome, branch.end.reason
        ));
        let reply = branch.reply.as_ref().map_or(&[][..], |r| &r.hops);
        for hop in branch.hops.iter().chain(reply) {
            for step in &hop.steps {
                let text = step.evidence.first().map_or("", |e| &*e.text);
                out.push_str(&format!("      {:?} {:?} {}\n", hop.stage, step.what, text.trim()));
            }
        }
    }
    out
}
