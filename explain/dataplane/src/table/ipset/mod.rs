//! IP sets of one namespace, and whether a packet is in one: `ip_set_test` (`net/netfilter/ipset`).
//!
//! A set is compiled when it is first asked about: its members go into one hash table, and a lookup
//! costs one probe per combination of prefix lengths the set holds, as in the kernel. Whatever cannot be
//! read (a type, a member, an option) makes the answers it could change *unknown*, and no others.

mod compile;
mod entry;
mod kind;
mod lookup;
mod names;
mod query;

use std::sync::{Arc, OnceLock};

use hashbrown::HashMap;
use knet_snapshot::Table;
use knet_snapshot::ipset::{IpSet, Member};
use knet_snapshot::manifest::AbsentReason;
use knet_snapshot::store::NetnsFacts;
use smallvec::SmallVec;

pub use self::query::{SetFlags, SetQuery, Side};

use self::compile::{Compiled, Members};
use self::lookup::Found;
use crate::trace::Evidence;
use crate::tri::Tri;

/// The sets of a namespace by name.
#[derive(Debug)]
pub struct IpSets<'s> {
    artifact: Arc<str>,
    missing: Option<AbsentReason>,
    sets: Vec<OneSet<'s>>,
    by_name: HashMap<&'s str, usize>,
}

#[derive(Debug)]
struct OneSet<'s> {
    fact: &'s IpSet,
    /// Something of this set in the artifact could not be read, or its name stands there twice.
    damaged: bool,
    compiled: OnceLock<Compiled<'s>>,
}

/// Is the packet in the set?
#[derive(Clone, Debug)]
pub struct SetAnswer<'s> {
    /// What the match of xtables says, before its own `!`.
    pub matched: Tri,
    /// Why it cannot be told; set when, and only when, `matched` is unknown.
    pub doubt: Option<Doubt>,
    artifact: Arc<str>,
    lines: SmallVec<[Line<'s>; 2]>,
}

/// Why an answer about a set is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Doubt {
    /// `ipset.save` is not in the snapshot.
    NotCaptured(AbsentReason),
    /// The set is not in `ipset.save`, though something refers to it: the capture raced with a change.
    NoSuchSet,
    /// A set type, or an option of `create`, that is not modelled.
    Type,
    /// A member that could decide cannot be read.
    Member,
    /// The rule asks about counters, which move on.
    Counters,
    /// The packet's address on the link is not known.
    Mac,
    /// The packet's port is drawn at random, or its transport header is not modelled.
    Port,
    /// `hash:net,iface` holds the same network with and without `physdev:`; which of the two ends the
    /// search depends on the set's hash seed.
    HashSeed,
}

#[derive(Clone, Copy, Debug)]
enum Line<'s> {
    Create(&'s IpSet),
    Add(&'s IpSet, &'s Member),
}

impl<'s> IpSets<'s> {
    /// Indexes the sets; members are compiled when a set is first tested.
    #[must_use]
    pub fn compile(facts: &'s NetnsFacts) -> Self {
        let fact = facts.ipsets();
        let artifact = facts.path(knet_snapshot::artifact::name::IPSET);
        match fact.get() {
            Some(table) => Self {
                artifact,
                ..Self::from_table(table)
            },
            None => Self {
                artifact,
                missing: fact.missing(),
                sets: Vec::new(),
                by_name: HashMap::new(),
            },
        }
    }

    /// The sets of a captured table.
    #[must_use]
    pub fn from_table(table: &'s Table<IpSet>) -> Self {
        let mut sets: Vec<OneSet<'s>> = Vec::with_capacity(table.rows.len());
        let mut by_name = HashMap::with_capacity(table.rows.len());
        for fact in &table.rows {
            if let Some(&first) = by_name.get(fact.name.as_str()) {
                let first: &mut OneSet<'_> = &mut sets[first];
                first.damaged = true;
                continue;
            }
            by_name.insert(fact.name.as_str(), sets.len());
            sets.push(OneSet {
                fact,
                damaged: false,
                compiled: OnceLock::new(),
            });
        }
        for problem in &table.problems {
            // `ipset save` prints the members of a set right after its `create` line, so trouble at an
            // offset belongs to the set that stands last before it; without one it could be any set.
            let owner = problem.offset.and_then(|offset| {
                sets.iter_mut()
                    .filter(|s| s.fact.at.start <= offset)
                    .max_by_key(|s| s.fact.at.start)
            });
            match (problem.offset, owner) {
                (Some(_), Some(set)) => set.damaged = true,
                (Some(_), None) => {}
                (None, _) => sets.iter_mut().for_each(|s| s.damaged = true),
            }
        }
        Self {
            artifact: table.artifact.clone(),
            missing: None,
            sets,
            by_name,
        }
    }

    /// The artifact, when it was not captured.
    #[must_use]
    pub fn missing(&self) -> Option<&Arc<str>> {
        self.missing.map(|_| &self.artifact)
    }

    /// The set of that name was captured.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// Whether `-m set --match-set NAME DIRS` matches the packet (`ip_set_test`), in this order:
    ///
    /// 1. fewer directions than the type has dimensions, or another family: no;
    /// 2. a dimension the packet has not (`hash_*_kadt` returns `-EINVAL`): no;
    /// 3. the member that decides, longest prefix of the first dimension first, then of the second;
    /// 4. a `nomatch` member means no; `--return-nomatch` swaps the two.
    #[must_use]
    pub fn test(&self, name: &str, query: &SetQuery<'_>) -> SetAnswer<'s> {
        let mut lines = SmallVec::new();
        let verdict = match (self.missing, self.by_name.get(name)) {
            (Some(why), _) => Err(Doubt::NotCaptured(why)),
            (None, None) => Err(Doubt::NoSuchSet),
            (None, Some(&i)) => self.test_one(i, query, true, &mut lines),
        };
        let (matched, doubt) = match verdict {
            Ok(matched) => (Tri::from(matched), None),
            Err(doubt) => (Tri::Unknown, Some(doubt)),
        };
        SetAnswer {
            matched,
            doubt,
            artifact: self.artifact.clone(),
            lines,
        }
    }

    fn test_one(
        &self,
        index: usize,
        query: &SetQuery<'_>,
        may_be_list: bool,
        lines: &mut SmallVec<[Line<'s>; 2]>,
    ) -> Result<bool, Doubt> {
        let set = &self.sets[index];
        let compiled = set.compiled.get_or_init(|| Compiled::new(set.fact, set.damaged));
        let found = match &compiled.members {
            Members::Unsupported => Err(Doubt::Type),
            Members::List(order) if may_be_list => return self.test_list(set.fact, compiled, order, query, lines),
            // The kernel refuses lists in lists (IPSET_ERR_LOOP).
            Members::List(_) => Err(Doubt::Type),
            Members::Hash(_) => lookup::test(compiled, query),
        };
        let (verdict, line) = match found {
            Ok(Found::Hit { member, nomatch }) => {
                let yes = nomatch == (query.flags.return_nomatch && compiled.kind.has_nomatch());
                let line = set
                    .fact
                    .members
                    .get(member)
                    .map_or(Line::Create(set.fact), |m| Line::Add(set.fact, m));
                // Members whose counters do not satisfy the rule are passed over.
                let counted = query.flags.counters && compiled.counters;
                (if counted { Err(Doubt::Counters) } else { Ok(yes) }, line)
            }
            Ok(Found::Nothing) => (Ok(false), Line::Create(set.fact)),
            Err(doubt) => (Err(doubt), Line::Create(set.fact)),
        };
        lines.push(line);
        verdict
    }

    /// `list_set_ktest`: the sets in order, the first that matches decides. Their own counters are not
    /// asked about, the list's are.
    fn test_list(
        &self,
        list: &'s IpSet,
        compiled: &Compiled<'s>,
        order: &[(&'s str, usize)],
        query: &SetQuery<'_>,
        lines: &mut SmallVec<[Line<'s>; 2]>,
    ) -> Result<bool, Doubt> {
        if query.dirs.is_empty() {
            lines.push(Line::Create(list));
            return Ok(false);
        }
        let below = SetQuery {
            flags: SetFlags {
                counters: false,
                ..query.flags
            },
            ..*query
        };
        let mut doubt = compiled.opaque.then_some(Doubt::Member);
        for &(name, member) in order {
            let mut found = SmallVec::new();
            let verdict = match self.by_name.get(name) {
                Some(&i) => self.test_one(i, &below, false, &mut found),
                None => Err(Doubt::NoSuchSet),
            };
            match verdict {
                Ok(false) => {}
                Ok(true) => {
                    lines.push(
                        list.members
                            .get(member)
                            .map_or(Line::Create(list), |m| Line::Add(list, m)),
                    );
                    lines.extend(found);
                    let counted = query.flags.counters && compiled.counters;
                    return if counted { Err(Doubt::Counters) } else { Ok(true) };
                }
                Err(why) => {
                    doubt = doubt.or(Some(why));
                    lines.extend(found);
                }
            }
        }
        if lines.is_empty() {
            lines.push(Line::Create(list));
        }
        doubt.map_or(Ok(false), Err)
    }
}

impl SetAnswer<'_> {
    /// The member lines that decided (for a list: its own line, then that of the set in it), or the
    /// `create` line when no member did. Empty when the set is not there.
    #[must_use]
    pub fn evidence(&self) -> Vec<Evidence> {
        self.lines
            .iter()
            .map(|line| {
                let (at, text) = match line {
                    Line::Create(set) => (
                        set.at,
                        joined(
                            &["create", &set.name, &set.kind],
                            set.options.iter().map(String::as_str),
                        ),
                    ),
                    Line::Add(set, member) => {
                        let options = member.options.iter().map(String::as_str);
                        (member.at, joined(&["add", &set.name, &member.entry], options))
                    }
                };
                Evidence {
                    artifact: self.artifact.clone(),
                    at,
                    handle: None,
                    text,
                }
            })
            .collect()
    }
}

/// The line as `ipset save` prints it: a comment of several words in quotes.
fn joined<'a>(head: &[&'a str], options: impl Iterator<Item = &'a str>) -> Arc<str> {
    let mut line = head.join(" ");
    for word in options {
        line.push(' ');
        if word.is_empty() || word.contains(' ') {
            line.extend(["\"", word, "\""]);
        } else {
            line.push_str(word);
        }
    }
    Arc::from(line)
}

#[cfg(test)]
mod tests;
