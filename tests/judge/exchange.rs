//! Sends conversations through the kernel and through the model, and compares.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use knet_dataplane::packet::{L4, Packet, proto};
use knet_dataplane::trace::{ClientSees, NsId};
use knet_dataplane::walk::{Origin, Start};
use knet_dataplane::world::World;
use knet_snapshot::artifact::name;
use knet_snapshot::id::IfIndex;
use knet_snapshot::store::Blob;

use super::clock::timed;
use super::flow::{self, Entry, Flow, Follow};
use super::lab::{Files, Lab, Place, Seen, snapshot};
use super::ours::{self, Prediction};
use super::sys;
use super::wire::{self, Side};

/// What the kernel did with one packet, and what the model said.
#[derive(Clone, Debug)]
pub struct Step {
    /// Which packet of the conversation.
    pub stage: usize,
    /// What was asked.
    pub start: Start,
    /// The model's answer.
    pub prediction: Prediction,
    /// The kernel's.
    pub seen: Vec<Seen>,
    /// What a local sender got.
    pub sees: Option<ClientSees>,
    /// Only where the packet itself went is compared.
    pub request_only: bool,
    /// How the two compare.
    pub verdict: Verdict,
}

/// How the answers compare.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// The kernel went one of our ways.
    Agrees,
    /// It did not.
    Differs,
    /// The model says that it cannot tell.
    CannotTell(String),
}

/// A conversation under way.
struct Live<'f> {
    flow: &'f Flow,
    /// Where the first side's last packet came out.
    out: Option<Spot>,
    /// Programs keep their sockets until the conversation is over.
    socket: Option<OwnedFd>,
    /// Whether it goes on.
    alive: bool,
}

#[derive(Clone)]
struct Spot {
    device: usize,
    packet: Packet,
    /// Which of the two sides sent it.
    by_client: bool,
}

/// Runs conversations side by side, stage by stage; the connections are captured between stages.
/// `each` sees every step of every conversation.
pub fn run(lab: &Lab, files: &Files, flows: &[Flow], mut each: impl FnMut(usize, Step)) {
    let mut live: Vec<Live<'_>> = flows
        .iter()
        .map(|flow| Live {
            flow,
            out: None,
            socket: None,
            alive: true,
        })
        .collect();
    lab.collect(0);
    let mut files = files.clone();
    for stage in 0.. {
        let turn: Vec<usize> = (0..live.len())
            .filter(|&i| live[i].alive && (stage == 0 || stage <= live[i].flow.follow.len()))
            .collect();
        if turn.is_empty() {
            return;
        }
        if stage > 0 {
            files.insert(name::CONNTRACK, timed("connections", || lab.connections()));
            files.extend(lab.ipvs_connections().map(|table| (name::IPVS_CONN, table)));
        }
        let mut left = turn.as_slice();
        while !left.is_empty() {
            let snapshot = timed("snapshot", || snapshot(&files));
            let world = timed("world", || World::new(&snapshot));
            while let [i, rest @ ..] = left {
                left = rest;
                let step = if stage == 0 {
                    first(lab, &world, &mut live[*i])
                } else {
                    next(lab, &world, &mut live[*i], stage)
                };
                match step {
                    Some(step) => each(*i, step),
                    None => live[*i].alive = false,
                }
                // Persistence: whose client is now bound to a server, the next packet's may be as well.
                let now = lab.ipvs_connections();
                if let Some(now) = now.filter(|now| templates(Some(now)) != templates(files.get(name::IPVS_CONN))) {
                    files.insert(name::IPVS_CONN, now);
                    break;
                }
            }
        }
    }
}

/// The persistence templates of a table, without their age.
fn templates(table: Option<&Blob>) -> BTreeSet<String> {
    let text = table.map(|t| String::from_utf8_lossy((**t).as_ref()).into_owned());
    let words = |line: &str| line.split_whitespace().take(7).map(str::to_owned).collect::<Vec<_>>();
    text.unwrap_or_default()
        .lines()
        .map(words)
        .filter(|w| w.get(2).is_some_and(|port| port == "0000"))
        .map(|w| w.join(" "))
        .collect()
}

fn first(lab: &Lab, world: &World<'_>, live: &mut Live<'_>) -> Option<Step> {
    let flow = live.flow;
    match &flow.entry {
        Entry::Wire(device) => {
            let request_only = of_the_node(flow.packet.src) || !opens(&flow.packet);
            Some(wired(
                lab,
                world,
                live,
                0,
                *device,
                &flow.packet.clone(),
                Side::Client,
                request_only,
            ))
        }
        Entry::Socket { .. } => local(lab, world, live),
    }
}

/// A packet that a program of the node would answer as the model thinks: anything but a TCP packet in the
/// middle of a connection that does not exist.
fn opens(packet: &Packet) -> bool {
    match packet.l4 {
        L4::Tcp { flags, .. } => flags == knet_dataplane::packet::tcp_flag::SYN,
        L4::Icmp { ty, .. } => matches!(ty, 8 | 128),
        _ => true,
    }
}

/// An answer to an address of the node's own is not followed further by the model.
fn of_the_node(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(a) => matches!(a.octets(), [10, 0..=3 | 8, 0, 1 | 11] | [10, 130..=133, 0, 1]),
        IpAddr::V6(a) => matches!(a.segments(), [0xfd00, 0..=3 | 8, 0, 0, 0, 0, 0, 1 | 0x11]),
    }
}

#[allow(clippy::too_many_arguments, reason = "everything about one packet")]
fn wired(
    lab: &Lab,
    world: &World<'_>,
    live: &mut Live<'_>,
    stage: usize,
    device: usize,
    packet: &Packet,
    side: Side,
    request_only: bool,
) -> Step {
    let start = Start {
        ns: NsId(0),
        origin: Origin::Wire {
            dev: IfIndex(lab.index(device)),
        },
        src: Some(packet.src),
        dst: packet.dst,
        proto: packet.proto,
        l4: packet.l4.clone(),
        any_sport: false,
        ttl: packet.ttl,
        tos: packet.tos,
        mark: 0,
        len: packet.len,
    };
    let prediction = timed("predict", || ours::predict(world, &start, stage > 0, lab));
    timed("inject", || lab.inject(device, packet, live.flow.number, side));
    let number = live.flow.number;
    let about_own = |s: &Seen| {
        // Told to whoever the node spoke for: it quotes another packet than ours.
        if let L4::Icmp { quoted: Some(q), .. } = &s.packet.l4
            && !quotes(packet)
            // SCTP packets carry no number.
            && ((s.about != Some(number) && packet.proto != proto::SCTP) || (packet.src != packet.dst && (q.src, q.dst) == (packet.dst, packet.src)))
        {
            return true;
        }
        s.place == Place::Local && ((quotes(&s.packet) && !quotes(packet)) || (s.number.is_none() && resets(&s.packet)))
    };
    let mut seen = timed("collect", || lab.collect(0));
    // An error about the node's own answer, or a reset, told to the node.
    seen.retain(|s| !about_own(s));
    if prediction.open == 0 && ours::matching(&prediction, &seen, number, request_only).is_none() {
        // Another CPU may have taken the frame over.
        seen.extend(timed("wait", || lab.collect(3)));
        seen.retain(|s| !about_own(s));
    }
    let matched = ours::matching(&prediction, &seen, number, request_only).is_some();
    let verdict = verdict(&prediction, matched);
    follow_up(live, &seen, side == Side::Client);
    Step {
        stage,
        start,
        prediction,
        seen,
        sees: None,
        request_only,
        verdict,
    }
}

fn verdict(prediction: &Prediction, matched: bool) -> Verdict {
    match &prediction.unknown {
        Some(kind) if matched || prediction.open > 0 => Verdict::CannotTell(kind.clone()),
        _ if matched => Verdict::Agrees,
        _ => Verdict::Differs,
    }
}

/// Remembers where the packet came out, for what follows.
fn follow_up(live: &mut Live<'_>, seen: &[Seen], by_client: bool) {
    let forwarded = seen.iter().find_map(|s| match s.place {
        Place::Out(device) if s.number == Some(live.flow.number) && !quotes(&s.packet) => Some(Spot {
            device,
            packet: s.packet.clone(),
            by_client,
        }),
        _ => None,
    });
    live.out = forwarded;
}

fn resets(packet: &Packet) -> bool {
    packet.tcp_flags() & knet_dataplane::packet::tcp_flag::RST != 0
}

fn quotes(packet: &Packet) -> bool {
    matches!(packet.l4, L4::Icmp { quoted: Some(_), .. })
}

fn next(lab: &Lab, world: &World<'_>, live: &mut Live<'_>, stage: usize) -> Option<Step> {
    let follow = *live.flow.follow.get(stage - 1)?;
    match follow {
        Follow::Reply { flags } => {
            let out = live.out.clone().filter(|o| o.by_client)?;
            let packet = flow::turned(&out.packet, flags)?;
            Some(wired(lab, world, live, stage, out.device, &packet, Side::Server, true))
        }
        Follow::Error { ty, code, from_target } => {
            // What a tunnel carries is not put together again.
            let out = live.out.clone().filter(|o| o.packet.inner.is_none())?;
            let router = if from_target {
                out.packet.dst
            } else {
                router(out.device, out.packet.dst.is_ipv6())
            };
            let packet = flow::error(&out.packet, ty, code, router);
            let side = if out.by_client { Side::Server } else { Side::Client };
            Some(wired(lab, world, live, stage, out.device, &packet, side, true))
        }
        Follow::Again { flags } => {
            let Entry::Wire(device) = live.flow.entry else {
                return None;
            };
            let mut packet = live.flow.packet.clone();
            if let L4::Tcp { flags: f, .. } = &mut packet.l4 {
                *f = flags;
            }
            Some(wired(lab, world, live, stage, device, &packet, Side::Client, true))
        }
    }
}

fn router(device: usize, v6: bool) -> IpAddr {
    let text = if v6 {
        format!("fd00:{device}::9")
    } else {
        format!("10.{device}.0.9")
    };
    let bridged = if v6 { "fd00:8::2" } else { "10.8.0.2" };
    if device < super::environment::ROUTED {
        text.parse()
    } else {
        bridged.parse()
    }
    .expect("an address")
}

/// A program of the node sends.
fn local(lab: &Lab, world: &World<'_>, live: &mut Live<'_>) -> Option<Step> {
    let Entry::Socket { uid, gid, mark, bound } = live.flow.entry else {
        return None;
    };
    let packet = &live.flow.packet;
    let start = Start {
        ns: NsId(0),
        origin: Origin::Local { uid: Some(uid) },
        src: bound,
        dst: packet.dst,
        proto: packet.proto,
        l4: packet.l4.clone(),
        any_sport: false,
        ttl: packet.ttl,
        tos: packet.tos,
        mark,
        len: packet.len,
    };
    let v6 = packet.dst.is_ipv6();
    let prediction = timed("predict", || ours::predict(world, &start, false, lab));
    let family = if v6 { libc::AF_INET6 } else { libc::AF_INET };
    let (kind, protocol) = match packet.proto {
        proto::TCP => (libc::SOCK_STREAM, 0),
        proto::UDP => (libc::SOCK_DGRAM, 0),
        other => (libc::SOCK_RAW, i32::from(other)),
    };
    let fd = sys::socket_of(uid, gid, family, kind, protocol).expect("a socket");
    sys::set(&fd, libc::SOL_SOCKET, libc::SO_MARK, mark as i32).expect("an option");
    let tos = if v6 {
        (libc::IPPROTO_IPV6, libc::IPV6_TCLASS)
    } else {
        (libc::IPPROTO_IP, libc::IP_TOS)
    };
    sys::set(&fd, tos.0, tos.1, packet.tos.into()).expect("an option");
    let unspecified: IpAddr = if v6 { [0u8; 16].into() } else { [0u8; 4].into() };
    let sport = packet.sport().map_or(0, |p| p.value);
    if sys::bind(&fd, bound.unwrap_or(unspecified), sport).is_err() {
        return None;
    }
    let dport = packet.dport().map_or(0, |p| p.value);
    let payload = wire::payload(packet, live.flow.number);
    let sent = match packet.proto {
        proto::TCP => sys::connect(&fd, packet.dst, dport),
        proto::UDP => sys::send_to(&fd, &payload, packet.dst, dport),
        _ => sys::send_to(&fd, &payload, packet.dst, 0),
    };
    let errno = sent
        .err()
        .and_then(|e| e.raw_os_error())
        .filter(|&e| e != libc::EINPROGRESS);
    let errno = errno.map(|e| match e {
        libc::EPERM => ClientSees::Permission,
        libc::EACCES => ClientSees::Prohibited,
        libc::EINVAL => ClientSees::Invalid,
        libc::ECONNREFUSED => ClientSees::Refused,
        libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EADDRNOTAVAIL => ClientSees::Unreachable,
        _ => ClientSees::Unknown,
    });
    let request_only = packet.proto == proto::TCP || bound.is_none();
    let number = live.flow.number;
    let compare = |seen: &[Seen]| {
        let seen: Vec<Seen> = seen.iter().filter(|s| !by_stack(packet, s)).cloned().collect();
        matches_local(&prediction, &seen, errno, number)
    };
    let mut seen = timed("collect", || lab.collect(0));
    if !compare(&seen) && prediction.open == 0 {
        seen.extend(timed("wait", || lab.collect(3)));
    }
    let verdict = verdict(&prediction, compare(&seen));
    if packet.proto == proto::TCP {
        // Closed without a farewell; what the stack says all the same is not left for the next packet.
        sys::reset_on_close(&fd);
        drop(fd);
        lab.collect(0);
        return Some(Step {
            stage: 0,
            start,
            prediction,
            seen,
            sees: errno,
            request_only,
            verdict,
        });
    }
    // A connection is not followed: its ends are the node's own.
    if packet.proto == proto::UDP {
        live.out = seen.iter().find_map(|s| match s.place {
            Place::Out(device) if s.number == Some(number) => Some(Spot {
                device,
                packet: s.packet.clone(),
                by_client: true,
            }),
            _ => None,
        });
        live.socket = Some(fd);
    }
    Some(Step {
        stage: 0,
        start,
        prediction,
        seen,
        sees: errno,
        request_only,
        verdict,
    })
}

/// Something the node says in the course of the conversation, not the packet that opened it: the model
/// follows the answer of a local program only to where it arrives.
fn by_stack(sent: &Packet, seen: &Seen) -> bool {
    match (&sent.l4, &seen.packet.l4) {
        (L4::Tcp { .. }, L4::Tcp { flags, .. }) => *flags != knet_dataplane::packet::tcp_flag::SYN,
        (L4::Tcp { .. } | L4::Ports { .. }, L4::Icmp { .. }) => true,
        (L4::Ports { .. }, L4::Ports { .. }) => seen.number.is_none(),
        (L4::Icmp { ty, .. }, L4::Icmp { ty: other, .. }) => ty != other,
        _ => false,
    }
}

fn matches_local(prediction: &Prediction, seen: &[Seen], errno: Option<ClientSees>, _number: u32) -> bool {
    prediction.ways.iter().any(|way| {
        let told = matches!(
            way.sees,
            ClientSees::Permission | ClientSees::Prohibited | ClientSees::Invalid | ClientSees::Unreachable
        );
        let said = match errno {
            Some(errno) => way.sees == errno,
            // The send itself worked; an error may still have come back later.
            None => !matches!(way.sees, ClientSees::Permission | ClientSees::Invalid) || way.request.is_some(),
        };
        let _ = told;
        said && match &way.request {
            Some(spot) => seen
                .iter()
                .any(|s| s.place == spot.place && ours::agrees(&spot.packet, &s.packet)),
            None => seen.is_empty(),
        }
    })
}
