//! A snapshot to be shared: names and addresses replaced, every prefix match and every verdict as before.
//!
//! What is replaced is replaced by token, never by search: addresses under a prefix-preserving map, names where a
//! name can stand, Kubernetes objects by their fields. Interface names, ports, chain names of an administrator's own
//! and programs' answers stay. The result proves itself: the same flows are traced before and after, and an export
//! with another answer is refused.

mod address;
mod http;
mod names;
mod object;
mod prove;
mod text;

use std::collections::BTreeMap;
use std::sync::Arc;

use knet_snapshot::Snapshot;
use knet_snapshot::manifest::{AbsentEntry, AbsentReason, Manifest};
use knet_snapshot::store::Blob;
use serde_json::Value;

pub use address::{Addresses, Key};
use names::Names;
pub use prove::Proof;
pub use text::Untellable;

/// The map of one export.
pub struct Redaction {
    addresses: Addresses,
    names: Names,
}

/// A snapshot under the map.
pub struct Redacted {
    /// Its files.
    pub files: BTreeMap<String, Vec<u8>>,
    /// What of it was traced twice.
    pub proof: Proof,
}

/// Why there is no export.
#[derive(Debug, thiserror::Error)]
pub enum RedactError {
    /// Something whose meaning the map does not keep.
    #[error("{artifact}: {token:?} is {why}, which loses its meaning when addresses are replaced")]
    Untellable {
        /// Where.
        artifact: String,
        /// What.
        token: String,
        /// Why.
        why: &'static str,
    },
    /// A flow that ends another way than before.
    #[error("the copy answers another way for {flow}: {after} instead of {before}")]
    Differs {
        /// From and to, under their real names.
        flow: String,
        /// The answer.
        before: String,
        /// The answer of the copy.
        after: String,
    },
    /// What came out is no snapshot.
    #[error("the copy cannot be read: {0}")]
    Unreadable(String),
}

/// Makes a copy that can be shared.
///
/// # Errors
/// When the copy would not mean the same.
pub fn share(snapshot: &Snapshot, key: Key) -> Result<Redacted, RedactError> {
    let addresses = Addresses::new(key);
    let names = Names::of(snapshot, key, &addresses);
    let redaction = Redaction { addresses, names };
    let mut files = BTreeMap::new();
    let mut left_out = Vec::new();
    for path in snapshot.paths().filter(|path| *path != "manifest.json") {
        let bytes = snapshot.bytes(path).unwrap_or_default();
        match redaction.file(path, bytes)? {
            Some(content) => {
                files.insert(redaction.path(path), content);
            }
            None => left_out.push(redaction.path(path)),
        }
    }
    let manifest = redaction.manifest(snapshot, &files, left_out);
    let manifest = serde_json::to_vec_pretty(&manifest).map_err(|e| RedactError::Unreadable(e.to_string()))?;
    files.insert("manifest.json".to_owned(), manifest);
    let copy = files
        .iter()
        .map(|(path, bytes)| (path.clone(), Arc::new(bytes.clone()) as Blob))
        .collect();
    let copy = Snapshot::from_files(copy).map_err(|e| RedactError::Unreadable(e.to_string()))?;
    let proof = prove::prove(snapshot, &copy, &redaction)?;
    Ok(Redacted { files, proof })
}

/// Some versions of `ip` print keys where nobody asks them not to.
fn without_keys(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let algorithm = ["auth ", "auth-trunc ", "enc ", "aead ", "comp "];
        if !algorithm.iter().any(|word| line.trim_start().starts_with(word)) {
            return format!("{line}\n");
        }
        let words = line.split(' ').map(|word| {
            if word.starts_with("0x") {
                "<<Keys hidden>>"
            } else {
                word
            }
        });
        words.collect::<Vec<_>>().join(" ") + "\n"
    });
    lines.collect()
}

impl Redaction {
    /// A file's new content; `None` leaves it out.
    fn file(&self, path: &str, bytes: &[u8]) -> Result<Option<Vec<u8>>, RedactError> {
        let name = path.rsplit('/').next().unwrap_or_default();
        if let Some(resource) = path.strip_prefix("cluster/") {
            let resource = resource.trim_end_matches(".json");
            if http::RESOURCES.contains(&resource) {
                return Ok(self.objects(bytes, http::map));
            }
            let known = [
                "nodes",
                "pods",
                "services",
                "endpointslices",
                "networkpolicies",
                "namespaces",
                "configmaps",
            ];
            let known = known.contains(&resource);
            return Ok(known.then(|| self.objects(bytes, object::map)).flatten());
        }
        // Whatever a CNI's files say.
        if path.split('/').nth(2) == Some("files") {
            return Ok(None);
        }
        let text = String::from_utf8_lossy(bytes);
        match name {
            "netns.json" | "node.json" => Ok(self.facts(&text)),
            "sockets.txt" => Ok(Some(self.sockets(&self.text(path, &text)?).into_bytes())),
            "wg.txt" => Ok(Some(self.text(path, &self.public_keys(&text))?.into_bytes())),
            "xfrm.txt" => Ok(Some(self.text(path, &without_keys(&text))?.into_bytes())),
            "ipvs-conn.txt" => Ok(Some(self.hexadecimal(&text).into_bytes())),
            _ => Ok(Some(self.text(path, &text)?.into_bytes())),
        }
    }

    fn text(&self, path: &str, text: &str) -> Result<String, RedactError> {
        let mut untellable = Vec::new();
        let mapped = text::map(text, self, &mut untellable);
        match untellable.into_iter().next() {
            Some(Untellable { token, why }) => Err(RedactError::Untellable {
                artifact: path.to_owned(),
                token,
                why,
            }),
            None => Ok(mapped),
        }
    }

    /// A list of Kubernetes objects. One that cannot be read is not copied.
    fn objects(&self, bytes: &[u8], map: fn(&Value, &Self) -> Value) -> Option<Vec<u8>> {
        let list: Value = serde_json::from_slice(bytes).ok()?;
        let items = list.get("items").unwrap_or(&list).as_array()?;
        let kind = list["kind"].as_str().unwrap_or("List");
        let items: Vec<Value> = items.iter().map(|item| map(item, self)).collect();
        let mut out = format!("{{\"apiVersion\":\"v1\",\"kind\":{:?},\"items\":[\n", kind);
        for (i, item) in items.iter().enumerate() {
            out.push_str(if i == 0 { "" } else { ",\n" });
            out.push_str(&item.to_string());
        }
        out.push_str("\n]}\n");
        Some(out.into_bytes())
    }

    /// `netns.json`, `node.json`: strings that are names, and text.
    fn facts(&self, text: &str) -> Option<Vec<u8>> {
        let value: Value = serde_json::from_str(text).ok()?;
        Some(format!("{:#}\n", self.value("", &value)).into_bytes())
    }

    fn value(&self, key: &str, value: &Value) -> Value {
        match value {
            Value::Object(map) => map.iter().map(|(k, v)| (k.clone(), self.value(k, v))).collect(),
            Value::Array(list) => list.iter().map(|v| self.value(key, v)).collect(),
            Value::String(text) => match key {
                "kernel" | "os" | "modules" | "tools" => value.clone(),
                key => Value::from(self.string(key, text)),
            },
            other => other.clone(),
        }
    }

    /// Process names may be anybody's, and a cgroup names its pod.
    fn sockets(&self, text: &str) -> String {
        let lines = text.lines().map(|line| {
            let words = line.split(' ').filter(|word| !word.starts_with("cgroup:"));
            let mut line = words.collect::<Vec<_>>().join(" ");
            let mut from = 0;
            while let Some(start) = line[from..].find("(\"").map(|at| from + at + 2) {
                let Some(len) = line[start..].find("\",pid=") else {
                    break;
                };
                let new = self.word("program", &line[start..start + len]);
                line.replace_range(start..start + len, &new);
                from = start + new.len();
            }
            line + "\n"
        });
        lines.collect()
    }

    /// A public key is a name: the same everywhere, and nobody's.
    fn public_keys(&self, dump: &str) -> String {
        let lines = dump.lines().map(|line| {
            let mut words: Vec<&str> = line.split('\t').collect();
            let column = match words.len() {
                5 => 2,
                9 => 1,
                _ => return String::new(),
            };
            let key = self.word("key", words[column]);
            words[column] = &key;
            words.join("\t") + "\n"
        });
        lines.collect()
    }

    /// `0A600001`, as `/proc/net/ip_vs_conn` writes IPv4; IPv6 is in brackets and in colons.
    fn hexadecimal(&self, text: &str) -> String {
        let lines = text.lines().map(|line| {
            let words = line.split(' ').map(|word| {
                let v4 = (word.len() == 8)
                    .then(|| u32::from_str_radix(word, 16).ok())
                    .flatten()
                    .map(|bits| self.addresses.map(std::net::Ipv4Addr::from_bits(bits).into()));
                match v4 {
                    Some(std::net::IpAddr::V4(v4)) => format!("{:08X}", v4.to_bits()),
                    _ => {
                        let mut none = Vec::new();
                        text::map(word, self, &mut none)
                    }
                }
            });
            words.collect::<Vec<_>>().join(" ") + "\n"
        });
        lines.collect()
    }

    /// A string of which the key says what it is.
    fn string(&self, key: &str, text: &str) -> String {
        if self.names.knows(text) {
            return self.names.map(text).to_owned();
        }
        match key {
            "name" | "namespace" | "uid" | "id" | "hostname" | "nodeName" => self.name(key, text),
            _ => {
                let mut none = Vec::new();
                text::map(text, self, &mut none)
            }
        }
    }

    /// A name, also one that no list of the snapshot has. Names of ports are words like `http`.
    fn name(&self, key: &str, text: &str) -> String {
        match key {
            "uid" => self.word("uid", text),
            _ => self.names.map(text).to_owned(),
        }
    }

    /// The name of an object.
    fn object(&self, name: &str) -> String {
        match Names::is_common(name) {
            true => name.to_owned(),
            false => self.word("object", name),
        }
    }

    /// A word of somebody's own.
    fn word(&self, kind: &str, text: &str) -> String {
        if self.names.knows(text) {
            return self.names.map(text).to_owned();
        }
        format!("{kind}-{}", self.names.digest(kind, text, 8))
    }

    /// A path inside the snapshot.
    fn path(&self, path: &str) -> String {
        let parts: Vec<&str> = path.split('/').map(|part| self.names.map(part)).collect();
        parts.join("/")
    }

    fn manifest(&self, snapshot: &Snapshot, files: &BTreeMap<String, Vec<u8>>, left_out: Vec<String>) -> Manifest {
        let mut manifest = snapshot.manifest.clone().unwrap_or_else(|| Manifest {
            schema: "knet.snapshot/v1".to_owned(),
            ..Manifest::default()
        });
        manifest.redaction = "share".to_owned();
        let mut none = Vec::new();
        for node in &mut manifest.nodes {
            node.name = self.names.map(&node.name).to_owned();
        }
        for artifact in &mut manifest.artifacts {
            artifact.path = self.path(&artifact.path);
            let content = files.get(&artifact.path);
            artifact.bytes = content.map(|bytes| bytes.len() as u64);
            // The hash of the original would tell whether somebody's guess of it is right.
            artifact.sha256 = String::new();
            artifact.notes = artifact
                .notes
                .iter()
                .map(|note| text::map(note, self, &mut none))
                .collect();
        }
        manifest.artifacts.retain(|artifact| files.contains_key(&artifact.path));
        for absent in &mut manifest.absent {
            absent.path = self.path(&absent.path);
            absent.detail = text::map(&absent.detail, self, &mut none);
        }
        manifest.absent.extend(left_out.into_iter().map(|path| AbsentEntry {
            path,
            reason: AbsentReason::NotRequested,
            detail: "left out of the shared copy".to_owned(),
        }));
        manifest
    }
}
