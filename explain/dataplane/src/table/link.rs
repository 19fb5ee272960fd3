//! Devices and addresses of one namespace.

use std::net::IpAddr;

use hashbrown::HashMap;
use knet_snapshot::Fact;
use knet_snapshot::id::{Family, IfIndex};
use knet_snapshot::link::{Address, Link};
use knet_snapshot::store::NetnsFacts;

/// The devices of a namespace by index and by name, and their addresses in kernel order.
#[derive(Clone, Debug, Default)]
pub struct Links<'s> {
    links: Vec<&'s Link>,
    by_index: HashMap<IfIndex, usize>,
    by_name: HashMap<&'s str, usize>,
    addresses: Vec<&'s Address>,
    /// `link.json` was captured.
    pub known: bool,
    /// `addr.json` was captured.
    pub addresses_known: bool,
}

impl<'s> Links<'s> {
    /// Indexes the links and addresses of a namespace.
    #[must_use]
    pub fn compile(facts: &'s NetnsFacts) -> Self {
        let mut this = Self::default();
        if let Some(table) = facts.links().get() {
            this.known = true;
            this.links = table.rows.iter().collect();
            this.links.sort_by_key(|l| l.index);
        }
        for (i, link) in this.links.iter().enumerate() {
            this.by_index.insert(link.index, i);
            this.by_name.insert(&link.name, i);
        }
        if let Fact::Known(table) | Fact::Empty(table, _) = facts.addrs() {
            this.addresses_known = true;
            this.addresses = table.rows.iter().collect();
            // The kernel keeps the addresses of a device in order; devices are walked by index.
            this.addresses.sort_by_key(|a| (a.link, a.at));
        }
        this
    }

    /// By index.
    #[must_use]
    pub fn get(&self, index: IfIndex) -> Option<&'s Link> {
        self.by_index.get(&index).map(|&i| self.links[i])
    }

    /// By name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&'s Link> {
        self.by_name.get(name).map(|&i| self.links[i])
    }

    /// Name of a device, or `?`.
    #[must_use]
    pub fn name(&self, index: IfIndex) -> &'s str {
        self.get(index).map_or("?", |l| &l.name)
    }

    /// All devices by index.
    pub fn iter(&self) -> impl Iterator<Item = &'s Link> + '_ {
        self.links.iter().copied()
    }

    /// All addresses of a family, by device index and then in the order the kernel holds them.
    pub fn addresses(&self, family: Family) -> impl Iterator<Item = &'s Address> + '_ {
        self.addresses
            .iter()
            .copied()
            .filter(move |a| Family::of(a.local) == family)
    }

    /// The addresses of one device.
    pub fn addresses_of(&self, index: IfIndex) -> impl Iterator<Item = &'s Address> + '_ {
        self.addresses.iter().copied().filter(move |a| a.link == index)
    }

    /// The device that has an address, if any.
    #[must_use]
    pub fn owner(&self, addr: IpAddr) -> Option<IfIndex> {
        self.addresses.iter().find(|a| a.local == addr).map(|a| a.link)
    }
}
