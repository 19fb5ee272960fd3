//! `link.json` and `addr.json`: `ip -d -j -N link show`, `ip -d -j -N addr show`.

use std::net::IpAddr;
use std::sync::Arc;

use crate::fact::Problem;
use crate::id::{IfIndex, Mac};
use crate::json::{self, Object, Unreadable};
use crate::row::{Row, Table};

/// One network device.
#[derive(Clone, Debug)]
pub struct Link {
    /// Where the row stands.
    pub at: Row,
    /// Interface index.
    pub index: IfIndex,
    /// Name, without any `@peer` suffix.
    pub name: String,
    /// The `IFF_*` flags that decide anything.
    pub flags: Flags,
    /// MTU in bytes.
    pub mtu: u32,
    /// Hardware address of an Ethernet-like link.
    pub mac: Option<Mac>,
    /// Controlling device (bridge, bond, VRF), by name.
    pub master: Option<String>,
    /// `IFLA_LINK`: the peer of a veth, the lower device of a vlan, macvlan or tunnel. As an index in the
    /// namespace that `netnsid` names, or in this one when `netnsid` is `None`.
    pub link_index: Option<IfIndex>,
    /// `IFLA_LINK` by name, where the tool resolved it (same namespace).
    pub link_name: Option<String>,
    /// `IFLA_LINK_NETNSID`: id of the namespace that holds `link_index`, as seen from this namespace.
    pub netnsid: Option<i32>,
    /// `operstate` as written (`UP`, `DOWN`, `UNKNOWN`, `LOWERLAYERDOWN`).
    pub operstate: String,
    /// Device group number (0 = default).
    pub group: Option<u32>,
    /// An XDP program looks at what it receives: the program's id, 0 where that is not said.
    pub xdp: Option<u32>,
    /// What kind of device, with what that kind decides.
    pub kind: LinkKind,
}

/// `IFF_*` flags as `ip` prints them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// Administratively up.
    pub up: bool,
    /// Carrier is there.
    pub lower_up: bool,
    /// Loopback device.
    pub loopback: bool,
    /// Broadcast capable.
    pub broadcast: bool,
    /// Point to point.
    pub point_to_point: bool,
    /// No ARP on this device.
    pub noarp: bool,
    /// Promiscuous.
    pub promisc: bool,
}

/// `IFLA_INFO_KIND` with the data that decides where frames go.
#[derive(Clone, Debug, PartialEq)]
pub enum LinkKind {
    /// No kind: physical or virtio NIC, or loopback.
    Device,
    /// One end of a veth pair.
    Veth,
    /// A bridge.
    Bridge(BridgeInfo),
    /// A VXLAN device.
    Vxlan(VxlanInfo),
    /// An 802.1Q or 802.1ad device.
    Vlan {
        /// VLAN id.
        id: u16,
        /// `802.1Q` or `802.1ad` as written.
        protocol: String,
    },
    /// macvlan or macvtap, with its mode as written (`bridge`, `private`, `vepa`, `passthru`, `source`).
    Macvlan {
        /// Mode as written.
        mode: String,
    },
    /// ipvlan or ipvtap, with its mode (`l2`, `l3`, `l3s`) and flag (`bridge`, `private`, `vepa`).
    Ipvlan {
        /// Mode as written.
        mode: String,
        /// Flag as written.
        flag: String,
    },
    /// A dummy device: what is sent to it is gone.
    Dummy,
    /// tun or tap: a program reads what is sent to it.
    Tun,
    /// ipip, gre, gretap, ip6gre, ip6tnl, sit, geneve, vti, xfrm, erspan: kind as written, and its data.
    Tunnel(String, TunnelInfo),
    /// WireGuard.
    Wireguard,
    /// A VRF and its table.
    Vrf {
        /// Routing table of the VRF.
        table: u32,
    },
    /// A bond or team.
    Bond,
    /// A kind this model does not know, as written.
    Other(String),
}

/// What decides on a bridge.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BridgeInfo {
    /// `vlan_filtering`; `None` when not printed.
    pub vlan_filtering: Option<bool>,
    /// `vlan_default_pvid`
    pub vlan_default_pvid: Option<u16>,
    /// Per-bridge `nf_call_iptables`
    pub nf_call_iptables: Option<bool>,
    /// Per-bridge `nf_call_ip6tables`
    pub nf_call_ip6tables: Option<bool>,
    /// Per-bridge `nf_call_arptables`
    pub nf_call_arptables: Option<bool>,
    /// STP state (0 off)
    pub stp_state: Option<u32>,
    /// Ageing time of learned entries in 1/100 s (0 = do not keep).
    pub ageing_time: Option<u64>,
}

/// What decides on a VXLAN device.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VxlanInfo {
    /// VNI; `None` with `external`.
    pub vni: Option<u32>,
    /// Local address of the outer packet.
    pub local: Option<IpAddr>,
    /// Default remote (unicast) or group (multicast).
    pub remote: Option<IpAddr>,
    /// Lower device by name.
    pub link: Option<String>,
    /// Destination port of the outer packet.
    pub port: u16,
    /// Source port range of the outer packet; 0..0 = hash over the local port range.
    pub port_range: (u16, u16),
    /// Learns remotes from what it receives. `None` when not printed.
    pub learning: Option<bool>,
    /// TTL of the outer packet: 0 = default (64) ...
    pub ttl: u8,
    /// ... or `inherit`.
    pub ttl_inherit: bool,
    /// TOS of the outer packet; `None` = inherit.
    pub tos: Option<u8>,
    /// Metadata mode (`external`): the route or flow names the tunnel.
    pub external: bool,
    /// Only VNIs of a list are taken (`vnifilter`).
    pub vnifilter: bool,
    /// Answers ARP itself (`proxy`).
    pub proxy: bool,
    /// DF bit: `unset`, `set`, `inherit` as written.
    pub df: Option<String>,
}

/// What decides on an IP tunnel.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TunnelInfo {
    /// Local address (`None` = any).
    pub local: Option<IpAddr>,
    /// Remote address (`None` = any: per route).
    pub remote: Option<IpAddr>,
    /// Lower device by name.
    pub link: Option<String>,
    /// TTL of the outer packet; 0 = inherit.
    pub ttl: u8,
    /// VNI, GRE key or xfrm `if_id`.
    pub key: Option<u32>,
    /// UDP port (Geneve).
    pub port: Option<u16>,
    /// Metadata mode (`external`).
    pub external: bool,
}

/// One address of a link, from `addr.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct Address {
    /// Where the row of the *link* stands (addresses are nested in it).
    pub at: Row,
    /// The link that has it.
    pub link: IfIndex,
    /// The address.
    pub local: IpAddr,
    /// Prefix length.
    pub prefix_len: u8,
    /// Peer address of a point-to-point link (`address` in JSON), if any.
    pub peer: Option<IpAddr>,
    /// Broadcast address.
    pub broadcast: Option<IpAddr>,
    /// `RT_SCOPE_*`: 0 global, 253 link, 254 host.
    pub scope: u8,
    /// `IFA_F_SECONDARY` (IPv4) or temporary (IPv6).
    pub secondary: bool,
    /// Preferred lifetime over.
    pub deprecated: bool,
    /// Duplicate address detection not finished.
    pub tentative: bool,
    /// Duplicate address detection failed: not usable.
    pub dadfailed: bool,
    /// `noprefixroute`
    pub noprefixroute: bool,
}

/// Reads `link.json`. When it is not JSON as a whole, nothing in it can be taken for complete: the error says why.
///
/// Printed by `ip` without `-d`, the rows do not say what kind of device they are: the kind is then
/// [`LinkKind::Other`] without a name, and a problem says so.
pub fn parse_links(artifact: Arc<str>, bytes: &[u8]) -> Result<Table<Link>, Problem> {
    let mut table = json::table(artifact, bytes, |at, row, rows| {
        rows.push(link(at, row)?);
        Ok(())
    })?;
    let unsaid = |link: &&Link| matches!(&link.kind, LinkKind::Other(kind) if kind.is_empty());
    if let Some(start) = table.rows.iter().find(unsaid).map(|link| link.at.start) {
        table.problem(start, "printed without -d: the kind of a device is not said".to_owned());
    }
    Ok(table)
}

/// Reads `addr.json`. When it is not JSON as a whole, nothing in it can be taken for complete: the error says why.
pub fn parse_addrs(artifact: Arc<str>, bytes: &[u8]) -> Result<Table<Address>, Problem> {
    json::table(artifact, bytes, |at, row, rows| {
        let link = index(row)?;
        let mut bad = None;
        for info in row.objects("addr_info") {
            // One address that cannot be read does not cost the link its others.
            match address(at, link, info) {
                Ok(address) => rows.push(address),
                Err(what) => bad = Some(what),
            }
        }
        bad.map_or(Ok(()), Err)
    })
}

fn index(row: &Object<'_>) -> Result<IfIndex, Unreadable> {
    Ok(IfIndex(row.number("ifindex")?.ok_or("no \"ifindex\"")?))
}

fn link(at: Row, row: &Object<'_>) -> Result<Link, Unreadable> {
    let flag = |name: &str| row.words("flags").any(|word| word == name);
    Ok(Link {
        at,
        index: index(row)?,
        name: row.ifname("ifname").ok_or("no \"ifname\"")?,
        flags: Flags {
            up: flag("UP"),
            lower_up: flag("LOWER_UP"),
            loopback: flag("LOOPBACK"),
            broadcast: flag("BROADCAST"),
            point_to_point: flag("POINTOPOINT"),
            noarp: flag("NOARP"),
            promisc: flag("PROMISC"),
        },
        mtu: row.number("mtu")?.unwrap_or(0),
        mac: row.text("address").and_then(|text| text.parse().ok()),
        master: row.ifname("master"),
        // 0 says that the lower device is nobody's: a tunnel without one.
        link_index: row.number("link_index")?.filter(|index| *index != 0).map(IfIndex),
        link_name: row.ifname("link"),
        netnsid: row.number("link_netnsid")?,
        operstate: row.text("operstate").map(String::from).unwrap_or_default(),
        group: row.named("group", &[("default", 0)]).unwrap_or_default(),
        xdp: match row.object("xdp") {
            Some(xdp) => Some(xdp.object("prog").map_or(Ok(None), |p| p.number("id"))?.unwrap_or(0)),
            None => None,
        },
        kind: kind(row)?,
    })
}

fn kind(row: &Object<'_>) -> Result<LinkKind, Unreadable> {
    let none = Object::default();
    let info = row.object("linkinfo").unwrap_or(&none);
    let data = info.object("info_data").unwrap_or(&none);
    let Some(kind) = info.text("info_kind") else {
        // Only `ip -d` prints kinds. Without it a bridge looks like a NIC, and taking it for one would send
        // packets to the wire.
        let detailed = ["promiscuity", "num_tx_queues", "min_mtu"]
            .into_iter()
            .any(|key| row.get(key).is_some());
        let loopback = row.words("flags").any(|flag| flag == "LOOPBACK");
        let printed_without = !detailed && !loopback && row.get("qdisc").is_some();
        return Ok(if printed_without {
            LinkKind::Other(String::new())
        } else {
            LinkKind::Device
        });
    };
    let word = |key: &str| data.text(key).map(String::from).unwrap_or_default();
    Ok(match &*kind {
        "veth" => LinkKind::Veth,
        "bridge" => LinkKind::Bridge(bridge(data)?),
        "vxlan" => LinkKind::Vxlan(vxlan(data)?),
        "vlan" => {
            let id = data.number("id")?.ok_or("a vlan device without an id")?;
            LinkKind::Vlan {
                id,
                protocol: word("protocol"),
            }
        }
        "macvlan" | "macvtap" => LinkKind::Macvlan { mode: word("mode") },
        "ipvlan" | "ipvtap" => {
            // One of the three is printed as a key of its own.
            let flag = ["bridge", "private", "vepa"]
                .into_iter()
                .find(|key| data.flag(key))
                .map(String::from);
            LinkKind::Ipvlan {
                mode: word("mode"),
                flag: flag.unwrap_or_else(|| word("flags")),
            }
        }
        "dummy" => LinkKind::Dummy,
        "tun" | "tap" => LinkKind::Tun,
        "wireguard" => LinkKind::Wireguard,
        "vrf" => LinkKind::Vrf {
            table: data.named("table", json::TABLES)?.ok_or("a VRF without a table")?,
        },
        "bond" | "team" => LinkKind::Bond,
        "ipip" | "gre" | "gretap" | "ip6gre" | "ip6gretap" | "ip6tnl" | "ip6ip6" | "sit" | "geneve" | "vti"
        | "vti6" | "xfrm" | "erspan" | "ip6erspan" | "gtp" => LinkKind::Tunnel(kind.into_owned(), tunnel(data)?),
        _ => LinkKind::Other(kind.into_owned()),
    })
}

fn bridge(data: &Object<'_>) -> Result<BridgeInfo, Unreadable> {
    Ok(BridgeInfo {
        vlan_filtering: data.switch("vlan_filtering"),
        vlan_default_pvid: data.number("vlan_default_pvid")?,
        nf_call_iptables: data.switch("nf_call_iptables"),
        nf_call_ip6tables: data.switch("nf_call_ip6tables"),
        nf_call_arptables: data.switch("nf_call_arptables"),
        stp_state: data.number("stp_state")?,
        ageing_time: data.number("ageing_time")?,
    })
}

/// The first of several keys that holds an address; a wildcard is none.
fn first_addr(data: &Object<'_>, keys: &[&str]) -> Result<Option<IpAddr>, Unreadable> {
    for key in keys {
        if let Some(addr) = data.addr(key)?.filter(|addr| !addr.is_unspecified()) {
            return Ok(Some(addr));
        }
    }
    Ok(None)
}

fn vxlan(data: &Object<'_>) -> Result<VxlanInfo, Unreadable> {
    let external = data.flag("external");
    let none = Object::default();
    let range = data
        .object("port_range")
        .or_else(|| data.object("srcport"))
        .unwrap_or(&none);
    let inherit = |key: &str| data.text(key).as_deref() == Some("inherit");
    Ok(VxlanInfo {
        vni: data.number("id")?.filter(|_| !external),
        local: first_addr(data, &["local", "local6"])?,
        remote: first_addr(data, &["remote", "remote6", "group", "group6"])?,
        link: data.ifname("link"),
        port: match data.number("port")? {
            Some(port) => port,
            // The kernel's own default, from before IANA gave out 4789.
            None => data.number("dstport")?.unwrap_or(8472),
        },
        port_range: (range.number("low")?.unwrap_or(0), range.number("high")?.unwrap_or(0)),
        learning: data.switch("learning"),
        ttl: if inherit("ttl") {
            0
        } else {
            data.named("ttl", &[("auto", 0)])?.unwrap_or(0)
        },
        ttl_inherit: inherit("ttl") || data.flag("ttl_inherit"),
        // 1 is how the kernel writes `inherit`; nothing printed is 0.
        tos: if inherit("tos") {
            None
        } else {
            Some(data.number("tos")?.unwrap_or(0)).filter(|tos| *tos != 1)
        },
        external,
        vnifilter: data.flag("vnifilter"),
        proxy: data.flag("proxy"),
        df: data.text("df").map(String::from),
    })
}

fn tunnel(data: &Object<'_>) -> Result<TunnelInfo, Unreadable> {
    let mut key = None;
    for name in ["id", "if_id", "okey", "ikey", "key"] {
        key = key.or(tunnel_key(data, name)?);
    }
    Ok(TunnelInfo {
        local: first_addr(data, &["local", "local6"])?,
        remote: first_addr(data, &["remote", "remote6"])?,
        link: data.ifname("link"),
        ttl: data.named("ttl", &[("inherit", 0), ("auto", 0)])?.unwrap_or(0),
        key,
        port: data.number("port")?,
        external: data.flag("external"),
    })
}

/// A number; GRE keys are printed like an IPv4 address. 0 is no key.
fn tunnel_key(data: &Object<'_>, key: &str) -> Result<Option<u32>, Unreadable> {
    let dotted = data
        .text(key)
        .and_then(|text| text.parse::<std::net::Ipv4Addr>().ok())
        .map(u32::from);
    Ok(if dotted.is_some() { dotted } else { data.number(key)? }.filter(|key| *key != 0))
}

fn address(at: Row, link: IfIndex, info: &Object<'_>) -> Result<Address, Unreadable> {
    let flag = |name: &str| info.flag(name) || info.words("flags").any(|word| word == name);
    let local = match info.addr("local")? {
        Some(local) => local,
        // Some versions print a peerless address only as `address`.
        None => info.addr("address")?.ok_or("an address without \"local\"")?,
    };
    Ok(Address {
        at,
        link,
        local,
        prefix_len: info
            .number("prefixlen")?
            .filter(|len| *len <= if local.is_ipv4() { 32 } else { 128 })
            .ok_or("an address without a \"prefixlen\" it can have")?,
        peer: info.addr("address")?.filter(|peer| *peer != local),
        broadcast: info.addr("broadcast").unwrap_or_default(),
        scope: info.named("scope", json::SCOPES)?.unwrap_or(0),
        secondary: flag("secondary") || flag("temporary"),
        deprecated: flag("deprecated"),
        tentative: flag("tentative"),
        dadfailed: flag("dadfailed"),
        noprefixroute: flag("noprefixroute"),
    })
}
