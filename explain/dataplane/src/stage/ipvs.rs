//! IPVS: which real server a new connection goes to (`ip_vs_schedule`), and the connections of a walk.

mod hash;

use std::net::IpAddr;
use std::sync::Arc;

use knet_snapshot::ipvs::{Forward, IpvsServer, ServiceKey, Tunnel};

use crate::choice::{Chance, Oracle, Unknown, ratio};
use crate::packet::{Packet, Port};
use crate::table::ipvs::{Ipvs, Service};
use crate::trace::{Evidence, IpvsBy, NsId};

/// One end of a connection.
pub type End = (IpAddr, Port);

/// A connection (`struct ip_vs_conn`).
#[derive(Clone, Debug, PartialEq)]
pub struct Conn {
    /// Namespace.
    pub ns: NsId,
    /// IP protocol.
    pub proto: u8,
    /// Client, as IPVS saw it.
    pub client: (IpAddr, Port),
    /// What the client addressed.
    pub virt: (IpAddr, Port),
    /// Real server.
    pub server: (IpAddr, Port),
    /// How it gets its packets.
    pub forward: Forward,
    /// ... when that is a tunnel.
    pub tunnel: Tunnel,
    /// `IP_VS_CONN_F_NFCT`: conntrack keeps its entry.
    pub tracked: bool,
    /// `IP_VS_CONN_F_ONE_PACKET`
    pub one_packet: bool,
    /// Which way the server was found.
    pub by: IpvsBy,
    /// The rows that decided.
    pub evidence: Vec<Evidence>,
}

impl Conn {
    /// The real server is told in the destination, and answers in its own name (`IP_VS_CONN_F_MASQ`).
    #[must_use]
    pub fn translates(&self) -> bool {
        self.forward == Forward::Masq
    }
}

/// The connections of one walk, in every namespace it visits.
#[derive(Debug, Default)]
pub struct Connections {
    entries: Vec<Conn>,
}

fn same(a: (IpAddr, Port), b: (IpAddr, Port)) -> bool {
    a.0 == b.0 && a.1.value == b.1.value
}

/// Source and destination of a packet that has ports.
#[must_use]
pub fn ends(packet: &Packet) -> Option<((IpAddr, Port), (IpAddr, Port))> {
    Some(((packet.src, packet.sport()?), (packet.dst, packet.dport()?)))
}

impl Connections {
    /// `ip_vs_conn_in_get`
    #[must_use]
    pub fn inward(&self, ns: NsId, proto: u8, from: (IpAddr, Port), to: (IpAddr, Port)) -> Option<&Conn> {
        self.entries
            .iter()
            .rev()
            .find(|c| c.ns == ns && c.proto == proto && same(c.client, from) && same(c.virt, to))
    }

    /// `ip_vs_conn_out_get`: what is not translated answers as the virtual service itself.
    #[must_use]
    pub fn outward(&self, ns: NsId, proto: u8, from: (IpAddr, Port), to: (IpAddr, Port)) -> Option<&Conn> {
        self.entries.iter().rev().find(|c| {
            let server = if c.translates() { c.server } else { c.virt };
            c.ns == ns && c.proto == proto && same(server, from) && same(c.client, to)
        })
    }

    /// Remembers a connection.
    pub fn open(&mut self, conn: Conn) {
        self.entries.push(conn);
    }
}

/// The scheduler of a service: the real server of a new connection, or none.
pub fn schedule<'s>(
    table: &Ipvs<'s>,
    service: &Service<'s>,
    packet: &Packet,
    oracle: &mut Oracle,
    at: &str,
) -> Option<&'s IpvsServer> {
    let evidence = table.evidence(service.row.at);
    // `IP_VS_DEST_F_OVERLOAD`: how many connections a server has now, no table shows.
    let mut overloaded = |server: &IpvsServer| {
        let what = "a real server has more connections than its threshold";
        let key = format!("ipvs overload {at} {} {}", server.addr, server.port);
        server.upper != 0 && oracle.unknown(key, Unknown::Outside(what), 2) == 0
    };
    let open: Vec<&IpvsServer> = service
        .servers
        .iter()
        .copied()
        .filter(|s| s.weight > 0 && !overloaded(s))
        .collect();
    let any = |oracle: &mut Oracle, what: &'static str, options: &[Option<&'s IpvsServer>]| {
        let i = oracle.unknown(
            format!("ipvs {at} {}", evidence.text),
            Unknown::Outside(what),
            options.len(),
        );
        options.get(i).copied().flatten()
    };
    let of = |servers: &[&'s IpvsServer]| servers.iter().copied().map(Some).collect::<Vec<_>>();
    match service.row.scheduler.as_str() {
        // Which one is next depends on when the packet comes: all are equally likely over many.
        "rr" | "wrr" => {
            let even = service.row.scheduler == "rr";
            let weights: Vec<_> = open
                .iter()
                .map(|s| ratio(if even { 1 } else { u64::from(s.weight) }, 1))
                .collect();
            let i = oracle.chance(Chance::Scheduler, &weights, Some(evidence));
            open.get(i).copied()
        }
        "lc" | "wlc" | "sed" | "nq" | "twos" => any(oracle, "which real server has the fewest connections", &of(&open)),
        "lblc" | "lblcr" => any(oracle, "which real server took this address before", &of(&open)),
        // `ip_vs_ovf_schedule`: a server with more active connections than its weight is passed over; perhaps all are.
        "ovf" => {
            let mut options = of(&open);
            options.push(None);
            any(oracle, "which real server is full", &options)
        }
        "fo" => {
            // `ip_vs_fo_schedule`: the highest weight, and of equal ones the first of the kernel's list.
            let best = open.iter().map(|s| s.weight).max();
            let mut first: Vec<_> = open.iter().copied().filter(|s| Some(s.weight) == best).collect();
            if service.ordered {
                let first_of = |s: &&IpvsServer| first.iter().any(|f| f.at == s.at);
                return service.listed.iter().copied().find(first_of);
            }
            first.dedup();
            any(oracle, "which real server of the highest weight is first", &of(&first))
        }
        "sh" | "dh" | "mh" => {
            let takes = |s: &IpvsServer| open.iter().any(|o| o.at == s.at);
            if let Some(chosen) = hash::pick(service, packet, takes) {
                return chosen;
            }
            // In which order the servers filled the scheduler's table is not known. One that takes nothing keeps its
            // place in it, and then nobody takes the packet.
            let mut options = of(&open);
            if open.len() < service.servers.len() && !hash::falls_back(service) {
                options.push(None);
            }
            any(oracle, "which real server the hash leads to", &options)
        }
        "" | "none" => None,
        _ => any(oracle, "which real server an unknown scheduler chooses", &{
            let mut options = of(&open);
            options.push(None);
            options
        }),
    }
}

/// The port a connection to a server uses: its own, or the one the client addressed.
#[must_use]
pub fn server_port(service: &Service<'_>, server: &IpvsServer, dport: Port) -> Port {
    let asked = match service.row.key {
        // A persistent service of marks or of every port keeps the port.
        ServiceKey::Address { port, .. } => port == dport.value,
        ServiceKey::Mark { .. } => !service.row.persistent,
    };
    if asked && server.port != 0 {
        Port::from(server.port)
    } else {
        dport
    }
}

/// The word of a namespace that keeps questions about it apart.
#[must_use]
pub fn place(ns: NsId, artifact: &Arc<str>) -> String {
    format!("{} {artifact}", ns.0)
}
