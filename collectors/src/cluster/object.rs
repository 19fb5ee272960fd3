//! What of an object a snapshot holds: nothing that may be a secret.

use serde_json::{Map, Value};

/// Fields of a container that matter to its packets.
const CONTAINER: &[&str] = &["name", "ports", "restartPolicy", "image"];
/// Annotations that repeat an object, or hold anything.
const ANNOTATIONS: &[&str] = &["kubectl.kubernetes.io/last-applied-configuration"];
/// Parts of a kubeconfig or of a component's credentials in a ConfigMap.
const DATA: &[&str] = &["kubeconfig", "token", "password", "secret", "key", "cert"];

/// Takes out environment, arguments, probes, volumes, credentials and bookkeeping.
pub fn without_secrets(object: &mut Value) {
    let Some(object) = object.as_object_mut() else { return };
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.retain(|key, _| !ANNOTATIONS.contains(&key.as_str()));
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
        data.retain(|key, _| !DATA.iter().any(|word| key.to_ascii_lowercase().contains(word)));
    }
    object.remove("binaryData");
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
}
