//! Matches on the sender, devices, IPsec, routes and helpers, and those whose state no snapshot holds.

use knet_snapshot::id::Family;

use knet_snapshot::ipvs::Forward;

use super::super::matches::{Cast, Ipvs, Masked, Match, Owner, Rpfilter, SocketMatch};
use super::{Group, value};

pub(super) fn matches(group: &Group<'_>, family: Family) -> Option<Match> {
    Some(match group.module {
        "owner" => Match::Owner(owner(group)?),
        "socket" => Match::Socket(SocketMatch {
            transparent: group.has("transparent"),
            nowildcard: group.has("nowildcard"),
            restore_skmark: group.has("restore-skmark"),
        }),
        "rpfilter" => Match::Rpfilter(Rpfilter {
            loose: group.has("loose"),
            validmark: group.has("validmark"),
            accept_local: group.has("accept-local"),
            invert: group.has("invert"),
        }),
        "mac" => {
            let o = group.opts.last()?;
            Match::Mac {
                mac: o.arg()?.parse().ok()?,
                invert: o.neg,
            }
        }
        "pkttype" => {
            let o = group.opts.last()?;
            let kind = match o.arg()? {
                "unicast" | "host" => Cast::Unicast,
                "broadcast" => Cast::Broadcast,
                "multicast" => Cast::Multicast,
                "otherhost" => Cast::OtherHost,
                _ => return None,
            };
            Match::Pkttype { kind, invert: o.neg }
        }
        "policy" => {
            let pol = group.opts.iter().rev().find(|o| o.name == "pol")?;
            Match::Policy {
                none: pol.arg()? == "none",
            }
        }
        "devgroup" => devgroup(group)?,
        "cgroup" => Match::Cgroup,
        "nfacct" => Match::Always,
        "realm" => {
            let o = group.opts.last()?;
            // Names are those of /etc/iproute2/rt_realms; only 0 has one by default.
            let (value, mask) = if o.arg()? == "cosmos" {
                (0, u32::MAX)
            } else {
                value::masked(o.arg()?)?
            };
            Match::Realm(Masked {
                value,
                mask,
                invert: o.neg,
            })
        }
        "helper" => {
            let o = group.opts.last()?;
            Match::Helper {
                name: o.arg()?.into(),
                invert: o.neg,
            }
        }
        "ipvs" => Match::Ipvs(Box::new(ipvs(group, family)?)),
        "limit" => Match::Opaque("limit"),
        "hashlimit" => Match::Opaque("hashlimit"),
        "time" => Match::Opaque("time"),
        "string" => Match::Opaque("string"),
        "bpf" => Match::Opaque("bpf"),
        "u32" => Match::Opaque("u32"),
        "quota" => Match::Opaque("quota"),
        "connbytes" => Match::Opaque("connbytes"),
        "connlimit" => Match::Opaque("connlimit"),
        "connlabel" => Match::Opaque("connlabel"),
        "tcpmss" => Match::Opaque("tcpmss"),
        "cpu" => Match::Opaque("cpu"),
        "ecn" => Match::Opaque("ecn"),
        "osf" => Match::Opaque("osf"),
        "cluster" => Match::Opaque("cluster"),
        "eui64" => Match::Opaque("eui64"),
        _ => return None,
    })
}

fn owner(group: &Group<'_>) -> Option<Owner> {
    let mut out = Owner::default();
    for o in &group.opts {
        match o.name {
            "uid-owner" => {
                let (a, b) = value::id_range(o.arg()?)?;
                out.uid = Some((a, b, o.neg));
            }
            "gid-owner" => {
                let (a, b) = value::id_range(o.arg()?)?;
                out.gid = Some((a, b, o.neg));
            }
            "socket-exists" => out.exists = Some(o.neg),
            "suppl-groups" => out.groups = true,
            _ => return None,
        }
    }
    Some(out)
}

fn devgroup(group: &Group<'_>) -> Option<Match> {
    let (mut src, mut dst) = (None, None);
    for o in &group.opts {
        let (v, m) = value::masked(o.arg()?)?;
        *if o.name == "src-group" { &mut src } else { &mut dst } = Some((v, m, o.neg));
    }
    Some(Match::Devgroup { src, dst })
}

fn ipvs(group: &Group<'_>, family: Family) -> Option<Ipvs> {
    let mut asked = Ipvs::default();
    for o in &group.opts {
        match o.name {
            "ipvs" => asked.property = Some(o.neg),
            "vproto" => asked.proto = Some((value::protocol(o.arg()?)?, o.neg)),
            "vaddr" => asked.vaddr = Some(value::net(o.arg()?, family, o.neg)?),
            "vport" => asked.vport = Some((value::port(o.arg()?)?, o.neg)),
            "vdir" => {
                let reply = match o.arg()? {
                    "REPLY" => true,
                    "ORIGINAL" => false,
                    _ => return None,
                };
                asked.reply = Some(reply != o.neg);
            }
            "vmethod" => {
                let method = match o.arg()? {
                    "GATE" => Forward::Route,
                    "IPIP" => Forward::Tunnel,
                    "MASQ" => Forward::Masq,
                    _ => return None,
                };
                asked.method = Some((method, o.neg));
            }
            "vportctl" => asked.control = true,
            _ => return None,
        }
    }
    Some(asked)
}
