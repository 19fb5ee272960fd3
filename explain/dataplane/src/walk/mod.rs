//! The walk: the only place that knows the order of stages.

mod answer;
mod bridge;
mod carry;
mod deliver;
mod fold;
mod frame;
mod hooks;
mod ipsec;
mod ipvlan;
mod ipvs;
#[cfg(test)]
mod lab;
mod link;
mod neighbour;
mod network;
mod onlink;
mod overlay;
mod program;
mod respond;
mod route;
mod segment;
mod tunnel;
mod vrf;
mod walker;
mod wireguard;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use knet_snapshot::id::{Family, IfIndex};

pub use self::onlink::{Hearing, asks_as, segment, who_has};
pub use self::respond::Said;

use self::walker::{At, Client, Ended, Leg, Next, Source, Walker};
use crate::choice::{Oracle, explore};
use crate::packet::{Eth, L4, Packet, proto, tcp_flag};
use crate::skb::{Sender, Skb};
use crate::stage::conntrack::{Conntrack, Key};
use crate::trace::{Assumption, Branch, Detail, Established, Evidence, Followup, NsId, Outcome, Reply, Sink, Trace};
use crate::world::World;

/// What to send, and from where.
#[derive(Clone, Debug, PartialEq)]
pub struct Start {
    /// The namespace it starts in (or enters).
    pub ns: NsId,
    /// How it gets there.
    pub origin: Origin,
    /// Source address; `None` = the kernel chooses (local senders only).
    pub src: Option<IpAddr>,
    /// Destination address.
    pub dst: IpAddr,
    /// IP protocol.
    pub proto: u8,
    /// Transport header. For TCP the flags of the first packet (SYN by default).
    pub l4: L4,
    /// The source port was not asked for: any would do. Captured connections are then not consulted for
    /// the request, because no exact tuple is known.
    pub any_sport: bool,
    /// TTL or hop limit.
    pub ttl: u8,
    /// TOS or traffic class.
    pub tos: u8,
    /// `SO_MARK` of the sender, or the mark it arrives with (always 0 on a wire).
    pub mark: u32,
    /// Total length in bytes.
    pub len: u16,
}

/// How a packet gets into its first namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A program in the namespace sends it.
    Local {
        /// UID of the program; 0 is assumed when `None`.
        uid: Option<u32>,
    },
    /// It comes from outside the snapshot by this device.
    Wire {
        /// The device.
        dev: IfIndex,
    },
    /// A client on the segment of this device asks there for the destination, and sends to whoever answers.
    Segment {
        /// The device.
        dev: IfIndex,
    },
}

/// Bounds on the work of one trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Branches at most.
    pub branches: usize,
    /// Stages a single packet may pass.
    pub stages: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            branches: 4096,
            stages: 512,
        }
    }
}

/// Walks the packet, and its answer back, along every way it can go. Total: every input gets a trace.
///
/// `branches` is for a new connection. When the source port was given and a captured conntrack table on the
/// way holds the tuple, `established` says what the kernel does with a packet of that connection: the
/// translation it has is used, and no nat rule is asked.
#[must_use]
pub fn trace(world: &World<'_>, start: &Start, detail: Detail, limits: Limits) -> Trace {
    let most = limits.branches.max(1);
    let explored = explore(most, |oracle| exchange(world, start, detail, limits, oracle, false).0);
    Trace {
        sent: start.packet(),
        start: start.ns,
        truncated: explored.truncated,
        branches: fold::branches(explored.leaves),
        established: if start.any_sport {
            None
        } else {
            established(world, start, detail, limits)
        },
    }
}

/// A packet of a captured connection; `None` when none was met. After the SYN-ACK a client sends no SYN any
/// more: its packet is an ACK then. Before, it sends its SYN again.
fn established(world: &World<'_>, start: &Start, detail: Detail, limits: Limits) -> Option<Box<Established>> {
    let opens = start.packet().tcp_flags() == tcp_flag::SYN;
    let some = |found: Established| (!found.entries.is_empty()).then(|| Box::new(found));
    let first = some(with_captured(world, start, detail, limits))?;
    if !opens || !first.replied {
        return Some(first);
    }
    let mut later = start.clone();
    if let L4::Tcp { flags, .. } = &mut later.l4 {
        *flags = tcp_flag::ACK;
    }
    some(with_captured(world, &later, detail, limits))
}

/// Walks this very packet with the captured connections consulted: it may belong to one, or want the ports of one.
#[must_use]
pub fn with_captured(world: &World<'_>, start: &Start, detail: Detail, limits: Limits) -> Established {
    let mut entries = BTreeSet::new();
    let mut replied = false;
    let explored = explore(limits.branches.max(1), |oracle| {
        let (branch, met) = exchange(world, start, detail, limits, oracle, true);
        entries.extend(met.rows);
        replied |= met.replied;
        branch
    });
    Established {
        entries: entries.into_iter().collect(),
        replied,
        branches: fold::branches(explored.leaves),
        truncated: explored.truncated,
    }
}

impl Start {
    /// The packet as it is sent; an unspecified source is still to be chosen.
    fn packet(&self) -> Packet {
        Packet {
            src: self.src.unwrap_or(match self.dst {
                IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            }),
            dst: self.dst,
            proto: self.proto,
            l4: self.l4.clone(),
            ttl: self.ttl,
            tos: self.tos,
            len: self.len,
            // IP_PMTUDISC_WANT, the default of every socket.
            df: true,
            inner: None,
        }
    }

    /// The first stage of a packet of the client.
    fn enter(&self, walker: &mut Walker<'_, '_>, packet: Packet) -> Next {
        let skb = Skb {
            mark: self.mark,
            ..Skb::new(packet)
        };
        match self.origin {
            Origin::Local { uid } => {
                let source = if self.src.is_some() {
                    Source::Bound
                } else {
                    Source::Choose
                };
                let sender = Some(Sender {
                    uid: Some(uid.unwrap_or(0)),
                    gid: None,
                    socket: true,
                    control: false,
                });
                Ok(At::Send {
                    ns: self.ns,
                    skb: Skb { sender, ..skb },
                    source,
                })
            }
            Origin::Segment { dev } => walker.sent_on_segment(self.ns, dev, skb),
            Origin::Wire { dev } => {
                // The sender's MAC is not known; the frame is addressed to the device, or to the bridge
                // that the device is a port of.
                let links = walker.space(self.ns).links();
                let own = links.get(dev);
                let master = own.and_then(|l| l.master.as_deref()).and_then(|m| links.named(m));
                let dst = master.or(own).and_then(|l| l.mac);
                Ok(At::Receive {
                    ns: self.ns,
                    dev,
                    skb: Skb {
                        eth: Some(Eth {
                            src: None,
                            dst,
                            vlan: None,
                        }),
                        ..skb
                    },
                })
            }
        }
    }
}

/// The captured connections that a run met.
struct Met {
    rows: Vec<(NsId, Evidence)>,
    /// One of them had an answer when it was captured.
    replied: bool,
}

/// One run: the request, the answer to it, and the client's next packet.
fn exchange(
    world: &World<'_>,
    start: &Start,
    detail: Detail,
    limits: Limits,
    oracle: &mut Oracle,
    captured: bool,
) -> (Branch, Met) {
    let packet = start.packet();
    let client = Client {
        ns: start.ns,
        outside: matches!(start.origin, Origin::Wire { .. } | Origin::Segment { .. }),
        sent: Key::of(&packet).unwrap_or(Key {
            src: packet.src,
            dst: packet.dst,
            sport: 0.into(),
            dport: 0.into(),
        }),
        proto: packet.proto,
        known: start.src.is_some(),
    };
    let sink = Sink {
        detail,
        steps: Vec::new(),
    };
    let ct = Conntrack::with_captured(captured);
    let mut walker = Walker::new(world, std::mem::take(oracle), ct, sink, client, limits.stages);
    if start.any_sport
        && let Some(port) = packet.sport()
    {
        walker.assumptions.insert(Assumption::SourcePort(port.value));
    }
    let request = match start.enter(&mut walker, packet) {
        Ok(at) => walker.follow(at),
        Err(ended) => ended,
    };
    let hops = walker.take_hops();
    let mtu = walker.mtu.take();
    let sent = walker.client.sent;
    let reply = walker.answer(&request);
    let opens = start.packet().tcp_flags() & tcp_flag::SYN != 0;
    let followup = match &reply {
        Some(reply)
            if opens && reply.fits && client.proto == proto::TCP && reply.answer == crate::trace::Answer::Data =>
        {
            followup(&mut walker, start)
        }
        _ => None,
    };
    let Ended { end, errno, reject, .. } = *request;
    let arrived = Key::of(&end.packet).unwrap_or(sent);
    let client_sees = answer::client_sees(&mut walker, &end, errno, reply.as_ref(), followup.as_ref());
    let branch = Branch {
        path: Vec::new(),
        at_least: crate::choice::ratio(1, 1),
        at_most: crate::choice::ratio(1, 1),
        reject,
        snat: arrived.src != sent.src || arrived.sport != sent.sport,
        dnat: arrived.dst != sent.dst || arrived.dport != sent.dport,
        end,
        hops,
        reply,
        followup,
        client_sees,
        mtu,
        assumptions: walker.assumptions.iter().cloned().collect(),
    };
    let tracked = || {
        let entries = walker.ct.entries().iter();
        entries.filter_map(|e| Some((e.ns, e.captured.as_ref()?)))
    };
    let met = Met {
        replied: !walker.met.is_empty() || tracked().any(|(_, c)| c.replied),
        rows: tracked()
            .map(|(ns, c)| (ns, c.row.clone()))
            .chain(walker.met.iter().cloned())
            .collect(),
    };
    *oracle = walker.oracle;
    (branch, met)
}

/// A TCP client that has its SYN-ACK sends an ACK, and data with it. On a node that saw only one
/// direction, conntrack takes that packet for invalid.
fn followup(walker: &mut Walker<'_, '_>, start: &Start) -> Option<Followup> {
    walker.leg = Leg::Followup;
    let mut packet = start.packet();
    packet.src = walker.client.sent.src;
    if let L4::Tcp { flags, .. } = &mut packet.l4 {
        *flags = tcp_flag::ACK;
    }
    let ended = match start.enter(walker, packet) {
        Ok(At::Send { ns, skb, .. }) => walker.follow(At::Send {
            ns,
            skb,
            source: Source::Bound,
        }),
        Ok(other) => walker.follow(other),
        Err(ended) => ended,
    };
    let hops = walker.take_hops();
    // Only a packet that does not get through is worth telling.
    (ended.end.outcome != Outcome::Delivered).then_some(Followup { end: ended.end, hops })
}

/// The TTL that packets of a namespace start with.
fn default_ttl(walker: &Walker<'_, '_>, ns: NsId, family: Family) -> u8 {
    let sysctl = walker.space(ns).sysctl();
    let value = match family {
        Family::V4 => sysctl.get("net.ipv4.ip_default_ttl"),
        Family::V6 => sysctl.get("net.ipv6.conf.all.hop_limit"),
    };
    value
        .and_then(|v| u8::try_from(v).ok())
        .filter(|&v| v > 0)
        .unwrap_or(64)
}

impl Walker<'_, '_> {
    /// Walks what the request's end sets off, if anything.
    fn answer(&mut self, request: &Ended) -> Option<Reply> {
        let answer = request.answer?;
        let ns = request.end.place.ns?;
        self.leg = Leg::Reply;
        if answer::limited(self, ns, request, answer) {
            return None;
        }
        let family = request.skb.packet.family();
        let ttl = default_ttl(self, ns, family);
        let (skb, source) = answer::packet(self, ns, request, answer, ttl)?;
        let ended = self.follow(At::Send { ns, skb, source });
        let hops = self.take_hops();
        let fits = ended.end.outcome == Outcome::Delivered && self.fits(&ended.skb);
        Some(Reply {
            answer,
            end: ended.end,
            fits,
            hops,
        })
    }
}
