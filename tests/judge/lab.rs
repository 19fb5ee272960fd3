//! Two namespaces: a node, and everybody it is wired to.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use knet_collectors::Limits;
use knet_collectors::reference::REFERENCES;
use knet_dataplane::packet::{Packet, proto};
use knet_snapshot::Snapshot;
use knet_snapshot::artifact::name;
use knet_snapshot::store::Blob;

use super::environment::{self, BOUND, DEVICES, Environment, LISTENING, ROUTED};
use super::ipvs;
use super::sys;
use super::wire::{self, Fixed, Side};

/// Something a packet led to.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// Where: out of a device (number in [`DEVICES`]), or up to the node's own sockets.
    pub place: Place,
    /// The packet there.
    pub packet: Packet,
    /// The number the packet carries, if it is one of the judge's.
    pub number: Option<u32>,
    /// The number anywhere in it: an ICMP error quotes it.
    pub about: Option<u32>,
}

/// Where a packet came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// By a device.
    Out(usize),
    /// In the node.
    Local,
}

/// Which socket it is.
#[derive(Clone, Copy, Debug)]
enum Ear {
    Wire(usize),
    Raw(u8, bool),
    Udp,
}

/// The laboratory. The thread that made it is in the node's namespace.
pub struct Lab {
    peers: File,
    wires: Vec<OwnedFd>,
    raws: Vec<(OwnedFd, u8, bool)>,
    udp: Vec<OwnedFd>,
    tcp: Vec<OwnedFd>,
    ears: Vec<(RawFd, Ear)>,
    statics: BTreeMap<&'static str, Blob>,
    empty: BTreeMap<&'static str, Blob>,
    indices: Vec<u32>,
    conntrack: OwnedFd,
    /// There is a device for the addresses of virtual services.
    pub services: bool,
}

/// Connections of IPVS of this thread's namespace.
const IPVS_CONN: &str = "/proc/thread-self/net/ip_vs_conn";

/// What UDP servers say, over and over.
const ANSWER: &[u8] = b"aaaa";

/// The files of the node as a snapshot has them.
pub type Files = BTreeMap<&'static str, Blob>;

/// Runs a program with an input.
pub fn run(argv: &[&str], input: &str) -> Output {
    let mut child = Command::new(argv[0])
        .args(&argv[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{}: {e}", argv[0]));
    let mut stdin = child.stdin.take().expect("stdin is piped");
    if input.len() < 32_000 {
        // Less than a pipe holds: no thread is needed.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        return child.wait_with_output().expect("the child was started");
    }
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input.as_bytes()));
        child.wait_with_output().expect("the child was started")
    })
}

/// Runs a program that must succeed.
pub fn must(argv: &[&str], input: &str) -> Vec<u8> {
    let output = run(argv, input);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{argv:?}: {stderr}\n{input}");
    output.stdout
}

/// Writes a sysctl of this thread's namespace; false when the kernel has none of the name.
fn sysctl(key: &str, value: &str) -> bool {
    let path: String = key.chars().map(|c| if c == '.' { '/' } else { c }).collect();
    std::fs::write(format!("/proc/sys/{path}"), value).is_ok()
}

/// Why this machine cannot run the judge.
pub fn obstacle() -> Option<String> {
    let tools = [
        "ip",
        "bridge",
        "nft",
        "conntrack",
        "iptables-legacy-restore",
        "iptables-nft-restore",
        "ss",
        "sysctl",
    ];
    for tool in tools {
        let found = Command::new("sh").args(["-c", &format!("command -v {tool}")]).output();
        if !found.is_ok_and(|o| o.status.success()) {
            return Some(format!("{tool} is not installed"));
        }
    }
    let tried = std::thread::spawn(|| sys::new_netns().map(drop))
        .join()
        .expect("the thread only asks");
    tried.err().map(|e| format!("may not create a network namespace: {e}"))
}

impl Lab {
    /// Makes the namespaces and the base of the node. This thread stays in the node's namespace.
    pub fn new(number: usize) -> Self {
        sys::pin(number);
        let peers = sys::new_netns().expect("a namespace");
        let path = format!("/proc/{}/fd/{}", std::process::id(), peers.as_raw_fd());
        // The peers say nothing by themselves.
        sysctl("net.ipv6.conf.all.disable_ipv6", "1");
        sysctl("net.ipv6.conf.default.disable_ipv6", "1");
        let node = sys::new_netns().expect("a namespace");
        for (key, value) in [
            ("net.ipv6.conf.default.accept_dad", "0"),
            ("net.ipv6.conf.default.dad_transmits", "0"),
            ("net.ipv6.conf.default.router_solicitations", "0"),
            ("net.ipv6.conf.default.accept_ra", "0"),
            ("net.ipv4.icmp_ratelimit", "0"),
            ("net.ipv4.icmp_ratemask", "0"),
            ("net.ipv4.icmp_msgs_per_sec", "1000000"),
            ("net.ipv4.icmp_msgs_burst", "1000000"),
            ("net.ipv6.icmp.ratelimit", "0"),
            ("net.ipv4.tcp_synack_retries", "0"),
            ("net.ipv4.tcp_syn_retries", "1"),
            ("net.ipv4.tcp_syncookies", "0"),
            ("net.ipv4.tcp_max_syn_backlog", "8192"),
            ("net.core.somaxconn", "8192"),
            ("net.ipv4.tcp_invalid_ratelimit", "0"),
            ("net.ipv4.tcp_challenge_ack_limit", "1000000"),
            ("net.ipv4.ip_local_port_range", "62000 62999"),
            ("net.netfilter.nf_conntrack_tcp_be_liberal", "1"),
            // A checksum that conntrack has verified covers the whole IPv6 packet: a hop limit changed later
            // would make it wrong, and the packet would be lost in its socket. Only for packets without a
            // checksum from a device.
            ("net.netfilter.nf_conntrack_checksum", "0"),
            ("net.ipv4.conf.all.send_redirects", "0"),
            ("net.ipv4.conf.default.send_redirects", "0"),
        ] {
            if !sysctl(key, value) {
                println!("  no sysctl {key}");
            }
        }
        let script: Vec<String> = environment::base().iter().map(|l| l.replace("{T}", &path)).collect();
        batch(&script);
        must(&["bridge", "-batch", "-"], &(environment::base_fdb().join("\n") + "\n"));
        sys::enter(&peers).expect("the namespace is there");
        let names: Vec<String> = (0..DEVICES.len()).map(|i| format!("t{i}")).collect();
        batch(
            &names
                .iter()
                .map(|t| format!("link set {t} arp off multicast off up"))
                .collect::<Vec<_>>(),
        );
        let wires = names
            .iter()
            .map(|t| sys::packet_socket(t).expect("a packet socket"))
            .collect();
        sys::enter(&node).expect("the namespace is there");
        let mut lab = Self {
            peers,
            wires,
            raws: raw_sockets(),
            udp: Vec::new(),
            tcp: Vec::new(),
            ears: Vec::new(),
            statics: Files::new(),
            empty: Files::new(),
            indices: Vec::new(),
            conntrack: sys::netlink_netfilter().expect("a netlink socket"),
            services: false,
        };
        lab.listen();
        settle();
        lab.empty = capture(RULES);
        lab
    }

    /// Opens the listening sockets anew, so that no half-open connection is left.
    pub fn listen(&mut self) {
        (self.udp, self.tcp) = (Vec::new(), Vec::new());
        let any: [IpAddr; 2] = [[0u8; 4].into(), [0u8; 16].into()];
        let one: [IpAddr; 2] = [[10, 0, 0, 1].into(), "fd00:0::1".parse().expect("an address")];
        for (addrs, ports) in [(any, &LISTENING[..]), (one, &[BOUND][..])] {
            for addr in addrs {
                for &port in ports {
                    let tcp = listener(addr, libc::SOCK_STREAM);
                    bind(&tcp, addr, port);
                    sys::listen(&tcp).expect("it is bound");
                    self.tcp.push(tcp);
                    let udp = listener(addr, libc::SOCK_DGRAM);
                    let (level, option) = if addr.is_ipv4() {
                        (libc::IPPROTO_IP, libc::IP_PKTINFO)
                    } else {
                        (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO)
                    };
                    sys::set(&udp, level, option, 1).expect("an option");
                    // It answers from any address it was asked at.
                    let (level, option) = if addr.is_ipv4() {
                        (libc::IPPROTO_IP, libc::IP_FREEBIND)
                    } else {
                        (libc::IPPROTO_IPV6, libc::IPV6_FREEBIND)
                    };
                    sys::set(&udp, level, option, 1).expect("an option");
                    bind(&udp, addr, port);
                    self.udp.push(udp);
                }
            }
        }
        self.ears = Vec::new();
        self.ears.extend(
            self.wires
                .iter()
                .enumerate()
                .map(|(i, fd)| (fd.as_raw_fd(), Ear::Wire(i))),
        );
        self.ears.extend(
            self.raws
                .iter()
                .map(|(fd, proto, v6)| (fd.as_raw_fd(), Ear::Raw(*proto, *v6))),
        );
        self.ears.extend(self.udp.iter().map(|fd| (fd.as_raw_fd(), Ear::Udp)));
    }

    /// Programs an epoch and captures everything but the rules.
    pub fn enter(&mut self, env: &Environment) {
        self.enter_with(env, &[]);
    }

    /// The same with lines for `bridge -batch`.
    pub fn enter_with(&mut self, env: &Environment, bridge: &[&str]) {
        let mut script = Vec::new();
        for flag in ["", "-6 "] {
            for table in ["100", "101", "102", "103"] {
                script.push(format!("{flag}route flush table {table}"));
            }
            script.push(format!("{flag}route flush table main proto boot"));
            script.push(format!("{flag}route flush table local proto boot"));
            script.push(format!("{flag}rule flush"));
            script.push(format!("{flag}rule add pref 32766 lookup main"));
        }
        script.push("rule add pref 32767 lookup default".to_owned());
        for (flag, pref) in [("", "0"), ("-6 ", "0")] {
            // `rule flush` keeps the rule of table local.
            let _ = (flag, pref);
        }
        batch_force(&script);
        if self.services {
            batch_force(&[format!("link del {}", ipvs::DEVICE)]);
            batch(&[format!("link add {} type dummy", ipvs::DEVICE)]);
        }
        for (key, value) in &env.sysctl {
            sysctl(key, value);
        }
        batch(&env.ip);
        if !bridge.is_empty() {
            must(&["bridge", "-batch", "-"], &(bridge.join("\n") + "\n"));
        }
        self.listen();
        let wanted: Vec<&str> = REFERENCES
            .iter()
            .map(|r| r.artifact)
            .filter(|a| !RULES.contains(a) && *a != name::CONNTRACK)
            .collect();
        self.statics = capture(&wanted);
        self.indices = DEVICES
            .iter()
            .map(|dev| {
                let text = std::fs::read_to_string(format!("/sys/class/net/{dev}/ifindex"));
                // sysfs shows the namespace it was mounted in; netlink shows this one's.
                let _ = text;
                index_of(dev)
            })
            .collect();
    }

    /// Index of a device in the node.
    pub fn index(&self, device: usize) -> u32 {
        self.indices[device]
    }

    /// Number of a device by its index.
    pub fn device(&self, index: u32) -> Option<usize> {
        self.indices.iter().position(|&i| i == index)
    }

    /// Captures the artifacts that the parts of a ruleset touch; the others are as in an empty namespace.
    pub fn files(&self, touched: &[&'static str]) -> Files {
        let mut files = self.statics.clone();
        files.extend(self.empty.iter().map(|(k, v)| (*k, v.clone())));
        files.extend(capture(touched));
        files.insert(name::CONNTRACK, Arc::new(Vec::new()));
        files
    }

    /// The connections of the node as they are now: the kernel's own list, which the format accepts in the
    /// place of `conntrack -L`.
    pub fn connections(&self) -> Blob {
        let table = std::fs::read("/proc/thread-self/net/nf_conntrack").unwrap_or_default();
        Arc::new(table) as Blob
    }

    /// Connections and templates of IPVS, where the kernel has it.
    pub fn ipvs_connections(&self) -> Option<Blob> {
        std::fs::read(IPVS_CONN).ok().map(|table| Arc::new(table) as Blob)
    }

    /// Forgets all connections.
    pub fn forget(&self) {
        sys::forget_connections(&self.conntrack).expect("conntrack forgets");
    }

    /// Puts a packet on the wire of a device.
    pub fn inject(&self, device: usize, packet: &Packet, number: u32, side: Side) {
        let mut frame = Vec::with_capacity(128);
        frame.extend(environment::own_mac(device));
        frame.extend(environment::peer_mac(device));
        frame.extend(if packet.dst.is_ipv4() {
            [0x08, 0x00]
        } else {
            [0x86, 0xdd]
        });
        frame.extend(wire::build(packet, number, side));
        sys::send(&self.wires[device], &frame).expect("the wire takes a frame");
    }

    /// Everything that came out since the last call. UDP servers answer what they get.
    pub fn collect(&self, wait: i32) -> Vec<Seen> {
        let mut seen = Vec::new();
        let fds: Vec<RawFd> = self.ears.iter().map(|(fd, _)| *fd).collect();
        let mut buffer = [0u8; 4096];
        let mut wait = wait;
        loop {
            let ready = sys::readable(&fds, wait);
            if ready.is_empty() {
                return seen;
            }
            wait = 0;
            for i in ready {
                match self.ears[i].1 {
                    Ear::Wire(device) => {
                        while let Some(m) = sys::receive(&self.wires[device], &mut buffer) {
                            seen.extend(on_wire(device, &buffer[..m.len]));
                        }
                    }
                    Ear::Raw(protocol, v6) => {
                        let at = i - self.wires.len();
                        while let Some(m) = sys::receive(&self.raws[at].0, &mut buffer) {
                            seen.extend(in_node(protocol, v6, &m, &buffer[..m.len]));
                        }
                    }
                    Ear::Udp => {
                        let at = i - self.wires.len() - self.raws.len();
                        while let Some(m) = sys::receive(&self.udp[at], &mut buffer) {
                            // Nobody answers an answer: two servers would never stop.
                            if let Some(to) = m.to.filter(|_| !buffer[..m.len].starts_with(ANSWER)) {
                                // As short as the model takes the answers of programs to be.
                                let head = if to.is_ipv4() { 28 } else { 48 };
                                let len = (m.len + head).min(60).saturating_sub(head);
                                let _ = sys::answer(&self.udp[at], &ANSWER.repeat(15)[..len], m.from, to);
                            }
                        }
                    }
                }
            }
        }
    }

    /// The namespace of the peers, for whoever needs it.
    pub fn peers(&self) -> &File {
        &self.peers
    }
}

/// Artifacts that hold rules and sets: they change with every ruleset.
pub const RULES: &[&str] = &[
    name::NFT_JSON,
    name::NFT_TEXT,
    name::IPTABLES_NFT,
    name::IP6TABLES_NFT,
    name::IPTABLES_LEGACY,
    name::IP6TABLES_LEGACY,
    name::IPSET,
];

/// A snapshot of the files.
pub fn snapshot(files: &Files) -> Snapshot {
    // Says that nobody sorted the real servers.
    const MANIFEST: &[u8] =
        br#"{"schema":"knet.snapshot/v1","artifacts":[{"path":"nodes/lab/host/ipvs.save","via":"netlink"}]}"#;
    let manifest = ("manifest.json".to_owned(), Arc::new(MANIFEST.to_vec()) as Blob);
    let files = files
        .iter()
        .map(|(name, blob)| (format!("nodes/lab/host/{name}"), blob.clone()))
        .chain(files.contains_key(name::IPVS).then_some(manifest))
        .collect();
    Snapshot::from_files(files).expect("a snapshot")
}

/// Runs the reference commands of the artifacts, side by side.
fn capture(artifacts: &[&str]) -> Files {
    let own = [name::WG, name::TC, name::IPVS, name::IPVS_CONN];
    let wanted = REFERENCES
        .iter()
        .filter(|r| artifacts.contains(&r.artifact) && !own.contains(&r.artifact));
    let started: Vec<_> = wanted
        .map(|reference| {
            let there = reference.only_if.is_none_or(|path| {
                let path = path.replace("/proc/self/", "/proc/thread-self/");
                std::fs::exists(path).unwrap_or(false)
            });
            let children: Vec<_> = reference.commands.iter().filter(|_| there).map(|c| start(c)).collect();
            (reference, children)
        })
        .collect();
    let mut files = Files::new();
    if artifacts.contains(&name::IPVS) {
        // Our own reader: the tool sorts servers, and the kernel's order counts.
        let table = knet_collectors::ipvs::read(Limits::default()).expect("the kernel answers");
        let text = table.map(|t| t.to_string()).unwrap_or_default();
        files.insert(name::IPVS, Arc::new(text.into_bytes()) as Blob);
    }
    if artifacts.contains(&name::IPVS_CONN) {
        let text = std::fs::read(IPVS_CONN).unwrap_or_default();
        files.insert(name::IPVS_CONN, Arc::new(text) as Blob);
    }
    for (reference, children) in started {
        let mut bytes = Vec::new();
        for child in children {
            let output = child.wait_with_output().expect("the child was started");
            let stderr = String::from_utf8_lossy(&output.stderr);
            // What the kernel cannot have is empty.
            let absent = stderr.contains("not supported");
            assert!(output.status.success() || absent, "{}: {stderr}", reference.artifact);
            bytes.extend(output.stdout);
        }
        files.insert(reference.artifact, Arc::new(bytes) as Blob);
    }
    files
}

fn start(argv: &[&str]) -> Child {
    Command::new(argv[0])
        .args(&argv[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{}: {e}", argv[0]))
}

fn index_of(dev: &str) -> u32 {
    let out = must(&["ip", "-o", "link", "show", dev], "");
    let text = String::from_utf8_lossy(&out);
    text.split(':')
        .next()
        .and_then(|n| n.trim().parse().ok())
        .expect("ip prints the index first")
}

fn by_family(lines: &[String], force: bool) {
    for run_of in lines.chunk_by(|a, b| a.starts_with("-6 ") == b.starts_with("-6 ")) {
        let v6 = run_of[0].starts_with("-6 ");
        let text: Vec<&str> = run_of.iter().map(|l| l.trim_start_matches("-6 ")).collect();
        let input = text.join("\n") + "\n";
        let mut argv = vec!["ip"];
        argv.extend(v6.then_some("-6"));
        if force {
            argv.push("-force");
            argv.extend(["-batch", "-"]);
            run(&argv, &input);
        } else {
            argv.extend(["-batch", "-"]);
            must(&argv, &input);
        }
    }
}

fn batch(lines: &[String]) {
    by_family(lines, false);
}

fn batch_force(lines: &[String]) {
    by_family(lines, true);
}

/// Waits until every device is what it will be: `linkwatch_event` and `addrconf_dad_work` come late.
fn settle() {
    let own = 2 * ROUTED + 1;
    let mut last = String::new();
    for _ in 0..1000 {
        let mut shown = must(&["bridge", "link", "show"], "");
        shown.extend(must(&["ip", "-6", "route", "show", "table", "all"], ""));
        shown.extend(must(&["ip", "-6", "addr", "show"], ""));
        let shown = String::from_utf8_lossy(&shown).into_owned();
        let there = shown.matches("state forwarding").count() == DEVICES.len() - ROUTED
            && shown.matches("local fd00:").count() >= own
            && !shown.contains("tentative");
        if there && shown == last {
            return;
        }
        last = shown;
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("the devices do not settle");
}

/// Binds a socket. A program that another thread starts holds on to every socket until it runs.
fn bind(fd: &OwnedFd, addr: IpAddr, port: u16) {
    for _ in 0..1000 {
        match sys::bind(fd, addr, port) {
            Err(e) if e.kind() == std::io::ErrorKind::AddrInUse => std::thread::sleep(Duration::from_millis(1)),
            other => return other.expect("the address is there"),
        }
    }
    panic!("port {port} of {addr} is not free");
}

fn listener(addr: IpAddr, kind: i32) -> OwnedFd {
    let family = if addr.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let fd = sys::socket(family, kind, 0).expect("a socket");
    sys::set(&fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1).expect("an option");
    if addr.is_ipv6() {
        sys::set(&fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1).expect("an option");
    }
    fd
}

/// Sockets that get a copy of whatever is delivered in the node.
fn raw_sockets() -> Vec<(OwnedFd, u8, bool)> {
    let mut out = Vec::new();
    for protocol in [proto::ICMP, proto::TCP, proto::UDP] {
        let fd = sys::socket(libc::AF_INET, libc::SOCK_RAW, protocol.into()).expect("a raw socket");
        sys::set(&fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 8 << 20).expect("an option");
        out.push((fd, protocol, false));
    }
    for protocol in [proto::ICMPV6, proto::TCP, proto::UDP] {
        let fd = sys::socket(libc::AF_INET6, libc::SOCK_RAW, protocol.into()).expect("a raw socket");
        for option in [libc::IPV6_RECVPKTINFO, libc::IPV6_RECVHOPLIMIT, libc::IPV6_RECVTCLASS] {
            sys::set(&fd, libc::IPPROTO_IPV6, option, 1).expect("an option");
        }
        sys::set(&fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 8 << 20).expect("an option");
        out.push((fd, protocol, true));
    }
    out
}

fn on_wire(device: usize, frame: &[u8]) -> Option<Seen> {
    let kind = u16::from_be_bytes([*frame.get(12)?, *frame.get(13)?]);
    if kind != 0x0800 && kind != 0x86dd {
        return None;
    }
    let (packet, number) = wire::parse(&frame[14..])?;
    if noise(&packet) {
        return None;
    }
    Some(Seen {
        place: Place::Out(device),
        packet,
        number,
        about: wire::marked(frame),
    })
}

fn in_node(protocol: u8, v6: bool, message: &sys::Message, bytes: &[u8]) -> Option<Seen> {
    let (packet, number) = if v6 {
        let fixed = Fixed {
            src: message.from.0,
            dst: message.to?,
            proto: protocol,
            ttl: message.ttl,
            tos: message.tos,
            len: u16::try_from(bytes.len() + 40).ok()?,
            df: true,
        };
        wire::upper(fixed, bytes)
    } else {
        wire::parse(bytes)?
    };
    if noise(&packet) {
        return None;
    }
    Some(Seen {
        place: Place::Local,
        packet,
        number,
        about: wire::marked(bytes),
    })
}

/// What the node says by itself: multicast listener reports, neighbour discovery, IGMP.
fn noise(packet: &Packet) -> bool {
    use knet_dataplane::packet::L4;
    let nd = packet.proto == proto::ICMPV6
        && matches!(
            packet.l4,
            L4::Icmp {
                ty: 130..=137 | 143,
                ..
            }
        );
    nd || packet.proto == proto::IGMP || packet.dst.is_multicast()
}
