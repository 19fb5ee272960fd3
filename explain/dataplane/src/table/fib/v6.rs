//! IPv6 tables: `fib6_table_lookup`, `fib6_select_path` (`net/ipv6/route.c`, `ip6_fib.c`).

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use knet_snapshot::Table;
use knet_snapshot::id::{Family, IfIndex, TableId};
use knet_snapshot::neigh::NudState;
use knet_snapshot::route::{Route, RouteKind};
use knet_snapshot::store::NetnsFacts;
use smallvec::SmallVec;

use super::lpm::{Entry, Lpm};
use super::nexthop::{Health, Paths, Pick, draw, draw_bucket, health, shares};
use super::rules::unreadable;
use super::v4::{choose, evidence, hit, reject};
use super::{Answer, Depth, Fib, Found, Hit, Hop, Lookup, Query, is_reject};
use crate::choice::{Oracle, Unknown};
use crate::table::source::scope6;
use crate::trace::Assumption;

const LO: IfIndex = IfIndex(1);

/// The routing tables.
#[derive(Debug)]
pub(super) struct Tables<'s> {
    /// `None`: not captured.
    routes: Option<&'s Table<Route>>,
    by_id: BTreeMap<TableId, Table6>,
}

/// Routes with a source prefix, by destination prefix.
type BySource = BTreeMap<(u128, u8), Vec<Entry<u128>>>;

/// One table. A prefix may hold a subtree of routes that also select by source (`from`).
#[derive(Debug)]
struct Table6 {
    by_dst: Lpm<u128>,
    /// By node of `by_dst`.
    by_src: BTreeMap<usize, Lpm<u128>>,
}

impl<'s> Tables<'s> {
    pub fn compile(facts: &'s NetnsFacts) -> Self {
        let routes = facts.routes(Family::V6).get();
        let mut plain: BTreeMap<TableId, Vec<Entry<u128>>> = BTreeMap::new();
        let mut sourced: BTreeMap<TableId, BySource> = BTreeMap::new();
        for (i, r) in routes.into_iter().flat_map(|t| &t.rows).enumerate() {
            let (IpNet::V6(net), Ok(route)) = (r.dst, u32::try_from(i)) else {
                continue;
            };
            let (key, len) = (u128::from(net.network()), net.prefix_len());
            // Routes of one prefix stand by metric, and in the order they were added.
            let rank = (Reverse(0), r.metric);
            let entries = plain.entry(r.table).or_default();
            match r.src {
                Some(IpNet::V6(src)) if src.prefix_len() > 0 => {
                    entries.push(Entry::marker(key, len));
                    let entry = Entry {
                        key: u128::from(src.network()),
                        len: src.prefix_len(),
                        rank,
                        route,
                    };
                    sourced
                        .entry(r.table)
                        .or_default()
                        .entry((key, len))
                        .or_default()
                        .push(entry);
                }
                _ => entries.push(Entry { key, len, rank, route }),
            }
        }
        let mut by_id = BTreeMap::new();
        for (id, entries) in plain {
            let by_dst = Lpm::build(entries);
            let by_src = sourced
                .remove(&id)
                .into_iter()
                .flatten()
                .filter_map(|((key, len), e)| Some((by_dst.find(key, len)?, Lpm::build(e))))
                .collect();
            by_id.insert(id, Table6 { by_dst, by_src });
        }
        Self { routes, by_id }
    }

    /// The tables that hold routes.
    pub fn tables(&self) -> impl Iterator<Item = &TableId> {
        self.by_id.keys()
    }
}

impl Table6 {
    /// `fib6_node_lookup` and `fib6_backtrack`: the lists of routes in the order they are tried. Going up, a
    /// prefix offers its source-specific routes and then its plain ones. The first step is different: a
    /// prefix whose source-specific routes do not match is passed over with its plain routes, unless it is
    /// the root.
    fn lists(&self, dst: Ipv6Addr, src: Ipv6Addr) -> SmallVec<[&[u32]; 4]> {
        let mut out = SmallVec::new();
        let mut started = false;
        for node in self.by_dst.chain(u128::from(dst)) {
            let before = out.len();
            let subtree = self.by_src.get(&node);
            if let Some(subtree) = subtree {
                out.extend(subtree.chain(u128::from(src)).map(|n| subtree.routes(n)));
            }
            let skip_plain = !started && subtree.is_some() && out.len() == before && self.by_dst.node(node).len > 0;
            let routes = self.by_dst.routes(node);
            if !routes.is_empty() && !skip_plain {
                out.push(routes);
            }
            started |= out.len() > before;
        }
        out
    }
}

/// `RT6_LOOKUP_F_*`
#[derive(Clone, Copy)]
struct Strict {
    /// Only next hops on the device asked for.
    iface: bool,
    /// Pass over a gateway that did not answer; asked only while this namespace does not forward.
    reachable: bool,
    ignore_linkstate: bool,
}

/// `rt6_score_route`, with what it cannot be in the type.
const FAIL_PROBE: i32 = -2;

impl<'s> Fib<'s> {
    pub(super) fn lookup6(&self, query: &Query, depth: Depth, oracle: &mut Oracle) -> Lookup<'s> {
        let Some(routes) = self.v6.routes else {
            return Lookup::new(Answer::Unknown("routes"));
        };
        if !routes.problems.is_empty() && unreadable(&routes.artifact, oracle) {
            return Lookup::new(Answer::Unknown("routes"));
        }
        let flow = self.flow(query);
        let IpAddr::V6(dst) = query.dst else {
            return Lookup::new(Answer::None);
        };
        // A received packet looks for routes with its input device in the place of the output device.
        let oif = query.iif.or(flow.oif);
        let narrow = scope6(dst) <= 2 || dst.is_multicast() || dst.is_loopback();
        let iface = narrow || query.bound || (query.iif.is_none() && query.oif.is_some() && query.src.is_none());
        let forwarding = self.sysctl.get("net.ipv6.conf.all.forwarding");
        let strict = |reachable| Strict {
            iface,
            reachable,
            ignore_linkstate: depth.ignore_linkstate,
        };
        let ask = |id: TableId, oracle: &mut Oracle| match forwarding {
            Some(n) => self.table_lookup6(id, query, oif, strict(n == 0)),
            None => {
                let closed = self.table_lookup6(id, query, oif, strict(true));
                let open = self.table_lookup6(id, query, oif, strict(false));
                let key: std::sync::Arc<str> = "net.ipv6.conf.all.forwarding".into();
                if same(&closed, &open) || oracle.unknown(&*key, Unknown::Sysctl(key.clone()), 2) == 0 {
                    closed
                } else {
                    open
                }
            }
        };
        // The default rules are `local`, then `main`, which is what walking them does.
        let custom = self.has_custom_rules(Family::V6);
        let mut lookup = self.walk_rules(&flow, oracle, ask);
        if custom.is_none() && !lookup.assumed.contains(&Assumption::DefaultRules) {
            lookup.assumed.push(Assumption::DefaultRules);
        }
        if let Answer::Route(hit) = &mut lookup.answer {
            if !depth.any_path {
                self.select_path6(hit, oif, strict(forwarding == Some(0)), oracle);
            }
            lookup.table = Some(hit.route.table);
            lookup.evidence.push(evidence(&routes.artifact, hit.route));
        }
        lookup
    }

    /// `fib6_table_lookup`: the best route of the longest prefix that has one. A host that does not forward
    /// first passes over gateways that failed to answer, and takes them after all when nothing else is left.
    fn table_lookup6(&self, table: TableId, q: &Query, oif: Option<IfIndex>, strict: Strict) -> Found<'s> {
        let (Some(t), Some(routes), IpAddr::V6(dst)) = (self.v6.by_id.get(&table), self.v6.routes, q.dst) else {
            return Found::Continue;
        };
        let src = match q.src {
            Some(IpAddr::V6(src)) => src,
            _ => Ipv6Addr::UNSPECIFIED,
        };
        let lists = t.lists(dst, src);
        let passes = if strict.reachable { &[true, false][..] } else { &[false] };
        for &reachable in passes {
            for list in &lists {
                let routes = list.iter().filter_map(|&i| routes.rows.get(i as usize));
                match self.select6(routes, oif, Strict { reachable, ..strict }) {
                    Ok(None) => {}
                    Ok(Some(hit)) if hit.kind == RouteKind::Throw => return Found::Continue,
                    Ok(Some(hit)) => return Found::Hit(hit),
                    Err(what) => return Found::Unknown(what),
                }
            }
        }
        Found::Continue
    }

    /// `rt6_select`: among the routes of the smallest metric the best score, the first of equals. When none
    /// of them will do, the best of *all* the others: metrics no longer count.
    fn select6(
        &self,
        routes: impl Iterator<Item = &'s Route>,
        oif: Option<IfIndex>,
        strict: Strict,
    ) -> Result<Option<Hit<'s>>, &'static str> {
        let mut best: Option<Hit<'s>> = None;
        let mut score = -1;
        let mut first_metric = None;
        let mut rest = false;
        let mut blackholed = false;
        for route in routes {
            if !rest && *first_metric.get_or_insert(route.metric) != route.metric {
                if best.is_some() {
                    break;
                }
                rest = true;
            }
            if blackholed {
                continue;
            }
            let paths = self.paths6(route)?;
            if paths.is_blackhole() {
                // `__find_rr_leaf` returns at once, whatever it found before.
                best = Some(reject(route, RouteKind::Blackhole));
                blackholed = true;
                continue;
            }
            for i in 0..paths.hops.len() {
                let m = self.score6(route, &paths.hops[i], oif, strict);
                if m.is_some_and(|m| m > score) {
                    score = m.unwrap_or(score);
                    best = Some(hit(route, paths.clone(), i));
                }
            }
        }
        Ok(best)
    }

    fn paths6(&self, route: &'s Route) -> Result<Paths<'s>, &'static str> {
        let mut paths = self.nexthops.of(route, &self.links)?;
        if paths.hops.is_empty() {
            // Routes that reject have the loopback device for a next hop.
            paths.hops.push(Hop {
                nexthop: None,
                blackhole: false,
                oif: Some(LO),
                weight: 1,
            });
            paths.pick = Pick::Own;
        }
        Ok(paths)
    }

    /// `find_match` and `rt6_score_route`: `None` when the next hop cannot be used.
    fn score6(&self, route: &Route, hop: &Hop<'_>, oif: Option<IfIndex>, strict: Strict) -> Option<i32> {
        match health(hop, Family::V6, &self.links, &self.sysctl) {
            Health::Good => {}
            Health::LinkdownIgnored if strict.ignore_linkstate => {}
            Health::LinkdownIgnored | Health::Dead => return None,
        }
        let on_device = oif.is_none_or(|o| hop.oif == Some(o));
        if !on_device && strict.iface {
            return None;
        }
        // `IPV6_DECODE_PREF`
        let pref = match route.pref.as_deref() {
            Some("low") => 1,
            Some("high") => 3,
            _ => 2,
        };
        if strict.reachable
            && hop.nexthop.is_some_and(|n| n.gateway.is_some())
            && self.nexthops.neighbour(hop) == Some(NudState::Failed)
        {
            return Some(FAIL_PROBE);
        }
        Some((if on_device { 2 } else { 0 }) | pref << 2)
    }

    /// `fib6_select_path`: siblings by weight; the share of one that cannot be used goes to the route the
    /// table lookup found.
    fn select_path6(&self, hit: &mut Hit<'s>, oif: Option<IfIndex>, strict: Strict, oracle: &mut Oracle) {
        if hit.hops.len() < 2 || is_reject(hit.kind) {
            return;
        }
        let weights = self.weights(hit, Family::V6);
        let i = match hit.pick {
            Pick::Resilient => draw_bucket(format!("nexthop group {:?}", hit.route.nhid), hit.hops.len(), oracle),
            Pick::Group => {
                let usable = self.answering(hit, Family::V6);
                draw(&shares(&weights, &usable), oracle, || self.evidence6(hit.route))
            }
            Pick::Own => {
                let found = hit
                    .hops
                    .iter()
                    .position(|h| h.oif == hit.oif && h.nexthop == hit.nexthop)
                    .unwrap_or(0);
                let mut shares = vec![0; weights.len()];
                for (i, &w) in weights.iter().enumerate() {
                    let ok = self
                        .score6(hit.route, &hit.hops[i], oif, strict)
                        .is_some_and(|s| s >= 0);
                    shares[if ok { i } else { found }] += u64::from(w);
                }
                if shares.iter().all(|&s| s == 0) {
                    return;
                }
                draw(&shares, oracle, || self.evidence6(hit.route))
            }
        };
        choose(hit, i);
    }

    /// The devices whose address an unset source may become: one, unless nexthop objects are shared.
    #[must_use]
    pub fn source_devices6(&self, hit: &Hit<'_>) -> SmallVec<[Option<IfIndex>; 2]> {
        if hit.route.nhid.is_none() {
            return SmallVec::from_slice(&[hit.oif]);
        }
        self.nexthops.source_devices(hit, &self.links)
    }

    fn evidence6(&self, route: &Route) -> crate::trace::Evidence {
        let artifact = self.v6.routes.map_or_else(|| "".into(), |t| t.artifact.clone());
        evidence(&artifact, route)
    }
}

fn same(a: &Found<'_>, b: &Found<'_>) -> bool {
    match (a, b) {
        (Found::Hit(a), Found::Hit(b)) => std::ptr::eq(a.route, b.route) && a.oif == b.oif && a.nexthop == b.nexthop,
        (Found::Continue, Found::Continue) | (Found::Unknown(_), Found::Unknown(_)) => true,
        _ => false,
    }
}
