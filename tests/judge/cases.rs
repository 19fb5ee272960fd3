//! Structured cases: a situation, a packet, and what the kernel does with it. The kernel has to do what the case
//! says, and the model what the kernel does.

mod faults;
mod taught;

use knet_dataplane::packet::{L4, Packet, proto, tcp_flag};

use std::fmt::Write;

use super::environment::{self, DEVICES, Environment};
use super::exchange::{self, Step, Verdict};
use super::flow::{Entry, Flow, Follow};
use super::lab::{self, Lab, Place};
use super::report;
use super::rules::{Back, Loaded, Part, Ruleset};

/// A situation.
#[derive(Debug, Default)]
pub struct Case {
    /// The number of the fault, or the kernel function that taught it.
    pub name: &'static str,
    /// Lines for `ip -batch`, beside routes to the networks behind the devices.
    pub ip: &'static [&'static str],
    /// Lines for `ip -batch` that take back what flushing routes and rules does not.
    pub undo: &'static [&'static str],
    /// Lines for `bridge -batch`.
    pub bridge: &'static [&'static str],
    pub sysctl: &'static [(&'static str, &'static str)],
    pub rules: &'static [(Back, &'static str)],
    /// `eth0 tcp 10.10.0.2 4001 > 10.11.0.2 80 flags 0x10 tos 0x8 len 100`, or `socket UID udp ... mark 0x1`.
    pub packet: &'static str,
    pub follow: &'static [Follow],
    /// What comes out of the last packet: places and headers, `nothing`, `refused` for a ruleset nobody can load.
    pub expect: &'static str,
    /// The model cannot know, and says so: the snapshot does not show it.
    pub untold: bool,
}

/// Every case.
pub fn all() -> Vec<Case> {
    let mut all = faults::cases();
    all.extend(taught::cases());
    all
}

/// The node that every case starts from.
fn plain(case: &Case) -> Environment {
    let mut env = Environment {
        ip: Vec::new(),
        sysctl: Vec::new(),
    };
    let mut set = |key: &str, value: &str| env.sysctl.push((key.to_owned(), value.to_owned()));
    set("net.ipv4.ip_forward", "1");
    set("net.ipv6.conf.all.forwarding", "1");
    for dev in ["all", "eth0", "eth1", "eth2", "eth3", "br0"] {
        set(&format!("net.ipv4.conf.{dev}.rp_filter"), "0");
        set(&format!("net.ipv4.conf.{dev}.accept_local"), "0");
    }
    for key in [
        "net.ipv4.icmp_echo_ignore_all",
        "net.ipv4.fwmark_reflect",
        "net.ipv6.fwmark_reflect",
        "net.bridge.bridge-nf-call-iptables",
        "net.bridge.bridge-nf-call-ip6tables",
    ] {
        set(key, "0");
    }
    set("net.netfilter.nf_conntrack_tcp_loose", "1");
    for (key, value) in case.sysctl {
        set(key, value);
    }
    for i in 0..environment::ROUTED {
        env.ip
            .push(format!("route add 10.1{i}.0.0/16 via 10.{i}.0.2 dev eth{i}"));
        env.ip
            .push(format!("-6 route add fd10:{i}::/32 via fd00:{i}::2 dev eth{i}"));
    }
    env.ip.extend(case.ip.iter().map(|line| (*line).to_owned()));
    env
}

/// Routes and sysctls of every case.
pub fn usual() -> Environment {
    plain(&Case::default())
}

/// A difference as a case, ready for `taught.rs` once it has a better name.
pub fn written(name: &str, rules: &Ruleset, env: &Environment, flow: &Flow, step: &Step) -> String {
    let usual = usual();
    let mut out = format!("        Case {{\n            name: {name:?},\n");
    let ip: Vec<&String> = env.ip.iter().filter(|line| !usual.ip.contains(line)).collect();
    let _ = writeln!(out, "            ip: &{ip:?},");
    let set = |(key, value): &&(String, String)| {
        let default = usual.sysctl.iter().rev().find(|(k, _)| k == key);
        default.map_or("0", |(_, v)| v.as_str()) != value
    };
    let sysctl: Vec<_> = env.sysctl.iter().filter(set).collect();
    let _ = writeln!(out, "            sysctl: &{sysctl:?},");
    let rules: Vec<String> = rules
        .parts
        .iter()
        .map(|part| format!("({:?}, {:?})", part.back, part.text().trim_end()))
        .collect();
    let _ = writeln!(out, "            rules: &[{}],", rules.join(", "));
    let _ = writeln!(out, "            packet: {:?},", worded(flow));
    let follow: Vec<String> = flow.follow.iter().map(|f| format!("Follow::{f:?}")).collect();
    let _ = writeln!(out, "            follow: &[{}],", follow.join(", "));
    let _ = writeln!(
        out,
        "            expect: {:?},\n            ..Case::default()\n        }},",
        seen(step)
    );
    out
}

/// A packet in the words that [`flow`] reads.
fn worded(flow: &Flow) -> String {
    let p = &flow.packet;
    let (entry, mark) = match flow.entry {
        Entry::Wire(device) => (DEVICES[device].to_owned(), 0),
        Entry::Socket { uid, mark, .. } => (format!("socket {uid}"), mark),
    };
    let name = match p.proto {
        proto::TCP => "tcp",
        proto::UDP => "udp",
        proto::SCTP => "sctp",
        _ => "ping",
    };
    let (sport, dport) = match &p.l4 {
        L4::Tcp { sport, dport, .. } | L4::Ports { sport, dport } => (sport.value, dport.value),
        L4::Icmp { id, .. } => (id.value, 0),
        L4::Other => (0, 0),
    };
    format!(
        "{entry} {name} {} {sport} > {} {dport} flags {:#x} ttl {} tos {:#x} len {} mark {mark:#x}",
        p.src,
        p.dst,
        p.tcp_flags(),
        p.ttl,
        p.tos,
        p.len
    )
}

/// Runs a case; the words say what is wrong with it.
pub fn judge(lab: &mut Lab, loaded: &mut Loaded, number: u32, case: &Case) -> Result<(), String> {
    loaded.clear();
    lab.enter_with(&plain(case), case.bridge);
    let rules = Ruleset {
        parts: case.rules.iter().map(|(back, text)| part(*back, text)).collect(),
    };
    let outcome = loaded.replace(&rules).map(|()| {
        let files = lab.files(&rules.artifacts());
        lab.forget();
        let mut last: Option<Step> = None;
        let flow = flow(case, number);
        exchange::run(lab, &files, std::slice::from_ref(&flow), |_, step| last = Some(step));
        last
    });
    loaded.clear();
    for line in case.undo {
        lab::must(&["ip", "-force", "-batch", "-"], &format!("{line}\n"));
    }
    let step = match outcome {
        Err(_) if case.expect == "refused" => return Ok(()),
        Err(why) => return Err(format!("{}: {why}", case.name)),
        Ok(step) => step.ok_or_else(|| format!("{}: nothing was sent", case.name))?,
    };
    let seen = seen(&step);
    if seen != case.expect {
        return Err(format!("{}: the kernel: {seen}; the case: {}", case.name, case.expect));
    }
    let agreed = match step.verdict {
        Verdict::Agrees => !case.untold,
        Verdict::CannotTell(_) => case.untold,
        Verdict::Differs => false,
    };
    if agreed {
        return Ok(());
    }
    let ours = report::predicted(&step.prediction);
    Err(format!(
        "{}: {:?}\n    kernel: {seen}\n    ours:\n{ours}",
        case.name, step.verdict
    ))
}

fn part(back: Back, text: &str) -> Part {
    Part {
        back,
        lines: text.lines().map(|l| l.trim_start().to_owned()).collect(),
        tables: Vec::new(),
    }
}

/// What was seen, in the words of a case.
fn seen(step: &Step) -> String {
    if let Some(sees) = step.sees {
        return format!("send fails: {sees:?}");
    }
    let mut words: Vec<String> = step
        .seen
        .iter()
        .map(|s| {
            let p = &s.packet;
            let what = match &p.l4 {
                L4::Tcp { flags, .. } if flags & tcp_flag::RST != 0 => "reset ".to_owned(),
                L4::Icmp {
                    ty,
                    code,
                    quoted: Some(_),
                    ..
                } => format!("icmp {ty}/{code} "),
                _ => String::new(),
            };
            let place = match s.place {
                Place::Out(device) => DEVICES[device],
                Place::Local => "local",
            };
            let ports = match &p.l4 {
                L4::Tcp { sport, dport, .. } | L4::Ports { sport, dport } => {
                    format!(" {sport}>{dport}", sport = sport.value, dport = dport.value)
                }
                _ => String::new(),
            };
            format!(
                "{place}: {what}{} > {}{ports} ttl {} tos {:#x}",
                p.src, p.dst, p.ttl, p.tos
            )
        })
        .collect();
    words.sort();
    if words.is_empty() {
        "nothing".to_owned()
    } else {
        words.join("; ")
    }
}

/// The packet of a case.
fn flow(case: &Case, number: u32) -> Flow {
    let mut words = case.packet.split_whitespace();
    let mut next = || words.next().unwrap_or_else(|| panic!("{}: too few words", case.name));
    let mut entry = match next() {
        "socket" => Entry::Socket {
            uid: next().parse().expect("a uid"),
            gid: 0,
            mark: 0,
            bound: None,
        },
        device => Entry::Wire(DEVICES.iter().position(|d| *d == device).expect("a device")),
    };
    let name = next();
    let src: std::net::IpAddr = next().parse().expect("a source");
    let sport: u16 = next().parse().expect("a source port or id");
    next();
    let dst: std::net::IpAddr = next().parse().expect("a destination");
    let dport: u16 = next().parse().expect("a destination port");
    let v6 = dst.is_ipv6();
    let head = if v6 { 40 } else { 20 };
    let local = matches!(entry, Entry::Socket { .. });
    if let Entry::Socket { bound, .. } = &mut entry {
        *bound = (!src.is_unspecified()).then_some(src);
    }
    let (mut flags, mut ttl, mut tos, mut len) = (tcp_flag::SYN, 64u8, 0u8, 0u16);
    while let (Some(key), Some(value)) = (words.next(), words.next()) {
        let value: u32 = value.strip_prefix("0x").map_or_else(
            || value.parse().expect("a number"),
            |hex| u32::from_str_radix(hex, 16).expect("a number"),
        );
        match key {
            "flags" => flags = value as u8,
            "ttl" => ttl = value as u8,
            "tos" => tos = value as u8,
            "len" => len = value as u16,
            "mark" => {
                if let Entry::Socket { mark, .. } = &mut entry {
                    *mark = value;
                }
            }
            other => panic!("{}: {other}", case.name),
        }
    }
    let (protocol, l4, least) = match name {
        "tcp" => {
            let own = if local { 40 } else { 48 };
            let l4 = L4::Tcp {
                sport: sport.into(),
                dport: dport.into(),
                flags,
            };
            (proto::TCP, l4, if flags == tcp_flag::SYN { own } else { 28 })
        }
        "udp" => {
            let l4 = L4::Ports {
                sport: sport.into(),
                dport: dport.into(),
            };
            (proto::UDP, l4, 16)
        }
        "sctp" => {
            let l4 = L4::Ports {
                sport: sport.into(),
                dport: dport.into(),
            };
            (proto::SCTP, l4, 32)
        }
        "ping" => {
            let l4 = L4::Icmp {
                ty: if v6 { 128 } else { 8 },
                code: 0,
                id: sport.into(),
                quoted: None,
            };
            (if v6 { proto::ICMPV6 } else { proto::ICMP }, l4, 16)
        }
        other => panic!("{}: {other}", case.name),
    };
    let packet = Packet {
        src,
        dst,
        proto: protocol,
        l4,
        ttl,
        tos,
        len: len.max(head + least),
        df: v6 || protocol == proto::TCP,
        inner: None,
    };
    Flow {
        entry,
        packet,
        number,
        follow: case.follow.to_vec(),
    }
}
