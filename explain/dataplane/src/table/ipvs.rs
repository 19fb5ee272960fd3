//! IPVS of one namespace: services with their real servers, and captured connections.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use hashbrown::HashMap;
use knet_snapshot::Row;
use knet_snapshot::artifact::name;
use knet_snapshot::id::Family;
use knet_snapshot::ipvs::{Forward, IpvsConnection, IpvsMask, IpvsRow, IpvsServer, IpvsService, ServiceKey};
use knet_snapshot::store::NetnsFacts;

use crate::packet::proto;
use crate::trace::Evidence;

/// The control connection of FTP, whose data may come to any port.
pub const FTP: u16 = 21;
/// Where active FTP sends its data from.
pub const FTP_DATA: u16 = 20;

/// The IPVS table of a namespace.
#[derive(Debug)]
pub struct Ipvs<'s> {
    facts: &'s NetnsFacts,
    artifact: Arc<str>,
    services: Vec<Service<'s>>,
    by_key: HashMap<ServiceKey, usize>,
    by_tuple: HashMap<(u8, Socket, Socket), &'s IpvsConnection>,
    /// There is an FTP service: its data connections come to other ports.
    ftp: bool,
    /// `ipvs.save` was captured, or the kernel has no IPVS.
    pub known: bool,
    /// Every line of it could be read.
    pub whole: bool,
    /// `ipvs-conn.txt` was captured.
    pub connections_known: bool,
}

/// An address and port.
pub type Socket = (IpAddr, u16);

/// A virtual service with its real servers.
#[derive(Debug)]
pub struct Service<'s> {
    /// The service.
    pub row: &'s IpvsService,
    /// Its real servers.
    pub servers: Vec<&'s IpvsServer>,
    /// The same as the capture lists them.
    pub listed: Vec<&'s IpvsServer>,
    /// ... which is the order of the kernel's own list.
    pub ordered: bool,
}

impl<'s> Ipvs<'s> {
    /// Indexes the captured rows. `unsorted`: they came from the kernel, which `ipvsadm` sorts by address.
    #[must_use]
    pub fn compile(facts: &'s NetnsFacts, unsorted: bool) -> Self {
        let mut this = Self {
            facts,
            artifact: facts.path(name::IPVS),
            services: Vec::new(),
            by_key: HashMap::new(),
            by_tuple: HashMap::new(),
            ftp: false,
            known: false,
            whole: true,
            connections_known: false,
        };
        if let Some(table) = facts.ipvs().get() {
            this.known = true;
            this.whole = table.problems.is_empty();
            for row in &table.rows {
                if let IpvsRow::Service(row) = row {
                    this.by_key.entry(row.key).or_insert(this.services.len());
                    this.services.push(Service {
                        row,
                        servers: Vec::new(),
                        listed: Vec::new(),
                        ordered: false,
                    });
                }
            }
            for row in &table.rows {
                if let IpvsRow::Server(row) = row
                    && let Some(&i) = this.by_key.get(&row.service)
                {
                    this.services[i].servers.push(row);
                }
            }
        }
        for service in &mut this.services {
            service.listed.clone_from(&service.servers);
            service.servers.sort_by_key(|s| (s.addr, s.port));
            // `ipvsadm` sorts servers by address: another order was the kernel's.
            let sorted = service.listed.iter().zip(&service.servers).all(|(a, b)| a.at == b.at);
            service.ordered = unsorted || !sorted || service.servers.len() < 2;
        }
        this.ftp = this.services.iter().any(|s| {
            matches!(
                s.row.key,
                ServiceKey::Address {
                    proto: proto::TCP,
                    port: FTP,
                    ..
                }
            )
        });
        if let Some(table) = facts.ipvs_connections().get() {
            this.connections_known = true;
            for row in &table.rows {
                this.by_tuple.insert((row.proto, row.client, row.virt), row);
            }
        }
        this
    }

    /// There is nothing that could touch a packet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known && self.whole && self.services.is_empty()
    }

    /// How many virtual services there are.
    #[must_use]
    pub fn service_count(&self) -> usize {
        self.services.len()
    }

    /// `ip_vs_service_find`: by mark; by protocol, address and port; the FTP service for what may be its data; the
    /// service of every port.
    #[must_use]
    pub fn find(&self, mark: u32, proto: u8, addr: IpAddr, port: u16) -> Option<&Service<'s>> {
        let get = |key| self.by_key.get(&key).map(|&i| &self.services[i]);
        let at = |port| get(ServiceKey::Address { proto, addr, port });
        let marked = || {
            get(ServiceKey::Mark {
                mark,
                family: Family::of(addr),
            })
        };
        let data = self.ftp && proto == proto::TCP && (port == FTP_DATA || port >= 1024);
        (if mark == 0 { None } else { marked() })
            .or_else(|| at(port))
            .or_else(|| if data { at(FTP) } else { None })
            .or_else(|| at(0))
    }

    /// A captured connection.
    #[must_use]
    pub fn connection(&self, proto: u8, client: Socket, virt: Socket) -> Option<&'s IpvsConnection> {
        self.by_tuple
            .get(&(proto, client, virt))
            .copied()
            .filter(|c| c.client.1 != 0)
    }

    /// A captured connection that a packet of its real server belongs to. What is not translated answers as the
    /// virtual service itself.
    #[must_use]
    pub fn connection_back(&self, proto: u8, server: Socket, client: Socket) -> Option<&'s IpvsConnection> {
        let rows = self.facts.ipvs_connections().get()?.rows.iter();
        let answers = |c: &&IpvsConnection| {
            let translated = self.server_of_row(c).is_none_or(|s| s.forward == Forward::Masq);
            let from = if translated { c.server } else { c.virt };
            c.proto == proto && c.client == client && from == server
        };
        let mut hits = rows.filter(answers);
        hits.next()
    }

    /// The real server of a connection among those of a service.
    #[must_use]
    pub fn server_of(&self, service: &Service<'s>, row: &IpvsConnection) -> Option<&'s IpvsServer> {
        let fits = |s: &&&IpvsServer| s.addr == row.server.0 && (s.port == row.server.1 || s.port == 0);
        service.servers.iter().find(fits).copied()
    }

    /// The real server of a connection, among those of its service, else of one that is found by a mark.
    #[must_use]
    pub fn server_of_row(&self, row: &IpvsConnection) -> Option<&'s IpvsServer> {
        let own = self.find(0, row.proto, row.virt.0, row.virt.1);
        let any_port = |service: &Service<'s>| service.servers.iter().copied().find(|s| s.addr == row.server.0);
        let marked = || {
            let mut services = self.services.iter();
            services.find_map(|s| any_port(s).filter(|_| matches!(s.row.key, ServiceKey::Mark { .. })))
        };
        own.and_then(|s| self.server_of(s, row).or_else(|| any_port(s)))
            .or_else(marked)
    }

    /// A real server whose packets are translated (`ip_vs_has_real_service`).
    #[must_use]
    pub fn translated_server(&self, proto: u8, at: Socket) -> Option<&'s IpvsServer> {
        let serves = |key: ServiceKey| match key {
            ServiceKey::Address { proto: p, .. } => p == proto,
            ServiceKey::Mark { .. } => true,
        };
        let servers = self
            .services
            .iter()
            .filter(|s| serves(s.row.key))
            .flat_map(|s| &s.servers);
        let mut hits = servers.filter(|s| s.forward == Forward::Masq && (s.addr, s.port) == at);
        hits.next().copied()
    }

    /// A real server at the end of a tunnel has this address (`ip_vs_find_tunnel`).
    #[must_use]
    pub fn is_tunnelled_to(&self, addr: IpAddr) -> bool {
        let mut servers = self.services.iter().flat_map(|s| &s.servers);
        servers.any(|s| s.forward == Forward::Tunnel && s.addr == addr)
    }

    /// The captured persistence template of a client (`ip_vs_sched_persist`).
    #[must_use]
    pub fn template(
        &self,
        service: &IpvsService,
        client: IpAddr,
        proto: u8,
        virt: Socket,
    ) -> Option<&'s IpvsConnection> {
        let net = masked(client, service.netmask);
        let (proto, virt) = match service.key {
            ServiceKey::Mark { mark, family } => {
                let addr = match family {
                    Family::V4 => IpAddr::V4(Ipv4Addr::from_bits(mark)),
                    Family::V6 => IpAddr::V6(Ipv6Addr::from_bits(u128::from(mark) << 96)),
                };
                (0, (addr, 0))
            }
            ServiceKey::Address { port, .. } if port == virt.1 && port != FTP => (proto, virt),
            ServiceKey::Address { .. } => (proto, (virt.0, 0)),
        };
        self.by_tuple.get(&(proto, (net, 0), virt)).copied()
    }

    /// A service as evidence.
    #[must_use]
    pub fn evidence(&self, at: Row) -> Evidence {
        self.line(name::IPVS, self.artifact.clone(), at)
    }

    /// A connection as evidence.
    #[must_use]
    pub fn connection_evidence(&self, row: &IpvsConnection) -> Evidence {
        self.line(name::IPVS_CONN, self.facts.path(name::IPVS_CONN), row.at)
    }

    fn line(&self, file: &'static str, artifact: Arc<str>, at: Row) -> Evidence {
        let facts = self.facts.bytes(file);
        let start = usize::try_from(at.start).unwrap_or(usize::MAX);
        let bytes = facts
            .get()
            .and_then(|b| b.get(start..start.saturating_add(at.len as usize)))
            .unwrap_or_default();
        let text = String::from_utf8_lossy(bytes);
        let words: Vec<&str> = text.split_whitespace().collect();
        Evidence {
            artifact,
            at,
            handle: None,
            text: words.join(" ").into(),
        }
    }
}

/// The client's address as far as it counts for persistence.
fn masked(client: IpAddr, mask: Option<IpvsMask>) -> IpAddr {
    match (client, mask) {
        (IpAddr::V4(a), Some(IpvsMask::V4(mask))) => IpAddr::V4(Ipv4Addr::from_bits(a.to_bits() & mask.to_bits())),
        (IpAddr::V6(a), Some(IpvsMask::V6(len))) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(len.min(128))).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(a.to_bits() & mask))
        }
        _ => client,
    }
}
