//! iptables of one namespace: both families, both back ends.
//!
//! A save can have hundreds of thousands of rules of which a walk meets a few hundred. The snapshot knows
//! which bytes are whose; here a chain is cut into lines when it is first entered, and a line is read when
//! it is first visited.

pub mod chain;
pub mod matches;
mod parse;
pub mod rule;
pub mod target;
mod token;

use std::fmt;
use std::sync::{Arc, OnceLock};

use knet_snapshot::Fact;
use knet_snapshot::artifact::name;
use knet_snapshot::id::Family;
use knet_snapshot::manifest::AbsentReason;
use knet_snapshot::store::NetnsFacts;
use knet_snapshot::xtsave::{XtPolicy, XtTableIndex};

use self::chain::Chain;
use self::rule::ChainRef;
use crate::trace::{Engine, Hook};

/// The iptables tables of a namespace.
#[derive(Debug, Default)]
pub struct Xt<'s> {
    /// In the order their hooks are registered by kernels that have both: legacy first.
    tables: Vec<Table<'s>>,
    missing: Vec<Missing>,
}

/// Tables that cannot be read: whether they hold rules is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Back end.
    pub engine: Engine,
    /// Family.
    pub family: Family,
    /// Path of the artifact.
    pub artifact: Arc<str>,
    /// What of it.
    pub what: MissingWhat,
}

/// What of an artifact is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MissingWhat {
    /// All of it.
    Artifact(AbsentReason),
    /// This table: `iptables-nft` met rules in it that it cannot print. Its rules are native nftables and
    /// stand in the nftables artifacts.
    Incompatible(Arc<str>),
}

/// One table of one back end.
pub struct Table<'s> {
    /// Back end.
    pub engine: Engine,
    /// Family.
    pub family: Family,
    /// Path of the artifact.
    pub artifact: Arc<str>,
    /// `filter`, `nat`, `mangle`, `raw`, `security`.
    pub name: Arc<str>,
    bytes: &'s [u8],
    index: &'s XtTableIndex,
    chains: Vec<OnceLock<Box<Chain>>>,
}

/// A base chain: where a hook enters a table.
#[derive(Clone, Copy, Debug)]
pub struct BaseChain<'x, 's> {
    /// Its table.
    pub table: &'x Table<'s>,
    /// Position of the chain in the table.
    pub chain: usize,
    /// `NF_IP_PRI_*`
    pub priority: i32,
}

impl BaseChain<'_, '_> {
    /// Only a flow's first packet comes here.
    #[must_use]
    pub fn is_nat(&self) -> bool {
        &*self.table.name == "nat"
    }

    /// A change of mark, address or TOS here makes OUTPUT route again (`ipt_mangle_out`, chain type `route`).
    #[must_use]
    pub fn reroutes(&self) -> bool {
        &*self.table.name == "mangle"
    }

    /// Name of the chain.
    #[must_use]
    pub fn name(&self) -> Arc<str> {
        self.table.chain_name(self.chain)
    }
}

const SAVES: [(Engine, Family, &str); 4] = [
    (Engine::XtLegacy, Family::V4, name::IPTABLES_LEGACY),
    (Engine::XtLegacy, Family::V6, name::IP6TABLES_LEGACY),
    (Engine::XtNft, Family::V4, name::IPTABLES_NFT),
    (Engine::XtNft, Family::V6, name::IP6TABLES_NFT),
];

impl<'s> Xt<'s> {
    /// Looks which tables there are. No rule is read.
    #[must_use]
    pub fn compile(facts: &'s NetnsFacts) -> Self {
        let mut this = Self::default();
        for (engine, family, file) in SAVES {
            let artifact = facts.path(file);
            match facts.xtables(file) {
                None => {}
                Some(Fact::Unknown(why)) => {
                    this.missing.push(Missing {
                        engine,
                        family,
                        artifact,
                        what: MissingWhat::Artifact(*why),
                    });
                }
                Some(Fact::Known(save) | Fact::Empty(save, _)) => {
                    let bytes = facts.bytes(file).get().copied().unwrap_or_default();
                    for index in &save.tables {
                        this.add(engine, family, &artifact, bytes, index);
                    }
                }
            }
        }
        this
    }

    fn add(&mut self, engine: Engine, family: Family, artifact: &Arc<str>, bytes: &'s [u8], index: &'s XtTableIndex) {
        let name: Arc<str> = Arc::from(index.name.as_str());
        let artifact = artifact.clone();
        if index.incompatible {
            self.missing.push(Missing {
                engine,
                family,
                artifact,
                what: MissingWhat::Incompatible(name),
            });
            return;
        }
        let chains = std::iter::repeat_with(OnceLock::new).take(index.chains.len()).collect();
        self.tables.push(Table {
            engine,
            family,
            artifact,
            name,
            bytes,
            index,
            chains,
        });
    }

    /// The base chains of a family at a hook, legacy tables first, then those of the nft back end; within
    /// a back end by priority. A chain that no save prints does not exist in the kernel.
    #[must_use]
    pub fn base_chains(&self, family: Family, hook: Hook) -> Vec<BaseChain<'_, 's>> {
        let mut out: Vec<_> = self
            .tables
            .iter()
            .filter(|t| t.family == family)
            .filter_map(|t| t.base_chain(hook))
            .collect();
        out.sort_by_key(|b| (b.table.engine, b.priority));
        out
    }

    /// What cannot be read, of both families.
    #[must_use]
    pub fn missing(&self) -> &[Missing] {
        &self.missing
    }

    /// All tables.
    #[must_use]
    pub fn tables(&self) -> &[Table<'s>] {
        &self.tables
    }
}

impl<'s> Table<'s> {
    fn base_chain(&self, hook: Hook) -> Option<BaseChain<'_, 's>> {
        let (chain, priority) = base(&self.name, hook)?;
        let chain = self.index.position(self.bytes, chain.as_bytes())?;
        let is_base = self.index.chains[chain].policy != XtPolicy::Return;
        is_base.then_some(BaseChain {
            table: self,
            chain,
            priority,
        })
    }

    /// Number of chains.
    #[must_use]
    pub fn len(&self) -> usize {
        self.chains.len()
    }

    /// There are no chains.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chains.is_empty()
    }

    /// Name of a chain.
    #[must_use]
    pub fn chain_name(&self, chain: usize) -> Arc<str> {
        let raw = self.index.chains.get(chain).map_or(&[][..], |c| c.name(self.bytes));
        Arc::from(String::from_utf8_lossy(raw))
    }

    /// A chain by name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<ChainRef> {
        let index = self.index.position(self.bytes, name.as_bytes())?;
        Some(ChainRef {
            index,
            name: Arc::from(name),
        })
    }

    /// What happens at the end of a chain.
    #[must_use]
    pub fn policy(&self, chain: usize) -> XtPolicy {
        self.index.chains.get(chain).map_or(XtPolicy::Other, |c| c.policy)
    }

    /// Where the policy of a base chain is written.
    #[must_use]
    pub fn policy_row(&self, chain: usize) -> Option<knet_snapshot::Row> {
        self.index.chains.get(chain)?.header()
    }

    /// The file was cut off inside this table, and rules of this chain may be missing: a save prints the
    /// rules chain by chain, so only the last chain with rules and those after it can have lost any.
    #[must_use]
    pub fn may_be_cut(&self, chain: usize) -> bool {
        !self.index.complete && self.index.chains.iter().skip(chain + 1).all(|c| c.rules.is_empty())
    }

    /// A chain, cut into lines when it is first asked for.
    #[must_use]
    pub fn chain(&self, chain: usize) -> Option<&Chain> {
        let cell = self.chains.get(chain)?;
        Some(cell.get_or_init(|| Box::new(Chain::cut(self.index.chains.get(chain), self.bytes, self.family))))
    }

    /// A rule of a chain, read when it is first asked for.
    #[must_use]
    pub fn rule<'c>(&self, chain: &'c Chain, position: usize) -> Option<&'c rule::Rule> {
        chain.rule(position, self.bytes, self.family, &|name| self.find(name))
    }

    /// The bytes of a row.
    #[must_use]
    pub fn text(&self, at: knet_snapshot::Row) -> std::borrow::Cow<'_, str> {
        chain::text(self.bytes, at)
    }
}

impl fmt::Debug for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            engine,
            family,
            artifact: _,
            name,
            bytes: _,
            index: _,
            chains,
        } = self;
        f.debug_struct("Table")
            .field("engine", engine)
            .field("family", family)
            .field("name", name)
            .field("chains", &chains.len())
            .finish_non_exhaustive()
    }
}

/// Chain name and priority of a table at a hook (`NF_IP_PRI_*`, xtables tables' `valid_hooks`).
fn base(table: &str, hook: Hook) -> Option<(&'static str, i32)> {
    use Hook::{Forward, Input, Output, Postrouting, Prerouting};
    let chain = match hook {
        Prerouting => "PREROUTING",
        Input => "INPUT",
        Forward => "FORWARD",
        Output => "OUTPUT",
        Postrouting => "POSTROUTING",
        Hook::Ingress | Hook::Egress => return None,
    };
    let priority = match (table, hook) {
        ("raw", Prerouting | Output) => -300,
        ("mangle", _) => -150,
        ("nat", Prerouting | Output) => -100,
        ("nat", Input | Postrouting) => 100,
        ("filter", Input | Forward | Output) => 0,
        ("security", Input | Forward | Output) => 50,
        _ => return None,
    };
    Some((chain, priority))
}
