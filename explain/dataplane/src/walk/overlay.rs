//! Tunnels that carry packets or frames point to point: IPIP, GRE, SIT, ip6tnl, Geneve (`ip_tunnel_xmit`,
//! `ip_tunnel_lookup`, `ip6_tnl_xmit`, `geneve_xmit_skb`, `geneve_lookup`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use knet_snapshot::id::IfIndex;
use knet_snapshot::link::{Link, LinkKind, TunnelInfo};

use super::walker::{At, Next, Source, Walker};
use crate::packet::{Encapsulated, L4, Packet, Port, proto};
use crate::skb::{Skb, TunnelKey};
use crate::trace::{Evidence, NsId, Outcome, Reason, Stage, What};

/// `ECN` bits of the TOS: outer headers take them from the inner one (`INET_ECN_encapsulate`).
const ECN: u8 = 0x03;

/// Port of Geneve when a device does not say.
const GENEVE_PORT: u16 = 6081;

/// The device as `ip -d link` prints it, reduced to what decides.
fn evidence(walker: &Walker<'_, '_>, ns: NsId, link: &Link, kind: &str, info: &TunnelInfo) -> Evidence {
    let any = |a: Option<IpAddr>| a.map_or_else(|| "any".to_owned(), |a| a.to_string());
    let key = info.key.map_or_else(String::new, |k| format!(" key {k}"));
    let text = format!(
        "{}: {kind} remote {} local {}{key}",
        link.name,
        any(info.remote),
        any(info.local)
    );
    let artifact = walker.space(ns).facts.path(knet_snapshot::artifact::name::LINK);
    Evidence {
        artifact,
        at: link.at,
        handle: None,
        text: text.into(),
    }
}

/// Bytes that a kind of tunnel adds, the outer IP header included.
const fn overhead(kind: Kind, info: &TunnelInfo, v4: bool) -> u16 {
    let ip = if v4 { 20 } else { 40 };
    let key = if info.key.is_some() { 4 } else { 0 };
    ip + match kind {
        Kind::Ip => 0,
        Kind::Gre => 4 + key,
        Kind::GreTap => 4 + key + 14,
        Kind::Geneve => 8 + 8 + 14,
    }
}

/// How a tunnel wraps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Ip,
    Gre,
    GreTap,
    Geneve,
}

/// The way of wrapping, and whether the outer packet is IPv4. `None` for kinds that are not modelled.
fn kind_of(name: &str, info: &TunnelInfo) -> Option<(Kind, bool)> {
    let (kind, v4) = match name {
        "ipip" | "sit" => (Kind::Ip, true),
        "ip6tnl" | "ip6ip6" => (Kind::Ip, false),
        "gre" => (Kind::Gre, true),
        "ip6gre" => (Kind::Gre, false),
        "gretap" => (Kind::GreTap, true),
        "ip6gretap" => (Kind::GreTap, false),
        "geneve" => (Kind::Geneve, info.remote.is_none_or(|r| r.is_ipv4())),
        _ => return None,
    };
    (!info.external || kind == Kind::Geneve).then_some((kind, v4))
}

impl Walker<'_, '_> {
    /// The packet is wrapped and sent to the device's remote, or without one to the next hop of its route.
    pub(super) fn tunnel_transmit(&mut self, ns: NsId, link: &Link, name: &str, info: &TunnelInfo, skb: Skb) -> Next {
        let row = evidence(self, ns, link, name, info);
        let (by_route, told);
        let (info, rows) = if info.external && name == "geneve" {
            let Some(TunnelKey { encap, rows }) = skb.tunnel.as_deref() else {
                return Err(self.ended(ns, skb, Outcome::Dropped, Reason::NoTunnelRemote));
            };
            by_route = TunnelInfo {
                remote: encap.dst,
                local: encap.src,
                key: Some(encap.id.and_then(|id| u32::try_from(id).ok()).unwrap_or(0)),
                ttl: encap.ttl,
                ..info.clone()
            };
            told = Some(encap.tos);
            (&by_route, rows.clone())
        } else {
            told = None;
            (info, vec![row.clone()])
        };
        let not_modelled = |this: &mut Self, skb| {
            this.step(What::Undecided, Some(row.clone()));
            Err(this.ended(ns, skb, Outcome::Unknown, Reason::NotModelled))
        };
        let Some((kind, v4)) = kind_of(name, info) else {
            return not_modelled(self, skb);
        };
        let inner = &skb.packet;
        // Only these may be inside: an ipip device that is given IPv6 drops it.
        let fits = match name {
            "ipip" => inner.dst.is_ipv4(),
            "sit" => inner.dst.is_ipv6(),
            _ => true,
        };
        if !fits {
            return if name == "sit" {
                not_modelled(self, skb)
            } else {
                self.step(
                    What::Encap {
                        dev: link.index,
                        local: info.local,
                        remote: None,
                        key: None,
                    },
                    Some(row),
                );
                Err(self.ended(ns, skb, Outcome::Dropped, Reason::NoTunnelRemote))
            };
        }
        // rt_nexthop: the gateway of the route, or the destination itself.
        let per_route = matches!(name, "ipip" | "gre") && inner.dst.is_ipv4();
        let remote = match info.remote.or_else(|| skb.nexthop.filter(|_| per_route)) {
            Some(remote) if remote.is_ipv4() == v4 && !remote.is_multicast() => remote,
            _ => return not_modelled(self, skb),
        };
        let outer = Packet {
            src: info.local.unwrap_or(if v4 {
                Ipv4Addr::UNSPECIFIED.into()
            } else {
                Ipv6Addr::UNSPECIFIED.into()
            }),
            dst: remote,
            proto: match kind {
                Kind::Ip if inner.dst.is_ipv4() => proto::IPIP,
                Kind::Ip => proto::IPV6,
                Kind::Gre | Kind::GreTap => proto::GRE,
                Kind::Geneve => proto::UDP,
            },
            l4: match kind {
                // A hash of the inner flow: any value of the range will do.
                Kind::Geneve => L4::Ports {
                    sport: Port {
                        value: 49152,
                        drawn: true,
                    },
                    dport: info.port.unwrap_or(GENEVE_PORT).into(),
                },
                _ => L4::Other,
            },
            ttl: match (info.ttl, kind) {
                // Told by a route, it is what it is.
                (ttl, Kind::Geneve) if told.is_some() => ttl,
                (0, Kind::Geneve) => 64,
                (0, _) => inner.ttl,
                (fixed, _) => fixed,
            },
            tos: told.unwrap_or(0) & !ECN | inner.tos & ECN,
            len: inner.len.saturating_add(overhead(kind, info, v4)),
            df: kind != Kind::Geneve && inner.df && inner.dst.is_ipv4(),
            inner: Some(Box::new(Encapsulated {
                eth: skb.eth.filter(|_| matches!(kind, Kind::GreTap | Kind::Geneve)),
                key: info.key,
                noise: None,
                arp: skb.arp,
                packet: inner.clone(),
            })),
        };
        self.step(
            What::Encap {
                dev: link.index,
                local: info.local,
                remote: Some(remote),
                key: info.key,
            },
            rows,
        );
        self.leave(Some(link.index), &skb.packet);
        self.wrapped(&skb.packet, &outer);
        let source = if info.local.is_some() {
            Source::Bound
        } else {
            Source::Choose
        };
        Ok(At::Send {
            ns,
            skb: outer_of(skb, outer),
            source,
        })
    }

    /// The device of this namespace that unwraps a packet, if one does: the closest match of local and remote
    /// address wins, the fallback device (`tunl0`, `gre0`, `sit0`) comes last.
    pub(super) fn tunnel_receive(&mut self, ns: NsId, skb: &Skb) -> Option<At> {
        let inner = skb.packet.inner.as_deref()?;
        let outer = &skb.packet;
        let takes = |name: &str, info: &TunnelInfo| {
            let Some((kind, v4)) = kind_of(name, info) else {
                return false;
            };
            let carried = match (kind, outer.proto) {
                (Kind::Ip, proto::IPIP) => name != "sit" && inner.eth.is_none(),
                (Kind::Ip, proto::IPV6) => name != "ipip" && inner.eth.is_none(),
                (Kind::Gre, proto::GRE) => inner.eth.is_none(),
                (Kind::GreTap, proto::GRE) => inner.eth.is_some(),
                (Kind::Geneve, proto::UDP) => {
                    outer
                        .dport()
                        .is_some_and(|p| p.value == info.port.unwrap_or(GENEVE_PORT))
                        && (info.remote.is_some() || info.external)
                }
                _ => false,
            };
            carried
                && (info.external || (v4 == outer.dst.is_ipv4() && info.key == inner.key))
                && info.local.is_none_or(|a| a == outer.dst)
                && info.remote.is_none_or(|a| a == outer.src)
        };
        let best = |l: &&Link| match &l.kind {
            LinkKind::Tunnel(_, info) => (info.remote.is_some(), info.local.is_some()),
            _ => (false, false),
        };
        let links = self.space(ns).links();
        let device = links
            .iter()
            .filter(|l| l.flags.up && matches!(&l.kind, LinkKind::Tunnel(name, info) if takes(name, info)))
            .max_by_key(best)?;
        let LinkKind::Tunnel(name, info) = &device.kind else {
            return None;
        };
        let row = evidence(self, ns, device, name, info);
        let decapped = inner_of(skb, inner);
        self.step(What::Decap { dev: device.index }, Some(row));
        self.unwrapped(&skb.packet, &inner.packet);
        self.stage(Stage::Decap);
        self.leave(None, &skb.packet);
        Some(At::Receive {
            ns,
            dev: device.index,
            skb: decapped,
        })
    }

    /// The device at the other end of a tunnel that carries frames, when its node was captured.
    pub(super) fn tunnel_peer(&self, ns: NsId, link: &Link) -> Option<(NsId, IfIndex)> {
        let LinkKind::Tunnel(name, info) = &link.kind else {
            return None;
        };
        let remote = info.remote?;
        let spaces = self
            .world
            .spaces()
            .iter()
            .filter(|s| s.id != ns && s.links().owner(remote).is_some());
        let mut ends = spaces
            .flat_map(|s| s.links().iter().map(move |l| (s, l)))
            .filter(|(s, l)| {
                matches!(&l.kind, LinkKind::Tunnel(other, far) if other == name && far.key == info.key
                && far.remote.is_some_and(|back| self.space(ns).links().owner(back).is_some())
                && s.links().owner(remote).is_some())
            });
        ends.next().map(|(s, l)| (s.id, l.index))
    }
}

/// The outer packet: it keeps mark and socket, and is tracked anew.
pub(super) fn outer_of(skb: Skb, packet: Packet) -> Skb {
    Skb {
        packet,
        arp: None,
        eth: None,
        ..skb.scrubbed()
    }
}

/// The packet that was inside.
pub(super) fn inner_of(skb: &Skb, inner: &Encapsulated) -> Skb {
    Skb {
        packet: inner.packet.clone(),
        arp: inner.arp,
        eth: inner.eth,
        sender: None,
        ..skb.clone().scrubbed()
    }
}
