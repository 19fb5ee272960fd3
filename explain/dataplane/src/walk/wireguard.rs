//! WireGuard: `wg_xmit`, and what a device does with what it receives (`wg_packet_consume_data_done`).
//!
//! Handshakes are taken to succeed when both ends name each other's key; that their packets get through is
//! what the walk of the data packet shows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use knet_snapshot::artifact::name;
use knet_snapshot::link::{Link, LinkKind};
use knet_snapshot::wireguard::{WgRow, WgWhat, owner};

use super::neighbour::link_failure;
use super::overlay::{inner_of, outer_of};
use super::walker::{At, Ended, Next, Source, Walker};
use crate::packet::{Encapsulated, L4, Packet, proto};
use crate::skb::Skb;
use crate::trace::{ClientSees, Evidence, NsId, Outcome, Reason, Stage, What};

/// Header, counter and tag of a data message, and UDP.
const OVERHEAD: u16 = 32 + 8;

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

impl Walker<'_, '_> {
    /// The peer whose allowed addresses hold the destination gets it, sealed, at its endpoint.
    pub(super) fn wireguard_transmit(&mut self, ns: NsId, link: &Link, skb: Skb) -> Next {
        let facts = self.space(ns).facts;
        let Some(table) = facts.wireguard().get() else {
            return Err(self.not_captured(ns, skb, name::WG));
        };
        let Some(own) = device(&table.rows, &link.name) else {
            return Err(self.not_captured(ns, skb, name::WG));
        };
        let WgWhat::Device {
            public_key: from,
            port,
            fwmark,
        } = &own.what
        else {
            return Err(self.not_captured(ns, skb, name::WG));
        };
        let Some(peer) = owner(&table.rows, &link.name, skb.packet.dst) else {
            self.step(
                What::Encap {
                    dev: link.index,
                    local: None,
                    remote: None,
                    key: None,
                },
                Some(evidence(&table.artifact, own)),
            );
            return Err(self.no_peer(ns, skb));
        };
        let row = evidence(&table.artifact, peer);
        let WgWhat::Peer {
            public_key: to,
            endpoint,
            ..
        } = &peer.what
        else {
            return Err(self.no_peer(ns, skb));
        };
        let Some(endpoint) = *endpoint else {
            self.step(
                What::Encap {
                    dev: link.index,
                    local: None,
                    remote: None,
                    key: None,
                },
                Some(row),
            );
            return Err(self.no_peer(ns, skb));
        };
        let remote = endpoint.ip();
        let (src, ip) = match remote {
            IpAddr::V4(_) => (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 20),
            IpAddr::V6(_) => (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 40),
        };
        let outer = Packet {
            src,
            dst: remote,
            proto: proto::UDP,
            l4: L4::Ports {
                sport: (*port).into(),
                dport: endpoint.port().into(),
            },
            ttl: 64,
            tos: skb.packet.tos & 0x03,
            len: skb.packet.len.saturating_add(OVERHEAD + ip),
            df: false,
            inner: Some(Box::new(Encapsulated {
                eth: None,
                key: None,
                keys: Some((from.clone(), to.clone())),
                arp: None,
                packet: skb.packet.clone(),
            })),
        };
        self.step(
            What::Encap {
                dev: link.index,
                local: None,
                remote: Some(remote),
                key: None,
            },
            Some(row),
        );
        self.leave(Some(link.index), &skb.packet);
        self.wrapped(&skb.packet, &outer);
        let mark = *fwmark;
        Ok(At::Send {
            ns,
            skb: Skb {
                mark,
                ..outer_of(skb, outer)
            },
            source: Source::Choose,
        })
    }

    /// `ENOKEY`, `EDESTADDRREQ` for a socket of this host, and an ICMP error for everybody.
    fn no_peer(&mut self, ns: NsId, skb: Skb) -> Box<Ended> {
        let local = skb.caller().is_some_and(|s| s.socket);
        let mut ended = link_failure(self.ended(ns, skb, Outcome::Dropped, Reason::NoTunnelRemote));
        ended.errno = local.then_some(ClientSees::Unreachable);
        ended
    }

    /// A UDP packet for the port of a WireGuard device: its sender must be a peer, and the inner source must
    /// be one of that peer's.
    pub(super) fn wireguard_receive(&mut self, ns: NsId, skb: Skb) -> Next {
        let facts = self.space(ns).facts;
        let Some(table) = facts.wireguard().get() else {
            return Err(self.not_captured(ns, skb, name::WG));
        };
        let Some((inner, (from, to))) = skb.packet.inner.as_deref().and_then(|i| Some((i, i.keys.as_ref()?))) else {
            return Err(self.ended(ns, skb, Outcome::Dropped, Reason::NoTunnelDevice));
        };
        let dport = skb.packet.dport().map(|p| p.value);
        let listens = |row: &&WgRow| match &row.what {
            WgWhat::Device { public_key, port, .. } => Some(*port) == dport && public_key == to,
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
        let is_from = |row: &&WgRow| {
            row.dev == link.name && matches!(&row.what, WgWhat::Peer { public_key, .. } if public_key == from)
        };
        let Some(peer) = table.rows.iter().find(is_from) else {
            return Err(self.ended(ns, skb, Outcome::Dropped, Reason::NoTunnelDevice));
        };
        let row = evidence(&table.artifact, peer);
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
