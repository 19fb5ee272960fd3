//! "Why is my NodePort not in netstat?"
//!
//! Answered from the capture: which Service has the port, which sockets listen on it and what they are,
//! which rule takes the packet before any socket is looked up, and what clients in three places see.

mod listeners;

use std::net::IpAddr;

use knet_dataplane::trace::{Detail, Engine, Hop, RuleVerdict, What};

use crate::explainer::Explainer;
use crate::explanation::{ClientSees, Evidence, Explanation, Verdict};
use crate::query::{IpFamily, Query};
use crate::resolve::{self, Context, QueryError};
use crate::service_chain::ServicePortName;

pub use listeners::{Listener, Meaning};

/// Which port, where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePortQuery {
    /// The port.
    pub port: u16,
    /// `tcp`, `udp` or `sctp`; `None` = the one a Service has, else tcp.
    pub proto: Option<String>,
    /// Node name; `None` = the first captured node by name.
    pub node: Option<String>,
    /// Address family; `None` = IPv4 when the node has it.
    pub family: Option<IpFamily>,
}

/// The answer.
#[derive(Clone, Debug)]
pub struct NodePortExplanation {
    /// The port.
    pub port: u16,
    /// IP protocol.
    pub proto: u8,
    /// The node.
    pub node: String,
    /// The node's address that was used.
    pub address: IpAddr,
    /// Whose the port is.
    pub owner: PortOwner,
    /// The sockets on the port; `None` when sockets were not captured.
    pub listeners: Option<Vec<Listener>>,
    /// The rule that takes the packet before any socket is looked up.
    pub taker: Option<Taker>,
    /// What clients see: outside, on the node, and by localhost.
    pub views: Vec<View>,
    /// The closest NodePorts, when the port is none.
    pub closest: Vec<(u16, ServicePortName)>,
}

/// Whose a port is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortOwner {
    /// A NodePort of a Service.
    Service {
        /// Which.
        name: ServicePortName,
        /// The service's own port.
        port: u16,
        /// `Local` or `Cluster`.
        external_traffic_policy: Option<String>,
    },
    /// The `healthCheckNodePort` of a Service: kube-proxy listens there itself.
    HealthCheck(ServicePortName),
    /// No Service has it.
    Nobody,
    /// Services were not captured.
    NotCaptured,
}

/// The rule that takes a packet for the port.
#[derive(Clone, Debug, PartialEq)]
pub struct Taker {
    /// Chains on the way, the base chain first.
    pub chains: Vec<String>,
    /// Table.
    pub table: String,
    /// It is no rule but a virtual service of IPVS; `table` is `ipvs` then.
    pub ipvs: bool,
    /// The rule, or the virtual service.
    pub rule: Evidence,
    /// It refuses or drops the packet instead of sending it on.
    pub refuses: bool,
    /// Line in its file.
    pub cite: Option<crate::explanation::Cite>,
    /// The element of a map that names the port (nftables).
    pub element: Option<Evidence>,
    /// Written by kube-proxy, or by somebody who takes its packets away.
    pub owner: Option<crate::owner::Owner>,
}

/// From where a client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// From outside the cluster, by this stand-in address.
    Outside(IpAddr),
    /// From the node itself, by the node's address.
    Node,
    /// From the node itself, by localhost.
    Localhost,
}

/// What one client sees.
#[derive(Clone, Debug)]
pub struct View {
    /// From where.
    pub from: From,
    /// The walk.
    pub explanation: Explanation,
}

impl NodePortExplanation {
    /// 0: the port is a NodePort and a client outside gets an answer on every branch; 1: it is not, or
    /// some branch fails; 3: cannot tell.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match (&self.owner, self.views.first()) {
            (PortOwner::Nobody, _) => 1,
            (_, Some(view)) => view.explanation.exit_code(),
            (_, None) => 3,
        }
    }

    /// What the client outside sees, when it is the same on every branch.
    #[must_use]
    pub fn outside(&self) -> Option<ClientSees> {
        match self.views.first()?.explanation.verdict() {
            Verdict::Same(sees) => Some(sees),
            Verdict::Mixed => None,
        }
    }
}

/// Answers the question.
pub fn explain(explainer: &Explainer<'_>, query: &NodePortQuery) -> Result<NodePortExplanation, QueryError> {
    let context = explainer.context();
    if query.port == 0 {
        return Err(QueryError::PortZero);
    }
    let node = resolve::captured_node(context, query.node.as_deref())?;
    let owners = owners(context, query.port);
    let asked = query.proto.as_deref().map(resolve::protocol).transpose()?;
    let (owner, proto) = owners
        .into_iter()
        .find(|(_, proto)| asked.is_none_or(|a| a == *proto))
        .unwrap_or_else(|| (nobody(context), asked.unwrap_or(6)));
    let family = query.family;
    let base = Query {
        dst: format!("node/{node}:{}", query.port),
        proto: Some(proto.to_string()),
        family,
        ..Query::default()
    };
    // The node itself first: it says which of its addresses is meant.
    let own = explainer.walked(
        &Query {
            src: format!("node/{node}"),
            ..base.clone()
        },
        Detail::Decisions,
    )?;
    let address = own.sent.dst;
    let mut views = Vec::new();
    if let Some(client) = super::client::stand_in(context, &node, address) {
        let query = Query {
            src: format!("ip/{client}"),
            via: Some(format!("node/{node}")),
            ..base.clone()
        };
        if let Ok(explanation) = explainer.walked(&query, Detail::Decisions) {
            views.push(View {
                from: From::Outside(client),
                explanation,
            });
        }
    }
    let localhost = Query {
        src: format!("node/{node}"),
        dst: format!("localhost:{}", query.port),
        ..base
    };
    let localhost = explainer.walked(&localhost, Detail::Decisions);
    let taker = views.first().map_or(&own, |v| &v.explanation);
    let taker = taker.branches.iter().find_map(|b| taker_of(taker, &b.hops, query.port));
    views.push(View {
        from: From::Node,
        explanation: own,
    });
    if let Ok(explanation) = localhost {
        views.push(View {
            from: From::Localhost,
            explanation,
        });
    }
    let listeners = listeners::on(context, &node, proto, query.port, &owner);
    let closest = if matches!(owner, PortOwner::Nobody) {
        closest(context, query.port)
    } else {
        Vec::new()
    };
    Ok(NodePortExplanation {
        port: query.port,
        proto,
        node,
        address,
        owner,
        listeners,
        taker,
        views,
        closest,
    })
}

/// Whether a port of a node's address is worth this section.
pub fn concerns(context: Context<'_, '_>, dst: IpAddr, port: u16) -> Option<String> {
    let node = context.names.node_at(dst)?;
    (!owners(context, port).is_empty()).then(|| node.to_owned())
}

/// Services that have a port, with the protocol.
fn owners(context: Context<'_, '_>, port: u16) -> Vec<(PortOwner, u8)> {
    let mut all = Vec::new();
    for (named, service) in context.names.services() {
        for p in &service.ports {
            let name = ServicePortName {
                service: named.clone(),
                port: p.name.clone().unwrap_or_default(),
            };
            if p.node_port == Some(port) {
                let external_traffic_policy = service.external_traffic_policy.clone();
                let proto = resolve::protocol(&p.protocol).unwrap_or(6);
                all.push((
                    PortOwner::Service {
                        name,
                        port: p.port,
                        external_traffic_policy,
                    },
                    proto,
                ));
            }
        }
        if service.health_check_node_port == Some(port) {
            let name = ServicePortName {
                service: named.clone(),
                port: String::new(),
            };
            all.push((PortOwner::HealthCheck(name), 6));
        }
    }
    all
}

fn nobody(context: Context<'_, '_>) -> PortOwner {
    if context.names.services_known {
        PortOwner::Nobody
    } else {
        PortOwner::NotCaptured
    }
}

/// The NodePorts nearest by number, at most three.
fn closest(context: Context<'_, '_>, port: u16) -> Vec<(u16, ServicePortName)> {
    let mut all: Vec<(u16, ServicePortName)> = context
        .names
        .services()
        .flat_map(|(named, service)| {
            service.ports.iter().filter_map(|p| {
                let name = ServicePortName {
                    service: named.clone(),
                    port: p.name.clone().unwrap_or_default(),
                };
                Some((p.node_port?, name))
            })
        })
        .collect();
    all.sort_by_key(|(of, name)| (of.abs_diff(port), *of, name.clone()));
    all.truncate(3);
    all
}

/// The first rule on the way to a translation of the destination that names the port; without such, the
/// rule that translated.
fn taker_of(explanation: &Explanation, hops: &[Hop], port: u16) -> Option<Taker> {
    taker_at(explanation, hops.first()?, port)
}

/// The same in one namespace.
pub(crate) fn taker_at(explanation: &Explanation, hop: &Hop, port: u16) -> Option<Taker> {
    if let Some(step) = hop.steps.iter().find(|s| matches!(s.what, What::Ipvs { .. })) {
        let rule = step.evidence.first()?;
        return Some(Taker {
            chains: vec![if hop.iif.is_some() { "LOCAL_IN" } else { "LOCAL_OUT" }.to_owned()],
            table: "ipvs".to_owned(),
            ipvs: true,
            cite: explanation.glossary.cite(rule),
            rule: rule.clone(),
            refuses: matches!(step.what, What::Ipvs { server: None, .. }),
            element: None,
            owner: Some(crate::owner::Owner::KubeProxy),
        });
    }
    let nat = hop
        .steps
        .iter()
        .position(|s| matches!(s.what, What::Nat { source: false, .. }));
    let mut jumps: Vec<(&str, String, String)> = Vec::new();
    let mut found = None;
    let dport = format!("--dport {port} ");
    let dports = format!("--dports {port} ");
    for step in &hop.steps[..nat.unwrap_or(hop.steps.len())] {
        let What::Rule {
            engine,
            table,
            chain,
            verdict: Some(verdict),
        } = &step.what
        else {
            continue;
        };
        if let RuleVerdict::Jump(to) | RuleVerdict::Goto(to) = verdict {
            jumps.push((table, chain.to_string(), to.to_string()));
        }
        let Some(rule) = step.evidence.first() else { continue };
        // nft keeps ports in the elements of maps: the rule comes first, then the element that matched.
        let element = format!(" . {port} ");
        let names = |e: &&Evidence| {
            e.text.contains(&dport)
                || e.text.contains(&dports)
                || (*engine == Engine::Nft && e.text.contains(&element) && e.text.contains("{"))
        };
        let named = step.evidence.iter().find(names);
        let names_port = named.is_some();
        let refuses = matches!(verdict, RuleVerdict::Reject(_) | RuleVerdict::Drop);
        let last = matches!(verdict, RuleVerdict::Nat) || refuses;
        // Filter rules that let the port pass take nothing.
        let takes = nat.is_some() && (names_port || last);
        if found.is_none() && (takes || (names_port && refuses)) {
            let mut chains = vec![chain.to_string()];
            for (of, from, to) in jumps.iter().rev() {
                if *of == &**table && chains.last() == Some(to) && !chains.contains(from) {
                    chains.push(from.clone());
                }
            }
            chains.reverse();
            found = Some(Taker {
                chains,
                table: table.to_string(),
                ipvs: false,
                rule: rule.clone(),
                element: named.filter(|e| *e != rule).cloned(),
                refuses,
                cite: explanation.glossary.cite(rule),
                owner: crate::owner::of_rule(*engine, table, chain, &rule.text),
            });
        }
    }
    found
}
