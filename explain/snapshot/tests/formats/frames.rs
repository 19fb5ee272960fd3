//! Neighbours, forwarding database, bridge ports and their VLANs.

use knet_snapshot::bridge::{Vlan, parse_ports, parse_vlans};
use knet_snapshot::neigh::NudState;
use knet_snapshot::{fdb, neigh};

use crate::{all, one, path, sample};

#[test]
fn neighbours() {
    let rows = all(neigh::parse(path("neigh.json"), sample!("neigh.json")));
    let row = |dst: &str| {
        rows.iter()
            .find(|n| n.dst == dst.parse::<std::net::IpAddr>().unwrap())
            .unwrap()
    };
    assert_eq!(
        (row("10.0.0.2").state, row("10.0.0.2").extern_learn),
        (NudState::Permanent, false)
    );
    assert_eq!(row("10.0.0.2").lladdr.unwrap().to_string(), "02:00:00:00:00:09");
    assert_eq!(
        (row("10.0.0.3").state, row("10.0.0.3").extern_learn),
        (NudState::Stale, true)
    );
    assert_eq!(
        (row("10.0.0.99").lladdr, row("10.0.0.99").state),
        (None, NudState::Incomplete)
    );
    assert!(row("10.0.0.77").proxy);
    assert_eq!(row("192.0.2.9").lladdr_text.as_deref(), Some("198.51.100.7"));
}

#[test]
fn forwarding_database() {
    let rows = all(fdb::parse(path("fdb.json"), sample!("fdb.json")));
    let row = |mac: &str| rows.iter().find(|e| e.mac == mac.parse().unwrap()).unwrap();
    let sticky = row("02:00:00:00:00:03");
    assert_eq!(
        (sticky.master.as_deref(), sticky.static_, sticky.self_),
        (Some("br0"), true, false)
    );
    assert_eq!(sticky.flags, ["sticky"]);
    let remote = row("02:00:00:00:00:01");
    assert_eq!(
        (remote.dst, remote.port, remote.vni),
        (Some("10.0.0.9".parse().unwrap()), Some(99), Some(77))
    );
    assert!(remote.self_ && remote.permanent && remote.via.as_deref() == Some("veth0"));
    assert_eq!(row("02:00:00:00:00:02").src_vni, Some(5));
    assert_eq!(
        (row("02:00:00:00:00:04").nhid, row("02:00:00:00:00:04").flags.join(" ")),
        (Some(22), "extern_learn".into())
    );
    assert_eq!(row("00:00:00:00:00:00").dst, Some("10.0.0.8".parse().unwrap()));
}

#[test]
fn ports() {
    let port = one(parse_ports(path("bridge-link.json"), sample!("bridge-link.json")));
    assert_eq!(
        (port.dev.as_str(), port.master.as_deref(), port.state.as_str()),
        ("veth1", Some("br0"), "forwarding")
    );
    assert_eq!(
        (port.hairpin, port.learning, port.isolated),
        (Some(false), Some(true), Some(false))
    );
    let plain = one(parse_ports(
        path("bridge-link.json"),
        br#"[{"ifname":"veth1@eth0","master":"br0","state":"3"}]"#,
    ));
    assert_eq!(
        (plain.dev.as_str(), plain.state.as_str(), plain.hairpin),
        ("veth1", "forwarding", None)
    );
}

#[test]
fn vlans() {
    let rows = all(parse_vlans(path("bridge-vlan.json"), sample!("bridge-vlan.json")));
    let vlan = |first, last, both| Vlan {
        first,
        last,
        pvid: both,
        untagged: both,
    };
    assert_eq!(
        rows[0].vlans,
        [vlan(1, 1, true), vlan(10, 20, false), vlan(30, 30, true)]
    );
}
