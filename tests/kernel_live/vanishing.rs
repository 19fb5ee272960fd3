//! Pods that come and go while their node is captured: what could be read is there, and nothing fails.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use knet_snapshot::artifact::name;
use kubectl_knet::archive::Limits;
use kubectl_knet::commands::load;

use crate::netns::{alone, say};

/// A process in a namespace of its own.
fn pod() -> Child {
    Command::new("unshare")
        .args(["-n", "sleep", "60"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("unshare was there a moment ago")
}

fn end(mut pod: Child) {
    let _ = pod.kill();
    let _ = pod.wait();
}

#[test]
fn live_vanishing() {
    if !alone("vanishing::live_vanishing", &[]) {
        return;
    }
    // Some stay, and some are replaced all the time.
    let stay: Vec<Child> = (0..4).map(|_| pod()).collect();
    let over = Arc::new(AtomicBool::new(false));
    let restless = {
        let over = over.clone();
        thread::spawn(move || {
            let mut pods: Vec<Child> = Vec::new();
            let mut ended = 0_usize;
            while !over.load(Ordering::Relaxed) {
                pods.push(pod());
                if pods.len() > 8 {
                    end(pods.remove(0));
                    ended += 1;
                }
            }
            let left = pods.len();
            pods.into_iter().for_each(end);
            (ended, left)
        })
    };
    let folder = tempfile::tempdir().expect("a directory");
    let mut seen = 0;
    for round in 0..3 {
        let to = folder.path().join(format!("s{round}"));
        let out = Command::new(env!("CARGO_BIN_EXE_kubectl-knet"))
            .args(["node-collect", "--node", "n", "--host-netns", "/proc/self/ns/net", "-f"])
            .arg(&to)
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(0), "{said}");
        let snapshot = load(&to, &Limits::default()).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(snapshot.problems, [], "{said}");
        let node = snapshot.node("n").expect("it was captured");
        assert!(node.host.links().get().is_some(), "{said}");
        // A namespace that was found is read, for it was held open; what could not be has its reason.
        let manifest = snapshot.manifest.as_ref().expect("it has one");
        for (id, netns) in &node.netns {
            let path = format!("nodes/n/netns/{id}/{}", name::LINK);
            let reason = manifest.absent.iter().find(|absent| absent.path == path);
            assert!(netns.links().get().is_some() || reason.is_some(), "{id}: {said}");
            if let Some(reason) = reason {
                assert!(!reason.reason.means_empty(), "{reason:?}");
            }
        }
        assert!(node.netns.len() >= stay.len(), "{} of them: {said}", node.netns.len());
        seen += node.netns.len();
    }
    over.store(true, Ordering::Relaxed);
    let (ended, left) = restless.join().expect("it does not panic");
    stay.into_iter().for_each(end);
    assert!(ended > 10, "{ended} ended meanwhile");
    say(&format!(
        "KNET-RAN live_vanishing {seen} namespaces in 3 captures, while {ended} ended and {left} were left"
    ));
}
