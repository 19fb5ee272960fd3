//! Every command that answers a question answers it about a running cluster, too.

use std::path::Path;

use serde_json::{Value, json};

use super::fake_api::FakeApi;
use super::{cluster, knet, open, ran};

/// Runs a question without a snapshot, and again with the one it kept: the nodes that were read, and the answer.
fn ask(api: &FakeApi, folder: &Path, question: &[&str]) -> (Vec<String>, i32, String) {
    let kept = folder.join(format!("kept-{}", api.state().requests.len()));
    let path = kept.display().to_string();
    let live = [question, &["--agent", "image", "--save", &path]].concat();
    let (code, said) = ran(api, folder, &live);
    assert!(api.state().agents.is_empty(), "{said}");
    let snapshot = open(&kept);
    let read = snapshot.nodes().filter(|n| n.host.links().get().is_some());
    let read = read.map(|n| n.name.clone()).collect();
    let (again, _) = ran(api, folder, &[question, &["--snapshot", &path]].concat());
    assert_eq!(again, code, "what was kept answers the same: {said}");
    (read, code, said)
}

fn with_node_port() -> FakeApi {
    let api = cluster(4, 4);
    let mut state = api.state();
    let services = state.objects.get_mut("services").expect("services");
    services[0]["spec"]["type"] = "NodePort".into();
    services[0]["spec"]["ports"][0]["nodePort"] = 30080.into();
    drop(state);
    api
}

#[test]
fn explain_reads_the_node_and_what_is_behind_it() {
    let api = with_node_port();
    let folder = tempfile::tempdir().expect("a directory");
    let (read, _, said) = ask(&api, folder.path(), &["explain", "nodeport", "30080"]);
    assert_eq!(read, ["n0", "n1"], "the first node, and that of the endpoint: {said}");
    assert!(said.contains("default/web"), "{said}");
    let (read, _, said) = ask(&api, folder.path(), &["explain", "nodeport", "30080", "--node", "n3"]);
    assert_eq!(read, ["n1", "n3"], "{said}");
    let (read, _, said) = ask(
        &api,
        folder.path(),
        &["explain", "clusterip", "svc/web", "--node", "n2"],
    );
    assert_eq!(read, ["n1", "n2"], "{said}");
    let (read, _, said) = ask(&api, folder.path(), &["explain", "kube-ipvs0", "--node", "n2"]);
    assert_eq!(read, ["n2"], "{said}");
    let (code, said) = ran(&api, folder.path(), &["explain", "nodeport", "30080", "--node", "n9"]);
    assert!(code == 2 && said.contains("no such node: n9"), "{said}");
}

#[test]
fn vip_reads_every_node() {
    let api = with_node_port();
    let mut state = api.state();
    let services = state.objects.get_mut("services").expect("services");
    services[0]["spec"]["type"] = "LoadBalancer".into();
    services[0]["status"] = json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.9"}]}});
    drop(state);
    let folder = tempfile::tempdir().expect("a directory");
    let (read, _, said) = ask(&api, folder.path(), &["vip", "svc/web"]);
    assert_eq!(read, ["n0", "n1", "n2", "n3"], "{said}");
    assert!(said.contains("203.0.113.9"), "{said}");
}

/// One reading for all of them: each node that is an end of a flow, once, whatever namespace the flow is in.
#[test]
fn a_file_of_flows_reads_the_nodes_of_all_ends_once() {
    let api = cluster(8, 8);
    let mut state = api.state();
    let till = json!({"metadata": {"name": "till", "namespace": "shop", "uid": "t"}, "spec": {"nodeName": "n6"},
        "status": {"phase": "Running", "podIP": "10.6.9.9", "podIPs": [{"ip": "10.6.9.9"}]}});
    state.objects.get_mut("pods").expect("pods").push(till);
    drop(state);
    let folder = tempfile::tempdir().expect("a directory");
    let lines = [
        r#"{"id":1,"src":"p0","dst":"web:80"}"#,
        "no flow",
        r#"{"id":2,"src":"p3","dst":"10.4.0.4:80"}"#,
        r#"{"id":3,"src":"till","dst":"web","namespace":"shop"}"#,
        r#"{"id":4,"src":"ip/203.0.113.9","dst":"node/n3:80","via":"node/n5"}"#,
        r#"{"id":5,"src":"p0","dst":"nobody"}"#,
    ];
    let file = folder.path().join("flows.jsonl");
    std::fs::write(&file, lines.join("\n")).expect("a file");
    let (file, kept) = (file.display().to_string(), folder.path().join("kept.tar.gz"));
    let to = kept.display().to_string();
    let question = ["trace", "--flows", &file, "--brief", "-n", "default"];
    let live = [&question[..], &["--agent", "image", "--save", &to]].concat();
    let output = knet(&api, folder.path(), &live).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let answers = |stdout: &[u8]| -> Vec<Value> {
        let text = String::from_utf8_lossy(stdout).into_owned();
        text.lines()
            .map(|line| serde_json::from_str(line).expect("every line is an object"))
            .collect()
    };
    let all = answers(&output.stdout);
    let ids: Vec<&Value> = all.iter().map(|answer| &answer["id"]).collect();
    assert_eq!(
        ids,
        [&json!(1), &Value::Null, &json!(2), &json!(3), &json!(4), &json!(5)],
        "{said}"
    );
    assert_eq!(output.status.code(), Some(2), "a line is no flow: {said}");
    let snapshot = open(&kept);
    let read = snapshot.nodes().filter(|n| n.host.links().get().is_some());
    let read: Vec<&str> = read.map(|n| n.name.as_str()).collect();
    assert_eq!(read, ["n0", "n1", "n3", "n4", "n5", "n6"], "{said}");
    assert_eq!(api.state().created.len(), 6, "each once: {said}");
    // From standard input, and of what was kept, the answers are the same.
    let mut again = knet(&api, folder.path(), &[&question[..], &["--snapshot", &to]].concat());
    assert_eq!(answers(&again.output().expect("it runs").stdout), all);
    let piped = ["trace", "--flows", "-", "--brief", "--agent", "none"];
    let mut piped = knet(&api, folder.path(), &piped);
    let output = piped
        .stdin(std::fs::File::open(&file).expect("a file"))
        .output()
        .expect("it runs");
    let none = answers(&output.stdout);
    assert_eq!(none.len(), lines.len());
    assert_eq!(api.state().created.len(), 6, "nobody was asked");
}

/// As with kubectl: the flag, else the context's namespace, else `default`.
#[test]
fn names_are_in_the_namespace_of_the_context() {
    let api = cluster(3, 1);
    let mut state = api.state();
    let pods = state.objects.get_mut("pods").expect("pods");
    for (namespace, node, ip) in [("shop", "n1", "10.1.0.77"), ("x", "n2", "10.2.0.77")] {
        pods.push(
            json!({"metadata": {"name": "till", "namespace": namespace, "uid": namespace},
            "spec": {"nodeName": node}, "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]}}),
        );
    }
    drop(state);
    let folder = tempfile::tempdir().expect("a directory");
    // Whose namespace was not captured is said by its full name.
    for (more, full) in [
        (&[][..], "no pod or node \"till\" in namespace \"default\""),
        (
            &["--context", "shop"],
            "pod/shop/till was not captured (it is on node n1)",
        ),
        (
            &["--context", "shop", "-n", "x"],
            "pod/x/till was not captured (it is on node n2)",
        ),
    ] {
        let question = [&["trace", "till", "10.96.0.7:80", "--agent", "none"], more].concat();
        let (code, said) = ran(&api, folder.path(), &question);
        assert!(code == 2 && said.contains(full), "{more:?}: {said}");
    }
}
