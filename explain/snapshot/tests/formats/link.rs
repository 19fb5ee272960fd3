use knet_snapshot::id::IfIndex;
use knet_snapshot::link::{Link, LinkKind, parse_addrs, parse_links};

use crate::{all, one, path, sample};

fn links(bytes: &[u8]) -> Vec<Link> {
    all(parse_links(path("link.json"), bytes))
}

fn kind(info: &str) -> LinkKind {
    let row = format!(r#"[{{"ifindex":9,"ifname":"x","flags":["UP"],"mtu":1500,"linkinfo":{info}}}]"#);
    one(parse_links(path("link.json"), row.as_bytes())).kind
}

#[test]
fn devices_of_a_namespace() {
    let links = links(sample!("link.json"));
    let link = |name: &str| links.iter().find(|link| link.name == name).unwrap();

    let lo = link("lo");
    assert_eq!((lo.index, lo.mtu, lo.group), (IfIndex(1), 65536, Some(0)));
    assert!(lo.flags.loopback && lo.flags.up && lo.flags.lower_up);
    assert_eq!(lo.kind, LinkKind::Device);

    let veth = link("veth1");
    assert_eq!(veth.master.as_deref(), Some("br0"));
    assert_eq!(veth.link_name.as_deref(), Some("veth0"));
    assert_eq!((veth.link_index, veth.netnsid), (None, None));
    assert_eq!(veth.kind, LinkKind::Veth);
    assert_eq!(veth.operstate, "UP");

    assert_eq!(
        link("mac0").kind,
        LinkKind::Macvlan {
            mode: "bridge".to_owned()
        }
    );
    let LinkKind::Bridge(bridge) = &link("br0").kind else {
        panic!()
    };
    assert_eq!(
        (bridge.vlan_filtering, bridge.nf_call_iptables),
        (Some(false), Some(false))
    );
    assert_eq!((bridge.ageing_time, bridge.stp_state), (Some(30_000), Some(0)));
}

#[test]
fn vxlan_devices() {
    let links = links(sample!("link.json"));
    let vxlan = |name: &str| match &links.iter().find(|link| link.name == name).unwrap().kind {
        LinkKind::Vxlan(info) => info,
        other => panic!("{other:?}"),
    };
    let vx0 = vxlan("vx0");
    assert_eq!((vx0.vni, vx0.port, vx0.learning), (Some(42), 4789, Some(false)));
    assert_eq!((vx0.local, vx0.remote), (Some("10.0.0.1".parse().unwrap()), None));
    assert_eq!(vx0.link.as_deref(), Some("veth0"));
    assert_eq!((vx0.ttl, vx0.ttl_inherit, vx0.tos), (0, false, Some(0)));

    let external = vxlan("vx1");
    assert!(external.external);
    assert_eq!(external.vni, None, "the route names it");

    let v6 = vxlan("vx2");
    assert_eq!(
        (v6.local, v6.remote),
        (Some("fd00::1".parse().unwrap()), Some("fd00::9".parse().unwrap()))
    );
    assert_eq!((v6.port_range, v6.proxy, v6.tos), ((1000, 2000), true, None));
    assert_eq!(v6.df.as_deref(), Some("inherit"));

    let group = vxlan("vx3");
    assert_eq!(group.remote, Some("239.1.1.1".parse().unwrap()));
    assert_eq!((group.ttl, group.tos), (5, Some(0x10)));
}

#[test]
fn the_other_end_in_another_namespace() {
    let row = br#"[{"ifindex":2,"link_index":40,"ifname":"eth0@if40","flags":["BROADCAST","NOARP","PROMISC","POINTOPOINT"],"mtu":1500,"qdisc":"noqueue","operstate":"DOWN","group":"default","address":"02:42:c0:a8:38:0b","link_netnsid":0,"promiscuity":0,"linkinfo":{"info_kind":"veth"}}]"#;
    let eth0 = one(parse_links(path("link.json"), row));
    assert_eq!(eth0.name, "eth0");
    assert_eq!(
        (eth0.link_index, eth0.netnsid, eth0.group),
        (Some(IfIndex(40)), Some(0), Some(0))
    );
    assert_eq!(eth0.mac.unwrap().to_string(), "02:42:c0:a8:38:0b");
    assert!(!eth0.flags.up && eth0.flags.noarp && eth0.flags.promisc && eth0.flags.point_to_point);
}

#[test]
fn tunnels() {
    let LinkKind::Tunnel(kind_, info) = kind(
        r#"{"info_kind":"gre","info_data":{"remote":"172.16.0.12","local":"172.16.0.11","ttl":64,"ikey":"0.0.0.42","okey":"0.0.0.43","pmtudisc":true}}"#,
    ) else {
        panic!()
    };
    assert_eq!((kind_.as_str(), info.ttl, info.key), ("gre", 64, Some(43)));
    assert_eq!(info.remote, Some("172.16.0.12".parse().unwrap()));

    let LinkKind::Tunnel(_, any) = kind(
        r#"{"info_kind":"ipip","info_data":{"proto":"ipip","remote":"any","local":"any","ttl":0,"pmtudisc":false}}"#,
    ) else {
        panic!()
    };
    assert_eq!((any.local, any.remote, any.key), (None, None, None));

    let LinkKind::Tunnel(_, geneve) = kind(
        r#"{"info_kind":"geneve","info_data":{"id":1112,"remote":"172.16.0.12","ttl":0,"df":"unset","port":6081,"udp_csum":true}}"#,
    ) else {
        panic!()
    };
    assert_eq!((geneve.key, geneve.port), (Some(1112), Some(6081)));

    let LinkKind::Tunnel(_, xfrm) = kind(r#"{"info_kind":"xfrm","info_data":{"link":"eth0","if_id":"0x2a"}}"#) else {
        panic!()
    };
    assert_eq!((xfrm.key, xfrm.link.as_deref()), (Some(42), Some("eth0")));
}

#[test]
fn other_kinds() {
    assert_eq!(
        kind(r#"{"info_kind":"vlan","info_data":{"protocol":"802.1Q","id":100,"flags":["REORDER_HDR"]}}"#),
        LinkKind::Vlan {
            id: 100,
            protocol: "802.1Q".to_owned()
        }
    );
    assert_eq!(
        kind(r#"{"info_kind":"ipvlan","info_data":{"mode":"l3","bridge":true}}"#),
        LinkKind::Ipvlan {
            mode: "l3".to_owned(),
            flag: "bridge".to_owned()
        }
    );
    assert_eq!(
        kind(r#"{"info_kind":"vrf","info_data":{"table":100}}"#),
        LinkKind::Vrf { table: 100 }
    );
    assert_eq!(kind(r#"{"info_kind":"dummy"}"#), LinkKind::Dummy);
    assert_eq!(
        kind(r#"{"info_kind":"tun","info_data":{"type":"tun","pi":false}}"#),
        LinkKind::Tun
    );
    assert_eq!(kind(r#"{"info_kind":"wireguard"}"#), LinkKind::Wireguard);
    assert_eq!(
        kind(r#"{"info_kind":"bond","info_data":{"mode":"802.3ad"}}"#),
        LinkKind::Bond
    );
    assert_eq!(
        kind(r#"{"info_kind":"netdevsim"}"#),
        LinkKind::Other("netdevsim".to_owned())
    );
}

#[test]
fn without_details_nothing_is_taken_for_a_nic() {
    let table = parse_links(path("link.json"), sample!("link-plain.json")).unwrap();
    let kind = |name: &str| &table.rows.iter().find(|link| link.name == name).unwrap().kind;
    assert_eq!(*kind("lo"), LinkKind::Device);
    assert_eq!(*kind("br0"), LinkKind::Other(String::new()));
    assert_eq!(table.problems.len(), 1);
}

#[test]
fn addresses() {
    let addrs = all(parse_addrs(path("addr.json"), sample!("addr.json")));
    let addr = |text: &str| {
        addrs
            .iter()
            .find(|a| a.local == text.parse::<std::net::IpAddr>().unwrap())
            .unwrap()
    };
    assert_eq!((addr("127.0.0.1").link, addr("127.0.0.1").scope), (IfIndex(1), 254));
    assert!(addr("10.0.0.5").secondary && !addr("10.0.0.1").secondary);
    assert_eq!((addr("10.0.1.1").scope, addr("10.0.1.1").noprefixroute), (253, true));
    assert_eq!(
        (addr("10.1.0.1").peer, addr("10.1.0.1").prefix_len),
        (Some("10.1.0.2".parse().unwrap()), 32)
    );
    assert!(
        addrs.iter().any(|a| a.tentative),
        "duplicate address detection was running"
    );
}

#[test]
fn one_bad_address_costs_only_itself() {
    let row = br#"[{"ifindex":2,"ifname":"eth0","addr_info":[{"local":"10.0.0.1","prefixlen":24,"scope":"global"},{"local":"x","prefixlen":24},{"local":"10.0.0.2","prefixlen":99},{"local":"fd00::1","prefixlen":64,"scope":"link","temporary":true,"deprecated":true,"dadfailed":true}]}]"#;
    let table = parse_addrs(path("addr.json"), row).unwrap();
    assert_eq!((table.rows.len(), table.problems.len()), (2, 1));
    let temporary = &table.rows[1];
    assert!(temporary.secondary && temporary.deprecated && temporary.dadfailed);
    assert_eq!(temporary.scope, 253);
}
