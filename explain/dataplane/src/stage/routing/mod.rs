//! Routing decisions: `ip_route_input`, `ip_route_output`, source selection, reverse path filter.
//!
//! A packet that a namespace sends to itself over `lo` keeps the route it was sent with and is not routed
//! again when `lo` delivers it: the walk asks [`output`] once and [`input`] only for other devices.

mod input;
mod output;
mod source;

use std::net::IpAddr;
use std::sync::Arc;

use knet_snapshot::id::{Family, IfIndex};
use knet_snapshot::route::{Encap, RouteKind};

use crate::choice::{Oracle, Unknown};
use crate::table::fib::{Answer, Hit, Lookup};
use crate::table::source::vrf_of;
use crate::trace::{Assumption, Evidence, Outcome, Reason, Reject, Sink, Step, What};
use crate::world::Netns;

pub use input::{Input, InputTo, input, receive};
pub use output::{Output, SenderFlags, output, reroute};

/// Where a routed packet goes.
#[derive(Clone, Debug, PartialEq)]
pub struct Egress {
    /// `Unicast`, `Local` (over `lo`), `Broadcast`, `Multicast` or `Anycast`.
    pub kind: RouteKind,
    /// Device it leaves by.
    pub oif: IfIndex,
    /// Address to resolve on that device: the gateway (maybe of the other family), or the destination.
    pub nexthop: IpAddr,
    /// There is a gateway.
    pub gateway: bool,
    /// Source the packet has, or that the kernel chose for it.
    pub src: Option<IpAddr>,
    /// Destination: a local sender's unspecified address became the loopback address.
    pub dst: IpAddr,
    /// `mtu` of the route, when it has one.
    pub mtu: Option<u32>,
    /// Lightweight tunnel of the next hop.
    pub encap: Option<Encap>,
    /// The rows that decided.
    pub evidence: Vec<Evidence>,
}

/// Why there is no route for a packet, as its sender gets to know it.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// What a local sender's system call returns.
    pub errno: Errno,
    /// How the packet ends.
    pub outcome: Outcome,
    /// Why.
    pub reason: Reason,
    /// ICMP error to the sender of a packet that came in; `None` = silence.
    pub icmp: Option<Reject>,
    /// The rows that decided.
    pub evidence: Vec<Evidence>,
}

/// Errors of a route lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Errno {
    /// `ENETUNREACH`
    NetUnreachable,
    /// `EHOSTUNREACH`
    HostUnreachable,
    /// `EACCES`
    Access,
    /// `EINVAL`
    Invalid,
    /// `ENODEV`
    NoDevice,
    /// `EADDRNOTAVAIL`
    AddressNotAvailable,
}

/// A namespace with what a decision needs to ask and to tell.
struct Cx<'a, 's> {
    ns: &'a Netns<'s>,
    oracle: &'a mut Oracle,
    sink: &'a mut Sink,
    assumed: Vec<Assumption>,
}

impl<'a, 's> Cx<'a, 's> {
    const fn new(ns: &'a Netns<'s>, oracle: &'a mut Oracle, sink: &'a mut Sink) -> Self {
        Self {
            ns,
            oracle,
            sink,
            assumed: Vec::new(),
        }
    }

    /// Tells what a lookup found, and keeps what it assumed.
    fn record(&mut self, lookup: &Lookup<'_>, prefsrc: Option<IpAddr>) {
        for a in &lookup.assumed {
            self.assume(a.clone());
        }
        let (rule, route) = match (&lookup.answer, lookup.evidence.as_slice()) {
            (Answer::Route(_), [rule, route, ..]) => (Some(rule), Some(route)),
            (Answer::Route(_), [route]) => (None, Some(route)),
            (_, [rule, ..]) => (Some(rule), None),
            (_, []) => (None, None),
        };
        if let Some(rule) = rule {
            let what = What::RouteRule { table: lookup.table };
            self.sink.step(|| Step {
                what,
                evidence: vec![rule.clone()],
            });
        }
        match &lookup.answer {
            Answer::Route(hit) => {
                let what = What::Route {
                    kind: hit.kind,
                    via: hit.nexthop.and_then(|n| n.gateway),
                    oif: hit.oif,
                    prefsrc: prefsrc.or(hit.route.prefsrc),
                };
                self.sink.step(|| Step {
                    what,
                    evidence: route.cloned().into_iter().collect(),
                });
            }
            Answer::None => self.sink.step(|| Step {
                what: What::NoRoute,
                evidence: Vec::new(),
            }),
            Answer::Unknown(what) => {
                let what = What::NotCaptured(Arc::from(*what));
                self.sink.step(|| Step {
                    what,
                    evidence: Vec::new(),
                });
            }
            Answer::Rule(_) => {}
        }
    }

    fn assume(&mut self, what: Assumption) {
        if !self.assumed.contains(&what) {
            self.assumed.push(what);
        }
    }

    /// Tells that a sysctl decided.
    fn sysctl(&mut self, key: &str, value: Option<i64>) {
        let ns = self.ns;
        self.sink.step(|| Step {
            what: What::Sysctl {
                key: Arc::from(key),
                value,
            },
            evidence: ns.sysctl().evidence(key),
        });
    }

    /// The value of a sysctl that decides. One that was not captured is a fork over `options`.
    fn ask_sysctl(&mut self, key: &str, value: Option<i64>, options: &[i64]) -> i64 {
        let decided = value.unwrap_or_else(|| {
            let key: Arc<str> = Arc::from(key);
            let i = self.oracle.unknown(&*key, Unknown::Sysctl(key.clone()), options.len());
            options.get(i).copied().unwrap_or(0)
        });
        self.sysctl(key, value);
        decided
    }

    /// A sysctl with a default that is assumed and said so.
    fn sysctl_or_default(&mut self, key: &str, value: Option<i64>, default: i64) -> i64 {
        if value.is_none() {
            self.assume(Assumption::SysctlDefault(Arc::from(key), default));
            self.sysctl(key, None);
        }
        value.unwrap_or(default)
    }

    /// `IN_DEV_ORCONF` of a device, 0 by default.
    fn dev_or(&mut self, dev: &str, key: &str) -> bool {
        let value = self.ns.sysctl().conf4_or(dev, key).map(i64::from);
        self.sysctl_or_default(&format!("net.ipv4.conf.{dev}.{key}"), value, 0) != 0
    }

    /// The VRF a device is, or is in.
    fn vrf_of(&self, dev: Option<IfIndex>) -> Option<IfIndex> {
        vrf_of(self.ns.links(), dev?)
    }

    fn name(&self, dev: Option<IfIndex>) -> &'s str {
        dev.map_or("?", |d| self.ns.links().name(d))
    }
}

/// What a lookup means for the one who asked.
enum Verdict<'s> {
    Hit(Hit<'s>),
    Refused(Errno, Reason),
    Unknown(&'static str),
}

/// `fib_props`, and the same for rules: an `unreachable` rule says `ENETUNREACH` where a route of that type
/// says `EHOSTUNREACH`.
fn verdict<'s>(lookup: &Lookup<'s>) -> Verdict<'s> {
    match &lookup.answer {
        Answer::Route(hit) => match hit.kind {
            RouteKind::Blackhole => Verdict::Refused(Errno::Invalid, Reason::BlackholeRoute),
            RouteKind::Unreachable => Verdict::Refused(Errno::HostUnreachable, Reason::UnreachableRoute),
            RouteKind::Prohibit => Verdict::Refused(Errno::Access, Reason::ProhibitRoute),
            RouteKind::Other(_) => Verdict::Unknown("route type"),
            _ => Verdict::Hit(hit.clone()),
        },
        Answer::Rule(RouteKind::Unreachable) => Verdict::Refused(Errno::NetUnreachable, Reason::UnreachableRoute),
        Answer::Rule(RouteKind::Prohibit) => Verdict::Refused(Errno::Access, Reason::ProhibitRoute),
        Answer::Rule(_) => Verdict::Refused(Errno::Invalid, Reason::BlackholeRoute),
        Answer::None => Verdict::Refused(Errno::NetUnreachable, Reason::NoRoute),
        Answer::Unknown(what) => Verdict::Unknown(what),
    }
}

impl Refusal {
    fn new(errno: Errno, reason: Reason, icmp: Option<Reject>, evidence: Vec<Evidence>) -> Self {
        let outcome = match (reason, icmp) {
            (Reason::NoRoute | Reason::NoSource, _) => Outcome::NoRoute,
            (Reason::BlackholeRoute, _) => Outcome::Blackholed,
            // A local sender is told by the error of its system call.
            (Reason::UnreachableRoute | Reason::ProhibitRoute, _) | (_, Some(_)) => Outcome::Rejected,
            _ => Outcome::Dropped,
        };
        Self {
            errno,
            outcome,
            reason,
            icmp,
            evidence,
        }
    }

    fn silent(reason: Reason, evidence: Vec<Evidence>) -> Self {
        let errno = if reason == Reason::ForwardingOff {
            Errno::HostUnreachable
        } else {
            Errno::Invalid
        };
        let mut this = Self::new(errno, reason, None, evidence);
        if reason != Reason::BlackholeRoute {
            this.outcome = Outcome::Dropped;
        }
        this
    }
}

/// A hit as the way out.
fn egress(hit: &Hit<'_>, dst: IpAddr, src: Option<IpAddr>, evidence: &[Evidence]) -> Option<Egress> {
    let gateway = hit.nexthop.and_then(|n| n.gateway);
    Some(Egress {
        kind: hit.kind,
        oif: hit.oif?,
        nexthop: gateway.unwrap_or(dst),
        gateway: gateway.is_some(),
        src,
        dst,
        mtu: hit.route.mtu,
        encap: hit.nexthop.and_then(|n| n.encap.clone()),
        evidence: evidence.to_vec(),
    })
}

/// The error a router answers with (`ip_error`; `ip6_pkt_discard`, `ip6_pkt_prohibit`).
const fn icmp_for(family: Family, errno: Errno) -> Option<Reject> {
    match (family, errno) {
        (Family::V4, Errno::HostUnreachable) => Some(Reject::IcmpHostUnreachable),
        (Family::V4, Errno::NetUnreachable) => Some(Reject::IcmpNetUnreachable),
        (Family::V4, Errno::Access) => Some(Reject::IcmpAdminProhibited),
        (Family::V6, Errno::HostUnreachable | Errno::NetUnreachable) => Some(Reject::Icmp6NoRoute),
        (Family::V6, Errno::Access) => Some(Reject::Icmp6AdmProhibited),
        _ => None,
    }
}
