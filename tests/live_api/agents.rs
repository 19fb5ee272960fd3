//! What an agent is when the server gets it, and what is done where none may be.

use serde_json::{Value, json};

use super::fake_api::{Refusal, small};
use super::{cluster, open, ran};

/// Collects `n0` with more options: the pod that was asked for.
fn asked(more: &[&str]) -> Value {
    let api = cluster(2, 2);
    api.state().canned = Some(small);
    let folder = tempfile::tempdir().expect("a directory");
    let to = folder.path().join("s").display().to_string();
    let (code, said) = ran(
        &api,
        folder.path(),
        &[&["collect", "-f", &to, "--nodes", "n0"], more].concat(),
    );
    assert_eq!(code, 0, "{said}");
    let state = api.state();
    let namespace = more
        .iter()
        .position(|word| *word == "--agent-namespace")
        .map(|at| more[at + 1]);
    let path = format!("POST /api/v1/namespaces/{}/pods", namespace.unwrap_or("kube-system"));
    assert!(state.requests.contains(&path), "{path}: {:?}", state.requests);
    assert_eq!(state.asked.len(), 1, "one pod on one node");
    state.asked[0].clone()
}

#[test]
fn a_pod_is_on_its_node_with_the_least_that_works() {
    let pod = asked(&[
        "--agent",
        "image",
        "--image",
        "registry.example/knet:1",
        "--agent-timeout",
        "90s",
    ]);
    let spec = &pod["spec"];
    let container = &spec["containers"][0];
    // Onto the node by name, past the scheduler and every taint.
    assert_eq!(
        (&spec["nodeName"], &spec["tolerations"]),
        (&json!("n0"), &json!([{"operator": "Exists"}]))
    );
    assert_eq!(container["image"], "registry.example/knet:1");
    assert_eq!((&spec["hostNetwork"], &spec["hostPID"]), (&json!(true), &json!(true)));
    assert_eq!(spec["automountServiceAccountToken"], false);
    // It ends by itself, and is not begun again.
    assert_eq!(
        (&spec["activeDeadlineSeconds"], &spec["restartPolicy"]),
        (&json!(150), &json!("Never"))
    );
    assert_eq!(spec["terminationGracePeriodSeconds"], 0);
    let security = &container["securityContext"];
    assert_eq!(security["readOnlyRootFilesystem"], true);
    assert!(security["privileged"].is_null());
    assert_eq!(security["capabilities"]["drop"], json!(["ALL"]));
    assert_eq!(
        security["capabilities"]["add"],
        json!(["NET_ADMIN", "SYS_ADMIN", "SYS_PTRACE", "SYS_CHROOT", "DAC_READ_SEARCH"])
    );
    assert!(
        container["resources"]["limits"]["memory"].is_string() && container["resources"]["limits"]["cpu"].is_string()
    );
    // No path of the host is mounted: /proc of its processes is enough.
    assert_eq!(spec["volumes"], json!([{"name": "knet", "emptyDir": {}}]));
    let metadata = &pod["metadata"];
    assert_eq!(metadata["labels"]["app.kubernetes.io/managed-by"], "kubectl-knet");
    assert!(
        metadata["annotations"]["knet.dev/owner"]
            .as_str()
            .is_some_and(|owner| owner.contains('@'))
    );
    assert!(metadata["annotations"]["knet.dev/expires"].is_string());
}

#[test]
fn privileges_and_places_are_as_asked() {
    let pod = asked(&["--agent", "image", "--privileged", "--agent-namespace", "debug"]);
    assert_eq!(pod["spec"]["containers"][0]["securityContext"]["privileged"], true);
    assert_eq!(pod["metadata"]["namespace"], "debug");
}

#[test]
fn without_an_image_of_ours_a_shell_waits() {
    // The program goes in over exec; the pod only waits for it. What is executed is the tests' own shell.
    let api = cluster(1, 1);
    let folder = tempfile::tempdir().expect("a directory");
    let to = folder.path().join("s").display().to_string();
    let (code, said) = ran(&api, folder.path(), &["collect", "-f", &to, "--image", "any/shell"]);
    assert_eq!(code, 0, "{said}");
    let container = api.state().asked[0]["spec"]["containers"][0].clone();
    assert_eq!(container["image"], "any/shell");
    assert_eq!(container["command"], json!(["sh", "-c", "sleep 180"]));
}

/// Pods that see the host are tried one after the other: the first has no shell.
#[test]
fn a_pod_without_a_shell_is_passed_over() {
    let api = cluster(1, 1);
    let pod = |name: &str| {
        json!({"metadata": {"name": name, "namespace": "kube-system", "uid": name},
            "spec": {"nodeName": "n0", "hostNetwork": true, "containers": [{"name": "c", "image": "i"}]},
            "status": {"phase": "Running", "podIP": "192.0.2.0"}})
    };
    let mut state = api.state();
    let pods = state.objects.get_mut("pods").expect("pods");
    pods.extend([pod("cilium-x"), pod("kube-proxy-y")]);
    state.faults.refuse.push(Refusal {
        method: "GET",
        path: "cilium-x/exec",
        times: 1,
        code: 500,
        message: "exec: \"sh\": executable file not found in $PATH".to_owned(),
        retry_after: None,
    });
    drop(state);
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("s");
    let to = file.display().to_string();
    let (code, said) = ran(&api, folder.path(), &["collect", "-f", &to, "--agent", "exec"]);
    assert_eq!(code, 0, "{said}");
    assert!(open(&file).node("n0").is_some_and(|n| n.host.links().get().is_some()));
    let execs: Vec<String> = api
        .state()
        .requests
        .iter()
        .filter(|r| r.ends_with("/exec"))
        .cloned()
        .collect();
    assert!(execs.len() == 2 && execs[1].contains("kube-proxy-y"), "{execs:?}");
    assert!(api.state().asked.is_empty(), "no pod is made");
}

/// Objects only: every node is said to be not asked, and a trace says what it does not know.
#[test]
fn without_agents_nothing_is_claimed_of_nodes() {
    let api = cluster(2, 2);
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("s");
    let to = file.display().to_string();
    let (code, said) = ran(&api, folder.path(), &["collect", "-f", &to, "--agent", "none"]);
    assert_eq!(code, 0, "{said}");
    let snapshot = open(&file);
    let manifest = snapshot.manifest.as_ref().expect("it has one");
    assert_eq!(
        manifest
            .absent
            .iter()
            .filter(|a| a.detail == "this node was not asked")
            .count(),
        2
    );
    assert!(
        api.state()
            .requests
            .iter()
            .all(|r| r.starts_with("GET ") && !r.ends_with("/exec"))
    );
}

#[test]
fn cleanup_where_only_the_agents_namespace_may_be_listed() {
    let api = cluster(1, 1);
    let pod = json!({"metadata": {"name": "knet-x", "namespace": "kube-system",
        "labels": {"app.kubernetes.io/managed-by": "kubectl-knet"}, "annotations": {"knet.dev/expires": "1"}}});
    api.state().agents.insert("knet-x".to_owned(), pod);
    api.state().faults.refuse.push(Refusal {
        method: "GET",
        path: "/api/v1/pods",
        times: u32::MAX,
        code: 403,
        message: "pods is forbidden at the cluster scope".to_owned(),
        retry_after: None,
    });
    let folder = tempfile::tempdir().expect("a directory");
    let (code, said) = ran(&api, folder.path(), &["cleanup"]);
    assert!(
        code == 0 && said.contains("kube-system/knet-x") && said.contains(": deleted"),
        "{said}"
    );
    assert!(api.state().agents.is_empty());
}
