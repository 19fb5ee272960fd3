//! What kind of address one is: `inet_addr_type`, `inet_dev_addr_type`, `match_lookup_rt6`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use knet_snapshot::id::{IfIndex, TableId};
use knet_snapshot::route::RouteKind;

use super::{Answer, Depth, Fib, Query};
use crate::choice::Oracle;
use crate::table::source::l3_table;

impl Fib<'_> {
    /// The kind of an address, and with `dev` only as far as it is that device's. `None`: not captured.
    ///
    /// IPv4 asks table `local` alone (a VRF's own table), never the rules. IPv6 asks for a route as a local
    /// sender would: `Local`, `Anycast`, `Multicast`, `Unreachable` (any failure) or `Unicast`. An IPv6
    /// address that is local is unicast as well; `-m addrtype` asks about both.
    #[must_use]
    pub fn addr_type(&self, addr: IpAddr, dev: Option<IfIndex>) -> Option<RouteKind> {
        match addr {
            IpAddr::V4(a) => self.addr_type4(a, dev),
            IpAddr::V6(a) => self.addr_type6(a, dev),
        }
    }

    /// `inet_addr_type_dev_table`: as for `dev`'s VRF, but whichever device has the address.
    #[must_use]
    pub fn addr_type_in(&self, addr: IpAddr, dev: Option<IfIndex>) -> Option<RouteKind> {
        match addr {
            IpAddr::V4(a) => special4(a).map_or_else(
                || {
                    self.table_kind4(self.local_table(dev), a)
                        .map(|h| h.map_or(RouteKind::Unicast, |h| h.kind))
                },
                Some,
            ),
            IpAddr::V6(a) => self.addr_type6(a, None),
        }
    }

    /// `__inet_dev_addr_type`
    fn addr_type4(&self, addr: Ipv4Addr, dev: Option<IfIndex>) -> Option<RouteKind> {
        if let Some(kind) = special4(addr) {
            return Some(kind);
        }
        let hit = self.table_kind4(self.local_table(dev), addr)?;
        // The device of the first next hop is compared, not of the one that was found.
        let own = |h: &super::Hit<'_>| dev.is_none() || h.hops.first().and_then(|n| n.oif) == dev;
        Some(hit.filter(own).map_or(RouteKind::Unicast, |h| h.kind))
    }

    fn addr_type6(&self, addr: Ipv6Addr, dev: Option<IfIndex>) -> Option<RouteKind> {
        if addr.is_multicast() {
            return Some(RouteKind::Multicast);
        }
        if let Some(dev) = dev {
            if !self.links.addresses_known {
                return None;
            }
            let usable = |a: &&knet_snapshot::link::Address| a.local == IpAddr::V6(addr) && !a.tentative;
            if self.links.addresses_of(dev).any(|a| usable(&a)) {
                return Some(RouteKind::Local);
            }
        }
        let query = Query {
            oif: dev,
            ..Query::to(IpAddr::V6(addr))
        };
        let mut oracle = Oracle::default();
        let depth = Depth {
            any_path: true,
            ..Depth::default()
        };
        let answer = self.lookup_to(&query, depth, &mut oracle).answer;
        // Whatever the oracle had to be asked is not known.
        if !oracle.taken().is_empty() {
            return None;
        }
        match answer {
            Answer::Route(hit) => match hit.kind {
                RouteKind::Local if dev.is_none() => Some(RouteKind::Local),
                RouteKind::Local | RouteKind::Unicast | RouteKind::Multicast | RouteKind::Broadcast => {
                    Some(RouteKind::Unicast)
                }
                RouteKind::Anycast => Some(RouteKind::Anycast),
                _ => Some(RouteKind::Unreachable),
            },
            Answer::Rule(_) | Answer::None => Some(RouteKind::Unreachable),
            Answer::Unknown(_) => None,
        }
    }

    fn local_table(&self, dev: Option<IfIndex>) -> TableId {
        let link = dev.and_then(|d| self.links.get(d));
        link.and_then(|l| l3_table(&self.links, l))
            .map_or(TableId::LOCAL, TableId)
    }

    /// `__ip_dev_find`: the device whose own address this is, else the one that table `local` has it on, so
    /// that all of 127/8 and any `local` prefix count. `None`: not captured; `Some(None)`: nobody's.
    #[must_use]
    pub fn device_of(&self, addr: IpAddr) -> Option<Option<IfIndex>> {
        if let Some(owner) = self.links.owner(addr) {
            return Some(Some(owner));
        }
        let IpAddr::V4(addr) = addr else {
            return self.links.addresses_known.then_some(None);
        };
        let hit = self.table_kind4(TableId::LOCAL, addr)?;
        match hit.filter(|h| h.kind == RouteKind::Local) {
            Some(hit) => hit.oif.map(Some),
            None => self.links.addresses_known.then_some(None),
        }
    }
}

/// Kinds that need no table.
fn special4(addr: Ipv4Addr) -> Option<RouteKind> {
    if addr.is_unspecified() || addr.is_broadcast() {
        Some(RouteKind::Broadcast)
    } else if addr.is_multicast() {
        Some(RouteKind::Multicast)
    } else {
        None
    }
}
