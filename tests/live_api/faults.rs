//! A server or a node that does not do what it should. Whatever it is: no agent stays, what could be had is there,
//! and a sentence says what was wrong.

use std::time::Duration;

use super::fake_api::Faults;
use super::{cluster, open, ran};

/// Collects one node with a fault: exit code and what was said. No agent may be left.
fn with(faults: Faults, more: &[&str]) -> (i32, String) {
    let api = cluster(1, 3);
    api.state().faults = faults;
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("s");
    let to = file.display().to_string();
    let (code, said) = ran(
        &api,
        folder.path(),
        &[&["collect", "-f", &to, "--agent", "image"], more].concat(),
    );
    assert!(api.state().agents.is_empty(), "{said}");
    if code == 3 {
        let snapshot = open(&file);
        assert_eq!(
            snapshot.cluster().nodes().get().map(|t| t.rows.len()),
            Some(1),
            "{said}"
        );
        let status = snapshot.manifest.as_ref().map(|m| m.nodes[0].status.clone());
        if !said.contains("forbidden") {
            assert_eq!(status.as_deref(), Some("failed"), "{said}");
            let node = snapshot.node("n0").expect("the manifest names it");
            assert!(node.host.links().get().is_none(), "nobody looked is not empty");
        }
    }
    (code, said)
}

fn faults(set: impl FnOnce(&mut Faults)) -> Faults {
    let mut faults = Faults::default();
    set(&mut faults);
    faults
}

#[test]
fn pod_security_says_which_label() {
    let message = "pods \"x\" is forbidden: violates PodSecurity \"restricted:latest\": host namespaces";
    let (code, said) = with(faults(|f| f.create = Some((403, message.to_owned()))), &[]);
    assert_eq!(code, 3, "{said}");
    assert!(
        said.contains("kubectl label namespace kube-system pod-security.kubernetes.io/enforce=privileged"),
        "{said}"
    );
}

#[test]
fn what_is_forbidden_names_the_role() {
    let message = "pods is forbidden: User \"me\" cannot create resource \"pods\"";
    let (code, said) = with(faults(|f| f.create = Some((403, message.to_owned()))), &[]);
    assert!(code == 3 && said.contains("kubectl knet rbac"), "{said}");
    let (code, said) = with(faults(|f| f.forbidden = Some("nodes".to_owned())), &[]);
    assert!(code == 2 && said.contains("not allowed"), "{said}");
    let (code, said) = with(faults(|f| f.forbidden = Some("pods".to_owned())), &[]);
    assert!(code == 3 && said.contains("warning: pods: not allowed"), "{said}");
    // Nobody misses what is of no use for a trace.
    let (code, said) = with(faults(|f| f.forbidden = Some("configmaps".to_owned())), &[]);
    assert_eq!(code, 0, "{said}");
}

#[test]
fn a_webhook_that_says_no_is_quoted() {
    let message = "admission webhook \"policy.example\" denied the request: no hostPID";
    let (code, said) = with(faults(|f| f.create = Some((400, message.to_owned()))), &[]);
    assert!(
        code == 3 && said.contains("no hostPID") && said.contains("--agent exec"),
        "{said}"
    );
}

#[test]
fn an_image_that_cannot_be_pulled_is_not_waited_for() {
    let begun = std::time::Instant::now();
    let (code, said) = with(
        faults(|f| f.waiting = Some("ErrImagePull".to_owned())),
        &["--agent-timeout", "60s"],
    );
    assert!(
        code == 3 && said.contains("image cannot be used on n0") && said.contains("--image"),
        "{said}"
    );
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_pod_that_never_starts_has_its_time() {
    let (code, said) = with(
        faults(|f| f.waiting = Some("ContainerCreating".to_owned())),
        &["--agent-timeout", "2s"],
    );
    assert!(
        code == 3 && said.contains("did not start: ContainerCreating says the kubelet"),
        "{said}"
    );
}

#[test]
fn a_connection_that_is_cut_is_no_capture() {
    let (code, said) = with(faults(|f| f.cut_exec = u32::MAX), &[]);
    assert!(
        code == 3 && said.contains("the connection to the agent on n0 ended before its answer did"),
        "{said}"
    );
}

#[test]
fn a_collector_that_fails_is_quoted() {
    let (code, said) = with(faults(|f| f.exec_code = Some(9)), &[]);
    assert!(code == 3 && said.contains("exit status 9"), "{said}");
}

#[test]
fn a_node_that_says_nothing_has_its_time() {
    let begun = std::time::Instant::now();
    let (code, said) = with(faults(|f| f.hang_exec = true), &["--agent-timeout", "0"]);
    assert!(code == 3 && said.contains("took too long"), "{said}");
    assert!(begun.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_node_that_is_not_ready_is_not_asked() {
    let api = cluster(1, 1);
    api.state().objects.get_mut("nodes").expect("nodes")[0]["status"]["conditions"][0]["status"] = "Unknown".into();
    let folder = tempfile::tempdir().expect("a directory");
    let to = folder.path().join("s").display().to_string();
    let (code, said) = ran(&api, folder.path(), &["collect", "-f", &to, "--agent", "image"]);
    assert!(code == 3 && said.contains("n0 is not ready"), "{said}");
    assert!(api.state().created.is_empty());
}

/// What a node sends is read as if a stranger had made it.
#[test]
fn an_answer_that_is_none_is_not_taken() {
    let (code, said) = with(faults(|f| f.answer = Some(b"hello".to_vec())), &[]);
    assert!(code == 3 && said.contains("the answer of n0 is not taken"), "{said}");
    let mut tar = tar::Builder::new(Vec::new());
    for (path, text) in [("manifest.json", "{}"), ("nodes/n1/host/link.json", "[]")] {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        tar.append_data(&mut header, path, text.as_bytes())
            .expect("it is written");
    }
    let other = tar.into_inner().expect("it is ended");
    let (code, said) = with(faults(|f| f.answer = Some(other)), &[]);
    assert!(
        code == 3 && said.contains("nodes/n1/host/link.json, which is not the node's own"),
        "{said}"
    );
}

#[test]
fn a_busy_server_is_asked_again() {
    for code in [429, 503] {
        let (exit, said) = with(faults(|f| f.first = (2, code)), &[]);
        assert_eq!(exit, 0, "{code}: {said}");
    }
    let (exit, said) = with(faults(|f| f.first = (u32::MAX, 500)), &[]);
    assert!(exit == 2 && said.contains("not now"), "{said}");
}

#[test]
fn a_list_that_expires_goes_on_or_begins_again() {
    for (expired, pods, consistent) in [
        ((true, 1), Some(1203), Some(false)),
        ((false, 2), Some(1203), Some(true)),
        ((false, u32::MAX), None, None),
    ] {
        let api = cluster(1, 1203);
        api.state().faults.expired = Some(expired);
        let folder = tempfile::tempdir().expect("a directory");
        let file = folder.path().join("s");
        let to = file.display().to_string();
        let (code, said) = ran(&api, folder.path(), &["collect", "-f", &to, "--agent", "none"]);
        assert_eq!(code, if pods.is_some() { 0 } else { 3 }, "{expired:?}: {said}");
        let snapshot = open(&file);
        assert_eq!(
            snapshot.cluster().pods().get().map(|t| t.rows.len()),
            pods,
            "half a list is no list, and twice the first half neither"
        );
        let entry = snapshot.artifact("cluster/pods.json");
        assert_eq!(entry.and_then(|entry| entry.consistent), consistent);
    }
}

#[test]
fn nobody_at_the_address_is_said() {
    let folder = tempfile::tempdir().expect("a directory");
    let config = folder.path().join("config");
    let text = r#"{"apiVersion":"v1","kind":"Config","current-context":"c","clusters":[{"name":"c","cluster":{"server":"http://127.0.0.1:1"}}],
        "users":[{"name":"c","user":{}}],"contexts":[{"name":"c","context":{"cluster":"c","user":"c"}}]}"#;
    std::fs::write(&config, text).expect("a file");
    let run = |more: &[&str]| {
        let out = std::process::Command::new(super::PROGRAM)
            .args(["trace", "a", "b"])
            .args(more)
            .env_remove("KNET_SNAPSHOT")
            .output()
            .expect("it runs");
        (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    let (code, said) = run(&["--kubeconfig", &config.display().to_string()]);
    assert!(
        code == Some(2) && said.contains("cannot be reached") && said.contains("kubectl get nodes"),
        "{said}"
    );
    let (code, said) = run(&["--kubeconfig", "/nowhere/config"]);
    assert!(
        code == Some(2) && said.contains("error: kubeconfig: ") && said.contains("--snapshot"),
        "{said}"
    );
    let (code, said) = run(&["--kubeconfig", &config.display().to_string(), "--context", "other"]);
    assert!(code == Some(2) && said.contains("other"), "{said}");
}

/// A cluster that is reached through somebody: `proxy-url` of the kubeconfig, and the environment, as with kubectl.
#[test]
fn a_proxy_is_used() {
    let api = cluster(1, 1);
    let folder = tempfile::tempdir().expect("a directory");
    let ours = std::fs::read_to_string(api.kubeconfig(folder.path())).expect("a file");
    let here = format!("http://127.0.0.1:{}", api.port);
    let config = folder.path().join("proxied").display().to_string();
    let away = ours.replace(&here, "http://api.cluster.invalid");
    let collect = |text: &str, name: &str, proxy: Option<&str>| {
        std::fs::write(&config, text).expect("a file");
        let mut command = std::process::Command::new(super::PROGRAM);
        let to = folder.path().join(name).display().to_string();
        command.args(["collect", "--agent", "none", "-f", &to, "--kubeconfig", &config]);
        for key in [
            "HTTP_PROXY",
            "HTTPS_PROXY",
            "http_proxy",
            "https_proxy",
            "NO_PROXY",
            "no_proxy",
        ] {
            command.env_remove(key);
        }
        if let Some(proxy) = proxy {
            command.env("HTTP_PROXY", proxy).env("HTTPS_PROXY", proxy);
        }
        let out = command.output().expect("it runs");
        (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    let cluster = "\"cluster\":{\"server\"";
    assert!(away.contains(cluster), "{away}");
    let with_proxy = away.replace(cluster, &format!("\"cluster\":{{\"proxy-url\":\"{here}\",\"server\""));
    let (code, said) = collect(&with_proxy, "a", None);
    assert_eq!(code, Some(0), "{said}");
    assert!(api.state().tunnels > 0);
    let before = api.state().tunnels;
    let (code, said) = collect(&away, "b", Some(&here));
    assert_eq!(code, Some(0), "{said}");
    assert!(api.state().tunnels > before);
    let (code, said) = collect(&away, "c", None);
    assert!(code == Some(2) && said.contains("cannot be reached"), "{said}");
}
