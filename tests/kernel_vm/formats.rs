//! Our own readers of IPVS and WireGuard beside the kernel's tools: what the two write reads the same.

use knet_collectors::Limits;
use knet_snapshot::artifact::name;
use knet_snapshot::ipvs::{IpvsMask, IpvsRow, IpvsServer, IpvsService, ServiceKey, parse};

use crate::netns::say;
use crate::packets::{ipvs, lab, random::Rng, rules::Back, sys};

/// Tables that are drawn.
const TABLES: u64 = 12;

/// A row without the place it stands at. What `/proc/net/ip_vs` does not say is left out for all.
fn words(row: &IpvsRow, proc: bool) -> String {
    match row {
        IpvsRow::Service(s) => {
            let IpvsService {
                at: _,
                key,
                scheduler,
                scheduler_flags,
                persistent,
                netmask,
                one_packet,
                engine,
            } = s;
            // Every bit of the address is what no netmask means.
            let whole = [IpvsMask::V4([255; 4].into()), IpvsMask::V6(128)];
            let netmask = netmask.filter(|m| !whole.contains(m));
            let flags = (!proc).then_some(scheduler_flags);
            let key = named(*key, proc);
            // ... and of a mark's, whether it is a netmask.
            let netmask = netmask.filter(|_| !key.starts_with("mark"));
            format!("{key} {scheduler} {flags:?} {persistent} {netmask:?} {one_packet} {engine:?}")
        }
        IpvsRow::Server(s) => {
            let IpvsServer {
                at: _,
                service,
                addr,
                port,
                forward,
                tunnel,
                weight,
                upper,
            } = s;
            let more = (!proc).then_some((tunnel, upper));
            let service = named(*service, proc);
            format!("{service} -> {addr} {port} {forward:?} {weight} {more:?}")
        }
    }
}

/// `/proc/net/ip_vs` does not say of which family's packets a mark is.
fn named(key: ServiceKey, proc: bool) -> String {
    match key {
        ServiceKey::Mark { mark, .. } if proc => format!("mark {mark}"),
        key => format!("{key:?}"),
    }
}

fn read(name: &str, bytes: &[u8], proc: bool) -> Result<Vec<String>, String> {
    let table = parse(name.into(), bytes);
    if let Some(problem) = table.problems.first() {
        return Err(format!("{name}: {problem:?}\n{}", String::from_utf8_lossy(bytes)));
    }
    let mut rows: Vec<String> = table.rows.iter().map(|row| words(row, proc)).collect();
    rows.sort();
    Ok(rows)
}

/// Loads random tables, and reads each in three ways.
pub fn compare() -> Option<String> {
    let ran = std::thread::spawn(|| {
        sys::new_netns().expect("a namespace");
        // Without a local route every address is a broadcast's (`inet_addr_type`).
        lab::must(&["ip", "link", "set", "lo", "up"], "");
        let (mut tables, mut rows) = (0, 0);
        for number in 0..TABLES {
            let (_, parts) = ipvs::random(&mut Rng::of(7, 1, number));
            let services = parts.iter().find(|p| p.back == Back::Ipvs).expect("it has services");
            let loaded = lab::run(&["ipvsadm", "-R"], &services.text());
            if !loaded.status.success() {
                let why = String::from_utf8_lossy(&loaded.stderr).into_owned();
                return Err(format!("ipvsadm refuses: {why}\n{}", services.text()));
            }
            let ours = knet_collectors::ipvs::read(Limits::default()).map_err(|e| e.to_string())?;
            let ours = ours.ok_or("no IPVS")?.to_string();
            let tool = lab::must(&["ipvsadm", "-S", "-n"], "");
            let proc = std::fs::read("/proc/thread-self/net/ip_vs").map_err(|e| e.to_string())?;
            for (name, theirs, less) in [("ipvsadm -S -n", &tool, false), ("/proc/net/ip_vs", &proc, true)] {
                let (a, b) = (read("ours", ours.as_bytes(), less)?, read(name, theirs, less)?);
                if a != b {
                    let theirs = String::from_utf8_lossy(theirs);
                    return Err(format!("{name} differs from ours\n{ours}\n{theirs}\n{a:#?}\n{b:#?}"));
                }
                rows += a.len();
            }
            tables += 1;
            lab::must(&["ipvsadm", "-C"], "");
        }
        Ok((tables, rows))
    });
    match ran.join().expect("it does not panic") {
        Ok((tables, rows)) => {
            say(&format!("KNET-RAN kernel_vm_formats {tables} tables {rows} rows"));
            None
        }
        Err(why) => Some(why),
    }
}

/// Devices with many prefixes, so that a peer goes on in the next message, and with all that may be left out: our lines
/// are those of `wg show all dump`, without the keys of either.
pub fn wireguard() -> Option<String> {
    let ran = std::thread::spawn(|| {
        sys::new_netns().expect("a namespace");
        let words = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim().to_owned();
        let secret = || words(lab::must(&["wg", "genkey"], ""));
        let public = |secret: &str| words(lab::must(&["wg", "pubkey"], secret));
        let (own, shared) = (secret(), words(lab::must(&["wg", "genpsk"], "")));
        let mut config = format!("[Interface]\nPrivateKey = {own}\nListenPort = 51820\nFwMark = 0x10\n");
        for (n, endpoint) in ["192.0.2.1:5", "[2001:db8::1]:51820", ""].into_iter().enumerate() {
            let peer = public(&secret());
            config += &format!("[Peer]\nPublicKey = {peer}\n");
            if !endpoint.is_empty() {
                config += &format!(
                    "Endpoint = {endpoint}\nPresharedKey = {shared}\nPersistentKeepalive = {}\n",
                    n * 25
                );
            }
            let many = if n == 1 { 3000 } else { n };
            let prefixes: Vec<String> = (0..many)
                .map(|i| match i % 2 {
                    0 => format!("10.{n}.{}.{}/32", i / 250, i % 250),
                    _ => format!("fd00:{n}::{i:x}:0/112"),
                })
                .collect();
            if !prefixes.is_empty() {
                config += &format!("AllowedIPs = {}\n", prefixes.join(", "));
            }
        }
        lab::must(&["ip", "link", "add", "wg0", "type", "wireguard"], "");
        lab::must(&["ip", "link", "add", "wg1", "type", "wireguard"], "");
        std::fs::write("/tmp/wg0.conf", config).map_err(|e| e.to_string())?;
        lab::must(&["wg", "setconf", "wg0", "/tmp/wg0.conf"], "");
        let names = ["wg0", "wg1"].map(str::to_owned);
        let read = knet_collectors::wireguard::read(&names, Limits::default()).map_err(|e| e.to_string())?;
        let (devices, consistent) = read.ok_or("no WireGuard")?;
        let ours: String = devices.iter().map(knet_collectors::wireguard::Device::lines).collect();
        let captured = knet_collectors::tools::capture_with_tools(Limits::default());
        let captured = captured.into_iter().find(|c| c.entry.path == name::WG);
        let theirs = captured.expect("it is of the registry").content;
        let theirs = theirs.map_err(|(reason, detail)| format!("{reason:?} {detail}"))?;
        for secret in [&own, &shared] {
            if ours.contains(secret) || String::from_utf8_lossy(&theirs).contains(secret.as_str()) {
                return Err("a key is shown".to_owned());
            }
        }
        let rows = |bytes: &[u8]| -> Vec<String> {
            let table = knet_snapshot::wireguard::parse(name::WG.into(), bytes);
            let row = |row| {
                let text = format!("{row:?}");
                // All but where it stands.
                text.split_once("}, ").map_or(text.clone(), |(_, rest)| rest.to_owned())
            };
            assert!(table.problems.is_empty(), "{:?}", table.problems);
            table.rows.iter().map(row).collect()
        };
        let (a, b) = (rows(ours.as_bytes()), rows(&theirs));
        if a != b || !consistent {
            return Err(format!(
                "wg differs from ours ({consistent})\n{ours}\n{}",
                String::from_utf8_lossy(&theirs)
            ));
        }
        Ok((a.len(), ours.len()))
    });
    match ran.join().expect("it does not panic") {
        Ok((rows, bytes)) => {
            say(&format!("KNET-RAN kernel_vm_wireguard {rows} rows {bytes} bytes"));
            None
        }
        Err(why) => Some(why),
    }
}
