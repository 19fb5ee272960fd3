//! A set as a table to probe.

use hashbrown::{HashMap, HashSet};
use knet_snapshot::id::Family;
use knet_snapshot::ipset::{IpSet, Member};

use super::entry::{self, Key, Shape, Unreadable};
use super::kind::{Field, Kind, host_len, prefix_mask};

/// A compiled set.
#[derive(Debug)]
pub(super) struct Compiled<'s> {
    pub(super) kind: Kind,
    /// `None`: packets of both families are looked up.
    pub(super) family: Option<Family>,
    /// `netmask` or `bitmask` of the set.
    pub(super) mask: u128,
    pub(super) markmask: u32,
    /// The set has counters.
    pub(super) counters: bool,
    /// A member could not be read.
    pub(super) opaque: bool,
    pub(super) members: Members<'s>,
}

/// The members of a set.
#[derive(Debug)]
pub(super) enum Members<'s> {
    /// The type, or an option of it, is not modelled.
    Unsupported,
    /// `list:set`: the sets in the order they are asked, with the index of the member.
    List(Vec<(&'s str, usize)>),
    /// Everything else.
    Hash(Table<'s>),
}

/// What a key leads to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) member: u32,
    pub(super) nomatch: bool,
}

/// A `hash:net,iface` member under its network.
#[derive(Clone, Copy, Debug)]
pub(super) struct Device<'s> {
    pub(super) name: &'s str,
    pub(super) wildcard: bool,
    pub(super) slot: Slot,
}

/// The elements of a set. Look-ups only.
#[derive(Debug, Default)]
pub(super) struct Table<'s> {
    pub(super) slots: HashMap<Key, Slot>,
    /// Members with a device, under the key without it, in the order of the dump: members of one network
    /// share a hash bucket, and a bucket is searched in the order in which it is dumped.
    pub(super) devices: HashMap<Key, Vec<Device<'s>>>,
    /// The keys of `slots` with the port left out, where members have addresses as well: for a packet whose port
    /// nobody knows.
    pub(super) portless: HashSet<Key>,
    /// Prefix lengths of the first and second address, longest first, as in `h->nets`.
    pub(super) lens: [Vec<u8>; 2],
}

/// The options of a `create` line that decide.
#[derive(Default)]
struct Options {
    family: Option<Family>,
    netmask: Option<u8>,
    bitmask: Option<String>,
    markmask: Option<u32>,
    counters: bool,
}

impl<'s> Compiled<'s> {
    /// Compiles a set. `damaged`: part of it could not be read at all.
    pub(super) fn new(set: &'s IpSet, damaged: bool) -> Self {
        let kind = Kind::parse(&set.kind);
        let mut this = Self {
            kind,
            family: None,
            mask: u128::MAX,
            markmask: u32::MAX,
            counters: false,
            opaque: damaged,
            members: Members::Unsupported,
        };
        let Ok(options) = create_options(&set.options) else {
            return this;
        };
        this.counters = options.counters;
        let family = if set.kind.starts_with("bitmap:") {
            Family::V4
        } else {
            options.family.unwrap_or(Family::V4)
        };
        this.family = kind.has_family().then_some(family);
        this.markmask = options.markmask.unwrap_or(u32::MAX);
        this.mask = match (options.netmask, options.bitmask) {
            (Some(len), _) => prefix_mask(family, len),
            (None, Some(mask)) => match entry::address(&mask, family) {
                Ok(mask) => mask,
                Err(Unreadable) => return this,
            },
            (None, None) => u128::MAX,
        };
        this.members = match kind {
            Kind::Unknown => Members::Unsupported,
            Kind::List => this.list(&set.members),
            Kind::Fields(fields) => this.table(fields, family, &set.members),
        };
        this
    }

    fn table(&mut self, fields: &'static [Field], family: Family, members: &'s [Member]) -> Members<'s> {
        let shape = Shape {
            fields,
            family,
            mask: self.mask,
            markmask: self.markmask,
        };
        let mut table = Table::default();
        let has = |wanted: &[Field]| fields.iter().any(|f| wanted.contains(f));
        let portless = has(&[Field::L4, Field::AnyPort]) && has(&[Field::Ip, Field::Net]);
        let mut lens = [[false; 129]; 2];
        for (at, member) in members.iter().enumerate() {
            let parsed = entry::parse(&member.entry, &shape);
            let (Ok((keys, iface)), Ok(flags), Ok(at)) = (parsed, member_flags(&member.options), u32::try_from(at))
            else {
                self.opaque = true;
                continue;
            };
            let slot = Slot {
                member: at,
                nomatch: flags.nomatch && self.kind.has_nomatch(),
            };
            for key in keys {
                lens[0][usize::from(key.len[0])] = true;
                lens[1][usize::from(key.len[1])] = true;
                match iface {
                    Some(name) => {
                        let device = Device {
                            name,
                            wildcard: flags.wildcard,
                            slot,
                        };
                        table.devices.entry(key).or_default().push(device);
                    }
                    None => {
                        if portless {
                            table.portless.insert(Key { port: 0, ..key });
                        }
                        table.slots.entry(key).or_insert(slot);
                    }
                }
            }
        }
        let mut addresses = 0;
        for field in fields.iter().filter(|f| matches!(f, Field::Ip | Field::Net)) {
            table.lens[addresses] = match field {
                Field::Net => (0..=host_len(family))
                    .rev()
                    .filter(|&l| lens[addresses][usize::from(l)])
                    .collect(),
                _ => vec![host_len(family)],
            };
            addresses += 1;
        }
        // A dimension the type has not is one probe of length zero.
        table.lens[addresses..].iter_mut().for_each(|lens| lens.push(0));
        Members::Hash(table)
    }

    /// `list_set_uadd`: at the end, or next to the set named by `before` or `after`.
    fn list(&mut self, members: &'s [Member]) -> Members<'s> {
        let mut order: Vec<(&'s str, usize)> = Vec::with_capacity(members.len());
        for (at, member) in members.iter().enumerate() {
            let Ok(flags) = member_flags(&member.options) else {
                self.opaque = true;
                continue;
            };
            let place = |name: &str| order.iter().position(|(n, _)| *n == name);
            let to = match (flags.before.map(place), flags.after.map(place)) {
                (Some(next), _) => next,
                (None, Some(prev)) => prev.map(|p| p + 1),
                (None, None) => Some(order.len()),
            };
            match to {
                Some(to) => order.insert(to, (&member.entry, at)),
                None => self.opaque = true,
            }
        }
        Members::List(order)
    }
}

#[derive(Default)]
struct MemberFlags<'s> {
    nomatch: bool,
    wildcard: bool,
    before: Option<&'s str>,
    after: Option<&'s str>,
}

fn member_flags(options: &[String]) -> Result<MemberFlags<'_>, Unreadable> {
    let mut flags = MemberFlags::default();
    let mut words = options.iter().map(String::as_str);
    while let Some(word) = words.next() {
        match word {
            "nomatch" => flags.nomatch = true,
            "wildcard" => flags.wildcard = true,
            "before" => flags.before = Some(words.next().ok_or(Unreadable)?),
            "after" => flags.after = Some(words.next().ok_or(Unreadable)?),
            // A member that is there at the time of capture is there, however long it has left.
            "timeout" | "packets" | "bytes" | "skbmark" | "skbprio" | "skbqueue" | "comment" => {
                words.next().ok_or(Unreadable)?;
            }
            _ => return Err(Unreadable),
        }
    }
    Ok(flags)
}

fn create_options(options: &[String]) -> Result<Options, Unreadable> {
    let mut out = Options::default();
    let mut words = options.iter().map(String::as_str);
    while let Some(word) = words.next() {
        let mut argument = || words.next().ok_or(Unreadable);
        match word {
            "family" => {
                out.family = Some(match argument()? {
                    "inet" | "ipv4" => Family::V4,
                    "inet6" | "ipv6" => Family::V6,
                    _ => return Err(Unreadable),
                });
            }
            "netmask" => out.netmask = Some(argument()?.parse().map_err(|_| Unreadable)?),
            "bitmask" => out.bitmask = Some(argument()?.to_owned()),
            "markmask" => out.markmask = Some(entry::number(argument()?)?),
            "counters" => out.counters = true,
            "comment" | "skbinfo" | "forceadd" => {}
            // How the set is stored, not what is in it. Members outside `range` cannot be added.
            "range" | "size" | "timeout" | "hashsize" | "maxelem" | "bucketsize" | "initval" | "probes" | "resize"
            | "gc" => {
                argument()?;
            }
            _ => return Err(Unreadable),
        }
    }
    Ok(out)
}
