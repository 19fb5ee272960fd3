//! VXLAN devices: `vxlan_xmit`, `vxlan_rcv`.

use std::net::IpAddr;

use knet_snapshot::fdb::FdbEntry;
use knet_snapshot::id::{Family, Mac};
use knet_snapshot::link::{Link, LinkKind, VxlanInfo};

use super::default_ttl;
use super::overlay::{inner_of, outer_of};
use super::walker::{At, Ended, Next, Source, Walker};
use crate::packet::{Encapsulated, L4, Packet, Port, proto};
use crate::skb::{Skb, TunnelKey};
use crate::trace::{Evidence, NsId, Outcome, Reason, Stage, What};

/// Headers of a VXLAN packet before the inner frame's payload: Ethernet, VXLAN, UDP.
const VXLAN_HEADERS: u16 = 14 + 8 + 8;

/// Where a device sends a frame, and how.
#[derive(Clone, Debug)]
pub(super) struct Target {
    remote: Option<IpAddr>,
    local: Option<IpAddr>,
    vni: Option<u32>,
    port: u16,
    /// 0: the namespace's default.
    ttl: u8,
    tos: u8,
    rows: Vec<Evidence>,
}

impl<'w, 's> Walker<'w, 's> {
    /// The frame is wrapped and sent to the remote that the device's FDB names for its MAC.
    pub(super) fn vxlan_transmit(&mut self, ns: NsId, link: &'w Link, info: &VxlanInfo, skb: Skb) -> Next {
        if info.external {
            let to = self.target_of_route(ns, link, info, &skb)?;
            return self.vxlan_send(ns, link, info, skb, to);
        }
        let entries = self.vxlan_entries(ns, link, info, &skb)?;
        let chosen = self.remote_with(entries, info, skb.eth.and_then(|e| e.dst).unwrap_or_default());
        let skb = if entries.len() > 1 { self.copied(ns, skb) } else { skb };
        let to = self.target_of(ns, info, chosen, &skb);
        self.vxlan_send(ns, link, info, skb, to)
    }

    /// Everybody whom the device sends a frame to.
    pub(super) fn vxlan_targets(
        &mut self,
        ns: NsId,
        link: &'w Link,
        info: &VxlanInfo,
        skb: &Skb,
    ) -> Result<Vec<Target>, Box<Ended>> {
        if info.external {
            return Ok(vec![self.target_of_route(ns, link, info, skb)?]);
        }
        let entries = self.vxlan_entries(ns, link, info, skb)?;
        Ok(entries.iter().map(|e| self.target_of(ns, info, Some(e), skb)).collect())
    }

    fn target_of(&self, ns: NsId, info: &VxlanInfo, entry: Option<&FdbEntry>, skb: &Skb) -> Target {
        Target {
            remote: entry.and_then(|e| e.dst),
            local: info.local,
            vni: entry.and_then(|e| e.vni).or(info.vni),
            port: entry.and_then(|e| e.port).unwrap_or(info.port),
            ttl: if info.ttl_inherit { skb.packet.ttl } else { info.ttl },
            tos: info.tos.unwrap_or(skb.packet.tos),
            rows: entry.map(|e| self.space(ns).fdb().evidence(e)).into_iter().collect(),
        }
    }

    /// A device that is controlled from outside sends where the packet's route says, and without that nowhere. What tc
    /// filters, BPF programs and bridges with VLAN tunnels say, no table here shows.
    fn target_of_route(&mut self, ns: NsId, link: &Link, info: &VxlanInfo, skb: &Skb) -> Result<Target, Box<Ended>> {
        if info.vnifilter || link.netnsid.is_some() || link.master.is_some() {
            self.step(What::Undecided, None);
            return Err(self.ended(ns, skb.clone(), Outcome::Unknown, Reason::NotModelled));
        }
        let Some(TunnelKey { encap, rows }) = skb.tunnel.as_deref() else {
            return Err(self.ended(ns, skb.clone(), Outcome::Dropped, Reason::NoTunnelRemote));
        };
        Ok(Target {
            remote: encap.dst,
            local: encap.src,
            vni: Some(encap.id.and_then(|id| u32::try_from(id).ok()).unwrap_or(0)),
            port: info.port,
            ttl: encap.ttl,
            tos: encap.tos,
            rows: rows.clone(),
        })
    }

    /// The entries that say where a frame goes, to each of which a copy is sent.
    fn vxlan_entries(
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
        if info.proxy || link.netnsid.is_some() {
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

    /// One copy of a frame is wrapped and sent (`vxlan_xmit_one`).
    pub(super) fn vxlan_send(&mut self, ns: NsId, link: &Link, info: &VxlanInfo, skb: Skb, to: Target) -> Next {
        let Target {
            remote,
            local,
            vni,
            port,
            ttl,
            tos,
            rows,
        } = to;
        // "vxlan_addr_any(dst)": an entry without a remote throws the frame away.
        let Some(remote) = remote.filter(|d| !d.is_unspecified()) else {
            self.step(
                What::Fdb {
                    mac: skb.eth.and_then(|e| e.dst),
                    to: crate::trace::FdbTo::Flood(Vec::new()),
                },
                None,
            );
            return Err(self.ended(ns, skb, Outcome::Dropped, Reason::NoTunnelRemote));
        };
        let outer = Packet {
            src: local.unwrap_or(unspecified(remote)),
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
            ttl: match ttl {
                0 => default_ttl(self, ns, Family::of(remote)),
                ttl => ttl,
            },
            tos,
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
                noise: None,
                arp: skb.arp,
                packet: skb.packet.clone(),
            })),
        };
        self.step(
            What::Encap {
                dev: link.index,
                local,
                remote: Some(remote),
                key: vni,
            },
            rows,
        );
        self.leave(Some(link.index), &skb.packet);
        self.wrapped(&skb.packet, &outer);
        Ok(At::Send {
            ns,
            skb: outer_of(skb, outer),
            source: if local.is_some() { Source::Bound } else { Source::Choose },
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
                    && (v.external || v.vni == inner.key)
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
