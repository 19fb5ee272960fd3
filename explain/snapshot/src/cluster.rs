//! `cluster/*.json`: Kubernetes objects as `kubectl get -o json` prints them, reduced to what names,
//! starts and compares a walk.

mod read;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde_json::Value;

use crate::fact::{Fact, Problem};
use crate::lazy::{self, Cell, Raw, problems_of_table};
use crate::manifest::AbsentReason;
use crate::row::{Row, Table};

/// Labels, annotations, data.
pub type Map = BTreeMap<String, String>;

/// A Node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    /// Where the object stands.
    pub at: Row,
    /// Name.
    pub name: String,
    /// Labels.
    pub labels: Map,
    /// Annotations.
    pub annotations: Map,
    /// `status.addresses`: type (`InternalIP`, `ExternalIP`, `Hostname`) and address as written.
    pub addresses: Vec<(String, String)>,
    /// `spec.podCIDRs`, or `spec.podCIDR`.
    pub pod_cidrs: Vec<IpNet>,
    /// The `Ready` condition; `None` when unknown.
    pub ready: Option<bool>,
    /// `status.nodeInfo.containerRuntimeVersion` as written (`containerd://1.7.2`).
    pub runtime: Option<String>,
}

impl Node {
    /// The addresses of one type that are IP addresses.
    pub fn ips<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = IpAddr> + 'a {
        self.addresses
            .iter()
            .filter(move |(k, _)| k == kind)
            .filter_map(|(_, addr)| addr.parse().ok())
    }
}

/// A Pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pod {
    /// Where the object stands.
    pub at: Row,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Labels.
    pub labels: Map,
    /// Annotations.
    pub annotations: Map,
    /// Node it was put on.
    pub node: Option<String>,
    /// `hostNetwork`
    pub host_network: bool,
    /// `status.podIPs`, or `status.podIP`.
    pub ips: Vec<IpAddr>,
    /// `Pending`, `Running`, `Succeeded`, `Failed`, `Unknown` as written.
    pub phase: String,
    /// The `Ready` condition; `None` when unknown.
    pub ready: Option<bool>,
    /// Being deleted since.
    pub deletion_timestamp: Option<String>,
    /// Ports of its containers and sidecars.
    pub ports: Vec<ContainerPort>,
}

/// A port of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerPort {
    /// Container name.
    pub container: String,
    /// Name, if any.
    pub name: Option<String>,
    /// `TCP`, `UDP`, `SCTP`.
    pub protocol: String,
    /// Port in the pod.
    pub port: u16,
    /// `hostPort`
    pub host_port: Option<u16>,
    /// `hostIP`
    pub host_ip: Option<IpAddr>,
}

/// A Service. Words are as written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Service {
    /// Where the object stands.
    pub at: Row,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Labels.
    pub labels: Map,
    /// Annotations.
    pub annotations: Map,
    /// `ClusterIP`, `NodePort`, `LoadBalancer`, `ExternalName`.
    pub kind: String,
    /// `clusterIP: None`.
    pub headless: bool,
    /// `clusterIPs`
    pub cluster_ips: Vec<IpAddr>,
    /// `externalIPs`
    pub external_ips: Vec<IpAddr>,
    /// `externalName`
    pub external_name: Option<String>,
    /// `status.loadBalancer.ingress`
    pub ingress: Vec<LoadBalancerIngress>,
    /// `loadBalancerSourceRanges`
    pub source_ranges: Vec<IpNet>,
    /// `loadBalancerClass`
    pub load_balancer_class: Option<String>,
    /// Ports.
    pub ports: Vec<ServicePort>,
    /// `Cluster` or `Local`; only printed where it means something.
    pub external_traffic_policy: Option<String>,
    /// `Cluster` or `Local`.
    pub internal_traffic_policy: Option<String>,
    /// `sessionAffinity: ClientIP`: the timeout in seconds.
    pub client_ip_affinity: Option<u32>,
    /// `healthCheckNodePort`
    pub health_check_node_port: Option<u16>,
    /// `selector`; `None` when the endpoints are written by hand.
    pub selector: Option<Map>,
    /// `IPv4`, `IPv6`.
    pub ip_families: Vec<String>,
    /// `trafficDistribution`
    pub traffic_distribution: Option<String>,
    /// `publishNotReadyAddresses`
    pub publish_not_ready_addresses: bool,
}

/// One entry of `status.loadBalancer.ingress`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadBalancerIngress {
    /// IP address.
    pub ip: Option<IpAddr>,
    /// Host name.
    pub hostname: Option<String>,
    /// `VIP` or `Proxy`.
    pub ip_mode: Option<String>,
}

/// A port of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServicePort {
    /// Name, if any.
    pub name: Option<String>,
    /// `TCP`, `UDP`, `SCTP`.
    pub protocol: String,
    /// Port.
    pub port: u16,
    /// Port of the endpoints; `None` is the same as `port`.
    pub target: Option<TargetPort>,
    /// `nodePort`
    pub node_port: Option<u16>,
    /// `appProtocol`
    pub app_protocol: Option<String>,
}

/// `targetPort`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetPort {
    /// By number.
    Number(u16),
    /// By the name of a container port.
    Name(String),
}

/// An EndpointSlice.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EndpointSlice {
    /// Where the object stands.
    pub at: Row,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Labels.
    pub labels: Map,
    /// The label `kubernetes.io/service-name`.
    pub service: Option<String>,
    /// `IPv4`, `IPv6` or `FQDN`.
    pub address_type: String,
    /// Endpoints.
    pub endpoints: Vec<Endpoint>,
    /// Ports, the same for every endpoint.
    pub ports: Vec<EndpointPort>,
}

/// One endpoint of a slice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// Addresses; none in a slice of type `FQDN`.
    pub addresses: Vec<IpAddr>,
    /// `conditions.ready`; not said means yes.
    pub ready: Option<bool>,
    /// `conditions.serving`; not said means the same as ready.
    pub serving: Option<bool>,
    /// `conditions.terminating`; not said means no.
    pub terminating: Option<bool>,
    /// Node.
    pub node: Option<String>,
    /// Zone.
    pub zone: Option<String>,
    /// What it is: kind, namespace, name.
    pub target: Option<TargetRef>,
    /// `hints.forZones`; `None` when there is no hint.
    pub for_zones: Option<Vec<String>>,
    /// `hints.forNodes`; `None` when there is no hint.
    pub for_nodes: Option<Vec<String>>,
}

/// `targetRef`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetRef {
    /// `Pod`
    pub kind: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: Option<String>,
}

/// A port of a slice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointPort {
    /// Name; empty for the only port of a Service without names.
    pub name: String,
    /// Port; `None` is every port.
    pub port: Option<u16>,
    /// `TCP`, `UDP`, `SCTP`.
    pub protocol: String,
    /// `appProtocol`
    pub app_protocol: Option<String>,
}

/// A NetworkPolicy.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkPolicy {
    /// Where the object stands.
    pub at: Row,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// `podSelector`
    pub pod_selector: LabelSelector,
    /// `Ingress`, `Egress`; what the API server filled in.
    pub policy_types: Vec<String>,
    /// The whole object.
    pub raw: Value,
}

/// A label selector. An empty one selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    /// `matchLabels`
    pub match_labels: Map,
    /// `matchExpressions`
    pub match_expressions: Vec<LabelRequirement>,
}

/// One of a selector's `matchExpressions`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelRequirement {
    /// Label.
    pub key: String,
    /// `In`, `NotIn`, `Exists`, `DoesNotExist`.
    pub operator: String,
    /// Values.
    pub values: Vec<String>,
}

/// A Namespace.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Namespace {
    /// Where the object stands.
    pub at: Row,
    /// Name.
    pub name: String,
    /// Labels.
    pub labels: Map,
}

/// A ConfigMap (kube-proxy's and the CNI's are captured).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConfigMap {
    /// Where the object stands.
    pub at: Row,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Data.
    pub data: Map,
}

/// An object as it is: Ingress, IngressClass, Gateway, HTTPRoute.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Where the object stands.
    pub at: Row,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// The whole object.
    pub raw: Value,
}

/// The files, the getters, and the one place that knows every resource's problems.
macro_rules! resources {
    ($($(#[$doc:meta])* $getter:ident: $file:literal, $parse:path => $t:ty;)*) => {
        /// The Kubernetes objects of a snapshot, each resource parsed when it is first asked for.
        pub struct Cluster {
            $($getter: (Raw, Cell<Table<$t>>),)*
        }

        impl Cluster {
            pub(crate) fn new(raw: impl Fn(&str) -> Raw) -> Self {
                Self { $($getter: (raw(concat!("cluster/", $file)), Cell::new()),)* }
            }

            $($(#[$doc])*
            pub fn $getter(&self) -> &Fact<Table<$t>> {
                let (raw, cell) = &self.$getter;
                let path = || Arc::from(concat!("cluster/", $file));
                let parse = |artifact, bytes: &[u8]| read::list(artifact, bytes, $parse);
                &cell.get_or_init(|| lazy::load(raw.as_ref().map_err(copy), path, Table::empty, lazy::json(parse))).fact
            })*

            /// Adds the problems of the resources parsed so far.
            pub(crate) fn problems(&self, all: &mut Vec<Problem>) {
                let Self { $($getter,)* } = self;
                $(problems_of_table(&$getter.1, all);)*
            }
        }
    };
}

const fn copy(why: &AbsentReason) -> AbsentReason {
    *why
}

resources! {
    /// Nodes.
    nodes: "nodes.json", read::node => Node;
    /// Pods.
    pods: "pods.json", read::pod => Pod;
    /// Services.
    services: "services.json", read::service => Service;
    /// EndpointSlices.
    endpoint_slices: "endpointslices.json", read::endpoint_slice => EndpointSlice;
    /// NetworkPolicies.
    network_policies: "networkpolicies.json", read::network_policy => NetworkPolicy;
    /// Namespaces.
    namespaces: "namespaces.json", read::namespace => Namespace;
    /// ConfigMaps.
    config_maps: "configmaps.json", read::config_map => ConfigMap;
    /// Ingresses.
    ingresses: "ingresses.json", read::document => Document;
    /// IngressClasses.
    ingress_classes: "ingressclasses.json", read::document => Document;
    /// Gateways of the Gateway API.
    gateways: "gateways.json", read::document => Document;
    /// HTTPRoutes of the Gateway API.
    http_routes: "httproutes.json", read::document => Document;
}
