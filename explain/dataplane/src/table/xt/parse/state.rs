//! Matches on what the kernel remembers: connections, sets, lists, chance, addresses and devices.

use knet_snapshot::id::Family;

use super::super::matches::{
    Addrtype, Conntrack, Masked, Match, Physdev, PortRange, Recent, RecentOp, SetMatch, ct_state, ct_status,
};
use super::{Group, dev, value};

pub(super) fn matches(group: &Group<'_>, family: Family) -> Option<Match> {
    Some(match group.module {
        "mark" => Match::Mark(mark(group)?),
        "connmark" => Match::Connmark(mark(group)?),
        "conntrack" => Match::Conntrack(Box::new(conntrack(group, family)?)),
        "state" => {
            let o = group.opts.last()?;
            Match::Conntrack(Box::new(Conntrack {
                state: Some((states(o.arg()?)?, o.neg)),
                ..Conntrack::default()
            }))
        }
        "addrtype" => Match::Addrtype(addrtype(group)?),
        "set" => Match::Set(set(group)?),
        "statistic" => statistic(group)?,
        "recent" => Match::Recent(recent(group, family)?),
        "physdev" => Match::Physdev(Box::new(physdev(group)?)),
        _ => return None,
    })
}

fn mark(group: &Group<'_>) -> Option<Masked> {
    let o = group.opts.last()?;
    let (value, mask) = value::masked(o.arg()?)?;
    Some(Masked {
        value,
        mask,
        invert: o.neg,
    })
}

fn states(list: &str) -> Option<u8> {
    list.split(',').try_fold(0, |acc, name| {
        Some(
            acc | match name.to_ascii_uppercase().as_str() {
                "INVALID" => ct_state::INVALID,
                "NEW" => ct_state::NEW,
                "ESTABLISHED" => ct_state::ESTABLISHED,
                "RELATED" => ct_state::RELATED,
                "UNTRACKED" => ct_state::UNTRACKED,
                "SNAT" => ct_state::SNAT,
                "DNAT" => ct_state::DNAT,
                _ => return None,
            },
        )
    })
}

fn conntrack(group: &Group<'_>, family: Family) -> Option<Conntrack> {
    let mut out = Conntrack::default();
    for o in &group.opts {
        let arg = o.arg()?;
        match o.name {
            "ctstate" => out.state = Some((states(arg)?, o.neg)),
            "ctproto" => out.proto = Some((value::protocol(arg)?, o.neg)),
            "ctorigsrc" => out.addrs[0] = Some(value::net(arg, family, o.neg)?),
            "ctorigdst" => out.addrs[1] = Some(value::net(arg, family, o.neg)?),
            "ctreplsrc" => out.addrs[2] = Some(value::net(arg, family, o.neg)?),
            "ctrepldst" => out.addrs[3] = Some(value::net(arg, family, o.neg)?),
            "ctorigsrcport" | "ctorigdstport" | "ctreplsrcport" | "ctrepldstport" => {
                let (min, max) = value::port_range(arg, ':')?;
                let i = ["ctorigsrcport", "ctorigdstport", "ctreplsrcport", "ctrepldstport"]
                    .iter()
                    .position(|n| *n == o.name)?;
                out.ports[i] = Some(PortRange {
                    min,
                    max,
                    invert: o.neg,
                });
            }
            "ctstatus" => {
                let bits = arg.split(',').try_fold(0, |acc, name| {
                    Some(
                        acc | match name.to_ascii_uppercase().as_str() {
                            // libxt_conntrack.c: NONE adds no bit, so alone it matches nothing.
                            "NONE" => 0,
                            "EXPECTED" => ct_status::EXPECTED,
                            "SEEN_REPLY" => ct_status::SEEN_REPLY,
                            "ASSURED" => ct_status::ASSURED,
                            "CONFIRMED" => ct_status::CONFIRMED,
                            _ => return None,
                        },
                    )
                })?;
                out.status = Some((bits, o.neg));
            }
            "ctexpire" => out.expire = true,
            "ctdir" => {
                out.original = Some(match arg.to_ascii_uppercase().as_str() {
                    "ORIGINAL" => true,
                    "REPLY" => false,
                    _ => return None,
                });
            }
            _ => return None,
        }
    }
    Some(out)
}

fn addrtype(group: &Group<'_>) -> Option<Addrtype> {
    let mut out = Addrtype::default();
    for o in &group.opts {
        match o.name {
            "src-type" => out.src = Some((types(o.arg()?)?, o.neg)),
            "dst-type" => out.dst = Some((types(o.arg()?)?, o.neg)),
            "limit-iface-in" => out.limit_in = true,
            "limit-iface-out" => out.limit_out = true,
            _ => return None,
        }
    }
    Some(out)
}

/// Bits by `RTN_*` number, as in xt_addrtype.h.
fn types(list: &str) -> Option<u16> {
    const NAMES: [&str; 12] = [
        "UNSPEC",
        "UNICAST",
        "LOCAL",
        "BROADCAST",
        "ANYCAST",
        "MULTICAST",
        "BLACKHOLE",
        "UNREACHABLE",
        "PROHIBIT",
        "THROW",
        "NAT",
        "XRESOLVE",
    ];
    list.split(',').try_fold(0, |acc, name| {
        let upper = name.to_ascii_uppercase();
        NAMES.iter().position(|n| *n == upper).map(|bit| acc | 1 << bit)
    })
}

fn set(group: &Group<'_>) -> Option<SetMatch> {
    let mut out = SetMatch {
        name: "".into(),
        dirs: Box::default(),
        invert: false,
        return_nomatch: false,
        counters: false,
    };
    for o in &group.opts {
        match o.name {
            "match-set" | "set" => {
                let [name, dirs] = o.args[..] else { return None };
                out.name = name.into();
                out.dirs = dirs
                    .split(',')
                    .map(|d| match d {
                        "src" => Some(true),
                        "dst" => Some(false),
                        _ => None,
                    })
                    .collect::<Option<_>>()?;
                out.invert = o.neg;
            }
            "return-nomatch" => out.return_nomatch = true,
            "update-counters" | "update-subcounters" => {}
            _ => out.counters = true,
        }
    }
    (!out.name.is_empty()).then_some(out)
}

fn statistic(group: &Group<'_>) -> Option<Match> {
    let of = |name: &str| group.opts.iter().rev().find(|o| o.name == name);
    match of("mode")?.arg()? {
        "random" => {
            let o = of("probability")?;
            let p: f64 = o.arg()?.parse().ok()?;
            if !(0.0..=1.0).contains(&p) {
                return None;
            }
            // libxt_statistic.c: lround(0x80000000 * p). The product fits 32 bits.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let threshold = (p * 2_147_483_648.0).round() as u32;
            Some(Match::Random {
                threshold,
                invert: o.neg,
            })
        }
        "nth" => {
            let o = of("every")?;
            let every = value::number(o.arg()?)?;
            (every > 0).then_some(Match::Nth { every, invert: o.neg })
        }
        _ => None,
    }
}

fn recent(group: &Group<'_>, family: Family) -> Option<Recent> {
    let mut op = None;
    let mut out = Recent {
        op: RecentOp::Check,
        invert: false,
        name: "DEFAULT".into(),
        dest: false,
        mask: value::all_ones(family),
        seconds: 0,
        hitcount: 0,
        ttl: false,
    };
    for o in &group.opts {
        let kind = match o.name {
            "set" => RecentOp::Set,
            "rcheck" => RecentOp::Check,
            "update" => RecentOp::Update,
            "remove" => RecentOp::Remove,
            other => {
                match other {
                    "seconds" => out.seconds = value::number(o.arg()?)?,
                    "hitcount" => out.hitcount = value::number(o.arg()?)?,
                    "rttl" => out.ttl = true,
                    "name" => out.name = o.arg()?.into(),
                    "rdest" => out.dest = true,
                    "rsource" => out.dest = false,
                    "mask" => out.mask = super::super::rule::bits(value::addr(o.arg()?, family)?),
                    "reap" => {}
                    _ => return None,
                }
                continue;
            }
        };
        op = Some(kind);
        out.invert = o.neg;
    }
    out.op = op?;
    Some(out)
}

fn physdev(group: &Group<'_>) -> Option<Physdev> {
    let mut out = Physdev::default();
    for o in &group.opts {
        match o.name {
            "physdev-in" => out.iif = Some(dev(o.arg()?, o.neg)?),
            "physdev-out" => out.oif = Some(dev(o.arg()?, o.neg)?),
            "physdev-is-in" => out.is_in = Some(o.neg),
            "physdev-is-out" => out.is_out = Some(o.neg),
            "physdev-is-bridged" => out.bridged = Some(o.neg),
            _ => return None,
        }
    }
    Some(out)
}
