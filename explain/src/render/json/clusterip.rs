//! The shapes of `explain clusterip` and `explain kube-ipvs0` in `knet.explain/v1`.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::Serialize;

use super::convert;
use super::model::{Evidence, OverallSees};
use crate::explanation::{Evidence as TraceEvidence, Glossary};
use crate::names::Whose;
use crate::render::{systems, words};
use crate::topics::clusterip::ClusterIpExplanation;
use crate::topics::kube_ipvs0::{Held, KubeIpvs0};

/// How a ClusterIP's packets are taken on a node.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ClusterIpDocument {
    /// The address.
    pub address: IpAddr,
    /// Port.
    pub port: u16,
    /// Protocol.
    pub proto: String,
    /// The node.
    pub node: String,
    /// `ns/name`
    pub services: Vec<String>,
    /// The device that has the address.
    pub dev: Option<String>,
    /// It is up.
    pub dev_up: Option<bool>,
    /// The route that makes it local.
    pub local_route: Option<Evidence>,
    /// `ipvs`, or the table of the rule; null when nothing takes its packets.
    pub taken_by: Option<String>,
    /// Only packets of the node itself are taken: those of pods and clients go by.
    pub only_own: bool,
    /// The virtual service and its real servers, or the rule.
    pub rows: Vec<Evidence>,
    /// What a pod of the node sees.
    pub pod_sees: Option<OverallSees>,
    /// What a program on the node sees.
    pub node_sees: OverallSees,
    /// Whose programs take packets of the node away from the kernel's tables, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outside: Vec<String>,
}

/// What `kube-ipvs0` is on a node.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct KubeIpvs0Document {
    /// The node.
    pub node: String,
    /// The node has the device; `null` = its links were not captured.
    pub present: Option<bool>,
    /// It is up.
    pub up: Option<bool>,
    /// Virtual services of IPVS.
    pub virtual_services: Option<usize>,
    /// Addresses on the device; `null` = not captured.
    pub addresses: Option<Vec<HeldDoc>>,
    /// Addresses of Services that are on no device.
    pub missing: Vec<HeldDoc>,
    /// Devices on which the node answers ARP for these addresses; `null` = there is no such address, or no
    /// device that leads to neighbours.
    pub answers_on: Option<Vec<String>>,
    /// Devices of which that is not known.
    pub may_answer_on: Option<Vec<String>>,
    /// The device, the route that makes the first of its addresses local, and the sysctls of ARP.
    pub rows: Vec<Evidence>,
}

/// An address and whose it is.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct HeldDoc {
    /// The address.
    pub address: IpAddr,
    /// `cluster-ip`, `load-balancer`, `external-ip`, `stale`, `unknown`, `swallowed`, `missing`.
    pub kind: String,
    /// `ns/name`, or a node's name.
    pub owner: Option<String>,
}

fn row(cites: &Glossary, row: &TraceEvidence) -> Evidence {
    let cite = cites.cite(row);
    Evidence {
        artifact: row.artifact.to_string(),
        line: cite.map(|c| c.line),
        index: cite.and_then(|c| c.index),
        handle: row.handle,
        text: row.text.to_string(),
    }
}

/// Converts the answer.
pub fn document(answer: &ClusterIpExplanation) -> ClusterIpDocument {
    let rule = answer.taker.iter().filter(|t| !t.ipvs).map(|t| &t.rule);
    let cited = |e: &TraceEvidence| row(&answer.cites, e);
    ClusterIpDocument {
        address: answer.address,
        port: answer.port,
        proto: words::protocol(answer.proto),
        node: answer.node.clone(),
        services: answer.services.iter().map(ToString::to_string).collect(),
        dev: answer.stands.as_ref().map(|(dev, _)| dev.clone()),
        dev_up: answer.stands.as_ref().map(|(_, up)| *up),
        local_route: answer.local.as_ref().map(cited),
        only_own: answer.only_own,
        taken_by: answer.taker.as_ref().map(|t| t.table.clone()),
        rows: answer.service_rows.iter().chain(rule).map(cited).collect(),
        pod_sees: answer.pod.as_ref().map(|(_, seen)| convert::overall(seen)),
        node_sees: convert::overall(&answer.own),
        outside: systems::taken_over(&answer.own),
    }
}

/// Converts the answer.
pub fn device(answer: &KubeIpvs0) -> KubeIpvs0Document {
    let held = |(address, held): (&IpAddr, &Held)| {
        let (kind, owner) = match held {
            Held::Service(whose) => named(whose),
            Held::Swallowed(whose) => ("swallowed", named(whose).1),
            Held::Stale => ("stale", None),
            Held::Nobodys => ("unknown", None),
        };
        HeldDoc {
            address: *address,
            kind: kind.to_owned(),
            owner,
        }
    };
    let device = answer.device.iter().map(|d| &d.row);
    let rows = device.chain(&answer.local).chain(&answer.arp_rows);
    KubeIpvs0Document {
        node: answer.node.clone(),
        present: answer.links_known.then_some(answer.device.is_some()),
        up: answer.device.as_ref().map(|d| d.up),
        virtual_services: answer.services,
        addresses: answer.addresses.as_ref().map(|all| all.iter().map(held).collect()),
        missing: answer
            .missing
            .iter()
            .map(|(address, whose)| HeldDoc {
                address: *address,
                kind: "missing".to_owned(),
                owner: named(whose).1,
            })
            .collect(),
        answers_on: answer.arp.as_ref().map(|a| a.answers_on.clone()),
        may_answer_on: answer.arp.as_ref().map(|a| a.may_answer_on.clone()),
        rows: rows.map(|e| row(&answer.cites, e)).collect(),
    }
}

fn named(whose: &Whose) -> (&'static str, Option<String>) {
    match whose {
        Whose::ClusterIp(name) => ("cluster-ip", Some(name.to_string())),
        Whose::LoadBalancer(name) => ("load-balancer", Some(name.to_string())),
        Whose::ExternalIp(name) => ("external-ip", Some(name.to_string())),
        Whose::Pod(name) => ("pod", Some(name.to_string())),
        Whose::Node(name) => ("node", Some(name.clone())),
        Whose::Netns(_) => ("netns", None),
    }
}
