//! An agent's life: made, waited for, asked, taken away.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::future::{Either, join_all, select};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{AttachParams, DeleteParams, ListParams, PostParams};
use kube::{Api, Client};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, sleep, timeout};

use super::error::may_pass;
use super::pod::{self, AgentOptions, How};
use super::state::{State, state};
use super::{ClusterError, MANAGED_BY, RUN};
use crate::spool::spool;

/// What a node answered: a `.tar.gz`, and what its collector remarked.
#[derive(Debug)]
pub struct Capture {
    /// The archive, at its beginning.
    pub archive: File,
    /// Lines of standard error.
    pub remarks: Vec<String>,
}

/// The agents of one run. [`Agents::finish`] must be called however it ends.
pub struct Agents<'o> {
    client: Client,
    options: &'o AgentOptions,
    /// Pods that may exist, noted before they are asked for; `true` once the server said that they do.
    made: Mutex<BTreeMap<String, bool>>,
}

/// How often a pod is looked at.
const LOOK: Duration = Duration::from_millis(400);
/// For taking pods away.
const LAST: Duration = Duration::from_secs(20);
/// A request that was on its way when somebody interrupted may still be carried out within this time.
const LATE: Duration = Duration::from_millis(1500);
/// Before something that failed is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// Times a node is asked, when its answer gets lost.
const TIMES: u32 = 2;
/// Times its pod is asked for, when the server fails.
const CREATES: u32 = 3;
/// More of a remark than this helps nobody.
const STDERR: usize = 64 << 10;

impl<'o> Agents<'o> {
    /// None yet.
    #[must_use]
    pub const fn new(client: Client, options: &'o AgentOptions) -> Self {
        Self {
            client,
            options,
            made: Mutex::new(BTreeMap::new()),
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
                if matches!(self.options.how, How::Stream | How::Image) {
                    self.delete(&pod::name(node, &self.options.run)).await;
                }
                Err(ClusterError::Timeout(format!("the agent on {node}")))
            }
        }
    }

    /// Is the node ready, and of our architecture?
    async fn fits(&self, name: &str) -> Result<(), ClusterError> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let node = match nodes.get_opt(name).await {
            Ok(Some(node)) => node,
            Ok(None) => return Err(ClusterError::Gone { node: name.to_owned() }),
            // Who may run pods and not read nodes finds out later.
            Err(_) => return Ok(()),
        };
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
        let result = match self.create(node, &name).await {
            Ok(()) => self.ask(node, &name).await,
            Err(e) => Err(e),
        };
        self.delete(&name).await;
        result
    }

    async fn create(&self, node: &str, name: &str) -> Result<(), ClusterError> {
        let agent = pod::agent(node, self.options, now())?;
        let pods = self.pods(&self.options.namespace);
        let mut times = 1;
        loop {
            self.note(name, false);
            match pods.create(&PostParams::default(), &agent).await {
                Ok(_) => break,
                // An earlier attempt whose answer was lost.
                Err(kube::Error::Api(status)) if status.code == 409 => break,
                Err(e) if may_pass(&e) && times < CREATES => {
                    times += 1;
                    sleep(AGAIN).await;
                }
                Err(e) => {
                    // The server answered, and made none.
                    if matches!(e, kube::Error::Api(_)) {
                        self.note(name, true);
                    }
                    return Err(self.not_created(&e));
                }
            }
        }
        self.note(name, true);
        Ok(())
    }

    fn note(&self, name: &str, answered: bool) {
        if let Ok(mut made) = self.made.lock() {
            made.insert(name.to_owned(), answered);
        }
    }

    async fn ask(&self, node: &str, name: &str) -> Result<Capture, ClusterError> {
        let mut times = 1;
        loop {
            self.started(node, name).await?;
            let error = match self.exec(node, &self.options.namespace, name, "agent").await {
                Ok(capture) => return Ok(capture),
                Err(error) => error,
            };
            match error {
                ClusterError::Cut { .. } | ClusterError::Kubelet { .. } | ClusterError::Unreachable(_) => {}
                error => return Err(error),
            }
            if let Some(became) = self.became(node, name).await {
                return Err(became);
            }
            if times == TIMES {
                return Err(error);
            }
            times += 1;
            sleep(AGAIN).await;
        }
    }

    /// Why a pod that was at work is not any more; `None` when it is, or nobody knows.
    async fn became(&self, node: &str, name: &str) -> Option<ClusterError> {
        let died = |message: String| ClusterError::Died {
            node: node.to_owned(),
            message,
        };
        match self.pods(&self.options.namespace).get_opt(name).await {
            Ok(Some(pod)) => match state(&pod) {
                State::Ended(message) => Some(died(message)),
                _ => None,
            },
            Ok(None) => Some(
                self.vanished(node)
                    .await
                    .unwrap_or_else(|| died("its pod was deleted".to_owned())),
            ),
            Err(_) => None,
        }
    }

    /// Pods of a node that is taken away go with it.
    async fn vanished(&self, node: &str) -> Option<ClusterError> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let gone = matches!(nodes.get_opt(node).await, Ok(None));
        gone.then(|| ClusterError::Gone { node: node.to_owned() })
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
    async fn started(&self, node: &str, name: &str) -> Result<(), ClusterError> {
        let deadline = Instant::now() + self.options.timeout;
        let pods = self.pods(&self.options.namespace);
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
                Ok(None) => {
                    let why = self.vanished(node).await;
                    return Err(why.unwrap_or_else(|| not_started("somebody deleted it".to_owned())));
                }
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
        let process = self.pods(namespace).exec(pod, command, &params).await;
        let mut process = process.map_err(|e| not_connected(node, &e))?;
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
            let mut archive = spool()?;
            let mut length = 0;
            if let Some(mut stdout) = stdout {
                let mut piece = vec![0; 64 << 10];
                while let n @ 1.. = stdout.read(&mut piece).await? {
                    archive.write_all(&piece[..n])?;
                    length += n as u64;
                    if length > self.options.bytes {
                        return Err(failed(format!("it answered more than {} bytes", self.options.bytes)));
                    }
                }
            }
            archive.rewind()?;
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
                Either::Right((None, _)) => Err(ClusterError::Cut { node: node.to_owned() }),
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
            None => Err(ClusterError::Cut { node: node.to_owned() }),
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
            // Not there, or not yet.
            Ok(Err(kube::Error::Api(status))) => status.code == 404 && self.is_answered(name),
            _ => false,
        };
        if gone && let Ok(mut made) = self.made.lock() {
            made.remove(name);
        }
    }

    fn is_answered(&self, name: &str) -> bool {
        self.made
            .lock()
            .is_ok_and(|made| made.get(name).copied().unwrap_or(true))
    }

    fn left(&self) -> Vec<String> {
        let made = self.made.lock();
        made.map(|made| made.keys().cloned().collect()).unwrap_or_default()
    }

    /// Takes away every pod of this run, those of requests without an answer too. Says which may be left.
    pub async fn finish(&self) -> Vec<String> {
        let left = self.left();
        join_all(left.iter().map(|name| self.delete(name))).await;
        let left = self.left();
        if left.is_empty() {
            return left;
        }
        if left.iter().any(|name| !self.is_answered(name)) {
            sleep(LATE).await;
        }
        let selector = format!("{}={},{RUN}={}", MANAGED_BY.0, MANAGED_BY.1, self.options.run);
        let pods = self.pods(&self.options.namespace);
        if let Ok(Ok(found)) = timeout(LAST, pods.list(&ListParams::default().labels(&selector))).await {
            let names: Vec<String> = found.items.into_iter().filter_map(|pod| pod.metadata.name).collect();
            join_all(names.iter().map(|name| self.delete(name))).await;
            return names
                .into_iter()
                .filter(|name| self.made.lock().is_ok_and(|made| made.contains_key(name)))
                .collect();
        }
        join_all(left.iter().map(|name| self.delete(name))).await;
        self.left()
    }
}

/// The server speaks to the kubelet for us; what it says of that way is not about the server.
fn not_connected(node: &str, error: &kube::Error) -> ClusterError {
    const WAY: &[&str] = &[
        "dialing backend",
        "error trying to reach",
        "No agent available",
        "proxy error",
    ];
    match error {
        kube::Error::Api(status) if WAY.iter().any(|words| status.message.contains(words)) => ClusterError::Kubelet {
            node: node.to_owned(),
            message: status.message.clone(),
        },
        error => ClusterError::from_kube(error),
    }
}

pub(super) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
