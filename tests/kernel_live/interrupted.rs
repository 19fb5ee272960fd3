//! A table that changes while it is dumped, on the kernel that says so (`NLM_F_DUMP_INTR`).

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use knet_collectors::Limits;
use knet_collectors::netlink::{Printed, Tables};
use knet_snapshot::artifact::name;

use crate::netns::{alone, must, say};

fn addresses(tables: &mut Tables) -> Printed {
    let read = tables.read(name::ADDR).expect("a table of rtnetlink");
    read.expect("the kernel answers")
}

#[test]
fn live_interrupted() {
    if !alone("interrupted::live_interrupted", &[]) {
        return;
    }
    // More than fits into one datagram, or there would be no moment to interrupt.
    let mut batch = String::from("link add d0 type veth peer name d1\nlink set d0 up\n");
    for n in 0..4000 {
        let _ = writeln!(batch, "addr add 10.9.{}.{}/32 dev d0", n / 200, n % 200 + 1);
    }
    must("ip -batch -", &batch);
    let mut tables = Tables::open(Limits::default()).expect("a socket");
    assert!(addresses(&mut tables).consistent, "nobody changes anything");
    // Somebody who adds and deletes all the time.
    let mut restless = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("ip was there a moment ago");
    let mut orders = restless.stdin.take().expect("stdin is piped");
    let writer = std::thread::spawn(move || {
        let pair = b"addr add 198.51.100.2/32 dev d0\naddr del 198.51.100.2/32 dev d0\n";
        // Until nobody reads them any more.
        while orders.write_all(pair).is_ok() {}
    });
    let end = Instant::now() + Duration::from_secs(60);
    let mut dumps = 0;
    let marked = loop {
        dumps += 1;
        let read = addresses(&mut tables);
        if !read.consistent {
            break Some(read);
        }
        if Instant::now() > end {
            break None;
        }
    };
    let _ = restless.kill();
    let _ = restless.wait();
    writer.join().expect("the writer does not panic");
    let marked = marked.unwrap_or_else(|| panic!("{dumps} tables were read and none was interrupted every time"));
    let rows = String::from_utf8_lossy(&marked.bytes).matches("\"10.9.").count();
    assert!(rows > 3000, "what was read is kept: {rows} addresses");
    say(&format!("KNET-RAN live_interrupted after {dumps} tables"));
}
