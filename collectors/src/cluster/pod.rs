//! What an agent looks like: a pod on one node, with the least that reads its namespaces, for minutes.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::{ClusterError, EXPIRES, MANAGED_BY, OWNER, RUN};

/// How nodes are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// A pod of any image with `sh` and `cat`; this program is sent into it.
    Stream,
    /// A pod of an image that holds this program.
    Image,
    /// This program is sent into pods that share the node's network already (kube-proxy, the CNI's agent).
    Exec,
    /// Not at all: objects of the API server only.
    None,
}

/// Everything that can be said about agents.
#[derive(Clone, Debug)]
pub struct AgentOptions {
    /// How.
    pub how: How,
    /// Image of the pod.
    pub image: String,
    /// Namespace of the pod.
    pub namespace: String,
    /// `privileged` instead of named capabilities.
    pub privileged: bool,
    /// For a node: start, collect, answer.
    pub timeout: Duration,
    /// Nodes at once.
    pub parallel: usize,
    /// This program as it runs on the nodes.
    pub binary: Vec<u8>,
    /// Architecture it is built for, as Kubernetes names it (`amd64`); `None` when nobody knows.
    pub architecture: Option<String>,
    /// Who runs it, for whoever finds a pod that was left.
    pub owner: String,
    /// Id of this run.
    pub run: String,
    /// Bytes of one node's answer.
    pub bytes: u64,
}

/// Entering namespaces, reading the tables of netfilter, seeing whose namespace it is, and the host's tools.
const CAPABILITIES: &[&str] = &["NET_ADMIN", "SYS_ADMIN", "SYS_PTRACE", "SYS_CHROOT", "DAC_READ_SEARCH"];
/// Where the program lies in an image of its own.
const PROGRAM: &str = "/kubectl-knet";
/// The only folder of the pod that can be written.
const FOLDER: &str = "/knet";

/// The pod for a node.
///
/// # Errors
/// Never with options this program makes; the object has the shape of a Pod.
pub(super) fn agent(node: &str, options: &AgentOptions, now: u64) -> Result<Pod, ClusterError> {
    let seconds = options.timeout.as_secs() + 60;
    let command: Vec<String> = match options.how {
        How::Image => [PROGRAM, "agent-wait", &seconds.to_string()]
            .map(str::to_owned)
            .to_vec(),
        _ => ["sh", "-c", &format!("sleep {seconds}")].map(str::to_owned).to_vec(),
    };
    let security = if options.privileged {
        json!({"privileged": true, "readOnlyRootFilesystem": true, "runAsUser": 0})
    } else {
        json!({
            "readOnlyRootFilesystem": true,
            "runAsUser": 0,
            "capabilities": {"drop": ["ALL"], "add": CAPABILITIES},
            "seccompProfile": {"type": "RuntimeDefault"},
            // The default profile of a container denies looking at the host's processes.
            "appArmorProfile": {"type": "Unconfined"},
        })
    };
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name(node, &options.run),
            "namespace": options.namespace,
            "labels": {
                "app.kubernetes.io/name": "knet-agent",
                MANAGED_BY.0: MANAGED_BY.1,
                RUN: options.run,
            },
            "annotations": {OWNER: options.owner, EXPIRES: (now + seconds).to_string()},
        },
        "spec": {
            "nodeName": node,
            "hostNetwork": true,
            "hostPID": true,
            "restartPolicy": "Never",
            "activeDeadlineSeconds": seconds,
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "tolerations": [{"operator": "Exists"}],
            "containers": [{
                "name": "agent",
                "image": options.image,
                "command": command,
                "securityContext": security,
                "resources": {
                    "requests": {"cpu": "10m", "memory": "32Mi"},
                    "limits": {"cpu": "1", "memory": "512Mi"},
                },
                "volumeMounts": [{"name": "knet", "mountPath": FOLDER}],
            }],
            "volumes": [{"name": "knet", "emptyDir": {}}],
        },
    });
    from_value(pod)
}

fn from_value(pod: Value) -> Result<Pod, ClusterError> {
    serde_json::from_value(pod).map_err(|e| ClusterError::Rejected(e.to_string()))
}

/// A name of its own for each node: its end, and a hash where it is too long.
pub(super) fn name(node: &str, run: &str) -> String {
    let short: String = node
        .chars()
        .map(|c| {
            if c.is_ascii_lowercase() || c.is_ascii_digit() {
                c
            } else {
                '-'
            }
        })
        .take(32)
        .collect();
    let hash = crate::tools::sha256(node.as_bytes());
    format!("knet-{run}-{}-{}", short.trim_matches('-'), &hash[..6])
}

/// The command that is run in the pod; in the ways that send the program, it is the input.
pub(super) fn command(node: &str, options: &AgentOptions) -> Vec<String> {
    let seconds = options.timeout.as_secs().to_string();
    let collect = ["node-collect", "--file", "-", "--node", node, "--timeout", &seconds];
    if options.how == How::Image {
        return std::iter::once(PROGRAM).chain(collect).map(str::to_owned).collect();
    }
    // A pod of somebody else's sees the host's network and not its processes.
    let more = if options.how == How::Exec { " --host-only" } else { "" };
    let words: Vec<String> = collect.iter().map(|word| quote(word)).collect();
    let script = format!(
        "for d in {FOLDER} /tmp /run /var/run /dev/shm; do f=$d/knet-{}-$$; \
         if (: > $f) 2>/dev/null && chmod 700 $f; then break; fi; f=; done; \
         [ -n \"$f\" ] || {{ echo 'no folder can be written' >&2; exit 73; }}; \
         trap 'rm -f $f' EXIT; cat > $f && $f {}{more} </dev/null",
        options.run,
        words.join(" "),
    );
    vec!["sh".to_owned(), "-c".to_owned(), script]
}

fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(how: How) -> AgentOptions {
        AgentOptions {
            how,
            image: "busybox".to_owned(),
            namespace: "kube-system".to_owned(),
            privileged: false,
            timeout: Duration::from_secs(100),
            parallel: 1,
            binary: Vec::new(),
            architecture: None,
            owner: "me".to_owned(),
            run: "abc".to_owned(),
            bytes: 1,
        }
    }

    #[test]
    fn a_pod_has_an_end_an_owner_and_no_token() {
        let pod = agent("node-1", &options(How::Stream), 1000).expect("it is a pod");
        let spec = pod.spec.expect("a spec");
        assert_eq!(spec.automount_service_account_token, Some(false));
        assert_eq!(spec.active_deadline_seconds, Some(160));
        assert_eq!((spec.host_network, spec.host_pid), (Some(true), Some(true)));
        let security = spec.containers[0].security_context.clone().expect("it is there");
        assert_eq!(security.privileged, None);
        assert_eq!(security.read_only_root_filesystem, Some(true));
        assert_eq!(security.capabilities.expect("named").drop, Some(vec!["ALL".to_owned()]));
        let meta = pod.metadata;
        assert_eq!(meta.labels.expect("labels")[MANAGED_BY.0], MANAGED_BY.1);
        assert_eq!(meta.annotations.expect("annotations")[EXPIRES], "1160");
    }

    #[test]
    fn names_fit_whatever_the_node_is_called() {
        let long = format!("{}.example.com", "n".repeat(240));
        for node in ["node-1", "ip-10-0-0-1.eu-west-1.compute.internal", long.as_str()] {
            let name = name(node, "abcdef");
            assert!(name.len() <= 63 && name.starts_with("knet-abcdef-"), "{name}");
        }
        assert_ne!(name(&"n".repeat(40), "a"), name(&"n".repeat(41), "a"));
    }

    #[test]
    fn a_node_name_cannot_leave_its_quotes() {
        let command = command("n'; rm -rf /; '", &options(How::Exec));
        assert!(command[2].contains("'n'\\''; rm -rf /; '\\'''"), "{}", command[2]);
        assert!(command[2].contains(" --host-only"));
    }
}
