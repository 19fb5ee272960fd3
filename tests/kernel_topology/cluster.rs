//! Nodes with a bridge for their pods, joined by routes or by VXLAN, as flannel and the bridge plugin
//! make them; then things are broken at random.

use crate::netns::Rng;
use crate::plan::{Plan, mac, nobody};

/// How pods reach other nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fabric {
    Routes,
    Vxlan,
}

struct Cluster {
    plan: Plan,
    fabric: Fabric,
    nodes: Vec<usize>,
    /// Namespace, node, ordinal.
    pods: Vec<(usize, usize, usize)>,
    pod_mtu: u32,
}

pub fn plans(rng: &mut Rng) -> Vec<Plan> {
    let mut plans = Vec::new();
    for (i, fabric) in [Fabric::Routes, Fabric::Vxlan, Fabric::Routes, Fabric::Vxlan]
        .into_iter()
        .enumerate()
    {
        let mut cluster = Cluster::new(&format!("{fabric:?}{i}"), fabric, 2, 2);
        cluster.services(rng);
        cluster.plan.warm = rng.one_in(2);
        cluster.plan.hide_nsids = rng.one_in(4);
        for _ in 0..if i < 2 { 0 } else { 1 + rng.below(3) } {
            cluster.fault(rng);
        }
        plans.push(cluster.plan);
    }
    plans
}

impl Cluster {
    fn new(name: &str, fabric: Fabric, nodes: usize, pods: usize) -> Self {
        let mut this = Self {
            plan: Plan::new(name),
            fabric,
            nodes: Vec::new(),
            pods: Vec::new(),
            pod_mtu: 1500,
        };
        if fabric == Fabric::Vxlan {
            this.pod_mtu = 1450;
        }
        let plan = &mut this.plan;
        let wire = plan.space("wire", None, false);
        plan.spaces[wire].peer = false;
        plan.ip(wire, "link add br0 type bridge");
        plan.ip(wire, "link set br0 up");
        for n in 0..nodes {
            let node = plan.space(&format!("n{n}"), Some(&format!("node-{n}")), true);
            plan.veth(node, "eth0", wire, &format!("w{n}"));
            plan.ip(wire, &format!("link set w{n} master br0"));
            plan.ip(node, &format!("link set eth0 address {}", mac(0x100 + n as u64)));
            plan.addr(node, "eth0", &format!("192.168.50.{}/24", 10 + n));
            plan.addr(node, "eth0", &format!("fd50::{}/64", 10 + n));
            plan.ip(
                node,
                &format!("link add cni0 address {} type bridge", mac(0x200 + n as u64)),
            );
            plan.ip(node, &format!("link set cni0 mtu {} up", this.pod_mtu));
            plan.addr(node, "cni0", &format!("10.244.{n}.1/24"));
            plan.addr(node, "cni0", &format!("fd44:{n}::1/64"));
            this.nodes.push(node);
        }
        for n in 0..nodes {
            for p in 0..pods {
                this.pod(n, p);
            }
        }
        for n in 0..nodes {
            for m in (0..nodes).filter(|&m| m != n) {
                this.fabric(n, m);
            }
        }
        this
    }

    fn pod(&mut self, n: usize, p: usize) {
        let node = self.nodes[n];
        let plan = &mut self.plan;
        let pod = plan.space(&format!("p{n}{p}"), Some(&format!("node-{n}")), false);
        plan.veth(pod, "eth0", node, &format!("veth{p}"));
        plan.ip(
            pod,
            &format!("link set eth0 address {} mtu {}", pod_mac(n, p), self.pod_mtu),
        );
        plan.addr(pod, "eth0", &format!("10.244.{n}.{}/24", 10 + p));
        plan.addr(pod, "eth0", &format!("fd44:{n}::{}/64", 10 + p));
        plan.ip(pod, &format!("route add default via 10.244.{n}.1"));
        plan.ip(pod, &format!("route add ::/0 via fd44:{n}::1"));
        plan.ip(node, &format!("link set veth{p} mtu {} master cni0", self.pod_mtu));
        self.pods.push((pod, n, p));
    }

    /// How node `n` reaches the pods of node `m`.
    fn fabric(&mut self, n: usize, m: usize) {
        let (node, plan) = (self.nodes[n], &mut self.plan);
        // IPv6 pods are reached by routes in both.
        plan.ip(node, &format!("route add fd44:{m}::/64 via fd50::{}", 10 + m));
        match self.fabric {
            Fabric::Routes => plan.ip(node, &format!("route add 10.244.{m}.0/24 via 192.168.50.{}", 10 + m)),
            Fabric::Vxlan => {
                if !plan.spaces[node].ip.iter().any(|l| l.contains("flannel.1")) {
                    plan.ip(
                        node,
                        &format!(
                            "link add flannel.1 address {} type vxlan id 1 local 192.168.50.{} dev eth0 dstport 8472 nolearning",
                            mac(0x300 + n as u64),
                            10 + n
                        ),
                    );
                    plan.ip(node, "link set flannel.1 mtu 1450 up");
                    plan.addr(node, "flannel.1", &format!("10.244.{n}.0/32"));
                }
                let remote = mac(0x300 + m as u64);
                plan.ip(
                    node,
                    &format!("neigh add 10.244.{m}.0 lladdr {remote} dev flannel.1 nud permanent"),
                );
                plan.ip(
                    node,
                    &format!("route add 10.244.{m}.0/24 via 10.244.{m}.0 dev flannel.1 onlink"),
                );
                plan.bridge(
                    node,
                    &format!(
                        "fdb add {remote} dev flannel.1 dst 192.168.50.{} self permanent",
                        10 + m
                    ),
                );
            }
        }
    }

    /// DNAT for a few virtual addresses, and masquerading for what leaves.
    fn services(&mut self, rng: &mut Rng) {
        let pods: Vec<(usize, usize)> = self.pods.iter().map(|&(_, n, p)| (n, p)).collect();
        let targets: Vec<(usize, usize)> = (0..3).map(|_| rng.pick(&pods)).collect();
        self.plan
            .targets
            .extend((1..=3).map(|k| std::net::IpAddr::from([10, 96, 0, k])));
        self.plan.targets.push("fd96::1".parse().expect("an address"));
        self.plan.targets.push("10.244.0.77".parse().expect("an address"));
        self.plan.targets.push("192.168.50.77".parse().expect("an address"));
        for n in 0..self.nodes.len() {
            let mut nat = String::from("*nat\n:SVC - [0:0]\n-A PREROUTING -j SVC\n-A OUTPUT -j SVC\n");
            for (k, &(m, p)) in targets.iter().enumerate() {
                nat += &format!(
                    "-A SVC -d 10.96.0.{k}/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.244.{m}.{p}:80\n\
                     -A SVC -d 10.96.0.{k}/32 -p udp -m udp --dport 53 -j DNAT --to-destination 10.244.{m}.{p}:53\n",
                    k = k + 1,
                    p = 10 + p
                );
            }
            // A pod that reaches itself, and whoever leaves the cluster.
            for &(m, p) in &pods {
                nat += &format!(
                    "-A POSTROUTING -s 10.244.{m}.{p}/32 -d 10.244.{m}.{p}/32 -j MASQUERADE\n",
                    p = 10 + p
                );
            }
            if rng.one_in(2) {
                nat += "-A POSTROUTING -s 10.244.0.0/16 ! -d 10.244.0.0/16 -j MASQUERADE\n";
            }
            nat += "COMMIT\n";
            let (m, p) = targets[0];
            let nat6 = format!(
                "*nat\n:SVC - [0:0]\n-A PREROUTING -j SVC\n-A OUTPUT -j SVC\n\
                 -A SVC -d fd96::1/128 -p tcp -m tcp --dport 80 -j DNAT --to-destination [fd44:{m}::{}]:80\nCOMMIT\n",
                10 + p
            );
            let space = &mut self.plan.spaces[self.nodes[n]];
            space.iptables += &nat;
            space.ip6tables += &nat6;
        }
        // Not in every pod's routes: an address in fd96::/64 leaves by the default route of a pod only.
        for n in 0..self.nodes.len() {
            let gateway = (n + 1) % self.nodes.len();
            self.plan.ip(
                self.nodes[n],
                &format!("route add fd96::/64 via fd50::{}", 10 + gateway),
            );
            self.plan.ip(
                self.nodes[n],
                &format!("route add 10.96.0.0/16 via 192.168.50.{}", 10 + gateway),
            );
        }
    }

    /// Breaks one thing.
    fn fault(&mut self, rng: &mut Rng) {
        let n = usize::try_from(rng.below(self.nodes.len() as u64)).expect("few");
        let m = (n + 1) % self.nodes.len();
        let node = self.nodes[n];
        let here: Vec<(usize, usize)> = self.pods.iter().filter(|p| p.1 == n).map(|&(s, _, p)| (s, p)).collect();
        let (pod, p) = rng.pick(&here);
        let vxlan = self.fabric == Fabric::Vxlan;
        let plan = &mut self.plan;
        let which = rng.below(if vxlan { 40 } else { 28 });
        match which {
            0 => plan.bridge(node, &format!("link set dev veth{p} hairpin on")),
            1 => {
                for (_, p) in &here {
                    plan.bridge(node, &format!("link set dev veth{p} isolated on"));
                }
            }
            2 => plan.last(node, &format!("link set veth{p} down")),
            3 => plan.last(pod, "link set eth0 down"),
            4 => plan.sysctl(node, "net/bridge/bridge-nf-call-iptables", "0"),
            5 => plan.sysctl(node, "net/bridge/bridge-nf-call-ip6tables", "0"),
            6 => plan.sysctl(
                node,
                "net/ipv4/conf/eth0/arp_ignore",
                rng.pick(&["1", "2", "3", "4", "8"]),
            ),
            7 => plan.sysctl(node, "net/ipv4/conf/all/arp_announce", rng.pick(&["1", "2"])),
            8 => plan.sysctl(node, "net/ipv4/conf/all/arp_filter", "1"),
            9 => plan.sysctl(node, "net/ipv4/conf/cni0/forwarding", "0"),
            10 => plan.sysctl(node, "net/ipv4/conf/eth0/forwarding", "0"),
            11 => plan.sysctl(node, "net/ipv4/conf/all/rp_filter", rng.pick(&["1", "2"])),
            12 => plan.last(
                node,
                &format!(
                    "neigh replace 192.168.50.{} lladdr {} dev eth0 nud permanent",
                    10 + m,
                    nobody(rng)
                ),
            ),
            13 => plan.last(
                node,
                &format!(
                    "neigh replace 10.244.{n}.{} lladdr {} dev cni0 nud permanent",
                    10 + p,
                    nobody(rng)
                ),
            ),
            14 => plan.last(
                pod,
                &format!(
                    "neigh replace 10.244.{n}.1 lladdr {} dev eth0 nud permanent",
                    nobody(rng)
                ),
            ),
            15 => plan.last(pod, "link set eth0 arp off"),
            16 => plan.last(node, "link set eth0 arp off"),
            17 => plan.bridge(
                node,
                &format!("fdb replace {} dev veth{} master static", pod_mac(n, p), 1 - p),
            ),
            18 => plan.bridge(node, &format!("link set dev veth{p} flood off")),
            19 => plan.bridge(node, &format!("link set dev veth{p} learning off")),
            20 => plan.last(node, "link set cni0 down"),
            21 => {
                plan.spaces[node].iptables += "*filter\n-A FORWARD -p udp -j DROP\n-A INPUT -p icmp -j REJECT\nCOMMIT\n"
            }
            22 => {
                plan.spaces[node].iptables += "*filter\n-A INPUT -m physdev --physdev-in veth0 -j DROP\n-A FORWARD -m physdev --physdev-is-bridged --physdev-out veth1 -j DROP\nCOMMIT\n"
            }
            23 => plan.sysctl(pod, "net/ipv4/conf/eth0/arp_ignore", rng.pick(&["1", "2", "8"])),
            24 => {
                plan.ip(node, &format!("rule add iif cni0 to 10.244.{m}.0/24 table 100"));
                plan.ip(
                    node,
                    rng.pick(&[
                        "route add unreachable default table 100",
                        "route add prohibit default table 100",
                        "route add blackhole default table 100",
                    ]),
                );
            }
            25 => plan.last(
                node,
                &format!(
                    "neigh replace 10.244.{n}.{} lladdr {} dev cni0 nud permanent",
                    10 + p,
                    pod_mac(n, 1 - p)
                ),
            ),
            26 => plan.bridge(
                node,
                &format!("link set dev veth{p} state {}", rng.pick(&["0", "1", "2", "4"])),
            ),
            27 => plan.last(node, &format!("route replace 10.244.{m}.0/24 via 192.168.50.{} ", 77)),
            28 => plan.bridge(node, &format!("fdb del {} dev flannel.1", mac(0x300 + m as u64))),
            29 => plan.bridge(
                node,
                &format!("fdb replace {} dev flannel.1 dst 192.168.50.77", mac(0x300 + m as u64)),
            ),
            30 => plan.last(
                node,
                &format!(
                    "neigh replace 10.244.{m}.0 lladdr {} dev flannel.1 nud permanent",
                    nobody(rng)
                ),
            ),
            31 => plan.last(node, &format!("neigh del 10.244.{m}.0 dev flannel.1")),
            32 => plan.last(node, "link set flannel.1 down"),
            33 => plan.spaces[node].iptables += "*filter\n-A INPUT -p udp -m udp --dport 8472 -j DROP\nCOMMIT\n",
            34 => plan.spaces[node].iptables += "*filter\n-A OUTPUT -p udp -m udp --dport 8472 -j DROP\nCOMMIT\n",
            35 => plan.bridge(
                node,
                &format!(
                    "fdb replace {} dev flannel.1 dst 192.168.50.{} vni 2",
                    mac(0x300 + m as u64),
                    10 + m
                ),
            ),
            36 => plan.bridge(
                node,
                &format!(
                    "fdb replace {} dev flannel.1 dst 192.168.50.{} port 4789",
                    mac(0x300 + m as u64),
                    10 + m
                ),
            ),
            37 => plan.last(node, &format!("link set flannel.1 address {}", nobody(rng))),
            38 => plan.last(node, &format!("link set flannel.1 address {}", mac(0x300 + m as u64))),
            _ => plan.bridge(
                node,
                &format!(
                    "fdb replace {} dev flannel.1 dst 192.168.50.{}",
                    mac(0x300 + m as u64),
                    10 + n
                ),
            ),
        }
        plan.fault(format!("{which} at node {n} pod {p}"));
    }
}

fn pod_mac(n: usize, p: usize) -> String {
    mac(0x1000 + (n as u64) * 16 + p as u64)
}
