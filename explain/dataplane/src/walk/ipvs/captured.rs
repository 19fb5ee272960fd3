//! Connections and templates that were captured.

use std::net::IpAddr;

use knet_snapshot::ipvs::{Forward, IpvsConnection, IpvsServer, Tunnel};

use crate::packet::{Port, proto, tcp_flag};
use crate::skb::Skb;
use crate::stage::ipvs::{self as stage, Conn};
use crate::table::ipvs::Service;
use crate::trace::{Evidence, IpvsBy, NsId, Outcome, Reason, What};
use crate::walk::walker::{Ended, Walker};

impl<'s> Walker<'_, 's> {
    /// `ip_vs_check_template`
    pub(super) fn by_template(
        &mut self,
        ns: NsId,
        service: &Service<'s>,
        row: &IpvsConnection,
    ) -> Option<&'s IpvsServer> {
        let fits = |s: &&&'s IpvsServer| s.addr == row.server.0 && (s.port == row.server.1 || row.server.1 == 0);
        let server = service.servers.iter().find(fits).copied()?;
        (server.weight > 0 || self.vs(ns, "expire_quiescent_template", 0) == 0).then_some(server)
    }

    /// A captured connection, when the exact tuple is known and the connection still counts.
    pub(super) fn captured(&mut self, ns: NsId, skb: &Skb) -> Result<Option<Conn>, Box<Ended>> {
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
        let server = service.and_then(|s| table.server_of(s, row));
        let new = p.proto == proto::TCP && p.tcp_flags() & tcp_flag::SYN != 0;
        let expire = self.vs(ns, "expire_nodest_conn", 0) != 0;
        // A connection that belongs to a template is not taken for over.
        let over = matches!(row.state.as_str(), "TIME_WAIT" | "CLOSE") && !service.is_some_and(|s| s.row.persistent);
        let again = match server {
            None if !expire => {
                let evidence = table.connection_evidence(row);
                self.met.insert((ns, evidence.clone()));
                return Err(self.loses_server(ns, skb, evidence));
            }
            None => true,
            Some(server) => new && (expire && server.weight == 0 || over && self.vs(ns, "conn_reuse_mode", 1) != 0),
        };
        if !again {
            return Ok(Some(self.conn_of_row(ns, row)));
        }
        // `ip_vs_conn_uses_old_conntrack`: the packet is thrown away once more, so that conntrack forgets too.
        let old = self.vs_conntrack(ns) && self.ct.entry(skb.ct).is_some_and(|e| e.confirmed);
        if old {
            return Err(self.loses_server(ns, skb, table.connection_evidence(row)));
        }
        Ok(None)
    }

    /// The packet's connection has no real server to give it to.
    fn loses_server(&mut self, ns: NsId, skb: &Skb, row: Evidence) -> Box<Ended> {
        let what = What::Ipvs {
            server: None,
            forward: None,
            by: IpvsBy::Connection,
        };
        self.step(what, [row]);
        self.ended(ns, skb.clone(), Outcome::Dropped, Reason::NoRealServer)
    }

    /// The captured connection of these ends, whatever has become of its server.
    pub(super) fn captured_row(
        &mut self,
        ns: NsId,
        protocol: u8,
        client: (IpAddr, Port),
        virt: (IpAddr, Port),
    ) -> Option<Conn> {
        if !self.ct.asks_captured() || client.1.drawn || virt.1.drawn {
            return None;
        }
        let row = self
            .ipvs_table(ns)
            .connection(protocol, (client.0, client.1.value), (virt.0, virt.1.value))?;
        Some(self.conn_of_row(ns, row))
    }

    /// `ip_vs_conn_out_get`, in what was captured.
    pub(super) fn captured_back(
        &mut self,
        ns: NsId,
        protocol: u8,
        server: (IpAddr, Port),
        client: (IpAddr, Port),
    ) -> Option<Conn> {
        if !self.ct.asks_captured() || server.1.drawn || client.1.drawn {
            return None;
        }
        let table = self.ipvs_table(ns);
        let row = table.connection_back(protocol, (server.0, server.1.value), (client.0, client.1.value))?;
        Some(self.conn_of_row(ns, row))
    }

    fn conn_of_row(&mut self, ns: NsId, row: &IpvsConnection) -> Conn {
        let port = |(addr, port): (IpAddr, u16)| (addr, Port::from(port));
        let table = self.ipvs_table(ns);
        let evidence = table.connection_evidence(row);
        let server = table.server_of_row(row);
        self.met.insert((ns, evidence.clone()));
        Conn {
            ns,
            proto: row.proto,
            client: port(row.client),
            virt: port(row.virt),
            server: port(row.server),
            // The table of connections does not say how.
            forward: server.map_or(Forward::Masq, |s| s.forward),
            tunnel: server.map_or(Tunnel::Ipip, |s| s.tunnel),
            tracked: self.vs_conntrack(ns),
            one_packet: false,
            by: IpvsBy::Connection,
            evidence: vec![evidence],
        }
    }
}
