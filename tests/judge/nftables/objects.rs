//! Named sets and maps.

use super::super::environment::ROUTED;
use super::super::flow::{self, PORTS};
use super::super::random::Rng;
use super::Named;
use super::words::{address, list, mark, port, ports, prefixes, several};

pub(super) fn objects(rng: &mut Rng, family: &str, chains: &[String]) -> (Vec<String>, Vec<Named>) {
    let mut texts = Vec::new();
    let mut named = Vec::new();
    let families: &[bool] = match family {
        "ip" => &[false],
        "ip6" => &[true],
        _ => &[false, true],
    };
    let verdict = |rng: &mut Rng| match (rng.below(6), chains.is_empty()) {
        (0, _) => "drop".to_owned(),
        (1, _) => "accept".to_owned(),
        (2, _) => "return".to_owned(),
        (3, false) => format!("jump {}", rng.pick(chains)),
        (_, false) => format!("goto {}", rng.pick(chains)),
        _ => "continue".to_owned(),
    };
    for (n, &v6) in families.iter().enumerate() {
        let (ty, suffix) = if v6 { ("ipv6_addr", "6") } else { ("ipv4_addr", "4") };
        let mut add = |kind: &'static str, name: &str, text: String| {
            texts.push(text);
            named.push(Named {
                name: name.to_owned(),
                kind,
            });
        };
        let _ = n;
        if rng.percent(50) {
            let elements = list(&several(rng, 6, |r| address(r, v6)));
            let timeout = if rng.percent(20) {
                "flags timeout; timeout 1h; "
            } else {
                ""
            };
            add(
                if v6 { "addr6" } else { "addr4" },
                &format!("a{suffix}"),
                format!("set a{suffix} {{ type {ty}; {timeout}elements = {{ {elements} }} }}"),
            );
        }
        if rng.percent(50) {
            let elements = list(&prefixes(rng, v6));
            add(
                if v6 { "addr6" } else { "addr4" },
                &format!("n{suffix}"),
                format!("set n{suffix} {{ type {ty}; flags interval; elements = {{ {elements} }} }}"),
            );
        }
        if rng.percent(50) {
            let elements = list(&several(rng, 6, |r| {
                format!("{} . {} . {}", address(r, v6), r.word(&["tcp", "udp"]), port(r))
            }));
            add(
                if v6 { "app6" } else { "app4" },
                &format!("c{suffix}"),
                format!("set c{suffix} {{ type {ty} . inet_proto . inet_service; elements = {{ {elements} }} }}"),
            );
        }
        if rng.percent(40) {
            let (own_port, nets) = (ports(rng), prefixes(rng, v6));
            let elements: Vec<String> = nets
                .iter()
                .take(3)
                .map(|net| format!("{net} . {}", rng.pick(&own_port)))
                .collect();
            add(
                if v6 { "np6" } else { "np4" },
                &format!("i{suffix}"),
                format!(
                    "set i{suffix} {{ type {ty} . inet_service; flags interval; elements = {{ {} }} }}",
                    list(&elements)
                ),
            );
        }
        if rng.percent(40) {
            let elements = several(rng, 5, |r| address(r, v6))
                .into_iter()
                .map(|a| format!("{a} : {}", verdict(rng)))
                .collect::<Vec<_>>();
            add(
                if v6 { "vaddr6" } else { "vaddr4" },
                &format!("va{suffix}"),
                format!(
                    "map va{suffix} {{ type {ty} : verdict; elements = {{ {} }} }}",
                    list(&elements)
                ),
            );
        }
        if rng.percent(40) {
            let elements = several(rng, 6, |r| {
                format!("{} . {} . {}", address(r, v6), r.word(&["tcp", "udp"]), port(r))
            })
            .into_iter()
            .map(|a| format!("{a} : {}", verdict(rng)))
            .collect::<Vec<_>>();
            add(
                if v6 { "vapp6" } else { "vapp4" },
                &format!("vc{suffix}"),
                format!(
                    "map vc{suffix} {{ type {ty} . inet_proto . inet_service : verdict; elements = {{ {} }} }}",
                    list(&elements)
                ),
            );
        }
        if rng.percent(40) {
            let elements = several(rng, 5, |r| address(r, v6))
                .into_iter()
                .map(|a| {
                    let device = rng.below(ROUTED);
                    format!("{a} : {} . {}", flow::behind(rng, v6, device), port(rng))
                })
                .collect::<Vec<_>>();
            add(
                if v6 { "to6" } else { "to4" },
                &format!("d{suffix}"),
                format!(
                    "map d{suffix} {{ type {ty} : {ty} . inet_service; elements = {{ {} }} }}",
                    list(&elements)
                ),
            );
        }
        if rng.percent(25) {
            add(
                if v6 { "dyn6" } else { "dyn4" },
                &format!("dyn{suffix}"),
                format!("set dyn{suffix} {{ type {ty}; flags dynamic,timeout; timeout 1h; size 65535; }}"),
            );
        }
    }
    let mut add = |kind: &'static str, name: &str, text: String| {
        texts.push(text);
        named.push(Named {
            name: name.to_owned(),
            kind,
        });
    };
    if rng.percent(40) {
        add(
            "ports",
            "p",
            format!(
                "set p {{ type inet_service; flags interval; elements = {{ {} }} }}",
                list(&ports(rng))
            ),
        );
    }
    if rng.percent(30) {
        let names: Vec<String> = rng.some(&["eth0", "eth1", "eth2", "eth3", "br0"].map(|n| format!("\"{n}\"")), 1);
        add(
            "ifs",
            "ifs",
            format!("set ifs {{ type ifname; elements = {{ {} }} }}", list(&names)),
        );
    }
    if rng.percent(30) {
        let elements: Vec<String> = rng
            .some(&PORTS.map(|p| p.to_string()), 1)
            .into_iter()
            .map(|p| format!("{p} : {}", verdict(rng)))
            .collect();
        add(
            "vports",
            "vp",
            format!(
                "map vp {{ type inet_service : verdict; elements = {{ {} }} }}",
                list(&elements)
            ),
        );
    }
    if rng.percent(30) {
        let elements: Vec<String> = rng
            .some(&PORTS.map(|p| p.to_string()), 1)
            .into_iter()
            .map(|p| format!("{p} : {}", mark(rng)))
            .collect();
        add(
            "pmark",
            "pm",
            format!(
                "map pm {{ type inet_service : mark; elements = {{ {} }} }}",
                list(&elements)
            ),
        );
    }
    (texts, named)
}
