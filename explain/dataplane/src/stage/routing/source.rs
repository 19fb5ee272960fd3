//! `fib_validate_source`: may this source come in by this device?

use std::net::{IpAddr, Ipv4Addr};

use knet_snapshot::id::{Family, IfIndex};
use knet_snapshot::route::RouteKind;

use super::Cx;
use crate::skb::Skb;
use crate::table::fib::{Answer, Depth, Lookup, Query};
use crate::table::source::{has_address, vrf_of};
use crate::trace::{Evidence, Reason};

/// A source address that is refused, or about which nothing can be said.
pub(super) enum Invalid {
    Refused(Reason, Vec<Evidence>),
    Unknown(&'static str),
}

/// The three levels of `rp_filter`.
const OFF: i64 = 0;
const STRICT: i64 = 1;

impl Cx<'_, '_> {
    /// Ordered as the kernel has it: without `rp_filter` a quick look whether the source is this host's own;
    /// otherwise the route back, which must not be this host's own address (`accept_local`), and must leave
    /// by the device the packet came in by (strict) or exist at all (loose).
    ///
    /// `dst` is unset for a broadcast; `oif` is the device a forwarded packet leaves by.
    pub(super) fn validate_source(
        &mut self,
        skb: &Skb,
        dst: Option<IpAddr>,
        oif: Option<IfIndex>,
    ) -> Result<(), Invalid> {
        let dev = self.name(skb.iif);
        let key = format!("net.ipv4.conf.{dev}.rp_filter");
        let level = self.ns.sysctl().conf4_max(dev, "rp_filter");
        let Some(level) = level else {
            // Not captured: a fork only when it decides.
            let steps = self.sink.steps.len();
            let mut results: Vec<_> = [OFF, STRICT, 2]
                .into_iter()
                .map(|l| self.check_source(skb, dst, oif, l))
                .collect();
            self.sink.steps.truncate(steps);
            let verdict = |r: &Result<(), Invalid>| r.is_ok();
            if results.iter().any(|r| verdict(r) != verdict(&results[0])) {
                let i = self.ask_sysctl(&key, None, &[OFF, STRICT, 2]);
                return self.check_source(skb, dst, oif, i);
            }
            return results.swap_remove(0);
        };
        let mut result = self.check_source(skb, dst, oif, level);
        if let Err(Invalid::Refused(Reason::RpFilter, rows)) = &mut result {
            self.sysctl(&key, Some(level));
            rows.splice(0..0, self.ns.sysctl().evidence(&key));
        }
        result
    }

    fn check_source(
        &mut self,
        skb: &Skb,
        dst: Option<IpAddr>,
        oif: Option<IfIndex>,
        level: i64,
    ) -> Result<(), Invalid> {
        let dev = self.name(skb.iif);
        let src = skb.packet.src;
        let accept_local = self.dev_or(dev, "accept_local");
        if level == OFF && !self.may_redirect(dev, skb.iif, oif) {
            if accept_local {
                return Ok(());
            }
            // The quick look is not enough with rules, or with local routes of somebody's own.
            let fib = self.ns.fib();
            if fib.has_custom_rules(Family::V4) != Some(true) && !fib.has_custom_local_routes() {
                return match self.ns.links() {
                    links if !links.addresses_known => Err(Invalid::Unknown("addr.json")),
                    links if links.owner(src).is_some() => Err(Invalid::Refused(Reason::Martian, Vec::new())),
                    _ => Ok(()),
                };
            }
        }
        let mark = if self.dev_or(dev, "src_valid_mark") {
            skb.mark
        } else {
            0
        };
        let back = Query {
            dst: src,
            src: dst.or(Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED))),
            iif: oif,
            oif: None,
            l3: self.vrf_of(skb.iif),
            bound: false,
            mark,
            tos: skb.packet.tos,
            proto: skb.packet.proto,
            sport: skb.packet.dport().map(|p| p.value),
            dport: skb.packet.sport().map(|p| p.value),
            uid: Some(0),
        };
        let any_path = Depth {
            any_path: true,
            ignore_linkstate: false,
        };
        let lookup = self.ns.fib().lookup_to(&back, any_path, self.oracle);
        if let Answer::Unknown(what) = lookup.answer {
            return Err(Invalid::Unknown(what));
        }
        let failed = |this: &mut Self, lookup: &Lookup<'_>| {
            this.record(lookup, None);
            Err(Invalid::Refused(Reason::RpFilter, lookup.evidence.clone()))
        };
        let hit = match &lookup.answer {
            Answer::Route(hit)
                if matches!(
                    hit.kind,
                    RouteKind::Blackhole | RouteKind::Unreachable | RouteKind::Prohibit
                ) =>
            {
                None
            }
            Answer::Route(hit) => Some(hit),
            _ => None,
        };
        // `last_resort`: no way back is a failure only when somebody asked.
        let Some(hit) = hit else {
            return if level == OFF { Ok(()) } else { failed(self, &lookup) };
        };
        if hit.kind != RouteKind::Unicast && (hit.kind != RouteKind::Local || !accept_local) {
            self.record(&lookup, None);
            return Err(Invalid::Refused(Reason::Martian, lookup.evidence));
        }
        // Any next hop will do, whichever the hash would pick.
        let links = self.ns.links();
        let uses = |hop: IfIndex| Some(hop) == skb.iif || vrf_of(links, hop).is_some_and(|m| Some(m) == skb.iif);
        let loopback = skb.iif.and_then(|i| links.get(i)).is_some_and(|l| l.flags.loopback);
        if hit.hops.iter().filter_map(|h| h.oif).any(uses) || (hit.kind == RouteKind::Local && loopback) {
            return Ok(());
        }
        if hit.hops.iter().any(|h| h.oif.is_none()) && level != OFF {
            return Err(Invalid::Unknown("link.json"));
        }
        let no_address = links.addresses_known && skb.iif.is_some_and(|i| !has_address(links, i, Family::V4));
        if (no_address && level != OFF) || level == STRICT {
            return failed(self, &lookup);
        }
        Ok(())
    }

    /// The packet goes back out where it came in, and its sender may have to be told of a better way.
    fn may_redirect(&self, dev: &str, iif: Option<IfIndex>, oif: Option<IfIndex>) -> bool {
        oif.is_some() && oif == iif && self.ns.sysctl().conf4_or(dev, "send_redirects") != Some(false)
    }
}
