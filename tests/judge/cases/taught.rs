//! What random rulesets taught the model, each as small as it got, with the function of the kernel behind it.

use super::super::flow::Follow;
use super::super::rules::Back::{Legacy, Legacy6, Nft, XtNft, XtNft6};
use super::Case;

const POD: &str = "eth0 tcp 10.10.0.2 4001 > 10.11.0.2 80";
const THROUGH: &str = "eth1: 10.10.0.2 > 10.11.0.2 4001>80 ttl 63 tos 0x0";
const ELSEWHERE: &str = "route add default via 10.3.0.6 dev eth3 table 100";
const ELSEWHERE6: &str = "-6 route add default via fd00:3::6 dev eth3 table 100";

/// Every lesson.
#[allow(clippy::too_many_lines, reason = "a list")]
pub fn cases() -> Vec<Case> {
    vec![
        Case {
            name: "tproxy_tg4: without a socket the packet is dropped",
            rules: &[(
                Legacy,
                "*mangle\n-A PREROUTING -p udp -j TPROXY --on-port 9999 --tproxy-mark 1\nCOMMIT",
            )],
            packet: "eth0 udp 10.10.0.2 4001 > 10.11.0.2 80",
            expect: "nothing",
            ..Case::default()
        },
        Case {
            name: "nf_tproxy_sk_is_transparent: no snapshot shows whether a socket is",
            rules: &[(
                Legacy,
                "*mangle\n-A PREROUTING -p udp -j TPROXY --on-port 80 --on-ip 10.0.0.1 --tproxy-mark 1\nCOMMIT",
            )],
            packet: "eth0 udp 10.10.0.2 4001 > 10.11.0.2 80",
            expect: "nothing",
            untold: true,
            ..Case::default()
        },
        Case {
            name: "nft_tproxy_eval_v4: without a socket the rule ends",
            rules: &[(
                Nft,
                "table ip knet {\nchain p {\ntype filter hook prerouting priority -150\ntcp dport 80 tproxy to :9999 meta mark set \
                 1 drop\n}\n}",
            )],
            packet: POD,
            expect: THROUGH,
            ..Case::default()
        },
        Case {
            name: "nft_tproxy_eval_v4: no snapshot shows whether a socket is transparent",
            rules: &[(
                Nft,
                "table ip knet {\nchain p {\ntype filter hook prerouting priority -150\ntcp dport 80 tproxy to 10.0.0.1:80 drop\n}\n}",
            )],
            packet: POD,
            expect: THROUGH,
            untold: true,
            ..Case::default()
        },
        Case {
            name: "netlink_delinearize.c: a masked value against bits outside of the mask is printed as a prefix",
            rules: &[(
                Nft,
                "table ip knet {\nchain f {\ntype filter hook forward priority 0\nmeta mark and 0x80000000 != 0x1 drop\n}\n}",
            )],
            packet: POD,
            expect: "nothing",
            ..Case::default()
        },
        Case {
            name: "nf_nat_ipv6_local_fn: NF_DROP_ERR tells the program why there is no other route",
            ip: &["-6 rule add pref 1000 to fd10:1::/32 prohibit"],
            rules: &[(Legacy6, "*nat\n-A OUTPUT -j DNAT --to-destination fd10:1::3\nCOMMIT")],
            packet: "socket 0 ping :: 4001 > fd00:2::1 0",
            expect: "send fails: Prohibited",
            ..Case::default()
        },
        Case {
            name: "ip6_rcv_core: translated on a bridge, a packet comes in by the device it goes out of",
            sysctl: &[("net.bridge.bridge-nf-call-ip6tables", "1")],
            rules: &[(
                Legacy6,
                "*nat\n-A PREROUTING -j DNAT --to-destination fd10:1:2::2\nCOMMIT\n*filter\n-A FORWARD -j REJECT --reject-with \
                 icmp6-no-route\n-A OUTPUT -s fd00:1::/64 -j REJECT --reject-with icmp6-adm-prohibited\nCOMMIT",
            )],
            packet: "p1 tcp fd00:8::5 7611 > fd10:3:2::4 6443 flags 0x2",
            expect: "nothing",
            ..Case::default()
        },
        Case {
            name: "icmp_echo: ignored, but delivered",
            sysctl: &[("net.ipv4.icmp_echo_ignore_all", "1")],
            packet: "eth0 ping 10.10.0.2 4001 > 10.0.0.1 0",
            expect: "local: 10.10.0.2 > 10.0.0.1 ttl 64 tos 0x0",
            ..Case::default()
        },
        Case {
            name: "tcp_v6_send_response: the reset's traffic class is not looked up",
            ip: &[ELSEWHERE6, "-6 rule add pref 1000 tos 0x10 lookup 100"],
            packet: "eth0 tcp fd10:0::2 4001 > fd00:0::1 1900 tos 0x10",
            expect: "eth0: reset fd00::1 > fd10::2 1900>4001 ttl 64 tos 0x10; local: fd10::2 > fd00::1 4001>1900 ttl 64 tos 0x10",
            ..Case::default()
        },
        Case {
            name: "nf_send_reset: back out of the bridge port, whatever the route",
            ip: &["route add 10.41.0.0/16 via 10.0.0.3 dev eth0"],
            sysctl: &[("net.bridge.bridge-nf-call-iptables", "1")],
            rules: &[(
                XtNft,
                "*filter\n-A INPUT -p tcp -j REJECT --reject-with tcp-reset\nCOMMIT",
            )],
            packet: "p0 tcp 10.41.0.9 4001 > 10.1.0.1 53",
            expect: "p0: reset 10.1.0.1 > 10.41.0.9 53>4001 ttl 64 tos 0x0",
            ..Case::default()
        },
        Case {
            name: "icmp_reply: an echo has the mark of its question under fwmark_reflect",
            ip: &[ELSEWHERE, "rule add pref 1000 fwmark 0x1 lookup 100"],
            sysctl: &[("net.ipv4.fwmark_reflect", "1")],
            rules: &[(Legacy, "*mangle\n-A PREROUTING -j MARK --set-mark 1\nCOMMIT")],
            packet: "eth0 ping 10.10.0.2 4001 > 10.0.0.1 0",
            expect: "eth3: 10.0.0.1 > 10.10.0.2 ttl 64 tos 0x0; local: 10.10.0.2 > 10.0.0.1 ttl 64 tos 0x0",
            ..Case::default()
        },
        Case {
            name: "tcp_new: without tcp_loose a connection is not picked up in the middle, nor translated",
            sysctl: &[("net.netfilter.nf_conntrack_tcp_loose", "0")],
            rules: &[(Legacy, "*nat\n-A PREROUTING -j REDIRECT\nCOMMIT")],
            packet: "eth0 tcp 10.10.0.2 4001 > 10.11.0.2 80 flags 0x10",
            expect: THROUGH,
            ..Case::default()
        },
        Case {
            name: "fib4_rules_early_flow_dissect: ip_route_me_harder knows the protocol",
            ip: &[
                ELSEWHERE,
                "rule add pref 1000 to 10.12.0.0/16 ipproto udp dport 443 lookup 100",
            ],
            rules: &[(Legacy, "*nat\n-A OUTPUT -j DNAT --to-destination 10.12.0.4\nCOMMIT")],
            packet: "socket 0 udp 0.0.0.0 4001 > 10.10.0.2 443",
            expect: "eth3: 10.0.0.1 > 10.12.0.4 4001>443 ttl 64 tos 0x0",
            ..Case::default()
        },
        Case {
            name: "tcp_v4_send_reset: forty bytes",
            rules: &[(
                Nft,
                "table ip knet {\nchain o {\ntype filter hook output priority 0\nmeta length != 40 drop\n}\n}",
            )],
            packet: "eth0 tcp 10.10.0.2 4001 > 10.0.0.1 1900",
            expect: "eth0: reset 10.0.0.1 > 10.10.0.2 1900>4001 ttl 64 tos 0x0; local: 10.10.0.2 > 10.0.0.1 4001>1900 ttl 64 tos 0x0",
            ..Case::default()
        },
        Case {
            name: "br_nf_pre_routing_finish_ipv6: translated to where no route leads, nobody is told",
            ip: &["-6 rule add pref 1000 to fd10:3::/32 unreachable"],
            sysctl: &[("net.bridge.bridge-nf-call-ip6tables", "1")],
            rules: &[(
                XtNft6,
                "*nat\n-A PREROUTING -j DNAT --to-destination fd10:3:3::5\nCOMMIT",
            )],
            packet: "p1 udp fd00:8::5 4001 > fd00:3::1 443",
            expect: "nothing",
            ..Case::default()
        },
        Case {
            name: "nft_fib4_eval: the protocol is looked up, too",
            ip: &[ELSEWHERE, "rule add pref 1000 ipproto udp lookup 100"],
            rules: &[(
                Nft,
                "table ip knet {\nchain p {\ntype filter hook prerouting priority 0\nfib saddr . iif oif missing drop\n}\n}",
            )],
            packet: "eth0 udp 10.10.0.2 4001 > 10.0.0.1 80",
            expect: "nothing",
            ..Case::default()
        },
        Case {
            name: "nft_fib6_flowi_init: with the whole traffic class",
            ip: &[ELSEWHERE6, "-6 rule add pref 1000 tos 0x08 lookup 100"],
            rules: &[(
                Nft,
                "table inet knet {\nchain p {\ntype filter hook prerouting priority 0\nfib saddr . iif oif missing drop\n}\n}",
            )],
            packet: "eth0 udp fd10:0::2 4001 > fd10:1::2 80 tos 0x28",
            expect: "eth1: fd10::2 > fd10:1::2 4001>80 ttl 63 tos 0x28",
            ..Case::default()
        },
        Case {
            name: "socket_match: a half-open connection has a socket that ss -l does not list",
            rules: &[(
                Legacy,
                "*mangle\n-A PREROUTING -p tcp -m socket -j DROP\nCOMMIT\n*filter\n-A INPUT -m conntrack --ctstate INVALID -j DROP\nCOMMIT",
            )],
            packet: "eth0 tcp 10.10.0.2 4001 > 10.0.0.1 80",
            follow: &[Follow::Again { flags: 2 }],
            expect: "nothing",
            untold: true,
            ..Case::default()
        },
        Case {
            name: "nf_nat_oif_changed: a masqueraded connection does not change its device",
            ip: &[ELSEWHERE, "rule add pref 1000 fwmark 0x1 lookup 100"],
            rules: &[(
                Legacy,
                "*mangle\n-A PREROUTING -i eth0 -m state --state ESTABLISHED -j MARK --set-mark 1\nCOMMIT\n\
                 *nat\n-A POSTROUTING -j MASQUERADE\nCOMMIT",
            )],
            packet: "eth0 udp 10.10.0.2 4001 > 10.11.0.2 80",
            follow: &[Follow::Reply { flags: 0 }, Follow::Again { flags: 0 }],
            expect: "nothing",
            untold: true,
            ..Case::default()
        },
        Case {
            name: "nf_nat_inet_fn: no rule needs conntrack, and no nat chain is asked",
            rules: &[(
                Nft,
                "table inet knet {\nchain n {\ntype nat hook prerouting priority -100\ndrop\n}\n}",
            )],
            packet: POD,
            expect: THROUGH,
            ..Case::default()
        },
        Case {
            name: "nft_nat_init: an inet rule's translation is for the family it names",
            rules: &[(
                Nft,
                "table inet knet {\nchain n {\ntype nat hook prerouting priority -100\nip daddr 192.0.2.1 dnat ip to 10.12.0.2\ndrop\n}\n}",
            )],
            packet: "eth0 udp fd10:0::2 4001 > fd10:1::2 80",
            expect: "eth1: fd10::2 > fd10:1::2 4001>80 ttl 63 tos 0x0",
            ..Case::default()
        },
        Case {
            name: "xt_ct_target: a packet has the template's mark until it is tracked",
            rules: &[(
                Legacy,
                "*raw\n-A PREROUTING -j CT --zone 3\n-A PREROUTING -m connmark ! --mark 0x4 -j ACCEPT\n-A PREROUTING -j DROP\nCOMMIT",
            )],
            packet: POD,
            expect: THROUGH,
            ..Case::default()
        },
        Case {
            name: "nft_ct_set_zone_eval: what was untracked gets a template, and is tracked after all",
            rules: &[(
                Nft,
                "table ip knet {\nchain p {\ntype filter hook prerouting priority -310\nnotrack\nct zone set 3\n}\n\
                 chain n {\ntype nat hook prerouting priority -100\nredirect\n}\n}",
            )],
            packet: "eth0 udp 10.10.0.2 4001 > 10.11.0.2 1900",
            expect: "eth0: icmp 3/3 10.0.0.1 > 10.10.0.2 ttl 64 tos 0xc0; local: 10.10.0.2 > 10.0.0.1 4001>1900 ttl 64 tos 0x0",
            ..Case::default()
        },
        Case {
            name: "nf_conntrack_tcp_packet: the ACK of the handshake is the first assured packet",
            rules: &[(
                Nft,
                "table ip knet {\nchain p {\ntype filter hook prerouting priority 10\nct status assured ip ttl set 33\n}\n}",
            )],
            packet: POD,
            follow: &[Follow::Reply { flags: 0x12 }, Follow::Again { flags: 0x10 }],
            expect: "eth1: 10.10.0.2 > 10.11.0.2 4001>80 ttl 32 tos 0x0",
            ..Case::default()
        },
        Case {
            name: "nf_conntrack_tcp_packet: a SYN that is not answered is sent again",
            rules: &[(XtNft, "*nat\n-A POSTROUTING -j MASQUERADE\nCOMMIT")],
            packet: POD,
            follow: &[Follow::Again { flags: 2 }],
            expect: "eth1: 10.1.0.1 > 10.11.0.2 4001>80 ttl 63 tos 0x0",
            ..Case::default()
        },
        Case {
            name: "ip6t_mangle_out: another hop limit is another route",
            ip: &[ELSEWHERE6, "-6 rule add pref 1000 fwmark 0x2 lookup 100"],
            rules: &[(
                XtNft6,
                "*raw\n-A OUTPUT -j MARK --set-mark 2\nCOMMIT\n*mangle\n-A OUTPUT -j HL --hl-set 9\nCOMMIT",
            )],
            packet: "eth0 ping fd10:0::2 4001 > fd00:0::1 0",
            expect: "eth3: fd00::1 > fd10::2 ttl 9 tos 0x0; local: fd10::2 > fd00::1 ttl 64 tos 0x0",
            ..Case::default()
        },
        Case {
            name: "nft 1.0.6: two != side by side are one, and listed as two",
            rules: &[(
                Nft,
                "table ip knet {\nchain f {\ntype filter hook forward priority 0\nudp sport != 9090 udp dport != 9090 drop\n}\n}",
            )],
            packet: "eth0 udp 10.10.0.2 4001 > 10.11.0.2 9090",
            expect: "nothing",
            untold: true,
            ..Case::default()
        },
        Case {
            name: "nf_nat_used_tuple: a new connection may not have the ports of another one's answer",
            rules: &[(
                Nft,
                "table ip knet {\nchain p {\ntype nat hook prerouting priority -100\nip ttl > 62 accept\ndnat to 10.13.5.5\n}\n}",
            )],
            packet: "eth2 tcp 10.2.0.4 4001 > 10.1.0.3 443 flags 0x12",
            follow: &[Follow::Reply { flags: 0x10 }, Follow::Again { flags: 0x10 }],
            expect: "eth1: 10.2.0.4 > 10.1.0.3 ttl 63 tos 0x0",
            any_port: true,
            ..Case::default()
        },
        Case {
            name: "icmp_unique_tuple: only the id of a query may be translated",
            sysctl: &[("net.ipv4.conf.eth0.accept_local", "1")],
            rules: &[(Legacy, "*nat\n-A POSTROUTING -j MASQUERADE --random-fully\nCOMMIT")],
            packet: "eth0 ping 10.1.0.1 4001 > 10.11.0.2 0",
            follow: &[Follow::Reply { flags: 0 }],
            expect: "local: 10.11.0.2 > 10.1.0.1 ttl 61 tos 0x0",
            ..Case::default()
        },
        Case {
            name: "nf_nat_icmp_reply_translation: an id that destination NAT drew is no source NAT",
            rules: &[(
                Legacy6,
                "*nat\n-A PREROUTING -j DNAT --to-destination fd10:1::2 --random\nCOMMIT",
            )],
            packet: "eth0 ping fd10:0::2 4001 > fd50::6 0",
            follow: &[
                Follow::Reply { flags: 0 },
                Follow::Error {
                    ty: 1,
                    code: 4,
                    from_target: false,
                },
            ],
            expect: "eth1: icmp 1/4 fd00::9 > fd10:1::2 ttl 59 tos 0xc0",
            ..Case::default()
        },
        Case {
            name: "owner_mt: no snapshot shows the group of an answering program",
            rules: &[(
                XtNft,
                "*mangle\n-A POSTROUTING -m owner --gid-owner 100 -j TOS --set-tos 0x08/0xff\nCOMMIT",
            )],
            packet: "eth0 udp 10.10.0.2 4001 > 10.0.0.1 80",
            expect: "eth0: 10.0.0.1 > 10.10.0.2 80>4001 ttl 64 tos 0x0; local: 10.10.0.2 > 10.0.0.1 4001>80 ttl 64 tos 0x0",
            untold: true,
            ..Case::default()
        },
        Case {
            name: "owner_mt: the listener's user answers",
            rules: &[(
                XtNft,
                "*mangle\n-A POSTROUTING -m owner --uid-owner 0 -j TOS --set-tos 0x08/0xff\nCOMMIT",
            )],
            packet: "eth0 tcp 10.10.0.2 4001 > 10.0.0.1 80",
            expect: "eth0: 10.0.0.1 > 10.10.0.2 80>4001 ttl 64 tos 0x8; local: 10.10.0.2 > 10.0.0.1 4001>80 ttl 64 tos 0x0",
            ..Case::default()
        },
        Case {
            name: "NF_BR_PRE_ROUTING: a frame that a bridge's chain drops",
            rules: &[(
                Nft,
                "table bridge knet {\nchain p {\ntype filter hook prerouting priority 0\niifname p0 tcp dport 80 drop\n}\n}",
            )],
            packet: "p0 tcp 10.8.0.2 4001 > 10.11.0.2 80",
            expect: "nothing",
            ..Case::default()
        },
        Case {
            name: "br_nf_hook_thresh: chains behind br_netfilter's place see what the IP hook made of the packet",
            sysctl: &[("net.bridge.bridge-nf-call-iptables", "1")],
            rules: &[
                (Legacy, "*mangle\n-A PREROUTING -j MARK --set-mark 5\nCOMMIT"),
                (
                    Nft,
                    "table bridge knet {\nchain p {\ntype filter hook prerouting priority -200\nmeta mark 5 drop\n}\nchain q {\n\
                     type filter hook prerouting priority 300\nmeta mark 5 ip dscp set af11\n}\n}",
                ),
            ],
            packet: "p0 tcp 10.8.0.2 4001 > 10.11.0.2 80",
            expect: "eth1: 10.8.0.2 > 10.11.0.2 4001>80 ttl 63 tos 0x28",
            ..Case::default()
        },
        Case {
            name: "ip_rcv_core: a bridge's chain makes a frame somebody else's",
            rules: &[(
                Nft,
                "table bridge knet {\nchain p {\ntype filter hook prerouting priority 0\nmeta pkttype set other\n}\n}",
            )],
            packet: "p0 tcp 10.8.0.2 4001 > 10.8.0.1 80",
            expect: "nothing",
            ..Case::default()
        },
        Case {
            name: "br_forward_finish: the bridge's POSTROUTING has the port as its device",
            rules: &[(
                Nft,
                "table bridge knet {\nchain p {\ntype filter hook postrouting priority 0\noifname p1 ip daddr 10.8.0.3 drop\n}\n}",
            )],
            packet: "eth0 tcp 10.10.0.2 4001 > 10.8.0.3 80",
            expect: "nothing",
            ..Case::default()
        },
        // The laboratory has its bridge before any chain; a chain that was there first would see the mark.
        Case {
            name: "nf_hook_entries_grow: a chain at the priority of br_netfilter runs before it when the bridge was there first",
            sysctl: &[("net.bridge.bridge-nf-call-iptables", "1")],
            rules: &[
                (Legacy, "*mangle\n-A PREROUTING -j MARK --set-mark 1\nCOMMIT"),
                (
                    Nft,
                    "table bridge knet {\nchain p {\ntype filter hook prerouting priority 0\nmeta mark 1 drop\n}\n}",
                ),
            ],
            packet: "p0 tcp 10.8.0.2 4001 > 10.11.0.2 80",
            expect: "eth1: 10.8.0.2 > 10.11.0.2 4001>80 ttl 63 tos 0x0",
            untold: true,
            ..Case::default()
        },
    ]
}
