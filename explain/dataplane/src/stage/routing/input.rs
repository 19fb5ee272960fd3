//! `ip_route_input_slow` and `ip6_route_input`: where a packet that came in goes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use knet_snapshot::id::{Family, IfIndex};
use knet_snapshot::route::RouteKind;

use super::source::Invalid;
use super::{Cx, Egress, Refusal, Verdict, egress, icmp_for, verdict};
use crate::choice::Oracle;
use crate::packet::{Packet, proto};
use crate::skb::Skb;
use crate::table::fib::{Lookup, Query};
use crate::table::source::{is_loopback4, scope6};
use crate::trace::{Assumption, Evidence, Reason, Reject, Sink};
use crate::world::Netns;

/// What becomes of a packet that came in.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// Where it goes.
    pub to: InputTo,
    /// What was taken for granted.
    pub assumed: Vec<Assumption>,
}

/// Where a packet that came in goes.
#[derive(Clone, Debug, PartialEq)]
pub enum InputTo {
    /// To this namespace. The rows say why.
    Local(Vec<Evidence>),
    /// To this namespace, as a broadcast.
    Broadcast,
    /// To a group: whether anybody here joined it is not in the snapshot.
    Multicast,
    /// Onward. The walk still checks the TTL; for IPv6 the kernel does so before it looks at the source, which
    /// is already done here.
    Forward(Egress),
    /// Ends here.
    Refused(Refusal),
    /// Cannot tell; the word names what is missing.
    Unknown(&'static str),
}

/// `ip6_rcv_core`: addresses that no IPv6 packet from a wire may have. To be asked before PREROUTING, which
/// may change the destination; IPv4 has no such check.
#[must_use]
pub fn receive(ns: &Netns<'_>, skb: &Skb) -> Option<Reason> {
    let (IpAddr::V6(src), IpAddr::V6(dst)) = (skb.packet.src, skb.packet.dst) else {
        return None;
    };
    let own = skb
        .iif
        .and_then(|i| ns.links().get(i))
        .is_some_and(|l| l.flags.loopback);
    let group_scope = dst.is_multicast().then(|| scope6(dst));
    let martian = (!own && (src.is_loopback() || dst.is_loopback() || group_scope == Some(1)))
        || group_scope == Some(0)
        || src.is_multicast();
    martian.then_some(Reason::Martian)
}

/// Routes a packet that came in by `skb.iif`.
pub fn input(ns: &Netns<'_>, skb: &Skb, oracle: &mut Oracle, sink: &mut Sink) -> Input {
    let mut cx = Cx::new(ns, oracle, sink);
    let to = match (skb.packet.src, skb.packet.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => cx.input4(skb, src, dst),
        (IpAddr::V6(src), IpAddr::V6(_)) => cx.input6(skb, src),
        _ => InputTo::Unknown("address family"),
    };
    Input {
        to,
        assumed: cx.assumed,
    }
}

const FORWARDING6: &str = "net.ipv6.conf.all.forwarding";

fn forwarding4_key(dev: &str) -> String {
    format!("net.ipv4.conf.{dev}.forwarding")
}

fn query(skb: &Skb) -> Query {
    let Packet {
        src, dst, proto, tos, ..
    } = skb.packet;
    Query {
        dst,
        src: Some(src),
        iif: skb.iif,
        oif: None,
        l3: None,
        bound: false,
        mark: skb.mark,
        tos,
        proto,
        sport: skb.packet.sport().map(|p| p.value),
        dport: skb.packet.dport().map(|p| p.value),
        uid: Some(0),
    }
}

fn martian() -> InputTo {
    InputTo::Refused(Refusal::silent(Reason::Martian, Vec::new()))
}

/// Dropped because of a sysctl: its rows say why, and the route's only where it was not captured.
fn off(reason: Reason, rows: Vec<Evidence>, route: &[Evidence]) -> InputTo {
    let rows = if rows.is_empty() { route.to_vec() } else { rows };
    InputTo::Refused(Refusal::silent(reason, rows))
}

impl From<Invalid> for InputTo {
    fn from(why: Invalid) -> Self {
        match why {
            Invalid::Refused(reason, evidence) => Self::Refused(Refusal::silent(reason, evidence)),
            Invalid::Unknown(what) => Self::Unknown(what),
        }
    }
}

impl Cx<'_, '_> {
    /// Ordered filters of `ip_route_input_slow`: martian addresses; the route; its type; forwarding; the
    /// source.
    fn input4(&mut self, skb: &Skb, src: Ipv4Addr, dst: Ipv4Addr) -> InputTo {
        let dev = self.name(skb.iif);
        if dst.is_multicast() {
            return self.input_group4(skb, src, dst);
        }
        if src.is_multicast() || src.is_broadcast() {
            return martian();
        }
        if dst.is_broadcast() || (src.is_unspecified() && dst.is_unspecified()) {
            return self.broadcast4(skb, src);
        }
        // `ipv4_is_zeronet`: since Linux 5.3 that is one address, and the rest of 0/8 is like any other.
        if src.is_unspecified() || dst.is_unspecified() {
            return martian();
        }
        if (is_loopback4(dst) || is_loopback4(src)) && !self.route_localnet(dev) {
            let key = format!("net.ipv4.conf.{dev}.route_localnet");
            return off(Reason::Martian, self.ns.sysctl().evidence(&key), &[]);
        }
        let lookup = self.ns.fib().lookup(&query(skb), self.oracle);
        self.record(&lookup, None);
        let hit = match verdict(&lookup) {
            Verdict::Hit(hit) => hit,
            Verdict::Unknown(what) => return InputTo::Unknown(what),
            Verdict::Refused(errno, reason) => {
                // A host that is no router says nothing, whatever the route.
                if !self.forwarding4(dev) {
                    return self.forwarding_off(&forwarding4_key(dev), &lookup);
                }
                let icmp = icmp_for(Family::V4, errno);
                return InputTo::Refused(Refusal::new(errno, reason, icmp, lookup.evidence));
            }
        };
        match hit.kind {
            RouteKind::Broadcast if !self.broadcast_forwarding(dev) => return self.broadcast4(skb, src),
            RouteKind::Broadcast => {}
            RouteKind::Local => {
                return match self.validate_source(skb, Some(skb.packet.dst), None) {
                    Ok(()) => InputTo::Local(lookup.evidence),
                    Err(why) => why.into(),
                };
            }
            _ if !self.forwarding4(dev) => return self.forwarding_off(&forwarding4_key(dev), &lookup),
            RouteKind::Unicast => {}
            _ => return martian(),
        }
        let Some(out) = egress(&hit, skb.packet.dst, Some(skb.packet.src), &lookup.evidence) else {
            return InputTo::Unknown("link.json");
        };
        match self.validate_source(skb, Some(skb.packet.dst), Some(out.oif)) {
            Ok(()) => InputTo::Forward(out),
            Err(why) => why.into(),
        }
    }

    fn broadcast4(&mut self, skb: &Skb, src: Ipv4Addr) -> InputTo {
        if src.is_unspecified() {
            return InputTo::Broadcast;
        }
        match self.validate_source(skb, None, None) {
            Ok(()) => InputTo::Broadcast,
            Err(why) => why.into(),
        }
    }

    /// `ip_mc_validate_source`
    fn input_group4(&mut self, skb: &Skb, src: Ipv4Addr, dst: Ipv4Addr) -> InputTo {
        let dev = self.name(skb.iif);
        if src.is_multicast() || src.is_broadcast() || (is_loopback4(src) && !self.route_localnet(dev)) {
            return martian();
        }
        if src.is_unspecified() {
            let local_group = u32::from(dst) >> 8 == 0xe0_0000;
            return if local_group || skb.packet.proto == proto::IGMP {
                InputTo::Multicast
            } else {
                martian()
            };
        }
        match self.validate_source(skb, None, None) {
            Ok(()) => InputTo::Multicast,
            Err(why) => why.into(),
        }
    }

    fn route_localnet(&mut self, dev: &str) -> bool {
        let value = self.ns.sysctl().conf4_or(dev, "route_localnet").map(i64::from);
        self.ask_sysctl(&format!("net.ipv4.conf.{dev}.route_localnet"), value, &[0, 1]) != 0
    }

    fn forwarding_off(&self, key: &str, lookup: &Lookup<'_>) -> InputTo {
        off(Reason::ForwardingOff, self.ns.sysctl().evidence(key), &lookup.evidence)
    }

    fn forwarding4(&mut self, dev: &str) -> bool {
        let sysctl = self.ns.sysctl();
        let key = forwarding4_key(dev);
        // Writing `ip_forward` writes every device's own value, so it stands in for one not captured.
        let value = sysctl
            .conf4(dev, "forwarding")
            .or_else(|| sysctl.get("net.ipv4.ip_forward"));
        match value {
            Some(1..) => true,
            value => self.ask_sysctl(&key, value, &[1, 0]) != 0,
        }
    }

    /// `IN_DEV_BFORWARD`: both `all` and the device.
    fn broadcast_forwarding(&self, dev: &str) -> bool {
        let sysctl = self.ns.sysctl();
        sysctl.conf4("all", "bc_forwarding") == Some(1) && sysctl.conf4(dev, "bc_forwarding") == Some(1)
    }

    /// Ordered filters of `ip6_route_input` and the part of `ip6_forward` that is about addresses: the
    /// route; its type; forwarding of the namespace (`all`, not the device); the source.
    fn input6(&mut self, skb: &Skb, src: Ipv6Addr) -> InputTo {
        let lookup = self.ns.fib().lookup(&query(skb), self.oracle);
        self.record(&lookup, None);
        let hit = match verdict(&lookup) {
            Verdict::Hit(hit) => hit,
            Verdict::Unknown(what) => return InputTo::Unknown(what),
            // Unlike IPv4 a host that does not forward answers all the same.
            Verdict::Refused(errno, reason) => {
                let icmp = icmp_for(Family::V6, errno);
                return InputTo::Refused(Refusal::new(errno, reason, icmp, lookup.evidence));
            }
        };
        if matches!(hit.kind, RouteKind::Local | RouteKind::Anycast) {
            return InputTo::Local(lookup.evidence);
        }
        if hit.route.dst.addr().is_multicast() {
            return InputTo::Multicast;
        }
        self.forward6(skb, src, &hit, &lookup)
    }

    fn forward6(&mut self, skb: &Skb, src: Ipv6Addr, hit: &crate::table::fib::Hit<'_>, lookup: &Lookup<'_>) -> InputTo {
        let evidence = || lookup.evidence.clone();
        if !self.forwarding6(skb.iif) {
            return self.forwarding_off(FORWARDING6, lookup);
        }
        let Some(out) = egress(hit, skb.packet.dst, Some(skb.packet.src), &lookup.evidence) else {
            return InputTo::Unknown("link.json");
        };
        // Out again where it came in: a redirect goes to the sender, and its address is not looked at.
        if Some(out.oif) != skb.iif {
            if src.is_unspecified() || src.is_multicast() || src.is_loopback() {
                return martian();
            }
            if scope6(src) == 2 {
                let mut refusal = Refusal::silent(Reason::Martian, evidence());
                refusal.icmp = Some(Reject::Icmp6BeyondScope);
                refusal.outcome = crate::trace::Outcome::Rejected;
                return InputTo::Refused(refusal);
            }
        }
        InputTo::Forward(out)
    }

    fn forwarding6(&mut self, iif: Option<IfIndex>) -> bool {
        let sysctl = self.ns.sysctl();
        let key = FORWARDING6;
        match sysctl.get(key) {
            Some(1..) => true,
            // Linux 6.17 lets one device forward on its own.
            _ if sysctl.conf6(self.name(iif), "force_forwarding") == Some(1) => true,
            value => self.ask_sysctl(key, value, &[1, 0]) != 0,
        }
    }
}
