//! `addr.json`: the links, each with its addresses.

use std::collections::BTreeMap;
use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};

use super::row::{Row, Rows};
use super::socket::{Netlink, NetlinkError};
use super::{decode, devices, link, link_messages};

const RTM_GETADDR: u16 = 22;
const AF_INET6: u8 = 10;

pub(super) fn table(netlink: &mut Netlink) -> Result<(Rows, bool), NetlinkError> {
    let devices = devices(netlink)?;
    let mut found: BTreeMap<u32, Vec<Row>> = BTreeMap::new();
    // IPv4 first, as `ip addr` lists them: each family keeps its own list.
    let mut interrupted = false;
    for family in [2, AF_INET6] {
        interrupted |= netlink.dump(RTM_GETADDR, &[family, 0, 0, 0, 0, 0, 0, 0], |message| {
            if let RouteNetlinkMessage::NewAddress(address) = decode(message)? {
                let rows = found.entry(address.header.index).or_default();
                rows.extend(row(&address));
            }
            Ok(())
        })?;
    }
    let mut rows = Rows::new();
    interrupted |= link_messages(netlink, |message| {
        let mut row = link::head(&message, &devices);
        row.objects("addr_info", found.remove(&message.header.index).unwrap_or_default());
        rows.push(row);
        Ok(())
    })?;
    Ok((rows, interrupted))
}

/// Nothing for what has no address (a kernel's own bookkeeping).
fn row(message: &AddressMessage) -> Option<Row> {
    let (mut local, mut address) = (None, None);
    let mut flags = AddressFlags::from_bits_retain(message.header.flags.bits().into());
    for a in &message.attributes {
        match a {
            AddressAttribute::Local(addr) => local = Some(*addr),
            AddressAttribute::Address(addr) => address = Some(*addr),
            AddressAttribute::Flags(all) => flags = *all,
            _ => {}
        }
    }
    let v6 = u8::from(message.header.family) == AF_INET6;
    let own: IpAddr = local.or(address)?;
    let mut row = Row::new();
    row.text("family", if v6 { "inet6" } else { "inet" });
    row.text("local", own);
    if let Some(peer) = address.filter(|peer| *peer != own) {
        row.text("address", peer);
    }
    row.bare("prefixlen", message.header.prefix_len);
    for a in &message.attributes {
        match a {
            AddressAttribute::RoutePriority(metric) => row.bare("metric", metric),
            AddressAttribute::Broadcast(addr) => row.text("broadcast", addr),
            AddressAttribute::Anycast(addr) => row.text("anycast", addr),
            _ => {}
        }
    }
    row.text("scope", u8::from(message.header.scope));
    let words = [
        (AddressFlags::Secondary, if v6 { "temporary" } else { "secondary" }),
        (AddressFlags::Nodad, "nodad"),
        (AddressFlags::Optimistic, "optimistic"),
        (AddressFlags::Dadfailed, "dadfailed"),
        (AddressFlags::Homeaddress, "home"),
        (AddressFlags::Deprecated, "deprecated"),
        (AddressFlags::Tentative, "tentative"),
        (AddressFlags::Managetempaddr, "mngtmpaddr"),
        (AddressFlags::Noprefixroute, "noprefixroute"),
        (AddressFlags::Mcautojoin, "autojoin"),
        (AddressFlags::StablePrivacy, "stable-privacy"),
    ];
    for (_, word) in words.iter().filter(|(flag, _)| flags.contains(*flag)) {
        row.bare(word, true);
    }
    if !flags.contains(AddressFlags::Permanent) {
        row.bare("dynamic", true);
    }
    for a in &message.attributes {
        match a {
            AddressAttribute::Protocol(protocol) => row.text("protocol", u8::from(*protocol)),
            AddressAttribute::Label(label) => row.text("label", label),
            AddressAttribute::CacheInfo(cache) => {
                row.bare("valid_life_time", cache.ifa_valid);
                row.bare("preferred_life_time", cache.ifa_preferred);
            }
            _ => {}
        }
    }
    Some(row)
}
