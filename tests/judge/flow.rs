//! Random conversations: a first packet, and what may follow it.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU16, Ordering};

use knet_dataplane::packet::{L4, Packet, Port, proto, tcp_flag};

use super::environment::{BOUND, DEVICES, LISTENING, ROUTED};
use super::random::Rng;

/// How the first packet gets into the node.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// Over a wire.
    Wire(usize),
    /// From a program of the node.
    Socket {
        uid: u32,
        gid: u32,
        mark: u32,
        bound: Option<IpAddr>,
    },
}

/// What is sent after a packet, given what came out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Follow {
    /// The other side answers.
    Reply { flags: u8 },
    /// The first side sends again.
    Again { flags: u8 },
    /// A router on the way reports an error about it.
    Error { ty: u8, code: u8, from_target: bool },
}

/// A conversation.
#[derive(Clone, Debug)]
pub struct Flow {
    pub entry: Entry,
    pub packet: Packet,
    /// Carried by every packet of the conversation.
    pub number: u32,
    pub follow: Vec<Follow>,
}

/// Numbers conversations, and gives each a source port that no other has.
#[derive(Debug)]
pub struct Numbers(u32);

impl Numbers {
    /// The numbers of a ruleset's conversations.
    pub fn of(ruleset: u64, flows: usize) -> Self {
        Self((ruleset % 10_000) as u32 * flows as u32)
    }

    fn next(&mut self) -> (u32, u16) {
        self.0 += 1;
        (self.0, 1024 + (self.0 % 58_000) as u16)
    }
}

/// Source ports that no conversation is given the first time.
static RENEWED: AtomicU16 = AtomicU16::new(0);

impl Flow {
    /// The same from another port: connections of IPVS cannot be made to be forgotten.
    pub fn renewed(&self) -> Self {
        const FIRST: u16 = 59_100;
        const MANY: u16 = 2_900;
        let mut flow = self.clone();
        if !matches!(flow.packet.l4, L4::Icmp { .. }) {
            let port = FIRST + RENEWED.fetch_add(1, Ordering::Relaxed) % MANY;
            flow.packet.set_sport(port.into());
        }
        flow
    }
}

/// Destination ports that rules talk about.
pub const PORTS: [u16; 8] = [53, 80, 443, 8080, 30080, 6443, BOUND, 1900];

pub fn is_listening(port: u16) -> bool {
    LISTENING.contains(&port)
}

fn addr(text: String) -> IpAddr {
    text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// Networks that packets come from and go to, and then single addresses, everything and a network of nobody's.
pub fn networks(rng: &mut Rng, v6: bool) -> [String; 10] {
    let i = rng.below(ROUTED);
    let third = rng.below(6);
    if v6 {
        [
            format!("fd10:{i}::/32"),
            format!("fd10:{i}:{third}::/48"),
            format!("fd00:{i}::/64"),
            "fd00::/8".to_owned(),
            "fd96::/32".to_owned(),
            "fd96::10/128".to_owned(),
            format!("fd00:{i}::1/128"),
            format!("fd10:{i}:{third}::2/128"),
            "::/0".to_owned(),
            "fd40::/16".to_owned(),
        ]
    } else {
        [
            format!("10.1{i}.0.0/16"),
            format!("10.1{i}.{third}.0/24"),
            format!("10.{i}.0.0/24"),
            "10.0.0.0/8".to_owned(),
            "10.96.0.0/16".to_owned(),
            "10.96.0.10/32".to_owned(),
            format!("10.{i}.0.1/32"),
            format!("10.1{i}.{third}.2/32"),
            "0.0.0.0/0".to_owned(),
            "10.40.0.0/13".to_owned(),
        ]
    }
}

/// An address beyond a device (or of the port's side of the bridge).
pub fn behind(rng: &mut Rng, v6: bool, device: usize) -> IpAddr {
    if device >= ROUTED {
        let host = if device == ROUTED {
            *rng.pick(&[2, 4])
        } else {
            *rng.pick(&[3, 5])
        };
        return addr(if v6 {
            format!("fd00:8::{host}")
        } else {
            format!("10.8.0.{host}")
        });
    }
    if rng.percent(40) {
        let host = rng.range(2, 9);
        return addr(if v6 {
            format!("fd00:{device}::{host}")
        } else {
            format!("10.{device}.0.{host}")
        });
    }
    let (third, host) = (rng.below(6), rng.range(1, 5));
    addr(if v6 {
        format!("fd10:{device}:{third}::{host}")
    } else {
        format!("10.1{device}.{third}.{host}")
    })
}

/// An address of the node.
pub fn own(rng: &mut Rng, v6: bool) -> IpAddr {
    let i = rng.below(ROUTED);
    let texts = if v6 {
        vec![
            format!("fd00:{i}::1"),
            format!("fd00:{i}::1"),
            format!("fd00:{i}::11"),
            "fd00:8::1".to_owned(),
        ]
    } else {
        vec![
            format!("10.{i}.0.1"),
            format!("10.{i}.0.1"),
            format!("10.{i}.0.11"),
            "10.8.0.1".to_owned(),
            format!("10.13{i}.0.1"),
        ]
    };
    addr(rng.pick(&texts).clone())
}

fn destination(rng: &mut Rng, v6: bool) -> IpAddr {
    match rng.below(20) {
        0..=7 => {
            let device = rng.below(DEVICES.len());
            behind(rng, v6, device)
        }
        8..=12 => own(rng, v6),
        13 | 14 => {
            let host = *rng.pick(&[1, 10, 20]);
            addr(if v6 {
                format!("fd96::{host}")
            } else {
                format!("10.96.0.{host}")
            })
        }
        // Of errors about IPv4 routes it can never be told whether they are sent.
        15 if v6 || rng.percent(30) => {
            let (kind, host) = (rng.below(4), rng.range(1, 3));
            addr(if v6 {
                format!("fd40:{kind}::{host}")
            } else {
                format!("10.4{kind}.0.{host}")
            })
        }
        16 => {
            let host = rng.range(1, 9);
            addr(if v6 {
                format!("fd50::{host}")
            } else {
                format!("10.50.0.{host}")
            })
        }
        17 => addr(if v6 {
            "fd60::1".to_owned()
        } else {
            "10.60.0.1".to_owned()
        }),
        18 => addr(if v6 {
            "fd99::1".to_owned()
        } else {
            "192.0.2.7".to_owned()
        }),
        _ => {
            let device = rng.below(ROUTED);
            behind(rng, v6, device)
        }
    }
}

fn source(rng: &mut Rng, v6: bool, device: usize) -> IpAddr {
    match rng.below(25) {
        0 => {
            let other = rng.below(ROUTED);
            behind(rng, v6, other)
        }
        1 => addr(if v6 {
            "fd99::9".to_owned()
        } else {
            "198.51.100.9".to_owned()
        }),
        2 if rng.percent(40) => own(rng, v6),
        3 => addr(if v6 {
            "fd40:1::9".to_owned()
        } else {
            "10.41.0.9".to_owned()
        }),
        _ => behind(rng, v6, device),
    }
}

/// A random conversation.
pub fn random(rng: &mut Rng, numbers: &mut Numbers) -> Flow {
    let (number, sport) = numbers.next();
    let v6 = rng.percent(40);
    let local = rng.percent(22);
    let dst = destination(rng, v6);
    let dport = *rng.pick(&PORTS);
    let kind = rng.below(20);
    let (protocol, l4) = match kind {
        0..=7 => {
            let flags = match rng.below(12) {
                0 => tcp_flag::ACK,
                1 => tcp_flag::SYN | tcp_flag::ACK,
                2 => tcp_flag::RST,
                3 => tcp_flag::FIN | tcp_flag::ACK,
                4 => tcp_flag::ACK | tcp_flag::PSH,
                _ => tcp_flag::SYN,
            };
            let flags = if local { tcp_flag::SYN } else { flags };
            (
                proto::TCP,
                L4::Tcp {
                    sport: sport.into(),
                    dport: dport.into(),
                    flags,
                },
            )
        }
        8..=15 => (
            proto::UDP,
            L4::Ports {
                sport: sport.into(),
                dport: dport.into(),
            },
        ),
        16 if !local && rng.percent(40) => (
            proto::SCTP,
            L4::Ports {
                sport: sport.into(),
                dport: dport.into(),
            },
        ),
        _ => {
            let ty = match (v6, local || !rng.percent(10)) {
                (false, true) => 8,
                (true, true) => 128,
                (false, false) => *rng.pick(&[0, 13, 17]),
                (true, false) => 129,
            };
            let protocol = if v6 { proto::ICMPV6 } else { proto::ICMP };
            (
                protocol,
                L4::Icmp {
                    ty,
                    code: 0,
                    id: sport.into(),
                    quoted: None,
                },
            )
        }
    };
    let entry = if local {
        let bound = rng.percent(25).then(|| own(rng, v6));
        // Only root opens raw sockets.
        let icmp = matches!(l4, L4::Icmp { .. });
        let (uid, gid) = (*rng.pick(&[0, 0, 1000, 1001, 101]), *rng.pick(&[0, 0, 100]));
        Entry::Socket {
            uid: if icmp { 0 } else { uid },
            gid: if icmp { 0 } else { gid },
            mark: if rng.percent(25) {
                *rng.pick(&[1, 2, 4, 0x4000])
            } else {
                0
            },
            bound,
        }
    } else {
        Entry::Wire(rng.below(DEVICES.len()))
    };
    let unspecified: IpAddr = if v6 { [0u8; 16].into() } else { [0u8; 4].into() };
    let src = match &entry {
        Entry::Wire(device) => source(rng, v6, *device),
        Entry::Socket { bound, .. } => bound.unwrap_or(unspecified),
    };
    let ttl = if local || rng.percent(85) {
        64
    } else {
        *rng.pick(&[1, 2, 3, 33, 255])
    };
    let tos = if rng.percent(80) {
        0
    } else {
        *rng.pick(&[0x10, 0x08, 0x20, 0x28, 0xb8])
    };
    let head = if v6 { 40u16 } else { 20 };
    let len = match protocol {
        // What the kernel's own SYN is long: all its options.
        proto::TCP if local => head + 40,
        // A SYN has the options of Linux, so that its answer has them as well.
        proto::TCP if flags_of(&l4) == tcp_flag::SYN => head + 40 + 8 + rng.below(4) as u16 * 50,
        proto::TCP => head + 20 + 8 + rng.below(4) as u16 * 50,
        proto::SCTP => head + 12 + 20,
        _ => head + 8 + 8 + rng.below(4) as u16 * 50,
    };
    let packet = Packet {
        src,
        dst,
        proto: protocol,
        l4,
        ttl,
        tos,
        len,
        df: v6 || protocol == proto::TCP,
        inner: None,
    };
    let follow = follows(rng, &packet);
    Flow {
        entry,
        packet,
        number,
        follow,
    }
}

const fn flags_of(l4: &L4) -> u8 {
    match l4 {
        L4::Tcp { flags, .. } => *flags,
        _ => 0,
    }
}

/// What may follow a packet.
pub fn follows(rng: &mut Rng, packet: &Packet) -> Vec<Follow> {
    if rng.percent(35) {
        return Vec::new();
    }
    let tcp = packet.proto == proto::TCP;
    let error = |rng: &mut Rng| {
        let (ty, code) = if packet.dst.is_ipv4() {
            *rng.pick(&[(3, 1), (3, 3), (11, 0), (3, 13), (12, 0)])
        } else {
            *rng.pick(&[(1, 0), (1, 4), (3, 0), (1, 1)])
        };
        Follow::Error {
            ty,
            code,
            from_target: rng.percent(50),
        }
    };
    let first = match rng.below(10) {
        0..=6 => Follow::Reply {
            flags: match rng.below(8) {
                0 if tcp => tcp_flag::RST | tcp_flag::ACK,
                1 if tcp => tcp_flag::ACK,
                _ => tcp_flag::SYN | tcp_flag::ACK,
            },
        },
        7 | 8 => error(rng),
        _ => Follow::Again {
            flags: packet.tcp_flags(),
        },
    };
    let mut out = vec![first];
    if rng.percent(60) {
        out.push(match rng.below(10) {
            0 => error(rng),
            1 | 2 => Follow::Reply { flags: tcp_flag::ACK },
            3 => Follow::Again {
                flags: tcp_flag::FIN | tcp_flag::ACK,
            },
            4 => Follow::Again { flags: tcp_flag::RST },
            _ => Follow::Again { flags: tcp_flag::ACK },
        });
    }
    out
}

/// The packet that answers one that came out.
pub fn turned(came: &Packet, flags: u8) -> Option<Packet> {
    let l4 = match &came.l4 {
        L4::Tcp { sport, dport, .. } => L4::Tcp {
            sport: *dport,
            dport: *sport,
            flags,
        },
        L4::Ports { sport, dport } if came.proto == proto::UDP => L4::Ports {
            sport: *dport,
            dport: *sport,
        },
        L4::Icmp {
            ty,
            code,
            id,
            quoted: None,
        } => {
            let answer = match (came.proto, *ty) {
                (proto::ICMP, 8) => 0,
                (proto::ICMPV6, 128) => 129,
                _ => return None,
            };
            L4::Icmp {
                ty: answer,
                code: *code,
                id: *id,
                quoted: None,
            }
        }
        _ => return None,
    };
    Some(Packet {
        src: came.dst,
        dst: came.src,
        l4,
        ttl: 61,
        tos: 0,
        ..came.clone()
    })
}

/// An ICMP error about a packet that came out.
pub fn error(came: &Packet, ty: u8, code: u8, router: IpAddr) -> Packet {
    let v4 = came.dst.is_ipv4();
    let head = if v4 { 20 } else { 40 };
    Packet {
        src: router,
        dst: came.src,
        proto: if v4 { proto::ICMP } else { proto::ICMPV6 },
        l4: L4::Icmp {
            ty,
            code,
            id: Port::from(0),
            quoted: Some(Box::new(came.clone())),
        },
        ttl: 60,
        tos: 0xc0,
        len: head + 8 + came.len,
        df: !v4,
        inner: None,
    }
}
