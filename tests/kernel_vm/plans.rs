//! Two nodes with pods, joined by a tunnel or by routes, with virtual services of IPVS.

use crate::lab::bare;
use crate::netns::Rng;
use crate::plan::{Plan, mac};

/// How the nodes are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fabric {
    Routes,
    Ipip,
    Sit,
}

/// Every topology of the suite.
pub fn all(rng: &mut Rng) -> Vec<Plan> {
    let mut plans = Vec::new();
    for round in 0..3 {
        let mut plan = cluster(&format!("ipvs{round}"), Fabric::Routes);
        ipvs(&mut plan, rng, round);
        plans.push(plan);
    }
    for fabric in [Fabric::Ipip, Fabric::Sit] {
        let mut plan = cluster(&format!("{fabric:?}"), fabric);
        let broken = rng.below(6);
        fault(&mut plan, fabric, broken);
        plan.flows = 24;
        plans.push(plan);
    }
    let mut both = cluster("ipip-ipvs", Fabric::Ipip);
    ipvs(&mut both, rng, 0);
    plans.push(both);
    plans
}

/// Spaces by order: the wire, then each node followed by its pods.
fn node_at(n: usize) -> usize {
    1 + n * 3
}

fn cluster(name: &str, fabric: Fabric) -> Plan {
    let mut plan = Plan::new(name);
    plan.flows = 36;
    let wire = plan.space("wire", None, false);
    plan.spaces[wire].peer = false;
    plan.ip(wire, "link add br0 type bridge");
    plan.ip(wire, "link set br0 up");
    for n in 0..2 {
        let host = format!("node-{n}");
        let node = plan.space(&format!("n{n}"), Some(&host), true);
        plan.veth(node, "eth0", wire, &format!("w{n}"));
        plan.ip(wire, &format!("link set w{n} master br0"));
        plan.ip(node, &format!("link set eth0 address {}", mac(0x100 + n as u64)));
        plan.addr(node, "eth0", &format!("192.168.50.{}/24", 10 + n));
        plan.addr(node, "eth0", &format!("fd50::{}/64", 10 + n));
        plan.ip(
            node,
            &format!("link add cni0 address {} type bridge", mac(0x200 + n as u64)),
        );
        plan.ip(node, "link set cni0 mtu 1400 up");
        plan.addr(node, "cni0", &format!("10.244.{n}.1/24"));
        plan.addr(node, "cni0", &format!("fd44:{n}::1/64"));
        for p in 0..2 {
            let pod = plan.space(&format!("p{n}{p}"), Some(&host), false);
            plan.veth(pod, "eth0", node, &format!("veth{p}"));
            plan.ip(pod, "link set eth0 mtu 1400");
            plan.addr(pod, "eth0", &format!("10.244.{n}.{}/24", 10 + p));
            plan.addr(pod, "eth0", &format!("fd44:{n}::{}/64", 10 + p));
            plan.ip(pod, &format!("route add default via 10.244.{n}.1"));
            plan.ip(pod, &format!("route add ::/0 via fd44:{n}::1"));
            plan.ip(node, &format!("link set veth{p} mtu 1400 master cni0"));
        }
    }
    for (n, m) in [(0, 1), (1, 0)] {
        join(&mut plan, fabric, n, m);
    }
    plan
}

/// How node `n` reaches the pods of node `m`.
fn join(plan: &mut Plan, fabric: Fabric, n: usize, m: usize) {
    let node = node_at(n);
    let (own, other) = (format!("192.168.50.{}", 10 + n), format!("192.168.50.{}", 10 + m));
    let plain6 = format!("route add fd44:{m}::/64 via fd50::{}", 10 + m);
    let lines = match fabric {
        Fabric::Routes => vec![format!("route add 10.244.{m}.0/24 via {other}"), plain6],
        Fabric::Ipip => vec![
            format!("link add tun0 type ipip local {own}"),
            "link set tun0 up".to_owned(),
            format!("route add 10.244.{m}.0/24 via {other} dev tun0 onlink"),
            plain6,
        ],
        Fabric::Sit => vec![
            format!("link add tun0 type sit local {own} remote {other}"),
            "link set tun0 up".to_owned(),
            format!("route add 10.244.{m}.0/24 via {other}"),
            format!("route add fd44:{m}::/64 dev tun0"),
        ],
    };
    for line in lines {
        plan.ip(node, &line);
    }
}

/// Something that goes wrong with tunnels.
fn fault(plan: &mut Plan, fabric: Fabric, which: u64) {
    let node = node_at(1);
    match which {
        0 => {
            plan.fault("tun0 of node-1 is down");
            plan.last(node, "link set tun0 down");
        }
        1 => {
            let (proto, what) = match fabric {
                Fabric::Ipip => ("4", "IPIP"),
                Fabric::Sit => ("41", "SIT"),
                Fabric::Routes => ("17", "UDP"),
            };
            plan.fault(format!("node-1 drops {what} in INPUT"));
            plan.spaces[node].iptables = format!(
                "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n-A INPUT -p {proto} -j DROP\nCOMMIT"
            );
        }
        _ => {}
    }
}

/// Virtual services on both nodes, the same on each, as kube-proxy has them.
fn ipvs(plan: &mut Plan, rng: &mut Rng, round: u64) {
    let vips: Vec<String> = (1..=4).map(|i| format!("10.96.0.{i}")).collect();
    let mut rules = String::new();
    for (i, vip) in vips.iter().enumerate() {
        let scheduler = rng.pick(&["rr", "wrr", "lc", "wlc", "sh", "dh", "sed", "nq", "mh"]);
        for (flag, port) in [("-t", 80), ("-u", 53)] {
            let persistent = if rng.one_in(4) { " -p 600" } else { "" };
            rules.push_str(&format!("-A {flag} {vip}:{port} -s {scheduler}{persistent}\n"));
            // The last may have nobody.
            let most = if i == 3 { rng.below(2) } else { 1 + rng.below(4) };
            for s in 0..most {
                let server = format!("10.244.{}.{}", s % 2, 10 + s / 2);
                let weight = rng.pick(&[1, 1, 1, 2, 0]);
                rules.push_str(&format!("-a {flag} {vip}:{port} -r {server}:{port} -m -w {weight}\n"));
            }
        }
    }
    let tracked = !(round == 2 && rng.one_in(2));
    for n in 0..2 {
        let node = node_at(n);
        plan.ip(node, "link add kube-ipvs0 type dummy");
        for vip in &vips {
            plan.ip(node, &format!("addr add {vip}/32 dev kube-ipvs0"));
        }
        plan.spaces[node].ipvs.clone_from(&rules);
        plan.sysctl(node, "net/ipv4/vs/conntrack", if tracked { "1" } else { "0" });
        // Whoever is no pod is masqueraded, as KUBE-MARK-MASQ has it.
        plan.spaces[node].iptables = "*nat\n:PREROUTING ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n\
             :POSTROUTING ACCEPT [0:0]\n-A POSTROUTING -s 10.96.0.0/16 -j MASQUERADE\n\
             -A POSTROUTING ! -s 10.244.0.0/16 -d 10.244.0.0/16 -j MASQUERADE\nCOMMIT"
            .to_owned();
    }
    if !tracked {
        plan.fault("net.ipv4.vs.conntrack is 0");
    }
    if rng.one_in(2) {
        plan.fault("10.96.0.2 is not on kube-ipvs0 of node-0");
        plan.last(node_at(0), "addr del 10.96.0.2/32 dev kube-ipvs0");
    }
    plan.targets.extend(vips.iter().map(|v| bare(v)));
    // More of the flows go to services.
    plan.targets.extend(vips.iter().map(|v| bare(v)));
}
