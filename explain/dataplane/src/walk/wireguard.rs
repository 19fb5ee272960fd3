//! WireGuard: `wg_xmit`, and what a device does with what it receives (`wg_packet_consume_data_done`,
//! `wg_receive_handshake_packet`).

mod handshake;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use knet_snapshot::artifact::name;
use knet_snapshot::id::IfIndex;
use knet_snapshot::link::{Link, LinkKind};
use knet_snapshot::wireguard::{Handshake, WgRow, WgWhat, owner};

use super::neighbour::link_failure;
use super::overlay::{inner_of, outer_of};
use super::walker::{At, Ended, Next, Source, Walker};
use crate::packet::{Encapsulated, L4, Message, Noise, Packet, Port, proto};
use crate::skb::Skb;
use crate::trace::{ClientSees, Evidence, NsId, Outcome, Reason, Stage, What};

/// Header, counter and tag of a data message.
const OVERHEAD: u16 = 32;
const UDP_HEADER: u16 = 8;

/// A device and the public key of a peer of it.
pub(super) type SessionId = (NsId, IfIndex, Arc<str>);

/// Where a peer was last heard from, and at which address of this host (`wg_socket_set_endpoint_from_skb`).
#[derive(Clone, Copy, Debug)]
pub(super) struct Heard {
    from: (IpAddr, Port),
    at: IpAddr,
}

/// Where a peer is sent to, and from which address when that is not the route's to choose.
#[derive(Clone, Copy, Debug)]
struct Way {
    to: (IpAddr, Port),
    from: Option<IpAddr>,
}

/// A device and one of its peers.
struct Pair<'t> {
    ns: NsId,
    dev: IfIndex,
    /// The device's public key.
    own: &'t Arc<str>,
    port: u16,
    mark: u32,
    /// The peer's.
    key: &'t Arc<str>,
    endpoint: Option<SocketAddr>,
    handshake: Handshake,
    keepalive: Option<u16>,
    row: Evidence,
}

impl<'t> Pair<'t> {
    /// `None` for rows that are not of a device and a peer.
    fn of((ns, dev): (NsId, IfIndex), artifact: &Arc<str>, device: &'t WgRow, peer: &'t WgRow) -> Option<Self> {
        match (&device.what, &peer.what) {
            (
                WgWhat::Device {
                    public_key: own,
                    port,
                    fwmark,
                },
                WgWhat::Peer {
                    public_key: key,
                    endpoint,
                    handshake,
                    keepalive,
                    ..
                },
            ) => Some(Self {
                ns,
                dev,
                own,
                port: *port,
                mark: *fwmark,
                key,
                endpoint: *endpoint,
                handshake: *handshake,
                keepalive: *keepalive,
                row: evidence(artifact, peer),
            }),
            _ => None,
        }
    }

    fn session(&self) -> SessionId {
        (self.ns, self.dev, self.key.clone())
    }

    /// A message to the peer; a handshake has no packet inside.
    fn packet(&self, way: Way, message: Message, inner: Option<&Packet>) -> Packet {
        let (any, ip) = match way.to.0 {
            IpAddr::V4(_) => (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 20),
            IpAddr::V6(_) => (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 40),
        };
        let (tos, len) = match (message, inner) {
            (Message::Initiation, _) => (handshake::HANDSHAKE_DSCP, handshake::INITIATION),
            (Message::Response, _) => (handshake::HANDSHAKE_DSCP, handshake::RESPONSE),
            (Message::Data, inner) => inner.map_or((0, OVERHEAD), |i| (i.tos & 0x03, i.len.saturating_add(OVERHEAD))),
        };
        let bare = Packet {
            src: way.from.unwrap_or(any),
            dst: way.to.0,
            proto: proto::UDP,
            l4: L4::Ports {
                sport: self.port.into(),
                dport: way.to.1,
            },
            ttl: 64,
            tos,
            len: len.saturating_add(UDP_HEADER + ip),
            df: false,
            inner: None,
        };
        let inner = Encapsulated {
            eth: None,
            key: None,
            noise: Some(Noise {
                from: self.own.clone(),
                to: self.key.clone(),
                message,
            }),
            arp: None,
            packet: inner.cloned().unwrap_or_else(|| bare.clone()),
        };
        Packet {
            inner: Some(Box::new(inner)),
            ..bare
        }
    }
}

impl Way {
    /// `fl.saddr`
    fn source(self) -> Source {
        match self.from {
            Some(_) => Source::Bound,
            None => Source::Choose,
        }
    }
}

/// The row as `wg show` would say it.
fn evidence(artifact: &Arc<str>, row: &WgRow) -> Evidence {
    let text = match &row.what {
        WgWhat::Device {
            public_key,
            port,
            fwmark,
        } => {
            format!("{}: public key {public_key} port {port} fwmark {fwmark:#x}", row.dev)
        }
        WgWhat::Peer {
            public_key,
            endpoint,
            allowed,
            ..
        } => {
            let endpoint = endpoint.map_or_else(|| "(none)".to_owned(), |e| e.to_string());
            let allowed: Vec<_> = allowed.iter().map(ToString::to_string).collect();
            format!(
                "{}: peer {public_key} endpoint {endpoint} allowed ips {}",
                row.dev,
                allowed.join(",")
            )
        }
    };
    Evidence {
        artifact: artifact.clone(),
        at: row.at,
        handle: None,
        text: text.into(),
    }
}

fn device<'t>(rows: &'t [WgRow], dev: &str) -> Option<&'t WgRow> {
    rows.iter()
        .find(|row| row.dev == dev && matches!(row.what, WgWhat::Device { .. }))
}

fn peer<'t>(rows: &'t [WgRow], dev: &str, key: &Arc<str>) -> Option<&'t WgRow> {
    rows.iter()
        .find(|row| row.dev == dev && matches!(&row.what, WgWhat::Peer { public_key, .. } if public_key == key))
}

impl Walker<'_, '_> {
    /// The peer whose allowed addresses hold the destination gets it, sealed, at its endpoint.
    pub(super) fn wireguard_transmit(&mut self, ns: NsId, link: &Link, skb: Skb) -> Next {
        let table = self.space(ns).facts.wireguard().get();
        let Some((table, own)) = table.and_then(|t| Some((t, device(&t.rows, &link.name)?))) else {
            return Err(self.not_captured(ns, skb, name::WG));
        };
        let peer = owner(&table.rows, &link.name, skb.packet.dst);
        let Some(pair) = peer.and_then(|peer| Pair::of((ns, link.index), &table.artifact, own, peer)) else {
            return Err(self.no_peer(ns, link.index, evidence(&table.artifact, own), skb));
        };
        // send4: "No route to %pISpfsc for peer", where the route of what it made leads into the device itself.
        let noise = skb.packet.inner.as_ref().and_then(|i| i.noise.as_ref());
        if noise.is_some_and(|n| n.from == *pair.own) {
            return Err(self.ended(ns, skb, Outcome::Loop, Reason::HopLimit));
        }
        let Some(way) = self.way(&pair) else {
            return Err(self.no_peer(ns, link.index, pair.row, skb));
        };
        let skb = self.under_session(&pair, skb)?;
        // The handshake may have been heard from elsewhere.
        let way = self.way(&pair).unwrap_or(way);
        let outer = pair.packet(way, Message::Data, Some(&skb.packet));
        self.step(
            What::Encap {
                dev: link.index,
                local: None,
                remote: Some(way.to.0),
                key: None,
            },
            Some(pair.row),
        );
        self.leave(Some(link.index), &skb.packet);
        self.wrapped(&skb.packet, &outer);
        Ok(At::Send {
            ns,
            skb: Skb {
                mark: pair.mark,
                ..outer_of(skb, outer)
            },
            source: way.source(),
        })
    }

    /// Where the peer was heard last, or else its endpoint.
    fn way(&self, pair: &Pair<'_>) -> Option<Way> {
        let heard = self.sessions.get(&pair.session()).map(|heard| Way {
            to: heard.from,
            from: Some(heard.at),
        });
        heard.or_else(|| {
            pair.endpoint.map(|end| Way {
                to: (end.ip(), end.port().into()),
                from: None,
            })
        })
    }

    /// The device sends nothing.
    fn not_sealed(&mut self, dev: IfIndex, row: Evidence) {
        self.step(
            What::Encap {
                dev,
                local: None,
                remote: None,
                key: None,
            },
            Some(row),
        );
    }

    /// `ENOKEY`, `EDESTADDRREQ` for a socket of this host, and an ICMP error for everybody.
    fn no_peer(&mut self, ns: NsId, dev: IfIndex, row: Evidence, skb: Skb) -> Box<Ended> {
        self.not_sealed(dev, row);
        let local = skb.caller().is_some_and(|s| s.socket);
        let mut ended = link_failure(self.ended(ns, skb, Outcome::Dropped, Reason::NoTunnelRemote));
        ended.errno = local.then_some(ClientSees::Unreachable);
        ended
    }

    /// A UDP packet for the port of a WireGuard device: its sender must be a peer, and the inner source of data must
    /// be one of that peer's.
    pub(super) fn wireguard_receive(&mut self, ns: NsId, skb: Skb) -> Next {
        let facts = self.space(ns).facts;
        let Some(table) = facts.wireguard().get() else {
            return Err(self.not_captured(ns, skb, name::WG));
        };
        let Some((inner, noise)) = skb.packet.inner.as_deref().and_then(|i| Some((i, i.noise.as_ref()?))) else {
            return Err(self.ended(ns, skb, Outcome::Dropped, Reason::NoTunnelDevice));
        };
        let dport = skb.packet.dport().map(|p| p.value);
        let listens = |row: &&WgRow| match &row.what {
            WgWhat::Device { public_key, port, .. } => Some(*port) == dport && *public_key == noise.to,
            WgWhat::Peer { .. } => false,
        };
        let link = table
            .rows
            .iter()
            .find(listens)
            .and_then(|row| self.space(ns).links().named(&row.dev));
        let Some(link) = link.filter(|l| l.flags.up && l.kind == LinkKind::Wireguard) else {
            return Err(self.ended(ns, skb, Outcome::Dropped, Reason::NoTunnelDevice));
        };
        let Some(peer) = peer(&table.rows, &link.name, &noise.from) else {
            return Err(self.ended(ns, skb, Outcome::Dropped, Reason::NoTunnelDevice));
        };
        let row = evidence(&table.artifact, peer);
        if noise.message != Message::Data {
            let bare = Packet {
                inner: None,
                ..skb.packet
            };
            return Ok(At::Receive {
                ns,
                dev: link.index,
                skb: Skb { packet: bare, ..skb },
            });
        }
        if owner(&table.rows, &link.name, inner.packet.src) != Some(peer) {
            let mut ended = self.ended(ns, inner_of(&skb, inner), Outcome::Dropped, Reason::Martian);
            ended.end.evidence = vec![row];
            return Err(ended);
        }
        let decapped = Skb {
            mark: 0,
            ..inner_of(&skb, inner)
        };
        self.step(What::Decap { dev: link.index }, Some(row));
        self.unwrapped(&skb.packet, &inner.packet);
        self.stage(Stage::Decap);
        self.leave(None, &skb.packet);
        Ok(At::Receive {
            ns,
            dev: link.index,
            skb: decapped,
        })
    }
}
