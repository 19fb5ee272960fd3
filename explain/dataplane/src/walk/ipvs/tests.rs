//! A node that connects to a virtual service of its own.

use crate::trace::{Branch, ClientSees, IpvsBy, Outcome, Reason, Trace, What};
use crate::walk::lab::{First, Lab};

const LINKS: &str = r#"[
 {"ifindex":1,"ifname":"lo","flags":["LOOPBACK","UP","LOWER_UP"],"mtu":65536,"operstate":"UNKNOWN","link_type":"loopback"},
 {"ifindex":2,"ifname":"eth0","flags":["BROADCAST","UP","LOWER_UP"],"mtu":1500,"operstate":"UP","link_type":"ether","address":"02:00:00:00:00:02"},
 {"ifindex":3,"ifname":"kube-ipvs0","flags":["BROADCAST","NOARP"],"mtu":1500,"operstate":"DOWN","link_type":"ether","address":"02:00:00:00:00:03","linkinfo":{"info_kind":"dummy"}}]"#;
const ADDRS: &str = r#"[
 {"ifindex":1,"ifname":"lo","addr_info":[{"family":"inet","local":"127.0.0.1","prefixlen":8,"scope":"host"}]},
 {"ifindex":2,"ifname":"eth0","addr_info":[{"family":"inet","local":"192.168.0.7","prefixlen":24,"scope":"global"}]},
 {"ifindex":3,"ifname":"kube-ipvs0","addr_info":[{"family":"inet","local":"10.96.0.1","prefixlen":32,"scope":"global"}]}]"#;
const ROUTES: &str = r#"[
 {"type":"unicast","dst":"192.168.0.0/24","dev":"eth0","protocol":"kernel","scope":"link","prefsrc":"192.168.0.7","flags":[]},
 {"type":"unicast","dst":"10.244.0.0/16","gateway":"192.168.0.9","dev":"eth0","protocol":"static","flags":[]},
 {"type":"local","dst":"192.168.0.7","dev":"eth0","table":"local","protocol":"kernel","scope":"host","prefsrc":"192.168.0.7","flags":[]},
 {"type":"local","dst":"10.96.0.1","dev":"kube-ipvs0","table":"local","protocol":"kernel","scope":"host","prefsrc":"10.96.0.1","flags":[]}]"#;
const SYSCTL: &str = "net.ipv4.vs.conntrack = 1\n";

/// What becomes of a SYN of the node to 10.96.0.1:443.
fn sent(ipvs: Option<&str>, connections: &str) -> Trace {
    filtered("", ipvs, connections)
}

/// The same under rules.
fn filtered(rules: &str, ipvs: Option<&str>, connections: &str) -> Trace {
    let tables = [
        ("link.json", LINKS),
        ("addr.json", ADDRS),
        ("route.json", ROUTES),
        ("iptables-nft.save", rules),
        ("sysctl.txt", SYSCTL),
        ("ipvs-conn.txt", connections),
    ];
    let lab = Lab::default().space("n/host", tables);
    let lab = match ipvs {
        Some(text) => lab.file("nodes/n/host/ipvs.save", text),
        None => lab,
    };
    lab.send(0, "10.96.0.1", First::Syn(443))
}

fn servers(trace: &Trace) -> Vec<String> {
    let mut all: Vec<String> = trace.branches.iter().map(|b| b.end.packet.dst.to_string()).collect();
    all.sort();
    all.dedup();
    all
}

fn picked(branch: &Branch) -> Option<IpvsBy> {
    let mut steps = branch.hops.iter().flat_map(|h| &h.steps);
    steps.find_map(|s| match s.what {
        What::Ipvs { by, .. } => Some(by),
        _ => None,
    })
}

const TWO: &str = "-A -t 10.96.0.1:443 -s rr\n-a -t 10.96.0.1:443 -r 10.244.1.5:6443 -m -w 1\n\
                   -a -t 10.96.0.1:443 -r 10.244.2.5:6443 -m -w 1\n";

#[test]
fn every_real_server_of_a_service_may_get_the_packet() {
    let trace = sent(Some(TWO), "");
    assert_eq!(servers(&trace), ["10.244.1.5", "10.244.2.5"]);
    assert!(
        trace
            .branches
            .iter()
            .all(|b| b.end.packet.dport().map(|p| p.value) == Some(6443))
    );
    assert!(
        trace.branches.iter().all(|b| b.end.packet.ttl == 63),
        "IPVS decrements the TTL"
    );
    assert!(trace.branches.iter().all(|b| picked(b) == Some(IpvsBy::Scheduler)));
}

#[test]
fn weight_zero_takes_nothing_new() {
    let trace = sent(Some(&TWO.replacen("-w 1", "-w 0", 1)), "");
    assert_eq!(servers(&trace), ["10.244.2.5"]);
}

#[test]
fn a_service_without_servers_refuses() {
    let trace = sent(Some("-A -t 10.96.0.1:443 -s rr\n"), "");
    let [branch] = &trace.branches[..] else {
        panic!("{:?}", trace.branches)
    };
    assert_eq!(
        (branch.end.outcome, branch.end.reason),
        (Outcome::Rejected, Reason::NoRealServer)
    );
    assert_eq!(branch.client_sees, ClientSees::Refused);
    assert_eq!(&*branch.end.evidence[0].text, "-A -t 10.96.0.1:443 -s rr");
}

#[test]
fn the_hash_of_sh_may_lead_to_a_server_of_weight_zero() {
    // Sorted as ipvsadm does: which server came first is not known, nor which of them the hash leads to.
    let trace = sent(Some(&TWO.replacen("rr", "sh", 1).replacen("-w 1", "-w 0", 1)), "");
    assert!(trace.branches.iter().any(|b| b.end.reason == Reason::NoRealServer));
    assert!(
        trace
            .branches
            .iter()
            .any(|b| b.end.packet.dst.to_string() == "10.244.2.5")
    );
}

#[test]
fn a_template_keeps_the_client_with_its_server() {
    // 10.96.0.1 is the node's own source: the route to the address is local.
    let template = "TCP 0A600001 0000 0A600001 01BB 0AF40205 192B NONE        500\n";
    let trace = sent(Some(&TWO.replacen("-s rr", "-s rr -p 600", 1)), template);
    assert_eq!(servers(&trace), ["10.244.2.5"]);
    assert!(trace.branches.iter().all(|b| picked(b) == Some(IpvsBy::Template)));
}

#[test]
fn services_nobody_captured_are_not_taken_for_none() {
    let trace = sent(None, "");
    assert!(
        trace.branches.iter().any(|b| b.end.outcome == Outcome::Unknown),
        "{:?}",
        trace.branches
    );
}

#[test]
fn a_rule_may_ask_for_the_virtual_service_of_a_packet_on_its_way_to_a_server() {
    let drops = |asked: &str| {
        let rules = format!("*filter\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -m ipvs {asked} -j DROP\nCOMMIT\n");
        let trace = filtered(&rules, Some(TWO), "");
        trace.branches.iter().all(|b| b.end.reason == Reason::Rule)
    };
    // As kube-proxy writes it for source ranges that leave the node out.
    assert!(drops("--vproto 6 --vaddr 10.96.0.1/32 --vport 443"));
    assert!(drops("--ipvs"));
    assert!(drops("--vmethod MASQ --vdir ORIGINAL"));
    for other in [
        "--vproto 17",
        "--vaddr 10.96.0.2",
        "! --vaddr 10.96.0.0/24",
        "! --vport 443",
        "--vdir REPLY",
        "--vmethod GATE",
        "--vportctl 21",
        "! --ipvs",
    ] {
        assert!(!drops(other), "{other}");
    }
}
