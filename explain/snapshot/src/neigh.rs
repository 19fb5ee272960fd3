//! `neigh.json`: `ip -j neigh show`.

use std::net::IpAddr;

use crate::id::Mac;
use crate::row::Row;

/// One neighbour entry (ARP or ND cache), or a proxy entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Neighbour {
    /// Where the row stands.
    pub at: Row,
    /// Address.
    pub dst: IpAddr,
    /// Device name.
    pub dev: String,
    /// Link-layer address when it is six bytes.
    pub lladdr: Option<Mac>,
    /// Link-layer address as written when it is something else (an IPv4 address on a tunnel).
    pub lladdr_text: Option<String>,
    /// NUD state.
    pub state: NudState,
    /// A `proxy` entry: this namespace answers for the address.
    pub proxy: bool,
    /// Managed by something outside (`extern_learn`, `offload`, `managed`).
    pub extern_learn: bool,
}

/// `NUD_*`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NudState {
    /// Asked, no answer yet.
    Incomplete,
    /// Confirmed not long ago.
    Reachable,
    /// Was confirmed; used as it is, and asked again later.
    Stale,
    /// Used; a probe is about to go out.
    Delay,
    /// Being probed.
    Probe,
    /// Did not answer.
    Failed,
    /// No resolution on this device.
    NoArp,
    /// Set by an administrator or daemon.
    Permanent,
    /// Nothing printed, or a word this model does not know.
    None,
}

/// Reads the artifact.
#[must_use]
pub fn parse(artifact: std::sync::Arc<str>, _bytes: &[u8]) -> crate::row::Table<Neighbour> {
    crate::row::Table { artifact, rows: Vec::new(), problems: Vec::new() }
}
