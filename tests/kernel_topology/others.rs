//! Topologies of other kinds: routed pods with proxy ARP, macvlan, bridges over VXLAN, narrow links, a
//! machine with several devices on one segment.

use crate::lab::bare;
use crate::netns::Rng;
use crate::plan::{Plan, mac, nobody};

pub fn plans(rng: &mut Rng) -> Vec<Plan> {
    let faults = 1 + rng.below(2);
    let mut plans = vec![routed(rng, 0), routed(rng, faults)];
    for make in [overlay, narrow, two_devices, loops] {
        plans.push(make(rng));
    }
    plans.push(macvlan(rng, "bridge"));
    let mode = rng.pick(&["private", "vepa", "bridge"]);
    plans.push(macvlan(rng, mode));
    for plan in &mut plans {
        plan.warm = rng.one_in(3);
    }
    plans
}

/// A namespace that is not captured, with a bridge that stands for the switch.
pub fn wire(plan: &mut Plan) -> usize {
    let wire = plan.space("wire", None, false);
    plan.spaces[wire].peer = false;
    plan.ip(wire, "link add br0 type bridge");
    plan.ip(wire, "link set br0 up");
    wire
}

pub fn node(plan: &mut Plan, n: usize, wire: usize) -> usize {
    let node = plan.space(&format!("n{n}"), Some(&format!("node-{n}")), true);
    plan.veth(node, "eth0", wire, &format!("w{n}"));
    plan.ip(wire, &format!("link set w{n} master br0"));
    plan.ip(node, &format!("link set eth0 address {}", mac(0x100 + n as u64)));
    plan.addr(node, "eth0", &format!("192.168.50.{}/24", 10 + n));
    plan.addr(node, "eth0", &format!("fd50::{}/64", 10 + n));
    node
}

/// Calico: a veth to each pod, no subnet, 169.254.1.1 answered by proxy ARP.
fn routed(rng: &mut Rng, faults: u64) -> Plan {
    let mut plan = Plan::new(&format!("routed{faults}"));
    let wire = wire(&mut plan);
    let mut pods = Vec::new();
    for n in 0..2 {
        let host = node(&mut plan, n, wire);
        plan.ip(host, &format!("route add default via 192.168.50.{}", 11 - n));
        for p in 0..2 {
            let pod = plan.space(&format!("p{n}{p}"), Some(&format!("node-{n}")), false);
            let cali = format!("cali{p}");
            plan.veth(pod, "eth0", host, &cali);
            plan.ip(host, &format!("link set {cali} address ee:ee:ee:ee:ee:ee"));
            plan.addr(pod, "eth0", &format!("10.244.{n}.{}/32", 10 + p));
            plan.addr(pod, "eth0", &format!("fd44:{n}::{}/128", 10 + p));
            plan.ip(pod, "route add 169.254.1.1 dev eth0 scope link");
            plan.ip(pod, "route add default via 169.254.1.1 dev eth0");
            plan.ip(host, &format!("addr add fe80::1/64 dev {cali} nodad"));
            plan.ip(pod, "route add ::/0 via fe80::1 dev eth0");
            plan.ip(
                host,
                &format!("route add 10.244.{n}.{}/32 dev {cali} scope link", 10 + p),
            );
            plan.ip(host, &format!("route add fd44:{n}::{}/128 dev {cali}", 10 + p));
            plan.sysctl(host, &format!("net/ipv4/conf/{cali}/proxy_arp"), "1");
            plan.sysctl(host, &format!("net/ipv4/neigh/{cali}/proxy_delay"), "0");
            plan.sysctl(host, &format!("net/ipv6/neigh/{cali}/proxy_delay"), "0");
            pods.push((pod, host, n, p));
        }
        let m = 1 - n;
        plan.ip(host, &format!("route add 10.244.{m}.0/24 via 192.168.50.{}", 10 + m));
        plan.ip(host, &format!("route add fd44:{m}::/64 via fd50::{}", 10 + m));
        plan.ip(host, &format!("route add blackhole 10.244.{n}.0/24"));
    }
    plan.targets
        .extend(["10.244.0.99", "10.244.1.99", "169.254.1.1"].map(bare));
    for _ in 0..faults {
        let (pod, host, n, p) = rng.pick(&pods);
        let which = rng.below(9);
        match which {
            0 => plan.last(host, "route del default"),
            1 => plan.sysctl(host, &format!("net/ipv4/conf/cali{p}/proxy_arp"), "0"),
            2 => plan.sysctl(host, &format!("net/ipv4/conf/cali{p}/forwarding"), "0"),
            3 => plan.last(host, &format!("route del 10.244.{n}.{}/32", 10 + p)),
            4 => plan.sysctl(host, "net/ipv4/conf/all/rp_filter", "1"),
            5 => plan.last(
                pod,
                &format!(
                    "neigh replace 169.254.1.1 lladdr {} dev eth0 nud permanent",
                    nobody(rng)
                ),
            ),
            6 => plan.spaces[host].ip6tables += "*filter\n:INPUT DROP [0:0]\n-A INPUT -p tcp -j ACCEPT\nCOMMIT\n",
            7 => {
                plan.sysctl(host, "net/ipv4/conf/all/rp_filter", "1");
                plan.last(
                    host,
                    &format!("route replace 10.244.{n}.{}/32 via 192.168.50.{}", 10 + p, 11 - n),
                );
            }
            _ => plan.spaces[pod].ip6tables += "*filter\n:INPUT DROP [0:0]\n-A INPUT -p udp -j ACCEPT\nCOMMIT\n",
        }
        plan.fault(format!("routed {which} at node {n} pod {p}"));
    }
    plan
}

/// Pods with a device of their own on the node's segment.
fn macvlan(rng: &mut Rng, mode: &str) -> Plan {
    let mut plan = Plan::new(&format!("macvlan-{mode}"));
    let wire = wire(&mut plan);
    for n in 0..2 {
        let host = node(&mut plan, n, wire);
        for p in 0..2 {
            let pod = plan.space(&format!("p{n}{p}"), Some(&format!("node-{n}")), false);
            plan.ip(
                host,
                &format!(
                    "link add mv{p} link eth0 address {} type macvlan mode {mode}",
                    mac(0x1000 + (n * 16 + p) as u64)
                ),
            );
            // The device moves into the pod and gets its name there.
            plan.ip(
                host,
                &format!("link set mv{p} netns @{} name eth0", plan.spaces[pod].short),
            );
            plan.last(pod, "link set eth0 up");
            plan.last(pod, &format!("addr add 192.168.50.{}/24 dev eth0", 100 + n * 16 + p));
            plan.last(pod, &format!("addr add fd50::1{n}{p}/64 dev eth0 nodad"));
            plan.last(pod, "route add default via 192.168.50.10");
            plan.spaces[pod]
                .addresses
                .push(format!("192.168.50.{}", 100 + n * 16 + p).parse().expect("an address"));
            plan.spaces[pod]
                .addresses
                .push(format!("fd50::1{n}{p}").parse().expect("an address"));
        }
        if rng.one_in(3) {
            plan.sysctl(host, "net/ipv4/conf/eth0/rp_filter", "1");
        }
    }
    plan.targets.push("10.9.9.9".parse().expect("an address"));
    plan
}

/// One bridge stretched over VXLAN, with unknown frames copied to every node.
fn overlay(rng: &mut Rng) -> Plan {
    let mut plan = Plan::new("overlay");
    let wire = wire(&mut plan);
    for n in 0..3 {
        let host = node(&mut plan, n, wire);
        plan.ip(
            host,
            &format!("link add br1 address {} type bridge", mac(0x200 + n as u64)),
        );
        plan.ip(host, "link set br1 up");
        plan.addr(host, "br1", &format!("10.99.0.{}/24", 1 + n));
        let learning = if rng.one_in(2) { "nolearning" } else { "learning" };
        plan.ip(
            host,
            &format!(
                "link add vx1 type vxlan id 7 local 192.168.50.{} dstport 4789 {learning}",
                10 + n
            ),
        );
        plan.ip(host, "link set vx1 mtu 1450 master br1 up");
        for m in (0..3).filter(|&m| m != n) {
            plan.bridge(
                host,
                &format!("fdb append 00:00:00:00:00:00 dev vx1 dst 192.168.50.{}", 10 + m),
            );
        }
        // What the node itself sends through the tunnel keeps its program's socket; what pods send has none.
        if rng.one_in(3) {
            plan.spaces[host].iptables +=
                "*filter\n-A OUTPUT -p udp --dport 4789 -m owner --uid-owner 0 -j DROP\nCOMMIT\n";
            plan.fault(format!("node-{n} drops what root sends by VXLAN"));
        }
        let pod = plan.space(&format!("p{n}0"), Some(&format!("node-{n}")), false);
        plan.veth(pod, "eth0", host, "veth0");
        plan.ip(host, "link set veth0 mtu 1450 master br1");
        plan.ip(
            pod,
            &format!("link set eth0 mtu 1450 address {}", mac(0x1000 + n as u64)),
        );
        plan.addr(pod, "eth0", &format!("10.99.0.{}/24", 10 + n));
    }
    plan.targets.push("10.99.0.77".parse().expect("an address"));
    plan
}

/// A tunnel and links that are narrower than what is sent.
fn narrow(rng: &mut Rng) -> Plan {
    let mut plan = Plan::new("narrow");
    let wire = wire(&mut plan);
    let (far, pod_mtu) = (rng.pick(&[1400_u32, 1500]), rng.pick(&[1300_u32, 1400, 1500]));
    for n in 0..2 {
        let host = node(&mut plan, n, wire);
        let pod = plan.space(&format!("p{n}0"), Some(&format!("node-{n}")), false);
        plan.veth(pod, "eth0", host, "veth0");
        // Only one end of the second pod's pair is narrow.
        if n == 1 {
            plan.ip(host, &format!("link set veth0 mtu {pod_mtu}"));
        }
        plan.addr(host, "veth0", &format!("10.244.{n}.1/24"));
        plan.addr(host, "veth0", &format!("fd44:{n}::1/64"));
        plan.addr(pod, "eth0", &format!("10.244.{n}.10/24"));
        plan.addr(pod, "eth0", &format!("fd44:{n}::10/64"));
        plan.ip(pod, &format!("route add default via 10.244.{n}.1"));
        plan.ip(pod, &format!("route add ::/0 via fd44:{n}::1"));
        let m = 1 - n;
        plan.ip(host, &format!("route add 10.244.{m}.0/24 via 192.168.50.{}", 10 + m));
        plan.ip(host, &format!("route add fd44:{m}::/64 via fd50::{} mtu {far}", 10 + m));
    }
    plan.sizes = vec![0, 1290, 1300, 1304, 1305, 1350, 1400, 1404, 1405, 1450, 1500];
    plan
}

/// A node with two devices on one segment, another pair within itself, and a pod with two devices.
fn two_devices(rng: &mut Rng) -> Plan {
    let mut plan = Plan::new("devices");
    let wire = wire(&mut plan);
    let a = node(&mut plan, 0, wire);
    let b = node(&mut plan, 1, wire);
    plan.veth(a, "eth1", wire, "w9");
    plan.ip(wire, "link set w9 master br0");
    plan.addr(a, "eth1", "192.168.50.50/24");
    plan.veth(a, "va", a, "vb");
    plan.addr(a, "va", "10.77.0.1/24");
    let pod = plan.space("p00", Some("node-0"), false);
    for (i, dev) in ["eth0", "net1"].into_iter().enumerate() {
        plan.veth(pod, dev, a, &format!("veth{i}"));
        plan.addr(a, &format!("veth{i}"), &format!("10.244.{i}.1/24"));
        plan.addr(pod, dev, &format!("10.244.{i}.10/24"));
    }
    plan.ip(pod, "route add default via 10.244.0.1");
    plan.ip(pod, "rule add from 10.244.1.10 table 100");
    plan.ip(pod, "route add default via 10.244.1.1 table 100");
    plan.ip(b, "route add 10.0.0.0/8 via 192.168.50.10");
    for (key, values) in [
        ("arp_ignore", &["0", "1", "2"][..]),
        ("arp_filter", &["0", "1"]),
        ("arp_announce", &["0", "1", "2"]),
        ("rp_filter", &["0", "1", "2"]),
    ] {
        let value = rng.pick(values);
        plan.sysctl(a, &format!("net/ipv4/conf/all/{key}"), value);
        plan.fault(format!("{key}={value}"));
    }
    plan
}

/// Two routers that each think the other is nearer.
fn loops(rng: &mut Rng) -> Plan {
    let mut plan = Plan::new("loops");
    let wire = wire(&mut plan);
    for n in 0..2 {
        let host = node(&mut plan, n, wire);
        plan.ip(host, &format!("route add 10.0.0.0/8 via 192.168.50.{}", 11 - n));
        plan.ip(host, &format!("route add fd10::/16 via fd50::{}", 11 - n));
        if rng.one_in(2) {
            plan.ip(host, "route add unreachable 10.5.0.0/16");
            plan.ip(host, "route add prohibit fd10:5::/32");
        }
    }
    plan.flows = 24;
    plan.targets
        .extend(["10.1.1.1", "10.5.1.1", "fd10::1", "fd10:5::1"].map(bare));
    plan
}
