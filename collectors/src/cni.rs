//! The files by which a node's CNI plugins are set up, without the credentials some of them hold.

use std::fs;
use std::path::Path;

use serde_json::Value;

/// Where kubelet, k3s and microk8s look for them.
const FOLDERS: &[&str] = &[
    "etc/cni/net.d",
    "var/lib/rancher/k3s/agent/etc/cni/net.d",
    "var/snap/microk8s/current/args/cni-network",
];
/// Files beside them that say what a CNI gave this node.
const FILES: &[&str] = &["run/flannel/subnet.env", "var/lib/calico/nodename"];
const BYTES: u64 = 1 << 20;

/// Path below the root, and content.
#[must_use]
pub fn files(root: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for folder in FOLDERS {
        let mut names: Vec<_> = fs::read_dir(root.join(folder))
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        names.sort();
        for name in names {
            // Kubeconfigs lie in the same folder under other names.
            let Some(name) = name
                .to_str()
                .filter(|name| [".conf", ".conflist", ".json"].iter().any(|end| name.ends_with(end)))
            else {
                continue;
            };
            let path = format!("{folder}/{name}");
            let json = read(&root.join(&path)).and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
            if let Some(mut json) = json {
                without_credentials(&mut json);
                found.push((path, format!("{json:#}\n").into_bytes()));
            }
        }
    }
    for path in FILES {
        found.extend(read(&root.join(path)).map(|bytes| ((*path).to_owned(), bytes)));
    }
    found
}

fn read(path: &Path) -> Option<Vec<u8>> {
    let small = fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() <= BYTES);
    small.then(|| fs::read(path).ok()).flatten()
}

/// Replaces the value of every key that may name a credential.
fn without_credentials(value: &mut Value) {
    const WORDS: &[&str] = &[
        "token",
        "password",
        "secret",
        "_key",
        "privatekey",
        "cert",
        "credential",
    ];
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let key = key.to_ascii_lowercase();
                if WORDS.iter().any(|word| key.contains(word)) {
                    *value = Value::from("redacted");
                } else {
                    without_credentials(value);
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(without_credentials),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_are_kept_and_credentials_are_not() {
        let root = tempfile::tempdir().expect("a directory");
        let folder = root.path().join("etc/cni/net.d");
        fs::create_dir_all(&folder).expect("a folder");
        let conflist = r#"{"plugins":[{"type":"calico","etcd_key":"k","policy":{"k8s_auth_token":"t"},"mtu":1440}]}"#;
        fs::write(folder.join("10-calico.conflist"), conflist).expect("a file");
        fs::write(folder.join("calico-kubeconfig"), "token: t").expect("a file");
        let files = files(root.path());
        assert_eq!(files.len(), 1);
        assert_eq!(files[0].0, "etc/cni/net.d/10-calico.conflist");
        let text = String::from_utf8_lossy(&files[0].1);
        assert!(
            text.contains("\"mtu\": 1440") && !text.contains("\"t\"") && !text.contains("\"k\""),
            "{text}"
        );
    }
}
