//! Two nodes as kube-router leaves them with its router and its service proxy, by its sources (v2.x):
//! `pkg/controllers/proxy/network_services_controller.go` and `linux_networking.go` for IPVS, its sets, chains and what
//! direct server return needs; `pkg/controllers/routing/pod_egress.go` and `network_routes_controller.go` for egress
//! and forwarding; `pkg/tunnels/linux_tunnels.go` and `pkg/routes/pbr.go` for the overlay and table 77. Its rules have
//! `--random-fully`, left out here: what arrives is known by its source port.

use crate::lab::bare;
use crate::plan::{Plan, mac};

/// Tried by its mark: the VIP of a Service with the annotation `kube-router.io/service.dsr: tunnel`.
const DIRECT: &str = "203.0.113.50";
/// What it draws from address, protocol and port.
const MARK: u32 = 0x3039;
const VIPS: [&str; 3] = ["10.96.0.1", "10.96.0.2", "10.96.0.3"];

/// The topology. `hairpin` is a Service with the annotation `kube-router.io/service.hairpin`.
pub fn plan(hairpin: bool) -> Plan {
    let mut plan = Plan::new("kube-router");
    if hairpin {
        plan.name.push_str("-hairpin");
    }
    plan.flows = 40;
    let wire = plan.space("wire", None, false);
    plan.spaces[wire].peer = false;
    plan.ip(wire, "link add br0 type bridge");
    plan.ip(wire, "link set br0 up");
    for n in 0..2 {
        node(&mut plan, wire, n, hairpin);
    }
    // Somebody outside, whom a router sends to node-0.
    let outside = plan.space("ext", Some("node-9"), true);
    plan.veth(outside, "eth0", wire, "w9");
    plan.ip(wire, "link set w9 master br0");
    plan.addr(outside, "eth0", "192.168.50.99/24");
    for net in [DIRECT, "10.96.0.0/16", "10.244.0.0/16"] {
        plan.ip(outside, &format!("route add {net} via 192.168.50.10"));
    }
    for _ in 0..3 {
        plan.targets.extend(VIPS.map(bare));
        plan.targets.push(bare(DIRECT));
    }
    plan
}

fn node(plan: &mut Plan, wire: usize, n: usize, hairpin: bool) {
    let (m, host) = (1 - n, format!("node-{n}"));
    let (own, other) = (format!("192.168.50.{}", 10 + n), format!("192.168.50.{}", 10 + m));
    let node = plan.space(&format!("n{n}"), Some(&host), true);
    plan.veth(node, "eth0", wire, &format!("w{n}"));
    plan.ip(wire, &format!("link set w{n} master br0"));
    plan.ip(node, &format!("link set eth0 address {}", mac(0x100 + n as u64)));
    plan.addr(node, "eth0", &format!("{own}/24"));
    let bridge = mac(0x200 + n as u64);
    plan.ip(node, &format!("link add kube-bridge address {bridge} type bridge"));
    plan.ip(node, "link set kube-bridge mtu 1480 up");
    plan.addr(node, "kube-bridge", &format!("10.244.{n}.1/24"));
    for p in 0..2 {
        let pod = plan.space(&format!("p{n}{p}"), Some(&host), false);
        plan.veth(pod, "eth0", node, &format!("veth{p}"));
        plan.ip(node, &format!("link set veth{p} mtu 1480 master kube-bridge"));
        plan.bridge(node, &format!("link set dev veth{p} hairpin on"));
        plan.ip(pod, "link set eth0 mtu 1480");
        plan.addr(pod, "eth0", &format!("10.244.{n}.{}/24", 10 + p));
        plan.ip(pod, &format!("route add default via 10.244.{n}.1"));
        // What the first pod answers directly, it hears in IPIP.
        if p == 0 {
            plan.ip(pod, &format!("link add kube-tunnel-if type ipip local 10.244.{n}.10"));
            plan.ip(pod, "link set kube-tunnel-if up");
            plan.ip(pod, &format!("addr add {DIRECT}/32 dev kube-tunnel-if scope link"));
            for dev in ["all", "eth0", "kube-tunnel-if"] {
                plan.sysctl(pod, &format!("net/ipv4/conf/{dev}/rp_filter"), "0");
            }
        }
    }
    overlay(plan, node, n, &own, &other);
    plan.ip(node, "link add kube-dummy-if type dummy");
    plan.ip(node, "link set kube-dummy-if up");
    for vip in VIPS {
        plan.ip(node, &format!("addr add {vip}/32 dev kube-dummy-if scope link"));
        plan.ip(
            node,
            &format!("route replace local {vip} dev kube-dummy-if table local proto kernel scope host src {own}"),
        );
    }
    // What has the mark is this node's; what comes back from the pod is no martian.
    plan.ip(node, "route add local default dev lo table 78");
    plan.ip(node, &format!("rule add fwmark {MARK:#x} priority 32764 table 78"));
    plan.ip(node, &format!("route add {DIRECT} dev kube-bridge table 79"));
    plan.ip(node, "rule add priority 32765 table 79");
    for (key, value) in [
        ("vs/conntrack", "1"),
        ("vs/conn_reuse_mode", "0"),
        ("vs/expire_nodest_conn", "1"),
        ("vs/expire_quiescent_template", "1"),
        ("conf/all/arp_ignore", "1"),
        ("conf/all/arp_announce", "2"),
        ("conf/all/rp_filter", "2"),
    ] {
        plan.sysctl(node, &format!("net/ipv4/{key}"), value);
    }
    plan.spaces[node].ipvs = services(&own);
    plan.shell(node, &format!("ipset restore <<'END'\n{}\nEND", sets(n, &own)));
    plan.shell(
        node,
        &format!("iptables-legacy-restore <<'END'\n{}\nEND", chains(n, &own, hairpin)),
    );
}

/// `--overlay-type=full`: pods to the other node and to its pods, by IPIP.
fn overlay(plan: &mut Plan, node: usize, n: usize, own: &str, other: &str) {
    let m = 1 - n;
    plan.ip(
        node,
        &format!("link add tun-other type ipip local {own} remote {other} dev eth0"),
    );
    plan.ip(node, "link set tun-other up");
    plan.ip(
        node,
        &format!("route add 10.244.{m}.0/24 dev tun-other src {own} proto 17"),
    );
    plan.ip(node, &format!("route add {other} dev tun-other table 77"));
    plan.ip(node, &format!("rule add from 10.244.{n}.0/24 table 77"));
}

/// Ports 80 and 53 of two services, a NodePort, and one service by its mark. The third has no endpoints.
fn services(own: &str) -> String {
    let mut rules = String::new();
    for vip in VIPS {
        for (flag, port) in [("-t", 80), ("-u", 53)] {
            rules.push_str(&format!("-A {flag} {vip}:{port} -s rr\n"));
            for server in servers(vip) {
                rules.push_str(&format!("-a {flag} {vip}:{port} -r {server}:{port} -m -w 1\n"));
            }
        }
    }
    rules.push_str(&format!("-A -t {own}:81 -s rr\n"));
    for server in servers(VIPS[0]) {
        rules.push_str(&format!("-a -t {own}:81 -r {server}:80 -m -w 1\n"));
    }
    rules.push_str(&format!("-A -f {MARK} -s rr\n"));
    for server in ["10.244.0.10", "10.244.1.10"] {
        rules.push_str(&format!("-a -f {MARK} -r {server}:80 -i -w 1\n"));
    }
    rules
}

fn servers(vip: &str) -> &'static [&'static str] {
    match vip {
        "10.96.0.1" => &["10.244.0.10", "10.244.1.11"],
        "10.96.0.2" => &["10.244.1.10"],
        _ => &[],
    }
}

fn sets(n: usize, own: &str) -> String {
    let mut lines = Vec::new();
    for (set, kind) in [
        ("kube-router-local-ips", "hash:ip"),
        ("kube-router-svip", "hash:ip"),
        ("kube-router-svip-prt", "hash:ip,port"),
        ("kube-router-pod-subnets", "hash:net"),
        ("kube-router-node-ips", "hash:ip"),
    ] {
        lines.push(format!("create {set} {kind} timeout 0"));
    }
    for local in [own, "127.0.0.1", &format!("10.244.{n}.1")] {
        lines.push(format!("add kube-router-local-ips {local} timeout 0"));
    }
    for vip in VIPS.into_iter().chain([own, DIRECT]) {
        lines.push(format!("add kube-router-svip {vip} timeout 0"));
    }
    for vip in VIPS {
        lines.push(format!("add kube-router-svip-prt {vip},tcp:80 timeout 0"));
        lines.push(format!("add kube-router-svip-prt {vip},udp:53 timeout 0"));
    }
    lines.push(format!("add kube-router-svip-prt {own},tcp:81 timeout 0"));
    lines.push(format!("add kube-router-svip-prt {DIRECT},tcp:80 timeout 0"));
    for i in 0..2 {
        lines.push(format!("add kube-router-pod-subnets 10.244.{i}.0/24 timeout 0"));
        lines.push(format!("add kube-router-node-ips 192.168.50.{} timeout 0", 10 + i));
    }
    lines.join("\n")
}

fn chains(n: usize, own: &str, hairpin: bool) -> String {
    let mut nat = format!(
        "*nat\n:POSTROUTING ACCEPT [0:0]\n\
         -A POSTROUTING -m set --match-set kube-router-pod-subnets src -m set ! --match-set kube-router-pod-subnets dst \
         -m set ! --match-set kube-router-node-ips dst -j MASQUERADE\n\
         -A POSTROUTING ! -s 10.244.{n}.0/24 ! -d 10.244.{n}.0/24 -m ipvs --ipvs --vdir ORIGINAL --vmethod MASQ \
         -j SNAT --to-source {own}\n"
    );
    if hairpin {
        nat += ":KUBE-ROUTER-HAIRPIN - [0:0]\n-A POSTROUTING -m ipvs --vdir ORIGINAL -j KUBE-ROUTER-HAIRPIN\n";
        for server in servers(VIPS[0]) {
            nat += &format!(
                "-A KUBE-ROUTER-HAIRPIN -s {server}/32 -d {server}/32 -m ipvs --vaddr {0} --vport 80 -j SNAT --to-source {0}\n",
                VIPS[0]
            );
        }
    }
    let mark = format!("-d {DIRECT}/32 -p tcp -m tcp --dport 80 -j MARK --set-xmark {MARK:#x}/0xffffffff");
    format!(
        "*mangle\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n-A PREROUTING {mark}\n-A OUTPUT {mark}\n\
         -A PREROUTING -s {DIRECT}/32 -i kube-bridge -p tcp -m tcp --sport 80 --tcp-flags SYN,RST SYN -j TCPMSS --set-mss 1440\n\
         COMMIT\n{nat}COMMIT\n\
         *filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n:KUBE-ROUTER-SERVICES - [0:0]\n\
         -A INPUT -m comment --comment \"handle traffic to IPVS service IPs in custom chain\" \
         -m set --match-set kube-router-svip dst -j KUBE-ROUTER-SERVICES\n\
         -A FORWARD -m comment --comment \"allow outbound node port traffic on node interface with which node ip is associated\" \
         -o eth0 -j ACCEPT\n\
         -A FORWARD -m comment --comment \"allow inbound traffic to pods\" -o kube-bridge -j ACCEPT\n\
         -A FORWARD -m comment --comment \"allow outbound traffic from pods\" -i kube-bridge -j ACCEPT\n\
         -A KUBE-ROUTER-SERVICES -p icmp -m icmp --icmp-type echo-request -j ACCEPT\n\
         -A KUBE-ROUTER-SERVICES -p icmp -m icmp --icmp-type destination-unreachable -j ACCEPT\n\
         -A KUBE-ROUTER-SERVICES -p icmp -m icmp --icmp-type time-exceeded -j ACCEPT\n\
         -A KUBE-ROUTER-SERVICES -m comment --comment \"allow input traffic to ipvs services\" \
         -m set --match-set kube-router-svip-prt dst,dst -j ACCEPT\n\
         -A KUBE-ROUTER-SERVICES -m comment --comment \"reject all unexpected traffic to service IPs\" \
         -m set ! --match-set kube-router-local-ips dst -j REJECT --reject-with icmp-port-unreachable\nCOMMIT"
    )
}
