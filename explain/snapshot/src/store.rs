//! A snapshot: raw files, what is absent and why, and typed tables parsed on first use.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::artifact::name;
use crate::bridge::{BridgePort, BridgeVlan};
use crate::conntrack::Connection;
use crate::fact::{Fact, Problem};
use crate::fdb::FdbEntry;
use crate::id::Family;
use crate::ipset::IpSet;
use crate::link::{Address, Link};
use crate::manifest::{AbsentReason, Manifest};
use crate::neigh::Neighbour;
use crate::nexthop::NexthopObject;
use crate::node::{NetnsInfo, NodeInfo};
use crate::route::Route;
use crate::row::Table;
use crate::rule::Rule;
use crate::socket::Socket;
use crate::sysctl::Sysctls;

/// The bytes of one file. Whoever opened the snapshot decides what is behind it (a buffer, a mapping).
pub type Blob = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// A network namespace of a snapshot: a node's own, or another one on that node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetnsId {
    /// Node name.
    pub node: String,
    /// Folder name under `netns/`; `None` is the node's own namespace (`host/`).
    pub id: Option<String>,
}

impl NetnsId {
    /// Folder of the namespace inside the snapshot, with a trailing slash.
    #[must_use]
    pub fn folder(&self) -> String {
        match &self.id {
            None => format!("nodes/{}/host/", self.node),
            Some(id) => format!("nodes/{}/netns/{id}/", self.node),
        }
    }
}

impl fmt::Display for NetnsId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.id {
            None => f.write_str("host"),
            Some(id) => f.write_str(id),
        }
    }
}

/// What can be wrong with a snapshot as a whole. Trouble inside one artifact is a [`Problem`] instead.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// `manifest.json` says another major version.
    #[error("schema {0:?} is not knet.snapshot/v1: this version cannot read it")]
    Schema(String),
    /// `manifest.json` cannot be parsed.
    #[error("manifest.json: {0}")]
    Manifest(String),
    /// There is nothing of a snapshot in it.
    #[error("neither manifest.json nor nodes/ nor cluster/ is in it: not a snapshot")]
    NotASnapshot,
}

/// The facts of one network namespace, each table parsed when it is first asked for.
#[derive(Debug)]
pub struct NetnsFacts {
    /// Which namespace.
    pub id: NetnsId,
    files: BTreeMap<&'static str, Raw>,
    links: OnceLock<Fact<Table<Link>>>,
    addrs: OnceLock<Fact<Table<Address>>>,
    routes: [OnceLock<Fact<Table<Route>>>; 2],
    rules: [OnceLock<Fact<Table<Rule>>>; 2],
    nexthops: OnceLock<Fact<Table<NexthopObject>>>,
    neighbours: OnceLock<Fact<Table<Neighbour>>>,
    fdb: OnceLock<Fact<Table<FdbEntry>>>,
    bridge_ports: OnceLock<Fact<Table<BridgePort>>>,
    bridge_vlans: OnceLock<Fact<Table<BridgeVlan>>>,
    sockets: OnceLock<Fact<Table<Socket>>>,
    conntrack: OnceLock<Fact<Table<Connection>>>,
    ipsets: OnceLock<Fact<Table<IpSet>>>,
    sysctls: OnceLock<Fact<Sysctls>>,
    nft: OnceLock<Fact<Table<crate::nft::Object>>>,
    nft_listing: OnceLock<Fact<crate::nft::Listing>>,
}

/// The bytes of one artifact, or why there are none.
#[derive(Clone)]
pub(crate) struct Raw {
    path: Arc<str>,
    content: Result<Blob, AbsentReason>,
}

impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Raw").field("path", &self.path).field("absent", &self.content.as_ref().err()).finish()
    }
}

impl Raw {
    fn table<T: Default>(&self, parse: impl FnOnce(Arc<str>, &[u8]) -> T) -> Fact<T> {
        match &self.content {
            Ok(blob) => Fact::Known(parse(self.path.clone(), blob.as_ref().as_ref())),
            Err(why) if why.means_empty() => Fact::Empty(T::default(), *why),
            Err(why) => Fact::Unknown(*why),
        }
    }
}

macro_rules! tables {
    ($($(#[$doc:meta])* $getter:ident: $file:ident, $parse:path => $t:ty;)*) => {
        $($(#[$doc])*
        pub fn $getter(&self) -> &Fact<$t> {
            self.$getter.get_or_init(|| self.raw(name::$file).table($parse))
        })*
    };
}

impl NetnsFacts {
    tables! {
        /// Links.
        links: LINK, crate::link::parse_links => Table<Link>;
        /// Addresses.
        addrs: ADDR, crate::link::parse_addrs => Table<Address>;
        /// Nexthop objects.
        nexthops: NEXTHOP, crate::nexthop::parse => Table<NexthopObject>;
        /// Neighbours of both families.
        neighbours: NEIGH, crate::neigh::parse => Table<Neighbour>;
        /// Forwarding database.
        fdb: FDB, crate::fdb::parse => Table<FdbEntry>;
        /// Bridge ports.
        bridge_ports: BRIDGE_LINK, crate::bridge::parse_ports => Table<BridgePort>;
        /// Bridge VLANs.
        bridge_vlans: BRIDGE_VLAN, crate::bridge::parse_vlans => Table<BridgeVlan>;
        /// Sockets.
        sockets: SOCKETS, crate::socket::parse => Table<Socket>;
        /// Connection tracking.
        conntrack: CONNTRACK, crate::conntrack::parse => Table<Connection>;
        /// IP sets.
        ipsets: IPSET, crate::ipset::parse => Table<IpSet>;
        /// Sysctls.
        sysctls: SYSCTL, crate::sysctl::parse => Sysctls;
        /// nftables.
        nft: NFT_JSON, crate::nft::parse => Table<crate::nft::Object>;
        /// nftables as text: rules by handle.
        nft_listing: NFT_TEXT, crate::nft::parse_listing => crate::nft::Listing;
    }

    /// Routes of one family.
    pub fn routes(&self, family: Family) -> &Fact<Table<Route>> {
        let (i, file) = match family {
            Family::V4 => (0, name::ROUTE),
            Family::V6 => (1, name::ROUTE6),
        };
        self.routes[i].get_or_init(|| self.raw(file).table(crate::route::parse))
    }

    /// Policy-routing rules of one family.
    pub fn rules(&self, family: Family) -> &Fact<Table<Rule>> {
        let (i, file) = match family {
            Family::V4 => (0, name::RULE),
            Family::V6 => (1, name::RULE6),
        };
        self.rules[i].get_or_init(|| self.raw(file).table(crate::rule::parse))
    }

    /// The bytes of an artifact of this namespace, by file name (see [`name`]).
    #[must_use]
    pub fn bytes(&self, file: &'static str) -> Fact<&[u8]> {
        match &self.raw(file).content {
            Ok(blob) => Fact::Known(blob.as_ref().as_ref()),
            Err(why) if why.means_empty() => Fact::Empty(&[], *why),
            Err(why) => Fact::Unknown(*why),
        }
    }

    /// The shared bytes of an artifact, for a table that keeps slices of it.
    #[must_use]
    pub fn blob(&self, file: &'static str) -> Option<Blob> {
        self.raw(file).content.as_ref().ok().cloned()
    }

    /// The path of an artifact of this namespace inside the snapshot.
    #[must_use]
    pub fn path(&self, file: &'static str) -> Arc<str> {
        self.raw(file).path.clone()
    }

    fn raw(&self, file: &'static str) -> &Raw {
        // Every registered name is put in by the constructor.
        self.files.get(file).expect("artifact names come from the registry")
    }
}

/// A whole snapshot.
pub struct Snapshot {
    /// `manifest.json`, when there is one.
    pub manifest: Option<Manifest>,
    /// Trouble found while opening: entries that could not be read, hashes that differ, missing `netns.json`.
    pub problems: Vec<Problem>,
    nodes: BTreeMap<String, NodeFacts>,
}

/// One node of a snapshot.
pub struct NodeFacts {
    /// Name (the folder under `nodes/`).
    pub name: String,
    /// `node.json`
    pub info: Fact<NodeInfo>,
    /// `netns.json`
    pub netns_info: Fact<Vec<NetnsInfo>>,
    /// The node's own namespace.
    pub host: NetnsFacts,
    /// The other namespaces, by folder name.
    pub netns: BTreeMap<String, NetnsFacts>,
}
