//! Ctrl-C at every stage leaves nothing behind; after `kill -9` there is `cleanup`.

use std::process::Child;
use std::time::{Duration, Instant};

use super::fake_api::{FakeApi, Faults, small};
use super::{cluster, knet, ran};

fn signal(child: &Child, name: &str) {
    let status = std::process::Command::new("kill")
        .args([name, &child.id().to_string()])
        .status()
        .expect("kill is there");
    assert!(status.success());
}

/// Until the server has seen something.
fn until(api: &FakeApi, what: impl Fn(&super::fake_api::State) -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !what(&api.state()) {
        assert!(Instant::now() < end, "{:?}", api.state().requests);
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn ctrl_c_leaves_nothing_at_any_stage() {
    let slow = Faults {
        slow: Duration::from_millis(1500),
        ..Faults::default()
    };
    let starting = Faults {
        waiting: Some("ContainerCreating".to_owned()),
        ..Faults::default()
    };
    let working = Faults {
        hang_exec: true,
        ..Faults::default()
    };
    let receiving = Faults {
        stall: true,
        ..Faults::default()
    };
    // Deleting is what Ctrl-C must not end.
    let deleting = Faults {
        slow_delete: Duration::from_millis(1500),
        ..Faults::default()
    };
    // The server makes the pod after we are gone.
    let late = Faults {
        late: Duration::from_millis(800),
        ..Faults::default()
    };
    for (stage, faults, signals) in [
        ("lists", slow, "-INT"),
        ("creating", late, "-INT"),
        ("starting", starting, "-INT"),
        ("working", working, "-TERM"),
        ("receiving", receiving, "-INT"),
        ("deleting", deleting, "-INT"),
    ] {
        let api = cluster(3, 3);
        api.state().faults = faults;
        api.state().canned = matches!(stage, "receiving" | "deleting").then_some(small);
        let folder = tempfile::tempdir().expect("a directory");
        let file = folder.path().join("s.tar.gz");
        let to = file.display().to_string();
        let child = knet(&api, folder.path(), &["collect", "-f", &to, "--agent", "image"])
            .spawn()
            .expect("it runs");
        match stage {
            "lists" => until(&api, |s| s.requests.iter().any(|r| r == "GET /api/v1/nodes")),
            "creating" => until(&api, |s| {
                s.requests.iter().filter(|r| r.starts_with("POST")).count() == 3
            }),
            "starting" => until(&api, |s| s.agents.len() == 3),
            "deleting" => until(&api, |s| s.requests.iter().any(|r| r.starts_with("DELETE"))),
            _ => until(&api, |s| {
                s.requests.iter().filter(|r| r.ends_with("/exec")).count() == 3
            }),
        }
        signal(&child, signals);
        let out = child.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(2), "{stage}: {said}");
        assert!(said.contains("interrupted"), "{stage}: {said}");
        assert_eq!(
            api.state().created.len(),
            if stage == "lists" { 0 } else { 3 },
            "{stage}"
        );
        assert!(api.state().agents.is_empty(), "{stage}: {said}");
        assert!(!file.exists(), "{stage}: half a snapshot has no name");
        let left = std::fs::read_dir(folder.path()).expect("a folder").flatten();
        let left: Vec<_> = left
            .map(|e| e.file_name())
            .filter(|name| name != "kubeconfig")
            .collect();
        assert!(left.is_empty(), "{stage}: {left:?}");
    }
}

#[test]
fn what_a_killed_program_leaves_is_cleaned_up() {
    let api = cluster(2, 2);
    api.state().faults.waiting = Some("ContainerCreating".to_owned());
    let folder = tempfile::tempdir().expect("a directory");
    let to = folder.path().join("s.tar.gz").display().to_string();
    let mut child = knet(&api, folder.path(), &["collect", "-f", &to, "--agent", "image"])
        .spawn()
        .expect("it runs");
    until(&api, |s| s.agents.len() == 2);
    signal(&child, "-KILL");
    child.wait().expect("it ends");
    assert_eq!(api.state().agents.len(), 2);
    let (code, said) = ran(&api, folder.path(), &["cleanup", "--dry-run"]);
    assert!(code == 0 && said.matches(": at work").count() == 2, "{said}");
    // Another person's agent at work is not taken away.
    let theirs = {
        let mut state = api.state();
        let (name, mut pod) = state
            .agents
            .first_key_value()
            .map(|(n, p)| (n.clone(), p.clone()))
            .expect("an agent");
        let name = name + "-theirs";
        pod["metadata"]["name"] = name.clone().into();
        pod["metadata"]["annotations"]["knet.dev/owner"] = "other@host".into();
        state.agents.insert(name.clone(), pod);
        name
    };
    let (code, said) = ran(&api, folder.path(), &["cleanup"]);
    assert!(code == 0 && said.matches(": deleted").count() == 2, "{said}");
    assert_eq!(api.state().agents.keys().collect::<Vec<_>>(), [&theirs]);
    let (_, said) = ran(&api, folder.path(), &["cleanup", "--all"]);
    assert!(said.contains(": deleted") && api.state().agents.is_empty(), "{said}");
    let (_, said) = ran(&api, folder.path(), &["cleanup"]);
    assert!(said.contains("no agents are there"), "{said}");
}
