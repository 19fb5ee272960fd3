//! Targets that translate: xt_nat.c, nf_nat_masquerade.c, nf_nat_redirect.c, xt_NETMAP.c, and xt_TPROXY.c.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use knet_snapshot::id::{Family, IfIndex};

use super::act::{self, Act};
use super::{Here, device};
use crate::choice::Unknown;
use crate::stage::conntrack::{Manip, NatRange, setup_nat};
use crate::stage::netfilter::{HookCx, Verdict};
use crate::table::socket::{SocketAnswer, SocketQuery};
use crate::table::source::{SCOPE_UNIVERSE, inet_select_addr, ipv6_dev_get_saddr, scope6};
use crate::table::xt::target::Target;
use crate::trace::{Evidence, Hook, RuleVerdict};

/// What a target makes of the packet before the connection is set up.
pub(in crate::stage::netfilter) enum Plan {
    /// Translate.
    Range(Manip, NatRange),
    /// Accept as it is.
    Keep,
    /// No address to translate to.
    Drop,
    /// An address is needed and the addresses were not captured.
    Unknown,
}

pub(super) fn nat(here: &Here<'_, '_>, cx: &mut HookCx<'_, '_>, more: Vec<Evidence>) -> Act {
    let plan = match &here.rule.target {
        Target::Dnat(range) => Plan::Range(Manip::Dst, range.clone()),
        Target::Snat(range) => Plan::Range(Manip::Src, range.clone()),
        Target::Netmap(range) => Plan::Range(Manip::at(cx.hook), range.clone()),
        Target::Masquerade(range) => masquerade(range, cx),
        Target::Redirect(range) => redirect(range, cx),
        _ => Plan::Keep,
    };
    let (verdict, end) = match &plan {
        Plan::Range(..) => (RuleVerdict::Nat, Verdict::Accept),
        Plan::Keep => (RuleVerdict::Accept, Verdict::Accept),
        Plan::Drop => (RuleVerdict::Drop, Verdict::Drop { policy: false }),
        Plan::Unknown => (RuleVerdict::Unknown, Verdict::Unknown),
    };
    cx.sink.step(|| here.step(Some(verdict), more));
    if let Plan::Range(manip, range) = plan {
        // False means that this side is set up already, which the kernel accepts as well.
        setup_nat(cx.ns, cx.skb, cx.ct, cx.oracle, manip, &range);
    }
    Act::End(end)
}

/// `nf_nat_masquerade_ipv4`, `nf_nat_masquerade_ipv6`
pub(in crate::stage::netfilter) fn masquerade(range: &NatRange, cx: &HookCx<'_, '_>) -> Plan {
    // "Source address is 0.0.0.0 - locally generated packet that is probably not supposed to be masqueraded."
    let unspecified = |addr: IpAddr| addr.is_ipv4() && addr.is_unspecified();
    if cx.ct.entry(cx.skb.ct).is_some_and(|e| unspecified(e.orig.src)) {
        return Plan::Keep;
    }
    let links = cx.ns.links();
    if !links.known || !links.addresses_known {
        return Plan::Unknown;
    }
    let (packet, sysctl) = (&cx.skb.packet, cx.ns.sysctl());
    let source = match packet.family() {
        Family::V4 => {
            // rt_nexthop: an IPv4 gateway, else the destination itself.
            let nexthop = cx.skb.nexthop.filter(IpAddr::is_ipv4).unwrap_or(packet.dst);
            inet_select_addr(links, &sysctl, cx.skb.oif, Some(nexthop), SCOPE_UNIVERSE)
        }
        Family::V6 => ipv6_dev_get_saddr(links, &sysctl, cx.skb.oif, packet.dst),
    };
    // "%s ate my IP address"
    source.map_or(Plan::Drop, |addr| {
        Plan::Range(
            Manip::Src,
            NatRange {
                addrs: Some((addr, addr)),
                masquerade: cx.skb.oif,
                ..range.clone()
            },
        )
    })
}

/// `nf_nat_redirect_ipv4`, `nf_nat_redirect_ipv6`
pub(in crate::stage::netfilter) fn redirect(range: &NatRange, cx: &HookCx<'_, '_>) -> Plan {
    let family = cx.skb.packet.family();
    let to = |addr: IpAddr| {
        Plan::Range(
            Manip::Dst,
            NatRange {
                addrs: Some((addr, addr)),
                ..range.clone()
            },
        )
    };
    if cx.hook == Hook::Output {
        return to(match family {
            Family::V4 => Ipv4Addr::LOCALHOST.into(),
            Family::V6 => Ipv6Addr::LOCALHOST.into(),
        });
    }
    if !cx.ns.links().addresses_known {
        return Plan::Unknown;
    }
    let Some(dev) = cx.skb.iif else { return Plan::Drop };
    first_address(dev, cx.skb.packet.dst, cx).map_or(Plan::Drop, to)
}

/// IPv4: the first address of the device, whatever its scope. IPv6: the first one that is usable and of
/// the scope of the packet's destination.
fn first_address(dev: IfIndex, dst: IpAddr, cx: &HookCx<'_, '_>) -> Option<IpAddr> {
    let mut addrs = cx
        .ns
        .links()
        .addresses_of(dev)
        .filter(|a| a.local.is_ipv4() == dst.is_ipv4());
    match dst {
        IpAddr::V4(_) => addrs.next().map(|a| a.local),
        IpAddr::V6(dst) => addrs
            .find(|a| match a.local {
                IpAddr::V6(own) => {
                    let mapped = own.to_ipv4_mapped().is_some();
                    !mapped && !a.tentative && !a.dadfailed && scope6(own) == scope6(dst)
                }
                IpAddr::V4(_) => false,
            })
            .map(|a| a.local),
    }
}

/// `tproxy_tg4`, `tproxy_tg6`: with a socket to hand the packet to it is marked and accepted, without one
/// it is dropped. That a program listening there asked for `IP_TRANSPARENT` is taken for granted.
pub(super) fn tproxy(here: &Here<'_, '_>, cx: &mut HookCx<'_, '_>, more: Vec<Evidence>) -> Act {
    let Target::Tproxy {
        port,
        addr,
        value,
        mask,
    } = here.rule.target
    else {
        return Act::Continue;
    };
    let Some(socket) = tproxy_socket(addr, port, here.key("tproxy"), cx) else {
        cx.sink.step(|| here.step(Some(RuleVerdict::Drop), more));
        return Act::End(Verdict::Drop { policy: false });
    };
    cx.sink.step(|| here.step(Some(RuleVerdict::Accept), more));
    act::set_mark(here, cx, (cx.skb.mark & !mask) ^ value);
    cx.skb.tproxy = Some(socket);
    Act::End(Verdict::Accept)
}

/// The socket that a packet can be handed to: at the address and port given, else at those of the device it came in by
/// and of the packet (`nf_tproxy_laddr4`, `nf_tproxy_laddr6`). `key` names the question whether it is transparent.
pub(in crate::stage::netfilter) fn tproxy_socket(
    addr: Option<IpAddr>,
    port: u16,
    key: String,
    cx: &mut HookCx<'_, '_>,
) -> Option<SocketAddr> {
    let packet = &cx.skb.packet;
    let (sport, dport) = (packet.sport()?, packet.dport()?);
    let own = cx.skb.iif.and_then(|dev| first_address(dev, packet.dst, cx));
    let query = SocketQuery {
        proto: packet.proto,
        src: packet.src,
        sport: (!sport.drawn).then_some(sport.value),
        dst: addr.or(own).unwrap_or(packet.dst),
        dport: if port == 0 { dport.value } else { port },
        iif: device::known_name(device::input(cx), cx),
        vrf_port: None,
    };
    // A socket that is not transparent is none, and `ss` does not tell.
    let asked = Unknown::Outside("whether the socket is transparent");
    let found = match cx.ns.sockets().lookup(&query) {
        SocketAnswer::Nobody => false,
        _ => cx.oracle.unknown(key, asked, 2) == 0,
    };
    found.then(|| SocketAddr::new(query.dst, query.dport))
}
