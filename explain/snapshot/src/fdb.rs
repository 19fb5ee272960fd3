//! `fdb.json`: `bridge -d -j fdb`.

use std::net::IpAddr;

use std::sync::Arc;

use crate::fact::Problem;
use crate::id::Mac;
use crate::json::{self, Object, Unreadable};
use crate::row::{Row, Table};

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

/// Reads the artifact. When it is not JSON as a whole, nothing in it can be taken for complete: the error says why.
pub fn parse(artifact: Arc<str>, bytes: &[u8]) -> Result<Table<FdbEntry>, Problem> {
    json::table(artifact, bytes, |at, row, rows| {
        rows.push(entry(at, row)?);
        Ok(())
    })
}

fn entry(at: Row, row: &Object<'_>) -> Result<FdbEntry, Unreadable> {
    let mac = row.text("mac").ok_or("no \"mac\"")?;
    let state = row.text("state").map(String::from).unwrap_or_default();
    let flag = |name: &str| row.words("flags").any(|word| word == name);
    Ok(FdbEntry {
        at,
        mac: mac.parse().map_err(|e| format!("\"mac\" is {mac:?}: {e}"))?,
        dev: row
            .ifname("ifname")
            .or_else(|| row.ifname("dev"))
            .ok_or("no \"ifname\"")?,
        master: row.ifname("master"),
        self_: flag("self") || row.flag("self"),
        vlan: row.number("vlan")?,
        dst: row.addr("dst")?,
        port: row.number("port")?,
        vni: row.number("vni")?,
        src_vni: row.number("src_vni")?,
        via: row.ifname("viaIf").or_else(|| row.ifname("via")),
        nhid: row.number("nhid")?,
        permanent: state == "permanent",
        static_: state == "static",
        state,
        flags: row
            .words("flags")
            .filter(|word| *word != "self")
            .map(String::from)
            .collect(),
    })
}
