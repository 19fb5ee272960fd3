//! `node.json` and `netns.json`.

use serde::Deserialize;

use crate::json::null_is_default;

/// `node.json`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodeInfo {
    /// Host name.
    #[serde(deserialize_with = "null_is_default")]
    pub hostname: String,
    /// Kernel release.
    #[serde(deserialize_with = "null_is_default")]
    pub kernel: String,
    /// Operating system.
    #[serde(deserialize_with = "null_is_default")]
    pub os: String,
    /// Loaded modules, if listed.
    pub modules: Option<Vec<String>>,
}

/// One entry of `netns.json`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NetnsInfo {
    /// Folder name under `netns/`.
    #[serde(deserialize_with = "null_is_default")]
    pub id: String,
    /// Inode of the namespace.
    pub inode: Option<u64>,
    /// Where it was opened.
    pub path: Option<String>,
    /// The pod whose sandbox it is.
    pub pod: Option<PodRef>,
    /// Veth peers of this namespace in the node's own namespace.
    #[serde(deserialize_with = "null_is_default")]
    pub peers: Vec<Peer>,
    /// The id by which the node's own namespace knows it (`link_netnsid`).
    pub nsid: Option<i32>,
}

/// A pod by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(default)]
pub struct PodRef {
    /// Namespace.
    #[serde(deserialize_with = "null_is_default")]
    pub namespace: String,
    /// Name.
    #[serde(deserialize_with = "null_is_default")]
    pub name: String,
    /// UID.
    pub uid: Option<String>,
}

/// A veth pair between a namespace and its node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Peer {
    /// Index inside the namespace.
    #[serde(deserialize_with = "null_is_default")]
    pub ifindex: u32,
    /// Index in the node's own namespace.
    #[serde(deserialize_with = "null_is_default")]
    pub host_ifindex: u32,
}
