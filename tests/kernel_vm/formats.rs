//! Our own reader of IPVS beside the kernel's tools: what the two write reads the same.

use knet_collectors::Limits;
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
