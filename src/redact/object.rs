//! Kubernetes objects: what a trace needs of them, under the map.

use knet_explain::topics::http::{CONTROLLER_LABELS, is_known_controller};
use serde_json::{Map, Value};

use super::{Redaction, http};

/// The fields kept of each kind, below `spec` and `status`; everything else is left out.
const SPEC: &[&str] = &[
    "nodeName",
    "hostNetwork",
    "containers",
    "initContainers",
    "podCIDR",
    "podCIDRs",
    "type",
    "clusterIP",
    "clusterIPs",
    "externalIPs",
    "externalName",
    "loadBalancerSourceRanges",
    "loadBalancerClass",
    "loadBalancerIP",
    "ports",
    "externalTrafficPolicy",
    "internalTrafficPolicy",
    "sessionAffinity",
    "sessionAffinityConfig",
    "healthCheckNodePort",
    "selector",
    "ipFamilies",
    "ipFamilyPolicy",
    "publishNotReadyAddresses",
    "podSelector",
    "ingress",
    "egress",
    "policyTypes",
    "trafficDistribution",
];
const STATUS: &[&str] = &[
    "phase",
    "podIP",
    "podIPs",
    "hostIP",
    "hostIPs",
    "addresses",
    "conditions",
    "loadBalancer",
    "nodeInfo",
];
const CONTAINER: &[&str] = &["name", "ports", "restartPolicy"];
const CONDITION: &[&str] = &["type", "status"];
const NODE_INFO: &[&str] = &[
    "kernelVersion",
    "osImage",
    "kubeProxyVersion",
    "kubeletVersion",
    "architecture",
];
/// Of `KubeProxyConfiguration`.
const CONFIGURATION: &[&str] = &[
    "apiVersion",
    "kind",
    "mode",
    "clusterCIDR",
    "detectLocalMode",
    "nodePortAddresses",
    "iptables",
    "ipvs",
    "nftables",
    "conntrack",
    "featureGates",
];
/// Annotations by which networks are set up.
const ANNOTATIONS: &[&str] = &[
    "flannel.alpha.coreos.com/",
    "projectcalico.org/",
    "service.kubernetes.io/",
    "cilium.io/",
];
/// Words whose value is one of the API's own.
const WORDS: &[&str] = &["type", "protocol", "kind", "apiVersion", "status", "operator"];

/// One object.
pub(super) fn map(object: &Value, redaction: &Redaction) -> Value {
    let mut out = Map::new();
    for (key, value) in object.as_object().into_iter().flatten() {
        let new = match key.as_str() {
            "apiVersion" | "kind" | "addressType" => value.clone(),
            "metadata" => metadata(value, redaction),
            "spec" => fields(value, SPEC, redaction),
            "status" => fields(value, STATUS, redaction),
            "endpoints" | "ports" => any(key, value, redaction),
            "data" => data(value, redaction),
            _ => continue,
        };
        out.insert(key.clone(), new);
    }
    Value::Object(out)
}

/// Names, times, labels, and the annotations by which networks are set up.
pub(super) fn metadata(value: &Value, redaction: &Redaction) -> Value {
    let mut out = Map::new();
    for (key, value) in value.as_object().into_iter().flatten() {
        let new = match key.as_str() {
            // Of kinds whose names nothing else refers to, too: a ConfigMap may be called after its node.
            "name" => Value::from(redaction.object(value.as_str().unwrap_or_default())),
            "namespace" | "uid" => Value::from(redaction.name(key, value.as_str().unwrap_or_default())),
            "deletionTimestamp" | "creationTimestamp" => value.clone(),
            "labels" => labels(value, redaction),
            "annotations" => {
                let known = |key: &str| ANNOTATIONS.iter().any(|start| key.starts_with(start));
                let all = value.as_object().into_iter().flatten().filter(|(key, _)| known(key));
                all.map(|(key, value)| (key.clone(), any(key, value, redaction)))
                    .collect()
            }
            _ => continue,
        };
        out.insert(key.clone(), new);
    }
    Value::Object(out)
}

/// Of kube-proxy's configuration what says how it works. It is a text, in which anybody's name may stand anywhere.
fn data(value: &Value, redaction: &Redaction) -> Value {
    const FILE: &str = "config.conf";
    let text = value[FILE].as_str().unwrap_or_default();
    let config: Value = serde_saphyr::from_str(text).unwrap_or_default();
    let kept = fields(&config, CONFIGURATION, redaction);
    let mut out = Map::new();
    out.insert(FILE.to_owned(), Value::from(kept.to_string()));
    Value::Object(out)
}

fn fields(value: &Value, keep: &[&str], redaction: &Redaction) -> Value {
    let all = value.as_object().into_iter().flatten();
    all.filter(|(key, _)| keep.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), any(key, value, redaction)))
        .collect()
}

/// A value by its key.
fn any(key: &str, value: &Value, redaction: &Redaction) -> Value {
    match (key, value) {
        ("matchLabels" | "selector", Value::Object(_))
            if !value.as_object().is_some_and(|o| o.contains_key("matchLabels")) =>
        {
            labels(value, redaction)
        }
        ("matchExpressions", Value::Array(list)) => list.iter().map(|e| expression(e, redaction)).collect(),
        ("containers" | "initContainers", Value::Array(list)) => {
            let container = |c: &Value| {
                let mut out = fields(c, CONTAINER, redaction);
                out["name"] = Value::from(redaction.word("container", c["name"].as_str().unwrap_or_default()));
                out
            };
            list.iter().map(container).collect()
        }
        ("conditions", Value::Array(list)) => list.iter().map(|c| condition(c, redaction)).collect(),
        ("conditions", Value::Object(_)) => value.clone(),
        ("nodeInfo", _) => {
            let keep = |key: &&String| NODE_INFO.contains(&key.as_str());
            let all = value.as_object().into_iter().flatten().filter(|(key, _)| keep(key));
            all.map(|(key, value)| (key.clone(), value.clone())).collect()
        }
        (_, Value::Object(map)) => map
            .iter()
            .map(|(key, value)| (key.clone(), any(key, value, redaction)))
            .collect(),
        (_, Value::Array(list)) => list.iter().map(|value| any(key, value, redaction)).collect(),
        ("externalName" | "hostname" | "address", Value::String(text)) => Value::from(http::host(text, redaction)),
        (key, Value::String(text)) if !WORDS.contains(&key) => Value::from(redaction.string(key, text)),
        (_, other) => other.clone(),
    }
}

/// One of an object's conditions, without the words of whoever wrote it.
pub(super) fn condition(value: &Value, redaction: &Redaction) -> Value {
    fields(value, CONDITION, redaction)
}

/// Keys of the project's own domains stay, and so do their values, but for the names among them.
fn labels(value: &Value, redaction: &Redaction) -> Value {
    let all = value.as_object().into_iter().flatten();
    all.map(|(key, value)| {
        let text = value.as_str().unwrap_or_default();
        (
            label_key(key, redaction),
            Value::from(label_value(key, text, redaction)),
        )
    })
    .collect()
}

fn expression(value: &Value, redaction: &Redaction) -> Value {
    let key = value["key"].as_str().unwrap_or_default();
    let values = value["values"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str);
    let values: Vec<String> = values.map(|text| label_value(key, text, redaction)).collect();
    let mut out = value.clone();
    out["key"] = Value::from(label_key(key, redaction));
    if value.get("values").is_some() {
        out["values"] = values.into();
    }
    out
}

/// `kubernetes.io/...`, `app.kubernetes.io/...`, `k8s.io/...`.
pub(super) fn is_ours(key: &str) -> bool {
    let domain = key.split_once('/').map_or("", |(domain, _)| domain);
    domain == "kubernetes.io" || domain.ends_with(".kubernetes.io") || domain == "k8s.io" || domain.ends_with(".k8s.io")
}

fn label_key(key: &str, redaction: &Redaction) -> String {
    if is_ours(key) || CONTROLLER_LABELS.contains(&key) {
        key.to_owned()
    } else {
        redaction.word("label", key)
    }
}

fn label_value(key: &str, value: &str, redaction: &Redaction) -> String {
    // A product's name, by which an answer is chosen, is nobody's.
    if is_known_controller(key, value) {
        value.to_owned()
    } else if redaction.names.knows(value) || is_ours(key) || value.is_empty() {
        redaction.names.map(value).to_owned()
    } else {
        redaction.word("value", value)
    }
}
