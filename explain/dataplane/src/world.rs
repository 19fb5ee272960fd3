//! Every namespace of a snapshot with its compiled tables.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use hashbrown::HashMap;
use knet_snapshot::Snapshot;
use knet_snapshot::artifact::name;
use knet_snapshot::id::{Family, IfIndex, Mac};
use knet_snapshot::link::{Link, LinkKind};
use knet_snapshot::store::{NetnsFacts, NetnsId, NodeFacts};

use crate::table::connection::Connections;
use crate::table::fdb::Fdb;
use crate::table::fib::Fib;
use crate::table::ipset::IpSets;
use crate::table::ipvs::Ipvs;
use crate::table::link::Links;
use crate::table::neigh::Neighbours;
use crate::table::nft::Nft;
use crate::table::program::Programs;
use crate::table::socket::Sockets;
use crate::table::sysctl::Sysctl;
use crate::table::tracking;
use crate::table::xt::Xt;
use crate::trace::NsId;
use crate::tri::Tri;

/// One namespace. Tables are compiled when a walk first needs them.
#[derive(Debug)]
pub struct Netns<'s> {
    /// Index in the world.
    pub id: NsId,
    /// Name in the snapshot.
    pub name: &'s NetnsId,
    /// Index of its node.
    pub node: usize,
    /// The facts.
    pub facts: &'s NetnsFacts,
    links: OnceLock<Links<'s>>,
    fib: OnceLock<Fib<'s>>,
    xt: OnceLock<Xt<'s>>,
    nft: OnceLock<Nft<'s>>,
    ipsets: OnceLock<IpSets<'s>>,
    ipvs: OnceLock<Ipvs<'s>>,
    /// `ipvs.save` has the kernel's order of real servers: nobody sorted it.
    ipvs_unsorted: bool,
    sockets: OnceLock<Sockets<'s>>,
    neighbours: OnceLock<Neighbours<'s>>,
    fdb: OnceLock<Fdb<'s>>,
    connections: OnceLock<Connections<'s>>,
    programs: OnceLock<Programs<'s>>,
    tracks: [OnceLock<Tri>; 2],
    tracks_bridges: OnceLock<Option<(u64, u64)>>,
}

impl<'s> Netns<'s> {
    /// A namespace nothing of which is compiled yet.
    #[must_use]
    pub fn new(id: NsId, node: usize, facts: &'s NetnsFacts) -> Self {
        Self {
            id,
            node,
            name: &facts.id,
            facts,
            links: OnceLock::new(),
            fib: OnceLock::new(),
            xt: OnceLock::new(),
            nft: OnceLock::new(),
            ipsets: OnceLock::new(),
            ipvs: OnceLock::new(),
            ipvs_unsorted: false,
            sockets: OnceLock::new(),
            neighbours: OnceLock::new(),
            fdb: OnceLock::new(),
            connections: OnceLock::new(),
            programs: OnceLock::new(),
            tracks: [OnceLock::new(), OnceLock::new()],
            tracks_bridges: OnceLock::new(),
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
    pub fn xt(&self) -> &Xt<'s> {
        self.xt.get_or_init(|| Xt::compile(self.facts))
    }

    /// Native nftables.
    pub fn nft(&self) -> &Nft<'s> {
        self.nft.get_or_init(|| Nft::compile(self.facts))
    }

    /// IP sets.
    pub fn ipsets(&self) -> &IpSets<'s> {
        self.ipsets.get_or_init(|| IpSets::compile(self.facts))
    }

    /// IPVS.
    pub fn ipvs(&self) -> &Ipvs<'s> {
        self.ipvs.get_or_init(|| Ipvs::compile(self.facts, self.ipvs_unsorted))
    }

    /// Sockets.
    pub fn sockets(&self) -> &Sockets<'s> {
        self.sockets.get_or_init(|| Sockets::compile(self.facts))
    }

    /// Neighbour entries.
    pub fn neighbours(&self) -> &Neighbours<'s> {
        self.neighbours.get_or_init(|| Neighbours::compile(self.facts))
    }

    /// Forwarding database and bridge ports.
    pub fn fdb(&self) -> &Fdb<'s> {
        self.fdb.get_or_init(|| Fdb::compile(self.facts))
    }

    /// Captured connections.
    pub fn connections(&self) -> &Connections<'s> {
        self.connections.get_or_init(|| Connections::compile(self.facts))
    }

    /// XDP and tc programs.
    pub fn programs(&self) -> &Programs<'s> {
        self.programs.get_or_init(|| Programs::compile(self.facts))
    }

    /// Whether conntrack is on for a family. Without a rule that needs it no packet has a connection, and no nat chain
    /// is asked.
    pub fn tracks(&self, family: Family) -> Tri {
        let known = &self.tracks[usize::from(family == Family::V6)];
        *known.get_or_init(|| tracking::tracks(family, self.xt(), self.nft(), self.ipvs()))
    }

    /// Since when frames on bridges are tracked, if they are: the handles of a table and its rule.
    pub fn tracks_bridges(&self) -> Option<(u64, u64)> {
        *self.tracks_bridges.get_or_init(|| tracking::tracks_bridges(self.nft()))
    }

    /// Sysctls.
    #[must_use]
    pub const fn sysctl(&self) -> Sysctl<'s> {
        Sysctl::new(self.facts)
    }
}

/// All namespaces of a snapshot, and the wires between them.
pub struct World<'s> {
    /// The snapshot.
    pub snapshot: &'s Snapshot,
    spaces: Vec<Netns<'s>>,
    nodes: Vec<Node<'s>>,
    by_name: BTreeMap<&'s NetnsId, NsId>,
    underlay: OnceLock<Underlay>,
    addresses: OnceLock<hashbrown::HashSet<std::net::IpAddr>>,
    /// Of pods, and of hosts.
    seals: [OnceLock<bool>; 2],
}

/// One node: its own namespace and the others on it.
struct Node<'s> {
    facts: &'s NodeFacts,
    spaces: Vec<NsId>,
    wires: OnceLock<Wires>,
}

/// What is at the other end of a veth, or below a macvlan in another namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Namespace.
    pub ns: NsId,
    /// Device.
    pub dev: IfIndex,
    /// Matched by `ifindex` pairs alone, because no namespace id ties the two together.
    pub guessed: bool,
}

/// Devices of one node that lead into another (or the same) namespace of it.
#[derive(Default)]
struct Wires {
    peers: HashMap<(NsId, IfIndex), Peer>,
    /// Veths whose other end fits in more than one way.
    doubtful: hashbrown::HashSet<(NsId, IfIndex)>,
    /// vlan, macvlan and ipvlan devices by their lower device.
    uppers: BTreeMap<(NsId, IfIndex), Vec<(NsId, IfIndex)>>,
}

/// Devices that lead out of their node, by link-layer address.
#[derive(Default)]
struct Underlay {
    by_mac: HashMap<Mac, Vec<(NsId, IfIndex)>>,
    all: Vec<(NsId, IfIndex)>,
}

impl<'s> World<'s> {
    /// The world of a snapshot. Nothing is parsed yet.
    #[must_use]
    pub fn new(snapshot: &'s Snapshot) -> Self {
        let mut spaces = Vec::new();
        let mut nodes = Vec::new();
        for facts in snapshot.nodes() {
            let mut ids = Vec::new();
            for netns in std::iter::once(&facts.host).chain(facts.netns.values()) {
                let id = NsId(u32::try_from(spaces.len()).unwrap_or(u32::MAX));
                let mut space = Netns::new(id, nodes.len(), netns);
                let ipvs = snapshot.artifact(&netns.path(name::IPVS));
                space.ipvs_unsorted = ipvs.is_some_and(|e| matches!(e.via.as_str(), "netlink" | "proc"));
                spaces.push(space);
                ids.push(id);
            }
            nodes.push(Node {
                facts,
                spaces: ids,
                wires: OnceLock::new(),
            });
        }
        let by_name = spaces.iter().map(|s| (s.name, s.id)).collect();
        Self {
            snapshot,
            spaces,
            nodes,
            by_name,
            underlay: OnceLock::new(),
            addresses: OnceLock::new(),
            seals: Default::default(),
        }
    }

    /// A namespace by index.
    #[must_use]
    pub fn space(&self, id: NsId) -> &Netns<'s> {
        &self.spaces[id.0 as usize]
    }

    /// Every namespace: nodes by name, each node's own namespace first.
    #[must_use]
    pub fn spaces(&self) -> &[Netns<'s>] {
        &self.spaces
    }

    /// A namespace by name.
    #[must_use]
    pub fn find(&self, name: &NetnsId) -> Option<NsId> {
        self.by_name.get(name).copied()
    }

    /// The own namespace of the node that a namespace is on.
    #[must_use]
    pub fn host_of(&self, ns: NsId) -> NsId {
        self.nodes[self.space(ns).node].spaces[0]
    }

    /// No namespace of the node can hold tables of legacy iptables: `x_tables` is a loaded module, so that what
    /// needs it is a module too, and none of those that make tables is loaded.
    #[must_use]
    pub fn no_legacy_tables(&self, ns: NsId, family: Family) -> bool {
        let info = self.nodes[self.space(ns).node].facts.info.get();
        let Some(modules) = info.and_then(|i| i.modules.as_ref()) else {
            return false;
        };
        let makes_tables = match family {
            Family::V4 => "iptable_",
            Family::V6 => "ip6table_",
        };
        modules.iter().any(|m| m == "x_tables") && !modules.iter().any(|m| m.starts_with(makes_tables))
    }

    /// Some node, or else some pod, has policies or states of IPsec.
    #[must_use]
    pub fn seals(&self, hosts: bool) -> bool {
        *self.seals[usize::from(hosts)].get_or_init(|| {
            let mut spaces = self.spaces.iter().filter(|s| (self.host_of(s.id) == s.id) == hosts);
            spaces.any(|s| s.facts.xfrm().get().is_some_and(|t| !t.rows.is_empty()))
        })
    }

    /// Some captured namespace has this address.
    #[must_use]
    pub fn has_address(&self, addr: std::net::IpAddr) -> bool {
        let all = self.addresses.get_or_init(|| {
            let spaces = self.spaces.iter();
            spaces
                .flat_map(|s| {
                    Family::BOTH
                        .into_iter()
                        .flat_map(|f| s.links().addresses(f))
                        .map(|a| a.local)
                })
                .collect()
        });
        all.contains(&addr)
    }

    /// The other end of a veth.
    #[must_use]
    pub fn peer(&self, ns: NsId, dev: IfIndex) -> Option<Peer> {
        self.wires(ns).peers.get(&(ns, dev)).copied()
    }

    /// The other end of a veth is in the snapshot perhaps, but in more than one namespace.
    #[must_use]
    pub fn peer_doubtful(&self, ns: NsId, dev: IfIndex) -> bool {
        self.wires(ns).doubtful.contains(&(ns, dev))
    }

    /// vlan, macvlan and ipvlan devices on top of a device, in any namespace of the node.
    #[must_use]
    pub fn uppers(&self, ns: NsId, dev: IfIndex) -> &[(NsId, IfIndex)] {
        self.wires(ns).uppers.get(&(ns, dev)).map_or(&[], Vec::as_slice)
    }

    /// The device that a vlan, macvlan or ipvlan device is on top of. One in another namespace is taken to be
    /// in the node's own.
    #[must_use]
    pub fn lower(&self, ns: NsId, link: &Link) -> Option<(NsId, IfIndex)> {
        if link.netnsid.is_none() {
            return linked(self.space(ns).links(), link).map(|l| (ns, l));
        }
        let host = self.host_of(ns);
        let lower = link.link_index.and_then(|l| self.space(host).links().get(l))?;
        Some((host, lower.index))
    }

    /// Devices that lead out of their node and have this link-layer address.
    #[must_use]
    pub fn underlay_by_mac(&self, mac: Mac) -> &[(NsId, IfIndex)] {
        self.underlay().by_mac.get(&mac).map_or(&[], Vec::as_slice)
    }

    /// Every device that leads out of its node.
    #[must_use]
    pub fn underlay_devices(&self) -> &[(NsId, IfIndex)] {
        &self.underlay().all
    }

    /// A device that leads out of its node: a NIC, or a veth whose peer nobody captured.
    #[must_use]
    pub fn leads_out(&self, ns: NsId, link: &Link) -> bool {
        match link.kind {
            LinkKind::Device => !link.flags.loopback,
            LinkKind::Veth => self.peer(ns, link.index).is_none() && !self.peer_doubtful(ns, link.index),
            LinkKind::Bond => true,
            _ => false,
        }
    }

    /// A namespace whose devices nobody captured, and that may be at the other end of a device that leads to
    /// nobody known: another node, and for a veth any of the same node. `hop` is whom the packet is for.
    #[must_use]
    pub fn unseen(&self, ns: NsId, link: &Link, hop: Option<std::net::IpAddr>) -> Option<NsId> {
        let here = self.space(ns).node;
        let unknown = |&id: &NsId| !self.space(id).links().known;
        let beside: &[NsId] = match link.kind {
            LinkKind::Veth => &self.nodes[here].spaces,
            _ => &[],
        };
        let others = (0..self.nodes.len()).filter(|&node| node != here);
        let mut hosts = others.map(|node| self.nodes[node].spaces[0]).filter(unknown);
        let may_have_it = |&id: &NsId| {
            let links = self.space(id).links();
            !links.addresses_known || hop.is_none_or(|hop| links.owner(hop).is_some())
        };
        let beside = beside.iter().copied().find(unknown);
        beside.or_else(|| hosts.find(may_have_it))
    }

    fn wires(&self, ns: NsId) -> &Wires {
        let node = &self.nodes[self.space(ns).node];
        node.wires.get_or_init(|| self.wire(node))
    }

    /// Ties veth ends together. `link_netnsid` is an id that only the namespace holding the link
    /// understands; `netns.json` says what the node's own namespace means by it. A pair tied like this is
    /// tied for both ends. What is left is matched when two veths name each other's index and no other
    /// pair does.
    fn wire(&self, node: &Node<'s>) -> Wires {
        let mut wires = Wires::default();
        let host = node.spaces[0];
        let ids: BTreeMap<&str, NsId> = node.spaces[1..]
            .iter()
            .filter_map(|&id| Some((self.space(id).name.id.as_deref()?, id)))
            .collect();
        let infos = node.facts.netns_info.get().map_or(&[][..], Vec::as_slice);
        let by_nsid: BTreeMap<i32, NsId> = infos
            .iter()
            .filter_map(|i| Some((i.nsid?, *ids.get(i.id.as_str())?)))
            .collect();
        let mut tie = |a: (NsId, IfIndex), b: (NsId, IfIndex), guessed: bool| {
            wires.peers.entry(a).or_insert(Peer {
                ns: b.0,
                dev: b.1,
                guessed,
            });
            wires.peers.entry(b).or_insert(Peer {
                ns: a.0,
                dev: a.1,
                guessed,
            });
        };
        let named = |ns: NsId, at: (NsId, IfIndex), peer: IfIndex| {
            let links = self.space(ns).links();
            links
                .get(peer)
                .is_some_and(|l| l.kind == LinkKind::Veth && linked(links, l) == Some(at.1))
        };
        for link in self.space(host).links().iter().filter(|l| l.kind == LinkKind::Veth) {
            let Some(peer) = link.link_index else { continue };
            let ns = link.netnsid.and_then(|id| by_nsid.get(&id).copied());
            if let Some(ns) = ns.filter(|&ns| named(ns, (host, link.index), peer)) {
                tie((host, link.index), (ns, peer), false);
            }
        }
        for info in infos {
            let Some(&ns) = ids.get(info.id.as_str()) else { continue };
            for p in &info.peers {
                let (inner, outer) = (IfIndex(p.ifindex), IfIndex(p.host_ifindex));
                let both = self.space(ns).links().get(inner).is_some() && self.space(host).links().get(outer).is_some();
                if both {
                    tie((host, outer), (ns, inner), false);
                }
            }
        }
        for &ns in &node.spaces {
            for link in self
                .space(ns)
                .links()
                .iter()
                .filter(|l| l.kind == LinkKind::Veth && l.netnsid.is_none())
            {
                let peer = linked(self.space(ns).links(), link);
                if let Some(peer) = peer.filter(|&p| named(ns, (ns, link.index), p)) {
                    tie((ns, link.index), (ns, peer), false);
                }
            }
        }
        self.guess(node, &mut wires);
        for &ns in &node.spaces {
            for link in self.space(ns).links().iter() {
                let on_top = matches!(
                    link.kind,
                    LinkKind::Vlan { .. } | LinkKind::Macvlan { .. } | LinkKind::Ipvlan { .. }
                );
                if let Some(lower) = self.lower(ns, link).filter(|_| on_top) {
                    wires.uppers.entry(lower).or_default().push((ns, link.index));
                }
            }
        }
        wires
    }

    /// The other end has the two indexes the other way round, and is in another namespace. A pair that fits
    /// in more than one way is left alone and kept as doubtful: to call it outside would be a guess too.
    fn guess(&self, node: &Node<'s>, wires: &mut Wires) {
        let mut by_pair: BTreeMap<(IfIndex, IfIndex), Vec<NsId>> = BTreeMap::new();
        for &ns in &node.spaces {
            for link in self.space(ns).links().iter() {
                if let (LinkKind::Veth, Some(peer), Some(_)) = (&link.kind, link.link_index, link.netnsid)
                    && !wires.peers.contains_key(&(ns, link.index))
                {
                    by_pair.entry((link.index, peer)).or_default().push(ns);
                }
            }
        }
        let fits = |(a, b): (IfIndex, IfIndex), own: NsId| -> Vec<NsId> {
            by_pair
                .get(&(b, a))
                .into_iter()
                .flatten()
                .copied()
                .filter(|&ns| ns != own)
                .collect()
        };
        for (&(a, b), holders) in &by_pair {
            for &own in holders {
                match fits((a, b), own).as_slice() {
                    [] => {}
                    &[other] if fits((b, a), other) == [own] => {
                        wires.peers.insert(
                            (own, a),
                            Peer {
                                ns: other,
                                dev: b,
                                guessed: true,
                            },
                        );
                    }
                    _ => {
                        wires.doubtful.insert((own, a));
                    }
                }
            }
        }
    }

    fn underlay(&self) -> &Underlay {
        self.underlay.get_or_init(|| {
            let mut this = Underlay::default();
            for node in &self.nodes {
                let host = node.spaces[0];
                for link in self.space(host).links().iter().filter(|l| self.leads_out(host, l)) {
                    this.all.push((host, link.index));
                    if let Some(mac) = link.mac {
                        this.by_mac.entry(mac).or_default().push((host, link.index));
                    }
                }
            }
            this
        })
    }
}

/// `IFLA_LINK` in the same namespace: `ip` prints a name where it can tell one.
fn linked(links: &Links<'_>, link: &Link) -> Option<IfIndex> {
    link.link_index
        .or_else(|| Some(links.named(link.link_name.as_deref()?)?.index))
}
