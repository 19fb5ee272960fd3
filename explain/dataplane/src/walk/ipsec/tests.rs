//! A node that sends into an xfrm device.

use crate::packet::proto;
use crate::trace::{Branch, ClientSees, Outcome, Reason};
use crate::walk::lab;

const LINKS: &str = r#"[
 {"ifindex":1,"ifname":"lo","flags":["LOOPBACK","UP","LOWER_UP"],"mtu":65536,"operstate":"UNKNOWN","link_type":"loopback"},
 {"ifindex":2,"ifname":"eth0","flags":["BROADCAST","UP","LOWER_UP"],"mtu":1500,"operstate":"UP","link_type":"ether","address":"02:00:00:00:00:02"},
 {"ifindex":3,"link":"eth0","ifname":"ipsec0","flags":["NOARP","UP","LOWER_UP"],"mtu":1400,"operstate":"UNKNOWN","link_type":"none","linkinfo":{"info_kind":"xfrm","info_data":{"if_id":"0x2a"}}}]"#;
const ADDRS: &str = r#"[
 {"ifindex":1,"ifname":"lo","addr_info":[{"family":"inet","local":"127.0.0.1","prefixlen":8,"scope":"host"}]},
 {"ifindex":2,"ifname":"eth0","addr_info":[{"family":"inet","local":"192.168.0.7","prefixlen":24,"scope":"global"}]}]"#;
const ROUTES: &str = r#"[
 {"type":"unicast","dst":"10.9.0.0/24","dev":"ipsec0","protocol":"static","scope":"link","flags":[]},
 {"type":"unicast","dst":"192.168.0.0/24","dev":"eth0","protocol":"kernel","scope":"link","prefsrc":"192.168.0.7","flags":[]},
 {"type":"local","dst":"192.168.0.7","dev":"eth0","table":"local","protocol":"kernel","scope":"host","prefsrc":"192.168.0.7","flags":[]}]"#;
const RULES: &str = r#"[
 {"priority":0,"src":"all","table":"local"},
 {"priority":5,"src":"all","fwmark":"0x9","action":"prohibit"},
 {"priority":32766,"src":"all","table":"main"},
 {"priority":32767,"src":"all","table":"default"}]"#;
const POLICY: &str = "src 0.0.0.0/0 dst 0.0.0.0/0 \n\tdir out priority 0 ptype main \n\
    \ttmpl src 192.168.0.7 dst 192.168.0.8\n\t\tproto esp reqid 1 mode tunnel\n\tif_id 0x2a\n";
const STATE: &str = "src 192.168.0.7 dst 192.168.0.8\n\tproto esp spi 0x00000100 reqid 1 mode tunnel\n\
    \treplay-window 0 \n\tif_id 0x2a\n";

fn sent(xfrm: &str) -> Branch {
    lab::sent(
        "10.9.0.1",
        &[
            ("link.json", LINKS),
            ("addr.json", ADDRS),
            ("route.json", ROUTES),
            ("rule.json", RULES),
            ("xfrm.txt", xfrm),
        ],
    )
}

#[test]
fn policy_and_state_of_its_number_seal_what_the_device_is_given() {
    let branch = sent(&format!("{POLICY}{STATE}"));
    let packet = &branch.end.packet;
    assert_eq!(branch.end.outcome, Outcome::LeavesCluster);
    assert_eq!((packet.proto, packet.dst), (proto::ESP, [192, 168, 0, 8].into()));
}

#[test]
fn without_them_the_sender_hears_that_the_host_cannot_be_reached() {
    let other = STATE.replace("0x2a", "0x2b");
    for xfrm in [String::new(), POLICY.to_owned(), format!("{POLICY}{other}")] {
        let branch = sent(&xfrm);
        assert_eq!(
            (branch.end.outcome, branch.end.reason),
            (Outcome::Dropped, Reason::NoTunnelRemote),
            "{xfrm}"
        );
        // A datagram's socket is not told of an unreachable host.
        assert_eq!(branch.client_sees, ClientSees::Timeout, "{xfrm}");
    }
}

#[test]
fn what_is_sealed_is_routed_by_the_mark_of_its_state_alone() {
    let marked = format!("{POLICY}{STATE}\toutput-mark 0x9\n");
    assert_eq!(sent(&marked).end.reason, Reason::ProhibitRoute);
}

#[test]
fn a_state_is_for_the_packets_of_its_selector() {
    let selected = |to: &str| sent(&format!("{POLICY}{STATE}\tsel src 0.0.0.0/0 dst {to} \n"));
    assert_eq!(selected("10.9.0.0/16").end.packet.proto, proto::ESP);
    assert_eq!(selected("10.8.0.0/16").end.reason, Reason::NoTunnelRemote);
    assert_eq!(
        selected("10.9.0.0/16 proto udp").end.outcome,
        Outcome::Unknown,
        "ports are not read"
    );
}
