//! `node.json` and `netns.json`.

use serde::Deserialize;

/// `node.json`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodeInfo {
    /// Host name.
    pub hostname: String,
    /// Kernel release.
    pub kernel: String,
    /// Operating system.
    pub os: String,
    /// Loaded modules, if listed.
    pub modules: Option<Vec<String>>,
}

/// One entry of `netns.json`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NetnsInfo {
    /// Folder name under `netns/`.
    pub id: String,
    /// Inode of the namespace.
    pub inode: Option<u64>,
    /// Where it was opened.
    pub path: Option<String>,
    /// The pod whose sandbox it is.
    pub pod: Option<PodRef>,
    /// Veth peers of this namespace in the node's own namespace.
    pub peers: Vec<Peer>,
    /// The id by which the node's own namespace knows it (`link_netnsid`).
    pub nsid: Option<i32>,
}

/// A pod by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(default)]
pub struct PodRef {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: Option<String>,
}

/// A veth pair between a namespace and its node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Peer {
    /// Index inside the namespace.
    pub ifindex: u32,
    /// Index in the node's own namespace.
    pub host_ifindex: u32,
}
