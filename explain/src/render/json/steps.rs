//! Steps of a hop: `step` says which kind, and each kind has its own fields.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::Serialize;

use super::convert::Names;
use super::model::Evidence;
use crate::explanation::{Engine, FdbTo, Field, NsId, RuleVerdict, Step as TraceStep, What};
use crate::render::words;

/// One decision of the kernel.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Step {
    /// What was decided.
    #[serde(flatten)]
    pub what: Decision,
    /// Where it is written.
    pub evidence: Vec<Evidence>,
}

/// What one step decided.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(tag = "step", rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the fields of the dataplane's trace::What, documented there")]
pub enum Decision {
    /// A rule of a chain was met.
    Rule {
        engine: EngineWord,
        table: String,
        chain: String,
        /// `continue`, `accept`, `drop`, `reject`, `jump`, `goto`, `return`, `queue`, `nat`, `unknown`;
        /// null: it did not match.
        verdict: Option<String>,
        /// Of a jump.
        #[serde(skip_serializing_if = "Option::is_none")]
        target: Option<String>,
        /// Who wrote the chain.
        #[serde(skip_serializing_if = "Option::is_none")]
        owner: Option<String>,
        /// The service port the chain is for.
        #[serde(skip_serializing_if = "Option::is_none")]
        service: Option<String>,
    },
    /// A base chain's policy decided.
    Policy {
        engine: EngineWord,
        table: String,
        chain: String,
        drop: bool,
    },
    /// A field or mark was changed.
    Rewrite {
        field: String,
        from: Option<u32>,
        to: Option<u32>,
    },
    /// Conntrack saw the packet.
    Conntrack { event: String },
    /// An address was translated.
    Nat {
        /// `source` or `destination`.
        of: String,
        from: String,
        to: String,
    },
    /// A policy-routing rule.
    RouteRule { table: Option<String> },
    /// A route.
    Route {
        kind: String,
        via: Option<IpAddr>,
        oif: Option<String>,
        prefsrc: Option<IpAddr>,
        owner: Option<String>,
    },
    /// No route.
    NoRoute,
    /// The neighbour table.
    Neighbour {
        addr: IpAddr,
        state: Option<String>,
        mac: Option<String>,
    },
    /// Who would answer ARP or neighbour discovery.
    Answered {
        addr: IpAddr,
        node: String,
        netns: String,
        dev: String,
        proxy: bool,
    },
    /// A bridge's forwarding database.
    Fdb {
        mac: Option<String>,
        to: String,
        ports: Vec<String>,
    },
    /// From one device to another.
    Cross { node: String, netns: String, dev: String },
    /// A tunnel wrapped the packet.
    Encap {
        dev: String,
        local: Option<IpAddr>,
        remote: Option<IpAddr>,
        key: Option<u32>,
    },
    /// A tunnel unwrapped the packet.
    Decap { dev: String },
    /// A sysctl decided. `value` is null when it was not captured.
    Sysctl { key: String, value: Option<i64> },
    /// IPVS chose a real server; `server` is null when there is none.
    Ipvs {
        server: Option<String>,
        forward: Option<String>,
        by: String,
    },
    /// A socket takes the packet.
    Socket { program: Option<String> },
    /// A program at a device (XDP, tc) sees the packet; it is not run.
    Program { dev: String, sending: bool },
    /// MTU of the device it leaves by.
    Mtu { dev: String, mtu: u32 },
    /// Routed again after a change in OUTPUT.
    Reroute,
    /// A table that would be asked was not captured.
    NotCaptured { artifact: String },
    /// A match or target that the model cannot decide.
    Undecided,
}

/// Which engine.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "each variant is the engine it names")]
pub enum EngineWord {
    IptablesLegacy,
    IptablesNft,
    Nft,
}

impl From<Engine> for EngineWord {
    fn from(engine: Engine) -> Self {
        match engine {
            Engine::XtLegacy => Self::IptablesLegacy,
            Engine::XtNft => Self::IptablesNft,
            Engine::Nft => Self::Nft,
        }
    }
}

/// Converts a step of a hop in `ns`.
pub fn step(names: Names<'_>, ns: NsId, step: &TraceStep) -> Step {
    let evidence = step.evidence.iter().map(|e| names.evidence(e)).collect();
    Step {
        what: decision(names, ns, step),
        evidence,
    }
}

fn decision(names: Names<'_>, ns: NsId, step: &TraceStep) -> Decision {
    let glossary = names.glossary;
    let dev = |ns, dev| glossary.device(ns, dev).to_owned();
    match &step.what {
        What::Rule {
            engine,
            table,
            chain,
            verdict,
        } => {
            let note = glossary.chain(*engine, table, chain);
            let text = step.evidence.first().map_or("", |e| &*e.text);
            let owner = crate::owner::of_rule(*engine, table, chain, text);
            Decision::Rule {
                engine: (*engine).into(),
                table: table.to_string(),
                chain: chain.to_string(),
                verdict: verdict.as_ref().map(|v| verdict_word(v).to_owned()),
                target: match verdict {
                    Some(RuleVerdict::Jump(to) | RuleVerdict::Goto(to)) => Some(to.to_string()),
                    Some(RuleVerdict::Reject(how)) => Some(words::reject(*how).to_owned()),
                    _ => None,
                },
                owner: owner.map(|o| words::owner(o).to_owned()),
                service: note.and_then(|n| n.service.as_ref()).map(ToString::to_string),
            }
        }
        What::Policy {
            engine,
            table,
            chain,
            drop,
        } => Decision::Policy {
            engine: (*engine).into(),
            table: table.to_string(),
            chain: chain.to_string(),
            drop: *drop,
        },
        What::Rewrite(field) => rewrite(*field),
        What::Conntrack(event) => Decision::Conntrack {
            event: words::conntrack(*event).to_owned(),
        },
        What::Nat { source, from, to } => Decision::Nat {
            of: if *source { "source" } else { "destination" }.to_owned(),
            from: words::socket(from.0, from.1),
            to: words::socket(to.0, to.1),
        },
        What::RouteRule { table } => Decision::RouteRule {
            table: table.map(|t| t.to_string()),
        },
        What::Route {
            kind,
            via,
            oif,
            prefsrc,
        } => {
            let route = step
                .evidence
                .iter()
                .find_map(|e| glossary.routes.get(&(e.artifact.clone(), e.at.start)));
            Decision::Route {
                kind: words::route_kind(*kind).to_owned(),
                via: *via,
                oif: oif.map(|oif| dev(ns, oif)),
                prefsrc: *prefsrc,
                owner: route.and_then(|r| r.owner).map(words::route_owner),
            }
        }
        What::NoRoute => Decision::NoRoute,
        What::Neighbour { addr, state, mac } => Decision::Neighbour {
            addr: *addr,
            state: state.map(|s| words::nud(s).to_owned()),
            mac: mac.map(|m| m.to_string()),
        },
        What::Answered {
            addr,
            by,
            dev: on,
            proxy,
        } => {
            let (node, netns) = names.place(*by);
            Decision::Answered {
                addr: *addr,
                node,
                netns,
                dev: dev(*by, *on),
                proxy: *proxy,
            }
        }
        What::Fdb { mac, to } => {
            let (word, ports) = match to {
                FdbTo::Local => ("local", Vec::new()),
                FdbTo::Port(port) => ("port", vec![dev(ns, *port)]),
                FdbTo::Flood(ports) => ("flood", ports.iter().map(|p| dev(ns, *p)).collect()),
            };
            Decision::Fdb {
                mac: mac.map(|m| m.to_string()),
                to: word.to_owned(),
                ports,
            }
        }
        What::Cross { to, dev: into } => {
            let (node, netns) = names.place(*to);
            Decision::Cross {
                node,
                netns,
                dev: dev(*to, *into),
            }
        }
        What::Encap {
            dev: by,
            local,
            remote,
            key,
        } => Decision::Encap {
            dev: dev(ns, *by),
            local: *local,
            remote: *remote,
            key: *key,
        },
        What::Decap { dev: by } => Decision::Decap { dev: dev(ns, *by) },
        What::Sysctl { key, value } => Decision::Sysctl {
            key: key.to_string(),
            value: *value,
        },
        What::Ipvs { server, forward, by } => Decision::Ipvs {
            server: server.map(|(addr, port)| words::socket(addr, Some(port))),
            forward: forward.map(|f| words::forward(f).to_owned()),
            by: words::ipvs_by(*by).to_owned(),
        },
        What::Socket { program } => Decision::Socket {
            program: program.as_ref().map(ToString::to_string),
        },
        What::Mtu { dev: by, mtu } => Decision::Mtu {
            dev: dev(ns, *by),
            mtu: *mtu,
        },
        What::Program { dev: at, sending } => Decision::Program {
            dev: dev(ns, *at),
            sending: *sending,
        },
        What::Reroute => Decision::Reroute,
        What::NotCaptured(artifact) => Decision::NotCaptured {
            artifact: artifact.to_string(),
        },
        What::Undecided => Decision::Undecided,
    }
}

fn rewrite(field: Field) -> Decision {
    let (field, from, to) = match field {
        Field::Mark { from, to } => ("mark", Some(from), Some(to)),
        Field::ConnMark { from, to } => ("connmark", Some(from), Some(to)),
        Field::Tos { from, to } => ("tos", Some(from.into()), Some(to.into())),
        Field::Ttl { from, to } => ("ttl", Some(from.into()), Some(to.into())),
        Field::Priority { to } => ("priority", None, Some(to)),
        Field::Zone(zone) => ("zone", None, Some(zone.0.into())),
        Field::Untracked => ("untracked", None, None),
        Field::Mss => ("mss", None, None),
    };
    Decision::Rewrite {
        field: field.to_owned(),
        from,
        to,
    }
}

/// A verdict as a word.
const fn verdict_word(verdict: &RuleVerdict) -> &'static str {
    match verdict {
        RuleVerdict::Continue => "continue",
        RuleVerdict::Accept => "accept",
        RuleVerdict::Drop => "drop",
        RuleVerdict::Reject(_) => "reject",
        RuleVerdict::Jump(_) => "jump",
        RuleVerdict::Goto(_) => "goto",
        RuleVerdict::Return => "return",
        RuleVerdict::Queue => "queue",
        RuleVerdict::Nat => "nat",
        RuleVerdict::Unknown => "unknown",
    }
}
