//! Devices: what sending to one does, and what it does with a frame it receives.

use std::net::IpAddr;

use knet_snapshot::artifact::name;
use knet_snapshot::id::{IfIndex, Mac};
use knet_snapshot::link::{Link, LinkKind};

use super::walker::{At, Next, Seen, Walker};
use crate::packet::Eth;
use crate::skb::{PktType, Skb};
use crate::trace::{Hook, NsId, Outcome, Reason, Stage, What};

impl Walker<'_, '_> {
    /// `dev_queue_xmit`
    pub(super) fn transmit(&mut self, ns: NsId, dev: IfIndex, skb: Skb) -> Next {
        let Some(link) = self.link(ns, dev) else {
            return Err(self.not_captured(ns, skb, name::LINK));
        };
        if !link.flags.up {
            return Err(self.ended(ns, skb, Outcome::Dropped, Reason::LinkDown));
        }
        let skb = self.device_hook(ns, Hook::Egress, dev, skb)?;
        let skb = self.programs(ns, dev, true, skb)?;
        match &link.kind {
            LinkKind::Device if link.flags.loopback => Ok(self.loopback(ns, dev, skb)),
            LinkKind::Device | LinkKind::Bond => self.onto_the_wire(ns, link, skb),
            LinkKind::Veth if self.world.peer_doubtful(ns, dev) => {
                self.step(What::NotCaptured("netns.json".into()), None);
                Err(self.ended(ns, skb, Outcome::Unknown, Reason::NotCaptured))
            }
            LinkKind::Veth => match self.world.peer(ns, dev) {
                Some(peer) => {
                    if peer.guessed {
                        self.assumptions
                            .insert(crate::trace::Assumption::VethPeerGuessed(link.name.as_str().into()));
                    }
                    // veth_xmit: the other end looks at the size.
                    if !self.takes_frame(peer.ns, peer.dev, &skb) {
                        return Err(self.ended(ns, skb, Outcome::Dropped, Reason::TooBig));
                    }
                    Ok(self.cross(ns, dev, peer.ns, peer.dev, skb))
                }
                None => self.onto_the_wire(ns, link, skb),
            },
            LinkKind::Bridge(_) => self.bridge_transmit(ns, link, skb),
            LinkKind::Vxlan(info) => self.vxlan_transmit(ns, link, info, skb),
            LinkKind::Vlan { id, .. } => {
                let Some((lower_ns, lower)) = self.world.lower(ns, link) else {
                    return Err(self.ended(ns, skb, Outcome::Unknown, Reason::NotCaptured));
                };
                let mut skb = skb;
                skb.eth = skb.eth.map(|e| Eth { vlan: Some(*id), ..e });
                if lower_ns != ns {
                    self.step(
                        What::Cross {
                            to: lower_ns,
                            dev: lower,
                        },
                        None,
                    );
                }
                Ok(At::Transmit {
                    ns: lower_ns,
                    dev: lower,
                    skb,
                })
            }
            LinkKind::Macvlan { mode } => self.macvlan_transmit(ns, link, mode, skb),
            LinkKind::Dummy => Err(self.ended(ns, skb, Outcome::Dropped, Reason::NoTunnelDevice)),
            // A tun device that nobody holds open has no carrier and throws away what it is given.
            LinkKind::Tun if !link.flags.lower_up => Err(self.ended(ns, skb, Outcome::Dropped, Reason::LinkDown)),
            LinkKind::Tun => Err(self.ended(ns, skb, Outcome::Unknown, Reason::Userspace)),
            LinkKind::Tunnel(kind, info) if kind == super::ipsec::XFRM => self.xfrm_transmit(ns, link, info, skb),
            LinkKind::Tunnel(kind, info) => self.tunnel_transmit(ns, link, kind, info, skb),
            LinkKind::Wireguard => self.wireguard_transmit(ns, link, skb),
            LinkKind::Ipvlan { mode, flag } => self.ipvlan_transmit(ns, link, mode, flag, skb),
            LinkKind::Vrf { .. } => self.vrf_transmit(ns, link, skb),
            LinkKind::Other(_) => {
                self.step(What::Undecided, None);
                Err(self.ended(ns, skb, Outcome::Unknown, Reason::NotModelled))
            }
        }
    }

    /// `loopback_xmit`, `vrf_local_xmit`: the packet comes back in with its connection and its route, but without its socket.
    pub(super) fn loopback(&mut self, ns: NsId, dev: IfIndex, mut skb: Skb) -> At {
        skb.sender = None;
        skb.tproxy = None;
        skb.pkt_type = PktType::Host;
        skb.iif = Some(dev);
        skb.oif = None;
        skb.physin = None;
        skb.routed = None;
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
    pub(super) fn cross(&mut self, from: NsId, out: IfIndex, to: NsId, dev: IfIndex, skb: Skb) -> At {
        self.step(What::Cross { to, dev }, None);
        self.secpath = None;
        self.leave(Some(out), &skb.packet);
        At::Receive {
            ns: to,
            dev,
            skb: handed_on(from, to, skb),
        }
    }

    /// `__netif_receive_skb_core`
    pub(super) fn receive(&mut self, ns: NsId, dev: IfIndex, mut skb: Skb) -> Next {
        let Some(link) = self.link(ns, dev) else {
            return Err(self.not_captured(ns, skb, name::LINK));
        };
        if self.hop_ns().is_none() {
            self.enter(ns, Stage::Ingress, Some(dev), &skb.packet);
        }
        if !link.flags.up {
            return Err(self.ended(ns, skb, Outcome::Dropped, Reason::LinkDown));
        }
        skb.pkt_type = packet_type(link, skb.eth);
        skb = self.programs(ns, dev, false, skb)?;
        skb = self.device_hook(ns, Hook::Ingress, dev, skb)?;
        if let Some(tag) = skb.eth.and_then(|e| e.vlan)
            && let Some((upper_ns, upper)) = self.vlan_upper(ns, dev, tag)
        {
            skb.eth = skb.eth.map(|e| Eth { vlan: None, ..e });
            if upper_ns != ns {
                return Ok(self.cross(ns, dev, upper_ns, upper, skb));
            }
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
                // Its rx_handler takes every frame (Open vSwitch, HSR, …).
                LinkKind::Other(_) => {
                    self.step(What::Undecided, None);
                    return Err(self.ended(ns, skb, Outcome::Unknown, Reason::NotModelled));
                }
                _ => {}
            }
        }
        skb = match self.ipvlan_receive(ns, dev, skb)? {
            Ok(taken) => return Ok(taken),
            Err(passed) => passed,
        };
        // "Vlan id is non 0 and vlan_do_receive() couldn't find vlan device": for somebody else.
        if skb.eth.and_then(|e| e.vlan).is_some_and(|tag| tag != 0) {
            return Err(self.ended(ns, skb, Outcome::Dropped, Reason::VlanFilter));
        }
        skb.iif = Some(dev);
        Ok(At::Network {
            ns,
            skb,
            seen: Seen::default(),
        })
    }

    /// The vlan device on top of a device that takes frames with this tag.
    pub(super) fn vlan_upper(&self, ns: NsId, dev: IfIndex, tag: u16) -> Option<(NsId, IfIndex)> {
        self.world.uppers(ns, dev).iter().copied().find(|&(n, d)| {
            self.link(n, d)
                .is_some_and(|l| matches!(l.kind, LinkKind::Vlan { id, .. } if id == tag))
        })
    }

    /// `macvlan_handle_frame`: the macvlan on top of a device that has this MAC.
    pub(super) fn macvlan_upper(&self, ns: NsId, dev: IfIndex, dst: Option<Mac>) -> Option<(NsId, IfIndex)> {
        let dst = dst?;
        self.world.uppers(ns, dev).iter().copied().find(|&(n, d)| {
            self.link(n, d).is_some_and(|l| match &l.kind {
                // The one device of this mode takes everything.
                LinkKind::Macvlan { mode } => mode == "passthru" || (l.mac == Some(dst) && mode != "source"),
                _ => false,
            })
        })
    }

    /// `macvlan_queue_xmit`: in bridge mode siblings are reached directly, everything else leaves by the
    /// lower device. The lower device's own address is not reachable from above.
    fn macvlan_transmit(&mut self, ns: NsId, link: &Link, mode: &str, skb: Skb) -> Next {
        let Some((lower_ns, lower)) = self.world.lower(ns, link) else {
            return Err(self.ended(ns, skb, Outcome::Unknown, Reason::NotCaptured));
        };
        let Some(below) = self.link(lower_ns, lower).filter(|l| l.flags.up) else {
            return Err(self.ended(ns, skb, Outcome::Dropped, Reason::LinkDown));
        };
        let dst = skb.eth.and_then(|e| e.dst);
        if mode == "bridge"
            && let Some((to, dev)) = self.macvlan_upper(lower_ns, lower, dst)
            && matches!(self.link(to, dev).map(|l| &l.kind), Some(LinkKind::Macvlan { mode }) if mode == "bridge")
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
        Ok(At::Transmit {
            ns: lower_ns,
            dev: below.index,
            skb,
        })
    }

    /// The frame leaves the node: by its destination MAC, or by who would answer for the next hop, one of
    /// the captured nodes gets it; otherwise it is outside.
    fn onto_the_wire(&mut self, ns: NsId, link: &Link, mut skb: Skb) -> Next {
        let dst = skb.eth.and_then(|e| e.dst);
        let receivers: Vec<(NsId, IfIndex)> = match dst {
            Some(mac) if !mac.is_multicast() => {
                let elsewhere = |at: &(NsId, IfIndex)| *at != (ns, link.index);
                let direct: Vec<_> = self
                    .world
                    .underlay_by_mac(mac)
                    .iter()
                    .copied()
                    .filter(elsewhere)
                    .collect();
                if direct.is_empty() {
                    // The MAC of a macvlan, or of somebody behind a bridge.
                    let all = self.world.underlay_devices().iter().copied().filter(elsewhere);
                    all.filter(|&(n, d)| self.leads_to(n, d, mac)).collect()
                } else {
                    direct
                }
            }
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
        if let Some(other) = self.world.unseen(ns, link, hop) {
            return Err(self.not_captured_of(other, ns, skb, name::LINK));
        }
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

/// `__dev_forward_skb2`: what a packet that appears on another device has forgotten.
pub(super) fn handed_on(from: NsId, to: NsId, skb: Skb) -> Skb {
    Skb {
        sender: None,
        priority: 0,
        mark: if from == to { skb.mark } else { 0 },
        ..skb.scrubbed()
    }
}

/// `eth_type_trans`
pub(super) fn packet_type(link: &Link, eth: Option<Eth>) -> PktType {
    match eth.and_then(|e| e.dst) {
        Some(Mac::BROADCAST) => PktType::Broadcast,
        Some(mac) if mac.is_multicast() => PktType::Multicast,
        Some(mac) if link.mac.is_some_and(|own| own != mac) => PktType::OtherHost,
        _ => PktType::Host,
    }
}
