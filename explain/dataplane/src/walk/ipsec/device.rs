//! xfrm devices (`net/xfrm/xfrm_interface_core.c`): policies and states of an `if_id` of their own, with a route.

use knet_snapshot::id::IfIndex;
use knet_snapshot::link::{Link, LinkKind, TunnelInfo};

use super::{Way, smark};
use crate::skb::{PktType, Skb};
use crate::stage::routing::{self, Output, SenderFlags};
use crate::table::fib::Query;
use crate::table::source::vrf_of;
use crate::trace::{Detail, Evidence, Hook, NsId, Outcome, Reason, Sink, What};
use crate::walk::neighbour::link_failure;
use crate::walk::walker::{Next, Walker};

/// The kind as `ip` prints it.
pub(in crate::walk) const KIND: &str = "xfrm";

/// `if_id` of an xfrm device.
fn id(link: &Link) -> Option<u32> {
    match &link.kind {
        LinkKind::Tunnel(kind, info) if kind == KIND => info.key,
        _ => None,
    }
}

impl Walker<'_, '_> {
    /// `xfrmi_lookup`: the device that what a state has opened comes in by.
    pub(super) fn xfrm_device(&self, ns: NsId, if_id: u32) -> Option<IfIndex> {
        let links = self.space(ns).links();
        let device = links.iter().find(|l| if_id != 0 && l.flags.up && id(l) == Some(if_id));
        device.map(|l| l.index)
    }

    /// `xfrmi_decode_session`: whose policies an opened packet must satisfy.
    pub(super) fn xfrm_id(&self, ns: NsId, skb: &Skb) -> u32 {
        let dev = skb.vrf_port.or(skb.iif);
        dev.and_then(|dev| id(self.link(ns, dev)?)).unwrap_or(0)
    }

    /// `xfrmi_xmit`: the device's own policies must want the packet sealed. It is seen by POSTROUTING again, then.
    pub(in crate::walk) fn xfrm_transmit(&mut self, ns: NsId, link: &Link, info: &TunnelInfo, skb: Skb) -> Next {
        let facts = self.space(ns).facts;
        let Some(table) = facts.xfrm().get() else {
            return Err(self.not_captured(ns, skb, knet_snapshot::artifact::name::XFRM));
        };
        // `external`: the route says which; in another namespace, that of the device's making has the policies.
        let (Some(if_id), None, false) = (info.key, &link.netnsid, info.external) else {
            self.step(What::Undecided, Some(row(self, ns, link)));
            return Err(self.ended(ns, skb, Outcome::Unknown, Reason::NotModelled));
        };
        let seal = match self.ipsec_way(ns, table, if_id, &skb)? {
            Way::Sealed(seal) => seal,
            refused => {
                let mut ended = self.ended(ns, skb, Outcome::Dropped, Reason::NoTunnelRemote);
                ended.end.evidence = match refused {
                    Way::Blocked(policy) | Way::NoState(policy) => vec![policy],
                    Way::Plain | Way::Sealed(_) => vec![row(self, ns, link)],
                };
                return Err(link_failure(ended));
            }
        };
        let below = self.world.lower(ns, link).map(|(_, dev)| dev);
        // "Local routing loop detected": without a tunnel the packet's own route leads here again.
        if !seal.state.tunnel {
            let [policy, state] = seal.rows;
            let mut ended = self.ended(ns, skb, Outcome::Dropped, Reason::NoTunnelRemote);
            ended.end.evidence = vec![policy, state];
            return Err(ended);
        }
        let query = Query {
            src: Some(seal.src),
            mark: smark(seal.state, skb.mark).unwrap_or(0),
            l3: below.and_then(|dev| vrf_of(self.space(ns).links(), dev)),
            ..Query::to(seal.dst)
        };
        let mut sink = Sink {
            detail: Detail::Outcome,
            steps: Vec::new(),
        };
        let flags = SenderFlags::default();
        let out = match routing::output(self.space(ns), &query, flags, &mut self.oracle, &mut sink) {
            Output::Routed(egress, _) => egress.oif,
            Output::Refused(refusal, _) => {
                let mut ended = self.ended(ns, skb, Outcome::Dropped, refusal.reason);
                ended.end.evidence = refusal.evidence;
                return Err(link_failure(ended));
            }
            Output::Unknown(_) => return Err(self.ended(ns, skb, Outcome::Unknown, Reason::NotCaptured)),
        };
        // xfrmi_scrub_packet, then xfrm4_output
        let skb = Skb {
            eth: None,
            pkt_type: PktType::Host,
            iif: Some(out),
            oif: Some(out),
            ..skb.scrubbed()
        };
        let skb = self.hook(ns, Hook::Postrouting, skb)?;
        Ok(self.ipsec_seal(ns, skb, seal, below))
    }
}

fn row(walker: &Walker<'_, '_>, ns: NsId, link: &Link) -> Evidence {
    Evidence {
        artifact: walker.space(ns).facts.path(knet_snapshot::artifact::name::LINK),
        at: link.at,
        handle: None,
        text: format!("{}: xfrm if_id {:#x}", link.name, id(link).unwrap_or(0)).into(),
    }
}
