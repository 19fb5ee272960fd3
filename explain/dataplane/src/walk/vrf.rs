//! VRFs: `drivers/net/vrf.c`. A packet is seen by the hooks twice, as the VRF's and as its port's.

use knet_snapshot::id::IfIndex;
use knet_snapshot::link::{Link, LinkKind};

use super::ipvs::Passed;
use super::walker::{Ended, Next, Walker};
use crate::skb::{Ct, Skb};
use crate::stage::routing::{self, SenderFlags};
use crate::table::fib::Query;
use crate::table::source::vrf_of;
use crate::trace::{Answer, Hook, NsId, Outcome, Reason};

/// `vrf_nf_reset_ct`
fn forget_untracked(skb: &mut Skb) {
    if skb.ct == Ct::Untracked {
        skb.ct = Ct::None;
    }
}

impl Walker<'_, '_> {
    pub(super) fn is_vrf(&self, ns: NsId, dev: IfIndex) -> bool {
        self.link(ns, dev)
            .is_some_and(|link| matches!(link.kind, LinkKind::Vrf { .. }))
    }

    /// The VRF of which this device is a port.
    pub(super) fn vrf_above(&self, ns: NsId, port: IfIndex) -> Option<IfIndex> {
        vrf_of(self.space(ns).links(), port).filter(|&vrf| vrf != port)
    }

    /// `vrf_l3_rcv`: from here on the packet came in by the VRF, and PREROUTING sees it again.
    pub(super) fn vrf_receive(&mut self, ns: NsId, vrf: IfIndex, mut skb: Skb) -> Result<Skb, Box<Ended>> {
        skb.vrf_port = skb.iif.replace(vrf);
        if skb.packet.dst.is_multicast() {
            return Ok(skb);
        }
        self.hook(ns, Hook::Prerouting, skb)
    }

    /// `inet_sdif`: the second device a socket may be bound to, for what came in through a VRF. What a VRF sends to
    /// itself has the device of the address.
    pub(super) fn second_device(&self, ns: NsId, skb: &Skb) -> Option<IfIndex> {
        let to_itself = || {
            let vrf = skb.iif.filter(|&dev| self.is_vrf(ns, dev))?;
            self.space(ns).links().owner(skb.packet.dst).or(Some(vrf))
        };
        skb.vrf_port.or_else(to_itself)
    }

    /// The device by which the kernel itself answers a packet, for the sake of its VRF.
    pub(super) fn answers_by(&self, ns: NsId, skb: &Skb, answer: Answer) -> Option<IfIndex> {
        let links = self.space(ns).links();
        let dev = match answer {
            // nf_send_reset goes by the packet's route.
            Answer::Reset => skb.oif.or(skb.iif)?,
            // icmp_get_route_lookup_dev, tcp_v4_send_reset
            _ => skb.iif.or(skb.oif)?,
        };
        let vrf = vrf_of(links, dev)?;
        // icmp6_iif: an echo is answered by the device that has the address.
        if answer == Answer::Data && skb.packet.dst.is_ipv6() {
            return links.owner(skb.packet.dst).or(Some(vrf));
        }
        Some(vrf)
    }

    /// `vrf_ip_out`: before a packet that is made here leaves by a port, OUTPUT and POSTROUTING see it leave by the
    /// VRF, unknown to conntrack.
    pub(super) fn vrf_output(&mut self, ns: NsId, mut skb: Skb) -> Result<Skb, Box<Ended>> {
        let Some(vrf) = skb.oif.and_then(|dev| self.vrf_above(ns, dev)) else {
            return Ok(skb);
        };
        let lone =
            skb.packet.dst.is_multicast() || skb.packet.dst == std::net::IpAddr::V4(std::net::Ipv4Addr::BROADCAST);
        if lone {
            return Ok(skb);
        }
        if skb.ct == Ct::None {
            skb.ct = Ct::Untracked;
        }
        let port = skb.oif.replace(vrf);
        let mut skb = match self.run_hook(ns, Hook::Output, skb)? {
            Passed::On(skb) => skb,
            // IPVS wants a connection of conntrack, or none; what it makes of an untracked one is not followed.
            Passed::Taken(skb) => return Err(self.ended(ns, skb, Outcome::Unknown, Reason::NotModelled)),
        };
        // Routed again, it has another way out, which the second round uses.
        let way = skb.oif.filter(|&dev| dev != vrf).or(port);
        skb.oif = Some(vrf);
        let mut skb = self.hook(ns, Hook::Postrouting, skb)?;
        skb.oif = way;
        forget_untracked(&mut skb);
        Ok(skb)
    }

    /// `vrf_xmit`: the packet is routed again, in the table of the VRF, and leaves as if it had been made here.
    pub(super) fn vrf_transmit(&mut self, ns: NsId, link: &Link, mut skb: Skb) -> Next {
        let packet = &skb.packet;
        let v6 = packet.dst.is_ipv6();
        let query = Query {
            src: Some(packet.src),
            l3: Some(link.index),
            // vrf_process_v4_outbound knows neither mark nor ports.
            mark: if v6 { skb.mark } else { 0 },
            tos: packet.tos,
            proto: packet.proto,
            ..Query::to(packet.dst)
        };
        let flags = SenderFlags {
            any_src: true,
            socket: false,
        };
        let output = routing::output(self.space(ns), &query, flags, &mut self.oracle, &mut self.sink);
        self.take_route(ns, &mut skb, output).map_err(|mut ended| {
            ended.errno = None;
            ended
        })?;
        if skb.oif == Some(link.index) {
            return Ok(self.loopback(ns, link.index, skb));
        }
        forget_untracked(&mut skb);
        skb = match self.run_hook(ns, Hook::Output, skb)? {
            Passed::On(skb) => skb,
            Passed::Taken(skb) => return self.ipvs_send(ns, skb),
        };
        skb = self.hook(ns, Hook::Postrouting, skb)?;
        self.finish_output(ns, skb)
    }
}

#[cfg(test)]
mod tests;
