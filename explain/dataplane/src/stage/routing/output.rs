//! `ip_route_output_key` and `ip6_route_output`: where a packet made here goes, and from which address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use knet_snapshot::id::{Family, IfIndex};
use knet_snapshot::link::{Link, LinkKind};
use knet_snapshot::route::RouteKind;

use super::{Cx, Egress, Errno, Refusal, Verdict, egress, verdict};
use crate::choice::{Oracle, Unknown};
use crate::packet::L4;
use crate::skb::Skb;
use crate::table::fib::{Hit, Lookup, Query};
use crate::table::source::{SCOPE_HOST, SCOPE_LINK, SCOPE_UNIVERSE, inet_select_addr, ipv6_dev_get_saddr};
use crate::table::source::{is_loopback4, scope6, vrf_of};
use crate::trace::{Assumption, Evidence, Reason, Sink, Step, What};
use crate::world::Netns;

const LO: IfIndex = IfIndex(1);

/// What becomes of a packet made here.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// It goes out; `kind` `Local`: over `lo`, back into this namespace.
    Routed(Egress, Vec<Assumption>),
    /// The system call fails.
    Refused(Refusal, Vec<Assumption>),
    /// Cannot tell; the word names what is missing.
    Unknown(&'static str),
}

/// What a sender may do that others may not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SenderFlags {
    /// `FLOWI_FLAG_ANYSRC`: the source need not be an address of this namespace (transparent sockets,
    /// `ip_nonlocal_bind`, packets routed again).
    pub any_src: bool,
    /// A program's socket: IPv6 refuses a link-local destination without a device.
    pub socket: bool,
}

/// Routes a packet made here. `query.src` unset: the kernel chooses.
pub fn output(ns: &Netns<'_>, query: &Query, flags: SenderFlags, oracle: &mut Oracle, sink: &mut Sink) -> Output {
    let mut cx = Cx::new(ns, oracle, sink);
    let result = match query.dst {
        IpAddr::V4(dst) => cx.output4(query, dst, flags),
        IpAddr::V6(dst) => cx.output6(query, dst, flags),
    };
    match result {
        Ok(egress) => Output::Routed(egress, cx.assumed),
        Err(Failed::Refused(refusal)) => Output::Refused(refusal, cx.assumed),
        Err(Failed::Unknown(what)) => Output::Unknown(what),
    }
}

/// `ip_route_me_harder`, `ip6_route_me_harder`: a mark, address or TOS changed on the way out. IPv4 then
/// knows no uid, and protocol and ports only as `fib4_rules_early_flow_dissect` reads them. A source that is no
/// unicast address is left out of the lookup. `skb.oif` is the device of the first route.
pub fn reroute(ns: &Netns<'_>, skb: &Skb, bound: Option<IfIndex>, oracle: &mut Oracle, sink: &mut Sink) -> Output {
    sink.step(|| Step {
        what: What::Reroute,
        evidence: Vec::new(),
    });
    let p = &skb.packet;
    let mut query = Query {
        oif: bound,
        l3: skb.oif.and_then(|dev| vrf_of(ns.links(), dev)),
        bound: bound.is_some(),
        mark: skb.mark,
        tos: p.tos,
        ..Query::to(p.dst)
    };
    match p.src {
        IpAddr::V4(_) => {
            match ns.fib().addr_type_in(p.src, skb.oif) {
                None => return Output::Unknown("routes"),
                Some(RouteKind::Local | RouteKind::Unicast) => query.src = Some(p.src),
                Some(_) => {}
            }
            if ns.fib().dissects(Family::V4) {
                query.proto = p.proto;
                if !matches!(p.l4, L4::Icmp { .. }) {
                    query.sport = p.sport().map(|p| p.value);
                    query.dport = p.dport().map(|p| p.value);
                }
            }
        }
        IpAddr::V6(_) => {
            let narrow = matches!(p.dst, IpAddr::V6(d) if d.is_multicast() || is_link_local(d));
            query.src = Some(p.src);
            query.oif = bound.or(if narrow { skb.oif } else { None });
            query.uid = skb.caller().map_or(Some(0), |s| if s.socket { s.uid } else { Some(0) });
            query.proto = p.proto;
            query.sport = p.sport().map(|p| p.value);
            query.dport = p.dport().map(|p| p.value);
        }
    }
    output(
        ns,
        &query,
        SenderFlags {
            any_src: true,
            socket: false,
        },
        oracle,
        sink,
    )
}

enum Failed {
    Refused(Refusal),
    Unknown(&'static str),
}

fn refuse<T>(errno: Errno, reason: Reason) -> Result<T, Failed> {
    Err(Failed::Refused(Refusal::new(errno, reason, None, Vec::new())))
}

/// `__mkroute_output` goes by the destination before it goes by the route.
fn kind_of(dst: Ipv4Addr, otherwise: RouteKind) -> RouteKind {
    if dst.is_broadcast() {
        RouteKind::Broadcast
    } else if dst.is_multicast() {
        RouteKind::Multicast
    } else {
        otherwise
    }
}

fn is_link_local(a: Ipv6Addr) -> bool {
    scope6(a) == 2 && !a.is_loopback() && !a.is_multicast()
}

impl Cx<'_, '_> {
    /// `ip_route_output_key_hash_rcu`, in its order: the source, the device, an unset destination, the
    /// route, the next hop, the source again.
    fn output4(&mut self, q: &Query, dst: Ipv4Addr, flags: SenderFlags) -> Result<Egress, Failed> {
        let group = dst.is_multicast() || dst.is_broadcast();
        let mut q = *q;
        if q.src == Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)) {
            q.src = None;
        }
        if let Some(IpAddr::V4(src)) = q.src {
            if src.is_multicast() || src.is_broadcast() || src.is_unspecified() {
                return refuse(Errno::Invalid, Reason::NoSource);
            }
            let find = q.oif.is_none() && group;
            if find || !flags.any_src {
                match self.ns.fib().device_of(IpAddr::V4(src)) {
                    Some(Some(dev)) if find => return self.direct4(dev, q.src, dst),
                    Some(Some(_)) => {}
                    Some(None) => return refuse(Errno::NetUnreachable, Reason::NoSource),
                    None => return Err(Failed::Unknown("local addresses")),
                }
            }
        }
        if let Some(oif) = q.oif {
            let link = self.device(oif)?;
            if !link.flags.up {
                return refuse(Errno::NetUnreachable, Reason::LinkDown);
            }
            let local_group = u32::from(dst) >> 8 == 0xe0_0000;
            if local_group || dst.is_broadcast() || q.proto == crate::packet::proto::IGMP {
                let src = self.select4(q.src, Some(oif), SCOPE_LINK)?;
                return self.direct4(oif, src, dst);
            }
            if dst.is_multicast() {
                q.src = self.select4(q.src, Some(oif), SCOPE_UNIVERSE)?;
            } else if dst.is_unspecified() {
                q.src = self.select4(q.src, Some(oif), SCOPE_HOST)?;
            }
        }
        if dst.is_unspecified() {
            let me = q.src.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
            return Ok(local(me, Some(me), Vec::new()));
        }
        let lookup = self.ns.fib().lookup(&q, self.oracle);
        match verdict(&lookup) {
            Verdict::Hit(hit) if hit.kind == RouteKind::Local => {
                let src = q.src.or(hit.route.prefsrc).unwrap_or(q.dst);
                self.record(&lookup, Some(src));
                Ok(Egress {
                    kind: kind_of(dst, RouteKind::Local),
                    oif: self.loopback_of(&hit),
                    ..local(q.dst, Some(src), lookup.evidence)
                })
            }
            Verdict::Hit(hit) => self.route4(&q, dst, &hit, &lookup),
            Verdict::Unknown(what) => {
                self.record(&lookup, None);
                Err(Failed::Unknown(what))
            }
            Verdict::Refused(errno, reason) => {
                self.record(&lookup, None);
                match q.oif {
                    // "Apparently, routing tables are wrong": with a device given, any failure means on link.
                    Some(oif) if dst.is_multicast() || self.vrf_of(Some(oif)).is_none() => {
                        let src = self.select4(q.src, Some(oif), SCOPE_LINK)?;
                        self.direct4(oif, src, dst)
                    }
                    _ => Err(Failed::Refused(Refusal::new(errno, reason, None, lookup.evidence))),
                }
            }
        }
    }

    /// `fib_result_prefsrc`, then `__mkroute_output`.
    fn route4(&mut self, q: &Query, dst: Ipv4Addr, hit: &Hit<'_>, lookup: &Lookup<'_>) -> Result<Egress, Failed> {
        let gateway = hit.nexthop.and_then(|n| n.gateway);
        let src = match q.src.or(hit.route.prefsrc) {
            Some(src) => Some(src),
            None if !self.ns.links().addresses_known => return Err(Failed::Unknown("addr.json")),
            None => inet_select_addr(self.ns.links(), &self.ns.sysctl(), hit.oif, gateway, hit.route.scope),
        };
        self.record(lookup, src);
        let Some(mut out) = egress(hit, q.dst, src, &lookup.evidence) else {
            return Err(Failed::Unknown("link.json"));
        };
        self.refuse_loopback_source(out.oif, src)?;
        // Everybody on the link: no gateway, whatever the route says.
        if dst.is_broadcast() {
            out.kind = RouteKind::Broadcast;
            out.nexthop = q.dst;
            out.gateway = false;
        }
        // A group is sent to on the link too, when all there is is the default route.
        if dst.is_multicast() {
            out.kind = RouteKind::Multicast;
            if hit.route.dst.prefix_len() < 4 {
                out.nexthop = q.dst;
                out.gateway = false;
            }
        }
        Ok(out)
    }

    /// A way out by a device without asking any table.
    fn direct4(&mut self, oif: IfIndex, src: Option<IpAddr>, dst: Ipv4Addr) -> Result<Egress, Failed> {
        self.refuse_loopback_source(oif, src)?;
        if dst.is_unspecified() {
            return refuse(Errno::Invalid, Reason::NoSource);
        }
        let kind = kind_of(dst, RouteKind::Unicast);
        Ok(Egress {
            kind,
            oif,
            ..local(IpAddr::V4(dst), src, Vec::new())
        })
    }

    /// 127/8 does not leave by a device without `route_localnet`.
    fn refuse_loopback_source(&mut self, oif: IfIndex, src: Option<IpAddr>) -> Result<(), Failed> {
        let Some(IpAddr::V4(src)) = src else { return Ok(()) };
        let link = self.device(oif)?;
        if !is_loopback4(src) || link.flags.loopback || matches!(link.kind, LinkKind::Vrf { .. }) {
            return Ok(());
        }
        let value = self.ns.sysctl().conf4_or(&link.name, "route_localnet").map(i64::from);
        let key = format!("net.ipv4.conf.{}.route_localnet", link.name);
        if self.ask_sysctl(&key, value, &[0, 1]) == 0 {
            let rows = self.ns.sysctl().evidence(&key);
            Err(Failed::Refused(Refusal::new(
                Errno::Invalid,
                Reason::Martian,
                None,
                rows,
            )))
        } else {
            Ok(())
        }
    }

    fn select4(&self, given: Option<IpAddr>, dev: Option<IfIndex>, scope: u8) -> Result<Option<IpAddr>, Failed> {
        if given.is_some() {
            return Ok(given);
        }
        if !self.ns.links().addresses_known {
            return Err(Failed::Unknown("addr.json"));
        }
        Ok(inet_select_addr(self.ns.links(), &self.ns.sysctl(), dev, None, scope))
    }

    fn device(&self, oif: IfIndex) -> Result<&Link, Failed> {
        match self.ns.links().get(oif) {
            Some(link) => Ok(link),
            None if self.ns.links().known => refuse(Errno::NoDevice, Reason::LinkDown),
            None => Err(Failed::Unknown("link.json")),
        }
    }

    /// The VRF of the address is its loopback.
    fn loopback_of(&self, hit: &Hit<'_>) -> IfIndex {
        self.vrf_of(hit.oif).unwrap_or(LO)
    }

    /// `ip6_dst_lookup_tail`: a route without a source, the source for it, and when there was no route
    /// another try with the source that was chosen.
    fn output6(&mut self, q: &Query, dst: Ipv6Addr, flags: SenderFlags) -> Result<Egress, Failed> {
        let mut q = *q;
        if q.src == Some(IpAddr::V6(Ipv6Addr::UNSPECIFIED)) {
            q.src = None;
        }
        if dst.is_unspecified() && flags.socket {
            q.dst = IpAddr::V6(Ipv6Addr::LOCALHOST);
        }
        if flags.socket && is_link_local(dst) && q.oif.is_none() {
            return refuse(Errno::Invalid, Reason::NoSource);
        }
        if let Some(oif) = q.oif {
            self.device(oif)?;
        }
        let mut lookup = self.ns.fib().lookup(&q, self.oracle);
        if q.src.is_none() {
            if !self.ns.links().addresses_known {
                return Err(Failed::Unknown("addr.json"));
            }
            let found = verdict(&lookup);
            q.src = match &found {
                Verdict::Hit(hit) => hit.route.prefsrc.or_else(|| self.select6(hit, q.dst)),
                _ => ipv6_dev_get_saddr(self.ns.links(), &self.ns.sysctl(), None, q.dst),
            };
            if let (Verdict::Refused(_, reason), src) = (found, q.src) {
                // Without any address that is the error, whatever the route says (`ip6_route_get_saddr`).
                if src.is_none() {
                    self.record(&lookup, None);
                    let refusal = Refusal::new(Errno::AddressNotAvailable, reason, None, lookup.evidence);
                    return Err(Failed::Refused(refusal));
                }
                // Source-specific routes are found only now.
                q.bound |= q.oif.is_some();
                lookup = self.ns.fib().lookup(&q, self.oracle);
            }
        }
        self.record(&lookup, q.src);
        match verdict(&lookup) {
            Verdict::Hit(hit) => self.route6(&q, &hit, &lookup),
            Verdict::Unknown(what) => Err(Failed::Unknown(what)),
            Verdict::Refused(errno, reason) => Err(Failed::Refused(Refusal::new(errno, reason, None, lookup.evidence))),
        }
    }

    /// `ip6_route_get_saddr`
    fn select6(&mut self, hit: &Hit<'_>, dst: IpAddr) -> Option<IpAddr> {
        let select = |dev| ipv6_dev_get_saddr(self.ns.links(), &self.ns.sysctl(), dev, dst);
        let mut sources: Vec<Option<IpAddr>> = Vec::new();
        for dev in self.ns.fib().source_devices6(hit) {
            let src = select(dev);
            if !sources.contains(&src) {
                sources.push(src);
            }
        }
        let key = format!("source through nexthop object to {dst}");
        let what = Unknown::Outside("which route used the shared nexthop object first");
        let i = self.oracle.unknown(key, what, sources.len());
        sources.get(i).copied().flatten()
    }

    fn route6(&self, q: &Query, hit: &Hit<'_>, lookup: &Lookup<'_>) -> Result<Egress, Failed> {
        if q.src.is_none() {
            return refuse(Errno::AddressNotAvailable, Reason::NoSource);
        }
        if matches!(hit.kind, RouteKind::Local | RouteKind::Anycast) {
            let kind = hit.kind;
            return Ok(Egress {
                kind,
                oif: self.loopback_of(hit),
                ..local(q.dst, q.src, lookup.evidence.clone())
            });
        }
        egress(hit, q.dst, q.src, &lookup.evidence).ok_or(Failed::Unknown("link.json"))
    }
}

fn local(dst: IpAddr, src: Option<IpAddr>, evidence: Vec<Evidence>) -> Egress {
    Egress {
        kind: RouteKind::Local,
        oif: LO,
        nexthop: dst,
        gateway: false,
        src,
        dst,
        mtu: None,
        encap: None,
        evidence,
    }
}
