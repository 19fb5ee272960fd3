//! One network namespace of a snapshot, each table parsed when it is first asked for.

use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::artifact::name;
use crate::bridge::{BridgePort, BridgeVlan};
use crate::conntrack::Connection;
use crate::fact::{Fact, Problem};
use crate::fdb::FdbEntry;
use crate::id::Family;
use crate::ipset::IpSet;
use crate::ipvs::{IpvsConnection, IpvsRow};
use crate::lazy::{self, Cell, Loaded, Parsed, Raw, json, lines, problems_of, problems_of_table};
use crate::link::{Address, Link};
use crate::manifest::AbsentReason;
use crate::neigh::Neighbour;
use crate::nexthop::NexthopObject;
use crate::route::Route;
use crate::row::Table;
use crate::rule::Rule;
use crate::socket::Socket;
use crate::store::{Blob, NetnsId};
use crate::sysctl::Sysctls;
use crate::xtsave::XtSave;

/// The facts of one network namespace, each table parsed when it is first asked for.
pub struct NetnsFacts {
    /// Which namespace.
    pub id: NetnsId,
    /// What the manifest knows of: small, because a snapshot may hold 100,000 namespaces nobody looks into.
    files: Vec<(&'static str, Raw)>,
    /// For every other artifact: why there is nothing.
    otherwise: AbsentReason,
    tables: OnceLock<Box<Tables>>,
}

impl NetnsFacts {
    pub(crate) fn new(id: NetnsId, mut files: Vec<(&'static str, Raw)>, otherwise: AbsentReason) -> Self {
        files.shrink_to_fit();
        Self {
            id,
            files,
            otherwise,
            tables: OnceLock::new(),
        }
    }

    /// The bytes of an artifact of this namespace, by file name (see [`name`]).
    #[must_use]
    pub fn bytes(&self, file: &'static str) -> Fact<&[u8]> {
        match self.raw(file) {
            Ok(blob) => Fact::Known((**blob).as_ref()),
            Err(why) if why.means_empty() => Fact::Empty(&[], why),
            Err(why) => Fact::Unknown(why),
        }
    }

    /// The shared bytes of an artifact, for a table that keeps slices of it.
    #[must_use]
    pub fn blob(&self, file: &'static str) -> Option<Blob> {
        self.raw(file).ok().cloned()
    }

    /// The path of an artifact of this namespace inside the snapshot.
    #[must_use]
    pub fn path(&self, file: &'static str) -> Arc<str> {
        Arc::from(self.id.folder() + file)
    }

    fn raw(&self, file: &str) -> Result<&Blob, AbsentReason> {
        match self.files.iter().find(|(name, _)| *name == file) {
            Some((_, raw)) => raw.as_ref().map_err(|why| *why),
            None => Err(self.otherwise),
        }
    }

    fn load<T>(
        &self,
        file: &'static str,
        empty: impl FnOnce(Arc<str>) -> T,
        parse: impl FnOnce(Arc<str>, &[u8]) -> Parsed<T>,
    ) -> Loaded<T> {
        lazy::load(self.raw(file), || self.path(file), empty, parse)
    }
}

/// The getters, the struct behind them, and the one place that knows every table's problems.
macro_rules! tables {
    ($($(#[$doc:meta])* $getter:ident: $file:ident, $parse:expr => $t:ty;)*) => {
        #[derive(Default)]
        struct Tables {
            routes: [Cell<Table<Route>>; 2],
            rules: [Cell<Table<Rule>>; 2],
            xtables: [Cell<XtSave>; 4],
            sysctls: Cell<Sysctls>,
            listing: Cell<crate::nft::Listing>,
            $($getter: Cell<Table<$t>>,)*
        }

        impl NetnsFacts {
            $($(#[$doc])*
            pub fn $getter(&self) -> &Fact<Table<$t>> {
                let cell = &self.tables.get_or_init(Box::default).$getter;
                &cell.get_or_init(|| self.load(name::$file, Table::empty, $parse)).fact
            })*

            /// Adds the problems of the tables parsed so far.
            pub(crate) fn problems(&self, all: &mut Vec<Problem>) {
                let Some(tables) = self.tables.get() else { return };
                let Tables { routes, rules, xtables, sysctls, listing, $($getter,)* } = &**tables;
                $(problems_of_table($getter, all);)*
                routes.iter().for_each(|cell| problems_of_table(cell, all));
                rules.iter().for_each(|cell| problems_of_table(cell, all));
                xtables.iter().for_each(|cell| problems_of(cell, all));
                problems_of(sysctls, all);
                problems_of(listing, all);
            }
        }
    };
}

tables! {
    /// Links.
    links: LINK, json(crate::link::parse_links) => Link;
    /// Addresses.
    addrs: ADDR, json(crate::link::parse_addrs) => Address;
    /// Nexthop objects.
    nexthops: NEXTHOP, json(crate::nexthop::parse) => NexthopObject;
    /// Neighbours of both families.
    neighbours: NEIGH, json(crate::neigh::parse) => Neighbour;
    /// Forwarding database.
    fdb: FDB, json(crate::fdb::parse) => FdbEntry;
    /// Bridge ports.
    bridge_ports: BRIDGE_LINK, json(crate::bridge::parse_ports) => BridgePort;
    /// Bridge VLANs.
    bridge_vlans: BRIDGE_VLAN, json(crate::bridge::parse_vlans) => BridgeVlan;
    /// Sockets.
    sockets: SOCKETS, lines(crate::socket::parse) => Socket;
    /// Connection tracking.
    conntrack: CONNTRACK, lines(crate::conntrack::parse) => Connection;
    /// IP sets.
    ipsets: IPSET, lines(crate::ipset::parse) => IpSet;
    /// IPVS services and real servers.
    ipvs: IPVS, lines(crate::ipvs::parse) => IpvsRow;
    /// IPVS connections and templates.
    ipvs_connections: IPVS_CONN, lines(crate::ipvs::parse_connections) => IpvsConnection;
    /// WireGuard devices and peers.
    wireguard: WG, lines(crate::wireguard::parse) => crate::wireguard::WgRow;
    /// IPsec policies and states.
    xfrm: XFRM, lines(crate::xfrm::parse) => crate::xfrm::Xfrm;
    /// Filters and programs of traffic control.
    tc: TC, json(crate::tc::parse) => crate::tc::TcFilter;
    /// nftables.
    nft: NFT_JSON, json(crate::nft::parse) => crate::nft::Object;
}

impl NetnsFacts {
    /// Sysctls.
    pub fn sysctls(&self) -> &Fact<Sysctls> {
        let cell = &self.tables.get_or_init(Box::default).sysctls;
        let load = || {
            self.load(
                name::SYSCTL,
                |_| Sysctls::default(),
                |path, bytes| Ok(crate::sysctl::parse(path, bytes)),
            )
        };
        &cell.get_or_init(load).fact
    }

    /// nftables as text: rules by handle.
    pub fn nft_listing(&self) -> &Fact<crate::nft::Listing> {
        let cell = &self.tables.get_or_init(Box::default).listing;
        let parse = |path, bytes: &[u8]| Ok((crate::nft::parse_listing(path, bytes), Vec::new()));
        &cell
            .get_or_init(|| self.load(name::NFT_TEXT, |_| crate::nft::Listing::default(), parse))
            .fact
    }

    /// Routes of one family.
    pub fn routes(&self, family: Family) -> &Fact<Table<Route>> {
        let (i, file) = match family {
            Family::V4 => (0, name::ROUTE),
            Family::V6 => (1, name::ROUTE6),
        };
        let cell = &self.tables.get_or_init(Box::default).routes[i];
        &cell
            .get_or_init(|| self.load(file, Table::empty, json(crate::route::parse)))
            .fact
    }

    /// Policy-routing rules of one family.
    pub fn rules(&self, family: Family) -> &Fact<Table<Rule>> {
        let (i, file) = match family {
            Family::V4 => (0, name::RULE),
            Family::V6 => (1, name::RULE6),
        };
        let cell = &self.tables.get_or_init(Box::default).rules[i];
        &cell
            .get_or_init(|| self.load(file, Table::empty, json(crate::rule::parse)))
            .fact
    }

    /// Where the chains are in one of the four `iptables-save` artifacts.
    ///
    /// `file` is one of [`name::IPTABLES_NFT`], [`name::IP6TABLES_NFT`], [`name::IPTABLES_LEGACY`] and
    /// [`name::IP6TABLES_LEGACY`]; every other name is answered with `None`.
    pub fn xtables(&self, file: &'static str) -> Option<&Fact<XtSave>> {
        let files = [
            name::IPTABLES_NFT,
            name::IP6TABLES_NFT,
            name::IPTABLES_LEGACY,
            name::IP6TABLES_LEGACY,
        ];
        let i = files.iter().position(|known| *known == file)?;
        let load = || self.load(file, |_| XtSave::default(), |path, bytes| Ok(xt_save(&path, bytes)));
        Some(&self.tables.get_or_init(Box::default).xtables[i].get_or_init(load).fact)
    }
}

fn xt_save(path: &str, bytes: &[u8]) -> (XtSave, Vec<Problem>) {
    let save = XtSave::index(bytes);
    let problems = save.problems.iter().map(|problem| Problem {
        artifact: path.to_owned(),
        offset: Some(problem.offset),
        what: problem.kind.to_string(),
    });
    let problems = problems.collect();
    (save, problems)
}

impl fmt::Debug for NetnsFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NetnsFacts")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
