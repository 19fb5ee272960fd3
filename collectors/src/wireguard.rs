//! A reader of WireGuard devices over generic netlink (`drivers/net/wireguard/netlink.c`), written as
//! `wg show all dump` prints them, with the private and preshared keys left out: they are not even decoded.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use netlink_sys::protocols::NETLINK_GENERIC;

use crate::exec::Limits;
use crate::ipvs::family_id;
use crate::netlink::settled;
use crate::netlink::socket::{Netlink, NetlinkError, attributes, put, u16_at, u32_at};

/// A device (`WGDEVICE_A_*`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// Its public key; empty without a private one.
    pub public_key: Vec<u8>,
    /// UDP port it listens on.
    pub port: u16,
    /// Mark of what it sends; 0 is none.
    pub mark: u32,
    /// Its peers, in the kernel's order.
    pub peers: Vec<Peer>,
}

/// A peer (`WGPEER_A_*`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Its public key.
    pub public_key: Vec<u8>,
    /// Where it is sent to.
    pub endpoint: Option<SocketAddr>,
    /// Prefixes that are its own: address and length.
    pub allowed: Vec<(IpAddr, u8)>,
    /// Seconds since 1970 of the last handshake; 0 is never.
    pub handshake: u64,
    /// Bytes received and sent.
    pub bytes: (u64, u64),
    /// Seconds between keepalives; 0 is none.
    pub keepalive: u16,
}

const CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const WG_CMD_GET_DEVICE: u8 = 0;
const WGDEVICE_A_IFNAME: u16 = 2;
const WGDEVICE_A_PUBLIC_KEY: u16 = 4;
const WGDEVICE_A_LISTEN_PORT: u16 = 6;
const WGDEVICE_A_FWMARK: u16 = 7;
const WGDEVICE_A_PEERS: u16 = 8;
const WGPEER_A_PUBLIC_KEY: u16 = 1;
const WGPEER_A_ENDPOINT: u16 = 4;
const WGPEER_A_KEEPALIVE: u16 = 5;
const WGPEER_A_LAST_HANDSHAKE: u16 = 6;
const WGPEER_A_RX_BYTES: u16 = 7;
const WGPEER_A_TX_BYTES: u16 = 8;
const WGPEER_A_ALLOWEDIPS: u16 = 9;
const WGALLOWEDIP_A_IPADDR: u16 = 2;
const WGALLOWEDIP_A_CIDR_MASK: u16 = 3;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
/// `struct genlmsghdr`
const HEADER: usize = 4;

/// What was read, and whether no dump was interrupted; `None` when the kernel has no such family.
///
/// # Errors
/// When the kernel refuses (`CAP_NET_ADMIN`), or answers what cannot be read.
pub fn read(names: &[String], limits: Limits) -> Result<Option<(Vec<Device>, bool)>, NetlinkError> {
    let mut netlink = Netlink::open(NETLINK_GENERIC, limits)?;
    let mut family = None;
    netlink.dump(CTRL, &[CTRL_CMD_GETFAMILY, 2, 0, 0], |message| {
        family = family.or_else(|| family_id(message, "wireguard"));
        Ok(())
    })?;
    let Some(family) = family else { return Ok(None) };
    let mut devices = Vec::new();
    let mut consistent = true;
    for name in names {
        let mut request = vec![WG_CMD_GET_DEVICE, 1, 0, 0];
        put(&mut request, WGDEVICE_A_IFNAME, &[name.as_bytes(), b"\0"].concat());
        let (mut device, interrupted) = settled(|| {
            let mut device = Device::default();
            let interrupted = netlink.dump(family, &request, |message| {
                device.add(message.payload);
                Ok(())
            })?;
            Ok((device, interrupted))
        })?;
        consistent &= !interrupted;
        device.name.clone_from(name);
        devices.push(device);
    }
    Ok(Some((devices, consistent)))
}

impl Device {
    /// Takes one message of its dump (with its generic header). A peer with many prefixes goes on in the next message,
    /// under the same key.
    fn add(&mut self, payload: &[u8]) {
        for (kind, value) in attributes(payload.get(HEADER..).unwrap_or_default()) {
            match kind {
                WGDEVICE_A_PUBLIC_KEY => self.public_key = value.to_vec(),
                WGDEVICE_A_LISTEN_PORT => self.port = u16_at(value, 0),
                WGDEVICE_A_FWMARK => self.mark = u32_at(value, 0),
                WGDEVICE_A_PEERS => {
                    for (_, nest) in attributes(value) {
                        let peer = Peer::of(nest);
                        match self.peers.last_mut() {
                            Some(last) if last.public_key == peer.public_key => last.allowed.extend(peer.allowed),
                            _ => self.peers.push(peer),
                        }
                    }
                }
                _ => {}
            }
        }
    }

    /// Its lines of `wg show all dump`.
    #[must_use]
    pub fn lines(&self) -> String {
        let Self {
            name,
            public_key,
            port,
            mark,
            peers,
        } = self;
        let mark = match mark {
            0 => "off".to_owned(),
            mark => format!("{mark:#x}"),
        };
        let mut out = format!("{name}\t(hidden)\t{}\t{port}\t{mark}\n", key(public_key));
        for peer in peers {
            let Peer {
                public_key,
                endpoint,
                allowed,
                handshake,
                bytes: (received, sent),
                keepalive,
            } = peer;
            let or_none = |text: String| if text.is_empty() { "(none)".to_owned() } else { text };
            let allowed: Vec<String> = allowed.iter().map(|(net, bits)| format!("{net}/{bits}")).collect();
            let keepalive = match keepalive {
                0 => "off".to_owned(),
                seconds => seconds.to_string(),
            };
            // Writing to a String cannot fail.
            let _ = writeln!(
                out,
                "{name}\t{}\t(hidden)\t{}\t{}\t{handshake}\t{received}\t{sent}\t{keepalive}",
                key(public_key),
                or_none(endpoint.map(|e| e.to_string()).unwrap_or_default()),
                or_none(allowed.join(",")),
            );
        }
        out
    }
}

impl Peer {
    fn of(nest: &[u8]) -> Self {
        let mut peer = Self::default();
        for (kind, value) in attributes(nest) {
            match kind {
                WGPEER_A_PUBLIC_KEY => peer.public_key = value.to_vec(),
                WGPEER_A_ENDPOINT => peer.endpoint = endpoint(value),
                WGPEER_A_KEEPALIVE => peer.keepalive = u16_at(value, 0),
                WGPEER_A_LAST_HANDSHAKE => peer.handshake = u64_at(value),
                WGPEER_A_RX_BYTES => peer.bytes.0 = u64_at(value),
                WGPEER_A_TX_BYTES => peer.bytes.1 = u64_at(value),
                WGPEER_A_ALLOWEDIPS => peer
                    .allowed
                    .extend(attributes(value).filter_map(|(_, nest)| allowed(nest))),
                _ => {}
            }
        }
        peer
    }
}

fn allowed(nest: &[u8]) -> Option<(IpAddr, u8)> {
    let value = |wanted| {
        attributes(nest)
            .find(|(kind, _)| *kind == wanted)
            .map(|(_, value)| value)
    };
    let bits = *value(WGALLOWEDIP_A_CIDR_MASK)?.first()?;
    Some((address(value(WGALLOWEDIP_A_IPADDR)?)?, bits))
}

/// `struct sockaddr_in` or `sockaddr_in6`.
fn endpoint(raw: &[u8]) -> Option<SocketAddr> {
    let port = u16::from_be_bytes(raw.get(2..4)?.try_into().ok()?);
    match u16_at(raw, 0) {
        AF_INET => Some(SocketAddr::new(address(raw.get(4..8)?)?, port)),
        AF_INET6 => Some(SocketAddr::new(address(raw.get(8..24)?)?, port)),
        _ => None,
    }
}

fn address(raw: &[u8]) -> Option<IpAddr> {
    match raw.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(raw).ok()?).into()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(raw).ok()?).into()),
        _ => None,
    }
}

fn u64_at(bytes: &[u8]) -> u64 {
    let raw = bytes.get(..8).and_then(|b| b.try_into().ok());
    raw.map_or(0, u64::from_ne_bytes)
}

fn key(raw: &[u8]) -> String {
    if raw.iter().all(|b| *b == 0) {
        return "(none)".to_owned();
    }
    STANDARD.encode(raw)
}

#[cfg(test)]
mod tests {
    use super::*;
    use knet_snapshot::wireguard::{self, WgWhat};

    fn peer(public: u8, endpoint: Option<&[u8]>, nets: &[(&[u8], u8)]) -> Vec<u8> {
        let mut peer = Vec::new();
        put(&mut peer, WGPEER_A_PUBLIC_KEY, &[public; 32]);
        // A preshared key comes with it, and goes nowhere.
        put(&mut peer, 2, &[0x77; 32]);
        if let Some(endpoint) = endpoint {
            put(&mut peer, WGPEER_A_ENDPOINT, endpoint);
        }
        put(&mut peer, WGPEER_A_KEEPALIVE, &25_u16.to_ne_bytes());
        put(&mut peer, WGPEER_A_RX_BYTES, &7_u64.to_ne_bytes());
        let mut all = Vec::new();
        for (net, bits) in nets {
            let mut one = Vec::new();
            put(&mut one, WGALLOWEDIP_A_IPADDR, net);
            put(&mut one, WGALLOWEDIP_A_CIDR_MASK, &[*bits]);
            put(&mut all, 0, &one);
        }
        put(&mut peer, WGPEER_A_ALLOWEDIPS, &all);
        peer
    }

    fn message(attributes: &[(u16, Vec<u8>)]) -> Vec<u8> {
        let mut out = vec![0; HEADER];
        for (kind, value) in attributes {
            put(&mut out, *kind, value);
        }
        out
    }

    fn peers(list: &[Vec<u8>]) -> (u16, Vec<u8>) {
        let mut nest = Vec::new();
        for one in list {
            put(&mut nest, 0, one);
        }
        (WGDEVICE_A_PEERS, nest)
    }

    #[test]
    fn a_device_is_written_as_wg_dumps_it_and_without_its_keys() {
        let v4 = [
            &AF_INET.to_ne_bytes()[..],
            &51820_u16.to_be_bytes(),
            &[192, 0, 2, 9],
            &[0; 8],
        ]
        .concat();
        let v6 = [
            &AF_INET6.to_ne_bytes()[..],
            &7_u16.to_be_bytes(),
            &[0; 4],
            &[0x20; 16],
            &[0; 4],
        ]
        .concat();
        let mut device = Device {
            name: "wg0".to_owned(),
            ..Device::default()
        };
        device.add(&message(&[
            (3, vec![0x77; 32]),
            (WGDEVICE_A_PUBLIC_KEY, vec![1; 32]),
            (WGDEVICE_A_LISTEN_PORT, 51820_u16.to_ne_bytes().to_vec()),
            (WGDEVICE_A_FWMARK, 0x10_u32.to_ne_bytes().to_vec()),
            peers(&[peer(2, Some(&v4), &[(&[10, 0, 0, 0], 8)])]),
        ]));
        // The same peer goes on, and another one follows.
        device.add(&message(&[peers(&[
            peer(2, None, &[(&[0xfd; 16], 64)]),
            peer(3, Some(&v6), &[]),
        ])]));
        let text = device.lines();
        assert!(!text.contains(&STANDARD.encode([0x77; 32])), "{text}");
        let table = wireguard::parse("wg.txt".into(), text.as_bytes());
        assert_eq!((table.rows.len(), table.problems.len()), (3, 0), "{text}");
        let WgWhat::Device { port, fwmark, .. } = &table.rows[0].what else {
            panic!("{text}")
        };
        assert_eq!((*port, *fwmark), (51820, 0x10));
        let WgWhat::Peer { endpoint, allowed, .. } = &table.rows[1].what else {
            panic!("{text}")
        };
        assert_eq!(*endpoint, "192.0.2.9:51820".parse().ok());
        assert_eq!(allowed.len(), 2);
        let WgWhat::Peer { endpoint, allowed, .. } = &table.rows[2].what else {
            panic!("{text}")
        };
        assert!(endpoint.is_some_and(|e| e.is_ipv6()) && allowed.is_empty());
        assert!(
            text.lines().nth(1).is_some_and(|line| line.ends_with("\t0\t7\t0\t25")),
            "{text}"
        );
    }

    #[test]
    fn what_is_cut_off_is_no_panic() {
        let whole = message(&[peers(&[peer(2, None, &[(&[10, 0, 0, 0], 8)])])]);
        for end in 0..whole.len() {
            let mut device = Device::default();
            device.add(&whole[..end]);
            let _ = device.lines();
        }
    }
}
