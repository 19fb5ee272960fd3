//! `bridge-link.json` and `bridge-vlan.json`: `bridge -d -j link`, `bridge -d -j vlan`.

use std::sync::Arc;

use crate::fact::Problem;
use crate::json::{self, Object, Unreadable};
use crate::row::{Row, Table};

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

/// Reads `bridge-link.json`. When it is not JSON as a whole, nothing in it can be taken for complete: the error says why.
pub fn parse_ports(artifact: Arc<str>, bytes: &[u8]) -> Result<Table<BridgePort>, Problem> {
    json::table(artifact, bytes, |at, row, rows| {
        rows.push(BridgePort {
            at,
            dev: row
                .ifname("ifname")
                .or_else(|| row.ifname("dev"))
                .ok_or("no \"ifname\"")?,
            master: row.ifname("master"),
            state: port_state(row),
            hairpin: row.switch("hairpin"),
            learning: row.switch("learning"),
            flood: row.switch("flood"),
            mcast_flood: row.switch("mcast_flood"),
            bcast_flood: row.switch("bcast_flood"),
            isolated: row.switch("isolated"),
            locked: row.switch("locked"),
            neigh_suppress: row.switch("neigh_suppress"),
        });
        Ok(())
    })
}

/// Reads `bridge-vlan.json`. When it is not JSON as a whole, nothing in it can be taken for complete: the error says why.
pub fn parse_vlans(artifact: Arc<str>, bytes: &[u8]) -> Result<Table<BridgeVlan>, Problem> {
    json::table(artifact, bytes, |at, row, rows| {
        let dev = row
            .ifname("ifname")
            .or_else(|| row.ifname("dev"))
            .ok_or("no \"ifname\"")?;
        rows.push(BridgeVlan {
            at,
            dev,
            vlans: vlans(row)?,
        });
        Ok(())
    })
}

fn vlans(row: &Object<'_>) -> Result<Vec<Vlan>, Unreadable> {
    row.objects("vlans")
        .map(|vlan| {
            let first = vlan.number("vlan")?.ok_or("a VLAN without a number")?;
            let flag = |name: &str| vlan.words("flags").any(|word| word == name);
            Ok(Vlan {
                first,
                last: vlan.number("vlanEnd")?.unwrap_or(first),
                pvid: flag("PVID"),
                untagged: flag("Egress Untagged") || flag("untagged"),
            })
        })
        .collect()
}

/// As written, or the name of the `BR_STATE_*` number.
fn port_state(row: &Object<'_>) -> String {
    match row.number::<u8>("state") {
        Ok(Some(0)) => "disabled".to_owned(),
        Ok(Some(1)) => "listening".to_owned(),
        Ok(Some(2)) => "learning".to_owned(),
        Ok(Some(3)) => "forwarding".to_owned(),
        Ok(Some(4)) => "blocking".to_owned(),
        _ => row.text("state").map(String::from).unwrap_or_default(),
    }
}
