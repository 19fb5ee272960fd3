//! Sets and maps: one hash lookup for exact keys, a binary search for intervals, and for concatenations of
//! intervals (`nft_set_pipapo`) one hash lookup for each combination of prefix lengths in use.

use std::sync::OnceLock;

use hashbrown::{HashMap, HashSet};
use knet_snapshot::nft::{Expr, Verdict};
use smallvec::SmallVec;

use super::ty::{IfNames, Kind, Span, Ty};

/// A key or value of several parts.
pub type Parts = SmallVec<[u128; 4]>;
/// One span for every part.
pub type Spans = SmallVec<[Span; 2]>;

/// A set or map whose elements are read when it is first asked.
#[derive(Debug)]
pub struct Set<'s> {
    /// Elements as written.
    pub elems: &'s [Expr],
    /// Elements that were listed apart from the set.
    pub more: Vec<&'s [Expr]>,
    /// Types of the key.
    pub key: SmallVec<[Ty; 4]>,
    /// Types of the value; empty for a set and for a verdict map.
    pub value: SmallVec<[Ty; 4]>,
    /// It is a map.
    pub map: bool,
    index: OnceLock<Index<'s>>,
    partial: OnceLock<Partial>,
}

/// An element that matched.
#[derive(Debug)]
pub struct Hit<'x, 's> {
    /// The element as written (key and value, for a map).
    pub written: &'s Expr,
    /// Its value.
    pub data: &'x Data<'s>,
    /// A statement of the element decides as well (`limit`, `quota`, `ct count`).
    pub conditional: bool,
}

/// What a lookup says.
#[derive(Debug)]
pub enum Answer<'x, 's> {
    /// An element matches.
    Hit(Hit<'x, 's>),
    /// None does.
    Miss,
    /// None that could be read, but some could not.
    Unknown,
}

/// The value of an element.
#[derive(Debug)]
pub enum Data<'s> {
    /// It has none.
    None,
    /// A verdict.
    Verdict(&'s Verdict),
    /// Values; a part that is a range is one for NAT.
    Values(Spans),
    /// Not understood.
    Unreadable,
}

#[derive(Debug)]
struct Element<'s> {
    written: &'s Expr,
    data: Data<'s>,
    conditional: bool,
}

#[derive(Debug)]
struct Index<'s> {
    elements: Vec<Element<'s>>,
    find: Find,
    /// `*`: matches what no other element does.
    catchall: Option<u32>,
    unreadable: bool,
}

#[derive(Debug)]
enum Find {
    One(HashMap<u128, u32>),
    Exact(HashMap<Parts, u32>),
    Interval(Vec<(Span, u32)>),
    Grouped(Vec<Group>, Vec<Spans>),
}

/// For keys of which not every bit is known: the keys in order, and the single values of each part.
#[derive(Debug)]
struct Partial {
    keys: Vec<Spans>,
    /// `None` for a part in which some element has a range.
    values: Vec<Option<HashSet<u128>>>,
    /// A catch-all element, or one that could not be read.
    open: bool,
}

/// Elements whose parts are prefixes of the same lengths, or arbitrary ranges in the same places.
#[derive(Debug)]
struct Group {
    /// The bits that count in each part; `None` for an arbitrary range.
    masks: SmallVec<[Option<u128>; 4]>,
    by_key: HashMap<Parts, SmallVec<[u32; 1]>>,
}

impl<'s> Set<'s> {
    /// A set over elements as written.
    #[must_use]
    pub fn new(elems: &'s [Expr], key: SmallVec<[Ty; 4]>, value: SmallVec<[Ty; 4]>, map: bool) -> Self {
        Self {
            elems,
            more: Vec::new(),
            key,
            value,
            map,
            index: OnceLock::new(),
            partial: OnceLock::new(),
        }
    }

    /// Looks a key up.
    pub fn find<'x>(&'x self, key: &[u128], ifs: &IfNames<'_>) -> Answer<'x, 's> {
        let index = self.index.get_or_init(|| self.compile(ifs));
        let found = index.find.get(key).or(index.catchall);
        match found.and_then(|i| index.elements.get(i as usize)) {
            Some(e) => Answer::Hit(Hit {
                written: e.written,
                data: &e.data,
                conditional: e.conditional,
            }),
            None if index.unreadable => Answer::Unknown,
            None => Answer::Miss,
        }
    }

    /// Whether some element may match a key of which only the bits in `known` are sure.
    pub fn may_hold(&self, key: &[u128], known: &[u128], ifs: &IfNames<'_>) -> bool {
        let partial = self.partial.get_or_init(|| self.keys(ifs));
        if partial.open {
            return true;
        }
        let parts = || key.iter().zip(known).zip(&self.key).enumerate();
        for (i, ((value, known), ty)) in parts() {
            if known & ty.mask() == ty.mask()
                && let Some(Some(values)) = partial.values.get(i)
                && !values.contains(&(value & ty.mask()))
            {
                return false;
            }
        }
        partial.keys.iter().any(|spans| {
            parts().zip(spans).all(|((_, ((value, known), ty)), (lo, hi))| {
                let min = value & known & ty.mask();
                let max = min | (!known & ty.mask());
                min <= *hi && max >= *lo && (lo != hi || (lo ^ value) & known & ty.mask() == 0)
            })
        })
    }

    fn keys(&self, ifs: &IfNames<'_>) -> Partial {
        let mut partial = Partial {
            keys: Vec::new(),
            values: self.key.iter().map(|_| Some(HashSet::new())).collect(),
            open: false,
        };
        for written in self.elems.iter().chain(self.more.iter().copied().flatten()) {
            let key = match written {
                Expr::List(pair) if self.map && pair.len() == 2 => &pair[0],
                _ => written,
            };
            let Some(spans) = spans(key, &self.key, ifs) else {
                partial.open = true;
                continue;
            };
            for (values, (lo, hi)) in partial.values.iter_mut().zip(&spans) {
                if lo == hi {
                    values.iter_mut().for_each(|v| {
                        v.insert(*lo);
                    });
                } else {
                    *values = None;
                }
            }
            partial.keys.push(spans);
        }
        partial
    }

    /// How many elements there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.elems.len() + self.more.iter().map(|m| m.len()).sum::<usize>()
    }

    /// There are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn compile(&self, ifs: &IfNames<'_>) -> Index<'s> {
        let mut elements = Vec::with_capacity(self.len());
        let mut keys: Vec<Spans> = Vec::with_capacity(self.len());
        let mut catchall = None;
        let mut unreadable = false;
        for written in self.elems.iter().chain(self.more.iter().copied().flatten()) {
            let (key, data) = match written {
                Expr::List(pair) if self.map && pair.len() == 2 => (&pair[0], self.data(&pair[1], ifs)),
                _ if self.map => {
                    unreadable = true;
                    continue;
                }
                _ => (written, Data::None),
            };
            let (key, conditional) = match key {
                Expr::Elem(elem) => (
                    &elem.val,
                    elem.stmts.iter().any(|(k, _)| !matches!(&**k, "counter" | "last")),
                ),
                _ => (key, false),
            };
            let at = u32::try_from(elements.len()).unwrap_or(u32::MAX);
            if matches!(key, Expr::Text(t) if &**t == "*") && self.key.first().is_none_or(|t| t.kind != Kind::IfName) {
                catchall = Some(at);
                keys.push(Spans::new());
            } else if let Some(spans) = spans(key, &self.key, ifs) {
                keys.push(spans);
            } else {
                unreadable = true;
                continue;
            }
            elements.push(Element {
                written,
                data,
                conditional,
            });
        }
        Index {
            find: Find::build(keys, self.key.len()),
            elements,
            catchall,
            unreadable,
        }
    }

    fn data(&self, expr: &'s Expr, ifs: &IfNames<'_>) -> Data<'s> {
        match expr {
            Expr::Verdict(verdict) => Data::Verdict(verdict),
            Expr::Elem(elem) => self.data(&elem.val, ifs),
            // The value is the name of an object.
            _ if self.value.is_empty() => Data::None,
            _ => spans(expr, &self.value, ifs).map_or(Data::Unreadable, Data::Values),
        }
    }
}

/// The parts of a constant.
pub fn spans(expr: &Expr, tys: &[Ty], ifs: &IfNames<'_>) -> Option<Spans> {
    match (expr, tys) {
        (Expr::Concat(parts), _) if parts.len() == tys.len() => {
            parts.iter().zip(tys).map(|(part, ty)| ty.constant(part, ifs)).collect()
        }
        (Expr::Elem(elem), _) => spans(&elem.val, tys, ifs),
        (_, [ty]) => Some(SmallVec::from_iter([ty.constant(expr, ifs)?])),
        _ => None,
    }
}

impl Find {
    /// Keys in the order of the elements; a key without parts is never found.
    fn build(keys: Vec<Spans>, parts: usize) -> Self {
        let exact = keys.iter().flatten().all(|(lo, hi)| lo == hi);
        let numbered = || keys.iter().zip(0_u32..).filter(|(k, _)| !k.is_empty());
        if exact && parts == 1 {
            return Self::One(numbered().map(|(k, i)| (k[0].0, i)).collect());
        }
        if exact {
            return Self::Exact(numbered().map(|(k, i)| (k.iter().map(|s| s.0).collect(), i)).collect());
        }
        if parts == 1 {
            let mut spans: Vec<(Span, u32)> = numbered().map(|(k, i)| (k[0], i)).collect();
            spans.sort_unstable();
            return Self::Interval(spans);
        }
        let mut groups: Vec<Group> = Vec::new();
        let mut by_masks: HashMap<SmallVec<[Option<u128>; 4]>, usize> = HashMap::new();
        for (key, i) in numbered() {
            let masks: SmallVec<[Option<u128>; 4]> = key.iter().map(|s| prefix_mask(*s)).collect();
            let group = *by_masks.entry(masks.clone()).or_insert_with(|| {
                groups.push(Group {
                    masks,
                    by_key: HashMap::new(),
                });
                groups.len() - 1
            });
            let group = &mut groups[group];
            let at = masked(key.iter().map(|s| s.0), &group.masks);
            group.by_key.entry(at).or_default().push(i);
        }
        Self::Grouped(groups, keys)
    }

    fn get(&self, key: &[u128]) -> Option<u32> {
        match self {
            Self::One(map) => map.get(key.first()?).copied(),
            Self::Exact(map) => map.get(&Parts::from_slice(key)).copied(),
            // The kernel keeps intervals of one set apart, so the last that begins before the key is the only one.
            Self::Interval(spans) => {
                let k = *key.first()?;
                let at = spans.partition_point(|((lo, _), _)| *lo <= k).checked_sub(1)?;
                let ((_, hi), i) = spans[at];
                (k <= hi).then_some(i)
            }
            // The earliest element wins where several match, as in the kernel's mapping table.
            Self::Grouped(groups, keys) => groups
                .iter()
                .filter_map(|g| {
                    let found = g.by_key.get(&masked(key.iter().copied(), &g.masks))?;
                    let fits = |i: &&u32| {
                        keys[**i as usize]
                            .iter()
                            .zip(key)
                            .all(|((lo, hi), k)| (lo..=hi).contains(&k))
                    };
                    found.iter().find(fits).copied()
                })
                .min(),
        }
    }
}

fn masked(key: impl Iterator<Item = u128>, masks: &[Option<u128>]) -> Parts {
    key.zip(masks).map(|(k, m)| m.map_or(0, |m| k & m)).collect()
}

/// The bits that count, when the span is a prefix.
fn prefix_mask((lo, hi): Span) -> Option<u128> {
    let host = lo ^ hi;
    let is_prefix = host & host.wrapping_add(1) == 0 && lo & host == 0;
    is_prefix.then_some(!host)
}
