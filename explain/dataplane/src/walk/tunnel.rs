//! VXLAN devices: `vxlan_xmit`, `vxlan_rcv`.

use std::net::IpAddr;

use knet_snapshot::id::Mac;
use knet_snapshot::link::{Link, LinkKind, VxlanInfo};

use super::walker::{At, Next, Source, Walker};
use crate::packet::{Encapsulated, L4, Packet, Port, proto};
use crate::skb::{Ct, PktType, Skb};
use crate::trace::{Evidence, NsId, Outcome, Reason, Stage, What};

/// Headers of a VXLAN packet before the inner frame's payload: Ethernet, VXLAN, UDP.
const VXLAN_HEADERS: u16 = 14 + 8 + 8;

impl Walker<'_, '_> {
    /// The frame is wrapped and sent to the remote that the device's FDB names for its MAC.
    pub(super) fn vxlan_transmit(&mut self, ns: NsId, link: &Link, info: &VxlanInfo, skb: Skb) -> Next {
        if info.external {
            self.step(What::Undecided, None);
            return Err(self.ended(ns, skb, Outcome::Unknown, Reason::NotModelled));
        }
        let fdb = self.space(ns).fdb();
        let mac = skb.eth.and_then(|e| e.dst).unwrap_or_default();
        if !fdb.known {
            return Err(self.not_captured(ns, skb, knet_snapshot::artifact::name::FDB));
        }
        // vxlan_find_mac, then the all-zero default entry, then the device's own remote.
        let entries = match fdb.remotes(&link.name, mac) {
            [] => fdb.remotes(&link.name, Mac::default()),
            found => found,
        };
        let chosen = entries.iter().find(|e| e.dst.is_some());
        let evidence: Option<Evidence> = chosen.map(|e| fdb.evidence(e));
        let Some(remote) = chosen.and_then(|e| e.dst).or(info.remote) else {
            self.step(
                What::Fdb {
                    mac: Some(mac),
                    to: crate::trace::FdbTo::Flood(Vec::new()),
                },
                None,
            );
            return Err(self.ended(ns, skb, Outcome::Dropped, Reason::NoTunnelRemote));
        };
        let vni = chosen.and_then(|e| e.vni).or(info.vni);
        let port = chosen.and_then(|e| e.port).unwrap_or(info.port);
        let outer = Packet {
            src: info.local.unwrap_or(unspecified(remote)),
            dst: remote,
            proto: proto::UDP,
            // The source port is a hash of the inner flow: any value of the range will do.
            l4: L4::Ports {
                sport: Port {
                    value: 49152,
                    drawn: true,
                },
                dport: port.into(),
            },
            ttl: if info.ttl_inherit {
                skb.packet.ttl
            } else if info.ttl == 0 {
                64
            } else {
                info.ttl
            },
            tos: match info.tos {
                Some(tos) => tos,
                None => skb.packet.tos,
            },
            len: skb.packet.len.saturating_add(VXLAN_HEADERS + ip_header(remote)),
            df: info.df.as_deref() == Some("set"),
            inner: Some(Box::new(Encapsulated {
                eth: skb.eth,
                key: vni,
                packet: skb.packet.clone(),
            })),
        };
        self.step(
            What::Encap {
                dev: link.index,
                local: info.local,
                remote: Some(remote),
                key: vni,
            },
            evidence,
        );
        self.leave(Some(link.index), &skb.packet);
        // skb_scrub_packet within one namespace keeps the mark; the outer packet is tracked anew.
        let outer_skb = Skb {
            packet: outer,
            eth: None,
            ct: Ct::None,
            sender: None,
            iif: None,
            oif: None,
            nexthop: None,
            physin: None,
            physout: None,
            pkt_type: PktType::Host,
            ..skb
        };
        Ok(At::Send {
            ns,
            skb: outer_skb,
            source: if info.local.is_some() {
                Source::Bound
            } else {
                Source::Choose
            },
        })
    }

    /// The device of this namespace that unwraps a UDP packet, if one does.
    pub(super) fn vxlan_receive(&mut self, ns: NsId, skb: &Skb) -> Option<At> {
        let inner = skb.packet.inner.as_deref()?;
        let dport = skb.packet.dport()?.value;
        let device = self.space(ns).links().iter().find(|l| match &l.kind {
            LinkKind::Vxlan(v) => {
                l.flags.up
                    && v.port == dport
                    && v.vni == inner.key
                    && v.local.is_none_or(|a| a.is_ipv4() == skb.packet.dst.is_ipv4())
            }
            _ => false,
        })?;
        let decapped = Skb {
            packet: inner.packet.clone(),
            eth: inner.eth,
            ct: Ct::None,
            sender: None,
            iif: None,
            oif: None,
            nexthop: None,
            physin: None,
            physout: None,
            ..skb.clone()
        };
        self.step(What::Decap { dev: device.index }, None);
        self.stage(Stage::Decap);
        self.leave(None, &skb.packet);
        Some(At::Receive {
            ns,
            dev: device.index,
            skb: decapped,
        })
    }
}

const fn unspecified(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
    }
}

const fn ip_header(remote: IpAddr) -> u16 {
    match remote {
        IpAddr::V4(_) => 20,
        IpAddr::V6(_) => 40,
    }
}
