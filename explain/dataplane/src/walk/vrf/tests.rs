//! A node with a device in a VRF, and a route into it.

use crate::trace::{Branch, ClientSees, Hook, Outcome, Reason, What};
use crate::walk::lab;

const LINKS: &str = r#"[
 {"ifindex":1,"ifname":"lo","flags":["LOOPBACK","UP","LOWER_UP"],"mtu":65536,"operstate":"UNKNOWN","link_type":"loopback"},
 {"ifindex":2,"ifname":"eth0","flags":["BROADCAST","UP","LOWER_UP"],"mtu":1500,"operstate":"UP","link_type":"ether","address":"02:00:00:00:00:02"},
 {"ifindex":3,"ifname":"eth1","flags":["BROADCAST","UP","LOWER_UP"],"mtu":1500,"operstate":"UP","link_type":"ether","address":"02:00:00:00:00:03","master":"red"},
 {"ifindex":4,"ifname":"red","flags":["NOARP","MASTER","UP","LOWER_UP"],"mtu":65575,"operstate":"UP","link_type":"ether","address":"02:00:00:00:00:04","linkinfo":{"info_kind":"vrf","info_data":{"table":10}}}]"#;
const ADDRS: &str = r#"[
 {"ifindex":1,"ifname":"lo","addr_info":[{"family":"inet","local":"127.0.0.1","prefixlen":8,"scope":"host"}]},
 {"ifindex":2,"ifname":"eth0","addr_info":[{"family":"inet","local":"192.168.0.7","prefixlen":24,"scope":"global"}]},
 {"ifindex":3,"ifname":"eth1","addr_info":[{"family":"inet","local":"10.9.0.7","prefixlen":24,"scope":"global"}]}]"#;
const ROUTES: &str = r#"[
 {"type":"unicast","dst":"10.9.0.0/24","dev":"red","protocol":"static","scope":"link","flags":[]},
 {"type":"unicast","dst":"192.168.0.0/24","dev":"eth0","protocol":"kernel","scope":"link","prefsrc":"192.168.0.7","flags":[]},
 {"type":"local","dst":"192.168.0.7","dev":"eth0","table":"local","protocol":"kernel","scope":"host","prefsrc":"192.168.0.7","flags":[]},
 {"type":"unicast","dst":"10.9.0.0/24","dev":"eth1","table":"10","protocol":"kernel","scope":"link","prefsrc":"10.9.0.7","flags":[]},
 {"type":"local","dst":"10.9.0.7","dev":"eth1","table":"10","protocol":"kernel","scope":"host","prefsrc":"10.9.0.7","flags":[]}]"#;
const RULES: &str = r#"[
 {"priority":0,"src":"all","table":"local"},
 {"priority":1000,"src":"all","l3mdev":null},
 {"priority":32766,"src":"all","table":"main"},
 {"priority":32767,"src":"all","table":"default"}]"#;

fn sent(dst: &str, rules: &str) -> Branch {
    accepting(0, dst, rules)
}

/// The same, with this value of the sysctl for sockets that are bound to no device.
fn accepting(udp_l3mdev_accept: u8, dst: &str, rules: &str) -> Branch {
    let sysctl = format!("net.ipv4.udp_l3mdev_accept = {udp_l3mdev_accept}\n");
    let save = format!("*mangle\n:OUTPUT ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n{rules}\nCOMMIT\n");
    lab::sent(
        dst,
        &[
            ("link.json", LINKS),
            ("addr.json", ADDRS),
            ("route.json", ROUTES),
            ("rule.json", RULES),
            ("iptables-nft.save", &save),
            ("sysctl.txt", &sysctl),
        ],
    )
}

#[test]
fn a_route_into_a_vrf_is_followed_by_one_of_its_own() {
    let branch = sent("10.9.0.1", "");
    assert_eq!(branch.end.outcome, Outcome::LeavesCluster);
    let steps = branch.hops.iter().flat_map(|h| &h.steps);
    let mut ways: Vec<_> = steps
        .filter_map(|s| match s.what {
            What::Route { oif, .. } => oif.map(|dev| dev.0),
            _ => None,
        })
        .collect();
    // Where there are rules of somebody's own, a program's first route is looked up again with its source.
    ways.dedup();
    assert_eq!(ways, [4, 3]);
}

#[test]
fn the_hooks_see_a_packet_leave_by_the_vrf_and_by_its_port() {
    for hook in [Hook::Output, Hook::Postrouting] {
        let chain = if hook == Hook::Output { "OUTPUT" } else { "POSTROUTING" };
        for dev in ["red", "eth1"] {
            let branch = sent("10.9.0.1", &format!("-A {chain} -o {dev} -j DROP"));
            assert_eq!(branch.end.reason, Reason::Rule, "{chain} {dev}");
        }
    }
    assert_eq!(
        sent("10.9.0.1", "-A OUTPUT -o eth0 -j DROP").end.outcome,
        Outcome::LeavesCluster
    );
}

#[test]
fn an_address_in_a_vrf_is_not_one_of_a_program_outside() {
    // Over the VRF and back, where no socket is; the error comes through the VRF too.
    for (accept, sees) in [(0, ClientSees::Timeout), (1, ClientSees::Refused)] {
        let branch = accepting(accept, "10.9.0.7", "");
        assert_eq!(
            (branch.end.outcome, branch.end.reason),
            (Outcome::NoListener, Reason::NoListener)
        );
        assert_eq!(branch.client_sees, sees);
    }
    assert_eq!(
        sent("192.168.0.9", "-A OUTPUT -o red -j DROP").end.outcome,
        Outcome::LeavesCluster
    );
}
