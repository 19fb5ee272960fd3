//! `bridge-link.json`, `bridge-vlan.json`.

use netlink_packet_core::Nla;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    AfSpecBridge, BridgeVlanInfo, BridgeVlanInfoFlags, LinkAttribute, LinkMessage, LinkProtoInfoBridge,
};

use super::row::{Row, Rows};
use super::socket::{self, Netlink, NetlinkError, u16_at, u32_at};
use super::{Devices, decode, device, devices, link};

const RTM_GETLINK: u16 = 18;
const IFLA_EXT_MASK: u16 = 29;
const AF_BRIDGE: u8 = 7;
const RTEXT_FILTER_BRVLAN_COMPRESSED: u32 = 1 << 2;

fn dump(netlink: &mut Netlink, mask: Option<u32>, mut each: impl FnMut(&LinkMessage)) -> Result<bool, NetlinkError> {
    let mut request = vec![0; 16];
    request[0] = AF_BRIDGE;
    if let Some(mask) = mask {
        socket::put(&mut request, IFLA_EXT_MASK, &mask.to_ne_bytes());
    }
    netlink.dump(RTM_GETLINK, &request, |message| {
        if let RouteNetlinkMessage::NewLink(link) = decode(message)? {
            each(&link);
        }
        Ok(())
    })
}

pub(super) fn ports(netlink: &mut Netlink) -> Result<(Rows, bool), NetlinkError> {
    let devices = devices(netlink)?;
    let mut rows = Rows::new();
    let interrupted = dump(netlink, None, |link| rows.push(port(link, &devices)))?;
    Ok((rows, interrupted))
}

fn port(message: &LinkMessage, devices: &Devices) -> Row {
    let mut row = link::head(message, devices);
    for a in &message.attributes {
        if let LinkAttribute::ProtoInfoBridge(info) = a {
            info.iter().for_each(|attribute| port_attribute(&mut row, attribute));
        }
    }
    row
}

/// `IFLA_BRPORT_*`: numbers, and what is on or off.
fn port_attribute(row: &mut Row, attribute: &LinkProtoInfoBridge) {
    let mut value = vec![0; attribute.value_len()];
    attribute.emit_value(&mut value);
    let first = value.first().copied().unwrap_or(0);
    let key = match attribute.kind() {
        1 => {
            let word = match first {
                0 => "disabled".to_owned(),
                1 => "listening".to_owned(),
                2 => "learning".to_owned(),
                3 => "forwarding".to_owned(),
                4 => "blocking".to_owned(),
                other => other.to_string(),
            };
            return row.text("state", word);
        }
        2 => return row.bare("priority", u16_at(&value, 0)),
        3 => return row.bare("cost", u32_at(&value, 0)),
        25 => return row.bare("mcast_router", first),
        4 => "hairpin",
        5 => "guard",
        6 => "root_block",
        7 => "fastleave",
        8 => "learning",
        9 => "flood",
        27 => "mcast_flood",
        28 => "mcast_to_unicast",
        29 => "vlan_tunnel",
        30 => "bcast_flood",
        32 => "neigh_suppress",
        33 => "isolated",
        39 => "locked",
        40 => "mab",
        _ => return,
    };
    row.bare(key, first != 0);
}

pub(super) fn vlans(netlink: &mut Netlink) -> Result<(Rows, bool), NetlinkError> {
    let devices = devices(netlink)?;
    let mut rows = Rows::new();
    let interrupted = dump(netlink, Some(RTEXT_FILTER_BRVLAN_COMPRESSED), |link| {
        rows.extend(vlan_row(link, &devices));
    })?;
    Ok((rows, interrupted))
}

fn vlan_row(message: &LinkMessage, devices: &Devices) -> Option<Row> {
    let infos: Vec<BridgeVlanInfo> = message
        .attributes
        .iter()
        .filter_map(|a| match a {
            LinkAttribute::AfSpecBridge(spec) => Some(spec),
            _ => None,
        })
        .flatten()
        .filter_map(|spec| match spec {
            AfSpecBridge::VlanInfo(info) => Some(*info),
            _ => None,
        })
        .collect();
    if infos.is_empty() {
        return None;
    }
    let mut ranges = Vec::new();
    let mut begun = None;
    for info in infos {
        if info.flags.contains(BridgeVlanInfoFlags::RangeBegin) {
            begun = Some(info.vid);
            continue;
        }
        let first = begun.take().unwrap_or(info.vid);
        let mut row = Row::new();
        row.bare("vlan", first);
        if first != info.vid {
            row.bare("vlanEnd", info.vid);
        }
        let words = [
            (BridgeVlanInfoFlags::Pvid, "PVID"),
            (BridgeVlanInfoFlags::Untagged, "Egress Untagged"),
        ];
        row.words(
            "flags",
            words
                .iter()
                .filter(|(flag, _)| info.flags.contains(*flag))
                .map(|(_, word)| *word),
        );
        ranges.push(row);
    }
    let mut row = Row::new();
    row.text("ifname", device(devices, message.header.index));
    row.objects("vlans", ranges);
    Some(row)
}
