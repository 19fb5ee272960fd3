//! Netfilter hooks: conntrack, NAT and the base chains of every engine, by priority.

use std::cmp::Reverse;
use std::net::IpAddr;
use std::sync::Arc;

use knet_snapshot::id::{Family, IfIndex};

use super::ipvs::Passed;
use super::walker::{Ended, Walker};
use crate::choice::Unknown;
use crate::packet::{L4, proto};
use crate::skb::{Ct, CtState, Dir, Skb};
use crate::stage::conntrack::Manip;
use crate::stage::nat;
use crate::stage::netfilter::{HookCx, Verdict, nft, xt};
use crate::table::nft as nft_table;
use crate::table::xt as xt_table;
use crate::trace::{Answer, Assumption, CtEvent, Engine, Evidence, Hook, NsId, Outcome, Reason, Reject, What};
use crate::tri::Tri;
use crate::world::Netns;

/// `NF_IP_PRI_CONNTRACK`
pub(super) const CONNTRACK: i32 = -200;

/// A base chain of either engine.
#[derive(Clone, Copy)]
enum Base<'x, 's> {
    Xt(xt_table::BaseChain<'x, 's>),
    Nft(nft_table::BaseChain<'x, 's>),
}

impl Base<'_, '_> {
    fn is_nat(&self) -> bool {
        match self {
            Self::Xt(c) => c.is_nat(),
            Self::Nft(c) => c.is_nat(),
        }
    }

    fn reroutes(&self) -> bool {
        match self {
            Self::Xt(c) => c.reroutes(),
            Self::Nft(c) => c.reroutes(),
        }
    }
}

/// Where something runs: by priority, and of equal ones the last registered first
/// (`nf_hook_entries_grow`). Handles grow as tables and chains are made. Legacy tables have none: they are
/// taken to have been there first.
type Place = (i32, Reverse<(u64, u64)>);

/// One thing that runs at a hook.
enum Item<'x, 's> {
    Track,
    /// The NAT core, for the base chains of type `nat`.
    Nat,
    Chain(Base<'x, 's>),
    /// IPVS, for packets of real servers.
    IpvsOut,
    /// IPVS, for packets to virtual services.
    IpvsIn,
    /// ... and for errors about those that are forwarded (`ip_vs_forward_icmp`).
    IpvsErrors,
}

/// `ip_vs_ops4`: after the filters on the way in, right after NAT on the way out.
fn ipvs_items<'x, 's>(hook: Hook) -> Vec<(i32, Item<'x, 's>)> {
    match hook {
        Hook::Input => vec![(98, Item::IpvsOut), (99, Item::IpvsIn)],
        Hook::Output => vec![(-99, Item::IpvsOut), (-98, Item::IpvsIn)],
        Hook::Forward => vec![(99, Item::IpvsErrors), (100, Item::IpvsOut)],
        _ => Vec::new(),
    }
}

/// `NF_DROP_ERR`: the first route was found when the program connected, so it is the send that fails.
/// TCP does not tell its program, and tries again until it times out.
fn connect_goes_on(mut ended: Box<Ended>) -> Box<Ended> {
    if ended.end.packet.proto == proto::TCP {
        ended.errno = None;
    }
    ended
}

/// What `ipt_mangle_out` and `ip6t_mangle_out` compare: when it changes, the packet is routed again. IPv6 looks at the
/// hop limit as well.
fn route_key(skb: &Skb) -> (u32, IpAddr, IpAddr, u8, Option<u8>) {
    let p = &skb.packet;
    (skb.mark, p.src, p.dst, p.tos, p.dst.is_ipv6().then_some(p.ttl))
}

/// Every base chain at a hook with its place.
fn bases<'x, 's>(space: &'x Netns<'s>, family: Family, hook: Hook) -> Vec<(Place, Base<'x, 's>)> {
    let nft = space.nft();
    let own = match family {
        Family::V4 => nft_table::NfFamily::Ip,
        Family::V6 => nft_table::NfFamily::Ip6,
    };
    let mut out = Vec::new();
    for chain in space.xt().base_chains(family, hook) {
        // nft.json says when and at which priority a table of iptables-nft was registered.
        let known = (chain.table.engine == Engine::XtNft)
            .then(|| {
                nft.xt_bases()
                    .find(|b| b.family == own && *b.table == *chain.table.name && b.hook == hook)
            })
            .flatten();
        let place = known.map_or((chain.priority, (0, 0)), |b| (b.priority, b.registered));
        out.push(((place.0, Reverse(place.1)), Base::Xt(chain)));
    }
    for chain in nft.base_chains(family, hook) {
        let handle = chain.chain.decl.map_or(0, |(d, _)| d.handle);
        out.push((
            (chain.priority, Reverse((chain.table.handle, handle))),
            Base::Nft(chain),
        ));
    }
    out
}

impl Walker<'_, '_> {
    /// `nf_hook_slow`: runs everything that is registered at a hook. The packet comes back changed, or it
    /// has ended.
    pub(super) fn hook(&mut self, ns: NsId, hook: Hook, skb: Skb) -> Result<Skb, Box<Ended>> {
        match self.run_hook(ns, hook, skb)? {
            Passed::On(skb) | Passed::Taken(skb) => Ok(skb),
        }
    }

    /// The same for `LOCAL_IN` and `LOCAL_OUT`, where IPVS may take the packet.
    pub(super) fn run_hook(&mut self, ns: NsId, hook: Hook, mut skb: Skb) -> Result<Passed, Box<Ended>> {
        let space = self.space(ns);
        let family = skb.packet.family();
        self.missing_tables(ns, hook, &skb)?;
        let mut items: Vec<(Place, Item<'_, '_>)> = Vec::new();
        let mut nat_chains: Vec<(Place, Base<'_, '_>)> = Vec::new();
        for (place, base) in bases(space, family, hook) {
            if base.is_nat() {
                nat_chains.push((place, base));
            } else {
                items.push((place, Item::Chain(base)));
            }
        }
        if matches!(hook, Hook::Prerouting | Hook::Output) {
            items.push(((CONNTRACK, Reverse((u64::MAX, 0))), Item::Track));
        }
        if hook != Hook::Forward {
            // The core is registered with the first NAT chain and runs at a priority of its own, whatever
            // the chains say; theirs only orders them among each other.
            let priority = if Manip::at(hook) == Manip::Src { 100 } else { -100 };
            let first = nat_chains.iter().map(|(p, _)| p.1).max().unwrap_or(Reverse((0, 0)));
            items.push(((priority, first), Item::Nat));
        }
        if self.ipvs_here(ns) {
            for (priority, item) in ipvs_items(hook) {
                items.push(((priority, Reverse((u64::MAX, 0))), item));
            }
        }
        items.sort_by_key(|(place, _)| *place);
        nat_chains.sort_by_key(|(place, _)| *place);
        let nat_chains: Vec<Base<'_, '_>> = nat_chains.into_iter().map(|(_, base)| base).collect();
        // `nf_hook_state.out` is set when the hook begins: chains behind a reroute in OUTPUT still see the
        // first device.
        let first = skb.oif;
        for (_, item) in items {
            let routed = std::mem::replace(&mut skb.oif, first);
            match item {
                Item::Track => {
                    self.track(ns, &mut skb);
                    skb.oif = routed;
                }
                Item::IpvsOut => {
                    skb.oif = routed;
                    skb = self.ipvs_out(ns, hook, skb)?;
                }
                Item::IpvsIn => {
                    skb.oif = routed;
                    match self.ipvs_in(ns, hook, skb)? {
                        Passed::On(on) => skb = on,
                        taken => return Ok(taken),
                    }
                }
                Item::IpvsErrors => {
                    skb.oif = routed;
                    match self.ipvs_in_icmp(ns, hook, skb)? {
                        Passed::On(on) => skb = on,
                        taken => return Ok(taken),
                    }
                }
                Item::Nat => {
                    let before = skb.packet.dst;
                    skb = self.nat(ns, hook, skb, &nat_chains)?;
                    skb.oif = routed;
                    if hook == Hook::Output && skb.packet.dst != before {
                        self.reroute(ns, &mut skb).map_err(connect_goes_on)?;
                    }
                }
                Item::Chain(chain) => {
                    let before = route_key(&skb);
                    skb = self.run(ns, hook, skb, chain)?;
                    skb.oif = routed;
                    let after = route_key(&skb);
                    if hook == Hook::Output && chain.reroutes() && before != after {
                        self.reroute(ns, &mut skb).map_err(connect_goes_on)?;
                    }
                }
            }
        }
        if matches!(hook, Hook::Postrouting | Hook::Input) {
            self.ct.confirm(&skb);
        }
        Ok(Passed::On(skb))
    }

    /// Chains of a device, before anything else sees a frame that came in, or after everything for one
    /// that goes out (`nf_hook_ingress`, `nf_hook_egress`).
    pub(super) fn device_hook(&mut self, ns: NsId, hook: Hook, dev: IfIndex, mut skb: Skb) -> Result<Skb, Box<Ended>> {
        let space = self.space(ns);
        let name = space.links().name(dev);
        let inet = if hook == Hook::Ingress {
            Some(nft_table::NfFamily::Inet)
        } else {
            None
        };
        let families = [Some(nft_table::NfFamily::Netdev), inet];
        let chains: Vec<_> = families
            .into_iter()
            .flatten()
            .flat_map(|f| space.nft().base_chains_of(f, hook))
            .collect();
        for chain in chains {
            let devices = chain.devices();
            if devices.is_empty() {
                // The ruleset does not say for which device the chain is.
                let row = chain.chain.decl.map(|(_, at)| at).unwrap_or_default();
                let artifact = space.nft().artifact().clone();
                let evidence = Evidence {
                    artifact,
                    at: row,
                    handle: None,
                    text: chain.chain.name.clone(),
                };
                let key = format!("netdev {ns:?} {name} {}", chain.chain.name);
                if self.oracle.unknown(key, Unknown::Match(evidence), 2) == 1 {
                    continue;
                }
            } else if !devices
                .iter()
                .any(|d| d.strip_suffix('*').map_or(*d == name, |p| name.starts_with(p)))
            {
                continue;
            }
            let (iif, oif) = (skb.iif, skb.oif);
            if hook == Hook::Ingress {
                skb.iif = Some(dev);
            } else {
                skb.oif = Some(dev);
            }
            skb = self.run(ns, hook, skb, Base::Nft(chain))?;
            (skb.iif, skb.oif) = (iif, oif);
        }
        Ok(skb)
    }

    /// A save that nobody captured may hold a rule that ends this packet: it goes on if not, and if so the
    /// end is not known.
    fn missing_tables(&mut self, ns: NsId, hook: Hook, skb: &Skb) -> Result<(), Box<Ended>> {
        let space = self.space(ns);
        let family = skb.packet.family();
        let own = match family {
            Family::V4 => nft_table::NfFamily::Ip,
            Family::V6 => nft_table::NfFamily::Ip6,
        };
        let saves = space.xt().missing().iter().filter(|m| m.family == family).filter(|m| {
            let native = space.nft().missing().is_none();
            match (&m.what, m.engine) {
                // A table the tool cannot print is read from the native ruleset, when that was captured.
                (xt_table::MissingWhat::Incompatible(_), _) => !native,
                // The native ruleset lists the chains of iptables-nft, though not their rules.
                (_, Engine::XtNft) => !native || space.nft().xt_bases().any(|b| b.family == own && b.hook == hook),
                _ => !self.world.no_legacy_tables(ns, family),
            }
        });
        // Nothing in the node's own legacy tables says that its tools use the other back end; programs in pods
        // have the node's kernel and rarely another tool.
        let host = self.space(self.world.host_of(ns));
        let of_family = |xt: &xt_table::Xt<'_>, engine: Engine| {
            xt.missing().iter().any(|m| m.family == family && m.engine == engine)
        };
        let none_here = host.id != ns
            && !of_family(space.xt(), Engine::XtNft)
            && !of_family(host.xt(), Engine::XtLegacy)
            && !host
                .xt()
                .tables()
                .iter()
                .any(|t| t.family == family && t.engine == Engine::XtLegacy);
        let (assumed, saves): (Vec<_>, Vec<_>) = saves.partition(|m| none_here && m.engine == Engine::XtLegacy);
        self.assumptions
            .extend(assumed.iter().map(|m| Assumption::NoLegacyTables(m.artifact.clone())));
        for missing in saves {
            self.missing_table(ns, &missing.artifact, skb)?;
        }
        self.missing_native(ns, skb)
    }

    /// The same for native tables, which frames on bridges and ARP meet as well.
    pub(super) fn missing_native(&mut self, ns: NsId, skb: &Skb) -> Result<(), Box<Ended>> {
        let nft = self.space(ns).nft();
        match nft.missing() {
            Some(_) => self.missing_table(ns, nft.artifact(), skb),
            None => Ok(()),
        }
    }

    /// A table that was not captured, or not in full: it has nothing for this packet, or nobody knows what.
    pub(super) fn missing_table(&mut self, ns: NsId, artifact: &Arc<str>, skb: &Skb) -> Result<(), Box<Ended>> {
        let what = Unknown::Table(artifact.clone());
        if self.oracle.unknown(format!("{artifact}?"), what, 2) == 0 {
            return Ok(());
        }
        self.step(What::NotCaptured(artifact.clone()), None);
        Err(self.ended(ns, skb.clone(), Outcome::Unknown, Reason::NotCaptured))
    }

    pub(super) fn track(&mut self, ns: NsId, skb: &mut Skb) {
        let space = self.space(ns);
        match space.tracks(skb.packet.family()) {
            Tri::Yes => {}
            Tri::No => return,
            Tri::Unknown if !self.tracks_perhaps(ns, skb.packet.family()) => return,
            Tri::Unknown => {}
        }
        let Some(event) = self.ct.track(space, skb) else { return };
        let evidence = match event {
            CtEvent::Captured => self
                .ct
                .entry(skb.ct)
                .and_then(|e| Some(e.captured.as_ref()?.row.clone())),
            _ => None,
        };
        self.step(What::Conntrack(event), evidence);
    }

    /// It matters only to nat chains, and to connections that were captured.
    fn tracks_perhaps(&mut self, ns: NsId, family: Family) -> bool {
        let space = self.space(ns);
        let hooks = [Hook::Prerouting, Hook::Input, Hook::Output, Hook::Postrouting];
        let nat = hooks
            .iter()
            .any(|&h| bases(space, family, h).iter().any(|(_, b)| b.is_nat()));
        let what = Unknown::Outside("whether conntrack is on");
        !nat || self.oracle.unknown(format!("conntrack {ns:?} {family:?}"), what, 2) == 0
    }

    /// `nf_nat_inet_fn`: a connection's first packet asks the rules once for each kind of translation;
    /// every packet gets what was decided.
    fn nat(&mut self, ns: NsId, hook: Hook, mut skb: Skb, chains: &[Base<'_, '_>]) -> Result<Skb, Box<Ended>> {
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
            nat::null_binding(self.space(ns), &mut self.ct, &skb, manip);
        }
        if !icmp_error && hook == Hook::Postrouting && self.masquerade_moved(ns, &skb) {
            return Err(self.ended(ns, skb, Outcome::Dropped, Reason::MasqueradeMoved));
        }
        nat::translate(&mut skb, &self.ct, hook, &mut self.sink);
        Ok(skb)
    }

    /// `nf_nat_oif_changed`: the packet is dropped, and its connection forgotten. A captured connection does not show
    /// whether it was masqueraded, and for which device only by its address.
    fn masquerade_moved(&mut self, ns: NsId, skb: &Skb) -> bool {
        let Ct::Of {
            entry,
            dir: Dir::Original,
            state: CtState::Established | CtState::New,
        } = skb.ct
        else {
            return false;
        };
        let (Some(entry), Some(oif)) = (self.ct.entries().get(entry), skb.oif) else {
            return false;
        };
        if entry.masquerade.is_some() || entry.captured.is_none() {
            return entry.masquerade.is_some_and(|dev| dev != oif);
        }
        let links = self.space(ns).links();
        let address = entry.reply.dst;
        let elsewhere = links.owner(address).is_some() && !links.addresses_of(oif).any(|a| a.local == address);
        if !entry.snat || !elsewhere {
            return false;
        }
        let what = Unknown::Outside("for which device a connection was masqueraded");
        self.oracle.unknown(format!("masquerade {ns:?} {oif:?}"), what, 2) == 1
    }

    /// One chain of native nftables.
    pub(super) fn run_nft(
        &mut self,
        ns: NsId,
        hook: Hook,
        skb: Skb,
        chain: nft_table::BaseChain<'_, '_>,
    ) -> Result<Skb, Box<Ended>> {
        self.run(ns, hook, skb, Base::Nft(chain))
    }

    fn run(&mut self, ns: NsId, hook: Hook, mut skb: Skb, chain: Base<'_, '_>) -> Result<Skb, Box<Ended>> {
        let mut cx = HookCx {
            ns: self.space(ns),
            hook,
            skb: &mut skb,
            ct: &mut self.ct,
            oracle: &mut self.oracle,
            sink: &mut self.sink,
        };
        let verdict = match chain {
            Base::Xt(chain) => xt::run_base(chain, &mut cx),
            Base::Nft(chain) => nft::run_base(chain, &mut cx),
        };
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
                ended.answer = Some(if how == Reject::TcpReset {
                    Answer::Reset
                } else {
                    Answer::Error(how)
                });
                Err(ended)
            }
            Verdict::Queue => Err(self.ended(ns, skb, Outcome::Unknown, Reason::Userspace)),
            Verdict::Unknown => Err(self.ended(ns, skb, Outcome::Unknown, Reason::NotModelled)),
            Verdict::NotCaptured => Err(self.ended(ns, skb, Outcome::Unknown, Reason::NotCaptured)),
        }
    }
}
