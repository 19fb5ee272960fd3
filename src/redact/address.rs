//! Addresses under a prefix-preserving map (Xu, Fan, Ammar, Moon: Crypto-PAn, 2002): two addresses share as many
//! leading bits after it as before, so every longest-prefix match falls the same way.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sha2::{Digest, Sha256};

/// A secret of this export. Without it nobody can undo the map; with it the same names come out again.
pub type Key = [u8; 32];

/// What the kernel treats in a way of its own stays as it is ...
const KEPT: &[(&str, u8)] = &[
    ("0.0.0.0", 8),
    ("127.0.0.0", 8),
    ("224.0.0.0", 3),
    ("::", 95),
    ("ff00::", 8),
];
/// ... and these keep their prefix: what is private stays private, a link-local address stays one.
const FRAMED: &[(&str, u8)] = &[
    ("10.0.0.0", 8),
    ("100.64.0.0", 10),
    ("169.254.0.0", 16),
    ("172.16.0.0", 12),
    ("192.168.0.0", 16),
    ("::ffff:0:0", 96),
    ("fc00::", 7),
    ("fe80::", 64),
    // Solicited-node groups end in bits of an address.
    ("ff02::1:ff00:0", 104),
];

/// The map.
pub struct Addresses {
    key: Key,
    kept: Vec<(u128, u8, bool)>,
    framed: Vec<(u128, u8, bool)>,
    seen: RefCell<HashMap<IpAddr, IpAddr>>,
}

impl Addresses {
    pub(super) fn new(key: Key) -> Self {
        let read = |list: &[(&str, u8)]| {
            let parsed = list.iter().filter_map(|(text, len)| {
                let (bits, v6) = bits(text.parse().ok()?);
                Some((bits, *len, v6))
            });
            parsed.collect()
        };
        Self {
            key,
            kept: read(KEPT),
            framed: read(FRAMED),
            seen: RefCell::default(),
        }
    }

    /// The address in its new clothes.
    pub fn map(&self, addr: IpAddr) -> IpAddr {
        if let Some(mapped) = self.seen.borrow().get(&addr) {
            return *mapped;
        }
        let mapped = self.compute(addr);
        self.seen.borrow_mut().insert(addr, mapped);
        mapped
    }

    fn compute(&self, addr: IpAddr) -> IpAddr {
        let (value, v6) = bits(addr);
        let width: u8 = if v6 { 128 } else { 32 };
        let under = |(net, len, of): &(u128, u8, bool)| *of == v6 && (value ^ net) >> (128 - u32::from(*len)) == 0;
        if self.kept.iter().any(under) && !self.framed.iter().any(under) {
            return addr;
        }
        let mut out = value;
        for at in 0..width {
            let prefix = if at == 0 {
                0
            } else {
                value >> (128 - u32::from(at)) << (128 - u32::from(at))
            };
            // On the way to a prefix that stays, nothing may be swapped, or something else would end up there.
            let path = |(net, len, of): &(u128, u8, bool)| {
                *of == v6 && *len > at && (at == 0 || (prefix ^ net) >> (128 - u32::from(at)) == 0)
            };
            if !self.kept.iter().any(path) && !self.framed.iter().any(path) && self.flips(prefix, at, v6) {
                out ^= 1 << (127 - u32::from(at));
            }
        }
        address(out, v6)
    }

    fn flips(&self, prefix: u128, at: u8, v6: bool) -> bool {
        let mut hash = Sha256::new();
        hash.update(self.key);
        hash.update([b'a', u8::from(v6), at]);
        hash.update(prefix.to_be_bytes());
        hash.finalize()[0] & 1 == 1
    }

    /// A network keeps its length, and its host bits stay zero.
    pub fn map_network(&self, addr: IpAddr, len: u8) -> IpAddr {
        let (before, v6) = bits(addr);
        let rest = (128 - u32::from(len)).min(128);
        let mask = if rest >= 128 { 0 } else { u128::MAX << rest };
        let whole = self.map(addr);
        if before & !mask == 0 {
            let (after, _) = bits(whole);
            return address(after & mask, v6);
        }
        whole
    }

    /// A link-layer address; groups and zero stay, what is locally administered stays so.
    pub fn map_mac(&self, mac: [u8; 6]) -> [u8; 6] {
        let group = mac[0] & 1 == 1;
        let solicited = mac[..3] == [0x33, 0x33, 0xff];
        if mac == [0; 6] || (group && !solicited) {
            return mac;
        }
        let mut hash = Sha256::new();
        hash.update(self.key);
        hash.update(b"mac");
        hash.update(mac);
        let random = hash.finalize();
        if solicited {
            return [0x33, 0x33, 0xff, random[0], random[1], random[2]];
        }
        let first = (random[0] & !3) | (mac[0] & 3);
        [first, random[1], random[2], random[3], random[4], random[5]]
    }
}

/// Left-aligned in 128 bits.
fn bits(addr: IpAddr) -> (u128, bool) {
    match addr {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, false),
        IpAddr::V6(v6) => (v6.to_bits(), true),
    }
}

fn address(bits: u128, v6: bool) -> IpAddr {
    if v6 {
        Ipv6Addr::from_bits(bits).into()
    } else {
        // The upper 32 bits of 128.
        Ipv4Addr::from_bits((bits >> 96) as u32).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn common(a: IpAddr, b: IpAddr) -> u32 {
        (bits(a).0 ^ bits(b).0).leading_zeros()
    }

    #[test]
    fn as_many_leading_bits_are_shared_as_before() {
        let map = Addresses::new([7; 32]);
        let all: Vec<IpAddr> = [
            "10.0.0.1",
            "10.0.0.2",
            "10.0.1.2",
            "10.244.3.9",
            "11.0.0.1",
            "8.8.8.8",
            "192.168.0.1",
            "192.168.255.1",
            "172.16.9.1",
            "172.32.9.1",
            "203.0.113.9",
            "169.254.7.7",
            "127.0.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "223.1.1.1",
            "fd00::1",
            "fd00::2",
            "fd00:1::2",
            "fe80::1",
            "fe80::ff:1",
            "2001:db8::1",
            "2001:db8:1::1",
            "::1",
            "::",
            "ff02::1",
            "ff02::1:ff00:1",
            "::ffff:10.0.0.1",
            "64:ff9b::1",
        ]
        .iter()
        .map(|text| text.parse().expect("an address"))
        .collect();
        for a in &all {
            for b in all.iter().filter(|b| b.is_ipv4() == a.is_ipv4()) {
                assert_eq!(common(*a, *b), common(map.map(*a), map.map(*b)), "{a} {b}");
            }
        }
        for kept in [
            "127.0.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.0",
            "::1",
            "::",
            "ff02::1",
        ] {
            let addr: IpAddr = kept.parse().expect("an address");
            assert_eq!(map.map(addr), addr);
        }
        let private: Ipv4Addr = map
            .map("192.168.7.9".parse().expect("an address"))
            .to_string()
            .parse()
            .expect("v4");
        assert!(private.is_private() && private != Ipv4Addr::new(192, 168, 7, 9));
        let net = map
            .map_network("10.244.0.0".parse().expect("an address"), 16)
            .to_string();
        assert!(
            net.starts_with("10.") && net.ends_with(".0.0") && net != "10.244.0.0",
            "{net}"
        );
    }

    #[test]
    fn link_layer_addresses_keep_what_the_kernel_looks_at() {
        let map = Addresses::new([7; 32]);
        let mac = [0x02, 1, 2, 3, 4, 5];
        assert!(map.map_mac(mac) != mac && map.map_mac(mac)[0] & 3 == 2);
        assert_eq!(map.map_mac([0xff; 6]), [0xff; 6]);
        assert_eq!(map.map_mac([0; 6]), [0; 6]);
    }
}
