use std::net::IpAddr;

use knet_snapshot::id::TableId;
use knet_snapshot::nexthop::{self, NexthopKind};
use knet_snapshot::route::{Route, RouteKind, parse};

use crate::{all, one, path, sample};

fn routes() -> Vec<Route> {
    all(parse(path("nodes/n/host/route.json"), sample!("route.json")))
}

fn route<'a>(routes: &'a [Route], dst: &str, table: u32) -> &'a Route {
    let dst: ipnet::IpNet = dst.parse().unwrap();
    routes
        .iter()
        .find(|r| r.dst == dst && r.table == TableId(table))
        .unwrap()
}

fn ip(text: &str) -> Option<IpAddr> {
    Some(text.parse().unwrap())
}

fn single(row: &str) -> Route {
    one(parse(path("route.json"), format!("[{row}]").as_bytes()))
}

#[test]
fn numbers_and_names_say_the_same() {
    let numbers = routes();
    let names = all(parse(path("route.json"), sample!("route-plain.json")));
    assert_eq!(numbers.len(), names.len());
    for (a, b) in numbers.iter().zip(&names) {
        // Without -d the protocol `boot` and the scope `global` are left out.
        let b = Route {
            at: a.at,
            protocol: if b.protocol.is_none() { a.protocol } else { b.protocol },
            ..b.clone()
        };
        assert_eq!(*a, b);
    }
}

#[test]
fn every_attribute_has_its_place() {
    let routes = routes();
    let all = route(&routes, "10.9.5.0/24", 100);
    assert_eq!(
        (all.tos, all.metric, all.mtu, all.realm),
        (0x10, 77, Some(1400), Some(4 << 16 | 5))
    );
    assert_eq!((all.protocol, all.scope, all.kind), (Some(186), 0, RouteKind::Unicast));
    let local = route(&routes, "127.0.0.0/8", 255);
    assert_eq!(
        (local.kind, local.scope, local.prefsrc),
        (RouteKind::Local, 254, ip("127.0.0.1"))
    );
    assert_eq!(
        route(&routes, "10.0.0.1/32", 255).nexthops[0].dev.as_deref(),
        Some("veth0")
    );
    assert_eq!(route(&routes, "10.9.4.0/24", 254).nexthops[0].gateway, ip("fd00::7"));
}

#[test]
fn several_next_hops() {
    let routes = routes();
    let hops = &route(&routes, "10.9.0.0/24", 254).nexthops;
    assert_eq!(
        (hops[0].gateway, hops[0].weight, hops[0].onlink),
        (ip("10.0.0.2"), 3, false)
    );
    assert_eq!(
        (hops[1].gateway, hops[1].weight, hops[1].onlink),
        (ip("10.0.0.3"), 1, true)
    );
    let by_object = route(&routes, "10.10.0.0/16", 254);
    assert_eq!((by_object.nhid, by_object.nexthops.len()), (Some(10), 2));
}

#[test]
fn routes_that_send_nothing_have_no_next_hop() {
    let routes = routes();
    for (dst, table, kind) in [
        ("10.9.6.0/24", 254, RouteKind::Blackhole),
        ("10.9.7.0/24", 252, RouteKind::Unreachable),
        ("0.0.0.0/0", 251, RouteKind::Prohibit),
        ("10.9.8.0/24", 4242, RouteKind::Throw),
    ] {
        let route = route(&routes, dst, table);
        assert_eq!((route.kind, route.nexthops.len()), (kind, 0), "{dst}");
    }
}

#[test]
fn the_tunnels_address_is_not_the_routes() {
    let routes = routes();
    let single = route(&routes, "10.9.1.0/24", 254);
    let encap = single.nexthops[0].encap.as_ref().unwrap();
    assert_eq!(
        (encap.kind.as_str(), encap.id, encap.dst, encap.src),
        ("ip", Some(100), ip("10.0.0.9"), ip("10.0.0.1"))
    );
    assert_eq!(single.tos, 0, "the tunnel's is 4");
    let hops = &route(&routes, "10.9.2.0/24", 254).nexthops;
    assert_eq!(hops[0].encap.as_ref().unwrap().src, None, "0.0.0.0 is none");
    assert_eq!(hops[1].encap, None);
}

#[test]
fn ipv6() {
    let routes = all(parse(path("nodes/n/host/route6.json"), sample!("route6.json")));
    assert_eq!(
        route(&routes, "::/0", 77).kind,
        RouteKind::Unreachable,
        "default takes its family from the file"
    );
    assert_eq!(route(&routes, "fd03::/64", 254).src, Some("fd00::/64".parse().unwrap()));
    assert_eq!(route(&routes, "fd02::/64", 254).nexthops[0].weight, 2);
    assert_eq!(
        route(&routes, "fd01::/64", 254).nexthops[0]
            .encap
            .as_ref()
            .unwrap()
            .kind,
        "seg6"
    );
    assert_eq!(route(&routes, "fd05::/48", 254).nexthops, []);
    assert_eq!(route(&routes, "fd00::/64", 254).pref.as_deref(), Some("medium"));
}

#[test]
fn the_family_of_default_in_a_file_of_another_name() {
    let family = |row: &str| {
        one(parse(path("all-routes.json"), format!("[{row}]").as_bytes()))
            .dst
            .to_string()
    };
    assert_eq!(
        family(r#"{"dst":"default","gateway":"fe80::1","dev":"eth0","pref":"medium"}"#),
        "::/0"
    );
    assert_eq!(
        family(r#"{"dst":"default","gateway":"10.0.0.1","dev":"eth0"}"#),
        "0.0.0.0/0"
    );
    assert_eq!(
        family(r#"{"dst":"default","via":{"family":"inet6","host":"fe80::1"},"prefsrc":"10.0.0.7"}"#),
        "0.0.0.0/0"
    );
    assert_eq!(family(r#"{"dst":"default","dev":"eth0","scope":"link"}"#), "0.0.0.0/0");
}

#[test]
fn old_and_odd_rows() {
    let plain = single(r#"{"dst":"10.0.0.0/8","dev":"eth0@if5","scope":"link","flags":["dead","linkdown"]}"#);
    assert_eq!(
        (plain.table, plain.kind, plain.protocol, plain.scope),
        (TableId::MAIN, RouteKind::Unicast, None, 253)
    );
    assert_eq!(plain.nexthops[0].dev.as_deref(), Some("eth0"));
    assert!(plain.nexthops[0].dead && plain.nexthops[0].linkdown && !plain.nexthops[0].onlink);
    let numbers =
        single(r#"{"type":"local","dst":"10.1.2.3/8","table":255,"protocol":"kernel","scope":254,"mtu":"1400"}"#);
    assert_eq!(numbers.dst.to_string(), "10.0.0.0/8", "host bits are cleared");
    assert_eq!(
        (numbers.table, numbers.protocol, numbers.mtu),
        (TableId::LOCAL, Some(2), Some(1400))
    );
    assert_eq!(
        single(r#"{"type":"[77]","dst":"10.0.0.0/8"}"#).kind,
        RouteKind::Other(77)
    );
    let refused = |row: &str| parse(path("route.json"), row.as_bytes()).unwrap().problems.len() == 1;
    assert!(
        refused(r#"[{"dst":"10.0.0.0/8","table":"blue"}]"#),
        "a name out of the node's rt_tables"
    );
    assert!(refused(r#"[{"dst":"10.0.0.0/33"}]"#));
    assert!(refused(r#"[{"dst":"10.0.0.0/8","metric":-1}]"#));
    assert!(refused(r#"[{"dst":"10.0.0.0/8","metric":4294967296}]"#));
}

#[test]
fn nexthop_objects() {
    let objects = all(nexthop::parse(path("nexthop.json"), sample!("nexthop.json")));
    let kind = |id: u32| &objects.iter().find(|object| object.id == id).unwrap().kind;
    assert!(matches!(kind(2), NexthopKind::Hop(hop) if hop.onlink && hop.gateway == ip("10.0.0.3")));
    assert_eq!(*kind(3), NexthopKind::Blackhole);
    assert_eq!(
        *kind(10),
        NexthopKind::Group {
            members: vec![(1, 3), (2, 1)],
            resilient: false
        }
    );
    assert_eq!(
        *kind(11),
        NexthopKind::Group {
            members: vec![(1, 1), (2, 5)],
            resilient: true
        }
    );
    assert!(matches!(kind(20), NexthopKind::Fdb(hop) if hop.gateway == ip("10.0.0.9")));
    assert!(matches!(kind(31), NexthopKind::Hop(hop) if hop.encap.as_ref().is_some_and(|e| e.id == Some(5))));
}
