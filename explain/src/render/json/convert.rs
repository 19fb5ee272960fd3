//! From an explanation to its document.

use super::model::{
    self, Asked, At, Branch, Evidence, Followup, Hop, MixedWord, Note, OverallSees, PacketDoc, Reply, ResolvedNames,
    TraceDocument,
};
use super::{findings, steps};
use crate::explanation::{
    self, Branch as TraceBranch, ClientSees, End, Entry, Evidence as TraceEvidence, Explanation, Fork, Glossary,
    Hop as TraceHop, NsId, Packet, Port, Source, Verdict,
};
use crate::query::Query;
use crate::render::{notes, words};

/// Looks names up while converting.
#[derive(Clone, Copy)]
pub struct Names<'a> {
    /// The glossary.
    pub glossary: &'a Glossary,
}

impl Names<'_> {
    /// Node and namespace.
    pub fn place(self, ns: NsId) -> (String, String) {
        match self.glossary.places.get(&ns) {
            Some(place) => (
                place.node.clone(),
                place.netns.clone().unwrap_or_else(|| "host".to_owned()),
            ),
            None => ("?".to_owned(), "?".to_owned()),
        }
    }

    /// The pod of a namespace.
    fn pod(self, ns: NsId) -> Option<String> {
        self.glossary.places.get(&ns)?.pod.as_ref().map(ToString::to_string)
    }

    /// Evidence with its line.
    pub fn evidence(self, evidence: &TraceEvidence) -> Evidence {
        let cite = self.glossary.cite(evidence);
        Evidence {
            artifact: evidence.artifact.to_string(),
            line: cite.map(|c| c.line),
            index: cite.and_then(|c| c.index),
            handle: evidence.handle,
            text: evidence.text.to_string(),
        }
    }

    /// Several rows.
    pub fn all_evidence(self, evidence: &[TraceEvidence]) -> Vec<Evidence> {
        evidence.iter().map(|e| self.evidence(e)).collect()
    }

    fn at(self, end: &End) -> At {
        let Some(ns) = end.place.ns else {
            return At {
                node: None,
                netns: None,
                pod: None,
                oif: None,
            };
        };
        let (node, netns) = self.place(ns);
        // A packet that left is nowhere in the snapshot; the device tells where it went out.
        At {
            node: Some(node),
            netns: Some(netns),
            pod: self.pod(ns),
            oif: end.place.oif.map(|dev| self.glossary.device(ns, dev).to_owned()),
        }
    }
}

/// The whole document.
pub fn document(explanation: &Explanation, brief: bool) -> TraceDocument {
    let names = Names {
        glossary: &explanation.glossary,
    };
    let mut query = asked(&explanation.query);
    query.resolved = Some(resolved(explanation));
    TraceDocument {
        id: explanation.query.id.clone(),
        schema: model::TRACE.to_owned(),
        query,
        outcome: explanation.outcome().map_or(model::Outcome::Mixed, outcome),
        client_sees: overall(explanation),
        branches: explanation
            .branches
            .iter()
            .map(|b| {
                let mut document = branch(names, b, brief);
                if let Some(seen) = explanation.taken_over(b) {
                    let (_, system) = words::system(seen.system);
                    let condition = format!("the programs of {system} on {} let the packet pass as it is", seen.node);
                    document.conditions.push(condition);
                }
                document
            })
            .collect(),
        truncated: explanation.truncated,
        connections: explanation
            .connections
            .iter()
            .map(|c| connection(names, c, brief))
            .collect(),
        assumptions: explanation
            .assumptions
            .iter()
            .map(|a| note(names, notes::assumption(a)))
            .collect(),
        unknowns: explanation
            .unknowns
            .iter()
            .map(|u| note(names, notes::unknown(u)))
            .collect(),
        findings: explanation
            .findings
            .iter()
            .map(|f| findings::finding(names, f))
            .collect(),
        boundary: explanation
            .boundary
            .iter()
            .map(|b| note(names, notes::boundary(b)))
            .collect(),
        nodeport: explanation.nodeport.as_ref().map(|n| super::nodeport(n)),
        against: explanation
            .against
            .as_ref()
            .map(|a| super::against::document(&explanation.glossary, a)),
        verify: explanation
            .verify
            .as_ref()
            .map(|v| super::verify::document(explanation, v)),
        vip: explanation.vip.as_ref().map(|v| super::vip::one(v)),
    }
}

/// What the client sees over all branches.
pub fn overall(explanation: &Explanation) -> OverallSees {
    match explanation.verdict() {
        Verdict::Same(same) => OverallSees::Same(sees(same)),
        Verdict::Mixed => OverallSees::Mixed(MixedWord::Mixed),
    }
}

fn note(names: Names<'_>, note: notes::Note) -> Note {
    let notes::Note { kind, text, evidence } = note;
    Note {
        kind: kind.to_owned(),
        text,
        evidence: names.all_evidence(&evidence),
    }
}

/// A query as it was written.
pub fn asked(query: &Query) -> Asked {
    let Query {
        id,
        src,
        dst,
        namespace,
        via,
        proto,
        sport,
        tcp_flags,
        icmp_type,
        ttl,
        tos,
        mark,
        uid,
        source_ip,
        family,
    } = query.clone();
    Asked {
        id,
        src,
        dst,
        namespace,
        via,
        proto,
        sport,
        tcp_flags,
        icmp_type,
        ttl,
        tos,
        mark,
        uid,
        source_ip,
        family,
        resolved: None,
    }
}

fn resolved(explanation: &Explanation) -> ResolvedNames {
    let (node, enters_by) = match &explanation.src {
        Source::Pod { node, .. } | Source::Netns { node, .. } | Source::Node(node) => (node.clone(), None),
        // Who answers on the segment decides where it enters.
        Source::Client {
            node,
            entry: Entry::OnSegment,
            ..
        } => (node.clone(), None),
        Source::Client { node, dev, .. } => (node.clone(), Some(dev.clone())),
    };
    ResolvedNames {
        src: words::source(&explanation.src),
        node,
        enters_by,
        dst: words::target(&explanation.dst, &explanation.sent),
        packet: packet(&explanation.sent, Some(0)),
    }
}

fn connection(names: Names<'_>, connection: &explanation::Connection, brief: bool) -> model::Connection {
    let entry = |(ns, evidence): &(NsId, TraceEvidence)| {
        let (node, netns) = names.place(*ns);
        model::ConnectionEntry {
            node,
            netns,
            evidence: names.evidence(evidence),
        }
    };
    model::Connection {
        entries: connection.entries.iter().map(entry).collect(),
        branches: connection.branches.iter().map(|b| branch(names, b, brief)).collect(),
        truncated: connection.truncated,
    }
}

/// One way the packet can go.
pub fn branch(names: Names<'_>, branch: &TraceBranch, brief: bool) -> Branch {
    let conditions = branch
        .path
        .iter()
        .filter_map(|taken| match &taken.fork {
            Fork::Unknown(unknown) => Some(words::condition(unknown, taken.option)),
            Fork::Chance(_) => None,
        })
        .collect();
    Branch {
        probability: words::fraction(&branch.at_least),
        probability_max: (branch.at_least != branch.at_most).then(|| words::fraction(&branch.at_most)),
        conditions,
        outcome: outcome(branch.end.outcome),
        reason: words::reason(branch.end.reason).to_owned(),
        client_sees: sees(branch.client_sees),
        at: names.at(&branch.end),
        packet: packet(&branch.end.packet, Some(branch.end.mark)),
        reject: branch.reject.map(|how| words::reject(how).to_owned()),
        snat: branch.snat,
        dnat: branch.dnat,
        evidence: names.all_evidence(&branch.end.evidence),
        reply: branch.reply.as_ref().map(|reply| Reply {
            outcome: outcome(reply.end.outcome),
            reason: words::reason(reply.end.reason).to_owned(),
            answer: words::answer(reply.answer).to_owned(),
            fits: reply.fits,
            at: names.at(&reply.end),
            packet: packet(&reply.end.packet, None),
            evidence: names.all_evidence(&reply.end.evidence),
            hops: (!brief).then(|| hops(names, &reply.hops)),
        }),
        followup: branch.followup.as_ref().map(|followup| Followup {
            outcome: outcome(followup.end.outcome),
            reason: words::reason(followup.end.reason).to_owned(),
            at: names.at(&followup.end),
            evidence: names.all_evidence(&followup.end.evidence),
            hops: (!brief).then(|| hops(names, &followup.hops)),
        }),
        hops: (!brief).then(|| hops(names, &branch.hops)),
    }
}

fn hops(names: Names<'_>, hops: &[TraceHop]) -> Vec<Hop> {
    hops.iter()
        .map(|hop| {
            let (node, netns) = names.place(hop.ns);
            Hop {
                node,
                netns,
                pod: names.pod(hop.ns),
                stage: words::stage(hop.stage).to_owned(),
                iif: hop.iif.map(|dev| names.glossary.device(hop.ns, dev).to_owned()),
                oif: hop.oif.map(|dev| names.glossary.device(hop.ns, dev).to_owned()),
                packet: packet(&hop.packet, None),
                steps: hop.steps.iter().map(|s| steps::step(names, hop.ns, s)).collect(),
            }
        })
        .collect()
}

/// A packet's header fields.
pub fn packet(packet: &Packet, mark: Option<u32>) -> PacketDoc {
    let shown = |port: Option<Port>| port.filter(|p| !p.drawn).map(|p| p.value);
    let drawn = [packet.sport(), packet.dport()].into_iter().flatten().any(|p| p.drawn);
    PacketDoc {
        src: packet.src,
        sport: shown(packet.sport()),
        dst: packet.dst,
        dport: shown(packet.dport()),
        proto: words::protocol(packet.proto),
        ttl: packet.ttl,
        tos: packet.tos,
        mark,
        icmp: words::icmp(packet).map(|(ty, code)| [ty, code]),
        note: drawn.then(|| "a port that NAT draws at random is null".to_owned()),
    }
}

const fn outcome(outcome: explanation::Outcome) -> model::Outcome {
    use explanation::Outcome as From;
    use model::Outcome as To;
    match outcome {
        From::Delivered => To::Delivered,
        From::Rejected => To::Rejected,
        From::Dropped => To::Dropped,
        From::NoRoute => To::NoRoute,
        From::Blackholed => To::Blackholed,
        From::NeighbourFailed => To::NeighbourFailed,
        From::NoListener => To::NoListener,
        From::Loop => To::Loop,
        From::LeavesCluster => To::LeavesCluster,
        From::Unknown => To::Unknown,
    }
}

const fn sees(sees: ClientSees) -> model::Sees {
    use model::Sees as To;
    match sees {
        ClientSees::Reply => To::Reply,
        ClientSees::Timeout => To::Timeout,
        ClientSees::Refused => To::Refused,
        ClientSees::Unreachable => To::Unreachable,
        ClientSees::Prohibited => To::Prohibited,
        ClientSees::Invalid => To::Invalid,
        ClientSees::Permission => To::Permission,
        ClientSees::Unknown => To::Unknown,
    }
}
