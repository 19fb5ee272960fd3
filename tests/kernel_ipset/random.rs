//! Random sets, and random packets that often are in them.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use knet_dataplane::packet::{Eth, L4, Packet, Port, proto};
use knet_dataplane::table::ipset::{SetFlags, SetQuery, Side};
use knet_snapshot::id::Mac;

use crate::netns::Rng;

pub const TYPES: &[&str] = &[
    "bitmap:ip",
    "bitmap:ip,mac",
    "bitmap:port",
    "hash:ip",
    "hash:mac",
    "hash:ip,mac",
    "hash:net",
    "hash:net,net",
    "hash:ip,port",
    "hash:net,port",
    "hash:ip,port,ip",
    "hash:ip,port,net",
    "hash:ip,mark",
    "hash:net,port,net",
    "hash:net,iface",
];
pub const PORTS: &[u16] = &[53, 80, 443, 1000];
const DEVICES: &[&str] = &["lo", "eth0", "eth10"];

pub struct Set {
    pub name: String,
    pub kind: &'static str,
    pub v6: bool,
    /// Lines for `ipset restore`.
    pub lines: String,
}

impl Set {
    pub fn fields(&self) -> Vec<&'static str> {
        self.kind
            .split_once(':')
            .expect("a type has a method")
            .1
            .split(',')
            .collect()
    }

    pub fn has_nets(&self) -> bool {
        self.fields().contains(&"net")
    }
}

/// Addresses of a small universe, 10.0.0-3.0-15 or fd00:0:0:0-3::0-f.
pub fn addr(rng: &mut Rng, v6: bool, subnets: u64) -> IpAddr {
    let (subnet, host) = (rng.below(subnets), rng.below(16));
    let (subnet, host) = (u8::try_from(subnet).expect("small"), u8::try_from(host).expect("small"));
    if v6 {
        IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, u16::from(subnet), 0, 0, 0, u16::from(host)))
    } else {
        IpAddr::V4(Ipv4Addr::new(10, 0, subnet, host))
    }
}

fn net(rng: &mut Rng, v6: bool, zero: bool) -> String {
    let len = match (zero && rng.one_in(6), v6) {
        (true, _) => 0,
        (false, false) => rng.pick(&[1, 8, 16, 22, 23, 24, 26, 28, 30, 31, 32, 32]),
        (false, true) => rng.pick(&[1, 16, 48, 62, 63, 64, 100, 124, 126, 128, 128]),
    };
    format!("{}/{len}", addr(rng, v6, 4))
}

fn mac(rng: &mut Rng) -> Mac {
    Mac([2, 0, 0, 0, 0, u8::try_from(rng.below(4)).expect("small")])
}

fn member(rng: &mut Rng, set: &Set) -> String {
    let mut parts = Vec::new();
    for field in set.fields() {
        parts.push(match field {
            "ip" => addr(rng, set.v6, 4).to_string(),
            "net" => net(rng, set.v6, set.kind == "hash:net,iface"),
            "mac" => mac(rng).to_string(),
            "mark" => format!("{:#x}", rng.below(8)),
            "iface" => {
                let physdev = if rng.one_in(8) { "physdev:" } else { "" };
                format!("{physdev}{}", rng.pick(&["lo", "eth0", "eth10", "eth1", "eth", "e"]))
            }
            _ if set.kind == "bitmap:port" => rng.pick(PORTS).to_string(),
            _ => match rng.below(10) {
                0..=3 => format!("tcp:{}", rng.pick(PORTS)),
                4..=6 => format!("udp:{}", rng.pick(PORTS)),
                7 => format!("{}:{}", rng.pick(&["sctp", "udplite"]), rng.pick(PORTS)),
                8 if set.v6 => rng
                    .pick(&["icmpv6:echo-request", "icmpv6:1/7", "icmpv6:129/0"])
                    .to_owned(),
                8 => rng
                    .pick(&["icmp:echo-request", "icmp:8/1", "icmp:host-prohibited"])
                    .to_owned(),
                _ => rng.pick(&["gre:0", "33:0", "200:0"]).to_owned(),
            },
        });
    }
    let mut line = parts.join(",");
    if set.has_nets() && rng.one_in(4) {
        line.push_str(" nomatch");
    }
    // A prefix of a name only makes sense with the flag, but the kernel takes any name.
    if set.kind == "hash:net,iface" && rng.one_in(3) {
        line.push_str(" wildcard");
    }
    line
}

/// A random set of a type.
pub fn set(rng: &mut Rng, name: String, kind: &'static str, v6: bool) -> Set {
    let mut set = Set {
        name,
        kind,
        v6,
        lines: String::new(),
    };
    let mut create = match kind {
        "bitmap:ip" | "bitmap:ip,mac" => " range 10.0.0.0/22".to_owned(),
        "bitmap:port" => " range 0-2000".to_owned(),
        "hash:mac" => String::new(),
        _ => format!(" family {}", if v6 { "inet6" } else { "inet" }),
    };
    match kind {
        "bitmap:ip" if rng.one_in(3) => create.push_str(" netmask 28"),
        "hash:ip" | "hash:ip,port" if rng.one_in(3) => {
            create.push_str(if v6 { " netmask 124" } else { " netmask 29" });
        }
        "hash:ip" | "hash:ip,port" | "hash:net,net" if rng.one_in(3) => {
            create.push_str(if v6 {
                " bitmask ffff:ffff:ffff:ffff::fff9"
            } else {
                " bitmask 255.255.254.249"
            });
        }
        "hash:ip,mark" if rng.one_in(2) => create.push_str(" markmask 0x6"),
        _ => {}
    }
    for option in [" timeout 600", " counters", " comment"] {
        if rng.one_in(4) {
            create.push_str(option);
        }
    }
    if kind.starts_with("hash:") && rng.one_in(4) {
        create.push_str(" forceadd");
    }
    let comments = create.contains("comment");
    let mut lines = format!("create {} {kind}{create}\n", set.name);
    for _ in 0..3 + rng.below(40) {
        let member = member(rng, &set);
        let comment = if comments && rng.one_in(3) {
            " comment \"seen nomatch here\""
        } else {
            ""
        };
        let _ = writeln!(lines, "add {} {member}{comment}", set.name);
    }
    set.lines = lines;
    set
}

/// A packet at a hook and the directions of a rule.
pub struct Probe {
    pub packet: Packet,
    pub eth: Option<Eth>,
    pub iif: Option<&'static str>,
    pub oif: Option<&'static str>,
    pub mark: u32,
    pub dirs: Vec<Side>,
    pub flags: SetFlags,
}

impl Probe {
    pub fn query(&self) -> SetQuery<'_> {
        SetQuery {
            packet: &self.packet,
            eth: self.eth.as_ref(),
            iif: self.iif,
            oif: self.oif,
            physin: self.iif,
            physout: self.oif,
            mark: self.mark,
            dirs: &self.dirs,
            flags: self.flags,
        }
    }

    /// The entry that `ipset test` takes for this probe.
    pub fn entry(&self, set: &Set) -> String {
        let mut parts = Vec::new();
        for (field, side) in set.fields().into_iter().zip(&self.dirs) {
            let src = *side == Side::Src;
            parts.push(match field {
                "ip" | "net" => if src { self.packet.src } else { self.packet.dst }.to_string(),
                "mac" => {
                    let eth = self.eth.as_ref().expect("made with a header");
                    if src { eth.src } else { eth.dst }
                        .expect("made with addresses")
                        .to_string()
                }
                "mark" => format!("{:#x}", self.mark),
                "iface" => {
                    let name = if src { self.iif } else { self.oif }.expect("made with devices");
                    format!("{}{name}", if self.flags.physdev { "physdev:" } else { "" })
                }
                _ => {
                    let port = |p: Option<Port>| p.expect("made with ports").value;
                    let number = |p: &Packet| if src { port(p.sport()) } else { port(p.dport()) };
                    match (&self.packet.l4, self.packet.proto) {
                        _ if set.kind == "bitmap:port" => number(&self.packet).to_string(),
                        (L4::Icmp { ty, code, .. }, proto::ICMPV6) => format!("icmpv6:{ty}/{code}"),
                        (L4::Icmp { ty, code, .. }, _) => format!("icmp:{ty}/{code}"),
                        (L4::Other, number) => format!("{number}:0"),
                        (_, protocol) => format!("{protocol}:{}", number(&self.packet)),
                    }
                }
            });
        }
        let mut entry = parts.join(",");
        if self.flags.return_nomatch {
            entry.push_str(" nomatch");
        }
        entry
    }
}

/// A packet without anything special.
pub fn packet(src: IpAddr, dst: IpAddr, proto: u8, l4: L4) -> Packet {
    Packet {
        src,
        dst,
        proto,
        l4,
        ttl: 64,
        tos: 0,
        len: 60,
        df: true,
        inner: None,
    }
}

/// A probe of everything `ipset test` can ask a set about.
pub fn probe(rng: &mut Rng, set: &Set) -> Probe {
    let ports = (Port::from(rng.pick(PORTS)), Port::from(rng.pick(PORTS)));
    let udp_tcp_only = set.kind == "bitmap:port";
    let (protocol, l4) = match rng.below(if udp_tcp_only { 7 } else { 10 }) {
        0..=3 => (
            proto::TCP,
            L4::Tcp {
                sport: ports.0,
                dport: ports.1,
                flags: 2,
            },
        ),
        4..=6 => (
            proto::UDP,
            L4::Ports {
                sport: ports.0,
                dport: ports.1,
            },
        ),
        7 => (
            rng.pick(&[proto::SCTP, proto::UDPLITE]),
            L4::Ports {
                sport: ports.0,
                dport: ports.1,
            },
        ),
        8 => {
            let (ty, code) = if set.v6 {
                rng.pick(&[(128, 0), (1, 7), (129, 0)])
            } else {
                rng.pick(&[(8, 0), (8, 1), (3, 10)])
            };
            let protocol = if set.v6 { proto::ICMPV6 } else { proto::ICMP };
            (
                protocol,
                L4::Icmp {
                    ty,
                    code,
                    id: Port::from(1),
                    quoted: None,
                },
            )
        }
        _ => (rng.pick(&[proto::GRE, proto::DCCP, 200]), L4::Other),
    };
    let packet = packet(addr(rng, set.v6, 4), addr(rng, set.v6, 4), protocol, l4);
    let eth = Eth {
        src: Some(mac(rng)),
        dst: Some(mac(rng)),
        vlan: None,
    };
    let dirs = (0..3).map(|_| rng.pick(&[Side::Src, Side::Dst])).collect();
    let flags = SetFlags {
        return_nomatch: set.has_nets() && rng.one_in(4),
        physdev: set.kind == "hash:net,iface" && rng.one_in(6),
        counters: false,
    };
    let mark = u32::try_from(rng.below(8)).expect("small");
    Probe {
        packet,
        eth: Some(eth),
        iif: Some(rng.pick(DEVICES)),
        oif: Some(rng.pick(DEVICES)),
        mark,
        dirs,
        flags,
    }
}
