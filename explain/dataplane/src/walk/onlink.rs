//! Whoever asks on a segment from outside the snapshot: which captured devices hear the question, what each
//! does with it, and where a frame of the asker comes in.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use knet_snapshot::id::{IfIndex, Mac};

use super::neighbour::all;
use super::respond::{Question, Said};
use super::walker::{At, Client, Ended, Next, Walker};
use crate::choice::{Chance, Explored, Oracle, explore, ratio};
use crate::packet::{Eth, Packet};
use crate::skb::Skb;
use crate::stage::conntrack::{Conntrack, Key};
use crate::trace::{Assumption, ClientSees, Detail, NsId, Outcome, Place, Reason, Sink};
use crate::world::World;

/// A device that a question on a segment reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hearing {
    /// Its namespace.
    pub ns: NsId,
    /// The device.
    pub dev: IfIndex,
    /// The device of the segment by which a frame gets there.
    pub port: (NsId, IfIndex),
    /// Its MAC.
    pub mac: Option<Mac>,
    /// What it does with the question.
    pub said: Said,
}

/// The devices that lead out of their nodes and are taken to be on one segment with this one, itself included.
#[must_use]
pub fn segment(world: &World<'_>, ns: NsId, dev: IfIndex) -> Vec<(NsId, IfIndex)> {
    observer(world).ports(ns, dev)
}

/// Asks on the segment of a device for an address, as somebody outside the snapshot with the address `asker`
/// would, and returns what every device that hears it does, in the order of namespaces and devices; with them
/// what had to be assumed.
#[must_use]
pub fn who_has(
    world: &World<'_>,
    on: (NsId, IfIndex),
    addr: IpAddr,
    asker: Option<IpAddr>,
) -> (Vec<Hearing>, Vec<Assumption>) {
    let mut assumptions = BTreeSet::new();
    let explored = explore(RUNS, |oracle| {
        let mut walker = observer(world);
        walker.oracle = std::mem::take(oracle);
        let heard = walker.hear(on.0, on.1, addr, asker);
        assumptions.extend(walker.assumptions);
        *oracle = walker.oracle;
        heard
    });
    (agreed(explored), assumptions.into_iter().collect())
}

/// So many combinations of what is not known are tried.
const RUNS: usize = 256;

/// What all runs have in common. A device that answers in some of them only is doubtful.
fn agreed(explored: Explored<Vec<Hearing>>) -> Vec<Hearing> {
    let runs = explored.leaves.len();
    let mut all: BTreeMap<(NsId, IfIndex), (Hearing, usize)> = BTreeMap::new();
    for hearing in explored.leaves.into_iter().flat_map(|run| run.value) {
        let (known, times) = all.entry((hearing.ns, hearing.dev)).or_insert((hearing, 0));
        *times += 1;
        if known.said != hearing.said && (known.said.may_answer() || hearing.said.may_answer()) {
            known.said = Said::Doubtful;
        }
    }
    for (known, times) in all.values_mut() {
        if known.said.may_answer() && (*times < runs || explored.truncated) {
            known.said = Said::Doubtful;
        }
    }
    all.into_values().map(|(known, _)| known).collect()
}

/// The address from which a node asks by a device for its neighbours when it sends a packet that has `src`: with
/// a virtual address here, everybody who hears the question learns that the node has it (`arp_announce`).
#[must_use]
pub fn asks_as(world: &World<'_>, on: (NsId, IfIndex), target: IpAddr, src: IpAddr) -> Option<IpAddr> {
    let link = world.space(on.0).links().get(on.1)?;
    observer(world).asks_as(on.0, link, target, &bare(src, target))
}

/// A walker without a packet of its own.
fn observer<'w, 's>(world: &'w World<'s>) -> Walker<'w, 's> {
    let nobody = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
    let client = Client {
        ns: NsId(0),
        outside: true,
        sent: Key {
            src: nobody,
            dst: nobody,
            sport: 0.into(),
            dport: 0.into(),
        },
        proto: 0,
        known: true,
    };
    let sink = Sink {
        detail: Detail::Outcome,
        steps: Vec::new(),
    };
    Walker::new(
        world,
        Oracle::default(),
        Conntrack::with_captured(false),
        sink,
        client,
        1,
    )
}

fn bare(src: IpAddr, dst: IpAddr) -> Packet {
    Packet {
        src,
        dst,
        proto: 0,
        l4: crate::packet::L4::Other,
        ttl: 64,
        tos: 0,
        len: 28,
        df: false,
        inner: None,
    }
}

impl Walker<'_, '_> {
    fn ports(&self, ns: NsId, dev: IfIndex) -> Vec<(NsId, IfIndex)> {
        let all = self.world.underlay_devices().iter().copied();
        all.filter(|&(n, d)| (n, d) == (ns, dev) || self.share_a_subnet(ns, dev, n, d))
            .collect()
    }

    fn hear(&mut self, ns: NsId, dev: IfIndex, addr: IpAddr, asker: Option<IpAddr>) -> Vec<Hearing> {
        let question = Question {
            about: addr,
            asker,
            mac: None,
        };
        let asked = question.asked();
        let mut by = BTreeMap::new();
        for port in self.ports(ns, dev) {
            self.lost_questions.clear();
            let asks = all(addr, Some(asked.clone()));
            let (heard, doubtful) = self.doubting(|this| this.hears(port.0, port.1, asks));
            if heard.is_empty() {
                let lost = match (doubtful, self.lost_questions.is_empty()) {
                    (true, _) => Some(Said::Doubtful),
                    (false, false) => Some(Said::Ruled),
                    (false, true) => None,
                };
                by.entry(port).or_insert((port, None, lost));
            }
            for (at, skb) in heard {
                by.entry(at).or_insert((port, skb, None));
            }
        }
        by.into_iter()
            .map(|((ns, dev), (port, heard, lost))| Hearing {
                ns,
                dev,
                port,
                mac: self.link(ns, dev).and_then(|l| l.mac),
                said: lost.unwrap_or_else(|| self.answers(ns, dev, question, heard).0),
            })
            .collect()
    }

    /// A client outside, on the segment of a device, sends a packet to an address that it takes to be on the
    /// segment: whoever answers first gets it, and what follows.
    pub(super) fn sent_on_segment(&mut self, ns: NsId, dev: IfIndex, skb: Skb) -> Next {
        let (addr, asker) = (skb.packet.dst, skb.packet.src);
        let ((ns, dev), mac) = match self.first_answer {
            Some(known) => known,
            None => {
                self.doubtful_question = None;
                let mut takers: Vec<((NsId, IfIndex), Mac)> = self
                    .hear(ns, dev, addr, Some(asker))
                    .into_iter()
                    .filter(|h| h.said.answer().is_some())
                    .filter_map(|h| Some((h.port, h.mac?)))
                    .collect();
                takers.sort_unstable();
                takers.dedup();
                let shares: Vec<_> = takers.iter().map(|_| ratio(1, takers.len() as u64)).collect();
                if takers.is_empty() {
                    let doubtful = self.in_doubt(self.client.ns, &skb);
                    return Err(doubtful.unwrap_or_else(|| self.unanswered(skb)));
                }
                let taker = takers[self.oracle.chance(Chance::FirstAnswer, &shares, None)];
                self.first_answer = Some(taker);
                taker
            }
        };
        Ok(At::Receive {
            ns,
            dev,
            skb: Skb {
                eth: Some(Eth {
                    src: None,
                    dst: Some(mac),
                    vlan: None,
                }),
                ..skb
            },
        })
    }

    /// Nobody who was captured answers the client's question: it is told as every sender is. An address that
    /// nobody captured has may be anybody's out there.
    fn unanswered(&mut self, skb: Skb) -> Box<Ended> {
        let here = self.world.has_address(skb.packet.dst);
        let (outcome, reason) = if here {
            (Outcome::NeighbourFailed, Reason::NoNeighbour)
        } else {
            (Outcome::LeavesCluster, Reason::NextHopOutside)
        };
        let mut ended = self.ended(self.client.ns, skb, outcome, reason);
        ended.end.place = Place { ns: None, oif: None };
        ended.errno = here.then_some(ClientSees::Unreachable);
        ended
    }
}
