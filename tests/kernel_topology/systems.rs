//! Topologies as network systems make them, each named by its system: AWS VPC CNI, Azure CNI, GKE, kube-router
//! and ServiceLB. What a cloud's fabric answers in place of machines (ARP for a pod's address) stands as a
//! permanent neighbour. Ports are masqueraded without `--random-fully`: what arrives is known by its source port.

use crate::netns::Rng;
use crate::others::{node, wire};
use crate::plan::{Plan, mac};

pub fn plans(rng: &mut Rng) -> Vec<Plan> {
    let mut plans = vec![aws_vpc_cni(), azure_cni(), gke(), kube_router(), servicelb()];
    for plan in &mut plans {
        plan.warm = rng.one_in(3);
    }
    plans
}

/// A pod with a /32 that reaches everything by 169.254.1.1, whose MAC it knows: that of the host's veth.
fn static_gateway(plan: &mut Plan, n: usize, p: usize, host: usize, dev: &str, address: &str) -> usize {
    let pod = plan.space(&format!("p{n}{p}"), Some(&format!("node-{n}")), false);
    plan.veth(pod, "eth0", host, dev);
    let veth = mac(0x2000 + (n * 16 + p) as u64);
    plan.ip(host, &format!("link set {dev} address {veth}"));
    plan.addr(pod, "eth0", &format!("{address}/32"));
    plan.ip(pod, "route add 169.254.1.1 dev eth0 scope link");
    plan.ip(pod, "route add default via 169.254.1.1 dev eth0");
    plan.ip(
        pod,
        &format!("neigh add 169.254.1.1 lladdr {veth} dev eth0 nud permanent"),
    );
    plan.ip(host, &format!("route add {address} dev {dev} scope link"));
    pod
}

/// Pods with addresses of the nodes' subnet. Those of the second interface leave by a table of their own; rules
/// bring packets for pods to the main table, and a mark brings back what came in by the first interface.
fn aws_vpc_cni() -> Plan {
    let mut plan = Plan::new("aws-vpc-cni");
    let wire = wire(&mut plan);
    let router = node(&mut plan, 9, wire);
    for key in ["all", "eth0"] {
        plan.sysctl(router, &format!("net/ipv4/conf/{key}/send_redirects"), "0");
    }
    let first = |n: usize| mac(0x100 + n as u64);
    let second = |n: usize| mac(0x180 + n as u64);
    let mut fabric = Vec::new();
    let mut hosts = Vec::new();
    for n in 0..2 {
        let host = node(&mut plan, n, wire);
        plan.veth(host, "eth1", wire, &format!("x{n}"));
        plan.ip(wire, &format!("link set x{n} master br0"));
        plan.ip(host, &format!("link set eth1 address {}", second(n)));
        plan.ip(
            host,
            &format!("addr add 192.168.50.{}/24 dev eth1 noprefixroute", 30 + n),
        );
        plan.ip(host, "route add 192.168.50.19 dev eth1 scope link table 2");
        plan.ip(host, "route add default via 192.168.50.19 dev eth1 table 2");
        plan.ip(host, "route add default via 192.168.50.19");
        plan.ip(host, "rule add priority 1024 fwmark 0x80/0x80 table main");
        for p in 0..2 {
            let address = format!("192.168.50.{}", 100 + n * 16 + p);
            static_gateway(&mut plan, n, p, host, &format!("eni{n}{p}"), &address);
            plan.ip(host, &format!("rule add priority 512 to {address} table main"));
            if p == 1 {
                plan.ip(host, &format!("rule add priority 1536 from {address} table 2"));
            }
            fabric.push((n, address, if p == 0 { first(n) } else { second(n) }));
        }
        for dev in ["all", "eth0", "eth1"] {
            plan.sysctl(host, &format!("net/ipv4/conf/{dev}/rp_filter"), "2");
        }
        plan.spaces[host].iptables += &format!(
            "*mangle\n-A PREROUTING -i eth0 -m addrtype --dst-type LOCAL --limit-iface-in -j CONNMARK --set-xmark 0x80/0x80\n\
             -A PREROUTING -i eni+ -j CONNMARK --restore-mark --nfmask 0x80 --ctmask 0x80\nCOMMIT\n\
             *nat\n:AWS-SNAT-CHAIN-0 - [0:0]\n:AWS-CONNMARK-CHAIN-0 - [0:0]\n\
             -A PREROUTING -i eni+ -m comment --comment \"AWS, outbound connections\" -j AWS-CONNMARK-CHAIN-0\n\
             -A PREROUTING -m comment --comment \"AWS, CONNMARK\" -j CONNMARK --restore-mark --nfmask 0x80 --ctmask 0x80\n\
             -A POSTROUTING -m comment --comment \"AWS SNAT CHAIN\" -j AWS-SNAT-CHAIN-0\n\
             -A AWS-CONNMARK-CHAIN-0 -d 192.168.50.0/24 -j RETURN\n\
             -A AWS-CONNMARK-CHAIN-0 -j CONNMARK --set-xmark 0x80/0x80\n\
             -A AWS-SNAT-CHAIN-0 -d 192.168.50.0/24 -j RETURN\n\
             -A AWS-SNAT-CHAIN-0 ! -o vlan+ -m addrtype ! --dst-type LOCAL -j SNAT --to-source 192.168.50.{}\nCOMMIT\n",
            10 + n
        );
        hosts.push(host);
    }
    for (n, address, mac) in &fabric {
        plan.ip(
            router,
            &format!("neigh add {address} lladdr {mac} dev eth0 nud permanent"),
        );
        for (_, &host) in hosts.iter().enumerate().filter(|(m, _)| m != n) {
            plan.ip(
                host,
                &format!("neigh add {address} lladdr {mac} dev eth0 nud permanent"),
            );
        }
    }
    // Somebody beyond the router, so that a packet leaves the subnet and is masqueraded.
    let far = plan.space("far", Some("node-8"), true);
    plan.veth(far, "eth0", router, "far0");
    plan.addr(far, "eth0", "203.0.113.8/24");
    plan.addr(router, "far0", "203.0.113.1/24");
    plan.ip(far, "route add default via 203.0.113.1");
    plan
}

/// Transparent mode: a route to each pod, and the pod's gateway a permanent neighbour.
fn azure_cni() -> Plan {
    let mut plan = Plan::new("azure-cni");
    let wire = wire(&mut plan);
    let mut hosts = Vec::new();
    for n in 0..2 {
        let host = node(&mut plan, n, wire);
        for p in 0..2 {
            let dev = format!("azv{n}{p}");
            static_gateway(&mut plan, n, p, host, &dev, &format!("10.224.{n}.{}", 10 + p));
        }
        hosts.push(host);
    }
    for (n, &host) in hosts.iter().enumerate() {
        let m = 1 - n;
        plan.ip(host, &format!("route add 10.224.{m}.0/24 via 192.168.50.{}", 10 + m));
        plan.spaces[host].iptables += "*nat\n:IP-MASQ-AGENT - [0:0]\n\
             -A POSTROUTING -m comment --comment \"ip-masq-agent: ensure nat POSTROUTING directs all non-LOCAL destination traffic to our custom IP-MASQ-AGENT chain\" -m addrtype ! --dst-type LOCAL -j IP-MASQ-AGENT\n\
             -A IP-MASQ-AGENT -d 10.224.0.0/16 -j RETURN\n-A IP-MASQ-AGENT -j MASQUERADE\nCOMMIT\n";
    }
    plan.targets.push("10.224.0.99".parse().expect("an address"));
    plan
}

/// The ptp plugin: the gateway on every veth of the host, and a route to each pod.
fn gke() -> Plan {
    let mut plan = Plan::new("gke");
    let wire = wire(&mut plan);
    for n in 0..2 {
        let host = node(&mut plan, n, wire);
        for p in 0..2 {
            let pod = plan.space(&format!("p{n}{p}"), Some(&format!("node-{n}")), false);
            let dev = format!("gke{n}{p}");
            plan.veth(pod, "eth0", host, &dev);
            plan.ip(host, &format!("addr add 10.8.{n}.1/32 dev {dev}"));
            plan.ip(host, &format!("route add 10.8.{n}.{} dev {dev} scope host", 10 + p));
            plan.addr(pod, "eth0", &format!("10.8.{n}.{}/24", 10 + p));
            plan.ip(pod, &format!("route del 10.8.{n}.0/24 dev eth0"));
            plan.ip(pod, &format!("route add 10.8.{n}.1 dev eth0 scope link"));
            plan.ip(pod, &format!("route add default via 10.8.{n}.1"));
        }
        let m = 1 - n;
        plan.ip(host, &format!("route add 10.8.{m}.0/24 via 192.168.50.{}", 10 + m));
        plan.spaces[host].iptables += "*nat\n:IP-MASQ - [0:0]\n\
             -A POSTROUTING -m addrtype ! --dst-type LOCAL -j IP-MASQ\n\
             -A IP-MASQ -d 10.0.0.0/8 -j RETURN\n-A IP-MASQ -j MASQUERADE\nCOMMIT\n";
    }
    plan.targets.push("10.8.0.99".parse().expect("an address"));
    plan
}

/// A bridge for the pods, routes of its own protocol between nodes of one subnet, and a policy for one pod.
fn kube_router() -> Plan {
    let mut plan = Plan::new("kube-router");
    let wire = wire(&mut plan);
    for n in 0..2 {
        let host = node(&mut plan, n, wire);
        plan.ip(
            host,
            &format!("link add kube-bridge address {} type bridge", mac(0x200 + n as u64)),
        );
        plan.ip(host, "link set kube-bridge up");
        plan.addr(host, "kube-bridge", &format!("10.244.{n}.1/24"));
        for p in 0..2 {
            let pod = plan.space(&format!("p{n}{p}"), Some(&format!("node-{n}")), false);
            plan.veth(pod, "eth0", host, &format!("veth{p}"));
            plan.ip(host, &format!("link set veth{p} master kube-bridge"));
            plan.addr(pod, "eth0", &format!("10.244.{n}.{}/24", 10 + p));
            plan.ip(pod, &format!("route add default via 10.244.{n}.1"));
        }
        let m = 1 - n;
        plan.ip(
            host,
            &format!("route add 10.244.{m}.0/24 via 192.168.50.{} proto 17", 10 + m),
        );
        plan.spaces[host].iptables += &format!(
            "*filter\n:KUBE-ROUTER-FORWARD - [0:0]\n:KUBE-POD-FW-A - [0:0]\n:KUBE-NWPLCY-B - [0:0]\n\
             -A FORWARD -m comment --comment \"kube-router netpol\" -j KUBE-ROUTER-FORWARD\n\
             -A KUBE-ROUTER-FORWARD -d 10.244.{n}.10/32 -j KUBE-POD-FW-A\n\
             -A KUBE-POD-FW-A -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
             -A KUBE-POD-FW-A -j KUBE-NWPLCY-B\n\
             -A KUBE-POD-FW-A -m mark ! --mark 0x10000/0x10000 -j REJECT --reject-with icmp-port-unreachable\n\
             -A KUBE-POD-FW-A -j MARK --set-xmark 0x0/0x10000\n\
             -A KUBE-NWPLCY-B -p tcp -m tcp --dport 80 -j MARK --set-xmark 0x10000/0x10000\nCOMMIT\n"
        );
    }
    plan
}

/// A hostPort leads into a pod that forwards to a ClusterIP, as k3s makes it for a Service of type LoadBalancer.
fn servicelb() -> Plan {
    let mut plan = Plan::new("servicelb");
    let wire = wire(&mut plan);
    for n in 0..2 {
        let host = node(&mut plan, n, wire);
        plan.ip(
            host,
            &format!("link add cni0 address {} type bridge", mac(0x200 + n as u64)),
        );
        plan.ip(host, "link set cni0 up");
        plan.addr(host, "cni0", &format!("10.42.{n}.1/24"));
        for p in 0..2 {
            let pod = plan.space(&format!("p{n}{p}"), Some(&format!("node-{n}")), false);
            plan.veth(pod, "eth0", host, &format!("veth{p}"));
            plan.ip(host, &format!("link set veth{p} master cni0"));
            plan.addr(pod, "eth0", &format!("10.42.{n}.{}/24", 10 + p));
            plan.ip(pod, &format!("route add default via 10.42.{n}.1"));
            if p == 0 {
                plan.sysctl(pod, "net/ipv4/ip_forward", "1");
                plan.spaces[pod].iptables += "*nat\n-A PREROUTING ! -s 10.43.0.1/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.43.0.1:80\n\
                     -A POSTROUTING -d 10.43.0.1/32 -p tcp -j MASQUERADE\nCOMMIT\n";
            }
        }
        let m = 1 - n;
        plan.ip(host, &format!("route add 10.42.{m}.0/24 via 192.168.50.{}", 10 + m));
        plan.spaces[host].iptables += &format!(
            "*nat\n:CNI-HOSTPORT-DNAT - [0:0]\n:CNI-DN-A - [0:0]\n:CNI-HOSTPORT-SETMARK - [0:0]\n:CNI-HOSTPORT-MASQ - [0:0]\n\
             :KUBE-SERVICES - [0:0]\n:KUBE-MARK-MASQ - [0:0]\n:KUBE-POSTROUTING - [0:0]\n\
             -A PREROUTING -j KUBE-SERVICES\n-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT\n\
             -A OUTPUT -j KUBE-SERVICES\n-A OUTPUT -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT\n\
             -A POSTROUTING -j CNI-HOSTPORT-MASQ\n-A POSTROUTING -j KUBE-POSTROUTING\n\
             -A CNI-HOSTPORT-MASQ -m mark --mark 0x2000/0x2000 -j MASQUERADE\n\
             -A CNI-HOSTPORT-SETMARK -j MARK --set-xmark 0x2000/0x2000\n\
             -A CNI-HOSTPORT-DNAT -p tcp -m multiport --dports 80 -j CNI-DN-A\n\
             -A CNI-DN-A -s 10.42.{n}.0/24 -p tcp -m tcp --dport 80 -j CNI-HOSTPORT-SETMARK\n\
             -A CNI-DN-A -s 127.0.0.1/32 -p tcp -m tcp --dport 80 -j CNI-HOSTPORT-SETMARK\n\
             -A CNI-DN-A -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.42.{n}.10:80\n\
             -A KUBE-SERVICES -d 10.43.0.1/32 -p tcp -m tcp --dport 80 -j KUBE-MARK-MASQ\n\
             -A KUBE-SERVICES -d 10.43.0.1/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.42.1.11:80\n\
             -A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000\n\
             -A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN\n\
             -A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0\n\
             -A KUBE-POSTROUTING -j MASQUERADE\nCOMMIT\n"
        );
    }
    plan.targets.push("10.43.0.1".parse().expect("an address"));
    plan
}
