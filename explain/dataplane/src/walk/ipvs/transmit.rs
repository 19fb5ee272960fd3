//! How IPVS hands a packet to its real server: `ip_vs_nat_xmit`, `ip_vs_dr_xmit`, `ip_vs_tunnel_xmit`,
//! `ip_vs_icmp_xmit`.

use knet_snapshot::id::Family;
use knet_snapshot::ipvs::{Forward, Tunnel};
use knet_snapshot::route::RouteKind;

use super::{Handled, Passed};
use crate::packet::{Encapsulated, L4, Packet, Port, proto};
use crate::skb::{Ct, Dir, IpvsProperty, Served, Skb};
use crate::stage::conntrack::Conntrack;
use crate::stage::ipvs::Conn;
use crate::stage::routing::{self, Egress, Output, SenderFlags};
use crate::table::fib::Query;
use crate::trace::{Answer, Field, Hook, IpvsBy, NsId, Outcome, Reason, Stage, What};
use crate::walk::neighbour::link_failure;
use crate::walk::walker::{Ended, Next, Walker};

/// `struct udphdr` and a `struct guehdr` without options.
const GUE_HEADERS: u16 = 8 + 4;
/// `struct gre_base_hdr`
const GRE_HEADER: u16 = 4;

/// Bytes before the packet in a tunnel to a real server of this family.
fn overhead(tunnel: Tunnel, v4: bool) -> u16 {
    let ip = if v4 { 20 } else { 40 };
    ip + match tunnel {
        Tunnel::Ipip => 0,
        Tunnel::Gue { .. } => GUE_HEADERS,
        Tunnel::Gre => GRE_HEADER,
    }
}

impl Walker<'_, '_> {
    /// The connection's `packet_xmit`: a packet of it goes to the real server.
    pub(super) fn hand_over(&mut self, ns: NsId, hook: Hook, mut skb: Skb, conn: &Conn) -> Handled {
        let (forward, server) = (Some(conn.forward), Some((conn.server.0, conn.server.1)));
        self.step(
            What::Ipvs {
                server,
                forward,
                by: conn.by,
            },
            conn.evidence.clone(),
        );
        let egress = self.route_to_server(ns, &skb, conn)?;
        let local = egress.kind == RouteKind::Local;
        self.may_cross(ns, hook, &skb, conn, local)?;
        let tunnel = (conn.forward == Forward::Tunnel && !local).then_some(conn.tunnel);
        if !local {
            self.leaves(ns, &mut skb, &egress, tunnel)?;
        }
        if let Some(tunnel) = tunnel {
            return self.wrap(ns, skb, conn, tunnel, &egress);
        }
        if conn.forward == Forward::Masq {
            self.translate(&mut skb, conn);
            if conn.tracked && !conn.one_packet {
                self.ct.alter_reply(skb.ct, conn, true);
            }
        }
        if !conn.tracked {
            self.untrack(&mut skb);
        }
        skb.ipvs = Some(IpvsProperty {
            ns,
            served: served(&skb, conn),
        });
        if local {
            return Ok(Passed::On(skb));
        }
        skb.oif = Some(egress.oif);
        skb.nexthop = Some(egress.nexthop);
        Ok(Passed::Taken(skb))
    }

    /// The destination becomes the real server; an error is about what the real server sent (`ip_vs_nat_icmp`).
    fn translate(&mut self, skb: &mut Skb, conn: &Conn) {
        let from = (skb.packet.dst, skb.packet.dport());
        skb.packet.dst = conn.server.0;
        if let L4::Icmp { quoted: Some(q), .. } = &mut skb.packet.l4 {
            q.src = conn.server.0;
            q.set_sport(conn.server.1);
        } else {
            skb.packet.set_dport(conn.server.1);
        }
        let to = (skb.packet.dst, skb.packet.dport());
        self.step(
            What::Nat {
                source: false,
                from,
                to,
            },
            None,
        );
    }

    /// `__ip_vs_get_out_rt`: asked for without a mark, a TOS or a source.
    fn route_to_server(&mut self, ns: NsId, skb: &Skb, conn: &Conn) -> Result<Egress, Box<Ended>> {
        let decided = routing::output(
            self.space(ns),
            &Query::to(conn.server.0),
            SenderFlags::default(),
            &mut self.oracle,
            &mut self.sink,
        );
        match decided {
            Output::Routed(egress, assumed) => {
                self.assumptions.extend(assumed);
                Ok(egress)
            }
            Output::Refused(refusal, assumed) => {
                self.assumptions.extend(assumed);
                let mut ended = self.ended(ns, skb.clone(), refusal.outcome, refusal.reason);
                ended.end.evidence = refusal.evidence;
                Err(link_failure(ended))
            }
            Output::Unknown(_) => Err(self.ended(ns, skb.clone(), Outcome::Unknown, Reason::NotCaptured)),
        }
    }

    /// `crosses_local_route_boundary`, and the check of `ip_vs_nat_xmit` for loopback servers.
    fn may_cross(&mut self, ns: NsId, hook: Hook, skb: &Skb, conn: &Conn, local: bool) -> Result<(), Box<Ended>> {
        let links = self.space(ns).links();
        let loops = |dev| links.get(dev).is_some_and(|l| l.flags.loopback);
        let old_local = hook == Hook::Input || skb.oif.is_some_and(loops);
        let crosses = if local {
            let redirect = conn.forward == Forward::Masq;
            let foreign = hook == Hook::Input && conn.server.0.is_ipv4() && conn.server.0.is_loopback();
            // `ip_vs_icmp_xmit`: in FORWARD only what leaves the host.
            hook == Hook::Forward || !redirect && !old_local || redirect && foreign
        } else {
            skb.packet.src.is_loopback()
        };
        if crosses {
            return Err(self.ended(ns, skb.clone(), Outcome::Dropped, Reason::Martian));
        }
        Ok(())
    }

    /// `decrement_ttl` and `ensure_mtu_is_adequate`
    fn leaves(&mut self, ns: NsId, skb: &mut Skb, egress: &Egress, tunnel: Option<Tunnel>) -> Result<(), Box<Ended>> {
        if egress.encap.is_some() {
            self.step(What::Undecided, egress.evidence.clone());
            return Err(self.ended(ns, skb.clone(), Outcome::Unknown, Reason::NotModelled));
        }
        if skb.packet.ttl <= 1 {
            let mut ended = self.ended(ns, skb.clone(), Outcome::Loop, Reason::TtlExpired);
            ended.answer = Some(Answer::TimeExceeded);
            return Err(ended);
        }
        let from = skb.packet.ttl;
        skb.packet.ttl -= 1;
        self.step(What::Rewrite(Field::Ttl { from, to: from - 1 }), None);
        let mtu = self
            .link(ns, egress.oif)
            .map(|l| egress.mtu.map_or(l.mtu, |m| m.min(l.mtu)));
        if let Some(mtu) = mtu {
            self.step(What::Mtu { dev: egress.oif, mtu }, None);
            let taken = tunnel.map_or(0, |t| u32::from(overhead(t, egress.dst.is_ipv4())));
            let large = u32::from(skb.packet.len) + taken > mtu;
            if skb.packet.df && large && self.vs(ns, "pmtu_disc", 1) != 0 {
                let mut ended = self.ended(ns, skb.clone(), Outcome::Dropped, Reason::TooBig);
                ended.answer = Some(Answer::TooBig);
                return Err(ended);
            }
        }
        Ok(())
    }

    /// `ip_vs_tunnel_xmit`, `ip_vs_tunnel_xmit_prepare`: TTL and TOS are the packet's own, the source is the route's,
    /// and conntrack sees the outer packet anew.
    fn wrap(&mut self, ns: NsId, skb: Skb, conn: &Conn, tunnel: Tunnel, egress: &Egress) -> Handled {
        let inner = &skb.packet;
        let Some(src) = egress.src else {
            return Err(self.ended(ns, skb, Outcome::Unknown, Reason::NotCaptured));
        };
        let v4 = conn.server.0.is_ipv4();
        let (protocol, l4) = match tunnel {
            Tunnel::Ipip if inner.dst.is_ipv4() => (proto::IPIP, L4::Other),
            Tunnel::Ipip => (proto::IPV6, L4::Other),
            Tunnel::Gre => (proto::GRE, L4::Other),
            Tunnel::Gue { port } => {
                // `udp_flow_src_port`: a hash of the inner flow.
                let sport = Port {
                    value: 49152,
                    drawn: true,
                };
                let dport = port.into();
                (proto::UDP, L4::Ports { sport, dport })
            }
        };
        let discovers = self.vs(ns, "pmtu_disc", 1) != 0;
        let outer = Packet {
            src,
            dst: conn.server.0,
            proto: protocol,
            l4,
            ttl: inner.ttl,
            tos: inner.tos,
            len: inner.len.saturating_add(overhead(tunnel, v4)),
            df: !v4 || discovers && inner.df && inner.dst.is_ipv4(),
            inner: Some(Box::new(Encapsulated {
                eth: None,
                key: None,
                noise: None,
                arp: None,
                packet: inner.clone(),
            })),
        };
        self.step(
            What::Encap {
                dev: egress.oif,
                local: Some(src),
                remote: Some(conn.server.0),
                key: None,
            },
            egress.evidence.clone(),
        );
        self.wrapped(&skb.packet, &outer);
        if conn.tracked {
            self.ct.confirm(&skb);
        } else {
            self.ct.forget_unconfirmed(&skb);
        }
        Ok(Passed::Taken(Skb {
            packet: outer,
            ct: Ct::None,
            oif: Some(egress.oif),
            nexthop: Some(egress.nexthop),
            ipvs: Some(IpvsProperty { ns, served: None }),
            ..skb
        }))
    }

    /// `ip_vs_notrack`
    pub(super) fn untrack(&mut self, skb: &mut Skb) {
        if matches!(skb.ct, Ct::Of { .. } | Ct::Invalid) {
            self.ct.forget_unconfirmed(skb);
            skb.ct = Ct::Untracked;
        }
    }

    /// What IPVS took goes out by OUTPUT, where it has no device to come in by, and POSTROUTING.
    pub(in crate::walk) fn ipvs_send(&mut self, ns: NsId, mut skb: Skb) -> Next {
        self.stage(Stage::Forward);
        let iif = skb.iif.take();
        skb = self.hook(ns, Hook::Output, skb)?;
        if self.moved_by_ipvs(ns, &skb) {
            self.reroute(ns, &mut skb)?;
        }
        skb.iif = iif;
        skb = self.hook(ns, Hook::Postrouting, skb)?;
        self.finish_output(ns, skb)
    }

    /// `nf_nat_ipv4_local_fn`: where NAT is at work it finds the connection's ends changed, though not by itself, and
    /// looks for a route again: now with mark and TOS.
    fn moved_by_ipvs(&self, ns: NsId, skb: &Skb) -> bool {
        let Ct::Of { dir, .. } = skb.ct else { return false };
        let Some(entry) = self.ct.entry(skb.ct) else {
            return false;
        };
        let (asked, answers) = match dir {
            Dir::Original => (entry.orig.dst, entry.reply.src),
            Dir::Reply => (entry.reply.dst, entry.orig.src),
        };
        asked != answers && self.nat_at_work(ns, skb.packet.family())
    }

    /// The NAT core registers at every hook with the first chain of its kind (`nf_nat_register_fn`).
    fn nat_at_work(&self, ns: NsId, family: Family) -> bool {
        let space = self.space(ns);
        let hooks = [Hook::Prerouting, Hook::Input, Hook::Output, Hook::Postrouting];
        hooks.into_iter().any(|hook| {
            space.xt().base_chains(family, hook).into_iter().any(|c| c.is_nat())
                || space.nft().base_chains(family, hook).into_iter().any(|c| c.is_nat())
        })
    }
}

/// What a rule that asks for the connection finds (`ipvs_mt`): it looks in the table, by the ports of the packet.
fn served(skb: &Skb, conn: &Conn) -> Option<Served> {
    let found = !conn.one_packet && !matches!(skb.packet.l4, L4::Icmp { .. });
    found.then_some(Served {
        virt: conn.virt,
        forward: conn.forward,
        controlled: conn.by == IpvsBy::Template,
    })
}

impl Conntrack {
    /// `ip_vs_update_conntrack`: the answer will come from the real server, or go to the virtual address. Only a
    /// connection that is not in the table yet can still be changed.
    pub(super) fn alter_reply(&mut self, ct: Ct, conn: &Conn, inward: bool) {
        let original = matches!(ct, Ct::Of { dir: Dir::Original, .. });
        let Some(entry) = self.entry_mut(ct).filter(|e| original && !e.confirmed) else {
            return;
        };
        if inward {
            (entry.reply.src, entry.reply.sport) = conn.server;
        } else {
            (entry.reply.dst, entry.reply.dport) = conn.virt;
        }
    }
}
