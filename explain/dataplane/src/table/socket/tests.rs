use super::*;

fn table(text: &str) -> Table<Socket> {
    knet_snapshot::socket::parse(Arc::from("sockets.txt"), text.as_bytes())
}

const ROWS: &str = "\
tcp LISTEN 0 128 0.0.0.0:80 0.0.0.0:* users:((\"nginx\",pid=7,fd=3)) ino:1 sk:1 cgroup:/ <->
tcp LISTEN 0 128 *:80 *:* users:((\"other\",pid=8,fd=3)) ino:2 sk:2 cgroup:/ v6only:0 <->
tcp LISTEN 0 128 [::]:81 [::]:* ino:3 sk:3 v6only:1 <->
tcp LISTEN 0 128 [::]:82 [::]:*
tcp LISTEN 0 128 0.0.0.0%eth1:84 0.0.0.0:* ino:4 sk:4 <->
tcp LISTEN 0 128 0.0.0.0:84 0.0.0.0:* ino:5 sk:5 <->
tcp ESTAB 0 0 10.0.0.1:80 10.0.0.9:4000 ino:6 sk:6 <->
udp UNCONN 0 0 10.0.0.1:53 0.0.0.0:* ino:7 sk:7 <->
udp ESTAB 0 0 10.0.0.1:53 10.0.0.9:4000 ino:8 sk:8 <->
udp UNCONN 0 0 *%eth1:54 *:* ino:9 sk:9 v6only:0 <->
udp UNCONN 0 0 0.0.0.0:54 0.0.0.0:* ino:10 sk:10 <->
";

fn ask<'a>(proto: u8, sport: u16, dst: &str, dport: u16, iif: &'a str) -> SocketQuery<'a> {
    let src = if dst.contains(':') { "fd00::9" } else { "10.0.0.9" };
    let (src, dst) = (src.parse().expect("an address"), dst.parse().expect("an address"));
    SocketQuery {
        proto,
        src,
        sport: Some(sport),
        dst,
        dport,
        iif: Some(iif),
        vrf_port: None,
    }
}

fn said(text: &str, query: &SocketQuery<'_>) -> Vec<String> {
    let table = table(text);
    match Sockets::from_table(&table).lookup(query) {
        SocketAnswer::Listener(takers) => takers.iter().map(|t| t.evidence.text.to_string()).collect(),
        SocketAnswer::Connected(takers) => takers.iter().map(|t| format!("= {}", t.evidence.text)).collect(),
        other => vec![format!("{other:?}")],
    }
}

#[test]
fn the_socket_that_takes_it() {
    let cases = [
        (
            ask(6, 1, "10.0.0.1", 80, "eth0"),
            vec!["tcp LISTEN 0.0.0.0:80 users \"nginx\" pid 7"],
        ),
        (ask(6, 4000, "10.0.0.1", 80, "eth0"), vec!["= tcp ESTAB 10.0.0.1:80"]),
        (
            ask(6, 1, "fd00::1", 80, "eth0"),
            vec!["tcp LISTEN *:80 users \"other\" pid 8"],
        ),
        (ask(6, 1, "10.0.0.1", 81, "eth0"), vec!["Nobody"]),
        (ask(6, 1, "fd00::1", 81, "eth0"), vec!["tcp LISTEN [::]:81"]),
        (ask(6, 1, "10.0.0.1", 82, "eth0"), vec!["Unknown(V6Only)"]),
        (ask(6, 1, "10.0.0.1", 84, "eth0"), vec!["tcp LISTEN 0.0.0.0:84"]),
        (
            ask(6, 1, "10.0.0.1", 84, "eth1"),
            vec!["tcp LISTEN 0.0.0.0%eth1:84", "tcp LISTEN 0.0.0.0:84"],
        ),
        (ask(17, 1, "10.0.0.1", 53, "eth0"), vec!["udp UNCONN 10.0.0.1:53"]),
        (ask(17, 4000, "10.0.0.1", 53, "eth0"), vec!["= udp ESTAB 10.0.0.1:53"]),
        (ask(17, 1, "10.0.0.2", 53, "eth0"), vec!["Nobody"]),
        (
            ask(17, 1, "10.0.0.1", 54, "eth1"),
            vec!["udp UNCONN *%eth1:54", "udp UNCONN 0.0.0.0:54"],
        ),
        (ask(17, 1, "10.0.0.1", 54, "eth0"), vec!["udp UNCONN 0.0.0.0:54"]),
        (ask(132, 1, "10.0.0.1", 54, "eth0"), vec!["Unknown(Protocol(132))"]),
    ];
    for (query, expected) in cases {
        assert_eq!(said(ROWS, &query), expected, "{query:?}");
    }
}

#[test]
fn a_row_that_cannot_be_read_could_be_the_taker() {
    let text = format!("{ROWS}tcp LISTEN 0 128 nonsense\n");
    assert_eq!(said(&text, &ask(6, 1, "10.0.0.1", 99, "eth0")), ["Unknown(Unreadable)"]);
    assert_eq!(
        said(&text, &ask(6, 1, "10.0.0.1", 84, "eth0")),
        ["tcp LISTEN 0.0.0.0:84"]
    );
}

#[test]
fn through_a_vrf_it_depends_on_a_sysctl() {
    let query = SocketQuery {
        iif: Some("red"),
        vrf_port: Some("eth1"),
        ..ask(6, 1, "10.0.0.1", 80, "red")
    };
    assert_eq!(said(ROWS, &query), ["Unknown(L3mdev)"]);
    let table = table(ROWS);
    let mut sockets = Sockets::from_table(&table);
    sockets.l3mdev.tcp = Some(false);
    assert_eq!(sockets.lookup(&query), SocketAnswer::Nobody);
    let bound = SocketQuery { dport: 84, ..query };
    assert!(matches!(sockets.lookup(&bound), SocketAnswer::Listener(takers) if takers.len() == 1));
}
