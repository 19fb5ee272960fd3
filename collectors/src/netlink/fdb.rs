//! `fdb.json`: bridges' tables and the devices' own (VXLAN remotes).

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage,
};

use super::row::{Row, Rows};
use super::socket::{Netlink, NetlinkError, u32_at};
use super::{Devices, decode, device, devices, ip, link_address};

const RTM_GETNEIGH: u16 = 30;
const AF_BRIDGE: u8 = 7;
/// Not among the attributes the message crate has types for.
const NDA_NH_ID: u16 = 13;

pub(super) fn table(netlink: &mut Netlink) -> Result<(Rows, bool), NetlinkError> {
    let devices = devices(netlink)?;
    let mut rows = Rows::new();
    let mut request = [0; 12];
    request[0] = AF_BRIDGE;
    let interrupted = netlink.dump(RTM_GETNEIGH, &request, |message| {
        if let RouteNetlinkMessage::NewNeighbour(entry) = decode(message)? {
            rows.extend(row(&entry, &devices));
        }
        Ok(())
    })?;
    Ok((rows, interrupted))
}

fn row(entry: &NeighbourMessage, devices: &Devices) -> Option<Row> {
    let header = &entry.header;
    let mac = entry.attributes.iter().find_map(|a| match a {
        NeighbourAttribute::LinkLayerAddress(bytes) => Some(link_address(bytes, 1)),
        _ => None,
    })?;
    let mut row = Row::new();
    row.text("mac", mac);
    row.text("ifname", device(devices, header.ifindex));
    let (mut master, mut locked) = (None, false);
    for a in &entry.attributes {
        match a {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => row.text("dst", v4),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => row.text("dst", v6),
            NeighbourAttribute::Destination(NeighbourAddress::Other(bytes)) => {
                if let Some(addr) = ip(bytes) {
                    row.text("dst", addr);
                }
            }
            NeighbourAttribute::Vlan(vlan) => row.bare("vlan", vlan),
            NeighbourAttribute::Port(port) => row.bare("port", port),
            NeighbourAttribute::Vni(vni) => row.bare("vni", vni),
            NeighbourAttribute::SourceVni(vni) => row.bare("src_vni", vni),
            NeighbourAttribute::IfIndex(index) => row.text("viaIf", device(devices, *index)),
            NeighbourAttribute::Controller(index) => master = Some(*index),
            NeighbourAttribute::ExtFlags(flags) => locked = flags.contains(NeighbourExtFlags::Locked),
            NeighbourAttribute::Other(nla) if netlink_packet_core::Nla::kind(nla) == NDA_NH_ID => {
                let mut value = [0; 4];
                if netlink_packet_core::Nla::value_len(nla) == 4 {
                    netlink_packet_core::Nla::emit_value(nla, &mut value);
                    row.bare("nhid", u32_at(&value, 0));
                }
            }
            _ => {}
        }
    }
    let words = [
        (NeighbourFlags::Own, "self"),
        (NeighbourFlags::Router, "router"),
        (NeighbourFlags::ExtLearned, "extern_learn"),
        (NeighbourFlags::Offloaded, "offload"),
        (NeighbourFlags::Sticky, "sticky"),
    ];
    let words = words
        .iter()
        .filter(|(flag, _)| header.flags.contains(*flag))
        .map(|(_, word)| *word)
        .chain(locked.then_some("locked"));
    row.words("flags", words);
    if let Some(master) = master {
        row.text("master", device(devices, master));
    }
    let state = u16::from(header.state);
    let word = match state {
        s if s & 0x80 != 0 => "permanent".to_owned(),
        s if s & 0x40 != 0 => "static".to_owned(),
        s if s & 0x04 != 0 => "stale".to_owned(),
        s if s & 0x02 != 0 => String::new(),
        s => format!("{s:#x}"),
    };
    row.text("state", word);
    Some(row)
}
