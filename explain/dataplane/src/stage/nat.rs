//! Address translation: `nf_nat_setup_info`, `get_unique_tuple`, `nf_nat_packet`,
//! `nf_nat_icmp_reply_translation`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::choice::{Chance, Oracle, ratio};
pub use crate::nat_range::NatRange;
use crate::packet::{L4, Packet, Port};
use crate::skb::{Ct, CtState, Dir, Skb};
use crate::stage::conntrack::{Conntrack, Entry, Key};
use crate::trace::{Hook, Sink, Step, What};
use crate::world::Netns;

/// `NF_NAT_MANIP_SRC` / `NF_NAT_MANIP_DST`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manip {
    /// Source.
    Src,
    /// Destination.
    Dst,
}

impl Manip {
    /// `HOOK2MANIP`
    #[must_use]
    pub const fn at(hook: Hook) -> Self {
        match hook {
            Hook::Postrouting | Hook::Input => Self::Src,
            _ => Self::Dst,
        }
    }

    const fn other(self) -> Self {
        match self {
            Self::Src => Self::Dst,
            Self::Dst => Self::Src,
        }
    }
}

/// How many addresses of a range become branches of their own; a larger range is one branch with its
/// first address standing in.
const MAX_ADDRESSES: u128 = 64;

/// `nf_nat_setup_info`: chooses the translation of a new connection. Returns false when there is no
/// connection to translate (the target then drops or accepts as its kernel code says).
pub fn setup_nat(
    ns: &Netns<'_>,
    skb: &Skb,
    ct: &mut Conntrack,
    oracle: &mut Oracle,
    manip: Manip,
    range: &NatRange,
) -> bool {
    let Some(entry) = ct.entry_mut(skb.ct) else {
        return false;
    };
    if done(entry, manip) {
        // "nf_nat_setup_info: not allowed to be called twice".
        return false;
    }
    let proto = entry.proto;
    // The tuple as the packet is now, other translations included.
    let current = entry.reply.invert(proto);
    let mut new = current;
    let port = match manip {
        Manip::Src => current.sport,
        Manip::Dst => current.dport,
    };
    if let Some((first, last)) = range.addrs {
        let addr = pick_address(&current, manip, first, last, range, oracle);
        match manip {
            Manip::Src => new.src = addr,
            Manip::Dst => new.dst = addr,
        }
    }
    let icmp = matches!(skb.packet.l4, L4::Icmp { .. });
    let ported = !matches!(skb.packet.l4, L4::Other);
    if icmp {
        // "id is same for either direction...": both kinds of translation may draw it.
        new.sport = pick_port(current.sport, Manip::Src, range, oracle);
    } else if ported {
        let port = pick_port(port, manip, range, oracle);
        match manip {
            Manip::Src => new.sport = port,
            Manip::Dst => new.dport = port,
        }
    }
    if manip == Manip::Src && ported && !new.sport.drawn && ct.taken(ns, skb.ct, new) {
        new.sport.drawn = true;
    }
    let Some(entry) = ct.entry_mut(skb.ct) else {
        return false;
    };
    let changed = new != current;
    entry.reply = new.invert(proto);
    match manip {
        Manip::Src => {
            entry.snat |= changed;
            entry.snat_done = true;
            entry.masquerade = range.masquerade;
        }
        Manip::Dst => {
            entry.dnat |= changed;
            entry.dnat_done = true;
        }
    }
    true
}

/// `nf_nat_initialized`
#[must_use]
pub const fn done(entry: &Entry, manip: Manip) -> bool {
    match manip {
        Manip::Src => entry.snat_done,
        Manip::Dst => entry.dnat_done,
    }
}

/// `nf_nat_alloc_null_binding`: no rule translated, so the connection keeps its addresses for good, and its ports
/// too unless another connection has them.
pub fn null_binding(ns: &Netns<'_>, ct: &mut Conntrack, skb: &Skb, manip: Manip) {
    let new = ct.entry(skb.ct).map(|e| e.reply.invert(e.proto));
    let ported = matches!(skb.packet.l4, L4::Tcp { .. } | L4::Ports { .. });
    let ask = ct.entry(skb.ct).is_some_and(|e| !done(e, manip));
    if let Some(mut new) = new
        && ask
        && manip == Manip::Src
        && ported
        && ct.taken(ns, skb.ct, new)
        && let Some(entry) = ct.entry_mut(skb.ct)
    {
        new.sport.drawn = true;
        entry.reply = new.invert(entry.proto);
        entry.snat = true;
    }
    if let Some(entry) = ct.entry_mut(skb.ct) {
        match manip {
            Manip::Src => entry.snat_done = true,
            Manip::Dst => entry.dnat_done = true,
        }
    }
}

/// `find_best_ips_proto`: the kernel hashes the tuple over the range, so every address is equally likely
/// over clients.
fn pick_address(
    tuple: &Key,
    manip: Manip,
    first: IpAddr,
    last: IpAddr,
    range: &NatRange,
    oracle: &mut Oracle,
) -> IpAddr {
    let old = match manip {
        Manip::Src => tuple.src,
        Manip::Dst => tuple.dst,
    };
    if first == last {
        return first;
    }
    let (lo, hi) = (bits(first), bits(last));
    if range.netmap {
        // nf_nat_redirect/xt_NETMAP: netmask = ~(min ^ max).
        return from_bits(lo | (bits(old) & (lo ^ hi)), first);
    }
    // `in_range`: a source that is already inside stays, unless ports are drawn.
    if manip == Manip::Src
        && !range.random
        && !range.fully_random
        && (lo..=hi).contains(&bits(old))
        && same_family(old, first)
    {
        return old;
    }
    let count = hi.saturating_sub(lo).saturating_add(1);
    if count > MAX_ADDRESSES {
        return first;
    }
    let weights: Vec<_> = (0..count)
        .map(|_| ratio(1, u64::try_from(count).unwrap_or(1)))
        .collect();
    let i = oracle.chance(Chance::NatRange, &weights, None);
    from_bits(lo + i as u128, first)
}

/// The port half of `get_unique_tuple` and `nf_nat_l4proto_unique_tuple`, for a tuple nobody else uses.
fn pick_port(port: Port, manip: Manip, range: &NatRange, oracle: &mut Oracle) -> Port {
    let drawn = range.random || range.fully_random;
    match range.ports {
        Some((min, max)) => {
            let (min, max) = (min.min(max), min.max(max));
            if !drawn && range.base_port.is_none() && (min..=max).contains(&port.value) {
                return port;
            }
            let size = u32::from(max - min) + 1;
            if let Some(base) = range.base_port {
                let off = u32::from(port.value.wrapping_sub(base)) % size;
                return Port::from(min + off as u16);
            }
            if size == 1 || (manip == Manip::Dst && !drawn) {
                // Without a wish for chance a destination port is searched from the start of the range.
                return Port::from(min);
            }
            let _ = oracle;
            Port {
                value: min,
                drawn: true,
            }
        }
        // A destination keeps its port: "If it's dst rewrite, can't change port".
        None if manip == Manip::Dst => port,
        None if drawn => Port {
            value: port.value,
            drawn: true,
        },
        None => port,
    }
}

/// `nf_nat_packet`: applies the translation of the packet's connection that belongs to this hook.
pub fn translate(skb: &mut Skb, ct: &Conntrack, hook: Hook, sink: &mut Sink) {
    let Ct::Of { entry, dir, state } = skb.ct else { return };
    let Some(entry) = ct.entries().get(entry) else { return };
    let manip = Manip::at(hook);
    // "Invert if this is reply dir."
    let active = match (manip, dir) {
        (Manip::Src, Dir::Original) | (Manip::Dst, Dir::Reply) => entry.snat,
        (Manip::Dst, Dir::Original) | (Manip::Src, Dir::Reply) => entry.dnat,
    };
    if !active {
        return;
    }
    let other_way = match dir {
        Dir::Original => entry.reply,
        Dir::Reply => entry.orig,
    };
    if state == CtState::Related && matches!(skb.packet.l4, L4::Icmp { quoted: Some(_), .. }) {
        translate_error(&mut skb.packet, entry.proto, other_way, manip, sink);
        return;
    }
    let target = other_way.invert(entry.proto);
    rewrite(&mut skb.packet, target, manip, Some(sink));
}

/// `nf_nat_icmp_reply_translation`: the quoted packet gets the addresses its sender knows, the error
/// itself the ones its receiver does.
fn translate_error(packet: &mut Packet, proto: u8, other_way: Key, manip: Manip, sink: &mut Sink) {
    let target = other_way.invert(proto);
    if let L4::Icmp { quoted: Some(q), .. } = &mut packet.l4 {
        rewrite(q, other_way, manip.other(), None);
    }
    let (from, to) = match manip {
        Manip::Src => (packet.src, target.src),
        Manip::Dst => (packet.dst, target.dst),
    };
    if from != to {
        match manip {
            Manip::Src => packet.src = to,
            Manip::Dst => packet.dst = to,
        }
        sink.step(|| Step {
            what: What::Nat {
                source: manip == Manip::Src,
                from: (from, None),
                to: (to, None),
            },
            evidence: Vec::new(),
        });
    }
}

fn rewrite(packet: &mut Packet, target: Key, manip: Manip, sink: Option<&mut Sink>) {
    let icmp = matches!(packet.l4, L4::Icmp { .. });
    let (from, to) = match manip {
        Manip::Src => {
            let from = (packet.src, packet.sport());
            packet.src = target.src;
            packet.set_sport(target.sport);
            (from, (target.src, packet.sport()))
        }
        Manip::Dst => {
            let from = (packet.dst, packet.dport());
            packet.dst = target.dst;
            if !icmp {
                packet.set_dport(target.dport);
            } else {
                // The id of a query is its only port; `icmp_manip_pkt` sets it for both manips.
                packet.set_sport(target.sport);
            }
            (from, (target.dst, packet.dport()))
        }
    };
    if from != to
        && let Some(sink) = sink
    {
        sink.step(|| Step {
            what: What::Nat {
                source: manip == Manip::Src,
                from,
                to,
            },
            evidence: Vec::new(),
        });
    }
}

fn bits(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(a) => u128::from(a.to_bits()),
        IpAddr::V6(a) => a.to_bits(),
    }
}

fn from_bits(bits: u128, like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => Ipv4Addr::from_bits(bits as u32).into(),
        IpAddr::V6(_) => Ipv6Addr::from_bits(bits).into(),
    }
}

const fn same_family(a: IpAddr, b: IpAddr) -> bool {
    matches!((a, b), (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_)))
}
