//! parse(what we wrote) == parse(what the tool printed).

use std::collections::BTreeMap;
use std::fmt::Debug;

use knet_collectors::tools::capture_with_tools;
use knet_collectors::{Captured, Limits, Target, capture_netns};
use knet_snapshot::artifact::name;
use knet_snapshot::{Problem, Table};

use crate::netns::{alone, must, say, shell};

/// One of everything this kernel has; what it has not, `-force` leaves out.
const LINKS: &str = "\
link set lo up
link add veth0 type veth peer name veth1
link add veth2 mtu 1400 type veth peer name veth3
link add br0 type bridge ageing_time 20000 stp_state 0 nf_call_iptables 1
link set veth1 master br0
link set veth3 alias strange\"name
link set veth3 group 7
link add mac0 link veth0 type macvlan mode private
link add mac1 link veth0 type macvlan mode bridge
link add tun0 type tun
tuntap add dev tun1 mode tun
tuntap add dev tap1 mode tap
link add vx0 type vxlan id 1 dstport 4789 local 10.0.0.1 dev veth0 nolearning ttl 7 tos 0x10
link add vx1 type vxlan id 2 dstport 8472 remote 10.0.0.9 tos inherit srcport 1000 2000 df set
link add vx2 type vxlan id 3 dstport 8473 group 239.1.1.1 dev veth0 proxy
link add vx3 type vxlan id 4 dstport 8474 local fd00::1 remote fd00::2
link add vx4 type vxlan external dstport 8475
link add dummy0 type dummy
link add vlan5 link veth0 type vlan id 5
link add vrf0 type vrf table 77
link add ipip0 type ipip local 10.0.0.1 remote 10.0.0.2 ttl 9
link add gre0x type gre local 10.0.0.1 remote 10.0.0.2 key 5
link add sit0x type sit local 10.0.0.1
link add ip6t type ip6tnl local fd00::1 remote fd00::2
link add gnv0 type geneve id 9 remote 10.0.0.3
link add wg0 type wireguard
link add ipv0 link veth0 type ipvlan mode l3
link add bond0 type bond
link add ifb9 type ifb
link add nk0 type netkit
link set veth0 up
link set veth1 up
link set veth2 up
link set br0 up
link set mac0 up
link set vx0 up
link set vx1 up
addr add 10.0.0.1/24 dev veth0
addr add 10.0.0.11/24 dev veth0 label veth0:1
addr add 10.7.0.1 peer 10.7.0.2/32 dev veth2
addr add 10.8.0.1/16 brd + dev br0 noprefixroute
addr add 10.9.0.1/24 dev br0 scope link valid_lft 4000 preferred_lft 0
addr add fd00::1/64 dev veth0 nodad
addr add fd00::11 peer fd00::12/128 dev veth2 nodad
addr add fd01::1/64 dev br0 nodad preferred_lft 0
";

const ROUTES: &str = "\
route add 10.20.0.0/16 via 10.0.0.2 proto 186 metric 77 mtu 1400 advmss 1360
route add 10.21.0.0/16 nexthop via 10.0.0.2 weight 3 nexthop via 10.0.0.3 dev veth0 onlink
route add 10.22.0.0/16 encap ip id 100 src 10.0.0.1 dst 10.0.0.9 ttl 3 tos 4 via 10.0.0.2 dev veth0
route add 10.23.0.0/16 nexthop encap ip id 5 dst 10.0.0.9 via 10.0.0.2 nexthop via 10.0.0.3
route add 10.24.0.0/16 via inet6 fd00::7 dev veth0
route add 10.25.0.0/16 tos 0x10 via 10.0.0.2 table 100 realm 4/5
route add blackhole 10.26.0.0/16
route add unreachable default table 77 metric 4278198272
route add prohibit 10.27.0.0/16 table 4242
route add throw 10.28.0.0/16 table 4242
route add 10.29.0.1 dev veth0 scope link src 10.0.0.11
route add local 10.30.0.0/16 dev lo
route add broadcast 10.31.255.255 dev veth0
route add default via 10.0.0.254
route add 10.32.0.0/16 encap mpls 100 via 10.0.0.2
route add fd20::/64 via fd00::2 pref high
route add fd21::/64 nexthop via fd00::2 weight 2 nexthop via fd00::3
route add fd22::/64 encap ip6 id 7 dst fd00::9 src fd00::1 hoplimit 5 via fd00::2 dev veth0
route add fd23::/64 from fd00::/64 via fd00::2 metric 5
route add fd24::/64 encap seg6 mode encap segs fd00::99 dev veth0
route add blackhole fd25::/64
route add default via fe80::1 dev veth0 mtu 1300
nexthop add id 1 via 10.0.0.2 dev veth0
nexthop add id 2 via 10.0.0.3 dev veth0 onlink
nexthop add id 3 blackhole
nexthop add id 4 via fd00::2 dev veth0
nexthop add id 10 group 1,3/2
nexthop add id 11 group 1/2 type resilient buckets 8
nexthop add id 12 group 1/2,1
nexthop add id 20 via 10.0.0.8 fdb
nexthop add id 21 group 20 fdb
nexthop add id 30 encap ip id 9 dst 10.0.0.9 via 10.0.0.2 dev veth0
nexthop add id 31 dev veth0 proto 12 scope link
route add 10.40.0.0/16 nhid 12
route add 10.41.0.0/16 nhid 1
route add fd40::/64 nhid 4
rule add pref 101 from 10.0.0.0/8 to 10.1.0.0/16 table 100
rule add pref 102 not from 10.0.0.1 fwmark 1 table 4242
rule add pref 103 fwmark 0x10/0xf0 iif veth0 table local
rule add pref 104 iif nope table main
rule add pref 105 tos 0x10 oif veth1 table default
rule add pref 106 ipproto tcp sport 80 dport 1000-2000 table 100
rule add pref 107 ipproto sctp sport 1-2 dport 3 table 100
rule add pref 108 uidrange 0-99 table 100
rule add pref 109 table main suppress_prefixlength 0
rule add pref 110 table main suppress_ifgroup 7
rule add pref 111 goto 32766
rule add pref 112 goto 555
rule add pref 113 nop
rule add pref 114 blackhole
rule add pref 115 unreachable
rule add pref 116 prohibit
rule add pref 117 tun_id 55 table 100 protocol 186
rule add pref 118 l3mdev
rule add pref 119 table 100 realms 3/4
rule add pref 120 to default fwmark 0/0x1 table 100
-6 rule add pref 201 from fd00::/8 table 100
-6 rule add pref 202 to fd00::1 blackhole
neigh add 10.0.0.2 lladdr 02:00:00:00:00:09 dev veth0
neigh add 10.0.0.3 lladdr 02:00:00:00:00:0a dev veth0 nud stale extern_learn
neigh add 10.0.0.4 lladdr 02:00:00:00:00:0b dev veth0 nud reachable
neigh add fd00::2 lladdr 02:00:00:00:00:0c dev veth0 router
neigh add 10.0.0.99 dev veth0 managed
neigh add 10.0.0.98 lladdr 02:00:00:00:00:0d dev veth0 nud noarp
";

const BRIDGE: &str = "\
fdb add 02:00:00:00:00:01 dev vx0 dst 10.0.0.9 port 99 vni 77 via veth0
fdb append 00:00:00:00:00:00 dev vx0 dst 10.0.0.8
fdb add 02:00:00:00:00:02 dev vx3 dst fd00::9
fdb add 02:00:00:00:00:03 dev vx0 nhid 21
fdb add 02:00:00:00:00:04 dev veth1 master static
fdb add 02:00:00:00:00:05 dev veth1 master dynamic sticky
fdb add 02:00:00:00:00:06 dev br0 self local
fdb add 02:00:00:00:00:07 dev vx4 dst 10.0.0.9 src_vni 5 vni 6
link set dev veth1 hairpin on isolated on learning off flood off neigh_suppress on cost 7
vlan add dev veth1 vid 100-110
vlan add dev veth1 vid 5 pvid untagged
";

const CONNECTIONS: &str = "\
-p tcp -s 10.0.0.1 -d 10.0.0.2 --sport 1 --dport 80 --state ESTABLISHED -u ASSURED,SEEN_REPLY
-p tcp -s 10.0.0.1 -d 10.0.0.2 --sport 2 --dport 80 --state TIME_WAIT -u SEEN_REPLY -m 7
-p tcp -s 10.0.0.1 -d 10.96.0.1 --reply-src 10.0.0.9 --reply-dst 10.0.0.1 --sport 3 --dport 80 --state SYN_SENT
-p udp -s 10.0.0.1 -d 10.0.0.2 --sport 4 --dport 53 -w 5
-p udp -s 10.0.0.1 -d 10.0.0.2 --sport 5 --dport 53 --orig-zone 6
-p icmp -s 10.0.0.1 -d 10.0.0.2 --icmp-type 8 --icmp-code 0 --icmp-id 77
-p gre -s 10.0.0.1 -d 10.0.0.2 --srckey 5 --dstkey 6
-p sctp -s 10.0.0.1 -d 10.0.0.2 --sport 5 --dport 6 --state ESTABLISHED --orig-vtag 1 --reply-vtag 2
-p 99 -s 10.0.0.1 -d 10.0.0.2
-f ipv6 -p tcp -s fd00::1 -d fd00::2 --sport 1 --dport 2 --state CLOSE_WAIT
-f ipv6 -p icmpv6 -s fd00::1 -d fd00::2 --icmpv6-type 128 --icmpv6-code 0 --icmpv6-id 78
";

/// Not every kernel has classifiers, and fewer have actions.
const TC: &str = "tc qdisc add dev veth0 clsact && \
    tc filter add dev veth0 ingress protocol ip pref 5 u32 match ip dst 10.0.0.0/8 flowid 1:1";
const TC_ACTION: &str = "tc filter add dev veth0 egress protocol ip pref 6 u32 match ip dst 10.0.0.0/8 action drop";

type Strip = String;

/// Rows without where they stand in their file.
fn plain<T: Debug>(parsed: Result<Table<T>, Problem>) -> Strip {
    let table = parsed.expect("a tool and we both print lists");
    assert_eq!(format!("{:?}", table.problems), "[]");
    let mut text = String::new();
    for row in &table.rows {
        text.push_str(&without_places(&format!("{row:?}\n")));
    }
    text
}

fn without_places(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("at: Row {") {
        out.push_str(&rest[..at]);
        rest = rest[at..].split_once("}, ").map_or("", |(_, rest)| rest);
    }
    out + rest
}

fn read(artifact: &'static str, bytes: &[u8]) -> Option<Strip> {
    use knet_snapshot as s;
    let path = || artifact.into();
    Some(match artifact {
        name::LINK => plain(s::link::parse_links(path(), bytes)),
        name::ADDR => plain(s::link::parse_addrs(path(), bytes)),
        name::ROUTE | name::ROUTE6 => plain(s::route::parse(path(), bytes)),
        name::RULE | name::RULE6 => plain(s::rule::parse(path(), bytes)),
        name::NEXTHOP => plain(s::nexthop::parse(path(), bytes)),
        name::NEIGH => plain(s::neigh::parse(path(), bytes)),
        name::FDB => plain(s::fdb::parse(path(), bytes)),
        name::BRIDGE_LINK => plain(s::bridge::parse_ports(path(), bytes)),
        name::BRIDGE_VLAN => plain(s::bridge::parse_vlans(path(), bytes)),
        name::CONNTRACK => {
            let mut table = s::conntrack::parse(path(), bytes);
            // Seconds pass between the two.
            table.rows.iter_mut().for_each(|row| row.timeout = None);
            plain(Ok(table))
                .lines()
                .collect::<std::collections::BTreeSet<_>>()
                .into_iter()
                .map(|l| format!("{l}\n"))
                .collect()
        }
        name::SYSCTL => {
            let (values, problems) = s::sysctl::parse(path(), bytes);
            assert_eq!(problems, []);
            let lines = values.values.iter().filter(|(key, _)| !counts(key));
            lines.map(|(key, (value, _))| format!("{key} = {value}\n")).collect()
        }
        _ => return None,
    })
}

/// Values that change while one looks, and those a snapshot never holds.
fn counts(key: &str) -> bool {
    key.ends_with("_count") || key.ends_with("stable_secret") || key.ends_with("fastopen_key") || key.contains("random")
}

fn known(captured: &[Captured]) -> BTreeMap<String, Vec<u8>> {
    captured
        .iter()
        .filter_map(|c| Some((c.entry.path.clone(), c.content.as_ref().ok()?.clone())))
        .collect()
}

/// Both ways: how many rows are equal, and what we wrote; or what differs.
fn compare() -> Result<(usize, BTreeMap<String, Vec<u8>>), String> {
    let tools = known(&capture_with_tools(Limits::default()));
    let captured = capture_netns(&Target::Current, Limits::default());
    let ours = known(&captured);
    let mut compared = 0;
    for artifact in name::ALL {
        let (Some(a), Some(b)) = (tools.get(*artifact), ours.get(*artifact)) else {
            let reason = captured.iter().find(|c| c.entry.path == *artifact).map(|c| &c.content);
            assert!(
                !tools.contains_key(*artifact),
                "{artifact}: the tool reads it, we do not: {reason:?}"
            );
            continue;
        };
        let Some(theirs) = read(artifact, a) else { continue };
        let mut mine = read(artifact, b).expect("read a moment ago");
        if *artifact == name::NEIGH {
            // `ip neigh show` leaves the proxied addresses to `ip neigh show proxy`.
            assert!(mine.contains("proxy: true"), "{mine}");
            mine = mine
                .lines()
                .filter(|l| !l.contains("proxy: true"))
                .map(|l| format!("{l}\n"))
                .collect();
        }
        let differs: Vec<_> = theirs
            .lines()
            .zip(mine.lines())
            .filter(|(a, b)| a != b)
            .take(3)
            .collect();
        if theirs != mine {
            let (theirs, mine) = (theirs.lines().count(), mine.lines().count());
            return Err(format!("{artifact}: {theirs} and {mine} rows; {differs:#?}"));
        }
        let via = captured
            .iter()
            .find(|c| c.entry.path == *artifact)
            .map(|c| c.entry.via.as_str());
        assert!(
            matches!(via, Some("netlink" | "proc")),
            "{artifact} was read by {via:?}"
        );
        compared += theirs.lines().count();
    }
    Ok((compared, ours))
}

/// `tc` prints the filters of one place of one device, and does not say which: that is put into its rows here. How
/// many are equal.
fn same_filters(ours: &[u8]) -> usize {
    let mut theirs = Vec::new();
    for place in ["ingress", "egress"] {
        let printed = shell(&format!("tc -j -d filter show dev veth0 {place}"), "").stdout;
        let list: Vec<serde_json::Value> = serde_json::from_slice(&printed).unwrap_or_default();
        theirs.extend(list.into_iter().map(|mut row| {
            row["dev"] = "veth0".into();
            row["parent"] = place.into();
            row
        }));
    }
    let theirs = serde_json::to_vec(&theirs).expect("JSON");
    let rows = |bytes: &[u8]| plain(knet_snapshot::tc::parse(name::TC.into(), bytes));
    assert_eq!(rows(ours), rows(&theirs));
    theirs.windows(5).filter(|word| word == b"\"dev\"").count()
}

/// Sockets of procfs, which are read where there is no `ss`, beside its lines. What procfs does not say is left out.
fn same_sockets() -> usize {
    use std::net::{TcpListener, UdpSocket};
    let tcp = ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"].map(TcpListener::bind);
    let udp = ["127.0.0.1:0", "0.0.0.0:0", "[::]:0"].map(UdpSocket::bind);
    assert!(
        tcp.iter().all(Result::is_ok) && udp.iter().all(Result::is_ok),
        "{tcp:?} {udp:?}"
    );
    let connected = UdpSocket::bind("127.0.0.1:0").expect("a port");
    connected.connect("127.0.0.1:9").expect("lo is up");
    let rows = |bytes: &[u8]| -> Vec<String> {
        let mut table = knet_snapshot::socket::parse(name::SOCKETS.into(), bytes);
        for row in &mut table.rows {
            (row.v6only, row.cgroup) = (None, None);
        }
        let mut rows: Vec<String> = plain(Ok(table)).lines().map(str::to_owned).collect();
        rows.sort();
        rows
    };
    let theirs = rows(must("ss -H -tulpne", "").as_bytes());
    let holders = knet_collectors::proc::sockets::holders();
    let ours = knet_collectors::proc::sockets::read(&holders).expect("procfs is there");
    assert_eq!(rows(&ours), theirs);
    assert!(theirs.len() >= 7, "{theirs:#?}");
    theirs.len()
}

#[test]
fn live_formats() {
    if !alone(
        "formats::live_formats",
        &["bridge", "nft", "iptables-nft-save", "ss", "sysctl", "tc", "conntrack"],
    ) {
        return;
    }
    for (program, batch) in [("ip", LINKS), ("ip", ROUTES), ("bridge", BRIDGE)] {
        let out = shell(&format!("{program} -force -batch -"), batch);
        let stderr = String::from_utf8_lossy(&out.stderr);
        let refused = stderr.lines().filter(|line| line.starts_with("Command failed")).count();
        say(&format!(
            "live_formats: {program}: {refused} of {} lines are not for this kernel",
            batch.lines().count()
        ));
    }
    must("ip neigh add proxy 10.0.0.200 dev veth0", "");
    let connections = CONNECTIONS
        .lines()
        .filter(|line| shell(&format!("conntrack -I -t 9999 {line}"), "").status.success());
    say(&format!("live_formats: {} connections", connections.count()));
    let filtered = shell(TC, "").status.success();
    let acting = shell(TC_ACTION, "").status.success();
    // Neighbours age and carriers come up while one looks: what differs is looked at again by both.
    let mut last = Err(String::new());
    for _ in 0..8 {
        last = compare();
        if last.is_ok() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(500));
    }
    let (compared, ours) = last.unwrap_or_else(|differs| panic!("{differs}"));
    let tc = String::from_utf8_lossy(&ours[name::TC]).into_owned();
    assert_eq!(
        tc.contains("\"dev\":\"veth0\",\"parent\":\"ingress\",\"protocol\":\"ip\",\"pref\":5"),
        filtered,
        "{tc}"
    );
    assert_eq!(
        tc.contains("\"actions\":[{\"order\":1,\"kind\":\"gact\"}]"),
        acting,
        "{tc}"
    );
    let classified = same_filters(ours[name::TC].as_slice());
    assert_eq!(classified > 0, filtered, "{tc}");
    let compared = compared + classified + same_sockets();
    say(&format!(
        "KNET-RAN live_formats {compared} rows equal those of the tools"
    ));
}
