//! Members as `ipset save` prints them, and as `ipset restore` takes them (ranges).

use std::net::IpAddr;

use knet_snapshot::id::{Family, Mac};
use smallvec::{SmallVec, smallvec};

use super::kind::{Field, host_len, prefix_mask};
use super::names;
use super::query::bits;

/// No member spreads over more elements than this; `ipset save` never prints a range at all.
const MAX_ELEMENTS: usize = 1 << 16;

/// What a set's table is keyed by; the fields a type has not are zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// Addresses in the order of the dimensions that have one.
    pub(super) addr: [u128; 2],
    /// Their prefix lengths.
    pub(super) len: [u8; 2],
    pub(super) proto: u8,
    pub(super) port: u16,
    /// MAC, mark, or 1 for `physdev:`.
    pub(super) tail: u64,
}

/// The tail of a `bitmap:ip,mac` member that has no MAC yet.
pub(super) const NO_MAC: u64 = u64::MAX;

/// A link-layer address as the tail of a [`Key`].
pub(super) fn mac_bits(mac: Mac) -> u64 {
    mac.0.iter().fold(0, |bits, &byte| bits << 8 | u64::from(byte))
}

/// The options of a `create` line that decide.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) fields: &'static [Field],
    pub(super) family: Family,
    /// `netmask` or `bitmask`.
    pub(super) mask: u128,
    pub(super) markmask: u32,
}

/// The text is not a member of such a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

type Prefixes = SmallVec<[(u128, u8); 1]>;

/// The elements a member stands for, and the device of a `hash:net,iface` member.
pub(super) fn parse<'a>(entry: &'a str, shape: &Shape) -> Result<(Vec<Key>, Option<&'a str>), Unreadable> {
    let mut keys = vec![Key::default()];
    let mut iface = None;
    let mut parts = entry.split(',');
    let mut addresses = 0;
    for (at, &field) in shape.fields.iter().enumerate() {
        let part = match (parts.next(), field) {
            (Some(part), _) if !part.is_empty() => part,
            // `bitmap:ip,mac` learns the MAC from the first packet.
            (None, Field::Mac) if at > 0 => {
                keys.iter_mut().for_each(|key| key.tail = NO_MAC);
                continue;
            }
            _ => return Err(Unreadable),
        };
        match field {
            Field::Ip | Field::Net => {
                let prefixes = prefixes(part, field, shape)?;
                keys = spread(&keys, &prefixes, |key, &(addr, len)| {
                    key.addr[addresses] = addr;
                    key.len[addresses] = len;
                })?;
                addresses += 1;
            }
            Field::L4 | Field::AnyPort => {
                let (proto, first, last) = ports(part)?;
                let proto = if field == Field::AnyPort { 0 } else { proto };
                let ports: Vec<u16> = (first..=last).collect();
                keys = spread(&keys, &ports, |key, &port| {
                    key.proto = proto;
                    key.port = port;
                })?;
            }
            Field::Mac => {
                let mac: Mac = part.parse().map_err(|_| Unreadable)?;
                keys.iter_mut().for_each(|key| key.tail = mac_bits(mac));
            }
            Field::Mark => {
                let mark = number(part)? & shape.markmask;
                keys.iter_mut().for_each(|key| key.tail = u64::from(mark));
            }
            Field::Iface => {
                let (phys, name) = part.strip_prefix("physdev:").map_or((0, part), |name| (1, name));
                if name.is_empty() {
                    return Err(Unreadable);
                }
                keys.iter_mut().for_each(|key| key.tail = phys);
                iface = Some(name);
            }
        }
    }
    if parts.next().is_some() {
        Err(Unreadable)
    } else {
        Ok((keys, iface))
    }
}

/// A number as `ipset` prints marks.
pub(super) fn number(text: &str) -> Result<u32, Unreadable> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => text.parse(),
    }
    .map_err(|_| Unreadable)
}

/// An address of the family.
pub(super) fn address(text: &str, family: Family) -> Result<u128, Unreadable> {
    let addr: IpAddr = text.parse().map_err(|_| Unreadable)?;
    if Family::of(addr) == family {
        Ok(bits(addr))
    } else {
        Err(Unreadable)
    }
}

fn spread<T>(keys: &[Key], values: &[T], set: impl Fn(&mut Key, &T)) -> Result<Vec<Key>, Unreadable> {
    if keys.len().saturating_mul(values.len()) > MAX_ELEMENTS {
        return Err(Unreadable);
    }
    let mut out = Vec::with_capacity(keys.len() * values.len());
    for key in keys {
        for value in values {
            let mut key = *key;
            set(&mut key, value);
            out.push(key);
        }
    }
    Ok(out)
}

/// `a`, `a/len` and `a-b`. A dimension of networks keeps prefixes (a range is cut into the fewest that
/// cover it); one of addresses spreads into each address.
fn prefixes(text: &str, field: Field, shape: &Shape) -> Result<Prefixes, Unreadable> {
    let host = host_len(shape.family);
    let (first, last) = if let Some((addr, len)) = text.split_once('/') {
        let len: u8 = len.parse().map_err(|_| Unreadable)?;
        if len > host {
            return Err(Unreadable);
        }
        let mask = prefix_mask(shape.family, len);
        let first = address(addr, shape.family)? & mask;
        if field == Field::Net {
            return Ok(smallvec![(first & shape.mask, len)]);
        }
        (first, first | (prefix_mask(shape.family, host) & !mask))
    } else if let Some((a, b)) = text.split_once('-') {
        let (a, b) = (address(a, shape.family)?, address(b, shape.family)?);
        (a.min(b), a.max(b))
    } else {
        let addr = address(text, shape.family)?;
        (addr, addr)
    };
    let mut out = Prefixes::new();
    let mut next = first;
    loop {
        // The largest aligned block that starts here and does not reach past the end.
        let mut len = host;
        if field == Field::Net {
            while len > 0 {
                let wider = !prefix_mask(shape.family, len - 1) & prefix_mask(shape.family, host);
                if next & wider != 0 || next | wider > last {
                    break;
                }
                len -= 1;
            }
        }
        out.push((next & shape.mask, len));
        let end = next | (!prefix_mask(shape.family, len) & prefix_mask(shape.family, host));
        if end >= last {
            return Ok(out);
        }
        if out.len() >= MAX_ELEMENTS {
            return Err(Unreadable);
        }
        next = end + 1;
    }
}

/// `tcp:80`, `udp:53-60`, `icmp:echo-request`, `icmp:8/0`, `gre:0`, `80` (TCP).
fn ports(text: &str) -> Result<(u8, u16, u16), Unreadable> {
    let (proto, port) = match text.split_once(':') {
        Some((proto, port)) => (names::protocol(proto).ok_or(Unreadable)?, port),
        None => (crate::packet::proto::TCP, text),
    };
    if matches!(proto, crate::packet::proto::ICMP | crate::packet::proto::ICMPV6) {
        let v6 = proto == crate::packet::proto::ICMPV6;
        let port = names::icmp(port, v6).ok_or(Unreadable)?;
        return Ok((proto, port, port));
    }
    let number = |text: &str| text.parse::<u16>().map_err(|_| Unreadable);
    let (first, last) = match port.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(port)?, number(port)?),
    };
    Ok((proto, first.min(last), first.max(last)))
}
