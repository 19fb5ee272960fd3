//! What is sent back, and what the client makes of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use knet_snapshot::id::Family;
use knet_snapshot::route::RouteKind;

use super::walker::{Ended, Source, Walker};
use crate::choice::{Oracle, Unknown};
use crate::packet::{Eth, L4, Packet, proto, tcp_flag};
use crate::skb::{Ct, CtState, Dir, Sender, Skb};
use crate::stage::conntrack::answer_type;
use crate::table::fib::{Answer as RouteAnswer, Query};
use crate::table::source::{SCOPE_LINK, inet_select_addr, ipv6_dev_get_saddr, vrf_of};
use crate::trace::{Answer, ClientSees, End, Followup, NsId, Outcome, Reason, Reject, Reply};

/// The answer as a packet, and how its source is chosen. `None` when the kernel stays silent.
pub(super) fn packet(
    walker: &Walker<'_, '_>,
    ns: NsId,
    request: &Ended,
    answer: Answer,
    ttl: u8,
) -> Option<(Skb, Source)> {
    let asked = &request.skb.packet;
    let rejected = request.reject.is_some();
    let delivered = !rejected && matches!(request.end.outcome, Outcome::Delivered | Outcome::NoListener);
    let (packet, source, socket) = match answer {
        Answer::Data => {
            // icmp_reply takes the TOS of the question; programs have their own, which is 0.
            let tos = if matches!(asked.l4, L4::Icmp { .. }) {
                asked.tos
            } else {
                0
            };
            (
                turned(asked, ttl, tos, (asked.tcp_flags() & tcp_flag::SYN) | tcp_flag::ACK)?,
                // A transparent socket answers in the name of whoever was asked.
                if request.skb.tproxy.is_some() {
                    Source::Any
                } else {
                    Source::Bound
                },
                // `icmp_reply`, `icmpv6_echo_reply`: the kernel's own socket.
                !matches!(asked.l4, L4::Icmp { .. }),
            )
        }
        // nf_reject_skb_v4_unreach, nf_reject_skb_v6_unreach: in the name of whoever was asked.
        Answer::Error(_) if let Some(port) = request.bridged => {
            let mut packet = error(asked, answer, ttl, Some(asked.dst))?;
            packet.tos = 0;
            packet.df = asked.dst.is_ipv4();
            (packet, Source::Bridge(port), false)
        }
        // Nobody resets a reset.
        Answer::Reset if asked.tcp_flags() & tcp_flag::RST != 0 => return None,
        // tcp_v4_send_reset takes the TOS of the packet.
        Answer::Reset if delivered => (turned(asked, ttl, asked.tos, reset(asked))?, Source::Bound, false),
        // nf_send_reset answers in the name of the server, whoever has its address; and what came in by a bridge
        // port, though it is routed, goes back out of that port as from the server's own MAC.
        Answer::Reset => {
            let source = match request.bridged {
                Some(port) => Source::Bridge(port),
                None => request.skb.physin.map_or(Source::Any, Source::Port),
            };
            (turned(asked, ttl, 0, reset(asked))?, source, false)
        }
        Answer::Error(_) | Answer::TimeExceeded | Answer::TooBig => {
            let from = error_source(walker, ns, &request.skb);
            let source = if from.is_some() { Source::Bound } else { Source::Choose };
            (error(asked, answer, ttl, from)?, source, false)
        }
    };
    // nf_ct_attach (nf_send_reset, icmp_glue_bits): a reset or an error belongs to the connection it is
    // about, though that was never confirmed; so its addresses are translated back. A packet that reached
    // its socket has lost its connection by then, and the answer finds it by its tuple.
    let ct = match request.skb.ct {
        Ct::Of { entry, dir, .. } if !delivered && answer != Answer::Data && request.bridged.is_none() => {
            let dir = if dir == Dir::Original {
                Dir::Reply
            } else {
                Dir::Original
            };
            Ct::Of {
                entry,
                dir,
                state: CtState::Related,
            }
        }
        _ => Ct::None,
    };
    // icmp_sk and, for closed ports, ipv4_tcp_sk; tcp_v6_send_response leaves the packet without.
    let control = match answer {
        Answer::Data => !socket,
        Answer::Reset => delivered && asked.dst.is_ipv4(),
        Answer::Error(_) | Answer::TimeExceeded | Answer::TooBig => true,
    };
    let bridged = matches!(source, Source::Port(_) | Source::Bridge(_));
    let skb = Skb {
        eth: request.skb.eth.filter(|_| bridged).map(|e| Eth {
            src: e.dst,
            dst: e.src,
            ..e
        }),
        mark: match request.bridged {
            Some(_) => 0,
            None => reflected_mark(walker, ns, request, answer),
        },
        ct,
        bound: match answer {
            Answer::Data if socket => request.bound,
            _ => walker.answers_by(ns, &request.skb, answer),
        },
        sender: Some(Sender {
            uid: if socket { request.owner } else { Some(0) },
            gid: None,
            socket,
            control,
        }),
        ..Skb::new(packet)
    };
    Some((skb, source))
}

/// `fwmark_reflect` for what the kernel says by itself, `tcp_fwmark_accept` for accepted connections.
fn reflected_mark(walker: &Walker<'_, '_>, ns: NsId, request: &Ended, answer: Answer) -> u32 {
    let key = match (request.skb.packet.family(), answer) {
        (_, Answer::Data) if request.skb.packet.proto == proto::TCP => "net.ipv4.tcp_fwmark_accept",
        (_, Answer::Data) if !matches!(request.skb.packet.l4, L4::Icmp { .. }) => return 0,
        (Family::V4, _) => "net.ipv4.fwmark_reflect",
        (Family::V6, _) => "net.ipv6.fwmark_reflect",
    };
    if walker.space(ns).sysctl().get(key).unwrap_or(0) != 0 {
        request.skb.mark
    } else {
        0
    }
}

/// A packet that acknowledges something says which sequence number the reset has; any other reset has to
/// acknowledge the packet itself.
const fn reset(asked: &Packet) -> u8 {
    if asked.tcp_flags() & tcp_flag::ACK != 0 {
        tcp_flag::RST
    } else {
        tcp_flag::RST | tcp_flag::ACK
    }
}

/// The packet turned round.
fn turned(asked: &Packet, ttl: u8, tos: u8, flags: u8) -> Option<Packet> {
    let l4 = match &asked.l4 {
        L4::Tcp { sport, dport, .. } => L4::Tcp {
            sport: *dport,
            dport: *sport,
            flags,
        },
        L4::Ports { sport, dport } => L4::Ports {
            sport: *dport,
            dport: *sport,
        },
        L4::Icmp {
            ty,
            code,
            id,
            quoted: None,
        } => L4::Icmp {
            ty: answer_type(asked.proto, *ty),
            code: *code,
            id: *id,
            quoted: None,
        },
        L4::Icmp { quoted: Some(_), .. } => return None,
        L4::Other => L4::Other,
    };
    // `icmp_sk_init`: the kernel's own socket does not ask for DF.
    let df = asked.dst.is_ipv6() || !matches!(l4, L4::Icmp { .. });
    // An echo is as long as its question; what a program says is taken to be short. A reset has no options, and a
    // SYN-ACK those that Linux puts into its own SYN.
    let ip = if asked.dst.is_ipv4() { 20 } else { 40 };
    let len = match l4 {
        L4::Icmp { .. } => asked.len,
        L4::Tcp { flags, .. } if flags & tcp_flag::RST != 0 => ip + 20,
        L4::Tcp { flags, .. } if flags & tcp_flag::SYN != 0 => ip + 40,
        _ => asked.len.min(60),
    };
    Some(Packet {
        len,
        src: asked.dst,
        dst: asked.src,
        l4,
        ttl,
        tos,
        df,
        inner: None,
        ..asked.clone()
    })
}

/// `icmp_send`, `icmp6_send`: in whose name an error is sent. `None`: the route back chooses.
///
/// 1. a packet that was for this namespace: its own destination, whoever refused it;
/// 2. IPv6: the address of the device it came in by that fits the receiver best;
/// 3. IPv4: an address of that device only if `icmp_errors_use_inbound_ifaddr` says so.
fn error_source(walker: &Walker<'_, '_>, ns: NsId, skb: &Skb) -> Option<IpAddr> {
    let space = walker.space(ns);
    let (links, sysctl) = (space.links(), space.sysctl());
    let asked = &skb.packet;
    match asked.family() {
        Family::V4 => {
            if skb.iif.is_some() && space.fib().addr_type_in(asked.dst, skb.iif) == Some(RouteKind::Local) {
                return Some(asked.dst);
            }
            let inbound = sysctl.get("net.ipv4.icmp_errors_use_inbound_ifaddr").unwrap_or(0) != 0;
            let dev = skb.iif.filter(|_| inbound)?;
            inet_select_addr(links, &sysctl, Some(dev), Some(asked.src), SCOPE_LINK)
        }
        Family::V6 => {
            // ipv6_chk_addr: an address of the same VRF, or of none as well.
            let vrf = |dev| vrf_of(links, dev);
            let owner = links.owner(asked.dst);
            if owner.is_some_and(|dev| vrf(dev) == skb.iif.and_then(vrf)) {
                return Some(asked.dst);
            }
            // A route back with a source of its own gives that one.
            let back = space.fib().lookup(&Query::to(asked.src), &mut Oracle::default()).answer;
            if matches!(back, RouteAnswer::Route(hit) if hit.route.prefsrc.is_some()) {
                return None;
            }
            // ip6_rcv_core: a packet that has its route already counts as come in by the device it goes out of.
            skb.routed
                .or(skb.vrf_port)
                .or(skb.iif)
                .and_then(|dev| ipv6_dev_get_saddr(links, &sysctl, Some(dev), asked.src))
        }
    }
}

/// An ICMP error about the packet. `icmp_send` says nothing about errors, and nothing to nobody.
fn error(asked: &Packet, answer: Answer, ttl: u8, from: Option<IpAddr>) -> Option<Packet> {
    if matches!(asked.l4, L4::Icmp { quoted: Some(_), .. }) || asked.src.is_unspecified() || asked.src.is_multicast() {
        return None;
    }
    let v4 = asked.dst.is_ipv4();
    let (ty, code) = icmp_of(answer, v4);
    let unspecified = if v4 {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    } else {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    };
    Some(Packet {
        src: from.unwrap_or(unspecified),
        dst: asked.src,
        proto: if v4 { proto::ICMP } else { proto::ICMPV6 },
        l4: L4::Icmp {
            ty,
            code,
            id: 0.into(),
            quoted: Some(Box::new(asked.clone())),
        },
        ttl,
        // icmp_send: precedence "internetwork control", and the four bits of the old TOS.
        tos: if v4 { 0xc0 | asked.tos & 0x1e } else { 0 },
        len: asked.len.saturating_add(if v4 { 28 } else { 48 }).min(576),
        df: false,
        inner: None,
    })
}

const fn icmp_of(answer: Answer, v4: bool) -> (u8, u8) {
    use Reject as R;
    match answer {
        Answer::Error(R::IcmpNetUnreachable) => (3, 0),
        Answer::Error(R::IcmpHostUnreachable) => (3, 1),
        Answer::Error(R::IcmpProtoUnreachable) => (3, 2),
        Answer::Error(R::IcmpPortUnreachable) => (3, 3),
        Answer::Error(R::IcmpNetProhibited) => (3, 9),
        Answer::Error(R::IcmpHostProhibited) => (3, 10),
        Answer::Error(R::IcmpAdminProhibited) => (3, 13),
        Answer::Error(R::Icmp6NoRoute) => (1, 0),
        Answer::Error(R::Icmp6AdmProhibited) => (1, 1),
        Answer::Error(R::Icmp6BeyondScope) => (1, 2),
        Answer::Error(R::Icmp6AddrUnreachable) => (1, 3),
        Answer::Error(R::Icmp6PortUnreachable) => (1, 4),
        Answer::Error(R::Icmp6PolicyFail) => (1, 5),
        Answer::Error(R::Icmp6RejectRoute) => (1, 6),
        Answer::TimeExceeded if v4 => (11, 0),
        Answer::TimeExceeded => (3, 0),
        Answer::TooBig if v4 => (3, 4),
        Answer::TooBig => (2, 0),
        Answer::Error(R::TcpReset) | Answer::Data | Answer::Reset => (3, 3),
    }
}

/// `icmpv4_xrlim_allow`, `icmpv6_xrlim_allow`: errors to one address are rationed, and no table shows how
/// many are left. Nothing is rationed on the loopback device.
pub(super) fn limited(walker: &mut Walker<'_, '_>, ns: NsId, request: &Ended, answer: Answer) -> bool {
    let packet = &request.skb.packet;
    if matches!(answer, Answer::Data | Answer::Reset)
        || request.bridged.is_some()
        || walker.space(ns).links().owner(packet.src).is_some()
    {
        return false;
    }
    let key = if packet.dst.is_ipv4() {
        "net.ipv4.icmp_ratelimit"
    } else {
        "net.ipv6.icmp.ratelimit"
    };
    if walker.space(ns).sysctl().get(key) == Some(0) {
        return false;
    }
    let question = format!("{key} {ns:?} {}", packet.src);
    walker.oracle.unknown(question, Unknown::ErrorLimit(key), 2) == 1
}

/// What `connect`, or `send` and `recv`, return in the end. Two errors come late, so that an impatient
/// client sees nothing: the one after three unanswered questions for a neighbour, and an `ICMPv6` error
/// that arrives while `connect` still holds the socket (seen on 6.18: the second SYN's error counts).
pub(super) fn client_sees(
    walker: &mut Walker<'_, '_>,
    end: &End,
    errno: Option<ClientSees>,
    reply: Option<&Reply>,
    followup: Option<&Followup>,
) -> ClientSees {
    let sees = in_time(walker, end, errno, reply, followup);
    let error = reply.is_some_and(|r| r.fits && matches!(r.answer, Answer::Error(_) | Answer::TimeExceeded));
    let unanswered = matches!(end.reason, Reason::NoNeighbour | Reason::QuestionLost);
    let seconds = if unanswered && sees == ClientSees::Unreachable {
        3
    } else if error && end.packet.dst.is_ipv6() && end.packet.proto == proto::TCP {
        1
    } else {
        return sees;
    };
    match walker.oracle.unknown("patience", Unknown::Patience(seconds), 2) {
        0 => sees,
        _ => ClientSees::Timeout,
    }
}

fn in_time(
    walker: &Walker<'_, '_>,
    end: &End,
    errno: Option<ClientSees>,
    reply: Option<&Reply>,
    followup: Option<&Followup>,
) -> ClientSees {
    if let Some(errno) = errno {
        return errno;
    }
    let Some(reply) = reply else {
        return match end.outcome {
            // Taken by something that has no answer of its own.
            Outcome::Delivered => ClientSees::Reply,
            _ => lost(walker, end),
        };
    };
    if !reply.fits {
        return lost(walker, &reply.end);
    }
    // `ping` is told of every error, as a connecting TCP socket is.
    let tcp = matches!(end.packet.proto, proto::TCP | proto::ICMP | proto::ICMPV6);
    match reply.answer {
        Answer::Data => followup.map_or(ClientSees::Reply, |f| lost(walker, &f.end)),
        Answer::Reset => ClientSees::Refused,
        Answer::Error(how) => told(how, tcp),
        // tcp_v4_err: EHOSTUNREACH ends a connection attempt; UDP sockets do not hear of it.
        Answer::TimeExceeded if tcp => ClientSees::Unreachable,
        Answer::TimeExceeded | Answer::TooBig => ClientSees::Timeout,
    }
}

/// What is seen of a packet that got lost.
fn lost(walker: &Walker<'_, '_>, end: &End) -> ClientSees {
    match end.outcome {
        Outcome::Unknown => ClientSees::Unknown,
        // Out there somebody may answer, except for an address that is in here.
        Outcome::LeavesCluster if end.reason == Reason::NextHopOutside && !walker.world.has_address(end.packet.dst) => {
            ClientSees::Unknown
        }
        _ => ClientSees::Timeout,
    }
}

/// `icmp_err_convert`, `icmpv6_err_convert`. A connected UDP socket hears only of fatal ones.
pub(super) const fn told(how: Reject, tcp: bool) -> ClientSees {
    use Reject as R;
    match how {
        R::IcmpPortUnreachable | R::Icmp6PortUnreachable | R::TcpReset => ClientSees::Refused,
        R::IcmpNetUnreachable
        | R::IcmpHostUnreachable
        | R::Icmp6NoRoute
        | R::Icmp6BeyondScope
        | R::Icmp6AddrUnreachable => {
            if tcp {
                ClientSees::Unreachable
            } else {
                ClientSees::Timeout
            }
        }
        R::IcmpProtoUnreachable | R::IcmpNetProhibited | R::IcmpHostProhibited | R::IcmpAdminProhibited => {
            ClientSees::Unreachable
        }
        R::Icmp6AdmProhibited | R::Icmp6PolicyFail | R::Icmp6RejectRoute => ClientSees::Prohibited,
    }
}
