//! Netfilter hooks: conntrack, NAT and the base chains of every engine, by priority.

use super::walker::{Ended, Walker};
use crate::choice::Unknown;
use crate::packet::{L4, proto};
use crate::skb::{Ct, Dir, Skb};
use crate::stage::conntrack::Manip;
use crate::stage::nat;
use crate::stage::netfilter::{HookCx, Verdict, xt};
use crate::table::xt::BaseChain;
use crate::trace::{Answer, CtEvent, Hook, NsId, Outcome, Reason, Reject, What};

/// `NF_IP_PRI_CONNTRACK`
const CONNTRACK: i32 = -200;

/// One thing that runs at a hook.
#[derive(Clone, Copy)]
enum Item<'x, 's> {
    Track,
    /// The NAT core with the base chains that belong to it, by their own priority.
    Nat,
    Xt(BaseChain<'x, 's>),
}

/// `NF_DROP_ERR`: the first route was found when the program connected, so it is the send that fails.
/// TCP does not tell its program, and tries again until it times out.
fn connect_goes_on(mut ended: Box<Ended>) -> Box<Ended> {
    if ended.end.packet.proto == proto::TCP {
        ended.errno = None;
    }
    ended
}

impl Walker<'_, '_> {
    /// `nf_hook_slow`: runs everything that is registered at a hook. The packet comes back changed, or it
    /// has ended.
    pub(super) fn hook(&mut self, ns: NsId, hook: Hook, mut skb: Skb) -> Result<Skb, Box<Ended>> {
        let space = self.space(ns);
        let family = skb.packet.family();
        self.missing_tables(ns, hook, &skb)?;
        let mut items: Vec<(i32, Item<'_, '_>)> = Vec::new();
        let mut nat_chains: Vec<BaseChain<'_, '_>> = Vec::new();
        if matches!(hook, Hook::Prerouting | Hook::Output) {
            items.push((CONNTRACK, Item::Track));
        }
        if hook != Hook::Forward {
            let source = Manip::at(hook) == Manip::Src;
            items.push((if source { 100 } else { -100 }, Item::Nat));
        }
        for chain in space.xt().base_chains(family, hook) {
            if chain.is_nat() {
                nat_chains.push(chain);
            } else {
                items.push((chain.priority, Item::Xt(chain)));
            }
        }
        // Equal priorities run in the order they were registered; the sort is stable.
        items.sort_by_key(|(priority, _)| *priority);
        nat_chains.sort_by_key(|c| c.priority);
        for (_, item) in items {
            match item {
                Item::Track => self.track(ns, &mut skb),
                Item::Nat => {
                    let before = skb.packet.dst;
                    skb = self.nat(ns, hook, skb, &nat_chains)?;
                    if hook == Hook::Output && skb.packet.dst != before {
                        self.reroute(ns, &mut skb).map_err(connect_goes_on)?;
                    }
                }
                Item::Xt(chain) => {
                    let before = (skb.mark, skb.packet.src, skb.packet.dst, skb.packet.tos);
                    skb = self.run(ns, hook, skb, chain)?;
                    let after = (skb.mark, skb.packet.src, skb.packet.dst, skb.packet.tos);
                    if hook == Hook::Output && chain.reroutes() && before != after {
                        self.reroute(ns, &mut skb).map_err(connect_goes_on)?;
                    }
                }
            }
        }
        if matches!(hook, Hook::Postrouting | Hook::Input) {
            self.ct.confirm(&skb);
        }
        Ok(skb)
    }

    /// A save that nobody captured may hold a rule that ends this packet: it goes on if not, and if so the
    /// end is not known.
    fn missing_tables(&mut self, ns: NsId, _hook: Hook, skb: &Skb) -> Result<(), Box<Ended>> {
        let family = skb.packet.family();
        for missing in self.space(ns).xt().missing().iter().filter(|m| m.family == family) {
            let what = Unknown::Table(missing.artifact.clone());
            if self.oracle.unknown(format!("{}?", missing.artifact), what, 2) == 1 {
                self.step(What::NotCaptured(missing.artifact.clone()), None);
                return Err(self.ended(ns, skb.clone(), Outcome::Unknown, Reason::NotCaptured));
            }
        }
        Ok(())
    }

    fn track(&mut self, ns: NsId, skb: &mut Skb) {
        let space = self.space(ns);
        let Some(event) = self.ct.track(space, skb) else { return };
        let evidence = match event {
            CtEvent::Captured => self.ct.entry(skb.ct).and_then(|e| e.captured.clone()),
            _ => None,
        };
        self.step(What::Conntrack(event), evidence);
    }

    /// `nf_nat_inet_fn`: a connection's first packet asks the rules once for each kind of translation;
    /// every packet gets what was decided.
    fn nat(&mut self, ns: NsId, hook: Hook, mut skb: Skb, chains: &[BaseChain<'_, '_>]) -> Result<Skb, Box<Ended>> {
        let manip = Manip::at(hook);
        let icmp_error = matches!(skb.packet.l4, L4::Icmp { quoted: Some(_), .. });
        let ask = match skb.ct {
            Ct::Of { dir: Dir::Original, .. } if !icmp_error => {
                self.ct.entry(skb.ct).is_some_and(|e| !nat::done(e, manip))
            }
            _ => false,
        };
        if ask {
            for &chain in chains {
                skb = self.run(ns, hook, skb, chain)?;
                if self.ct.entry(skb.ct).is_some_and(|e| nat::done(e, manip)) {
                    break;
                }
            }
            nat::null_binding(&mut self.ct, &skb, manip);
        }
        nat::translate(&mut skb, &self.ct, hook, &mut self.sink);
        Ok(skb)
    }

    fn run(&mut self, ns: NsId, hook: Hook, mut skb: Skb, chain: BaseChain<'_, '_>) -> Result<Skb, Box<Ended>> {
        let mut cx = HookCx {
            ns: self.space(ns),
            hook,
            skb: &mut skb,
            ct: &mut self.ct,
            oracle: &mut self.oracle,
            sink: &mut self.sink,
        };
        let verdict = xt::run_base(chain, &mut cx);
        self.settle(ns, skb, verdict)
    }

    fn settle(&mut self, ns: NsId, skb: Skb, verdict: Verdict) -> Result<Skb, Box<Ended>> {
        match verdict {
            Verdict::Accept => Ok(skb),
            Verdict::Drop { policy } => {
                let reason = if policy { Reason::Policy } else { Reason::Rule };
                Err(self.ended(ns, skb, Outcome::Dropped, reason))
            }
            Verdict::Reject(how) => {
                let mut ended = self.ended(ns, skb, Outcome::Rejected, Reason::RejectRule);
                ended.reject = Some(how);
                ended.answer = Some(if how == Reject::TcpReset { Answer::Reset } else { Answer::Error(how) });
                Err(ended)
            }
            Verdict::Queue => Err(self.ended(ns, skb, Outcome::Unknown, Reason::Userspace)),
            Verdict::Unknown => Err(self.ended(ns, skb, Outcome::Unknown, Reason::NotModelled)),
        }
    }
}
