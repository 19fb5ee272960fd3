//! A snapshot of one node with a bridge, two pods and one NodePort Service, as the tools would print it.

use std::sync::Arc;

use knet_snapshot::Snapshot;
use knet_snapshot::store::Blob;

const LINK: &str = r#"[
{"ifindex":1,"ifname":"lo","flags":["LOOPBACK","UP","LOWER_UP"],"mtu":65536,"operstate":"UNKNOWN","link_type":"loopback","address":"00:00:00:00:00:00"},
{"ifindex":2,"ifname":"eth0","flags":["BROADCAST","MULTICAST","UP","LOWER_UP"],"mtu":1500,"operstate":"UP","link_type":"ether","address":"02:00:00:00:00:01"},
{"ifindex":3,"ifname":"cni0","flags":["BROADCAST","MULTICAST","UP","LOWER_UP"],"mtu":1500,"operstate":"UP","link_type":"ether","address":"02:00:00:00:00:03","linkinfo":{"info_kind":"bridge","info_data":{"vlan_filtering":0,"nf_call_iptables":0}}},
{"ifindex":4,"link_index":2,"ifname":"veth4","flags":["BROADCAST","MULTICAST","UP","LOWER_UP"],"mtu":1500,"operstate":"UP","link_type":"ether","address":"02:00:00:00:00:04","link_netnsid":1,"master":"cni0","linkinfo":{"info_kind":"veth","info_slave_kind":"bridge"}},
{"ifindex":5,"link_index":2,"ifname":"veth5","flags":["BROADCAST","MULTICAST","UP","LOWER_UP"],"mtu":1500,"operstate":"UP","link_type":"ether","address":"02:00:00:00:00:05","link_netnsid":2,"master":"cni0","linkinfo":{"info_kind":"veth","info_slave_kind":"bridge"}}
]"#;

const ADDR: &str = r#"[
{"ifindex":1,"ifname":"lo","addr_info":[{"family":"inet","local":"127.0.0.1","prefixlen":8,"scope":"host"}]},
{"ifindex":2,"ifname":"eth0","addr_info":[{"family":"inet","local":"192.168.0.11","prefixlen":24,"broadcast":"192.168.0.255","scope":"global"}]},
{"ifindex":3,"ifname":"cni0","addr_info":[{"family":"inet","local":"10.244.0.1","prefixlen":24,"broadcast":"10.244.0.255","scope":"global"}]}
]"#;

const ROUTE: &str = r#"[
{"type":"unicast","dst":"default","gateway":"192.168.0.1","dev":"eth0","table":"main","protocol":"boot","scope":"global","flags":[]},
{"type":"unicast","dst":"10.244.0.0/24","dev":"cni0","table":"main","protocol":"kernel","scope":"link","prefsrc":"10.244.0.1","flags":[]},
{"type":"unicast","dst":"192.168.0.0/24","dev":"eth0","table":"main","protocol":"kernel","scope":"link","prefsrc":"192.168.0.11","flags":[]},
{"type":"local","dst":"10.244.0.1","dev":"cni0","table":"local","protocol":"kernel","scope":"host","prefsrc":"10.244.0.1","flags":[]},
{"type":"local","dst":"127.0.0.0/8","dev":"lo","table":"local","protocol":"kernel","scope":"host","prefsrc":"127.0.0.1","flags":[]},
{"type":"local","dst":"192.168.0.11","dev":"eth0","table":"local","protocol":"kernel","scope":"host","prefsrc":"192.168.0.11","flags":[]}
]"#;

const RULE: &str = r#"[{"priority":0,"src":"all","table":"local"},{"priority":32766,"src":"all","table":"main"},{"priority":32767,"src":"all","table":"default"}]"#;

const SAVE: &str = r#"*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-EXT-67NZLRHBNDSAWJRO - [0:0]
:KUBE-SVC-67NZLRHBNDSAWJRO - [0:0]
:KUBE-SEP-AAAAAAAAAAAAAAAA - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-NODEPORTS -p tcp -m comment --comment "shop/web:http" -m tcp --dport 30080 -j KUBE-EXT-67NZLRHBNDSAWJRO
-A KUBE-EXT-67NZLRHBNDSAWJRO -m comment --comment "masquerade traffic for shop/web:http external destinations" -j KUBE-MARK-MASQ
-A KUBE-EXT-67NZLRHBNDSAWJRO -j KUBE-SVC-67NZLRHBNDSAWJRO
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
-A KUBE-SERVICES -d 10.96.1.1/32 -p tcp -m comment --comment "shop/web:http cluster IP" -m tcp --dport 80 -j KUBE-SVC-67NZLRHBNDSAWJRO
-A KUBE-SERVICES -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
-A KUBE-SVC-67NZLRHBNDSAWJRO -m comment --comment "shop/web:http -> 10.244.0.3:8080" -j KUBE-SEP-AAAAAAAAAAAAAAAA
-A KUBE-SEP-AAAAAAAAAAAAAAAA -s 10.244.0.3/32 -m comment --comment "shop/web:http" -j KUBE-MARK-MASQ
-A KUBE-SEP-AAAAAAAAAAAAAAAA -p tcp -m comment --comment "shop/web:http" -m tcp -j DNAT --to-destination 10.244.0.3:8080
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:KUBE-SERVICES - [0:0]
-A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A KUBE-SERVICES -d 10.96.1.2/32 -p tcp -m comment --comment "shop/void:http has no endpoints" -m tcp --dport 80 -j REJECT --reject-with icmp-port-unreachable
COMMIT
"#;

const SYSCTL: &str = "net.bridge.bridge-nf-call-iptables = 1\nnet.bridge.bridge-nf-call-ip6tables = 1\n\
net.bridge.bridge-nf-call-arptables = 1\nnet.ipv4.ip_forward = 1\nnet.ipv4.conf.all.forwarding = 1\n\
net.ipv4.conf.eth0.forwarding = 1\nnet.ipv4.conf.cni0.forwarding = 1\nnet.ipv4.conf.all.rp_filter = 0\n\
net.ipv4.conf.eth0.rp_filter = 0\nnet.ipv4.conf.cni0.rp_filter = 0\nnet.ipv4.conf.all.route_localnet = 1\n\
net.ipv4.conf.lo.rp_filter = 0\nnet.ipv4.ip_local_port_range = 32768\t60999\n";

/// The namespace of a pod: one device, one address, a default route.
fn pod(files: &mut Vec<(String, String)>, id: &str, address: &str, mac: u8, peer: u8, sockets: &str) {
    let folder = format!("nodes/node-1/netns/{id}/");
    let mut add = |name: &str, text: String| files.push((format!("{folder}{name}"), text));
    add(
        "link.json",
        format!(
            r#"[{{"ifindex":1,"ifname":"lo","flags":["LOOPBACK","UP","LOWER_UP"],"mtu":65536,"operstate":"UNKNOWN","link_type":"loopback","address":"00:00:00:00:00:00"}},
{{"ifindex":2,"link_index":{peer},"ifname":"eth0","flags":["BROADCAST","MULTICAST","UP","LOWER_UP"],"mtu":1500,"operstate":"UP","link_type":"ether","address":"02:00:00:00:01:{mac:02x}","link_netnsid":0,"linkinfo":{{"info_kind":"veth"}}}}]"#
        ),
    );
    add(
        "addr.json",
        format!(
            r#"[{{"ifindex":2,"ifname":"eth0","addr_info":[{{"family":"inet","local":"{address}","prefixlen":24,"broadcast":"10.244.0.255","scope":"global"}}]}}]"#
        ),
    );
    add(
        "route.json",
        format!(
            r#"[{{"type":"unicast","dst":"default","gateway":"10.244.0.1","dev":"eth0","table":"main","protocol":"boot","scope":"global","flags":[]}},
{{"type":"unicast","dst":"10.244.0.0/24","dev":"eth0","table":"main","protocol":"kernel","scope":"link","prefsrc":"{address}","flags":[]}},
{{"type":"local","dst":"{address}","dev":"eth0","table":"local","protocol":"kernel","scope":"host","prefsrc":"{address}","flags":[]}}]"#
        ),
    );
    add("rule.json", RULE.to_owned());
    add(
        "neigh.json",
        r#"[{"dst":"10.244.0.1","dev":"eth0","lladdr":"02:00:00:00:00:03","state":["REACHABLE"]}]"#.to_owned(),
    );
    add("sockets.txt", sockets.to_owned());
    add("conntrack.txt", String::new());
    add("sysctl.txt", String::new());
    for save in ["iptables-nft.save", "iptables-legacy.save"] {
        add(save, String::new());
    }
    add("nft.json", r#"{"nftables":[]}"#.to_owned());
}

/// The cluster's objects.
fn cluster(files: &mut Vec<(String, String)>) {
    let list = |items: &str| format!(r#"{{"kind":"List","apiVersion":"v1","items":[{items}]}}"#);
    let mut add = |name: &str, items: &str| files.push((format!("cluster/{name}.json"), list(items)));
    add(
        "namespaces",
        r#"{"metadata":{"name":"default"}},{"metadata":{"name":"shop"}}"#,
    );
    add(
        "nodes",
        r#"{"metadata":{"name":"node-1"},"spec":{"podCIDR":"10.244.0.0/24","podCIDRs":["10.244.0.0/24"]},"status":{"addresses":[{"type":"InternalIP","address":"192.168.0.11"}]}}"#,
    );
    add(
        "pods",
        r#"{"metadata":{"namespace":"default","name":"toolbox","uid":"1"},"spec":{"nodeName":"node-1"},"status":{"phase":"Running","podIPs":[{"ip":"10.244.0.2"}]}},
{"metadata":{"namespace":"shop","name":"web-0","uid":"2","labels":{"app":"web"}},"spec":{"nodeName":"node-1","containers":[{"name":"c","ports":[{"name":"http","containerPort":8080,"protocol":"TCP"}]}]},"status":{"phase":"Running","podIPs":[{"ip":"10.244.0.3"}]}},
{"metadata":{"namespace":"other","name":"web-0","uid":"3"},"spec":{"nodeName":"node-9"},"status":{"phase":"Running","podIPs":[{"ip":"10.244.9.3"}]}}"#,
    );
    add(
        "services",
        r#"{"metadata":{"namespace":"shop","name":"web"},"spec":{"type":"NodePort","clusterIP":"10.96.1.1","clusterIPs":["10.96.1.1"],"ports":[{"name":"http","protocol":"TCP","port":80,"targetPort":"http","nodePort":30080}],"selector":{"app":"web"},"externalTrafficPolicy":"Cluster"},"status":{}},
{"metadata":{"namespace":"shop","name":"void"},"spec":{"type":"ClusterIP","clusterIP":"10.96.1.2","clusterIPs":["10.96.1.2"],"ports":[{"name":"http","protocol":"TCP","port":80}],"selector":{"app":"wed"}},"status":{}},
{"metadata":{"namespace":"shop","name":"two"},"spec":{"type":"ClusterIP","clusterIP":"10.96.1.3","clusterIPs":["10.96.1.3"],"ports":[{"name":"dns","protocol":"UDP","port":53},{"name":"dns-tcp","protocol":"TCP","port":53},{"name":"metrics","protocol":"TCP","port":9153}],"selector":{"app":"two"}},"status":{}},
{"metadata":{"namespace":"shop","name":"alias"},"spec":{"type":"ExternalName","externalName":"db.example.org","ports":[{"port":5432}]},"status":{}},
{"metadata":{"namespace":"shop","name":"db"},"spec":{"type":"ClusterIP","clusterIP":"None","clusterIPs":["None"],"ports":[{"name":"http","protocol":"TCP","port":80,"targetPort":"http"}],"selector":{"app":"web"}},"status":{}}"#,
    );
    add(
        "endpointslices",
        r#"{"metadata":{"namespace":"shop","name":"web-1","labels":{"kubernetes.io/service-name":"web"}},"addressType":"IPv4","endpoints":[{"addresses":["10.244.0.3"],"conditions":{"ready":true},"nodeName":"node-1","targetRef":{"kind":"Pod","namespace":"shop","name":"web-0"}}],"ports":[{"name":"http","port":8080,"protocol":"TCP"}]},
{"metadata":{"namespace":"shop","name":"db-1","labels":{"kubernetes.io/service-name":"db"}},"addressType":"IPv4","endpoints":[{"addresses":["10.244.0.3"],"conditions":{"ready":true},"nodeName":"node-1"}],"ports":[{"name":"http","port":8080,"protocol":"TCP"}]}"#,
    );
}

/// The files of the snapshot, with or without the cluster's objects.
pub fn files(with_cluster: bool) -> Vec<(String, String)> {
    let mut files: Vec<(String, String)> = Vec::new();
    let mut host = |name: &str, text: &str| files.push((format!("nodes/node-1/host/{name}"), text.to_owned()));
    host("link.json", LINK);
    host("addr.json", ADDR);
    host("route.json", ROUTE);
    host("rule.json", RULE);
    host(
        "neigh.json",
        r#"[{"dst":"10.244.0.2","dev":"cni0","lladdr":"02:00:00:00:01:02","state":["REACHABLE"]},{"dst":"10.244.0.3","dev":"cni0","lladdr":"02:00:00:00:01:03","state":["REACHABLE"]}]"#,
    );
    host(
        "fdb.json",
        r#"[{"mac":"02:00:00:00:01:02","ifname":"veth4","flags":[],"master":"cni0","state":""},{"mac":"02:00:00:00:01:03","ifname":"veth5","flags":[],"master":"cni0","state":""}]"#,
    );
    host(
        "bridge-link.json",
        r#"[{"ifindex":4,"ifname":"veth4","master":"cni0","state":"forwarding","hairpin":true,"learning":true,"flood":true,"isolated":false},{"ifindex":5,"ifname":"veth5","master":"cni0","state":"forwarding","hairpin":true,"learning":true,"flood":true,"isolated":false}]"#,
    );
    host("bridge-vlan.json", "[]");
    host("nexthop.json", "[]");
    host("iptables-nft.save", SAVE);
    host("iptables-legacy.save", "");
    host("nft.json", r#"{"nftables":[]}"#);
    host("ipset.save", "");
    host("conntrack.txt", "");
    host(
        "sockets.txt",
        "tcp LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:((\"sshd\",pid=1,fd=3))\n",
    );
    host("sysctl.txt", SYSCTL);
    files.push((
        "nodes/node-1/netns.json".to_owned(),
        r#"[{"id":"toolbox","pod":{"namespace":"default","name":"toolbox"},"peers":[{"ifindex":2,"host_ifindex":4}],"nsid":1},{"id":"web-0","pod":{"namespace":"shop","name":"web-0"},"peers":[{"ifindex":2,"host_ifindex":5}],"nsid":2}]"#.to_owned(),
    ));
    pod(&mut files, "toolbox", "10.244.0.2", 2, 4, "");
    let web = "tcp LISTEN 0 128 0.0.0.0:8080 0.0.0.0:* users:((\"web\",pid=7,fd=3))\n";
    pod(&mut files, "web-0", "10.244.0.3", 3, 5, web);
    if with_cluster {
        cluster(&mut files);
    } else {
        files.retain(|(path, _)| path != "nodes/node-1/netns.json");
    }
    files
}

/// The snapshot.
pub fn snapshot(with_cluster: bool) -> Snapshot {
    open(files(with_cluster))
}

/// Opens files.
pub fn open(files: Vec<(String, String)>) -> Snapshot {
    let blobs = files
        .into_iter()
        .map(|(path, text)| (path, Arc::new(text.into_bytes()) as Blob))
        .collect();
    Snapshot::from_files(blobs).expect("the files are a snapshot")
}
