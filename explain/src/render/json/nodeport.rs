//! The shape of `explain nodeport` in `knet.explain/v1`.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::Serialize;

use super::convert::{self, Names};
use super::model::{Branch, Evidence, OverallSees};
use crate::explanation::{Cite, Evidence as TraceEvidence};
use crate::render::{systems, words};
use crate::topics::nodeport::{From, Meaning, NodePortExplanation, PortOwner};

/// The answer about one NodePort.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct NodePortDocument {
    /// The port.
    pub port: u16,
    /// `tcp`, `udp`, `sctp`.
    pub proto: String,
    /// The node.
    pub node: String,
    /// The node's address that was used.
    pub address: IpAddr,
    /// `service`, `health-check`, `nobody`, `not-captured`.
    pub owner: String,
    /// `ns/name:port`
    pub service: Option<String>,
    /// The sockets on the port; null when sockets were not captured.
    pub listeners: Option<Vec<ListenerDoc>>,
    /// The rule that takes the packet before any socket is looked up.
    pub taken_by: Option<TakerDoc>,
    /// What clients see.
    pub views: Vec<ViewDoc>,
    /// The closest NodePorts, when the port is none.
    pub closest: Vec<PortDoc>,
    /// Whose programs take packets of the node away from the kernel's tables, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outside: Vec<String>,
}

/// A socket on the port.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ListenerDoc {
    /// Programs.
    pub programs: Vec<ProgramDoc>,
    /// Address; null = all.
    pub address: Option<IpAddr>,
    /// `health-check`, `placeholder`, `shadowed`, `program`.
    pub meaning: String,
    /// Where it is written.
    pub evidence: Vec<Evidence>,
}

/// A program.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ProgramDoc {
    /// Name.
    pub name: String,
    /// Process id.
    pub pid: u32,
}

/// The rule that takes the packet.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct TakerDoc {
    /// Table.
    pub table: String,
    /// Chains on the way, the base chain (the hook) first.
    pub chains: Vec<String>,
    /// Who wrote it.
    pub owner: Option<String>,
    /// It refuses or drops the packet instead of sending it on.
    pub refuses: bool,
    /// The rule.
    pub evidence: Vec<Evidence>,
}

/// What one client sees.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ViewDoc {
    /// `outside`, `node`, `localhost`.
    pub from: String,
    /// The client's address.
    pub src: IpAddr,
    /// The address asked.
    pub dst: IpAddr,
    /// What it sees.
    pub client_sees: OverallSees,
    /// Every way the packet can go, without hops.
    pub branches: Vec<Branch>,
}

/// A NodePort.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct PortDoc {
    /// The port.
    pub port: u16,
    /// `ns/name:port`
    pub service: String,
}

/// Converts the answer.
pub fn document(answer: &NodePortExplanation) -> NodePortDocument {
    let (owner, service) = match &answer.owner {
        PortOwner::Service { name, .. } => ("service", Some(name.to_string())),
        PortOwner::HealthCheck(name) => ("health-check", Some(name.to_string())),
        PortOwner::Nobody => ("nobody", None),
        PortOwner::NotCaptured => ("not-captured", None),
    };
    NodePortDocument {
        port: answer.port,
        proto: words::protocol(answer.proto),
        node: answer.node.clone(),
        address: answer.address,
        owner: owner.to_owned(),
        outside: answer
            .views
            .first()
            .map(|view| systems::taken_over(&view.explanation))
            .unwrap_or_default(),
        service,
        listeners: answer.listeners.as_ref().map(|all| {
            all.iter()
                .map(|l| ListenerDoc {
                    programs: l
                        .programs
                        .iter()
                        .map(|(n, pid)| ProgramDoc {
                            name: n.clone(),
                            pid: *pid,
                        })
                        .collect(),
                    address: l.address,
                    meaning: match l.meaning {
                        Meaning::HealthCheck => "health-check",
                        Meaning::Placeholder => "placeholder",
                        Meaning::Shadowed => "shadowed",
                        Meaning::Program => "program",
                    }
                    .to_owned(),
                    evidence: vec![evidence(&l.evidence, l.cite)],
                })
                .collect()
        }),
        taken_by: answer.taker.as_ref().map(|t| TakerDoc {
            table: t.table.clone(),
            chains: t.chains.clone(),
            owner: t.owner.map(|o| words::owner(o).to_owned()),
            refuses: t.refuses,
            evidence: std::iter::once(evidence(&t.rule, t.cite))
                .chain(t.element.as_ref().map(|e| evidence(e, None)))
                .collect(),
        }),
        views: answer
            .views
            .iter()
            .map(|view| {
                let names = Names {
                    glossary: &view.explanation.glossary,
                };
                ViewDoc {
                    from: match view.from {
                        From::Outside(_) => "outside",
                        From::Node => "node",
                        From::Localhost => "localhost",
                    }
                    .to_owned(),
                    src: view.explanation.sent.src,
                    dst: view.explanation.sent.dst,
                    client_sees: convert::overall(&view.explanation),
                    branches: view
                        .explanation
                        .branches
                        .iter()
                        .map(|b| convert::branch(names, b, true))
                        .collect(),
                }
            })
            .collect(),
        closest: answer
            .closest
            .iter()
            .map(|(p, n)| PortDoc {
                port: *p,
                service: n.to_string(),
            })
            .collect(),
    }
}

fn evidence(evidence: &TraceEvidence, cite: Option<Cite>) -> Evidence {
    Evidence {
        artifact: evidence.artifact.to_string(),
        line: cite.map(|c| c.line),
        index: cite.and_then(|c| c.index),
        handle: evidence.handle,
        text: evidence.text.to_string(),
    }
}
