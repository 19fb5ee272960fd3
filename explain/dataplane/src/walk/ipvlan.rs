//! ipvlan: devices that share the MAC of the one below and are told apart by IP address (`ipvlan_core.c`,
//! `ipvlan_l3s.c`).

use std::net::IpAddr;

use knet_snapshot::artifact::name;
use knet_snapshot::id::IfIndex;
use knet_snapshot::link::{Link, LinkKind};

use super::link::handed_on;
use super::route::Routed;
use super::walker::{At, Ended, Next, Source, Walker};
use crate::skb::{PktType, Skb};
use crate::trace::{Hook, NsId, Outcome, Reason, What};

/// The device that has an address, and its mode.
struct Owner<'s> {
    at: (NsId, IfIndex),
    mode: &'s str,
}

impl<'s> Walker<'_, 's> {
    /// `ipvlan_addr_lookup`: the device on top of a lower one that has an address. A device that is down has none.
    fn ipvlan_owner(&mut self, ns: NsId, lower: IfIndex, addr: IpAddr) -> Result<Option<Owner<'s>>, NsId> {
        for &(to, upper) in self.world.uppers(ns, lower) {
            let links = self.space(to).links();
            let Some(link) = links.get(upper).filter(|l| l.flags.up) else {
                continue;
            };
            let LinkKind::Ipvlan { mode, .. } = &link.kind else {
                continue;
            };
            if !links.addresses_known {
                return Err(to);
            }
            if links.addresses_of(upper).any(|a| a.local == addr) {
                return Ok(Some(Owner { at: (to, upper), mode }));
            }
        }
        Ok(None)
    }

    fn owner_or_end(&mut self, (ns, lower): (NsId, IfIndex), skb: Skb) -> Result<(Option<Owner<'s>>, Skb), Box<Ended>> {
        match self.ipvlan_owner(ns, lower, skb.packet.dst) {
            Ok(owner) => Ok((owner, skb)),
            Err(to) => Err(self.not_captured(to, skb, name::ADDR)),
        }
    }

    /// `ipvlan_handle_frame`: the device that has the destination takes the frame; in mode `l3s` the lower device's
    /// own network layer does so later.
    pub(super) fn ipvlan_receive(&mut self, ns: NsId, dev: IfIndex, skb: Skb) -> Result<Result<At, Skb>, Box<Ended>> {
        let (owner, skb) = self.owner_or_end((ns, dev), skb)?;
        Ok(match owner.filter(|o| o.mode != "l3s") {
            Some(Owner { at: (to, upper), .. }) => Ok(self.cross(ns, dev, to, upper, skb)),
            None => Err(skb),
        })
    }

    /// `ipvlan_queue_xmit`
    pub(super) fn ipvlan_transmit(&mut self, ns: NsId, link: &Link, mode: &str, flag: &str, skb: Skb) -> Next {
        let Some((lower_ns, lower)) = self.world.lower(ns, link) else {
            return Err(self.ended(ns, skb, Outcome::Unknown, Reason::NotCaptured));
        };
        if self.link(lower_ns, lower).is_none_or(|l| !l.flags.up) {
            return Err(self.ended(ns, skb, Outcome::Dropped, Reason::LinkDown));
        }
        let l2 = mode == "l2";
        let dst = skb.eth.and_then(|e| e.dst);
        let (owner, skb) = if flag == "vepa" || (l2 && dst != link.mac) {
            (None, skb)
        } else {
            self.owner_or_end((lower_ns, lower), skb)?
        };
        match owner {
            Some(_) if flag == "private" => Err(self.ended(ns, skb, Outcome::Dropped, Reason::Isolated)),
            Some(Owner { at: (to, upper), .. }) => Ok(self.cross(ns, link.index, to, upper, skb)),
            // For the MAC that all share: the lower device receives it.
            None if l2 && flag != "vepa" && dst == link.mac => Ok(self.cross(ns, link.index, lower_ns, lower, skb)),
            None if l2 => {
                let (to, dev) = (lower_ns, lower);
                self.step(What::Cross { to, dev }, None);
                Ok(At::Transmit { ns: to, dev, skb })
            }
            // ipvlan_process_outbound: the namespace of the lower device routes and sends it.
            None => {
                let (to, dev) = (lower_ns, lower);
                self.step(What::Cross { to, dev }, None);
                self.leave(Some(link.index), &skb.packet);
                Ok(At::Send {
                    ns: to,
                    skb: Skb {
                        eth: None,
                        ..handed_on(ns, to, skb)
                    },
                    source: Source::Any,
                })
            }
        }
    }

    /// `ipvlan_l3_rcv`, `ipvlan_nf_input`: after PREROUTING the packet is routed as the device of mode `l3s` would, runs
    /// through INPUT where it came in, and is handed to the sockets of the other namespace.
    pub(super) fn ipvlan_l3s(&mut self, ns: NsId, skb: Skb) -> Result<Result<At, Skb>, Box<Ended>> {
        let Some(dev) = skb.iif else { return Ok(Err(skb)) };
        let (owner, mut skb) = self.owner_or_end((ns, dev), skb)?;
        let Some(Owner { at: (to, upper), .. }) = owner.filter(|o| o.mode == "l3s") else {
            return Ok(Err(skb));
        };
        skb.iif = Some(upper);
        if !matches!(self.route_input(to, &mut skb)?, Routed::Local) {
            return Err(self.ended(to, skb, Outcome::Unknown, Reason::NotModelled));
        }
        skb.iif = Some(dev);
        let skb = self.hook(ns, Hook::Input, skb)?;
        self.step(What::Cross { to, dev: upper }, None);
        self.leave(Some(dev), &skb.packet);
        let skb = Skb {
            iif: Some(upper),
            pkt_type: PktType::Host,
            ..handed_on(ns, to, skb)
        };
        self.enter(to, crate::trace::Stage::Input, Some(upper), &skb.packet);
        self.deliver(to, skb).map(Ok)
    }
}
