//! ICMP errors about packets of connections: `ip_vs_in_icmp`, `ip_vs_out_icmp`. Everything else of ICMP is no matter
//! of IPVS: an echo to a virtual address is answered by whoever has the address.

use super::{Handled, Passed};
use crate::packet::{L4, Packet, proto};
use crate::skb::Skb;
use crate::stage::ipvs::{self as stage, End};
use crate::trace::{Hook, NsId, Outcome, Reason, What};
use crate::walk::walker::Walker;

/// The packet that an error is about, of the types that IPVS looks into: destination unreachable, source quench and
/// time exceeded, and every error of ICMPv6.
pub(super) fn about(packet: &Packet) -> Option<&Packet> {
    let L4::Icmp {
        ty, quoted: Some(q), ..
    } = &packet.l4
    else {
        return None;
    };
    let related = match packet.proto {
        proto::ICMP => matches!(ty, 3 | 4 | 11),
        _ => ty & 0x80 == 0,
    };
    related.then_some(q)
}

/// Protocol, and the two ends of a packet as a connection has them: client, then server or virtual address. An error
/// quotes the other direction.
pub(super) fn ends(packet: &Packet) -> Option<(u8, End, End)> {
    let (proto, from, to) = match (about(packet), &packet.l4) {
        (Some(q), _) => {
            let (from, to) = stage::ends(q)?;
            (q.proto, to, from)
        }
        (None, L4::Icmp { .. }) => return None,
        (None, _) => {
            let (from, to) = stage::ends(packet)?;
            (packet.proto, from, to)
        }
    };
    matches!(proto, proto::TCP | proto::UDP | proto::SCTP).then_some((proto, from, to))
}

impl Walker<'_, '_> {
    /// An error that somebody on the client's side reports about what came from a virtual service goes to the real
    /// server.
    pub(in crate::walk) fn ipvs_in_icmp(&mut self, ns: NsId, hook: Hook, skb: Skb) -> Handled {
        let Some(q) = about(&skb.packet) else {
            return Ok(Passed::On(skb));
        };
        if hook == Hook::Forward && self.vs(ns, "backup_only", 0) != 0 {
            return Ok(Passed::On(skb));
        }
        let tunnels = matches!(q.proto, proto::IPIP | proto::IPV6 | proto::GRE) || q.inner.is_some();
        if tunnels && self.ipvs_table(ns).is_tunnelled_to(q.dst) {
            // The client is told in the name of its own packet, perhaps after the path MTU was learned.
            self.step(What::Undecided, None);
            return Err(self.ended(ns, skb, Outcome::Unknown, Reason::NotModelled));
        }
        let Some((protocol, client, virt)) = ends(&skb.packet) else {
            return Ok(Passed::On(skb));
        };
        let found = match self.ipvs.inward(ns, protocol, client, virt).cloned() {
            Some(conn) => Some(conn),
            None => self.captured_row(ns, protocol, client, virt),
        };
        if let Some(conn) = found {
            let passes = hook == Hook::Output && client.0.is_ipv6() && !conn.translates();
            return if passes {
                Ok(Passed::On(skb))
            } else {
                self.hand_over(ns, hook, skb, &conn)
            };
        }
        let service = self.ipvs_table(ns).find(skb.mark, protocol, virt.0, virt.1.value);
        if service.is_some() && self.vs(ns, "schedule_icmp", 0) != 0 {
            self.step(What::Undecided, service.map(|s| self.ipvs_table(ns).evidence(s.row.at)));
            return Err(self.ended(ns, skb, Outcome::Unknown, Reason::NotModelled));
        }
        Ok(Passed::On(skb))
    }
}
