//! Random virtual services with real servers, rules beside them, and packets to them.

use std::net::{IpAddr, SocketAddr};

use knet_dataplane::packet::{L4, proto};

use super::environment::{Environment, ROUTED};
use super::flow::{self, Flow, Numbers};
use super::random::Rng;
use super::rules::{Back, Chain, Part, Rule, Table};
use super::{cases, environment};

/// Where the addresses of services stand, as on a node of kube-proxy.
pub const DEVICE: &str = "kube-ipvs0";

const SCHEDULERS: [&str; 13] = [
    "rr", "wrr", "lc", "wlc", "sh", "sh", "dh", "mh", "sed", "nq", "lblc", "lblcr", "fo",
];

/// What a service is found by.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Key {
    At(u8, IpAddr, u16),
    Mark(u32, bool),
}

/// What packets can be sent to.
#[derive(Clone, Debug, Default)]
pub struct Services(Vec<(u8, IpAddr, u16)>);

/// An epoch: usually a node that routes, with the addresses of most services on [`DEVICE`].
pub fn environment(rng: &mut Rng) -> Environment {
    let mut env = if rng.percent(35) {
        environment::random(rng)
    } else {
        let mut usual = cases::usual();
        if !rng.percent(20) {
            usual.ip.push("route add default via 10.3.0.3 dev eth3".to_owned());
            usual.ip.push("-6 route add default via fd00:3::3 dev eth3".to_owned());
        }
        usual
    };
    let mut ip = Vec::new();
    // kube-proxy leaves it down.
    if rng.percent(40) {
        ip.push(format!("link set {DEVICE} up"));
    }
    for host in [1, 10, 20] {
        if !rng.percent(12) {
            ip.push(format!("addr add 10.96.0.{host}/32 dev {DEVICE}"));
        }
        if !rng.percent(12) {
            ip.push(format!("-6 addr add fd96::{host}/128 dev {DEVICE} nodad"));
        }
    }
    env.ip.splice(0..0, ip);
    let mut set = |key: &str, value: String| env.sysctl.push((format!("net.ipv4.vs.{key}"), value));
    let mut switch = |rng: &mut Rng, key: &str, percent: usize| {
        set(key, u8::from(rng.percent(percent)).to_string());
    };
    switch(rng, "conntrack", 60);
    switch(rng, "expire_nodest_conn", 50);
    switch(rng, "expire_quiescent_template", 50);
    switch(rng, "snat_reroute", 70);
    switch(rng, "nat_icmp_send", 25);
    switch(rng, "sloppy_tcp", 15);
    switch(rng, "pmtu_disc", 80);
    switch(rng, "ignore_tunneled", 20);
    switch(rng, "schedule_icmp", 20);
    switch(rng, "cache_bypass", 15);
    switch(rng, "backup_only", 4);
    set("conn_reuse_mode", rng.below(2).to_string());
    env
}

fn address(rng: &mut Rng, v6: bool) -> IpAddr {
    if rng.percent(15) {
        return flow::own(rng, v6);
    }
    let host = *rng.pick(&[1, 1, 10, 10, 20, 30]);
    let text = if v6 {
        format!("fd96::{host}")
    } else {
        format!("10.96.0.{host}")
    };
    text.parse().expect("an address")
}

fn server(rng: &mut Rng, v6: bool) -> IpAddr {
    match rng.below(20) {
        0..=2 => flow::own(rng, v6),
        3 if !v6 => [127, 0, 0, 1].into(),
        4 => if v6 { "fd40:1::9" } else { "10.41.0.9" }.parse().expect("an address"),
        _ => {
            let device = rng.below(ROUTED + 2);
            flow::behind(rng, v6, device)
        }
    }
}

impl Key {
    fn v6(self) -> bool {
        match self {
            Self::At(_, addr, _) => addr.is_ipv6(),
            Self::Mark(_, v6) => v6,
        }
    }

    fn port(self) -> u16 {
        match self {
            Self::At(_, _, port) => port,
            Self::Mark(..) => 0,
        }
    }

    fn text(self) -> String {
        match self {
            Self::At(p, addr, port) => {
                let flag = match p {
                    proto::TCP => "-t",
                    proto::UDP => "-u",
                    _ => "--sctp-service",
                };
                format!("{flag} {}", SocketAddr::new(addr, port))
            }
            Self::Mark(mark, false) => format!("-f {mark}"),
            Self::Mark(mark, true) => format!("-f {mark} -6"),
        }
    }
}

/// Random services, and the rules beside them.
pub fn random(rng: &mut Rng) -> (Services, Vec<Part>) {
    let mut keys: Vec<Key> = Vec::new();
    for _ in 0..rng.range(2, 7) {
        let v6 = rng.percent(30);
        let key = if rng.percent(15) {
            Key::Mark(*rng.pick(&[1, 2, 4]), v6)
        } else {
            let p = *rng.pick(&[proto::TCP, proto::TCP, proto::TCP, proto::UDP, proto::UDP, proto::SCTP]);
            let port = match rng.below(12) {
                0 => 0,
                1 if p == proto::TCP => 21,
                _ => *rng.pick(&flow::PORTS),
            };
            Key::At(p, address(rng, v6), port)
        };
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    let lines = keys.iter().flat_map(|&key| service(rng, key)).collect();
    let mut parts = vec![Part {
        back: Back::Ipvs,
        lines,
        tables: Vec::new(),
    }];
    for (back, v6) in [(Back::Legacy, false), (Back::Legacy6, true)] {
        let marked = keys.iter().any(|k| matches!(k, Key::Mark(_, six) if *six == v6));
        if marked || rng.percent(45) {
            parts.push(rules(rng, back, &keys));
        }
    }
    let at = keys.iter().filter_map(|k| match k {
        Key::At(p, addr, port) => Some((*p, *addr, *port)),
        Key::Mark(..) => None,
    });
    (Services(at.collect()), parts)
}

fn service(rng: &mut Rng, key: Key) -> Vec<String> {
    let text = key.text();
    let scheduler = if rng.percent(4) { "ovf" } else { rng.word(&SCHEDULERS) };
    let mut line = format!("-A {text} -s {scheduler}");
    // ipvsadm refuses every port for a service without persistence.
    let any_port = matches!(key, Key::At(..)) && key.port() == 0;
    if any_port || rng.percent(25) {
        line.push_str(&format!(" -p {}", rng.pick(&[60, 300])));
        if rng.percent(40) {
            let mask = if key.v6() {
                rng.word(&["64", "48", "112"])
            } else {
                rng.word(&["255.255.255.0", "255.255.0.0", "255.255.255.255"])
            };
            line.push_str(&format!(" -M {mask}"));
        }
    }
    if matches!(key, Key::At(proto::UDP, ..)) && rng.percent(25) {
        line.push_str(" -o");
    }
    if matches!(scheduler, "sh" | "mh") && rng.percent(60) {
        let flags = rng.word(&["fallback", "port", "both"]);
        let flags = match flags {
            "both" => format!("{scheduler}-fallback,{scheduler}-port"),
            one => format!("{scheduler}-{one}"),
        };
        line.push_str(&format!(" -b {flags}"));
    }
    let mut out = vec![line];
    let mut servers: Vec<SocketAddr> = Vec::new();
    for _ in 0..rng.below(6) {
        let how = rng.word(&["-m", "-m", "-m", "-m", "-g", "-i"]);
        // Only a tunnel leads to a server of the other family.
        let v6 = key.v6() != (how == "-i" && rng.percent(15));
        // Without translation the port stays.
        let port = if how == "-m" && key.port() != 0 {
            *rng.pick(&flow::PORTS)
        } else {
            key.port()
        };
        let to = SocketAddr::new(server(rng, v6), port);
        if servers.iter().any(|s| s.ip() == to.ip()) {
            continue;
        }
        servers.push(to);
        let mut line = format!("-a {text} -r {to} {how} -w {}", rng.pick(&[1, 1, 1, 2, 3, 10, 0]));
        if how == "-i" {
            match rng.below(4) {
                0 => line.push_str(" --tun-type gue --tun-port 6080 --tun-nocsum"),
                1 => line.push_str(" --tun-type gre --tun-nocsum"),
                _ => {}
            }
        }
        if rng.percent(3) {
            line.push_str(&format!(" -x {} -y {}", rng.range(2, 20), 1));
        }
        out.push(line);
    }
    out
}

fn rule(rng: &mut Rng, matches: Vec<String>, action: &str) -> Rule {
    let _ = rng;
    Rule {
        matches,
        action: format!("-j {action}"),
    }
}

/// What stands beside virtual services: marks for them, masquerading, rules that ask for them.
fn rules(rng: &mut Rng, back: Back, keys: &[Key]) -> Part {
    let v6 = back == Back::Legacy6;
    let vips = if v6 { "fd96::/32" } else { "10.96.0.0/16" };
    let mut marks = Vec::new();
    for key in keys {
        let Key::Mark(mark, six) = *key else { continue };
        if six != v6 {
            continue;
        }
        let mut matches = vec![format!("-d {vips}")];
        if rng.percent(60) {
            let p = rng.word(&["tcp", "udp"]);
            matches.push(format!("-p {p} --dport {}", rng.pick(&flow::PORTS)));
        }
        marks.push(rule(rng, matches, &format!("MARK --set-mark {mark}")));
    }
    let chain = |name: &str, rules: Vec<Rule>| Chain {
        name: name.to_owned(),
        head: "ACCEPT".to_owned(),
        rules,
    };
    let mut tables = vec![Table {
        head: "mangle".to_owned(),
        objects: Vec::new(),
        chains: vec![
            chain("PREROUTING", marks.clone()),
            chain("INPUT", Vec::new()),
            chain("FORWARD", Vec::new()),
            chain("OUTPUT", marks),
            chain("POSTROUTING", Vec::new()),
        ],
    }];
    if rng.percent(60) {
        let mut masquerade = Vec::new();
        for _ in 0..rng.range(1, 2) {
            let matches = match rng.below(4) {
                0 => vec!["-m ipvs --ipvs".to_owned()],
                1 => vec!["-m ipvs --vdir ORIGINAL --vmethod MASQ".to_owned()],
                2 => vec![format!("! -s {vips}"), "-p tcp".to_owned()],
                _ => vec![format!("-o eth{}", rng.below(ROUTED))],
            };
            masquerade.push(rule(rng, matches, "MASQUERADE"));
        }
        let mut before = Vec::new();
        if rng.percent(15) {
            let to = flow::behind(rng, v6, 1);
            before.push(rule(
                rng,
                vec![format!("-d {vips}"), "-p tcp --dport 443".to_owned()],
                &format!("DNAT --to-destination {to}"),
            ));
        }
        tables.push(Table {
            head: "nat".to_owned(),
            objects: Vec::new(),
            chains: vec![
                chain("PREROUTING", before),
                chain("INPUT", Vec::new()),
                chain("OUTPUT", Vec::new()),
                chain("POSTROUTING", masquerade),
            ],
        });
    }
    if rng.percent(50) {
        let filters = |rng: &mut Rng, hook: &str| {
            let mut out = Vec::new();
            for _ in 0..rng.below(3) {
                let matches = match rng.below(8) {
                    0 => "-m conntrack --ctstate NEW -p udp".to_owned(),
                    1 => "-m conntrack --ctstate INVALID".to_owned(),
                    2 => "-m conntrack --ctstate ESTABLISHED,RELATED -p tcp".to_owned(),
                    3 => "-m conntrack --ctstate UNTRACKED -p udp".to_owned(),
                    4 => "-m ipvs --ipvs -p tcp".to_owned(),
                    5 => format!("-m ipvs --vaddr {vips} --vport {}", rng.pick(&flow::PORTS)),
                    6 => format!("-p tcp --dport {}", rng.pick(&flow::PORTS)),
                    _ => format!("-s {vips}"),
                };
                let action = match hook {
                    "OUTPUT" => "DROP",
                    _ => rng.word(&["DROP", "ACCEPT", "REJECT"]),
                };
                out.push(rule(rng, vec![matches], action));
            }
            chain(hook, out)
        };
        tables.push(Table {
            head: "filter".to_owned(),
            objects: Vec::new(),
            chains: vec![filters(rng, "INPUT"), filters(rng, "FORWARD"), filters(rng, "OUTPUT")],
        });
    }
    Part {
        back,
        lines: Vec::new(),
        tables,
    }
}

/// A conversation, most often with a service.
pub fn flow(rng: &mut Rng, numbers: &mut Numbers, services: &Services) -> Flow {
    let mut flow = flow::random(rng, numbers);
    let own = flow.packet.dst.is_ipv6();
    let fits: Vec<_> = services.0.iter().filter(|(_, a, _)| a.is_ipv6() == own).collect();
    if fits.is_empty() || rng.percent(15) {
        return flow;
    }
    let &&(p, addr, port) = rng.pick(&fits);
    flow.packet.dst = addr;
    let echo = matches!(flow.packet.l4, L4::Icmp { .. });
    if echo && rng.percent(60) {
        return flow;
    }
    let port = if port == 0 { *rng.pick(&flow::PORTS) } else { port };
    let kind = |p: u8| match p {
        proto::TCP => 0,
        proto::UDP => 1,
        _ => 2,
    };
    // The header that was drawn stays when the protocol is the service's.
    if flow.packet.proto == p && !echo {
        flow.packet.set_dport(port.into());
    } else if kind(flow.packet.proto) < 2 && kind(p) < 2 && !matches!(flow.entry, flow::Entry::Socket { .. }) {
        let sport = flow.packet.sport().unwrap_or(0.into());
        flow.packet.proto = p;
        flow.packet.df = own || p == proto::TCP;
        flow.packet.l4 = if p == proto::TCP {
            L4::Tcp {
                sport,
                dport: port.into(),
                flags: knet_dataplane::packet::tcp_flag::SYN,
            }
        } else {
            L4::Ports {
                sport,
                dport: port.into(),
            }
        };
        flow.packet.len = flow.packet.len.max(if own { 100 } else { 80 });
        flow.follow = flow::follows(rng, &flow.packet);
    } else if !echo {
        flow.packet.set_dport(port.into());
    }
    flow
}
