//! Rules like those of kube-proxy and a filter, for each back end.

/// Native rules of the node.
pub const NFT: &str = "
table ip kube {
	map services {
		type ipv4_addr . inet_proto . inet_service : verdict
		elements = { 10.96.0.1 . tcp . 80 : goto svc-web, 10.96.0.1 . udp . 53 : goto svc-dns }
	}
	map pool {
		type ipv4_addr : ipv4_addr
		elements = { 10.1.0.2 : 10.2.0.2 }
	}
	set blocked {
		type ipv4_addr
		flags interval
		elements = { 10.1.0.64/26 }
	}
	chain pre {
		type nat hook prerouting priority -100; policy accept;
		ip saddr @blocked return
		ct mark set 0x1 counter
		jump services
	}
	chain out {
		type nat hook output priority -100; policy accept;
		jump services
	}
	chain services {
		ip daddr . meta l4proto . th dport vmap @services
		counter
	}
	chain svc-web {
		ip saddr 10.9.0.0/16 return
		counter meta l4proto tcp dnat ip to numgen random mod 2 map { 0 : 10.2.0.2 . 8080, 1 : 10.2.0.3 . 8080 } comment \"two servers\"
	}
	chain svc-dns {
		meta l4proto udp dnat to ip saddr map @pool
	}
	chain post {
		type nat hook postrouting priority 100; policy accept;
		meta mark 0x10 masquerade random
		counter
	}
}
table ip6 kube {
	chain pre {
		type nat hook prerouting priority -100; policy accept;
		ip6 daddr fd00:96::1 udp dport 53 dnat to [fd00:2::2]:5353
	}
}
table inet filt {
	chain front {
		type filter hook forward priority 0; policy drop;
		ct state established,related accept
		jump app
		meta l4proto udp accept
	}
	chain app {
		tcp dport { 8080, 9090 } meta mark set 0x10
		iifname \"c0\" counter
		meta mark 0x20 drop
		meta mark 0x10 accept
	}
	chain later {
		type filter hook forward priority 10; policy accept;
		ip protocol vmap { tcp : accept, udp : jump other }
	}
	chain other {
		return
	}
	chain inward {
		type filter hook input priority 0; policy accept;
		iifname \"lo\" counter
		tcp dport 81 counter accept
	}
	chain outward {
		type filter hook output priority 0; policy accept;
		oifname { \"lo\", \"s0\" } counter
	}
}
";

/// Native rules of the client's namespace.
pub const NFT_POD: &str = "
table inet pod {
	chain out {
		type filter hook output priority 0; policy accept;
		tcp flags syn counter
		ip daddr 10.96.0.0/16 counter accept
	}
	chain in {
		type filter hook input priority 0; policy accept;
		ct state established counter accept
	}
}
";

/// Native rules beside those of iptables-nft.
pub const NFT_BESIDE: &str = "
table inet beside {
	chain front {
		type filter hook forward priority -10; policy accept;
		meta mark 0x10 counter
		ip daddr 10.2.0.0/24 counter accept
	}
}
";

/// The same for iptables, IPv4.
pub const IPTABLES: &str = "*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-SVC - [0:0]
:KUBE-SEP-A - [0:0]
:KUBE-SEP-B - [0:0]
-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A POSTROUTING -m mark --mark 0x10/0x10 -j MASQUERADE
-A KUBE-SERVICES -d 10.96.0.9/32 -p tcp -m tcp --dport 80 -j RETURN
-A KUBE-SERVICES -d 10.96.0.1/32 -p tcp -m comment --comment \"shop/web:http cluster IP\" -m tcp --dport 80 -j KUBE-SVC
-A KUBE-SVC -m statistic --mode random --probability 0.50000000000 -j KUBE-SEP-A
-A KUBE-SVC -g KUBE-SEP-B
-A KUBE-SEP-A -s 10.2.0.2/32 -j MARK --set-xmark 0x4000/0x4000
-A KUBE-SEP-A -p tcp -m tcp -j DNAT --to-destination 10.2.0.2:8080
-A KUBE-SEP-B -p tcp -m tcp -j DNAT --to-destination 10.2.0.3:8080
COMMIT
*mangle
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
-A FORWARD -i c0 -j MARK --set-xmark 0x10/0x10
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:APP - [0:0]
:EMPTY - [0:0]
-A INPUT -i lo -p tcp -m tcp --dport 81 -j ACCEPT
-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -j EMPTY
-A FORWARD -j APP
-A FORWARD -p tcp -j ACCEPT
-A FORWARD -p udp -j REJECT --reject-with icmp-admin-prohibited
-A APP -m mark --mark 0x20/0x20 -j ACCEPT
-A APP -m mark --mark 0x10/0x10 -j RETURN
COMMIT
";

/// IPv6.
pub const IP6TABLES: &str = "*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:APP - [0:0]
-A FORWARD -j APP
-A APP -p udp -m udp --dport 5353 -j RETURN
COMMIT
";
