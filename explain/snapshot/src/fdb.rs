//! `fdb.json`: `bridge -d -j fdb`.

use std::net::IpAddr;

use crate::id::Mac;
use crate::row::Row;

/// One forwarding-database entry.
#[derive(Clone, Debug, PartialEq)]
pub struct FdbEntry {
    /// Where the row stands.
    pub at: Row,
    /// MAC; all zero is the default entry of a VXLAN device.
    pub mac: Mac,
    /// The port (or the device itself).
    pub dev: String,
    /// The bridge, for an entry of a bridge's table.
    pub master: Option<String>,
    /// `self`: an entry of the device's own table (VXLAN, multicast filter), not of the bridge.
    pub self_: bool,
    /// VLAN.
    pub vlan: Option<u16>,
    /// VXLAN remote.
    pub dst: Option<IpAddr>,
    /// VXLAN remote port, if not the device's.
    pub port: Option<u16>,
    /// VXLAN remote VNI, if not the device's.
    pub vni: Option<u32>,
    /// Source VNI of an `external` device's entry.
    pub src_vni: Option<u32>,
    /// Device the outer packet must leave by.
    pub via: Option<String>,
    /// Nexthop group id (`nhid`).
    pub nhid: Option<u32>,
    /// `permanent`: on a bridge, an address of the bridge itself (delivered locally).
    pub permanent: bool,
    /// `static`
    pub static_: bool,
    /// State as written.
    pub state: String,
    /// `extern_learn`, `offload`, `sticky`, ... as written.
    pub flags: Vec<String>,
}

/// Reads the artifact.
#[must_use]
pub fn parse(artifact: std::sync::Arc<str>, _bytes: &[u8]) -> crate::row::Table<FdbEntry> {
    crate::row::Table { artifact, rows: Vec::new(), problems: Vec::new() }
}
