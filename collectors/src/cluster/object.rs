//! What of an object a snapshot holds: nothing that may be a secret.

use serde_json::{Map, Value};

/// Fields of a container that matter to its packets.
const CONTAINER: &[&str] = &["name", "ports", "restartPolicy", "image"];
/// Annotations that repeat an object, or hold anything.
const ANNOTATIONS: &[&str] = &["kubectl.kubernetes.io/last-applied-configuration"];
/// Words in the keys of annotations that hold a piece of a controller's configuration, or credentials.
const SNIPPETS: &[&str] = &["snippet", "auth", "token", "password", "secret"];
/// Headers of a request that prove who sends it.
const CREDENTIALS: &[&str] = &["auth", "cookie", "token", "key", "secret", "password"];
/// Parts of a kubeconfig or of a component's credentials in a ConfigMap.
const DATA: &[&str] = &["kubeconfig", "token", "password", "secret", "key", "cert"];

/// Takes out environment, arguments, probes, volumes, credentials and bookkeeping.
pub fn without_secrets(object: &mut Value) {
    let Some(object) = object.as_object_mut() else { return };
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.retain(|key, _| !ANNOTATIONS.contains(&key.as_str()) && !names(key, SNIPPETS));
        }
    }
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        for key in ["containers", "initContainers", "ephemeralContainers"] {
            for container in spec.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten() {
                keep(container.as_object_mut(), CONTAINER);
            }
        }
        spec.remove("volumes");
        spec.remove("imagePullSecrets");
        for rule in spec
            .get_mut("rules")
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            route_rule(rule);
        }
    }
    if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
        for key in [
            "images",
            "volumesAttached",
            "volumesInUse",
            "containerStatuses",
            "initContainerStatuses",
            "ephemeralContainerStatuses",
        ] {
            status.remove(key);
        }
    }
    if let Some(data) = object.get_mut("data").and_then(Value::as_object_mut) {
        data.retain(|key, _| !names(key, DATA));
    }
    object.remove("binaryData");
}

/// A rule of an HTTPRoute: its filters may set a header to a token, and its matches may ask for one.
fn route_rule(rule: &mut Value) {
    for filter in entries(rule, "filters") {
        keep(filter.as_object_mut(), &["type", "requestRedirect"]);
    }
    for backend in entries(rule, "backendRefs") {
        for filter in entries(backend, "filters") {
            keep(filter.as_object_mut(), &["type"]);
        }
    }
    for one in entries(rule, "matches") {
        for field in ["headers", "queryParams"] {
            for wanted in entries(one, field) {
                if wanted["name"].as_str().is_some_and(|name| names(name, CREDENTIALS)) {
                    wanted["value"] = "<hidden>".into();
                }
            }
        }
    }
}

fn entries<'v>(value: &'v mut Value, key: &str) -> impl Iterator<Item = &'v mut Value> {
    value.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten()
}

fn names(key: &str, words: &[&str]) -> bool {
    let key = key.to_ascii_lowercase();
    words.iter().any(|word| key.contains(word))
}

fn keep(map: Option<&mut Map<String, Value>>, fields: &[&str]) {
    if let Some(map) = map {
        map.retain(|key, _| fields.contains(&key.as_str()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nothing_that_may_be_a_secret_stays() {
        let mut pod = json!({
            "metadata": {"name": "p", "managedFields": [1],
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "PASS", "a": "b"}},
            "spec": {"nodeName": "n", "volumes": ["PASS"], "imagePullSecrets": ["PASS"],
                "containers": [{"name": "c", "env": [{"value": "PASS"}], "args": ["PASS"], "command": ["PASS"],
                    "livenessProbe": {"httpGet": {"httpHeaders": "PASS"}}, "ports": [{"containerPort": 80}]}]},
            "status": {"podIP": "10.0.0.1", "containerStatuses": ["PASS"]},
            "data": {"kubeconfig.conf": "PASS", "config.conf": "mode: ipvs"},
        });
        without_secrets(&mut pod);
        let text = pod.to_string();
        assert!(!text.contains("PASS") && !text.contains("managedFields"), "{text}");
        for kept in ["containerPort", "10.0.0.1", "nodeName", "mode: ipvs", "\"a\":\"b\""] {
            assert!(text.contains(kept), "{kept}: {text}");
        }
    }

    /// What says where a request goes stays; what a controller is told besides, and tokens, do not.
    #[test]
    fn objects_about_requests_keep_their_ways_and_lose_their_tokens() {
        let mut ingress = json!({
            "metadata": {"name": "i", "annotations": {"nginx.ingress.kubernetes.io/configuration-snippet": "PASS",
                "nginx.ingress.kubernetes.io/auth-signin": "PASS", "kubernetes.io/ingress.class": "nginx"}},
            "spec": {"rules": [{"host": "shop.example.com", "http": {"paths": [{"path": "/cart", "backend": {"service": {"name": "cart"}}}]}}]},
        });
        let mut route = json!({
            "metadata": {"name": "r"},
            "spec": {"rules": [{
                "matches": [{"path": {"value": "/cart"}, "headers": [{"name": "Authorization", "value": "PASS"}, {"name": "x-env", "value": "test"}],
                    "queryParams": [{"name": "api_key", "value": "PASS"}]}],
                "filters": [{"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "Authorization", "value": "PASS"}]}},
                    {"type": "RequestRedirect", "requestRedirect": {"hostname": "else.example.com"}}],
                "backendRefs": [{"name": "cart", "filters": [{"type": "RequestHeaderModifier", "requestHeaderModifier": "PASS"}]}]}]},
        });
        without_secrets(&mut ingress);
        without_secrets(&mut route);
        let text = format!("{ingress} {route}");
        assert!(!text.contains("PASS"), "{text}");
        for kept in [
            "\"nginx\"",
            "shop.example.com",
            "/cart",
            "\"cart\"",
            "\"test\"",
            "else.example.com",
            "Authorization",
        ] {
            assert!(text.contains(kept), "{kept}: {text}");
        }
    }
}
