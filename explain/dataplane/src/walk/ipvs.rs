//! IPVS at its hooks: `ip_vs_in`, `ip_vs_out`.

mod captured;
mod icmp;
mod transmit;

use std::net::IpAddr;

use knet_snapshot::artifact::name;
use knet_snapshot::ipvs::ServiceKey;

use super::walker::{Ended, Walker};
use crate::choice::Unknown;
use crate::packet::{L4, Port, proto, tcp_flag};
use crate::skb::{IpvsProperty, PktType, Skb};
use crate::stage::ipvs::{self as stage, Conn};
use crate::table::ipvs::{FTP, FTP_DATA, Ipvs, Service};
use crate::trace::{Answer, Assumption, Evidence, Hook, IpvsBy, NsId, Outcome, Reason, Reject, What};

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
    pub(super) fn ipvs_out(&mut self, ns: NsId, hook: Hook, skb: Skb) -> Result<Skb, Box<Ended>> {
        if skb.ipvs_in(ns) {
            return Ok(skb);
        }
        let Some((protocol, server, client)) = icmp::ends(&skb.packet) else {
            return Ok(skb);
        };
        let found = match self.ipvs.outward(ns, protocol, server, client).cloned() {
            Some(conn) => Some(conn),
            None => self.captured_back(ns, protocol, server, client),
        };
        match found {
            Some(conn) => self.answered(ns, hook, skb, &conn),
            None => self.unasked(ns, skb, (server.0, server.1.value)),
        }
    }

    /// `handle_response`, `handle_response_icmp`
    fn answered(&mut self, ns: NsId, hook: Hook, mut skb: Skb, conn: &Conn) -> Result<Skb, Box<Ended>> {
        let error = matches!(skb.packet.l4, L4::Icmp { .. });
        if conn.translates() {
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
        }
        // `ip_vs_route_me_harder`: not for what stays on this host.
        let stays = skb
            .oif
            .and_then(|dev| self.link(ns, dev))
            .is_some_and(|l| l.flags.loopback);
        let routed = conn.translates() || !error;
        if routed && hook != Hook::Input && !stays && self.vs(ns, "snat_reroute", 1) != 0 {
            self.reroute(ns, &mut skb)?;
        }
        skb.ipvs = Some(IpvsProperty { ns, served: None });
        if !conn.tracked {
            self.untrack(&mut skb);
        } else if conn.translates() && !conn.one_packet {
            self.ct.alter_reply(skb.ct, conn, false);
        }
        Ok(skb)
    }

    /// A real server that says something to which there is no connection is told so, if `nat_icmp_send` is set.
    fn unasked(&mut self, ns: NsId, skb: Skb, from: (IpAddr, u16)) -> Result<Skb, Box<Ended>> {
        let error = matches!(skb.packet.l4, L4::Icmp { .. });
        let reset = skb.packet.tcp_flags() & tcp_flag::RST != 0;
        let known = || self.ipvs_table(ns).translated_server(skb.packet.proto, from);
        let Some(server) = (!error && !reset).then(known).flatten() else {
            return Ok(skb);
        };
        if self.vs(ns, "nat_icmp_send", 0) == 0 {
            return Ok(skb);
        }
        let evidence = self.ipvs_table(ns).evidence(server.at);
        self.step(
            What::Ipvs {
                server: None,
                forward: None,
                by: IpvsBy::Connection,
            },
            [evidence],
        );
        Err(self.told(ns, skb, Reason::NoIpvsConnection))
    }

    /// `ip_vs_in`
    pub(super) fn ipvs_in(&mut self, ns: NsId, hook: Hook, mut skb: Skb) -> Handled {
        let wrong_type = skb.pkt_type != PktType::Host && hook != Hook::Output;
        if skb.ipvs_in(ns) || wrong_type || self.vs(ns, "backup_only", 0) != 0 {
            return Ok(Passed::On(skb));
        }
        if icmp::about(&skb.packet).is_some() {
            return self.ipvs_in_icmp(ns, hook, skb);
        }
        if !matches!(skb.packet.proto, proto::TCP | proto::UDP | proto::SCTP) {
            // `ip_vs_proto_data_get` knows these two as well, for connections that no walk has.
            let known = matches!(skb.packet.proto, proto::ESP | proto::AH);
            if !known && self.vs(ns, "ignore_tunneled", 0) != 0 {
                skb.ipvs = Some(IpvsProperty { ns, served: None });
            }
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
        // `tcp_conn_schedule`: only a SYN starts a connection, unless any packet may.
        let flags = skb.packet.tcp_flags();
        let tcp = skb.packet.proto == proto::TCP;
        if tcp && flags & tcp_flag::RST != 0 || tcp && flags & tcp_flag::SYN == 0 && self.vs(ns, "sloppy_tcp", 0) == 0 {
            return Ok(Passed::On(skb));
        }
        let table = self.ipvs_table(ns);
        let Some(service) = table.find(skb.mark, skb.packet.proto, virt.0, virt.1.value) else {
            return self.no_service(ns, skb);
        };
        // "Never schedule Active FTPDATA connections from real server."
        if client.1.value == FTP_DATA && !client.1.drawn {
            return Ok(Passed::On(skb));
        }
        // "Do not schedule replies from local real server".
        let within = skb
            .iif
            .is_none_or(|dev| self.link(ns, dev).is_some_and(|l| l.flags.loopback));
        if within && self.ipvs.inward(ns, skb.packet.proto, virt, client).is_some() {
            return Ok(Passed::On(skb));
        }
        match self.choose(ns, &skb, service, client, virt) {
            Some(conn) => {
                // `ip_vs_conn_hash`: what is for one packet only is in no table.
                if !conn.one_packet {
                    self.ipvs.open(conn.clone());
                }
                self.hand_over(ns, hook, skb, &conn)
            }
            None => self.leave_service(ns, skb, service, virt),
        }
    }

    /// No service has the address: that is sure only when the whole table was read.
    fn no_service(&mut self, ns: NsId, skb: Skb) -> Handled {
        let table = self.ipvs_table(ns);
        if table.known && table.whole {
            return Ok(Passed::On(skb));
        }
        let path = self.space(ns).facts.path(name::IPVS);
        self.missing_table(ns, &path, &skb)?;
        Ok(Passed::On(skb))
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
                    let what = Unknown::Outside("which real server the client was given before");
                    let key = format!("ipvs template {at} {} {}", client.0, evidence[0].text);
                    let i = self.oracle.unknown(key, what, service.servers.len());
                    service.servers.get(i).copied()
                }
            };
        } else if let ServiceKey::Address { port, .. } = service.row.key
            && port != virt.1.value
        {
            // "port zero only supported in persistent services", and FTP's data connections likewise.
            return None;
        }
        let server = match server {
            Some(server) => server,
            None => stage::schedule(table, service, &skb.packet, &mut self.oracle, &at)?,
        };
        evidence.push(table.evidence(server.at));
        Some(Conn {
            ns,
            proto: skb.packet.proto,
            client,
            virt,
            server: (server.addr, stage::server_port(service, server, virt.1)),
            forward: server.forward,
            tunnel: server.tunnel,
            tracked: self.vs_conntrack(ns),
            one_packet: service.row.one_packet && skb.packet.proto == proto::UDP,
            by,
            evidence,
        })
    }

    /// `ip_vs_leave`: nobody takes the connection, and the client is told.
    fn leave_service(&mut self, ns: NsId, skb: Skb, service: &Service<'s>, virt: (IpAddr, Port)) -> Handled {
        let table = self.ipvs_table(ns);
        let rows = std::iter::once(service.row.at).chain(service.servers.iter().map(|s| s.at));
        let evidence: Vec<Evidence> = rows.map(|at| table.evidence(at)).collect();
        let marked = matches!(service.row.key, ServiceKey::Mark { .. });
        let abroad = || self.space(ns).links().owner(virt.0).is_none();
        if marked && abroad() && self.vs(ns, "cache_bypass", 0) != 0 {
            // The connection goes to where the client wanted.
            self.step(What::Undecided, evidence);
            return Err(self.ended(ns, skb, Outcome::Unknown, Reason::NotModelled));
        }
        // Packets to other ports may come here when there is an FTP service: "it is not ipvs job to decide".
        if matches!(service.row.key, ServiceKey::Address { port: FTP, .. }) && virt.1.value != FTP {
            return Ok(Passed::On(skb));
        }
        self.step(
            What::Ipvs {
                server: None,
                forward: None,
                by: IpvsBy::Scheduler,
            },
            evidence,
        );
        Err(self.told(ns, skb, Reason::NoRealServer))
    }

    /// Thrown away, and the sender is told that the port is unreachable.
    fn told(&mut self, ns: NsId, skb: Skb, reason: Reason) -> Box<Ended> {
        let how = if skb.packet.dst.is_ipv4() {
            Reject::IcmpPortUnreachable
        } else {
            Reject::Icmp6PortUnreachable
        };
        let mut ended = self.ended(ns, skb, Outcome::Rejected, reason);
        ended.reject = Some(how);
        ended.answer = Some(Answer::Error(how));
        ended
    }
}

#[cfg(test)]
mod tests;
