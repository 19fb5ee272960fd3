//! VXLAN devices: `vxlan_xmit`, `vxlan_rcv`.

use std::net::IpAddr;

use knet_snapshot::fdb::FdbEntry;
use knet_snapshot::id::{Family, Mac};
use knet_snapshot::link::{Link, LinkKind, VxlanInfo};

use super::default_ttl;
use super::overlay::{inner_of, outer_of};
use super::walker::{At, Ended, Next, Source, Walker};
use crate::packet::{Encapsulated, L4, Packet, Port, proto};
use crate::skb::Skb;
use crate::trace::{Evidence, NsId, Outcome, Reason, Stage, What};

/// Headers of a VXLAN packet before the inner frame's payload: Ethernet, VXLAN, UDP.
const VXLAN_HEADERS: u16 = 14 + 8 + 8;

impl<'w, 's> Walker<'w, 's> {
    /// The frame is wrapped and sent to the remote that the device's FDB names for its MAC.
    pub(super) fn vxlan_transmit(&mut self, ns: NsId, link: &'w Link, info: &VxlanInfo, skb: Skb) -> Next {
        let entries = self.vxlan_entries(ns, link, info, &skb)?;
        let chosen = self.remote_with(entries, info, skb.eth.and_then(|e| e.dst).unwrap_or_default());
        let skb = if entries.len() > 1 { self.copied(ns, skb) } else { skb };
        self.vxlan_send(ns, link, info, skb, chosen)
    }

    /// The entries that say where a frame goes, to each of which a copy is sent.
    pub(super) fn vxlan_entries(
        &mut self,
        ns: NsId,
        link: &'w Link,
        info: &VxlanInfo,
        skb: &Skb,
    ) -> Result<&'w [&'s FdbEntry], Box<Ended>> {
        let fdb = self.space(ns).fdb();
        let mac = skb.eth.and_then(|e| e.dst).unwrap_or_default();
        if !fdb.known {
            return Err(self.not_captured(ns, skb.clone(), knet_snapshot::artifact::name::FDB));
        }
        if info.external || info.proxy || link.netnsid.is_some() {
            self.step(What::Undecided, None);
            return Err(self.ended(ns, skb.clone(), Outcome::Unknown, Reason::NotModelled));
        }
        // vxlan_find_mac, then the all-zero default entry; the device's own remote is such an entry.
        let entries = match fdb.remotes(&link.name, mac) {
            [] => fdb.remotes(&link.name, Mac::default()),
            found => found,
        };
        // A group of next hops, or a multicast group: who is behind it, no table says.
        if entries
            .iter()
            .any(|e| e.nhid.is_some() || e.dst.is_some_and(|d| d.is_multicast()))
        {
            self.step(What::Undecided, entries.iter().map(|e| fdb.evidence(e)));
            return Err(self.ended(ns, skb.clone(), Outcome::Unknown, Reason::NotModelled));
        }
        Ok(entries)
    }

    /// One copy of a frame is wrapped and sent.
    pub(super) fn vxlan_send(
        &mut self,
        ns: NsId,
        link: &Link,
        info: &VxlanInfo,
        skb: Skb,
        chosen: Option<&FdbEntry>,
    ) -> Next {
        let evidence: Option<Evidence> = chosen.map(|e| self.space(ns).fdb().evidence(e));
        // "vxlan_addr_any(dst)": an entry without a remote throws the frame away.
        let Some(remote) = chosen.and_then(|e| e.dst).filter(|d| !d.is_unspecified()) else {
            self.step(
                What::Fdb {
                    mac: skb.eth.and_then(|e| e.dst),
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
            ttl: match (info.ttl_inherit, info.ttl) {
                (true, _) => skb.packet.ttl,
                (false, 0) => default_ttl(self, ns, Family::of(remote)),
                (false, ttl) => ttl,
            },
            tos: match info.tos {
                Some(tos) => tos,
                None => skb.packet.tos,
            },
            len: skb.packet.len.saturating_add(VXLAN_HEADERS + ip_header(remote)),
            df: remote.is_ipv6()
                || match info.df.as_deref() {
                    Some("set") => true,
                    Some("inherit") => skb.packet.df,
                    _ => false,
                },
            inner: Some(Box::new(Encapsulated {
                eth: skb.eth,
                key: vni,
                keys: None,
                arp: skb.arp,
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
        self.wrapped(&skb.packet, &outer);
        Ok(At::Send {
            ns,
            skb: outer_of(skb, outer),
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
        // vxlan_vs_find_vni: by port, family and VNI. A device that is down has no socket.
        let device = self.space(ns).links().iter().find(|l| match &l.kind {
            LinkKind::Vxlan(v) => {
                l.flags.up
                    && v.port == dport
                    && v.vni == inner.key
                    && v.local.or(v.remote).is_none_or(|a| a.is_ipv4()) == skb.packet.dst.is_ipv4()
            }
            _ => false,
        })?;
        // vxlan_set_mac: "Ignore packet loops"; vxlan_snoop: a learning device does not move static entries.
        let from = inner.eth.and_then(|e| e.src);
        let moved = |from: Mac| {
            let learns = matches!(&device.kind, LinkKind::Vxlan(v) if v.learning == Some(true));
            let entries = self.space(ns).fdb().remotes(&device.name, from);
            learns
                && entries
                    .iter()
                    .any(|e| e.permanent && e.dst.is_some_and(|d| d != skb.packet.src))
        };
        if from.is_some() && (from == device.mac || from.is_some_and(moved)) {
            return None;
        }
        let decapped = inner_of(skb, inner);
        self.unwrapped(&skb.packet, &inner.packet);
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

impl Walker<'_, '_> {
    /// The frame is copied to every remote of the entry; the one that has the MAC behind it takes it.
    fn remote_with<'e>(&mut self, entries: &[&'e FdbEntry], info: &VxlanInfo, mac: Mac) -> Option<&'e FdbEntry> {
        let mut takes = |e: &FdbEntry| {
            let Some(remote) = e.dst else { return false };
            let (vni, port) = (e.vni.or(info.vni), e.port.unwrap_or(info.port));
            self.world
                .spaces()
                .iter()
                .filter(|s| s.links().owner(remote).is_some())
                .any(|s| {
                    s.links().iter().any(|l| {
                        matches!(&l.kind, LinkKind::Vxlan(v) if v.vni == vni && v.port == port)
                            && (l.mac == Some(mac) || self.leads_to(s.id, l.index, mac))
                    })
                })
        };
        match entries {
            [only] => Some(only),
            several => {
                let several = || several.iter().copied().filter(|e| e.dst.is_some());
                several().find(|e| takes(e)).or_else(|| several().next())
            }
        }
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
