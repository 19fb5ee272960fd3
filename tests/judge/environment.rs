//! What a random node looks like beside its rules: sysctls, routes, policy rules.

use super::random::Rng;

/// Devices of the node that a wire leads out of, in the order of their numbers. The last two are ports of `br0`.
pub const DEVICES: [&str; 6] = ["eth0", "eth1", "eth2", "eth3", "p0", "p1"];

/// How many of [`DEVICES`] have addresses of their own.
pub const ROUTED: usize = 4;

/// TCP and UDP ports that a program of the node listens on, at every address.
pub const LISTENING: [u16; 3] = [53, 80, 8080];

/// A port that is listened on at one address of each family only.
pub const BOUND: u16 = 9090;

/// One epoch's settings. The base (devices, addresses, neighbours) is always the same.
#[derive(Clone, Debug)]
pub struct Environment {
    /// Lines for `ip -batch`, each with its family option.
    pub ip: Vec<String>,
    /// Keys and values, applied in order.
    pub sysctl: Vec<(String, String)>,
}

/// MAC of the node's end of a wire.
pub fn own_mac(device: usize) -> [u8; 6] {
    if device < ROUTED {
        [2, 0, 0, 0, device as u8, 1]
    } else {
        [2, 0, 0, 0, 8, 1]
    }
}

/// MAC of everybody at the other end.
pub fn peer_mac(device: usize) -> [u8; 6] {
    [2, 0, 0, 0, device as u8 + 0x10, 2]
}

pub fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|b| format!("{b:02x}")).join(":")
}

/// Commands that make the devices of the node; `{T}` stands for the path of the peers' namespace.
pub fn base() -> Vec<String> {
    let mut lines = vec!["link set lo up".to_owned(), "link add br0 type bridge".to_owned()];
    for (i, dev) in DEVICES.iter().enumerate() {
        lines.push(format!("link add {dev} type veth peer name t{i} netns {{T}}"));
        let mac = if i < ROUTED {
            own_mac(i)
        } else {
            [2, 0, 0, 0, 9, i as u8]
        };
        lines.push(format!("link set {dev} address {}", mac_text(mac)));
        if i >= ROUTED {
            lines.push(format!("link set {dev} master br0"));
        }
        lines.push(format!("link set {dev} up"));
    }
    lines.push(format!("link set br0 address {} up", mac_text(own_mac(ROUTED))));
    for i in 0..ROUTED {
        lines.push(format!("addr add 10.{i}.0.1/24 brd + dev eth{i}"));
        lines.push(format!("addr add 10.{i}.0.11/24 dev eth{i}"));
        lines.push(format!("addr add 10.13{i}.0.1/32 dev eth{i}"));
        lines.push(format!("-6 addr add fd00:{i}::1/64 dev eth{i} nodad"));
        lines.push(format!("-6 addr add fd00:{i}::11/64 dev eth{i} nodad"));
    }
    lines.push("link set eth1 group 7".to_owned());
    lines.push("addr add 10.8.0.1/24 brd + dev br0".to_owned());
    lines.push("-6 addr add fd00:8::1/64 dev br0 nodad".to_owned());
    for i in 0..ROUTED {
        for host in 2..=9 {
            let mac = mac_text(peer_mac(i));
            lines.push(format!(
                "neigh replace 10.{i}.0.{host} lladdr {mac} dev eth{i} nud permanent"
            ));
            lines.push(format!(
                "-6 neigh replace fd00:{i}::{host} lladdr {mac} dev eth{i} nud permanent"
            ));
        }
    }
    for host in 2..=5 {
        let mac = mac_text(peer_mac(ROUTED + host % 2));
        lines.push(format!(
            "neigh replace 10.8.0.{host} lladdr {mac} dev br0 nud permanent"
        ));
        lines.push(format!(
            "-6 neigh replace fd00:8::{host} lladdr {mac} dev br0 nud permanent"
        ));
    }
    lines
}

/// Static entries of the bridge's forwarding database.
pub fn base_fdb() -> Vec<String> {
    (ROUTED..DEVICES.len())
        .map(|i| format!("fdb replace {} dev {} master static", mac_text(peer_mac(i)), DEVICES[i]))
        .collect()
}

/// A random epoch.
pub fn random(rng: &mut Rng) -> Environment {
    let mut env = Environment {
        ip: Vec::new(),
        sysctl: sysctls(rng),
    };
    for v6 in [false, true] {
        routes(rng, v6, &mut env.ip);
        if rng.percent(75) {
            rules(rng, v6, &mut env.ip);
        }
    }
    env
}

fn sysctls(rng: &mut Rng) -> Vec<(String, String)> {
    let mut out: Vec<(String, String)> = Vec::new();
    let mut set = |key: &str, value: &str| out.push((key.to_owned(), value.to_owned()));
    let on = |yes: bool| if yes { "1" } else { "0" };
    set("net.ipv4.ip_forward", on(!rng.percent(7)));
    set("net.ipv6.conf.all.forwarding", on(!rng.percent(7)));
    // Writing the global switches resets every device's own.
    if rng.percent(15) {
        let dev = rng.below(ROUTED);
        set(&format!("net.ipv4.conf.eth{dev}.forwarding"), "0");
        set(&format!("net.ipv6.conf.eth{dev}.forwarding"), "0");
    }
    for dev in ["all", "eth0", "eth1", "eth2", "eth3", "br0"] {
        let value = if rng.percent(60) {
            "0"
        } else {
            rng.word(&["0", "1", "2"])
        };
        set(&format!("net.ipv4.conf.{dev}.rp_filter"), value);
        set(&format!("net.ipv4.conf.{dev}.send_redirects"), "0");
        set(&format!("net.ipv4.conf.{dev}.route_localnet"), on(rng.percent(20)));
        set(&format!("net.ipv4.conf.{dev}.accept_local"), on(rng.percent(30)));
        set(&format!("net.ipv4.conf.{dev}.src_valid_mark"), on(rng.percent(30)));
    }
    set("net.ipv4.fwmark_reflect", on(rng.percent(20)));
    set("net.ipv6.fwmark_reflect", on(rng.percent(20)));
    set("net.ipv4.tcp_fwmark_accept", on(rng.percent(20)));
    set("net.ipv4.icmp_errors_use_inbound_ifaddr", on(rng.percent(20)));
    set("net.ipv4.icmp_echo_ignore_all", on(rng.percent(5)));
    set("net.bridge.bridge-nf-call-iptables", on(rng.percent(60)));
    set("net.bridge.bridge-nf-call-ip6tables", on(rng.percent(60)));
    set("net.netfilter.nf_conntrack_tcp_loose", on(!rng.percent(10)));
    out
}

fn routes(rng: &mut Rng, v6: bool, out: &mut Vec<String>) {
    let flag = if v6 { "-6 " } else { "" };
    let gw = |i: usize, host: usize| {
        if v6 {
            format!("fd00:{i}::{host}")
        } else {
            format!("10.{i}.0.{host}")
        }
    };
    let net = |text4: &str, text6: &str| if v6 { text6.to_owned() } else { text4.to_owned() };
    for i in 0..ROUTED {
        let dst = if v6 {
            format!("fd10:{i}::/32")
        } else {
            format!("10.1{i}.0.0/16")
        };
        out.push(format!("{flag}route add {dst} via {} dev eth{i}", gw(i, 2)));
    }
    if !rng.percent(10) {
        let i = rng.below(ROUTED);
        out.push(format!("{flag}route add default via {} dev eth{i}", gw(i, 3)));
    }
    // Special routes: a piece of the reachable networks that is not.
    for (i, kind) in ["blackhole", "unreachable", "prohibit", "throw"]
        .into_iter()
        .enumerate()
    {
        if rng.percent(40) {
            out.push(format!(
                "{flag}route add {kind} {}",
                net(&format!("10.4{i}.0.0/16"), &format!("fd40:{i}::/32"))
            ));
        }
    }
    if rng.percent(30) {
        let (a, b) = (rng.below(2), 2 + rng.below(2));
        let dst = net("10.50.0.0/16", "fd50::/32");
        let weight = rng.range(1, 3);
        out.push(format!(
            "{flag}route add {dst} nexthop via {} dev eth{a} weight {weight} nexthop via {} dev eth{b} weight 1",
            gw(a, 4),
            gw(b, 4)
        ));
    }
    if rng.percent(30) {
        let i = rng.below(ROUTED);
        let src = if v6 {
            format!("fd00:{i}::11")
        } else {
            format!("10.{i}.0.11")
        };
        out.push(format!(
            "{flag}route add {} via {} dev eth{i} src {src}",
            net("10.60.0.0/16", "fd60::/32"),
            gw(i, 5)
        ));
    }
    if rng.percent(30) {
        let dst = net("10.96.0.0/16", "fd96::/32");
        let kind = rng.word(&["local", "unreachable", "blackhole"]);
        let dev = if kind == "local" { " dev lo" } else { "" };
        out.push(format!("{flag}route add {kind} {dst}{dev}"));
    }
    for table in 100..104 {
        if rng.percent(70) {
            let i = rng.below(ROUTED);
            out.push(format!(
                "{flag}route add default via {} dev eth{i} table {table}",
                gw(i, 6)
            ));
        }
        if rng.percent(30) {
            let i = rng.below(ROUTED);
            let to = if v6 {
                format!("fd10:{i}:1::/48")
            } else {
                format!("10.1{i}.1.0/24")
            };
            match rng.below(3) {
                0 => out.push(format!("{flag}route add throw {to} table {table}")),
                1 => out.push(format!("{flag}route add unreachable {to} table {table}")),
                _ => out.push(format!(
                    "{flag}route add {to} via {} dev eth{i} table {table}",
                    gw(i, 7)
                )),
            }
        }
    }
}

fn rules(rng: &mut Rng, v6: bool, out: &mut Vec<String>) {
    let flag = if v6 { "-6 " } else { "" };
    for n in 0..rng.range(1, 5) {
        let pref = 1000 + n * 100;
        let not = if rng.percent(10) { "not " } else { "" };
        let mut selector = match rng.below(9) {
            0..=2 => {
                let mark = rng.word(&[
                    "0x1",
                    "0x2",
                    "0x4",
                    "0x1/0x1",
                    "0x2/0x3",
                    "0x4000/0x4000",
                    "0x80000000/0x80000000",
                ]);
                format!("fwmark {mark}")
            }
            3 => {
                let i = rng.below(ROUTED);
                format!(
                    "from {}",
                    if v6 {
                        format!("fd10:{i}::/32")
                    } else {
                        format!("10.1{i}.0.0/17")
                    }
                )
            }
            4 => {
                let i = rng.below(ROUTED);
                format!(
                    "to {}",
                    if v6 {
                        format!("fd10:{i}:2::/48")
                    } else {
                        format!("10.1{i}.2.0/24")
                    }
                )
            }
            5 => format!("iif {}", rng.word(&["eth0", "eth1", "eth2", "lo", "br0"])),
            6 => format!("tos {}", rng.word(&["0x10", "0x08"])),
            7 => format!(
                "ipproto {} dport {}",
                rng.word(&["tcp", "udp"]),
                rng.word(&["80", "53", "1-1024"])
            ),
            _ => format!("ipproto {}", rng.word(&["tcp", "udp", "icmp"])),
        };
        if rng.percent(15) && !selector.contains("fwmark") {
            selector.push_str(" fwmark 0x1/0x1");
        }
        // Errors about IPv4 routes are rationed in a way that no snapshot shows: not too many packets get one.
        let narrow = not.is_empty() && (selector.starts_with("from") || selector.starts_with("to "));
        let action = match if v6 || narrow { rng.below(10) } else { 9 } {
            0 => "prohibit".to_owned(),
            1 => "unreachable".to_owned(),
            2 => "blackhole".to_owned(),
            3 => "lookup main suppress_prefixlength 0".to_owned(),
            _ => format!("lookup {}", 100 + rng.below(4)),
        };
        out.push(format!("{flag}rule add {not}{selector} pref {pref} {action}"));
    }
}
