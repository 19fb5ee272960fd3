//! kube-proxy 1.36 in nftables mode, as it writes its rules.

use super::*;

/// The head and tail of kube-proxy's own table, with one service of two endpoints and one without any.
const KUBE: &str = r#"{"nftables":[{"metainfo":{"version":"1.0.6","release_name":"Lester Gooch #5","json_schema_version":1}},
{"table":{"family":"ip","name":"kube-proxy","handle":7}},
{"set":{"family":"ip","name":"hairpin-connections","table":"kube-proxy","type":["ipv4_addr","ipv4_addr","inet_proto","inet_service"],"handle":34,"elem":[{"concat":["10.244.0.5","10.244.0.5","tcp",9000]}]}},
{"set":{"family":"ip","name":"nodeport-ips","table":"kube-proxy","type":"ipv4_addr","handle":40,"elem":["10.0.0.1"]}},
{"map":{"family":"ip","name":"no-endpoint-services","table":"kube-proxy","type":["ipv4_addr","inet_proto","inet_service"],"handle":41,"map":"verdict","elem":[[{"elem":{"val":{"concat":["10.96.1.10","tcp",80]},"comment":"shop/noep:http"}},{"goto":{"target":"reject-chain"}}]]}},
{"map":{"family":"ip","name":"service-ips","table":"kube-proxy","type":["ipv4_addr","inet_proto","inet_service"],"handle":49,"map":"verdict","elem":[[{"concat":["10.96.1.2","tcp",80]},{"goto":{"target":"service-X"}}]]}},
{"map":{"family":"ip","name":"service-nodeports","table":"kube-proxy","type":["inet_proto","inet_service"],"handle":50,"map":"verdict","elem":[[{"concat":["tcp",30080]},{"goto":{"target":"external-X"}}]]}},
{"chain":{"family":"ip","table":"kube-proxy","name":"filter-forward","handle":12,"type":"filter","hook":"forward","prio":0,"policy":"accept"}},
{"chain":{"family":"ip","table":"kube-proxy","name":"nat-prerouting","handle":14,"type":"nat","hook":"prerouting","prio":-100,"policy":"accept"}},
{"chain":{"family":"ip","table":"kube-proxy","name":"nat-postrouting","handle":16,"type":"nat","hook":"postrouting","prio":100,"policy":"accept"}},
{"chain":{"family":"ip","table":"kube-proxy","name":"services","handle":20}},
{"chain":{"family":"ip","table":"kube-proxy","name":"service-endpoints-check","handle":21}},
{"chain":{"family":"ip","table":"kube-proxy","name":"reject-chain","handle":22}},
{"chain":{"family":"ip","table":"kube-proxy","name":"mark-for-masquerade","handle":23}},
{"chain":{"family":"ip","table":"kube-proxy","name":"masquerading","handle":24}},
{"chain":{"family":"ip","table":"kube-proxy","name":"service-X","handle":25}},
{"chain":{"family":"ip","table":"kube-proxy","name":"external-X","handle":26}},
{"rule":{"family":"ip","table":"kube-proxy","chain":"filter-forward","handle":60,"expr":[{"match":{"op":"in","left":{"ct":{"key":"state"}},"right":"new"}},{"jump":{"target":"service-endpoints-check"}}]}},
{"rule":{"family":"ip","table":"kube-proxy","chain":"nat-prerouting","handle":61,"expr":[{"jump":{"target":"services"}}]}},
{"rule":{"family":"ip","table":"kube-proxy","chain":"nat-postrouting","handle":62,"expr":[{"jump":{"target":"masquerading"}}]}},
{"rule":{"family":"ip","table":"kube-proxy","chain":"services","handle":63,"expr":[{"vmap":{"key":{"concat":[{"payload":{"protocol":"ip","field":"daddr"}},{"meta":{"key":"l4proto"}},{"payload":{"protocol":"th","field":"dport"}}]},"data":"@service-ips"}}]}},
{"rule":{"family":"ip","table":"kube-proxy","chain":"services","handle":64,"expr":[{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"daddr"}},"right":"@nodeport-ips"}},{"vmap":{"key":{"concat":[{"meta":{"key":"l4proto"}},{"payload":{"protocol":"th","field":"dport"}}]},"data":"@service-nodeports"}}]}},
{"rule":{"family":"ip","table":"kube-proxy","chain":"service-endpoints-check","handle":65,"expr":[{"vmap":{"key":{"concat":[{"payload":{"protocol":"ip","field":"daddr"}},{"meta":{"key":"l4proto"}},{"payload":{"protocol":"th","field":"dport"}}]},"data":"@no-endpoint-services"}}]}},
{"rule":{"family":"ip","table":"kube-proxy","chain":"reject-chain","handle":66,"expr":[{"reject":{"type":"icmp","expr":"port-unreachable"}}]}},
{"rule":{"family":"ip","table":"kube-proxy","chain":"mark-for-masquerade","handle":67,"expr":[{"mangle":{"key":{"meta":{"key":"mark"}},"value":{"|":[{"meta":{"key":"mark"}},16384]}}}]}},
{"rule":{"family":"ip","table":"kube-proxy","chain":"masquerading","handle":68,"expr":[{"match":{"op":"==","left":{"concat":[{"payload":{"protocol":"ip","field":"saddr"}},{"payload":{"protocol":"ip","field":"daddr"}},{"meta":{"key":"l4proto"}},{"payload":{"protocol":"th","field":"dport"}}]},"right":"@hairpin-connections"}},{"jump":{"target":"mark-for-masquerade"}}]}},
{"rule":{"family":"ip","table":"kube-proxy","chain":"masquerading","handle":69,"expr":[{"match":{"op":"!=","left":{"&":[{"meta":{"key":"mark"}},16384]},"right":0}},{"mangle":{"key":{"meta":{"key":"mark"}},"value":{"^":[{"meta":{"key":"mark"}},16384]}}},{"masquerade":{"flags":"fully-random"}}]}},
{"rule":{"family":"ip","table":"kube-proxy","chain":"external-X","handle":70,"expr":[{"jump":{"target":"mark-for-masquerade"}}]}},
{"rule":{"family":"ip","table":"kube-proxy","chain":"external-X","handle":71,"expr":[{"goto":{"target":"service-X"}}]}},
{"rule":{"family":"ip","table":"kube-proxy","chain":"service-X","handle":72,"expr":[{"match":{"op":"==","left":{"meta":{"key":"l4proto"}},"right":"tcp"}},{"dnat":{"family":"ip","addr":{"map":{"key":{"numgen":{"mode":"random","mod":2,"offset":0}},"data":{"set":[[0,{"concat":["10.244.0.6",8080]}],[1,{"concat":["10.244.2.7",8081]}]]}}}}}]}}
]}"#;

#[test]
fn a_service_address_goes_to_each_endpoint_with_its_share() {
    let snapshot = snapshot(&[("nft.json", KUBE)]);
    let run = walk(&snapshot, Hook::Prerouting, &tcp("10.244.0.5", "10.96.1.2", 80), true);
    let got: Vec<_> = run
        .leaves
        .iter()
        .map(|l| {
            let entry = &l.value.ct.entries()[0];
            assert!(entry.dnat);
            (entry.reply.src.to_string(), entry.reply.sport.value)
        })
        .collect();
    assert_eq!(got, [("10.244.0.6".to_owned(), 8080), ("10.244.2.7".to_owned(), 8081)]);
    let texts: Vec<_> = run.leaves[0]
        .value
        .steps
        .iter()
        .flat_map(|s| &s.evidence)
        .map(|e| &*e.text)
        .collect();
    assert!(
        texts.contains(&"service-ips { 10.96.1.2 . tcp . 80 : goto service-X }"),
        "{texts:?}"
    );
}

#[test]
fn a_node_port_is_marked_and_masqueraded() {
    let snapshot = snapshot(&[("nft.json", KUBE)]);
    let run = walk(&snapshot, Hook::Prerouting, &tcp("10.0.0.9", "10.0.0.1", 30080), true);
    assert!(
        run.leaves
            .iter()
            .all(|l| l.value.skb.mark == 0x4000 && l.value.ct.entries()[0].dnat)
    );
    let mut skb = tcp("10.0.0.9", "10.244.0.6", 8080);
    skb.mark = 0x4000;
    let run = walk(&snapshot, Hook::Postrouting, &skb, true);
    let value = &run.leaves[0].value;
    assert_eq!(value.skb.mark, 0, "the mark is taken back");
    assert_eq!(
        value.ct.entries()[0].reply.dst.to_string(),
        "10.244.0.1",
        "the bridge's own address"
    );
}

#[test]
fn a_service_without_endpoints_is_refused_and_other_traffic_is_not() {
    let snapshot = snapshot(&[("nft.json", KUBE)]);
    let run = walk(&snapshot, Hook::Forward, &tcp("10.244.0.5", "10.96.1.10", 80), true);
    assert_eq!(
        run.leaves[0].value.verdict,
        Verdict::Reject(Reject::IcmpPortUnreachable)
    );
    let run = walk(&snapshot, Hook::Forward, &tcp("10.244.0.5", "10.96.1.10", 81), true);
    assert_eq!(run.leaves.len(), 1);
    assert_eq!(run.leaves[0].value.verdict, Verdict::Accept);
    let ping = packet(
        "10.244.0.5",
        "10.244.0.6",
        proto::ICMP,
        L4::Icmp {
            ty: 8,
            code: 0,
            id: 7.into(),
            quoted: None,
        },
    );
    assert_eq!(
        walk(&snapshot, Hook::Forward, &ping, true).leaves.len(),
        1,
        "a key of a ping is found in no map"
    );
}

#[test]
fn masquerading_of_a_pod_that_reaches_itself() {
    let snapshot = snapshot(&[("nft.json", KUBE)]);
    let mut skb = tcp("10.244.0.5", "10.244.0.5", 9000);
    skb.oif = Some(IfIndex(3));
    let run = walk(&snapshot, Hook::Postrouting, &skb, true);
    assert!(run.leaves[0].value.ct.entries()[0].snat);
}

#[test]
fn only_the_chains_of_the_packets_family_run() {
    let snapshot = snapshot(&[("nft.json", KUBE)]);
    let world = World::new(&snapshot);
    let nft = world.spaces()[0].nft();
    assert_eq!(nft.base_chains(Family::V6, Hook::Forward).len(), 0);
    let bases = nft.base_chains(Family::V4, Hook::Prerouting);
    assert!(bases[0].is_nat() && bases[0].priority == -100);
}
