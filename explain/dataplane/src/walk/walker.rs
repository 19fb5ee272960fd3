//! One run of the walk: the packet in hand, and what was seen on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use knet_snapshot::id::{IfIndex, Mac};
use knet_snapshot::link::Link;
use knet_snapshot::xfrm::State;

use super::wireguard::{Heard, SessionId};
use crate::choice::{Oracle, Unknown};
use crate::packet::Packet;
use crate::skb::Skb;
use crate::stage::conntrack::{Conntrack, Key};
use crate::stage::ipvs::Connections;
use crate::trace::{
    Answer, Assumption, ClientSees, End, Evidence, Hop, NsId, Outcome, PathMtu, Place, Reason, Reject, Sink, Stage,
    Step, What,
};
use crate::world::{Netns, World};

/// Where the packet is, between two stages.
#[derive(Debug)]
pub(super) enum At {
    /// A device is given the frame to send.
    Transmit { ns: NsId, dev: IfIndex, skb: Skb },
    /// A device has received the frame.
    Receive { ns: NsId, dev: IfIndex, skb: Skb },
    /// The network layer of a namespace has received the packet.
    Network { ns: NsId, skb: Skb, seen: Seen },
    /// A local program, or the kernel itself, sends the packet. The source is chosen already, or will be.
    Send { ns: NsId, skb: Skb, source: Source },
}

/// How the source address of a locally made packet is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// By the route.
    Choose,
    /// A socket is bound to it.
    Bound,
    /// Already in the packet, and need not be an address of this namespace (`FLOWI_FLAG_ANYSRC`).
    Any,
    /// The same, and for all its route the packet leaves by this bridge port, past every hook.
    Port(IfIndex),
    /// The outer packet of an IPsec tunnel: its route is looked up without protocol, and without mark but the one that
    /// the state gave it (`xfrm4_dst_lookup`).
    Sealed { marked: bool },
    /// It has its route: device and next hop are in the packet.
    Routed,
    /// Nobody asks for a route: the bridge sends it out of this port (`br_forward`).
    Bridge(IfIndex),
}

/// What happened to a received packet before it reached the network layer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// PREROUTING ran on the bridge (`ip_sabotage_in`).
    pub prerouting: bool,
    /// The packet came over the loopback device and kept its route.
    pub routed: bool,
}

/// A packet's end, and what it sets off.
#[derive(Debug)]
pub(super) struct Ended {
    pub end: End,
    /// The packet with what its last kernel knew of it.
    pub skb: Skb,
    /// What is sent back, and by whom.
    pub answer: Option<Answer>,
    /// UID of the program whose socket took the packet.
    pub owner: Option<u32>,
    /// The device that socket is bound to, by itself or because it accepts connections through VRFs.
    pub bound: Option<IfIndex>,
    /// How a rule or route refused it.
    pub reject: Option<Reject>,
    /// The port by which a `reject` of family `bridge` answers.
    pub bridged: Option<IfIndex>,
    /// The error the sending program gets at once.
    pub errno: Option<ClientSees>,
}

pub(super) type Next = Result<At, Box<Ended>>;

/// Whose packet this is, so that an answer is recognised when it comes home.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client {
    pub ns: NsId,
    /// The client is outside the snapshot and sent by a device of `ns`.
    pub outside: bool,
    /// What the client sent, as it knows it.
    pub sent: Key,
    pub proto: u8,
    /// The source in `sent` is final: the route chose it, or it was given.
    pub known: bool,
}

/// Which packet of the exchange is being walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leg {
    Request,
    Reply,
    /// The client's next packet, once it has an answer: it must still get through.
    Followup,
}

pub(super) struct Walker<'w, 's> {
    pub world: &'w World<'s>,
    pub oracle: Oracle,
    pub ct: Conntrack,
    pub ipvs: Connections,
    pub sink: Sink,
    pub hops: Vec<Hop>,
    pub client: Client,
    pub leg: Leg,
    pub assumptions: BTreeSet<Assumption>,
    /// Neighbours that were learned from questions asked during this run.
    pub learned: BTreeMap<(NsId, IfIndex, IpAddr), Mac>,
    /// Sessions of WireGuard that were made during this run.
    pub sessions: BTreeMap<SessionId, Heard>,
    /// Captured connections of IPVS the packet was found to be of.
    pub met: BTreeSet<(NsId, Evidence)>,
    /// Who answered the question of a client on a segment: where a frame to him comes in, and his MAC.
    pub first_answer: Option<((NsId, IfIndex), Mac)>,
    /// The rows that lost questions about the neighbour in hand.
    pub lost_questions: BTreeSet<Evidence>,
    /// Why it is not known what became of one of them, and by which rows.
    pub doubtful_question: Option<(Reason, Vec<Evidence>)>,
    /// The narrowest place so far.
    pub mtu: Option<PathMtu>,
    /// `mtu` of the route in use, when it names one.
    pub route_mtu: Option<u32>,
    /// What tunnels have added to the packet in hand.
    pub overhead: u32,
    /// The IPsec state that opened the packet in hand, and where (`skb->sp`).
    pub secpath: Option<(NsId, State)>,
    /// In how many tunnels the question about a neighbour is that is being followed.
    pub carrying: usize,
    pub stages_left: usize,
    pub limit: usize,
    pub open: Option<Hop>,
}

impl<'w, 's> Walker<'w, 's> {
    pub fn new(world: &'w World<'s>, oracle: Oracle, ct: Conntrack, sink: Sink, client: Client, limit: usize) -> Self {
        Self {
            world,
            oracle,
            ct,
            ipvs: Connections::default(),
            sink,
            hops: Vec::new(),
            client,
            leg: Leg::Request,
            assumptions: BTreeSet::new(),
            learned: BTreeMap::new(),
            sessions: BTreeMap::new(),
            first_answer: None,
            met: BTreeSet::new(),
            lost_questions: BTreeSet::new(),
            doubtful_question: None,
            mtu: None,
            route_mtu: None,
            overhead: 0,
            secpath: None,
            carrying: 0,
            stages_left: limit,
            limit,
            open: None,
        }
    }

    /// Follows a packet to its end. Total: the stage limit bounds it.
    pub fn follow(&mut self, mut at: At) -> Box<Ended> {
        self.stages_left = self.limit;
        self.overhead = 0;
        let ended = loop {
            if self.stages_left == 0 {
                let (ns, skb) = match at {
                    At::Transmit { ns, skb, .. }
                    | At::Receive { ns, skb, .. }
                    | At::Network { ns, skb, .. }
                    | At::Send { ns, skb, .. } => (ns, skb),
                };
                break self.ended(ns, skb, Outcome::Loop, Reason::HopLimit);
            }
            match self.advance(at) {
                Ok(further) => at = further,
                Err(ended) => break ended,
            }
        };
        self.ct.forget_unconfirmed(&ended.skb);
        self.leave(None, &ended.skb.packet);
        ended
    }

    /// One stage.
    pub fn advance(&mut self, at: At) -> Next {
        self.stages_left -= 1;
        match at {
            At::Transmit { ns, dev, skb } => self.transmit(ns, dev, skb),
            At::Receive { ns, dev, skb } => self.receive(ns, dev, skb),
            At::Network { ns, skb, seen } => self.network(ns, skb, seen),
            At::Send { ns, skb, source } => self.send(ns, skb, source),
        }
    }

    /// A tunnel has wrapped the packet in hand.
    pub fn wrapped(&mut self, inner: &Packet, outer: &Packet) {
        self.overhead += u32::from(outer.len.saturating_sub(inner.len));
    }

    /// A tunnel has unwrapped it.
    pub fn unwrapped(&mut self, outer: &Packet, inner: &Packet) {
        self.overhead = self
            .overhead
            .saturating_sub(u32::from(outer.len.saturating_sub(inner.len)));
    }

    /// The hops of the leg that just ended.
    pub fn take_hops(&mut self) -> Vec<Hop> {
        std::mem::take(&mut self.hops)
    }

    pub fn space(&self, ns: NsId) -> &'w Netns<'s> {
        let world: &'w World<'s> = self.world;
        world.space(ns)
    }

    pub fn link(&self, ns: NsId, dev: IfIndex) -> Option<&'s Link> {
        self.space(ns).links().get(dev)
    }

    /// Opens a hop: the packet is now in this namespace.
    pub fn enter(&mut self, ns: NsId, stage: Stage, iif: Option<IfIndex>, packet: &Packet) {
        self.leave(None, packet);
        self.open = Some(Hop {
            ns,
            stage,
            iif,
            oif: None,
            packet: packet.clone(),
            steps: Vec::new(),
        });
    }

    /// Names what the open hop turned out to do.
    pub fn stage(&mut self, stage: Stage) {
        if let Some(hop) = &mut self.open {
            hop.stage = stage;
        }
    }

    /// The first packet has its source address now: this is what the client's socket is bound to.
    pub fn learn_client(&mut self, skb: &Skb) {
        if !self.client.known
            && let Some(key) = Key::of(&skb.packet)
        {
            self.client.sent = key;
            self.client.known = true;
        }
    }

    /// The namespace of the open hop.
    pub fn hop_ns(&self) -> Option<NsId> {
        self.open.as_ref().map(|h| h.ns)
    }

    /// Closes the open hop.
    pub fn leave(&mut self, oif: Option<IfIndex>, packet: &Packet) {
        if let Some(mut hop) = self.open.take() {
            hop.oif = oif.or(hop.oif);
            hop.packet = packet.clone();
            hop.steps = std::mem::take(&mut self.sink.steps);
            self.hops.push(hop);
        }
    }

    pub fn step(&mut self, what: What, evidence: impl IntoIterator<Item = Evidence>) {
        self.sink.step(|| Step {
            what,
            evidence: evidence.into_iter().collect(),
        });
    }

    /// A packet's end without any answer. The rows of the last step decided.
    pub fn ended(&mut self, ns: NsId, skb: Skb, outcome: Outcome, reason: Reason) -> Box<Ended> {
        let evidence = self.sink.steps.last().map(|s| s.evidence.clone()).unwrap_or_default();
        let place = Place {
            ns: Some(ns),
            oif: skb.oif,
        };
        let end = End {
            outcome,
            reason,
            place,
            packet: skb.packet.clone(),
            mark: skb.mark,
            evidence,
        };
        Box::new(Ended {
            end,
            skb,
            answer: None,
            owner: None,
            bound: None,
            reject: None,
            bridged: None,
            errno: None,
        })
    }

    /// A packet's end that cannot be told, because a table was not captured.
    pub fn not_captured(&mut self, ns: NsId, skb: Skb, file: &'static str) -> Box<Ended> {
        self.not_captured_of(ns, ns, skb, file)
    }

    /// The same for a file of another namespace than the packet is in.
    pub fn not_captured_of(&mut self, other: NsId, ns: NsId, skb: Skb, file: &'static str) -> Box<Ended> {
        let path = self.space(other).facts.path(file);
        self.step(What::NotCaptured(path), None);
        self.ended(ns, skb, Outcome::Unknown, Reason::NotCaptured)
    }

    /// Asks whether a sysctl that was not captured is on. Option 0 is off.
    pub fn sysctl_unknown(&mut self, ns: NsId, key: &str) -> bool {
        let path = format!(
            "{}:{key}",
            self.space(ns).facts.path(knet_snapshot::artifact::name::SYSCTL)
        );
        self.oracle.unknown(path.clone(), Unknown::Sysctl(path.into()), 2) == 1
    }
}
