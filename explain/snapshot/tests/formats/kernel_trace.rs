//! Recordings of the kernel's trace, made with nft 1.0.6, iptables 1.8.9 and Linux 6.18.

use super::sample;
use knet_snapshot::kernel_trace::{EventKind, Form, KernelTrace, TableFamily, TraceVerdict, TracedPacket, parse};

fn one(bytes: &[u8]) -> TracedPacket {
    let mut trace = parse(bytes);
    assert_eq!(trace.unread, [], "every line is understood");
    assert_eq!(trace.packets.len(), 1);
    trace.packets.remove(0)
}

/// `chain verdict` of every event.
fn way(packet: &TracedPacket) -> Vec<String> {
    let name = |v: &Option<TraceVerdict>| v.as_ref().map_or(String::new(), |v| format!("{v:?}"));
    let say = |e: &knet_snapshot::kernel_trace::Event| match &e.what {
        EventKind::Rule {
            handle,
            number,
            verdict,
            ..
        } => format!(
            "{}/{} {} {}",
            e.table,
            e.chain,
            handle.or(*number).unwrap_or_default(),
            name(verdict)
        ),
        EventKind::Policy { verdict, .. } => format!("{}/{} policy {}", e.table, e.chain, name(verdict)),
        EventKind::Return => format!("{}/{} end", e.table, e.chain),
    };
    packet.events.iter().map(say).collect()
}

#[test]
fn nft_with_handles() {
    let packet = one(sample!("kernel-trace/nft.txt"));
    let header = packet.header.clone().unwrap();
    assert_eq!(header.iif.as_deref(), Some("c0"));
    assert_eq!(header.oif, None);
    assert_eq!(
        (header.proto, header.sport, header.dport),
        (Some(6), Some(60084), Some(80))
    );
    assert_eq!(
        (header.flags, header.ident, header.len),
        (Some(2), Some(64143), Some(60))
    );
    assert_eq!(
        way(&packet),
        [
            "knet_trace/pre 2 Continue",
            "knet_trace/pre policy Accept",
            "kube/pre 6 Continue",
            "kube/pre 7 Jump(\"services\")",
            "kube/services 8 Goto(\"svc-a\")",
            "kube/svc-a 10 Accept",
            "filt/front 5 Jump(\"app\")",
            "filt/app 7 Continue",
            "filt/app 8 Continue",
            "filt/app 9 Return",
            "filt/front policy Drop",
        ]
    );
    // The packet as it comes into each base chain.
    let last = packet.events.last().unwrap();
    let header = last.header.clone().unwrap();
    assert_eq!(
        (header.dst.to_string(), header.dport),
        ("10.2.0.2".to_owned(), Some(8080))
    );
    assert_eq!(header.oif.as_deref(), Some("s0"));
    assert_eq!((last.form, last.family, last.run), (Form::Nft, TableFamily::Inet, 3));
    let EventKind::Rule { rule, .. } = &packet.events[5].what else {
        panic!("a rule")
    };
    assert_eq!(
        rule.as_deref(),
        Some("counter packets 0 bytes 0 meta l4proto tcp dnat to 10.2.0.2:8080 comment \"to ep\"")
    );
}

#[test]
fn xtables_monitor() {
    let packet = one(sample!("kernel-trace/xtables.txt"));
    let header = packet.header.clone().unwrap();
    assert_eq!(
        (header.proto, header.sport, header.flags),
        (Some(6), Some(40884), Some(2))
    );
    assert_eq!(
        way(&packet),
        [
            "raw/PREROUTING 2 Continue",
            "raw/PREROUTING policy Accept",
            "nat/PREROUTING 8 Jump(\"KUBE-SERVICES\")",
            "nat/KUBE-SERVICES 10 Jump(\"KUBE-SVC\")",
            "nat/KUBE-SVC 12 Goto(\"KUBE-SEP\")",
            "nat/KUBE-SEP 14 Accept",
            "mangle/FORWARD 2 Continue",
            "mangle/FORWARD policy Accept",
            "native/fwd2 2 Continue",
            "native/fwd2 policy Accept",
            "filter/FORWARD 7 Jump(\"EMPTY\")",
            "filter/FORWARD 8 Jump(\"APP\")",
            // xtables-monitor has no word for a return.
            "filter/APP 11 Return",
            "filter/FORWARD 9 Drop",
        ]
    );
    let native = &packet.events[8];
    assert_eq!(native.family, TableFamily::Inet);
    assert!(matches!(&native.what, EventKind::Rule { rule: None, .. }));
    let EventKind::Rule { rule, .. } = &packet.events[3].what else {
        panic!("a rule")
    };
    assert_eq!(
        rule.as_deref(),
        Some(
            "-4 -t nat -A KUBE-SERVICES -d 10.96.0.1/32 -p tcp -m comment --comment \"a/b: x\" -m tcp --dport 80 \
             -j KUBE-SVC"
        )
    );
}

#[test]
fn kernel_log() {
    let packet = one(sample!("kernel-trace/log.txt"));
    assert!(packet.in_log());
    assert_eq!(
        way(&packet),
        [
            "raw/PREROUTING policy ",
            "mangle/PREROUTING policy ",
            "nat/PREROUTING 1 ",
            "nat/KUBE-SERVICES 2 ",
            "nat/KUBE-SVC 2 ",
            "nat/KUBE-SEP 2 ",
            "mangle/FORWARD 1 ",
            "mangle/FORWARD policy ",
            "filter/FORWARD 2 ",
            "filter/EMPTY end",
            "filter/FORWARD 3 ",
            "filter/APP 2 ",
            "filter/FORWARD 4 ",
        ]
    );
    let runs: Vec<usize> = packet.events.iter().map(|e| e.run).collect();
    assert_eq!(runs, [1, 2, 3, 3, 3, 3, 4, 4, 5, 5, 5, 5, 5]);
    assert_eq!(packet.header.clone().unwrap().flags, Some(2));
}

fn shown(trace: &KernelTrace) -> Vec<String> {
    let say = |p: &TracedPacket| {
        let h = p.header.clone().unwrap();
        let proto = h.proto.map_or("?".to_owned(), |p| p.to_string());
        format!(
            "{proto} {} {} {}",
            h.src,
            h.dst,
            h.dport.map_or("-".to_owned(), |p| p.to_string())
        )
    };
    trace.packets.iter().map(say).collect()
}

#[test]
fn many_packets_of_many_kinds() {
    let nft = parse(sample!("kernel-trace/nft-many.txt"));
    assert_eq!(nft.unread, []);
    let nft = shown(&nft);
    for wanted in [
        "17 10.1.0.2 10.1.0.1 999",
        "1 10.1.0.1 10.1.0.2 -",
        "17 fd00:1::2 fd00:1::1 999",
        "58 fd00:1::1 fd00:1::2 -",
        "6 fd00:1::2 fd00:1::1 80",
        "132 10.1.0.2 10.1.0.1 81",
        "50 10.1.0.2 10.1.0.1 -",
    ] {
        assert!(nft.iter().any(|p| p == wanted), "{wanted}: {nft:?}");
    }
    // The same packets, as the other tool prints them.
    let xtables = parse(sample!("kernel-trace/xtables-many.txt"));
    assert_eq!(xtables.unread, []);
    assert_eq!(shown(&xtables).len(), nft.len());
    let log = parse(sample!("kernel-trace/log-many.txt"));
    assert_eq!(log.unread, []);
    assert!(
        shown(&log).contains(&"17 fd00:1::2 fd00:1::1 999".to_owned()),
        "{:?}",
        shown(&log)
    );
    // A quoted packet of an ICMP error is not the packet.
    assert!(
        shown(&log).contains(&"1 10.1.0.1 10.1.0.2 -".to_owned()),
        "{:?}",
        shown(&log)
    );
}

#[test]
fn an_id_that_comes_again_is_another_packet() {
    let once = String::from_utf8(sample!("kernel-trace/nft.txt").to_vec()).unwrap();
    let again = once.replace("ip id 64143", "ip id 64144");
    let trace = parse(format!("{once}{again}").as_bytes());
    assert_eq!(trace.packets.len(), 2);
    assert_eq!(way(&trace.packets[0]), way(&trace.packets[1]));
    // Sent again with the same identification (IPv6 has none): it enters the first chain again.
    assert_eq!(parse(format!("{once}{once}").as_bytes()).packets.len(), 2);
    // Interleaved with another packet.
    let other = again.replace("8c7d821d", "11111111");
    let mixed: String = once
        .lines()
        .zip(other.lines())
        .map(|(a, b)| format!("{a}\n{b}\n"))
        .collect();
    let trace = parse(mixed.as_bytes());
    assert_eq!(trace.packets.len(), 2);
    assert_eq!(way(&trace.packets[0]), way(&trace.packets[1]));
}

#[test]
fn a_packet_that_gets_another_id_is_one_packet() {
    // A bridge hands the packet on: another device it came in by, and so another id.
    let text = String::from_utf8(sample!("kernel-trace/nft.txt").to_vec()).unwrap();
    let (first, second): (Vec<&str>, Vec<&str>) = text.lines().partition(|l| !l.contains("inet filt"));
    let text = format!(
        "{}\n{}\n",
        first.join("\n"),
        second.join("\n").replace("8c7d821d", "22222222")
    );
    let packet = one(text.as_bytes());
    assert_eq!(packet.events.len(), 11);
    assert_eq!(packet.events.last().unwrap().run, 3);
}

#[test]
fn what_newer_and_older_tools_print() {
    let trace = parse(
        b"trace id 00000020 inet t PRE_MANGLE conntrack: ct direction original ct state new ct id 2641368242\n\
          trace id 00000020 inet t PRE_MANGLE packet: iif \"enp0s3\" ip saddr 10.0.0.1 ip daddr 10.0.0.2 ip ttl 64 \
          ip id 7 ip length 84 icmp type echo-request icmp code 0 icmp id 5 icmp sequence 1\n\
          trace id 00000020 inet t PRE_MANGLE unknown rule handle 9 (verdict jump x)\n\
          trace id 00000020 inet t x verdict continue\n\
          trace id 00000020 inet t PRE_MANGLE policy accept meta mark 0x00000001\n\
          something else\n\n",
    );
    assert_eq!((trace.remarks, trace.unread_count), (1, 1));
    assert_eq!((trace.unread[0].line, &*trace.unread[0].text), (6, "something else"));
    assert_eq!(trace.packets[0].header.clone().unwrap().icmp, Some(8));
    assert_eq!(
        way(&trace.packets[0]),
        ["t/PRE_MANGLE 9 Jump(\"x\")", "t/x end", "t/PRE_MANGLE policy Accept"]
    );
    // From the manual of xtables-monitor: `ID=38349DF`.
    let trace = parse(
        b"PACKET: 2 fc475095 IN=lo LL=0x304 0000000000000000000000000800 SRC=127.0.0.1 DST=127.0.0.1 LEN=84 TOS=0x0 \
          TTL=64 ID=38349DF\n TRACE: 2 fc475095 filter:INPUT:return:\n TRACE: 2 fc475095 filter:INPUT:policy:DROP \n",
    );
    assert_eq!(trace.unread, []);
    assert_eq!(trace.packets[0].header.clone().unwrap().ident, Some(38349));
    assert_eq!(way(&trace.packets[0]), ["filter/INPUT end", "filter/INPUT policy Drop"]);
}

#[test]
fn a_rule_on_several_lines() {
    let trace = parse(
        b"trace id 01 ip t c packet: iif \"a\" ip saddr 10.0.0.1 ip daddr 10.0.0.2 ip id 7 ip length 84 udp dport 53\n\
          trace id 01 ip t c rule dnat ip to numgen random mod 2 map { 0 : 10.0.0.3 . 53,\n\
          \t\t\t1 : 10.0.0.4 . 53 } # handle 7 (verdict accept)\n",
    );
    assert_eq!(trace.unread, []);
    assert_eq!(way(&trace.packets[0]), ["t/c 7 Accept"]);
}
