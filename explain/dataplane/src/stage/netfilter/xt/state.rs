//! Marks and connections: xt_mark.c, xt_connmark.c, xt_conntrack.c, xt_helper.c.

use crate::packet::Port;
use crate::skb::{Ct, CtState, Dir};
use crate::stage::conntrack::Entry;
use crate::stage::netfilter::HookCx;
use crate::table::xt::matches::{Conntrack, Masked, PortRange, ct_state, ct_status};
use crate::tri::Tri;

pub(super) fn masked(field: u32, m: &Masked) -> Tri {
    Tri::from(field & m.mask == m.value).xor(m.invert)
}

/// A packet without a connection never matches, inverted or not.
pub(super) fn connmark(m: &Masked, cx: &HookCx<'_, '_>) -> Tri {
    match cx.ct.entry(cx.skb.ct) {
        // A template has a mark: 0.
        None if cx.skb.template => masked(0, m),
        None => Tri::No,
        Some(entry) => match entry.mark {
            Some(mark) => masked(mark, m),
            None if m.mask == 0 => masked(0, m),
            None => Tri::Unknown,
        },
    }
}

/// `conntrack_mt`: without a connection only the state is looked at, whatever else the rule asks; a rule
/// that does not ask for the state then does not match.
pub(super) fn conntrack(m: &Conntrack, cx: &HookCx<'_, '_>) -> Tri {
    let entry = cx.ct.entry(cx.skb.ct);
    // `nf_ct_set(skb, template, IP_CT_NEW)`
    let bits = if cx.skb.template {
        ct_state::NEW
    } else {
        state_bits(cx.skb.ct, entry)
    };
    if let Some((wanted, invert)) = m.state
        && (bits & wanted != 0) == invert
    {
        return Tri::No;
    }
    let (Some(entry), Ct::Of { dir, .. }) = (entry, cx.skb.ct) else {
        return m.state.is_some().into();
    };
    if m.original.is_some_and(|original| original != (dir == Dir::Original)) {
        return Tri::No;
    }
    let addrs = [entry.orig.src, entry.orig.dst, entry.reply.src, entry.reply.dst];
    if m.addrs
        .iter()
        .zip(addrs)
        .any(|(net, addr)| net.is_some_and(|n| !n.holds(addr)))
    {
        return Tri::No;
    }
    if m.proto
        .is_some_and(|(number, invert)| (number == entry.proto) == invert)
    {
        return Tri::No;
    }
    if let Some((wanted, invert)) = m.status
        && (status_bits(entry) & wanted != 0) == invert
    {
        return Tri::No;
    }
    let ports = [entry.orig.sport, entry.orig.dport, entry.reply.sport, entry.reply.dport];
    let ports = m
        .ports
        .iter()
        .zip(ports)
        .fold(Tri::Yes, |acc, (range, port)| acc.and(in_range(port, range.as_ref())));
    ports.and(if m.expire { Tri::Unknown } else { Tri::Yes })
}

fn in_range(port: Port, range: Option<&PortRange>) -> Tri {
    match range {
        None => Tri::Yes,
        Some(r) if port.drawn && (r.min, r.max) != (0, u16::MAX) => Tri::Unknown,
        Some(r) => r.holds(port.value).into(),
    }
}

fn state_bits(ct: Ct, entry: Option<&Entry>) -> u8 {
    let state = match ct {
        // Before conntrack saw the packet, and when it found it invalid, there is no nf_conn.
        Ct::None | Ct::Invalid => ct_state::INVALID,
        Ct::Untracked => ct_state::UNTRACKED,
        Ct::Of {
            state: CtState::New, ..
        } => ct_state::NEW,
        Ct::Of {
            state: CtState::Established,
            ..
        } => ct_state::ESTABLISHED,
        Ct::Of {
            state: CtState::Related,
            ..
        } => ct_state::RELATED,
    };
    let nat = entry.map_or(0, |e| {
        (if e.snat { ct_state::SNAT } else { 0 }) | (if e.dnat { ct_state::DNAT } else { 0 })
    });
    state | nat
}

fn status_bits(entry: &Entry) -> u8 {
    let bit = |on: bool, bit: u8| if on { bit } else { 0 };
    bit(entry.master.is_some(), ct_status::EXPECTED)
        | bit(entry.seen_reply, ct_status::SEEN_REPLY)
        | bit(entry.assured, ct_status::ASSURED)
        | bit(entry.confirmed, ct_status::CONFIRMED)
}

/// xt_helper.c: `ret = info->invert` stands unless the connection has a master with the helper asked for.
pub(super) fn helper(name: &str, invert: bool, cx: &HookCx<'_, '_>) -> Tri {
    let Some(entry) = cx.ct.entry(cx.skb.ct) else {
        return invert.into();
    };
    let Some(master) = entry.master.and_then(|i| cx.ct.entries().get(i)) else {
        return invert.into();
    };
    let hit = match &master.helper {
        None => return invert.into(),
        // The kernel compares as many characters as the helper's own name has.
        Some(helper) => name.is_empty() || name.starts_with(helper.as_str()),
    };
    Tri::from(hit != invert)
}
