//! Random namespaces and random questions, reproducible from a seed.

/// splitmix64
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn of<'a>(&mut self, list: &[&'a str]) -> &'a str {
        let i = self.below(list.len() as u64);
        list[usize::try_from(i).expect("small")]
    }
}

const DEVICES: &[&str] = &["e0", "e1", "e2", "e3", "p0", "p1", "p2", "b0", "x0"];
const TABLES: &[&str] = &["main", "main", "main", "100", "101", "102", "default"];
const KINDS: &[&str] = &["unreachable", "blackhole", "prohibit", "throw"];
const TOS: &[&str] = &["0x04", "0x08", "0x10", "0x1c"];

/// One question to both.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    pub v6: bool,
    pub dst: String,
    pub src: Option<String>,
    pub iif: Option<&'static str>,
    pub oif: Option<&'static str>,
    pub mark: u32,
    pub tos: u8,
    pub proto: u8,
    pub sport: Option<u16>,
    pub dport: Option<u16>,
    pub uid: u32,
}

impl Ask {
    /// As a line for `ip -batch`.
    pub fn command(&self) -> String {
        let mut s = format!("route get {}", self.dst);
        let mut put = |word: &str, value: &dyn std::fmt::Display| s += &format!(" {word} {value}");
        if let Some(src) = &self.src {
            put("from", src);
        }
        if let Some(dev) = self.iif {
            put("iif", &dev);
        }
        if let Some(dev) = self.oif {
            put("oif", &dev);
        }
        if self.mark != 0 {
            put("mark", &self.mark);
        }
        if self.tos != 0 {
            put("tos", &format!("{:#04x}", self.tos));
        }
        if self.proto != 0 {
            put("ipproto", &self.proto);
        }
        if let Some(p) = self.sport {
            put("sport", &p);
        }
        if let Some(p) = self.dport {
            put("dport", &p);
        }
        if self.uid != 0 {
            put("uid", &self.uid);
        }
        s
    }
}

/// A random question.
pub fn ask(r: &mut Rng) -> Ask {
    let v6 = r.one_in(2);
    let mut a = Ask {
        v6,
        dst: address(r, v6),
        ..Ask::default()
    };
    if r.one_in(3) {
        a.iif = Some(r.of(DEVICES));
        if !v6 || r.one_in(2) {
            a.src = Some(address(r, v6));
        }
    } else {
        if r.one_in(4) {
            a.oif = Some(r.of(DEVICES));
        }
        if r.one_in(3) {
            a.src = Some(if r.one_in(4) {
                address(r, v6)
            } else {
                own_address(r, v6)
            });
        }
        if r.one_in(3) {
            a.uid = u32::try_from(r.below(4) * 500).expect("small");
        }
    }
    if r.one_in(3) {
        a.mark = u32::try_from(r.below(8)).expect("small");
    }
    if r.one_in(4) {
        let tos = r.of(TOS);
        a.tos = u8::from_str_radix(&tos[2..], 16).expect("hex");
    }
    if r.one_in(3) {
        a.proto = if r.one_in(2) { 6 } else { 17 };
        a.sport = Some(u16::try_from(1000 + r.below(4)).expect("small"));
        a.dport = Some(u16::try_from(80 + r.below(4)).expect("small"));
    }
    a
}

fn address(r: &mut Rng, v6: bool) -> String {
    if v6 {
        return match r.below(20) {
            0 => "ff02::1".into(),
            1 => format!("fe80::{:x}", 1 + r.below(4)),
            2 => "::1".into(),
            3 => format!("2001:db8::{:x}", r.below(8)),
            4 => own_address(r, true),
            5 => "ff05::2".into(),
            _ => format!("fd00:{:x}:{:x}::{:x}", r.below(4), r.below(4), r.below(6)),
        };
    }
    match r.below(24) {
        0 => format!("127.{}.0.{}", r.below(3), r.below(3)),
        1 => "224.0.0.5".into(),
        2 => "239.1.1.1".into(),
        3 => "255.255.255.255".into(),
        4 => format!("0.0.0.{}", r.below(2)),
        5 => format!("172.16.{}.{}", r.below(2), r.below(2)),
        6 => format!("10.{}.{}.255", r.below(4), r.below(4)),
        7 => own_address(r, false),
        _ => format!("10.{}.{}.{}", r.below(4), r.below(4), r.below(8)),
    }
}

fn own_address(r: &mut Rng, v6: bool) -> String {
    if v6 {
        format!("fd00:{:x}:{:x}::1", r.below(4), r.below(2))
    } else {
        format!("10.{}.{}.1", r.below(4), r.below(2))
    }
}

/// A prefix that nests with others: address bits come from a small pool.
fn prefix(r: &mut Rng, v6: bool) -> String {
    if r.one_in(12) {
        return "default".into();
    }
    if v6 {
        let (a, b, c) = (r.below(4), r.below(4), r.below(6));
        return match r.below(6) {
            0 => "fd00::/16".into(),
            1 | 2 => format!("fd00:{a:x}::/32"),
            3 => format!("fd00:{a:x}:{b:x}::/48"),
            4 => format!("fd00:{a:x}:{b:x}::/64"),
            _ => format!("fd00:{a:x}:{b:x}::{c:x}/128"),
        };
    }
    let (a, b, c) = (r.below(4), r.below(4), r.below(8));
    match r.below(10) {
        0 => "10.0.0.0/8".into(),
        1 | 2 => format!("10.{a}.0.0/16"),
        3 => format!("10.{a}.{}.0/23", b & !1),
        4 => format!("10.{a}.{b}.0/24"),
        5 => format!("10.{a}.{b}.{}/29", c & !7),
        6 => format!("10.{a}.{b}.{c}/32"),
        7 => format!("127.{a}.0.0/16"),
        8 => "172.16.0.0/12".into(),
        _ => format!("10.{a}.{b}.{}/30", c & !3),
    }
}

fn gateway(r: &mut Rng, v6: bool, dev: &str) -> String {
    let i = dev.as_bytes().get(1).map_or(0, |b| u64::from(b - b'0'));
    let host = 2 + r.below(3);
    if v6 {
        if r.one_in(3) {
            format!("fe80::{host:x}")
        } else {
            format!("fd00:{i:x}:0::{host:x}")
        }
    } else {
        format!("10.{i}.0.{host}")
    }
}

fn hop(r: &mut Rng, v6: bool) -> String {
    let dev = r.of(&DEVICES[..5]);
    match r.below(8) {
        0 => format!("dev {dev}"),
        1 if !v6 => format!("via inet6 fe80::{} dev {dev}", 2 + r.below(3)),
        2 => format!("via {} dev {dev} onlink", gateway(r, v6, dev)),
        _ => format!("via {} dev {dev}", gateway(r, v6, dev)),
    }
}

fn route(r: &mut Rng, v6: bool) -> String {
    let verb = if r.one_in(6) { "append" } else { "add" };
    let mut s = format!("{} route {verb}", if v6 { "-6" } else { "-4" });
    let p = prefix(r, v6);
    let p = if p == "default" {
        if v6 { "::/0".into() } else { "0.0.0.0/0".to_owned() }
    } else {
        p
    };
    let table = r.of(TABLES);
    if r.one_in(6) {
        s += &format!(" {} {p} table {table}", r.of(KINDS));
    } else if r.one_in(14) {
        return format!(
            "{s} local {p} dev lo table {}",
            if r.one_in(3) { table } else { "local" }
        );
    } else if r.one_in(5) {
        s += &format!(
            " {p} table {table} nhid {}",
            [1, 2, 3, 4, 5, 6, 10, 11, 12, 20][usize::try_from(r.below(10)).expect("small")]
        );
    } else if r.one_in(4) {
        s += &format!(" {p} table {table}");
        if !v6 && r.one_in(3) {
            s += &format!(" src {}", own_address(r, false));
        }
        for _ in 0..2 + r.below(2) {
            s += &format!(" nexthop {} weight {}", hop(r, v6), 1 + r.below(3));
        }
        return s;
    } else {
        s += &format!(" {p} table {table} {}", hop(r, v6));
        if r.one_in(6) {
            s += &format!(" src {}", own_address(r, v6));
        }
        if !v6 && r.one_in(8) {
            s += " scope link";
        }
    }
    if v6 && r.one_in(6) && !s.contains("nhid") {
        let from = prefix(r, true);
        if from != "default" {
            s = s.replacen(&p, &format!("{p} from {from}"), 1);
        }
    }
    if v6 && r.one_in(5) {
        s += &format!(" pref {}", r.of(&["low", "high"]));
    }
    if r.one_in(3) {
        s += &format!(" metric {}", 10 + r.below(3));
    }
    if !v6 && r.one_in(6) {
        s += &format!(" tos {}", r.of(TOS));
    }
    s
}

fn rule(r: &mut Rng, v6: bool) -> String {
    let priority = 10 + r.below(20);
    let mut s = format!("{} rule add pref {priority}", if v6 { "-6" } else { "-4" });
    if r.one_in(6) {
        s += " not";
    }
    let net = |r: &mut Rng| {
        Some(prefix(r, v6))
            .filter(|p| p != "default")
            .unwrap_or_else(|| "all".into())
    };
    if r.one_in(4) {
        s += &format!(" from {}", net(r));
    }
    if r.one_in(4) {
        s += &format!(" to {}", net(r));
    }
    if r.one_in(6) {
        s += &format!(" tos {}", r.of(TOS));
    }
    if r.one_in(4) {
        s += &format!(" fwmark {}/{}", r.below(8), r.of(&["0x7", "0x3", "0xffffffff", "0x4"]));
    }
    if r.one_in(6) {
        s += &format!(" iif {}", r.of(&["e0", "e1", "p0", "lo", "nosuch"]));
    }
    if r.one_in(8) {
        s += &format!(" oif {}", r.of(&["e0", "e1", "e2", "nosuch"]));
    }
    if r.one_in(8) {
        s += &format!(" uidrange {}", r.of(&["0-400", "500-1000", "1000-1000"]));
    }
    if r.one_in(8) {
        s += &format!(" ipproto {}", r.of(&["tcp", "udp"]));
    }
    if r.one_in(8) {
        s += &format!(" sport {}", r.of(&["1000-1001", "1002"]));
    }
    if r.one_in(8) {
        s += &format!(" dport {}", r.of(&["80", "81-82"]));
    }
    match r.below(12) {
        0 => s += &format!(" {}", r.of(&["blackhole", "prohibit", "unreachable"])),
        1 => s += &format!(" goto {}", priority + 1 + r.below(12)),
        2 => s += " nop",
        _ => {
            s += &format!(
                " lookup {}",
                r.of(&["100", "101", "102", "main", "main", "local", "103"])
            );
            if r.one_in(4) {
                s += &format!(
                    " suppress_prefixlength {}",
                    if v6 { 16 * r.below(3) } else { 8 * r.below(3) }
                );
            }
            if r.one_in(8) {
                s += " suppress_ifgroup 7";
            }
        }
    }
    s
}

/// Commands that make a random namespace.
pub fn namespace(r: &mut Rng) -> Vec<String> {
    let mut s: Vec<String> = Vec::new();
    for key in ["all", "default"] {
        s.push(format!("sysctl net.ipv6.conf.{key}.accept_dad=0"));
        s.push(format!("sysctl net.ipv6.conf.{key}.dad_transmits=0"));
    }
    s.push("link set lo up".into());
    for i in 0..4 {
        s.push(format!("link add e{i} type veth peer name p{i}"));
    }
    s.push("link add b0 type bridge".into());
    s.push("link add x0 type vxlan id 7 dev e0 dstport 4789".into());
    s.push("link set e1 group 7".into());
    for dev in DEVICES {
        s.push(format!("link set {dev} up"));
    }
    settings(r, &mut s);
    for i in 0..4 {
        for k in 0..=r.below(3) {
            let scope = if r.one_in(5) { r.of(&["link", "host"]) } else { "global" };
            let len = r.of(&["24", "24", "16", "32", "28"]);
            s.push(format!("addr add 10.{i}.{k}.1/{len} brd + dev e{i} scope {scope}"));
            if r.one_in(3) {
                s.push(format!("addr add 10.{i}.{k}.{}/{len} dev e{i}", 5 + r.below(2)));
            }
        }
        for k in 0..=r.below(2) {
            let old = if r.one_in(4) { " preferred_lft 0" } else { "" };
            s.push(format!(
                "addr add fd00:{i:x}:{k:x}::1/{} dev e{i} nodad{old}",
                r.of(&["64", "48", "128"])
            ));
        }
    }
    if r.one_in(3) {
        s.push("addr add 172.16.0.1/24 dev lo".into());
    }
    if r.one_in(3) {
        s.push("addr add 10.3.3.1 peer 10.3.3.2/32 dev p0".into());
        s.push("addr add 2001:db8::1/64 dev p1 nodad".into());
    }
    for id in 1..=3 {
        let dev = r.of(&DEVICES[..4]);
        s.push(format!("nexthop add id {id} via {} dev {dev}", gateway(r, false, dev)));
        let dev = r.of(&DEVICES[..4]);
        s.push(format!(
            "nexthop add id {} via {} dev {dev}",
            id + 3,
            gateway(r, true, dev)
        ));
    }
    s.push(format!("nexthop add id 10 group 1/2,{}", 2 + r.below(2)));
    s.push("nexthop add id 11 group 4/5,6".into());
    s.push(format!("nexthop add id 12 group 1,3/2,{}", 1 + r.below(4)));
    s.push("nexthop add id 20 blackhole".into());
    for _ in 0..20 + r.below(60) {
        s.push(route(r, false));
    }
    for _ in 0..20 + r.below(60) {
        s.push(route(r, true));
    }
    // A third of the namespaces keep the default rules: local and main are then one trie.
    if !r.one_in(3) {
        for v6 in [false, true] {
            for _ in 0..1 + r.below(8) {
                s.push(rule(r, v6));
            }
        }
        if r.one_in(4) {
            s.push("rule add pref 5 lookup local".into());
            s.push("rule del pref 0".into());
        }
    }
    for i in 0..4 {
        for host in 2..5 {
            if r.one_in(4) {
                let state = r.of(&[
                    "failed",
                    "stale lladdr 02:00:00:00:00:01",
                    "permanent lladdr 02:00:00:00:00:02",
                ]);
                let (nud, lladdr) = state.split_once(' ').unwrap_or((state, ""));
                s.push(format!("neigh replace 10.{i}.0.{host} dev e{i} {lladdr} nud {nud}"));
                s.push(format!(
                    "neigh replace fd00:{i:x}:0::{host:x} dev e{i} {lladdr} nud {nud}"
                ));
            }
        }
    }
    for _ in 0..r.below(3) {
        s.push(format!("link set {} down", r.of(&["p1", "p2", "p3", "e2"])));
    }
    s
}

/// Before routes and link changes: the kernel shares out multipath routes when those happen, with the
/// `ignore_routes_with_linkdown` of that moment, and not again when the sysctl is written.
fn settings(r: &mut Rng, s: &mut Vec<String>) {
    let mut set = |key: String, value: u64| s.push(format!("sysctl {key}={value}"));
    set("net.ipv4.ip_forward".into(), u64::from(!r.one_in(4)));
    set("net.ipv6.conf.all.forwarding".into(), r.below(2));
    set("net.ipv4.conf.all.rp_filter".into(), r.below(3));
    for dev in ["e0", "e1", "p0", "b0"] {
        for key in [
            "rp_filter",
            "accept_local",
            "src_valid_mark",
            "route_localnet",
            "send_redirects",
            "forwarding",
        ] {
            if r.one_in(4) {
                set(
                    format!("net.ipv4.conf.{dev}.{key}"),
                    r.below(2) + u64::from(key == "rp_filter" && r.one_in(2)),
                );
            }
        }
    }
    for key in ["ipv4", "ipv6"] {
        if r.one_in(2) {
            let dev = r.of(&["e1", "e2", "e3"]);
            set(format!("net.{key}.conf.{dev}.ignore_routes_with_linkdown"), 1);
        }
    }
    if r.one_in(4) {
        set("net.ipv4.fib_multipath_use_neigh".into(), 1);
    }
    if r.one_in(6) {
        set("net.ipv4.conf.all.bc_forwarding".into(), 1);
        set("net.ipv4.conf.e0.bc_forwarding".into(), 1);
    }
}
