use knet_snapshot::socket::{Socket, parse};

use crate::{one, path, sample};

fn single(line: &str) -> Socket {
    one(Ok(parse(path("sockets.txt"), format!("{line}\n").as_bytes())))
}

#[test]
fn every_form_of_a_real_list() {
    let table = parse(path("sockets.txt"), sample!("sockets.txt"));
    assert_eq!(table.problems, []);
    let socket = |port: u16| table.rows.iter().find(|s| s.port == port).unwrap();

    let bound = socket(85);
    assert_eq!(
        (bound.proto, bound.local, bound.dev.as_deref(), bound.v6),
        (17, None, Some("v.100"), false)
    );
    assert_eq!(
        (socket(87).local, socket(87).dev.as_deref()),
        (Some("127.0.0.1".parse().unwrap()), Some("lo"))
    );
    assert_eq!(
        (socket(86).v6, socket(86).v6only, socket(86).dev.as_deref()),
        (true, Some(false), Some("v.100"))
    );
    assert_eq!(
        (socket(82).local, socket(82).v6, socket(82).v6only),
        (None, true, Some(false))
    );
    assert_eq!(
        (socket(83).local, socket(83).v6, socket(83).v6only),
        (None, true, Some(true))
    );
    assert_eq!(
        (socket(84).local, socket(84).dev.as_deref()),
        (Some("fe80::1".parse().unwrap()), Some("v.100"))
    );
    assert_eq!(
        (socket(80).proto, socket(80).state.as_str(), socket(80).peer),
        (6, "LISTEN", None)
    );
    assert_eq!(socket(80).uid, Some(0), "-e leaves out root");
    assert_eq!((socket(53).uid, socket(53).dev.as_deref()), (Some(101), Some("lo")));
    assert_eq!(
        socket(53).cgroup.as_deref(),
        Some("/system.slice/systemd-resolved.service")
    );
    assert_eq!(
        socket(443).peer,
        Some(("10.0.0.7".parse().unwrap(), 51000)),
        "IPv4 in an IPv6 socket"
    );
    let raw = table.rows.last().unwrap();
    assert_eq!((raw.proto, raw.port), (1, 0));
}

#[test]
fn process_names_are_not_escaped() {
    let socket = single(
        r#"tcp LISTEN 0      128            0.0.0.0:81 0.0.0.0:* users:(("child",pid=10600,fd=4),("a "b) c:1",pid=10558,fd=4),("child",pid=10600,fd=5)) ino:14177 sk:4 cgroup:/x v6only:0 <->"#,
    );
    assert_eq!(
        socket.users,
        [("child".to_owned(), 10600), ("a \"b) c:1".to_owned(), 10558)]
    );
    assert_eq!((socket.cgroup.as_deref(), socket.v6only), (Some("/x"), Some(false)));
}

#[test]
fn the_star_of_old_and_new_versions() {
    let old = single("tcp   LISTEN 0      128    *:22        *:*    ino:2031 sk:5 <->");
    assert!(!old.v6, "with -e an IPv6 socket says v6only");
    let new = single("tcp   LISTEN 0      128    *:22        *:*");
    assert!(new.v6 && new.v6only.is_none());
    let old6 = single("tcp   LISTEN 0      128    :::22        :::*");
    assert!(old6.v6 && old6.local.is_none());
    assert_eq!(
        single("tcp LISTEN 0 128 ::1:631 :::*").local,
        Some("::1".parse().unwrap())
    );
}

#[test]
fn a_list_of_one_protocol_has_no_first_column() {
    let table = parse(
        path("sockets.txt"),
        b"State  Recv-Q Send-Q Local Address:Port Peer Address:Port Process\nLISTEN 0 4096 127.0.0.1:10249 0.0.0.0:*\n",
    );
    assert_eq!(table.problems, []);
    assert_eq!(
        (table.rows[0].proto, table.rows[0].port, table.rows[0].uid),
        (6, 10249, None)
    );
}

#[test]
fn sockets_that_are_not_of_ip_are_passed_over() {
    let table = parse(
        path("sockets.txt"),
        b"u_str LISTEN 0 128 /run/x 1234 * 0\nnl UNCONN 0 0 0:123 *\n",
    );
    assert_eq!((table.rows.len(), table.problems.len()), (0, 0));
    let table = parse(path("sockets.txt"), b"tcp LISTEN 0 128 0.0.0.0:http 0.0.0.0:*\n");
    assert_eq!(
        (table.rows.len(), table.problems.len()),
        (0, 1),
        "a service name is no port"
    );
}
