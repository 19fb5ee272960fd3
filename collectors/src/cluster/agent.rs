//! An agent's life: made, waited for, asked, taken away.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::future::{Either, join_all, select};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{AttachParams, DeleteParams, ListParams, PostParams};
use kube::{Api, Client};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, sleep, timeout};

use super::pod::{self, AgentOptions, How};
use super::{ClusterError, MANAGED_BY, RUN};

/// What a node answered: a `.tar.gz`, and what its collector remarked.
#[derive(Debug)]
pub struct Capture {
    /// The archive.
    pub archive: Vec<u8>,
    /// Lines of standard error.
    pub remarks: Vec<String>,
}

/// The agents of one run. [`Agents::finish`] must be called however it ends.
pub struct Agents<'o> {
    client: Client,
    options: &'o AgentOptions,
    /// Pods that may exist: noted before they are asked for.
    made: Mutex<BTreeSet<String>>,
}

/// How often a pod is looked at.
const LOOK: Duration = Duration::from_millis(400);
/// For taking pods away.
const LAST: Duration = Duration::from_secs(20);
/// More of a remark than this helps nobody.
const STDERR: usize = 64 << 10;

impl<'o> Agents<'o> {
    /// None yet.
    #[must_use]
    pub const fn new(client: Client, options: &'o AgentOptions) -> Self {
        Self {
            client,
            options,
            made: Mutex::new(BTreeSet::new()),
        }
    }

    /// The program that is sent to the nodes; empty when none is.
    #[must_use]
    pub fn binary(&self) -> &[u8] {
        &self.options.binary
    }

    /// Nodes at once.
    #[must_use]
    pub fn parallel(&self) -> usize {
        self.options.parallel.max(1)
    }

    fn pods(&self, namespace: &str) -> Api<Pod> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Captures one node. `pods` are the pods on it, for [`How::Exec`].
    ///
    /// # Errors
    /// Why there is no capture; the agent is gone again, as far as the server lets us.
    pub async fn capture(&self, node: &str, pods: &[(String, String)]) -> Result<Capture, ClusterError> {
        let within = self.options.timeout + Duration::from_secs(30);
        let work = async {
            self.fits(node).await?;
            match self.options.how {
                How::None => Err(ClusterError::Failed {
                    node: node.to_owned(),
                    message: "nodes are not asked".to_owned(),
                }),
                How::Exec => self.in_a_pod_that_is_there(node, pods).await,
                How::Stream | How::Image => self.in_a_pod_of_our_own(node).await,
            }
        };
        match timeout(within, work).await {
            Ok(result) => result,
            Err(_) => {
                self.delete(&pod::name(node, &self.options.run)).await;
                Err(ClusterError::Timeout(format!("the agent on {node}")))
            }
        }
    }

    /// Is the node ready, and of our architecture?
    async fn fits(&self, name: &str) -> Result<(), ClusterError> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        // Who may run pods and not read nodes finds out later.
        let Ok(node) = nodes.get(name).await else { return Ok(()) };
        let status = node.status.unwrap_or_default();
        let ready = status.conditions.iter().flatten().find(|c| c.type_ == "Ready");
        if ready.is_some_and(|c| c.status != "True") {
            return Err(ClusterError::NotReady { node: name.to_owned() });
        }
        let theirs = status.node_info.map(|info| info.architecture).unwrap_or_default();
        match &self.options.architecture {
            Some(ours) if self.options.how != How::Image && !theirs.is_empty() && *ours != theirs => {
                Err(ClusterError::Architecture {
                    node: name.to_owned(),
                    architecture: theirs,
                    ours: ours.clone(),
                })
            }
            _ => Ok(()),
        }
    }

    async fn in_a_pod_of_our_own(&self, node: &str) -> Result<Capture, ClusterError> {
        let name = pod::name(node, &self.options.run);
        let namespace = self.options.namespace.as_str();
        let agent = pod::agent(node, self.options, now())?;
        if let Ok(mut made) = self.made.lock() {
            made.insert(name.clone());
        }
        let created = self.pods(namespace).create(&PostParams::default(), &agent).await;
        let result = match created {
            Ok(_) => self.ask(node, namespace, &name).await,
            // An earlier attempt whose answer was lost.
            Err(kube::Error::Api(status)) if status.code == 409 => self.ask(node, namespace, &name).await,
            Err(e) => Err(self.not_created(&e)),
        };
        self.delete(&name).await;
        result
    }

    async fn ask(&self, node: &str, namespace: &str, name: &str) -> Result<Capture, ClusterError> {
        self.started(node, namespace, name).await?;
        self.exec(node, namespace, name, "agent").await
    }

    fn not_created(&self, error: &kube::Error) -> ClusterError {
        match (ClusterError::from_kube(error), error) {
            (ClusterError::Forbidden(message), _) if message.contains("violates PodSecurity") => {
                ClusterError::PodSecurity {
                    namespace: self.options.namespace.clone(),
                    message,
                }
            }
            (_, kube::Error::Api(status)) if status.message.contains("admission webhook") => {
                ClusterError::Rejected(status.message.clone())
            }
            (error, _) => error,
        }
    }

    /// Waits until its container runs.
    async fn started(&self, node: &str, namespace: &str, name: &str) -> Result<(), ClusterError> {
        let deadline = Instant::now() + self.options.timeout;
        let pods = self.pods(namespace);
        let mut last;
        loop {
            let not_started = |message: String| ClusterError::NotStarted {
                node: node.to_owned(),
                message,
            };
            match pods.get_opt(name).await {
                Ok(Some(pod)) => match state(&pod) {
                    State::Running => return Ok(()),
                    State::Waiting(message) => last = message,
                    State::Image(message) => {
                        return Err(ClusterError::Image {
                            node: node.to_owned(),
                            message,
                        });
                    }
                    State::Ended(message) => return Err(not_started(message)),
                },
                Ok(None) => return Err(not_started("somebody deleted it".to_owned())),
                // One look that fails is not the end; the deadline is.
                Err(e) => last = ClusterError::from_kube(&e).to_string(),
            }
            if Instant::now() >= deadline {
                return Err(not_started(last));
            }
            sleep(LOOK).await;
        }
    }

    /// Runs the collector in a container and reads its answer.
    async fn exec(&self, node: &str, namespace: &str, pod: &str, container: &str) -> Result<Capture, ClusterError> {
        let send = self.options.how != How::Image;
        let params = AttachParams::default()
            .container(container)
            .stdin(send)
            .stdout(true)
            .stderr(true)
            .max_stdout_buf_size(1 << 20)
            .max_stdin_buf_size(1 << 16);
        let command = pod::command(node, self.options);
        let failed = |message: String| ClusterError::Failed {
            node: node.to_owned(),
            message,
        };
        let mut process = self.pods(namespace).exec(pod, command, &params).await?;
        let (stdin, stdout, stderr, status) = (
            process.stdin(),
            process.stdout(),
            process.stderr(),
            process.take_status(),
        );
        let writing = async {
            if let Some(mut stdin) = stdin {
                // When the other side is gone, its status says why.
                let _ = stdin.write_all(&self.options.binary).await;
                let _ = stdin.shutdown().await;
            }
            std::future::pending::<std::convert::Infallible>().await
        };
        let reading = async {
            let mut archive = Vec::new();
            if let Some(stdout) = stdout {
                let mut stdout = stdout.take(self.options.bytes + 1);
                stdout.read_to_end(&mut archive).await?;
            }
            if archive.len() as u64 > self.options.bytes {
                return Err(failed(format!("it answered more than {} bytes", self.options.bytes)));
            }
            Ok(archive)
        };
        let remarks = async {
            let mut text = Vec::new();
            if let Some(mut stderr) = stderr {
                let mut piece = [0; 4096];
                while let Ok(n @ 1..) = stderr.read(&mut piece).await {
                    let room = STDERR.saturating_sub(text.len());
                    text.extend_from_slice(&piece[..n.min(room)]);
                }
            }
            Ok::<_, ClusterError>(String::from_utf8_lossy(&text).into_owned())
        };
        let status = async {
            match status {
                Some(status) => status.await,
                None => None,
            }
        };
        // The streams end with a status. Without one the connection is gone, and they would never end.
        let answer = async {
            let streams = std::pin::pin!(async { tokio::try_join!(reading, remarks) });
            match select(streams, std::pin::pin!(status)).await {
                Either::Left((streams, status)) => Ok((streams?, status.await)),
                Either::Right((Some(status), streams)) => Ok((streams.await?, Some(status))),
                Either::Right((None, _)) => Err(failed("the connection ended before it did".to_owned())),
            }
        };
        // All at once: a full pipe on one of them would stop the others.
        let ((archive, remarks), status) = tokio::select! {
            answer = answer => answer?,
            never = writing => match never {},
        };
        let remarks: Vec<String> = remarks.lines().map(str::to_owned).collect();
        match status {
            Some(status) if status.status.as_deref() == Some("Success") => Ok(Capture { archive, remarks }),
            Some(status) => {
                let said = remarks.last().cloned().unwrap_or_default();
                let message = status.message.unwrap_or_default();
                Err(failed(format!("{message} {said}").trim().to_owned()))
            }
            None => Err(failed("the connection ended before it did".to_owned())),
        }
    }

    /// The first pod on the node that takes it.
    async fn in_a_pod_that_is_there(&self, node: &str, pods: &[(String, String)]) -> Result<Capture, ClusterError> {
        let mut last = None;
        for (namespace, name) in pods {
            let pod = match self.pods(namespace).get(name).await {
                Ok(pod) => pod,
                Err(e) => {
                    last = Some(ClusterError::from_kube(&e));
                    continue;
                }
            };
            let spec = pod.spec.unwrap_or_default();
            for container in spec.containers {
                match self.exec(node, namespace, name, &container.name).await {
                    Ok(capture) => return Ok(capture),
                    Err(e) => last = Some(e),
                }
            }
        }
        Err(last.unwrap_or_else(|| ClusterError::Failed {
            node: node.to_owned(),
            message: "no running pod on it shares its network".to_owned(),
        }))
    }

    async fn delete(&self, name: &str) {
        let params = DeleteParams::default().grace_period(0);
        let deleted = timeout(LAST, self.pods(&self.options.namespace).delete(name, &params)).await;
        let gone = match deleted {
            Ok(Ok(_)) => true,
            Ok(Err(kube::Error::Api(status))) => status.code == 404,
            _ => false,
        };
        if gone && let Ok(mut made) = self.made.lock() {
            made.remove(name);
        }
    }

    /// Takes away every pod of this run, those of requests without an answer too. Says which may be left.
    pub async fn finish(&self) -> Vec<String> {
        let left: Vec<String> = self
            .made
            .lock()
            .map(|made| made.iter().cloned().collect())
            .unwrap_or_default();
        join_all(left.iter().map(|name| self.delete(name))).await;
        let left = self
            .made
            .lock()
            .map(|made| made.iter().cloned().collect::<Vec<_>>())
            .unwrap_or_default();
        if left.is_empty() {
            return left;
        }
        let selector = format!("{}={},{RUN}={}", MANAGED_BY.0, MANAGED_BY.1, self.options.run);
        let pods = self.pods(&self.options.namespace);
        if let Ok(Ok(found)) = timeout(LAST, pods.list(&ListParams::default().labels(&selector))).await {
            let names: Vec<String> = found.items.into_iter().filter_map(|pod| pod.metadata.name).collect();
            join_all(names.iter().map(|name| self.delete(name))).await;
            return names
                .into_iter()
                .filter(|name| self.made.lock().is_ok_and(|made| made.contains(name)))
                .collect();
        }
        left
    }
}

pub(super) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

enum State {
    Running,
    Waiting(String),
    Image(String),
    Ended(String),
}

fn state(pod: &Pod) -> State {
    let status = pod.status.clone().unwrap_or_default();
    let phase = status.phase.unwrap_or_default();
    if matches!(phase.as_str(), "Failed" | "Succeeded") {
        let why = [status.reason, status.message];
        let why: Vec<String> = why.into_iter().flatten().collect();
        return State::Ended(format!("its pod is {phase} {}", why.join(": ")).trim().to_owned());
    }
    let container = status.container_statuses.into_iter().flatten().next();
    let Some(state) = container.and_then(|container| container.state) else {
        let scheduled = status.conditions.into_iter().flatten().find(|c| c.status == "False");
        let why = scheduled.and_then(|c| c.message.or(c.reason)).unwrap_or_default();
        return State::Waiting(format!("its pod is {phase} {why}").trim().to_owned());
    };
    if state.running.is_some() {
        return State::Running;
    }
    if let Some(ended) = state.terminated {
        let message = ended.message.or(ended.reason).unwrap_or_default();
        return State::Ended(format!("it ended with {}: {message}", ended.exit_code));
    }
    let waiting = state.waiting.unwrap_or_default();
    let reason = waiting.reason.unwrap_or_default();
    let message = format!("{reason} {}", waiting.message.unwrap_or_default())
        .trim()
        .to_owned();
    match reason.as_str() {
        "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" => State::Image(message),
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => State::Ended(message),
        _ => State::Waiting(message),
    }
}
