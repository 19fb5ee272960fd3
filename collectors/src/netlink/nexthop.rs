//! `nexthop.json`. The message crate has no types for nexthop objects; these are a header and a few attributes.

use super::encap::encap;
use super::row::{Row, Rows};
use super::socket::{Message, Netlink, NetlinkError, attributes, u16_at, u32_at};
use super::{Devices, device, devices, ip};

const RTM_NEWNEXTHOP: u16 = 104;
const RTM_GETNEXTHOP: u16 = 106;
/// `struct nhmsg`
const HEADER: usize = 8;

const NHA_ID: u16 = 1;
const NHA_GROUP: u16 = 2;
const NHA_GROUP_TYPE: u16 = 3;
const NHA_BLACKHOLE: u16 = 4;
const NHA_OIF: u16 = 5;
const NHA_GATEWAY: u16 = 6;
const NHA_ENCAP_TYPE: u16 = 7;
const NHA_ENCAP: u16 = 8;
const NHA_FDB: u16 = 11;

pub(super) fn table(netlink: &mut Netlink) -> Result<(Rows, bool), NetlinkError> {
    let devices = devices(netlink)?;
    let mut rows = Rows::new();
    let interrupted = netlink.dump(RTM_GETNEXTHOP, &[0; HEADER], |message| {
        rows.extend(row(message, &devices));
        Ok(())
    })?;
    Ok((rows, interrupted))
}

fn row(message: Message<'_>, devices: &Devices) -> Option<Row> {
    let (header, body) = message.payload.split_at_checked(HEADER)?;
    if message.kind != RTM_NEWNEXTHOP {
        return None;
    }
    let (scope, protocol, flags) = (header[1], header[2], u32_at(header, 4));
    let value = |wanted: u16| {
        attributes(body)
            .find(|(kind, _)| *kind == wanted)
            .map(|(_, value)| value)
    };
    let mut row = Row::new();
    row.bare("id", u32_at(value(NHA_ID)?, 0));
    if let Some(group) = value(NHA_GROUP) {
        row.objects("group", group.chunks_exact(8).map(member));
        if value(NHA_GROUP_TYPE).is_some_and(|kind| u16_at(kind, 0) == 1) {
            row.text("type", "resilient");
        }
    }
    if let Some(kind) = value(NHA_ENCAP_TYPE) {
        encap(
            &mut row,
            u16_at(kind, 0),
            attributes(value(NHA_ENCAP).unwrap_or_default()),
        );
    }
    if let Some(gateway) = value(NHA_GATEWAY).and_then(ip) {
        row.text("gateway", gateway);
    }
    if let Some(index) = value(NHA_OIF) {
        row.text("dev", device(devices, u32_at(index, 0)));
    }
    row.null_if("blackhole", value(NHA_BLACKHOLE).is_some());
    row.text("scope", scope);
    row.text("protocol", protocol);
    row.null_if("fdb", value(NHA_FDB).is_some());
    let words = [
        (1, "dead"),
        (4, "onlink"),
        (8, "offload"),
        (16, "linkdown"),
        (64, "trap"),
    ];
    row.words(
        "flags",
        words.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, word)| *word),
    );
    Some(row)
}

/// `struct nexthop_grp`: the weight is stored less one, and its upper byte behind it (6.12).
fn member(entry: &[u8]) -> Row {
    let weight = u32::from(entry[4]) | u32::from(entry[5]) << 8;
    let mut row = Row::new();
    row.bare("id", u32_at(entry, 0));
    if weight > 0 {
        row.bare("weight", weight + 1);
    }
    row
}
