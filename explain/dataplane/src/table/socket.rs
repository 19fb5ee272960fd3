//! Sockets of one namespace: who takes a packet (`inet_hashtables.c`, `udp.c` and their IPv6 twins).

use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashMap;
use knet_snapshot::Table;
use knet_snapshot::manifest::AbsentReason;
use knet_snapshot::socket::Socket;
use knet_snapshot::store::NetnsFacts;

use super::sysctl::Sysctl;
use crate::packet::proto;
use crate::trace::Evidence;

/// The sockets of a namespace by protocol and local port.
#[derive(Debug)]
pub struct Sockets<'s> {
    artifact: Arc<str>,
    missing: Option<AbsentReason>,
    damaged: bool,
    l3mdev: L3mdev,
    by_port: HashMap<(u8, u16), Vec<&'s Socket>>,
    /// Protocols other than TCP and UDP of which the artifact shows a socket.
    others: Vec<u8>,
}

/// `net.ipv4.{tcp,udp}_l3mdev_accept`
#[derive(Clone, Copy, Debug, Default)]
struct L3mdev {
    tcp: Option<bool>,
    udp: Option<bool>,
}

/// A packet in want of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketQuery<'a> {
    /// IP protocol.
    pub proto: u8,
    /// Source address of the packet.
    pub src: IpAddr,
    /// Source port; `None` when the kernel drew it, so that it fits no connection.
    pub sport: Option<u16>,
    /// Destination address.
    pub dst: IpAddr,
    /// Destination port.
    pub dport: u16,
    /// The device it came in by: `lo` for a packet sent here to an address of this namespace; the VRF
    /// for one received by a port of a VRF.
    pub iif: Option<&'a str>,
    /// The port of a VRF it was received by (`sdif`).
    pub vrf_port: Option<&'a str>,
}

/// A socket that takes the packet, and where it is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Taker<'s> {
    /// The socket; [`Socket::users`] names the programs.
    pub socket: &'s Socket,
    /// Its row.
    pub evidence: Evidence,
}

/// Who takes a packet.
#[derive(Clone, Debug, PartialEq)]
pub enum SocketAnswer<'s> {
    /// A listening socket, or an unconnected one. Several: the kernel picks one of them by hash or age
    /// (`SO_REUSEPORT`, `SO_REUSEADDR`); `ss` does not show which.
    Listener(Vec<Taker<'s>>),
    /// The socket of a connection with exactly these addresses and ports.
    Connected(Vec<Taker<'s>>),
    /// No socket. A connected socket of a program here may still take it: `ss -l` does not show those.
    Nobody,
    /// Cannot tell.
    Unknown(SocketDoubt),
}

/// Why it cannot be told who takes a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SocketDoubt {
    /// `sockets.txt` is not in the snapshot.
    NotCaptured(AbsentReason),
    /// `ss -t -u` does not show sockets of this protocol.
    Protocol(u8),
    /// Rows of the artifact cannot be read, and those that can hold no taker.
    Unreadable,
    /// An IPv6 wildcard socket of which the artifact does not say whether it takes IPv4 (`v6only`).
    V6Only,
    /// The packet came through a VRF, and `net.ipv4.{tcp,udp}_l3mdev_accept` was not captured.
    L3mdev,
}

impl<'s> Sockets<'s> {
    /// Indexes the sockets.
    #[must_use]
    pub fn compile(facts: &'s NetnsFacts) -> Self {
        let fact = facts.sockets();
        let artifact = facts.path(knet_snapshot::artifact::name::SOCKETS);
        let sysctl = Sysctl::new(facts);
        let accept = |key: &str| sysctl.get(key).map(|v| v != 0);
        let mut this = match fact.get() {
            Some(table) => Self::from_table(table),
            None => Self {
                missing: fact.missing(),
                ..Self::from_rows(&[])
            },
        };
        this.artifact = artifact;
        this.l3mdev = L3mdev {
            tcp: accept("net.ipv4.tcp_l3mdev_accept"),
            udp: accept("net.ipv4.udp_l3mdev_accept"),
        };
        this
    }

    /// The sockets of a captured table, without sysctls.
    #[must_use]
    pub fn from_table(table: &'s Table<Socket>) -> Self {
        Self {
            artifact: table.artifact.clone(),
            damaged: !table.problems.is_empty(),
            ..Self::from_rows(&table.rows)
        }
    }

    fn from_rows(rows: &'s [Socket]) -> Self {
        let mut by_port: HashMap<(u8, u16), Vec<&'s Socket>> = HashMap::new();
        let mut others = Vec::new();
        for socket in rows {
            by_port.entry((socket.proto, socket.port)).or_default().push(socket);
            if !matches!(socket.proto, proto::TCP | proto::UDP) && !others.contains(&socket.proto) {
                others.push(socket.proto);
            }
        }
        Self {
            artifact: Arc::from(""),
            missing: None,
            damaged: false,
            l3mdev: L3mdev::default(),
            by_port,
            others,
        }
    }

    /// Who takes the packet, in this order (`__inet_lookup`, `__udp4_lib_lookup`):
    ///
    /// 1. a connection with the same addresses and ports;
    /// 2. the sockets bound to the destination address;
    /// 3. the sockets bound to no address.
    ///
    /// A socket bound to a device takes packets of that device only. Where several are left they are all
    /// given, but IPv4 sockets go before IPv6 sockets that take IPv4 too.
    #[must_use]
    pub fn lookup(&self, query: &SocketQuery<'_>) -> SocketAnswer<'s> {
        if let Some(why) = self.missing {
            return SocketAnswer::Unknown(SocketDoubt::NotCaptured(why));
        }
        if !matches!(query.proto, proto::TCP | proto::UDP) && !self.others.contains(&query.proto) {
            return SocketAnswer::Unknown(SocketDoubt::Protocol(query.proto));
        }
        let query = SocketQuery {
            src: query.src.to_canonical(),
            dst: query.dst.to_canonical(),
            ..*query
        };
        let at_port = self
            .by_port
            .get(&(query.proto, query.dport))
            .map_or(&[][..], Vec::as_slice);
        let connected: Vec<_> = at_port
            .iter()
            .copied()
            .filter(|s| self.is_connection(s, &query))
            .collect();
        if !connected.is_empty() {
            return SocketAnswer::Connected(self.takers(connected));
        }
        for local in [Some(query.dst), None] {
            match self.best(at_port, &query, local) {
                Ok(found) if found.is_empty() => {}
                Ok(found) => return SocketAnswer::Listener(self.takers(found)),
                Err(doubt) => return SocketAnswer::Unknown(doubt),
            }
        }
        if self.damaged {
            SocketAnswer::Unknown(SocketDoubt::Unreadable)
        } else {
            SocketAnswer::Nobody
        }
    }

    /// A SYN to a connection in TIME-WAIT goes to the listener, so those do not count.
    fn is_connection(&self, socket: &Socket, query: &SocketQuery<'_>) -> bool {
        !matches!(socket.state.as_str(), "LISTEN" | "TIME-WAIT")
            && socket.local == Some(query.dst)
            && socket
                .peer
                .is_some_and(|(addr, port)| addr == query.src && Some(port) == query.sport)
            && self.device(socket, query) != Some(false)
    }

    /// The sockets bound to `local` that the kernel may pick.
    ///
    /// `compute_score` prefers a socket bound to a device, and IPv4 to an IPv6 socket that takes both. But
    /// the lookup returns the first `SO_REUSEPORT` socket it meets whatever the score of later ones, and
    /// without that option such sockets can hardly share a port. What is sure: an IPv6 `SO_REUSEPORT`
    /// socket stands behind all IPv4 sockets. TCP sockets can share a port in no other way; for UDP
    /// (`SO_REUSEADDR`) a device counts more than the family.
    fn best(
        &self,
        at_port: &[&'s Socket],
        query: &SocketQuery<'_>,
        local: Option<IpAddr>,
    ) -> Result<Vec<&'s Socket>, SocketDoubt> {
        let mut fits = Vec::new();
        for &socket in at_port {
            let waiting = if query.proto == proto::TCP {
                socket.state == "LISTEN"
            } else {
                socket.peer.is_none()
            };
            if !waiting || socket.local != local {
                continue;
            }
            let doubt = match (takes_family(socket, query.dst), self.device(socket, query)) {
                (Some(false), _) | (_, Some(false)) => continue,
                (None, _) => Some(SocketDoubt::V6Only),
                (_, None) => Some(SocketDoubt::L3mdev),
                (Some(true), Some(true)) => None,
            };
            fits.push((socket, doubt));
        }
        let beaten = |b: &Socket| {
            fits.iter().any(|(a, doubt)| {
                let stronger = query.proto == proto::TCP || a.dev.is_some() || b.dev.is_none();
                doubt.is_none() && query.dst.is_ipv4() && !a.v6 && b.v6 && stronger
            })
        };
        let left = fits.iter().filter(|(socket, _)| !beaten(socket));
        left.map(|&(socket, doubt)| doubt.map_or(Ok(socket), Err)).collect()
    }

    /// `inet_sk_bound_dev_eq`: `None` when it depends on a sysctl nobody captured.
    fn device(&self, socket: &Socket, query: &SocketQuery<'_>) -> Option<bool> {
        match &socket.dev {
            Some(dev) => Some(Some(dev.as_str()) == query.iif || Some(dev.as_str()) == query.vrf_port),
            None if query.vrf_port.is_none() => Some(true),
            None => self.accepts_from_vrf(query.proto),
        }
    }

    /// Whether a socket that is bound to no device takes what came in by a VRF. `ping` does in any case. `None`: the
    /// sysctl was not captured.
    #[must_use]
    pub const fn accepts_from_vrf(&self, proto: u8) -> Option<bool> {
        match proto {
            proto::TCP => self.l3mdev.tcp,
            proto::UDP => self.l3mdev.udp,
            proto::ICMP | proto::ICMPV6 => Some(true),
            _ => None,
        }
    }

    fn takers(&self, sockets: Vec<&'s Socket>) -> Vec<Taker<'s>> {
        sockets
            .into_iter()
            .map(|socket| Taker {
                socket,
                evidence: self.evidence(socket),
            })
            .collect()
    }

    fn evidence(&self, socket: &Socket) -> Evidence {
        Evidence {
            artifact: self.artifact.clone(),
            at: socket.at,
            handle: None,
            text: Arc::from(describe(socket)),
        }
    }
}

/// Whether a socket takes packets of the address's family: an IPv6 socket takes IPv4 when it is bound to
/// no address or to an IPv4-mapped one, and not `v6only`. `None`: the artifact does not say.
fn takes_family(socket: &Socket, dst: IpAddr) -> Option<bool> {
    match (dst, socket.v6, socket.local) {
        (IpAddr::V4(_), false, _) | (IpAddr::V6(_), true, _) => Some(true),
        (IpAddr::V6(_), false, _) => Some(false),
        (IpAddr::V4(_), true, Some(local)) => Some(local.is_ipv4()),
        (IpAddr::V4(_), true, None) => socket.v6only.map(|only| !only),
    }
}

/// The row in the words of `ss`, with the programs.
fn describe(socket: &Socket) -> String {
    let protocol = match socket.proto {
        proto::TCP => "tcp".to_owned(),
        proto::UDP => "udp".to_owned(),
        proto::SCTP => "sctp".to_owned(),
        other => format!("proto {other}"),
    };
    let dev = socket.dev.as_ref().map_or(String::new(), |dev| format!("%{dev}"));
    let local = match (socket.local, socket.v6, socket.v6only) {
        (Some(IpAddr::V4(addr)), false, _) => format!("{addr}{dev}"),
        (Some(IpAddr::V4(addr)), true, _) => format!("[::ffff:{addr}]{dev}"),
        (Some(IpAddr::V6(addr)), ..) => format!("[{addr}]{dev}"),
        (None, false, _) => format!("0.0.0.0{dev}"),
        (None, true, Some(false)) => format!("*{dev}"),
        (None, true, _) => format!("[::]{dev}"),
    };
    let mut text = format!("{protocol} {} {local}:{}", socket.state, socket.port);
    for (i, (name, pid)) in socket.users.iter().enumerate() {
        text.push_str(&format!("{} {name:?} pid {pid}", if i == 0 { " users" } else { "," }));
    }
    text
}

#[cfg(test)]
mod tests;
