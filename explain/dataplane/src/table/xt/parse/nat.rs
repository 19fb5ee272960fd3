//! The ranges of NAT targets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use knet_snapshot::id::Family;

use super::{Group, value};
use crate::nat_range::NatRange;

/// Reads the options common to the NAT targets; `to` reads the range option of the target.
pub(super) fn range(group: &Group<'_>, family: Family) -> Option<NatRange> {
    let mut out = NatRange::default();
    for o in &group.opts {
        match o.name {
            "to-destination" | "to-source" => to(o.arg()?, family, &mut out)?,
            "to-ports" | "to-port" => ports(o.arg()?, &mut out)?,
            "random" => out.random = true,
            "random-fully" => out.fully_random = true,
            "persistent" => out.persistent = true,
            _ => return None,
        }
    }
    Some(out)
}

/// `[address[-address]][:port[-port][/base]]`; an IPv6 address before a port stands in brackets.
fn to(arg: &str, family: Family, out: &mut NatRange) -> Option<()> {
    let (addrs, port) = match family {
        Family::V4 => arg.split_once(':').map_or((arg, None), |(a, p)| (a, Some(p))),
        Family::V6 => match arg.strip_prefix('[') {
            Some(rest) => {
                let (a, p) = rest.split_once(']')?;
                // `[a]-[b]:port` is how a range is written.
                match p.strip_prefix("-[") {
                    Some(rest) => {
                        let (b, p) = rest.split_once(']')?;
                        out.addrs = Some((value::addr(a, family)?, value::addr(b, family)?));
                        ("", p.strip_prefix(':'))
                    }
                    None => (a, p.strip_prefix(':')),
                }
            }
            None => match arg.strip_prefix(':').filter(|p| !p.starts_with(':')) {
                Some(p) => ("", Some(p)),
                None => (arg, None),
            },
        },
    };
    if !addrs.is_empty() {
        out.addrs = Some(value::addr_range(addrs, family)?);
    }
    match port {
        Some(port) => ports(port, out),
        None => Some(()),
    }
}

fn ports(arg: &str, out: &mut NatRange) -> Option<()> {
    let (range, base) = arg.split_once('/').map_or((arg, None), |(r, b)| (r, Some(b)));
    out.ports = Some(value::port_range(range, '-')?);
    if let Some(base) = base {
        out.base_port = Some(value::port(base)?);
    }
    Some(())
}

/// `--to network/mask`: the first and the last address of the network.
pub(super) fn netmap(group: &Group<'_>, family: Family) -> Option<NatRange> {
    let net = value::net(group.opts.last()?.arg()?, family, false)?;
    let last = net.addr | (!net.mask & value::all_ones(family));
    let ip = |bits: u128| -> Option<IpAddr> {
        Some(match family {
            Family::V4 => Ipv4Addr::from(u32::try_from(bits).ok()?).into(),
            Family::V6 => Ipv6Addr::from(bits).into(),
        })
    };
    Some(NatRange {
        addrs: Some((ip(net.addr)?, ip(last)?)),
        netmap: true,
        ..NatRange::default()
    })
}
