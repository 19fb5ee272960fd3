//! The shape of `knet.http/v1`.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::Serialize;

use super::convert;
use super::model::{Error, Evidence, TraceDocument};
use crate::render::words;
use crate::resolve::http::{Action, HttpRule, RuleKind};
use crate::topics::http::{Controller, HttpExplanation, Leg, Way};

/// `schema` of a request's document.
pub const HTTP: &str = "knet.http/v1";

/// A request to a URL: two traces joined by what Kubernetes objects intend.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(title = "knet.http/v1")]
pub struct HttpDocument {
    /// `knet.http/v1`
    pub schema: String,
    /// The request.
    pub request: RequestDoc,
    /// The addresses at which the host is found.
    pub addresses: Vec<IpAddr>,
    /// What the exit code says: `delivered`, `not-delivered`, `unknown`.
    pub outcome: String,
    /// The client's way, by the kernels' tables.
    pub client: TraceDocument,
    /// Who takes the client's connection.
    pub controllers: Vec<ControllerDoc>,
    /// What Ingress and HTTPRoute objects intend for the request. No kernel decides this.
    pub intent: IntentDoc,
    /// The ways from the controllers to the backends, by the kernels' tables.
    pub backends: Vec<LegDoc>,
    /// There are more of them than were walked.
    pub truncated: bool,
}

/// The request.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct RequestDoc {
    /// `http` or `https`.
    pub scheme: String,
    /// What the client's `Host` says.
    pub host: String,
    /// Port it connects to.
    pub port: u16,
    /// Path.
    pub path: String,
}

/// Who takes the client's connection.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ControllerDoc {
    /// Node.
    pub node: String,
    /// `ns/name`; null for a program of the node.
    pub pod: Option<String>,
    /// The label by which it is known to connect to endpoints itself, past the Service.
    pub connects_to_endpoints: Option<String>,
}

/// What objects intend.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct IntentDoc {
    /// Some rule certainly takes the request.
    pub certain: bool,
    /// Rules by precedence, up to the first that certainly takes the request.
    pub rules: Vec<RuleDoc>,
    /// Resources that would have to be asked and were not captured.
    pub not_captured: Vec<String>,
}

/// A rule that takes the request, or may.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct RuleDoc {
    /// `ingress` or `httproute`.
    pub kind: String,
    /// `ns/name`
    pub object: String,
    /// The class of an Ingress, or the Gateway of a route.
    pub served_by: Option<String>,
    /// Host as written; null: every host.
    pub host: Option<String>,
    /// Path as written; null: a default backend.
    pub path: Option<String>,
    /// `exact`, `prefix`, `implementation-specific`, `regular-expression`, `other`.
    pub path_type: Option<String>,
    /// What would have to be known to be sure that it takes the request.
    pub conditions: Vec<String>,
    /// `backends`, `redirect`, `other`.
    pub action: String,
    /// Where to, or what, as written.
    pub to: Option<String>,
    /// Where the object stands.
    pub evidence: Evidence,
}

/// One way from a controller to a backend.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct LegDoc {
    /// Index into `controllers`.
    pub controller: usize,
    /// Index into `intent.rules`.
    pub rule: usize,
    /// `ns/name` of the Service.
    pub service: String,
    /// Its port as the rule names it.
    pub port: Option<String>,
    /// Its share of the rule's requests, as an exact fraction.
    pub share: String,
    /// `addr:port` of the endpoint, for a controller that connects to endpoints itself.
    pub endpoint: Option<String>,
    /// The trace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceDocument>,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Error>,
}

/// The document of a request.
pub fn document(answer: &HttpExplanation, brief: bool) -> HttpDocument {
    let HttpExplanation {
        request,
        addresses,
        client,
        controllers,
        decision,
        legs,
        truncated,
    } = answer;
    HttpDocument {
        schema: HTTP.to_owned(),
        request: RequestDoc {
            scheme: if request.https { "https" } else { "http" }.to_owned(),
            host: request.host.clone(),
            port: request.port,
            path: request.path.clone(),
        },
        addresses: addresses.clone(),
        outcome: match answer.exit_code() {
            0 => "delivered",
            1 => "not-delivered",
            _ => "unknown",
        }
        .to_owned(),
        client: convert::document(client, brief),
        controllers: controllers.iter().map(controller).collect(),
        intent: IntentDoc {
            certain: decision.is_certain(),
            rules: decision.rules.iter().map(rule).collect(),
            not_captured: decision.missing.iter().map(|file| (*file).to_owned()).collect(),
        },
        backends: legs.iter().map(|l| leg(l, brief)).collect(),
        truncated: *truncated,
    }
}

fn controller(of: &Controller) -> ControllerDoc {
    ControllerDoc {
        node: of.node.clone(),
        pod: of.pod.as_ref().map(ToString::to_string),
        connects_to_endpoints: of.direct.clone(),
    }
}

fn rule(rule: &HttpRule) -> RuleDoc {
    let (action, to) = match &rule.action {
        Action::Backends(_) => ("backends", None),
        Action::Redirect(to) => ("redirect", Some(to.clone())),
        Action::Other(what) => ("other", Some(what.clone())),
    };
    RuleDoc {
        kind: match rule.kind {
            RuleKind::Ingress => "ingress",
            RuleKind::HttpRoute => "httproute",
        }
        .to_owned(),
        object: rule.object.to_string(),
        served_by: rule.by.clone(),
        host: rule.host.clone(),
        path: rule.path.as_ref().map(|(_, text)| text.clone()),
        path_type: rule.path.as_ref().map(|(kind, _)| words::path_kind(*kind).0.to_owned()),
        conditions: rule.open.clone(),
        action: action.to_owned(),
        to,
        evidence: Evidence {
            artifact: rule.artifact.to_owned(),
            line: rule.line,
            index: None,
            handle: None,
            text: rule.object.to_string(),
        },
    }
}

fn leg(leg: &Leg, brief: bool) -> LegDoc {
    let (trace, error) = match &leg.way {
        Way::Walked(explanation) => (Some(convert::document(explanation, brief)), None),
        Way::Refused(error) => (
            None,
            Some(Error {
                code: error.code().to_owned(),
                message: error.to_string(),
                hints: error.hints(),
            }),
        ),
        Way::NoEndpoints => (
            None,
            Some(Error {
                code: "no-endpoints".to_owned(),
                message: format!("svc/{} has no ready endpoint", leg.backend.service),
                hints: Vec::new(),
            }),
        ),
    };
    LegDoc {
        controller: leg.controller,
        rule: leg.rule,
        service: leg.backend.service.to_string(),
        port: leg.backend.port.clone(),
        share: words::fraction(&leg.share),
        endpoint: leg
            .endpoint
            .map(|(address, port)| std::net::SocketAddr::new(address, port).to_string()),
        trace,
        error,
    }
}
