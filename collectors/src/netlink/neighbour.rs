//! `neigh.json`: both families, and the addresses this namespace answers for (`proxy`).

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage,
};

use super::row::{Row, Rows};
use super::socket::{Netlink, NetlinkError};
use super::{Devices, decode, device, devices, link_address};

const RTM_GETNEIGH: u16 = 30;
const NTF_PROXY: u8 = 1 << 3;
const NUD_NOARP: u16 = 0x40;

pub(super) fn table(netlink: &mut Netlink) -> Result<(Rows, bool), NetlinkError> {
    let devices = devices(netlink)?;
    let mut rows = Rows::new();
    let mut interrupted = false;
    for flags in [0, NTF_PROXY] {
        let mut request = [0; 12];
        request[10] = flags;
        interrupted |= netlink.dump(RTM_GETNEIGH, &request, |message| {
            if let RouteNetlinkMessage::NewNeighbour(neighbour) = decode(message)? {
                rows.extend(row(&neighbour, &devices));
            }
            Ok(())
        })?;
    }
    Ok((rows, interrupted))
}

/// Nothing for what `ip neigh show` leaves out: entries of devices that resolve nothing.
fn row(neighbour: &NeighbourMessage, devices: &Devices) -> Option<Row> {
    let header = &neighbour.header;
    let state = u16::from(header.state);
    let flag = |flag| header.flags.contains(flag);
    if state & !NUD_NOARP == 0 && !flag(NeighbourFlags::Proxy) && !flag(NeighbourFlags::ExtLearned) {
        return None;
    }
    let destination = neighbour.attributes.iter().find_map(|a| match a {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => Some(v4.to_string()),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => Some(v6.to_string()),
        _ => None,
    })?;
    let mut row = Row::new();
    row.text("dst", destination);
    if header.ifindex != 0 {
        row.text("dev", device(devices, header.ifindex));
    }
    let mut managed = false;
    for a in &neighbour.attributes {
        match a {
            NeighbourAttribute::LinkLayerAddress(bytes) => {
                let hardware = devices.get(&header.ifindex).map_or(1, |device| device.hardware);
                row.text("lladdr", link_address(bytes, hardware));
            }
            NeighbourAttribute::ExtFlags(flags) => managed = flags.contains(NeighbourExtFlags::Managed),
            _ => {}
        }
    }
    row.null_if("router", flag(NeighbourFlags::Router));
    row.null_if("proxy", flag(NeighbourFlags::Proxy));
    row.null_if("managed", managed);
    row.null_if("extern_learn", flag(NeighbourFlags::ExtLearned));
    row.null_if("offload", flag(NeighbourFlags::Offloaded));
    let words = [
        (0x01, "INCOMPLETE"),
        (0x02, "REACHABLE"),
        (0x04, "STALE"),
        (0x08, "DELAY"),
        (0x10, "PROBE"),
        (0x20, "FAILED"),
        (NUD_NOARP, "NOARP"),
        (0x80, "PERMANENT"),
    ];
    if state != 0 {
        row.words(
            "state",
            words.iter().filter(|(bit, _)| state & bit != 0).map(|(_, word)| *word),
        );
    }
    Some(row)
}
