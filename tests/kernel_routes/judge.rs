//! The model's answers beside the kernel's.

use std::net::IpAddr;

use knet_dataplane::choice::{Fork, Oracle, explore};
use knet_dataplane::packet::{L4, Packet, Port};
use knet_dataplane::skb::Skb;
use knet_dataplane::stage::routing::{self, Egress, Errno, InputTo, Output, SenderFlags};
use knet_dataplane::table::fib::{Answer, Query};
use knet_dataplane::trace::Sink;
use knet_dataplane::world::{Netns, World};
use knet_snapshot::Snapshot;
use knet_snapshot::route::RouteKind;

use crate::lab::Said;
use crate::random::Ask;

/// What was compared.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub lookups: usize,
    /// The kernel found a route.
    pub routed: usize,
    /// Several answers were possible, by chance.
    pub chance: usize,
    /// Several answers were possible, because something is not in the snapshot.
    pub forked: usize,
    /// The model could not tell.
    pub unknown: usize,
    pub wrong: usize,
}

impl Tally {
    pub fn add(&mut self, other: &Self) {
        let Self {
            lookups,
            routed,
            chance,
            forked,
            unknown,
            wrong,
        } = other;
        self.lookups += lookups;
        self.routed += routed;
        self.chance += chance;
        self.forked += forked;
        self.unknown += unknown;
        self.wrong += wrong;
    }
}

/// An answer, as far as both say it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Reply {
    Error(&'static str),
    Route {
        kind: &'static str,
        dev: String,
        via: Option<IpAddr>,
        src: Option<IpAddr>,
    },
    Unknown(&'static str),
}

pub fn compare(snapshot: &Snapshot, asks: &[Ask], said: &[Said]) -> (Tally, Vec<String>) {
    let world = World::new(snapshot);
    let ns = &world.spaces()[0];
    let mut tally = Tally::default();
    let mut wrong = Vec::new();
    for (ask, said) in asks.iter().zip(said) {
        if !comparable(ask) {
            continue;
        }
        let Some(kernel) = kernel_reply(ask, said) else {
            continue;
        };
        tally.lookups += 1;
        tally.routed += usize::from(matches!(kernel, Reply::Route { .. }));
        let explored = explore(256, |oracle| model_reply(ns, ask, oracle));
        let forks = || explored.leaves.iter().flat_map(|l| &l.path).map(|t| &t.fork);
        tally.chance += usize::from(forks().any(|f| matches!(f, Fork::Chance(_))));
        tally.forked += usize::from(forks().any(|f| matches!(f, Fork::Unknown(_))));
        if std::env::var_os("KNET_VERBOSE").is_some() {
            for t in forks().filter(|f| matches!(f, Fork::Unknown(_))).take(1) {
                println!("  not known: {t:?} in {}", ask.command());
            }
            for l in explored
                .leaves
                .iter()
                .filter(|l| matches!(l.value, Reply::Unknown(_)))
                .take(1)
            {
                println!("  cannot tell: {:?} in {}", l.value, ask.command());
            }
        }
        let mut answers: Vec<Reply> = explored.leaves.into_iter().map(|l| l.value).collect();
        answers.dedup();
        if answers.iter().any(|a| matches!(a, Reply::Unknown(_))) {
            tally.unknown += 1;
        } else if !answers.contains(&kernel) {
            tally.wrong += 1;
            wrong.push(format!(
                "{}\n    kernel {kernel:?}\n    model  {answers:?}",
                ask.command()
            ));
        }
    }
    (tally, wrong)
}

/// A multicast packet that came in: group membership decides, which is not in a snapshot, and for IPv6 the
/// kernel answers out of its multicast forwarding cache.
fn comparable(ask: &Ask) -> bool {
    let multicast = ask.dst.parse::<IpAddr>().expect("an address").is_multicast();
    !(multicast && ask.iif.is_some())
}

fn kernel_reply(ask: &Ask, said: &Said) -> Option<Reply> {
    match said {
        Said::Error(text) => Some(Reply::Error(match text.strip_prefix("RTNETLINK answers: ")? {
            "Network is unreachable" => "ENETUNREACH",
            "No route to host" => "EHOSTUNREACH",
            "Permission denied" => "EACCES",
            "Invalid argument" => "EINVAL",
            "Cannot assign requested address" => "EADDRNOTAVAIL",
            other => panic!("another error: {other} to {}", ask.command()),
        })),
        Said::Row(row) => {
            let text = |key: &str| row.get(key).and_then(|v| v.as_str());
            let addr = |key: &str| text(key).and_then(|s| s.parse::<IpAddr>().ok());
            let via = addr("gateway").or_else(|| row.get("via")?.get("host")?.as_str()?.parse().ok());
            let kind = match text("type") {
                None | Some("unicast") => "unicast",
                Some("local") => "local",
                Some("broadcast") => "broadcast",
                Some("multicast") => "multicast",
                Some("anycast") => "anycast",
                Some(other) => panic!("type {other} to {}", ask.command()),
            };
            // For IPv6 `prefsrc` is what the kernel would have chosen, also when the question names a source.
            let asked = ask.iif.is_none() && !(ask.v6 && ask.src.is_some());
            let src = if asked { addr("prefsrc") } else { None };
            // Where a packet that came in is delivered has no device worth comparing.
            let here = ask.iif.is_some() && matches!(kind, "local" | "broadcast" | "anycast");
            let dev = if here { "lo" } else { text("dev").unwrap_or("?") }.to_owned();
            // `from` of a local sender is what it asked for.
            let src = src.or_else(|| {
                if ask.iif.is_none() {
                    ask.src.as_ref()?.parse().ok()
                } else {
                    None
                }
            });
            Some(Reply::Route { kind, dev, via, src })
        }
    }
}

fn model_reply(ns: &Netns<'_>, ask: &Ask, oracle: &mut Oracle) -> Reply {
    let index = |name: &str| ns.links().named(name).expect("captured").index;
    let parse = |s: &String| s.parse::<IpAddr>().expect("an address");
    let dst = parse(&ask.dst);
    let src = ask.src.as_ref().map(parse);
    let query = Query {
        dst,
        src,
        iif: ask.iif.map(index),
        oif: ask.oif.map(index),
        l3: None,
        bound: false,
        mark: ask.mark,
        tos: ask.tos,
        // A question about IPv4 without a protocol is one about UDP.
        proto: if ask.proto == 0 && !ask.v6 { 17 } else { ask.proto },
        sport: ask.sport,
        dport: ask.dport,
        // A question about IPv6 with `iif` has an invalid uid where a real packet has 0.
        uid: Some(if ask.v6 && ask.iif.is_some() { u32::MAX } else { ask.uid }),
    };
    match (ask.v6, ask.iif) {
        (false, Some(_)) => input4(ns, &query, oracle),
        // `ip route get ... iif` asks IPv6 for the route only, without what forwarding says.
        (true, Some(_)) => lookup6(ns, &query, oracle),
        (true, None) => match lookup6(ns, &query, &mut Oracle::default()) {
            Reply::Error(e) => Reply::Error(e),
            _ => output(ns, &query, oracle),
        },
        (false, None) => output(ns, &query, oracle),
    }
}

fn output(ns: &Netns<'_>, query: &Query, oracle: &mut Oracle) -> Reply {
    match routing::output(ns, query, SenderFlags::default(), oracle, &mut Sink::default()) {
        Output::Routed(e, _) => route(ns, &e),
        Output::Refused(r, _) => Reply::Error(errno(r.errno)),
        Output::Unknown(what) => Reply::Unknown(what),
    }
}

fn input4(ns: &Netns<'_>, q: &Query, oracle: &mut Oracle) -> Reply {
    let port = |p: Option<u16>| Port {
        value: p.unwrap_or(0),
        drawn: false,
    };
    let (sport, dport) = (port(q.sport), port(q.dport));
    let packet = Packet {
        src: q.src.unwrap_or(IpAddr::from([0; 4])),
        dst: q.dst,
        proto: q.proto,
        l4: L4::Ports { sport, dport },
        ttl: 64,
        tos: q.tos,
        len: 100,
        df: false,
        inner: None,
    };
    let skb = Skb {
        mark: q.mark,
        iif: q.iif,
        ..Skb::new(packet)
    };
    let here = |kind| Reply::Route {
        kind,
        dev: "lo".into(),
        via: None,
        src: None,
    };
    match routing::input(ns, &skb, oracle, &mut Sink::default()).to {
        InputTo::Local(_) => here("local"),
        InputTo::Broadcast => here("broadcast"),
        InputTo::Multicast => here("multicast"),
        InputTo::Forward(e) => match route(ns, &e) {
            Reply::Route { kind: "broadcast", .. } => here("broadcast"),
            Reply::Route { kind, dev, via, .. } => Reply::Route {
                kind,
                dev,
                via,
                src: None,
            },
            other => other,
        },
        InputTo::Refused(r) => Reply::Error(errno(r.errno)),
        InputTo::Unknown(what) => Reply::Unknown(what),
    }
}

fn lookup6(ns: &Netns<'_>, query: &Query, oracle: &mut Oracle) -> Reply {
    let lookup = ns.fib().lookup(query, oracle);
    let hit = match lookup.answer {
        Answer::Route(hit) => hit,
        Answer::Rule(RouteKind::Unreachable) | Answer::None => return Reply::Error("ENETUNREACH"),
        Answer::Rule(RouteKind::Prohibit) => return Reply::Error("EACCES"),
        Answer::Rule(_) => return Reply::Error("EINVAL"),
        Answer::Unknown(what) => return Reply::Unknown(what),
    };
    let via = hit.nexthop.and_then(|n| n.gateway);
    let dev = hit.oif.map_or("?", |i| ns.links().name(i)).to_owned();
    match hit.kind {
        RouteKind::Blackhole => Reply::Error("EINVAL"),
        RouteKind::Unreachable => Reply::Error("EHOSTUNREACH"),
        RouteKind::Prohibit => Reply::Error("EACCES"),
        RouteKind::Local => Reply::Route {
            kind: "local",
            dev: "lo".into(),
            via: None,
            src: None,
        },
        RouteKind::Anycast => Reply::Route {
            kind: "anycast",
            dev: "lo".into(),
            via: None,
            src: None,
        },
        kind => Reply::Route {
            kind: word(kind),
            dev,
            via,
            src: None,
        },
    }
}

fn route(ns: &Netns<'_>, e: &Egress) -> Reply {
    let via = e.gateway.then_some(e.nexthop);
    Reply::Route {
        kind: word(e.kind),
        dev: ns.links().name(e.oif).to_owned(),
        via,
        src: e.src,
    }
}

fn word(kind: RouteKind) -> &'static str {
    match kind {
        RouteKind::Local => "local",
        RouteKind::Broadcast => "broadcast",
        RouteKind::Multicast => "multicast",
        RouteKind::Anycast => "anycast",
        _ => "unicast",
    }
}

fn errno(e: Errno) -> &'static str {
    match e {
        Errno::NetUnreachable => "ENETUNREACH",
        Errno::HostUnreachable => "EHOSTUNREACH",
        Errno::Access => "EACCES",
        Errno::Invalid => "EINVAL",
        Errno::NoDevice => "ENODEV",
        Errno::AddressNotAvailable => "EADDRNOTAVAIL",
    }
}
