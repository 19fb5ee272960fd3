//! Bridges: `br_handle_frame`, `br_dev_xmit`, `br_forward`, and netfilter on bridged frames
//! (`br_netfilter_hooks.c`).

use knet_snapshot::artifact::name;
use knet_snapshot::id::{Family, IfIndex, Mac};
use knet_snapshot::link::{BridgeInfo, Link, LinkKind};

use super::frame::Part;
use super::route::Routed;
use super::segment::Cast;
use super::walker::{At, Ended, Next, Seen, Walker};
use crate::packet::Eth;
use crate::skb::{PktType, Skb};
use crate::trace::{Assumption, Evidence, FdbTo, Hook, NsId, Outcome, Reason, Stage, What};

/// Where a bridge sends a unicast frame.
enum Target {
    Local,
    Port(IfIndex, Option<Evidence>),
    Nowhere,
}

/// The lookup itself said no, not what came after it.
const fn is_dst_error(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::NoRoute | Reason::UnreachableRoute | Reason::ProhibitRoute | Reason::BlackholeRoute
    )
}

impl Walker<'_, '_> {
    /// A frame comes in by a port.
    pub(super) fn bridge_receive(&mut self, ns: NsId, bridge: &Link, port: &Link, mut skb: Skb) -> Next {
        let LinkKind::Bridge(info) = &bridge.kind else {
            return Err(self.ended(ns, skb, Outcome::Unknown, Reason::NotModelled));
        };
        if !self.port_takes(ns, port)
            && let Some(p) = self.space(ns).fdb().port(&port.name)
        {
            let evidence = self.space(ns).fdb().port_evidence(p);
            self.step(
                What::Fdb {
                    mac: skb.eth.and_then(|e| e.dst),
                    to: FdbTo::Flood(Vec::new()),
                },
                Some(evidence),
            );
            return Err(self.ended(ns, skb, Outcome::Dropped, Reason::PortState));
        }
        if !bridge.flags.up {
            return Err(self.ended(ns, skb, Outcome::Dropped, Reason::LinkDown));
        }
        let vlan = match self.vlan_ingress(ns, info, port, skb.eth) {
            Ok(vlan) => vlan,
            Err(()) => return Err(self.ended(ns, skb, Outcome::Dropped, Reason::VlanFilter)),
        };
        // br_handle_frame: a frame for the bridge is the host's before any chain sees it.
        if skb.eth.and_then(|e| e.dst).is_none_or(|dst| bridge.mac == Some(dst)) {
            skb.pkt_type = PktType::Host;
        }
        let ports = (Some(port.index), None);
        let mut seen = Seen::default();
        let calls = self.bridge_calls_netfilter(ns, bridge, &skb);
        let first = if calls { Part::Before } else { Part::Whole };
        skb = self.bridge_hook(ns, Hook::Prerouting, ports, first, skb)?;
        skb.iif = Some(bridge.index);
        if calls {
            seen.prerouting = true;
            let before = skb.packet.dst;
            skb = self.ip_hook(ns, bridge, Hook::Prerouting, ports, skb)?;
            if skb.packet.dst != before {
                return self.bridged_dnat(ns, bridge, info, port, skb, vlan);
            }
            skb = self.bridge_hook(ns, Hook::Prerouting, ports, Part::After, skb)?;
        }
        self.bridge_finish(ns, bridge, info, port, skb, vlan, seen)
    }

    /// `br_nf_pre_routing_finish` after the destination was translated: routed out of the same bridge, the
    /// packet stays a bridged one and gets the new neighbour's MAC; otherwise it goes up.
    fn bridged_dnat(
        &mut self,
        ns: NsId,
        bridge: &Link,
        info: &BridgeInfo,
        port: &Link,
        mut skb: Skb,
        vlan: Option<u16>,
    ) -> Next {
        let seen = Seen {
            prerouting: true,
            routed: false,
        };
        let ports = (Some(port.index), None);
        let routed = match self.route_input(ns, &mut skb) {
            // ip6_route_input does not look at the forwarding switch, ip6_forward does, and a packet that
            // stays on the bridge never gets there. IPv4 looks at it while routing.
            Err(ended) if ended.end.reason == Reason::ForwardingOff && skb.packet.dst.is_ipv6() => {
                match self.route_on_bridge(ns, bridge.index, &skb) {
                    Some(nexthop) => Routed::Forward {
                        oif: bridge.index,
                        nexthop,
                    },
                    None => return Err(ended),
                }
            }
            // br_nf_pre_routing_finish_ipv6: `skb_dst(skb)->error`, and nobody is told.
            Err(mut ended) if skb.packet.dst.is_ipv6() && is_dst_error(ended.end.reason) => {
                (ended.answer, ended.reject) = (None, None);
                return Err(ended);
            }
            other => other?,
        };
        if let Routed::Forward { oif, nexthop } = routed
            && oif == bridge.index
        {
            skb.oif = Some(bridge.index);
            skb.nexthop = Some(nexthop);
            skb = self.bridge_hook(ns, Hook::Prerouting, ports, Part::After, skb)?;
            let mac = self.resolve(ns, bridge, nexthop, &mut skb)?;
            // The sender's own MAC stays (br_nf_pre_routing_finish_bridge).
            skb.eth = Some(Eth {
                src: skb.eth.and_then(|e| e.src),
                dst: mac,
                vlan: None,
            });
            return self.bridge_finish(ns, bridge, info, port, skb, vlan, seen);
        }
        if let Routed::Forward { oif, .. } = routed {
            skb.routed = Some(oif);
        }
        // The MAC becomes the bridge's own, so that the frame is passed up.
        skb.pkt_type = PktType::Host;
        skb.eth = skb.eth.map(|e| Eth {
            dst: bridge.mac.or(e.dst),
            ..e
        });
        skb = self.bridge_hook(ns, Hook::Prerouting, ports, Part::After, skb)?;
        self.bridge_finish(ns, bridge, info, port, skb, vlan, seen)
    }

    /// `br_handle_frame_finish`: where to?
    #[allow(clippy::too_many_arguments, reason = "the frame, its bridge, its port and its VLAN")]
    fn bridge_finish(
        &mut self,
        ns: NsId,
        bridge: &Link,
        info: &BridgeInfo,
        port: &Link,
        skb: Skb,
        vlan: Option<u16>,
        seen: Seen,
    ) -> Next {
        let dst = skb.eth.and_then(|e| e.dst);
        match self.bridge_lookup(ns, bridge, dst, vlan, Some(port.index)) {
            Target::Local => self.bridge_up(ns, bridge, info, port, skb, vlan, seen),
            Target::Port(out, evidence) => {
                self.bridge_forward(ns, bridge, info, Some(port.index), out, skb, vlan, evidence)
            }
            Target::Nowhere => Err(self.ended(ns, skb, Outcome::NeighbourFailed, Reason::NoFloodTarget)),
        }
    }

    /// `br_pass_frame_up`: the frame is received by the bridge device itself, where a vlan or macvlan device
    /// may be on top.
    #[allow(clippy::too_many_arguments, reason = "the frame, its bridge, its port and its VLAN")]
    fn bridge_up(
        &mut self,
        ns: NsId,
        bridge: &Link,
        info: &BridgeInfo,
        port: &Link,
        mut skb: Skb,
        vlan: Option<u16>,
        seen: Seen,
    ) -> Next {
        let dst = skb.eth.and_then(|e| e.dst);
        if info.vlan_filtering == Some(true)
            && let Some(id) = vlan
            && self.space(ns).fdb().vlans_known
        {
            let Some(member) = self.space(ns).fdb().vlan(&bridge.name, id) else {
                return Err(self.ended(ns, skb, Outcome::Dropped, Reason::VlanFilter));
            };
            skb.eth = skb.eth.map(|e| Eth {
                vlan: (!member.untagged).then_some(id),
                ..e
            });
        }
        skb = self.bridge_hook(ns, Hook::Input, (Some(port.index), None), Part::Whole, skb)?;
        skb = self.bridge_ingress(ns, bridge.index, skb)?;
        if let Some(tag) = skb.eth.and_then(|e| e.vlan).filter(|tag| *tag != 0) {
            let Some((to, upper)) = self.vlan_upper(ns, bridge.index, tag) else {
                return Err(self.ended(ns, skb, Outcome::Dropped, Reason::VlanFilter));
            };
            skb.eth = skb.eth.map(|e| Eth { vlan: None, ..e });
            return if to == ns {
                Ok(At::Receive { ns, dev: upper, skb })
            } else {
                Ok(self.cross(ns, bridge.index, to, upper, skb))
            };
        }
        if let Some((to, upper)) = self.macvlan_upper(ns, bridge.index, dst) {
            return Ok(self.cross(ns, bridge.index, to, upper, skb));
        }
        skb.iif = Some(bridge.index);
        Ok(At::Network { ns, skb, seen })
    }

    /// `br_pass_frame_up`: `netif_receive_skb` once more, for the bridge device itself.
    fn bridge_ingress(&mut self, ns: NsId, bridge: IfIndex, skb: Skb) -> Result<Skb, Box<Ended>> {
        let skb = self.programs(ns, bridge, false, skb)?;
        self.device_hook(ns, Hook::Ingress, bridge, skb)
    }

    /// `br_dev_xmit`: the node itself sends out of the bridge device.
    pub(super) fn bridge_transmit(&mut self, ns: NsId, bridge: &Link, skb: Skb) -> Next {
        let LinkKind::Bridge(info) = &bridge.kind else {
            return Err(self.ended(ns, skb, Outcome::Unknown, Reason::NotModelled));
        };
        let vlan = match self.vlan_ingress(ns, info, bridge, skb.eth) {
            Ok(vlan) => vlan,
            Err(()) => return Err(self.ended(ns, skb, Outcome::Dropped, Reason::VlanFilter)),
        };
        match self.bridge_lookup(ns, bridge, skb.eth.and_then(|e| e.dst), vlan, None) {
            Target::Port(out, evidence) => {
                let tunnel = |l: &Link| matches!(l.kind, LinkKind::Vxlan(_) | LinkKind::Tunnel(..));
                let flooded = evidence.is_none() && self.link(ns, out).is_some_and(tunnel);
                let skb = if flooded { self.copied(ns, skb) } else { skb };
                self.bridge_forward(ns, bridge, info, None, out, skb, vlan, evidence)
            }
            Target::Local | Target::Nowhere => {
                Err(self.ended(ns, skb, Outcome::NeighbourFailed, Reason::NoFloodTarget))
            }
        }
    }

    /// `br_fdb_find_rcu`. A MAC the bridge does not know is flooded, and the one device behind a port that
    /// has it takes the frame.
    fn bridge_lookup(
        &mut self,
        ns: NsId,
        bridge: &Link,
        mac: Option<Mac>,
        vlan: Option<u16>,
        from: Option<IfIndex>,
    ) -> Target {
        let Some(mac) = mac else {
            // A sender outside the snapshot: its neighbour entry leads to whoever has the address.
            return Target::Local;
        };
        let space = self.space(ns);
        if from.is_some() && bridge.mac == Some(mac) {
            self.step(
                What::Fdb {
                    mac: Some(mac),
                    to: FdbTo::Local,
                },
                None,
            );
            return Target::Local;
        }
        if let Some(entry) = space
            .fdb()
            .lookup(&bridge.name, mac, vlan)
            .or_else(|| space.fdb().lookup(&bridge.name, mac, None))
        {
            let evidence = space.fdb().evidence(entry);
            // What the host itself sends to the MAC of a port goes out of that port (br_dev_xmit).
            if entry.permanent && (from.is_some() || entry.dev == bridge.name) {
                self.step(
                    What::Fdb {
                        mac: Some(mac),
                        to: FdbTo::Local,
                    },
                    Some(evidence),
                );
                return Target::Local;
            }
            if let Some(port) = space.links().named(&entry.dev) {
                self.step(
                    What::Fdb {
                        mac: Some(mac),
                        to: FdbTo::Port(port.index),
                    },
                    Some(evidence.clone()),
                );
                return Target::Port(port.index, Some(evidence));
            }
        }
        let ports = self.flood_ports(ns, bridge, from, Cast::Unicast(mac));
        self.step(
            What::Fdb {
                mac: Some(mac),
                to: FdbTo::Flood(ports.clone()),
            },
            None,
        );
        self.assumptions.insert(Assumption::BridgeLearns);
        let behind = ports.iter().copied().find(|&p| self.mac_behind(ns, p, mac));
        // Nobody captured has it: somebody behind a port that leads out may.
        let out = || {
            ports
                .iter()
                .copied()
                .find(|&p| self.link(ns, p).is_some_and(|l| self.world.leads_out(ns, l)))
        };
        behind.or_else(out).map_or(Target::Nowhere, |p| Target::Port(p, None))
    }

    /// `br_flood`: ports that an unknown unicast, a broadcast or a multicast frame is copied to.
    pub(super) fn flood_ports(&self, ns: NsId, bridge: &Link, from: Option<IfIndex>, cast: Cast) -> Vec<IfIndex> {
        let space = self.space(ns);
        let floods = |l: &Link| {
            let settings = space.fdb().port(&l.name);
            let off = settings.and_then(|p| match cast {
                Cast::Unicast(_) => p.flood,
                Cast::Broadcast => p.bcast_flood,
                Cast::Multicast => p.mcast_flood,
            });
            off != Some(false)
        };
        space
            .links()
            .iter()
            .filter(|l| l.master.as_deref() == Some(bridge.name.as_str()) && l.flags.up)
            .filter(|l| floods(l) && self.should_deliver(ns, from, l))
            .map(|l| l.index)
            .collect()
    }

    /// `br_handle_frame`, and `br_handle_frame_finish`, which learns in state `learning` but goes no further.
    pub(super) fn port_takes(&self, ns: NsId, port: &Link) -> bool {
        self.space(ns)
            .fdb()
            .port(&port.name)
            .is_none_or(|p| p.state == "forwarding")
    }

    /// `should_deliver`
    pub(super) fn should_deliver(&self, ns: NsId, from: Option<IfIndex>, port: &Link) -> bool {
        self.refuses(ns, from, port, self.space(ns).fdb().port(&port.name))
            .is_none()
    }

    /// `should_deliver`, then the hooks on the way out.
    #[allow(
        clippy::too_many_arguments,
        reason = "the frame, its bridge, both ports and its VLAN"
    )]
    fn bridge_forward(
        &mut self,
        ns: NsId,
        bridge: &Link,
        info: &BridgeInfo,
        from: Option<IfIndex>,
        out: IfIndex,
        mut skb: Skb,
        vlan: Option<u16>,
        found: Option<Evidence>,
    ) -> Next {
        let space = self.space(ns);
        let Some(port) = space.links().get(out) else {
            return Err(self.not_captured(ns, skb, name::LINK));
        };
        if from.is_some() {
            self.stage(Stage::Bridge);
        }
        let settings = space.fdb().port(&port.name);
        if let Some(reason) = self.refuses(ns, from, port, settings) {
            let evidence = settings.map(|p| space.fdb().port_evidence(p));
            let mac = skb.eth.and_then(|e| e.dst);
            self.step(
                What::Fdb {
                    mac,
                    to: FdbTo::Port(out),
                },
                found.into_iter().chain(evidence),
            );
            return Err(self.last_row_decides(ns, skb, reason));
        }
        if from == Some(out) && !space.fdb().ports_known {
            // Whether it is in hairpin mode.
            return Err(self.not_captured(ns, skb, name::BRIDGE_LINK));
        }
        if info.vlan_filtering == Some(true)
            && let Some(id) = vlan
        {
            if space.fdb().vlans_known && space.fdb().vlan(&port.name, id).is_none() {
                return Err(self.ended(ns, skb, Outcome::Dropped, Reason::VlanFilter));
            }
            let tagged = space.fdb().vlan(&port.name, id).is_some_and(|v| !v.untagged);
            skb.eth = skb.eth.map(|e| Eth {
                vlan: tagged.then_some(id),
                ..e
            });
        }
        skb = self.out_of_bridge(ns, bridge, from, out, skb)?;
        // br_dev_queue_push_xmit
        if from.is_some() && !self.takes_frame(ns, out, &skb) {
            return Err(self.ended(ns, skb, Outcome::Dropped, Reason::TooBig));
        }
        Ok(At::Transmit { ns, dev: out, skb })
    }

    /// The evidence of the port comes after that of the entry; both decided.
    fn last_row_decides(&mut self, ns: NsId, skb: Skb, reason: Reason) -> Box<Ended> {
        self.ended(ns, skb, Outcome::Dropped, reason)
    }

    fn refuses(
        &self,
        ns: NsId,
        from: Option<IfIndex>,
        port: &Link,
        settings: Option<&knet_snapshot::bridge::BridgePort>,
    ) -> Option<Reason> {
        if !port.flags.up {
            return Some(Reason::LinkDown);
        }
        let settings = settings?;
        if settings.state != "forwarding" {
            return Some(Reason::PortState);
        }
        if from == Some(port.index) && settings.hairpin != Some(true) {
            return Some(Reason::NoHairpin);
        }
        let space = self.space(ns);
        let from = from
            .and_then(|f| space.links().get(f))
            .and_then(|l| space.fdb().port(&l.name));
        (from.is_some_and(|f| f.isolated == Some(true)) && settings.isolated == Some(true)).then_some(Reason::Isolated)
    }

    /// `br_allowed_ingress`: the VLAN a frame belongs to, or an error when the port does not take it.
    fn vlan_ingress(&mut self, ns: NsId, info: &BridgeInfo, port: &Link, eth: Option<Eth>) -> Result<Option<u16>, ()> {
        if info.vlan_filtering != Some(true) {
            return Ok(None);
        }
        let fdb = self.space(ns).fdb();
        if !fdb.vlans_known {
            return Ok(info.vlan_default_pvid);
        }
        match eth.and_then(|e| e.vlan) {
            Some(tag) => fdb.vlan(&port.name, tag).map(|_| Some(tag)).ok_or(()),
            None => fdb.pvid(&port.name).map(Some).ok_or(()),
        }
    }

    /// Whether `br_netfilter` calls the IP hooks for a frame: by `net.bridge.bridge-nf-call-*` of the namespace, or the
    /// bridge's own switch. A captured sysctl table without the key means that `br_netfilter` is not loaded.
    pub(super) fn bridge_calls_netfilter(&mut self, ns: NsId, bridge: &Link, skb: &Skb) -> bool {
        let LinkKind::Bridge(info) = &bridge.kind else {
            return false;
        };
        // ARP has no such hook in nftables.
        if skb.arp.is_some() {
            return false;
        }
        let tagged = skb.eth.and_then(|e| e.vlan).is_some();
        if tagged && self.space(ns).sysctl().get("net.bridge.bridge-nf-filter-vlan-tagged") != Some(1) {
            return false;
        }
        let (key, own) = match skb.packet.family() {
            Family::V4 => ("net.bridge.bridge-nf-call-iptables", info.nf_call_iptables),
            Family::V6 => ("net.bridge.bridge-nf-call-ip6tables", info.nf_call_ip6tables),
        };
        let space = self.space(ns);
        if space.facts.sysctls().get().is_none() {
            return self.sysctl_unknown(ns, key);
        }
        match space.sysctl().get(key) {
            Some(0) => own == Some(true),
            Some(_) => true,
            None => false,
        }
    }
}
