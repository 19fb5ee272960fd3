//! What kubectl asks of a plugin: completions under another name, and to be found by its file name.

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

#[test]
fn kubectl_finds_the_plugin_and_its_completions() {
    if Command::new("kubectl").args(["version", "--client"]).output().is_err() {
        println!("KNET-SKIP kubectl_plugin: kubectl is not installed");
        return;
    }
    let (folder, _) = installed();
    let path = format!(
        "{}:{}",
        folder.path().display(),
        std::env::var("PATH").unwrap_or_default()
    );
    let kubectl = |words: &[&str]| {
        let out = Command::new("kubectl")
            .args(words)
            .env("PATH", &path)
            .env_remove("KNET_SNAPSHOT")
            .output()
            .expect("it is there");
        (out.status.code(), String::from_utf8_lossy(&out.stdout).into_owned())
    };
    let snapshot = three_node();
    let (code, out) = kubectl(&["knet", "version"]);
    assert_eq!((code, out.starts_with("kubectl-knet ")), (Some(0), true), "{out}");
    let (code, _) = kubectl(&["knet", "trace", "toolbox-1", "10.9.9.9:1", "--snapshot", &snapshot]);
    assert!(matches!(code, Some(1 | 3)), "an exit code comes through: {code:?}");
    let (_, out) = kubectl(&["__complete", "knet", "trace", "--snapshot", &snapshot, "toolbox-1"]);
    assert!(out.starts_with("toolbox-1\tpod on node-1\n"), "{out}");
}
