use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;
use knet_snapshot::id::Mac;
use proptest::prelude::*;

use super::*;
use crate::packet::{Eth, L4, Packet, Port, proto};

fn table(text: &str) -> Table<IpSet> {
    knet_snapshot::ipset::parse(Arc::from("nodes/n/host/ipset.save"), text.as_bytes())
}

fn tcp(src: &str, dst: &str, dport: u16) -> Packet {
    let l4 = L4::Tcp {
        sport: Port::from(40000),
        dport: Port::from(dport),
        flags: 2,
    };
    let (src, dst) = (src.parse().expect("an address"), dst.parse().expect("an address"));
    Packet {
        src,
        dst,
        proto: proto::TCP,
        l4,
        ttl: 64,
        tos: 0,
        len: 60,
        df: true,
        inner: None,
    }
}

fn query<'a>(packet: &'a Packet, dirs: &'a [Side]) -> SetQuery<'a> {
    SetQuery {
        packet,
        eth: None,
        iif: Some("eth0"),
        oif: Some("eth1"),
        physin: None,
        physout: None,
        mark: 0,
        dirs,
        flags: SetFlags::default(),
    }
}

const DST: &[Side] = &[Side::Dst, Side::Dst, Side::Dst];

fn ask(text: &str, name: &str, packet: &Packet) -> (Tri, Option<Doubt>, Vec<String>) {
    let table = table(text);
    let answer = IpSets::from_table(&table).test(name, &query(packet, DST));
    let lines = answer.evidence().iter().map(|e| e.text.to_string()).collect();
    (answer.matched, answer.doubt, lines)
}

#[test]
fn evidence_is_the_member_line_or_the_create_line() {
    let text = "create a hash:net family inet hashsize 1024 maxelem 65536 comment bucketsize 12 initval 0x1\n\
                add a 10.0.0.0/8 comment \"all pods\"\nadd a 10.1.0.0/16 nomatch\n";
    let (hit, _, lines) = ask(text, "a", &tcp("1.1.1.1", "10.2.0.1", 80));
    assert_eq!(
        (hit, lines),
        (Tri::Yes, vec!["add a 10.0.0.0/8 comment \"all pods\"".to_owned()])
    );
    let (hit, _, lines) = ask(text, "a", &tcp("1.1.1.1", "10.1.0.1", 80));
    assert_eq!((hit, lines), (Tri::No, vec!["add a 10.1.0.0/16 nomatch".to_owned()]));
    let (hit, _, lines) = ask(text, "a", &tcp("1.1.1.1", "11.1.0.1", 80));
    assert_eq!(hit, Tri::No);
    assert!(lines[0].starts_with("create a hash:net family inet"), "{lines:?}");
}

#[test]
fn what_cannot_be_read_makes_only_the_answers_it_could_change_unknown() {
    let packet = tcp("1.1.1.1", "10.2.0.1", 80);
    let cases = [
        ("", "a", Doubt::NoSuchSet),
        ("create a hash:new,thing family inet\n", "a", Doubt::Type),
        (
            "create a hash:ip family inet shiny 3\nadd a 10.2.0.1\n",
            "a",
            Doubt::Type,
        ),
        ("create a hash:ip family inet\nadd a what\n", "a", Doubt::Member),
        (
            "create a hash:net family inet\nadd a 10.0.0.0/8\nadd a what\n",
            "a",
            Doubt::Member,
        ),
        (
            "create a hash:net family inet\nadd a 10.0.0.0/8 shiny\n",
            "a",
            Doubt::Member,
        ),
        ("create a list:set size 8\nadd a gone\n", "a", Doubt::NoSuchSet),
        ("create a hash:ip family inet\nadd b", "a", Doubt::Member),
    ];
    for (text, name, doubt) in cases {
        assert_eq!(ask(text, name, &packet).1, Some(doubt), "{text}");
    }
    // Nothing takes precedence over an address that is there; another set is not touched.
    assert_eq!(
        ask(
            "create a hash:ip family inet\nadd a what\nadd a 10.2.0.1\n",
            "a",
            &packet
        )
        .0,
        Tri::Yes
    );
    let other = "create b hash:ip family inet\nadd b 10.2.0.1\ncreate a hash:ip family inet\nadd a";
    assert_eq!(ask(other, "b", &tcp("1.1.1.1", "10.9.9.9", 80)).0, Tri::No);
}

#[test]
fn a_random_port_is_unknown_unless_no_member_has_the_address() {
    let mut packet = tcp("10.0.0.1", "10.2.0.1", 80);
    packet.set_dport(Port { value: 7, drawn: true });
    let empty = "create a hash:ip,port family inet\n";
    assert_eq!(ask(empty, "a", &packet).0, Tri::No);
    let full = format!("{empty}add a 10.2.0.1,tcp:7\n");
    assert_eq!(ask(&full, "a", &packet).1, Some(Doubt::Port));
    for other in ["10.2.0.2,tcp:7", "10.2.0.1,udp:7"] {
        assert_eq!(
            ask(&format!("{empty}add a {other}\n"), "a", &packet).0,
            Tri::No,
            "{other}"
        );
    }
    let ports = "create a bitmap:port range 0-65535\nadd a 9\n";
    assert_eq!(ask(ports, "a", &packet).1, Some(Doubt::Port));
    let net = "create a hash:ip,port,net family inet\nadd a 10.2.0.1,tcp:7,192.0.2.0/24\n";
    assert_eq!(ask(net, "a", &packet).0, Tri::No, "the third dimension is elsewhere");
}

#[test]
fn a_protocol_without_ports_is_in_the_set_with_port_zero() {
    let text = "create a hash:ip,port family inet\nadd a 10.2.0.1,gre:0\nadd a 10.2.0.1,dccp:0\n";
    let gre = Packet {
        proto: proto::GRE,
        l4: L4::Other,
        ..tcp("1.1.1.1", "10.2.0.1", 0)
    };
    assert_eq!(ask(text, "a", &gre).0, Tri::Yes);
    // To the kernel DCCP has no ports.
    let ports = L4::Ports {
        sport: Port::from(1),
        dport: Port::from(5001),
    };
    let dccp = Packet {
        proto: proto::DCCP,
        l4: ports,
        ..gre
    };
    assert_eq!(ask(text, "a", &dccp).0, Tri::Yes);
}

#[test]
fn another_device_on_the_longest_network_ends_the_search() {
    let text = "create a hash:net,iface family inet\nadd a 10.0.0.0/8,eth1\nadd a 10.1.0.0/16,eth7\n";
    assert_eq!(ask(text, "a", &tcp("1.1.1.1", "10.2.0.1", 80)).0, Tri::Yes);
    assert_eq!(ask(text, "a", &tcp("1.1.1.1", "10.1.0.1", 80)).0, Tri::No);
    let physdev = "create a hash:net,iface family inet\nadd a 10.0.0.0/8,eth1\nadd a 10.1.0.0/16,physdev:eth7\n";
    assert_eq!(
        ask(physdev, "a", &tcp("1.1.1.1", "10.1.0.1", 80)).1,
        Some(Doubt::HashSeed)
    );
}

#[test]
fn counters_move_on() {
    let text = "create a hash:ip family inet counters\nadd a 10.2.0.1 packets 5 bytes 300\n";
    let table = table(text);
    let sets = IpSets::from_table(&table);
    let flags = SetFlags {
        counters: true,
        ..SetFlags::default()
    };
    let hit = tcp("1.1.1.1", "10.2.0.1", 80);
    assert_eq!(
        sets.test(
            "a",
            &SetQuery {
                flags,
                ..query(&hit, DST)
            }
        )
        .doubt,
        Some(Doubt::Counters)
    );
    assert_eq!(sets.test("a", &query(&hit, DST)).matched, Tri::Yes);
    let miss = tcp("1.1.1.1", "10.2.0.2", 80);
    assert_eq!(
        sets.test(
            "a",
            &SetQuery {
                flags,
                ..query(&miss, DST)
            }
        )
        .matched,
        Tri::No
    );
}

#[test]
fn lists_ask_in_order_and_name_both_lines() {
    let text = "create a hash:ip family inet\nadd a 10.2.0.1\ncreate b hash:net family inet\nadd b 10.0.0.0/8\n\
                create l list:set size 8\nadd l a\nadd l b before a\n";
    let (hit, _, lines) = ask(text, "l", &tcp("1.1.1.1", "10.2.0.1", 80));
    assert_eq!(
        (hit, lines),
        (
            Tri::Yes,
            vec!["add l b before a".to_owned(), "add b 10.0.0.0/8".to_owned()]
        )
    );
    assert_eq!(ask(text, "l", &tcp("1.1.1.1", "11.2.0.1", 80)).0, Tri::No);
}

#[test]
fn a_link_layer_address_that_is_not_there_does_not_match_and_one_not_known_is_unknown() {
    let table = table("create a hash:mac hashsize 1024 maxelem 65536\nadd a 02:00:00:00:00:0A\n");
    let sets = IpSets::from_table(&table);
    let packet = tcp("1.1.1.1", "10.2.0.1", 80);
    let eth = |src| Eth {
        src,
        dst: None,
        vlan: None,
    };
    let asked = |eth: Option<&Eth>| {
        sets.test(
            "a",
            &SetQuery {
                eth,
                ..query(&packet, &[Side::Src])
            },
        )
        .matched
    };
    assert_eq!(asked(None), Tri::No);
    assert_eq!(asked(Some(&eth(None))), Tri::Unknown);
    assert_eq!(asked(Some(&eth(Some(Mac([0; 6]))))), Tri::No);
    assert_eq!(asked(Some(&eth(Some(Mac([2, 0, 0, 0, 0, 10]))))), Tri::Yes);
}

#[test]
fn ranges_of_restore_files_spread() {
    let text = "create a hash:net,port family inet\nadd a 10.0.0.4-10.0.0.11,tcp:80-82\n";
    for (host, port, expected) in [
        (3, 80, Tri::No),
        (4, 80, Tri::Yes),
        (11, 82, Tri::Yes),
        (12, 82, Tri::No),
        (5, 83, Tri::No),
    ] {
        assert_eq!(
            ask(text, "a", &tcp("1.1.1.1", &format!("10.0.0.{host}"), port)).0,
            expected,
            "{host} {port}"
        );
    }
    let all = "create a hash:ip family inet\nadd a 0.0.0.0-255.255.255.255\n";
    assert_eq!(ask(all, "a", &tcp("1.1.1.1", "10.0.0.1", 80)).1, Some(Doubt::Member));
}

fn net() -> impl Strategy<Value = Ipv4Net> {
    (0u32..64, 20u8..=32).prop_map(|(host, len)| {
        Ipv4Net::new(Ipv4Addr::from(0x0a00_0000 + host), len)
            .expect("at most 32")
            .trunc()
    })
}

proptest! {
    #[test]
    fn probing_equals_scanning(
        members in prop::collection::vec((net(), 80u16..83, net(), any::<bool>()), 0..60),
        packets in prop::collection::vec((0u32..64, 0u32..64, 80u16..83), 1..20),
    ) {
        let mut text = String::from("create a hash:net,port,net family inet\n");
        for (first, port, second, nomatch) in &members {
            let flag = if *nomatch { " nomatch" } else { "" };
            text.push_str(&format!("add a {first},tcp:{port},{second}{flag}\n"));
        }
        let table = table(&text);
        let sets = IpSets::from_table(&table);
        for (src, dst, port) in packets {
            let (src, dst) = (Ipv4Addr::from(0x0a00_0000 + src), Ipv4Addr::from(0x0a00_0000 + dst));
            let mut best: Option<(u8, u8, bool)> = None;
            for &(first, p, second, nomatch) in &members {
                let longer = best.is_none_or(|(a, b, _)| (first.prefix_len(), second.prefix_len()) > (a, b));
                if first.contains(&src) && p == port && second.contains(&dst) && longer {
                    best = Some((first.prefix_len(), second.prefix_len(), nomatch));
                }
            }
            let packet = tcp(&src.to_string(), &dst.to_string(), port);
            let answer = sets.test("a", &query(&packet, &[Side::Src, Side::Dst, Side::Dst]));
            prop_assert_eq!(answer.matched, Tri::from(best.is_some_and(|(.., nomatch)| !nomatch)));
        }
    }

    #[test]
    fn never_panics(
        kind in "(bitmap|hash|list):(ip|net|mac|port|mark|iface|set)(,(ip|net|mac|port|mark|iface)){0,2}",
        options in "( (family (inet6?|x)|netmask [0-9]{1,3}|bitmask [0-9a-f.:]{0,12}|markmask [0-9a-fx]{1,9}|counters|range 1-2)){0,3}",
        members in prop::collection::vec("[0-9a-fx.:/,-]{0,24}( (nomatch|wildcard|timeout [0-9]{0,2}|before|after b|comment))?", 0..8),
        v6 in any::<bool>(),
        number in any::<u8>(),
        sides in prop::collection::vec(any::<bool>(), 0..7),
    ) {
        let mut text = format!("create a {kind}{options}\n");
        members.iter().for_each(|member| text.push_str(&format!("add a {member}\n")));
        let table = table(&text);
        let sets = IpSets::from_table(&table);
        let addr: IpAddr = if v6 { "fd00::1" } else { "10.0.0.1" }.parse().expect("an address");
        let packet = Packet { proto: number, dst: addr, src: addr, ..tcp("1.1.1.1", "10.0.0.1", 80) };
        let dirs: Vec<Side> = sides.iter().map(|s| if *s { Side::Src } else { Side::Dst }).collect();
        let answer = sets.test("a", &query(&packet, &dirs));
        prop_assert_eq!(answer.matched == Tri::Unknown, answer.doubt.is_some());
        let _ = answer.evidence();
    }

    #[test]
    fn every_prefix_of_a_range_lies_in_it(first in any::<u32>(), length in 0u32..5000) {
        let last = first.saturating_add(length);
        let entry = format!("{}-{}", Ipv4Addr::from(first), Ipv4Addr::from(last));
        let shape = entry::Shape {
            fields: &[kind::Field::Net],
            family: knet_snapshot::id::Family::V4,
            mask: u128::MAX,
            markmask: u32::MAX,
        };
        let (keys, _) = entry::parse(&entry, &shape).expect("a short range");
        let mut next = u128::from(first);
        for key in keys {
            prop_assert_eq!(key.addr[0], next);
            next += 1u128 << (32 - key.len[0]);
        }
        prop_assert_eq!(next, u128::from(last) + 1);
    }
}
