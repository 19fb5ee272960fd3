//! `sockets.txt`: `ss -H -tulpne`.

use std::net::IpAddr;

use crate::row::Row;

/// One socket.
#[derive(Clone, Debug, PartialEq)]
pub struct Socket {
    /// Where the row stands.
    pub at: Row,
    /// `tcp`, `udp`, `sctp`, `dccp`, `raw` ... as an IP protocol number.
    pub proto: u8,
    /// `LISTEN`, `UNCONN`, `ESTAB`, ... as written.
    pub state: String,
    /// Local address; `None` = wildcard.
    pub local: Option<IpAddr>,
    /// Device it is bound to (`addr%dev`).
    pub dev: Option<String>,
    /// Local port.
    pub port: u16,
    /// Peer, when connected.
    pub peer: Option<(IpAddr, u16)>,
    /// The socket is of the IPv6 family.
    pub v6: bool,
    /// `v6only:1`; `None` when not printed.
    pub v6only: Option<bool>,
    /// Processes as printed in `users:((...))`: name and pid.
    pub users: Vec<(String, u32)>,
    /// Owner.
    pub uid: Option<u32>,
    /// cgroup path, if printed.
    pub cgroup: Option<String>,
}

/// Reads the artifact.
#[must_use]
pub fn parse(artifact: std::sync::Arc<str>, _bytes: &[u8]) -> crate::row::Table<Socket> {
    crate::row::Table { artifact, rows: Vec::new(), problems: Vec::new() }
}
