//! What others on the node remember of pods: libcni whose a namespace is, the container runtime what a pod is called.
//! A help where processes and kubelet's folders do not tell; nothing depends on it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::exec::{self, Limits};

/// A pod as somebody remembers it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Remembered {
    /// Its UID; empty where it is not told.
    pub uid: String,
    /// Its namespace and name.
    pub pod: (String, String),
}

/// libcni keeps what it was asked for until the pod is gone (`libcni/api.go`, `cachedInfo`).
const RESULTS: &str = "var/lib/cni/results";
/// Where runtimes listen; without one of them their client would only wait.
const SOCKETS: &[&str] = &[
    "run/containerd/containerd.sock",
    "run/crio/crio.sock",
    "run/cri-dockerd.sock",
];
const BYTES: u64 = 1 << 20;

/// Pods by the file name of their network namespace's mount.
pub(crate) fn by_mount(root: &Path) -> BTreeMap<String, Remembered> {
    let entries = fs::read_dir(root.join(RESULTS)).into_iter().flatten().flatten();
    let mut found = BTreeMap::new();
    for entry in entries {
        if !entry.metadata().is_ok_and(|meta| meta.is_file() && meta.len() <= BYTES) {
            continue;
        }
        let cached = fs::read(entry.path())
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        if let Some((mounts, pod)) = cached.as_ref().and_then(cached_result) {
            found.extend(mounts.into_iter().map(|mount| (mount, pod.clone())));
        }
    }
    found
}

fn cached_result(cached: &Value) -> Option<(Vec<String>, Remembered)> {
    let argument = |wanted: &str| {
        let arguments = cached["cniArgs"].as_array()?;
        let pair = arguments.iter().find(|pair| pair[0] == wanted)?;
        pair[1].as_str().filter(|value| !value.is_empty()).map(str::to_owned)
    };
    let pod = Remembered {
        uid: argument("K8S_POD_UID").unwrap_or_default(),
        pod: (argument("K8S_POD_NAMESPACE")?, argument("K8S_POD_NAME")?),
    };
    let interfaces = cached["result"]["interfaces"].as_array()?;
    let mounts = interfaces.iter().filter_map(|interface| {
        let name = Path::new(interface["sandbox"].as_str()?).file_name()?;
        Some(name.to_string_lossy().into_owned())
    });
    Some((mounts.collect(), pod))
}

/// Names by UID, of the runtime's own list of sandboxes.
pub(crate) fn by_uid(root: &Path) -> BTreeMap<String, (String, String)> {
    if !SOCKETS.iter().any(|socket| root.join(socket).exists()) {
        return BTreeMap::new();
    }
    let limits = Limits {
        time: Duration::from_secs(5),
        bytes: 64 << 20,
    };
    let ran = exec::run(&["crictl", "pods", "-o", "json"], limits);
    let list = ran.ok().and_then(|ran| serde_json::from_slice(&ran.stdout).ok());
    list.as_ref().map(sandboxes).unwrap_or_default()
}

fn sandboxes(list: &Value) -> BTreeMap<String, (String, String)> {
    let items = list["items"].as_array().into_iter().flatten();
    let pods = items.filter_map(|item| {
        let word = |key: &str| item["metadata"][key].as_str().map(str::to_owned);
        Some((word("uid")?, (word("namespace")?, word("name")?)))
    });
    pods.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn libcni_remembers_whose_a_namespace_is() {
        let root = tempfile::tempdir().expect("a directory");
        let folder = root.path().join(RESULTS);
        fs::create_dir_all(&folder).expect("a folder");
        let cached = json!({"kind": "cniCacheV1", "containerId": "c", "config": "c2VjcmV0", "ifName": "eth0",
            "cniArgs": [["IgnoreUnknown", "1"], ["K8S_POD_NAMESPACE", "shop"], ["K8S_POD_NAME", "web-0"], ["K8S_POD_UID", "u"]],
            "result": {"interfaces": [{"name": "veth1"}, {"name": "eth0", "sandbox": "/var/run/netns/cni-1234"}]}});
        fs::write(folder.join("cbr0-c-eth0"), cached.to_string()).expect("a file");
        fs::write(folder.join("broken"), "{").expect("a file");
        fs::write(
            folder.join("podman"),
            json!({"cniArgs": [], "result": {"interfaces": []}}).to_string(),
        )
        .expect("a file");
        let found = by_mount(root.path());
        let pod = Remembered {
            uid: "u".to_owned(),
            pod: ("shop".to_owned(), "web-0".to_owned()),
        };
        assert_eq!(found, BTreeMap::from([("cni-1234".to_owned(), pod)]));
        assert_eq!(by_mount(Path::new("/nowhere")), BTreeMap::new());
    }

    #[test]
    fn the_runtime_knows_what_a_pod_is_called() {
        let list = json!({"items": [{"id": "x", "metadata": {"name": "web-0", "uid": "u", "namespace": "shop", "attempt": 0}}, {}]});
        let names = sandboxes(&list);
        assert_eq!(
            names,
            BTreeMap::from([("u".to_owned(), ("shop".to_owned(), "web-0".to_owned()))])
        );
        // Where none listens, nothing is asked.
        assert_eq!(by_uid(Path::new("/nowhere")), BTreeMap::new());
    }
}
