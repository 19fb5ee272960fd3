//! `sockets.txt` from procfs, for a node without `ss` or whose kernel would have to load a module for it.
//!
//! The lines are those of `ss -H -tulpne`, less what procfs does not say: whether an IPv6 socket is `v6only`, and
//! the device a socket is bound to.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Who holds a socket: name, pid and descriptor, by inode.
pub type Holders = BTreeMap<u64, Vec<(String, u32, u32)>>;

/// Looks through `/proc/*/fd`; what may not be looked into is left out.
#[must_use]
pub fn holders() -> Holders {
    let mut found = Holders::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let mut name: Option<String> = None;
        for fd in fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten() {
            let Some(inode) = fs::read_link(fd.path()).ok().and_then(|to| {
                to.to_str()?
                    .strip_prefix("socket:[")?
                    .strip_suffix(']')?
                    .parse::<u64>()
                    .ok()
            }) else {
                continue;
            };
            let name = name.get_or_insert_with(|| {
                fs::read_to_string(entry.path().join("comm"))
                    .unwrap_or_default()
                    .trim_end()
                    .to_owned()
            });
            let number = fd.file_name().to_str().and_then(|n| n.parse().ok()).unwrap_or(0);
            found.entry(inode).or_default().push((name.clone(), pid, number));
        }
    }
    found
}

/// Listening TCP sockets and unconnected UDP sockets of this thread's namespace.
///
/// # Errors
/// When the tables of IPv4 cannot be read; a kernel without IPv6 has none of those.
pub fn read(holders: &Holders) -> io::Result<Vec<u8>> {
    let mut out = String::new();
    for (name, netid) in [("udp", "udp"), ("udp6", "udp"), ("tcp", "tcp"), ("tcp6", "tcp")] {
        let text = match super::net(name) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(e) if e.kind() == io::ErrorKind::NotFound && name.ends_with('6') => continue,
            Err(e) => return Err(e),
        };
        for line in text.lines().skip(1) {
            let _ = socket(line, netid, holders, &mut out);
        }
    }
    Ok(out.into_bytes())
}

/// `0: 0100007F:0019 00000000:0000 0A tx:rx tr:when retrnsmt uid timeout inode ...`
fn socket(line: &str, netid: &str, holders: &Holders, out: &mut String) -> Option<()> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let state = match (netid, *words.get(3)?) {
        ("tcp", "0A") => "LISTEN",
        ("udp", "07") => "UNCONN",
        _ => return None,
    };
    let (send, receive) = words.get(4)?.split_once(':')?;
    let queue = |hex: &str| u32::from_str_radix(hex, 16).unwrap_or(0);
    let v6 = words.get(1)?.len() > 13;
    let uid: u32 = words.get(7)?.parse().ok()?;
    let inode: u64 = words.get(9)?.parse().ok()?;
    let any = if v6 { "[::]:*" } else { "0.0.0.0:*" };
    let _ = write!(
        out,
        "{netid} {state} {} {} {} {any}",
        queue(receive),
        queue(send),
        endpoint(words.get(1)?)?
    );
    if let Some(users) = holders.get(&inode) {
        let users: Vec<String> = users
            .iter()
            .map(|(name, pid, fd)| format!("(\"{name}\",pid={pid},fd={fd})"))
            .collect();
        let _ = write!(out, " users:({})", users.join(","));
    }
    if uid != 0 {
        let _ = write!(out, " uid:{uid}");
    }
    let _ = writeln!(out, " ino:{inode} sk:0 <->");
    Some(())
}

/// Words of 32 bits, each in the machine's byte order, as hexadecimal.
fn endpoint(text: &str) -> Option<String> {
    let (hex, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = Vec::with_capacity(16);
    for at in (0..hex.len()).step_by(8) {
        bytes.extend(u32::from_str_radix(hex.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    }
    let addr: IpAddr = match bytes.len() {
        4 => Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into(),
        _ => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into(),
    };
    Some(match addr {
        IpAddr::V4(v4) => format!("{v4}:{port}"),
        IpAddr::V6(v6) => format!("[{v6}]:{port}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn lines_are_those_of_ss() {
        let mut out = String::new();
        let holders = Holders::from([(77, vec![("web \"x".to_owned(), 9, 3)])]);
        let tcp = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000 0 77 1 x 100";
        socket(tcp, "tcp", &holders, &mut out).expect("it listens");
        let udp6 = "  1: 00000000000000000000000000000000:0035 00000000000000000000000000000000:0000 07 \
                    00000000:00000000 00:00000000 00000000 0 0 5 2 x 0";
        socket(udp6, "udp", &holders, &mut out).expect("it waits");
        let table = knet_snapshot::socket::parse("sockets.txt".into(), out.as_bytes());
        assert_eq!((table.rows.len(), table.problems.len()), (2, 0), "{out}");
        assert_eq!(table.rows[0].port, 8080);
        assert_eq!(table.rows[0].uid, Some(1000));
        assert_eq!(table.rows[0].users, [("web \"x".to_owned(), 9)]);
        assert!(table.rows[1].v6 && table.rows[1].local.is_none() && table.rows[1].v6only.is_none());
        let connected = tcp.replace(" 0A ", " 01 ");
        assert_eq!(socket(&connected, "tcp", &holders, &mut out), None);
    }
}
