//! Two nodes with pods, joined by every kind of tunnel or by routes, and virtual services of IPVS.

use std::net::IpAddr;

use crate::frames;
use crate::lab::bare;
use crate::netns::Rng;
use crate::plan::{Plan, mac};

/// How the nodes are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fabric {
    Routes,
    Ipip,
    /// `tunl0`, which is there with the module: no local or remote address of its own.
    Tunl0,
    Gre,
    GreTap,
    Sit,
    Ip6Tnl,
    Vxlan,
    /// One that asks for neighbours and learns.
    VxlanFlood,
    Geneve,
    /// Routes say where a device sends to (`external`, `encap ip`).
    VxlanRoutes,
    GeneveRoutes,
    WireGuard,
    /// Policies and states for the pods' networks.
    IpsecTunnel,
    /// The same between the nodes, in transport mode, with IPIP inside.
    IpsecTransport,
    /// Policies by mark of a device.
    IpsecDevice,
    Vlan,
}

const FABRICS: [Fabric; 16] = [
    Fabric::Ipip,
    Fabric::Tunl0,
    Fabric::Gre,
    Fabric::GreTap,
    Fabric::Sit,
    Fabric::Ip6Tnl,
    Fabric::Vxlan,
    Fabric::VxlanFlood,
    Fabric::Geneve,
    Fabric::VxlanRoutes,
    Fabric::GeneveRoutes,
    Fabric::WireGuard,
    Fabric::IpsecTunnel,
    Fabric::IpsecTransport,
    Fabric::IpsecDevice,
    Fabric::Vlan,
];

/// Private and public keys of the two nodes, made for this test.
const KEYS: [(&str, &str); 2] = [
    (
        "cKYS9XfqAzO+9uoN8MmqUDPdU6cPQpA56FH3aeKV+Eg=",
        "AJyvYvn5lmR5IqDqYkf5JKu4zbu63duiKPOZeatvkU4=",
    ),
    (
        "kHRRD4b1UrMOIZDH92vn5HVAK8/o0VaXnHP1JJIqHEo=",
        "GHDOuMrPNH0CceUv+K8Jv7uOH5zJpQcTzhLFObG50W8=",
    ),
];

/// Every topology of the suite.
pub fn all(rng: &mut Rng) -> Vec<Plan> {
    let mut plans = Vec::new();
    for round in 0..2 {
        let mut plan = cluster(&format!("ipvs{round}"), Fabric::Routes);
        services(&mut plan, rng, round);
        plans.push(plan);
    }
    let mut plan = cluster("kube-proxy", Fabric::Ipip);
    kube_proxy(&mut plan);
    plans.push(plan);
    plans.extend([false, true].map(crate::kube_router::plan));
    let mut plan = cluster("direct-and-tunnel", Fabric::Routes);
    untranslated(&mut plan, rng);
    plans.push(plan);
    for fabric in FABRICS {
        let mut plan = cluster(&format!("{fabric:?}"), fabric);
        let which = rng.below(6);
        fault(&mut plan, fabric, which);
        if fabric == Fabric::WireGuard {
            keep_up(&mut plan, rng);
        }
        plan.flows = 24;
        plans.push(plan);
    }
    plans.extend(["l2", "l3", "l3s"].map(ipvlan));
    for number in 0..2 {
        let mut plan = frames::whole(rng, number);
        plan.flows = 24;
        plans.push(plan);
    }
    for (leak, accept) in [
        (Leak::None, false),
        (Leak::Routes, true),
        (Leak::Routes, false),
        (Leak::Whole, true),
        (Leak::Whole, false),
    ] {
        plans.push(vrf(rng, leak, accept));
    }
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
    let (own6, other6) = (format!("fd50::{}", 10 + n), format!("fd50::{}", 10 + m));
    let plain = format!("route add 10.244.{m}.0/24 via {other}");
    let plain6 = format!("route add fd44:{m}::/64 via {other6}");
    let over = |dev: &str| {
        vec![
            format!("link set {dev} up"),
            format!("route add 10.244.{m}.0/24 dev {dev}"),
        ]
    };
    let point = |kind: &str, options: &str| {
        let mut lines = vec![format!("link add tun0 type {kind} {options}")];
        lines.extend(over("tun0"));
        lines
    };
    let onlink = |dev: &str| {
        vec![
            format!("link set {dev} up"),
            format!("route add 10.244.{m}.0/24 via {other} dev {dev} onlink"),
            plain6.clone(),
        ]
    };
    // A device that carries frames, with an address of its own.
    let framed = |kind: &str, options: &str| {
        vec![
            format!("link add tun0 type {kind} {options}"),
            "link set tun0 mtu 1400 up".to_owned(),
            format!("addr add 10.200.0.{}/24 dev tun0", 1 + n),
            format!("addr add fd20::{}/64 dev tun0 nodad", 1 + n),
            format!("route add 10.244.{m}.0/24 via 10.200.0.{}", 1 + m),
            format!("route add fd44:{m}::/64 via fd20::{}", 1 + m),
        ]
    };
    let lines = match fabric {
        Fabric::Routes => vec![plain, plain6],
        Fabric::Ipip => {
            let mut lines = vec![format!("link add tun0 type ipip local {own}")];
            lines.extend(onlink("tun0"));
            lines
        }
        Fabric::Tunl0 => onlink("tunl0"),
        Fabric::Gre => {
            let mut lines = point("gre", &format!("local {own} remote {other} key 7 ttl 64"));
            lines.push(format!("route add fd44:{m}::/64 dev tun0"));
            lines
        }
        Fabric::GreTap => framed("gretap", &format!("local {own} remote {other}")),
        Fabric::VxlanFlood => framed("vxlan", &format!("id 88 dstport 4789 local {own} remote {other}")),
        Fabric::Geneve => framed("geneve", &format!("id 77 remote {other}")),
        Fabric::Vlan => framed("vlan", "id 30")
            .iter()
            .map(|l| l.replace("link add tun0", "link add link eth0 name tun0"))
            .collect(),
        Fabric::Vxlan => {
            plan.bridge(
                node,
                &format!("fdb append {} dev tun0 dst {other}", mac(0x300 + m as u64)),
            );
            plan.ip(
                node,
                &format!(
                    "link add tun0 address {} type vxlan id 4096 local {own} dstport 4789 nolearning",
                    mac(0x300 + n as u64)
                ),
            );
            vec![
                "link set tun0 mtu 1400 up".to_owned(),
                format!("addr add 10.200.0.{}/32 dev tun0", 1 + n),
                format!(
                    "neigh add 10.200.0.{} lladdr {} dev tun0 nud permanent",
                    1 + m,
                    mac(0x300 + m as u64)
                ),
                format!("route add 10.244.{m}.0/24 via 10.200.0.{} dev tun0 onlink", 1 + m),
                plain6,
            ]
        }
        Fabric::VxlanRoutes | Fabric::GeneveRoutes => {
            let kind = if fabric == Fabric::VxlanRoutes {
                "vxlan"
            } else {
                "geneve"
            };
            let encap = format!("encap ip id 9 src {own} dst {other} ttl 9");
            vec![
                format!(
                    "link add tun0 address {} type {kind} external dstport 6000",
                    mac(0x300 + n as u64)
                ),
                "link set tun0 mtu 1400 up".to_owned(),
                format!("addr add 10.200.0.{}/24 dev tun0", 1 + n),
                format!(
                    "neigh add 10.200.0.{} lladdr {} dev tun0 nud permanent",
                    1 + m,
                    mac(0x300 + m as u64)
                ),
                format!("route add 10.244.{m}.0/24 {encap} via 10.200.0.{} dev tun0", 1 + m),
                // On the link itself no route says where to send to.
                format!("addr add fd20::{}/64 dev tun0 nodad", 1 + n),
                format!("route add fd44:{m}::/64 via fd20::{}", 1 + m),
            ]
        }
        Fabric::Sit => vec![
            format!("link add tun0 type sit local {own} remote {other}"),
            "link set tun0 up".to_owned(),
            plain,
            format!("route add fd44:{m}::/64 dev tun0"),
        ],
        Fabric::Ip6Tnl => {
            let options = format!("mode any local {own6} remote {other6} encaplimit none");
            let mut lines = point("ip6tnl", &options);
            lines.push(format!("route add fd44:{m}::/64 dev tun0"));
            lines
        }
        Fabric::WireGuard => {
            let (secret, public) = (KEYS[n].0, KEYS[m].1);
            plan.shell(node, &format!("echo {secret} >/tmp/key{n}"));
            plan.shell(
                node,
                &format!(
                    "wg set tun0 listen-port 51820 private-key /tmp/key{n} peer {public} endpoint {other}:51820 allowed-ips 10.244.{m}.0/24,fd44:{m}::/64"
                ),
            );
            plan.ip(node, "link add tun0 type wireguard");
            for line in over("tun0") {
                plan.last(node, &line);
            }
            plan.last(node, &format!("route add fd44:{m}::/64 dev tun0"));
            Vec::new()
        }
        Fabric::IpsecTunnel => {
            for (from, to, dir) in [(n, m, "out"), (m, n, "in"), (m, n, "fwd")] {
                plan.ip(
                    node,
                    &policy(&pods(from), &pods(to), dir, &template(from, to, "tunnel"), ""),
                );
            }
            states(plan, node, "tunnel", "");
            vec![plain, plain6]
        }
        Fabric::IpsecTransport => {
            for (from, to, dir) in [(n, m, "out"), (m, n, "in")] {
                let (src, dst) = (format!("192.168.50.{}", 10 + from), format!("192.168.50.{}", 10 + to));
                let selector = format!("src {src}/32 dst {dst}/32 proto 4");
                let template = template(from, to, "transport");
                plan.ip(node, &format!("xfrm policy add {selector} dir {dir} {template}"));
            }
            states(plan, node, "transport", "");
            let mut lines = point("ipip", &format!("local {own} remote {other}"));
            lines.push(plain6);
            lines
        }
        Fabric::IpsecDevice => {
            for (from, to, dir) in [(n, m, "out"), (m, n, "in"), (m, n, "fwd")] {
                let any = "0.0.0.0/0";
                plan.ip(node, &policy(any, any, dir, &template(from, to, "tunnel"), " if_id 42"));
            }
            states(plan, node, "tunnel", " if_id 42");
            let mut lines = point("xfrm", "dev eth0 if_id 42");
            lines.push(plain6);
            lines
        }
    };
    for line in lines {
        plan.ip(node, &line);
    }
}

fn pods(n: usize) -> String {
    format!("10.244.{n}.0/24")
}

fn policy(src: &str, dst: &str, dir: &str, template: &str, more: &str) -> String {
    format!("xfrm policy add src {src} dst {dst} dir {dir} {template}{more}")
}

fn template(from: usize, to: usize, mode: &str) -> String {
    let ends = match mode {
        "tunnel" => format!("src 192.168.50.{} dst 192.168.50.{} ", 10 + from, 10 + to),
        _ => String::new(),
    };
    format!("tmpl {ends}proto esp reqid 1 mode {mode}")
}

fn states(plan: &mut Plan, node: usize, mode: &str, more: &str) {
    // What is sealed is marked, and a rule is about that mark.
    let more = format!("{more} output-mark 0x9");
    for (from, to) in [(0, 1), (1, 0)] {
        plan.ip(
            node,
            &format!(
                "xfrm state add src 192.168.50.{} dst 192.168.50.{} proto esp spi {} reqid 1 mode {mode} auth-trunc hmac(sha1) 0x{} 96 enc cbc(aes) 0x{}{more}",
                10 + from,
                10 + to,
                0x100 + from,
                "0b".repeat(20),
                "0c".repeat(16)
            ),
        );
    }
}

/// Who begins a session by itself: one node or none. Of two handshakes that cross neither succeeds, for five seconds,
/// and on an emulated machine those after them cross as well.
fn keep_up(plan: &mut Plan, rng: &mut Rng) {
    match rng.pick(&[Some(0), Some(1), None]) {
        Some(n) => {
            let public = KEYS[1 - n].1;
            plan.shell(node_at(n), &format!("wg set tun0 peer {public} persistent-keepalive 5"));
            plan.fault(format!("only node-{n} keeps the session up"));
        }
        None => {
            plan.fault("nobody keeps the session up");
            plan.shell(node_at(1) + 2, "bash -c 'echo >/dev/udp/10.244.0.10/9' || true");
        }
    }
    // Without randomness there are no keys.
    plan.shell(node_at(0), "head -c 1 /dev/random >/dev/null");
    // Flows in one direction make the session for those in the other: what they can make is there before the capture.
    plan.warm = true;
}

/// Something that goes wrong with tunnels.
fn fault(plan: &mut Plan, fabric: Fabric, which: u64) {
    let node = node_at(1);
    let device = match fabric {
        Fabric::Routes | Fabric::IpsecTunnel => "cni0",
        Fabric::Tunl0 => "tunl0",
        _ => "tun0",
    };
    let sealed = matches!(
        fabric,
        Fabric::IpsecTunnel | Fabric::IpsecTransport | Fabric::IpsecDevice
    );
    match which {
        0 => {
            plan.fault(format!("{device} of node-1 is down"));
            plan.last(node, &format!("link set {device} down"));
        }
        1 => {
            let proto = match fabric {
                Fabric::Ipip | Fabric::Tunl0 => "4",
                Fabric::Sit => "41",
                Fabric::Gre | Fabric::GreTap => "47",
                Fabric::IpsecTunnel | Fabric::IpsecTransport | Fabric::IpsecDevice => "50",
                _ => "17",
            };
            plan.fault(format!("node-1 drops protocol {proto} in INPUT"));
            plan.spaces[node].iptables = format!(
                "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n-A INPUT -p {proto} -j DROP\nCOMMIT"
            );
        }
        2 | 5 if fabric == Fabric::WireGuard => {
            plan.fault("node-1 lets in no UDP but answers");
            plan.spaces[node].iptables = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n\
                 -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n-A INPUT -p udp -j DROP\nCOMMIT"
                .to_owned();
        }
        2 if sealed => {
            plan.fault("node-1 has no policies");
            plan.last(node, "xfrm policy flush");
        }
        5 if sealed => {
            plan.fault("node-1 has no way for what was sealed and marked");
            plan.last(node, "rule add fwmark 9 prohibit");
        }
        3 if sealed => {
            plan.fault("node-1 has no states");
            plan.last(node, "xfrm state flush");
        }
        // What leaves sealed is seen unsealed by this chain, as leaving by eth0.
        4 => {
            plan.fault("node-1 lets no TCP out by eth0");
            plan.spaces[node].iptables =
                "*mangle\n:POSTROUTING ACCEPT [0:0]\n-A POSTROUTING -o eth0 -p tcp -j DROP\nCOMMIT".to_owned();
        }
        _ => {}
    }
}

/// Virtual services on both nodes, the same on each, as kube-proxy has them.
fn services(plan: &mut Plan, rng: &mut Rng, round: u64) {
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
    let tracked = !(round == 1 && rng.one_in(2));
    for n in 0..2 {
        let node = node_at(n);
        own(plan, node, &vips);
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
    aim(plan, &vips);
}

/// The addresses of services on a node's own device, which stays down.
fn own(plan: &mut Plan, node: usize, vips: &[String]) {
    plan.ip(node, "link add kube-ipvs0 type dummy");
    for vip in vips {
        plan.ip(node, &format!("addr add {vip}/32 dev kube-ipvs0"));
    }
}

/// Many of the flows go to services.
fn aim(plan: &mut Plan, vips: &[String]) {
    let targets: Vec<IpAddr> = vips.iter().map(|v| bare(v)).collect();
    for _ in 0..3 {
        plan.targets.extend(&targets);
    }
}

/// Real servers behind direct routing and behind tunnels, which have the address themselves.
fn untranslated(plan: &mut Plan, rng: &mut Rng) {
    let vips: Vec<String> = (1..=3).map(|i| format!("10.96.1.{i}")).collect();
    let mut rules = String::new();
    for (flag, port) in [("-t", 80), ("-u", 53)] {
        for (vip, how) in vips.iter().zip(["-g", "-i", "-i --tun-type gre --tun-nocsum"]) {
            rules.push_str(&format!("-A {flag} {vip}:{port} -s rr\n"));
            for (n, p) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                // A neighbour for direct routing is one link away.
                if how == "-g" && n == 1 {
                    continue;
                }
                rules.push_str(&format!(
                    "-a {flag} {vip}:{port} -r 10.244.{n}.{}:{port} {how} -w 1\n",
                    10 + p
                ));
            }
        }
    }
    let director = node_at(0);
    own(plan, director, &vips);
    plan.spaces[director].ipvs = rules;
    // What the servers answer comes through here in the name of an address of this node.
    if rng.one_in(2) {
        for dev in ["all", "cni0", "eth0"] {
            plan.sysctl(director, &format!("net/ipv4/conf/{dev}/accept_local"), "1");
            plan.sysctl(director, &format!("net/ipv4/conf/{dev}/rp_filter"), "0");
        }
    } else {
        plan.fault("node-0 takes no packets from addresses of its own");
    }
    for (n, p) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let pod = node_at(n) + 1 + p;
        plan.ip(pod, "link set tunl0 up");
        plan.ip(pod, "link set gre0 up");
        for vip in &vips {
            plan.ip(pod, &format!("addr add {vip}/32 dev lo"));
        }
        for dev in ["all", "default", "tunl0", "gre0", "eth0"] {
            plan.sysctl(pod, &format!("net/ipv4/conf/{dev}/rp_filter"), "0");
        }
        plan.sysctl(pod, "net/ipv4/conf/all/arp_ignore", "1");
    }
    plan.ip(node_at(1), "route add 10.96.1.0/24 via 192.168.50.10");
    aim(plan, &vips);
}

/// What kube-proxy writes in its IPVS mode: sets, and few chains that ask them.
fn kube_proxy(plan: &mut Plan) {
    let vips: Vec<String> = (1..=3).map(|i| format!("10.96.0.{i}")).collect();
    for n in 0..2 {
        let node = node_at(n);
        own(plan, node, &vips);
        let mut sets = vec![
            "create KUBE-CLUSTER-IP hash:ip,port".to_owned(),
            "create KUBE-LOOP-BACK hash:ip,port,ip".to_owned(),
            "create KUBE-IPVS-IPS hash:ip".to_owned(),
            "create KUBE-NODE-PORT-TCP bitmap:port range 0-65535".to_owned(),
            "add KUBE-NODE-PORT-TCP 81".to_owned(),
        ];
        let mut rules = format!("-A -t 192.168.50.{}:81 -s rr\n", 10 + n);
        for server in ["10.244.0.10", "10.244.1.10"] {
            rules.push_str(&format!("-a -t 192.168.50.{}:81 -r {server}:80 -m -w 1\n", 10 + n));
        }
        for vip in &vips {
            sets.push(format!("add KUBE-IPVS-IPS {vip}"));
            for (flag, proto, port) in [("-t", "tcp", 80), ("-u", "udp", 53)] {
                sets.push(format!("add KUBE-CLUSTER-IP {vip},{proto}:{port}"));
                rules.push_str(&format!("-A {flag} {vip}:{port} -s rr\n"));
                // The third has no endpoints.
                for (m, p) in [(0, 0), (0, 1), (1, 0)].into_iter().filter(|_| !vip.ends_with('3')) {
                    rules.push_str(&format!(
                        "-a {flag} {vip}:{port} -r 10.244.{m}.{}:{port} -m -w 1\n",
                        10 + p
                    ));
                }
            }
        }
        for (proto, port) in [("tcp", 80), ("udp", 53)] {
            for p in 0..2 {
                let pod = format!("10.244.{n}.{}", 10 + p);
                sets.push(format!("add KUBE-LOOP-BACK {pod},{proto}:{port},{pod}"));
            }
        }
        plan.shell(node, &format!("ipset restore <<'END'\n{}\nEND", sets.join("\n")));
        plan.shell(node, &format!("iptables-legacy-restore <<'END'\n{CHAINS}\nEND"));
        plan.spaces[node].ipvs = rules;
        plan.sysctl(node, "net/ipv4/vs/conntrack", "1");
        plan.sysctl(node, "net/ipv4/vs/conn_reuse_mode", "0");
    }
    aim(plan, &vips);
}

const CHAINS: &str = "\
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-NODE-PORT - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-SERVICES - [0:0]
-A PREROUTING -j KUBE-SERVICES
-A OUTPUT -j KUBE-SERVICES
-A POSTROUTING -j KUBE-POSTROUTING
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-NODE-PORT -p tcp -m set --match-set KUBE-NODE-PORT-TCP dst -j KUBE-MARK-MASQ
-A KUBE-POSTROUTING -m set --match-set KUBE-LOOP-BACK dst,dst,src -j MASQUERADE
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -j MASQUERADE
-A KUBE-SERVICES -s 127.0.0.0/8 -j RETURN
-A KUBE-SERVICES ! -s 10.244.0.0/16 -m set --match-set KUBE-CLUSTER-IP dst,dst -j KUBE-MARK-MASQ
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODE-PORT
-A KUBE-SERVICES -m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-IPVS-FILTER - [0:0]
-A INPUT -j KUBE-IPVS-FILTER
-A FORWARD -j KUBE-FORWARD
-A FORWARD -s 10.244.0.0/16 -j ACCEPT
-A FORWARD -d 10.244.0.0/16 -j ACCEPT
-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A KUBE-IPVS-FILTER -m set --match-set KUBE-CLUSTER-IP dst,dst -j RETURN
-A KUBE-IPVS-FILTER -m conntrack --ctstate NEW -m set --match-set KUBE-IPVS-IPS dst -j REJECT
COMMIT";

/// A pod with a second device that shares the MAC of its node's, and another pod with one too.
fn ipvlan(mode: &str) -> Plan {
    let mut plan = cluster(&format!("ipvlan-{mode}"), Fabric::Routes);
    let node = node_at(0);
    for n in 0..2 {
        let pod = node + 1 + n;
        plan.ip(
            node,
            &format!("link add link eth0 name iv{n} type ipvlan mode {mode} bridge"),
        );
        plan.last(node, &format!("link set iv{n} netns @p0{n}"));
        plan.last(pod, &format!("link set iv{n} up"));
        plan.last(pod, &format!("addr add 192.168.50.10{n}/24 dev iv{n}"));
        plan.targets.push(bare(&format!("192.168.50.10{n}")));
    }
    plan.flows = 24;
    plan
}

/// Pods of a node whose bridge is a port of a VRF.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leak {
    /// Nothing leads into the VRF or out of it.
    None,
    /// Routes from the main table into the VRF, and from the VRF out by the node's device.
    Routes,
    /// The node's device is a port of the VRF too.
    Whole,
}

fn vrf(rng: &mut Rng, leak: Leak, accept: bool) -> Plan {
    let name = match leak {
        Leak::None => "vrf",
        Leak::Routes => "vrf-leak",
        Leak::Whole => "vrf-whole",
    };
    let mut plan = cluster(name, Fabric::Routes);
    let node = node_at(0);
    plan.ip(node, "link add red type vrf table 10");
    plan.ip(node, "link set red up");
    plan.last(node, "link set cni0 master red");
    plan.last(node, "addr add fd44:0::1/64 dev cni0 nodad");
    match leak {
        Leak::None => {}
        Leak::Routes => {
            plan.last(node, "route add 10.244.0.0/24 dev red");
            plan.last(node, "route add fd44:0::/64 dev red");
            plan.last(node, "route add 192.168.50.0/24 dev eth0 table 10");
            plan.last(node, "route add 10.244.1.0/24 via 192.168.50.11 dev eth0 table 10");
            plan.last(node, "route add fd44:1::/64 via fd50::11 dev eth0 table 10");
        }
        Leak::Whole => {
            plan.last(node, "link set eth0 master red");
            plan.last(node, "addr add fd50::10/64 dev eth0 nodad");
            plan.last(node, "route add 10.244.1.0/24 via 192.168.50.11 dev eth0 table 10");
            plan.last(node, "route add fd44:1::/64 via fd50::11 dev eth0 table 10");
        }
    }
    if accept {
        plan.sysctl(node, "net/ipv4/tcp_l3mdev_accept", "1");
        plan.sysctl(node, "net/ipv4/udp_l3mdev_accept", "1");
    } else {
        plan.fault("sockets of node-0 take nothing from VRFs");
    }
    // By what they match, these tell the two rounds of each hook apart.
    let marks = ["-i red", "-i cni0", "-i eth0"]
        .map(|dev| format!("-A PREROUTING {dev} -p udp -j MARK --or-mark {:#x}", 1 << rng.below(4)));
    // A mark on the way out has the packet routed again, in the middle of a round.
    let again = rng.pick(&[
        "",
        "-A OUTPUT -o red -j MARK --set-mark 0x10",
        "-A OUTPUT -o cni0 -j MARK --set-mark 0x10",
    ]);
    let fatal = rng.pick(&[
        "",
        "-A OUTPUT -o red -p udp -j DROP",
        "-A OUTPUT -o cni0 -p udp -j DROP",
        "-A FORWARD -i red -p tcp -j REJECT --reject-with tcp-reset",
        "-A FORWARD -i cni0 -j DROP",
        "-A INPUT -i red -p udp -j REJECT",
        "-A INPUT -i cni0 -j DROP",
        "-A FORWARD -o red -p tcp -j REJECT",
    ]);
    plan.spaces[node].iptables = format!(
        "*mangle\n:PREROUTING ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n\
         :POSTROUTING ACCEPT [0:0]\n{}\n{again}\nCOMMIT\n*nat\n:PREROUTING ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n\
         :OUTPUT ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n-A POSTROUTING -s 10.244.0.0/24 -o eth0 -p udp -j MASQUERADE\n\
         COMMIT\n*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n\
         -A INPUT -m mark --mark 0x8/0x8 -j DROP\n{fatal}\nCOMMIT",
        marks.join("\n")
    );
    // A name that is empty outside of VRFs does not end a rule.
    let rule = rng.pick(&["sdifname != \"cni0\"", "sdifname \"cni0\"", "sdif 0"]);
    plan.shell(
        node,
        &format!(
            "nft 'table ip knet {{ chain c {{ type filter hook input priority 10; meta {rule} udp dport 53 drop; }}; }}'"
        ),
    );
    plan.flows = 36;
    plan
}
