//! Policy-routing rules and routing tables: `fib_rules_lookup`, `fib_table_lookup`, `fib6_table_lookup`.

use std::net::IpAddr;

use knet_snapshot::id::{IfIndex, TableId};
use knet_snapshot::route::{NextHop, Route, RouteKind};
use knet_snapshot::rule::Rule;
use knet_snapshot::store::NetnsFacts;

use crate::choice::Oracle;
use crate::table::link::Links;
use crate::trace::Evidence;

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
    /// Mark.
    pub mark: u32,
    /// TOS / traffic class.
    pub tos: u8,
    /// Protocol.
    pub proto: u8,
    /// Source port.
    pub sport: Option<u16>,
    /// Destination port.
    pub dport: Option<u16>,
    /// UID of the sender; `None` = not known (an incoming packet has uid 0 in lookups).
    pub uid: Option<u32>,
}

/// What a lookup found.
#[derive(Clone, Debug)]
pub struct Hit<'s> {
    /// The route.
    pub route: &'s Route,
    /// The next hop that was picked (multipath: by the oracle). `None` for kinds without one.
    pub nexthop: Option<NextHop>,
    /// Device of the next hop.
    pub oif: Option<IfIndex>,
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
    /// Evidence: the rule (when it is not one of the three default rules), then the route.
    pub evidence: Vec<Evidence>,
}

/// Compiled rules and tables of a namespace, both families.
#[derive(Debug)]
pub struct Fib<'s> {
    _todo: std::marker::PhantomData<&'s ()>,
}

impl<'s> Fib<'s> {
    /// Compiles rules and routes.
    #[must_use]
    pub fn compile(_facts: &'s NetnsFacts, _links: &Links<'s>) -> Self {
        Self { _todo: std::marker::PhantomData }
    }

    /// `fib_lookup`: rules by priority, tables by longest prefix, tos and metric, next hop by weight.
    pub fn lookup(&self, _query: &Query, _oracle: &mut Oracle) -> Lookup<'s> {
        Lookup { answer: Answer::None, table: None, rule: None, evidence: Vec::new() }
    }
}
