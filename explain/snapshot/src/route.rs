//! `route.json` / `route6.json`: `ip -d -j -N -4 route show table all`, `-6`.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::id::TableId;
use crate::row::Row;

/// One row of a routing table.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Where the row stands.
    pub at: Row,
    /// Destination; `default` is the zero-length prefix.
    pub dst: IpNet,
    /// `from` (IPv6 subtrees); `None` = any.
    pub src: Option<IpNet>,
    /// TOS selector; 0 = any.
    pub tos: u8,
    /// Table.
    pub table: TableId,
    /// `RTN_*`
    pub kind: RouteKind,
    /// Who wrote it (`RTPROT_*` number: 2 kernel, 3 boot, 4 static, 9 ra, 12 bird, 186 bgp, 80 ...).
    pub protocol: Option<u8>,
    /// `RT_SCOPE_*`: 0 universe, 253 link, 254 host, 255 nowhere.
    pub scope: u8,
    /// Metric; 0 when not printed.
    pub metric: u32,
    /// Preferred source.
    pub prefsrc: Option<IpAddr>,
    /// Where to. Empty for types without a next hop.
    pub nexthops: Vec<NextHop>,
    /// Id of a nexthop object (`nhid`).
    pub nhid: Option<u32>,
    /// `mtu` metric.
    pub mtu: Option<u32>,
    /// Realm, if any.
    pub realm: Option<u32>,
    /// IPv6 router preference as written (`low`, `medium`, `high`).
    pub pref: Option<String>,
}

/// `RTN_*`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteKind {
    /// Gateway or direct route.
    Unicast,
    /// Address of this namespace.
    Local,
    /// Accept locally as broadcast, send as broadcast.
    Broadcast,
    /// Accept locally as broadcast, send as unicast.
    Anycast,
    /// Multicast route.
    Multicast,
    /// Drop silently.
    Blackhole,
    /// Answer with host unreachable.
    Unreachable,
    /// Answer with administratively prohibited.
    Prohibit,
    /// End this table's lookup.
    Throw,
    /// NAT (obsolete) or a number this model does not know.
    Other(u8),
}

/// One next hop of a route.
#[derive(Clone, Debug, PartialEq)]
pub struct NextHop {
    /// Gateway; may be of the other family (`via inet6`). `None` = directly connected.
    pub gateway: Option<IpAddr>,
    /// Device name.
    pub dev: Option<String>,
    /// Weight (1 or more).
    pub weight: u32,
    /// `onlink`
    pub onlink: bool,
    /// `dead`
    pub dead: bool,
    /// `linkdown`
    pub linkdown: bool,
    /// Lightweight tunnel encapsulation, as printed.
    pub encap: Option<Encap>,
}

/// `encap ...` of a next hop.
#[derive(Clone, Debug, PartialEq)]
pub struct Encap {
    /// `ip`, `ip6`, `mpls`, `seg6`, `bpf`, ... as written.
    pub kind: String,
    /// Tunnel id, if printed.
    pub id: Option<u64>,
    /// Tunnel destination, if printed.
    pub dst: Option<IpAddr>,
    /// Tunnel source, if printed.
    pub src: Option<IpAddr>,
}

/// Reads the artifact.
#[must_use]
pub fn parse(artifact: std::sync::Arc<str>, _bytes: &[u8]) -> crate::row::Table<Route> {
    crate::row::Table { artifact, rows: Vec::new(), problems: Vec::new() }
}
