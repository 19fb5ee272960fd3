//! Every namespace of a snapshot with its compiled tables.

use std::sync::OnceLock;

use knet_snapshot::Snapshot;
use knet_snapshot::store::{NetnsFacts, NetnsId};

use crate::table::fib::Fib;
use crate::table::ipset::IpSets;
use crate::table::link::Links;
use crate::table::socket::Sockets;
use crate::table::sysctl::Sysctl;
use crate::table::xt::Xt;
use crate::trace::NsId;

/// One namespace. Tables are compiled when a walk first needs them.
#[derive(Debug)]
pub struct Netns<'s> {
    /// Index in the world.
    pub id: NsId,
    /// Name in the snapshot.
    pub name: &'s NetnsId,
    /// The facts.
    pub facts: &'s NetnsFacts,
    links: OnceLock<Links<'s>>,
    fib: OnceLock<Fib<'s>>,
    xt: OnceLock<Xt>,
    ipsets: OnceLock<IpSets<'s>>,
    sockets: OnceLock<Sockets<'s>>,
}

impl<'s> Netns<'s> {
    /// A namespace nothing of which is compiled yet.
    #[must_use]
    pub fn new(id: NsId, facts: &'s NetnsFacts) -> Self {
        Self {
            id,
            name: &facts.id,
            facts,
            links: OnceLock::new(),
            fib: OnceLock::new(),
            xt: OnceLock::new(),
            ipsets: OnceLock::new(),
            sockets: OnceLock::new(),
        }
    }

    /// Devices and addresses.
    pub fn links(&self) -> &Links<'s> {
        self.links.get_or_init(|| Links::compile(self.facts))
    }

    /// Rules and routes of both families.
    pub fn fib(&self) -> &Fib<'s> {
        self.fib.get_or_init(|| Fib::compile(self.facts, self.links()))
    }

    /// iptables of both families and both back ends.
    pub fn xt(&self) -> &Xt {
        self.xt.get_or_init(|| Xt::compile(self.facts))
    }

    /// IP sets.
    pub fn ipsets(&self) -> &IpSets<'s> {
        self.ipsets.get_or_init(|| IpSets::compile(self.facts))
    }

    /// Sockets.
    pub fn sockets(&self) -> &Sockets<'s> {
        self.sockets.get_or_init(|| Sockets::compile(self.facts))
    }

    /// Sysctls.
    #[must_use]
    pub const fn sysctl(&self) -> Sysctl<'s> {
        Sysctl::new(self.facts)
    }
}

/// All namespaces of a snapshot.
pub struct World<'s> {
    /// The snapshot.
    pub snapshot: &'s Snapshot,
    /// The namespaces, indexed by [`NsId`].
    pub spaces: Vec<Netns<'s>>,
}

impl<'s> World<'s> {
    /// A namespace by index.
    #[must_use]
    pub fn space(&self, id: NsId) -> &Netns<'s> {
        &self.spaces[id.0 as usize]
    }

    /// A namespace by name.
    #[must_use]
    pub fn find(&self, name: &NetnsId) -> Option<NsId> {
        self.spaces.iter().find(|s| s.name == name).map(|s| s.id)
    }
}
