//! The way in: a snapshot with everything that is computed from it once.

use std::collections::BTreeSet;

use knet_dataplane::choice::{Fork, ratio};
use knet_dataplane::trace::{Branch, Detail, NsId, Outcome};
use knet_dataplane::walk::{self, Limits};
use knet_dataplane::world::World;
use knet_snapshot::Snapshot;
use knet_snapshot::kernel_trace::KernelTrace;

use crate::against::{self, AgainstError, Walked};
use crate::explanation::{Assumed, Connection, Entry, Explanation, Open, Source, Target};
use crate::findings::{Finding, Severity};
use crate::glossary::Builder;
use crate::names::{Names, TiedBy};
use crate::query::Query;
use crate::resolve::{self, Context, QueryError, Resolved};
use crate::systems::{self, Seen};
use crate::topics::clusterip::{self, ClusterIpExplanation, ClusterIpQuery};
use crate::topics::http::{self, HttpExplanation};
use crate::topics::kube_ipvs0::{self, KubeIpvs0};
use crate::topics::nodeport::{self, NodePortExplanation, NodePortQuery, PortOwner};
use crate::topics::vip::{self, VipExplanation, VipQuery};
use crate::{boundary, findings, fold};

/// A loaded snapshot, ready for any number of questions.
pub struct Explainer<'s> {
    world: World<'s>,
    names: Names<'s>,
}

impl<'s> Explainer<'s> {
    /// Indexes the names of a snapshot. Tables are compiled when a walk first needs them.
    #[must_use]
    pub fn new(snapshot: &'s Snapshot) -> Self {
        let world = World::new(snapshot);
        let names = Names::new(&world);
        Self { world, names }
    }

    /// Walks one flow and says what it means.
    ///
    /// # Errors
    ///
    /// Always about the query: a name that is not there, an ambiguity, a field that cannot be read.
    pub fn trace(&self, query: &Query, detail: Detail) -> Result<Explanation, QueryError> {
        let mut explanation = self.walked(query, detail)?;
        if detail > Detail::Outcome {
            explanation.nodeport = self.nodeport_of(&explanation);
            explanation.vip = self.vip_of(&explanation);
        }
        Ok(explanation)
    }

    /// A trace without sections that need further walks.
    pub(crate) fn walked(&self, query: &Query, detail: Detail) -> Result<Explanation, QueryError> {
        let resolved = resolve::resolve(self.context(), query)?;
        Ok(self.explain(query, resolved, detail))
    }

    /// What names are looked up in.
    pub(crate) const fn context(&self) -> Context<'_, 's> {
        Context {
            world: &self.world,
            names: &self.names,
        }
    }

    /// The NodePort section of a trace to one.
    fn nodeport_of(&self, explanation: &Explanation) -> Option<Box<NodePortExplanation>> {
        let port = explanation.sent.dport()?.value;
        let node = match &explanation.dst {
            Target::Localhost => match &explanation.src {
                Source::Node(node) => node.clone(),
                _ => return None,
            },
            _ => nodeport::concerns(self.context(), explanation.sent.dst, port)?,
        };
        let query = NodePortQuery {
            port,
            proto: Some(explanation.sent.proto.to_string()),
            node: Some(node),
            family: None,
        };
        let answer = nodeport::explain(self, &query).ok()?;
        (!matches!(answer.owner, PortOwner::Nobody | PortOwner::NotCaptured)).then(|| Box::new(answer))
    }

    /// The section on who answers for the address, of a trace from outside.
    fn vip_of(&self, explanation: &Explanation) -> Option<Box<VipExplanation>> {
        let Source::Client { addr, .. } = explanation.src else {
            return None;
        };
        let address = explanation.sent.dst;
        vip::concerns(self.context(), address).then(|| Box::new(vip::of_address(self, address, Some(addr))))
    }

    fn explain(&self, query: &Query, resolved: Resolved, detail: Detail) -> Explanation {
        let Resolved { starts, src, dst } = resolved;
        let mut branches: Vec<Branch> = Vec::new();
        let mut truncated = false;
        let mut sent = None;
        let mut connections = Vec::new();
        let share = ratio(1, starts.len() as u64);
        for start in &starts {
            let trace = walk::trace(&self.world, start, detail, Limits::default());
            truncated |= trace.truncated;
            sent.get_or_insert((trace.sent, trace.start));
            connections.extend(trace.established.map(|met| Connection {
                groups: fold::groups(&met.branches),
                entries: met.entries,
                branches: met.branches,
                truncated: met.truncated,
            }));
            branches.extend(trace.branches.into_iter().map(|mut branch| {
                branch.at_least *= &share;
                branch.at_most *= &share;
                branch
            }));
        }
        let Some((mut sent, start)) = sent else {
            unreachable!("resolve returns at least one start")
        };
        // The kernel chose a source for a local sender: that is what was sent.
        if sent.src.is_unspecified()
            && let Some(first) = branches.iter().find_map(|b| b.hops.first())
        {
            sent.src = source_of(first, &sent);
        }
        let mut builder = Builder::new(&self.world, &self.names, detail > Detail::Outcome);
        builder.place(start);
        builder.address(sent.src);
        builder.address(sent.dst);
        for branch in branches.iter().chain(connections.iter().flat_map(|c| &c.branches)) {
            builder.branch(branch);
        }
        for (ns, evidence) in connections.iter().flat_map(|c| &c.entries) {
            builder.place(*ns);
            builder.evidence(evidence);
        }
        let outside = boundary::outside(&self.world, &branches);
        let mut findings = if detail > Detail::Outcome {
            let Self { world, names } = self;
            sure(&branches, |branches| {
                findings::all(&findings::Cx {
                    world,
                    names,
                    src: &src,
                    dst: &dst,
                    sent: &sent,
                    start,
                    branches,
                })
            })
        } else {
            Vec::new()
        };
        for evidence in findings.iter().flat_map(|f| &f.evidence) {
            builder.evidence(evidence);
        }
        // What breaks a flow by the kernel's tables may break nothing where programs have taken them over.
        if outside.iter().any(Seen::takes_over) {
            for finding in &mut findings {
                finding.severity = finding.severity.max(Severity::Warning);
            }
        }
        let assumptions = self.assumptions(&branches, &src, starts.len());
        let mut unknowns = unknowns(&branches, truncated);
        if detail > Detail::Outcome {
            unknowns.extend(boundary::problems(&self.world, &branches));
        }
        Explanation {
            query: query.clone(),
            src,
            dst,
            groups: fold::groups(&branches),
            boundary: boundary::of(&self.world, &branches, &outside),
            findings,
            nodeport: None,
            against: None,
            verify: None,
            vip: None,
            outside,
            sent,
            start,
            branches,
            truncated,
            connections,
            assumptions,
            unknowns,
            glossary: builder.finish(),
        }
    }

    fn assumptions(&self, branches: &[Branch], src: &Source, starts: usize) -> Vec<Assumed> {
        let mut all: BTreeSet<Assumed> = branches
            .iter()
            .flat_map(|b| &b.assumptions)
            .cloned()
            .map(Assumed::Walk)
            .collect();
        if let Source::Client { node, dev, entry, .. } = src
            && *entry != Entry::Given
        {
            all.insert(Assumed::Entry {
                node: node.clone(),
                dev: dev.clone(),
                entry: *entry,
            });
        }
        if starts > 1 {
            all.insert(Assumed::EvenAddresses(starts));
        }
        let places: BTreeSet<NsId> = branches.iter().flat_map(|b| &b.hops).map(|h| h.ns).collect();
        for place in places.into_iter().filter_map(|ns| self.names.place(ns)) {
            if place.tied_by == TiedBy::Address
                && let Some(pod) = &place.pod
            {
                all.insert(Assumed::TiedByAddress(pod.to_string()));
            }
        }
        all.into_iter().collect()
    }

    /// A trace, and a recording of the kernel's own trace of the same packet put beside it. `place` is the
    /// `NODE` or `NODE/NETNS` where it was recorded; `None`: where the walk agrees furthest. `file` is what
    /// the recording is called.
    ///
    /// # Errors
    ///
    /// About the query, or about the recording: there is no trace in it, or not of this flow.
    pub fn trace_against(
        &self,
        query: &Query,
        detail: Detail,
        (file, recording): (&str, &KernelTrace),
        place: Option<&str>,
    ) -> Result<Explanation, AgainstError> {
        let resolved = resolve::resolve(self.context(), query)?;
        let mut walked = Walked {
            branches: Vec::new(),
            any_port: None,
            truncated: false,
        };
        for start in &resolved.starts {
            // Also the rules that do not match: the kernel may say that one did.
            let trace = walk::trace(&self.world, start, Detail::Full, Limits::default());
            if start.any_sport {
                walked.any_port = trace.sent.sport().map(|p| p.value);
            }
            walked.truncated |= trace.truncated;
            walked.branches.extend(trace.branches);
        }
        let mut against = against::compare(self.context(), &walked, recording, place)?;
        against.file = file.to_owned();
        let mut explanation = self.trace(query, detail)?;
        explanation.against = Some(Box::new(against));
        Ok(explanation)
    }

    /// A request to a URL: the client's way to an ingress controller, what Ingress and HTTPRoute objects intend
    /// there, and the controller's way to the backend. `query.dst` is the URL, `host` stands in for its host.
    ///
    /// # Errors
    ///
    /// Always about the query.
    pub fn http(&self, query: &Query, host: Option<&str>, detail: Detail) -> Result<HttpExplanation, QueryError> {
        http::explain(self, query, host, detail)
    }

    /// Adds how to record the kernel's own trace of a flow that was traced.
    #[must_use]
    pub fn with_commands(&self, mut explanation: Explanation) -> Explanation {
        explanation.verify = Some(Box::new(against::verify::verify(&self.world, &explanation)));
        explanation
    }

    /// Why a NodePort is in no `netstat`, and what takes its packets instead.
    ///
    /// # Errors
    ///
    /// Always about the query.
    pub fn nodeport(&self, query: &NodePortQuery) -> Result<NodePortExplanation, QueryError> {
        nodeport::explain(self, query)
    }

    /// How the packets of a ClusterIP are taken on a node.
    ///
    /// # Errors
    ///
    /// Always about the query.
    pub fn clusterip(&self, query: &ClusterIpQuery) -> Result<ClusterIpExplanation, QueryError> {
        clusterip::explain(self, query)
    }

    /// What `kube-ipvs0` is on a node (by default the first by name), and whether something is amiss.
    ///
    /// # Errors
    ///
    /// Always about the query.
    pub fn kube_ipvs0(&self, node: Option<&str>) -> Result<KubeIpvs0, QueryError> {
        kube_ipvs0::explain(self, node)
    }

    /// Who answers for an address that Services give to clients outside, and what each node does with a packet
    /// to it. One answer for every address that is meant.
    ///
    /// # Errors
    ///
    /// Always about the query.
    pub fn vip(&self, query: &VipQuery) -> Result<Vec<VipExplanation>, QueryError> {
        vip::explain(self, query)
    }

    /// The network systems that left something in the captured facts of each node.
    #[must_use]
    pub fn systems(&self) -> Vec<Seen> {
        systems::all(&self.world)
    }

    /// Every name that can stand in a query, for completion.
    #[must_use]
    pub const fn names(&self) -> &Names<'s> {
        &self.names
    }
}

/// The source a local sender's packet had before any translation.
fn source_of(hop: &knet_dataplane::trace::Hop, sent: &knet_dataplane::packet::Packet) -> std::net::IpAddr {
    use knet_dataplane::trace::What;
    for step in &hop.steps {
        match &step.what {
            What::Nat { source: true, from, .. } => return from.0,
            What::Route { prefsrc: Some(src), .. } => return *src,
            _ => {}
        }
    }
    if hop.packet.src.is_unspecified() {
        sent.src
    } else {
        hop.packet.src
    }
}

/// Findings about what certainly happens: they, or their rows, are also found in the branches that hang on nothing
/// unknown, or, when all do, in every single one. What is only supposed is no fact about a node.
fn sure(branches: &[Branch], find: impl Fn(&[Branch]) -> Vec<Finding>) -> Vec<Finding> {
    /// More branches have nothing in common.
    const MOST: usize = 64;
    let mut all = find(branches);
    let certain: Vec<Branch> = branches
        .iter()
        .filter(|b| fold::conditions(b).next().is_none())
        .cloned()
        .collect();
    let alike = |a: &Finding, b: &Finding| {
        a.what.code() == b.what.code() && (a.what == b.what || a.evidence.iter().any(|row| b.evidence.contains(row)))
    };
    let among = |found: &[Finding], one: &Finding| found.iter().any(|f| alike(f, one));
    if certain.len() == branches.len() || all.is_empty() {
        return all;
    }
    if !certain.is_empty() {
        let found = find(&certain);
        all.retain(|one| among(&found, one));
    } else if branches.len() > MOST {
        all.clear();
    } else {
        for branch in branches {
            let found = find(std::slice::from_ref(branch));
            all.retain(|one| among(&found, one));
        }
    }
    all
}

/// What could not be told and mattered, each once, in order.
fn unknowns(branches: &[Branch], truncated: bool) -> Vec<Open> {
    let mut all: Vec<Open> = Vec::new();
    let mut add = |open: Open| {
        if !all.contains(&open) {
            all.push(open);
        }
    };
    for branch in branches {
        for taken in &branch.path {
            if let Fork::Unknown(unknown) = &taken.fork {
                add(Open::Fork(unknown.clone()));
            }
        }
        let reply = branch.reply.as_ref().map(|r| &r.end);
        let followup = branch.followup.as_ref().map(|f| &f.end);
        for end in std::iter::once(&branch.end).chain(reply).chain(followup) {
            if end.outcome == Outcome::Unknown {
                add(Open::End(end.reason, end.evidence.clone()));
            }
        }
    }
    if truncated {
        add(Open::Truncated(branches.len()));
    }
    all
}
