//! A request to a URL: the client's way to an ingress controller, what the objects intend there, and the
//! controller's way to the backend.
//!
//! Two walks that the kernels' tables decide, joined by a decision that only Kubernetes objects state.

use std::collections::BTreeSet;
use std::net::IpAddr;

use knet_dataplane::choice::{Ratio, ratio};
use knet_dataplane::trace::{Detail, Outcome};

use crate::explainer::Explainer;
use crate::explanation::Explanation;
use crate::names::Named;
use crate::query::Query;
use crate::resolve::http::{self, Action, Backend, Decision, HttpRule, Request};
use crate::resolve::{Context, QueryError};

/// More walks from controllers to backends than this are not made.
const MOST_LEGS: usize = 24;

/// The answer to a request.
#[derive(Clone, Debug)]
pub struct HttpExplanation {
    /// The request.
    pub request: Request,
    /// The addresses at which the host is found; the client takes the first of its family.
    pub addresses: Vec<IpAddr>,
    /// The client's way to what answers at the address.
    pub client: Explanation,
    /// Who takes the connection there, in order.
    pub controllers: Vec<Controller>,
    /// What the objects intend.
    pub decision: Decision,
    /// From each controller to each backend that is intended.
    pub legs: Vec<Leg>,
    /// There are more ways from controllers to backends than were walked.
    pub truncated: bool,
}

/// Who takes a client's connection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Controller {
    /// The node.
    pub node: String,
    /// The pod. `None`: a program of the node that is no known pod's.
    pub pod: Option<Named>,
    /// What tells that it connects to endpoints itself, past the Service.
    pub direct: Option<String>,
}

/// One way from a controller to a backend.
#[derive(Clone, Debug)]
pub struct Leg {
    /// Index of the controller.
    pub controller: usize,
    /// Index of the rule.
    pub rule: usize,
    /// The backend that the rule names.
    pub backend: Backend,
    /// Its share of the rule's requests.
    pub share: Ratio,
    /// The address and port of the endpoint, for a controller that connects to endpoints itself.
    pub endpoint: Option<(IpAddr, u16)>,
    /// What becomes of the connection.
    pub way: Way,
}

/// What becomes of a controller's connection.
#[derive(Clone, Debug)]
pub enum Way {
    /// It was walked.
    Walked(Box<Explanation>),
    /// It cannot be: the Service is not there, or has no such port.
    Refused(QueryError),
    /// The Service has no ready endpoint.
    NoEndpoints,
}

impl HttpExplanation {
    /// The exit code that says it in one digit: 0 every way ends in an answer of a backend, 1 some certainly does
    /// not, 3 cannot tell.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        let client = self.client.exit_code();
        if client != 0 {
            return client;
        }
        let certain = |leg: &Leg| self.decision.rules.get(leg.rule).is_some_and(|r| r.open.is_empty());
        // Which of several rules takes the request is not known: only what holds for all of them is certain.
        let known = self.decision.missing.is_empty();
        let only = known && self.decision.rules.len() == 1;
        let codes: Vec<(bool, u8)> = self
            .legs
            .iter()
            .map(|leg| (only && certain(leg), leg.way.exit_code()))
            .collect();
        if codes.iter().any(|&(sure, code)| sure && code == 1)
            || (known && !codes.is_empty() && codes.iter().all(|c| c.1 == 1))
        {
            1
        } else if codes.is_empty() || self.truncated || !self.decision.is_certain() || codes.iter().any(|c| c.1 != 0) {
            3
        } else {
            // A redirect or a default of the controller's own among the possible rules is no backend's answer.
            let backends = |rule: &HttpRule| matches!(rule.action, Action::Backends(_));
            if self.decision.rules.iter().all(backends) { 0 } else { 3 }
        }
    }
}

impl Way {
    /// The same for one leg.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Walked(explanation) => explanation.exit_code(),
            Self::NoEndpoints => 1,
            Self::Refused(error) if error.exit_code() == 3 => 3,
            Self::Refused(_) => 1,
        }
    }
}

/// Answers a request. `query.dst` is the URL; `host` stands in for its host where that is an address.
pub fn explain(
    explainer: &Explainer<'_>,
    query: &Query,
    host: Option<&str>,
    detail: Detail,
) -> Result<HttpExplanation, QueryError> {
    let context = explainer.context();
    let snapshot = context.world.snapshot;
    let request = http::request(&query.dst, host)?;
    let addresses = match request.address {
        Some(address) => vec![address],
        None => http::addresses(snapshot, &request),
    };
    let fits = |address: &&IpAddr| {
        query
            .family
            .is_none_or(|f| (f == crate::query::IpFamily::V4) == address.is_ipv4())
    };
    let Some(&address) = addresses.iter().find(fits) else {
        return Err(QueryError::NoFront {
            host: request.host,
            missing: ["cluster/ingresses.json", "cluster/gateways.json"]
                .into_iter()
                .filter(|file| snapshot.bytes(file).is_none())
                .collect(),
        });
    };
    let client = explainer.trace(
        &Query {
            dst: socket(address, request.port),
            proto: Some("tcp".to_owned()),
            ..query.clone()
        },
        detail,
    )?;
    let decision = http::decide(snapshot, &request, address);
    let controllers = controllers(context, &client);
    let (legs, truncated) = legs(explainer, &controllers, &decision, detail);
    Ok(HttpExplanation {
        request,
        addresses,
        client,
        controllers,
        decision,
        legs,
        truncated,
    })
}

fn socket(address: IpAddr, port: u16) -> String {
    match address {
        IpAddr::V4(_) => format!("{address}:{port}"),
        IpAddr::V6(_) => format!("[{address}]:{port}"),
    }
}

/// Whose sockets take the client's connection.
fn controllers(context: Context<'_, '_>, client: &Explanation) -> Vec<Controller> {
    let mut all = BTreeSet::new();
    for branch in client.branches.iter().filter(|b| b.end.outcome == Outcome::Delivered) {
        let Some(place) = branch.end.place.ns.and_then(|ns| context.names.place(ns)) else {
            continue;
        };
        let port = branch.end.packet.dport().map(|p| p.value);
        let pod = place.pod.clone().or_else(|| on_host(context, &place.node, port));
        let direct = pod.as_ref().and_then(|pod| connects_to_endpoints(context, pod));
        all.insert(Controller {
            node: place.node.clone(),
            pod,
            direct,
        });
    }
    all.into_iter().collect()
}

/// The one pod in the node's own network that says it has the port.
fn on_host(context: Context<'_, '_>, node: &str, port: Option<u16>) -> Option<Named> {
    let has = |pod: &knet_snapshot::cluster::Pod| {
        pod.host_network && pod.node.as_deref() == Some(node) && pod.ports.iter().any(|p| Some(p.port) == port)
    };
    let mut fitting = context
        .names
        .pods()
        .filter(|(_, entry)| entry.object.is_some_and(has))
        .map(|(name, _)| name.clone());
    let first = fitting.next()?;
    fitting.next().is_none().then_some(first)
}

/// Labels that may tell which controller a pod is.
pub const CONTROLLER_LABELS: &[&str] = &["app.kubernetes.io/name", "app", "k8s-app", "istio"];

/// Annotations of Ingress and IngressClass objects that are read.
pub const ANNOTATIONS: &[&str] = &[
    "kubernetes.io/ingress.class",
    "ingressclass.kubernetes.io/is-default-class",
    "nginx.ingress.kubernetes.io/use-regex",
    "nginx.ingress.kubernetes.io/canary",
    "nginx.ingress.kubernetes.io/permanent-redirect",
    "nginx.ingress.kubernetes.io/temporal-redirect",
];

/// Whether a label is that of a controller that is known to connect to endpoints itself (their documentation says so).
#[must_use]
pub fn is_known_controller(key: &str, value: &str) -> bool {
    const KNOWN: &[&str] = &[
        "ingress-nginx",
        "nginx-ingress",
        "traefik",
        "haproxy-ingress",
        "kubernetes-ingress",
        "contour",
        "envoy",
        "envoy-gateway",
        "kong",
        "istio-ingressgateway",
    ];
    let product = KNOWN.contains(&value) || (key == "istio" && value == "ingressgateway");
    CONTROLLER_LABELS.contains(&key) && product
}

fn connects_to_endpoints(context: Context<'_, '_>, pod: &Named) -> Option<String> {
    let labels = &context.names.pod(pod)?.object?.labels;
    CONTROLLER_LABELS.iter().find_map(|key| {
        let value = labels.get(*key)?;
        is_known_controller(key, value).then(|| format!("{key}={value}"))
    })
}

fn legs(
    explainer: &Explainer<'_>,
    controllers: &[Controller],
    decision: &Decision,
    detail: Detail,
) -> (Vec<Leg>, bool) {
    let context = explainer.context();
    let mut legs = Vec::new();
    for (c, controller) in controllers.iter().enumerate() {
        let src = match &controller.pod {
            Some(pod) => format!("pod/{pod}"),
            None => format!("node/{}", controller.node),
        };
        for (r, rule) in decision.rules.iter().enumerate() {
            let Action::Backends(backends) = &rule.action else {
                continue;
            };
            let total: u64 = backends.iter().map(|b| b.weight).sum();
            for backend in backends {
                let share = ratio(backend.weight, total);
                let mut leg = |endpoint: Option<(IpAddr, u16)>, share: Ratio, way: Way| {
                    legs.push(Leg {
                        controller: c,
                        rule: r,
                        backend: backend.clone(),
                        share,
                        endpoint,
                        way,
                    });
                };
                let walk = |dst: String| {
                    let query = Query {
                        src: src.clone(),
                        dst,
                        ..Query::default()
                    };
                    match explainer.trace(&query, detail) {
                        Ok(explanation) => Way::Walked(Box::new(explanation)),
                        Err(error) => Way::Refused(error),
                    }
                };
                let to_service = || {
                    let port = backend.port.as_ref().map(|p| format!(":{p}")).unwrap_or_default();
                    walk(format!("svc/{}{port}", backend.service))
                };
                match &controller.direct {
                    None => leg(None, share, to_service()),
                    Some(_) => match endpoints(context, backend) {
                        // What is wrong with the Service, its own walk says.
                        None => leg(None, share, to_service()),
                        Some(all) if all.is_empty() => leg(None, share, Way::NoEndpoints),
                        Some(all) => {
                            let each = share / ratio(all.len() as u64, 1);
                            for (address, port) in all {
                                let way = walk(socket(address, port));
                                leg(Some((address, port)), each.clone(), way);
                            }
                        }
                    },
                }
                if legs.len() > MOST_LEGS {
                    legs.truncate(MOST_LEGS);
                    return (legs, true);
                }
            }
        }
    }
    (legs, false)
}

/// The ready endpoints of a backend's port. `None`: no such Service or port, or nobody captured the slices.
fn endpoints(context: Context<'_, '_>, backend: &Backend) -> Option<Vec<(IpAddr, u16)>> {
    if !context.names.slices_known {
        return None;
    }
    let service = context.names.service(&backend.service)?;
    let port = match &backend.port {
        None => service.ports.first()?,
        Some(wanted) => service
            .ports
            .iter()
            .find(|p| p.name.as_deref() == Some(wanted) || p.port.to_string() == *wanted)?,
    };
    let name = port.name.clone().unwrap_or_default();
    let mut all = BTreeSet::new();
    for slice in context.names.slices(&backend.service) {
        let Some(port) = slice.ports.iter().find(|p| p.name == name).and_then(|p| p.port) else {
            continue;
        };
        let ready = slice.endpoints.iter().filter(|e| e.ready != Some(false));
        all.extend(ready.filter_map(|e| Some((*e.addresses.first()?, port))));
    }
    // One family is enough: a controller takes the Service's first.
    let v4 = all.iter().any(|(address, _)| address.is_ipv4());
    Some(all.into_iter().filter(|(address, _)| address.is_ipv4() == v4).collect())
}
