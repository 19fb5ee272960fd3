//! What goes wrong half-way: agents that die, nodes that vanish, connections that are cut, servers that are slow.
//! Once more helps against a connection, and not against a pod that is gone; nothing is left either way.

use std::time::{Duration, Instant};

use super::fake_api::{FakeApi, Faults, HalfWay, Refusal, small};
use super::{cluster, open, ran};

struct Run {
    code: i32,
    said: String,
    api: FakeApi,
    /// Pods of `cluster/pods.json`.
    pods: Option<usize>,
    /// Nodes that were read.
    read: usize,
}

/// Collects two nodes and 1,203 pods with a fault. No agent may be left.
fn with(set: impl FnOnce(&mut Faults)) -> Run {
    let api = cluster(2, 1203);
    api.state().canned = Some(small);
    set(&mut api.state().faults);
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("s");
    let to = file.display().to_string();
    let (code, said) = ran(
        &api,
        folder.path(),
        &["collect", "-f", &to, "--agent", "image", "--parallel", "1"],
    );
    assert!(api.state().agents.is_empty(), "{said}");
    let (mut pods, mut read) = (None, 0);
    if matches!(code, 0 | 3) {
        let snapshot = open(&file);
        pods = snapshot.cluster().pods().get().map(|t| t.rows.len());
        read = snapshot.nodes().filter(|n| n.host.links().get().is_some()).count();
    }
    Run {
        code,
        said,
        api,
        pods,
        read,
    }
}

fn refuse(method: &'static str, path: &'static str, times: u32, code: u16, message: &str) -> Refusal {
    Refusal {
        method,
        path,
        times,
        code,
        message: message.to_owned(),
        retry_after: None,
    }
}

#[test]
fn an_agent_that_dies_half_way_is_told_and_the_other_is_used() {
    for (became, words) in [
        (
            HalfWay::Evicted,
            "the agent on n0 died half-way: its pod is Failed Evicted: the node was low on memory",
        ),
        (HalfWay::Deleted, "the agent on n0 died half-way: its pod was deleted"),
        (HalfWay::NodeGone, "n0 is not in the cluster any more"),
    ] {
        let run = with(|f| f.half_way = Some(became));
        assert!(run.code == 3 && run.said.contains(words), "{became:?}: {}", run.said);
        assert_eq!(run.read, 0, "both nodes fare alike");
        assert_eq!(run.pods, Some(1203), "the rest is used");
        let execs = run.api.state().requests.iter().filter(|r| r.ends_with("/exec")).count();
        assert_eq!(execs, 2, "a pod that is gone is not asked again");
    }
}

#[test]
fn a_node_that_vanishes_before_its_agent_is_there_is_told() {
    let run = with(|f| {
        f.refuse
            .push(refuse("GET", "/nodes/n1", 1, 404, "nodes \"n1\" not found"))
    });
    assert!(
        run.code == 3 && run.said.contains("n1 is not in the cluster any more"),
        "{}",
        run.said
    );
    assert_eq!((run.read, run.api.state().created.len()), (1, 1));
}

#[test]
fn a_connection_that_is_cut_once_is_made_again() {
    let run = with(|f| f.cut_exec = 1);
    assert_eq!((run.code, run.read), (0, 2), "{}", run.said);
    assert_eq!(run.api.state().created.len(), 2, "in the same pod");
    let run = with(|f| f.cut_list = Some(("pods", 3)));
    assert_eq!((run.code, run.pods), (0, Some(1203)), "{}", run.said);
    assert!(run.said.contains("note: pods: "), "{}", run.said);
}

#[test]
fn a_kubelet_that_cannot_be_reached_is_not_the_server() {
    let message = "error dialing backend: dial tcp 192.0.2.0:10250: i/o timeout";
    let run = with(|f| f.refuse.push(refuse("GET", "/exec", 1, 500, message)));
    assert_eq!((run.code, run.read), (0, 2), "it was a moment: {}", run.said);
    let run = with(|f| f.refuse.push(refuse("GET", "/exec", u32::MAX, 500, message)));
    assert!(
        run.code == 3
            && run
                .said
                .contains("cannot reach the kubelet of n0: error dialing backend")
            && run.said.contains("10250"),
        "{}",
        run.said
    );
}

#[test]
fn who_may_make_pods_and_not_use_them_is_told() {
    let message = "pods \"x\" is forbidden: User \"me\" cannot create resource \"pods/exec\"";
    let run = with(|f| f.refuse.push(refuse("GET", "/exec", u32::MAX, 403, message)));
    assert!(
        run.code == 3 && run.said.contains("not allowed: pods") && run.said.contains("kubectl knet rbac"),
        "{}",
        run.said
    );
}

/// Every status at every place: once it passes, for ever it is told; nothing is left.
#[test]
fn whatever_the_server_says() {
    for (code, passes) in [
        (409, false),
        (429, true),
        (500, true),
        (502, true),
        (503, true),
        (504, true),
    ] {
        let list = with(|f| f.refuse.push(refuse("GET", "/pods", 1, code, "once")));
        assert_eq!(list.pods, passes.then_some(1203), "{code}: {}", list.said);
        let create = with(|f| f.refuse.push(refuse("POST", "/pods", 1, code, "once")));
        // 409 is an agent that is there already; this one is not, and is waited for in vain.
        assert_eq!(create.code, if passes { 0 } else { 3 }, "{code}: {}", create.said);
    }
    let run = with(|f| f.refuse.push(refuse("POST", "/pods", u32::MAX, 500, "for ever")));
    assert!(run.code == 3 && run.said.contains("for ever (500)"), "{}", run.said);
    // A pod that cannot be deleted is not kept secret.
    let api = cluster(1, 1);
    api.state().canned = Some(small);
    api.state().faults.refuse.push(Refusal {
        method: "DELETE",
        path: "",
        times: u32::MAX,
        code: 500,
        message: "no".to_owned(),
        retry_after: None,
    });
    let mut refusals = api.state().faults.refuse.clone();
    let folder = tempfile::tempdir().expect("a directory");
    let to = folder.path().join("s").display().to_string();
    let (_, said) = ran(&api, folder.path(), &["collect", "-f", &to, "--agent", "image"]);
    assert!(
        said.contains("may be left") && said.contains("kubectl knet cleanup"),
        "{said}"
    );
    refusals.clear();
    api.state().faults.refuse = refusals;
    let (code, said) = ran(&api, folder.path(), &["cleanup"]);
    assert!(
        code == 0 && said.contains(": deleted") && api.state().agents.is_empty(),
        "{said}"
    );
}

#[test]
fn a_server_that_says_when_is_asked_then() {
    let begun = Instant::now();
    let run = with(|f| {
        f.refuse.push(Refusal {
            retry_after: Some(2),
            ..refuse("GET", "/pods", 1, 429, "too many requests")
        });
    });
    assert_eq!((run.code, run.pods), (0, Some(1203)), "{}", run.said);
    assert!(begun.elapsed() >= Duration::from_secs(2), "it said two seconds");
}

/// Slow is not dead; `--request-timeout` says how slow is too slow.
#[test]
fn a_slow_server_is_waited_for_as_long_as_one_likes() {
    let run = with(|f| f.trickle = Some((20, Duration::from_millis(15))));
    assert_eq!((run.code, run.pods, run.read), (0, Some(1203), 2), "{}", run.said);
    let api = cluster(1, 1);
    api.state().faults.slow = Duration::from_secs(30);
    let folder = tempfile::tempdir().expect("a directory");
    let to = folder.path().join("s").display().to_string();
    let begun = Instant::now();
    let asked = ["collect", "-f", &to, "--agent", "none", "--request-timeout", "1s"];
    let (code, said) = ran(&api, folder.path(), &asked);
    assert!(code == 2 && said.contains("cannot be reached"), "{said}");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

/// Nothing is watched, so there are no bookmarks to miss: pods are looked at until they run.
#[test]
fn nothing_is_watched() {
    let run = with(|_| ());
    assert_eq!(run.code, 0, "{}", run.said);
    let state = run.api.state();
    assert!(
        !state.queries.iter().any(|query| query.contains("watch")),
        "{:?}",
        state.queries
    );
}
