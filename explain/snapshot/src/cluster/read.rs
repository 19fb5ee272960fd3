//! From a `v1 List` to the reduced objects. What is not there gets the API's default or stays unsaid.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    ConfigMap, ContainerPort, Document, Endpoint, EndpointPort, EndpointSlice, LabelRequirement, LabelSelector,
    LoadBalancerIngress, Map, Namespace, NetworkPolicy, Node, Pod, Service, ServicePort, TargetPort, TargetRef,
};
use crate::fact::Problem;
use crate::json::{self, Json, Object, Unreadable};
use crate::row::{Row, Table};

/// One object of a list: its place, its text and its content.
pub(super) struct Item<'a> {
    at: Row,
    text: &'a str,
    object: Object<'a>,
}

/// Reads `{"items":[...]}`, a bare list, or a single object. An item that cannot be read costs only itself.
pub(super) fn list<T>(
    artifact: Arc<str>,
    bytes: &[u8],
    read: impl Fn(&Item<'_>) -> Result<T, Unreadable>,
) -> Result<Table<T>, Problem> {
    let mut table = Table::empty(artifact);
    let text = json::utf8(bytes, &table.artifact, &mut table.problems);
    for raw in items(&text, &mut table)? {
        let at = json::place(&text, raw);
        let read = match serde_json::from_str(raw.get()) {
            Ok(Json::Object(object)) => read(&Item {
                at,
                text: raw.get(),
                object,
            }),
            Ok(other) => Err(format!("{other}: not an object")),
            Err(e) => Err(e.to_string()),
        };
        match read {
            Ok(row) => table.rows.push(row),
            Err(what) => table.problem(at.start, what),
        }
    }
    Ok(table)
}

#[derive(Deserialize)]
struct List<'a> {
    #[serde(borrow)]
    items: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
    kind: Option<&'a str>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Chunk<'a> {
    #[serde(rename = "continue")]
    token: Option<&'a str>,
}

fn items<'a, T>(text: &'a str, table: &mut Table<T>) -> Result<Vec<&'a RawValue>, Problem> {
    let artifact = table.artifact.clone();
    let broken = |what: String| Problem {
        artifact: (*artifact).to_owned(),
        offset: Some(0),
        what: format!("not a complete list of objects, so nothing in it is used: {what}"),
    };
    let text = text.trim_start_matches('\u{feff}');
    if text.trim_start().starts_with('[') {
        return serde_json::from_str(text).map_err(|e| broken(e.to_string()));
    }
    let list: List<'a> = serde_json::from_str(text).map_err(|e| broken(e.to_string()))?;
    let chunk = list
        .metadata
        .and_then(|metadata| serde_json::from_str::<Chunk<'_>>(metadata.get()).ok());
    if chunk
        .and_then(|chunk| chunk.token)
        .is_some_and(|token| !token.is_empty())
    {
        table.problem(0, "the API server had more objects than are in this list".to_owned());
    }
    match (list.items, list.kind) {
        (Some(items), _) => Ok(items),
        // The API server writes `"items":null` for an empty list.
        (None, Some(kind)) if kind.ends_with("List") => Ok(Vec::new()),
        (None, Some(_)) => Ok(vec![serde_json::from_str(text).map_err(|e| broken(e.to_string()))?]),
        (None, None) => Err(broken("it has neither \"items\" nor a \"kind\"".to_owned())),
    }
}

pub(super) fn node(item: &Item<'_>) -> Result<Node, Unreadable> {
    let spec = item.part("spec");
    let status = item.part("status");
    let mut pod_cidrs = prefixes(spec, "podCIDRs")?;
    if pod_cidrs.is_empty() {
        pod_cidrs.extend(word(spec, "podCIDR").map(|text| prefix(&text)).transpose()?);
    }
    Ok(Node {
        at: item.at,
        name: item.name()?,
        labels: item.labels(),
        annotations: map(item.part("metadata"), "annotations"),
        addresses: status
            .objects("addresses")
            .filter_map(|a| Some((word(a, "type")?, word(a, "address")?)))
            .collect(),
        pod_cidrs,
        ready: ready(status),
        runtime: status
            .object("nodeInfo")
            .and_then(|info| word(info, "containerRuntimeVersion")),
    })
}

pub(super) fn pod(item: &Item<'_>) -> Result<Pod, Unreadable> {
    let metadata = item.part("metadata");
    let spec = item.part("spec");
    let status = item.part("status");
    let mut ips = Vec::new();
    for entry in status.objects("podIPs") {
        ips.extend(entry.addr("ip")?);
    }
    if ips.is_empty() {
        ips.extend(status.addr("podIP")?);
    }
    // Init containers are gone when the pod serves, but for sidecars.
    let sidecar = |c: &&Object<'_>| c.text("restartPolicy").as_deref() == Some("Always");
    let containers = spec
        .objects("containers")
        .chain(spec.objects("initContainers").filter(sidecar));
    let mut ports = Vec::new();
    for container in containers {
        let name = word(container, "name").unwrap_or_default();
        for port in container.objects("ports") {
            ports.push(ContainerPort {
                container: name.clone(),
                name: word(port, "name"),
                protocol: protocol(port),
                port: port.number("containerPort")?.unwrap_or(0),
                host_port: port.number("hostPort")?.filter(|port| *port != 0),
                host_ip: port.addr("hostIP")?,
            });
        }
    }
    Ok(Pod {
        at: item.at,
        namespace: item.namespace(),
        name: item.name()?,
        uid: word(metadata, "uid").unwrap_or_default(),
        labels: item.labels(),
        annotations: map(metadata, "annotations"),
        node: word(spec, "nodeName"),
        host_network: spec.flag("hostNetwork"),
        ips,
        phase: word(status, "phase").unwrap_or_default(),
        ready: ready(status),
        deletion_timestamp: word(metadata, "deletionTimestamp"),
        ports,
    })
}

pub(super) fn service(item: &Item<'_>) -> Result<Service, Unreadable> {
    let spec = item.part("spec");
    let headless = spec.text("clusterIP").as_deref() == Some("None") || spec.words("clusterIPs").any(|ip| ip == "None");
    let cluster_ips = match addrs(spec, "clusterIPs")? {
        ips if !ips.is_empty() || headless => ips,
        _ => spec.addr("clusterIP")?.into_iter().collect(),
    };
    let affinity = spec
        .object("sessionAffinityConfig")
        .and_then(|config| config.object("clientIP"));
    let timeout = affinity.map_or(Ok(None), |config| config.number("timeoutSeconds"))?;
    let by_client = spec.text("sessionAffinity").as_deref() == Some("ClientIP");
    let status = item.part("status").object("loadBalancer");
    Ok(Service {
        at: item.at,
        namespace: item.namespace(),
        name: item.name()?,
        labels: item.labels(),
        annotations: map(item.part("metadata"), "annotations"),
        kind: word(spec, "type").unwrap_or_else(|| "ClusterIP".to_owned()),
        headless,
        cluster_ips,
        external_ips: addrs(spec, "externalIPs")?,
        external_name: word(spec, "externalName"),
        ingress: status
            .into_iter()
            .flat_map(|s| s.objects("ingress"))
            .map(ingress_point)
            .collect::<Result<_, _>>()?,
        source_ranges: prefixes(spec, "loadBalancerSourceRanges")?,
        load_balancer_class: word(spec, "loadBalancerClass"),
        ports: spec.objects("ports").map(service_port).collect::<Result<_, _>>()?,
        external_traffic_policy: word(spec, "externalTrafficPolicy"),
        internal_traffic_policy: word(spec, "internalTrafficPolicy"),
        // Three hours is the API's default.
        client_ip_affinity: by_client.then_some(timeout.unwrap_or(10_800)),
        health_check_node_port: spec.number("healthCheckNodePort")?.filter(|port| *port != 0),
        selector: spec
            .object("selector")
            .map(|_| map(spec, "selector"))
            .filter(|selector| !selector.is_empty()),
        ip_families: spec.words("ipFamilies").map(str::to_owned).collect(),
        traffic_distribution: word(spec, "trafficDistribution"),
        publish_not_ready_addresses: spec.flag("publishNotReadyAddresses"),
    })
}

fn ingress_point(entry: &Object<'_>) -> Result<LoadBalancerIngress, Unreadable> {
    Ok(LoadBalancerIngress {
        ip: entry.addr("ip")?,
        hostname: word(entry, "hostname"),
        ip_mode: word(entry, "ipMode"),
    })
}

fn service_port(port: &Object<'_>) -> Result<ServicePort, Unreadable> {
    let target = match port.get("targetPort") {
        // A number in quotes is a name to the API, and no container port can have it.
        Some(Json::Text(name)) if !name.is_empty() => Some(TargetPort::Name(name.to_string())),
        _ => port
            .number::<u16>("targetPort")
            .ok()
            .flatten()
            .filter(|n| *n != 0)
            .map(TargetPort::Number),
    };
    Ok(ServicePort {
        name: word(port, "name"),
        protocol: protocol(port),
        port: port.number("port")?.ok_or("a port without a number")?,
        target,
        node_port: port.number("nodePort")?.filter(|port| *port != 0),
        app_protocol: word(port, "appProtocol"),
    })
}

pub(super) fn endpoint_slice(item: &Item<'_>) -> Result<EndpointSlice, Unreadable> {
    let labels = item.labels();
    let address_type = item.object.text("addressType").map(String::from).unwrap_or_default();
    let by_name = address_type == "FQDN";
    let ports = item.object.objects("ports").map(|port| {
        Ok(EndpointPort {
            name: word(port, "name").unwrap_or_default(),
            port: port.number("port")?,
            protocol: protocol(port),
            app_protocol: word(port, "appProtocol"),
        })
    });
    Ok(EndpointSlice {
        at: item.at,
        namespace: item.namespace(),
        name: item.name()?,
        service: labels.get("kubernetes.io/service-name").cloned(),
        labels,
        address_type,
        endpoints: item
            .object
            .objects("endpoints")
            .map(|e| endpoint(e, by_name))
            .collect::<Result<_, _>>()?,
        ports: ports.collect::<Result<_, Unreadable>>()?,
    })
}

fn endpoint(entry: &Object<'_>, by_name: bool) -> Result<Endpoint, Unreadable> {
    let none = Object::default();
    let conditions = entry.object("conditions").unwrap_or(&none);
    let hints = entry.object("hints");
    let names = |key: &str| {
        let hints = hints.filter(|hints| matches!(hints.get(key), Some(Json::List(_))))?;
        Some(hints.objects(key).filter_map(|hint| word(hint, "name")).collect())
    };
    Ok(Endpoint {
        addresses: if by_name {
            Vec::new()
        } else {
            addrs(entry, "addresses")?
        },
        ready: conditions.switch("ready"),
        serving: conditions.switch("serving"),
        terminating: conditions.switch("terminating"),
        node: word(entry, "nodeName"),
        zone: word(entry, "zone"),
        target: entry.object("targetRef").map(|target| TargetRef {
            kind: word(target, "kind").unwrap_or_default(),
            namespace: word(target, "namespace").unwrap_or_default(),
            name: word(target, "name").unwrap_or_default(),
            uid: word(target, "uid"),
        }),
        for_zones: names("forZones"),
        for_nodes: names("forNodes"),
    })
}

pub(super) fn network_policy(item: &Item<'_>) -> Result<NetworkPolicy, Unreadable> {
    let spec = item.part("spec");
    Ok(NetworkPolicy {
        at: item.at,
        namespace: item.namespace(),
        name: item.name()?,
        pod_selector: spec.object("podSelector").map(label_selector).unwrap_or_default(),
        policy_types: spec.words("policyTypes").map(str::to_owned).collect(),
        raw: item.raw()?,
    })
}

fn label_selector(selector: &Object<'_>) -> LabelSelector {
    let requirement = |entry: &Object<'_>| LabelRequirement {
        key: word(entry, "key").unwrap_or_default(),
        operator: word(entry, "operator").unwrap_or_default(),
        values: entry.words("values").map(str::to_owned).collect(),
    };
    LabelSelector {
        match_labels: map(selector, "matchLabels"),
        match_expressions: selector.objects("matchExpressions").map(requirement).collect(),
    }
}

pub(super) fn namespace(item: &Item<'_>) -> Result<Namespace, Unreadable> {
    Ok(Namespace {
        at: item.at,
        name: item.name()?,
        labels: item.labels(),
    })
}

pub(super) fn config_map(item: &Item<'_>) -> Result<ConfigMap, Unreadable> {
    let data = map(&item.object, "data");
    Ok(ConfigMap {
        at: item.at,
        namespace: item.namespace(),
        name: item.name()?,
        data,
    })
}

pub(super) fn document(item: &Item<'_>) -> Result<Document, Unreadable> {
    Ok(Document {
        at: item.at,
        namespace: item.namespace(),
        name: item.name()?,
        raw: item.raw()?,
    })
}

impl<'a> Item<'a> {
    /// `metadata`, `spec`, `status`; empty when not there.
    fn part(&self, key: &str) -> &Object<'a> {
        const NONE: &Object<'_> = &Object(Vec::new());
        self.object.object(key).unwrap_or(NONE)
    }

    fn name(&self) -> Result<String, Unreadable> {
        word(self.part("metadata"), "name").ok_or_else(|| "an object without a name".to_owned())
    }

    fn namespace(&self) -> String {
        word(self.part("metadata"), "namespace").unwrap_or_default()
    }

    fn labels(&self) -> Map {
        map(self.part("metadata"), "labels")
    }

    fn raw(&self) -> Result<serde_json::Value, Unreadable> {
        serde_json::from_str(self.text).map_err(|e| e.to_string())
    }
}

/// Text that is not empty.
fn word(object: &Object<'_>, key: &str) -> Option<String> {
    object.text(key).filter(|text| !text.is_empty()).map(String::from)
}

fn protocol(object: &Object<'_>) -> String {
    word(object, "protocol").unwrap_or_else(|| "TCP".to_owned())
}

fn map(object: &Object<'_>, key: &str) -> Map {
    let entries = object.object(key).map_or(&[][..], |object| &object.0);
    entries
        .iter()
        .filter_map(|(key, value)| Some((key.to_string(), value.text()?.into_owned())))
        .collect()
}

fn addrs(object: &Object<'_>, key: &str) -> Result<Vec<IpAddr>, Unreadable> {
    let addr = |text: &str| {
        text.parse()
            .map_err(|_| format!("{key:?} holds {text:?}: not an address"))
    };
    object
        .words(key)
        .filter(|text| !text.is_empty() && *text != "None")
        .map(addr)
        .collect()
}

fn prefixes(object: &Object<'_>, key: &str) -> Result<Vec<IpNet>, Unreadable> {
    object.words(key).filter(|text| !text.is_empty()).map(prefix).collect()
}

/// The API allows spaces around an entry of `loadBalancerSourceRanges`.
fn prefix(text: &str) -> Result<IpNet, Unreadable> {
    let net: IpNet = text.trim().parse().map_err(|_| format!("{text:?} is not a prefix"))?;
    Ok(net.trunc())
}

/// `Unknown` (the node does not answer) is none.
fn ready(status: &Object<'_>) -> Option<bool> {
    let condition = status
        .objects("conditions")
        .find(|c| c.text("type").as_deref() == Some("Ready"))?;
    match &*condition.text("status")? {
        "True" => Some(true),
        "False" => Some(false),
        _ => None,
    }
}
