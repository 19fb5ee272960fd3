//! What goes wrong with a cluster, and what helps.

use knet_snapshot::manifest::AbsentReason;

use super::connect::chain;

/// Closed: each has its own hint.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The kubeconfig.
    #[error("kubeconfig: {0}")]
    Kubeconfig(String),
    /// Nobody answers at the server's address.
    #[error("the API server cannot be reached: {0}")]
    Unreachable(String),
    /// 401
    #[error("the API server does not accept the credentials: {0}")]
    Unauthorized(String),
    /// 403
    #[error("not allowed: {0}")]
    Forbidden(String),
    /// Pod Security admission.
    #[error("Pod Security does not admit the agent in namespace {namespace}: {message}")]
    PodSecurity {
        /// Where it was to be.
        namespace: String,
        /// What the server said.
        message: String,
    },
    /// Another admission check or an invalid object.
    #[error("the API server does not take the agent: {0}")]
    Rejected(String),
    /// The image of the agent.
    #[error("the agent's image cannot be used on {node}: {message}")]
    Image {
        /// Node.
        node: String,
        /// What kubelet said.
        message: String,
    },
    /// The agent did not come up.
    #[error("the agent on {node} did not start: {message}")]
    NotStarted {
        /// Node.
        node: String,
        /// What it was last seen doing.
        message: String,
    },
    /// The node is not ready, so no pod starts on it.
    #[error("{node} is not ready: no agent can start there")]
    NotReady {
        /// Node.
        node: String,
    },
    /// The node was taken out of the cluster meanwhile.
    #[error("{node} is not in the cluster any more")]
    Gone {
        /// Node.
        node: String,
    },
    /// The API server speaks to the node's kubelet for us, and cannot.
    #[error("the API server cannot reach the kubelet of {node}: {message}")]
    Kubelet {
        /// Node.
        node: String,
        /// What the server said.
        message: String,
    },
    /// The connection to the agent ended before its answer did.
    #[error("the connection to the agent on {node} ended before its answer did")]
    Cut {
        /// Node.
        node: String,
    },
    /// The agent's pod ended while it was at work.
    #[error("the agent on {node} died half-way: {message}")]
    Died {
        /// Node.
        node: String,
        /// What became of its pod.
        message: String,
    },
    /// It ran, and failed.
    #[error("the collector on {node} failed: {message}")]
    Failed {
        /// Node.
        node: String,
        /// What it said.
        message: String,
    },
    /// Took too long.
    #[error("{0} took too long")]
    Timeout(String),
    /// The program to be sent to the node is not for it.
    #[error("{node} is {architecture}, and this program is built for {ours}")]
    Architecture {
        /// Node.
        node: String,
        /// Of the node.
        architecture: String,
        /// Of this program.
        ours: String,
    },
    /// 404: the server has no such object, or does not serve the kind.
    #[error("the API server does not have it: {0}")]
    NotServed(String),
    /// Anything else the server said.
    #[error("the API server says: {0}")]
    Server(String),
    /// A file on this machine.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl ClusterError {
    /// From what the client says.
    #[must_use]
    pub fn from_kube(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => match status.code {
                401 => Self::Unauthorized(status.message.clone()),
                403 => Self::Forbidden(status.message.clone()),
                404 => Self::NotServed(status.message.clone()),
                400 | 422 => Self::Rejected(status.message.clone()),
                _ => Self::Server(format!("{} ({})", status.message, status.code)),
            },
            kube::Error::Auth(_) => Self::Unauthorized(chain(error)),
            kube::Error::Service(_) | kube::Error::HyperError(_) => Self::Unreachable(chain(error)),
            _ => Self::Server(chain(error)),
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn hints(&self) -> Vec<String> {
        let hint = match self {
            Self::Kubeconfig(_) => {
                "pass --kubeconfig FILE or --context NAME, or --snapshot PATH for a captured cluster"
            }
            Self::Unreachable(_) => "does `kubectl get nodes` work?",
            Self::Unauthorized(_) => "log in again, or pass another --context",
            Self::Forbidden(_) => {
                "`kubectl knet rbac` prints the role that is needed; --agent none needs to read objects only"
            }
            Self::PodSecurity { namespace, .. } => {
                return vec![
                    format!("kubectl label namespace {namespace} pod-security.kubernetes.io/enforce=privileged"),
                    "or pass --agent-namespace with one where such pods run already (kube-system)".to_owned(),
                ];
            }
            Self::Rejected(_) => "--agent exec uses pods that are there already; --agent none needs no pod",
            Self::Image { .. } => {
                "pass --image with one the nodes can pull: any with `sh` and `cat`, or with --agent image one that holds this program"
            }
            Self::NotStarted { .. } | Self::Timeout(_) => {
                "--agent-timeout gives it longer; `kubectl describe pod` says what it waits for"
            }
            Self::Kubelet { .. } => {
                "`kubectl logs` and `kubectl exec` need the same way from the API server to the node's port 10250"
            }
            Self::Architecture { .. } => "pass --agent-binary with a static build for it, or --agent image",
            Self::NotReady { .. }
            | Self::Gone { .. }
            | Self::Cut { .. }
            | Self::Died { .. }
            | Self::Failed { .. }
            | Self::NotServed(_)
            | Self::Server(_)
            | Self::Io(_) => return Vec::new(),
        };
        vec![hint.to_owned()]
    }

    /// How an artifact nobody could get is noted.
    #[must_use]
    pub const fn reason(&self) -> AbsentReason {
        match self {
            Self::Forbidden(_) | Self::Unauthorized(_) | Self::PodSecurity { .. } => AbsentReason::Permission,
            Self::Timeout(_) => AbsentReason::Timeout,
            _ => AbsentReason::Error,
        }
    }
}

/// Whether the same request may be answered a moment later: the server failed, or the connection did after it was
/// made.
pub(super) fn may_pass(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => matches!(status.code, 429 | 500 | 502 | 503 | 504),
        kube::Error::HyperError(_) | kube::Error::ReadEvents(_) => true,
        kube::Error::Service(_) => !refused(error),
        // Half a document.
        kube::Error::SerdeError(e) => e.is_eof(),
        _ => false,
    }
}

/// Nobody listens, or there is no such name.
fn refused(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>()
            && io.kind() == std::io::ErrorKind::ConnectionRefused
        {
            return true;
        }
        // The client's own word for a connection that was never made.
        if error.to_string().starts_with("client error (Connect)") {
            return true;
        }
        cause = error.source();
    }
    false
}

impl From<kube::Error> for ClusterError {
    fn from(error: kube::Error) -> Self {
        Self::from_kube(&error)
    }
}
