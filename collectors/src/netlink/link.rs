//! `link.json`, and what a row of every list of links begins with.

use netlink_packet_route::link::{
    InfoData, InfoKind, InfoPortKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, LinkXdp, Prop,
};

use super::row::{Row, Rows};
use super::socket::NetlinkError;
use super::{Devices, Tables, device, devices, kind, link_address, link_messages};
use crate::netlink::socket::Netlink;

/// What ties a device to one in another namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkFact {
    /// Index.
    pub index: u32,
    /// Name.
    pub name: String,
    /// `IFLA_INFO_KIND`
    pub kind: String,
    /// `IFLA_LINK`
    pub link_index: Option<u32>,
    /// `IFLA_LINK_NETNSID`
    pub netnsid: Option<i32>,
}

/// The devices of the namespace of `tables`.
///
/// # Errors
/// When the kernel refuses.
pub fn links(tables: &mut Tables) -> Result<Vec<LinkFact>, NetlinkError> {
    let mut links = Vec::new();
    link_messages(tables.netlink(), |message| {
        let mut fact = LinkFact {
            index: message.header.index,
            ..LinkFact::default()
        };
        for a in message.attributes {
            match a {
                LinkAttribute::IfName(name) => fact.name = name,
                LinkAttribute::Link(index) => fact.link_index = Some(index),
                LinkAttribute::LinkNetNsId(id) => fact.netnsid = Some(id),
                LinkAttribute::LinkInfo(infos) => {
                    for info in infos {
                        if let LinkInfo::Kind(kind) = info {
                            fact.kind = kind.to_string();
                        }
                    }
                }
                _ => {}
            }
        }
        links.push(fact);
        Ok(())
    })?;
    Ok(links)
}

pub(super) fn table(netlink: &mut Netlink) -> Result<(Rows, bool), NetlinkError> {
    let devices = devices(netlink)?;
    let mut rows = Rows::new();
    let interrupted = link_messages(netlink, |message| {
        rows.push(row(&message, &devices));
        Ok(())
    })?;
    Ok((rows, interrupted))
}

/// Index, lower device, name, flags, MTU, bridge, state, group and addresses.
pub(super) fn head(message: &LinkMessage, devices: &Devices) -> Row {
    let mut row = Row::new();
    row.bare("ifindex", message.header.index);
    lower(&mut row, message, devices);
    row.text("ifname", device(devices, message.header.index));
    row.words("flags", flags(message.header.flags));
    for a in &message.attributes {
        match a {
            LinkAttribute::Mtu(mtu) => row.bare("mtu", mtu),
            LinkAttribute::Qdisc(name) => row.text("qdisc", name),
            LinkAttribute::Controller(index) => row.text("master", device(devices, *index)),
            LinkAttribute::OperState(state) => row.text("operstate", operstate((*state).into())),
            LinkAttribute::Mode(mode) => row.text("linkmode", if u8::from(*mode) == 0 { "DEFAULT" } else { "DORMANT" }),
            LinkAttribute::Group(group) => row.text("group", group),
            LinkAttribute::TxQueueLen(len) => row.bare("txqlen", len),
            _ => {}
        }
    }
    let hardware = u16::from(message.header.link_layer_type);
    row.text("link_type", format!("[{hardware}]"));
    for a in &message.attributes {
        match a {
            LinkAttribute::Address(bytes) => row.text("address", link_address(bytes, hardware)),
            LinkAttribute::Broadcast(bytes) => row.text("broadcast", link_address(bytes, hardware)),
            LinkAttribute::LinkNetNsId(id) => row.bare("link_netnsid", id),
            LinkAttribute::Promiscuity(count) => row.bare("promiscuity", count),
            _ => {}
        }
    }
    row
}

/// `link` in this namespace, `link_index` in another one; `IFLA_LINK` 0 says that the lower device is nobody's.
fn lower(row: &mut Row, message: &LinkMessage, devices: &Devices) {
    let elsewhere = message
        .attributes
        .iter()
        .any(|a| matches!(a, LinkAttribute::LinkNetNsId(_)));
    for a in &message.attributes {
        match a {
            LinkAttribute::Link(0) => row.null("link"),
            LinkAttribute::Link(index) if elsewhere => row.bare("link_index", index),
            LinkAttribute::Link(index) => row.text("link", device(devices, *index)),
            _ => {}
        }
    }
}

fn row(message: &LinkMessage, devices: &Devices) -> Row {
    let mut row = head(message, devices);
    for a in &message.attributes {
        match a {
            LinkAttribute::AllMulticast(count) => row.bare("allmulti", count),
            LinkAttribute::MinMtu(mtu) => row.bare("min_mtu", mtu),
            LinkAttribute::MaxMtu(mtu) => row.bare("max_mtu", mtu),
            LinkAttribute::NumTxQueues(count) => row.bare("num_tx_queues", count),
            LinkAttribute::NumRxQueues(count) => row.bare("num_rx_queues", count),
            LinkAttribute::GsoMaxSize(size) => row.bare("gso_max_size", size),
            LinkAttribute::GsoMaxSegs(count) => row.bare("gso_max_segs", count),
            LinkAttribute::IfAlias(alias) => row.text("ifalias", alias),
            LinkAttribute::PropList(props) => {
                let names: Vec<&str> = props
                    .iter()
                    .filter_map(|prop| match prop {
                        Prop::AltIfName(name) => Some(name.as_str()),
                        _ => None,
                    })
                    .collect();
                row.words("altnames", names);
            }
            LinkAttribute::Xdp(xdp) => self::xdp(&mut row, xdp),
            LinkAttribute::LinkInfo(infos) => info(&mut row, infos, devices),
            _ => {}
        }
    }
    // What `-d` adds; a reader takes a row without any of it for one that does not say its kind.
    if !message.attributes.iter().any(|a| matches!(a, LinkAttribute::MinMtu(_))) {
        row.bare("min_mtu", 0);
    }
    row
}

fn info(row: &mut Row, infos: &[LinkInfo], devices: &Devices) {
    let mut inner = Row::new();
    let mut of: Option<InfoKind> = None;
    for info in infos {
        match info {
            LinkInfo::Kind(kind) => {
                inner.text("info_kind", kind);
                of = Some(kind.clone());
            }
            LinkInfo::Data(InfoData::Other(_)) => {}
            LinkInfo::Data(data) => {
                let data = kind::data(of.as_ref(), data, devices);
                if !data.is_empty() {
                    inner.object("info_data", data);
                }
            }
            LinkInfo::PortKind(kind) => {
                let word = match kind {
                    InfoPortKind::Bond => "bond".to_owned(),
                    InfoPortKind::Bridge => "bridge".to_owned(),
                    InfoPortKind::Vrf => "vrf".to_owned(),
                    other => format!("{other:?}").to_ascii_lowercase(),
                };
                inner.text("info_slave_kind", word);
            }
            _ => {}
        }
    }
    if !inner.is_empty() {
        row.object("linkinfo", inner);
    }
}

/// `XDP_ATTACHED_*` and the program, when there is one.
fn xdp(row: &mut Row, attributes: &[LinkXdp]) {
    let mut mode = 0;
    let mut program = None;
    for a in attributes {
        match a {
            LinkXdp::Attached(attached) => mode = kind::attached(attached),
            LinkXdp::ProgId(id) => program = Some(*id),
            _ => {}
        }
    }
    if mode == 0 {
        return;
    }
    let mut inner = Row::new();
    inner.bare("mode", mode);
    if let Some(id) = program {
        let mut prog = Row::new();
        prog.bare("id", id);
        inner.object("prog", prog);
    }
    row.object("xdp", inner);
}

/// In the order and with the words of `print_link_flags`.
fn flags(flags: LinkFlags) -> Vec<&'static str> {
    let up = flags.contains(LinkFlags::Up);
    let mut words = Vec::new();
    if up && !flags.contains(LinkFlags::Running) {
        words.push("NO-CARRIER");
    }
    let all = [
        (LinkFlags::Loopback, "LOOPBACK"),
        (LinkFlags::Broadcast, "BROADCAST"),
        (LinkFlags::Pointopoint, "POINTOPOINT"),
        (LinkFlags::Multicast, "MULTICAST"),
        (LinkFlags::Noarp, "NOARP"),
        (LinkFlags::Allmulti, "ALLMULTI"),
        (LinkFlags::Promisc, "PROMISC"),
        (LinkFlags::Controller, "MASTER"),
        (LinkFlags::Port, "SLAVE"),
        (LinkFlags::Debug, "DEBUG"),
        (LinkFlags::Dynamic, "DYNAMIC"),
        (LinkFlags::Automedia, "AUTOMEDIA"),
        (LinkFlags::Portsel, "PORTSEL"),
        (LinkFlags::Notrailers, "NOTRAILERS"),
        (LinkFlags::Up, "UP"),
        (LinkFlags::LowerUp, "LOWER_UP"),
        (LinkFlags::Dormant, "DORMANT"),
        (LinkFlags::Echo, "ECHO"),
    ];
    words.extend(
        all.iter()
            .filter(|(flag, _)| flags.contains(*flag))
            .map(|(_, word)| *word),
    );
    words
}

/// `IF_OPER_*`
const fn operstate(state: u8) -> &'static str {
    match state {
        1 => "NOTPRESENT",
        2 => "DOWN",
        3 => "LOWERLAYERDOWN",
        4 => "TESTING",
        5 => "DORMANT",
        6 => "UP",
        _ => "UNKNOWN",
    }
}
