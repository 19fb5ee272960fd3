//! Neighbours: the table, and who would answer when it has no entry (`neigh_resolve_output`).

use std::net::IpAddr;

use knet_snapshot::artifact::name;
use knet_snapshot::id::{IfIndex, Mac};
use knet_snapshot::link::Link;
use knet_snapshot::neigh::NudState;

use super::respond::{Question, Said};
use super::segment::{Cast, Frame};
use super::walker::{Ended, Walker};
use crate::choice::{Chance, Unknown, ratio};
use crate::skb::Skb;
use crate::table::neigh::is_valid;
use crate::trace::{Answer, Assumption, NsId, Outcome, Reason, Reject, What};

/// Somebody who would answer for an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Responder {
    pub ns: NsId,
    pub dev: IfIndex,
    pub mac: Mac,
    pub proxy: bool,
}

/// What a question on a segment finds.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub responders: Vec<Responder>,
    /// The segment leads out of the snapshot: others may answer.
    pub leads_out: bool,
    /// A node that would not answer, as far as is known: its proxy entries were not captured.
    pub perhaps: Option<NsId>,
}

/// `ipv4_link_failure`, `ip6_link_failure`: the sender is told.
pub(in crate::walk) fn link_failure(mut ended: Box<Ended>) -> Box<Ended> {
    let packet = &ended.skb.packet;
    let how = if packet.dst.is_ipv4() {
        Reject::IcmpHostUnreachable
    } else {
        Reject::Icmp6AddrUnreachable
    };
    ended.answer = Some(Answer::Error(how));
    ended
}

impl Walker<'_, '_> {
    /// The link-layer address of a next hop; `None` on devices that need none, and when somebody outside
    /// the snapshot may have it.
    pub(super) fn resolve(
        &mut self,
        ns: NsId,
        link: &Link,
        hop: IpAddr,
        skb: &mut Skb,
    ) -> Result<Option<Mac>, Box<Ended>> {
        if link.flags.loopback || link.mac.is_none() {
            return Ok(None);
        }
        if hop.is_multicast() {
            return Ok(Some(multicast_mac(hop)));
        }
        if matches!(hop, IpAddr::V4(a) if a.is_broadcast()) || self.is_broadcast_of(ns, link, hop) {
            return Ok(Some(Mac::BROADCAST));
        }
        let table = self.space(ns).neighbours();
        let entry = table.get(&link.name, hop);
        let state = entry.map(|e| e.state);
        // A question that was answered here brought the asker's MAC with it (neigh_event_ns); only what an
        // administrator set is not overwritten.
        if state != Some(NudState::Permanent)
            && let Some(&mac) = self.learned.get(&(ns, link.index, hop))
        {
            self.step(
                What::Neighbour {
                    addr: hop,
                    state,
                    mac: Some(mac),
                },
                None,
            );
            return Ok(Some(mac));
        }
        if let Some(e) = entry.filter(|e| is_valid(e.state))
            && let Some(mac) = e.lladdr
        {
            let evidence = table.evidence(e);
            self.step(
                What::Neighbour {
                    addr: hop,
                    state,
                    mac: Some(mac),
                },
                Some(evidence),
            );
            return Ok(Some(mac));
        }
        // arp_constructor, ndisc_constructor: without ARP everybody is thought to have the device's own MAC.
        if link.flags.noarp {
            self.step(
                What::Neighbour {
                    addr: hop,
                    state: Some(NudState::NoArp),
                    mac: link.mac,
                },
                None,
            );
            return Ok(link.mac);
        }
        self.step(
            What::Neighbour {
                addr: hop,
                state,
                mac: None,
            },
            entry.map(|e| table.evidence(e)),
        );
        let asks_as = self.asks_as(ns, link, hop, &skb.packet);
        let question = Question {
            about: hop,
            asker: asks_as,
            mac: link.mac,
        };
        let asked = self.who_answers(ns, link.index, question);
        let weights: Vec<_> = asked
            .responders
            .iter()
            .map(|_| ratio(1, asked.responders.len() as u64))
            .collect();
        if !asked.responders.is_empty() {
            let first = asked.responders[self.oracle.chance(Chance::FirstAnswer, &weights, None)];
            self.step(
                What::Answered {
                    addr: hop,
                    by: first.ns,
                    dev: first.dev,
                    proxy: first.proxy,
                },
                None,
            );
            self.assumptions.insert(Assumption::NeighbourResolves(hop));
            if let (Some(asks_as), Some(own)) = (asks_as, link.mac) {
                // Everybody who answered has learned it.
                for r in &asked.responders {
                    self.learned.insert((r.ns, r.dev, asks_as), own);
                }
            }
            return Ok(Some(first.mac));
        }
        if let Some(ended) = self.in_doubt(ns, skb) {
            return Err(ended);
        }
        // The owner of the address does not answer, but whenever it asks something itself it tells its MAC
        // (arp_process, ndisc_recv_ns): whether it did, no table here says.
        let owner = self.owner_in_reach(ns, link.index, hop);
        if let Some(mac) = owner {
            let key = format!("learned {ns:?} {hop}");
            if self.oracle.unknown(key, Unknown::Learned(hop), 2) == 1 {
                return Ok(Some(mac));
            }
        }
        // On a segment that leads out, somebody who was not captured may answer; that the kernel asked
        // and got no answer is known only from the entry.
        let silent = matches!(state, Some(NudState::Failed | NudState::Incomplete));
        if asked.leads_out && !silent && owner.is_none() {
            return Ok(None);
        }
        // An entry that somebody set, here or of a proxy, needs nobody who answers.
        let unknown = if table.known { asked.perhaps } else { Some(ns) };
        if let Some(other) = unknown {
            return Err(self.not_captured_of(other, ns, skb.clone(), name::NEIGH));
        }
        let lost = std::mem::take(&mut self.lost_questions);
        let reason = if lost.is_empty() {
            Reason::NoNeighbour
        } else {
            Reason::QuestionLost
        };
        let mut ended = self.ended(ns, skb.clone(), Outcome::NeighbourFailed, reason);
        ended.end.evidence.extend(lost);
        // After three questions without an answer.
        Err(link_failure(ended))
    }

    fn is_broadcast_of(&self, ns: NsId, link: &Link, addr: IpAddr) -> bool {
        self.space(ns)
            .links()
            .addresses_of(link.index)
            .any(|a| a.broadcast == Some(addr))
    }

    /// Everybody on the segment behind a device who would answer for an address, and whose answer would
    /// come back.
    pub(super) fn who_answers(&mut self, ns: NsId, dev: IfIndex, question: Question) -> Asked {
        self.lost_questions.clear();
        self.doubtful_question = None;
        let Some(asks) = self.message_out(ns, dev, question.asked()) else {
            let leads_out = self.reach(ns, dev, all(question.about, None)).leads_out;
            return Asked {
                leads_out,
                ..Asked::default()
            };
        };
        let reach = self.reach(ns, dev, all(question.about, Some(asks)));
        let mut asked = Asked {
            leads_out: reach.leads_out,
            ..Asked::default()
        };
        for ((at, on), heard) in reach.heard.into_iter().filter(|&(at, _)| at != (ns, dev)) {
            let Some(mac) = self.link(at, on).and_then(|l| l.mac) else {
                continue;
            };
            let (said, answer) = self.answers(at, on, question, heard);
            let Some(proxy) = said.answer() else {
                // Nobody makes a pod answer for others.
                let proxies = self.world.host_of(at) == at && !self.space(at).neighbours().known;
                if said == Said::NotLocal && proxies {
                    asked.perhaps = Some(at);
                }
                continue;
            };
            if self.hears_back(ns, dev, (at, on), question, answer) {
                asked.responders.push(Responder {
                    ns: at,
                    dev: on,
                    mac,
                    proxy,
                });
            }
        }
        asked.responders.sort_unstable();
        asked.responders.dedup();
        asked
    }

    /// The answer gets back to whoever asked.
    fn hears_back(
        &mut self,
        ns: NsId,
        dev: IfIndex,
        (at, on): (NsId, IfIndex),
        question: Question,
        answer: Option<Skb>,
    ) -> bool {
        let Some(own) = question.mac else { return true };
        let frame = Frame {
            cast: Cast::Unicast(own),
            holds: answer,
        };
        let mut back = self.reach(at, on, frame);
        match back.heard.remove(&(ns, dev)) {
            Some(Some(answer)) => self.message_in(ns, dev, answer).is_some(),
            heard => heard.is_some(),
        }
    }

    /// Somebody captured on the segment has the address, although he would not answer.
    fn owner_in_reach(&mut self, ns: NsId, dev: IfIndex, addr: IpAddr) -> Option<Mac> {
        let reach = self.reach(ns, dev, all(addr, None));
        let mut others = reach.heard.keys().filter(|&&at| at != (ns, dev));
        let owner = others.find(|&&(n, d)| self.space(n).links().addresses_of(d).any(|a| a.local == addr));
        // A device without ARP asks nobody.
        owner
            .and_then(|&(n, d)| self.link(n, d))
            .filter(|l| !l.flags.noarp)
            .and_then(|l| l.mac)
    }
}

/// A frame for everybody who may have an address.
pub(super) fn all(about: IpAddr, holds: Option<Skb>) -> Frame {
    let cast = match about {
        IpAddr::V4(_) => Cast::Broadcast,
        IpAddr::V6(_) => Cast::Multicast,
    };
    Frame { cast, holds }
}

/// `ip_eth_mc_map`, `ipv6_eth_mc_map`
pub(super) fn multicast_mac(group: IpAddr) -> Mac {
    match group {
        IpAddr::V4(a) => {
            let [_, b, c, d] = a.octets();
            Mac([0x01, 0x00, 0x5e, b & 0x7f, c, d])
        }
        IpAddr::V6(a) => {
            let o = a.octets();
            Mac([0x33, 0x33, o[12], o[13], o[14], o[15]])
        }
    }
}
