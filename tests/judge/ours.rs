//! What the model says comes out, in the judge's terms.

use knet_dataplane::choice::{Chance, Fork, Taken, Unknown};
use knet_dataplane::packet::{L4, Packet, Port};
use knet_dataplane::trace::{Branch, ClientSees, Detail, Outcome, Place as Where, Reason};
use knet_dataplane::walk::{Limits, Start, trace, with_captured};
use knet_dataplane::world::World;

use super::lab::{Lab, Place, Seen};

/// A packet in a place.
#[derive(Clone, Debug, PartialEq)]
pub struct Spot {
    pub place: Place,
    pub packet: Packet,
}

/// One way the packet can go.
#[derive(Clone, Debug, PartialEq)]
pub struct Way {
    /// Where the packet itself comes out.
    pub request: Option<Spot>,
    /// Where an answer made by the node comes out.
    pub reply: Option<Spot>,
    /// What a local sender sees.
    pub sees: ClientSees,
    /// The packet was delivered here and answered here.
    pub settled: bool,
    /// Its share at least.
    pub likely: bool,
}

/// Everything the model says about a packet.
#[derive(Clone, Debug)]
pub struct Prediction {
    /// The ways whose end is known.
    pub ways: Vec<Way>,
    /// Why something is not known.
    pub unknown: Option<String>,
    /// Ways whose end is not known.
    pub open: usize,
    /// Every fork is one that each packet draws anew.
    pub drawn: bool,
    /// One of several real servers of IPVS, whichever the scheduler takes.
    pub scheduled: bool,
}

/// How the words for what only the scheduler knows begin.
const SCHEDULED: &str = "outside: which real server";

const LIMITS: Limits = Limits {
    branches: 256,
    stages: 128,
};

/// Asks the model.
pub fn predict(world: &World<'_>, start: &Start, later: bool, lab: &Lab) -> Prediction {
    let prediction = read(&ask(world, start, later, Detail::Outcome, LIMITS), lab);
    if prediction.unknown.is_none() {
        return prediction;
    }
    // Once more, to name what is not known.
    read(&ask(world, start, later, Detail::Decisions, LIMITS), lab)
}

/// What becomes of a packet, and whether that is not all. For a later one of a conversation the captured
/// connections are asked as well.
pub fn ask(world: &World<'_>, start: &Start, later: bool, detail: Detail, limits: Limits) -> (Vec<Branch>, bool) {
    if later {
        let found = with_captured(world, start, detail, limits);
        return (found.branches, found.truncated);
    }
    let found = trace(world, start, detail, limits);
    (found.branches, found.truncated)
}

/// Reads a trace.
fn read((branches, truncated): &(Vec<Branch>, bool), lab: &Lab) -> Prediction {
    let mut out = Prediction {
        ways: Vec::new(),
        unknown: None,
        open: 0,
        drawn: true,
        scheduled: false,
    };
    if *truncated {
        out.unknown = Some("more branches than the limit".to_owned());
    }
    for branch in branches {
        let kinds = || branch.path.iter().filter_map(unknown_fork);
        if let Some(kind) = kinds().find(|k| !k.starts_with(SCHEDULED)) {
            out.unknown = Some(kind);
        }
        out.scheduled |= kinds().any(|k| k.starts_with(SCHEDULED));
        out.drawn &= branch
            .path
            .iter()
            .all(|t| matches!(t.fork, Fork::Chance(Chance::Statistic)));
        match way(branch, lab) {
            Ok(way) => {
                if !out.ways.contains(&way) {
                    out.ways.push(way);
                }
            }
            Err(why) => {
                out.open += 1;
                out.unknown = Some(why);
            }
        }
    }
    out
}

fn unknown_fork(taken: &Taken) -> Option<String> {
    let Fork::Unknown(what) = &taken.fork else { return None };
    Some(match what {
        Unknown::Match(e) => format!("match: {}", words(&e.text)),
        Unknown::Target(e) => format!("target: {}", words(&e.text)),
        Unknown::Table(t) => format!("table: {t}"),
        Unknown::Sysctl(s) => format!("sysctl: {s}"),
        Unknown::Program(e) => format!("program: {}", e.text),
        Unknown::Learned(addr) => format!("learned: {addr}"),
        Unknown::Session(peer) => format!("session: {}", peer.text),
        Unknown::Outside(w) => format!("outside: {w}"),
        Unknown::ErrorLimit(key) => format!("error limit: {key}"),
        // How long a program waits is no question to a kernel.
        Unknown::Patience(_) => return None,
    })
}

/// The names of matches and targets in a rule, without their values.
fn words(text: &str) -> String {
    let mut out: Vec<&str> = Vec::new();
    let mut tokens = text.split_whitespace();
    while let Some(token) = tokens.next() {
        if matches!(token, "-m" | "-j" | "-g") {
            out.extend(tokens.next());
        }
    }
    if out.is_empty() {
        text.chars().take(60).collect()
    } else {
        out.join(" ")
    }
}

fn spot(lab: &Lab, place: Where, packet: &Packet) -> Result<Spot, String> {
    let device = place.oif.and_then(|i| lab.device(i.0));
    match device {
        Some(device) => Ok(Spot {
            place: Place::Out(device),
            packet: packet.clone(),
        }),
        None => Err(format!("leaves by an unknown device {:?}", place.oif)),
    }
}

fn way(branch: &Branch, lab: &Lab) -> Result<Way, String> {
    let end = &branch.end;
    let local = |packet: &Packet| Spot {
        place: Place::Local,
        packet: packet.clone(),
    };
    let request = match end.outcome {
        Outcome::Unknown => return Err(format!("end: {:?} {}", end.reason, evidence(branch))),
        Outcome::LeavesCluster => Some(spot(lab, end.place, &end.packet)?),
        Outcome::Delivered | Outcome::NoListener => Some(local(&end.packet)),
        // Raw sockets hear what no protocol takes.
        _ if end.reason == Reason::NoProtocol => Some(local(&end.packet)),
        _ => None,
    };
    let reply = match &branch.reply {
        None => None,
        Some(reply) => match reply.end.outcome {
            Outcome::Unknown => return Err(format!("reply: {:?}", reply.end.reason)),
            Outcome::LeavesCluster => Some(spot(lab, reply.end.place, &reply.end.packet)?),
            Outcome::Delivered if reply.end.reason == Reason::Client && reply.end.place.oif.is_some() => {
                Some(spot(lab, reply.end.place, &reply.end.packet)?)
            }
            Outcome::Delivered | Outcome::NoListener => Some(local(&reply.end.packet)),
            _ => None,
        },
    };
    Ok(Way {
        request,
        reply,
        sees: branch.client_sees,
        settled: matches!(end.outcome, Outcome::Delivered | Outcome::NoListener),
        likely: branch.at_least >= knet_dataplane::choice::ratio(1, 5),
    })
}

fn evidence(branch: &Branch) -> String {
    let last = branch
        .hops
        .iter()
        .flat_map(|h| &h.steps)
        .rfind(|s| !s.evidence.is_empty());
    last.and_then(|s| s.evidence.first())
        .map(|e| words(&e.text))
        .unwrap_or_default()
}

/// The kernel's packet is the one the model names.
pub fn agrees(ours: &Packet, seen: &Packet) -> bool {
    ours.src == seen.src
        && ours.dst == seen.dst
        && ours.proto == seen.proto
        && ours.ttl == seen.ttl
        && ours.tos == seen.tos
        && l4_agrees(&ours.l4, &seen.l4)
        && match (&ours.inner, &seen.inner) {
            (Some(ours), Some(seen)) => agrees(&ours.packet, &seen.packet),
            (ours, seen) => ours.is_some() == seen.is_some(),
        }
}

fn port_agrees(ours: Port, seen: Port) -> bool {
    ours.drawn || ours.value == seen.value
}

fn l4_agrees(ours: &L4, seen: &L4) -> bool {
    match (ours, seen) {
        (
            L4::Tcp { sport, dport, flags },
            L4::Tcp {
                sport: s,
                dport: d,
                flags: f,
            },
        ) => port_agrees(*sport, *s) && port_agrees(*dport, *d) && flags == f,
        (L4::Ports { sport, dport }, L4::Ports { sport: s, dport: d }) => {
            port_agrees(*sport, *s) && port_agrees(*dport, *d)
        }
        (
            L4::Icmp { ty, code, id, quoted },
            L4::Icmp {
                ty: t,
                code: c,
                id: i,
                quoted: q,
            },
        ) => {
            ty == t
                && code == c
                && match (quoted, q) {
                    (None, None) => port_agrees(*id, *i),
                    (Some(ours), Some(seen)) => {
                        ours.src == seen.src
                            && ours.dst == seen.dst
                            && ours.proto == seen.proto
                            && quoted_l4_agrees(&ours.l4, &seen.l4)
                    }
                    _ => false,
                }
        }
        (L4::Other, L4::Other) => true,
        _ => false,
    }
}

/// A quoted packet may be cut off behind its ports.
fn quoted_l4_agrees(ours: &L4, seen: &L4) -> bool {
    match (ours, seen) {
        (L4::Tcp { sport, dport, .. }, L4::Tcp { sport: s, dport: d, .. }) => {
            port_agrees(*sport, *s) && port_agrees(*dport, *d)
        }
        _ => l4_agrees(ours, seen),
    }
}

/// The way the kernel took, if it is one of ours. Everything seen must be accounted for; with
/// `request_only` whatever the node says by itself is not looked at.
pub fn matching<'p>(prediction: &'p Prediction, seen: &[Seen], number: u32, request_only: bool) -> Option<&'p Way> {
    prediction.ways.iter().find(|way| {
        let fits = |spot: &Spot, seen: &Seen| spot.place == seen.place && agrees(&spot.packet, &seen.packet);
        if request_only {
            return match &way.request {
                Some(spot) => seen.iter().any(|s| fits(spot, s)),
                None => !seen.iter().any(|s| s.number == Some(number)),
            };
        }
        let mut left: Vec<&Seen> = seen.iter().collect();
        for spot in [&way.request, &way.reply].into_iter().flatten() {
            match left.iter().position(|s| fits(spot, s)) {
                Some(at) => drop(left.remove(at)),
                None => return false,
            }
        }
        left.is_empty()
    })
}
