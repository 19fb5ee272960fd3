//! IPVS at its hooks: `ip_vs_in`, `ip_vs_out`, and how a packet is handed to its real server.

use std::net::IpAddr;

use knet_snapshot::artifact::name;
use knet_snapshot::ipvs::{Forward, IpvsConnection};

use super::walker::{Ended, Next, Walker};
use crate::choice::Unknown;
use crate::packet::{L4, Packet, Port, proto, tcp_flag};
use crate::skb::{Ct, Dir, IpvsProperty, PktType, Served, Skb};
use crate::stage::ipvs::{self as stage, Conn};
use crate::stage::routing::{self, Egress, Output, SenderFlags};
use crate::table::fib::Query;
use crate::table::ipvs::{Ipvs, Service};
use crate::trace::{Answer, Assumption, Evidence, Field, Hook, IpvsBy, NsId, Outcome, Reason, Reject, Stage, What};
use knet_snapshot::route::RouteKind;

/// What a hook made of a packet.
pub(super) enum Passed {
    /// It goes on where it was.
    On(Skb),
    /// IPVS took it, with a route of its own (`NF_STOLEN`).
    Taken(Skb),
}

type Handled = Result<Passed, Box<Ended>>;

impl<'w, 's> Walker<'w, 's> {
    fn ipvs_table(&self, ns: NsId) -> &'w Ipvs<'s> {
        self.space(ns).ipvs()
    }

    /// IPVS may have something to do in this namespace.
    pub(super) fn ipvs_here(&self, ns: NsId) -> bool {
        let table = self.ipvs_table(ns);
        // Where nobody looked at IPVS, the device that kube-proxy makes for it tells.
        if table.known {
            !table.is_empty()
        } else {
            self.space(ns).links().named("kube-ipvs0").is_some()
        }
    }

    /// A sysctl of IPVS; the kernel's default when it was not captured.
    fn vs(&mut self, ns: NsId, key: &str, default: i64) -> i64 {
        let key = format!("net.ipv4.vs.{key}");
        let value = self.space(ns).sysctl().get(&key);
        if value.is_none() {
            self.assumptions.insert(Assumption::SysctlDefault(key.into(), default));
        }
        value.unwrap_or(default)
    }

    /// `net.ipv4.vs.conntrack`, by which masquerading stands or falls.
    fn vs_conntrack(&mut self, ns: NsId) -> bool {
        let key = "net.ipv4.vs.conntrack";
        match self.space(ns).sysctl().get(key) {
            Some(value) => value != 0,
            None => self.sysctl_unknown(ns, key),
        }
    }

    /// `ip_vs_out`: what a real server sends gets the virtual address as its source.
    pub(super) fn ipvs_out(&mut self, ns: NsId, hook: Hook, mut skb: Skb) -> Result<Skb, Box<Ended>> {
        if skb.ipvs_in(ns) {
            return Ok(skb);
        }
        let found = self
            .ipvs
            .outward(ns, &skb.packet)
            .cloned()
            .or_else(|| self.captured_back(ns, &skb.packet));
        let Some(conn) = found.filter(|c| c.forward == Forward::Masq) else {
            return Ok(skb);
        };
        let from = (skb.packet.src, skb.packet.sport());
        skb.packet.src = conn.virt.0;
        if let L4::Icmp { quoted: Some(q), .. } = &mut skb.packet.l4 {
            q.dst = conn.virt.0;
            q.set_dport(conn.virt.1);
        } else {
            skb.packet.set_sport(conn.virt.1);
        }
        let to = (skb.packet.src, skb.packet.sport());
        self.step(What::Nat { source: true, from, to }, conn.evidence.clone());
        if hook != Hook::Input && self.vs(ns, "snat_reroute", 1) != 0 {
            self.reroute(ns, &mut skb)?;
        }
        skb.ipvs = Some(IpvsProperty { ns, served: None });
        if !conn.tracked {
            self.untrack(&mut skb);
        }
        Ok(skb)
    }

    /// `ip_vs_in`
    pub(super) fn ipvs_in(&mut self, ns: NsId, hook: Hook, skb: Skb) -> Handled {
        let wrong_type = skb.pkt_type != PktType::Host && hook != Hook::Output;
        let supported = matches!(skb.packet.proto, proto::TCP | proto::UDP | proto::SCTP);
        if skb.ipvs_in(ns) || wrong_type || !supported || self.vs(ns, "backup_only", 0) != 0 {
            return Ok(Passed::On(skb));
        }
        let Some((client, virt)) = stage::ends(&skb.packet) else {
            return Ok(Passed::On(skb));
        };
        if let Some(conn) = self.ipvs.inward(ns, skb.packet.proto, client, virt).cloned() {
            return self.hand_over(ns, hook, skb, &conn);
        }
        if let Some(conn) = self.captured(ns, &skb)? {
            self.ipvs.open(conn.clone());
            return self.hand_over(ns, hook, skb, &conn);
        }
        // `tcp_conn_schedule`: only a SYN starts a connection.
        let opens = skb.packet.proto != proto::TCP || skb.packet.tcp_flags() & tcp_flag::SYN != 0;
        if !opens && self.vs(ns, "sloppy_tcp", 0) == 0 {
            return Ok(Passed::On(skb));
        }
        let table = self.ipvs_table(ns);
        let Some(service) = table.find(skb.mark, skb.packet.proto, virt.0, virt.1.value) else {
            return self.no_service(ns, skb);
        };
        // "Do not schedule replies from local real server".
        if hook == Hook::Output && self.ipvs.inward(ns, skb.packet.proto, virt, client).is_some() {
            return Ok(Passed::On(skb));
        }
        match self.choose(ns, &skb, service, client, virt) {
            Some(conn) => {
                self.ipvs.open(conn.clone());
                self.hand_over(ns, hook, skb, &conn)
            }
            None => Err(self.leave_client(ns, skb, service)),
        }
    }

    /// No service has the address: that is sure only when the whole table was read.
    fn no_service(&mut self, ns: NsId, skb: Skb) -> Handled {
        let table = self.ipvs_table(ns);
        if table.known && table.whole {
            return Ok(Passed::On(skb));
        }
        let path = self.space(ns).facts.path(name::IPVS);
        match self.oracle.unknown(format!("{path}?"), Unknown::Table(path), 2) {
            0 => Ok(Passed::On(skb)),
            _ => Err(self.not_captured(ns, skb, name::IPVS)),
        }
    }

    /// `ip_vs_schedule`
    fn choose(
        &mut self,
        ns: NsId,
        skb: &Skb,
        service: &Service<'s>,
        client: (IpAddr, Port),
        virt: (IpAddr, Port),
    ) -> Option<Conn> {
        let table = self.ipvs_table(ns);
        let mut evidence = vec![table.evidence(service.row.at)];
        let at = stage::place(ns, &evidence[0].artifact);
        let mut by = IpvsBy::Scheduler;
        let mut server = None;
        if service.row.persistent {
            let template = table.template(service.row, client.0, skb.packet.proto, (virt.0, virt.1.value));
            server = match template {
                Some(row) => self.by_template(ns, service, row).inspect(|_| {
                    evidence.push(table.connection_evidence(row));
                    by = IpvsBy::Template;
                }),
                None if table.connections_known && service.row.engine.is_none() => None,
                None => {
                    // Nobody looked whom this client was given before.
                    let what = Unknown::Table(self.space(ns).facts.path(name::IPVS_CONN));
                    let key = format!("ipvs template {at} {} {}", client.0, evidence[0].text);
                    let i = self.oracle.unknown(key, what, service.servers.len());
                    service.servers.get(i).copied()
                }
            };
        } else if let knet_snapshot::ipvs::ServiceKey::Address { port, .. } = service.row.key
            && port != virt.1.value
        {
            // "port zero only supported in persistent services", and FTP's data connections likewise.
            return None;
        }
        let server = match server {
            Some(server) => server,
            None => stage::schedule(table, service, &mut self.oracle, &at)?,
        };
        evidence.push(table.evidence(server.at));
        Some(Conn {
            ns,
            proto: skb.packet.proto,
            client,
            virt,
            server: (server.addr, stage::server_port(service, server, virt.1)),
            forward: server.forward,
            tracked: self.vs_conntrack(ns),
            one_packet: service.row.one_packet && skb.packet.proto == proto::UDP,
            by,
            evidence,
        })
    }

    /// `ip_vs_check_template`
    fn by_template(
        &mut self,
        ns: NsId,
        service: &Service<'s>,
        row: &IpvsConnection,
    ) -> Option<&'s knet_snapshot::ipvs::IpvsServer> {
        let fits = |s: &&&'s knet_snapshot::ipvs::IpvsServer| {
            s.addr == row.server.0 && (s.port == row.server.1 || row.server.1 == 0)
        };
        let server = service.servers.iter().find(fits).copied()?;
        (server.weight > 0 || self.vs(ns, "expire_quiescent_template", 0) == 0).then_some(server)
    }

    /// A captured connection, when the exact tuple is known and the connection still counts.
    fn captured(&mut self, ns: NsId, skb: &Skb) -> Result<Option<Conn>, Box<Ended>> {
        let Some((client, virt)) = stage::ends(&skb.packet) else {
            return Ok(None);
        };
        if !self.ct.asks_captured() || client.1.drawn || virt.1.drawn {
            return Ok(None);
        }
        let table = self.ipvs_table(ns);
        let p = &skb.packet;
        let row = table.connection(p.proto, (client.0, client.1.value), (virt.0, virt.1.value));
        let Some(row) = row else { return Ok(None) };
        let service = table.find(skb.mark, p.proto, virt.0, virt.1.value);
        let server = service.and_then(|s| {
            s.servers
                .iter()
                .find(|s| (s.addr, s.port) == row.server || (s.addr == row.server.0 && s.port == 0))
        });
        let new = p.proto == proto::TCP && p.tcp_flags() & tcp_flag::SYN != 0;
        let expire = self.vs(ns, "expire_nodest_conn", 0) != 0;
        // A connection that belongs to a template is not taken for over.
        let over = matches!(row.state.as_str(), "TIME_WAIT" | "CLOSE") && !service.is_some_and(|s| s.row.persistent);
        let again = match server {
            None if !expire => {
                let evidence = table.connection_evidence(row);
                self.met.insert((ns, evidence.clone()));
                self.step(
                    What::Ipvs {
                        server: None,
                        forward: None,
                        by: IpvsBy::Connection,
                    },
                    [evidence],
                );
                return Err(self.ended(ns, skb.clone(), Outcome::Dropped, Reason::NoRealServer));
            }
            None => true,
            Some(server) => new && (expire && server.weight == 0 || over && self.vs(ns, "conn_reuse_mode", 1) != 0),
        };
        if !again {
            let forward = server.map_or(Forward::Masq, |s| s.forward);
            return Ok(Some(self.conn_of_row(ns, row, forward)));
        }
        // `ip_vs_conn_uses_old_conntrack`: the packet is thrown away once more, so that conntrack forgets too.
        let old = self.vs_conntrack(ns) && self.ct.entry(skb.ct).is_some_and(|e| e.confirmed);
        if old {
            let evidence = table.connection_evidence(row);
            self.step(
                What::Ipvs {
                    server: None,
                    forward: None,
                    by: IpvsBy::Connection,
                },
                [evidence],
            );
            return Err(self.ended(ns, skb.clone(), Outcome::Dropped, Reason::NoRealServer));
        }
        Ok(None)
    }

    fn captured_back(&mut self, ns: NsId, packet: &Packet) -> Option<Conn> {
        let (from, to) = stage::ends(packet)?;
        if !self.ct.asks_captured() || from.1.drawn || to.1.drawn {
            return None;
        }
        let row = self
            .ipvs_table(ns)
            .connection_back(packet.proto, (from.0, from.1.value), (to.0, to.1.value))?;
        let service = self.ipvs_table(ns).find(0, row.proto, row.virt.0, row.virt.1);
        let server = service.and_then(|s| s.servers.iter().find(|s| s.addr == row.server.0));
        let forward = server.map_or(Forward::Masq, |s| s.forward);
        Some(self.conn_of_row(ns, row, forward))
    }

    fn conn_of_row(&mut self, ns: NsId, row: &IpvsConnection, forward: Forward) -> Conn {
        let port = |(addr, port): (IpAddr, u16)| (addr, Port::from(port));
        let evidence = self.ipvs_table(ns).connection_evidence(row);
        self.met.insert((ns, evidence.clone()));
        Conn {
            ns,
            proto: row.proto,
            client: port(row.client),
            virt: port(row.virt),
            server: port(row.server),
            forward,
            tracked: self.vs_conntrack(ns),
            one_packet: false,
            by: IpvsBy::Connection,
            evidence: vec![evidence],
        }
    }

    /// `ip_vs_leave`: nobody takes the connection, and the client is told.
    fn leave_client(&mut self, ns: NsId, skb: Skb, service: &Service<'s>) -> Box<Ended> {
        let table = self.ipvs_table(ns);
        let rows = std::iter::once(service.row.at).chain(service.servers.iter().map(|s| s.at));
        let evidence: Vec<Evidence> = rows.map(|at| table.evidence(at)).collect();
        self.step(
            What::Ipvs {
                server: None,
                forward: None,
                by: IpvsBy::Scheduler,
            },
            evidence,
        );
        let how = if skb.packet.dst.is_ipv4() {
            Reject::IcmpPortUnreachable
        } else {
            Reject::Icmp6PortUnreachable
        };
        let mut ended = self.ended(ns, skb, Outcome::Rejected, Reason::NoRealServer);
        ended.reject = Some(how);
        ended.answer = Some(Answer::Error(how));
        ended
    }

    /// `ip_vs_nat_xmit`, `ip_vs_dr_xmit`
    fn hand_over(&mut self, ns: NsId, hook: Hook, mut skb: Skb, conn: &Conn) -> Handled {
        let (forward, server) = (Some(conn.forward), Some((conn.server.0, conn.server.1)));
        self.step(
            What::Ipvs {
                server,
                forward,
                by: conn.by,
            },
            conn.evidence.clone(),
        );
        let decided = routing::output(
            self.space(ns),
            &Query::to(conn.server.0),
            SenderFlags::default(),
            &mut self.oracle,
            &mut self.sink,
        );
        let egress = match decided {
            Output::Routed(egress, assumed) => {
                self.assumptions.extend(assumed);
                egress
            }
            Output::Refused(refusal, assumed) => {
                self.assumptions.extend(assumed);
                // `dst_link_failure`
                let v4 = skb.packet.dst.is_ipv4();
                let how = if v4 {
                    Reject::IcmpHostUnreachable
                } else {
                    Reject::Icmp6AddrUnreachable
                };
                let mut ended = self.ended(ns, skb, refusal.outcome, refusal.reason);
                ended.end.evidence = refusal.evidence;
                ended.answer = Some(Answer::Error(how));
                return Err(ended);
            }
            Output::Unknown(_) => return Err(self.ended(ns, skb, Outcome::Unknown, Reason::NotCaptured)),
        };
        let local = egress.kind == RouteKind::Local;
        if conn.forward == Forward::Tunnel && !local {
            return Err(self.ended(ns, skb, Outcome::Unknown, Reason::NotModelled));
        }
        self.may_cross(ns, hook, &skb, conn, local)?;
        if !local {
            self.leaves(ns, &mut skb, &egress)?;
        }
        if conn.forward == Forward::Masq {
            let from = (skb.packet.dst, skb.packet.dport());
            skb.packet.dst = conn.server.0;
            skb.packet.set_dport(conn.server.1);
            let to = (skb.packet.dst, skb.packet.dport());
            self.step(
                What::Nat {
                    source: false,
                    from,
                    to,
                },
                None,
            );
            if conn.tracked && !conn.one_packet {
                self.ct.alter_reply(skb.ct, conn.server);
            }
        }
        if !conn.tracked {
            self.untrack(&mut skb);
        }
        skb.ipvs = Some(IpvsProperty {
            ns,
            served: Some(Served {
                virt: conn.virt,
                forward: conn.forward,
                controlled: conn.by == IpvsBy::Template,
            }),
        });
        if local {
            return Ok(Passed::On(skb));
        }
        skb.oif = Some(egress.oif);
        skb.nexthop = Some(egress.nexthop);
        Ok(Passed::Taken(skb))
    }

    /// `crosses_local_route_boundary`, and the check of `ip_vs_nat_xmit` for loopback servers.
    fn may_cross(&mut self, ns: NsId, hook: Hook, skb: &Skb, conn: &Conn, local: bool) -> Result<(), Box<Ended>> {
        let links = self.space(ns).links();
        let old_local = hook == Hook::Input || skb.oif.and_then(|d| links.get(d)).is_some_and(|l| l.flags.loopback);
        let crosses = if local {
            let redirect = conn.forward == Forward::Masq;
            !redirect && !old_local || redirect && conn.server.0.is_loopback() && hook == Hook::Input
        } else {
            skb.packet.src.is_loopback()
        };
        if crosses {
            return Err(self.ended(ns, skb.clone(), Outcome::Dropped, Reason::Martian));
        }
        Ok(())
    }

    /// `decrement_ttl` and `ensure_mtu_is_adequate`
    fn leaves(&mut self, ns: NsId, skb: &mut Skb, egress: &Egress) -> Result<(), Box<Ended>> {
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
            if skb.packet.df && u32::from(skb.packet.len) > mtu && self.vs(ns, "pmtu_disc", 1) != 0 {
                let mut ended = self.ended(ns, skb.clone(), Outcome::Dropped, Reason::TooBig);
                ended.answer = Some(Answer::TooBig);
                return Err(ended);
            }
        }
        Ok(())
    }

    /// `ip_vs_notrack`
    fn untrack(&mut self, skb: &mut Skb) {
        if matches!(skb.ct, Ct::Of { .. } | Ct::Invalid) {
            self.ct.forget_unconfirmed(skb);
            skb.ct = Ct::Untracked;
        }
    }

    /// What IPVS took goes out by OUTPUT, where it has no device to come in by, and POSTROUTING.
    pub(super) fn ipvs_send(&mut self, ns: NsId, mut skb: Skb) -> Next {
        self.stage(Stage::Forward);
        let iif = skb.iif.take();
        skb = self.hook(ns, Hook::Output, skb)?;
        skb.iif = iif;
        skb = self.hook(ns, Hook::Postrouting, skb)?;
        self.finish_output(ns, skb)
    }
}

impl crate::stage::conntrack::Conntrack {
    /// `ip_vs_update_conntrack`: the answer will come from the real server. Only a connection that is not in the
    /// table yet can still be changed.
    fn alter_reply(&mut self, ct: Ct, server: (IpAddr, Port)) {
        let original = matches!(ct, Ct::Of { dir: Dir::Original, .. });
        if let Some(entry) = self.entry_mut(ct)
            && original
            && !entry.confirmed
        {
            (entry.reply.src, entry.reply.sport) = server;
        }
    }
}

#[cfg(test)]
mod tests;
