//! `tc.json`: the filters of every device's clsact and ingress hooks, and of its root qdisc.
//!
//! Only what says that something looks at packets there: classifier, place, the name of a BPF program, and the
//! kinds of actions. The rest of a classifier's options has a shape of its own for each kind.

use super::row::{Row, Rows};
use super::socket::{Message, Netlink, NetlinkError, attributes, u32_at};
use super::{Devices, devices};

const RTM_NEWTFILTER: u16 = 44;
const RTM_GETTFILTER: u16 = 46;
const RTM_GETQDISC: u16 = 38;
/// `struct tcmsg`
const HEADER: usize = 20;

const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_CHAIN: u16 = 11;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_TAG: u16 = 9;
const TCA_BPF_ID: u16 = 11;
const TCA_ACT_KIND: u16 = 1;
/// The attribute that holds the actions, of each kind of classifier (`TCA_*_ACT` in `pkt_cls.h`).
const ACTIONS: &[(&[u8], u16)] = &[
    (b"basic", 3),
    (b"bpf", 1),
    (b"cgroup", 1),
    (b"flow", 9),
    (b"flower", 3),
    (b"fw", 4),
    (b"matchall", 2),
    (b"route", 6),
    (b"u32", 7),
];

/// `TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)`, `..EGRESS`
const INGRESS: u32 = 0xffff_fff2;
const EGRESS: u32 = 0xffff_fff3;
/// `ffff:`, the parent of an ingress qdisc's filters.
const OLD_INGRESS: u32 = 0xffff_0000;

pub(super) fn filters(netlink: &mut Netlink) -> Result<(Rows, bool), NetlinkError> {
    let devices = devices(netlink)?;
    // One dump of the queueing disciplines says where filters can be.
    let mut places: Vec<(u32, u32)> = Vec::new();
    let mut interrupted = netlink.dump(RTM_GETQDISC, &[0; HEADER], |message| {
        let index = u32_at(message.payload, 4);
        match kind(message) {
            Some(b"clsact") => places.extend([(index, INGRESS), (index, EGRESS)]),
            Some(b"ingress") => places.push((index, OLD_INGRESS)),
            // These take no filters.
            Some(b"noqueue" | b"pfifo_fast" | b"pfifo" | b"bfifo" | b"mq") | None => {}
            Some(_) => places.push((index, u32_at(message.payload, 8))),
        }
        Ok(())
    })?;
    places.sort_unstable();
    places.dedup();
    let mut rows = Rows::new();
    for (index, parent) in places {
        let mut request = [0; HEADER];
        request[4..8].copy_from_slice(&index.to_ne_bytes());
        request[12..16].copy_from_slice(&parent.to_ne_bytes());
        let dumped = netlink.dump(RTM_GETTFILTER, &request, |message| {
            rows.extend(row(message, &devices));
            Ok(())
        });
        match dumped {
            Ok(changed) => interrupted |= changed,
            // A qdisc that has no classes has no filters, and one that is gone has none either.
            Err(NetlinkError::Refused(e))
                if matches!(
                    e.raw_os_error(),
                    Some(libc_errno::EINVAL | libc_errno::ENOENT | libc_errno::EOPNOTSUPP)
                ) => {}
            Err(e) => return Err(e),
        }
    }
    Ok((rows, interrupted))
}

mod libc_errno {
    pub(super) const ENOENT: i32 = 2;
    pub(super) const EINVAL: i32 = 22;
    pub(super) const EOPNOTSUPP: i32 = 95;
}

fn kind(message: Message<'_>) -> Option<&[u8]> {
    let body = message.payload.get(HEADER..)?;
    let (_, value) = attributes(body).find(|(kind, _)| *kind == TCA_KIND)?;
    Some(value.split(|b| *b == 0).next().unwrap_or_default())
}

fn row(message: Message<'_>, devices: &Devices) -> Option<Row> {
    if message.kind != RTM_NEWTFILTER {
        return None;
    }
    let body = message.payload.get(HEADER..)?;
    let value = |wanted: u16| {
        attributes(body)
            .find(|(kind, _)| *kind == wanted)
            .map(|(_, value)| value)
    };
    let index = u32_at(message.payload, 4);
    let (handle, parent, info) = (
        u32_at(message.payload, 8),
        u32_at(message.payload, 12),
        u32_at(message.payload, 16),
    );
    let mut row = Row::new();
    row.text("dev", super::device(devices, index));
    match parent {
        INGRESS => row.text("parent", "ingress"),
        EGRESS => row.text("parent", "egress"),
        parent => row.text("parent", format!("{:x}:{:x}", parent >> 16, parent & 0xffff)),
    }
    // TC_H_MAKE(priority << 16, protocol in network order)
    let protocol = u16::from_be_bytes((info as u16).to_ne_bytes());
    row.text(
        "protocol",
        match protocol {
            3 => "all".to_owned(),
            0x0800 => "ip".to_owned(),
            0x86dd => "ipv6".to_owned(),
            0x0806 => "arp".to_owned(),
            other => format!("[{other}]"),
        },
    );
    row.bare("pref", info >> 16);
    row.text("kind", String::from_utf8_lossy(kind(message)?));
    row.bare("chain", value(TCA_CHAIN).map_or(0, |chain| u32_at(chain, 0)));
    if let Some(options) = value(TCA_OPTIONS) {
        let mut inner = Row::new();
        inner.text("handle", format!("{handle:#x}"));
        if kind(message) == Some(b"bpf") {
            bpf(&mut inner, options);
        }
        let actions = actions(kind(message).unwrap_or_default(), options);
        if !actions.is_empty() {
            inner.objects("actions", actions);
        }
        row.object("options", inner);
    }
    Some(row)
}

/// The kinds of a filter's actions, in their order.
fn actions(classifier: &[u8], options: &[u8]) -> Vec<Row> {
    let Some((_, holder)) = ACTIONS.iter().find(|(name, _)| *name == classifier) else {
        return Vec::new();
    };
    let mut all = Vec::new();
    for (_, list) in attributes(options).filter(|(kind, _)| kind == holder) {
        // Numbered from 1, and each of them a list of attributes.
        for (order, action) in attributes(list) {
            let kind = attributes(action).find(|(kind, _)| *kind == TCA_ACT_KIND);
            let Some((_, kind)) = kind else { continue };
            let kind = kind.split(|b| *b == 0).next().unwrap_or_default();
            let mut row = Row::new();
            row.bare("order", order);
            row.text("kind", String::from_utf8_lossy(kind));
            all.push(row);
        }
    }
    all
}

fn bpf(row: &mut Row, options: &[u8]) {
    for (kind, value) in attributes(options) {
        match kind {
            TCA_BPF_NAME => {
                let name = value.split(|b| *b == 0).next().unwrap_or_default();
                row.text("bpf_name", String::from_utf8_lossy(name));
            }
            TCA_BPF_ID => {
                let mut prog = Row::new();
                prog.bare("id", u32_at(value, 0));
                row.object("prog", prog);
            }
            TCA_BPF_TAG => {
                let hex: String = value.iter().map(|b| format!("{b:02x}")).collect();
                row.text("tag", hex);
            }
            _ => {}
        }
    }
}
