//! `sockets.txt`: `ss -H -tulpne`.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use crate::lines;
use crate::row::{Row, Table};

/// One socket.
#[derive(Clone, Debug, PartialEq)]
pub struct Socket {
    /// Where the row stands.
    pub at: Row,
    /// `tcp`, `udp`, `sctp`, `dccp`, `raw` ... as an IP protocol number.
    pub proto: u8,
    /// `LISTEN`, `UNCONN`, `ESTAB`, ... as written.
    pub state: String,
    /// Local address; `None` = wildcard.
    pub local: Option<IpAddr>,
    /// Device it is bound to (`addr%dev`).
    pub dev: Option<String>,
    /// Local port.
    pub port: u16,
    /// Peer, when connected.
    pub peer: Option<(IpAddr, u16)>,
    /// The socket is of the IPv6 family.
    pub v6: bool,
    /// `v6only:1`; `None` when not printed.
    pub v6only: Option<bool>,
    /// Processes as printed in `users:((...))`: name and pid.
    pub users: Vec<(String, u32)>,
    /// Owner.
    pub uid: Option<u32>,
    /// cgroup path, if printed.
    pub cgroup: Option<String>,
}

/// Reads the artifact. Sockets that are not of IP (`u_str`, `nl`, ...) are passed over.
///
/// A wildcard address is `None`; whether it takes IPv4 too is for [`Socket::v6only`] to say. An IPv4-mapped
/// local address is given as IPv4. Of a raw socket the protocol stands where others have a port.
#[must_use]
pub fn parse(artifact: Arc<str>, bytes: &[u8]) -> Table<Socket> {
    lines::table(artifact, bytes, |at, line, rows| {
        rows.extend(socket(at, line)?);
        Ok(())
    })
}

fn socket(at: Row, line: &str) -> Result<Option<Socket>, &'static str> {
    // Process names may hold spaces and quotes, so that part is cut out before the line is split.
    let (columns, users, details) = match line.find("users:((") {
        None => (line, Vec::new(), ""),
        Some(start) => {
            let (users, rest) = users(&line[start + "users:(".len()..]);
            (&line[..start], users, rest)
        }
    };
    let mut words = columns.split_ascii_whitespace();
    let first = words.next().unwrap_or_default();
    // The heading, without `-H`.
    if first == "Netid" || (first == "State" && line.contains("Recv-Q")) {
        return Ok(None);
    }
    // `ss` leaves the first column out when it lists one protocol only.
    let (netid, state) = match first {
        "LISTEN" => ("tcp", first),
        "UNCONN" => ("udp", first),
        _ => (first, words.next().ok_or("a socket without a state")?),
    };
    let proto = match netid {
        "tcp" => Some(6),
        "udp" => Some(17),
        "sctp" => Some(132),
        "dccp" => Some(33),
        "udplite" => Some(136),
        "icmp" => Some(1),
        "icmp6" => Some(58),
        "raw" | "???" => None,
        // Listening MPTCP sockets are listed as TCP too.
        "mptcp" | "nl" | "tipc" | "vsock" | "xdp" => return Ok(None),
        _ if netid.starts_with("u_")
            || netid.starts_with("p_")
            || netid.starts_with("v_")
            || netid.starts_with("ti_") =>
        {
            return Ok(None);
        }
        _ => return Err("a socket of a protocol this version does not know"),
    };
    let mut words = words.skip(2);
    let local = words.next().ok_or("a socket without a local address")?;
    let peer = words.next().ok_or("a socket without a peer column")?;
    let mut found = Details::default();
    for word in words.chain(details.split_ascii_whitespace()) {
        match word.split_once(':') {
            Some(("uid", uid)) => found.uid = uid.parse().ok(),
            // Only `-e` prints these, and it leaves out the uid of root.
            Some(("ino", _)) => found.extended = true,
            Some(("v6only", value)) => found.v6only = Some(value == "1"),
            Some(("cgroup", path)) => found.cgroup = Some(path.to_owned()),
            _ => {}
        }
    }
    let local = Endpoint::read(local)?;
    let peer = Endpoint::read(peer).unwrap_or_default();
    // Before iproute2 4.13 `*` was the IPv4 wildcard; since then it is that of an IPv6 socket that takes both,
    // and `-e` says `v6only` on every IPv6 socket.
    let v6 = found.v6only.is_some() || local.v6 || (local.star && !found.extended);
    let number = local.port.unwrap_or(0);
    let (proto, port) = match proto {
        Some(proto) => (proto, number),
        None => (u8::try_from(number).map_err(|_| "a raw socket without a protocol")?, 0),
    };
    Ok(Some(Socket {
        at,
        proto,
        state: state.to_owned(),
        local: local.addr.map(|addr| addr.to_canonical()),
        dev: local.dev,
        port,
        peer: peer.addr.zip(peer.port).map(|(addr, port)| (addr.to_canonical(), port)),
        v6,
        v6only: found.v6only,
        users,
        uid: found.uid.or_else(|| found.extended.then_some(0)),
        cgroup: found.cgroup,
    }))
}

/// What `-e` adds.
#[derive(Default)]
struct Details {
    uid: Option<u32>,
    extended: bool,
    v6only: Option<bool>,
    cgroup: Option<String>,
}

/// `addr%dev:port` in the ways `ss` writes it.
#[derive(Default)]
struct Endpoint {
    addr: Option<IpAddr>,
    dev: Option<String>,
    port: Option<u16>,
    v6: bool,
    star: bool,
}

impl Endpoint {
    fn read(text: &str) -> Result<Self, &'static str> {
        let (addr, port) = text.rsplit_once(':').ok_or("an address without a port")?;
        let port = match port {
            "*" => None,
            port => Some(port.parse().map_err(|_| "a port that is no number below 65536")?),
        };
        let (addr, dev) = match addr.split_once('%') {
            // Older versions write the device inside the brackets.
            Some((addr, dev)) => (addr, Some(dev.trim_end_matches(']').to_owned())),
            None => (addr, None),
        };
        let addr = addr.trim_start_matches('[').trim_end_matches(']');
        if addr == "*" {
            return Ok(Self {
                addr: None,
                dev,
                port,
                v6: false,
                star: true,
            });
        }
        let addr: IpAddr = addr.parse().map_err(|_| "a local address that is none")?;
        Ok(Self {
            addr: Some(addr).filter(|a| !a.is_unspecified()),
            dev,
            port,
            v6: addr.is_ipv6(),
            star: false,
        })
    }
}

/// `("name",pid=1,fd=3),("other",pid=2,fd=3))`: the processes, and what follows. `ss` escapes nothing in a name.
fn users(mut text: &str) -> (Vec<(String, u32)>, &str) {
    let mut users = Vec::new();
    let mut seen = BTreeSet::new();
    while let Some(rest) = text.strip_prefix("(\"") {
        let Some((name, rest)) = rest.split_once("\",pid=") else {
            break;
        };
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (Ok(pid), Some((_, rest))) = (rest[..digits].parse(), rest.split_once(')')) else {
            break;
        };
        // One process may hold the socket by several descriptors.
        if seen.insert(pid) {
            users.push((name.to_owned(), pid));
        }
        match rest.strip_prefix(',') {
            Some(next) => text = next,
            None => return (users, rest.strip_prefix(')').unwrap_or(rest)),
        }
    }
    // Cut off or mangled: what follows the last bracket are the details.
    (users, text.rsplit_once("))").map_or("", |(_, rest)| rest))
}
