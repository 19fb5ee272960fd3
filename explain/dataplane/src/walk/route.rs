//! Routing decisions, as the walk uses them.

use std::net::IpAddr;

use knet_snapshot::id::{Family, IfIndex};
use knet_snapshot::route::RouteKind;

use super::walker::{Ended, Source, Walker};
use crate::choice::Unknown;
use crate::packet::proto;
use crate::skb::{Skb, TunnelKey};
use crate::stage::routing::{self, Egress, Errno, InputTo, Output, Refusal, SenderFlags};
use crate::table::fib::Query;
use crate::trace::{Answer, ClientSees, NsId, Outcome, Reason, What};

/// What routing says of a packet that came in.
pub(super) enum Routed {
    Local,
    Forward { oif: IfIndex, nexthop: IpAddr },
}

impl Walker<'_, '_> {
    /// `ip_route_input`
    pub(super) fn route_input(&mut self, ns: NsId, skb: &mut Skb) -> Result<Routed, Box<Ended>> {
        let space = self.space(ns);
        // ip_rcv_finish routes by the device the packet came in by, ip6_route_input by the VRF.
        let port = skb.vrf_port.filter(|_| skb.packet.dst.is_ipv4());
        let seen_as = skb.iif;
        skb.iif = port.or(seen_as);
        let decided = routing::input(space, skb, &mut self.oracle, &mut self.sink);
        skb.iif = seen_as;
        self.assumptions.extend(decided.assumed);
        match decided.to {
            InputTo::Local(_) | InputTo::Broadcast => Ok(Routed::Local),
            InputTo::Forward(egress) => {
                self.take_encap(ns, skb, &egress)?;
                self.route_mtu = egress.mtu;
                Ok(Routed::Forward {
                    oif: egress.oif,
                    nexthop: egress.nexthop,
                })
            }
            InputTo::Multicast => {
                self.step(What::Undecided, None);
                Err(self.ended(ns, skb.clone(), Outcome::Unknown, Reason::NotModelled))
            }
            InputTo::Refused(refusal) => Err(self.refused(ns, skb, refusal, false)),
            InputTo::Unknown(what) => Err(self.unknown(ns, skb, what)),
        }
    }

    /// `ip_route_output_key`: sets the source, the device and the next hop.
    pub(super) fn route_output(&mut self, ns: NsId, skb: &mut Skb, source: Source) -> Result<(), Box<Ended>> {
        let caller = skb.caller();
        let socket = caller.is_some_and(|s| s.socket);
        // tcp_v6_send_response, nf_send_reset6 and icmpv6_echo_reply look up without the traffic class.
        let classless = skb.packet.dst.is_ipv6() && !socket;
        let sealed = matches!(source, Source::Sealed { .. });
        let unmarked = source == Source::Sealed { marked: false };
        let query = Query {
            src: (source != Source::Choose).then_some(skb.packet.src),
            mark: if unmarked { 0 } else { skb.mark },
            tos: if classless { 0 } else { skb.packet.tos },
            proto: if sealed { 0 } else { skb.packet.proto },
            sport: skb.packet.sport().map(|p| p.value),
            dport: skb.packet.dport().map(|p| p.value),
            uid: caller.filter(|_| !sealed).map_or(Some(0), |s| s.uid),
            oif: skb.bound,
            bound: skb.bound.is_some() && socket,
            ..Query::to(skb.packet.dst)
        };
        let flags = SenderFlags {
            any_src: matches!(source, Source::Any | Source::Port(_) | Source::Bridge(_)),
            socket,
        };
        let mut output = routing::output(self.space(ns), &query, flags, &mut self.oracle, &mut self.sink);
        // ip_route_connect asks again with the source it was given the first time: rules that select by
        // source see it only then.
        if let Output::Routed(
            Egress {
                src: Some(src @ IpAddr::V4(_)),
                ..
            },
            _,
        ) = &output
            && socket
            && source == Source::Choose
            && self.space(ns).fib().has_custom_rules(Family::V4) != Some(false)
        {
            let query = Query {
                src: Some(*src),
                ..query
            };
            output = routing::output(self.space(ns), &query, flags, &mut self.oracle, &mut self.sink);
        }
        self.take_route(ns, skb, output)
    }

    /// The next hop of a packet that a bridge would send out again itself, by an output lookup.
    pub(super) fn route_on_bridge(&mut self, ns: NsId, bridge: IfIndex, skb: &Skb) -> Option<IpAddr> {
        let query = Query {
            tos: skb.packet.tos,
            ..Query::to(skb.packet.dst)
        };
        match routing::output(
            self.space(ns),
            &query,
            SenderFlags::default(),
            &mut self.oracle,
            &mut self.sink,
        ) {
            Output::Routed(egress, _) if egress.oif == bridge => Some(egress.nexthop),
            _ => None,
        }
    }

    /// `ip_route_me_harder`
    pub(super) fn reroute(&mut self, ns: NsId, skb: &mut Skb) -> Result<(), Box<Ended>> {
        let output = routing::reroute(self.space(ns), skb, skb.bound, &mut self.oracle, &mut self.sink);
        let (src, dst) = (skb.packet.src, skb.packet.dst);
        let routed = self.take_route(ns, skb, output);
        skb.packet.src = src;
        skb.packet.dst = dst;
        routed
    }

    pub(super) fn take_route(&mut self, ns: NsId, skb: &mut Skb, output: Output) -> Result<(), Box<Ended>> {
        match output {
            Output::Routed(egress, assumed) => {
                self.assumptions.extend(assumed);
                self.take_encap(ns, skb, &egress)?;
                self.route_mtu = egress.mtu;
                if let Some(src) = egress.src {
                    skb.packet.src = src;
                }
                skb.packet.dst = egress.dst;
                skb.oif = Some(if egress.kind == RouteKind::Local {
                    self.loopback_of(ns, egress.oif)
                } else {
                    egress.oif
                });
                skb.nexthop = Some(egress.nexthop);
                Ok(())
            }
            Output::Refused(refusal, assumed) => {
                self.assumptions.extend(assumed);
                Err(self.refused(ns, skb, refusal, true))
            }
            Output::Unknown(what) => Err(self.unknown(ns, skb, what)),
        }
    }

    /// What a namespace sends to itself goes over its loopback device, or over the VRF.
    fn loopback_of(&self, ns: NsId, oif: IfIndex) -> IfIndex {
        let links = self.space(ns).links();
        if self.is_vrf(ns, oif) {
            return oif;
        }
        links.iter().find(|l| l.flags.loopback).map_or(oif, |l| l.index)
    }

    fn refused(&mut self, ns: NsId, skb: &Skb, refusal: Refusal, local: bool) -> Box<Ended> {
        let mut ended = self.ended(ns, skb.clone(), refusal.outcome, refusal.reason);
        ended.end.evidence = refusal.evidence;
        // A tunnel's program hears nothing of it, but IPsec is in the route that the program asks for.
        let sealed = skb.packet.proto == proto::ESP && skb.sender.is_some();
        if local && (skb.packet.inner.is_none() || sealed) {
            ended.errno = Some(match refusal.errno {
                Errno::NetUnreachable | Errno::HostUnreachable => ClientSees::Unreachable,
                Errno::Access => ClientSees::Prohibited,
                Errno::Invalid => ClientSees::Invalid,
                Errno::NoDevice | Errno::AddressNotAvailable => ClientSees::Unreachable,
            });
        } else if let Some(icmp) = refusal.icmp.filter(|_| !local) {
            ended.reject = Some(icmp);
            if self.router_tells(ns, skb) {
                ended.answer = Some(Answer::Error(icmp));
            }
        }
        ended
    }

    /// `ip_error` lets a sender have five errors, and then one a second; each one that is sent empties the
    /// account again where `icmp_ratelimit` is 0. How full it is, no table shows. (Seen on a 6.18 kernel:
    /// two of a client's first connections got `EHOSTUNREACH`, most of the others nothing.)
    fn router_tells(&mut self, ns: NsId, skb: &Skb) -> bool {
        let key = format!("ip_error {ns:?} {}", skb.packet.src);
        skb.packet.dst.is_ipv6() || self.oracle.unknown(key, Unknown::ErrorLimit("ip_error"), 2) == 0
    }

    fn unknown(&mut self, ns: NsId, skb: &Skb, _what: &'static str) -> Box<Ended> {
        // The step that says what is missing was recorded by the decision itself.
        self.ended(ns, skb.clone(), Outcome::Unknown, Reason::NotCaptured)
    }

    /// A route with a lightweight tunnel: an address for the device to send to, or another way of wrapping that is not
    /// modelled.
    fn take_encap(&mut self, ns: NsId, skb: &mut Skb, egress: &Egress) -> Result<(), Box<Ended>> {
        skb.tunnel = match &egress.encap {
            None => None,
            Some(encap) if matches!(encap.kind.as_str(), "ip" | "ip6") => Some(Box::new(TunnelKey {
                encap: encap.clone(),
                rows: egress.evidence.clone(),
            })),
            Some(_) => return Err(self.encap_not_modelled(ns, skb, egress)),
        };
        Ok(())
    }

    fn encap_not_modelled(&mut self, ns: NsId, skb: &Skb, egress: &Egress) -> Box<Ended> {
        self.step(What::Undecided, egress.evidence.clone());
        self.ended(ns, skb.clone(), Outcome::Unknown, Reason::NotModelled)
    }
}
