//! Names of Kubernetes objects under a map: the same name always becomes the same other one.

use std::collections::BTreeMap;

use knet_explain::names::Named;
use knet_explain::service_chain::{ServicePortName, endpoint_hash, service_hash};
use knet_snapshot::Snapshot;
use sha2::{Digest, Sha256};

use super::address::{Addresses, Key};

/// Every cluster has these.
const COMMON: &[&str] = &[
    "default",
    "kube-system",
    "kube-public",
    "kube-node-lease",
    "kubernetes",
    "kube-dns",
    "kube-proxy",
];

/// The map of names.
#[derive(Default)]
pub struct Names {
    key: Key,
    names: BTreeMap<String, String>,
    /// kube-proxy's chains are named by hashes of the names.
    hashes: BTreeMap<String, String>,
}

impl Names {
    /// Every name of the snapshot.
    pub(super) fn of(snapshot: &Snapshot, key: Key, addresses: &Addresses) -> Self {
        let mut names = Self { key, ..Self::default() };
        let cluster = snapshot.cluster();
        for node in snapshot.nodes() {
            names.add("node", &node.name);
        }
        for node in cluster.nodes().get().into_iter().flat_map(|t| &t.rows) {
            names.add("node", &node.name);
        }
        for namespace in cluster.namespaces().get().into_iter().flat_map(|t| &t.rows) {
            names.add("ns", &namespace.name);
        }
        for pod in cluster.pods().get().into_iter().flat_map(|t| &t.rows) {
            names.add("ns", &pod.namespace);
            names.add("pod", &pod.name);
            names.add("uid", &pod.uid);
            names.add("netns", &format!("{}_{}", pod.namespace, pod.name));
        }
        for service in cluster.services().get().into_iter().flat_map(|t| &t.rows) {
            names.add("ns", &service.namespace);
            names.add("svc", &service.name);
        }
        for policy in cluster.network_policies().get().into_iter().flat_map(|t| &t.rows) {
            names.add("ns", &policy.namespace);
            names.add("policy", &policy.name);
        }
        for slice in cluster.endpoint_slices().get().into_iter().flat_map(|t| &t.rows) {
            names.add("slice", &slice.name);
        }
        // Labels and Services of its own may be called after a Gateway.
        for gateway in cluster.gateways().get().into_iter().flat_map(|t| &t.rows) {
            names.add("gateway", &gateway.name);
        }
        for id in snapshot.nodes().flat_map(|node| node.netns.keys()) {
            names.add("netns", id);
        }
        names.chains(snapshot, addresses);
        names
    }

    fn add(&mut self, kind: &str, name: &str) {
        let known = name.is_empty() || COMMON.contains(&name) || self.names.contains_key(name);
        if !known {
            let new = format!("{kind}-{}", self.digest(kind, name, 8));
            self.names.insert(name.to_owned(), new);
        }
    }

    /// Letters and digits that stand for a word.
    pub(super) fn digest(&self, kind: &str, word: &str, letters: usize) -> String {
        let mut hash = Sha256::new();
        hash.update(self.key);
        hash.update(kind);
        hash.update([0]);
        hash.update(word);
        hash.finalize()
            .iter()
            .take(letters.div_ceil(2))
            .map(|b| format!("{b:02x}"))
            .collect()
    }

    /// The new name of a name; itself when it is not one.
    pub(super) fn map<'a>(&'a self, name: &'a str) -> &'a str {
        self.names.get(name).map_or(name, String::as_str)
    }

    /// Whether it is one that every cluster has.
    pub(super) fn is_common(name: &str) -> bool {
        COMMON.contains(&name)
    }

    /// Whether it is a name that changes.
    pub(super) fn knows(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// A chain of kube-proxy with the hash of the new names.
    pub(super) fn map_chain(&self, chain: &str) -> Option<String> {
        let at = chain.rfind('-')? + 1;
        let new = self.hashes.get(&chain[at..])?;
        chain.starts_with("KUBE-").then(|| format!("{}{new}", &chain[..at]))
    }

    /// Hashes of the iptables mode: those of services, and those of their endpoints.
    fn chains(&mut self, snapshot: &Snapshot, addresses: &Addresses) {
        let cluster = snapshot.cluster();
        let mut hashes = BTreeMap::new();
        let renamed = |names: &Self, port: &ServicePortName| ServicePortName {
            service: Named {
                namespace: names.map(&port.service.namespace).to_owned(),
                name: names.map(&port.service.name).to_owned(),
            },
            port: port.port.clone(),
        };
        for service in cluster.services().get().into_iter().flat_map(|t| &t.rows) {
            for port in &service.ports {
                let old = ServicePortName {
                    service: Named {
                        namespace: service.namespace.clone(),
                        name: service.name.clone(),
                    },
                    port: port.name.clone().unwrap_or_default(),
                };
                let new = renamed(self, &old);
                hashes.insert(service_hash(&old, &port.protocol), service_hash(&new, &port.protocol));
                let slices = cluster.endpoint_slices().get().into_iter().flat_map(|t| &t.rows);
                let own =
                    slices.filter(|s| s.namespace == service.namespace && s.service.as_ref() == Some(&service.name));
                for slice in own {
                    for number in slice.ports.iter().filter_map(|p| p.port) {
                        for addr in slice.endpoints.iter().flat_map(|e| &e.addresses) {
                            let at = |addr| std::net::SocketAddr::new(addr, number).to_string();
                            hashes.insert(
                                endpoint_hash(&old, &port.protocol, &at(*addr)),
                                endpoint_hash(&new, &port.protocol, &at(addresses.map(*addr))),
                            );
                        }
                    }
                }
            }
        }
        self.hashes = hashes;
    }
}
