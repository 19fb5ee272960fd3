//! Local delivery: tunnels, the kernel's own answers, sockets, and answers that come home.

use knet_snapshot::artifact::name;
use knet_snapshot::id::IfIndex;
use knet_snapshot::xfrm::Direction;

use super::walker::{Leg, Next, Walker};
use crate::packet::{L4, proto};
use crate::skb::Skb;
use crate::stage::conntrack::Key;
use crate::table::socket::{SocketAnswer, SocketDoubt, SocketQuery};
use crate::trace::{Answer, NsId, Outcome, Reason, Reject, What};

impl Walker<'_, '_> {
    /// `ip_local_deliver_finish`
    pub(super) fn deliver(&mut self, ns: NsId, skb: Skb) -> Next {
        let skb = self.ipsec_check(ns, Direction::In, skb)?;
        if skb.packet.inner.is_some() {
            if skb.packet.proto == proto::ESP {
                return self.ipsec_receive(ns, skb);
            }
            if skb.packet.inner.as_ref().is_some_and(|i| i.noise.is_some()) {
                return self.wireguard_receive(ns, skb);
            }
            let taken = if skb.packet.proto == proto::UDP {
                self.vxlan_receive(ns, &skb)
            } else {
                None
            };
            return match taken.or_else(|| self.tunnel_receive(ns, &skb)) {
                Some(at) => Ok(at),
                // GUE: which ports take it (`ip fou`) is not captured.
                None if bare_udp(&skb) => Err(self.ended(ns, skb, Outcome::Unknown, Reason::NotCaptured)),
                None => Err(self.ended(ns, skb, Outcome::Dropped, Reason::NoTunnelDevice)),
            };
        }
        match self.leg {
            Leg::Request => self.hand_to_socket(ns, skb),
            Leg::Reply if self.client.ns == ns && !self.client.outside && self.fits(&skb) => {
                // tcp_v4_err looks for the socket without the second device, all others with it.
                let error = matches!(skb.packet.l4, L4::Icmp { quoted: Some(_), .. });
                let accepted = match self.client.proto {
                    proto::TCP if error && skb.packet.dst.is_ipv4() => Some(true),
                    proto => self.space(ns).sockets().accepts_from_vrf(proto),
                };
                let key = match self.client.proto {
                    proto::TCP => "net.ipv4.tcp_l3mdev_accept",
                    _ => "net.ipv4.udp_l3mdev_accept",
                };
                let through_vrf = self.second_device(ns, &skb).is_some();
                if through_vrf && !accepted.unwrap_or_else(|| self.sysctl_unknown(ns, key)) {
                    return Err(self.ended(ns, skb, Outcome::NoListener, Reason::UnexpectedReply));
                }
                Err(self.ended(ns, skb, Outcome::Delivered, Reason::Client))
            }
            Leg::Reply => Err(self.ended(ns, skb, Outcome::NoListener, Reason::UnexpectedReply)),
            Leg::Followup => Err(self.ended(ns, skb, Outcome::Delivered, Reason::Socket)),
        }
    }

    /// The packet answers what the client sent, by the addresses and ports the client knows.
    pub(super) fn fits(&self, skb: &Skb) -> bool {
        let sent = self.client.sent;
        let same = |a: Key, b: Key| {
            a.src == b.src && a.dst == b.dst && a.sport.value == b.sport.value && a.dport.value == b.dport.value
        };
        match &skb.packet.l4 {
            L4::Icmp { quoted: Some(q), .. } => Key::of(q).is_some_and(|k| same(k, sent)),
            _ => Key::of(&skb.packet).is_some_and(|k| same(k, sent.invert(self.client.proto))),
        }
    }

    fn hand_to_socket(&mut self, ns: NsId, skb: Skb) -> Next {
        let packet = &skb.packet;
        let v4 = packet.dst.is_ipv4();
        let port_unreachable = if v4 {
            Reject::IcmpPortUnreachable
        } else {
            Reject::Icmp6PortUnreachable
        };
        match (&packet.l4, packet.proto) {
            (L4::Icmp { ty, quoted: None, .. }, proto::ICMP | proto::ICMPV6) => {
                let echo = matches!((packet.proto, ty), (proto::ICMP, 8) | (proto::ICMPV6, 128));
                if !echo {
                    return Err(self.ended(ns, skb, Outcome::Delivered, Reason::Kernel));
                }
                let key = if v4 {
                    "net.ipv4.icmp_echo_ignore_all"
                } else {
                    "net.ipv6.icmp.echo_ignore_all"
                };
                let value = self.space(ns).sysctl().get(key);
                if value.is_some_and(|v| v != 0) {
                    self.step(What::Sysctl { key: key.into(), value }, None);
                    return Err(self.ended(ns, skb, Outcome::Dropped, Reason::NoProtocol));
                }
                let mut ended = self.ended(ns, skb, Outcome::Delivered, Reason::Kernel);
                ended.answer = Some(Answer::Data);
                Err(ended)
            }
            (L4::Icmp { .. }, _) => Err(self.ended(ns, skb, Outcome::Delivered, Reason::Kernel)),
            (L4::Tcp { .. } | L4::Ports { .. }, _) => self.hand_to_port(ns, skb, port_unreachable),
            (L4::Other, _) => Err(self.ended(ns, skb, Outcome::Unknown, Reason::NotModelled)),
        }
    }

    fn hand_to_port(&mut self, ns: NsId, skb: Skb, port_unreachable: Reject) -> Next {
        let space = self.space(ns);
        let packet = &skb.packet;
        let name = |dev: IfIndex| space.links().name(dev);
        let vrf_port = self.second_device(ns, &skb);
        // inet_steal_sock
        let given = skb.tproxy.map(|to| (to.ip(), to.port()));
        let (dst, dport) = given.unwrap_or((packet.dst, packet.dport().map_or(0, |p| p.value)));
        let query = SocketQuery {
            proto: packet.proto,
            src: packet.src,
            sport: packet.sport().filter(|p| !p.drawn).map(|p| p.value),
            dst,
            dport,
            iif: skb.iif.map(name),
            vrf_port: vrf_port.map(name),
        };
        match space.sockets().lookup(&query) {
            SocketAnswer::Listener(takers) | SocketAnswer::Connected(takers) => {
                let first = takers.first();
                let program = first
                    .and_then(|t| t.socket.users.first())
                    .map(|(name, _)| name.as_str().into());
                let evidence: Vec<_> = takers.iter().map(|t| t.evidence.clone()).collect();
                self.step(What::Socket { program }, evidence);
                let mut ended = self.ended(ns, skb, Outcome::Delivered, Reason::Socket);
                // Where the kernel may pick one of several, they may differ.
                let owner = first.and_then(|t| t.socket.uid);
                ended.owner = owner.filter(|_| takers.iter().all(|t| t.socket.uid == owner));
                let dev = first.and_then(|t| t.socket.dev.as_deref());
                ended.bound = match dev {
                    Some(dev) => space.links().named(dev).map(|l| l.index),
                    // inet_request_bound_dev_if: such a listener has what it accepts bound to the VRF.
                    None => ended.skb.iif.filter(|&dev| {
                        vrf_port.is_some() && ended.skb.packet.proto == proto::TCP && self.is_vrf(ns, dev)
                    }),
                };
                ended.answer = Some(Answer::Data);
                Err(ended)
            }
            SocketAnswer::Nobody => {
                let answer = if packet.proto == proto::TCP {
                    Answer::Reset
                } else {
                    Answer::Error(port_unreachable)
                };
                let mut ended = self.ended(ns, skb, Outcome::NoListener, Reason::NoListener);
                ended.answer = Some(answer);
                Err(ended)
            }
            SocketAnswer::Unknown(SocketDoubt::NotCaptured(_)) => Err(self.not_captured(ns, skb, name::SOCKETS)),
            SocketAnswer::Unknown(_) => {
                self.step(What::Undecided, None);
                Err(self.ended(ns, skb, Outcome::Unknown, Reason::NotCaptured))
            }
        }
    }
}

/// A UDP packet that carries an IP packet, and neither a frame nor a key.
fn bare_udp(skb: &Skb) -> bool {
    let inner = skb.packet.inner.as_ref();
    skb.packet.proto == proto::UDP && inner.is_some_and(|i| i.eth.is_none() && i.key.is_none())
}
