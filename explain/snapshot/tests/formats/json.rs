//! What holds for every JSON artifact.

use knet_snapshot::nexthop::{self, NexthopObject};
use knet_snapshot::{neigh, route};

use crate::{all, path, sample, text};

#[test]
fn a_row_is_the_bytes_as_written() {
    let bytes = b" [ {\"dst\":\"10.0.0.1\", \"dev\" : \"eth0\"} ,\n{\"dst\":\"10.0.0.2\",\"dev\":\"eth0\",\"x\":{\"y\":[\"}\"]}}]\n";
    let rows = all(neigh::parse(path("neigh.json"), bytes));
    assert_eq!(text(bytes, rows[0].at), r#"{"dst":"10.0.0.1", "dev" : "eth0"}"#);
    assert_eq!(
        text(bytes, rows[1].at),
        r#"{"dst":"10.0.0.2","dev":"eth0","x":{"y":["}"]}}"#
    );
}

#[test]
fn a_row_that_cannot_be_understood_costs_only_itself() {
    let bytes = br#"[{"dst":"10.0.0.1","dev":"eth0"},{"dst":"not an address","dev":"eth0"},7,{"dev":"eth0"},{"dst":"10.0.0.2","dev":"eth0"}]"#;
    let table = neigh::parse(path("n/neigh.json"), bytes).unwrap();
    assert_eq!(table.rows.len(), 2);
    let said: Vec<_> = table
        .problems
        .iter()
        .map(|p| (p.offset.unwrap(), p.what.as_str()))
        .collect();
    assert_eq!(
        said,
        [
            (33, r#""dst" is "not an address": not an address"#),
            (71, "a row that is not an object"),
            (73, r#"no "dst""#)
        ]
    );
    assert_eq!(table.problems[0].artifact, "n/neigh.json");
}

#[test]
fn a_list_that_is_cut_off_is_no_list() {
    let whole = sample!("route.json");
    for end in 0..whole.len() - 2 {
        let problem = route::parse(path("route.json"), &whole[..end]).unwrap_err();
        assert_eq!(problem.artifact, "route.json");
        assert!(problem.what.starts_with("not a complete JSON list"), "{}", problem.what);
    }
    assert!(
        route::parse(path("route.json"), &whole[..whole.len() - 1]).is_ok(),
        "only the line end is missing"
    );
}

#[test]
fn an_error_message_or_nothing_is_no_list() {
    for bytes in [
        "",
        "\n",
        "RTNETLINK answers: Operation not supported\nDump terminated\n",
        "{}",
        "null",
        "[] x",
    ] {
        assert!(route::parse(path("route.json"), bytes.as_bytes()).is_err(), "{bytes:?}");
    }
}

#[test]
fn an_empty_list_is_empty_and_known() {
    assert!(all(route::parse(path("route.json"), b"[]\n")).is_empty());
    assert!(all(route::parse(path("route.json"), b"[ ]")).is_empty());
    assert!(
        all(route::parse(path("route.json"), b"[{},{}]")).is_empty(),
        "what a filter of old iproute2 left out"
    );
}

#[test]
fn two_lists_one_after_the_other_are_read() {
    // `ip -j -4 neigh; ip -j -6 neigh` into one file.
    let bytes = b"[{\"dst\":\"10.0.0.1\",\"dev\":\"eth0\"}]\n[{\"dst\":\"fe80::1\",\"dev\":\"eth0\"}]\n";
    let rows = all(neigh::parse(path("neigh.json"), bytes));
    assert_eq!(text(bytes, rows[1].at), r#"{"dst":"fe80::1","dev":"eth0"}"#);
}

#[test]
fn one_name_that_is_not_utf8_costs_nothing_else() {
    let bytes = b"[{\"dst\":\"10.0.0.1\",\"dev\":\"b\xfcro\"},{\"dst\":\"10.0.0.2\",\"dev\":\"eth0\"}]";
    let table = neigh::parse(path("neigh.json"), bytes).unwrap();
    assert_eq!(table.rows[0].dev, "b?ro");
    assert_eq!(text(bytes, table.rows[1].at), r#"{"dst":"10.0.0.2","dev":"eth0"}"#);
    assert_eq!(table.problems[0].offset, Some(27));
}

#[test]
fn deep_nesting_is_refused_without_a_crash() {
    let mut deep = b"[".repeat(100_000);
    assert!(route::parse(path("route.json"), &deep).is_err());
    deep = [
        b"[{\"dst\":".to_vec(),
        b"[".repeat(5000),
        b"]".repeat(5000),
        b"},{\"dst\":\"10.0.0.0/8\"}]".to_vec(),
    ]
    .concat();
    // The scanner of raw rows does not recurse; the row itself is refused.
    if let Ok(table) = route::parse(path("route.json"), &deep) {
        assert_eq!((table.rows.len(), table.problems.len()), (1, 1));
    }
}

#[test]
fn the_order_of_rows_changes_nothing_in_a_row() {
    let forward = all(nexthop::parse(path("nexthop.json"), sample!("nexthop.json")));
    // The rows as they are: writing them anew would lose the keys that a tunnel repeats.
    let mut rows: Vec<&str> = forward
        .iter()
        .map(|object| text(sample!("nexthop.json"), object.at))
        .collect();
    rows.reverse();
    let mut backward = all(nexthop::parse(
        path("nexthop.json"),
        format!("[{}]", rows.join(",")).as_bytes(),
    ));
    backward.reverse();
    let content = |objects: Vec<NexthopObject>| objects.into_iter().map(|o| (o.id, o.kind)).collect::<Vec<_>>();
    assert_eq!(content(forward), content(backward));
}

#[test]
fn a_file_of_garbage_does_not_grow_a_list_of_problems() {
    let table = neigh::parse(path("neigh.json"), format!("[{}1]", "1,".repeat(5000)).as_bytes()).unwrap();
    assert_eq!(table.problems.len(), 1001);
    assert_eq!(table.problems[1000].what, "there are more problems, not listed");
}
