//! What kubectl asks of a plugin: completions under another name.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::three_node;

/// A folder with the program under the names kubectl looks for.
fn installed() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a directory");
    for name in ["kubectl-knet", "kubectl_complete-knet"] {
        // A link would do for people; a copy also where links are not allowed.
        fs::copy(env!("CARGO_BIN_EXE_kubectl-knet"), folder.path().join(name)).expect("a copy");
    }
    let completer = folder.path().join("kubectl_complete-knet");
    (folder, completer)
}

fn complete(program: &PathBuf, words: &[&str]) -> String {
    let out = Command::new(program)
        .args(words)
        .env_remove("KNET_SNAPSHOT")
        // Whoever runs the tests may have a cluster.
        .env("KUBECONFIG", "/nowhere")
        .env("HOME", "/nowhere")
        .output()
        .expect("it runs");
    assert!(out.status.success());
    assert_eq!(String::from_utf8_lossy(&out.stderr), "");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

#[test]
fn names_of_the_snapshot_are_completed() {
    let (_folder, program) = installed();
    let snapshot = three_node();
    let ask = |words: &[&str]| complete(&program, &[&["trace", "--snapshot", &snapshot], words].concat());
    assert_eq!(
        ask(&["toolbox-"]),
        "toolbox-1\tpod on node-1\ntoolbox-2\tpod on node-2\ntoolbox-3\tpod on node-3\n:4\n"
    );
    assert!(ask(&["toolbox-1", "svc/shop/w"]).starts_with("svc/shop/web\tservice 10.96.1.1\n"));
    assert_eq!(
        ask(&["node/"]),
        "node/node-1\tnode\nnode/node-2\tnode\nnode/node-3\tnode\n:4\n"
    );
    assert_eq!(ask(&["-n", "sh"]), "shop\n:4\n");
    // Without a snapshot, or with one that cannot be read, there is nothing to say and nothing to complain about.
    assert_eq!(complete(&program, &["trace", "toolbox"]), ":4\n");
    assert_eq!(
        complete(&program, &["trace", "--snapshot", "/nowhere", "toolbox"]),
        ":4\n"
    );
    assert_eq!(complete(&program, &["snap"]), "snapshot\tLook into a snapshot\n:4\n");
}
