//! Devices and the sender: `-i`, `-o`, xt_physdev.c, xt_devgroup.c, xt_mac.c, xt_pkttype.c, xt_owner.c,
//! xt_cgroup.c.

use knet_snapshot::id::{IfIndex, Mac};

use crate::skb::PktType;
use crate::stage::netfilter::HookCx;
use crate::table::xt::matches::{Cast, Owner, Physdev};
use crate::table::xt::rule::Dev;
use crate::trace::Hook;
use crate::tri::Tri;

/// `xt_in(par)`. POSTROUTING has one since Linux 5.7 ("netfilter: Support iif matches in POSTROUTING").
pub(super) fn input(cx: &HookCx<'_, '_>) -> Option<IfIndex> {
    if cx.hook == Hook::Output { None } else { cx.skb.iif }
}

/// `xt_out(par)`: known only after routing.
pub(super) fn output(cx: &HookCx<'_, '_>) -> Option<IfIndex> {
    match cx.hook {
        Hook::Prerouting | Hook::Input | Hook::Ingress => None,
        _ => cx.skb.oif,
    }
}

/// Name of a device; `Err` when there is one whose name is not known.
fn name<'s>(dev: Option<IfIndex>, cx: &HookCx<'_, 's>) -> Result<Option<&'s str>, ()> {
    match dev {
        None => Ok(None),
        Some(index) => cx.ns.links().get(index).map(|l| Some(l.name.as_str())).ok_or(()),
    }
}

/// Name of a device for a set, which takes none for one that is not known.
pub(super) fn known_name<'s>(dev: Option<IfIndex>, cx: &HookCx<'_, 's>) -> Option<&'s str> {
    name(dev, cx).ok().flatten()
}

/// A device against a pattern; no device has the empty name.
pub(super) fn named(pattern: &Dev, dev: Option<IfIndex>, cx: &HookCx<'_, '_>) -> Tri {
    if pattern.prefix && pattern.name.is_empty() {
        return (!pattern.invert).into();
    }
    match name(dev, cx) {
        Ok(name) => pattern.fits(name.unwrap_or("")).into(),
        Err(()) => Tri::Unknown,
    }
}

pub(super) fn physdev(m: &Physdev, cx: &HookCx<'_, '_>) -> Tri {
    let (physin, physout) = (cx.skb.physin, cx.skb.physout);
    let bare = [m.is_in, m.is_out, m.bridged];
    let named_devs = [&m.iif, &m.oif];
    if physin.is_none() && physout.is_none() {
        // "Return MATCH if the invert flags of the used options are on."
        let inverted = bare.iter().flatten().all(|invert| *invert)
            && named_devs.iter().filter_map(|d| d.as_ref()).all(|d| d.invert);
        return inverted.into();
    }
    // A packet is bridged when it has an output port.
    let there = [physin.is_some(), physout.is_some(), physout.is_some()];
    if bare
        .iter()
        .zip(there)
        .any(|(invert, there)| invert.is_some_and(|invert| there == invert))
    {
        return Tri::No;
    }
    let fits = |pattern: &Option<Dev>, dev: Option<IfIndex>| match (pattern, dev) {
        // Without a device on this side the name is not compared.
        (Some(pattern), Some(_)) => named(pattern, dev, cx),
        _ => Tri::Yes,
    };
    let iif = fits(&m.iif, physin);
    let oif = match (&m.oif, physout) {
        // The output name of a packet that has no output port differs from every name.
        (Some(pattern), None) => pattern.invert.into(),
        (pattern, dev) => fits(pattern, dev),
    };
    iif.and(oif)
}

type Group = Option<(u32, u32, bool)>;

pub(super) fn devgroup(src: Group, dst: Group, cx: &HookCx<'_, '_>) -> Tri {
    let one = |want: Group, dev: Option<IfIndex>| {
        let Some((group, mask, invert)) = want else {
            return Tri::Yes;
        };
        // The kernel allows the match only where the device exists.
        let Some(dev) = dev else { return Tri::Unknown };
        match cx.ns.links().get(dev) {
            Some(link) => Tri::from((link.group.unwrap_or(0) ^ group) & mask == 0).xor(invert),
            None => Tri::Unknown,
        }
    };
    one(src, input(cx)).and(one(dst, output(cx)))
}

/// A packet without an Ethernet header (sent here, or from a device that is not Ethernet, which loopback is
/// not) never matches.
pub(super) fn mac(mac: Mac, invert: bool, cx: &HookCx<'_, '_>) -> Tri {
    let loopback = input(cx)
        .and_then(|dev| cx.ns.links().get(dev))
        .is_some_and(|l| l.flags.loopback);
    match cx.skb.eth.filter(|_| !loopback) {
        None => Tri::No,
        Some(eth) => eth.src.map_or(Tri::Unknown, |src| Tri::from(src == mac).xor(invert)),
    }
}

pub(super) fn pkttype(kind: Cast, cx: &HookCx<'_, '_>) -> Tri {
    let same = match cx.skb.pkt_type {
        PktType::Host => kind == Cast::Unicast,
        PktType::Broadcast => kind == Cast::Broadcast,
        PktType::Multicast => kind == Cast::Multicast,
        PktType::OtherHost => kind == Cast::OtherHost,
    };
    same.into()
}

/// `owner_mt`: a packet without a full socket matches only when everything asked for is inverted.
pub(super) fn owner(m: &Owner, cx: &HookCx<'_, '_>) -> Tri {
    if cx.skb.sender.is_some_and(|s| s.control) {
        // A socket without a file: it exists, and has no owner.
        let owners = [m.uid.map(|u| u.2), m.gid.map(|g| g.2)];
        return Tri::from(m.exists != Some(true) && owners.iter().flatten().all(|invert| *invert));
    }
    let Some(sender) = cx.skb.sender.filter(|s| s.socket) else {
        let inverts = [m.uid.map(|u| u.2), m.gid.map(|g| g.2), m.exists];
        return inverts.iter().flatten().all(|invert| *invert).into();
    };
    if m.exists == Some(true) {
        return Tri::No;
    }
    let id = |want: Group, id: Option<u32>| {
        let Some((min, max, invert)) = want else {
            return Tri::Yes;
        };
        id.map_or(Tri::Unknown, |id| Tri::from((min..=max).contains(&id)).xor(invert))
    };
    let gid = id(m.gid, sender.gid);
    // Supplementary groups are not in a snapshot.
    let gid = if m.groups && m.gid.is_some() && gid != Tri::Yes {
        Tri::Unknown
    } else {
        gid
    };
    id(m.uid, sender.uid).and(gid)
}

/// A packet without a full socket is in no group; `!` does not change that.
pub(super) fn cgroup(cx: &HookCx<'_, '_>) -> Tri {
    if cx.skb.sender.is_some_and(|s| s.socket) {
        Tri::Unknown
    } else {
        Tri::No
    }
}
