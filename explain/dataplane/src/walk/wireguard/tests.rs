//! Two nodes and a tunnel between them: A sends to B.

use crate::trace::{Branch, ClientSees, NsId, Outcome, Reason, Trace};
use crate::walk::lab::{First, Lab, only};

/// 1,795,355,002 seconds since 1970.
const MANIFEST: &str = r#"{"schema":"knet.snapshot/v1","window":{"end":"2026-11-22T13:43:22Z"}}"#;
const OPEN: &str = "";
/// Nothing comes in but answers.
const ANSWERS: &str = "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT\n\
    -A INPUT -i eth0 -p udp -j DROP\nCOMMIT\n";
const CLOSED: &str = "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -i eth0 -p udp -j DROP\nCOMMIT\n";
/// Somebody's program decides.
const QUEUED: &str = "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -i eth0 -p udp -j NFQUEUE\nCOMMIT\n";
const OFF: &str = "off";
const NEVER: &str = "0";

/// What differs between the nodes: what they let in, and what they say of the other.
#[derive(Clone, Copy)]
struct Node {
    input: &'static str,
    handshake: &'static str,
    keepalive: &'static str,
    endpoint: bool,
    conntrack: &'static str,
}

const PLAIN: Node = Node {
    input: OPEN,
    handshake: NEVER,
    keepalive: OFF,
    endpoint: true,
    conntrack: "",
};

const fn behind(input: &'static str) -> Node {
    Node { input, ..PLAIN }
}

fn node(lab: Lab, name: char, own: u8, other: u8, node: Node) -> Lab {
    let key = |n: u8| format!("KEY{n}=");
    let endpoint = if node.endpoint {
        format!("192.168.0.{other}:51820")
    } else {
        "(none)".to_owned()
    };
    let texts = [
        (
            "link.json",
            format!(
                r#"[
 {{"ifindex":1,"ifname":"lo","flags":["LOOPBACK","UP","LOWER_UP"],"mtu":65536,"operstate":"UNKNOWN","link_type":"loopback"}},
 {{"ifindex":2,"ifname":"eth0","flags":["BROADCAST","UP","LOWER_UP"],"mtu":1500,"operstate":"UP","link_type":"ether","address":"02:00:00:00:00:0{own}"}},
 {{"ifindex":3,"ifname":"wg0","flags":["POINTOPOINT","NOARP","UP","LOWER_UP"],"mtu":1420,"operstate":"UNKNOWN","link_type":"none","linkinfo":{{"info_kind":"wireguard"}}}}]"#
            ),
        ),
        (
            "addr.json",
            format!(
                r#"[
 {{"ifindex":2,"ifname":"eth0","addr_info":[{{"family":"inet","local":"192.168.0.{own}","prefixlen":24,"scope":"global"}}]}},
 {{"ifindex":3,"ifname":"wg0","addr_info":[{{"family":"inet","local":"10.9.0.{own}","prefixlen":24,"scope":"global"}}]}}]"#
            ),
        ),
        (
            "route.json",
            format!(
                r#"[
 {{"type":"unicast","dst":"10.9.0.0/24","dev":"wg0","protocol":"kernel","scope":"link","prefsrc":"10.9.0.{own}","flags":[]}},
 {{"type":"unicast","dst":"192.168.0.0/24","dev":"eth0","protocol":"kernel","scope":"link","prefsrc":"192.168.0.{own}","flags":[]}},
 {{"type":"local","dst":"10.9.0.{own}","dev":"wg0","table":"local","protocol":"kernel","scope":"host","prefsrc":"10.9.0.{own}","flags":[]}},
 {{"type":"local","dst":"192.168.0.{own}","dev":"eth0","table":"local","protocol":"kernel","scope":"host","prefsrc":"192.168.0.{own}","flags":[]}}]"#
            ),
        ),
        (
            "rule.json",
            r#"[
 {"priority":0,"src":"all","table":"local"},
 {"priority":32766,"src":"all","table":"main"},
 {"priority":32767,"src":"all","table":"default"}]"#
                .to_owned(),
        ),
        (
            "neigh.json",
            format!(
                r#"[{{"dst":"192.168.0.{other}","dev":"eth0","lladdr":"02:00:00:00:00:0{other}","state":["PERMANENT"]}}]"#
            ),
        ),
        (
            "wg.txt",
            format!(
                "wg0\t(hidden)\t{}\t51820\toff\nwg0\t{}\t(none)\t{endpoint}\t10.9.0.{other}/32\t{}\t0\t0\t{}\n",
                key(own),
                key(other),
                node.handshake,
                node.keepalive
            ),
        ),
        (
            "sockets.txt",
            "udp UNCONN 0 0 0.0.0.0:53 0.0.0.0:* users:((\"dns\",pid=7,fd=3))\n".to_owned(),
        ),
        ("iptables-legacy.save", node.input.to_owned()),
        ("conntrack.txt", node.conntrack.to_owned()),
        ("tc.json", "[]".to_owned()),
        (
            "sysctl.txt",
            "net.ipv4.ip_forward = 1\nnet.ipv4.conf.all.rp_filter = 0\n".to_owned(),
        ),
    ];
    lab.space(&format!("{name}/host"), texts)
}

fn walked(a: Node, b: Option<Node>, manifest: bool) -> Trace {
    let lab = node(Lab::default(), 'a', 7, 8, a);
    let lab = match b {
        Some(b) => node(lab, 'b', 8, 7, b),
        None => lab,
    };
    let lab = if manifest {
        lab.file("manifest.json", MANIFEST)
    } else {
        lab
    };
    lab.send(0, "10.9.0.8", First::Udp(53))
}

fn branches(a: Node, b: Option<Node>, manifest: bool) -> Vec<Branch> {
    walked(a, b, manifest).branches
}

/// What becomes of a packet from A to B.
fn sent(a: Node, b: Node) -> Branch {
    only(walked(a, Some(b), true))
}

#[track_caller]
fn answered(a: Node, b: Node) {
    let branch = sent(a, b);
    assert_eq!(branch.client_sees, ClientSees::Reply, "{branch:?}");
}

#[track_caller]
fn lost(a: Node, b: Node) -> Branch {
    let branch = sent(a, b);
    let end = &branch.end;
    assert_eq!(
        (end.outcome, end.reason),
        (Outcome::Dropped, Reason::NoTunnelSession),
        "{branch:?}"
    );
    assert_eq!((end.place.ns, branch.client_sees), (Some(NsId(0)), ClientSees::Timeout));
    assert!(branch.reply.is_none(), "nobody is told: {branch:?}");
    branch
}

#[test]
fn a_session_is_made_and_no_step_of_it_is_the_packets() {
    answered(PLAIN, PLAIN);
    let hops = sent(PLAIN, PLAIN).hops;
    let stages: Vec<_> = hops.iter().map(|hop| (hop.ns, hop.packet.len)).collect();
    assert_eq!(stages, [(NsId(0), 60), (NsId(0), 120), (NsId(1), 120), (NsId(1), 60)]);
}

#[test]
fn a_lost_response_leaves_the_packet_with_its_sender() {
    let end = lost(behind(CLOSED), PLAIN).end;
    assert!(end.evidence[0].text.contains("peer KEY8="), "{end:?}");
    assert!(end.evidence.iter().any(|row| row.text.contains("-j DROP")), "{end:?}");
}

#[test]
fn so_does_a_lost_initiation() {
    let end = lost(PLAIN, behind(CLOSED)).end;
    let drops = end.evidence.iter().find(|row| row.text.contains("-j DROP"));
    assert!(drops.is_some_and(|row| row.artifact.starts_with("nodes/b/")), "{end:?}");
}

#[test]
fn where_only_answers_come_in_the_session_is_made_from_there() {
    answered(behind(ANSWERS), PLAIN);
    lost(PLAIN, behind(ANSWERS));
}

#[test]
fn a_peer_that_keeps_sessions_up_makes_them() {
    let kept = Node {
        keepalive: "25",
        ..behind(ANSWERS)
    };
    answered(PLAIN, kept);
    // Without an endpoint it waits to be asked.
    lost(
        PLAIN,
        Node {
            endpoint: false,
            ..kept
        },
    );
}

#[test]
fn a_session_outlives_its_handshake_by_three_minutes() {
    // A rule against handshakes alone, which are as long as they are.
    let strict = |handshake| Node {
        input: "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -p udp -m length --length 176 -j DROP\nCOMMIT\n",
        handshake,
        ..PLAIN
    };
    let live = Node {
        handshake: "1795354823",
        ..PLAIN
    };
    answered(live, strict("1795354823"));
    lost(
        Node {
            handshake: "1795354822",
            ..live
        },
        strict(NEVER),
    );
}

#[test]
fn a_session_whose_age_cannot_be_told_may_be_over() {
    let at_a_time = Node {
        handshake: "1795354823",
        ..PLAIN
    };
    let ends: Vec<_> = branches(at_a_time, Some(behind(ANSWERS)), false)
        .iter()
        .map(|b| (b.end.outcome, b.end.reason))
        .collect();
    assert_eq!(
        ends,
        [
            (Outcome::Dropped, Reason::Rule),
            (Outcome::Dropped, Reason::NoTunnelSession)
        ]
    );
}

#[test]
fn what_is_not_known_of_a_handshake_is_not_known_of_the_packet() {
    let end = sent(PLAIN, behind(QUEUED)).end;
    assert_eq!(
        (end.outcome, end.reason),
        (Outcome::Unknown, Reason::Userspace),
        "{end:?}"
    );
}

#[test]
fn a_peer_nobody_captured_is_out_there() {
    let ends = branches(PLAIN, None, true);
    assert!(ends.iter().all(|b| b.end.outcome == Outcome::LeavesCluster), "{ends:?}");
}

#[test]
fn the_answer_goes_where_the_peer_was_heard() {
    let silent = Node {
        endpoint: false,
        ..PLAIN
    };
    answered(PLAIN, silent);
}

#[test]
fn a_session_holds_the_connection_it_is_in() {
    let live = |node| Node {
        handshake: "1795355000",
        ..node
    };
    let known = "ipv4 2 udp 17 25 src=192.168.0.8 dst=192.168.0.7 sport=51820 dport=51820 \
        src=192.168.0.7 dst=192.168.0.8 sport=51820 dport=51820 [ASSURED] mark=0 use=1\n";
    let kept = Node {
        conntrack: known,
        ..behind(ANSWERS)
    };
    answered(live(PLAIN), live(kept));
    let end = sent(live(PLAIN), live(behind(ANSWERS))).end;
    assert_eq!((end.place.ns, end.reason), (Some(NsId(1)), Reason::Rule));
}
