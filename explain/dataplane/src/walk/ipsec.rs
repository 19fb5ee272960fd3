//! IPsec: policies and states (`xfrm_lookup`, `xfrm_input`, `__xfrm_policy_check`).

mod device;

pub(super) use device::KIND as XFRM;

use std::net::IpAddr;

use knet_snapshot::artifact::name;
use knet_snapshot::id::IfIndex;
use knet_snapshot::row::Table;
use knet_snapshot::xfrm::{Direction, Policy, State, Template, Xfrm};

use super::overlay::{inner_of, outer_of};
use super::walker::{At, Ended, Next, Source, Walker};
use crate::packet::{Encapsulated, L4, Packet, proto};
use crate::skb::Skb;
use crate::table::source::vrf_of;
use crate::trace::{Assumption, Evidence, NsId, Outcome, Reason, Stage, What};

/// ESP header, an IV, padding, trailer and tag of the usual algorithms; the exact size is the algorithm's.
const OVERHEAD: u16 = 37;

/// `xfrm_policy_match`: `if_id` is that of the xfrm device, 0 without one.
fn selects(policy: &Policy, dir: Direction, if_id: u32, skb: &Skb) -> bool {
    let packet = &skb.packet;
    let holds = |net: &Option<ipnet::IpNet>, addr: IpAddr| net.is_none_or(|net| net.contains(&addr));
    policy.dir == Some(dir)
        && policy.if_id == if_id
        && skb.mark & policy.mark.1 == policy.mark.0
        && holds(&policy.src, packet.src)
        && holds(&policy.dst, packet.dst)
        && policy.proto.is_none_or(|p| p == packet.proto)
}

/// `xfrm_policy_lookup`: the lowest priority wins, of equal ones the older. `ip` prints the newest first.
fn lookup<'t>(table: &'t Table<Xfrm>, dir: Direction, if_id: u32, skb: &Skb) -> Option<&'t Policy> {
    let policies = table.rows.iter().filter_map(|row| match row {
        Xfrm::Policy(policy) => Some(policy),
        Xfrm::State(_) => None,
    });
    policies
        .filter(|p| selects(p, dir, if_id, skb))
        .min_by_key(|p| (p.priority, std::cmp::Reverse(p.at)))
}

fn state(table: &Table<Xfrm>, fits: impl Fn(&State) -> bool) -> Option<&State> {
    table.rows.iter().find_map(|row| match row {
        Xfrm::State(state) if fits(state) => Some(state),
        _ => None,
    })
}

fn policy_evidence(table: &Table<Xfrm>, policy: &Policy) -> Evidence {
    let any = |net: &Option<ipnet::IpNet>| net.map_or_else(|| "any".to_owned(), |n| n.to_string());
    let dir = match policy.dir {
        Some(Direction::Out) => "out",
        Some(Direction::In) => "in",
        Some(Direction::Forward) => "fwd",
        None => "socket",
    };
    let action = if policy.block { " action block" } else { "" };
    let text = format!(
        "src {} dst {} dir {dir} priority {}{action}",
        any(&policy.src),
        any(&policy.dst),
        policy.priority
    );
    Evidence {
        artifact: table.artifact.clone(),
        at: policy.at,
        handle: None,
        text: text.into(),
    }
}

fn state_evidence(table: &Table<Xfrm>, state: &State) -> Evidence {
    let addr = |a: Option<IpAddr>| a.map_or_else(|| "any".to_owned(), |a| a.to_string());
    let text = format!(
        "src {} dst {} spi {:#010x} reqid {}",
        addr(state.src),
        addr(state.dst),
        state.spi,
        state.reqid
    );
    Evidence {
        artifact: table.artifact.clone(),
        at: state.at,
        handle: None,
        text: text.into(),
    }
}

/// `xfrm_smark_get`: the mark that a state gives to what it sealed or opened.
fn smark(state: &State, before: u32) -> Option<u32> {
    let (value, mask) = state.output_mark?;
    Some(value & mask | before & !mask)
}

/// What is to become of a packet that goes out.
enum Way<'t> {
    /// No policy is about it.
    Plain,
    /// A policy forbids it.
    Blocked(Evidence),
    /// A policy wants it sealed, and there is nothing to seal it with.
    NoState(Evidence),
    Sealed(Seal<'t>),
}

/// How it is sealed: the state, the addresses of the outer packet, and the rows of policy and state.
struct Seal<'t> {
    state: &'t State,
    src: IpAddr,
    dst: IpAddr,
    rows: [Evidence; 2],
}

/// What of a policy is not modelled.
fn beyond(policy: &Policy, table: &Table<Xfrm>) -> bool {
    let odd = |t: &Template| t.proto != proto::ESP || t.unread;
    policy.unread || policy.templates.len() > 1 || policy.templates.iter().any(odd) || !table.problems.is_empty()
}

impl Walker<'_, '_> {
    fn ipsec_not_modelled(&mut self, ns: NsId, skb: Skb, row: Evidence) -> Box<Ended> {
        self.step(What::Undecided, Some(row));
        self.ended(ns, skb, Outcome::Unknown, Reason::NotModelled)
    }

    /// Nobody looked for policies here. There are some perhaps where others of its kind have them.
    fn no_policies(&mut self, ns: NsId, skb: Skb) -> Result<Skb, Box<Ended>> {
        let path = self.space(ns).facts.path(name::XFRM);
        let host = self.world.host_of(ns) == ns;
        if self.world.seals(host) {
            self.missing_table(ns, &path, &skb)?;
        } else if host {
            self.assumptions.insert(Assumption::NoPolicies(path));
        }
        Ok(skb)
    }

    /// `xfrm_lookup` and `xfrm_output`, after POSTROUTING: the packet goes on as it is, or sealed.
    pub(super) fn ipsec_output(&mut self, ns: NsId, skb: Skb) -> Result<Result<At, Skb>, Box<Ended>> {
        let Some(table) = self.space(ns).facts.xfrm().get() else {
            return self.no_policies(ns, skb).map(Err);
        };
        if table.rows.is_empty() && table.problems.is_empty() {
            return Ok(Err(skb));
        }
        // What was sealed has its route already.
        if skb.packet.proto == proto::ESP && skb.packet.inner.is_some() {
            return Ok(Err(skb));
        }
        match self.ipsec_way(ns, table, 0, &skb)? {
            Way::Plain => Ok(Err(skb)),
            Way::Blocked(row) => {
                let mut ended = self.ended(ns, skb, Outcome::Dropped, Reason::Policy);
                ended.end.evidence = vec![row];
                Err(ended)
            }
            Way::NoState(row) => {
                let mut ended = self.ended(ns, skb, Outcome::Dropped, Reason::NoTunnelRemote);
                ended.end.evidence = vec![row];
                Err(ended)
            }
            Way::Sealed(seal) => Ok(Ok(self.ipsec_seal(ns, skb, seal, None))),
        }
    }

    /// `xfrm_lookup`: what the policies of this namespace, or of a device of it, want of a packet that goes out.
    fn ipsec_way<'t>(
        &mut self,
        ns: NsId,
        table: &'t Table<Xfrm>,
        if_id: u32,
        skb: &Skb,
    ) -> Result<Way<'t>, Box<Ended>> {
        let Some(policy) = lookup(table, Direction::Out, if_id, skb) else {
            return Ok(Way::Plain);
        };
        let row = policy_evidence(table, policy);
        if beyond(policy, table) {
            return Err(self.ipsec_not_modelled(ns, skb.clone(), row));
        }
        if policy.block {
            return Ok(Way::Blocked(row));
        }
        let Some(template) = policy.templates.first() else {
            return Ok(Way::Plain);
        };
        let packet = &skb.packet;
        let src = template.src.unwrap_or(packet.src);
        let dst = template.dst.unwrap_or(packet.dst);
        let fits = |s: &State| {
            s.dst == Some(dst)
                && s.src.is_none_or(|a| a.is_unspecified() || a == src)
                && s.proto == template.proto
                && s.tunnel == template.tunnel
                && (template.reqid == 0 || s.reqid == template.reqid)
                && template.spi.is_none_or(|spi| spi == s.spi)
                && s.if_id == if_id
                && skb.mark & s.mark.1 == s.mark.0
                && s.sel
                    .is_none_or(|(src, dst)| src.contains(&packet.src) && dst.contains(&packet.dst))
        };
        let Some(state) = state(table, fits) else {
            return Ok(if template.optional {
                Way::Plain
            } else {
                Way::NoState(row)
            });
        };
        if state.udp.is_some() || state.unread {
            return Err(self.ipsec_not_modelled(ns, skb.clone(), row));
        }
        let rows = [row, state_evidence(table, state)];
        Ok(Way::Sealed(Seal { state, src, dst, rows }))
    }

    /// `xfrm_output`: the packet is wrapped and goes out anew, by the route it has or, with another address, by that
    /// of the tunnel in the VRF of its device (`xfrm_bundle_create`); `below` is the one below an xfrm device.
    fn ipsec_seal(&mut self, ns: NsId, skb: Skb, seal: Seal<'_>, below: Option<IfIndex>) -> At {
        let Seal { state, src, dst, rows } = seal;
        let packet = &skb.packet;
        let outer_header = match (state.tunnel, dst) {
            (false, _) => 0,
            (true, IpAddr::V4(_)) => 20,
            (true, IpAddr::V6(_)) => 40,
        };
        let outer = Packet {
            src,
            dst,
            proto: proto::ESP,
            l4: L4::Other,
            ttl: if state.tunnel { 64 } else { packet.ttl },
            tos: packet.tos,
            len: packet.len.saturating_add(OVERHEAD + outer_header),
            df: packet.df,
            inner: Some(Box::new(Encapsulated {
                eth: None,
                key: Some(state.spi),
                noise: None,
                arp: None,
                packet: packet.clone(),
            })),
        };
        if let Some(dev) = skb.oif {
            let encap = What::Encap {
                dev,
                local: Some(src),
                remote: Some(dst),
                key: Some(state.spi),
            };
            self.step(encap, rows);
        }
        self.leave(skb.oif, &skb.packet);
        self.wrapped(&skb.packet, &outer);
        let (oif, nexthop) = (skb.oif, skb.nexthop);
        let bound = below.or(oif).and_then(|dev| vrf_of(self.space(ns).links(), dev));
        let mark = smark(state, skb.mark);
        let sealed = outer_of(skb, outer);
        let sealed = Skb {
            mark: mark.unwrap_or(sealed.mark),
            ..sealed
        };
        if state.tunnel {
            At::Send {
                ns,
                skb: Skb { bound, ..sealed },
                source: Source::Sealed { marked: mark.is_some() },
            }
        } else {
            At::Send {
                ns,
                skb: Skb { oif, nexthop, ..sealed },
                source: Source::Routed,
            }
        }
    }

    /// `xfrm_input`: the state of the SPI opens the packet, which comes in again.
    pub(super) fn ipsec_receive(&mut self, ns: NsId, skb: Skb) -> Next {
        let Some(table) = self.space(ns).facts.xfrm().get() else {
            return Err(self.not_captured(ns, skb, name::XFRM));
        };
        let (Some(inner), Some(dev)) = (skb.packet.inner.as_deref(), skb.iif) else {
            return Err(self.ended(ns, skb, Outcome::Dropped, Reason::NoTunnelDevice));
        };
        let packet = &skb.packet;
        let fits = |s: &State| {
            Some(s.spi) == inner.key
                && s.dst == Some(packet.dst)
                && s.proto == proto::ESP
                && skb.mark & s.mark.1 == s.mark.0
        };
        let Some(sa) = state(table, fits) else {
            return Err(self.ended(ns, skb, Outcome::Dropped, Reason::NoTunnelDevice));
        };
        let row = state_evidence(table, sa);
        // The selector and the mode of the sender are the sender's; a packet sealed in one mode cannot be
        // opened in the other.
        let tunnelled = (inner.packet.src, inner.packet.dst) != (packet.src, packet.dst);
        if tunnelled != sa.tunnel || sa.unread {
            return Err(self.ipsec_not_modelled(ns, skb, row));
        }
        let decapped = Skb {
            eth: None,
            mark: smark(sa, skb.mark).unwrap_or(skb.mark),
            ..inner_of(&skb, inner)
        };
        self.step(What::Decap { dev }, Some(row));
        self.unwrapped(&skb.packet, &inner.packet);
        self.stage(Stage::Decap);
        self.leave(None, &skb.packet);
        self.secpath = Some((ns, sa.clone()));
        let dev = self.xfrm_device(ns, sa.if_id).unwrap_or(dev);
        Ok(At::Receive { ns, dev, skb: decapped })
    }

    /// `__xfrm_policy_check`: what a policy demands must have been done to the packet, and what was opened
    /// from a tunnel must have a policy.
    pub(super) fn ipsec_check(&mut self, ns: NsId, dir: Direction, skb: Skb) -> Result<Skb, Box<Ended>> {
        let path = self
            .secpath
            .as_ref()
            .filter(|(at, _)| *at == ns)
            .map(|(_, s)| s.clone());
        let Some(table) = self.space(ns).facts.xfrm().get() else {
            return self.no_policies(ns, skb);
        };
        if table.rows.is_empty() {
            return Ok(skb);
        }
        let lo = skb
            .iif
            .and_then(|dev| self.link(ns, dev))
            .is_some_and(|l| l.flags.loopback);
        if lo || skb.packet.proto == proto::ESP {
            return Ok(skb);
        }
        // "xfrm_selector_match": what was opened must be what the state is for. All is all, of either family.
        let within = |net: ipnet::IpNet, addr| net.prefix_len() == 0 || net.contains(&addr);
        if let Some(sa) = &path
            && let Some((src, dst)) = sa.sel
            && !(within(src, skb.packet.src) && within(dst, skb.packet.dst))
        {
            let row = state_evidence(table, sa);
            let mut ended = self.ended(ns, skb, Outcome::Dropped, Reason::Policy);
            ended.end.evidence = vec![row];
            return Err(ended);
        }
        let if_id = path.as_ref().map_or(0, |_| self.xfrm_id(ns, &skb));
        let Some(policy) = lookup(table, dir, if_id, &skb) else {
            return if path.is_some_and(|s| s.tunnel) {
                Err(self.ended(ns, skb, Outcome::Dropped, Reason::Policy))
            } else {
                Ok(skb)
            };
        };
        let row = policy_evidence(table, policy);
        if beyond(policy, table) {
            return Err(self.ipsec_not_modelled(ns, skb, row));
        }
        let done = |t: &Template| {
            t.optional
                || path.as_ref().is_some_and(|s| {
                    s.tunnel == t.tunnel
                        && (if_id == 0 || s.if_id == if_id)
                        && (t.reqid == 0 || s.reqid == t.reqid)
                        && (!t.tunnel
                            || (t.src.is_none_or(|a| s.src == Some(a)) && t.dst.is_none_or(|a| s.dst == Some(a))))
                })
        };
        if policy.block || !policy.templates.iter().all(done) {
            let mut ended = self.ended(ns, skb, Outcome::Dropped, Reason::Policy);
            ended.end.evidence = vec![row];
            return Err(ended);
        }
        Ok(skb)
    }
}

#[cfg(test)]
mod tests;
