//! Neighbours: the table, and who would answer when it has no entry (`neigh_resolve_output`,
//! `arp_process`, `ndisc_recv_ns`).

use std::collections::BTreeSet;
use std::net::IpAddr;

use knet_snapshot::id::{Family, IfIndex, Mac};
use knet_snapshot::link::{Link, LinkKind};
use knet_snapshot::neigh::NudState;
use knet_snapshot::route::RouteKind;

use super::walker::{Ended, Walker};
use crate::choice::{Chance, ratio};
use crate::packet::proto;
use crate::skb::Skb;
use crate::table::fib::{Answer as RouteAnswer, Query};
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

impl Walker<'_, '_> {
    /// The link-layer address of a next hop; `None` on devices that need none.
    pub(super) fn resolve(
        &mut self,
        ns: NsId,
        link: &Link,
        hop: IpAddr,
        skb: &mut Skb,
    ) -> Result<Option<Mac>, Box<Ended>> {
        if link.flags.noarp || link.flags.loopback || link.mac.is_none() {
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
        self.step(
            What::Neighbour {
                addr: hop,
                state,
                mac: None,
            },
            entry.map(|e| table.evidence(e)),
        );
        let asked = self.who_answers(ns, link.index, hop, Some(skb.packet.src));
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
            return Ok(Some(first.mac));
        }
        // On a segment that leads out, somebody who was not captured may answer; that the kernel asked
        // and got no answer is known only from the entry.
        let silent = matches!(state, Some(NudState::Failed | NudState::Incomplete));
        if asked.leads_out && !silent {
            return Ok(None);
        }
        // ipv4_link_failure, ip6_link_failure: after three questions without an answer, the sender is told.
        let local = skb.sender.is_some_and(|s| s.socket);
        let mut ended = self.ended(ns, skb.clone(), Outcome::NeighbourFailed, Reason::NoNeighbour);
        let how = if skb.packet.dst.is_ipv4() {
            Reject::IcmpHostUnreachable
        } else {
            Reject::Icmp6AddrUnreachable
        };
        if local {
            ended.errno = Some(super::answer::told(how, skb.packet.proto == proto::TCP));
        } else {
            ended.answer = Some(Answer::Error(how));
        }
        Err(ended)
    }

    fn is_broadcast_of(&self, ns: NsId, link: &Link, addr: IpAddr) -> bool {
        self.space(ns)
            .links()
            .addresses_of(link.index)
            .any(|a| a.broadcast == Some(addr))
    }

    /// Everybody on the segment behind a device who would answer for an address.
    pub(super) fn who_answers(&mut self, ns: NsId, dev: IfIndex, addr: IpAddr, asker: Option<IpAddr>) -> Asked {
        let mut asked = Asked::default();
        let mut seen = BTreeSet::new();
        self.broadcast(ns, dev, &mut seen, &mut asked);
        let heard = std::mem::take(&mut asked.heard);
        for (at, dev) in heard {
            if (at, dev) == (ns, dev) && at == ns {
                continue;
            }
            if let Some(proxy) = self.answers(at, dev, addr, asker)
                && let Some(mac) = self.link(at, dev).and_then(|l| l.mac)
            {
                asked.responders.push(Responder {
                    ns: at,
                    dev,
                    mac,
                    proxy,
                });
            }
        }
        asked.responders.sort_unstable();
        asked.responders.dedup();
        asked
    }

    /// A broadcast frame leaves a device.
    fn broadcast(&self, ns: NsId, dev: IfIndex, seen: &mut BTreeSet<(NsId, IfIndex)>, asked: &mut Asked) {
        if !seen.insert((ns, dev)) {
            return;
        }
        let Some(link) = self.link(ns, dev).filter(|l| l.flags.up) else {
            return;
        };
        match &link.kind {
            LinkKind::Veth if let Some(peer) = self.world.peer(ns, dev) => self.hear(peer.ns, peer.dev, seen, asked),
            LinkKind::Veth | LinkKind::Device | LinkKind::Bond if !link.flags.loopback => {
                asked.leads_out = true;
                for &(other, port) in self.world.underlay_devices() {
                    if other != ns && self.share_a_subnet(ns, dev, other, port) {
                        self.hear(other, port, seen, asked);
                    }
                }
            }
            LinkKind::Bridge(_) => {
                for port in self.flood_ports(ns, link, None) {
                    self.broadcast(ns, port, seen, asked);
                }
            }
            LinkKind::Vlan { .. } => {
                if let Some(lower) = link.link_index {
                    self.broadcast(ns, lower, seen, asked);
                }
            }
            LinkKind::Macvlan { mode } => {
                if let Some((lower_ns, lower)) = self.macvlan_lower(ns, link) {
                    if mode == "bridge" {
                        for &(upper_ns, upper) in self.world.uppers(lower_ns, lower) {
                            if (upper_ns, upper) != (ns, dev) {
                                asked.heard.insert((upper_ns, upper));
                            }
                        }
                    }
                    self.broadcast(lower_ns, lower, seen, asked);
                }
            }
            _ => {}
        }
    }

    /// A broadcast frame arrives at a device.
    fn hear(&self, ns: NsId, dev: IfIndex, seen: &mut BTreeSet<(NsId, IfIndex)>, asked: &mut Asked) {
        let Some(link) = self.link(ns, dev).filter(|l| l.flags.up) else {
            return;
        };
        asked.heard.extend(self.world.uppers(ns, dev).iter().copied());
        let bridge = link.master.as_deref().and_then(|m| self.space(ns).links().named(m));
        match bridge {
            Some(bridge) if matches!(bridge.kind, LinkKind::Bridge(_)) => {
                asked.heard.insert((ns, bridge.index));
                for port in self.flood_ports(ns, bridge, Some(dev)) {
                    self.broadcast(ns, port, seen, asked);
                }
            }
            _ => {
                asked.heard.insert((ns, dev));
            }
        }
    }

    /// Two devices that lead out of their nodes are taken to be on one segment when they have a subnet in
    /// common: the snapshot does not show the cables.
    fn share_a_subnet(&self, a: NsId, a_dev: IfIndex, b: NsId, b_dev: IfIndex) -> bool {
        let of = |ns: NsId, dev: IfIndex| {
            self.space(ns)
                .links()
                .addresses_of(dev)
                .filter(|x| !matches!(x.local, IpAddr::V6(v) if v.is_unicast_link_local()))
                .filter_map(|x| ipnet::IpNet::new(x.local, x.prefix_len).ok())
        };
        of(a, a_dev).any(|x| of(b, b_dev).any(|y| x.contains(&y.addr()) || y.contains(&x.addr())))
    }

    /// `arp_process` and `ndisc_recv_ns`: would this namespace answer on this device? `Some(true)` = as a
    /// proxy.
    pub(super) fn answers(&mut self, ns: NsId, dev: IfIndex, addr: IpAddr, asker: Option<IpAddr>) -> Option<bool> {
        match Family::of(addr) {
            Family::V4 => self.answers_arp(ns, dev, addr, asker),
            Family::V6 => self.answers_nd(ns, dev, addr),
        }
    }

    fn answers_arp(&mut self, ns: NsId, dev: IfIndex, addr: IpAddr, asker: Option<IpAddr>) -> Option<bool> {
        let space = self.space(ns);
        let link = space.links().get(dev)?;
        if link.flags.noarp {
            return None;
        }
        let query = Query {
            src: asker,
            iif: Some(dev),
            ..Query::to(addr)
        };
        let lookup = space.fib().lookup(&query, &mut self.oracle);
        let RouteAnswer::Route(hit) = lookup.answer else {
            return None;
        };
        if hit.kind == RouteKind::Local {
            let ignore = space.sysctl().conf4_max(&link.name, "arp_ignore").unwrap_or(0);
            let here = || space.links().addresses_of(dev).any(|a| a.local == addr);
            let said = match ignore {
                0 => true,
                1 => here(),
                // inet_confirm_addr with the asker: the address and the asker's on one subnet of the device.
                2 => space.links().addresses_of(dev).any(|a| {
                    a.local == addr
                        && asker.is_none_or(|s| ipnet::IpNet::new(a.local, a.prefix_len).is_ok_and(|n| n.contains(&s)))
                }),
                // Not for addresses of scope host; 8: never.
                3 => !space
                    .links()
                    .addresses(Family::V4)
                    .any(|a| a.local == addr && a.scope == 254),
                _ => false,
            };
            return said.then_some(false);
        }
        // arp_fwd_proxy: forwarding, proxy_arp, and the way to the address leads elsewhere.
        let forwards = space.sysctl().conf4(&link.name, "forwarding").unwrap_or(0) != 0;
        let proxy = space.sysctl().conf4_or(&link.name, "proxy_arp").unwrap_or(false)
            || space.neighbours().proxy(&link.name, addr).is_some();
        (forwards && hit.kind == RouteKind::Unicast && hit.oif != Some(dev) && proxy).then_some(true)
    }

    fn answers_nd(&self, ns: NsId, dev: IfIndex, addr: IpAddr) -> Option<bool> {
        let space = self.space(ns);
        let link = space.links().get(dev)?;
        if link.flags.noarp {
            return None;
        }
        if space
            .links()
            .addresses_of(dev)
            .any(|a| a.local == addr && !a.tentative && !a.dadfailed)
        {
            return Some(false);
        }
        let forwards = space.sysctl().conf6(&link.name, "forwarding").unwrap_or(0) != 0;
        let proxy = space.sysctl().conf6(&link.name, "proxy_ndp").unwrap_or(0) != 0
            || space.sysctl().conf6("all", "proxy_ndp").unwrap_or(0) != 0;
        (forwards && proxy && space.neighbours().proxy(&link.name, addr).is_some()).then_some(true)
    }
}

/// What a question on a segment finds.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub responders: Vec<Responder>,
    /// The segment leads out of the snapshot: others may answer.
    pub leads_out: bool,
    heard: BTreeSet<(NsId, IfIndex)>,
}

/// `ip_eth_mc_map`, `ipv6_eth_mc_map`
fn multicast_mac(group: IpAddr) -> Mac {
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
