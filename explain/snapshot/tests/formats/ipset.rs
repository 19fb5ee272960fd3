use knet_snapshot::ipset::parse;

use crate::{path, sample, text};

#[test]
fn sets_of_every_type() {
    let bytes = sample!("ipset.save");
    let table = parse(path("ipset.save"), bytes);
    assert_eq!(table.problems, []);
    let set = |name: &str| table.rows.iter().find(|set| set.name == name).unwrap();
    assert_eq!(
        (set("a").kind.as_str(), set("a").members[0].entry.as_str()),
        ("hash:ip", "1.2.3.4")
    );
    assert_eq!(text(bytes, set("a").members[0].at), "add a 1.2.3.4");
    assert_eq!(set("a").options[..4], ["family", "inet", "hashsize", "1024"]);
    assert_eq!(set("d").members.len(), 3);
    assert_eq!(set("g").members[0].options, ["nomatch"]);
    assert_eq!(set("k").members[0].entry, "10.0.0.1,02:00:00:00:00:01");
    let order: Vec<_> = set("e").members.iter().map(|m| m.entry.as_str()).collect();
    assert_eq!(order, ["d", "a"], "a list keeps its order");
    let comment = &set("m").members[0];
    assert_eq!(
        (comment.entry.as_str(), comment.options.join("|").as_str()),
        ("1.1.1.2", r"comment|bs\ x")
    );
}

#[test]
fn a_name_with_spaces_is_not_quoted_by_the_tool() {
    let table = parse(path("ipset.save"), sample!("ipset.save"));
    let set = table.rows.iter().find(|set| set.name == "b c").unwrap();
    assert_eq!(set.kind, "hash:ip,port,net");
    assert_eq!(set.members[0].entry, "fd00::1,tcp:80,fd01::/64");
    assert_eq!(
        set.members[0].options,
        [
            "timeout",
            "299",
            "nomatch",
            "packets",
            "0",
            "bytes",
            "0",
            "comment",
            "he said hi there"
        ]
    );
}

#[test]
fn members_may_stand_before_their_set() {
    let table = parse(
        path("ipset.save"),
        b"add a b 10.0.0.2\nadd a 10.0.0.1\ncreate a b hash:ip\ncreate a hash:ip\n",
    );
    assert_eq!(table.problems, []);
    let members: Vec<_> = table
        .rows
        .iter()
        .map(|set| (set.name.as_str(), set.members[0].entry.as_str()))
        .collect();
    assert_eq!(members, [("a b", "10.0.0.2"), ("a", "10.0.0.1")]);
}

#[test]
fn members_without_a_set_and_sets_without_a_type() {
    let table = parse(
        path("ipset.save"),
        b"add nowhere 10.0.0.1\ncreate x\ncreate y hash:ip\ncreate y hash:ip\nadd y\nfrobnicate\n",
    );
    assert_eq!((table.rows.len(), table.problems.len()), (1, 5));
}
