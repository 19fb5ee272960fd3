//! Packets against `-m set`: which field of a packet each direction takes, and what a packet has not.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::{Child, Command};
use std::time::Duration;

use knet_dataplane::packet::{Eth, L4, Port, proto};
use knet_dataplane::table::ipset::{IpSets, SetFlags, Side};
use knet_snapshot::id::Mac;

use crate::netns::{Rng, must, shell};
use crate::random::{self, PORTS, Probe, Set};
use crate::{capture, compare};

/// Rules tried with random sets, and packets a rule.
const RULES: usize = 250;
const PACKETS: usize = 24;

/// All packet tests; returns how many answers were compared.
pub fn against_rules(rng: &mut Rng, sets: &[Set]) -> usize {
    // Every address of the universe is local except those behind the two other devices.
    must(
        "set -e; ip link set lo up
         for d in eth0 eth10; do
             ip link add $d type veth peer name $d.p; ip link set $d arp off up; ip link set $d.p up
         done
         ip addr add 10.255.0.1/32 dev eth0
         ip route add local 10.0.0.0/23 dev lo && ip route add 10.0.2.0/24 dev eth0 && ip route add 10.0.3.0/24 dev eth10
         ip -6 route add local fd00::/63 dev lo
         ip -6 route add fd00:0:0:2::/64 dev eth0 && ip -6 route add fd00:0:0:3::/64 dev eth10
         echo 1 > /proc/sys/net/ipv6/ip_nonlocal_bind
         echo 0 > /proc/sys/net/ipv4/icmp_ratelimit",
        "",
    );
    let lists = lists(rng, sets);
    let table = capture();
    let model = IpSets::from_table(&table);
    let mut compared = 0;
    let mut hits = 0;
    for _ in 0..RULES {
        let name = if rng.one_in(6) {
            rng.pick(&lists.iter().collect::<Vec<_>>()).clone()
        } else {
            pick(rng, sets).name.clone()
        };
        // iptables refuses a set of the other family; lists and sets without addresses serve both.
        let both = name.starts_with("list") || name.starts_with("bitmap_port");
        let v6 = if both { rng.one_in(2) } else { name.contains("true") };
        let dirs: Vec<Side> = (0..1 + rng.below(4))
            .map(|_| rng.pick(&[Side::Src, Side::Dst]))
            .collect();
        let return_nomatch = rng.one_in(5);
        let flags = SetFlags {
            return_nomatch,
            ..SetFlags::default()
        };
        let option = if return_nomatch { " --return-nomatch" } else { "" };
        let matching = format!("-m set --match-set {name} {}{option}", side_list(&dirs));
        rules(v6, &format!("-A OUTPUT -p udp {matching} -j DROP"));
        for _ in 0..PACKETS {
            let probe = outgoing(rng, v6, &dirs, flags);
            let kernel = sent_is_dropped(&probe);
            hits += usize::from(kernel);
            let answer = model.test(&name, &probe.query());
            compare(answer.matched, answer.doubt, kernel, || {
                format!(
                    "{matching}: {:?} out {:?}\nmodel: {:?}",
                    probe.packet,
                    probe.oif,
                    answer.evidence()
                )
            });
            compared += 1;
        }
    }
    assert!(
        hits * 50 > compared,
        "too few hits to mean anything: {hits} of {compared}"
    );
    rules(false, "");
    rules(true, "");
    compared + incoming(rng) + pings() + macs()
}

fn pick<'a>(rng: &mut Rng, sets: &'a [Set]) -> &'a Set {
    &sets[usize::try_from(rng.below(sets.len() as u64)).expect("below the length")]
}

fn side_list(dirs: &[Side]) -> String {
    let words: Vec<&str> = dirs
        .iter()
        .map(|d| if *d == Side::Src { "src" } else { "dst" })
        .collect();
    words.join(",")
}

/// Lists over some of the sets, in random order.
fn lists(rng: &mut Rng, sets: &[Set]) -> Vec<String> {
    let mut names = Vec::new();
    for i in 0..8 {
        let name = format!("list{i}");
        let mut lines = format!("create {name} list:set size 16\n");
        for _ in 0..rng.below(6) {
            lines.push_str(&format!("add {name} {}\n", pick(rng, sets).name));
        }
        must("ipset -exist restore", &lines);
        names.push(name);
    }
    names
}

/// Replaces the filter table.
fn rules(v6: bool, lines: &str) {
    let table = format!("*filter\n:INPUT ACCEPT\n:FORWARD ACCEPT\n:OUTPUT ACCEPT\n{lines}\nCOMMIT\n");
    must(
        if v6 {
            "ip6tables-restore -w"
        } else {
            "iptables-restore -w"
        },
        &table,
    );
}

fn outgoing(rng: &mut Rng, v6: bool, dirs: &[Side], flags: SetFlags) -> Probe {
    let (src, dst) = (random::addr(rng, v6, 2), random::addr(rng, v6, 4));
    let (sport, dport) = (Port::from(rng.pick(PORTS)), Port::from(rng.pick(PORTS)));
    let packet = random::packet(src, dst, proto::UDP, L4::Ports { sport, dport });
    let subnet = match dst {
        IpAddr::V4(a) => u16::from(a.octets()[2]),
        IpAddr::V6(a) => a.segments()[3],
    };
    let oif = Some(match subnet {
        2 => "eth0",
        3 => "eth10",
        _ => "lo",
    });
    Probe {
        packet,
        eth: None,
        iif: None,
        oif,
        mark: 0,
        dirs: dirs.to_vec(),
        flags,
    }
}

fn port(port: Option<Port>) -> u16 {
    port.expect("a UDP packet").value
}

/// Sends the packet. A packet dropped in OUTPUT is an error of the sender.
fn sent_is_dropped(probe: &Probe) -> bool {
    let packet = &probe.packet;
    let socket = UdpSocket::bind(SocketAddr::new(packet.src, port(packet.sport()))).expect("a local address");
    match socket.send_to(b"knet", SocketAddr::new(packet.dst, port(packet.dport()))) {
        Ok(_) => false,
        Err(e) if e.kind() == ErrorKind::PermissionDenied => true,
        Err(e) => panic!("{packet:?}: {e}"),
    }
}

/// Devices of the input side: what is dropped in INPUT does not arrive.
fn incoming(rng: &mut Rng) -> usize {
    must(
        "ipset restore",
        "create in4 hash:net,iface
         add in4 0.0.0.0/0,lo
         add in4 10.0.0.0/24,eth0
         add in4 10.0.1.0/28,l wildcard nomatch
         add in4 10.0.1.1/32,lo
         add in4 10.0.1.2/32,physdev:lo\n",
    );
    let table = capture();
    let model = IpSets::from_table(&table);
    let mut compared = 0;
    for dirs in [
        vec![Side::Src, Side::Src],
        vec![Side::Dst, Side::Src],
        vec![Side::Src, Side::Dst],
    ] {
        rules(
            false,
            &format!("-A INPUT -p udp -m set --match-set in4 {} -j DROP", side_list(&dirs)),
        );
        for _ in 0..40 {
            let mut probe = outgoing(rng, false, &dirs, SetFlags::default());
            probe.packet.dst = random::addr(rng, false, 2);
            (probe.iif, probe.oif) = (Some("lo"), None);
            if probe.packet.dport() == probe.packet.sport() {
                continue;
            }
            let dst = SocketAddr::new(probe.packet.dst, port(probe.packet.dport()));
            let receiver = UdpSocket::bind(dst).expect("a local address");
            receiver
                .set_read_timeout(Some(Duration::from_millis(15)))
                .expect("a timeout");
            assert!(!sent_is_dropped(&probe), "only INPUT drops");
            let kernel = receiver.recv_from(&mut [0; 16]).is_err();
            let answer = model.test("in4", &probe.query());
            compare(answer.matched, answer.doubt, kernel, || {
                format!("{dirs:?} {:?}", probe.packet)
            });
            compared += 1;
        }
    }
    rules(false, "");
    compared
}

/// Type and code of ICMP in the place of a port.
fn pings() -> usize {
    if !shell("command -v ping", "").status.success() {
        return 0;
    }
    must(
        "ipset restore",
        "create ping4 hash:ip,port\nadd ping4 10.0.0.1,icmp:echo-request\nadd ping4 10.0.0.2,icmp:8/1\nadd ping4 10.0.0.3,icmp:0/0\n",
    );
    let table = capture();
    let model = IpSets::from_table(&table);
    let mut compared = 0;
    for dirs in [vec![Side::Dst, Side::Dst], vec![Side::Dst, Side::Src], vec![Side::Dst]] {
        rules(
            false,
            &format!(
                "-A OUTPUT -p icmp -m icmp --icmp-type 8 -m set --match-set ping4 {} -j DROP",
                side_list(&dirs)
            ),
        );
        for host in 1..=4 {
            let dst = format!("10.0.0.{host}");
            let kernel = !shell(&format!("ping -n -c1 -W1 {dst}"), "").status.success();
            let l4 = L4::Icmp {
                ty: 8,
                code: 0,
                id: Port::from(1),
                quoted: None,
            };
            let packet = random::packet(
                IpAddr::from([10, 0, 0, 9]),
                dst.parse().expect("an address"),
                proto::ICMP,
                l4,
            );
            let flags = SetFlags::default();
            let probe = Probe {
                packet,
                eth: None,
                iif: None,
                oif: Some("lo"),
                mark: 0,
                dirs: dirs.clone(),
                flags,
            };
            let answer = model.test("ping4", &probe.query());
            compare(answer.matched, answer.doubt, kernel, || format!("{dirs:?} {dst}"));
            compared += 1;
        }
    }
    rules(false, "");
    compared
}

/// Kills the holder of the second namespace.
struct Peer(Child);

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Link-layer addresses and marks, over a veth pair from another namespace. One packet meets one rule for
/// every set and list of directions; the counters of the rules say which matched.
fn macs() -> usize {
    let peer = Peer(
        Command::new("unshare")
            .args(["-n", "sleep", "600"])
            .spawn()
            .expect("unshare works here"),
    );
    let pid = peer.0.id();
    let there = format!("nsenter -t {pid} -n");
    let own = std::fs::read_link("/proc/self/ns/net").expect("procfs");
    // The child is in another namespace once its unshare(2) is through.
    for _ in 0..500 {
        if std::fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|ns| ns != own) {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let here_mac = Mac([2, 0, 0, 0, 0, 1]);
    must(
        &format!(
            "set -e; ip link add vh type veth peer name vp; ip link set vp netns {pid}
             ip link set vh address {here_mac} up; ip addr add 10.9.0.1/24 dev vh
             {there} ip addr add 10.9.0.2/24 dev vp; {there} ip addr add 10.9.0.3/24 dev vp"
        ),
        "",
    );
    let directions = ["src,src", "src,dst", "dst,dst", "dst,src", "src", "dst"];
    let kinds = [
        (
            "bitmap:ip,mac range 10.9.0.0/24",
            &["10.9.0.2,02:00:00:00:00:02", "10.9.0.3", "10.9.0.1,02:00:00:00:00:01"][..],
        ),
        (
            "hash:ip,mac",
            &[
                "10.9.0.2,02:00:00:00:00:02",
                "10.9.0.1,02:00:00:00:00:01",
                "10.9.0.1,02:00:00:00:00:03",
            ][..],
        ),
        ("hash:mac", &["02:00:00:00:00:03"][..]),
        (
            "hash:ip,mark markmask 0x6",
            &["10.9.0.2,0x4", "10.9.0.1,0x5", "10.9.0.3,0x2"][..],
        ),
    ];
    let mut rules = String::from("-A INPUT -j MARK --set-mark 5\n");
    let mut tried = Vec::new();
    let mut fill = String::new();
    for (kind, members) in kinds {
        for dirs in directions {
            let name = format!("veth{}", tried.len());
            if !shell(&format!("ipset create {name} {kind}"), "").status.success() {
                break;
            }
            // A member without MAC takes that of the first packet, so every packet meets fresh sets.
            fill.push_str(&format!("flush {name}\n"));
            members
                .iter()
                .for_each(|member| fill.push_str(&format!("add {name} {member}\n")));
            rules.push_str(&format!(
                "-A INPUT -i vh -p udp --dport 99 -m set --match-set {name} {dirs}\n"
            ));
            let dirs: Vec<Side> = dirs
                .split(',')
                .map(|d| if d == "src" { Side::Src } else { Side::Dst })
                .collect();
            tried.push((name, dirs));
        }
    }
    let mut compared = 0;
    for peer_mac in [Mac([2, 0, 0, 0, 0, 2]), Mac([2, 0, 0, 0, 0, 3])] {
        let neighbour = format!("{there} ip neigh replace 10.9.0.1 lladdr {here_mac} dev vp");
        must(
            &format!("{there} ip link set vp address {peer_mac} up && {neighbour}"),
            "",
        );
        for host in 2..=3u8 {
            must("ipset restore", &fill);
            let table = capture();
            must(
                "iptables-restore -w",
                &format!("*mangle\n:INPUT ACCEPT\n{rules}COMMIT\n"),
            );
            let route = format!("{there} ip route replace 10.9.0.1/32 dev vp src 10.9.0.{host}");
            must(
                &format!("{route} && {there} bash -c 'echo x > /dev/udp/10.9.0.1/99'"),
                "",
            );
            let counted = must("iptables -w -t mangle -nvxL INPUT", "");
            let counts: Vec<&str> = counted
                .lines()
                .skip(3)
                .filter_map(|l| l.split_whitespace().next())
                .collect();
            assert_eq!(counts.len(), tried.len(), "{counted}");
            for ((name, dirs), count) in tried.iter().zip(counts) {
                let l4 = L4::Ports {
                    sport: Port::from(1),
                    dport: Port::from(99),
                };
                let (src, dst) = (IpAddr::from([10, 9, 0, host]), IpAddr::from([10, 9, 0, 1]));
                let packet = random::packet(src, dst, proto::UDP, l4);
                let eth = Some(Eth {
                    src: Some(peer_mac),
                    dst: Some(here_mac),
                    vlan: None,
                });
                let flags = SetFlags::default();
                let probe = Probe {
                    packet,
                    eth,
                    iif: Some("vh"),
                    oif: None,
                    mark: 5,
                    dirs: dirs.clone(),
                    flags,
                };
                let answer = IpSets::from_table(&table).test(name, &probe.query());
                compare(answer.matched, answer.doubt, count != "0", || {
                    format!(
                        "{name} {dirs:?} from {peer_mac} {src}\n{counted}\n{:?}",
                        answer.evidence()
                    )
                });
                compared += 1;
            }
        }
    }
    compared
}
