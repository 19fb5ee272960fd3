//! Who answers for an address: `arp_process`, `ndisc_recv_ns`, and whom the kernel asks as.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use knet_snapshot::id::{Family, IfIndex, Mac};
use knet_snapshot::link::{Address, Link};
use knet_snapshot::route::RouteKind;

use super::neighbour::multicast_mac;
use super::walker::Walker;
use crate::packet::{Arp, Eth, L4, Packet, proto};
use crate::skb::{PktType, Skb};
use crate::stage::routing::{self, InputTo, Output, SenderFlags};
use crate::table::fib::{Answer as RouteAnswer, Query};
use crate::table::source::{SCOPE_HOST, SCOPE_LINK, inet_select_addr};
use crate::trace::{Assumption, Detail, Hook, NsId, Reason, Sink};

/// `NDISC_NEIGHBOUR_SOLICITATION`
const SOLICITATION: u8 = 135;
/// `NDISC_NEIGHBOUR_ADVERTISEMENT`
const ADVERTISEMENT: u8 = 136;

/// What a device does with a question about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Said {
    /// It answers: the address is its node's own.
    Own,
    /// It answers as a proxy.
    Proxy,
    /// It is down and hears nothing.
    Down,
    /// It does no ARP (`NOARP`), nor neighbour discovery.
    NoArp,
    /// The address is not local, and nothing makes it a proxy for it.
    NotLocal,
    /// A packet from the asker could not come in this way (`rp_filter`, a martian, no route): the question is
    /// not read.
    NotRead,
    /// `arp_ignore` (the larger of the device's and `all`) has this value.
    Ignored(i64),
    /// `arp_filter`: the asker would be answered by another device.
    Filtered,
    /// IPv6: the address is on another device, or not usable yet.
    NotOnDevice,
    /// A rule takes the question or the answer.
    Ruled,
    /// Whether it answers is not known: a table or a sysctl was not captured, or nobody knows what a rule does.
    Doubtful,
}

impl Said {
    /// It answers; `Some(true)` = as a proxy.
    #[must_use]
    pub const fn answer(self) -> Option<bool> {
        match self {
            Self::Own => Some(false),
            Self::Proxy => Some(true),
            Self::Down
            | Self::NoArp
            | Self::NotLocal
            | Self::NotRead
            | Self::Ignored(_)
            | Self::Filtered
            | Self::NotOnDevice
            | Self::Ruled
            | Self::Doubtful => None,
        }
    }

    /// It answers, as far as is known.
    #[must_use]
    pub const fn may_answer(self) -> bool {
        self.answer().is_some() || matches!(self, Self::Doubtful)
    }
}

/// A question for a link-layer address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    /// Whose is asked for.
    pub about: IpAddr,
    /// As whom it is asked; `None` = as nobody (0.0.0.0, ::).
    pub asker: Option<IpAddr>,
    /// The asker's own MAC, if it is known.
    pub mac: Option<Mac>,
}

impl Question {
    /// As it is sent: an ARP request, or a neighbour solicitation.
    pub fn asked(&self) -> Skb {
        match (self.about, self.asker) {
            (IpAddr::V4(about), asker) => {
                let asker = match asker {
                    Some(IpAddr::V4(asker)) => asker,
                    _ => Ipv4Addr::UNSPECIFIED,
                };
                // arp_create: no target hardware address is all zeroes.
                let target = (Some(Mac::default()), about);
                arp(false, (self.mac, asker), target, Mac::BROADCAST)
            }
            (IpAddr::V6(about), asker) => {
                let about = IpAddr::V6(about);
                let group = group_of(about);
                let asker = asker.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
                let eth = Eth {
                    src: self.mac,
                    dst: Some(multicast_mac(group)),
                    vlan: None,
                };
                discovery(asker, group, SOLICITATION, eth)
            }
        }
    }

    /// The answer of somebody with this MAC.
    pub fn answered(&self, by: Mac) -> Skb {
        match (self.about, self.asker) {
            (IpAddr::V4(about), asker) => {
                let asker = match asker {
                    Some(IpAddr::V4(asker)) => asker,
                    _ => Ipv4Addr::UNSPECIFIED,
                };
                let mut skb = arp(true, (Some(by), about), (self.mac, asker), by);
                skb.eth = Some(Eth {
                    src: Some(by),
                    dst: self.mac,
                    vlan: None,
                });
                skb
            }
            (about, asker) => {
                let asker = asker.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
                let eth = Eth {
                    src: Some(by),
                    dst: self.mac,
                    vlan: None,
                };
                discovery(about, asker, ADVERTISEMENT, eth)
            }
        }
    }
}

fn arp(reply: bool, sender: (Option<Mac>, Ipv4Addr), target: (Option<Mac>, Ipv4Addr), to: Mac) -> Skb {
    let packet = bare(sender.1.into(), target.1.into(), 0, L4::Other);
    Skb {
        arp: Some(Arp { reply, sender, target }),
        eth: Some(Eth {
            src: sender.0,
            dst: Some(to),
            vlan: None,
        }),
        ..Skb::new(packet)
    }
}

fn discovery(src: IpAddr, dst: IpAddr, ty: u8, eth: Eth) -> Skb {
    let l4 = L4::Icmp {
        ty,
        code: 0,
        id: 0.into(),
        quoted: None,
    };
    let packet = Packet {
        ttl: 255,
        // A solicitation and an advertisement, each with the option of a link-layer address.
        len: 72,
        ..bare(src, dst, proto::ICMPV6, l4)
    };
    Skb {
        eth: Some(eth),
        ..Skb::new(packet)
    }
}

/// Whither a question about an address would be routed.
enum Way {
    Local,
    Forward(IfIndex),
    Elsewhere,
    Refused,
    Unknown,
}

impl Walker<'_, '_> {
    /// `arp_solicit`, `ndisc_solicit`: the address a question about `target` is asked from. A router does
    /// not ask in the name of the packet it forwards.
    pub(super) fn asks_as(&self, ns: NsId, link: &Link, target: IpAddr, packet: &Packet) -> Option<IpAddr> {
        let space = self.space(ns);
        let (links, sysctl) = (space.links(), space.sysctl());
        let src = packet.src;
        if target.is_ipv6() {
            let own = links.addresses_of(link.index).any(|a| a.local == src);
            let link_local = |a: &&Address| matches!(a.local, IpAddr::V6(v) if v.is_unicast_link_local());
            return if own {
                Some(src)
            } else {
                links.addresses_of(link.index).find(link_local).map(|a| a.local)
            };
        }
        // Where the routes were not captured, the addresses tell.
        let kind = space.fib().addr_type_in(src, Some(link.index));
        let own = || links.owner(src).is_some() || src.is_loopback();
        let local = src.is_ipv4() && kind.map_or_else(own, |kind| kind == RouteKind::Local);
        let announced = match sysctl.conf4_max(&link.name, "arp_announce").unwrap_or(0) {
            // Any local address.
            0 => local,
            // One the target can know: `inet_addr_onlink`.
            1 => {
                local
                    && links.addresses_of(link.index).any(|a| {
                        ipnet::IpNet::new(a.local, a.prefix_len).is_ok_and(|n| n.contains(&target) && n.contains(&src))
                    })
            }
            _ => false,
        };
        if announced {
            return Some(src);
        }
        inet_select_addr(links, &sysctl, Some(link.index), Some(target), SCOPE_LINK)
    }

    /// Would this namespace answer a question that it heard on this device? If so, what it sends.
    pub(super) fn answers(
        &mut self,
        ns: NsId,
        dev: IfIndex,
        question: Question,
        heard: Option<Skb>,
    ) -> (Said, Option<Skb>) {
        let Some(link) = self.link(ns, dev).filter(|l| l.flags.up) else {
            return (Said::Down, None);
        };
        if link.flags.noarp {
            return (Said::NoArp, None);
        }
        let Question { about, asker, .. } = question;
        let said = match Family::of(about) {
            Family::V4 => self.answers_arp(ns, link, about, asker),
            Family::V6 => self.answers_nd(ns, link, about),
        };
        if said.answer().is_none() {
            return (said, None);
        }
        let heard = heard.unwrap_or_else(|| self.as_received(ns, dev, question.asked()));
        let (answer, doubtful) = self.doubting(|this| {
            this.message_in(ns, dev, heard)?;
            this.message_out(ns, dev, question.answered(link.mac.unwrap_or_default()))
        });
        let said = match answer {
            Some(_) => said,
            None if doubtful => Said::Doubtful,
            None => Said::Ruled,
        };
        (said, answer)
    }

    fn answers_arp(&mut self, ns: NsId, link: &Link, addr: IpAddr, asker: Option<IpAddr>) -> Said {
        match self.route_of_question(ns, link.index, addr, asker) {
            Way::Local => match self.arp_ignores(ns, link, addr, asker) {
                Some(value) => Said::Ignored(value),
                None if self.arp_filters(ns, link, addr, asker) => Said::Filtered,
                None => Said::Own,
            },
            Way::Forward(oif) => {
                let space = self.space(ns);
                let sysctl = space.sysctl();
                // arp_fwd_proxy, arp_fwd_pvlan, pneigh_lookup
                let on = |key: &str| sysctl.conf4_or(&link.name, key);
                let proxy = if oif == link.index {
                    on("proxy_arp_pvlan")
                } else if space.neighbours().proxy(&link.name, addr).is_some() {
                    Some(true)
                } else {
                    on("proxy_arp")
                };
                match proxy {
                    Some(true) => Said::Proxy,
                    Some(false) => Said::NotLocal,
                    None => self.not_known(),
                }
            }
            Way::Elsewhere => Said::NotLocal,
            Way::Refused => Said::NotRead,
            Way::Unknown => self.not_known(),
        }
    }

    /// What decides whether it answers was not captured.
    fn not_known(&mut self) -> Said {
        self.doubtful_question.get_or_insert((Reason::NotCaptured, Vec::new()));
        Said::Doubtful
    }

    /// `ip_route_input` of the question: it is dropped like a packet that could not have come in this way
    /// (`rp_filter`, forwarding off).
    fn route_of_question(&mut self, ns: NsId, dev: IfIndex, addr: IpAddr, asker: Option<IpAddr>) -> Way {
        let space = self.space(ns);
        let Some(asker) = asker else {
            // Asked from 0.0.0.0: only for its own addresses.
            let query = Query {
                iif: Some(dev),
                ..Query::to(addr)
            };
            return match space.fib().lookup(&query, &mut self.oracle).answer {
                RouteAnswer::Route(hit) if hit.kind == RouteKind::Local => Way::Local,
                RouteAnswer::Unknown(_) => Way::Unknown,
                _ => Way::Elsewhere,
            };
        };
        let asker = match asker {
            IpAddr::V4(_) => asker,
            IpAddr::V6(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        };
        let skb = Skb {
            iif: Some(dev),
            ..Skb::new(bare(asker, addr, 0, L4::Other))
        };
        let mut sink = Sink {
            detail: Detail::Outcome,
            steps: Vec::new(),
        };
        match routing::input(space, &skb, &mut self.oracle, &mut sink).to {
            InputTo::Local(_) => Way::Local,
            InputTo::Forward(egress) => Way::Forward(egress.oif),
            InputTo::Refused(refusal) if matches!(refusal.reason, Reason::RpFilter | Reason::Martian) => Way::Refused,
            InputTo::Unknown(_) => Way::Unknown,
            _ => Way::Elsewhere,
        }
    }

    /// `arp_ignore`: the value that keeps it silent.
    fn arp_ignores(&mut self, ns: NsId, link: &Link, addr: IpAddr, asker: Option<IpAddr>) -> Option<i64> {
        let space = self.space(ns);
        let links = space.links();
        let net = |a: &Address| ipnet::IpNet::new(a.local, a.prefix_len).ok();
        let on_device = || {
            links
                .addresses_of(link.index)
                .any(|a| a.local == addr && a.scope <= SCOPE_HOST)
        };
        let value = match space.sysctl().conf4_max(&link.name, "arp_ignore") {
            Some(value) => value,
            None => {
                let key = format!("net.ipv4.conf.{}.arp_ignore", link.name);
                // Where it would matter, whoever announces addresses has set it.
                if !on_device() && self.sysctl_unknown(ns, &key) {
                    return Some(1);
                }
                self.assumptions.insert(Assumption::SysctlDefault(key.into(), 0));
                0
            }
        };
        let ignores = match value {
            1 => !on_device(),
            2 => {
                let near = links.addresses_of(link.index).filter_map(net);
                let near = near
                    .filter(|n| n.contains(&addr))
                    .any(|n| asker.is_none_or(|s| n.contains(&s)));
                !(on_device() && near)
            }
            3 => !links
                .addresses(Family::V4)
                .any(|a| a.local == addr && a.scope <= SCOPE_LINK),
            8 => true,
            // 4 to 7 are reserved, and do nothing.
            _ => false,
        };
        ignores.then_some(value)
    }

    /// `arp_filter`: only on the device by which the asker would be answered.
    fn arp_filters(&mut self, ns: NsId, link: &Link, addr: IpAddr, asker: Option<IpAddr>) -> bool {
        let space = self.space(ns);
        let Some(asker) = asker.filter(|_| space.sysctl().conf4_or(&link.name, "arp_filter") == Some(true)) else {
            return false;
        };
        let query = Query {
            src: Some(addr),
            ..Query::to(asker)
        };
        let mut sink = Sink {
            detail: Detail::Outcome,
            steps: Vec::new(),
        };
        match routing::output(space, &query, SenderFlags::default(), &mut self.oracle, &mut sink) {
            Output::Routed(egress, _) => egress.oif != link.index,
            Output::Refused(..) | Output::Unknown(_) => true,
        }
    }

    fn answers_nd(&self, ns: NsId, link: &Link, addr: IpAddr) -> Said {
        let space = self.space(ns);
        let links = space.links();
        let own = links
            .addresses_of(link.index)
            .any(|a| a.local == addr && !a.tentative && !a.dadfailed);
        if !own {
            let on = |dev: &str, key: &str| space.sysctl().conf6(dev, key).unwrap_or(0) != 0;
            let proxy = on(&link.name, "forwarding")
                && (on(&link.name, "proxy_ndp") || on("all", "proxy_ndp"))
                && space.neighbours().proxy(&link.name, addr).is_some();
            if !proxy {
                return match links.owner(addr) {
                    Some(_) => Said::NotOnDevice,
                    None => Said::NotLocal,
                };
            }
        }
        if own { Said::Own } else { Said::Proxy }
    }

    /// What the rules of a namespace make of a message of ARP or of neighbour discovery that it sends. ARP has chains
    /// of its own; a solicitation is an IPv6 packet, which all rules see.
    pub(super) fn message_out(&mut self, ns: NsId, dev: IfIndex, message: Skb) -> Option<Skb> {
        let eth = message.eth;
        let skb = Skb {
            oif: Some(dev),
            // Its link-layer header is not set yet (arp_create, ip6_output).
            eth: None,
            ..message
        };
        let skb = self.aside(|this| {
            if skb.arp.is_some() {
                return this.arp_hook(ns, Hook::Output, skb);
            }
            let skb = this.hook(ns, Hook::Output, skb)?;
            this.hook(ns, Hook::Postrouting, skb)
        })?;
        Some(Skb { eth, ..skb })
    }

    /// The same for one that it hears.
    pub(super) fn message_in(&mut self, ns: NsId, dev: IfIndex, message: Skb) -> Option<Skb> {
        // arp_rcv, ip6_rcv_core
        if message.pkt_type == PktType::OtherHost {
            return None;
        }
        let skb = Skb {
            iif: Some(dev),
            oif: None,
            ..message
        };
        self.aside(|this| {
            if skb.arp.is_some() {
                return this.arp_hook(ns, Hook::Input, skb);
            }
            // ip_sabotage_in: not twice.
            let skb = if skb.physin.is_some() {
                skb
            } else {
                this.hook(ns, Hook::Prerouting, skb)?
            };
            // vrf_ip6_rcv: discovery keeps the device it came in by.
            let skb = match this.vrf_above(ns, dev) {
                Some(vrf) => Skb {
                    iif: Some(dev),
                    vrf_port: None,
                    ..this.vrf_receive(ns, vrf, skb)?
                },
                None => skb,
            };
            this.hook(ns, Hook::Input, skb)
        })
    }
}

/// `addrconf_addr_solict_mult`
fn group_of(addr: IpAddr) -> IpAddr {
    let IpAddr::V6(addr) = addr else { return addr };
    let [.., a, b, c] = addr.octets();
    let low = u16::from(b) << 8 | u16::from(c);
    IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), low))
}

fn bare(src: IpAddr, dst: IpAddr, proto: u8, l4: L4) -> Packet {
    Packet {
        src,
        dst,
        proto,
        l4,
        ttl: 64,
        tos: 0,
        len: 28,
        df: false,
        inner: None,
    }
}
