use super::*;

fn m(left: &str, op: &str, right: &str) -> String {
    format!(r#"{{"match":{{"op":"{op}","left":{left},"right":{right}}}}}"#)
}

fn payload(protocol: &str, field: &str) -> String {
    format!(r#"{{"payload":{{"protocol":"{protocol}","field":"{field}"}}}}"#)
}

fn meta(key: &str) -> String {
    format!(r#"{{"meta":{{"key":"{key}"}}}}"#)
}

#[test]
fn a_field_of_another_protocol_ends_the_rule_whatever_the_operator() {
    let dport = payload("tcp", "dport");
    assert!(hits("inet", &m(&dport, "==", "80"), &tcp("10.0.0.9", "10.244.0.5", 80)));
    assert!(!hits(
        "inet",
        &m(&dport, "==", "80"),
        &udp("10.0.0.9", "10.244.0.5", 80)
    ));
    assert!(!hits(
        "inet",
        &m(&dport, "!=", "81"),
        &udp("10.0.0.9", "10.244.0.5", 80)
    ));
    assert!(!hits(
        "inet",
        &m(&payload("ip6", "saddr"), "!=", r#""::1""#),
        &tcp("10.0.0.9", "10.244.0.5", 80)
    ));
    assert!(hits(
        "inet",
        &m(&payload("th", "dport"), "==", "80"),
        &udp("10.0.0.9", "10.244.0.5", 80)
    ));
}

#[test]
fn ranges_prefixes_and_orders() {
    let skb = tcp("10.0.0.9", "10.244.0.5", 8080);
    let dport = payload("tcp", "dport");
    assert!(hits("ip", &m(&dport, "==", r#"{"range":[8000,8080]}"#), &skb));
    assert!(!hits("ip", &m(&dport, "!=", r#"{"range":[8000,8080]}"#), &skb));
    assert!(hits("ip", &m(&dport, ">", "8079"), &skb));
    assert!(!hits("ip", &m(&dport, ">", "8080"), &skb));
    assert!(hits("ip", &m(&dport, "<=", "8080"), &skb));
    assert!(!hits("ip", &m(&dport, "<", "8080"), &skb));
    assert!(hits(
        "ip",
        &m(
            &payload("ip", "daddr"),
            "==",
            r#"{"prefix":{"addr":"10.244.0.0","len":16}}"#
        ),
        &skb
    ));
    assert!(hits(
        "ip",
        &m(
            &payload("ip", "daddr"),
            "!=",
            r#"{"prefix":{"addr":"10.245.0.0","len":16}}"#
        ),
        &skb
    ));
}

#[test]
fn flags_by_bits_and_by_value() {
    let skb = tcp("10.0.0.9", "10.244.0.5", 80);
    let flags = payload("tcp", "flags");
    assert!(hits("ip", &m(&flags, "in", r#"["syn","ack"]"#), &skb));
    assert!(hits("ip", &m(&flags, "==", r#""syn""#), &skb));
    assert!(!hits("ip", &m(&flags, "!=", r#""syn""#), &skb));
    assert!(!hits("ip", &m(&flags, "!", r#""syn""#), &skb));
    assert!(hits("ip", &m(&flags, "!", r#""ack""#), &skb));
    let masked = format!(r#"{{"&":[{flags},["fin","syn","rst","ack"]]}}"#);
    assert!(hits("ip", &m(&masked, "==", r#""syn""#), &skb));
    assert!(hits(
        "ip",
        &m(r#"{"ct":{"key":"state"}}"#, "in", r#"["new","related"]"#),
        &skb
    ));
    assert!(hits(
        "ip",
        &m(r#"{"ct":{"key":"state"}}"#, "==", r#"{"set":["established","new"]}"#),
        &skb
    ));
    assert!(!hits(
        "ip",
        &m(r#"{"ct":{"key":"state"}}"#, "in", r#""established""#),
        &skb
    ));
}

#[test]
fn interface_names_with_a_star() {
    let skb = tcp("10.0.0.9", "10.244.0.5", 80);
    assert!(hits("inet", &m(&meta("iifname"), "==", r#""eth*""#), &skb));
    assert!(!hits("inet", &m(&meta("iifname"), "!=", r#""eth*""#), &skb));
    assert!(hits(
        "inet",
        &m(&meta("oifname"), "==", r#"{"set":["cali*","cni0"]}"#),
        &skb
    ));
    assert!(!hits(
        "inet",
        &m(&meta("oifname"), "==", r#"{"set":["cali*","cni"]}"#),
        &skb
    ));
    assert!(hits("inet", &m(&meta("iif"), "==", r#""eth0""#), &skb));
    assert!(!hits("inet", &m(&meta("iif"), "==", r#""cni0""#), &skb));
}

#[test]
fn marks_are_computed_bit_by_bit() {
    let set = |value: &str| format!(r#"{{"mangle":{{"key":{},"value":{value}}}}}"#, meta("mark"));
    let mark = meta("mark");
    let rules = [
        set("255"),
        set(&format!(r#"{{"|":[{mark},16384]}}"#)),
        set(&format!(r#"{{"<<":[{{"&":[{mark},15]}},8]}}"#)),
        set(&format!(r#"{{"^":[{mark},1]}}"#)),
    ];
    let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
    let snapshot = snapshot(&[("nft.json", &ruleset("ip", "forward", &rules, &[]))]);
    let run = walk(&snapshot, Hook::Forward, &tcp("10.0.0.9", "10.244.0.5", 80), true);
    assert_eq!(run.leaves[0].value.skb.mark, 0xf01);
}

#[test]
fn jump_comes_back_and_goto_does_not() {
    let skb = tcp("10.0.0.9", "10.244.0.5", 80);
    let jump = r#"{"jump":{"target":"sub"}}"#;
    let goto = r#"{"goto":{"target":"sub"}}"#;
    let set = r#"sub:{"mangle":{"key":{"meta":{"key":"mark"}},"value":7}}"#;
    assert_eq!(
        verdict("ip", &[jump, r#"{"drop":null}"#, set], &[], &skb),
        Verdict::Drop { policy: false }
    );
    assert_eq!(
        verdict("ip", &[goto, r#"{"drop":null}"#, set], &[], &skb),
        Verdict::Accept
    );
    // `return` in a base chain is the policy.
    assert_eq!(
        verdict("ip", &[r#"{"return":null}"#, r#"{"drop":null}"#], &[], &skb),
        Verdict::Accept
    );
    let missing = r#"{"jump":{"target":"nowhere"}}"#;
    assert_eq!(verdict("ip", &[missing], &[], &skb), Verdict::Unknown);
}

#[test]
fn sets_of_intervals_and_of_concatenated_intervals() {
    let skb = tcp("10.0.0.9", "10.244.0.5", 85);
    let addrs = r#"{"set":{"family":"FAM","name":"s","table":"t","type":"ipv4_addr","handle":5,"flags":["interval"],
        "elem":[{"prefix":{"addr":"10.244.0.0","len":16}},{"range":["10.9.0.1","10.9.0.7"]},"1.2.3.4"]}}"#;
    let pairs = r#"{"set":{"family":"FAM","name":"p","table":"t","type":["ipv4_addr","inet_service"],"handle":6,"flags":["interval"],
        "elem":[{"elem":{"val":{"concat":[{"prefix":{"addr":"10.0.0.0","len":8}},{"range":[80,90]}]},"comment":"web"}},
        {"concat":["1.2.3.4",443]}]}}"#;
    let daddr = payload("ip", "daddr");
    let drop = |left: &str, set: &str| format!(r#"{},{{"drop":null}}"#, m(left, "==", &format!("\"@{set}\"")));
    let both = format!(
        r#"{{"concat":[{},{}]}}"#,
        payload("ip", "saddr"),
        payload("tcp", "dport")
    );
    let dropped = Verdict::Drop { policy: false };
    assert_eq!(verdict("ip", &[&drop(&daddr, "s")], &[addrs], &skb), dropped);
    assert_eq!(
        verdict("ip", &[&drop(&payload("ip", "saddr"), "s")], &[addrs], &skb),
        Verdict::Accept
    );
    assert_eq!(verdict("ip", &[&drop(&both, "p")], &[pairs], &skb), dropped);
    assert_eq!(
        verdict("ip", &[&drop(&both, "p")], &[pairs], &tcp("10.0.0.9", "10.244.0.5", 91)),
        Verdict::Accept
    );
    assert_eq!(
        verdict("ip", &[&drop(&both, "p")], &[pairs], &udp("10.0.0.9", "10.244.0.5", 85)),
        Verdict::Accept
    );
}

#[test]
fn a_generator_draws_among_elements_with_their_shares() {
    let vmap = r#"{"vmap":{"key":{"numgen":{"mode":"random","mod":10,"offset":0}},
        "data":{"set":[[{"range":[0,6]},{"accept":null}],[{"range":[7,8]},{"drop":null}]]}}}"#;
    let snapshot = snapshot(&[("nft.json", &ruleset("ip", "forward", &[vmap], &[]))]);
    let run = walk(&snapshot, Hook::Forward, &tcp("10.0.0.9", "10.244.0.5", 80), true);
    let shares: Vec<String> = run
        .leaves
        .iter()
        .map(|l| {
            let taken = &l.path[0];
            taken.weights.as_ref().expect("a chance")[taken.option].to_string()
        })
        .collect();
    assert_eq!(shares, ["7/10", "1/5", "1/10"]);
    assert_eq!(run.leaves[1].value.verdict, Verdict::Drop { policy: false });
}

#[test]
fn a_generator_compared_is_yes_or_no() {
    let rule =
        r#"{"match":{"op":"<","left":{"numgen":{"mode":"random","mod":10,"offset":0}},"right":3}},{"drop":null}"#;
    let snapshot = snapshot(&[("nft.json", &ruleset("ip", "forward", &[rule], &[]))]);
    let run = walk(&snapshot, Hook::Forward, &tcp("10.0.0.9", "10.244.0.5", 80), true);
    assert_eq!(run.leaves.len(), 2);
    assert_eq!(
        run.leaves[0].path[0].weights.as_ref().expect("a chance")[0].to_string(),
        "3/10"
    );
}

#[test]
fn an_unknown_statement_costs_nothing_where_a_later_one_says_no_or_nothing_follows() {
    let unknown = m(r#"{"osf":{"key":"name"}}"#, "==", r#""Linux""#);
    let skb = tcp("10.0.0.9", "10.244.0.5", 80);
    let no = format!(
        "{unknown},{},{{\"drop\":null}}",
        m(&payload("tcp", "dport"), "==", "81")
    );
    assert_eq!(verdict("ip", &[&no], &[], &skb), Verdict::Accept);
    let nothing = format!("{unknown},{{\"counter\":{{\"packets\":0,\"bytes\":0}}}},{{\"log\":null}}");
    assert_eq!(verdict("ip", &[&nothing], &[], &skb), Verdict::Accept);
    let yes = format!(
        "{unknown},{},{{\"drop\":null}}",
        m(&payload("tcp", "dport"), "==", "80")
    );
    let snapshot = snapshot(&[("nft.json", &ruleset("ip", "forward", &[&yes], &[]))]);
    let run = walk(&snapshot, Hook::Forward, &skb, true);
    assert_eq!(run.leaves.len(), 2);
    assert!(matches!(run.leaves[0].path[0].fork, Fork::Unknown(_)));
    assert_eq!(run.leaves[0].value.verdict, Verdict::Drop { policy: false });
    assert_eq!(run.leaves[1].value.verdict, Verdict::Accept);
}

#[test]
fn reject_kinds_and_whom_they_apply_to() {
    let v4 = tcp("10.0.0.9", "10.244.0.5", 80);
    let v6 = tcp("fd00::9", "fd00::5", 80);
    let reject = |kind: &str, code: &str| format!(r#"{{"reject":{{"type":"{kind}","expr":"{code}"}}}}"#);
    let got = |rule: &str, skb: &Skb| verdict("inet", &[rule], &[], skb);
    assert_eq!(
        got(&reject("icmpx", "admin-prohibited"), &v4),
        Verdict::Reject(Reject::IcmpAdminProhibited)
    );
    assert_eq!(
        got(&reject("icmpx", "admin-prohibited"), &v6),
        Verdict::Reject(Reject::Icmp6AdmProhibited)
    );
    assert_eq!(
        got(&reject("icmpx", "host-unreachable"), &v6),
        Verdict::Reject(Reject::Icmp6AddrUnreachable)
    );
    assert_eq!(got(&reject("icmp", "host-unreachable"), &v6), Verdict::Accept);
    assert_eq!(
        got(r#"{"reject":{"type":"tcp reset"}}"#, &v4),
        Verdict::Reject(Reject::TcpReset)
    );
    assert_eq!(
        got(r#"{"reject":{"type":"tcp reset"}}"#, &udp("10.0.0.9", "10.244.0.5", 80)),
        Verdict::Accept
    );
    assert_eq!(
        got(r#"{"reject":null}"#, &v4),
        Verdict::Reject(Reject::IcmpPortUnreachable)
    );
}

#[test]
fn fib_knows_local_addresses_and_the_way_back() {
    let skb = tcp("10.0.0.9", "10.244.0.1", 80);
    let kind = r#"{"fib":{"result":"type","flags":["daddr"]}}"#;
    assert!(hits("ip", &m(kind, "==", r#""local""#), &skb));
    assert!(!hits(
        "ip",
        &m(kind, "==", r#""local""#),
        &tcp("10.0.0.9", "10.244.0.5", 80)
    ));
    let own = r#"{"fib":{"result":"type","flags":["daddr","iif"]}}"#;
    assert!(
        !hits("ip", &m(own, "==", r#""local""#), &skb),
        "the address is another device's"
    );
    let back = r#"{"fib":{"result":"oif","flags":"saddr"}}"#;
    assert!(hits("ip", &m(back, "==", "true"), &skb));
    assert!(hits(
        "ip",
        &m(r#"{"fib":{"result":"oifname","flags":["daddr"]}}"#, "==", r#""cni0""#),
        &tcp("10.0.0.9", "10.244.0.5", 80)
    ));
    assert!(
        hits("ip", &m(back, "==", "false"), &tcp("10.244.0.1", "10.244.0.5", 80)),
        "an own address has no way back"
    );
}

#[test]
fn a_rule_adds_to_a_set_for_what_comes_after() {
    let set = r#"{"set":{"family":"FAM","name":"d","table":"t","type":"ipv4_addr","handle":5,"flags":["timeout"],"timeout":60}}"#;
    let saddr = payload("ip", "saddr");
    let add = format!(r#"{{"set":{{"op":"add","elem":{saddr},"set":"@d"}}}}"#);
    let drop = format!(r#"{},{{"drop":null}}"#, m(&saddr, "==", r#""@d""#));
    let skb = tcp("10.0.0.9", "10.244.0.5", 80);
    assert_eq!(verdict("ip", &[&drop], &[set], &skb), Verdict::Accept);
    assert_eq!(
        verdict("ip", &[&add, &drop], &[set], &skb),
        Verdict::Drop { policy: false }
    );
    let del = format!(r#"{{"set":{{"op":"delete","elem":{saddr},"set":"@d"}}}}"#);
    assert_eq!(verdict("ip", &[&add, &del, &drop], &[set], &skb), Verdict::Accept);
}

#[test]
fn a_table_of_iptables_nft_is_left_to_its_save() {
    let nft = r#"{"nftables":[{"table":{"family":"ip","name":"filter","handle":1}},
        {"chain":{"family":"ip","table":"filter","name":"FORWARD","handle":1,"type":"filter","hook":"forward","prio":0,"policy":"accept"}},
        {"rule":{"family":"ip","table":"filter","chain":"FORWARD","handle":2,"expr":[{"xt":{"type":"match","name":"comment"}},{"drop":null}]}}]}"#;
    let save = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n";
    let skb = tcp("10.0.0.9", "10.244.0.5", 80);
    let owned = snapshot(&[("nft.json", nft), ("iptables-nft.save", save)]);
    assert_eq!(walk(&owned, Hook::Forward, &skb, true).leaves[0].value.steps.len(), 0);
    let world = World::new(&owned);
    let bases: Vec<_> = world.spaces()[0].nft().xt_bases().collect();
    assert_eq!(
        (bases[0].family, bases[0].table, bases[0].priority),
        (NfFamily::Ip, "filter", 0)
    );
    // Without the save nobody knows what its rules say, and the table is not walked either.
    let alone = snapshot(&[("nft.json", nft)]);
    assert_eq!(World::new(&alone).spaces()[0].nft().xt_bases().count(), 1);
    // A table that the tool cannot print is walked. A comment always matches; what a target does is not in the listing.
    let incompatible = "# Table `filter' is incompatible, use 'nft' tool.\n";
    let verdict = |last: &str| {
        let nft = nft.replace(r#"{"drop":null}"#, last);
        let alone = snapshot(&[("nft.json", &nft), ("iptables-nft.save", incompatible)]);
        let mut run = walk(&alone, Hook::Forward, &skb, true);
        assert_eq!(run.leaves.len(), 1);
        run.leaves.remove(0).value.verdict
    };
    assert_eq!(verdict(r#"{"drop":null}"#), Verdict::Drop { policy: false });
    let target = |name: &str| verdict(&format!(r#"{{"xt":{{"type":"target","name":"{name}"}}}}"#));
    assert_eq!((target("DNAT"), target("LOG")), (Verdict::Unknown, Verdict::Accept));
    assert_eq!(verdict(r#"{"what nobody knows":1}"#), Verdict::Unknown);
}

#[test]
fn evidence_is_the_listed_text_or_our_own() {
    let json = ruleset(
        "ip",
        "forward",
        &[
            r#"{"match":{"op":"==","left":{"payload":{"protocol":"tcp","field":"dport"}},"right":{"set":[80,443]}}},{"counter":{"packets":1,"bytes":2}},{"drop":null}"#,
        ],
        &[],
    );
    let text = "table ip t { # handle 1\n\tchain base { # handle 1\n\t\ttype filter hook forward priority filter; policy accept;\n\t\ttcp dport { 80, 443 } counter packets 1 bytes 2 drop # handle 10\n\t}\n}\n";
    let skb = tcp("10.0.0.9", "10.244.0.5", 443);
    let want = "tcp dport { 80, 443 } counter packets 1 bytes 2 drop";
    for files in [
        vec![("nft.json", &*json)],
        vec![("nft.json", &*json), ("nft.txt", text)],
    ] {
        let snapshot = snapshot(&files);
        let run = walk(&snapshot, Hook::Forward, &skb, true);
        let step = &run.leaves[0].value.steps[0];
        assert_eq!(&*step.evidence[0].text, want);
        assert_eq!(step.evidence[0].handle, Some(10));
        assert!(matches!(&step.what, What::Rule { verdict: Some(RuleVerdict::Drop), table, .. } if &**table == "ip t"));
        assert_eq!(
            &*step.evidence[0].artifact,
            if files.len() == 1 {
                "nodes/n/host/nft.json"
            } else {
                "nodes/n/host/nft.txt"
            }
        );
    }
}

#[test]
fn a_device_that_is_not_there_has_an_empty_name_but_no_group() {
    // Kernel 6.18: in prerouting `oifname != "eth9"` and `oif != 3` match, `oifgroup != 9` ends the rule.
    let rules: Vec<String> = [
        m(&meta("oifname"), "!=", r#""eth9""#),
        m(&meta("oif"), "!=", r#""cni0""#),
        m(&meta("oifgroup"), "!=", "9"),
    ]
    .iter()
    .enumerate()
    .map(|(i, rule)| {
        let mark = format!(r#"{{"|":[{},{}]}}"#, meta("mark"), 1 << i);
        format!(r#"{rule},{{"mangle":{{"key":{},"value":{mark}}}}}"#, meta("mark"))
    })
    .collect();
    let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
    let snapshot = snapshot(&[("nft.json", &ruleset("ip", "prerouting", &rules, &[]))]);
    let run = walk(&snapshot, Hook::Prerouting, &tcp("10.0.0.9", "10.244.0.5", 80), true);
    assert_eq!(run.leaves[0].value.skb.mark, 0b011);
}

#[test]
fn without_a_connection_only_the_state_is_there() {
    // Kernel 6.18: an untracked packet has no zone, mark, direction, status or helper, not even for `!=`.
    let mut skb = tcp("10.0.0.9", "10.244.0.5", 80);
    skb.ct = Ct::Untracked;
    assert!(hits(
        "ip",
        &m(r#"{"ct":{"key":"state"}}"#, "in", r#""untracked""#),
        &skb
    ));
    for (key, value) in [
        ("zone", "9"),
        ("mark", "7"),
        ("direction", r#""reply""#),
        ("status", r#""dnat""#),
    ] {
        assert!(
            !hits("ip", &m(&format!(r#"{{"ct":{{"key":"{key}"}}}}"#), "!=", value), &skb),
            "{key}"
        );
    }
    // A connection without a helper has none to compare either.
    let helper = m(r#"{"ct":{"key":"helper"}}"#, "!=", r#""ftp""#);
    assert!(!hits("ip", &helper, &tcp("10.0.0.9", "10.244.0.5", 80)));
}

#[test]
fn of_equal_priorities_the_last_registered_runs_first() {
    // Kernel 6.18 (nf_hook_entries_grow); the same order holds among NAT chains.
    let table = |name: &str, handle: u32| {
        format!(
            r#"{{"table":{{"family":"ip","name":"{name}","handle":{handle}}}}},
            {{"chain":{{"family":"ip","table":"{name}","name":"c","handle":1,"type":"filter","hook":"forward","prio":0,"policy":"accept"}}}}"#
        )
    };
    let json = format!(r#"{{"nftables":[{},{}]}}"#, table("a", 1), table("b", 2));
    let snapshot = snapshot(&[("nft.json", &json)]);
    let world = World::new(&snapshot);
    let order: Vec<_> = world.spaces()[0]
        .nft()
        .base_chains(Family::V4, Hook::Forward)
        .iter()
        .map(|b| b.table.name)
        .collect();
    assert_eq!(order, ["b", "a"]);
}

#[test]
fn a_dormant_table_and_a_truncated_file() {
    let rule = r#"{"drop":null}"#;
    let json = ruleset("ip", "forward", &[rule], &[]);
    let dormant = json.replace(
        r#""name":"t","handle":1}"#,
        r#""name":"t","handle":1,"flags":"dormant"}"#,
    );
    let skb = tcp("10.0.0.9", "10.244.0.5", 80);
    let dormant = snapshot(&[("nft.json", &dormant)]);
    assert_eq!(
        walk(&dormant, Hook::Forward, &skb, true).leaves[0].value.verdict,
        Verdict::Accept
    );
    let cut = snapshot(&[("nft.json", &json[..json.len() - 9])]);
    let world = World::new(&cut);
    assert!(
        world.spaces()[0].nft().missing().is_some(),
        "nothing in it can be taken for complete"
    );
}
