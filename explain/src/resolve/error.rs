//! Why a query cannot be asked, with what would help as data.

use std::net::IpAddr;

use knet_snapshot::id::Family;

use crate::names::Named;

/// What kind of object a name was looked up as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A pod.
    Pod,
    /// A service.
    Service,
    /// A node.
    Node,
    /// A pod or a node.
    Source,
    /// A service or a pod.
    Destination,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Pod => "pod",
            Self::Service => "service",
            Self::Node => "node",
            Self::Source => "pod or node",
            Self::Destination => "service or pod",
        })
    }
}

/// A port that could have been meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortChoice {
    /// Name, if it has one.
    pub name: Option<String>,
    /// Number.
    pub port: u16,
    /// `TCP`, `UDP`, `SCTP`.
    pub protocol: String,
}

impl std::fmt::Display for PortChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, port, protocol } = self;
        let protocol = protocol.to_ascii_lowercase();
        match name {
            Some(name) => write!(f, "{port}/{protocol} ({name})"),
            None => write!(f, "{port}/{protocol}"),
        }
    }
}

/// Why a query cannot be asked. `Display` is one line; [`QueryError::hints`] has what would help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// A name in a form that means nothing here.
    #[error("{text:?} is not {expected}")]
    Form {
        /// As written.
        text: String,
        /// What stands there instead.
        expected: &'static str,
        /// Examples.
        examples: &'static [&'static str],
    },
    /// A Kubernetes namespace that is not in the snapshot.
    #[error("there is no namespace {name:?} in the snapshot")]
    NoNamespace {
        /// As written.
        name: String,
        /// The closest that exist.
        close: Vec<String>,
        /// All that exist.
        exist: Vec<String>,
    },
    /// Nothing of this name.
    #[error("there is no {kind} {name:?} {}", place(namespace.as_deref()))]
    NotFound {
        /// What was looked for.
        kind: Kind,
        /// As written.
        name: String,
        /// Where it was looked for; `None` = in all namespaces.
        namespace: Option<String>,
        /// Exact matches in other namespaces or of another kind, as they can be written.
        elsewhere: Vec<String>,
        /// Near misses, as they can be written.
        close: Vec<String>,
        /// The resource was not captured, so that no name of it can be found.
        not_captured: Option<&'static str>,
    },
    /// Several things of this name.
    #[error("{name:?} could be any of {}", candidates.len())]
    Ambiguous {
        /// As written.
        name: String,
        /// As they can be written.
        candidates: Vec<String>,
    },
    /// A port is needed.
    #[error("which port of {target}?")]
    PortNeeded {
        /// As it can be written, without a port.
        target: String,
        /// The ports it has.
        ports: Vec<PortChoice>,
    },
    /// The service has no such port.
    #[error("{target} has no port {port}")]
    NoPort {
        /// As it can be written, without a port.
        target: String,
        /// As written.
        port: String,
        /// The ports it has.
        ports: Vec<PortChoice>,
    },
    /// The service port has another protocol than asked for.
    #[error("port {port} of {target} is {}, not {asked}", has.to_ascii_lowercase())]
    OtherProtocol {
        /// As it can be written.
        target: String,
        /// The port.
        port: u16,
        /// Its protocol.
        has: String,
        /// What was asked for.
        asked: String,
    },
    /// ExternalName services are answered by DNS: there is no address to send to.
    #[error("service {service} is of type ExternalName: a DNS alias of {host}, without an address in the cluster")]
    ExternalName {
        /// The service.
        service: Named,
        /// `spec.externalName`
        host: String,
    },
    /// A headless service without ready endpoints: DNS has no address for it.
    #[error("headless service {service} has no ready endpoint{}: its name resolves to no address", of(*family))]
    NoEndpoints {
        /// The service.
        service: Named,
        /// The family that was asked for.
        family: Option<Family>,
    },
    /// The thing has no address (of the family).
    #[error("{target} has no {}address", family_word(*family))]
    NoAddress {
        /// As it can be written.
        target: String,
        /// The family that was needed.
        family: Option<Family>,
        /// The addresses it has.
        has: Vec<IpAddr>,
    },
    /// The service has no address for clients outside.
    #[error("svc/{service} has no load balancer address and no external IP{}", hostname.as_ref().map_or_else(String::new, |h| format!(", only the name {h}")))]
    NoVip {
        /// The service.
        service: Named,
        /// The name its load balancer has instead.
        hostname: Option<String>,
    },
    /// The service has no `ClusterIP`.
    #[error("svc/{service} has no ClusterIP: it is headless, or a name for something outside")]
    NoClusterIp {
        /// The service.
        service: Named,
    },
    /// No object says at which address a host is found.
    #[error("no Ingress and no Gateway in the snapshot says at which address {host} is found")]
    NoFront {
        /// The host.
        host: String,
        /// Files that would say, and were not captured.
        missing: Vec<&'static str>,
    },
    /// Source and destination are not of one family.
    #[error("{src} and {dst} are not of one address family")]
    Families {
        /// Source.
        src: IpAddr,
        /// Destination.
        dst: IpAddr,
    },
    /// The network namespace of the source was not captured.
    #[error("the network namespace of {pod} was not captured{}", on(node.as_deref()))]
    NotCaptured {
        /// As it can be written.
        pod: String,
        /// Its node.
        node: Option<String>,
        /// Nodes that were captured.
        captured: Vec<String>,
    },
    /// `ip/ADDR` is an address of something inside.
    #[error("{addr} is not off the cluster: it is {whose}")]
    Inside {
        /// The address.
        addr: IpAddr,
        /// As it can be written.
        whose: String,
    },
    /// `via` does not say by which device, and the node's routes do not tell.
    #[error("by which device of node {node} does a packet from {client} come in?")]
    Entry {
        /// The node.
        node: String,
        /// The client.
        client: IpAddr,
        /// Devices it could be.
        devices: Vec<String>,
    },
    /// No such device.
    #[error("node {node} has no device {device:?}")]
    NoDevice {
        /// The node.
        node: String,
        /// As written.
        device: String,
        /// Devices it has.
        devices: Vec<String>,
    },
    /// A field that only makes sense for another kind of source.
    #[error("{field} is for {only}")]
    FieldNotForSource {
        /// The field.
        field: &'static str,
        /// What it is for.
        only: &'static str,
    },
    /// A field that cannot be read.
    #[error("{field} {text:?} is not {expected}")]
    Field {
        /// The field.
        field: &'static str,
        /// As written.
        text: String,
        /// What stands there instead.
        expected: &'static str,
    },
    /// The snapshot has no nodes at all.
    #[error("the snapshot holds no node: there is nothing to walk")]
    NoNodes,
    /// Port 0.
    #[error("port 0 is no port")]
    PortZero,
}

fn place(namespace: Option<&str>) -> String {
    namespace.map_or_else(|| "in the snapshot".to_owned(), |ns| format!("in namespace {ns:?}"))
}

fn of(family: Option<Family>) -> &'static str {
    match family {
        Some(Family::V4) => " of IPv4",
        Some(Family::V6) => " of IPv6",
        None => "",
    }
}

const fn family_word(family: Option<Family>) -> &'static str {
    match family {
        Some(Family::V4) => "IPv4 ",
        Some(Family::V6) => "IPv6 ",
        None => "",
    }
}

fn on(node: Option<&str>) -> String {
    node.map_or_else(String::new, |n| format!(" (it is on node {n})"))
}

/// At most this many names in one hint.
const MOST: usize = 12;

fn list(names: &[String]) -> String {
    let mut out = names.iter().take(MOST).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > MOST {
        out.push_str(&format!(", … ({} in all)", names.len()));
    }
    out
}

fn choices(ports: &[PortChoice]) -> String {
    list(&ports.iter().map(ToString::to_string).collect::<Vec<_>>())
}

impl QueryError {
    /// Lines that help: the closest names, what exists, what to write instead. Print each after `hint: `.
    #[must_use]
    pub fn hints(&self) -> Vec<String> {
        match self {
            Self::NoFront { host, missing } => {
                let mut hints = vec![format!("give the address: http://ADDR/PATH --host {host}")];
                hints.extend(missing.iter().map(|file| format!("{file} was not captured")));
                hints
            }
            Self::NoClusterIp { service } => vec![format!(
                "DNS answers with its endpoints, and no node translates anything: trace SRC svc/{service}"
            )],
            Self::NoVip { .. } => {
                vec!["the controller may not have given it one yet; ask about the address itself".to_owned()]
            }
            Self::Form { examples, .. } => vec![format!("write for example {}", examples.join(", "))],
            Self::NoNamespace { close, exist, .. } => {
                let mut hints = Vec::new();
                if !close.is_empty() {
                    hints.push(format!("did you mean {}?", list(close)));
                }
                if !exist.is_empty() {
                    hints.push(format!("the snapshot has {}", list(exist)));
                }
                hints
            }
            Self::NotFound {
                elsewhere,
                close,
                not_captured,
                ..
            } => {
                let mut hints = Vec::new();
                if !elsewhere.is_empty() {
                    hints.push(format!("there is {}", list(elsewhere)));
                }
                if !close.is_empty() {
                    hints.push(format!("did you mean {}?", list(close)));
                }
                if let Some(path) = not_captured {
                    hints.push(format!(
                        "{path} is not in the snapshot: use ADDR:PORT, node/NAME or a captured pod"
                    ));
                }
                hints
            }
            Self::Ambiguous { candidates, .. } => vec![format!("write one of {}", list(candidates))],
            Self::PortNeeded { target, ports } => match ports.first() {
                Some(first) => vec![
                    format!("it has {}", choices(ports)),
                    format!(
                        "write {target}:{}",
                        first.name.clone().unwrap_or_else(|| first.port.to_string())
                    ),
                ],
                None => vec![format!("write {target}:PORT, or --proto icmp to ping it")],
            },
            Self::NoPort { ports, .. } if ports.is_empty() => Vec::new(),
            Self::NoPort { ports, .. } => vec![format!("it has {}", choices(ports))],
            Self::OtherProtocol { has, .. } => {
                vec![format!(
                    "leave --proto out, or write --proto {}",
                    has.to_ascii_lowercase()
                )]
            }
            Self::ExternalName { host, .. } => {
                vec![format!("resolve {host} and trace to its address: ADDR:PORT")]
            }
            Self::NoEndpoints { .. } => {
                vec!["see which pods its selector matches, and whether they are ready".to_owned()]
            }
            Self::NoAddress { has, .. } if has.is_empty() => Vec::new(),
            Self::NoAddress { has, .. } => {
                vec![format!(
                    "it has {}",
                    list(&has.iter().map(ToString::to_string).collect::<Vec<_>>())
                )]
            }
            Self::Families { .. } => vec!["choose the family of both ends with -4 or -6".to_owned()],
            Self::NotCaptured { captured, .. } if captured.is_empty() => Vec::new(),
            Self::NotCaptured { captured, .. } => vec![format!("namespaces were captured on {}", list(captured))],
            Self::Inside { whose, .. } => vec![
                format!("write {whose} to send from there"),
                "or say with --via node/NAME/DEVICE where a packet with this source comes in".to_owned(),
            ],
            Self::Entry { node, devices, .. } => match devices.first() {
                Some(first) => vec![format!("write --via node/{node}/{first} (it has {})", list(devices))],
                None => vec![format!("write --via node/{node}/DEVICE")],
            },
            Self::NoDevice { devices, .. } => vec![format!("it has {}", list(devices))],
            Self::FieldNotForSource { .. } | Self::Field { .. } | Self::NoNodes | Self::PortZero => Vec::new(),
        }
    }

    /// A stable word for each kind of error, for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Form { .. } => "bad-form",
            Self::NoNamespace { .. } => "no-namespace",
            Self::NotFound { .. } => "not-found",
            Self::Ambiguous { .. } => "ambiguous",
            Self::PortNeeded { .. } => "port-needed",
            Self::NoPort { .. } => "no-port",
            Self::OtherProtocol { .. } => "other-protocol",
            Self::ExternalName { .. } => "external-name",
            Self::NoEndpoints { .. } => "no-endpoints",
            Self::NoAddress { .. } => "no-address",
            Self::NoVip { .. } => "no-vip",
            Self::NoClusterIp { .. } => "no-cluster-ip",
            Self::NoFront { .. } => "no-front",
            Self::Families { .. } => "families",
            Self::NotCaptured { .. } => "not-captured",
            Self::Inside { .. } => "inside",
            Self::Entry { .. } => "entry-needed",
            Self::NoDevice { .. } => "no-device",
            Self::FieldNotForSource { .. } => "field-not-for-source",
            Self::Field { .. } => "bad-field",
            Self::NoNodes => "no-nodes",
            Self::PortZero => "port-zero",
        }
    }

    /// 2: the query is wrong; 3: it is right, but the snapshot cannot tell.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::NotCaptured { .. } | Self::NoNodes => 3,
            _ => 2,
        }
    }
}
