//! `collect`, a live `trace` and `cleanup` against a server that behaves, and one that does not.

#[path = "../support/fake_api.rs"]
mod fake_api;

mod agents;
mod faults;
mod interrupted;
mod kubectl;
mod lost;
mod names;
mod progress;
mod questions;
mod rights;
mod scale;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use knet_snapshot::Snapshot;
use kubectl_knet::archive::Limits;
use kubectl_knet::commands::load;
use serde_json::json;

use fake_api::FakeApi;

const PROGRAM: &str = env!("CARGO_BIN_EXE_kubectl-knet");

/// A server with so many nodes and pods, and a Service.
fn cluster(nodes: usize, pods: usize) -> FakeApi {
    let api = FakeApi::start(PROGRAM);
    let mut state = api.state();
    let node = |i: usize| {
        json!({"metadata": {"name": format!("n{i}"), "labels": {"zone": format!("z{}", i % 2)}},
        "spec": {"podCIDR": format!("10.{}.0.0/16", i % 200)},
        "status": {"addresses": [{"type": "InternalIP", "address": format!("192.0.2.{}", i % 250)}],
            "conditions": [{"type": "Ready", "status": "True"}],
            "nodeInfo": {"architecture": "", "bootID": "", "containerRuntimeVersion": "", "kernelVersion": "", "kubeProxyVersion": "",
                "kubeletVersion": "", "machineID": "", "operatingSystem": "", "osImage": "", "systemUUID": ""}}})
    };
    let pod = |i: usize| {
        let ip = format!("10.{}.{}.{}", i % nodes.max(1) % 200, i / 250 % 250, i % 250);
        json!({"metadata": {"name": format!("p{i}"), "namespace": "default", "uid": format!("u{i}"), "managedFields": [{"x": "y".repeat(500)}]},
            "spec": {"nodeName": format!("n{}", i % nodes.max(1)), "containers": [{"name": "c", "image": "i", "env": [{"name": "PASSWORD", "value": "PASS"}]}]},
            "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]}})
    };
    state.objects.insert("nodes".to_owned(), (0..nodes).map(node).collect());
    state.objects.insert("pods".to_owned(), (0..pods).map(pod).collect());
    let service = json!({"metadata": {"name": "web", "namespace": "default"}, "spec": {"clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"],
        "type": "ClusterIP", "ports": [{"port": 80, "protocol": "TCP"}]}});
    state.objects.insert("services".to_owned(), vec![service]);
    let slice = json!({"metadata": {"name": "web-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}}, "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.1.0.1"], "nodeName": "n1"}], "ports": [{"port": 8080, "protocol": "TCP", "name": ""}]});
    state.objects.insert("endpointslices".to_owned(), vec![slice]);
    drop(state);
    api
}

/// The program, with the server's kubeconfig.
fn knet(api: &FakeApi, folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command
        .args(arguments)
        .args(["--kubeconfig", &api.kubeconfig(folder)])
        .env_remove("KNET_SNAPSHOT")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs it to its end: exit code, and everything it said.
fn ran(api: &FakeApi, folder: &Path, arguments: &[&str]) -> (i32, String) {
    let Output { status, stdout, stderr } = knet(api, folder, arguments).output().expect("it runs");
    let text = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
    (status.code().unwrap_or(-1), text)
}

fn open(path: &Path) -> Snapshot {
    load(path, &Limits::default()).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn a_cluster_is_collected_and_nothing_is_left() {
    let api = cluster(3, 1203);
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("s.tar.gz");
    let to = file.display().to_string();
    let (code, said) = ran(
        &api,
        folder.path(),
        &["collect", "-f", &to, "--agent", "image", "--parallel", "2"],
    );
    assert_eq!(code, 0, "{said}");
    let snapshot = open(&file);
    assert_eq!(
        snapshot.cluster().pods().get().map(|t| t.rows.len()),
        Some(1203),
        "every page is there"
    );
    assert_eq!(snapshot.nodes().count(), 3);
    for node in snapshot.nodes() {
        assert!(node.host.links().get().is_some(), "{}: {said}", node.name);
    }
    let whole: Vec<u8> = snapshot
        .paths()
        .flat_map(|path| snapshot.bytes(path).unwrap_or_default().to_vec())
        .collect();
    let text = String::from_utf8_lossy(&whole);
    assert!(
        !text.contains("PASS") && !text.contains("managedFields"),
        "secrets and bookkeeping stay where they are"
    );
    let state = api.state();
    assert_eq!(
        (state.created.len(), state.agents.len()),
        (3, 0),
        "each node had an agent, and none is left"
    );
    assert!(state.most <= 2, "{} at once", state.most);
    let pages = state.requests.iter().filter(|r| *r == "GET /api/v1/pods").count();
    assert_eq!(pages, 3);
}

#[test]
fn only_the_nodes_that_were_asked_for() {
    let api = cluster(4, 4);
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("dir");
    let to = file.display().to_string();
    let run = |more: &[&str]| {
        ran(
            &api,
            folder.path(),
            &[&["collect", "-f", &to, "--agent", "image"], more].concat(),
        )
    };
    let (code, said) = run(&["--nodes", "n9"]);
    assert!(code == 2 && said.contains("no such node: n9"), "{said}");
    std::fs::remove_dir_all(&file).expect("it was made");
    let (code, said) = run(&["-l", "zone=z1", "--nodes", "n0,n1"]);
    assert_eq!(code, 0, "{said}");
    let snapshot = open(&file);
    let known: Vec<&str> = snapshot
        .nodes()
        .filter(|n| n.host.links().get().is_some())
        .map(|n| n.name.as_str())
        .collect();
    assert_eq!(known, ["n1"]);
    assert_eq!(api.state().created.len(), 1);
}

/// This program through the shell of a pod of any image, and through one that is there already.
#[test]
fn the_program_is_sent_into_a_pod() {
    let api = cluster(1, 1);
    api.state().objects.get_mut("pods").expect("pods").push(json!({
        "metadata": {"name": "kube-proxy-x", "namespace": "kube-system", "uid": "k"},
        "spec": {"nodeName": "n0", "hostNetwork": true, "containers": [{"name": "kube-proxy", "image": "i"}]},
        "status": {"phase": "Running", "podIP": "192.0.2.0"}}));
    let folder = tempfile::tempdir().expect("a directory");
    for how in [&["--agent", "stream"][..], &["--agent", "exec"], &["--agentless"]] {
        let file = folder.path().join(how.concat());
        let to = file.display().to_string();
        let (code, said) = ran(&api, folder.path(), &[&["collect", "-f", &to], how].concat());
        assert_eq!(code, 0, "{how:?}: {said}");
        assert!(
            open(&file).node("n0").is_some_and(|n| n.host.links().get().is_some()),
            "{how:?}: {said}"
        );
    }
    assert_eq!(api.state().created.len(), 1, "exec makes no pod");
    let (code, said) = ran(&api, folder.path(), &["collect", "--agentless", "--agent", "image"]);
    assert!(code == 2 && said.contains("cannot be used with"), "{said}");
    assert!(
        api.state()
            .requests
            .iter()
            .any(|r| r.contains("/pods/kube-proxy-x/exec"))
    );
    // What a pod is called has the id of its run in it, and so has what the program was called there.
    let runs: Vec<String> = api
        .state()
        .created
        .iter()
        .filter_map(|name| Some(name.split('-').nth(1)?.to_owned()))
        .collect();
    let left = std::fs::read_dir(std::env::temp_dir()).expect("a folder").flatten();
    let left: Vec<_> = left
        .filter(|e| {
            runs.iter()
                .any(|run| e.file_name().to_string_lossy().contains(run.as_str()))
        })
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_trace_reads_both_ends_and_keeps_the_snapshot_when_asked() {
    let api = cluster(5, 5);
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("kept.tar.zst");
    let to = file.display().to_string();
    let (code, said) = ran(
        &api,
        folder.path(),
        &["trace", "p3", "web", "--agent", "image", "--save", &to],
    );
    // What this machine's tables say of a packet of p3 is not known here; that they were read is.
    assert!(
        said.contains("n1 captured") && said.contains("n3 captured"),
        "{code}: {said}"
    );
    let nodes: Vec<String> = open(&file)
        .nodes()
        .filter(|n| n.host.links().get().is_some())
        .map(|n| n.name.clone())
        .collect();
    assert_eq!(nodes, ["n1", "n3"]);
    let asked = api.state().requests.len();
    let nowhere = folder.path().join("no/such/s.tar").display().to_string();
    let (code, said) = ran(&api, folder.path(), &["trace", "p3", "web", "--save", &nowhere]);
    assert!(code == 2 && said.contains("no/such/s.tar"), "{said}");
    assert_eq!(api.state().requests.len(), asked, "nobody is asked in vain");
    let (code, said) = ran(&api, folder.path(), &["trace", "p3", "web", "--agent", "none"]);
    assert!(
        code != 0 && said.contains("was not captured"),
        "objects alone decide nothing: {code} {said}"
    );
    assert_eq!(api.state().created.len(), 2);
}

#[test]
fn roles_are_printed() {
    let out = Command::new(PROGRAM).arg("rbac").output().expect("it runs");
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(
        text.contains("pods/exec") && text.contains("kind: ClusterRole"),
        "{text}"
    );
    let out = Command::new(PROGRAM)
        .args(["rbac", "--read-only"])
        .output()
        .expect("it runs");
    assert!(!String::from_utf8_lossy(&out.stdout).contains("pods/exec"));
}
