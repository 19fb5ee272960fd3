//! Native nftables of one namespace: tables, chains and sets, resolved when a walk first needs them.
//!
//! Tables that `iptables-nft` manages are here only with the places of their base chains: their rules come
//! from the `*.save` text, because `nft -j` prints no arguments of an iptables match or target.

pub mod expr;
mod field;
pub mod names;
pub mod print;
pub mod set;
pub mod stmt;
pub mod ty;

use std::sync::{Arc, OnceLock};

use hashbrown::{HashMap, HashSet};
use knet_snapshot::Fact;
use knet_snapshot::Row;
use knet_snapshot::artifact::name;
use knet_snapshot::id::Family;
use knet_snapshot::manifest::AbsentReason;
use knet_snapshot::nft::{self as raw, Listing, ObjectKind, TableText};
use knet_snapshot::store::NetnsFacts;

use crate::trace::{Evidence, Hook};
use expr::{Scope, SetRef, Tys};
use set::Set;
use stmt::Stmt;
use ty::{IfNames, Kind, Ty};

/// Families of tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "each variant is the family it names")]
pub enum NfFamily {
    Ip,
    Ip6,
    Inet,
    Arp,
    Bridge,
    Netdev,
}

impl NfFamily {
    /// By name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "ip" => Self::Ip,
            "ip6" => Self::Ip6,
            "inet" => Self::Inet,
            "arp" => Self::Arp,
            "bridge" => Self::Bridge,
            "netdev" => Self::Netdev,
            _ => return None,
        })
    }
}

/// The nftables of a namespace.
#[derive(Debug)]
pub struct Nft<'s> {
    artifact: Arc<str>,
    tables: Vec<Table<'s>>,
    chains: Vec<Chain<'s>>,
    /// Those at a hook: few, where a service may have a chain of its own.
    bases: Vec<usize>,
    sets: Vec<NamedSet<'s>>,
    listing: Option<&'s Listing>,
    ifs: IfNames<'s>,
    missing: Option<AbsentReason>,
    damaged: bool,
}

/// One table.
#[derive(Debug)]
pub struct Table<'s> {
    /// Family.
    pub family: NfFamily,
    /// Name.
    pub name: &'s str,
    /// `ip kube-proxy`, as `nft` names it.
    pub label: Arc<str>,
    /// Handle.
    pub handle: u64,
    /// `iptables-nft` manages it: its rules are in a save.
    pub xt: bool,
    /// Its chains are not registered.
    pub dormant: bool,
    text: Option<&'s TableText>,
    chains: HashMap<&'s str, usize>,
    sets: HashMap<&'s str, usize>,
    helpers: HashMap<&'s str, &'s str>,
}

/// One chain.
#[derive(Debug)]
pub struct Chain<'s> {
    /// Its table, by position.
    pub table: usize,
    /// Name.
    pub name: Arc<str>,
    /// Where it is declared; `None`: only its rules are in the ruleset.
    pub decl: Option<(&'s raw::ChainDecl, Row)>,
    rules: Vec<(&'s raw::Rule, Row)>,
    compiled: OnceLock<Vec<Rule<'s>>>,
}

/// One rule.
#[derive(Debug)]
pub struct Rule<'s> {
    /// As written.
    pub decl: &'s raw::Rule,
    /// Where.
    pub at: Row,
    /// Its statements.
    pub stmts: Vec<Stmt<'s>>,
}

#[derive(Debug)]
struct NamedSet<'s> {
    decl: &'s raw::Set,
    at: Row,
    set: Set<'s>,
}

/// A chain at a hook.
#[derive(Clone, Copy, Debug)]
pub struct BaseChain<'x, 's> {
    /// The ruleset.
    pub nft: &'x Nft<'s>,
    /// The chain.
    pub chain: &'x Chain<'s>,
    /// Its table.
    pub table: &'x Table<'s>,
    /// Priority as declared. A chain of type `nat` has its place among the NAT chains by it, and runs at
    /// the fixed priority of NAT at its hook.
    pub priority: i32,
}

impl BaseChain<'_, '_> {
    /// Of type `nat`: asked only for the first packet of a connection.
    #[must_use]
    pub fn is_nat(&self) -> bool {
        self.of_type("nat")
    }

    /// Of type `route`: the packet is routed again when the chain changed what routing looks at.
    #[must_use]
    pub fn reroutes(&self) -> bool {
        self.of_type("route")
    }

    fn of_type(&self, kind: &str) -> bool {
        self.chain.decl.is_some_and(|(d, _)| d.kind.as_deref() == Some(kind))
    }

    /// Its policy is `drop`.
    #[must_use]
    pub fn drops(&self) -> bool {
        self.chain
            .decl
            .is_some_and(|(d, _)| d.policy.as_deref() == Some("drop"))
    }

    /// Devices of a netdev chain (or an inet chain at ingress). Empty: not printed anywhere.
    #[must_use]
    pub fn devices(&self) -> Vec<&str> {
        let Some((decl, _)) = self.chain.decl else {
            return Vec::new();
        };
        if !decl.dev.is_empty() {
            return decl.dev.iter().map(|d| &**d).collect();
        }
        let text = self
            .table
            .text
            .and_then(|t| t.chains.iter().find(|c| *c.name == *self.chain.name));
        text.map_or_else(Vec::new, |c| c.devices.iter().map(|d| &**d).collect())
    }
}

/// A base chain of a table that `iptables-nft` manages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XtBase<'x> {
    /// Family.
    pub family: NfFamily,
    /// Table (`nat`).
    pub table: &'x str,
    /// Chain (`PREROUTING`).
    pub chain: &'x str,
    /// Hook.
    pub hook: Hook,
    /// Priority.
    pub priority: i32,
    /// Order of registration: the handles of the table and the chain.
    pub registered: (u64, u64),
}

impl<'s> Nft<'s> {
    /// Indexes the ruleset. Rules and elements are resolved when they are first met.
    #[must_use]
    pub fn compile(facts: &'s NetnsFacts) -> Self {
        let mut this = Self {
            artifact: facts.path(name::NFT_JSON),
            tables: Vec::new(),
            chains: Vec::new(),
            bases: Vec::new(),
            sets: Vec::new(),
            listing: facts.nft_listing().get(),
            ifs: IfNames::compile(facts),
            missing: None,
            damaged: false,
        };
        let objects = match facts.nft() {
            Fact::Known(table) | Fact::Empty(table, _) => table,
            Fact::Unknown(why) => {
                this.missing = Some(*why);
                return this;
            }
        };
        let saved = Saved::of(facts);
        let mut by_name: HashMap<(NfFamily, &'s str), usize> = HashMap::new();
        for object in &objects.rows {
            if let ObjectKind::Table(decl) = &object.kind
                && let Some(family) = NfFamily::parse(&decl.family)
            {
                by_name.insert((family, &*decl.name), this.tables.len());
                this.tables.push(this.table(decl, family, &saved));
            }
        }
        let find = |family: &str, table: &'s str| {
            NfFamily::parse(family).and_then(|family| by_name.get(&(family, table)).copied())
        };
        for object in &objects.rows {
            let placed = match &object.kind {
                ObjectKind::Metainfo(_) | ObjectKind::Table(_) => true,
                ObjectKind::Chain(decl) => find(&decl.family, &decl.table)
                    .map(|t| {
                        let c = this.chain(t, &decl.name);
                        this.chains[c].decl = Some((decl, object.at));
                    })
                    .is_some(),
                ObjectKind::Rule(rule) => find(&rule.family, &rule.table)
                    .map(|t| {
                        let c = this.chain(t, &rule.chain);
                        this.chains[c].rules.push((rule, object.at));
                        this.tables[t].xt |= saved.should_list(this.tables[t].family, rule);
                    })
                    .is_some(),
                ObjectKind::Set(decl) => find(&decl.family, &decl.table)
                    .map(|t| {
                        this.tables[t].sets.insert(&decl.name, this.sets.len());
                        this.sets.push(NamedSet {
                            decl,
                            at: object.at,
                            set: declared(decl),
                        });
                    })
                    .is_some(),
                ObjectKind::Element(more) => find(&more.family, &more.table)
                    .and_then(|t| this.tables[t].sets.get(&*more.name).copied())
                    .map(|s| this.sets[s].set.more.push(&more.elem))
                    .is_some(),
                ObjectKind::Named(kind, named) => {
                    if let (Some(t), "ct helper", Some(helper)) =
                        (find(&named.family, &named.table), &**kind, named.kind.as_deref())
                    {
                        this.tables[t].helpers.insert(&named.name, helper);
                    }
                    true
                }
                ObjectKind::Unknown(key, _) => {
                    !matches!(&**key, "chain" | "rule" | "set" | "map" | "element" | "table" | "")
                }
            };
            this.damaged |= !placed;
        }
        let hooked = |c: &Chain<'_>| c.decl.is_some_and(|(decl, _)| hook_of(decl).is_some());
        let chains = this.chains.iter().enumerate();
        this.bases = chains.filter(|(_, c)| hooked(c)).map(|(i, _)| i).collect();
        this
    }

    fn table(&self, decl: &'s raw::TableDecl, family: NfFamily, saved: &Saved) -> Table<'s> {
        let text = self.listing.and_then(|l| l.table(&decl.family, &decl.name));
        Table {
            family,
            name: &decl.name,
            label: format!("{} {}", decl.family, decl.name).into(),
            handle: decl.handle,
            xt: saved.lists(family, &decl.name),
            dormant: decl.flags.iter().any(|f| &**f == "dormant") || text.is_some_and(|t| t.dormant),
            text,
            chains: HashMap::new(),
            sets: HashMap::new(),
            helpers: HashMap::new(),
        }
    }

    fn chain(&mut self, table: usize, name: &'s str) -> usize {
        *self.tables[table].chains.entry(name).or_insert_with(|| {
            self.chains.push(Chain {
                table,
                name: name.into(),
                decl: None,
                rules: Vec::new(),
                compiled: OnceLock::new(),
            });
            self.chains.len() - 1
        })
    }

    /// Why there is no ruleset, when there is none.
    #[must_use]
    pub const fn missing(&self) -> Option<AbsentReason> {
        self.missing
    }

    /// An object of the ruleset could not be read and may have belonged anywhere.
    #[must_use]
    pub const fn damaged(&self) -> bool {
        self.damaged
    }

    /// Path of `nft.json`.
    #[must_use]
    pub const fn artifact(&self) -> &Arc<str> {
        &self.artifact
    }

    /// Devices by name, for constants.
    #[must_use]
    pub const fn ifs(&self) -> &IfNames<'s> {
        &self.ifs
    }

    /// The tables, in file order.
    #[must_use]
    pub fn tables(&self) -> &[Table<'s>] {
        &self.tables
    }

    /// The chains a packet of the network layer meets at a hook, in the order they run.
    #[must_use]
    pub fn base_chains(&self, family: Family, hook: Hook) -> Vec<BaseChain<'_, 's>> {
        let own = match family {
            Family::V4 => NfFamily::Ip,
            Family::V6 => NfFamily::Ip6,
        };
        self.bases(hook, |f| f == own || f == NfFamily::Inet)
    }

    /// The chains of one family at a hook, in the order they run: `bridge` for frames on a bridge, `netdev`
    /// for a device (see [`BaseChain::devices`]), `arp` for ARP.
    #[must_use]
    pub fn base_chains_of(&self, family: NfFamily, hook: Hook) -> Vec<BaseChain<'_, 's>> {
        self.bases(hook, |f| f == family)
    }

    /// By priority; of equal ones the last registered runs first, as `nf_hook_entries_grow` puts it.
    fn bases(&self, hook: Hook, wanted: impl Fn(NfFamily) -> bool) -> Vec<BaseChain<'_, 's>> {
        let mut all: Vec<(BaseChain<'_, 's>, (u64, u64))> = Vec::new();
        for chain in self.bases.iter().map(|&i| &self.chains[i]) {
            let table = &self.tables[chain.table];
            let Some((decl, _)) = chain.decl else { continue };
            if table.xt || table.dormant || !wanted(table.family) || hook_of(decl) != Some(hook) {
                continue;
            }
            let priority = decl.prio.unwrap_or_default();
            all.push((
                BaseChain {
                    nft: self,
                    chain,
                    table,
                    priority,
                },
                (table.handle, decl.handle),
            ));
        }
        all.sort_by(|(a, x), (b, y)| a.priority.cmp(&b.priority).then(y.cmp(x)));
        all.into_iter().map(|(b, _)| b).collect()
    }

    /// Base chains of tables that `iptables-nft` manages: where their rules, which are in a save, run.
    pub fn xt_bases(&self) -> impl Iterator<Item = XtBase<'_>> {
        self.bases.iter().map(|&i| &self.chains[i]).filter_map(|chain| {
            let table = &self.tables[chain.table];
            let (decl, _) = chain.decl.filter(|_| table.xt && !table.dormant)?;
            Some(XtBase {
                family: table.family,
                table: table.name,
                chain: &decl.name,
                hook: hook_of(decl)?,
                priority: decl.prio.unwrap_or_default(),
                registered: (table.handle, decl.handle),
            })
        })
    }

    /// A chain of the same table by name.
    #[must_use]
    pub fn chain_of(&self, table: usize, name: &str) -> Option<&Chain<'s>> {
        self.chains.get(*self.tables.get(table)?.chains.get(name)?)
    }

    /// The chains of a table, by its position, in file order.
    pub fn chains_of(&self, table: usize) -> impl Iterator<Item = &Chain<'s>> {
        self.chains.iter().filter(move |chain| chain.table == table)
    }

    /// The table of a chain.
    #[must_use]
    pub fn table_of(&self, chain: &Chain<'s>) -> &Table<'s> {
        &self.tables[chain.table]
    }

    /// The rules of a chain.
    #[must_use]
    pub fn rules<'x>(&'x self, chain: &'x Chain<'s>) -> &'x [Rule<'s>] {
        chain.compiled.get_or_init(|| {
            let table = &self.tables[chain.table];
            let scope = Scope {
                family: table.family,
                set: &|name| table.sets.get(name).copied(),
                value_of: &|i| self.sets.get(i).map(|s| s.set.value.clone()).unwrap_or_default(),
                ifs: &self.ifs,
            };
            let helper = |name: &str| table.helpers.get(name).copied();
            let rule = |(decl, at): &(&'s raw::Rule, Row)| Rule {
                decl,
                at: *at,
                stmts: decl.expr.iter().map(|s| Stmt::compile(s, &scope, &helper)).collect(),
            };
            chain.rules.iter().map(rule).collect()
        })
    }

    /// The set a reference means.
    #[must_use]
    pub fn set<'x>(&'x self, set: &'x SetRef<'s>) -> Option<&'x Set<'s>> {
        match set {
            SetRef::Named(i) => self.sets.get(*i).map(|s| &s.set),
            SetRef::Anonymous(set) => Some(set),
            SetRef::Missing => None,
        }
    }

    /// Packets change the set: what a rule of the walk did to it is looked at first.
    #[must_use]
    pub fn is_dynamic(&self, set: &SetRef<'_>) -> bool {
        let SetRef::Named(i) = set else { return false };
        // nft 1.0.6 does not print `dynamic` in its JSON.
        self.sets
            .get(*i)
            .is_some_and(|s| s.decl.flags.iter().any(|f| matches!(&**f, "dynamic" | "timeout")))
    }

    /// A rule as `nft -a` prints it.
    #[must_use]
    pub fn evidence(&self, chain: &Chain<'s>, rule: &Rule<'s>) -> Evidence {
        self.listed(chain.table, rule.decl.handle, |listed| listed.into())
            .unwrap_or_else(|| Evidence {
                artifact: self.artifact.clone(),
                at: rule.at,
                handle: Some(rule.decl.handle),
                text: print::rule(rule.decl).into(),
            })
    }

    /// An element of a named set; of an anonymous one the rule is evidence enough.
    #[must_use]
    pub fn element(&self, set: &SetRef<'s>, written: &raw::Expr) -> Option<Evidence> {
        let SetRef::Named(i) = set else { return None };
        let set = self.sets.get(*i)?;
        let text: Arc<str> = format!("{} {{ {} }}", set.decl.name, print::element(written)).into();
        let table = self
            .tables
            .iter()
            .position(|t| *t.name == *set.decl.table && t.text.is_some_and(|t| *t.family == *set.decl.family));
        let listed = table.and_then(|table| self.listed(table, set.decl.handle, |_| text.clone()));
        Some(listed.unwrap_or_else(|| Evidence {
            artifact: self.artifact.clone(),
            at: set.at,
            handle: Some(set.decl.handle),
            text,
        }))
    }

    /// A chain's declaration: evidence for a policy.
    #[must_use]
    pub fn policy(&self, chain: &Chain<'s>) -> Option<Evidence> {
        let (decl, at) = chain.decl?;
        let listed = self.listed(chain.table, decl.handle, |listed| listed.into());
        Some(listed.unwrap_or_else(|| Evidence {
            artifact: self.artifact.clone(),
            at,
            handle: Some(decl.handle),
            text: print::chain(decl).into(),
        }))
    }

    /// Where the text form has what the JSON form calls by a handle: a line of its own says more than a place in
    /// a file of one line.
    fn listed(&self, table: usize, handle: u64, text: impl FnOnce(&str) -> Arc<str>) -> Option<Evidence> {
        let (at, written) = self.tables[table].text?.by_handle(handle)?;
        Some(Evidence {
            artifact: self.listing?.artifact.clone(),
            at,
            handle: Some(handle),
            text: text(written),
        })
    }
}

fn hook_of(decl: &raw::ChainDecl) -> Option<Hook> {
    Some(match decl.hook.as_deref()? {
        "prerouting" => Hook::Prerouting,
        "input" => Hook::Input,
        "forward" => Hook::Forward,
        "output" => Hook::Output,
        "postrouting" => Hook::Postrouting,
        "ingress" => Hook::Ingress,
        "egress" => Hook::Egress,
        _ => return None,
    })
}

fn declared(decl: &raw::Set) -> Set<'_> {
    let tys = |names: &[Box<str>]| -> Tys {
        names
            .iter()
            .map(|n| Ty::named(n).unwrap_or(Ty::new(Kind::Int, 128)))
            .collect()
    };
    let map = !decl.map.is_empty();
    let object = |n: &str| {
        matches!(n, "verdict" | "counter" | "quota" | "limit" | "synproxy" | "secmark")
            || n.starts_with("ct ") && !matches!(n, "ct_state" | "ct_mark")
    };
    let value = if decl.map.iter().any(|n| object(n)) {
        Tys::new()
    } else {
        tys(&decl.map)
    };
    Set::new(&decl.elem, tys(&decl.key), value, map)
}

/// The tables that the `iptables-nft` saves list.
struct Saved {
    tables: HashSet<(NfFamily, String)>,
    /// Families whose save was not captured.
    missing: Vec<NfFamily>,
}

impl Saved {
    fn of(facts: &NetnsFacts) -> Self {
        let (mut tables, mut missing) = (HashSet::new(), Vec::new());
        for (family, file) in [(NfFamily::Ip, name::IPTABLES_NFT), (NfFamily::Ip6, name::IP6TABLES_NFT)] {
            match facts.xtables(file) {
                Some(Fact::Known(save)) => {
                    let listed = save.tables.iter().filter(|t| !t.incompatible);
                    tables.extend(listed.map(|t| (family, t.name.clone())));
                }
                Some(Fact::Empty(..)) => {}
                Some(Fact::Unknown(_)) | None => missing.push(family),
            }
        }
        Self { tables, missing }
    }

    /// A rule of `iptables-nft`, the matches and targets of which only its save could tell.
    fn should_list(&self, family: NfFamily, rule: &raw::Rule) -> bool {
        self.missing.contains(&family) && rule.expr.iter().any(|s| matches!(s, raw::Stmt::Xt(..)))
    }

    fn lists(&self, family: NfFamily, name: &str) -> bool {
        self.tables.contains(&(family, name.to_owned()))
    }
}
