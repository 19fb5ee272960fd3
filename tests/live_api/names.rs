//! Tab after `kubectl knet`: names of the running cluster, in a moment or not at all.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use super::fake_api::{FakeApi, Refusal};
use super::{PROGRAM, cluster};

/// What the program says under the name by which kubectl asks it. No errors, whatever happens.
fn complete(api: &FakeApi, words: &[&str]) -> String {
    let folder = tempfile::tempdir().expect("a directory");
    let program = folder.path().join("kubectl_complete-knet");
    std::fs::copy(PROGRAM, &program).expect("a copy");
    let out = Command::new(program)
        .args(words)
        .env("KUBECONFIG", api.kubeconfig(folder.path()))
        .env_remove("KNET_SNAPSHOT")
        .output()
        .expect("it runs");
    assert!(out.status.success());
    assert_eq!(String::from_utf8_lossy(&out.stderr), "");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

fn shop() -> FakeApi {
    let api = cluster(3, 3);
    let mut state = api.state();
    let pod = |namespace: &str, name: &str| json!({"metadata": {"namespace": namespace, "name": name}});
    let pods = state.objects.get_mut("pods").expect("pods");
    pods.extend([pod("shop", "till"), pod("shop", "toaster"), pod("x", "till")]);
    let services = state.objects.get_mut("services").expect("services");
    services.push(pod("shop", "tills"));
    let names = ["default", "shop", "x"].map(|name| json!({"metadata": {"name": name}}));
    state.objects.insert("namespaces".to_owned(), names.to_vec());
    drop(state);
    api
}

#[test]
fn names_of_the_running_cluster_are_completed() {
    let api = shop();
    let ask = |words: &[&str]| complete(&api, words);
    assert_eq!(
        ask(&["trace", "p"]),
        "p0\tpod\np1\tpod\np2\tpod\npod/default/p0\tpod\npod/default/p1\tpod\npod/default/p2\tpod\npod/shop/till\tpod\npod/shop/toaster\tpod\npod/x/till\tpod\n:4\n"
    );
    // The namespace: the one that is said, else the context's, else `default`.
    assert_eq!(ask(&["trace", "ti"]), ":4\n");
    assert_eq!(ask(&["trace", "-n", "x", "t"]), "till\tpod\n:4\n");
    assert_eq!(
        ask(&["trace", "--context", "shop", "t"]),
        "till\tpod\ntoaster\tpod\n:4\n"
    );
    assert_eq!(ask(&["trace", "shop/t"]), "shop/till\tpod\nshop/toaster\tpod\n:4\n");
    assert_eq!(
        ask(&["trace", "p0", "svc/"]),
        "svc/default/web\tservice\nsvc/shop/tills\tservice\n:4\n"
    );
    assert_eq!(
        ask(&["trace", "p0", "-n", "shop", "till"]),
        "till\tpod\ntills\tservice\n:4\n"
    );
    assert_eq!(
        ask(&["trace", "node/"]),
        "node/n0\tnode\nnode/n1\tnode\nnode/n2\tnode\n:4\n"
    );
    assert_eq!(ask(&["collect", "--nodes", "n"]), "n0\tnode\nn1\tnode\nn2\tnode\n:4\n");
    assert_eq!(ask(&["trace", "-n", ""]), "default\nshop\nx\n:4\n");
    assert_eq!(ask(&["vip", "svc/w"]), "svc/web\tservice\n:4\n");
    assert_eq!(
        ask(&["explain", "clusterip", "-n", "shop", "svc/t"]),
        "svc/tills\tservice\n:4\n"
    );
    assert_eq!(ask(&["explain", "nodeport", "1", "--node", "n2"]), "n2\tnode\n:4\n");
    assert_eq!(ask(&["trace", "--context", ""]), "fake\nshop\n:4\n");
    // A name that would be another path is not asked for.
    assert_eq!(ask(&["trace", "..%2f/t"]), ":4\n");
    let state = api.state();
    assert!(
        state
            .requests
            .iter()
            .all(|r| r.starts_with("GET /api/v1/") && !r.contains("%"))
    );
    assert!(state.created.is_empty());
}

#[test]
fn a_cluster_that_does_not_answer_is_waited_for_a_moment() {
    let api = shop();
    api.state().faults.slow = Duration::from_secs(20);
    let begun = Instant::now();
    assert_eq!(complete(&api, &["trace", "p"]), ":4\n");
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}

#[test]
fn what_may_not_be_listed_is_left_out() {
    let api = shop();
    api.state().faults.refuse.push(Refusal {
        method: "GET",
        path: "/v1/pods",
        times: u32::MAX,
        code: 403,
        message: "pods is forbidden".to_owned(),
        retry_after: None,
    });
    assert_eq!(
        complete(&api, &["trace", "p0"]),
        "p0\tpod\n:4\n",
        "the namespace may be listed"
    );
    api.state().faults.first = (u32::MAX, 401);
    assert_eq!(complete(&api, &["trace", "p0"]), ":4\n");
}
