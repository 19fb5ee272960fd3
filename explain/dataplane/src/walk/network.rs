//! The network layer: receiving, forwarding, delivering and sending (`ip_rcv`, `ip_forward`,
//! `ip_local_deliver`, `ip_output` and their IPv6 counterparts).

use std::net::IpAddr;

use knet_snapshot::id::IfIndex;
use knet_snapshot::xfrm::Direction;

use super::ipvs::Passed;
use super::route::Routed;
use super::walker::{At, Ended, Next, Seen, Source, Walker};
use crate::packet::Eth;
use crate::skb::{PktType, Skb};
use crate::stage::routing;
use crate::trace::{Answer, ClientSees, Field, Hook, NsId, Outcome, PathMtu, Reason, Stage, What};

impl Walker<'_, '_> {
    /// `ip_rcv` and `ip_rcv_finish`
    pub(super) fn network(&mut self, ns: NsId, mut skb: Skb, seen: Seen) -> Next {
        if self.hop_ns() != Some(ns) {
            self.enter(ns, Stage::Ingress, skb.iif, &skb.packet);
        }
        // "When the interface is in promisc. mode, drop all the crap that it receives."
        if skb.pkt_type == PktType::OtherHost {
            return Err(self.ended(ns, skb, Outcome::NeighbourFailed, Reason::WrongMac));
        }
        if !seen.prerouting
            && !seen.routed
            && let Some(reason) = routing::receive(self.space(ns), &skb)
        {
            return Err(self.ended(ns, skb, Outcome::Dropped, reason));
        }
        let before = skb.packet.dst;
        // ip_sabotage_in lets PREROUTING run again for a port of a VRF.
        let vrf = skb.iif.and_then(|dev| self.vrf_above(ns, dev));
        if !seen.prerouting || vrf.is_some() {
            skb = self.hook(ns, Hook::Prerouting, skb)?;
        }
        if let Some(vrf) = vrf {
            skb = self.vrf_receive(ns, vrf, skb)?;
        }
        if seen.routed && skb.packet.dst == before {
            return self.local_in(ns, skb);
        }
        skb = match self.ipvlan_l3s(ns, skb)? {
            Ok(taken) => return Ok(taken),
            Err(passed) => passed,
        };
        match self.route_input(ns, &mut skb)? {
            Routed::Local => self.local_in(ns, skb),
            Routed::Forward { oif, nexthop } => self.forward(ns, skb, oif, nexthop),
        }
    }

    /// `ip_forward`, `ip6_forward`
    fn forward(&mut self, ns: NsId, mut skb: Skb, oif: IfIndex, nexthop: IpAddr) -> Next {
        self.stage(Stage::Forward);
        // "if (unlikely(skb->sk)) goto drop"
        if skb.tproxy.is_some() {
            return Err(self.ended(ns, skb, Outcome::Dropped, Reason::HasSocket));
        }
        skb = self.ipsec_check(ns, Direction::Forward, skb)?;
        if skb.packet.ttl <= 1 {
            let mut ended = self.ended(ns, skb, Outcome::Loop, Reason::TtlExpired);
            ended.answer = Some(Answer::TimeExceeded);
            return Err(ended);
        }
        skb.oif = Some(oif);
        skb.nexthop = Some(nexthop);
        let mtu = self.mtu_step(ns, oif);
        if let Some(mtu) = mtu
            && skb.packet.df
            && u32::from(skb.packet.len) > mtu
        {
            let mut ended = self.ended(ns, skb, Outcome::Dropped, Reason::TooBig);
            ended.answer = Some(Answer::TooBig);
            return Err(ended);
        }
        // The header is changed before the FORWARD hook sees it.
        let from = skb.packet.ttl;
        skb.packet.ttl -= 1;
        self.step(What::Rewrite(Field::Ttl { from, to: from - 1 }), None);
        skb = match self.run_hook(ns, Hook::Forward, skb)? {
            Passed::On(skb) => skb,
            Passed::Taken(skb) => return self.ipvs_send(ns, skb),
        };
        skb = self.hook(ns, Hook::Postrouting, skb)?;
        self.finish_output(ns, skb)
    }

    /// `ip_finish_output2`: the neighbour's address goes on, and the device gets the frame.
    pub(super) fn finish_output(&mut self, ns: NsId, skb: Skb) -> Next {
        let Some(oif) = skb.oif else {
            return Err(self.ended(ns, skb, Outcome::Unknown, Reason::NotModelled));
        };
        let Some(link) = self.link(ns, oif) else {
            return Err(self.not_captured(ns, skb, knet_snapshot::artifact::name::LINK));
        };
        if link.flags.loopback {
            return Ok(At::Transmit { ns, dev: oif, skb });
        }
        let mut skb = match self.ipsec_output(ns, skb)? {
            Ok(sealed) => return Ok(sealed),
            Err(plain) => plain,
        };
        let nexthop = skb.nexthop.unwrap_or(skb.packet.dst);
        let mac = self.resolve(ns, link, nexthop, &mut skb)?;
        skb.eth = Some(Eth {
            src: link.mac,
            dst: mac,
            vlan: None,
        });
        Ok(At::Transmit { ns, dev: oif, skb })
    }

    /// `ip_local_deliver`
    fn local_in(&mut self, ns: NsId, mut skb: Skb) -> Next {
        self.stage(Stage::Input);
        skb.oif = None;
        match self.run_hook(ns, Hook::Input, skb)? {
            Passed::On(skb) => self.deliver(ns, skb),
            Passed::Taken(skb) => self.ipvs_send(ns, skb),
        }
    }

    /// `ip_queue_xmit` and friends: a route, OUTPUT, perhaps another route, POSTROUTING.
    pub(super) fn send(&mut self, ns: NsId, mut skb: Skb, source: Source) -> Next {
        self.enter(ns, Stage::Output, None, &skb.packet);
        self.secpath = None;
        if let Source::Bridge(port) = source {
            return self.bridge_answers(ns, port, skb);
        }
        // Nobody hears of what happens to a tunnel's or an ipvlan's packet: the device took what it was given.
        let sealed = matches!(source, Source::Sealed { .. }) && skb.sender.is_some_and(|s| s.socket);
        let quiet = skb.caller().is_none() && !sealed;
        if source != Source::Routed {
            self.route_output(ns, &mut skb, source).map_err(|mut ended| {
                ended.errno = ended.errno.filter(|_| !quiet);
                ended
            })?;
        }
        self.learn_client(&skb);
        if let Source::Port(dev) = source {
            skb.oif = Some(dev);
            return Ok(At::Transmit { ns, dev, skb });
        }
        // What is too large is cut up here, and its fragments may be cut up further (__ip_make_skb).
        let mtu = skb.oif.and_then(|oif| self.mtu_step(ns, oif));
        let hint =
            self.space(ns).sysctl().get("net.ipv4.ip_no_pmtu_disc").unwrap_or(0) != 0 && skb.packet.dst.is_ipv4();
        if hint || mtu.is_some_and(|mtu| u32::from(skb.packet.len) > mtu) {
            skb.packet.df = false;
        }
        skb = self.vrf_output(ns, skb).map_err(|ended| self.refused_here(ended))?;
        let passed = self.run_hook(ns, Hook::Output, skb);
        skb = match passed.map_err(|ended| self.refused_here(ended))? {
            Passed::On(skb) => skb,
            Passed::Taken(skb) => return self.ipvs_send(ns, skb),
        };
        skb = self
            .hook(ns, Hook::Postrouting, skb)
            .map_err(|ended| self.refused_here(ended))?;
        self.finish_output(ns, skb)
    }

    /// A verdict in OUTPUT or POSTROUTING is an error of the sending call: UDP programs get `EPERM` for a
    /// drop, and for a REJECT as well, whatever comes back; TCP keeps trying to connect until it times out.
    fn refused_here(&self, mut ended: Box<Ended>) -> Box<Ended> {
        // What a tunnel device sends has no program behind it.
        let program = ended.end.packet.inner.is_none();
        // NF_DROP_ERR: a route that was not found again says why itself.
        if program
            && ended.errno.is_none()
            && matches!(ended.end.outcome, Outcome::Dropped | Outcome::Rejected)
            && ended.end.packet.proto != crate::packet::proto::TCP
        {
            ended.errno = Some(ClientSees::Permission);
        }
        ended
    }

    /// `ip_dst_mtu_maybe_forward`: the route's, else the device's.
    fn mtu_step(&mut self, ns: NsId, oif: IfIndex) -> Option<u32> {
        let link = self.link(ns, oif)?;
        let mtu = self.route_mtu.take().filter(|m| *m > 0).unwrap_or(link.mtu);
        if !link.flags.loopback {
            self.step(What::Mtu { dev: oif, mtu }, None);
            self.narrow(ns, oif, mtu);
        }
        Some(mtu)
    }

    /// `is_skb_forwardable`: a device that is handed a whole frame takes four bytes more than its MTU, and
    /// throws away what is larger still without a word.
    pub(super) fn takes_frame(&mut self, ns: NsId, dev: IfIndex, skb: &Skb) -> bool {
        /// `VLAN_HLEN`
        const SLACK: u32 = 4;
        let Some(link) = self.link(ns, dev) else { return true };
        let most = link.mtu.saturating_add(SLACK);
        self.narrow(ns, dev, most);
        // Without DF a larger packet has come here in fragments.
        !skb.packet.df || u32::from(skb.packet.len) <= most
    }

    fn narrow(&mut self, ns: NsId, dev: IfIndex, bytes: u32) {
        let bytes = bytes.saturating_sub(self.overhead);
        if bytes > 0 && self.mtu.is_none_or(|m| bytes < m.bytes) {
            self.mtu = Some(PathMtu { bytes, at: (ns, dev) });
        }
    }
}
