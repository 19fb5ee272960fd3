//! One chain: its lines, and which of them can concern a destination address.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::OnceLock;

use hashbrown::HashMap;
use knet_snapshot::Row;
use knet_snapshot::id::Family;
use knet_snapshot::xtsave::{XtChainIndex, without_counters};
use smallvec::SmallVec;

use super::parse;
use super::rule::{ChainRef, Rule, bits};

/// A chain longer than this gets an index.
const INDEX_FROM: usize = 64;

/// One chain.
#[derive(Debug, Default)]
pub struct Chain {
    slots: Vec<Slot>,
    by_dst: Option<DstIndex>,
}

#[derive(Debug)]
struct Slot {
    at: Row,
    rule: OnceLock<Box<Rule>>,
}

/// Rules that want one exact destination, by that destination, and all others. Both lists are in chain
/// order, so merging them visits what a linear search would have found matching, in the same order.
#[derive(Debug, Default)]
struct DstIndex {
    exact: HashMap<u128, SmallVec<[u32; 4]>>,
    others: Vec<u32>,
}

impl Chain {
    pub(super) fn cut(index: Option<&XtChainIndex>, bytes: &[u8], family: Family) -> Self {
        let Some(index) = index else { return Self::default() };
        let mut slots: Vec<Slot> = Vec::new();
        for (start, end) in index.rules.iter() {
            let mut start = start;
            let run = bytes.get(start..end).unwrap_or_default();
            let ends = memchr::memchr_iter(b'\n', run).chain((run.last() != Some(&b'\n')).then_some(run.len()));
            let base = start;
            for end in ends.map(|end| base + end) {
                let len = end - start - usize::from(end > start && bytes[end - 1] == b'\r');
                if len > 0 {
                    let at = Row {
                        start: start as u64,
                        len: u32::try_from(len).unwrap_or(u32::MAX),
                    };
                    slots.push(Slot {
                        at,
                        rule: OnceLock::new(),
                    });
                }
                start = end + 1;
            }
        }
        let by_dst = (slots.len() > INDEX_FROM).then(|| DstIndex::build(&slots, bytes, family));
        Self { slots, by_dst }
    }

    /// Number of rules.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// There are no rules.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The first rule at or after a position that may match a destination; without one, the first rule.
    #[must_use]
    pub fn next(&self, from: usize, dst: Option<IpAddr>) -> Option<usize> {
        match (&self.by_dst, dst) {
            (Some(index), Some(dst)) => index.next(from, bits(dst)),
            _ => (from < self.slots.len()).then_some(from),
        }
    }

    pub(super) fn rule(
        &self,
        position: usize,
        bytes: &[u8],
        family: Family,
        find: &dyn Fn(&str) -> Option<ChainRef>,
    ) -> Option<&Rule> {
        let slot = self.slots.get(position)?;
        Some(
            slot.rule
                .get_or_init(|| Box::new(parse::rule(&text(bytes, slot.at), slot.at, family, find))),
        )
    }
}

impl DstIndex {
    fn build(slots: &[Slot], bytes: &[u8], family: Family) -> Self {
        let mut this = Self {
            exact: HashMap::with_capacity(slots.len()),
            others: Vec::new(),
        };
        for (i, slot) in slots.iter().enumerate() {
            let i = u32::try_from(i).unwrap_or(u32::MAX);
            match exact_destination(line(bytes, slot.at), family) {
                Some(dst) => this.exact.entry(dst).or_default().push(i),
                None => this.others.push(i),
            }
        }
        this
    }

    fn next(&self, from: usize, dst: u128) -> Option<usize> {
        let from = u32::try_from(from).ok()?;
        let after = |list: &[u32]| list.get(list.partition_point(|&i| i < from)).copied();
        let exact = self.exact.get(&dst).and_then(|list| after(list));
        let other = after(&self.others);
        let next = match (exact, other) {
            (Some(a), Some(b)) => a.min(b),
            (a, b) => a.or(b)?,
        };
        Some(next as usize)
    }
}

/// The address of `-d ADDRESS/32` or `/128` when it stands where a save prints it: after at most a `-s`.
/// Anything else is left to the full parser.
fn exact_destination(line: &[u8], family: Family) -> Option<u128> {
    let mut words = line.split(|b| *b == b' ');
    if words.next()? != b"-A" {
        return None;
    }
    words.next()?;
    let mut option = words.next()?;
    if option == b"-s" {
        words.next()?;
        option = words.next()?;
    }
    if option != b"-d" {
        return None;
    }
    let word = std::str::from_utf8(words.next()?).ok()?;
    let address: Option<IpAddr> = match family {
        Family::V4 => word.strip_suffix("/32")?.parse().ok().map(IpAddr::V4),
        Family::V6 => word.strip_suffix("/128")?.parse().ok().map(IpAddr::V6),
    };
    address.map(bits)
}

/// The rule in a row, without the counters in front of it.
pub(super) fn text(bytes: &[u8], at: Row) -> Cow<'_, str> {
    String::from_utf8_lossy(line(bytes, at))
}

fn line(bytes: &[u8], at: Row) -> &[u8] {
    let start = usize::try_from(at.start).unwrap_or(usize::MAX);
    without_counters(
        bytes
            .get(start..start.saturating_add(at.len as usize))
            .unwrap_or_default(),
    )
}
