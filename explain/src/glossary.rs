//! Collects the names of everything a trace holds by number.

use knet_dataplane::table::link::Links;
use knet_dataplane::trace::{Branch, End, Evidence, FdbTo, Hop, NsId, Place, Step, What};
use knet_dataplane::world::World;
use knet_snapshot::Snapshot;
use knet_snapshot::id::{Family, IfIndex};

use crate::explanation::{ChainNote, Cite, Device, Glossary, RouteNote};
use crate::names::Names;
use crate::{owner, service_chain};

/// Builds a glossary. `evidence` says whether lines are wanted: counting them in a large file costs.
pub struct Builder<'a, 's> {
    world: &'a World<'s>,
    names: &'a Names<'s>,
    evidence: bool,
    glossary: Glossary,
}

impl<'a, 's> Builder<'a, 's> {
    /// An empty glossary.
    pub fn new(world: &'a World<'s>, names: &'a Names<'s>, evidence: bool) -> Self {
        Self {
            world,
            names,
            evidence,
            glossary: Glossary::default(),
        }
    }

    /// Everything collected.
    pub fn finish(self) -> Glossary {
        self.glossary
    }

    /// Names of one branch.
    pub fn branch(&mut self, branch: &Branch) {
        self.end(&branch.end);
        self.hops(&branch.hops);
        if let Some(reply) = &branch.reply {
            self.end(&reply.end);
            self.hops(&reply.hops);
        }
        if let Some(followup) = &branch.followup {
            self.end(&followup.end);
            self.hops(&followup.hops);
        }
        for taken in &branch.path {
            if let Some(evidence) = &taken.evidence {
                self.evidence(evidence);
            }
            if let knet_dataplane::choice::Fork::Unknown(
                knet_dataplane::choice::Unknown::Match(evidence)
                | knet_dataplane::choice::Unknown::Target(evidence)
                | knet_dataplane::choice::Unknown::Program(evidence),
            ) = &taken.fork
            {
                self.evidence(evidence);
            }
        }
    }

    fn end(&mut self, end: &End) {
        let Place { ns, oif } = end.place;
        if let Some(ns) = ns {
            self.place(ns);
            if let Some(oif) = oif {
                self.device(ns, oif);
            }
        }
        self.address(end.packet.src);
        self.address(end.packet.dst);
        for evidence in &end.evidence {
            self.evidence(evidence);
        }
    }

    fn hops(&mut self, hops: &[Hop]) {
        for hop in hops {
            self.place(hop.ns);
            for dev in [hop.iif, hop.oif].into_iter().flatten() {
                self.device(hop.ns, dev);
            }
            self.address(hop.packet.src);
            self.address(hop.packet.dst);
            for step in &hop.steps {
                self.step(hop.ns, step);
            }
        }
    }

    fn step(&mut self, ns: NsId, step: &Step) {
        for evidence in &step.evidence {
            self.evidence(evidence);
        }
        match &step.what {
            What::Rule {
                engine, table, chain, ..
            }
            | What::Policy {
                engine, table, chain, ..
            } => {
                let key = (*engine, table.clone(), chain.clone());
                let note = self.glossary.chains.entry(key).or_default();
                if note.owner.is_none() {
                    note.owner = owner::of_chain(*engine, table, chain);
                    note.role = service_chain::role(chain);
                }
                if note.service.is_none() {
                    // A chain of one service: any rule in it that has a comment names the service.
                    let single = note.role.is_some_and(|role| {
                        !matches!(role, service_chain::Role::Services | service_chain::Role::NodePorts)
                    });
                    let by_comment = || {
                        step.evidence
                            .iter()
                            .find_map(|e| service_chain::of_comment(&e.text))
                            .filter(|_| single)
                    };
                    note.service = service_chain::of_nft_chain(chain)
                        .map(|(port, _)| port)
                        .or_else(by_comment);
                }
                // A rule that jumps to a service's chain names that chain.
                if let What::Rule {
                    verdict: Some(verdict), ..
                } = &step.what
                {
                    self.jump(*engine, table, verdict, &step.evidence);
                }
            }
            What::Nat { from, to, .. } => {
                self.address(from.0);
                self.address(to.0);
            }
            What::Route { via, oif, prefsrc, .. } => {
                for addr in [via, prefsrc].into_iter().flatten() {
                    self.address(*addr);
                }
                if let Some(oif) = oif {
                    self.device(ns, *oif);
                }
                self.route(ns, step);
            }
            What::Neighbour { addr, .. } => self.address(*addr),
            What::Ipvs { server, .. } => {
                if let Some((addr, _)) = server {
                    self.address(*addr);
                }
            }
            What::Answered { addr, by, dev, .. } => {
                self.address(*addr);
                self.place(*by);
                self.device(*by, *dev);
            }
            What::Fdb { to, .. } => match to {
                FdbTo::Local => {}
                FdbTo::Port(dev) => self.device(ns, *dev),
                FdbTo::Flood(devs) => devs.iter().for_each(|dev| self.device(ns, *dev)),
            },
            What::Cross { to, dev } => {
                self.place(*to);
                self.device(*to, *dev);
            }
            What::Encap { dev, local, remote, .. } => {
                self.device(ns, *dev);
                for addr in [local, remote].into_iter().flatten() {
                    self.address(*addr);
                }
            }
            What::Decap { dev } | What::Mtu { dev, .. } => self.device(ns, *dev),
            What::Rewrite(_)
            | What::Conntrack(_)
            | What::RouteRule { .. }
            | What::NoRoute
            | What::Sysctl { .. }
            | What::Socket { .. }
            | What::Program { .. }
            | What::Reroute
            | What::NotCaptured(_)
            | What::Undecided => {}
        }
    }

    fn jump(
        &mut self,
        engine: knet_dataplane::trace::Engine,
        table: &std::sync::Arc<str>,
        verdict: &knet_dataplane::trace::RuleVerdict,
        evidence: &[Evidence],
    ) {
        use knet_dataplane::trace::RuleVerdict::{Goto, Jump};
        let (Jump(target) | Goto(target)) = verdict else { return };
        let single = service_chain::role(target)
            .is_some_and(|r| !matches!(r, service_chain::Role::Services | service_chain::Role::NodePorts));
        let service = evidence
            .iter()
            .find_map(|e| service_chain::of_comment(&e.text))
            .filter(|_| single);
        let note = self
            .glossary
            .chains
            .entry((engine, table.clone(), target.clone()))
            .or_insert_with(|| ChainNote {
                owner: owner::of_chain(engine, table, target),
                role: service_chain::role(target),
                service: None,
            });
        if note.service.is_none() {
            note.service = service;
        }
    }

    /// The route a step's evidence is: the table and who wrote it.
    fn route(&mut self, ns: NsId, step: &Step) {
        let facts = self.world.space(ns).facts;
        for evidence in &step.evidence {
            for family in [Family::V4, Family::V6] {
                let Some(table) = facts.routes(family).get().filter(|t| t.artifact == evidence.artifact) else {
                    continue;
                };
                if let Some(route) = table.rows.iter().find(|r| r.at == evidence.at) {
                    let note = RouteNote {
                        table: route.table,
                        owner: route.protocol.map(owner::of_route),
                    };
                    self.glossary
                        .routes
                        .insert((evidence.artifact.clone(), evidence.at.start), note);
                }
            }
        }
    }

    /// A namespace.
    pub fn place(&mut self, ns: NsId) {
        if let Some(name) = self.names.place(ns) {
            self.glossary.places.entry(ns).or_insert_with(|| name.clone());
        }
    }

    /// A device.
    pub fn device(&mut self, ns: NsId, dev: IfIndex) {
        if self.glossary.devices.contains_key(&(ns, dev)) {
            return;
        }
        let links: &Links<'_> = self.world.space(ns).links();
        if let Some(link) = links.get(dev) {
            let device = Device {
                name: link.name.clone(),
                master: link.master.clone(),
                mtu: link.mtu,
                owner: owner::of_device(&link.name),
            };
            self.glossary.devices.insert((ns, dev), device);
        }
    }

    /// An address.
    pub fn address(&mut self, addr: std::net::IpAddr) {
        self.glossary
            .addresses
            .entry(addr)
            .or_insert_with(|| self.names.whose(addr).cloned().collect());
    }

    /// Where evidence stands.
    pub fn evidence(&mut self, evidence: &Evidence) {
        let key = (evidence.artifact.clone(), evidence.at.start);
        if !self.evidence || self.glossary.cites.contains_key(&key) {
            return;
        }
        if let Some(cite) = cite(self.world.snapshot, evidence) {
            self.glossary.cites.insert(key, cite);
        }
    }
}

/// Only where rows stand, for an answer without an explanation of its own.
pub fn cites<'e>(snapshot: &Snapshot, rows: impl Iterator<Item = &'e Evidence>) -> Glossary {
    let key = |row: &Evidence| (row.artifact.clone(), row.at.start);
    Glossary {
        cites: rows.filter_map(|row| Some((key(row), cite(snapshot, row)?))).collect(),
        ..Glossary::default()
    }
}

fn cite(snapshot: &Snapshot, evidence: &Evidence) -> Option<Cite> {
    let line = snapshot.line_of(&evidence.artifact, evidence.at.start)?;
    let index = (line == 1 && evidence.artifact.ends_with(".json"))
        .then(|| snapshot.bytes(&evidence.artifact))
        .flatten()
        .and_then(|bytes| index_in_list(bytes, evidence.at.start));
    Some(Cite { line, index })
}

/// How many elements of the outermost list stand before a byte.
fn index_in_list(bytes: &[u8], offset: u64) -> Option<u64> {
    let offset = usize::try_from(offset).ok().filter(|&o| o <= bytes.len())?;
    let (mut depth, mut count, mut quoted, mut escaped) = (0_u32, 0, false, false);
    for &byte in &bytes[..offset] {
        match (quoted, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (true, b'"') => quoted = false,
            (true, _) => {}
            (false, b'"') => quoted = true,
            (false, b'[' | b'{') => depth += 1,
            (false, b']' | b'}') => depth = depth.saturating_sub(1),
            (false, b',') if depth == 1 => count += 1,
            (false, _) => {}
        }
    }
    (depth == 1).then_some(count)
}

#[cfg(test)]
mod tests {
    use super::index_in_list;

    #[test]
    fn rows_of_a_list_on_one_line_are_counted() {
        let text = br#"[{"a":"x,]\"y","b":[1,2]},{"a":3}, {"c":4}]"#;
        let at = |needle: &[u8]| text.windows(needle.len()).position(|w| w == needle).map(|p| p as u64);
        let of = |needle: &[u8]| at(needle).and_then(|o| index_in_list(text, o));
        assert_eq!(of(br#"{"a":"x"#), Some(0));
        assert_eq!(of(br#"{"a":3"#), Some(1));
        assert_eq!(of(br#"{"c""#), Some(2));
        assert_eq!(index_in_list(text, 10_000), None);
    }
}
