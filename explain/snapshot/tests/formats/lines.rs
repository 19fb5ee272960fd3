//! What holds for every line format.

use knet_snapshot::{conntrack, ipset, socket};

use crate::{path, sample, text};

#[test]
fn a_row_is_the_line_as_written() {
    let bytes = sample!("conntrack.txt");
    let table = conntrack::parse(path("conntrack.txt"), bytes);
    assert_eq!(table.problems, []);
    let lines: Vec<&str> = std::str::from_utf8(bytes).unwrap().lines().collect();
    assert_eq!(table.rows.len(), lines.len());
    for (row, line) in table.rows.iter().zip(lines) {
        assert_eq!(text(bytes, row.at), line);
    }
}

#[test]
fn a_cut_file_keeps_its_head_and_says_so() {
    let bytes = b"create a hash:ip family inet\nadd a 10.0.0.1\nadd a 10.0.0.1";
    let table = ipset::parse(path("ipset.save"), bytes);
    assert_eq!(table.rows[0].members.len(), 1, "10.0.0.1 may have been 10.0.0.111");
    assert_eq!(table.problems.len(), 1);
    assert_eq!(table.problems[0].offset, Some(44));
    assert_eq!(
        table.problems[0].what,
        "the file ends inside a line, which is not read: add a 10.0.0.1"
    );
}

#[test]
fn empty_lines_comments_and_dos_line_ends_are_no_rows() {
    let table = ipset::parse(
        path("ipset.save"),
        b"\r\n# made by hand\r\ncreate a hash:ip family inet\r\n\n  \n",
    );
    assert_eq!(table.problems, []);
    assert_eq!(table.rows[0].options, ["family", "inet"]);
}

#[test]
fn a_line_that_cannot_be_read_costs_only_itself() {
    let table = socket::parse(
        path("sockets.txt"),
        b"what is this\ntcp LISTEN 0 128 0.0.0.0:80 0.0.0.0:*\n\xff\xfe\n",
    );
    assert_eq!(table.rows.len(), 1);
    assert_eq!(table.problems.len(), 3, "{:?}", table.problems);
}
