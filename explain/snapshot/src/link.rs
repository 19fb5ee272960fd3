//! `link.json` and `addr.json`: `ip -d -j -N link show`, `ip -d -j -N addr show`.

use std::net::IpAddr;

use crate::id::{IfIndex, Mac};
use crate::row::Row;

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

/// Reads `link.json`.
#[must_use]
pub fn parse_links(artifact: std::sync::Arc<str>, _bytes: &[u8]) -> crate::row::Table<Link> {
    crate::row::Table { artifact, rows: Vec::new(), problems: Vec::new() }
}

/// Reads `addr.json`.
#[must_use]
pub fn parse_addrs(artifact: std::sync::Arc<str>, _bytes: &[u8]) -> crate::row::Table<Address> {
    crate::row::Table { artifact, rows: Vec::new(), problems: Vec::new() }
}
