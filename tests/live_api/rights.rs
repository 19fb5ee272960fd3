//! Who may do what: the printed roles are enough for everything that is asked of a server, and options of kubectl say
//! in whose name.

use std::process::Command;

use serde_json::{Value, json};

use super::fake_api::{FakeApi, small};
use super::{PROGRAM, cluster, ran};

/// The rules of the roles that are printed, and whether each holds in every namespace.
fn rules(arguments: &[&str]) -> Vec<(bool, Value)> {
    let out = Command::new(PROGRAM).args(arguments).output().expect("it runs");
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let mut rules = Vec::new();
    for document in text.split("\n---\n") {
        let role: Value = serde_saphyr::from_str(document.trim_start_matches("---\n")).expect("YAML");
        let everywhere = role["kind"] == "ClusterRole";
        assert!(
            everywhere || role["metadata"]["namespace"] == "kube-system",
            "{document}"
        );
        let own = role["rules"].as_array().expect("rules");
        rules.extend(own.iter().map(|rule| (everywhere, rule.clone())));
    }
    rules
}

/// What the server's authorizer makes of a request: verb, group, resource, namespace.
fn attributes(request: &str) -> (&'static str, String, String, Option<String>) {
    let (method, path) = request.split_once(' ').expect("a method and a path");
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (group, rest) = match parts.as_slice() {
        ["api", "v1", rest @ ..] => ("", rest),
        ["apis", group, _, rest @ ..] => (*group, rest),
        other => panic!("{other:?}"),
    };
    let (namespace, rest) = match rest {
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some((*namespace).to_owned()), rest),
        rest => (None, rest),
    };
    let (resource, one) = match rest {
        [resource] => ((*resource).to_owned(), false),
        [resource, _] => ((*resource).to_owned(), true),
        [resource, _, sub] => (format!("{resource}/{sub}"), true),
        other => panic!("{other:?}"),
    };
    let verb = match (method, one) {
        ("GET", true) => "get",
        ("GET", false) => "list",
        ("POST", _) => "create",
        ("DELETE", true) => "delete",
        other => panic!("{other:?}"),
    };
    (verb, group.to_owned(), resource, namespace)
}

fn allowed(rules: &[(bool, Value)], request: &str) -> bool {
    let (verb, group, resource, namespace) = attributes(request);
    let has = |rule: &Value, key: &str, word: &str| {
        let list = rule[key].as_array().into_iter().flatten();
        list.into_iter().any(|one| one == word)
    };
    rules.iter().any(|(everywhere, rule)| {
        (*everywhere || namespace.as_deref() == Some("kube-system"))
            && has(rule, "verbs", verb)
            && has(rule, "apiGroups", &group)
            && has(rule, "resources", &resource)
    })
}

/// Everything there is, of a cluster with a pod that shares its node's network.
fn everything(agents: bool) -> FakeApi {
    let api = cluster(2, 3);
    api.state().canned = Some(small);
    api.state().objects.get_mut("pods").expect("pods").push(json!({
        "metadata": {"name": "kube-proxy-x", "namespace": "kube-system", "uid": "k"},
        "spec": {"nodeName": "n0", "hostNetwork": true, "containers": [{"name": "kube-proxy", "image": "i"}]},
        "status": {"phase": "Running", "podIP": "192.0.2.0"}}));
    let folder = tempfile::tempdir().expect("a directory");
    let run = |words: &[&str]| ran(&api, folder.path(), words);
    let to = |name: &str| folder.path().join(name).display().to_string();
    run(&["collect", "--agent", "none", "-f", &to("none")]);
    run(&["trace", "p0", "web", "--agent", "none"]);
    run(&["vip", "svc/web", "--agent", "none"]);
    if agents {
        run(&["collect", "--agent", "image", "-f", &to("image")]);
        // The program is sent, and so has to be run.
        api.state().canned = None;
        for how in ["stream", "exec"] {
            run(&["collect", "--agent", how, "--nodes", "n0", "-f", &to(how)]);
        }
        api.state().canned = Some(small);
        run(&["trace", "p0", "web", "--agent", "image"]);
        run(&["cleanup"]);
    }
    api
}

#[test]
fn the_printed_roles_are_enough_and_each_right_is_used() {
    let read = rules(&["rbac", "--read-only"]);
    let api = everything(false);
    for request in &api.state().requests {
        assert!(allowed(&read, request), "{request}");
    }
    let all = rules(&["rbac"]);
    let api = everything(true);
    let requests = api.state().requests.clone();
    // cleanup looks in every namespace where it may, and in that of the agents where it may not.
    for request in &requests {
        assert!(allowed(&all, request), "{request}");
    }
    let beyond: Vec<&String> = requests.iter().filter(|r| !allowed(&read, r)).collect();
    assert!(!beyond.is_empty(), "agents need more than reading");
    // No right is there that nothing asks for.
    for (_, rule) in &all {
        for resource in rule["resources"].as_array().expect("resources") {
            let asks = |r: &&String| attributes(r).2 == resource.as_str().unwrap_or_default();
            assert!(requests.iter().any(|r| asks(&r)), "{resource}");
        }
    }
}

#[test]
fn in_whose_name_is_as_with_kubectl() {
    let api = cluster(1, 1);
    let folder = tempfile::tempdir().expect("a directory");
    let to = folder.path().join("s").display().to_string();
    let asked = ["collect", "--agent", "none", "-f", &to];
    let (code, said) = ran(&api, folder.path(), &asked);
    assert_eq!((code, api.state().in_the_name_of.len()), (0, 0), "{said}");
    std::fs::remove_dir_all(&to).expect("it was made");
    let named = ["--as", "jane", "--as-group", "ops", "--as-group", "dev"];
    let (code, said) = ran(&api, folder.path(), &[&asked[..], &named].concat());
    assert_eq!(code, 0, "{said}");
    let heard = api
        .state()
        .in_the_name_of
        .iter()
        .cloned()
        .collect::<Vec<_>>()
        .join("; ");
    assert!(heard.contains("impersonate-user: jane"), "{heard}");
    assert!(heard.contains("impersonate-group"), "{heard}");
}
