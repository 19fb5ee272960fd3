//! What rtnetlink says, written as `ip`, `bridge` and `tc` print it.
//!
//! Each table is one dump and one list of rows. The messages are decoded by `netlink-packet-route`; a message
//! it cannot decode fails the table, for a table with a hole is not a table.

pub mod socket;

#[cfg(test)]
pub(crate) mod interrupted_tests;

mod address;
mod bridge;
mod encap;
mod fdb;
mod kind;
mod link;
mod neighbour;
mod nexthop;
mod nsid;
mod route;
pub(crate) mod row;
mod rule;
mod tc;

use std::collections::BTreeMap;

use knet_snapshot::artifact::name;
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;

use crate::exec::Limits;
use row::Rows;
use socket::{Message, Netlink, NetlinkError};

pub use link::{LinkFact, links};
pub use nsid::nsid_of;

/// A table as a tool prints it.
#[derive(Debug)]
pub struct Printed {
    /// The artifact.
    pub bytes: Vec<u8>,
    /// The kernel did not interrupt the dump.
    pub consistent: bool,
}

/// A dump that changed while it was read is read again until it was made this often.
pub(crate) const ATTEMPTS: usize = 3;

/// The names and hardware types of the devices of a namespace, by index.
pub(crate) type Devices = BTreeMap<u32, Device>;

/// One device.
#[derive(Clone, Debug, Default)]
pub(crate) struct Device {
    pub(crate) name: String,
    /// `ARPHRD_*`
    pub(crate) hardware: u16,
}

/// The rtnetlink tables of the namespace of this thread.
pub struct Tables {
    netlink: Netlink,
}

impl Tables {
    /// Opens a socket.
    ///
    /// # Errors
    /// When the kernel does not allow it.
    pub fn open(limits: Limits) -> Result<Self, NetlinkError> {
        Ok(Self {
            netlink: Netlink::open(NETLINK_ROUTE, limits)?,
        })
    }

    /// Reads the table of an artifact; `None` when it is not one of rtnetlink's.
    pub fn read(&mut self, artifact: &str) -> Option<Result<Printed, NetlinkError>> {
        let read: fn(&mut Netlink) -> Result<(Rows, bool), NetlinkError> = match artifact {
            name::LINK => link::table,
            name::ADDR => address::table,
            name::ROUTE => route::v4,
            name::ROUTE6 => route::v6,
            name::RULE => rule::v4,
            name::RULE6 => rule::v6,
            name::NEXTHOP => nexthop::table,
            name::NEIGH => neighbour::table,
            name::FDB => fdb::table,
            name::BRIDGE_LINK => bridge::ports,
            name::BRIDGE_VLAN => bridge::vlans,
            name::TC => tc::filters,
            _ => return None,
        };
        let read = settled(|| read(&mut self.netlink));
        Some(read.map(|(rows, interrupted)| Printed {
            bytes: rows.finish(),
            consistent: !interrupted,
        }))
    }

    /// The socket, for questions that are no table.
    pub(crate) fn netlink(&mut self) -> &mut Netlink {
        &mut self.netlink
    }
}

/// Dumps until the kernel did not interrupt it (`NLM_F_DUMP_INTR`), or often enough: the last one, and whether it was
/// interrupted too.
pub(crate) fn settled<T>(mut dump: impl FnMut() -> Result<(T, bool), NetlinkError>) -> Result<(T, bool), NetlinkError> {
    let mut last = dump()?;
    for _ in 1..ATTEMPTS {
        if !last.1 {
            break;
        }
        last = dump()?;
    }
    Ok(last)
}

/// Decodes a message of rtnetlink.
pub(crate) fn decode(message: Message<'_>) -> Result<RouteNetlinkMessage, String> {
    let decoded = NetlinkMessage::<RouteNetlinkMessage>::deserialize(message.whole).map_err(|e| format!("{e:#}"))?;
    match decoded.payload {
        NetlinkPayload::InnerMessage(inner) => Ok(inner),
        _ => Err("not a message of rtnetlink".to_owned()),
    }
}

/// `RTM_GETLINK`, with an empty `struct ifinfomsg`, without the statistics nobody looks at.
pub(crate) fn link_messages(
    netlink: &mut Netlink,
    mut each: impl FnMut(LinkMessage) -> Result<(), String>,
) -> Result<bool, NetlinkError> {
    const RTM_GETLINK: u16 = 18;
    const IFLA_EXT_MASK: u16 = 29;
    const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;
    let mut request = vec![0; 16];
    socket::put(&mut request, IFLA_EXT_MASK, &RTEXT_FILTER_SKIP_STATS.to_ne_bytes());
    netlink.dump(RTM_GETLINK, &request, |message| match decode(message)? {
        RouteNetlinkMessage::NewLink(link) => each(link),
        _ => Ok(()),
    })
}

/// The devices by index.
pub(crate) fn devices(netlink: &mut Netlink) -> Result<Devices, NetlinkError> {
    let (devices, _) = settled(|| {
        let mut devices = Devices::new();
        let interrupted = link_messages(netlink, |link| {
            let name = link.attributes.iter().find_map(|a| match a {
                LinkAttribute::IfName(name) => Some(name.clone()),
                _ => None,
            });
            let device = Device {
                name: name.unwrap_or_default(),
                hardware: link.header.link_layer_type.into(),
            };
            devices.insert(link.header.index, device);
            Ok(())
        })?;
        Ok((devices, interrupted))
    })?;
    Ok(devices)
}

/// A device by name, or `if7` as the tools print an index without a name.
pub(crate) fn device(devices: &Devices, index: u32) -> String {
    devices
        .get(&index)
        .map(|device| device.name.clone())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| format!("if{index}"))
}

/// A link-layer address as `ll_addr_n2a` of iproute2 prints it: that of an IP tunnel is an IP address.
pub(crate) fn link_address(bytes: &[u8], hardware: u16) -> String {
    const TUNNEL: u16 = 768;
    const TUNNEL6: u16 = 769;
    const SIT: u16 = 776;
    const IPGRE: u16 = 778;
    const IP6GRE: u16 = 823;
    if matches!(hardware, TUNNEL | SIT | IPGRE)
        && let Ok(v4) = <[u8; 4]>::try_from(bytes)
    {
        return std::net::Ipv4Addr::from(v4).to_string();
    }
    if matches!(hardware, TUNNEL6 | IP6GRE)
        && let Ok(v6) = <[u8; 16]>::try_from(bytes)
    {
        return std::net::Ipv6Addr::from(v6).to_string();
    }
    let hex: Vec<String> = bytes.iter().map(|b| format!("{b:02x}")).collect();
    hex.join(":")
}

/// An address of 4 or 16 bytes.
pub(crate) fn ip(bytes: &[u8]) -> Option<std::net::IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(v4.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(Into::into)
}
