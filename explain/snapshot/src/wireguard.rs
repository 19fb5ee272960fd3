//! `wg.txt`: `wg show all dump`, with private keys taken out.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;

use crate::lines;
use crate::row::{Row, Table};

/// One line of the dump.
#[derive(Clone, Debug, PartialEq)]
pub struct WgRow {
    /// Where the row stands.
    pub at: Row,
    /// The WireGuard device.
    pub dev: String,
    /// The device itself, or one of its peers.
    pub what: WgWhat,
}

/// What a line of the dump is about.
#[derive(Clone, Debug, PartialEq)]
pub enum WgWhat {
    /// The device.
    Device {
        /// Its public key as written.
        public_key: Arc<str>,
        /// UDP port it listens on.
        port: u16,
        /// Mark of the packets it sends; 0 is `off`.
        fwmark: u32,
    },
    /// One peer of the device.
    Peer {
        /// Its public key as written.
        public_key: Arc<str>,
        /// Where it is sent to; `None` until it is configured or heard of.
        endpoint: Option<SocketAddr>,
        /// Inner addresses that are the peer's.
        allowed: Vec<IpNet>,
    },
}

/// Reads the artifact.
#[must_use]
pub fn parse(artifact: Arc<str>, bytes: &[u8]) -> Table<WgRow> {
    lines::table(artifact, bytes, |at, line, rows| {
        let words: Vec<&str> = line.split('\t').collect();
        let what = match words[..] {
            [_, _private, public, port, fwmark] => WgWhat::Device {
                public_key: public.into(),
                port: port.parse().map_err(|_| "a listening port that is no number")?,
                fwmark: if fwmark == "off" {
                    0
                } else {
                    lines::number(fwmark).ok_or("a mark that is no number")?
                },
            },
            [_, public, _preshared, endpoint, allowed, _, _, _, _] => WgWhat::Peer {
                public_key: public.into(),
                endpoint: match endpoint {
                    "(none)" => None,
                    text => Some(text.parse().map_err(|_| "an endpoint that is no address and port")?),
                },
                allowed: match allowed {
                    "(none)" => Vec::new(),
                    text => text
                        .split(',')
                        .map(|net| net.parse())
                        .collect::<Result<_, _>>()
                        .map_err(|_| "allowed addresses that are no prefixes")?,
                },
            },
            _ => return Err("neither a WireGuard device nor a peer"),
        };
        rows.push(WgRow {
            at,
            dev: words[0].to_owned(),
            what,
        });
        Ok(())
    })
}

/// `wg_allowedips_lookup`: the peer of a device whose longest allowed prefix holds the address.
#[must_use]
pub fn owner<'t>(rows: &'t [WgRow], dev: &str, addr: IpAddr) -> Option<&'t WgRow> {
    let length = |row: &WgRow| match &row.what {
        WgWhat::Peer { allowed, .. } => allowed
            .iter()
            .filter(|net| net.contains(&addr))
            .map(IpNet::prefix_len)
            .max(),
        WgWhat::Device { .. } => None,
    };
    let owners = rows.iter().filter(|row| row.dev == dev);
    owners
        .filter_map(|row| Some((length(row)?, row)))
        .max_by_key(|(length, _)| *length)
        .map(|(_, row)| row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longest_prefix_owns_and_keys_stay_as_written() {
        let dump = b"wg0\t(hidden)\tME=\t51820\toff\n\
            wg0\tA=\t(none)\t10.0.0.2:51820\t10.1.0.0/16,fd00::/64\t0\t0\t0\toff\n\
            wg0\tB=\t(none)\t(none)\t10.1.2.0/24\t0\t0\t0\t25\n";
        let table = parse("wg.txt".into(), dump);
        assert!(table.problems.is_empty(), "{:?}", table.problems);
        let key = |addr: &str| {
            owner(&table.rows, "wg0", addr.parse().expect("an address")).map(|row| match &row.what {
                WgWhat::Peer { public_key, .. } => public_key.to_string(),
                WgWhat::Device { .. } => String::new(),
            })
        };
        assert_eq!(key("10.1.2.3").as_deref(), Some("B="));
        assert_eq!(key("10.1.3.3").as_deref(), Some("A="));
        assert_eq!(key("fd00::1").as_deref(), Some("A="));
        assert_eq!(key("10.2.0.1"), None);
    }
}
