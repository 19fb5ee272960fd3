//! Targets.

use knet_snapshot::id::{Family, Zone};

use super::super::target::{Connmark, CtTarget, Target, TtlChange};
use super::{Group, nat, options, proto, value};
use crate::trace::Reject;

pub(super) fn target(group: &Group<'_>, family: Family) -> Option<Target> {
    if group
        .opts
        .iter()
        .any(|o| options::arity(group.module, o.name) != Some(o.args.len()))
    {
        return None;
    }
    Some(match group.module {
        "ACCEPT" => Target::Accept,
        "DROP" => Target::Drop,
        "RETURN" => Target::Return,
        "QUEUE" => Target::Queue { bypass: false },
        "NFQUEUE" => Target::Queue {
            bypass: group.has("queue-bypass"),
        },
        "REJECT" => Target::Reject(reject(group, family)?),
        "DNAT" => Target::Dnat(nat::range(group, family)?),
        "SNAT" => Target::Snat(nat::range(group, family)?),
        "MASQUERADE" => Target::Masquerade(nat::range(group, family)?),
        "REDIRECT" => Target::Redirect(nat::range(group, family)?),
        "NETMAP" => Target::Netmap(nat::netmap(group, family)?),
        "MARK" => {
            let (value, mask) = set_mark(group)?;
            Target::Mark { value, mask }
        }
        "CONNMARK" => Target::Connmark(connmark(group)?),
        "CT" => Target::Ct(ct(group)?),
        "NOTRACK" => Target::Ct(CtTarget::Notrack),
        "TPROXY" => tproxy(group, family)?,
        "TOS" => tos(group)?,
        "DSCP" => {
            let o = group.opts.last()?;
            let class = o.name == "set-dscp-class";
            let bits = if class {
                proto::dscp_class(o.arg()?)?
            } else {
                value::byte(o.arg()?)?
            };
            // xt_DSCP.c keeps the two ECN bits.
            Target::Tos {
                value: bits.checked_mul(4)?,
                mask: 0xfc,
            }
        }
        // ipt_ECN.c: the two low bits of the TOS field; the TCP bits of it decide nothing here.
        "ECN" => match group.opts.iter().find(|o| o.name == "ecn-ip-ect") {
            Some(o) => Target::Tos {
                value: value::byte(o.arg()?)? & 3,
                mask: 3,
            },
            None => Target::Inert,
        },
        "TTL" | "HL" => {
            let o = group.opts.last()?;
            let n = value::byte(o.arg()?)?;
            Target::Ttl(match o.name {
                "ttl-set" | "hl-set" => TtlChange::Set(n),
                "ttl-inc" | "hl-inc" => TtlChange::Inc(n),
                "ttl-dec" | "hl-dec" => TtlChange::Dec(n),
                _ => return None,
            })
        }
        "CLASSIFY" => {
            let (major, minor) = group.opts.last()?.arg()?.split_once(':')?;
            let hex = |s: &str| {
                if s.is_empty() {
                    Some(0)
                } else {
                    u32::from_str_radix(s, 16).ok()
                }
            };
            Target::Classify((hex(major)? << 16) | (hex(minor)? & 0xffff))
        }
        "TCPMSS" => Target::Tcpmss,
        // `--map-set` copies mark, priority and queue from the set's members, which are not modelled.
        "SET" if group.has("map-set") => return None,
        "SET" => {
            let named = group.opts.iter().filter(|o| matches!(o.name, "add-set" | "del-set"));
            Target::Set(named.filter_map(|o| o.arg().map(Into::into)).collect())
        }
        "LOG" | "NFLOG" | "ULOG" | "TRACE" | "AUDIT" | "CHECKSUM" | "TEE" | "SECMARK" | "CONNSECMARK" | "IDLETIMER"
        | "LED" | "RATEEST" | "TCPOPTSTRIP" => Target::Inert,
        _ => return None,
    })
}

#[rustfmt::skip]
fn reject(group: &Group<'_>, family: Family) -> Option<Reject> {
    let Some(o) = group.opts.last() else {
        return Some(match family {
            Family::V4 => Reject::IcmpPortUnreachable,
            Family::V6 => Reject::Icmp6PortUnreachable,
        });
    };
    Some(match (family, o.arg()?) {
        (_, "tcp-reset" | "tcp-rst") => Reject::TcpReset,
        (Family::V4, "icmp-net-unreachable" | "net-unreach") => Reject::IcmpNetUnreachable,
        (Family::V4, "icmp-host-unreachable" | "host-unreach") => Reject::IcmpHostUnreachable,
        (Family::V4, "icmp-proto-unreachable" | "proto-unreach") => Reject::IcmpProtoUnreachable,
        (Family::V4, "icmp-port-unreachable" | "port-unreach") => Reject::IcmpPortUnreachable,
        (Family::V4, "icmp-net-prohibited" | "net-prohib") => Reject::IcmpNetProhibited,
        (Family::V4, "icmp-host-prohibited" | "host-prohib") => Reject::IcmpHostProhibited,
        (Family::V4, "icmp-admin-prohibited" | "admin-prohib") => Reject::IcmpAdminProhibited,
        (Family::V6, "icmp6-no-route" | "no-route") => Reject::Icmp6NoRoute,
        (Family::V6, "icmp6-adm-prohibited" | "adm-prohibited") => Reject::Icmp6AdmProhibited,
        (Family::V6, "icmp6-addr-unreachable" | "addr-unreach") => Reject::Icmp6AddrUnreachable,
        (Family::V6, "icmp6-port-unreachable" | "port-unreach") => Reject::Icmp6PortUnreachable,
        (Family::V6, "icmp6-policy-fail" | "policy-fail") => Reject::Icmp6PolicyFail,
        (Family::V6, "icmp6-reject-route" | "reject-route") => Reject::Icmp6RejectRoute,
        _ => return None,
    })
}

/// `(mark & !mask) ^ value` of the five spellings (libxt_MARK.c, libxt_CONNMARK.c).
fn set_mark(group: &Group<'_>) -> Option<(u32, u32)> {
    let o = group.opts.last()?;
    let arg = o.arg()?;
    Some(match o.name {
        "set-xmark" => value::masked(arg)?,
        "set-mark" => {
            let (value, mask) = value::masked(arg)?;
            (value, value | mask)
        }
        "and-mark" => (0, !value::number(arg)?),
        "or-mark" => {
            let bits = value::number(arg)?;
            (bits, bits)
        }
        "xor-mark" => (value::number(arg)?, 0),
        _ => return None,
    })
}

fn connmark(group: &Group<'_>) -> Option<Connmark> {
    let save = group.has("save-mark");
    if !save && !group.has("restore-mark") {
        let shift = group.has("left-shift-mark") || group.has("right-shift-mark");
        let (value, mask) = set_mark(group)?;
        return (!shift).then_some(Connmark::Set { value, mask });
    }
    let (mut nfmask, mut ctmask, mut shift) = (u32::MAX, u32::MAX, 0i8);
    for o in &group.opts {
        match o.name {
            "save-mark" | "restore-mark" => {}
            "mask" => {
                nfmask = value::number(o.arg()?)?;
                ctmask = nfmask;
            }
            "nfmask" => nfmask = value::number(o.arg()?)?,
            "ctmask" => ctmask = value::number(o.arg()?)?,
            "left-shift-mark" => shift = i8::try_from(value::number(o.arg()?)?).ok()?,
            "right-shift-mark" => shift = -i8::try_from(value::number(o.arg()?)?).ok()?,
            _ => return None,
        }
    }
    Some(if save {
        Connmark::Save { nfmask, ctmask, shift }
    } else {
        Connmark::Restore { nfmask, ctmask, shift }
    })
}

fn ct(group: &Group<'_>) -> Option<CtTarget> {
    if group.has("notrack") {
        return Some(CtTarget::Notrack);
    }
    let (mut zone, mut zone_from_mark, mut one_way) = (None, false, false);
    for o in &group.opts {
        match o.name {
            "zone" | "zone-orig" | "zone-reply" => {
                one_way = o.name != "zone";
                if o.arg()? == "mark" {
                    zone_from_mark = true;
                } else if o.name != "zone-reply" {
                    zone = Some(Zone(value::short(o.arg()?)?));
                }
            }
            _ => {}
        }
    }
    Some(CtTarget::Template {
        zone,
        zone_from_mark,
        one_way,
    })
}

fn tproxy(group: &Group<'_>, family: Family) -> Option<Target> {
    let (mut port, mut addr, mut mark) = (0, None, (0, 0));
    for o in &group.opts {
        match o.name {
            "on-port" => port = value::port(o.arg()?)?,
            "on-ip" => addr = Some(value::addr(o.arg()?, family)?).filter(|a| !a.is_unspecified()),
            "tproxy-mark" => mark = value::masked(o.arg()?)?,
            _ => return None,
        }
    }
    Some(Target::Tproxy {
        port,
        addr,
        value: mark.0,
        mask: mark.1,
    })
}

fn tos(group: &Group<'_>) -> Option<Target> {
    let o = group.opts.last()?;
    let arg = o.arg()?;
    let (value, mask) = match o.name {
        "set-tos" => match arg.split_once('/') {
            // libxt_TOS.c: a name has the mask 0x3f, a bare number 0xff.
            Some((v, m)) => (value::byte(v)?, value::byte(m)?),
            None => proto::tos_value(arg)?,
        },
        "and-tos" => (0, !value::byte(arg)?),
        "or-tos" => (value::byte(arg)?, value::byte(arg)?),
        "xor-tos" => (value::byte(arg)?, 0),
        _ => return None,
    };
    Some(Target::Tos { value, mask })
}
