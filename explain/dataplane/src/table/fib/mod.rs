//! Policy-routing rules and routing tables: `fib_rules_lookup`, `fib_table_lookup`, `fib6_table_lookup`.
//!
//! `rules` walks the rules, `v4` and `v6` look up one table, `nexthop` picks among several next hops,
//! `kind` answers what kind of address one is, `text` prints rows for evidence.

mod kind;
mod lpm;
mod nexthop;
mod rules;
#[cfg(test)]
mod tests;
mod text;
mod v4;
mod v6;

use std::net::IpAddr;

use knet_snapshot::id::{Family, IfIndex, TableId};
use knet_snapshot::route::{NextHop, Route, RouteKind};
use knet_snapshot::rule::Rule;
use knet_snapshot::store::NetnsFacts;
use smallvec::SmallVec;

use crate::choice::Oracle;
use crate::table::link::Links;
use crate::table::sysctl::Sysctl;
use crate::trace::{Assumption, Evidence};

pub use nexthop::{Hop, Pick};

use nexthop::Nexthops;
use rules::Rules;

/// `struct flowi4` / `flowi6`: what a route lookup is asked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query {
    /// Destination.
    pub dst: IpAddr,
    /// Source; `None` = not chosen yet (a local sender).
    pub src: Option<IpAddr>,
    /// Input device; `None` = the packet is made here (`iif lo`).
    pub iif: Option<IfIndex>,
    /// Output device the caller insists on.
    pub oif: Option<IfIndex>,
    /// The VRF it is about, where no device says so (`flowi_l3mdev`).
    pub l3: Option<IfIndex>,
    /// A socket is bound to `oif`: IPv6 then takes only that device's routes (`RT6_LOOKUP_F_IFACE`).
    pub bound: bool,
    /// Mark.
    pub mark: u32,
    /// TOS / traffic class.
    pub tos: u8,
    /// Protocol; 0 = none in the lookup.
    pub proto: u8,
    /// Source port.
    pub sport: Option<u16>,
    /// Destination port.
    pub dport: Option<u16>,
    /// UID of the sender; `None` = not known, or 0 for a packet that came in.
    pub uid: Option<u32>,
}

impl Query {
    /// A question about a destination and nothing else, from here.
    #[must_use]
    pub const fn to(dst: IpAddr) -> Self {
        Self {
            dst,
            src: None,
            iif: None,
            oif: None,
            l3: None,
            bound: false,
            mark: 0,
            tos: 0,
            proto: 0,
            sport: None,
            dport: None,
            uid: Some(0),
        }
    }
}

/// What a lookup found.
#[derive(Clone, Debug)]
pub struct Hit<'s> {
    /// The route.
    pub route: &'s Route,
    /// Its kind as it acts: a unicast route to a `blackhole` nexthop object is a blackhole.
    pub kind: RouteKind,
    /// The next hop that was picked (multipath: by the oracle). `None` for kinds without one.
    pub nexthop: Option<&'s NextHop>,
    /// Device of the next hop, where `link.json` has it.
    pub oif: Option<IfIndex>,
    /// All its next hops.
    pub hops: SmallVec<[Hop<'s>; 1]>,
    /// How one of them is picked.
    pub pick: Pick,
}

/// Result of a lookup.
#[derive(Clone, Debug)]
pub enum Answer<'s> {
    /// A route (of any kind but throw).
    Route(Hit<'s>),
    /// A rule of type blackhole, unreachable or prohibit.
    Rule(RouteKind),
    /// Nothing matched.
    None,
    /// A table that was needed was not captured, or a rule or route could not be understood.
    Unknown(&'static str),
}

/// A lookup with the rules that led to its answer.
#[derive(Clone, Debug)]
pub struct Lookup<'s> {
    /// What was found.
    pub answer: Answer<'s>,
    /// Table it was found in.
    pub table: Option<TableId>,
    /// The policy rule that led there (or ended the lookup).
    pub rule: Option<&'s Rule>,
    /// Evidence: the rule (when it is not one of the default rules), then the route.
    pub evidence: Vec<Evidence>,
    /// What was taken for granted because it was not captured.
    pub assumed: Vec<Assumption>,
}

impl<'s> Lookup<'s> {
    fn new(answer: Answer<'s>) -> Self {
        Self {
            answer,
            table: None,
            rule: None,
            evidence: Vec::new(),
            assumed: Vec::new(),
        }
    }
}

/// How far a lookup goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Do not draw among several next hops: the first that can be used stands for all (`Hit::hops`).
    pub any_path: bool,
    /// `FIB_LOOKUP_IGNORE_LINKSTATE`
    pub ignore_linkstate: bool,
}

/// Compiled rules and tables of a namespace, both families.
#[derive(Debug)]
pub struct Fib<'s> {
    links: Links<'s>,
    sysctl: Sysctl<'s>,
    nexthops: Nexthops<'s>,
    rules: [Rules<'s>; 2],
    v4: v4::Tables<'s>,
    v6: v6::Tables<'s>,
}

impl<'s> Fib<'s> {
    /// Compiles rules and routes.
    #[must_use]
    pub fn compile(facts: &'s NetnsFacts, links: &Links<'s>) -> Self {
        Self {
            links: links.clone(),
            sysctl: Sysctl::new(facts),
            nexthops: Nexthops::compile(facts, links),
            rules: [Rules::compile(facts, Family::V4), Rules::compile(facts, Family::V6)],
            v4: v4::Tables::compile(facts),
            v6: v6::Tables::compile(facts),
        }
    }

    /// `fib_lookup`: rules by priority, tables by longest prefix, tos and metric, next hop by weight.
    pub fn lookup(&self, query: &Query, oracle: &mut Oracle) -> Lookup<'s> {
        self.lookup_to(query, Depth::default(), oracle)
    }

    /// The same, and as far as `depth` says.
    pub fn lookup_to(&self, query: &Query, depth: Depth, oracle: &mut Oracle) -> Lookup<'s> {
        let family = Family::of(query.dst);
        if self.has_custom_rules(family).is_none() && self.has_other_tables(family) {
            return Lookup::new(Answer::Unknown("rule.json"));
        }
        match family {
            Family::V4 => self.lookup4(query, depth, oracle),
            Family::V6 => self.lookup6(query, depth, oracle),
        }
    }

    /// The policy-routing rules of a family are other than the kernel's own, or were once.
    /// `None` when they were not captured.
    #[must_use]
    pub fn has_custom_rules(&self, family: Family) -> Option<bool> {
        self.rules(family).custom()
    }

    /// There are routes that only rules other than the kernel's own, or VRFs, lead to.
    fn has_other_tables(&self, family: Family) -> bool {
        let own = |id: &TableId| [TableId::LOCAL, TableId::MAIN, TableId::DEFAULT].contains(id);
        match family {
            Family::V4 => !self.v4.tables().all(own),
            Family::V6 => !self.v6.tables().all(own),
        }
    }

    /// Rules of this family ask for protocol or ports of packets.
    #[must_use]
    pub fn dissects(&self, family: Family) -> bool {
        self.rules(family).dissects()
    }

    /// Somebody added a route of type local, or one with a realm: the kernel then checks sources in full.
    #[must_use]
    pub const fn has_custom_local_routes(&self) -> bool {
        self.v4.custom_local
    }

    fn rules(&self, family: Family) -> &Rules<'s> {
        &self.rules[usize::from(family == Family::V6)]
    }
}

/// What one table says.
enum Found<'s> {
    /// Nothing, or throw: the next rule.
    Continue,
    /// A route.
    Hit(Hit<'s>),
    /// Cannot tell.
    Unknown(&'static str),
}

fn is_reject(kind: RouteKind) -> bool {
    matches!(
        kind,
        RouteKind::Blackhole | RouteKind::Unreachable | RouteKind::Prohibit | RouteKind::Other(_)
    )
}
