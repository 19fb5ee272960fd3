//! Random iptables rules, of both families, for both back ends.

use super::environment::ROUTED;
use super::flow::{self, PORTS};
use super::ipsets::{self, Set};
use super::random::Rng;
use super::rules::{Back, Chain, HOOKS, Part, Rule, Table};

/// What rules may be made of.
#[derive(Clone, Copy, Debug)]
pub struct Kit<'a> {
    /// Sets that exist.
    pub sets: &'a [Set],
    /// Matches and targets that this kernel and its tool refuse.
    pub refused: &'a [String],
    pub back: Back,
}

impl Kit<'_> {
    const fn v6(self) -> bool {
        matches!(self.back, Back::Legacy6 | Back::XtNft6)
    }
}

/// Where a rule stands.
#[derive(Clone, Copy, Debug)]
struct At<'a> {
    table: &'a str,
    hook: &'a str,
}

impl At<'_> {
    fn input(self) -> bool {
        matches!(self.hook, "PREROUTING" | "INPUT" | "FORWARD")
    }

    fn output(self) -> bool {
        matches!(self.hook, "OUTPUT" | "POSTROUTING" | "FORWARD")
    }
}

/// One rule for each thing that a kernel may lack, to be tried before any ruleset is made: name, table,
/// chain, rule.
pub const PROBES: &[(&str, &str, &str, &str)] = &[
    ("addrtype", "filter", "FORWARD", "-m addrtype --dst-type LOCAL"),
    ("comment", "filter", "FORWARD", "-m comment --comment x"),
    ("connmark", "mangle", "FORWARD", "-m connmark --mark 1"),
    ("conntrack", "filter", "FORWARD", "-m conntrack --ctstate NEW"),
    ("devgroup", "filter", "FORWARD", "-m devgroup --src-group 7"),
    ("dscp", "filter", "FORWARD", "-m dscp --dscp 10"),
    ("iprange", "filter", "FORWARD", "-m iprange --src-range {A}-{B}"),
    ("length", "filter", "FORWARD", "-m length --length 0:100"),
    ("limit", "filter", "FORWARD", "-m limit --limit 10000/sec"),
    ("mark", "filter", "FORWARD", "-m mark --mark 1"),
    ("multiport", "filter", "FORWARD", "-p tcp -m multiport --dports 1,2"),
    ("owner", "filter", "OUTPUT", "-m owner --uid-owner 0"),
    ("physdev", "filter", "FORWARD", "-m physdev --physdev-in p0"),
    ("pkttype", "filter", "FORWARD", "-m pkttype --pkt-type unicast"),
    ("policy", "filter", "FORWARD", "-m policy --dir in --pol none"),
    ("realm", "filter", "FORWARD", "-m realm --realm 1"),
    ("rpfilter", "raw", "PREROUTING", "-m rpfilter --loose"),
    ("socket", "mangle", "PREROUTING", "-m socket --nowildcard"),
    ("state", "filter", "FORWARD", "-m state --state NEW"),
    (
        "statistic",
        "filter",
        "FORWARD",
        "-m statistic --mode random --probability 0.5",
    ),
    ("tos", "filter", "FORWARD", "-m tos --tos 0x10/0x3f"),
    ("ttl", "filter", "FORWARD", "{TTL}"),
    ("recent", "filter", "FORWARD", "-m recent --name r --rcheck --rsource"),
    ("ipv6header", "filter", "FORWARD", "-m ipv6header --header udp --soft"),
    ("NOTRACK", "raw", "PREROUTING", "-j CT --notrack"),
    ("ZONE", "raw", "PREROUTING", "-j CT --zone 3"),
    ("CONNMARK", "mangle", "PREROUTING", "-j CONNMARK --save-mark"),
    ("MARK", "mangle", "PREROUTING", "-j MARK --set-mark 1"),
    ("TOS", "mangle", "PREROUTING", "-j TOS --set-tos 0x10/0x3f"),
    ("DSCP", "mangle", "PREROUTING", "-j DSCP --set-dscp 10"),
    ("TTL", "mangle", "PREROUTING", "{TTLSET}"),
    ("LOG", "filter", "FORWARD", "-j NFLOG --nflog-group 9"),
    ("NETMAP", "nat", "PREROUTING", "-j NETMAP --to {NET}"),
    (
        "TPROXY",
        "mangle",
        "PREROUTING",
        "-p tcp -j TPROXY --on-port 8080 --tproxy-mark 1",
    ),
    ("REDIRECT", "nat", "PREROUTING", "-p tcp -j REDIRECT --to-ports 8080"),
    ("MASQUERADE", "nat", "POSTROUTING", "-j MASQUERADE"),
    (
        "TCPMSS",
        "mangle",
        "FORWARD",
        "-p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu",
    ),
    ("SETTARGET", "mangle", "FORWARD", "-m set --match-set probe src"),
    ("CLASSIFY", "mangle", "POSTROUTING", "-j CLASSIFY --set-class 1:1"),
    (
        "CHECKSUM",
        "mangle",
        "POSTROUTING",
        "-p udp -j CHECKSUM --checksum-fill",
    ),
    ("nfacct", "filter", "FORWARD", "-m nfacct --nfacct-name x"),
];

/// A probe as text for one back end.
pub fn probe(back: Back, probe: (&str, &str, &str, &str)) -> String {
    let v6 = matches!(back, Back::Legacy6 | Back::XtNft6);
    let (_, table, chain, rule) = probe;
    let pairs: [(&str, &str, &str); 5] = [
        ("{A}", "10.10.0.1", "fd10::1"),
        ("{B}", "10.10.0.9", "fd10::9"),
        ("{TTL}", "-m ttl --ttl-lt 5", "-m hl --hl-lt 5"),
        ("{TTLSET}", "-j TTL --ttl-set 33", "-j HL --hl-set 33"),
        ("{NET}", "10.11.0.0/24", "fd11::/64"),
    ];
    let rule = pairs.iter().fold(rule.to_owned(), |r, (from, v4, six)| {
        r.replace(from, if v6 { six } else { v4 })
    });
    format!("*{table}\n-A {chain} {rule}\nCOMMIT\n")
}

/// A random part for one family.
pub fn random(rng: &mut Rng, kit: Kit<'_>) -> Part {
    let mut tables = Vec::new();
    for (table, hooks) in HOOKS {
        if table == "security" && !rng.percent(10) {
            continue;
        }
        tables.push(random_table(rng, kit, table, hooks));
    }
    Part {
        back: kit.back,
        lines: Vec::new(),
        tables,
    }
}

fn random_table(rng: &mut Rng, kit: Kit<'_>, table: &str, hooks: &[&str]) -> Table {
    let mut chains = Vec::new();
    // A chain of a program's own is called from one hook only, so that its targets stay legal.
    let mut own: Vec<(String, &str, usize)> = Vec::new();
    for hook in hooks {
        let drop = table == "filter" && rng.percent(12);
        chains.push(Chain {
            name: (*hook).to_owned(),
            head: if drop { "DROP" } else { "ACCEPT" }.to_owned(),
            rules: Vec::new(),
        });
        for level in 0..rng.below(4) {
            own.push((format!("U-{}-{level}", &hook[..4]), hook, level));
        }
    }
    for (name, _, _) in &own {
        chains.push(Chain {
            name: name.clone(),
            head: "-".to_owned(),
            rules: Vec::new(),
        });
    }
    for chain in &mut chains {
        let (hook, level) = match own.iter().find(|(n, _, _)| *n == chain.name) {
            Some((_, hook, level)) => (*hook, Some(*level)),
            None => (hooks.iter().find(|h| **h == chain.name).copied().unwrap_or(""), None),
        };
        let deeper: Vec<&str> = own
            .iter()
            .filter(|(_, h, l)| *h == hook && level.is_none_or(|level| *l > level))
            .map(|(n, _, _)| n.as_str())
            .collect();
        let many = if rng.percent(15) { 9 } else { 5 };
        for _ in 0..rng.below(many) {
            chain.rules.push(random_rule(rng, kit, At { table, hook }, &deeper));
        }
    }
    Table {
        head: table.to_owned(),
        objects: Vec::new(),
        chains,
    }
}

fn random_rule(rng: &mut Rng, kit: Kit<'_>, at: At<'_>, deeper: &[&str]) -> Rule {
    let (matches, proto) = random_matches(rng, kit, at);
    let action = if !deeper.is_empty() && rng.percent(35) {
        format!("{} {}", if rng.percent(70) { "-j" } else { "-g" }, rng.pick(deeper))
    } else {
        target(rng, kit, at, proto)
    };
    Rule { matches, action }
}

fn network(rng: &mut Rng, v6: bool) -> String {
    let networks = flow::networks(rng, v6);
    rng.pick(&networks).clone()
}

fn mark(rng: &mut Rng) -> String {
    let value = rng.word(&["0x0", "0x1", "0x2", "0x4", "0x4000", "0x80000000", "0xffff0000"]);
    match rng.below(3) {
        0 => value.to_owned(),
        _ => format!(
            "{value}/{}",
            rng.word(&["0x1", "0x2", "0x3", "0x4000", "0xffff", "0x80000000", "0xffff0000"])
        ),
    }
}

/// Matches that fit together and stand where they may, and the protocol they ask for.
fn random_matches(rng: &mut Rng, kit: Kit<'_>, at: At<'_>) -> (Vec<String>, Option<&'static str>) {
    let v6 = kit.v6();
    let mut out: Vec<String> = Vec::new();
    let not = |rng: &mut Rng| if rng.percent(15) { "! " } else { "" };
    for flag in ["-s", "-d"] {
        if rng.percent(22) {
            let net = network(rng, v6);
            // The nft back end refuses the negation of everything.
            let not = if net.ends_with("/0") { "" } else { not(rng) };
            out.push(format!("{not}{flag} {net}"));
        }
    }
    let icmp = if v6 { "ipv6-icmp" } else { "icmp" };
    let mut proto = None;
    if rng.percent(45) {
        let p = *rng.pick(&["tcp", "tcp", "udp", "udp", icmp, "sctp"]);
        if rng.percent(8) {
            out.push(format!("! -p {p}"));
        } else {
            out.push(format!("-p {p}"));
            proto = Some(p);
        }
    }
    let dev = |rng: &mut Rng| {
        rng.word(&["eth0", "eth1", "eth2", "eth3", "br0", "lo", "eth+", "b+", "p0", "+"])
            .to_owned()
    };
    if at.input() && rng.percent(15) {
        let dev = dev(rng);
        let not = if dev == "+" { "" } else { not(rng) };
        out.push(format!("{not}-i {dev}"));
    }
    if at.output() && rng.percent(15) {
        let dev = dev(rng);
        let not = if dev == "+" { "" } else { not(rng) };
        out.push(format!("{not}-o {dev}"));
    }
    if let Some(p @ ("tcp" | "udp" | "sctp")) = proto
        && rng.percent(55)
    {
        let port = *rng.pick(&PORTS);
        let mut some: Vec<u16> = rng.some(&PORTS, 1);
        some.sort_unstable();
        let list = some.iter().map(u16::to_string).collect::<Vec<_>>().join(",");
        out.push(match rng.below(8) {
            0 => format!("-m {p} --dport 1:1024"),
            1 => format!("-m {p} --sport 1024:40000"),
            2 => format!("-m {p} ! --dport {port}"),
            3 => format!("-m multiport {}--dports {list},2000:3000", not(rng)),
            4 => format!("-m multiport {}--ports {list}", not(rng)),
            5 if p == "tcp" => "-m tcp --syn".to_owned(),
            6 if p == "tcp" => format!(
                "-m tcp {}--tcp-flags {}",
                not(rng),
                rng.word(&[
                    "SYN,ACK ACK",
                    "SYN,ACK,FIN,RST SYN",
                    "RST RST",
                    "ALL SYN",
                    "FIN,ACK FIN,ACK"
                ])
            ),
            _ => format!("-m {p} --dport {port}"),
        });
    }
    if proto == Some(icmp) && rng.percent(50) {
        let module = if v6 { "icmp6 " } else { "icmp " };
        let option = if v6 { "--icmpv6-type" } else { "--icmp-type" };
        let ty = if v6 {
            rng.word(&["128", "129", "1", "1/4", "3"])
        } else {
            rng.word(&["8", "0", "3", "3/3", "11", "any"])
        };
        out.push(format!(
            "-m {module}{}{option} {ty}",
            if ty == "any" { "" } else { not(rng) }
        ));
    }
    let extra = rng.below(100);
    let count = if extra < 40 {
        0
    } else if extra < 85 {
        1
    } else {
        2
    };
    for _ in 0..count {
        if let Some(m) = extension(rng, kit, at)
            && !out.iter().any(|o| o.split(' ').take(2).eq(m.split(' ').take(2)))
        {
            out.push(m);
        }
    }
    (out, proto)
}

fn extension(rng: &mut Rng, kit: Kit<'_>, at: At<'_>) -> Option<String> {
    let v6 = kit.v6();
    let not = if rng.percent(20) { "! " } else { "" };
    let tracked = at.table != "raw";
    let (name, text) = match rng.below(30) {
        0..=3 => ("mark", format!("-m mark {not}--mark {}", mark(rng))),
        4 | 5 => ("connmark", format!("-m connmark {not}--mark {}", mark(rng))),
        6 | 7 => {
            let states = rng.word(&[
                "NEW",
                "ESTABLISHED",
                "RELATED,ESTABLISHED",
                "INVALID",
                "UNTRACKED",
                "NEW,RELATED",
                "DNAT",
                "SNAT",
            ]);
            ("conntrack", format!("-m conntrack {not}--ctstate {states}"))
        }
        8 => {
            let net = network(rng, v6);
            let not = if net.ends_with("/0") { "" } else { not };
            let which = rng.word(&["--ctorigsrc", "--ctorigdst", "--ctreplsrc", "--ctrepldst"]);
            ("conntrack", format!("-m conntrack {not}{which} {net}"))
        }
        9 => {
            let text = match rng.below(5) {
                0 => format!(
                    "-m conntrack {not}--ctstatus {}",
                    rng.word(&["SEEN_REPLY", "CONFIRMED", "NONE", "ASSURED", "EXPECTED"])
                ),
                1 => format!("-m conntrack --ctdir {}", rng.word(&["ORIGINAL", "REPLY"])),
                2 => format!("-m conntrack {not}--ctproto {}", rng.word(&["tcp", "udp"])),
                3 => format!("-m conntrack {not}--ctorigdstport {}", rng.pick(&PORTS)),
                _ => format!("-m conntrack --ctstate NEW,ESTABLISHED {not}--ctorigdstport 1:1024 --ctdir ORIGINAL"),
            };
            ("conntrack", text)
        }
        10 | 11 => {
            let which = rng.word(&["--dst-type", "--src-type"]);
            let ty = if v6 {
                rng.word(&["LOCAL", "UNICAST", "MULTICAST", "UNREACHABLE", "LOCAL,UNREACHABLE"])
            } else {
                rng.word(&[
                    "LOCAL",
                    "UNICAST",
                    "BROADCAST",
                    "BLACKHOLE",
                    "PROHIBIT",
                    "UNREACHABLE,LOCAL",
                    "MULTICAST",
                    "LOCAL,BROADCAST",
                ])
            };
            let limit = match at.hook {
                "PREROUTING" | "INPUT" | "FORWARD" if rng.percent(20) => " --limit-iface-in",
                "POSTROUTING" if rng.percent(20) => " --limit-iface-out",
                _ => "",
            };
            ("addrtype", format!("-m addrtype {not}{which} {ty}{limit}"))
        }
        12 => {
            let i = rng.below(ROUTED);
            let which = rng.word(&["--src-range", "--dst-range"]);
            let range = if v6 {
                format!("fd10:{i}::-fd10:{i}:3::")
            } else {
                format!("10.1{i}.0.2-10.1{i}.3.1")
            };
            ("iprange", format!("-m iprange {not}{which} {range}"))
        }
        13 => (
            "length",
            format!(
                "-m length {not}--length {}",
                rng.word(&["0:60", "61:100", "86", "40:48", "100:65535"])
            ),
        ),
        14 => {
            let (m, o) = if v6 { ("hl", "hl") } else { ("ttl", "ttl") };
            let op = rng.word(&["lt 5", "gt 62", "eq 64", "eq 63", "lt 64"]);
            ("ttl", format!("-m {m} --{o}-{op}"))
        }
        15 => (
            "dscp",
            format!("-m dscp {not}--dscp {}", rng.word(&["0x0a", "0x08", "0x00", "0x2e"])),
        ),
        16 => (
            "tos",
            format!(
                "-m tos {not}--tos {}",
                rng.word(&["0x10/0x3f", "0x08/0xff", "0x00/0xff", "0x20/0xe0"])
            ),
        ),
        17 if matches!(at.hook, "OUTPUT" | "POSTROUTING") => {
            let third = if rng.percent(40) {
                "--gid-owner 100"
            } else {
                "--uid-owner 101"
            };
            let what = rng.word(&[
                "--uid-owner 0",
                "--uid-owner 1000",
                "--uid-owner 1000-1001",
                "--socket-exists",
                third,
            ]);
            ("owner", format!("-m owner {not}{what}"))
        }
        18 if at.input() => ("devgroup", format!("-m devgroup {not}--src-group 0x7")),
        18 => return None,
        19 if at.hook != "OUTPUT" => {
            let text = match rng.below(5) {
                0 => format!("-m physdev {not}--physdev-is-in"),
                1 => format!("-m physdev {not}--physdev-is-bridged"),
                2 => format!("-m physdev {not}--physdev-in {}", rng.word(&["p0", "p1", "p+", "eth0"])),
                3 if matches!(at.hook, "FORWARD" | "POSTROUTING") => {
                    format!(
                        "-m physdev --physdev-is-bridged {not}--physdev-out {}",
                        rng.word(&["p0", "p1"])
                    )
                }
                _ => "-m physdev --physdev-is-in --physdev-in p0".to_owned(),
            };
            ("physdev", text)
        }
        20 => (
            "pkttype",
            format!(
                "-m pkttype {not}--pkt-type {}",
                rng.word(&["unicast", "broadcast", "multicast"])
            ),
        ),
        21 if at.hook == "PREROUTING" => ("policy", "-m policy --dir in --pol none".to_owned()),
        22 if at.hook == "PREROUTING" && matches!(at.table, "raw" | "mangle") => {
            let mut options = String::new();
            for option in [" --loose", " --validmark", " --accept-local", " --invert"] {
                if rng.percent(30) {
                    options.push_str(option);
                }
            }
            ("rpfilter", format!("-m rpfilter{options}"))
        }
        23 if at.hook == "PREROUTING" && at.table == "mangle" => (
            "socket",
            format!("-m socket{}", if rng.percent(50) { " --nowildcard" } else { "" }),
        ),
        24 => {
            let text = match rng.below(3) {
                0 => format!("-m statistic --mode nth --every {} --packet 0", rng.range(2, 3)),
                1 => format!("-m statistic --mode random {not}--probability 0.5"),
                _ => "-m statistic --mode random --probability 0.33333333349".to_owned(),
            };
            // Chance costs repeats: not too often.
            if !rng.percent(40) {
                return None;
            }
            ("statistic", text)
        }
        25 => (
            "comment",
            "-m comment --comment \"a comment, with -j DROP in it\"".to_owned(),
        ),
        26 if tracked => {
            let states = rng.word(&["NEW", "ESTABLISHED", "INVALID"]);
            ("state", format!("-m state {not}--state {states}"))
        }
        27..=29 => {
            let fitting: Vec<&Set> = kit.sets.iter().filter(|s| s.v6 == v6 || s.dims == 4).collect();
            if fitting.is_empty() {
                return None;
            }
            let set = (*rng.pick(&fitting)).clone();
            return Some(ipsets::test(rng, &set));
        }
        _ => return None,
    };
    (!kit.refused.iter().any(|r| r == name)).then_some(text)
}

fn target(rng: &mut Rng, kit: Kit<'_>, at: At<'_>, proto: Option<&str>) -> String {
    let v6 = kit.v6();
    let ports = matches!(proto, Some("tcp" | "udp"));
    for _ in 0..20 {
        if let Some((name, text)) = one_target(rng, at, proto, v6, ports)
            && !kit.refused.iter().any(|r| r == name)
        {
            return text;
        }
    }
    "-j RETURN".to_owned()
}

fn one_target(rng: &mut Rng, at: At<'_>, proto: Option<&str>, v6: bool, ports: bool) -> Option<(&'static str, String)> {
    let plain = |t: &str| Some(("", format!("-j {t}")));
    if at.table == "nat" {
        return match rng.below(6) {
            0 => plain("ACCEPT"),
            1 => plain("RETURN"),
            _ => nat_target(rng, at, v6, ports),
        };
    }
    match rng.below(16) {
        0..=2 => plain("ACCEPT"),
        3 => plain("DROP"),
        4 => plain("RETURN"),
        5 | 6 if at.table == "filter" => {
            let kinds: &[&str] = if v6 {
                &[
                    "icmp6-no-route",
                    "icmp6-adm-prohibited",
                    "icmp6-addr-unreachable",
                    "icmp6-port-unreachable",
                    "icmp6-policy-fail",
                    "icmp6-reject-route",
                ]
            } else {
                &[
                    "icmp-net-unreachable",
                    "icmp-host-unreachable",
                    "icmp-proto-unreachable",
                    "icmp-port-unreachable",
                    "icmp-net-prohibited",
                    "icmp-host-prohibited",
                    "icmp-admin-prohibited",
                ]
            };
            if proto == Some("tcp") && rng.percent(50) {
                return plain("REJECT --reject-with tcp-reset");
            }
            Some(("", format!("-j REJECT --reject-with {}", rng.word(kinds))))
        }
        7 | 8 => {
            let option = match rng.below(5) {
                0 => format!("--set-mark {}", mark(rng)),
                1 => format!("--set-xmark {}", mark(rng)),
                2 => format!("--and-mark {}", rng.word(&["0xfffffffe", "0x4000", "0xffff"])),
                3 => format!("--xor-mark {}", rng.word(&["0x1", "0x3", "0x80000000"])),
                _ => format!("--or-mark {}", rng.word(&["0x1", "0x2", "0x4000"])),
            };
            Some(("MARK", format!("-j MARK {option}")))
        }
        9 if at.table != "raw" => {
            let option = match rng.below(5) {
                0 => "--save-mark".to_owned(),
                1 => "--restore-mark".to_owned(),
                2 => "--save-mark --nfmask 0xff --ctmask 0xffff".to_owned(),
                3 => "--restore-mark --nfmask 0xf0 --ctmask 0xf".to_owned(),
                _ => format!("--set-xmark {}", mark(rng)),
            };
            Some(("CONNMARK", format!("-j CONNMARK {option}")))
        }
        10 if at.table == "mangle" => {
            let option = match rng.below(3) {
                0 => ("TOS", "-j TOS --set-tos 0x10/0x3f".to_owned()),
                1 => ("TOS", "-j TOS --set-tos 0x08/0xff".to_owned()),
                _ => ("DSCP", format!("-j DSCP --set-dscp {}", rng.word(&["10", "0", "46"]))),
            };
            Some(option)
        }
        11 if at.table == "mangle" => {
            let how = rng.word(&["set 33", "dec 1", "inc 2", "set 1"]);
            Some((
                "TTL",
                if v6 {
                    format!("-j HL --hl-{how}")
                } else {
                    format!("-j TTL --ttl-{how}")
                },
            ))
        }
        12 if at.table == "raw" => match rng.below(4) {
            0 | 1 => Some(("NOTRACK", "-j CT --notrack".to_owned())),
            2 => Some(("ZONE", format!("-j CT --zone {}", rng.range(1, 3)))),
            _ => Some(("NOTRACK", "-j NOTRACK".to_owned())),
        },
        13 => Some(("LOG", "-j NFLOG --nflog-group 9".to_owned())),
        14 if at.table == "mangle" && at.hook == "PREROUTING" && ports && rng.percent(50) => {
            let on = rng.word(&["8080", "80", "443"]);
            Some((
                "TPROXY",
                format!(
                    "-j TPROXY --on-port {on} --on-ip {} --tproxy-mark 0x1/0x1",
                    flow::own(rng, v6)
                ),
            ))
        }
        14 if at.table == "mangle" && at.hook == "POSTROUTING" => {
            Some(("CLASSIFY", "-j CLASSIFY --set-class 1:2".to_owned()))
        }
        _ => plain("ACCEPT"),
    }
}

fn nat_target(rng: &mut Rng, at: At<'_>, v6: bool, ports: bool) -> Option<(&'static str, String)> {
    let port = *rng.pick(&PORTS);
    let with_port = |addr: &str, port: &str| {
        if v6 {
            format!("[{addr}]:{port}")
        } else {
            format!("{addr}:{port}")
        }
    };
    let random = |rng: &mut Rng| rng.word(&["", "", "", " --random", " --persistent"]).to_owned();
    if matches!(at.hook, "PREROUTING" | "OUTPUT") {
        let device = rng.below(ROUTED);
        let to = if rng.percent(25) {
            flow::own(rng, v6)
        } else {
            flow::behind(rng, v6, device)
        }
        .to_string();
        return Some(match rng.below(9) {
            0..=2 => ("", format!("-j DNAT --to-destination {to}")),
            3 | 4 if ports => (
                "",
                format!("-j DNAT --to-destination {}", with_port(&to, &port.to_string())),
            ),
            5 if ports => ("", format!("-j DNAT --to-destination {}", with_port(&to, "4000-4010"))),
            6 => {
                let i = rng.below(ROUTED);
                let range = if v6 {
                    format!("fd00:{i}::2-fd00:{i}::4")
                } else {
                    format!("10.{i}.0.2-10.{i}.0.4")
                };
                ("", format!("-j DNAT --to-destination {range}{}", random(rng)))
            }
            7 => {
                let i = rng.below(ROUTED);
                (
                    "NETMAP",
                    if v6 {
                        format!("-j NETMAP --to fd10:{i}:1::/64")
                    } else {
                        format!("-j NETMAP --to 10.1{i}.1.0/24")
                    },
                )
            }
            _ if ports => (
                "REDIRECT",
                format!(
                    "-j REDIRECT --to-ports {}",
                    rng.word(&["8080", "80", "443", "8080-8082"])
                ),
            ),
            _ => ("REDIRECT", "-j REDIRECT".to_owned()),
        });
    }
    let i = rng.below(ROUTED);
    Some(match rng.below(8) {
        0..=2 if at.hook == "POSTROUTING" => ("MASQUERADE", "-j MASQUERADE".to_owned()),
        3 if at.hook == "POSTROUTING" => ("MASQUERADE", "-j MASQUERADE --random-fully".to_owned()),
        4 if at.hook == "POSTROUTING" && ports => ("MASQUERADE", "-j MASQUERADE --to-ports 40000-50000".to_owned()),
        5 => {
            let range = if v6 {
                format!("fd00:{i}::7-fd00:{i}::9")
            } else {
                format!("10.{i}.0.7-10.{i}.0.9")
            };
            ("", format!("-j SNAT --to-source {range}{}", random(rng)))
        }
        6 if ports => {
            let to = if v6 {
                format!("fd00:{i}::7")
            } else {
                format!("10.{i}.0.7")
            };
            ("", format!("-j SNAT --to-source {}", with_port(&to, "1024-65535")))
        }
        7 => (
            "NETMAP",
            if v6 {
                format!("-j NETMAP --to fd77:{i}::/64")
            } else {
                format!("-j NETMAP --to 10.7{i}.1.0/24")
            },
        ),
        _ => (
            "",
            format!(
                "-j SNAT --to-source {}",
                if v6 {
                    format!("fd00:{i}::{}", rng.range(7, 9))
                } else {
                    format!("10.{i}.0.{}", rng.range(7, 9))
                }
            ),
        ),
    })
}
