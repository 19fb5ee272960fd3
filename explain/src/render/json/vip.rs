//! The shape of `knet.vip/v1`.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::Serialize;

use super::convert;
use super::model::{Evidence, OverallSees};
use crate::render::words;
use crate::topics::vip::{self, Advertises, Unsure, VipExplanation, VipOutcome, VipRole};

/// `schema` of a vip document.
pub const VIP: &str = "knet.vip/v1";

/// `vip`: one entry for every address that was meant.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(title = "knet.vip/v1")]
pub struct VipDocument {
    /// `knet.vip/v1`
    pub schema: String,
    /// The addresses.
    pub addresses: Vec<VipDoc>,
}

/// Who answers for one address.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct VipDoc {
    /// The address.
    pub address: IpAddr,
    /// `one`, `several`, `doubtful`, `nobody`, `program`, `routed`: for a client on the address's own segment.
    pub outcome: String,
    /// The nodes that answer; none where that is doubtful.
    pub answered_by: Vec<String>,
    /// The Services that name it.
    pub services: Vec<ServiceDoc>,
    /// Who put it there.
    pub controller: Option<ControllerDoc>,
    /// The segments that captured nodes are on.
    pub segments: Vec<SegmentDoc>,
    /// Every captured node.
    pub nodes: Vec<NodeDoc>,
    /// What was taken for granted about who answers.
    pub assumptions: Vec<String>,
}

/// A Service that names the address.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ServiceDoc {
    /// `ns/name`
    pub name: String,
    /// `load-balancer`, `load-balancer-proxy`, `external-ip`, `cluster-ip`.
    pub role: String,
    /// As written.
    pub external_traffic_policy: Option<String>,
    /// As written.
    pub internal_traffic_policy: Option<String>,
}

/// Who put the address there.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ControllerDoc {
    /// `metallb`, `purelb`, `kube-vip`, `servicelb`, `cilium`, `openelb`, `cloud`, `administrator`.
    pub name: String,
    /// What told so.
    pub by: String,
    /// `program`, `device`, `node-address`, `elsewhere`, `nothing`: how it expects to be answered for.
    pub expects: String,
    /// The node it says announces the address.
    pub node: Option<String>,
}

/// Devices on one wire.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct SegmentDoc {
    /// `node/device`
    pub members: Vec<String>,
    /// Subnets.
    pub subnets: Vec<String>,
    /// The address is in one of them.
    pub on_link: bool,
    /// Who asks.
    pub asker: IpAddr,
    /// Every device that hears the question.
    pub heard: Vec<HearingDoc>,
}

/// A device that hears the question.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct HearingDoc {
    /// Node.
    pub node: String,
    /// Namespace, when it is not the node's own.
    pub netns: Option<String>,
    /// Device.
    pub dev: String,
    /// MAC.
    pub mac: Option<String>,
    /// It answers.
    pub answers: bool,
    /// `own`, `proxy`, `down`, `noarp`, `not-local`, `not-read`, `arp-ignore`, `arp-filter`, `not-on-device`, `rule`,
    /// `doubtful`.
    pub because: String,
    /// The value of `arp_ignore` that keeps it silent.
    pub arp_ignore: Option<i64>,
}

/// One node.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct NodeDoc {
    /// Name.
    pub node: String,
    /// Devices that have the address.
    pub stands: Vec<StandDoc>,
    /// Its route to the address.
    pub route: Option<RouteDoc>,
    /// Devices on which it asks its neighbours in the name of the address.
    pub asks_as: Vec<String>,
    /// Whether it announces a route to the address to other routers.
    pub advertises: AdvertisesDoc,
    /// Ready endpoints on this node.
    pub endpoints_here: Option<usize>,
    /// Ready endpoints in all.
    pub endpoints: Option<usize>,
    /// What a client outside sees whose packet comes to this node.
    pub clients: Vec<ClientDoc>,
}

/// A device that has the address.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct StandDoc {
    /// Device.
    pub dev: String,
    /// Prefix length.
    pub prefix_len: u8,
    /// A dummy device.
    pub dummy: bool,
    /// It is up.
    pub up: bool,
    /// It does no ARP.
    pub noarp: bool,
    /// The device has another address before this one.
    pub secondary: bool,
}

/// A route to the address.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct RouteDoc {
    /// The address is the node's own.
    pub local: bool,
    /// Next hop.
    pub via: Option<IpAddr>,
    /// Device.
    pub dev: Option<String>,
    /// Not the default route.
    pub specific: bool,
    /// Who wrote it.
    pub owner: Option<String>,
    /// The row.
    pub evidence: Evidence,
}

/// Whether a node announces a route to the address, by the captured state of its routing daemons.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct AdvertisesDoc {
    /// `yes`, `no`, `unknown`.
    pub answer: String,
    /// Why it is unknown: `no-state` (nothing of a routing daemon was captured), `not-running` (neither BIRD nor FRR
    /// runs; another program might announce it), `other-daemon` (whether the other one runs is not known),
    /// `not-captured` (a daemon runs and could not be asked), `session-not-captured`, `speaks-itself` (a program that is
    /// not asked); else null.
    pub because: Option<String>,
    /// The daemon, file, session or program that this is about.
    pub of: Option<String>,
    /// The sessions it is announced on, or all, where it is on none.
    pub sessions: Vec<SessionDoc>,
}

/// A BGP session.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct SessionDoc {
    /// `bird`, `frr`.
    pub daemon: String,
    /// Its name; of FRR the neighbour.
    pub name: String,
    /// The neighbour.
    pub neighbour: Option<IpAddr>,
    /// Its state, in the daemon's word.
    pub state: String,
    /// A route to the address is announced on it; null when that was not captured.
    pub announced: Option<bool>,
    /// The prefix that is announced.
    pub prefix: Option<String>,
    /// The route, or the session.
    pub evidence: Evidence,
}

/// What a client outside sees.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ClientDoc {
    /// Port.
    pub port: u16,
    /// Protocol.
    pub proto: String,
    /// What it sees.
    pub client_sees: OverallSees,
    /// Servers: `ns/pod`, or `node NAME`.
    pub servers: Vec<String>,
    /// The servers see the client's own address; null when nobody is reached.
    pub source_kept: Option<bool>,
}

/// Converts the answers.
pub fn document(answers: &[VipExplanation]) -> VipDocument {
    VipDocument {
        schema: VIP.to_owned(),
        addresses: answers.iter().map(one).collect(),
    }
}

/// Converts one answer.
pub fn one(answer: &VipExplanation) -> VipDoc {
    let (outcome, answered_by) = match &answer.outcome {
        VipOutcome::One(node) => ("one", vec![node.clone()]),
        VipOutcome::Several(nodes) => ("several", nodes.clone()),
        VipOutcome::Doubtful(_) => ("doubtful", Vec::new()),
        VipOutcome::Nobody => ("nobody", Vec::new()),
        VipOutcome::Program => ("program", Vec::new()),
        VipOutcome::Routed => ("routed", Vec::new()),
    };
    VipDoc {
        address: answer.address,
        outcome: outcome.to_owned(),
        answered_by,
        services: answer
            .services
            .iter()
            .map(|s| ServiceDoc {
                name: s.name.to_string(),
                role: match s.role {
                    VipRole::LoadBalancer { proxy: false } => "load-balancer",
                    VipRole::LoadBalancer { proxy: true } => "load-balancer-proxy",
                    VipRole::ExternalIp => "external-ip",
                    VipRole::ClusterIp => "cluster-ip",
                }
                .to_owned(),
                external_traffic_policy: s.external_traffic_policy.clone(),
                internal_traffic_policy: s.internal_traffic_policy.clone(),
            })
            .collect(),
        controller: answer.controller.as_ref().map(|told| ControllerDoc {
            name: words::controller(told.controller).0.to_owned(),
            by: told.by.clone(),
            expects: match told.controller.expects() {
                vip::Expects::Program => "program",
                vip::Expects::Device => "device",
                vip::Expects::NodeAddress => "node-address",
                vip::Expects::Elsewhere => "elsewhere",
                vip::Expects::Nothing => "nothing",
            }
            .to_owned(),
            node: told.node.clone(),
        }),
        segments: answer.segments.iter().map(segment).collect(),
        nodes: answer.nodes.iter().map(node).collect(),
        assumptions: answer
            .assumptions
            .iter()
            .map(|a| crate::render::notes::assumption(&crate::explanation::Assumed::Walk(a.clone())).text)
            .collect(),
    }
}

fn segment(segment: &vip::Segment) -> SegmentDoc {
    SegmentDoc {
        members: segment.members.iter().map(|(n, d)| format!("{n}/{d}")).collect(),
        subnets: segment.subnets.iter().map(ToString::to_string).collect(),
        on_link: segment.on_link,
        asker: segment.asker,
        heard: segment
            .heard
            .iter()
            .map(|h| {
                let (because, arp_ignore) = words::said(h.said);
                HearingDoc {
                    node: h.node.clone(),
                    netns: h.netns.clone(),
                    dev: h.dev.clone(),
                    mac: h.mac.map(|m| m.to_string()),
                    answers: h.said.answer().is_some(),
                    because: because.to_owned(),
                    arp_ignore,
                }
            })
            .collect(),
    }
}

fn node(node: &vip::VipNode) -> NodeDoc {
    NodeDoc {
        node: node.node.clone(),
        stands: node
            .stands
            .iter()
            .map(|s| StandDoc {
                dev: s.dev.clone(),
                prefix_len: s.prefix_len,
                dummy: s.dummy,
                up: s.up,
                noarp: s.noarp,
                secondary: s.secondary,
            })
            .collect(),
        route: node.route.as_ref().map(|r| RouteDoc {
            local: r.local,
            via: r.via,
            dev: r.dev.clone(),
            specific: r.specific,
            owner: r.owner.map(words::route_owner),
            evidence: Evidence {
                artifact: r.row.artifact.to_string(),
                line: None,
                index: None,
                handle: r.row.handle,
                text: r.row.text.to_string(),
            },
        }),
        asks_as: node.asks_as.clone(),
        advertises: advertises(&node.advertises),
        endpoints_here: node.endpoints.map(|e| e.0),
        endpoints: node.endpoints.map(|e| e.1),
        clients: node
            .clients
            .iter()
            .map(|c| ClientDoc {
                port: c.port,
                proto: c.proto.clone(),
                client_sees: convert::overall(&c.explanation),
                servers: c.servers(),
                source_kept: c.source_kept(),
            })
            .collect(),
    }
}

fn advertises(said: &vip::Announcement) -> AdvertisesDoc {
    let (answer, because, of) = match &said.answer {
        Advertises::Yes => ("yes", None, None),
        Advertises::No => ("no", None, None),
        Advertises::Unknown(why) => {
            let (because, of) = match why {
                Unsure::NoState => ("no-state", None),
                Unsure::NotRunning => ("not-running", None),
                Unsure::OtherDaemon(daemon) => ("other-daemon", Some(words::daemon(*daemon).0.to_owned())),
                Unsure::NotCaptured { path, .. } => ("not-captured", Some(path.clone())),
                Unsure::Session(name) => ("session-not-captured", Some(name.clone())),
                Unsure::Itself(program) => ("speaks-itself", Some((*program).to_owned())),
            };
            ("unknown", Some(because.to_owned()), of)
        }
    };
    let session = |s: &vip::BgpSession| SessionDoc {
        daemon: words::daemon(s.daemon).0.to_owned(),
        name: s.name.clone(),
        neighbour: s.neighbour,
        state: s.state.clone(),
        announced: s.announced,
        prefix: s.prefix.map(|p| p.to_string()),
        evidence: Evidence {
            artifact: s.row.artifact.to_string(),
            line: s.line,
            index: None,
            handle: None,
            text: s.row.text.to_string(),
        },
    };
    AdvertisesDoc {
        answer: answer.to_owned(),
        because,
        of,
        sessions: said.sessions.iter().map(session).collect(),
    }
}
