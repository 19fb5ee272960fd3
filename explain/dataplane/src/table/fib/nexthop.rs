//! Next hops of a route: written in the row, or behind a nexthop object.

use hashbrown::HashMap;
use knet_snapshot::id::{Family, IfIndex};
use knet_snapshot::neigh::NudState;
use knet_snapshot::nexthop::{NexthopKind, NexthopObject};
use knet_snapshot::route::{NextHop, Route};
use knet_snapshot::store::NetnsFacts;
use smallvec::SmallVec;
use std::net::IpAddr;

use crate::choice::{Chance, Oracle, Ratio, Unknown, ratio};
use crate::table::link::Links;
use crate::table::sysctl::Sysctl;
use crate::trace::Evidence;

/// One next hop a route can take.
#[derive(Clone, Copy, Debug)]
pub struct Hop<'s> {
    /// As captured. `None` for a `blackhole` nexthop object and for a route without next hops.
    pub nexthop: Option<&'s NextHop>,
    /// A `blackhole` nexthop object.
    pub blackhole: bool,
    /// Its device. `None` when the device is not in `link.json`.
    pub oif: Option<IfIndex>,
    /// Share of the hash space.
    pub weight: u32,
}

/// The kernel lets its next hop be the loopback device.
const BLACKHOLE: Hop<'static> = Hop {
    nexthop: None,
    blackhole: true,
    oif: Some(IfIndex(1)),
    weight: 1,
};

/// How the next hop of a route is picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    /// The next hops are the route's own (or a single nexthop object).
    Own,
    /// A hash-threshold group of nexthop objects: members that do not answer are passed over.
    Group,
    /// A resilient group: its bucket table decides.
    Resilient,
}

/// The next hops of one route.
#[derive(Clone, Debug)]
pub(super) struct Paths<'s> {
    pub hops: SmallVec<[Hop<'s>; 1]>,
    pub pick: Pick,
}

impl Paths<'_> {
    /// `nexthop_is_blackhole`: a group is one when its only member is.
    pub fn is_blackhole(&self) -> bool {
        matches!(self.hops.as_slice(), [Hop { blackhole: true, .. }])
    }
}

/// Nexthop objects and neighbours.
#[derive(Debug)]
pub(super) struct Nexthops<'s> {
    /// `None`: not captured.
    objects: Option<HashMap<u32, &'s NexthopObject>>,
    rows: &'s [NexthopObject],
    neighbours: HashMap<(IfIndex, IpAddr), NudState>,
}

impl<'s> Nexthops<'s> {
    pub fn compile(facts: &'s NetnsFacts, links: &Links<'s>) -> Self {
        let objects = facts
            .nexthops()
            .get()
            .map(|t| t.rows.iter().map(|o| (o.id, o)).collect());
        let mut neighbours = HashMap::new();
        for n in facts
            .neighbours()
            .get()
            .into_iter()
            .flat_map(|t| &t.rows)
            .filter(|n| !n.proxy)
        {
            if let Some(link) = links.named(&n.dev) {
                neighbours.insert((link.index, n.dst), n.state);
            }
        }
        let rows = facts.nexthops().get().map_or(&[][..], |t| &t.rows);
        Self {
            objects,
            rows,
            neighbours,
        }
    }

    /// The next hops of a route. `Err` says what is missing.
    pub fn of(&self, route: &'s Route, links: &Links<'s>) -> Result<Paths<'s>, &'static str> {
        // Whether its device is up, and which it is, nobody knows.
        if !links.known && (route.nhid.is_some() || route.nexthops.iter().any(|n| n.dev.is_some())) {
            return Err("link.json");
        }
        let own = || Paths {
            hops: route.nexthops.iter().map(|n| hop(n, n.weight, links)).collect(),
            pick: Pick::Own,
        };
        let Some(id) = route.nhid else { return Ok(own()) };
        // The row repeats the object's hops unless `nexthop_compat_mode` is off; the object knows more.
        match self.objects.as_ref().and_then(|o| o.get(&id)) {
            Some(object) => self.object(object, links),
            // A group's kind is not in the row: only a single hop is certain without the object.
            None if route.nexthops.len() == 1 => Ok(own()),
            None => Err("nexthop object"),
        }
    }

    fn object(&self, object: &'s NexthopObject, links: &Links<'s>) -> Result<Paths<'s>, &'static str> {
        match &object.kind {
            NexthopKind::Hop(nh) | NexthopKind::Fdb(nh) => Ok(Paths {
                hops: std::iter::once(hop(nh, 1, links)).collect(),
                pick: Pick::Own,
            }),
            NexthopKind::Blackhole => Ok(Paths {
                hops: std::iter::once(BLACKHOLE).collect(),
                pick: Pick::Own,
            }),
            NexthopKind::Group { members, resilient } => {
                let mut hops = SmallVec::new();
                for (id, weight) in members {
                    // Groups do not nest.
                    match self.objects.as_ref().and_then(|o| o.get(id)).map(|o| &o.kind) {
                        Some(NexthopKind::Hop(nh) | NexthopKind::Fdb(nh)) => hops.push(hop(nh, *weight, links)),
                        Some(NexthopKind::Blackhole) => {
                            hops.push(Hop {
                                weight: *weight,
                                ..BLACKHOLE
                            });
                        }
                        _ => return Err("nexthop object"),
                    }
                }
                Ok(Paths {
                    hops,
                    pick: if *resilient { Pick::Resilient } else { Pick::Group },
                })
            }
        }
    }

    /// The devices IPv6 may choose a source for, of a hit through nexthop objects. It asks the first member of
    /// the route's object (`fib6_info_nh_dev`), but of the route that filled the object's cache, and every
    /// route and group that shares the object shares that cache: which came first is not in a snapshot.
    pub fn source_devices(&self, hit: &super::Hit<'_>, links: &Links<'s>) -> SmallVec<[Option<IfIndex>; 2]> {
        let mut out: SmallVec<[Option<IfIndex>; 2]> = SmallVec::new();
        let mut put = |dev: Option<IfIndex>| {
            if !out.contains(&dev) {
                out.push(dev);
            }
        };
        put(hit.hops.first().and_then(|h| h.oif));
        let is_picked = |kind: &NexthopKind| matches!(kind, NexthopKind::Hop(nh) if hit.nexthop.is_some_and(|n| std::ptr::eq(n, nh)));
        if let Some(picked) = self.rows.iter().find(|o| is_picked(&o.kind)) {
            put(hit.oif);
            for object in self.rows {
                if let NexthopKind::Group { members, .. } = &object.kind
                    && members.iter().any(|m| m.0 == picked.id)
                    && let Ok(paths) = self.object(object, links)
                {
                    put(paths.hops.first().and_then(|h| h.oif));
                }
            }
        }
        out
    }

    /// State of the neighbour entry of a hop's gateway; `None` without an entry.
    pub fn neighbour(&self, hop: &Hop<'_>) -> Option<NudState> {
        self.neighbours.get(&(hop.oif?, hop.nexthop?.gateway?)).copied()
    }

    /// `ipv4_good_nh`, `ipv6_good_nh`, `fib_good_nh`: no entry, or a valid one.
    pub fn answers(&self, hop: &Hop<'_>) -> bool {
        !matches!(
            self.neighbour(hop),
            Some(NudState::Incomplete | NudState::Failed | NudState::None)
        )
    }
}

/// `dead`, with the reason the dump hides: the kernel prints `dead` also for a hop that is only without
/// carrier while `ignore_routes_with_linkdown` is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    Good,
    /// Without carrier, and routes without carrier are ignored here.
    LinkdownIgnored,
    Dead,
}

pub(super) fn health(hop: &Hop<'_>, family: Family, links: &Links<'_>, sysctl: &Sysctl<'_>) -> Health {
    let Some(nh) = hop.nexthop else { return Health::Good };
    if !nh.dead && !nh.linkdown {
        return Health::Good;
    }
    let up = hop.oif.and_then(|i| links.get(i)).is_some_and(|l| l.flags.up);
    if nh.dead && !(nh.linkdown && up) {
        return Health::Dead;
    }
    if nh.dead {
        return Health::LinkdownIgnored;
    }
    let dev = nh.dev.as_deref().unwrap_or("?");
    let ignored = match family {
        Family::V4 => sysctl.conf4_or(dev, "ignore_routes_with_linkdown"),
        // Setting `all` writes every device's own value, which is the only one looked at.
        Family::V6 => sysctl.conf6(dev, "ignore_routes_with_linkdown").map(|v| v != 0),
    };
    // Not captured: were it set, the dump would have said `dead` as well.
    if ignored == Some(true) {
        Health::LinkdownIgnored
    } else {
        Health::Good
    }
}

/// Hash-threshold selection as shares. Each hop owns a slice of the hash space as large as its weight; the
/// slice of a hop that is passed over goes to the next one that is not, and behind the last to the first.
pub(super) fn shares(weights: &[u32], usable: &[bool]) -> Vec<u64> {
    let mut out = vec![0; weights.len()];
    let Some(first) = usable.iter().position(|&u| u) else {
        if let Some(head) = out.first_mut() {
            *head = 1;
        }
        return out;
    };
    let mut pending = 0;
    for (i, &w) in weights.iter().enumerate() {
        pending += u64::from(w);
        if usable[i] {
            out[i] += std::mem::take(&mut pending);
        }
    }
    out[first] += pending;
    out
}

/// Draws a hop by its share.
pub(super) fn draw(shares: &[u64], oracle: &mut Oracle, evidence: impl FnOnce() -> Evidence) -> usize {
    let total = shares.iter().sum();
    let weights: Vec<Ratio> = shares.iter().map(|&n| ratio(n, total)).collect();
    let several = shares.iter().filter(|&&n| n != 0).count() > 1;
    oracle.chance(Chance::Multipath, &weights, several.then(evidence))
}

/// A resilient group remembers in buckets which hop a flow has; the snapshot does not hold them.
pub(super) fn draw_bucket(key: String, n: usize, oracle: &mut Oracle) -> usize {
    oracle.unknown(key, Unknown::Outside("buckets of a resilient nexthop group"), n)
}

fn hop<'s>(nexthop: &'s NextHop, weight: u32, links: &Links<'s>) -> Hop<'s> {
    let oif = nexthop.dev.as_deref().and_then(|d| links.named(d)).map(|l| l.index);
    Hop {
        nexthop: Some(nexthop),
        blackhole: false,
        oif,
        weight: weight.max(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slice_of_a_hop_passed_over_goes_to_the_next() {
        assert_eq!(shares(&[1, 2, 3], &[true, true, true]), [1, 2, 3]);
        assert_eq!(shares(&[1, 2, 3], &[false, true, true]), [0, 3, 3]);
        assert_eq!(shares(&[1, 2, 3], &[true, true, false]), [4, 2, 0]);
        assert_eq!(shares(&[1, 2], &[false, false]), [1, 0]);
        assert_eq!(shares(&[], &[]), [0u64; 0]);
    }
}
