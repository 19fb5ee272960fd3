//! Which rule of the capture a line of the recording means.
//!
//! By text first, where both sides were printed by the same tool: a handle is used again when a table is made
//! anew, a number when a rule is put before it. By handle or number where there is no text.

use std::cell::RefCell;
use std::collections::BTreeMap;

use knet_dataplane::table::nft::{NfFamily, Nft};
use knet_dataplane::table::xt::Table;
use knet_dataplane::trace::{Engine, Evidence, Hook};
use knet_dataplane::world::Netns;
use knet_snapshot::artifact::name;
use knet_snapshot::id::Family;
use knet_snapshot::kernel_trace::{Event, EventKind, Form, TableFamily};

/// The rules of one namespace, to find those of a recording in.
pub(super) struct Rules<'a, 's> {
    space: &'a Netns<'s>,
    /// Rules of a chain as `nft` knows them, once they were asked for.
    chains: RefCell<BTreeMap<ChainKey, Vec<NftRule>>>,
}

type ChainKey = (TableFamily, Box<str>, Box<str>);

/// A rule as `nft` knows it.
#[derive(Clone)]
struct NftRule {
    handle: u64,
    evidence: Evidence,
    /// As the tool printed it, without what counts. `None`: only our own print of the JSON is there.
    listed: Option<String>,
}

/// What the capture has of a rule.
#[derive(Debug)]
pub(super) enum Known {
    /// This one; several when they read alike.
    Rule(Vec<Evidence>),
    /// No such rule.
    Absent,
    /// The capture, or the recording, does not tell.
    Unclear,
}

const HOOKS: [Hook; 7] = [
    Hook::Ingress,
    Hook::Prerouting,
    Hook::Input,
    Hook::Forward,
    Hook::Output,
    Hook::Postrouting,
    Hook::Egress,
];

impl<'a, 's> Rules<'a, 's> {
    pub const fn new(space: &'a Netns<'s>) -> Self {
        Self {
            space,
            chains: RefCell::new(BTreeMap::new()),
        }
    }

    /// Hook and priority of a base chain.
    pub fn base(&self, family: Family, engine: Engine, table: &str, chain: &str) -> Option<(Hook, i32)> {
        HOOKS.into_iter().find_map(|hook| {
            if engine == Engine::Nft {
                let devices = matches!(hook, Hook::Ingress | Hook::Egress);
                let bases = if devices {
                    self.space.nft().base_chains_of(NfFamily::Netdev, hook)
                } else {
                    self.space.nft().base_chains(family, hook)
                };
                let found = bases
                    .iter()
                    .find(|b| *b.table.label == *table && *b.chain.name == *chain)?;
                return Some((hook, found.priority));
            }
            let bases = self.space.xt().base_chains(family, hook);
            let found = bases
                .iter()
                .find(|b| b.table.engine == engine && *b.table.name == *table && *b.name() == *chain)?;
            Some((hook, found.priority))
        })
    }

    /// The same for the chain of an event, whoever manages its table.
    pub fn base_of(&self, family: Family, event: &Event) -> Option<(Hook, i32)> {
        if event.form == Form::Log {
            return self.base(family, Engine::XtLegacy, &event.table, &event.chain);
        }
        let label = format!("{} {}", event.family.as_str(), event.table);
        self.base(family, Engine::Nft, &label, &event.chain).or_else(|| {
            let xt = table_family(family) == event.family;
            xt.then(|| self.base(family, Engine::XtNft, &event.table, &event.chain))
                .flatten()
        })
    }

    /// The rule of an event. `shift` is by how much its number is too large, because the rule that switches
    /// tracing on stands before it.
    pub fn find(&self, family: Family, event: &Event, shift: u64) -> Known {
        let EventKind::Rule {
            handle, number, rule, ..
        } = &event.what
        else {
            return Known::Unclear;
        };
        if event.form == Form::Log {
            return self.legacy(family, event, number.map(|n| n.saturating_sub(shift)));
        }
        let own = table_family(family) == event.family;
        let saved = self.table(family, Engine::XtNft, &event.table).filter(|_| own);
        let listed = self.listed(event);
        let found = match (saved, rule.as_deref().and_then(append)) {
            (Some(table), Some(text)) => by_text(table, &event.chain, text),
            _ => self.by_listing(&listed, *handle, rule.as_deref().filter(|_| event.form == Form::Nft)),
        };
        let Some(table) = saved else { return found };
        match found {
            // Identical rules of a chain: the handle says which.
            Known::Rule(all) if all.len() > 1 && all[0].artifact == table.artifact => {
                let position = handle.and_then(|h| listed.iter().position(|r| r.handle == h));
                let exact = position.and_then(|i| at(table, &event.chain, i));
                match exact.filter(|e| all.contains(e)) {
                    Some(exact) => Known::Rule(vec![exact]),
                    None => Known::Rule(all),
                }
            }
            // What nft names is the same rule as the one at its place in the save.
            Known::Rule(all) if all.iter().all(|e| e.artifact != table.artifact) => {
                if len(table, &event.chain) != listed.len() {
                    return Known::Unclear;
                }
                let place = |e: &Evidence| listed.iter().position(|r| r.evidence == *e);
                let all: Option<Vec<Evidence>> = all
                    .iter()
                    .map(|e| place(e).and_then(|i| at(table, &event.chain, i)))
                    .collect();
                all.map_or(Known::Unclear, Known::Rule)
            }
            other => other,
        }
    }

    /// The kernel has this base chain of an iptables-nft table, as `nft` lists it.
    pub fn registered(&self, family: Family, table: &str, chain: &str) -> bool {
        let wanted = table_family(family);
        let mut bases = self.space.nft().xt_bases();
        bases.any(|b| nf_family(b.family) == wanted && b.table == table && b.chain == chain)
    }

    /// The capture knows the table's chain.
    pub fn has_chain(&self, family: Family, event: &Event) -> Option<bool> {
        if event.form == Form::Log {
            return match self.table(family, Engine::XtLegacy, &event.table) {
                Some(table) => Some(table.find(&event.chain).is_some()),
                None => self.complete(family, Engine::XtLegacy).then_some(false),
            };
        }
        let own = table_family(family) == event.family;
        if own && let Some(table) = self.table(family, Engine::XtNft, &event.table) {
            return Some(table.find(&event.chain).is_some());
        }
        let nft = self.space.nft();
        if chain(nft, event).is_some() {
            return Some(true);
        }
        nft.missing().is_none().then_some(false)
    }

    /// Number of rules of a legacy chain.
    pub fn legacy_rules(&self, family: Family, table: &str, chain: &str) -> Option<u64> {
        match self.table(family, Engine::XtLegacy, table) {
            Some(table) => Some(len(table, chain) as u64),
            None => self.complete(family, Engine::XtLegacy).then_some(0),
        }
    }

    fn table(&self, family: Family, engine: Engine, name: &str) -> Option<&Table<'s>> {
        let mut tables = self.space.xt().tables().iter();
        tables.find(|t| t.engine == engine && t.family == family && *t.name == *name)
    }

    /// Everything of a back end was captured.
    fn complete(&self, family: Family, engine: Engine) -> bool {
        let mut missing = self.space.xt().missing().iter();
        !missing.any(|m| m.engine == engine && m.family == family)
    }

    fn legacy(&self, family: Family, event: &Event, number: Option<u64>) -> Known {
        let Some(table) = self.table(family, Engine::XtLegacy, &event.table) else {
            return if self.complete(family, Engine::XtLegacy) {
                Known::Absent
            } else {
                Known::Unclear
            };
        };
        let Some(position) = number
            .and_then(|n| n.checked_sub(1))
            .and_then(|n| usize::try_from(n).ok())
        else {
            return Known::Unclear;
        };
        at(table, &event.chain, position).map_or(Known::Absent, |e| Known::Rule(vec![e]))
    }

    /// The rules of an event's chain as nft lists them.
    fn listed(&self, event: &Event) -> Vec<NftRule> {
        let key = (event.family, event.table.clone(), event.chain.clone());
        if let Some(known) = self.chains.borrow().get(&key) {
            return known.clone();
        }
        let nft = self.space.nft();
        let listing = self.space.facts.path(name::NFT_TEXT);
        let rules = chain(nft, event).map_or_else(Vec::new, |chain| {
            let rules = nft.rules(chain).iter();
            rules
                .map(|rule| {
                    let evidence = nft.evidence(chain, rule);
                    NftRule {
                        handle: rule.decl.handle,
                        listed: (evidence.artifact == listing).then(|| plain(&evidence.text)),
                        evidence,
                    }
                })
                .collect()
        });
        self.chains.borrow_mut().insert(key, rules.clone());
        rules
    }

    fn by_listing(&self, listed: &[NftRule], handle: Option<u64>, text: Option<&str>) -> Known {
        if self.space.nft().missing().is_some() {
            return Known::Unclear;
        }
        let by_handle = || handle.and_then(|h| listed.iter().find(|r| r.handle == h));
        let one = |rule: &NftRule| Known::Rule(vec![rule.evidence.clone()]);
        let Some(text) = text.map(plain) else {
            return by_handle().map_or(Known::Unclear, one);
        };
        let same = |rule: &&NftRule| match &rule.listed {
            Some(listed) => *listed == text,
            None => plain(&rule.evidence.text) == text,
        };
        let alike: Vec<&NftRule> = listed.iter().filter(same).collect();
        if let Some(exact) = alike.iter().find(|r| Some(r.handle) == handle) {
            return one(exact);
        }
        if !alike.is_empty() {
            return Known::Rule(alike.iter().map(|r| r.evidence.clone()).collect());
        }
        if listed.iter().all(|r| r.listed.is_some()) {
            return Known::Absent;
        }
        // Our print of the JSON may read otherwise than the tool's.
        by_handle().map_or(Known::Unclear, one)
    }
}

/// `-4 -t nat -A CHAIN …`: the part a save prints.
fn append(text: &str) -> Option<&str> {
    text.find("-A ").map(|i| &text[i..])
}

/// The rule of a save at a position of a chain.
fn at(table: &Table<'_>, chain: &str, position: usize) -> Option<Evidence> {
    let chain = table.chain(table.find(chain)?.index)?;
    let rule = table.rule(chain, position)?;
    Some(Evidence {
        artifact: table.artifact.clone(),
        at: rule.at,
        handle: None,
        text: table.text(rule.at).as_ref().into(),
    })
}

fn len(table: &Table<'_>, chain: &str) -> usize {
    let index = table.find(chain).map(|c| c.index);
    index.and_then(|i| table.chain(i)).map_or(0, |c| c.len())
}

fn by_text(table: &Table<'_>, chain: &str, text: &str) -> Known {
    let text = words(text);
    let found: Vec<Evidence> = (0..len(table, chain))
        .filter_map(|i| at(table, chain, i))
        .filter(|e| words(&e.text) == text)
        .collect();
    if found.is_empty() {
        Known::Absent
    } else {
        Known::Rule(found)
    }
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A rule of nft without what counts: a trace and a listing print other numbers.
fn plain(text: &str) -> String {
    let mut out: Vec<&str> = Vec::new();
    let mut words = text.split_whitespace().peekable();
    let number = |w: &&str| w.bytes().all(|b| b.is_ascii_digit());
    while let Some(word) = words.next() {
        if word == "#" && words.peek() == Some(&"handle") {
            break;
        }
        if matches!(word, "packets" | "bytes" | "used") && words.peek().is_some_and(number) {
            words.next();
            if word == "used" {
                words.next();
            }
            continue;
        }
        out.push(word);
    }
    out.join(" ")
}

fn chain<'x, 's>(nft: &'x Nft<'s>, event: &Event) -> Option<&'x knet_dataplane::table::nft::Chain<'s>> {
    let mut tables = nft.tables().iter();
    let table = tables.position(|t| nf_family(t.family) == event.family && *t.name == *event.table)?;
    nft.chain_of(table, &event.chain)
}

/// The family of an iptables table.
pub(super) const fn table_family(family: Family) -> TableFamily {
    match family {
        Family::V4 => TableFamily::Ip,
        Family::V6 => TableFamily::Ip6,
    }
}

const fn nf_family(family: NfFamily) -> TableFamily {
    match family {
        NfFamily::Ip => TableFamily::Ip,
        NfFamily::Ip6 => TableFamily::Ip6,
        NfFamily::Inet => TableFamily::Inet,
        NfFamily::Arp => TableFamily::Arp,
        NfFamily::Bridge => TableFamily::Bridge,
        NfFamily::Netdev => TableFamily::Netdev,
    }
}

#[cfg(test)]
mod tests {
    use super::{append, plain};

    #[test]
    fn what_counts_is_no_part_of_a_rule() {
        assert_eq!(
            plain("counter packets 12 bytes 720 meta l4proto tcp  dnat to 10.2.0.2:8080 # handle 14"),
            "counter meta l4proto tcp dnat to 10.2.0.2:8080"
        );
        assert_eq!(
            plain("quota over 25 mbytes used 3 mbytes drop"),
            "quota over 25 mbytes drop"
        );
        // Not a counter: the limit is part of the rule.
        assert_eq!(
            plain("limit rate 10/second burst 5 packets"),
            "limit rate 10/second burst 5 packets"
        );
    }

    #[test]
    fn the_part_of_a_rule_that_a_save_prints() {
        assert_eq!(
            append("-4 -t nat -A KUBE-SVC -g KUBE-SEP"),
            Some("-A KUBE-SVC -g KUBE-SEP")
        );
        assert_eq!(append("counter packets 0 bytes 0"), None);
    }
}
