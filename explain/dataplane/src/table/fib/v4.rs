//! IPv4 tables: `fib_lookup`, `fib_table_lookup`, `fib_select_path` (`net/ipv4/fib_trie.c`, `fib_semantics.c`).

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ipnet::IpNet;
use knet_snapshot::Table;
use knet_snapshot::id::{Family, IfIndex, TableId};
use knet_snapshot::route::{Route, RouteKind};
use knet_snapshot::store::NetnsFacts;

use super::lpm::{Entry, Lpm};
use super::nexthop::{Health, Paths, Pick, draw, draw_bucket, health, shares};
use super::rules::{default_rules, unreadable};
use super::{Answer, Depth, Fib, Found, Hit, Hop, Lookup, Query, is_reject, text};
use crate::choice::{Oracle, Unknown};
use crate::table::source::inet_select_addr;
use crate::trace::{Assumption, Evidence};

/// The routing tables.
#[derive(Debug)]
pub(super) struct Tables<'s> {
    /// `None`: not captured.
    routes: Option<&'s Table<Route>>,
    by_id: BTreeMap<TableId, Lpm<u32>>,
    /// `fib_has_custom_local_routes`, or realms are in use: a local route that the kernel did not make.
    pub custom_local: bool,
}

impl<'s> Tables<'s> {
    pub fn compile(facts: &'s NetnsFacts) -> Self {
        let routes = facts.routes(Family::V4).get();
        let mut entries: BTreeMap<TableId, Vec<Entry<u32>>> = BTreeMap::new();
        for (i, r) in routes.into_iter().flat_map(|t| &t.rows).enumerate() {
            let (IpNet::V4(net), Ok(route)) = (r.dst, u32::try_from(i)) else {
                continue;
            };
            // A leaf keeps a TOS before none, then the smaller metric, then the order of `append`.
            let rank = (Reverse(r.tos), r.metric);
            let key = u32::from(net.network());
            entries.entry(r.table).or_default().push(Entry {
                key,
                len: net.prefix_len(),
                rank,
                route,
            });
        }
        let custom_local = routes
            .into_iter()
            .flat_map(|t| &t.rows)
            .any(|r| (r.kind == RouteKind::Local && r.protocol.is_some_and(|p| p != 2)) || r.realm.is_some());
        Self {
            routes,
            custom_local,
            by_id: entries.into_iter().map(|(t, e)| (t, Lpm::build(e))).collect(),
        }
    }

    /// The tables that hold routes.
    pub fn tables(&self) -> impl Iterator<Item = &TableId> {
        self.by_id.keys()
    }

    /// The candidates of one trie for an address: every route whose prefix holds it, longest first. Tables
    /// that share a trie are merged by length, the larger table number first.
    fn candidates(&self, tries: &[TableId], addr: u32) -> Vec<&'s Route> {
        let Some(routes) = self.routes else { return Vec::new() };
        let mut out: Vec<&Route> = Vec::new();
        for lpm in tries.iter().filter_map(|t| self.by_id.get(t)) {
            out.extend(
                lpm.chain(addr)
                    .flat_map(|n| lpm.routes(n))
                    .filter_map(|&i| routes.rows.get(i as usize)),
            );
        }
        if tries.len() > 1 {
            out.sort_by_key(|r| (Reverse(r.dst.prefix_len()), Reverse(r.table)));
        }
        out
    }
}

impl<'s> Fib<'s> {
    pub(super) fn lookup4(&self, query: &Query, depth: Depth, oracle: &mut Oracle) -> Lookup<'s> {
        let Some(routes) = self.v4.routes else {
            return Lookup::new(Answer::Unknown("routes"));
        };
        if !routes.problems.is_empty() && unreadable(&routes.artifact, oracle) {
            return Lookup::new(Answer::Unknown("routes"));
        }
        let flow = self.flow(query);
        let ask = |tries: &[TableId]| self.table_lookup4(tries, query, flow.oif, depth);
        let custom = self.has_custom_rules(Family::V4);
        let mut lookup = if custom == Some(true) {
            self.walk_rules(&flow, oracle, |id, _| ask(&[id]))
        } else {
            self.lookup_default4(&ask, oracle)
        };
        if custom.is_none() {
            lookup.assumed.push(Assumption::DefaultRules);
        }
        if let Answer::Route(hit) = &mut lookup.answer {
            if !depth.any_path && !is_reject(hit.kind) && hit.kind != RouteKind::Local {
                self.select_path4(hit, query, flow.oif, oracle);
            }
            lookup.table = Some(hit.route.table);
            lookup.evidence.push(evidence(&routes.artifact, hit.route));
        }
        lookup
    }

    /// `fib_lookup` without rules of one's own: `local` and `main` are then *one* trie, so that a longer
    /// prefix in `main` wins over a shorter one in `local`. A rule that was ever added or deleted parts
    /// them for good, and that cannot be seen once it is gone.
    fn lookup_default4(&self, ask: &impl Fn(&[TableId]) -> Found<'s>, oracle: &mut Oracle) -> Lookup<'s> {
        let merged = [&[TableId::LOCAL, TableId::MAIN][..], &[TableId::DEFAULT]];
        let parted: Vec<&[TableId]> = default_rules(Family::V4)
            .iter()
            .map(|(_, t)| std::slice::from_ref(t))
            .collect();
        let first = |groups: &[&[TableId]]| {
            groups
                .iter()
                .map(|g| ask(g))
                .find_map(|found| match found {
                    Found::Continue => None,
                    Found::Hit(hit) => Some(Answer::Route(hit)),
                    Found::Unknown(what) => Some(Answer::Unknown(what)),
                })
                .unwrap_or(Answer::None)
        };
        let one = first(&merged);
        let two = first(&parted);
        let answer = if same(&one, &two)
            || oracle.unknown("local and main", Unknown::Outside("a policy rule was there once"), 2) == 0
        {
            one
        } else {
            two
        };
        Lookup::new(answer)
    }

    /// `fib_table_lookup`. Ordered filters: longest prefix; TOS equal or none; next hop alive and, when the
    /// caller names a device, on it. A route that fails one is passed over, down to shorter prefixes.
    fn table_lookup4(&self, tries: &[TableId], q: &Query, oif: Option<IfIndex>, depth: Depth) -> Found<'s> {
        let IpAddr::V4(dst) = q.dst else { return Found::Continue };
        let mut missed_leaf: Option<u32> = None;
        for route in self.v4.candidates(tries, u32::from(dst)) {
            let leaf = match route.dst {
                IpNet::V4(n) => u32::from(n.network()),
                IpNet::V6(_) => continue,
            };
            if missed_leaf == Some(leaf) || (route.tos != 0 && route.tos != q.tos & 0x1c) {
                continue;
            }
            match route.kind {
                RouteKind::Throw => return Found::Continue,
                kind if is_reject(kind) => return Found::Hit(reject(route, kind)),
                _ => {}
            }
            let paths = match self.nexthops.of(route, &self.links) {
                Ok(paths) => paths,
                Err(what) => return Found::Unknown(what),
            };
            if paths.is_blackhole() {
                return Found::Hit(reject(route, RouteKind::Blackhole));
            }
            let good = paths.hops.iter().position(|hop| self.usable4(hop, oif, depth));
            match good {
                Some(i) => return Found::Hit(hit(route, paths, i)),
                // `goto miss`: a nexthop object without a usable member ends this leaf, and a leaf holds
                // every prefix with the same network address.
                None if route.nhid.is_some() => missed_leaf = Some(leaf),
                None => {}
            }
        }
        Found::Continue
    }

    /// `fib_lookup_good_nhc`
    fn usable4(&self, hop: &Hop<'_>, oif: Option<IfIndex>, depth: Depth) -> bool {
        let alive = match health(hop, Family::V4, &self.links, &self.sysctl) {
            Health::Good => true,
            Health::LinkdownIgnored => depth.ignore_linkstate,
            Health::Dead => false,
        };
        alive && oif.is_none_or(|o| hop.oif == Some(o))
    }

    /// `fib_select_path` for a local sender, `fib_select_multipath` for a packet that came in.
    fn select_path4(&self, hit: &mut Hit<'s>, q: &Query, oif: Option<IfIndex>, oracle: &mut Oracle) {
        if oif.is_some() {
            return;
        }
        if hit.hops.len() < 2 {
            if q.iif.is_none() && hit.route.dst.prefix_len() == 0 && hit.kind == RouteKind::Unicast {
                self.select_default4(hit, q, oracle);
            }
            return;
        }
        let weights = self.weights(hit, Family::V4);
        let answering = self.answering(hit, Family::V4);
        let mut usable: Vec<bool> = weights.iter().zip(&answering).map(|(w, a)| *w > 0 && *a).collect();
        if hit.pick == Pick::Own && q.iif.is_none() && q.src.is_some() {
            self.prefer_source4(hit, q, &mut usable, oracle);
        }
        let i = match hit.pick {
            Pick::Resilient => draw_bucket(format!("nexthop group {:?}", hit.route.nhid), hit.hops.len(), oracle),
            // Nobody usable: the one the table lookup found stays.
            Pick::Own if !usable.contains(&true) => return,
            Pick::Own | Pick::Group => draw(&shares(&weights, &usable), oracle, || self.evidence4(hit.route)),
        };
        choose(hit, i);
    }

    /// Since 6.16 a sender that is bound to an address is kept to the next hops that would have chosen it;
    /// older kernels draw among all. The snapshot does not say which it is.
    fn prefer_source4(&self, hit: &Hit<'s>, q: &Query, usable: &mut [bool], oracle: &mut Oracle) {
        let own: Vec<bool> = hit
            .hops
            .iter()
            .zip(usable.iter())
            .map(|(hop, u)| {
                let gateway = hop.nexthop.and_then(|n| n.gateway);
                *u && inet_select_addr(&self.links, &self.sysctl, hop.oif, gateway, hit.route.scope) == q.src
            })
            .collect();
        let matching = own.iter().filter(|&&o| o).count();
        if matching > 0
            && matching < usable.iter().filter(|&&u| u).count()
            && oracle.unknown("multipath by source", Unknown::Outside("kernel 6.16 or newer"), 2) == 0
        {
            usable.copy_from_slice(&own);
        }
    }

    /// Shares of the hash space: a hop that is dead, or without carrier where that counts, has none.
    pub(super) fn weights(&self, hit: &Hit<'_>, family: Family) -> Vec<u32> {
        let weight = |hop: &Hop<'_>| {
            let good = health(hop, family, &self.links, &self.sysctl) == Health::Good;
            if good || hit.pick == Pick::Group { hop.weight } else { 0 }
        };
        hit.hops.iter().map(weight).collect()
    }

    /// Members of a nexthop group are always asked whether they answer; a route's own next hops only with
    /// `fib_multipath_use_neigh`.
    pub(super) fn answering(&self, hit: &Hit<'_>, family: Family) -> Vec<bool> {
        let asked = hit.pick == Pick::Group
            || (family == Family::V4 && self.sysctl.get("net.ipv4.fib_multipath_use_neigh") == Some(1));
        hit.hops
            .iter()
            .map(|hop| !asked || self.nexthops.answers(hop))
            .collect()
    }

    /// `fib_select_default`: several default routes of one metric in one table take turns as their gateways
    /// die, and the kernel remembers whose turn it is.
    fn select_default4(&self, hit: &mut Hit<'s>, q: &Query, oracle: &mut Oracle) {
        let peers: Vec<&'s Route> = self
            .v4
            .candidates(&[hit.route.table], 0)
            .into_iter()
            .filter(|r| {
                r.dst.prefix_len() == 0
                    && r.metric == hit.route.metric
                    && r.tos == hit.route.tos
                    && r.scope == hit.route.scope
                    && r.kind == RouteKind::Unicast
            })
            .filter(|r| r.nexthops.first().is_some_and(|n| n.gateway.is_some() && !n.dead))
            .collect();
        if peers.len() < 2 || !peers.iter().any(|r| std::ptr::eq(*r, hit.route)) || q.oif.is_some() {
            return;
        }
        let key = format!("default gateway {} {}", hit.route.table, hit.route.metric);
        let i = oracle.unknown(
            key,
            Unknown::Outside("dead gateway detection of default routes"),
            peers.len(),
        );
        if let Some(route) = peers.get(i)
            && let Ok(paths) = self.nexthops.of(route, &self.links)
        {
            *hit = self::hit(route, paths, 0);
        }
    }

    /// `__inet_dev_addr_type` asks one table and no rules. `None`: not captured, or it cannot be told whether
    /// that table still shares its trie with `main`.
    pub(super) fn table_kind4(&self, table: TableId, addr: Ipv4Addr) -> Option<Option<Hit<'s>>> {
        self.v4.routes?;
        let ask =
            |tries: &[TableId]| match self.table_lookup4(tries, &Query::to(IpAddr::V4(addr)), None, Depth::default()) {
                Found::Continue => Some(None),
                Found::Hit(hit) => Some((!is_reject(hit.kind)).then_some(hit)),
                Found::Unknown(_) => None,
            };
        let alone = ask(&[table])?;
        if table != TableId::LOCAL || self.has_custom_rules(Family::V4) == Some(true) {
            return Some(alone);
        }
        let merged = ask(&[TableId::LOCAL, TableId::MAIN])?;
        let kind = |h: &Option<Hit<'_>>| h.as_ref().map_or(RouteKind::Unicast, |h| h.kind);
        (kind(&alone) == kind(&merged)).then_some(merged)
    }

    fn evidence4(&self, route: &Route) -> Evidence {
        let artifact = self.v4.routes.map_or_else(|| Arc::from(""), |t| t.artifact.clone());
        evidence(&artifact, route)
    }
}

pub(super) fn evidence(artifact: &Arc<str>, route: &Route) -> Evidence {
    Evidence {
        artifact: artifact.clone(),
        at: route.at,
        handle: None,
        text: Arc::from(text::route(route)),
    }
}

pub(super) fn reject(route: &Route, kind: RouteKind) -> Hit<'_> {
    Hit {
        route,
        kind,
        nexthop: None,
        oif: None,
        hops: smallvec::SmallVec::new(),
        pick: Pick::Own,
    }
}

pub(super) fn hit<'s>(route: &'s Route, paths: Paths<'s>, i: usize) -> Hit<'s> {
    let mut hit = Hit {
        route,
        kind: route.kind,
        nexthop: None,
        oif: None,
        hops: paths.hops,
        pick: paths.pick,
    };
    choose(&mut hit, i);
    hit
}

/// Makes the i-th next hop the picked one.
pub(super) fn choose(hit: &mut Hit<'_>, i: usize) {
    if let Some(hop) = hit.hops.get(i) {
        hit.nexthop = hop.nexthop;
        hit.oif = hop.oif;
        if hop.blackhole {
            hit.kind = RouteKind::Blackhole;
        }
    }
}

fn same(a: &Answer<'_>, b: &Answer<'_>) -> bool {
    match (a, b) {
        (Answer::Route(a), Answer::Route(b)) => std::ptr::eq(a.route, b.route),
        (Answer::None, Answer::None) | (Answer::Unknown(_), Answer::Unknown(_)) => true,
        _ => false,
    }
}
