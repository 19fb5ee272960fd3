//! What checks look at: the walk's branches, the names, and the ways to go through them.

use std::net::IpAddr;

use knet_dataplane::packet::{Packet, Port};
use knet_dataplane::trace::{Branch, ClientSees, End, Engine, Evidence, Hop, NsId, Outcome, Step, What};
use knet_dataplane::world::World;
use knet_snapshot::cluster::ServicePort;

use super::{Finding, Found, Severity};
use crate::names::Names;
use crate::owner::{self, Owner};
use crate::resolve::{self, Source, Target};
use crate::service_chain::{self, ServicePortName};

/// What checks look at.
pub(crate) struct Cx<'a, 's> {
    pub world: &'a World<'s>,
    pub names: &'a Names<'s>,
    pub src: &'a Source,
    pub dst: &'a Target,
    pub sent: &'a Packet,
    pub start: NsId,
    pub branches: &'a [Branch],
}

/// One packet of a branch that was lost or refused, with its hops.
pub(crate) struct Loss<'a> {
    pub end: &'a End,
    pub hops: &'a [Hop],
}

impl<'a, 's> Cx<'a, 's> {
    /// A new finding.
    pub fn found(severity: Severity, what: Found, evidence: Vec<Evidence>) -> Finding {
        Finding {
            severity,
            what,
            evidence,
        }
    }

    /// The node of a namespace.
    pub fn node(&self, ns: NsId) -> &'s str {
        &self.world.space(ns).name.node
    }

    /// A namespace as people call it.
    pub fn place(&self, ns: NsId) -> String {
        match self.names.place(ns) {
            Some(place) => match &place.pod {
                Some(pod) => pod.to_string(),
                None => place.netns.clone().unwrap_or_else(|| place.node.clone()),
            },
            None => "?".to_owned(),
        }
    }

    /// The service port that answers at an address and port: its own address, or a NodePort of a node.
    pub fn service_at(&self, addr: IpAddr, port: u16, proto: u8) -> Option<ServicePortName> {
        let local = self.names.node_at(addr).is_some() || addr.is_loopback();
        self.names.services().find_map(|(named, service)| {
            let own = service.cluster_ips.contains(&addr)
                || service.external_ips.contains(&addr)
                || service.ingress.iter().any(|i| i.ip == Some(addr));
            let fits = |p: &&ServicePort| {
                resolve::protocol(&p.protocol) == Ok(proto)
                    && ((own && p.port == port) || (local && p.node_port == Some(port)))
            };
            let found = service.ports.iter().find(fits)?;
            Some(ServicePortName {
                service: named.clone(),
                port: found.name.clone().unwrap_or_default(),
            })
        })
    }

    /// Every packet that was lost: of the request, else of the reply, else of the next packet.
    pub fn losses(&self) -> impl Iterator<Item = Loss<'a>> {
        self.branches
            .iter()
            .filter(|b| b.client_sees != ClientSees::Reply)
            .filter_map(|branch| {
                if branch.end.outcome != Outcome::Delivered {
                    return Some(Loss {
                        end: &branch.end,
                        hops: &branch.hops,
                    });
                }
                if let Some(followup) = &branch.followup {
                    return Some(Loss {
                        end: &followup.end,
                        hops: &followup.hops,
                    });
                }
                branch.reply.as_ref().map(|r| Loss {
                    end: &r.end,
                    hops: &r.hops,
                })
            })
    }

    /// Every hop of requests.
    pub fn request_hops(&self) -> impl Iterator<Item = &'a Hop> {
        self.branches.iter().flat_map(|b| &b.hops)
    }

    /// Destinations that rules wrote into requests: hop, rule, from, to.
    pub fn dnats(&self) -> impl Iterator<Item = Dnat<'a>> {
        self.branches.iter().flat_map(|branch| {
            branch.hops.iter().flat_map(move |hop| {
                hop.steps
                    .iter()
                    .enumerate()
                    .filter_map(move |(i, step)| match &step.what {
                        What::Nat {
                            source: false,
                            from,
                            to,
                        } => {
                            let rule = i.checked_sub(1).map(|i| &hop.steps[i]);
                            Some(Dnat {
                                hop,
                                rule,
                                from: *from,
                                to: *to,
                            })
                        }
                        _ => None,
                    })
            })
        })
    }
}

/// One translation of a destination by a rule.
pub(crate) struct Dnat<'a> {
    pub hop: &'a Hop,
    /// The step before it: the rule.
    rule: Option<&'a Step>,
    pub from: (IpAddr, Option<Port>),
    pub to: (IpAddr, Option<Port>),
}

/// A rule as a step has it.
pub(crate) struct RuleAt<'a> {
    pub engine: Engine,
    pub table: &'a str,
    pub chain: &'a str,
    pub row: &'a Evidence,
}

impl<'a> RuleAt<'a> {
    /// The rule of a step, when it is one and its row is known.
    pub fn of(step: &'a Step) -> Option<Self> {
        let What::Rule {
            engine, table, chain, ..
        } = &step.what
        else {
            return None;
        };
        Some(Self {
            engine: *engine,
            table,
            chain,
            row: step.evidence.first()?,
        })
    }

    /// Who wrote it.
    pub fn owner(&self) -> Option<Owner> {
        owner::of_rule(self.engine, self.table, self.chain, &self.row.text)
    }
}

impl<'a> Dnat<'a> {
    /// The rule that translated; `None` when conntrack repeated an earlier translation.
    pub fn rule(&self) -> Option<RuleAt<'a>> {
        RuleAt::of(self.rule?)
    }

    /// The service port the rule is for.
    pub fn service(&self) -> Option<ServicePortName> {
        let rule = self.rule()?;
        if rule.owner() != Some(Owner::KubeProxy) {
            return None;
        }
        service_chain::of_nft_chain(rule.chain)
            .map(|(port, _)| port)
            .or_else(|| service_chain::of_comment(&rule.row.text))
    }
}
