//! Real packets: servers, clients, and what arrives where.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::num::NonZeroU32;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use knet_dataplane::trace::ClientSees;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType};

use crate::lab::Lab;
use crate::plan::Plan;

/// Where servers listen.
pub const TCP_PORT: u16 = 80;
/// Where servers listen.
pub const UDP_PORT: u16 = 53;

/// What to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Tcp,
    Udp,
    Ping,
}

/// One flow.
#[derive(Clone, Debug)]
pub struct Flow {
    pub from: usize,
    pub dst: IpAddr,
    pub kind: Kind,
    pub dport: u16,
    pub ttl: u8,
    /// Bytes of the IP packet; 0 = a small one.
    pub size: u16,
}

/// A packet that a namespace's protocol handlers got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    pub space: usize,
    pub src: IpAddr,
    pub dst: IpAddr,
    pub ttl: u8,
}

/// What a client got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    pub sees: ClientSees,
    /// An answer to a ping that is an error: type, code, and whose it is.
    pub error: Option<(u8, u8, IpAddr)>,
    /// Who answered, and the source it saw.
    pub answered: Option<(String, IpAddr)>,
    /// Where the first packet arrived (IPv4 only).
    pub arrivals: Vec<Arrival>,
}

/// Servers and listeners of a lab.
pub struct Traffic {
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
    log: Arc<Mutex<BTreeMap<u16, Vec<Arrival>>>>,
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

const TICK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};

impl Traffic {
    /// Starts a server and a listener in every captured namespace.
    pub fn start(lab: &Lab, plan: &Plan) -> Self {
        let mut this = Self {
            stop: Arc::default(),
            threads: Vec::new(),
            log: Arc::default(),
        };
        for (i, space) in plan.spaces.iter().enumerate().filter(|(_, s)| s.peer) {
            let (ready, wait) = std::sync::mpsc::channel();
            let (name, addresses) = (space.short.clone(), space.addresses.clone());
            let (stop, again) = (this.stop.clone(), ready.clone());
            this.threads
                .push(lab.spawn(i, move || serve(&name, &addresses, &stop, &again)));
            let (stop, log) = (this.stop.clone(), this.log.clone());
            this.threads.push(lab.spawn(i, move || listen(i, &stop, &log, &ready)));
            for _ in 0..2 {
                wait.recv().expect("the server starts");
            }
        }
        this
    }

    /// Sends one flow from inside its namespace. `id` is its source port, or its echo id.
    pub fn send(&self, lab: &Lab, flow: &Flow, id: u16, patience: Duration) -> std::thread::JoinHandle<Observed> {
        let flow = flow.clone();
        lab.spawn(flow.from, move || match flow.kind {
            Kind::Tcp => tcp(&flow, id, patience),
            Kind::Udp => udp(&flow, id, patience),
            Kind::Ping => ping(&flow, id, patience),
        })
    }

    /// Where the packets with an id arrived so far.
    pub fn arrivals(&self, id: u16) -> Vec<Arrival> {
        self.log
            .lock()
            .expect("no panic while it is held")
            .get(&id)
            .cloned()
            .unwrap_or_default()
    }
}

fn serve(name: &str, addresses: &[IpAddr], stop: &AtomicBool, ready: &std::sync::mpsc::Sender<()>) {
    let tcp = TcpListener::bind((Ipv6Addr::UNSPECIFIED, TCP_PORT)).expect("the port is free");
    tcp.set_nonblocking(true).expect("a socket");
    let udp: Vec<UdpSocket> = addresses
        .iter()
        .filter_map(|a| {
            let socket = UdpSocket::bind((*a, UDP_PORT)).ok()?;
            socket.set_nonblocking(true).ok()?;
            Some(socket)
        })
        .collect();
    let _ = ready.send(());
    let mut open: Vec<TcpStream> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let mut fds: Vec<PollFd<'_>> = vec![PollFd::new(&tcp, PollFlags::IN)];
        fds.extend(udp.iter().map(|u| PollFd::new(u, PollFlags::IN)));
        fds.extend(open.iter().map(|u| PollFd::new(u, PollFlags::IN)));
        let _ = poll(&mut fds, Some(&TICK));
        while let Ok((mut stream, from)) = tcp.accept() {
            let _ = stream.set_nonblocking(true);
            let _ = stream.write_all(format!("{name} {}\n", unmapped(from.ip())).as_bytes());
            open.push(stream);
        }
        // Whatever is sent is answered in the same way.
        open.retain_mut(|stream| {
            let mut buffer = [0; 256];
            match stream.read(&mut buffer) {
                Ok(0) => false,
                Ok(_) => stream.peer_addr().is_ok_and(|from| {
                    stream
                        .write_all(format!("{name} {}\n", unmapped(from.ip())).as_bytes())
                        .is_ok()
                }),
                Err(e) => e.kind() == ErrorKind::WouldBlock,
            }
        });
        for socket in &udp {
            let mut buffer = [0; 65536];
            while let Ok((_, from)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(format!("{name} {}\n", unmapped(from.ip())).as_bytes(), from);
            }
        }
    }
}

fn unmapped(addr: IpAddr) -> IpAddr {
    match addr {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(addr, IpAddr::V4),
        IpAddr::V4(_) => addr,
    }
}

fn raw(family: AddressFamily, protocol: u32) -> OwnedFd {
    let protocol = NonZeroU32::new(protocol).map(Protocol::from_raw);
    rustix::net::socket_with(
        family,
        SocketType::RAW,
        SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
        protocol,
    )
    .expect("root may have raw sockets")
}

/// Notes every IPv4 packet that is delivered here and carries a flow's id as its source.
fn listen(
    space: usize,
    stop: &AtomicBool,
    log: &Mutex<BTreeMap<u16, Vec<Arrival>>>,
    ready: &std::sync::mpsc::Sender<()>,
) {
    let sockets = [1_u32, 6, 17].map(|p| raw(AddressFamily::INET, p));
    let _ = ready.send(());
    let mut buffer = vec![0_u8; 65536];
    while !stop.load(Ordering::Relaxed) {
        let mut fds: Vec<PollFd<'_>> = sockets.iter().map(|s| PollFd::new(s, PollFlags::IN)).collect();
        let _ = poll(&mut fds, Some(&TICK));
        for socket in &sockets {
            while let Ok((n, _)) = rustix::net::recv(socket, buffer.as_mut_slice(), RecvFlags::empty()) {
                if let Some((id, arrival)) = read_packet(space, &buffer[..n]) {
                    let mut log = log.lock().expect("no panic while it is held");
                    let seen = log.entry(id).or_default();
                    if !seen.contains(&arrival) {
                        seen.push(arrival);
                    }
                }
            }
        }
    }
}

fn read_packet(space: usize, packet: &[u8]) -> Option<(u16, Arrival)> {
    let four = |at: usize| Some(IpAddr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?));
    let header = usize::from(packet.first()? & 0xf) * 4;
    let two = |at: usize| {
        Some(u16::from_be_bytes([
            *packet.get(header + at)?,
            *packet.get(header + at + 1)?,
        ]))
    };
    let id = match packet.get(9)? {
        1 if *packet.get(header)? == 8 => two(4)?,
        // Only what opens a connection.
        6 if packet.get(header + 13)? & 0x12 == 0x02 => two(0)?,
        17 => two(0)?,
        _ => return None,
    };
    Some((
        id,
        Arrival {
            space,
            src: four(12)?,
            dst: four(16)?,
            ttl: *packet.get(8)?,
        },
    ))
}

fn nothing(sees: ClientSees) -> Observed {
    Observed {
        sees,
        error: None,
        answered: None,
        arrivals: Vec::new(),
    }
}

fn sees(error: &io::Error) -> ClientSees {
    use rustix::io::Errno as E;
    match error.raw_os_error().map(E::from_raw_os_error) {
        Some(E::CONNREFUSED) => ClientSees::Refused,
        Some(E::HOSTUNREACH | E::NETUNREACH | E::ADDRNOTAVAIL | E::NODEV | E::PROTO | E::NOPROTOOPT) => {
            ClientSees::Unreachable
        }
        Some(E::ACCESS) => ClientSees::Prohibited,
        Some(E::INVAL) => ClientSees::Invalid,
        Some(E::PERM) => ClientSees::Permission,
        _ => ClientSees::Timeout,
    }
}

fn any(like: IpAddr) -> IpAddr {
    if like.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    }
}

fn set_ttl(socket: &impl std::os::fd::AsFd, dst: IpAddr, ttl: u8) {
    let _ = if dst.is_ipv4() {
        rustix::net::sockopt::set_ip_ttl(socket, u32::from(ttl))
    } else {
        rustix::net::sockopt::set_ipv6_unicast_hops(socket, Some(ttl))
    };
}

/// Reads `name source`.
fn banner(text: &[u8]) -> Option<(String, IpAddr)> {
    let text = std::str::from_utf8(text).ok()?;
    let (name, from) = text.trim_end().lines().last()?.split_once(' ')?;
    Some((name.to_owned(), from.parse().ok()?))
}

fn tcp(flow: &Flow, id: u16, patience: Duration) -> Observed {
    match connect(flow, id, patience) {
        Ok(mut stream) => {
            let mut buffer = [0; 256];
            let _ = stream.set_read_timeout(Some(patience));
            match stream.read(&mut buffer) {
                Ok(n) if n > 0 => Observed {
                    answered: banner(&buffer[..n]),
                    ..nothing(ClientSees::Reply)
                },
                _ => nothing(ClientSees::Timeout),
            }
        }
        Err(e) => nothing(sees(&e)),
    }
}

/// A TCP connection from a chosen port.
pub fn connect(flow: &Flow, id: u16, patience: Duration) -> io::Result<TcpStream> {
    let family = if flow.dst.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    set_ttl(&socket, flow.dst, flow.ttl);
    rustix::net::bind(&socket, &SocketAddr::new(any(flow.dst), id))?;
    match rustix::net::connect(&socket, &SocketAddr::new(flow.dst, flow.dport)) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
        Err(e) => return Err(e.into()),
    }
    let wait = Timespec {
        tv_sec: 0,
        tv_nsec: i64::try_from(patience.as_nanos()).expect("under a second"),
    };
    if poll(&mut [PollFd::new(&socket, PollFlags::OUT)], Some(&wait))? == 0 {
        return Err(ErrorKind::TimedOut.into());
    }
    rustix::net::sockopt::socket_error(&socket)??;
    let stream = TcpStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// Waits for something on a connection.
pub fn hear(stream: &mut TcpStream, patience: Duration) -> io::Result<()> {
    stream.set_read_timeout(Some(patience))?;
    match stream.read(&mut [0; 256]) {
        Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
        other => other.map(|_| ()),
    }
}

/// Says something on a connection and waits for an answer.
pub fn ask(stream: &mut TcpStream, patience: Duration) -> io::Result<()> {
    stream.write_all(b"more\n")?;
    hear(stream, patience)
}

fn udp(flow: &Flow, id: u16, patience: Duration) -> Observed {
    let attempt = || -> io::Result<Vec<u8>> {
        let socket = UdpSocket::bind((any(flow.dst), id))?;
        set_ttl(&socket, flow.dst, flow.ttl);
        socket.connect((flow.dst, flow.dport))?;
        socket.set_read_timeout(Some(patience))?;
        let headers = if flow.dst.is_ipv4() { 28 } else { 48 };
        socket.send(&vec![b'x'; usize::from(flow.size.saturating_sub(headers)).max(8)])?;
        let mut buffer = [0; 256];
        let n = socket.recv(&mut buffer)?;
        Ok(buffer[..n].to_vec())
    };
    match attempt() {
        Ok(text) => Observed {
            answered: banner(&text),
            ..nothing(ClientSees::Reply)
        },
        Err(e) => nothing(sees(&e)),
    }
}

fn ping(flow: &Flow, id: u16, patience: Duration) -> Observed {
    let v4 = flow.dst.is_ipv4();
    let socket = if v4 {
        raw(AddressFamily::INET, 1)
    } else {
        raw(AddressFamily::INET6, 58)
    };
    set_ttl(&socket, flow.dst, flow.ttl);
    let headers = if v4 { 20 } else { 40 };
    let mut echo = vec![0_u8; usize::from(flow.size.saturating_sub(headers)).max(16)];
    echo[0] = if v4 { 8 } else { 128 };
    echo[4..6].copy_from_slice(&id.to_be_bytes());
    if v4 {
        let sum = checksum(&echo);
        echo[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    if let Err(e) = rustix::net::sendto(&socket, &echo, SendFlags::empty(), &SocketAddr::new(flow.dst, 0)) {
        return nothing(sees(&e.into()));
    }
    let until = Instant::now() + patience;
    let mut buffer = [0_u8; 65536];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return nothing(ClientSees::Timeout);
        }
        let wait = Timespec {
            tv_sec: 0,
            tv_nsec: i64::try_from(left.as_nanos()).expect("under a second"),
        };
        let _ = poll(&mut [PollFd::new(&socket.as_fd(), PollFlags::IN)], Some(&wait));
        let Ok((n, _, Some(from))) = rustix::net::recvfrom(&socket, buffer.as_mut_slice(), RecvFlags::empty()) else {
            continue;
        };
        let Ok(from) = SocketAddr::try_from(from) else { continue };
        let packet = &buffer[..n];
        let at = if v4 { usize::from(packet[0] & 0xf) * 4 } else { 0 };
        let Some(&[ty, code, _, _, a, b, ..]) = packet.get(at..) else {
            continue;
        };
        let ours = |a: u8, b: u8| u16::from_be_bytes([a, b]) == id;
        if ty == if v4 { 0 } else { 129 } {
            if ours(a, b) && from.ip() == flow.dst {
                return nothing(ClientSees::Reply);
            }
            continue;
        }
        // An error quotes the packet: its own header, then the id at the same place.
        let quoted = at + 8 + if v4 { 20 } else { 40 };
        let query = if v4 { 8 } else { 128 };
        if packet.get(quoted) == Some(&query)
            && packet.len() > quoted + 6
            && ours(packet[quoted + 4], packet[quoted + 5])
            && ty != query
            // A router's redirect is advice, not an answer.
            && ty != if v4 { 5 } else { 137 }
        {
            return Observed {
                error: Some((ty, code, from.ip())),
                ..nothing(ClientSees::Timeout)
            };
        }
    }
}

fn checksum(bytes: &[u8]) -> u16 {
    let sum: u32 = bytes
        .chunks(2)
        .map(|c| u32::from(c[0]) << 8 | c.get(1).map_or(0, |b| u32::from(*b)))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap_or(0)
}
