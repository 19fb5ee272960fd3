//! `route.json` / `route6.json`: `ip -d -j -N -4 route show table all`, `-6`.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::artifact::name;
use crate::fact::Problem;
use crate::id::{Family, TableId};
use crate::json::{self, Json, Object, Unreadable, prefix};
use crate::row::{Row, Table};

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
    /// TTL or hop limit of the outer packet; 0 where none is printed.
    pub ttl: u8,
    /// TOS or traffic class of the outer packet; 0 where none is printed.
    pub tos: u8,
}

/// Reads the artifact. When it is not JSON as a whole, nothing in it can be taken for complete: the error says why.
///
/// Without a family in the row (`default`), the file name tells it: `route6.json` is IPv6.
pub fn parse(artifact: Arc<str>, bytes: &[u8]) -> Result<Table<Route>, Problem> {
    let named = match artifact.rsplit('/').next() {
        Some(name::ROUTE6) => Some(Family::V6),
        Some(name::ROUTE) => Some(Family::V4),
        _ => None,
    };
    json::table(artifact, bytes, |at, row, rows| {
        rows.push(route(at, row, named)?);
        Ok(())
    })
}

fn route(at: Row, row: &Object<'_>, family: Option<Family>) -> Result<Route, Unreadable> {
    // `pref` is printed for IPv6 only. A gateway does not tell: `via inet6` stands in IPv4 routes.
    let prefsrc = row.addr("prefsrc")?;
    let family = family
        .or_else(|| row.get("pref").map(|_| Family::V6))
        .or_else(|| prefsrc.map(Family::of))
        .or_else(|| gateway(row).ok().flatten().map(Family::of));
    // With `encap ip` the row has a second `dst`, `src` and `tos`: those of the tunnel, after the word `encap`.
    let dst = row.first("dst").and_then(Json::text).ok_or("no \"dst\"")?;
    let dst = prefix(&dst, family).ok_or_else(|| format!("\"dst\" is {dst:?}: not a prefix"))?;
    let src = match row.text("from") {
        None => None,
        Some(src) => Some(prefix(&src, family).ok_or_else(|| format!("\"from\" is {src:?}: not a prefix"))?),
    };
    let kind = match row.named::<u8>("type", KINDS)? {
        None => RouteKind::Unicast,
        Some(n) => RouteKind::from_number(n),
    };
    // IPv6 gives a blackhole the device `lo`; nothing is sent there.
    let ends = matches!(
        kind,
        RouteKind::Blackhole | RouteKind::Unreachable | RouteKind::Prohibit | RouteKind::Throw
    );
    let nexthops = match row.objects("nexthops").map(nexthop).collect::<Result<Vec<_>, _>>()? {
        _ if ends => Vec::new(),
        many if !many.is_empty() => many,
        _ if ["gateway", "via", "dev", "encap"]
            .iter()
            .any(|key| row.get(key).is_some()) =>
        {
            vec![nexthop(row)?]
        }
        none => none,
    };
    let mtu = match row.object("metrics").or_else(|| row.objects("metrics").next()) {
        Some(metrics) => metrics.number("mtu")?,
        None => row.number("mtu")?,
    };
    Ok(Route {
        at,
        dst,
        src: src.filter(|src| src.prefix_len() > 0),
        tos: tos(row)?,
        table: TableId(row.named("table", json::TABLES)?.unwrap_or(TableId::MAIN.0)),
        kind,
        protocol: row.named("protocol", json::PROTOCOLS).unwrap_or_default(),
        scope: row.named("scope", json::SCOPES)?.unwrap_or(0),
        metric: row.number("metric")?.unwrap_or(0),
        prefsrc,
        nexthops,
        nhid: row.number("nhid")?,
        mtu,
        realm: realm(row)?,
        pref: row.text("pref").map(Cow::into_owned),
    })
}

/// One hop: the route itself, an entry of `nexthops`, or a nexthop object.
pub(crate) fn nexthop(row: &Object<'_>) -> Result<NextHop, Unreadable> {
    let flags = || row.words("flags");
    Ok(NextHop {
        gateway: gateway(row)?,
        dev: row.ifname("dev"),
        weight: row.number("weight")?.unwrap_or(1).max(1),
        onlink: flags().any(|flag| flag == "onlink"),
        dead: flags().any(|flag| flag == "dead"),
        linkdown: flags().any(|flag| flag == "linkdown"),
        encap: encap(row)?,
    })
}

fn gateway(row: &Object<'_>) -> Result<Option<IpAddr>, Unreadable> {
    match row.object("via") {
        Some(via) => via.addr("host"),
        None => row.addr(if row.get("gateway").is_some() { "gateway" } else { "via" }),
    }
}

fn encap(row: &Object<'_>) -> Result<Option<Encap>, Unreadable> {
    let Some(start) = row.0.iter().position(|(key, _)| key == "encap") else {
        return Ok(None);
    };
    let tunnel = Object(row.0[start..].to_vec());
    let specified = |addr: &IpAddr| !addr.is_unspecified();
    // Its own keys come first, and are numbers: the route's `tos` and `ttl` are text or come later.
    let number = |keys: [&str; 2]| {
        let value = keys.iter().find_map(|key| tunnel.0.iter().find(|(k, _)| k == key));
        let value = value.and_then(|(_, value)| value.number(&[]));
        value.and_then(|n| u8::try_from(n).ok()).unwrap_or(0)
    };
    Ok(tunnel.text("encap").map(|kind| Encap {
        kind: kind.into_owned(),
        id: tunnel.number("id").ok().flatten(),
        // MPLS prints its label stack as `dst`: not an address.
        dst: tunnel.addr("dst").ok().flatten().filter(specified),
        src: tunnel.addr("src").ok().flatten().filter(specified),
        ttl: number(["ttl", "hoplimit"]),
        tos: number(["tos", "tc"]),
    }))
}

/// The route's TOS. `encap ip` prints the tunnel's as a number, the route's is text (`"0x10"`) after it.
fn tos(row: &Object<'_>) -> Result<u8, Unreadable> {
    let encapsulated = row.get("encap").is_some();
    match row
        .0
        .iter()
        .rev()
        .find(|(key, value)| key == "tos" && (!encapsulated || matches!(value, Json::Text(_))))
    {
        None => Ok(0),
        Some((_, value)) => value
            .number(DSFIELD)
            .and_then(|n| u8::try_from(n).ok())
            .ok_or_else(|| format!("\"tos\" is {value}: not a TOS")),
    }
}

fn realm(row: &Object<'_>) -> Result<Option<u32>, Unreadable> {
    let Some(flow) = row.object("flow") else {
        return row.number("realm");
    };
    let from = flow.named::<u16>("from", COSMOS)?.unwrap_or(0);
    let to = flow.named::<u16>("to", COSMOS)?.unwrap_or(0);
    Ok(Some(u32::from(from) << 16 | u32::from(to)))
}

impl RouteKind {
    /// From `RTN_*`.
    #[must_use]
    pub const fn from_number(n: u8) -> Self {
        match n {
            1 => Self::Unicast,
            2 => Self::Local,
            3 => Self::Broadcast,
            4 => Self::Anycast,
            5 => Self::Multicast,
            6 => Self::Blackhole,
            7 => Self::Unreachable,
            8 => Self::Prohibit,
            9 => Self::Throw,
            n => Self::Other(n),
        }
    }
}

/// `RTN_*`
pub(crate) const KINDS: &[(&str, i128)] = &[
    ("none", 0),
    ("unicast", 1),
    ("local", 2),
    ("broadcast", 3),
    ("anycast", 4),
    ("multicast", 5),
    ("blackhole", 6),
    ("unreachable", 7),
    ("prohibit", 8),
    ("throw", 9),
    ("nat", 10),
    ("xresolve", 11),
];

/// `/etc/iproute2/rt_realms` as shipped.
const COSMOS: &[(&str, i128)] = &[("cosmos", 0)];

/// `/etc/iproute2/rt_dsfield` as shipped: what `tos` prints without `-N`.
pub(crate) const DSFIELD: &[(&str, i128)] = &[
    ("default", 0x00),
    ("AF11", 0x28),
    ("AF12", 0x30),
    ("AF13", 0x38),
    ("AF21", 0x48),
    ("AF22", 0x50),
    ("AF23", 0x58),
    ("AF31", 0x68),
    ("AF32", 0x70),
    ("AF33", 0x78),
    ("AF41", 0x88),
    ("AF42", 0x90),
    ("AF43", 0x98),
    ("CS1", 0x20),
    ("CS2", 0x40),
    ("CS3", 0x60),
    ("CS4", 0x80),
    ("CS5", 0xa0),
    ("CS6", 0xc0),
    ("CS7", 0xe0),
    ("EF", 0xb8),
];
