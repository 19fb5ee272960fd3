//! Which pod, service or node has an address, and which names exist.
//!
//! Built once from the Kubernetes objects, `netns.json`, and the addresses in the namespaces. A snapshot
//! without `cluster/` still names its nodes and, by folder, its namespaces.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use knet_dataplane::trace::NsId;
use knet_dataplane::world::World;
use knet_snapshot::cluster::{EndpointSlice, Node, Pod, Service};

/// A pod or service by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Named {
    /// Namespace; empty when only a folder name is known.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl Named {
    /// From parts.
    #[must_use]
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { namespace, name } = self;
        if namespace.is_empty() {
            f.write_str(name)
        } else {
            write!(f, "{namespace}/{name}")
        }
    }
}

/// Whose an address is. The most telling one stands first in [`Names::whose`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Whose {
    /// A pod with a namespace of its own.
    Pod(Named),
    /// A ClusterIP.
    ClusterIp(Named),
    /// A load-balancer address.
    LoadBalancer(Named),
    /// An external IP.
    ExternalIp(Named),
    /// An address on a device of a node, or one the Node object lists.
    Node(String),
    /// An address in a captured namespace that is no known pod's.
    Netns(NsId),
}

/// How a namespace was tied to its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TiedBy {
    /// `netns.json` says so.
    NetnsJson,
    /// The namespace has the pod's address.
    Address,
    /// Nothing ties it: the folder's name stands for the pod's.
    Folder,
}

/// A captured namespace as people know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlaceName {
    /// Node.
    pub node: String,
    /// Folder under `netns/`; `None` = the node's own.
    pub netns: Option<String>,
    /// The pod.
    pub pod: Option<Named>,
    /// How the pod is known.
    pub tied_by: TiedBy,
}

/// A pod as far as the snapshot knows it.
#[derive(Clone, Debug)]
pub struct PodEntry<'s> {
    /// The object.
    pub object: Option<&'s Pod>,
    /// Its namespace, when it was captured. Of a hostNetwork pod: the node's own.
    pub ns: Option<NsId>,
}

/// A node as far as the snapshot knows it.
#[derive(Clone, Debug, Default)]
pub struct NodeEntry<'s> {
    /// The object.
    pub object: Option<&'s Node>,
    /// Its own namespace, when it was captured.
    pub ns: Option<NsId>,
}

/// The names of a snapshot.
#[derive(Debug, Default)]
pub struct Names<'s> {
    places: Vec<PlaceName>,
    pods: BTreeMap<Named, PodEntry<'s>>,
    services: BTreeMap<Named, &'s Service>,
    slices: BTreeMap<Named, Vec<&'s EndpointSlice>>,
    nodes: BTreeMap<String, NodeEntry<'s>>,
    namespaces: BTreeSet<String>,
    addresses: BTreeMap<IpAddr, BTreeSet<Whose>>,
    /// `cluster/pods.json` was captured.
    pub pods_known: bool,
    /// `cluster/services.json` was captured.
    pub services_known: bool,
    /// `cluster/endpointslices.json` was captured.
    pub slices_known: bool,
    /// `cluster/nodes.json` was captured.
    pub nodes_known: bool,
}

impl<'s> Names<'s> {
    /// Indexes the names of a world.
    #[must_use]
    pub fn new(world: &World<'s>) -> Self {
        let mut this = Self::default();
        this.objects(world);
        this.captured(world);
        this
    }

    fn objects(&mut self, world: &World<'s>) {
        let cluster = world.snapshot.cluster();
        if let Some(table) = cluster.namespaces().get() {
            self.namespaces.extend(table.rows.iter().map(|n| n.name.clone()));
        }
        if let Some(table) = cluster.nodes().get() {
            self.nodes_known = !table.rows.is_empty();
            for node in &table.rows {
                self.nodes.entry(node.name.clone()).or_default().object = Some(node);
                for ip in node.ips("InternalIP").chain(node.ips("ExternalIP")) {
                    self.name(ip, Whose::Node(node.name.clone()));
                }
            }
        }
        if let Some(table) = cluster.services().get() {
            self.services_known = !table.rows.is_empty();
            for service in &table.rows {
                let named = Named::new(&*service.namespace, &*service.name);
                self.namespaces.insert(service.namespace.clone());
                for &ip in &service.cluster_ips {
                    self.name(ip, Whose::ClusterIp(named.clone()));
                }
                for ip in service.ingress.iter().filter_map(|i| i.ip) {
                    self.name(ip, Whose::LoadBalancer(named.clone()));
                }
                for &ip in &service.external_ips {
                    self.name(ip, Whose::ExternalIp(named.clone()));
                }
                self.services.insert(named, service);
            }
        }
        if let Some(table) = cluster.endpoint_slices().get() {
            self.slices_known = !table.rows.is_empty();
            for slice in &table.rows {
                if let Some(service) = &slice.service {
                    self.slices
                        .entry(Named::new(&*slice.namespace, &**service))
                        .or_default()
                        .push(slice);
                }
            }
            for slices in self.slices.values_mut() {
                slices.sort_by(|a, b| a.name.cmp(&b.name));
            }
        }
        if let Some(table) = cluster.pods().get() {
            self.pods_known = !table.rows.is_empty();
            for pod in &table.rows {
                let named = Named::new(&*pod.namespace, &*pod.name);
                self.namespaces.insert(pod.namespace.clone());
                // A finished pod keeps its address in the object, but the address may be another pod's by now.
                let gone = matches!(pod.phase.as_str(), "Succeeded" | "Failed");
                if !pod.host_network && !gone {
                    for &ip in &pod.ips {
                        self.name(ip, Whose::Pod(named.clone()));
                    }
                }
                self.pods.insert(
                    named,
                    PodEntry {
                        object: Some(pod),
                        ns: None,
                    },
                );
            }
        }
    }

    fn captured(&mut self, world: &World<'s>) {
        for space in world.spaces() {
            let node = space.name.node.clone();
            let addresses: Vec<IpAddr> = space
                .facts
                .addrs()
                .get()
                .map(|table| {
                    table
                        .rows
                        .iter()
                        .filter(|a| !a.local.is_loopback())
                        .map(|a| a.local)
                        .collect()
                })
                .unwrap_or_default();
            let mut place = PlaceName {
                node: node.clone(),
                netns: space.name.id.clone(),
                pod: None,
                tied_by: TiedBy::Folder,
            };
            let Some(folder) = &space.name.id else {
                self.nodes.entry(node.clone()).or_default().ns = Some(space.id);
                for ip in addresses.into_iter().filter(|ip| !is_link_local(*ip)) {
                    self.name(ip, Whose::Node(node.clone()));
                }
                self.places.push(place);
                continue;
            };
            let entry = world.snapshot.node(&node).and_then(|n| n.netns_entry(folder));
            if let Some(pod) = entry.and_then(|e| e.pod.as_ref()).filter(|p| !p.name.is_empty()) {
                place.pod = Some(Named::new(&*pod.namespace, &*pod.name));
                place.tied_by = TiedBy::NetnsJson;
            } else if let Some(pod) = addresses.iter().find_map(|ip| self.pod_at(*ip)) {
                place.pod = Some(pod.clone());
                place.tied_by = TiedBy::Address;
            }
            match &place.pod {
                Some(pod) => {
                    let entry = self
                        .pods
                        .entry(pod.clone())
                        .or_insert(PodEntry { object: None, ns: None });
                    entry.ns = Some(space.id);
                    self.namespaces.insert(pod.namespace.clone());
                }
                // A plain namespace can be asked for by its folder's name.
                None => {
                    let named = Named::new("", folder.as_str());
                    self.pods.entry(named).or_insert(PodEntry {
                        object: None,
                        ns: Some(space.id),
                    });
                }
            }
            for ip in addresses.into_iter().filter(|ip| !is_link_local(*ip)) {
                let whose = place.pod.clone().map_or(Whose::Netns(space.id), Whose::Pod);
                self.name(ip, whose);
            }
            self.places.push(place);
        }
        // hostNetwork pods live in their node's namespace.
        for entry in self.pods.values_mut() {
            if let Some(pod) = entry.object.filter(|p| p.host_network) {
                entry.ns = pod
                    .node
                    .as_ref()
                    .and_then(|node| self.nodes.get(node))
                    .and_then(|n| n.ns);
            }
        }
        self.namespaces.remove("");
    }

    fn name(&mut self, ip: IpAddr, whose: Whose) {
        self.addresses.entry(ip).or_default().insert(whose);
    }

    fn pod_at(&self, ip: IpAddr) -> Option<&Named> {
        self.addresses
            .get(&ip)?
            .iter()
            .find_map(|w| if let Whose::Pod(pod) = w { Some(pod) } else { None })
    }

    /// Everything that has an address, the most telling first.
    pub fn whose(&self, ip: IpAddr) -> impl Iterator<Item = &Whose> {
        self.addresses.get(&ip).into_iter().flatten()
    }

    /// The node that has an address on one of its devices (or lists it).
    #[must_use]
    pub fn node_at(&self, ip: IpAddr) -> Option<&str> {
        self.whose(ip)
            .find_map(|w| if let Whose::Node(node) = w { Some(&**node) } else { None })
    }

    /// A captured namespace.
    #[must_use]
    pub fn place(&self, ns: NsId) -> Option<&PlaceName> {
        self.places.get(ns.0 as usize)
    }

    /// A pod.
    #[must_use]
    pub fn pod(&self, name: &Named) -> Option<&PodEntry<'s>> {
        self.pods.get(name)
    }

    /// All pods by name.
    pub fn pods(&self) -> impl Iterator<Item = (&Named, &PodEntry<'s>)> {
        self.pods.iter()
    }

    /// A service.
    #[must_use]
    pub fn service(&self, name: &Named) -> Option<&'s Service> {
        self.services.get(name).copied()
    }

    /// All services by name.
    pub fn services(&self) -> impl Iterator<Item = (&Named, &'s Service)> {
        self.services.iter().map(|(name, service)| (name, *service))
    }

    /// The slices of a service, by name.
    #[must_use]
    pub fn slices(&self, service: &Named) -> &[&'s EndpointSlice] {
        self.slices.get(service).map_or(&[], Vec::as_slice)
    }

    /// A node.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&NodeEntry<'s>> {
        self.nodes.get(name)
    }

    /// All nodes by name.
    pub fn all_nodes(&self) -> impl Iterator<Item = (&str, &NodeEntry<'s>)> {
        self.nodes.iter().map(|(name, entry)| (name.as_str(), entry))
    }

    /// What can stand as SRC: `pod/ns/name` and `node/NAME`, sorted.
    #[must_use]
    pub fn sources(&self) -> Vec<String> {
        let pods = self
            .pods
            .iter()
            .filter(|(_, e)| e.ns.is_some())
            .map(|(name, _)| format!("pod/{name}"));
        let mut all: Vec<String> = self.nodes.keys().map(|n| format!("node/{n}")).chain(pods).collect();
        all.sort();
        all
    }

    /// What can stand as DST: `svc/ns/name[:port]`, `pod/ns/name`, `node/NAME`, sorted.
    #[must_use]
    pub fn destinations(&self) -> Vec<String> {
        let mut all: Vec<String> = self.nodes.keys().map(|n| format!("node/{n}")).collect();
        all.extend(self.pods.keys().map(|name| format!("pod/{name}")));
        for (name, service) in &self.services {
            all.extend(service.ports.iter().map(|port| format!("svc/{name}:{}", port.port)));
        }
        all.sort();
        all.dedup();
        all
    }

    /// Node names, sorted.
    #[must_use]
    pub fn nodes(&self) -> Vec<String> {
        self.nodes.keys().cloned().collect()
    }

    /// Kubernetes namespaces, sorted.
    #[must_use]
    pub fn namespaces(&self) -> Vec<String> {
        self.namespaces.iter().cloned().collect()
    }

    /// NodePorts, sorted.
    #[must_use]
    pub fn node_ports(&self) -> Vec<u16> {
        let all: BTreeSet<u16> = self
            .services
            .values()
            .flat_map(|s| &s.ports)
            .filter_map(|port| port.node_port)
            .collect();
        all.into_iter().collect()
    }
}

/// 169.254/16 and fe80::/10: the same address is on many devices, so it names nobody.
fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(a) => a.is_link_local(),
        IpAddr::V6(a) => a.segments()[0] & 0xffc0 == 0xfe80,
    }
}
