//! The schedulers whose choice is a hash of the packet: `ip_vs_sh.c`, `ip_vs_dh.c`, `ip_vs_mh.c`. Their tables are
//! filled in the order of the kernel's list of servers; they are as large as kernels are configured by default, and as
//! distributions ship them.

use std::net::IpAddr;

use knet_snapshot::ipvs::IpvsServer;

use crate::packet::{Packet, proto};
use crate::table::ipvs::Service;

/// `CONFIG_IP_VS_SH_TAB_BITS`, `IP_VS_DH_TAB_BITS`
const BITS: u32 = 8;
const SIZE: u32 = 1 << BITS;
/// The prime of `CONFIG_IP_VS_MH_TAB_INDEX` 12.
const MH_SIZE: u32 = 4093;
/// `IP_VS_MH_TAB_BITS`
const MH_BITS: u32 = 12 / 2;
/// `generate_hash_secret`: the keys are no secret.
const MH_FIRST: u64 = 2_654_435_761;
const MH_SECOND: u64 = 2_654_446_892;

/// A flag of the scheduler, by its name or its number.
fn flag(service: &Service<'_>, what: &str, number: &str) -> bool {
    let name = format!("{}-{what}", service.row.scheduler);
    service.row.scheduler_flags.iter().any(|f| *f == name || f == number)
}

/// When the server of the hash takes nothing, another one is looked for.
pub(super) fn falls_back(service: &Service<'_>) -> bool {
    matches!(service.row.scheduler.as_str(), "sh" | "mh") && flag(service, "fallback", "flag-1")
}

/// The server that the hash leads to, or none; `None` when the tables are not known.
pub(super) fn pick<'s>(
    service: &Service<'s>,
    packet: &Packet,
    takes: impl Fn(&IpvsServer) -> bool,
) -> Option<Option<&'s IpvsServer>> {
    if service.listed.is_empty() {
        return Some(None);
    }
    if !service.ordered {
        return None;
    }
    let kind = service.row.scheduler.as_str();
    let with_port = matches!(kind, "sh" | "mh") && flag(service, "port", "flag-2");
    let port = match packet.sport() {
        Some(port) if with_port && matches!(packet.proto, proto::TCP | proto::UDP | proto::SCTP) => {
            if port.drawn {
                return None;
            }
            port.value
        }
        _ => 0,
    };
    let sum = u32::from(port).wrapping_add(folded(if kind == "dh" { packet.dst } else { packet.src }));
    let taken = |server: &'s IpvsServer| Some(server).filter(|s| takes(s));
    if kind == "mh" {
        let table = maglev(&service.listed)?;
        let bucket = |offset: u32| {
            let at = siphash(sum.wrapping_add(offset), MH_FIRST) % MH_SIZE;
            table.get(at as usize).and_then(|i| service.listed.get(*i).copied())
        };
        return Some(
            search(service, bucket, MH_SIZE, |first| {
                siphash(sum.wrapping_add(first), MH_FIRST) % MH_SIZE
            })
            .and_then(|candidates| candidates.into_iter().find_map(taken)),
        );
    }
    let table = if kind == "sh" {
        by_weight(&service.listed)
    } else {
        (0..SIZE as usize).map(|i| i % service.listed.len()).collect()
    };
    let hashed = sum.wrapping_mul(0x61c8_8647) >> (32 - BITS);
    let bucket = |offset: u32| {
        let at = offset.wrapping_add(hashed) % SIZE;
        table.get(at as usize).and_then(|i| service.listed.get(*i).copied())
    };
    Some(
        search(service, bucket, SIZE, |first| first.wrapping_add(hashed) % SIZE)
            .and_then(|candidates| candidates.into_iter().find_map(taken)),
    )
}

/// The servers in the order in which they are asked: the one of the hash, and with a fallback every bucket after it.
fn search<'s>(
    service: &Service<'s>,
    bucket: impl Fn(u32) -> Option<&'s IpvsServer>,
    size: u32,
    hash: impl Fn(u32) -> u32,
) -> Option<Vec<&'s IpvsServer>> {
    let first = bucket(0)?;
    let mut out = vec![first];
    if falls_back(service) {
        let start = hash(0);
        out.extend((0..size).map_while(|offset| bucket((offset + start) % size)));
    }
    Some(out)
}

/// `addr_fold`
fn folded(addr: IpAddr) -> u32 {
    match addr {
        IpAddr::V4(a) => a.to_bits(),
        IpAddr::V6(a) => {
            let bits = a.to_bits();
            (0..4).fold(0, |fold, i| {
                fold ^ u32::try_from(bits >> (32 * i) & 0xffff_ffff).unwrap_or(0)
            })
        }
    }
}

/// `ip_vs_sh_reassign`: every server gets as many buckets in a row as its weight says, at least one.
fn by_weight(servers: &[&IpvsServer]) -> Vec<usize> {
    let turns = |i: &usize| servers.get(*i).map_or(1, |s| s.weight.max(1) as usize);
    let round = (0..servers.len()).flat_map(|i| std::iter::repeat_n(i, turns(&i).min(SIZE as usize)));
    let round: Vec<usize> = round.collect();
    round.iter().copied().cycle().take(SIZE as usize).collect()
}

/// `ip_vs_mh_permutate`, `ip_vs_mh_populate`. The weight that counts is the last that was not zero: where a server has
/// zero now, it is not known.
fn maglev(servers: &[&IpvsServer]) -> Option<Vec<usize>> {
    if servers.iter().any(|s| s.weight == 0) {
        return None;
    }
    let gcd = servers.iter().fold(0, |g, s| gcd(s.weight, g)).max(1);
    let most = servers.iter().map(|s| s.weight / gcd).max().unwrap_or(1);
    // `fls(mw) - IP_VS_MH_TAB_BITS`
    let shift = (32 - most.leading_zeros()).saturating_sub(MH_BITS);
    struct Setup {
        perm: u32,
        skip: u32,
        turns: u32,
    }
    let hashed = |s: &IpvsServer, key| siphash(u32::from(s.port).wrapping_add(folded(s.addr)), key);
    let mut setups: Vec<Setup> = servers
        .iter()
        .map(|s| Setup {
            perm: hashed(s, MH_FIRST) % MH_SIZE,
            skip: hashed(s, MH_SECOND) % (MH_SIZE - 1) + 1,
            turns: ((s.weight / gcd) >> shift).max(1),
        })
        .collect();
    let mut table: Vec<Option<usize>> = vec![None; MH_SIZE as usize];
    let mut left = MH_SIZE;
    while left > 0 {
        for (i, setup) in setups.iter_mut().enumerate() {
            for _ in 0..setup.turns {
                while left > 0 && table.get(setup.perm as usize).is_some_and(Option::is_some) {
                    setup.perm = (setup.perm + setup.skip) % MH_SIZE;
                }
                if left > 0
                    && let Some(slot) = table.get_mut(setup.perm as usize)
                {
                    *slot = Some(i);
                    left -= 1;
                }
            }
        }
    }
    table.into_iter().collect()
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// `hsiphash_1u32` of 64-bit kernels, which is SipHash-1-3, with both halves of the key the same.
fn siphash(value: u32, key: u64) -> u32 {
    let mut v = [
        0x736f_6d65_7073_6575 ^ key,
        0x646f_7261_6e64_6f6d ^ key,
        0x6c79_6765_6e65_7261 ^ key,
        0x7465_6462_7974_6573 ^ key,
    ];
    let block = 4_u64 << 56 | u64::from(value);
    v[3] ^= block;
    round(&mut v);
    v[0] ^= block;
    v[2] ^= 0xff;
    for _ in 0..3 {
        round(&mut v);
    }
    let mixed = v[0] ^ v[1] ^ v[2] ^ v[3];
    u32::try_from(mixed & 0xffff_ffff).unwrap_or(0)
}

/// `SIPROUND`
fn round(v: &mut [u64; 4]) {
    let [a, b, c, d] = v;
    *a = a.wrapping_add(*b);
    *b = b.rotate_left(13) ^ *a;
    *a = a.rotate_left(32);
    *c = c.wrapping_add(*d);
    *d = d.rotate_left(16) ^ *c;
    *a = a.wrapping_add(*d);
    *d = d.rotate_left(21) ^ *a;
    *c = c.wrapping_add(*b);
    *b = b.rotate_left(17) ^ *c;
    *c = c.rotate_left(32);
}
