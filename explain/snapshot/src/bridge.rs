//! `bridge-link.json` and `bridge-vlan.json`: `bridge -d -j link`, `bridge -d -j vlan`.

use crate::row::Row;

/// One bridge port.
#[derive(Clone, Debug, PartialEq)]
pub struct BridgePort {
    /// Where the row stands.
    pub at: Row,
    /// Port device name (without `@peer`).
    pub dev: String,
    /// The bridge.
    pub master: Option<String>,
    /// STP state as written (`forwarding`, `disabled`, `blocking`, `listening`, `learning`).
    pub state: String,
    /// `hairpin`
    pub hairpin: Option<bool>,
    /// `learning`
    pub learning: Option<bool>,
    /// `flood` (unknown unicast)
    pub flood: Option<bool>,
    /// `mcast_flood`
    pub mcast_flood: Option<bool>,
    /// `bcast_flood`
    pub bcast_flood: Option<bool>,
    /// `isolated`
    pub isolated: Option<bool>,
    /// `locked`
    pub locked: Option<bool>,
    /// `neigh_suppress`
    pub neigh_suppress: Option<bool>,
}

/// The VLANs of one bridge port or of the bridge itself.
#[derive(Clone, Debug, PartialEq)]
pub struct BridgeVlan {
    /// Where the row stands.
    pub at: Row,
    /// Device name.
    pub dev: String,
    /// The VLANs.
    pub vlans: Vec<Vlan>,
}

/// One VLAN (or range) of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vlan {
    /// First VLAN id.
    pub first: u16,
    /// Last VLAN id.
    pub last: u16,
    /// Untagged frames get this VLAN.
    pub pvid: bool,
    /// Frames leave without a tag.
    pub untagged: bool,
}

/// Reads `bridge-link.json`.
#[must_use]
pub fn parse_ports(artifact: std::sync::Arc<str>, _bytes: &[u8]) -> crate::row::Table<BridgePort> {
    crate::row::Table { artifact, rows: Vec::new(), problems: Vec::new() }
}

/// Reads `bridge-vlan.json`.
#[must_use]
pub fn parse_vlans(artifact: std::sync::Arc<str>, _bytes: &[u8]) -> crate::row::Table<BridgeVlan> {
    crate::row::Table { artifact, rows: Vec::new(), problems: Vec::new() }
}
