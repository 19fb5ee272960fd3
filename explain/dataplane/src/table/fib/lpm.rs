//! Longest prefix match: prefixes in one sorted array, each with a link to the prefix that holds it.

use std::cmp::Reverse;
use std::ops::Range;

use num_traits::PrimInt;

/// No parent, or no route behind an entry.
const NONE: u32 = u32::MAX;

/// One route to index. `rank` orders the routes of one prefix (TOS before none, then metric); equal ranks
/// stay in the order given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<K> {
    pub key: K,
    pub len: u8,
    pub rank: (Reverse<u8>, u32),
    /// Index of the route.
    pub route: u32,
}

impl<K> Entry<K> {
    /// A prefix that must be there without a route of its own.
    pub const fn marker(key: K, len: u8) -> Self {
        Self {
            key,
            len,
            rank: (Reverse(0), 0),
            route: NONE,
        }
    }
}

/// One prefix.
#[derive(Clone, Debug)]
pub(super) struct Node<K> {
    pub key: K,
    pub len: u8,
    parent: u32,
    routes: (u32, u32),
}

/// The prefixes of one table. A look-up is one binary search and at most one step up per prefix length.
#[derive(Clone, Debug)]
pub(super) struct Lpm<K> {
    nodes: Vec<Node<K>>,
    order: Vec<u32>,
}

impl<K: PrimInt> Lpm<K> {
    pub fn build(mut entries: Vec<Entry<K>>) -> Self {
        entries.sort_by_key(|e| (e.key, e.len, e.rank));
        let mut nodes: Vec<Node<K>> = Vec::new();
        let mut order = Vec::with_capacity(entries.len());
        let mut open: Vec<u32> = Vec::new();
        for e in entries {
            let at = index(order.len());
            if nodes.last().is_none_or(|n| n.key != e.key || n.len != e.len) {
                // Prefixes nest or are apart: those that do not hold this one are behind us.
                while open.last().is_some_and(|&p| !nodes[p as usize].holds(e.key)) {
                    open.pop();
                }
                let parent = open.last().copied().unwrap_or(NONE);
                open.push(index(nodes.len()));
                nodes.push(Node {
                    key: e.key,
                    len: e.len,
                    parent,
                    routes: (at, at),
                });
            }
            if e.route != NONE {
                order.push(e.route);
            }
            if let Some(last) = nodes.last_mut() {
                last.routes.1 = index(order.len());
            }
        }
        Self { nodes, order }
    }

    /// The prefixes that hold an address, longest first, as node indices.
    pub fn chain(&self, addr: K) -> impl Iterator<Item = usize> + '_ {
        // Of the prefixes that start at or below the address the last one is the match or lies inside it.
        let end = self.nodes.partition_point(|n| n.key <= addr);
        let mut at = end.checked_sub(1);
        std::iter::from_fn(move || {
            loop {
                let here = at?;
                let node = &self.nodes[here];
                at = (node.parent != NONE).then_some(node.parent as usize);
                if node.holds(addr) {
                    return Some(here);
                }
            }
        })
    }

    pub fn node(&self, at: usize) -> &Node<K> {
        &self.nodes[at]
    }

    /// Route indices of one prefix, in the order the kernel tries them.
    pub fn routes(&self, at: usize) -> &[u32] {
        let (a, b) = self.nodes[at].routes;
        &self.order[Range {
            start: a as usize,
            end: b as usize,
        }]
    }

    /// The node of exactly this prefix.
    pub fn find(&self, key: K, len: u8) -> Option<usize> {
        self.nodes.binary_search_by_key(&(key, len), |n| (n.key, n.len)).ok()
    }
}

impl<K: PrimInt> Node<K> {
    fn holds(&self, addr: K) -> bool {
        (self.key ^ addr).leading_zeros() >= u32::from(self.len)
    }
}

/// A table has fewer than 2^32 rows: an artifact of that many would not fit the row offsets either.
fn index(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(NONE - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mask(len: u8) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0)
    }

    proptest! {
        #[test]
        fn chain_is_what_a_linear_search_finds(
            raw in prop::collection::vec((any::<u32>(), 0u8..=32, 0u32..3), 0..200),
            few in any::<bool>(),
            addr in any::<u32>(),
        ) {
            // Few distinct leading bytes make prefixes nest.
            let squash = |a: u32| if few { a & 0x0303_0303 } else { a };
            let prefixes: Vec<(u32, u8, u32)> =
                raw.iter().map(|&(a, len, metric)| (squash(a) & mask(len), len, metric)).collect();
            let entries = prefixes.iter().enumerate().map(|(i, &(key, len, metric))| Entry {
                key, len, rank: (Reverse(0), metric), route: u32::try_from(i).expect("few"),
            }).collect();
            let lpm = Lpm::build(entries);
            let addr = squash(addr);
            let got: Vec<u32> = lpm.chain(addr).flat_map(|n| lpm.routes(n).to_vec()).collect();
            let mut want: Vec<(Reverse<u8>, u32, u32)> = prefixes.iter().enumerate()
                .filter(|(_, (key, len, _))| addr & mask(*len) == *key)
                .map(|(i, &(_, len, metric))| (Reverse(len), metric, u32::try_from(i).expect("few")))
                .collect();
            want.sort_unstable();
            prop_assert_eq!(got, want.into_iter().map(|w| w.2).collect::<Vec<_>>());
        }
    }
}
