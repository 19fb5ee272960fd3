//! Which of its addresses the kernel sends from: `inet_select_addr` and `ipv6_dev_get_saddr`.
//!
//! Both walk the devices in the order they were registered. The snapshot has them by index, which is the
//! same order unless a device was moved into the namespace and kept a smaller index.
//! When [`Links::addresses_known`] is false `None` means nothing; the caller asks first.

use std::cmp::Ordering;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use knet_snapshot::id::{Family, IfIndex};
use knet_snapshot::link::{Address, Link, LinkKind};

use crate::table::link::Links;
use crate::table::sysctl::Sysctl;

/// `RT_SCOPE_UNIVERSE`
pub const SCOPE_UNIVERSE: u8 = 0;
/// `RT_SCOPE_LINK`
pub const SCOPE_LINK: u8 = 253;
/// `RT_SCOPE_HOST`
pub const SCOPE_HOST: u8 = 254;

/// `inet_select_addr` (`net/ipv4/devinet.c`): the first primary address of `dev` whose scope is not narrower
/// than `scope` and whose subnet holds `dst`, else the first such address of any subnet. A device without
/// one borrows: from its VRF, then from the other devices in order, never a link-scope address.
///
/// `dst` is the gateway, or `None` for any. A host-scope address (127.0.0.1) counts as link scope on a
/// device with `route_localnet`; a value that was not captured counts as 0, the default.
#[must_use]
pub fn inet_select_addr(
    links: &Links<'_>,
    sysctl: &Sysctl<'_>,
    dev: Option<IfIndex>,
    dst: Option<IpAddr>,
    scope: u8,
) -> Option<IpAddr> {
    let link = dev.and_then(|d| links.get(d));
    if let Some(link) = link {
        let localnet_scope = if sysctl.conf4_or(&link.name, "route_localnet") == Some(true) {
            SCOPE_LINK
        } else {
            SCOPE_HOST
        };
        let mut first = None;
        for a in primaries(links, link.index) {
            if a.scope.min(localnet_scope) > scope {
                continue;
            }
            if dst.is_none_or(|dst| in_subnet(a, dst)) {
                return Some(a.local);
            }
            first = first.or(Some(a.local));
        }
        if first.is_some() {
            return first;
        }
    }
    let master = link.and_then(|l| l3_master(links, l));
    if let Some(found) = master.and_then(|m| borrow4(links, m, scope)) {
        return Some(found);
    }
    links
        .iter()
        .filter(|l| l3_master(links, l) == master)
        .find_map(|l| borrow4(links, l.index, scope))
}

/// `ipv6_dev_get_saddr` (`net/ipv6/addrconf.c`): RFC 6724 with the default policy table. Rules in order:
/// same address, appropriate scope, not deprecated, outgoing device, matching label, public before
/// temporary (or the reverse with `use_tempaddr` 2), longest common prefix, first in the kernel's list.
///
/// Only the device's own addresses count for a multicast or link-local destination. Home addresses,
/// optimistic addresses and a changed `ip addrlabel` table are not in a snapshot.
#[must_use]
pub fn ipv6_dev_get_saddr(links: &Links<'_>, sysctl: &Sysctl<'_>, dev: Option<IfIndex>, dst: IpAddr) -> Option<IpAddr> {
    let IpAddr::V6(daddr) = dst else { return None };
    let dev = dev.and_then(|d| links.get(d));
    let cx = Destination {
        addr: daddr,
        dev: dev.map(|d| d.index),
        scope: scope6(daddr),
        label: label6(daddr),
    };
    let own_only = dev.is_some_and(|d| {
        daddr.is_multicast() || cx.scope <= LINKLOCAL || sysctl.conf6(&d.name, "use_oif_addrs_only") == Some(1)
    });
    let mut best = Best { cx, score: None };
    if own_only {
        if let Some(d) = dev {
            best.offer(links, sysctl, d);
        }
        return best.addr();
    }
    let master = dev.and_then(|d| l3_master(links, d));
    if let (Some(d), Some(m)) = (dev, master.and_then(|m| links.get(m))) {
        best.offer(links, sysctl, d);
        if best.scope_suffices() {
            return best.addr();
        }
        best.offer(links, sysctl, m);
        if best.scope_suffices() {
            return best.addr();
        }
    }
    for link in links.iter().filter(|l| l3_master(links, l) == master) {
        best.offer(links, sysctl, link);
    }
    best.addr()
}

/// `l3mdev_master_ifindex`: the VRF a device is, or is in.
#[must_use]
pub fn l3_master(links: &Links<'_>, link: &Link) -> Option<IfIndex> {
    if matches!(link.kind, LinkKind::Vrf { .. }) {
        return Some(link.index);
    }
    let master = links.named(link.master.as_deref()?)?;
    matches!(master.kind, LinkKind::Vrf { .. }).then_some(master.index)
}

/// The same of a device by its index.
#[must_use]
pub fn vrf_of(links: &Links<'_>, dev: IfIndex) -> Option<IfIndex> {
    links.get(dev).and_then(|link| l3_master(links, link))
}

/// `l3mdev_fib_table`: the table of the VRF a device is, or is in.
#[must_use]
pub fn l3_table(links: &Links<'_>, link: &Link) -> Option<u32> {
    match links.get(l3_master(links, link)?)?.kind {
        LinkKind::Vrf { table } => Some(table),
        _ => None,
    }
}

/// `__ipv6_addr_src_scope`: 1 node, 2 link, 5 site, 14 global; -1 for the unspecified address.
#[must_use]
pub fn scope6(addr: Ipv6Addr) -> i16 {
    let [first, second, ..] = addr.octets();
    if addr.is_unspecified() {
        -1
    } else if addr.is_multicast() {
        i16::from(second & 0xf)
    } else if addr.is_loopback() || (first == 0xfe && second & 0xc0 == 0x80) {
        LINKLOCAL
    } else if first == 0xfe && second & 0xc0 == 0xc0 {
        5
    } else {
        14
    }
}

const LINKLOCAL: i16 = 2;

fn primaries<'a, 's>(links: &'a Links<'s>, dev: IfIndex) -> impl Iterator<Item = &'s Address> + use<'a, 's> {
    links.addresses_of(dev).filter(|a| a.local.is_ipv4() && !a.secondary)
}

/// `in_dev_select_addr`
fn borrow4(links: &Links<'_>, dev: IfIndex, scope: u8) -> Option<IpAddr> {
    primaries(links, dev)
        .find(|a| a.scope != SCOPE_LINK && a.scope <= scope)
        .map(|a| a.local)
}

/// `inet_ifa_match`: by the peer address of a point-to-point link.
fn in_subnet(a: &Address, dst: IpAddr) -> bool {
    match (a.peer.unwrap_or(a.local), dst) {
        (IpAddr::V4(net), IpAddr::V4(dst)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(a.prefix_len.min(32))).unwrap_or(0);
            (u32::from(net) ^ u32::from(dst)) & mask == 0
        }
        _ => false,
    }
}

#[derive(Clone, Copy)]
struct Destination {
    addr: Ipv6Addr,
    dev: Option<IfIndex>,
    scope: i16,
    label: u8,
}

/// The rules of `ipv6_get_saddr_eval` in order: larger is better, so comparing tuples is the algorithm.
type Score = (bool, i16, bool, bool, bool, bool, bool, u8);

struct Best {
    cx: Destination,
    score: Option<(Score, Ipv6Addr)>,
}

impl Best {
    fn offer(&mut self, links: &Links<'_>, sysctl: &Sysctl<'_>, link: &Link) {
        for a in links.addresses_of(link.index) {
            let IpAddr::V6(addr) = a.local else { continue };
            if a.tentative || a.dadfailed || addr.is_unspecified() || addr.is_multicast() {
                continue;
            }
            let score = self.cx.score(sysctl, link, a, addr);
            // Only strictly better replaces: the first of equals stays.
            if self
                .score
                .as_ref()
                .is_none_or(|(best, _)| score.cmp(best) == Ordering::Greater)
            {
                self.score = Some((score, addr));
            }
        }
    }

    fn scope_suffices(&self) -> bool {
        // `scopedist >= 0` as the kernel writes it: scopes of 0 only, so the loop goes on in practice.
        self.score.as_ref().is_some_and(|(s, _)| s.1 >= 0)
    }

    fn addr(self) -> Option<IpAddr> {
        self.score.map(|(_, a)| IpAddr::V6(a))
    }
}

impl Destination {
    fn score(&self, sysctl: &Sysctl<'_>, link: &Link, a: &Address, addr: Ipv6Addr) -> Score {
        let scope = scope6(addr);
        let scope_dist = if scope >= self.scope { -scope } else { scope - 128 };
        let always_preferred = addr.is_loopback() || u128::from(addr) >> 32 == 0xffff || u128::from(addr) >> 32 == 0;
        let prefer_temporary = sysctl.conf6(&link.name, "use_tempaddr").is_some_and(|v| v >= 2);
        let common = (u128::from(addr) ^ u128::from(self.addr)).leading_zeros().min(128);
        (
            addr == self.addr,
            scope_dist,
            always_preferred || !a.deprecated,
            self.dev.is_none_or(|d| d == link.index),
            label6(addr) == self.label,
            !a.secondary ^ prefer_temporary,
            is_orchid(addr) == is_orchid(self.addr),
            u8::try_from(common).unwrap_or(128).min(a.prefix_len),
        )
    }
}

fn is_orchid(addr: Ipv6Addr) -> bool {
    u128::from(addr) >> 100 == 0x200_1001
}

/// The default table of `net/ipv6/addrlabel.c`, longest prefix first.
fn label6(addr: Ipv6Addr) -> u8 {
    const TABLE: [(u128, u32, u8); 9] = [
        (1, 128, 0),
        (0xffff_0000_0000, 96, 4),
        (0, 96, 3),
        (0x2001 << 112, 32, 6),
        (0x2001_0010 << 96, 28, 7),
        (0x2002 << 112, 16, 2),
        (0x3ffe << 112, 16, 12),
        (0xfec0 << 112, 10, 11),
        (0xfc00 << 112, 7, 5),
    ];
    let bits = u128::from(addr);
    TABLE
        .iter()
        .find(|(net, len, _)| (bits ^ net).checked_shr(128 - len).unwrap_or(0) == 0)
        .map_or(1, |t| t.2)
}

/// Whether any address of a family is on the device; `idev->ifa_list == NULL` for IPv4.
#[must_use]
pub fn has_address(links: &Links<'_>, dev: IfIndex, family: Family) -> bool {
    links.addresses_of(dev).any(|a| Family::of(a.local) == family)
}

/// 127.0.0.0/8
#[must_use]
pub const fn is_loopback4(addr: Ipv4Addr) -> bool {
    addr.octets()[0] == 127
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_scopes_are_those_of_the_default_table() {
        let label = |s: &str| label6(s.parse().expect("an address"));
        assert_eq!(
            [
                "::1",
                "2001:db8::1",
                "fd00::1",
                "2001::1",
                "2002::1",
                "::ffff:1.2.3.4",
                "::1.2.3.4",
                "2001:10::1"
            ]
            .map(label),
            [0, 1, 5, 6, 2, 4, 3, 7]
        );
        let scope = |s: &str| scope6(s.parse().expect("an address"));
        assert_eq!(
            ["::1", "fe80::1", "fec0::1", "fd00::1", "ff05::1", "::"].map(scope),
            [2, 2, 5, 14, 5, -1]
        );
    }
}
