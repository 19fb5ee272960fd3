use std::sync::Arc;

use super::*;

fn read(text: &str) -> Table<Object> {
    parse(Arc::from("nft.json"), text.as_bytes()).expect("it is JSON")
}

#[test]
fn one_bad_statement_keeps_the_rest_of_the_rule_and_of_the_ruleset() {
    let table = read(
        r#"{"nftables":[{"metainfo":{"version":"9"}},{"rule":{"family":"ip","table":"t","chain":"c","handle":3,
        "expr":[{"match":7},{"drop":null}]}},{"novelty":{"a":1}},{"chain":{"family":"ip","table":"t","name":"c","handle":1}}]}"#,
    );
    assert_eq!(table.rows.len(), 4);
    assert_eq!(table.problems.len(), 1);
    let ObjectKind::Rule(rule) = &table.rows[1].kind else {
        panic!("{:?}", table.rows[1])
    };
    assert_eq!(rule.expr[0], Stmt::Other("match".into(), r#"{"match":7}"#.into()));
    assert_eq!(rule.expr[1], Stmt::Verdict(Verdict::Drop));
    assert!(matches!(&table.rows[2].kind, ObjectKind::Unknown(k, t) if &**k == "novelty" && &**t == r#"{"a":1}"#));
}

#[test]
fn an_element_that_cannot_be_read_is_kept_as_unknown() {
    let table = read(
        r#"{"nftables":[{"set":{"family":"ip","table":"t","name":"s","type":"ipv4_addr","handle":2,
        "elem":["10.0.0.1",{"prefix":{"addr":"10.1.0.0","len":"x"}},{"new":[1]}]}}]}"#,
    );
    let ObjectKind::Set(set) = &table.rows[0].kind else {
        panic!("{:?}", table.rows[0])
    };
    assert_eq!(set.elem.len(), 3);
    assert!(matches!(set.elem[1], Expr::Unknown(..)) && matches!(set.elem[2], Expr::Unknown(..)));
}

#[test]
fn flags_come_bare_or_as_a_list_and_types_in_one_string() {
    let table = read(
        r#"{"nftables":[{"map":{"family":"inet","name":"m","table":"t","type":["ipv4_addr"],"handle":1,
        "map":"ipv4_addr . inet_service","flags":"interval","elem":[["1.1.1.1",{"concat":["2.2.2.2",80]}]]}}]}"#,
    );
    let ObjectKind::Set(set) = &table.rows[0].kind else {
        panic!("{:?}", table.rows[0])
    };
    assert_eq!(
        set.map.iter().map(|t| &**t).collect::<Vec<_>>(),
        ["ipv4_addr", "inet_service"]
    );
    assert_eq!(&*set.flags[0], "interval");
}

#[test]
fn a_truncated_file_is_not_half_used() {
    let text = br#"{"nftables":[{"table":{"family":"ip","name":"t","handle":1}},{"chain""#;
    assert!(parse(Arc::from("nft.json"), text).is_err());
}

#[test]
fn the_listing_gives_rules_by_handle_devices_and_dormancy() {
    let text = b"table ip t { # handle 7\n\tflags dormant\n\n\tset s {\n\t\ttype ipv4_addr\n\t}\n\n\tchain c { # handle 1\n\t\t\
        type filter hook ingress device \"eth0\" priority filter; policy accept;\n\t\tip saddr { 1.1.1.1, 2.2.2.2,\n\t\t\t     \
        3.3.3.3 } drop # handle 4\n\t}\n}\n";
    let listing = text::parse(Arc::from("nft.txt"), text);
    let table = listing.table("ip", "t").expect("it is there");
    assert!(table.dormant);
    assert_eq!(
        table.by_handle(4).expect("it is there").1,
        "ip saddr { 1.1.1.1, 2.2.2.2, 3.3.3.3 } drop"
    );
    assert_eq!(&*table.chains[0].devices[0], "eth0");
}
