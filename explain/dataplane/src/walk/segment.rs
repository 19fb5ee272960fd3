//! Segments: whom a frame reaches that leaves a device, without any of it being an IP packet yet.

use std::collections::{BTreeMap, BTreeSet};

use knet_snapshot::id::{IfIndex, Mac};
use knet_snapshot::link::{Link, LinkKind, VxlanInfo};

use super::carry::Carried;
use super::link::handed_on;
use super::walker::Walker;
use crate::skb::Skb;
use crate::trace::NsId;

/// What a frame is to the bridges it meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cast {
    /// ARP and the like.
    Broadcast,
    /// Neighbour discovery and the like.
    Multicast,
    /// For one MAC.
    Unicast(Mac),
}

/// Whom a frame reaches.
#[derive(Debug, Default)]
pub(super) struct Reach {
    /// Devices whose network layer is given the frame, whoever's MAC is on it.
    pub heard: BTreeMap<(NsId, IfIndex), Option<Skb>>,
    /// It leaves the snapshot: others may hear it.
    pub leads_out: bool,
    seen: BTreeSet<(NsId, IfIndex, bool)>,
}

/// What leaves a device.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    /// What it is to bridges.
    pub cast: Cast,
    /// What is in it, for the chains it meets. `None`: only where such a frame would go is asked.
    pub holds: Option<Skb>,
}

impl Frame {
    /// Any frame for a MAC.
    const fn to(mac: Mac) -> Self {
        Self {
            cast: Cast::Unicast(mac),
            holds: None,
        }
    }
}

impl Walker<'_, '_> {
    /// Whom a frame reaches that leaves a device.
    pub(super) fn reach(&mut self, ns: NsId, dev: IfIndex, frame: Frame) -> Reach {
        let mut reach = Reach::default();
        self.emit(ns, dev, &frame, &mut reach);
        reach
    }

    /// Whom a frame reaches that arrives at a device.
    pub(super) fn hears(&mut self, ns: NsId, dev: IfIndex, frame: Frame) -> BTreeMap<(NsId, IfIndex), Option<Skb>> {
        let mut reach = Reach::default();
        self.arrive(ns, ns, dev, &frame, &mut reach);
        reach.heard
    }

    /// A frame for this MAC that arrives at a device reaches somebody who has the MAC.
    pub(super) fn leads_to(&mut self, ns: NsId, dev: IfIndex, mac: Mac) -> bool {
        let mut reach = Reach::default();
        self.arrive(ns, ns, dev, &Frame::to(mac), &mut reach);
        self.holds(&reach, mac)
    }

    /// A frame for this MAC that leaves a device reaches somebody who has the MAC.
    pub(super) fn mac_behind(&mut self, ns: NsId, dev: IfIndex, mac: Mac) -> bool {
        let reach = self.reach(ns, dev, Frame::to(mac));
        self.holds(&reach, mac)
    }

    fn holds(&self, reach: &Reach, mac: Mac) -> bool {
        reach
            .heard
            .keys()
            .any(|&(n, d)| self.link(n, d).is_some_and(|l| l.mac == Some(mac)))
    }

    fn emit(&mut self, ns: NsId, dev: IfIndex, frame: &Frame, reach: &mut Reach) {
        if !reach.seen.insert((ns, dev, true)) {
            return;
        }
        let Some(link) = self.link(ns, dev).filter(|l| l.flags.up) else {
            return;
        };
        let Some(frame) = &self.frame_leaves(ns, dev, frame) else {
            return;
        };
        match &link.kind {
            LinkKind::Veth if let Some(peer) = self.world.peer(ns, dev) => {
                self.arrive(ns, peer.ns, peer.dev, frame, reach);
            }
            LinkKind::Veth | LinkKind::Device | LinkKind::Bond if !link.flags.loopback => {
                reach.leads_out = true;
                for &(other, port) in self.world.underlay_devices() {
                    if (other, port) != (ns, dev) && self.share_a_subnet(ns, dev, other, port) {
                        self.arrive(ns, other, port, frame, reach);
                    }
                }
            }
            LinkKind::Bridge(_) => {
                for port in self.bridge_copies(ns, link, None, frame.cast) {
                    if let Some(copy) = &self.frame_forwarded(ns, link, None, port, frame) {
                        self.emit(ns, port, copy, reach);
                    }
                }
            }
            LinkKind::Vlan { .. } => {
                if let Some((lower_ns, lower)) = self.world.lower(ns, link) {
                    self.emit(lower_ns, lower, frame, reach);
                }
            }
            LinkKind::Macvlan { .. } | LinkKind::Ipvlan { .. } => {
                let Some((lower_ns, lower)) = self.world.lower(ns, link) else {
                    return;
                };
                let bridges = |kind: &LinkKind| match kind {
                    LinkKind::Macvlan { mode } => mode == "bridge",
                    LinkKind::Ipvlan { flag, .. } => flag != "private" && flag != "vepa",
                    _ => false,
                };
                if bridges(&link.kind) {
                    for &(upper_ns, upper) in self.world.uppers(lower_ns, lower) {
                        let sibling = self.link(upper_ns, upper).filter(|l| l.flags.up).map(|l| &l.kind);
                        if (upper_ns, upper) != (ns, dev) && sibling.is_some_and(bridges) {
                            self.heard(ns, upper_ns, upper, frame, reach);
                        }
                    }
                }
                self.emit(lower_ns, lower, frame, reach);
            }
            LinkKind::Vxlan(info) if let Some(skb) = &frame.holds => {
                let targets = self.aside(|this| this.vxlan_targets(ns, link, info, skb));
                for to in targets.unwrap_or_default() {
                    let copy = skb.clone();
                    let end = self.carried(|this| this.vxlan_send(ns, link, info, copy, to));
                    self.unwrapped_at(end, frame.cast, reach);
                }
            }
            LinkKind::Tunnel(name, info) if let Some(skb) = &frame.holds => {
                let copy = skb.clone();
                let end = self.carried(|this| this.tunnel_transmit(ns, link, name, info, copy));
                self.unwrapped_at(end, frame.cast, reach);
            }
            LinkKind::Vxlan(info) if !info.external => {
                for (to, tunnel) in self.tunnel_ends(ns, link, info, frame.cast) {
                    self.arrive(ns, to, tunnel, frame, reach);
                }
            }
            LinkKind::Tunnel(..) => match self.tunnel_peer(ns, link) {
                Some((to, tunnel)) => self.arrive(ns, to, tunnel, frame, reach),
                None => reach.leads_out = true,
            },
            _ => {}
        }
    }

    /// A frame goes on where it came out of its tunnel.
    fn unwrapped_at(&mut self, end: Carried, cast: Cast, reach: &mut Reach) {
        match end {
            Carried::To { ns, dev, skb } => {
                let holds = Some(*skb);
                self.arrive(ns, ns, dev, &Frame { cast, holds }, reach);
            }
            Carried::Out => reach.leads_out = true,
            Carried::Nowhere => {}
        }
    }

    /// The devices that unwrap what a VXLAN device makes of a frame, by its forwarding table alone.
    fn tunnel_ends(&self, ns: NsId, link: &Link, info: &VxlanInfo, cast: Cast) -> Vec<(NsId, IfIndex)> {
        let fdb = self.space(ns).fdb();
        let known = match cast {
            Cast::Unicast(mac) => fdb.remotes(&link.name, mac),
            Cast::Broadcast | Cast::Multicast => &[],
        };
        let entries = if known.is_empty() {
            fdb.remotes(&link.name, Mac::default())
        } else {
            known
        };
        let mut ends = Vec::new();
        for entry in entries {
            let Some(remote) = entry.dst else { continue };
            let (vni, port) = (entry.vni.or(info.vni), entry.port.unwrap_or(info.port));
            for space in self.world.spaces().iter().filter(|s| s.links().owner(remote).is_some()) {
                let unwraps = |l: &&Link| matches!(&l.kind, LinkKind::Vxlan(v) if v.vni == vni && v.port == port);
                ends.extend(space.links().iter().find(unwraps).map(|l| (space.id, l.index)));
            }
        }
        ends
    }

    fn arrive(&mut self, from: NsId, ns: NsId, dev: IfIndex, frame: &Frame, reach: &mut Reach) {
        let Some(link) = self.link(ns, dev).filter(|l| l.flags.up) else {
            return;
        };
        if !reach.seen.insert((ns, dev, false)) {
            return;
        }
        let Some(frame) = &self.frame_enters(from, ns, dev, frame) else {
            return;
        };
        for &(upper_ns, upper) in self.world.uppers(ns, dev) {
            if let Some(up) = self.link(upper_ns, upper).filter(|l| l.flags.up)
                && (!matches!(frame.cast, Cast::Unicast(mac) if up.mac != Some(mac)))
                && self.ipvlan_takes(upper_ns, up, frame)
            {
                self.heard(ns, upper_ns, upper, frame, reach);
            }
        }
        let master = link.master.as_deref().and_then(|m| self.space(ns).links().named(m));
        match master {
            Some(bridge) if matches!(bridge.kind, LinkKind::Bridge(_)) => {
                if !bridge.flags.up || !self.port_takes(ns, link) {
                    return;
                }
                let Some(frame) = &self.frame_bridged(ns, bridge, dev, frame) else {
                    return;
                };
                let (up, ports) = self.bridge_to(ns, bridge, dev, frame.cast);
                if up && let Some(copy) = self.frame_up(ns, dev, frame) {
                    for &(upper_ns, upper) in self.world.uppers(ns, bridge.index) {
                        self.heard(ns, upper_ns, upper, &copy, reach);
                    }
                    reach.heard.insert((ns, bridge.index), copy.holds);
                }
                for port in ports {
                    if let Some(copy) = &self.frame_forwarded(ns, bridge, Some(dev), port, frame) {
                        self.emit(ns, port, copy, reach);
                    }
                }
            }
            Some(bond) if bond.kind == LinkKind::Bond => {
                reach.heard.insert((ns, bond.index), frame.holds.clone());
            }
            _ => {
                reach.heard.insert((ns, dev), frame.holds.clone());
            }
        }
    }

    /// `ipvlan_handle_mode_l2`: devices that share a MAC are told apart by the address a message is for. Who asked in the
    /// name of another device does not hear the answer.
    fn ipvlan_takes(&self, ns: NsId, link: &Link, frame: &Frame) -> bool {
        match (&link.kind, frame.cast, &frame.holds) {
            (LinkKind::Ipvlan { .. }, Cast::Unicast(_), Some(skb)) => {
                let links = self.space(ns).links();
                // Addresses that nobody captured may well be this one.
                !links.addresses_known || links.addresses_of(link.index).any(|a| a.local == skb.packet.dst)
            }
            _ => true,
        }
    }

    /// A device on top of another one hears a frame.
    fn heard(&self, from: NsId, ns: NsId, dev: IfIndex, frame: &Frame, reach: &mut Reach) {
        let skb = frame.holds.clone();
        let skb = skb.map(|skb| self.as_received(ns, dev, handed_on(from, ns, skb)));
        reach.heard.insert((ns, dev), skb);
    }

    /// Up to the bridge itself, and out of which ports.
    fn bridge_to(&self, ns: NsId, bridge: &Link, from: IfIndex, cast: Cast) -> (bool, Vec<IfIndex>) {
        let Cast::Unicast(mac) = cast else {
            return (true, self.bridge_copies(ns, bridge, Some(from), cast));
        };
        if bridge.mac == Some(mac) {
            return (true, Vec::new());
        }
        let found = self.space(ns).fdb().lookup(&bridge.name, mac, None);
        if found.is_some_and(|e| e.permanent) {
            return (true, Vec::new());
        }
        (false, self.bridge_copies(ns, bridge, Some(from), cast))
    }

    /// The ports a bridge sends a frame out of: the one its table names, or all that flood such frames.
    fn bridge_copies(&self, ns: NsId, bridge: &Link, from: Option<IfIndex>, cast: Cast) -> Vec<IfIndex> {
        let links = self.space(ns).links();
        if let Cast::Unicast(mac) = cast
            && let Some(port) = self
                .space(ns)
                .fdb()
                .lookup(&bridge.name, mac, None)
                .and_then(|e| links.named(&e.dev))
        {
            let known = port.index != bridge.index && self.should_deliver(ns, from, port);
            return known.then_some(port.index).into_iter().collect();
        }
        self.flood_ports(ns, bridge, from, cast)
    }

    /// Two devices that lead out of their nodes are taken to be on one segment when they have a subnet in
    /// common: the snapshot does not show the cables.
    pub(super) fn share_a_subnet(&self, a: NsId, a_dev: IfIndex, b: NsId, b_dev: IfIndex) -> bool {
        let b = self.subnets(b, b_dev);
        self.subnets(a, a_dev)
            .iter()
            .any(|x| b.iter().any(|y| x.contains(&y.addr()) || y.contains(&x.addr())))
    }

    /// The subnets of everybody who uses a device: itself, its bridge, and what is stacked on either.
    fn subnets(&self, ns: NsId, dev: IfIndex) -> Vec<ipnet::IpNet> {
        let mut devices = vec![(ns, dev)];
        devices.extend(self.world.uppers(ns, dev));
        let master = self.link(ns, dev).and_then(|l| l.master.as_deref());
        if let Some(master) = master.and_then(|m| self.space(ns).links().named(m)) {
            devices.push((ns, master.index));
            devices.extend(self.world.uppers(ns, master.index));
        }
        let link_local = |a: std::net::IpAddr| matches!(a, std::net::IpAddr::V6(v) if v.is_unicast_link_local());
        devices
            .into_iter()
            .flat_map(|(n, d)| self.space(n).links().addresses_of(d))
            .filter(|x| !link_local(x.local))
            .filter_map(|x| ipnet::IpNet::new(x.local, x.prefix_len).ok())
            .collect()
    }
}
