//! Who takes a packet, against the kernel: real listeners, what `ss` prints of them, and real connections.

#[path = "support/netns.rs"]
mod netns;

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use knet_dataplane::packet::proto;
use knet_dataplane::table::socket::{SocketAnswer, SocketQuery, Sockets};
use knet_snapshot::Table;
use knet_snapshot::socket::Socket;

use netns::{Rng, alone, must, say, shell};

/// Addresses listened on; the last two are nobody's but local.
const ADDRESSES: &[&str] = &[
    "0.0.0.0",
    "::",
    "127.0.0.1",
    "10.0.0.1",
    "10.0.0.2",
    "::1",
    "fd00::1",
    "::ffff:10.0.0.2",
];
const DESTINATIONS: &[&str] = &[
    "127.0.0.1",
    "127.0.0.2",
    "10.0.0.1",
    "10.0.0.2",
    "10.0.0.3",
    "::1",
    "fd00::1",
    "fd00::2",
];

#[test]
fn kernel_sockets() {
    if !alone("kernel_sockets", &["ss"]) {
        return;
    }
    let mut rng = Rng::seeded("kernel_sockets");
    must(
        "set -e; ip link set lo up
         for a in 10.0.0.1/24 10.0.0.2/24 10.0.0.3/24; do ip addr add $a dev lo; done
         for a in fd00::1/64 fd00::2/64; do ip addr add $a dev lo nodad; done",
        "",
    );
    let mut compared = 0;
    for _ in 0..4 {
        compared += plain(&mut rng);
    }
    compared += shared();
    say(&format!("KNET-RAN kernel_sockets {compared}"));
}

/// What identifies a socket among those of one port: address, IPv6 or not, device.
type Name = (Option<IpAddr>, bool, Option<String>);

fn name(socket: &Socket) -> Name {
    (socket.local, socket.v6, socket.dev.clone())
}

fn name_of(bound: SocketAddr) -> Name {
    let local = Some(bound.ip().to_canonical()).filter(|a| !a.is_unspecified());
    (local, bound.is_ipv6(), None)
}

fn capture() -> Table<Socket> {
    let table = knet_snapshot::socket::parse(Arc::from("sockets.txt"), must("ss -H -tulpne", "").as_bytes());
    assert!(table.problems.is_empty(), "{:?}", table.problems);
    table
}

/// The names of those who may take a packet to `dst`.
fn predicted(model: &Sockets<'_>, proto: u8, dst: SocketAddr) -> Vec<Name> {
    let query = SocketQuery {
        proto,
        src: dst.ip(),
        sport: None,
        dst: dst.ip(),
        dport: dst.port(),
        iif: Some("lo"),
        vrf_port: None,
    };
    match model.lookup(&query) {
        SocketAnswer::Listener(takers) => takers.iter().map(|t| name(t.socket)).collect(),
        SocketAnswer::Nobody => Vec::new(),
        other => panic!("{dst}: {other:?}"),
    }
}

/// Random listeners of the standard library.
fn plain(rng: &mut Rng) -> usize {
    let mut tcp: BTreeMap<u16, Vec<TcpListener>> = BTreeMap::new();
    let mut udp: BTreeMap<u16, Vec<UdpSocket>> = BTreeMap::new();
    for port in 2000..2024 {
        for _ in 0..rng.below(5) {
            // What a new IPv6 socket is, when its program does not care.
            let only = rng.below(2);
            must(&format!("echo {only} > /proc/sys/net/ipv6/bindv6only"), "");
            let addr = SocketAddr::new(rng.pick(ADDRESSES).parse().expect("an address"), port);
            // Some do not go together.
            if let Ok(listener) = TcpListener::bind(addr) {
                listener.set_nonblocking(true).expect("a flag");
                tcp.entry(port).or_default().push(listener);
            }
            if let Ok(socket) = UdpSocket::bind(addr) {
                socket.set_nonblocking(true).expect("a flag");
                udp.entry(port).or_default().push(socket);
            }
        }
    }
    let table = capture();
    let model = Sockets::from_table(&table);
    let mut compared = 0;
    for port in 2000..2024 {
        for dst in DESTINATIONS {
            let dst = SocketAddr::new(dst.parse().expect("an address"), port);
            let kernel: Vec<Name> = match TcpStream::connect(dst) {
                Ok(_) => {
                    let of_port = tcp.get(&port).into_iter().flatten();
                    of_port
                        .filter(|l| l.accept().is_ok())
                        .map(|l| name_of(l.local_addr().expect("bound")))
                        .collect()
                }
                Err(_) => Vec::new(),
            };
            assert_eq!(predicted(&model, proto::TCP, dst), kernel, "tcp {dst}\n{table:#?}");
            let sender = UdpSocket::bind(SocketAddr::new(dst.ip(), 0)).expect("a local address");
            sender.send_to(b"knet", dst).expect("it is local");
            let of_port = udp.get(&port).into_iter().flatten();
            let kernel: Vec<Name> = of_port
                .filter(|s| s.recv_from(&mut [0; 16]).is_ok())
                .map(|s| name_of(s.local_addr().expect("bound")))
                .collect();
            assert_eq!(predicted(&model, proto::UDP, dst), kernel, "udp {dst}\n{table:#?}");
            compared += 2;
        }
    }
    compared
}

/// Kills a listener.
struct Listener(Child);

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Listeners that only `SO_REUSEPORT` lets share a port, and listeners bound to a device: who wins? Each
/// says its number to whom it accepts.
fn shared() -> usize {
    if !shell("command -v socat", "").status.success() {
        say("kernel_sockets: no socat, so no shared ports and no devices");
        return 0;
    }
    // What stands behind each number, and the options of socat for it.
    let kinds: [(&str, &str); 8] = [
        ("4", "bind=0.0.0.0"),
        ("4", "bind=10.0.0.1"),
        ("4", "bind=0.0.0.0,so-bindtodevice=lo"),
        ("4", "bind=10.0.0.1,so-bindtodevice=lo"),
        ("6", "bind=[::],ipv6only=0"),
        ("6", "bind=[::],ipv6only=1"),
        ("6", "bind=[::],ipv6only=0,so-bindtodevice=lo"),
        ("6", "bind=[fd00::1]"),
    ];
    let names = |kind: usize| -> Name {
        let (family, options) = kinds[kind];
        let local = ["10.0.0.1", "fd00::1"]
            .iter()
            .find(|a| options.contains(*a))
            .map(|a| a.parse().expect("an address"));
        (local, family == "6", options.contains("=lo").then(|| "lo".to_owned()))
    };
    let groups: [&[usize]; 10] = [
        &[0, 1],
        &[0, 2],
        &[0, 3, 2],
        &[0, 4],
        &[2, 4],
        &[0, 6],
        &[5, 0],
        &[4, 7],
        &[6, 5],
        &[3, 1, 0],
    ];
    let heard = tempfile::tempdir().expect("a folder");
    let mut listeners = Vec::new();
    for (port, group) in (3000..).zip(groups) {
        for &kind in group {
            let (family, options) = kinds[kind];
            let file = heard.path().join(format!("{port}-{kind}"));
            for [from, to] in [
                [
                    format!("TCP{family}-LISTEN:{port},reuseport,fork,{options}"),
                    format!("SYSTEM:echo {kind}"),
                ],
                [
                    format!("UDP{family}-RECV:{port},reuseport,{options}"),
                    format!("CREATE:{}", file.display()),
                ],
            ] {
                let one_way = if from.starts_with("UDP") {
                    vec!["-u"]
                } else {
                    Vec::new()
                };
                let mut socat = Command::new("socat");
                socat.args(one_way).args([&from, &to]).stderr(Stdio::null());
                listeners.push(Listener(socat.spawn().expect("socat is there")));
            }
        }
    }
    let expected: usize = groups.iter().map(|g| g.len() * 2).sum();
    let mut table = capture();
    for _ in 0..200 {
        if table.rows.len() >= expected {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
        table = capture();
    }
    let model = Sockets::from_table(&table);
    let mut compared = 0;
    for (port, group) in (3000..).zip(groups) {
        for dst in ["10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2"] {
            let dst = SocketAddr::new(dst.parse().expect("an address"), port);
            let mut answer = String::new();
            if let Ok(mut stream) = TcpStream::connect(dst) {
                stream
                    .set_read_timeout(Some(Duration::from_secs(5)))
                    .expect("a timeout");
                let _ = stream.read_to_string(&mut answer);
            }
            let tcp = answer.trim().parse().ok().map(names);
            let udp = took_datagram(dst, group, heard.path()).map(names);
            for (protocol, kernel) in [(proto::TCP, tcp), (proto::UDP, udp)] {
                let candidates = predicted(&model, protocol, dst);
                match &kernel {
                    Some(taker) => assert!(
                        candidates.contains(taker),
                        "{protocol} {dst}: {taker:?} not in {candidates:?}"
                    ),
                    None => assert!(candidates.is_empty(), "{protocol} {dst}: nobody, not {candidates:?}"),
                }
                compared += 1;
            }
        }
    }
    compared
}

/// Which of a group took a datagram: a line of its own in the file of that listener. An ICMP error says that
/// nobody did.
fn took_datagram(dst: SocketAddr, group: &[usize], heard: &Path) -> Option<usize> {
    let client = UdpSocket::bind(SocketAddr::new(dst.ip(), 0)).expect("a local address");
    client.connect(dst).expect("it is local");
    client
        .set_read_timeout(Some(Duration::from_millis(10)))
        .expect("a timeout");
    let line = format!("{} from {}\n", dst, client.local_addr().expect("bound").port());
    client.send(line.as_bytes()).expect("it is local");
    for _ in 0..300 {
        let took = group.iter().find(|kind| {
            let file = heard.join(format!("{}-{kind}", dst.port()));
            std::fs::read_to_string(file).is_ok_and(|text| text.contains(&line))
        });
        if took.is_some() {
            return took.copied();
        }
        if client
            .recv(&mut [0; 1])
            .is_err_and(|e| e.kind() == ErrorKind::ConnectionRefused)
        {
            return None;
        }
    }
    panic!("{dst}: neither taken nor refused");
}
