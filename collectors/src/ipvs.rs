//! A reader of the kernel's IPVS table over generic netlink (`net/netfilter/ipvs/ip_vs_ctl.c`): virtual
//! services, real servers, timeouts. It only asks; what it makes of the messages needs no kernel.

use std::fmt::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr};

use netlink_sys::protocols::NETLINK_GENERIC;

use crate::exec::Limits;
use crate::netlink::socket::{Message, Netlink, NetlinkError, attributes, put, u16_at, u32_at};

/// A virtual service (`IPVS_SVC_ATTR_*`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// What it is found by.
    pub key: Key,
    /// Scheduler's name.
    pub scheduler: String,
    /// `IP_VS_SVC_F_*`
    pub flags: u32,
    /// Persistence in seconds, when [`Self::is_persistent`].
    pub timeout: u32,
    /// IPv4 netmask of persistence, or prefix length for IPv6.
    pub netmask: Mask,
    /// Persistence engine.
    pub engine: Option<String>,
}

/// What a service is found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// Protocol, address and port.
    Address {
        /// IP protocol.
        protocol: u8,
        /// Address.
        address: IpAddr,
        /// Port; 0 is every port.
        port: u16,
    },
    /// Firewall mark.
    Mark {
        /// The mark.
        mark: u32,
        /// Of IPv6 packets.
        v6: bool,
    },
}

/// How much of a client's address counts for persistence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// IPv4 netmask.
    V4(Ipv4Addr),
    /// IPv6 prefix length.
    V6(u32),
}

/// A real server (`IPVS_DEST_ATTR_*`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Address.
    pub address: IpAddr,
    /// Port.
    pub port: u16,
    /// How it gets its packets.
    pub forward: Forward,
    /// Weight.
    pub weight: u32,
    /// No new connections above so many; 0 is no limit.
    pub upper: u32,
    /// New connections again below so many.
    pub lower: u32,
    /// Connections that are open.
    pub active: u32,
    /// Connections that are closing.
    pub inactive: u32,
    /// Encapsulation of [`Forward::Tunnel`]: 0 IPIP, 1 GUE, 2 GRE.
    pub tunnel: u8,
    /// Port of a GUE tunnel.
    pub tunnel_port: u16,
}

/// `IP_VS_CONN_F_*`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forward {
    /// The destination is translated.
    Masq,
    /// The real server is this host.
    Local,
    /// In a tunnel.
    Tunnel,
    /// Direct routing.
    Route,
}

/// Seconds after which idle connections are forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// Established TCP.
    pub tcp: u32,
    /// TCP after a FIN.
    pub tcp_fin: u32,
    /// UDP.
    pub udp: u32,
}

/// The whole table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Services with their servers.
    pub services: Vec<(Service, Vec<Server>)>,
    /// Timeouts.
    pub timeouts: Timeouts,
    /// The kernel did not interrupt a dump.
    pub consistent: bool,
}

const CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const IPVS_CMD_GET_SERVICE: u8 = 4;
const IPVS_CMD_GET_DEST: u8 = 8;
const IPVS_CMD_GET_CONFIG: u8 = 13;
const IPVS_CMD_ATTR_SERVICE: u16 = 1;
const IPVS_CMD_ATTR_DEST: u16 = 2;
const AF_INET6: u16 = 10;
const F_PERSISTENT: u32 = 0x1;
const F_ONE_PACKET: u32 = 0x4;
const F_SCHEDULER: [u32; 3] = [0x8, 0x10, 0x20];
/// `struct genlmsghdr`
const HEADER: usize = 4;

/// Reads the table of this thread's namespace; `None` when the kernel has no IPVS (its module is not loaded:
/// the families are listed, for asking for one by name would load it).
///
/// # Errors
/// When the kernel refuses or answers what cannot be read.
pub fn read(limits: Limits) -> Result<Option<Table>, NetlinkError> {
    let mut netlink = Netlink::open(NETLINK_GENERIC, limits)?;
    let mut family = None;
    netlink.dump(CTRL, &[CTRL_CMD_GETFAMILY, 2, 0, 0], |message| {
        family = family.or_else(|| family_id(message, "IPVS"));
        Ok(())
    })?;
    let Some(family) = family else { return Ok(None) };
    let mut services = Vec::new();
    let mut interrupted = netlink.dump(family, &[IPVS_CMD_GET_SERVICE, 1, 0, 0], |message| {
        services.push(service(message.payload)?);
        Ok(())
    })?;
    let mut table = Table::default();
    for service in services {
        let mut servers = Vec::new();
        interrupted |= netlink.dump(family, &servers_request(&service.key), |message| {
            servers.push(server(message.payload, &service.key)?);
            Ok(())
        })?;
        table.services.push((service, servers));
    }
    netlink.get(family, &[IPVS_CMD_GET_CONFIG, 1, 0, 0], |message| {
        table.timeouts = timeouts(message.payload);
        Ok(())
    })?;
    table.consistent = !interrupted;
    Ok(Some(table))
}

/// The id of a generic netlink family, when the message is about that one.
pub(crate) fn family_id(message: Message<'_>, name: &str) -> Option<u16> {
    const CTRL_ATTR_FAMILY_ID: u16 = 1;
    const CTRL_ATTR_FAMILY_NAME: u16 = 2;
    let body = message.payload.get(HEADER..)?;
    let value = |wanted: u16| attributes(body).find(|(kind, _)| *kind == wanted).map(|(_, v)| v);
    (text(value(CTRL_ATTR_FAMILY_NAME)?) == name).then(|| u16_at(value(CTRL_ATTR_FAMILY_ID).unwrap_or_default(), 0))
}

/// Decodes an answer to `IPVS_CMD_GET_SERVICE` (with its generic header).
///
/// # Errors
/// What is missing in it.
pub fn service(payload: &[u8]) -> Result<Service, String> {
    let nest = nest(payload, IPVS_CMD_ATTR_SERVICE).ok_or("a service without attributes")?;
    let value = |wanted: u16| attributes(nest).find(|(kind, _)| *kind == wanted).map(|(_, v)| v);
    let v6 = u16_at(value(1).ok_or("a service without a family")?, 0) == AF_INET6;
    let key = match value(5) {
        Some(mark) => Key::Mark {
            mark: u32_at(mark, 0),
            v6,
        },
        None => Key::Address {
            protocol: u8::try_from(u16_at(value(2).ok_or("a service without a protocol")?, 0)).unwrap_or(0),
            address: address(value(3).ok_or("a service without an address")?, v6)
                .ok_or("an address that is cut off")?,
            port: value(4).map_or(0, be16),
        },
    };
    let mask = value(9).unwrap_or_default();
    Ok(Service {
        key,
        scheduler: value(6).map(text).unwrap_or_default(),
        flags: value(7).map_or(0, |flags| u32_at(flags, 0)),
        timeout: value(8).map_or(0, |timeout| u32_at(timeout, 0)),
        netmask: if v6 {
            Mask::V6(u32_at(mask, 0))
        } else {
            Mask::V4(Ipv4Addr::from(u32_at(mask, 0).to_ne_bytes()))
        },
        engine: value(11).map(text).filter(|name| !name.is_empty()),
    })
}

/// Decodes an answer to `IPVS_CMD_GET_DEST` about a service.
///
/// # Errors
/// What is missing in it.
pub fn server(payload: &[u8], of: &Key) -> Result<Server, String> {
    let nest = nest(payload, IPVS_CMD_ATTR_DEST).ok_or("a real server without attributes")?;
    let value = |wanted: u16| attributes(nest).find(|(kind, _)| *kind == wanted).map(|(_, v)| v);
    let number = |wanted: u16| value(wanted).map_or(0, |v| u32_at(v, 0));
    let v6 = match (value(11), of) {
        // Since 3.18 a tunnelled server may be of the other family.
        (Some(family), _) => u16_at(family, 0) == AF_INET6,
        (None, Key::Mark { v6, .. }) => *v6,
        (None, Key::Address { address, .. }) => address.is_ipv6(),
    };
    let raw = value(1).ok_or("a real server without an address")?;
    Ok(Server {
        address: address(raw, v6).ok_or("an address that is cut off")?,
        port: value(2).map_or(0, be16),
        forward: match number(3) & 7 {
            0 => Forward::Masq,
            1 => Forward::Local,
            2 => Forward::Tunnel,
            3 => Forward::Route,
            other => return Err(format!("forwarding method {other}, which is not known")),
        },
        weight: number(4),
        upper: number(5),
        lower: number(6),
        active: number(7),
        inactive: number(8),
        tunnel: value(13).and_then(|v| v.first().copied()).unwrap_or(0),
        tunnel_port: value(14).map_or(0, be16),
    })
}

/// Decodes an answer to `IPVS_CMD_GET_CONFIG`.
#[must_use]
pub fn timeouts(payload: &[u8]) -> Timeouts {
    let body = payload.get(HEADER..).unwrap_or_default();
    let mut found = Timeouts::default();
    for (kind, value) in attributes(body) {
        match kind {
            4 => found.tcp = u32_at(value, 0),
            5 => found.tcp_fin = u32_at(value, 0),
            6 => found.udp = u32_at(value, 0),
            _ => {}
        }
    }
    found
}

/// The request for the servers of a service.
#[must_use]
pub fn servers_request(of: &Key) -> Vec<u8> {
    let mut nest = Vec::new();
    match of {
        Key::Address {
            protocol,
            address,
            port,
        } => {
            let family: u16 = if address.is_ipv6() { AF_INET6 } else { 2 };
            put(&mut nest, 1, &family.to_ne_bytes());
            put(&mut nest, 2, &u16::from(*protocol).to_ne_bytes());
            // `union nf_inet_addr` is always 16 bytes.
            let mut raw = [0; 16];
            match address {
                IpAddr::V4(v4) => raw[..4].copy_from_slice(&v4.octets()),
                IpAddr::V6(v6) => raw = v6.octets(),
            }
            put(&mut nest, 3, &raw);
            put(&mut nest, 4, &port.to_be_bytes());
        }
        Key::Mark { mark, v6 } => {
            let family: u16 = if *v6 { AF_INET6 } else { 2 };
            put(&mut nest, 1, &family.to_ne_bytes());
            put(&mut nest, 5, &mark.to_ne_bytes());
        }
    }
    let mut request = vec![IPVS_CMD_GET_DEST, 1, 0, 0];
    put(
        &mut request,
        IPVS_CMD_ATTR_SERVICE | netlink_packet_core::NLA_F_NESTED,
        &nest,
    );
    request
}

fn nest(payload: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(payload.get(HEADER..)?)
        .find(|(kind, _)| *kind == wanted)
        .map(|(_, value)| value)
}

fn address(raw: &[u8], v6: bool) -> Option<IpAddr> {
    crate::netlink::ip(raw.get(..if v6 { 16 } else { 4 })?)
}

fn be16(bytes: &[u8]) -> u16 {
    u16::from_be_bytes(u16_at(bytes, 0).to_ne_bytes())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.split(|b| *b == 0).next().unwrap_or_default()).into_owned()
}

impl Service {
    /// A client stays with its server for a while.
    #[must_use]
    pub const fn is_persistent(&self) -> bool {
        self.flags & F_PERSISTENT != 0
    }

    /// Names of the flags that belong to the scheduler, as `ipvsadm` has them.
    fn scheduler_flags(&self) -> Vec<String> {
        let named = matches!(self.scheduler.as_str(), "sh" | "mh");
        F_SCHEDULER
            .iter()
            .enumerate()
            .filter(|(_, bit)| self.flags & **bit != 0)
            .map(|(i, _)| match (named, i) {
                (true, 0) => format!("{}-fallback", self.scheduler),
                (true, 1) => format!("{}-port", self.scheduler),
                (_, i) => format!("flag-{}", i + 1),
            })
            .collect()
    }
}

/// As `ipvsadm` names a service.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address {
                protocol,
                address,
                port,
            } => {
                f.write_str(match protocol {
                    6 => "-t ",
                    17 => "-u ",
                    _ => "--sctp-service ",
                })?;
                write!(f, "{}", std::net::SocketAddr::new(*address, *port))
            }
            Self::Mark { mark, v6: false } => write!(f, "-f {mark}"),
            Self::Mark { mark, v6: true } => write!(f, "-f {mark} -6"),
        }
    }
}

/// The lines of `ipvsadm-save -n`.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (service, servers) in &self.services {
            write!(f, "-A {} -s {}", service.key, service.scheduler)?;
            if service.is_persistent() {
                write!(f, " -p {}", service.timeout)?;
                match service.netmask {
                    Mask::V4(mask) if mask != Ipv4Addr::BROADCAST => write!(f, " -M {mask}")?,
                    Mask::V6(length) if length != 128 => write!(f, " -M {length}")?,
                    _ => {}
                }
            }
            if service.flags & F_ONE_PACKET != 0 {
                f.write_str(" -o")?;
            }
            if let Some(engine) = &service.engine {
                write!(f, " --pe {engine}")?;
            }
            let flags = service.scheduler_flags();
            if !flags.is_empty() {
                write!(f, " -b {}", flags.join(","))?;
            }
            f.write_char('\n')?;
            for server in servers {
                let address = std::net::SocketAddr::new(server.address, server.port);
                let how = match server.forward {
                    Forward::Masq => "-m",
                    Forward::Tunnel => "-i",
                    Forward::Local | Forward::Route => "-g",
                };
                write!(f, "-a {} -r {address} {how} -w {}", service.key, server.weight)?;
                if server.forward == Forward::Tunnel && server.tunnel != 0 {
                    write!(f, " --tun-type {}", if server.tunnel == 1 { "gue" } else { "gre" })?;
                    if server.tunnel == 1 {
                        write!(f, " --tun-port {}", server.tunnel_port)?;
                    }
                }
                if server.upper != 0 {
                    write!(f, " -x {}", server.upper)?;
                }
                if server.lower != 0 {
                    write!(f, " -y {}", server.lower)?;
                }
                f.write_char('\n')?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "ipvs_tests.rs"]
mod tests;
