//! What is kept of the objects while they stream by: names, places and addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde_json::Value;

/// Everything that says which nodes are meant.
#[derive(Debug, Default)]
pub struct Index {
    /// Name to labels and addresses.
    pub nodes: BTreeMap<String, NodeLine>,
    /// Pods by namespace and name.
    pub pods: BTreeMap<(String, String), PodLine>,
    /// UID to namespace and name.
    pub uids: BTreeMap<String, (String, String)>,
    /// Services by namespace and name.
    pub services: BTreeMap<(String, String), ServiceLine>,
    /// Nodes of a service's endpoints.
    pub endpoints: BTreeMap<(String, String), BTreeSet<String>>,
}

/// A node.
#[derive(Debug, Default)]
pub struct NodeLine {
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Addresses.
    pub addresses: Vec<IpAddr>,
}

/// A pod.
#[derive(Debug, Default)]
pub struct PodLine {
    /// Its node.
    pub node: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// It shares the node's network and runs.
    pub on_host: bool,
}

/// A service.
#[derive(Debug, Default)]
pub struct ServiceLine {
    /// Cluster, external and load-balancer addresses.
    pub addresses: Vec<IpAddr>,
    /// Node ports.
    pub node_ports: Vec<u16>,
}

impl Index {
    /// Takes note of an object of a resource.
    pub fn see(&mut self, resource: &str, object: &Value) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let metadata = &object["metadata"];
        let (namespace, name) = (text(&metadata["namespace"]), text(&metadata["name"]));
        let (spec, status) = (&object["spec"], &object["status"]);
        match resource {
            "nodes" => {
                let line = NodeLine {
                    labels: strings(&metadata["labels"]),
                    addresses: addresses(list(&status["addresses"]).map(|a| &a["address"])),
                };
                self.nodes.insert(name, line);
            }
            "pods" => {
                let node = text(&spec["nodeName"]);
                if let Some(uid) = metadata["uid"].as_str() {
                    self.uids.insert(uid.to_owned(), (namespace.clone(), name.clone()));
                }
                // A static pod's cgroup has the hash of its manifest.
                if let Some(hash) = metadata["annotations"]["kubernetes.io/config.hash"].as_str() {
                    self.uids.insert(hash.to_owned(), (namespace.clone(), name.clone()));
                }
                let line = PodLine {
                    node,
                    addresses: addresses(list(&status["podIPs"]).map(|a| &a["ip"]).chain([&status["podIP"]])),
                    on_host: spec["hostNetwork"] == true && status["phase"] == "Running",
                };
                self.pods.insert((namespace, name), line);
            }
            "services" => {
                let ingress = list(&status["loadBalancer"]["ingress"]).map(|i| &i["ip"]);
                let own = list(&spec["clusterIPs"])
                    .chain(list(&spec["externalIPs"]))
                    .chain([&spec["clusterIP"]]);
                let ports = list(&spec["ports"]).filter_map(|port| u16::try_from(port["nodePort"].as_u64()?).ok());
                let line = ServiceLine {
                    addresses: addresses(own.chain(ingress)),
                    node_ports: ports.collect(),
                };
                self.services.insert((namespace, name), line);
            }
            "endpointslices" => {
                let service = text(&metadata["labels"]["kubernetes.io/service-name"]);
                let nodes = list(&object["endpoints"]).filter_map(|e| e["nodeName"].as_str().map(str::to_owned));
                self.endpoints.entry((namespace, service)).or_default().extend(nodes);
            }
            _ => {}
        }
    }

    /// Running pods that share a node's network.
    #[must_use]
    pub fn host_pods(&self, node: &str) -> Vec<(String, String)> {
        // kube-proxy and the CNI's agents are privileged more often than others.
        let mut pods: Vec<_> = self
            .pods
            .iter()
            .filter(|(_, pod)| pod.on_host && pod.node == node)
            .collect();
        let rank = |name: &str| {
            let first = [
                "cilium",
                "calico-node",
                "kube-router",
                "weave-net",
                "kube-flannel",
                "kube-proxy",
                "kindnet",
            ];
            first
                .iter()
                .position(|start| name.starts_with(start))
                .unwrap_or(first.len())
        };
        pods.sort_by_key(|((_, name), _)| (rank(name), name.clone()));
        pods.into_iter().map(|(key, _)| key.clone()).collect()
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn addresses<'v>(values: impl Iterator<Item = &'v Value>) -> Vec<IpAddr> {
    values.filter_map(|value| value.as_str()?.parse().ok()).collect()
}

fn strings(value: &Value) -> BTreeMap<String, String> {
    let all = value.as_object().into_iter().flatten();
    all.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}
