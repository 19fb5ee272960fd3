//! Devices: what sending to one does, and what it does with a frame it receives.

use std::net::IpAddr;

use knet_snapshot::id::{IfIndex, Mac};
use knet_snapshot::link::{Link, LinkKind};

use super::walker::{At, Next, Seen, Walker};
use crate::packet::Eth;
use crate::skb::{Ct, PktType, Skb};
use crate::trace::{Hook, NsId, Outcome, Reason, Stage, What};

impl Walker<'_, '_> {
    /// `dev_queue_xmit`
    pub(super) fn transmit(&mut self, ns: NsId, dev: IfIndex, skb: Skb) -> Next {
        let Some(link) = self.link(ns, dev) else {
            return Err(self.not_captured(ns, skb, knet_snapshot::artifact::name::LINK));
        };
        if !link.flags.up {
            return Err(self.ended(ns, skb, Outcome::Dropped, Reason::LinkDown));
        }
        let skb = self.device_hook(ns, Hook::Egress, dev, skb)?;
        match &link.kind {
            LinkKind::Device if link.flags.loopback => Ok(self.loopback(ns, dev, skb)),
            LinkKind::Device | LinkKind::Bond => self.onto_the_wire(ns, link, skb),
            LinkKind::Veth => match self.world.peer(ns, dev) {
                Some(peer) => {
                    if peer.guessed {
                        self.assumptions
                            .insert(crate::trace::Assumption::VethPeerGuessed(link.name.as_str().into()));
                    }
                    Ok(self.cross(ns, dev, peer.ns, peer.dev, skb))
                }
                None => self.onto_the_wire(ns, link, skb),
            },
            LinkKind::Bridge(_) => self.bridge_transmit(ns, link, skb),
            LinkKind::Vxlan(info) => self.vxlan_transmit(ns, link, info, skb),
            LinkKind::Vlan { id, .. } => {
                let Some(lower) = link.link_index.and_then(|i| self.link(ns, i)) else {
                    return Err(self.ended(ns, skb, Outcome::Unknown, Reason::NotCaptured));
                };
                let mut skb = skb;
                skb.eth = skb.eth.map(|e| Eth { vlan: Some(*id), ..e });
                Ok(At::Transmit {
                    ns,
                    dev: lower.index,
                    skb,
                })
            }
            LinkKind::Macvlan { mode } => self.macvlan_transmit(ns, link, mode, skb),
            LinkKind::Dummy => Err(self.ended(ns, skb, Outcome::Dropped, Reason::NoTunnelDevice)),
            // A tun device that nobody holds open has no carrier and throws away what it is given.
            LinkKind::Tun if !link.flags.lower_up => Err(self.ended(ns, skb, Outcome::Dropped, Reason::LinkDown)),
            LinkKind::Tun => Err(self.ended(ns, skb, Outcome::Unknown, Reason::Userspace)),
            LinkKind::Ipvlan { .. }
            | LinkKind::Tunnel(..)
            | LinkKind::Wireguard
            | LinkKind::Vrf { .. }
            | LinkKind::Other(_) => {
                self.step(What::Undecided, None);
                Err(self.ended(ns, skb, Outcome::Unknown, Reason::NotModelled))
            }
        }
    }

    /// `loopback_xmit`: the packet comes back in with its connection and its route, but without its socket.
    fn loopback(&mut self, ns: NsId, dev: IfIndex, mut skb: Skb) -> At {
        skb.sender = None;
        skb.pkt_type = PktType::Host;
        skb.iif = Some(dev);
        skb.oif = None;
        skb.physin = None;
        skb.physout = None;
        At::Network {
            ns,
            skb,
            seen: Seen {
                prerouting: false,
                routed: true,
            },
        }
    }

    /// The frame appears on another device. In another namespace it has forgotten its mark
    /// (`skb_scrub_packet`), and everywhere its connection.
    pub(super) fn cross(&mut self, from: NsId, out: IfIndex, to: NsId, dev: IfIndex, mut skb: Skb) -> At {
        self.step(What::Cross { to, dev }, None);
        self.leave(Some(out), &skb.packet);
        skb.ct = Ct::None;
        skb.sender = None;
        skb.priority = 0;
        skb.oif = None;
        skb.nexthop = None;
        skb.physin = None;
        skb.physout = None;
        skb.zone = knet_snapshot::id::Zone::default();
        if from != to {
            skb.mark = 0;
        }
        At::Receive { ns: to, dev, skb }
    }

    /// `__netif_receive_skb_core`
    pub(super) fn receive(&mut self, ns: NsId, dev: IfIndex, mut skb: Skb) -> Next {
        let Some(link) = self.link(ns, dev) else {
            return Err(self.not_captured(ns, skb, knet_snapshot::artifact::name::LINK));
        };
        if self.hop_ns().is_none() {
            self.enter(ns, Stage::Ingress, Some(dev), &skb.packet);
        }
        if !link.flags.up {
            return Err(self.ended(ns, skb, Outcome::Dropped, Reason::LinkDown));
        }
        skb.pkt_type = packet_type(link, skb.eth);
        skb = self.device_hook(ns, Hook::Ingress, dev, skb)?;
        if let Some(tag) = skb.eth.and_then(|e| e.vlan)
            && let Some(upper) = self.vlan_upper(ns, dev, tag)
        {
            skb.eth = skb.eth.map(|e| Eth { vlan: None, ..e });
            return Ok(At::Receive { ns, dev: upper, skb });
        }
        if let Some((to, upper)) = self.macvlan_upper(ns, dev, skb.eth.and_then(|e| e.dst)) {
            return Ok(self.cross(ns, dev, to, upper, skb));
        }
        if let Some(master) = link.master.as_deref().and_then(|m| self.space(ns).links().named(m)) {
            match master.kind {
                LinkKind::Bridge(_) => return self.bridge_receive(ns, master, link, skb),
                LinkKind::Bond => {
                    return Ok(At::Receive {
                        ns,
                        dev: master.index,
                        skb,
                    });
                }
                _ => {}
            }
        }
        skb.iif = Some(dev);
        Ok(At::Network {
            ns,
            skb,
            seen: Seen::default(),
        })
    }

    fn vlan_upper(&self, ns: NsId, dev: IfIndex, tag: u16) -> Option<IfIndex> {
        let lower = self.link(ns, dev)?;
        self.space(ns)
            .links()
            .iter()
            .find(|l| {
                matches!(l.kind, LinkKind::Vlan { id, .. } if id == tag)
                    && (l.link_index == Some(dev) || l.link_name.as_deref() == Some(lower.name.as_str()))
            })
            .map(|l| l.index)
    }

    fn macvlan_upper(&self, ns: NsId, dev: IfIndex, dst: Option<Mac>) -> Option<(NsId, IfIndex)> {
        let dst = dst?;
        self.world.uppers(ns, dev).iter().copied().find(|&(upper_ns, upper)| {
            self.link(upper_ns, upper)
                .is_some_and(|l| matches!(l.kind, LinkKind::Macvlan { .. }) && l.mac == Some(dst) && l.flags.up)
        })
    }

    /// `macvlan_queue_xmit`: in bridge mode siblings are reached directly, everything else leaves by the
    /// lower device. The lower device's own address is not reachable from above.
    fn macvlan_transmit(&mut self, ns: NsId, link: &Link, mode: &str, skb: Skb) -> Next {
        let Some((lower_ns, lower)) = self.macvlan_lower(ns, link) else {
            return Err(self.ended(ns, skb, Outcome::Unknown, Reason::NotCaptured));
        };
        let dst = skb.eth.and_then(|e| e.dst);
        if mode == "bridge"
            && let Some((to, dev)) = self.macvlan_upper(lower_ns, lower, dst)
        {
            return Ok(self.cross(ns, link.index, to, dev, skb));
        }
        self.step(
            What::Cross {
                to: lower_ns,
                dev: lower,
            },
            None,
        );
        match self.link(lower_ns, lower) {
            Some(l) if l.flags.up => self.onto_the_wire(lower_ns, l, skb),
            _ => Err(self.ended(ns, skb, Outcome::Dropped, Reason::LinkDown)),
        }
    }

    pub(super) fn macvlan_lower(&self, ns: NsId, link: &Link) -> Option<(NsId, IfIndex)> {
        let lower = link.link_index?;
        if link.netnsid.is_none() {
            return Some((ns, lower));
        }
        // The lower device of a pod's macvlan is in the node's own namespace.
        let host = self.world.host_of(ns);
        self.link(host, lower).map(|l| (host, l.index))
    }

    /// The frame leaves the node: by its destination MAC, or by who would answer for the next hop, one of
    /// the captured nodes gets it; otherwise it is outside.
    fn onto_the_wire(&mut self, ns: NsId, link: &Link, mut skb: Skb) -> Next {
        let dst = skb.eth.and_then(|e| e.dst);
        let receivers: Vec<(NsId, IfIndex)> = match dst {
            Some(mac) if !mac.is_multicast() => self
                .world
                .underlay_by_mac(mac)
                .iter()
                .copied()
                .filter(|&(n, d)| (n, d) != (ns, link.index))
                .collect(),
            _ => Vec::new(),
        };
        // Virtual machines cloned with their MAC exist: the one that has the next hop's address gets it.
        let owner = skb.nexthop.and_then(|hop| {
            receivers
                .iter()
                .copied()
                .find(|&(n, d)| self.space(n).links().owner(hop) == Some(d))
        });
        if let Some((to, dev)) = owner.or(receivers.first().copied()) {
            return Ok(self.cross(ns, link.index, to, dev, skb));
        }
        let hop = skb.nexthop;
        self.leave(Some(link.index), &skb.packet);
        skb.oif = Some(link.index);
        let home =
            self.client.outside && skb.packet.dst == self.client.sent.src && self.leg == super::walker::Leg::Reply;
        if home {
            return Err(self.ended(ns, skb, Outcome::Delivered, Reason::Client));
        }
        if let Some(hop) = hop
            && dst.is_some()
            && self.owned_elsewhere(ns, hop)
        {
            // Somebody captured has the address, but not this MAC: the frame is for nobody.
            return Err(self.ended(ns, skb, Outcome::NeighbourFailed, Reason::WrongMac));
        }
        Err(self.ended(ns, skb, Outcome::LeavesCluster, Reason::NextHopOutside))
    }

    /// A captured node other than this one has the address on a device that leads out.
    fn owned_elsewhere(&self, ns: NsId, addr: IpAddr) -> bool {
        self.world
            .underlay_devices()
            .iter()
            .any(|&(n, d)| n != ns && self.space(n).links().addresses_of(d).any(|a| a.local == addr))
    }
}

/// `eth_type_trans`
fn packet_type(link: &Link, eth: Option<Eth>) -> PktType {
    match eth.and_then(|e| e.dst) {
        Some(Mac::BROADCAST) => PktType::Broadcast,
        Some(mac) if mac.is_multicast() => PktType::Multicast,
        Some(mac) if link.mac.is_some_and(|own| own != mac) => PktType::OtherHost,
        _ => PktType::Host,
    }
}
