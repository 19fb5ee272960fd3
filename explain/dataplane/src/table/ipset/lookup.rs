//! `mtype_test` and `mtype_test_cidrs` of `ip_set_hash_gen.h`, and the bitmaps.

use super::Doubt;
use super::compile::{Compiled, Members, Table};
use super::entry::{Key, NO_MAC, mac_bits};
use super::kind::{Field, prefix_mask};
use super::query::{SetQuery, Value};
use crate::packet::Packet;

/// What a set says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// This member decides.
    Hit { member: usize, nomatch: bool },
    /// No member does.
    Nothing,
}

/// Looks a packet up in a set that is not a list.
pub(super) fn test(set: &Compiled<'_>, query: &SetQuery<'_>) -> Result<Found, Doubt> {
    let Members::Hash(table) = &set.members else {
        return Err(Doubt::Type);
    };
    let fields = set.kind.fields();
    if query.dirs.len() < fields.len() || set.family.is_some_and(|f| f != Packet::family(query.packet)) {
        return Ok(Found::Nothing);
    }
    let mut key = Key::default();
    let mut device = None;
    let mut doubt = None;
    let mut addresses = 0;
    for (&field, &side) in fields.iter().zip(query.dirs) {
        match query.value(field, side) {
            Value::Absent => return Ok(Found::Nothing),
            Value::Doubt(why) => {
                doubt = doubt.or(Some(why));
                if field == Field::L4 {
                    key.proto = query.packet.proto;
                }
            }
            Value::Addr(addr) => {
                key.addr[addresses] = addr & set.mask;
                addresses += 1;
            }
            Value::L4 { proto, port } => (key.proto, key.port) = (proto, port),
            Value::Mac(mac) => key.tail = mac_bits(mac),
            Value::Mark(mark) => key.tail = u64::from(mark & set.markmask),
            Value::Iface(name) => {
                key.tail = u64::from(query.flags.physdev);
                device = Some(name);
            }
        }
    }
    if table.slots.is_empty() && table.devices.is_empty() && !set.opaque {
        return Ok(Found::Nothing);
    }
    let found = match (doubt, device) {
        (Some(Doubt::Port), None) if !table.portless.is_empty() => by_any_port(set, table, key),
        (Some(why), _) => waiting_for_mac(table, fields, &key).ok_or(why),
        (None, Some(name)) => by_device(set, table, key, name),
        (None, None) => Ok(by_key(set, table, fields, key)),
    }?;
    // A member nobody can read could be the one that decides, unless no prefix takes precedence over
    // the member that was found.
    match found {
        Found::Hit { .. } if !set.kind.has_nomatch() => Ok(found),
        _ if set.opaque => Err(Doubt::Member),
        _ => Ok(found),
    }
}

/// Without a member for these addresses at any port, the port does not matter.
fn by_any_port(set: &Compiled<'_>, table: &Table<'_>, key: Key) -> Result<Found, Doubt> {
    let key = Key { port: 0, ..key };
    let mut pairs = table.lens[0]
        .iter()
        .flat_map(|&first| table.lens[1].iter().map(move |&second| [first, second]));
    if pairs.any(|len| table.portless.contains(&cut(set, key, len))) {
        return Err(Doubt::Port);
    }
    Ok(Found::Nothing)
}

/// `bitmap_ipmac_do_test` on a member without MAC: `-EAGAIN`, which `ip_set_test` takes for a match (and
/// fills in the MAC of this packet).
fn waiting_for_mac(table: &Table<'_>, fields: &[Field], key: &Key) -> Option<Found> {
    if !matches!(fields, [Field::Ip, Field::Mac]) {
        return None;
    }
    let key = Key {
        tail: NO_MAC,
        len: [*table.lens[0].first()?, 0],
        ..*key
    };
    let slot = table.slots.get(&key)?;
    Some(Found::Hit {
        member: slot.member as usize,
        nomatch: slot.nomatch,
    })
}

/// Longest prefix of the first address first, within it longest of the second.
fn by_key(set: &Compiled<'_>, table: &Table<'_>, fields: &[Field], key: Key) -> Found {
    for &first in &table.lens[0] {
        for &second in &table.lens[1] {
            if let Some(slot) = table.slots.get(&cut(set, key, [first, second])) {
                return Found::Hit {
                    member: slot.member as usize,
                    nomatch: slot.nomatch,
                };
            }
        }
    }
    waiting_for_mac(table, fields, &key).unwrap_or(Found::Nothing)
}

/// `hash:net,iface`. All members of one network are in one bucket; the first that fits the device
/// decides. When members of the network were met and none fits, the search ends there: shorter prefixes
/// are **not** tried (`multi` in `mtype_test_cidrs`).
fn by_device(set: &Compiled<'_>, table: &Table<'_>, key: Key, name: &str) -> Result<Found, Doubt> {
    // Members of the same network that differ in `physdev:` hash elsewhere, and end the search only if
    // the two hashes happen to fall into one bucket.
    let mut collision = false;
    for &len in &table.lens[0] {
        let key = cut(set, key, [len, 0]);
        if let Some(devices) = table.devices.get(&key) {
            let fits = |stored: &str, wildcard: bool| {
                if wildcard {
                    name.starts_with(stored)
                } else {
                    name == stored
                }
            };
            return match devices.iter().find(|d| fits(d.name, d.wildcard)) {
                Some(_) if collision => Err(Doubt::HashSeed),
                Some(d) => Ok(Found::Hit {
                    member: d.slot.member as usize,
                    nomatch: d.slot.nomatch,
                }),
                None => Ok(Found::Nothing),
            };
        }
        collision |= table.devices.contains_key(&Key {
            tail: 1 - key.tail.min(1),
            ..key
        });
    }
    Ok(Found::Nothing)
}

fn cut(set: &Compiled<'_>, key: Key, len: [u8; 2]) -> Key {
    let mask = |addr: u128, len: u8| set.family.map_or(0, |family| addr & prefix_mask(family, len));
    Key {
        addr: [mask(key.addr[0], len[0]), mask(key.addr[1], len[1])],
        len,
        ..key
    }
}
