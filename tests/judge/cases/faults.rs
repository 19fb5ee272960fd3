//! The faults of other simulators, by their numbers in the list of them we keep. The same numbers have unit tests in
//! the model; here the kernel says who is right.

use super::super::rules::Back::{Ipset, Legacy, Nft, XtNft, XtNft6};
use super::Case;

const POD: &str = "eth0 tcp 10.10.0.2 4001 > 10.11.0.2 80";
const THROUGH: &str = "eth1: 10.10.0.2 > 10.11.0.2 4001>80 ttl 63 tos 0x0";
const BELOW: &str = "eth0 udp fd10:0:0::2 4001 > fd10:1:0::2 80";
const PAST: &str = "eth1: fd10::2 > fd10:1::2 4001>80 ttl 63 tos 0x0";

/// Every fault of b.1 to b.3.
#[allow(clippy::too_many_lines, reason = "a list")]
pub fn cases() -> Vec<Case> {
    let xt = |name, rules, packet, expect| Case {
        name,
        rules,
        packet,
        expect,
        ..Case::default()
    };
    let ip = |name, ip, packet, expect| Case {
        name,
        ip,
        packet,
        expect,
        ..Case::default()
    };
    vec![
        xt(
            "b.1.1: stock kube-proxy does not drop healthy traffic between pods",
            &[(
                Legacy,
                "*filter\n:FORWARD DROP [0:0]\n:KUBE-FORWARD - [0:0]\n-A FORWARD -j KUBE-FORWARD\n\
                 -A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP\n\
                 -A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n-A FORWARD -s 10.10.0.0/16 -j ACCEPT\nCOMMIT",
            )],
            POD,
            THROUGH,
        ),
        xt(
            "b.1.2: RELATED,ESTABLISHED does not hide a drop that follows it",
            &[(
                XtNft,
                "*filter\n-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n-A FORWARD -j DROP\nCOMMIT",
            )],
            POD,
            "nothing",
        ),
        xt(
            "b.1.3: RETURN from a chain two deep goes on in the chain that jumped",
            &[(
                Legacy,
                "*filter\n:A - [0:0]\n:B - [0:0]\n-A FORWARD -j A\n-A FORWARD -j DROP\n-A A -j B\n-A A -j ACCEPT\n\
                 -A B -j RETURN\n-A B -j DROP\nCOMMIT",
            )],
            POD,
            THROUGH,
        ),
        xt(
            "b.1.4: what a goto leads to returns to the caller of the chain that jumped",
            &[(
                XtNft,
                "*filter\n:A - [0:0]\n:B - [0:0]\n-A FORWARD -j A\n-A FORWARD -j ACCEPT\n-A A -g B\n-A A -j DROP\n\
                 -A B -p udp -j DROP\nCOMMIT",
            )],
            POD,
            THROUGH,
        ),
        xt(
            "b.1.4: from a base chain a goto leads to the policy",
            &[(
                Legacy,
                "*filter\n:FORWARD DROP [0:0]\n:B - [0:0]\n-A FORWARD -g B\n-A FORWARD -j ACCEPT\n-A B -j RETURN\nCOMMIT",
            )],
            POD,
            "nothing",
        ),
        xt(
            "b.1.5: REJECT rejects",
            &[(XtNft, "*filter\n-A FORWARD -j REJECT\nCOMMIT")],
            POD,
            "eth0: icmp 3/3 10.0.0.1 > 10.10.0.2 ttl 64 tos 0xc0",
        ),
        xt(
            "b.1.5: and with a reset",
            &[(
                Legacy,
                "*filter\n-A FORWARD -p tcp -j REJECT --reject-with tcp-reset\nCOMMIT",
            )],
            POD,
            "eth0: reset 10.11.0.2 > 10.10.0.2 80>4001 ttl 64 tos 0x0",
        ),
        xt(
            "b.1.6: MASQUERADE translates to the output device's address",
            &[(Legacy, "*nat\n-A POSTROUTING -j MASQUERADE\nCOMMIT")],
            POD,
            "eth1: 10.1.0.1 > 10.11.0.2 4001>80 ttl 63 tos 0x0",
        ),
        xt(
            "b.1.7: KUBE-MARK-MASQ marks, KUBE-SEP translates, and the mark masquerades",
            &[(
                XtNft,
                "*nat\n:MARK-MASQ - [0:0]\n:SEP - [0:0]\n-A PREROUTING -d 10.96.0.1/32 -p tcp -m tcp --dport 80 -j SEP\n\
                 -A SEP -j MARK-MASQ\n-A MARK-MASQ -j MARK --set-xmark 0x4000/0x4000\n\
                 -A SEP -p tcp -j DNAT --to-destination 10.11.0.2:8080\n\
                 -A POSTROUTING -m mark --mark 0x4000/0x4000 -j MASQUERADE\nCOMMIT",
            )],
            "eth0 tcp 10.10.0.2 4001 > 10.96.0.1 80",
            "eth1: 10.1.0.1 > 10.11.0.2 4001>8080 ttl 63 tos 0x0",
        ),
        xt(
            "b.1.7: NOTRACK leaves the packet without a translation",
            &[(
                Legacy,
                "*raw\n-A PREROUTING -j CT --notrack\nCOMMIT\n*nat\n-A PREROUTING -j DNAT --to-destination 10.12.0.2\nCOMMIT",
            )],
            POD,
            THROUGH,
        ),
        xt(
            "b.1.8: a plus is a prefix",
            &[(Legacy, "*filter\n-A FORWARD -i eth+ -j DROP\nCOMMIT")],
            POD,
            "nothing",
        ),
        xt(
            "b.1.9: the output device is known after routing",
            &[(XtNft, "*filter\n-A FORWARD -o eth1 -j DROP\nCOMMIT")],
            POD,
            "nothing",
        ),
        xt(
            "b.1.10: after DNAT the rules see the port of the backend",
            &[(
                Legacy,
                "*nat\n-A PREROUTING -p tcp --dport 80 -j DNAT --to-destination 10.11.0.2:8080\nCOMMIT\n\
                 *filter\n-A FORWARD -p tcp --dport 80 -j DROP\n\
                 -A FORWARD -m conntrack --ctorigdstport 80 -j ACCEPT\n-A FORWARD -j DROP\nCOMMIT",
            )],
            POD,
            "eth1: 10.10.0.2 > 10.11.0.2 4001>8080 ttl 63 tos 0x0",
        ),
        xt(
            "b.1.11: marks are 32 bits without a sign",
            &[(
                XtNft,
                "*mangle\n-A PREROUTING -j MARK --set-xmark 0x80000000/0xffff0000\nCOMMIT\n\
                 *filter\n-A FORWARD -m mark --mark 0x80000000/0xffff0000 -j DROP\nCOMMIT",
            )],
            POD,
            "nothing",
        ),
        Case {
            name: "b.1.12: physdev knows the bridge port a routed packet came in by",
            sysctl: &[("net.bridge.bridge-nf-call-iptables", "1")],
            rules: &[(Legacy, "*filter\n-A FORWARD -m physdev --physdev-in p0 -j DROP\nCOMMIT")],
            packet: "p0 tcp 10.8.0.2 4001 > 10.11.0.2 80",
            expect: "nothing",
            ..Case::default()
        },
        xt(
            "b.1.12: socket finds the listener",
            &[(
                Legacy,
                "*mangle\n-A PREROUTING -p tcp -m socket --nowildcard -j DROP\nCOMMIT",
            )],
            "eth0 tcp 10.10.0.2 4001 > 10.0.0.1 80",
            "nothing",
        ),
        xt(
            "b.1.13: a table without the hook's chain has none at that hook",
            &[(
                Nft,
                "table ip nat {\nchain pre {\ntype nat hook prerouting priority -100\n}\n}",
            )],
            "eth0 udp 10.10.0.2 4001 > 10.0.0.1 1900",
            "eth0: icmp 3/3 10.0.0.1 > 10.10.0.2 ttl 64 tos 0xc0; local: 10.10.0.2 > 10.0.0.1 4001>1900 ttl 64 tos 0x0",
        ),
        xt(
            "b.1.14: a jump to a missing chain is in no kernel",
            &[(Legacy, "*filter\n-A FORWARD -j GONE\nCOMMIT")],
            POD,
            "refused",
        ),
        xt(
            "b.2.15: what others cannot parse does not disable the rules",
            &[(
                XtNft,
                "*filter\n-A FORWARD -m limit --limit 10/min -j NFLOG --nflog-group 9\n-A FORWARD -p icmp -m icmp --icmp-type 3/4 -j ACCEPT\n\
                 -A FORWARD -m state --state INVALID -j DROP\n\
                 -A FORWARD -p udp -m recent --rcheck --seconds 10800 --name knet --mask 255.255.255.255 --rsource -j ACCEPT\n\
                 -A FORWARD -p tcp -m tcp --tcp-flags SYN,RST SYN -j NFLOG --nflog-group 9\n\
                 -A FORWARD -p tcp -m tcp --dport 30000:32767 -j DROP\nCOMMIT\n\
                 *raw\n-A PREROUTING -d 169.254.20.10/32 -p udp -m udp --dport 53 -j CT --notrack\nCOMMIT\n\
                 *nat\n-A PREROUTING -p tcp -m tcp --dport 15006 -j REDIRECT --to-ports 15001\nCOMMIT\n\
                 *mangle\n-A FORWARD -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu\n\
                 -A PREROUTING -m physdev --physdev-is-in -j DROP\n-A PREROUTING -p tcp -m socket -j ACCEPT\nCOMMIT",
            )],
            "eth0 tcp 10.10.0.2 4001 > 10.11.0.2 30080",
            "nothing",
        ),
        xt(
            "b.2.16: a set of addresses and ports",
            &[
                (Ipset, "create s hash:ip,port\nadd s 10.11.0.2,tcp:80"),
                (
                    Legacy,
                    "*filter\n-A FORWARD -m set --match-set s dst,dst -j DROP\nCOMMIT",
                ),
            ],
            POD,
            "nothing",
        ),
        xt(
            "b.2.16: nomatch in a set of networks",
            &[
                (
                    Ipset,
                    "create s hash:net timeout 1000\nadd s 10.11.0.0/16\nadd s 10.11.0.0/24 nomatch",
                ),
                (XtNft, "*filter\n-A FORWARD -m set --match-set s dst -j DROP\nCOMMIT"),
            ],
            POD,
            THROUGH,
        ),
        xt(
            "b.2.16: a list of sets",
            &[
                (
                    Ipset,
                    "create s hash:ip,port,net\nadd s 10.11.0.2,tcp:80,10.10.0.0/16\ncreate l list:set\nadd l s",
                ),
                (
                    Legacy,
                    "*filter\n-A FORWARD -m set --match-set l dst,dst,src -j DROP\nCOMMIT",
                ),
            ],
            POD,
            "nothing",
        ),
        xt(
            "b.2.17: both back ends are asked",
            &[
                (Legacy, "*filter\n-A FORWARD -j ACCEPT\nCOMMIT"),
                (XtNft, "*filter\n-A FORWARD -p tcp --dport 80 -j DROP\nCOMMIT"),
            ],
            POD,
            "nothing",
        ),
        xt(
            "b.2.17: and so are ip6tables and native rules",
            &[
                (XtNft6, "*filter\n-A FORWARD -j ACCEPT\nCOMMIT"),
                (
                    Nft,
                    "table inet knet {\nchain f {\ntype filter hook forward priority 0\nudp dport { 80, 443 } drop\n}\n}",
                ),
            ],
            BELOW,
            "nothing",
        ),
        ip("b.3.18: IPv6 is forwarded", &[], BELOW, PAST),
        ip(
            "b.3.19: a throw route goes on to the next rule",
            &[
                "route add throw 10.11.0.0/16 table 100",
                "rule add pref 1000 lookup 100",
            ],
            POD,
            THROUGH,
        ),
        ip(
            "b.3.19: a blackhole route swallows",
            &["route add blackhole 10.11.0.0/24"],
            POD,
            "nothing",
        ),
        ip(
            "b.3.19: an unreachable route answers",
            &["-6 route add unreachable fd10:1:0::/48"],
            BELOW,
            "eth0: icmp 1/0 fd00::11 > fd10::2 ttl 64 tos 0x0",
        ),
        ip(
            "b.3.19: a prohibit rule answers",
            &["-6 rule add pref 1000 from fd10:0::/32 prohibit"],
            BELOW,
            "eth0: icmp 1/1 fd00::11 > fd10::2 ttl 64 tos 0x0",
        ),
        ip(
            "b.3.19: goto leaves out the rules between",
            &[
                "rule add pref 1000 goto 3000",
                "rule add pref 2000 blackhole",
                "rule add pref 3000 lookup main",
            ],
            POD,
            THROUGH,
        ),
        ip(
            "b.3.19: suppress_prefixlength passes over the default route",
            &[
                "route add default via 10.2.0.3 dev eth2",
                "rule add pref 1000 lookup main suppress_prefixlength 0",
                "route add default via 10.3.0.6 dev eth3 table 100",
                "rule add pref 1100 lookup 100",
            ],
            "eth0 tcp 10.10.0.2 4001 > 192.0.2.7 80",
            "eth3: 10.10.0.2 > 192.0.2.7 4001>80 ttl 63 tos 0x0",
        ),
        ip(
            "b.3.19: not, protocol and port select",
            &[
                "route add default via 10.3.0.6 dev eth3 table 100",
                "rule add pref 1000 not from 10.13.0.0/16 ipproto tcp dport 80 lookup 100",
            ],
            "eth0 tcp 10.10.0.2 4001 > 10.11.0.2 443",
            "eth3: 10.10.0.2 > 10.11.0.2 4001>443 ttl 63 tos 0x0",
        ),
        ip(
            "b.3.19: protocol and port select alone",
            &[
                "route add default via 10.3.0.6 dev eth3 table 100",
                "rule add pref 1000 ipproto tcp dport 80 lookup 100",
            ],
            POD,
            "eth3: 10.10.0.2 > 10.11.0.2 4001>80 ttl 63 tos 0x0",
        ),
        ip(
            "b.3.19: the TOS selects",
            &[
                "route add default via 10.3.0.6 dev eth3 table 100",
                "rule add pref 1000 tos 0x10 lookup 100",
            ],
            "eth0 tcp 10.10.0.2 4001 > 10.11.0.2 80 tos 0x10",
            "eth3: 10.10.0.2 > 10.11.0.2 4001>80 ttl 63 tos 0x10",
        ),
        ip(
            "b.3.19: the user selects",
            &[
                "route add default via 10.3.0.6 dev eth3 table 100",
                "rule add pref 1000 uidrange 1000-1001 lookup 100",
            ],
            "socket 1000 udp 0.0.0.0 4001 > 10.11.0.2 80",
            "eth3: 10.3.0.1 > 10.11.0.2 4001>80 ttl 64 tos 0x0",
        ),
        Case {
            name: "b.3.20: a nexthop object",
            ip: &[
                "nexthop add id 71 via 10.2.0.4 dev eth2",
                "route add 10.71.0.0/16 nhid 71",
            ],
            undo: &["nexthop del id 71"],
            packet: "eth0 tcp 10.10.0.2 4001 > 10.71.0.2 80",
            expect: "eth2: 10.10.0.2 > 10.71.0.2 4001>80 ttl 63 tos 0x0",
            ..Case::default()
        },
        ip(
            "b.3.20: both next hops of a route by one device",
            &["route add 10.50.0.0/16 nexthop via 10.2.0.4 dev eth2 nexthop via 10.2.0.5 dev eth2"],
            "eth0 tcp 10.10.0.2 4001 > 10.50.0.2 80",
            "eth2: 10.10.0.2 > 10.50.0.2 4001>80 ttl 63 tos 0x0",
        ),
        ip(
            "b.3.21: the source that the route prefers",
            &["route add 10.60.0.0/16 via 10.0.0.5 dev eth0 src 10.0.0.11"],
            "socket 0 udp 0.0.0.0 4001 > 10.60.0.2 80",
            "eth0: 10.0.0.11 > 10.60.0.2 4001>80 ttl 64 tos 0x0",
        ),
        Case {
            name: "b.3.22: a bridge port that does not forward",
            bridge: &["link set dev p1 state 0"],
            packet: "eth0 tcp 10.10.0.2 4001 > 10.8.0.3 80",
            expect: "nothing",
            ..Case::default()
        },
        Case {
            name: "b.3.22: a bridge port that does",
            bridge: &["link set dev p1 state 3"],
            packet: "eth0 tcp 10.10.0.2 4001 > 10.8.0.3 80",
            expect: "p1: 10.10.0.2 > 10.8.0.3 4001>80 ttl 63 tos 0x0",
            ..Case::default()
        },
        Case {
            name: "b.3.23: a stale neighbour is used",
            ip: &["neigh replace 10.1.0.7 lladdr 02:00:00:00:11:02 dev eth1 nud stale"],
            undo: &["neigh replace 10.1.0.7 lladdr 02:00:00:00:11:02 dev eth1 nud permanent"],
            packet: "eth0 tcp 10.10.0.2 4001 > 10.1.0.7 80",
            expect: "eth1: 10.10.0.2 > 10.1.0.7 4001>80 ttl 63 tos 0x0",
            ..Case::default()
        },
        ip(
            "b.3.24: no device has to be called eth0",
            &["route add 10.80.0.0/16 via 10.8.0.2 dev br0"],
            "eth0 tcp 10.10.0.2 4001 > 10.80.0.2 80",
            "p0: 10.10.0.2 > 10.80.0.2 4001>80 ttl 63 tos 0x0",
        ),
        Case {
            name: "b.3.25: what is larger than the device takes is told",
            ip: &["link set eth1 mtu 1400"],
            undo: &["link set eth1 mtu 1500"],
            packet: "eth0 tcp 10.10.0.2 4001 > 10.11.0.2 80 flags 0x10 len 1450",
            expect: "eth0: icmp 3/4 10.0.0.1 > 10.10.0.2 ttl 64 tos 0xc0",
            ..Case::default()
        },
        Case {
            name: "b.3.25: and an MTU of one's own is no fault",
            ip: &["link set eth1 mtu 1400"],
            undo: &["link set eth1 mtu 1500"],
            packet: "eth0 tcp 10.10.0.2 4001 > 10.11.0.2 80 flags 0x10 len 1400",
            expect: "eth1: 10.10.0.2 > 10.11.0.2 4001>80 ttl 63 tos 0x0",
            ..Case::default()
        },
    ]
}
