//! `ipvs.save`: `ipvsadm-save -n`, or `/proc/net/ip_vs`; `ipvs-conn.txt`: `/proc/net/ip_vs_conn`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use crate::id::Family;
use crate::lines;
use crate::protocol;
use crate::row::{Row, Table};

/// A line of the IPVS table: a virtual service, or a real server of the service before it.
#[derive(Clone, Debug, PartialEq)]
pub enum IpvsRow {
    /// `-A`
    Service(IpvsService),
    /// `-a`
    Server(IpvsServer),
}

/// What a virtual service is found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServiceKey {
    /// Protocol, address and port; port 0 takes every port.
    Address {
        /// IP protocol.
        proto: u8,
        /// Address.
        addr: IpAddr,
        /// Port.
        port: u16,
    },
    /// Firewall mark.
    Mark {
        /// The mark.
        mark: u32,
        /// Of packets of this family.
        family: Family,
    },
}

/// A virtual service (`struct ip_vs_service`).
#[derive(Clone, Debug, PartialEq)]
pub struct IpvsService {
    /// Where the row stands.
    pub at: Row,
    /// What it is found by.
    pub key: ServiceKey,
    /// Scheduler as written; empty when none is bound.
    pub scheduler: String,
    /// `-b`: flags of the scheduler, as written.
    pub scheduler_flags: Vec<String>,
    /// A client stays with its server for a while.
    pub persistent: bool,
    /// `-M`: clients of one network stay together. A netmask, or a prefix length for IPv6.
    pub netmask: Option<IpvsMask>,
    /// `-o`: every UDP packet is scheduled by itself.
    pub one_packet: bool,
    /// `--pe`: persistence engine.
    pub engine: Option<String>,
}

/// How much of the client's address counts for persistence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpvsMask {
    /// IPv4 netmask.
    V4(Ipv4Addr),
    /// IPv6 prefix length.
    V6(u8),
}

/// How packets are handed to a real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forward {
    /// `-m`: the destination is translated.
    Masq,
    /// `-g`: direct routing, the packet stays as it is.
    Route,
    /// `-i`: in a tunnel.
    Tunnel,
}

/// What a packet is put into on its way to a real server behind a tunnel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tunnel {
    /// IPIP, or IPv6 in either.
    #[default]
    Ipip,
    /// GUE, over UDP.
    Gue {
        /// UDP port of the real server.
        port: u16,
    },
    /// GRE.
    Gre,
}

/// A real server (`struct ip_vs_dest`).
#[derive(Clone, Debug, PartialEq)]
pub struct IpvsServer {
    /// Where the row stands.
    pub at: Row,
    /// Of which service.
    pub service: ServiceKey,
    /// Address.
    pub addr: IpAddr,
    /// Port; 0 = the port the client addressed.
    pub port: u16,
    /// How it gets its packets.
    pub forward: Forward,
    /// ... when that is [`Forward::Tunnel`]. `/proc/net/ip_vs` does not say.
    pub tunnel: Tunnel,
    /// Weight; 0 takes no new connections.
    pub weight: u32,
    /// `-x`: no new connections above so many; 0 = no limit.
    pub upper: u32,
}

/// A connection or persistence template (`struct ip_vs_conn`).
#[derive(Clone, Debug, PartialEq)]
pub struct IpvsConnection {
    /// Where the row stands.
    pub at: Row,
    /// IP protocol; 0 for the template of a service found by mark.
    pub proto: u8,
    /// Client. Port 0: a template.
    pub client: (IpAddr, u16),
    /// Virtual address, or a mark in the clothes of an address.
    pub virt: (IpAddr, u16),
    /// Real server.
    pub server: (IpAddr, u16),
    /// State as written.
    pub state: String,
}

/// Reads the services: `ipvsadm-save -n` or `/proc/net/ip_vs`, told apart by their lines.
#[must_use]
pub fn parse(artifact: Arc<str>, bytes: &[u8]) -> Table<IpvsRow> {
    let mut current = None;
    lines::table(artifact, bytes, |at, line, rows| {
        let first = line.split_ascii_whitespace().next().unwrap_or_default();
        let row = match first {
            "-A" | "-a" => saved(at, line)?,
            // The two lines of headings of /proc/net/ip_vs.
            "IP" | "Prot" => return Ok(()),
            "->" if line.contains("RemoteAddress:Port") => return Ok(()),
            "->" => IpvsRow::Server(listed_server(
                at,
                line,
                current.ok_or("a real server without a service")?,
            )?),
            _ => {
                current = None;
                IpvsRow::Service(listed_service(at, line)?)
            }
        };
        match &row {
            IpvsRow::Service(service) => current = Some(service.key),
            IpvsRow::Server(server) => current = family_of_mark(server, rows).or(current),
        }
        let row = match (row, current) {
            (IpvsRow::Server(server), Some(service)) if first == "->" => {
                IpvsRow::Server(IpvsServer { service, ..server })
            }
            (row, _) => row,
        };
        rows.push(row);
        Ok(())
    })
}

/// `/proc/net/ip_vs` does not say of which family's packets a mark is: the first real server that no tunnel leads to
/// tells, and the rows before it are mended.
fn family_of_mark(server: &IpvsServer, rows: &mut [IpvsRow]) -> Option<ServiceKey> {
    let ServiceKey::Mark {
        mark,
        family: Family::V4,
    } = server.service
    else {
        return None;
    };
    if server.addr.is_ipv4() || server.forward == Forward::Tunnel {
        return None;
    }
    let key = ServiceKey::Mark {
        mark,
        family: Family::V6,
    };
    for row in rows.iter_mut().rev() {
        match row {
            IpvsRow::Server(before) => before.service = key,
            IpvsRow::Service(service) => {
                service.key = key;
                if let Some(IpvsMask::V4(mask)) = service.netmask {
                    service.netmask = prefix_length(mask.to_bits()).map(IpvsMask::V6);
                }
                break;
            }
        }
    }
    Some(key)
}

/// A line of `ipvsadm-save`.
fn saved(at: Row, line: &str) -> Result<IpvsRow, &'static str> {
    let mut words = line.split_ascii_whitespace();
    let server = words.next() == Some("-a");
    let (mut key, mut real) = (None, None);
    let mut out = IpvsService {
        at,
        key: ServiceKey::Mark {
            mark: 0,
            family: Family::V4,
        },
        scheduler: String::new(),
        scheduler_flags: Vec::new(),
        persistent: false,
        netmask: None,
        one_packet: false,
        engine: None,
    };
    let (mut forward, mut weight, mut upper) = (Forward::Route, 1, 0);
    let (mut tunnel, mut tunnel_port) = (Tunnel::Ipip, 0);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or("an option without its value");
        match word {
            "-t" | "--tcp-service" => key = Some(service_key(6, value()?)?),
            "-u" | "--udp-service" => key = Some(service_key(17, value()?)?),
            "--sctp-service" => key = Some(service_key(132, value()?)?),
            "-f" | "--fwmark-service" => {
                let mark = lines::number(value()?).ok_or("a mark that is no number")?;
                key = Some(ServiceKey::Mark {
                    mark,
                    family: Family::V4,
                });
            }
            "-6" | "--ipv6" => {
                if let Some(ServiceKey::Mark { family, .. }) = &mut key {
                    *family = Family::V6;
                }
            }
            "-s" | "--scheduler" => value()?.clone_into(&mut out.scheduler),
            "-b" | "--sched-flags" => out.scheduler_flags = value()?.split(',').map(str::to_owned).collect(),
            "-p" | "--persistent" => {
                out.persistent = true;
                value()?;
            }
            "-M" | "--netmask" => out.netmask = Some(mask(value()?)?),
            "-o" | "--ops" => out.one_packet = true,
            "--pe" => out.engine = Some(value()?.to_owned()),
            "-r" | "--real-server" => real = Some(socket(value()?)?),
            "-g" | "--gatewaying" => forward = Forward::Route,
            "-m" | "--masquerading" => forward = Forward::Masq,
            "-i" | "--ipip" => forward = Forward::Tunnel,
            "-w" | "--weight" => weight = lines::number(value()?).ok_or("a weight that is no number")?,
            "-x" | "--u-threshold" => upper = lines::number(value()?).ok_or("a threshold that is no number")?,
            "--tun-type" => {
                tunnel = match value()? {
                    "ipip" => Tunnel::Ipip,
                    "gue" => Tunnel::Gue { port: tunnel_port },
                    "gre" => Tunnel::Gre,
                    _ => return Err("a kind of tunnel that is not known"),
                }
            }
            "--tun-port" => {
                tunnel_port = value()?.parse().map_err(|_| "a port that is no number")?;
                if let Tunnel::Gue { port } = &mut tunnel {
                    *port = tunnel_port;
                }
            }
            "-y" | "--l-threshold" => {
                value()?;
            }
            "--tun-nocsum" | "--tun-csum" | "--tun-remcsum" => {}
            _ => return Err("an option of ipvsadm that is not known"),
        }
    }
    let key = key.ok_or("a line of ipvsadm without a service")?;
    if !server {
        return Ok(IpvsRow::Service(IpvsService { key, ..out }));
    }
    let (addr, port) = real.ok_or("a real server without an address")?;
    Ok(IpvsRow::Server(IpvsServer {
        at,
        service: key,
        addr,
        port,
        forward,
        tunnel,
        weight,
        upper,
    }))
}

fn service_key(proto: u8, text: &str) -> Result<ServiceKey, &'static str> {
    let (addr, port) = socket(text)?;
    Ok(ServiceKey::Address { proto, addr, port })
}

/// `addr:port` or `[addr]:port`, in decimal.
fn socket(text: &str) -> Result<(IpAddr, u16), &'static str> {
    let (addr, port) = text.rsplit_once(':').ok_or("an address without a port")?;
    let addr = addr.trim_start_matches('[').trim_end_matches(']');
    let addr = addr.parse().map_err(|_| "not an address")?;
    Ok((addr, port.parse().map_err(|_| "a port that is no number")?))
}

fn mask(text: &str) -> Result<IpvsMask, &'static str> {
    if let Ok(mask) = text.parse() {
        return Ok(IpvsMask::V4(mask));
    }
    text.parse().map(IpvsMask::V6).map_err(|_| "not a netmask")
}

/// `TCP  0A600001:01BB rr persistent 150000 FFFFFFFF`
fn listed_service(at: Row, line: &str) -> Result<IpvsService, &'static str> {
    let mut words = line.split_ascii_whitespace();
    let proto = words.next().unwrap_or_default();
    let what = words.next().ok_or("a service without an address")?;
    let mut words = words.peekable();
    let key = if proto == "FWM" {
        let mark = u32::from_str_radix(what, 16).map_err(|_| "a mark that is not hexadecimal")?;
        // /proc does not say of which family.
        let family = if words.next_if_eq(&"IPv6").is_some() {
            Family::V6
        } else {
            Family::V4
        };
        ServiceKey::Mark { mark, family }
    } else {
        let proto = protocol::number(proto).ok_or("not a line of the IPVS table")?;
        let (addr, port) = hex_socket(what)?;
        ServiceKey::Address { proto, addr, port }
    };
    let mut out = IpvsService {
        at,
        key,
        scheduler: words.next().unwrap_or_default().to_owned(),
        scheduler_flags: Vec::new(),
        persistent: false,
        netmask: None,
        one_packet: false,
        engine: None,
    };
    while let Some(word) = words.next() {
        match word {
            "ops" => out.one_packet = true,
            "persistent" => {
                out.persistent = true;
                words.next();
                let bits = words
                    .next()
                    .and_then(|m| u32::from_str_radix(m, 16).ok())
                    .ok_or("not a netmask")?;
                let v6 = matches!(
                    key,
                    ServiceKey::Address {
                        addr: IpAddr::V6(_),
                        ..
                    }
                );
                // An IPv6 service keeps its prefix length in the same field.
                out.netmask = Some(match prefix_length(bits) {
                    Some(len) if v6 => IpvsMask::V6(len),
                    _ => IpvsMask::V4(Ipv4Addr::from_bits(bits)),
                });
            }
            _ => return Err("a flag of an IPVS service that is not known"),
        }
    }
    Ok(out)
}

/// `ip_vs_info_seq_show` turns the field around, as if it were a netmask: of a length the first byte is left.
fn prefix_length(bits: u32) -> Option<u8> {
    u8::try_from(bits).or_else(|_| u8::try_from(bits.swap_bytes())).ok()
}

/// `  -> 0AF40004:1F91      Masq    1      0          0`
fn listed_server(at: Row, line: &str, service: ServiceKey) -> Result<IpvsServer, &'static str> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let (addr, port) = hex_socket(words.next().ok_or("a real server without an address")?)?;
    let forward = match words.next() {
        Some("Masq") => Forward::Masq,
        // "Local" is a server on this host: its packets are handed on as they are.
        Some("Route" | "Local") => Forward::Route,
        Some("Tunnel") => Forward::Tunnel,
        _ => return Err("a forwarding method that is not known"),
    };
    let weight = words
        .next()
        .and_then(|w| w.parse().ok())
        .ok_or("a weight that is no number")?;
    Ok(IpvsServer {
        at,
        service,
        addr,
        port,
        forward,
        tunnel: Tunnel::Ipip,
        weight,
        upper: 0,
    })
}

/// `0A600001:01BB` or `[fd00:...]:01BB`
fn hex_socket(text: &str) -> Result<(IpAddr, u16), &'static str> {
    let (addr, port) = text.rsplit_once(':').ok_or("an address without a port")?;
    let port = u16::from_str_radix(port, 16).map_err(|_| "a port that is not hexadecimal")?;
    Ok((hex_addr(addr.trim_start_matches('[').trim_end_matches(']'))?, port))
}

/// Eight hexadecimal digits, or an IPv6 address.
fn hex_addr(text: &str) -> Result<IpAddr, &'static str> {
    if text.contains(':') {
        return text.parse::<Ipv6Addr>().map(IpAddr::V6).map_err(|_| "not an address");
    }
    u32::from_str_radix(text, 16)
        .map(|bits| Ipv4Addr::from_bits(bits).into())
        .map_err(|_| "not an address")
}

/// Reads `/proc/net/ip_vs_conn`.
#[must_use]
pub fn parse_connections(artifact: Arc<str>, bytes: &[u8]) -> Table<IpvsConnection> {
    lines::table(artifact, bytes, |at, line, rows| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        if words.first() == Some(&"Pro") {
            return Ok(());
        }
        let [proto, from, fport, to, tport, dest, dport, state, ..] = words[..] else {
            return Err("not a line of ip_vs_conn");
        };
        let port = |text| u16::from_str_radix(text, 16).map_err(|_| "a port that is not hexadecimal");
        rows.push(IpvsConnection {
            at,
            proto: protocol::number(proto).ok_or("a protocol that is not known")?,
            client: (hex_addr(from)?, port(fport)?),
            virt: (hex_addr(to)?, port(tport)?),
            server: (hex_addr(dest)?, port(dport)?),
            state: state.to_owned(),
        });
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn services(text: &str) -> Table<IpvsRow> {
        parse("ipvs.save".into(), text.as_bytes())
    }

    #[test]
    fn ipvsadm_save_and_proc_say_the_same() {
        let saved = services("-A -t 10.96.0.1:443 -s rr -p 600\n-a -t 10.96.0.1:443 -r 10.244.0.4:8081 -m -w 3\n");
        let listed = services(
            "IP Virtual Server version 1.2.1 (size=4096)\nProt LocalAddress:Port Scheduler Flags\n  \
             -> RemoteAddress:Port Forward Weight ActiveConn InActConn\nTCP  0A600001:01BB rr persistent 150000 FFFFFFFF\n  \
             -> 0AF40004:1F91      Masq    3      0          0\n",
        );
        for table in [&saved, &listed] {
            assert!(table.problems.is_empty(), "{:?}", table.problems);
            let [IpvsRow::Service(service), IpvsRow::Server(server)] = &table.rows[..] else {
                panic!("{table:?}")
            };
            let addr = "10.96.0.1".parse().unwrap();
            assert_eq!(
                service.key,
                ServiceKey::Address {
                    proto: 6,
                    addr,
                    port: 443
                }
            );
            assert!(service.persistent);
            assert_eq!(server.service, service.key);
            assert_eq!((server.addr.to_string().as_str(), server.port), ("10.244.0.4", 8081));
            assert_eq!((server.weight, server.forward), (3, Forward::Masq));
        }
    }

    #[test]
    fn marks_ipv6_and_unknown_options() {
        let table = services("-A -f 100 -s wlc -6\n-A -u [fd00::a]:53 -s rr -o\n-A -t 10.0.0.1:http -s rr\n");
        let keys: Vec<_> = table
            .rows
            .iter()
            .map(|r| matches!(r, IpvsRow::Service(s) if s.scheduler.len() > 1))
            .collect();
        assert_eq!(keys, [true, true]);
        assert_eq!(table.problems.len(), 1);
    }

    #[test]
    fn the_servers_of_a_mark_tell_its_family() {
        let table = services(
            "FWM  00000001 sed \n  -> [fd10:0002:0001:0000:0000:0000:0000:0001]:0000      Masq    10     0          0\n\
             FWM  00000001 rr \n  -> 0A080002:0000      Masq    2      0          0\n",
        );
        assert!(table.problems.is_empty(), "{:?}", table.problems);
        let families: Vec<_> = table
            .rows
            .iter()
            .map(|r| match r {
                IpvsRow::Service(s) => s.key,
                IpvsRow::Server(s) => s.service,
            })
            .collect();
        let mark = |family| ServiceKey::Mark { mark: 1, family };
        assert_eq!(families, [Family::V6, Family::V6, Family::V4, Family::V4].map(mark));
    }

    #[test]
    fn tunnels() {
        let table = services(
            "-A -t 10.0.0.1:80 -s rr\n-a -t 10.0.0.1:80 -r 10.0.0.2:80 -i -w 1 --tun-type gue --tun-port 6080\n\
             -a -t 10.0.0.1:80 -r 10.0.0.3:80 -i -w 1 --tun-type gre\n-a -t 10.0.0.1:80 -r 10.0.0.4:80 -i -w 1\n",
        );
        let tunnels: Vec<_> = table
            .rows
            .iter()
            .filter_map(|r| match r {
                IpvsRow::Server(s) => Some(s.tunnel),
                IpvsRow::Service(_) => None,
            })
            .collect();
        assert_eq!(tunnels, [Tunnel::Gue { port: 6080 }, Tunnel::Gre, Tunnel::Ipip]);
    }

    #[test]
    fn connections_and_templates() {
        let text = "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData\n\
                    TCP 0AF4000A BDDE 0A600112 0050 0AF40109 1B59 TIME_WAIT        91\n\
                    TCP C0A8380D 0000 C0A8380B 7706 0AF40005 1F92 ASSURED         576\n";
        let table = parse_connections("ipvs-conn.txt".into(), text.as_bytes());
        assert!(table.problems.is_empty());
        assert_eq!(table.rows[0].client, ("10.244.0.10".parse().unwrap(), 0xbdde));
        assert_eq!((table.rows[1].client.1, table.rows[1].state.as_str()), (0, "ASSURED"));
    }
}
