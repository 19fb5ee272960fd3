//! `wg.txt`: `wg show all`, or `wg show all dump` with private keys taken out.

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
        /// When the two last agreed on keys.
        handshake: Handshake,
        /// Seconds between the packets that keep the session up; `None` is off.
        keepalive: Option<u16>,
    },
}

/// When a session was last made with a peer (`walltime_last_handshake`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// Never since the peer was configured.
    Never,
    /// In this second since 1970 (`wg show all dump`).
    At(u64),
    /// So many seconds before the capture (`wg show all`).
    Ago(u64),
    /// At a time that cannot be told: the node's clock was set back.
    Untold,
}

impl Handshake {
    /// Seconds since then, at a second since 1970. `None` when there was none, or when it cannot be told.
    #[must_use]
    pub fn age(self, now: Option<u64>) -> Option<u64> {
        match self {
            Self::At(then) => now.map(|now| now.saturating_sub(then)),
            Self::Ago(seconds) => Some(seconds),
            Self::Never | Self::Untold => None,
        }
    }
}

/// Reads the artifact.
#[must_use]
pub fn parse(artifact: Arc<str>, bytes: &[u8]) -> Table<WgRow> {
    let mut dev = String::new();
    lines::table(artifact, bytes, |at, line, rows| {
        let words: Vec<&str> = line.split('\t').collect();
        if words.len() == 1 {
            return shown(at, line, &mut dev, rows);
        }
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
            [_, public, _preshared, endpoint, allowed, handshake, _, _, keepalive] => WgWhat::Peer {
                public_key: public.into(),
                endpoint: match endpoint {
                    "(none)" => None,
                    text => Some(end(text)?),
                },
                allowed: prefixes(allowed)?,
                handshake: match handshake.parse() {
                    Ok(0) => Handshake::Never,
                    Ok(second) => Handshake::At(second),
                    Err(_) => return Err("a handshake at no number of seconds"),
                },
                keepalive: match keepalive {
                    "off" => None,
                    text => Some(text.parse().map_err(|_| "a keepalive that is no number")?),
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

/// A line of `wg show all`: `interface: wg0` or `peer: KEY`, and what belongs to the one before.
fn shown(at: Row, line: &str, dev: &mut String, rows: &mut Vec<WgRow>) -> Result<(), &'static str> {
    let (name, value) = line
        .trim()
        .split_once(": ")
        .ok_or("a line of WireGuard without a value")?;
    let what = match name {
        "interface" => {
            value.clone_into(dev);
            WgWhat::Device {
                public_key: "".into(),
                port: 0,
                fwmark: 0,
            }
        }
        "peer" => WgWhat::Peer {
            public_key: value.into(),
            endpoint: None,
            allowed: Vec::new(),
            // What never was, and what is off, has no line.
            handshake: Handshake::Never,
            keepalive: None,
        },
        _ => {
            let last = rows.last_mut().ok_or("a line of WireGuard before any device")?;
            match (name, &mut last.what) {
                ("public key", WgWhat::Device { public_key, .. }) => *public_key = value.into(),
                ("listening port", WgWhat::Device { port, .. }) => {
                    *port = value.parse().map_err(|_| "a listening port that is no number")?;
                }
                ("fwmark", WgWhat::Device { fwmark, .. }) => {
                    *fwmark = lines::number(value).ok_or("a mark that is no number")?;
                }
                ("endpoint", WgWhat::Peer { endpoint, .. }) => *endpoint = Some(end(value)?),
                ("allowed ips", WgWhat::Peer { allowed, .. }) => *allowed = prefixes(value)?,
                ("latest handshake", WgWhat::Peer { handshake, .. }) => *handshake = shaken(value),
                ("persistent keepalive", WgWhat::Peer { keepalive, .. }) => {
                    let every = value.strip_prefix("every ").and_then(duration);
                    let every = every.and_then(|seconds| seconds.try_into().ok());
                    *keepalive = Some(every.ok_or("a keepalive that is no time")?);
                }
                // Keys that are hidden, and what was measured.
                _ => {}
            }
            return Ok(());
        }
    };
    rows.push(WgRow {
        at,
        dev: dev.clone(),
        what,
    });
    Ok(())
}

/// `2 minutes, 5 seconds ago`, or `Now`.
fn shaken(text: &str) -> Handshake {
    match text.strip_suffix(" ago").and_then(duration) {
        Some(seconds) => Handshake::Ago(seconds),
        None if text == "Now" => Handshake::Ago(0),
        None => Handshake::Untold,
    }
}

/// `pretty_time` of `wg`: units that are 0 are left out.
fn duration(text: &str) -> Option<u64> {
    let part = |part: &str| {
        let (number, unit) = part.trim().split_once(' ')?;
        let seconds: u64 = match unit.trim_end_matches('s') {
            "year" => 365 * 24 * 60 * 60,
            "day" => 24 * 60 * 60,
            "hour" => 60 * 60,
            "minute" => 60,
            "second" => 1,
            _ => return None,
        };
        number.parse::<u64>().ok()?.checked_mul(seconds)
    };
    text.split(',')
        .try_fold(0_u64, |sum, next| sum.checked_add(part(next)?))
}

fn end(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "an endpoint that is no address and port")
}

fn prefixes(text: &str) -> Result<Vec<IpNet>, &'static str> {
    if text == "(none)" {
        return Ok(Vec::new());
    }
    let nets = text.split(',').map(|net| net.trim().parse());
    nets.collect::<Result<_, _>>()
        .map_err(|_| "allowed addresses that are no prefixes")
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
    fn what_is_shown_reads_as_what_is_dumped() {
        let shown = b"interface: wg0\n  public key: ME=\n  private key: (hidden)\n  listening port: 51820\n  fwmark: 0xca6c\n\n\
                      peer: YOU=\n  preshared key: (hidden)\n  endpoint: 192.0.2.1:51820\n\
                      \x20 allowed ips: 10.244.1.0/24, fd44:1::/64\n  latest handshake: 1 minute, 5 seconds ago\n\
                      \x20 persistent keepalive: every 25 seconds\n\n\
                      peer: OTHER=\n  allowed ips: (none)\n";
        let dump = b"wg0\t(hidden)\tME=\t51820\t0xca6c\n\
                     wg0\tYOU=\t(none)\t192.0.2.1:51820\t10.244.1.0/24,fd44:1::/64\t1001\t2\t3\t25\n\
                     wg0\tOTHER=\t(none)\t(none)\t(none)\t0\t0\t0\toff\n";
        let [a, b] = [&shown[..], &dump[..]].map(|bytes| parse("wg.txt".into(), bytes));
        assert!(
            a.problems.is_empty() && b.problems.is_empty(),
            "{:?} {:?}",
            a.problems,
            b.problems
        );
        let what = |t: &Table<WgRow>| {
            let rows = t.rows.iter().cloned().map(|mut row| {
                let shaken = match &mut row.what {
                    WgWhat::Peer { handshake, .. } => {
                        let age = handshake.age(Some(1066));
                        let never = std::mem::replace(handshake, Handshake::Never) == Handshake::Never;
                        Some((age, never))
                    }
                    WgWhat::Device { .. } => None,
                };
                (row.dev, row.what, shaken)
            });
            rows.collect::<Vec<_>>()
        };
        assert_eq!(what(&a), what(&b));
    }

    #[test]
    fn a_time_is_told_in_words_or_not_at_all() {
        assert_eq!(shaken("Now"), Handshake::Ago(0));
        assert_eq!(shaken("1 minute, 1 second ago"), Handshake::Ago(61));
        assert_eq!(
            shaken("1 year, 2 days, 3 hours ago"),
            Handshake::Ago(367 * 86_400 + 3 * 3_600)
        );
        let back = "(System clock wound backward; connection problems may ensue.)";
        assert_eq!(shaken(back), Handshake::Untold);
        assert_eq!(Handshake::At(7).age(None), None);
        assert_eq!(duration("99999999999999999999 years"), None);
    }

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
