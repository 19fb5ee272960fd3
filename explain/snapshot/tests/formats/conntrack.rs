use knet_snapshot::conntrack::{Connection, Tuple, parse};
use knet_snapshot::id::{Family, Zone};

use crate::{one, path};

fn single(line: &str) -> Connection {
    one(Ok(parse(path("conntrack.txt"), format!("{line}\n").as_bytes())))
}

fn tuple(src: &str, dst: &str, sport: u16, dport: u16) -> Tuple {
    Tuple {
        src: src.parse().unwrap(),
        dst: dst.parse().unwrap(),
        sport,
        dport,
    }
}

#[test]
fn a_translated_connection() {
    let c = single(
        "ipv4     2 tcp      6 117 TIME_WAIT src=192.168.56.13 dst=192.168.56.11 sport=61183 dport=30082 src=10.244.0.6 dst=10.244.0.1 sport=8080 dport=27639 [ASSURED] mark=0 use=1",
    );
    assert_eq!(
        (c.family, c.proto, c.timeout, c.state.as_deref()),
        (Family::V4, 6, Some(117), Some("TIME_WAIT"))
    );
    assert_eq!(c.orig, tuple("192.168.56.13", "192.168.56.11", 61183, 30082));
    assert_eq!(c.reply, tuple("10.244.0.6", "10.244.0.1", 8080, 27639));
    assert!(c.assured && !c.unreplied);
}

#[test]
fn without_the_family_in_front() {
    let c = single(
        "udp      17 99 src=10.0.0.1 dst=10.0.0.2 sport=3 dport=2 [UNREPLIED] src=10.0.0.2 dst=10.0.0.1 sport=2 dport=3 zone-reply=4 mark=0 use=1",
    );
    assert_eq!((c.proto, c.timeout, c.state), (17, Some(99), None));
    assert!(c.unreplied);
    assert_eq!((c.zone, c.zone_orig, c.zone_reply), (Zone(0), None, Some(Zone(4))));
}

#[test]
fn icmp_in_place_of_ports() {
    let c = single(
        "icmp     1 99 src=10.0.0.1 dst=10.0.0.2 type=8 code=0 id=77 [UNREPLIED] src=10.0.0.2 dst=10.0.0.1 type=0 code=0 id=77 mark=0 use=1 id=645040946",
    );
    assert_eq!((c.orig.sport, c.orig.dport), (77, 8 << 8));
    assert_eq!((c.reply.sport, c.reply.dport), (77, 0));
    let c = single(
        "ipv6     10 icmpv6   58 29 src=fd00::1 dst=fd00::2 type=128 code=3 id=5 [UNREPLIED] src=fd00::2 dst=fd00::1 type=129 code=0 id=5 mark=0 use=1",
    );
    assert_eq!((c.family, c.proto, c.orig.dport), (Family::V6, 58, 128 << 8 | 3));
}

#[test]
fn protocols_without_ports() {
    let gre = single(
        "ipv4     2 gre      47 99 timeout=0, stream_timeout=0 src=10.0.0.1 dst=10.0.0.2 srckey=0x5 dstkey=0x6 [UNREPLIED] src=10.0.0.2 dst=10.0.0.1 srckey=0x6 dstkey=0x5 mark=0 zone=0 use=2",
    );
    assert_eq!((gre.proto, gre.orig.sport, gre.orig.dport, gre.state), (47, 5, 6, None));
    let esp = single(
        "ipv4     2 unknown  50 99 src=10.0.0.1 dst=10.0.0.2 [UNREPLIED] src=10.0.0.2 dst=10.0.0.1 mark=0 zone=0 use=2",
    );
    assert_eq!((esp.proto, esp.orig.sport), (50, 0));
}

#[test]
fn offloaded_accounted_and_marked() {
    let c = single(
        "ipv4     2 tcp      6 src=10.244.0.5 dst=10.96.0.1 sport=40000 dport=443 src=10.0.0.9 dst=10.0.0.1 sport=6443 dport=12345 [OFFLOAD] mark=0 zone=0 use=3",
    );
    assert_eq!((c.timeout, c.state, c.assured), (None, None, false));
    let c = single(
        "ipv4     2 tcp      6 431999 ESTABLISHED src=10.0.0.1 dst=10.0.0.2 sport=21 dport=22 packets=5 bytes=300 src=10.0.0.2 dst=10.0.0.1 sport=22 dport=21 packets=4 bytes=200 [ASSURED] mark=0x4000 secctx=a:b:c zone=5 zone-orig=7 helper=ftp use=2",
    );
    assert_eq!(
        (c.mark, c.zone, c.zone_orig, c.helper.as_deref()),
        (0x4000, Zone(5), Some(Zone(7)), Some("ftp"))
    );
}

#[test]
fn half_a_connection_is_none() {
    let table = parse(
        path("conntrack.txt"),
        b"tcp 6 9 CLOSE src=10.0.0.1 dst=10.0.0.2 sport=1 dport=2\ntcp 6 9 CLOSE src=10.0.0.1 dst=10.0.0.2 sport=1 dport=70000 src=10.0.0.2 dst=10.0.0.1\nconntrack v1.4.7 (conntrack-tools): 7 flow entries have been shown.\n",
    );
    assert_eq!((table.rows.len(), table.problems.len()), (0, 2));
}
