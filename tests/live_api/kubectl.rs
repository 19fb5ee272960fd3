//! With the real kubectl: it finds the plugin, completes its words, shares its kubeconfig, and hands on how it ended.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::fake_api::{FakeApi, small};
use super::{PROGRAM, cluster, open};

/// kubectl asks plugins for completions from this minor version of 1 on.
const COMPLETES: u64 = 26;

/// The minor version of the kubectl that is installed.
fn minor() -> Option<u64> {
    let out = Command::new("kubectl")
        .args(["version", "--client", "-o", "json"])
        .output()
        .ok()?;
    let version: Value = serde_json::from_slice(&out.stdout).ok()?;
    let minor = version["clientVersion"]["minor"].as_str()?;
    minor.trim_end_matches(|c: char| !c.is_ascii_digit()).parse().ok()
}

/// A folder with the program under the names kubectl looks for.
fn installed() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a directory");
    for name in ["kubectl-knet", "kubectl_complete-knet"] {
        // A link would do for people; a copy also where links are not allowed.
        std::fs::copy(PROGRAM, folder.path().join(name)).expect("a copy");
    }
    folder
}

struct Kubectl {
    programs: tempfile::TempDir,
    config: String,
}

impl Kubectl {
    fn run(&self, words: &[&str]) -> (Option<i32>, String, String) {
        let path = std::env::var("PATH").unwrap_or_default();
        let out = Command::new("kubectl")
            .args(words)
            .env("PATH", format!("{}:{path}", self.programs.path().display()))
            .env("KUBECONFIG", &self.config)
            .env("HOME", self.programs.path())
            .env_remove("KNET_SNAPSHOT")
            .output()
            .expect("it is there");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (out.status.code(), text(&out.stdout), text(&out.stderr))
    }
}

/// A kubeconfig in two files, as `KUBECONFIG` allows: the server in one, the contexts in the other.
fn two_files(api: &FakeApi, folder: &Path) -> String {
    let whole: Value = serde_json::from_slice(&std::fs::read(api.kubeconfig(folder)).expect("a file")).expect("JSON");
    let part = |name: &str, keys: &[&str]| {
        let mut part = json!({"apiVersion": "v1", "kind": "Config"});
        for key in keys {
            part[*key] = whole[*key].clone();
        }
        let path = folder.join(name);
        std::fs::write(&path, part.to_string()).expect("a file");
        path
    };
    let files: [PathBuf; 3] = [
        part("servers", &["clusters", "users"]),
        folder.join("not-there"),
        part("contexts", &["contexts", "current-context"]),
    ];
    std::env::join_paths(files)
        .expect("no colon in them")
        .to_string_lossy()
        .into_owned()
}

#[test]
fn kubectl_and_the_plugin_are_one() {
    let Some(minor) = minor() else {
        println!("KNET-SKIP kubectl_plugin: kubectl is not installed");
        return;
    };
    let api = cluster(2, 3);
    api.state().canned = Some(small);
    let folder = tempfile::tempdir().expect("a directory");
    let kubectl = Kubectl {
        programs: installed(),
        config: two_files(&api, folder.path()),
    };
    // It is found.
    let (_, out, _) = kubectl.run(&["plugin", "list"]);
    assert!(out.contains("/kubectl-knet"), "{out}");
    let (code, out, _) = kubectl.run(&["knet", "version"]);
    assert_eq!((code, out.starts_with("kubectl-knet ")), (Some(0), true), "{out}");
    // It shares the kubeconfig: both ask the same server, with the same context's namespace.
    let (code, out, err) = kubectl.run(&["get", "--raw", "/api/v1/nodes/n1"]);
    assert!(code == Some(0) && out.contains("\"n1\""), "{out} {err}");
    let file = folder.path().join("s");
    let to = file.display().to_string();
    let (code, out, err) = kubectl.run(&["knet", "collect", "-f", &to, "--agent", "image"]);
    assert_eq!((code, out.as_str()), (Some(0), ""), "{err}");
    assert_eq!(
        open(&file).nodes().filter(|n| n.host.links().get().is_some()).count(),
        2
    );
    let (_, theirs, _) = kubectl.run(&[
        "config",
        "view",
        "--context",
        "shop",
        "--minify",
        "-o",
        "jsonpath={..namespace}",
    ]);
    let (code, _, err) = kubectl.run(&["knet", "trace", "x", "y", "--context", "shop", "--agent", "none"]);
    assert!(
        code == Some(2) && err.contains(&format!("namespace \"{theirs}\"")),
        "{theirs}: {err}"
    );
    // Exit codes come through.
    let three_node = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/three-node/snapshot.tar.zst");
    let dropped = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/fixtures/faults/iptables/docker-forward-drop-node2/snapshot.tar.zst"
    );
    let asked = |dst: &str, snapshot: &str| {
        kubectl
            .run(&[
                "knet",
                "trace",
                "toolbox-1",
                dst,
                "--snapshot",
                snapshot,
                "--detail",
                "summary",
            ])
            .0
    };
    assert_eq!(asked("shop/web", three_node), Some(0));
    assert_eq!(asked("shop/web", dropped), Some(1));
    assert_eq!(asked("shop/nobody", three_node), Some(2));
    api.state().faults.exec_code = Some(9);
    let other = folder.path().join("other").display().to_string();
    let (code, _, err) = kubectl.run(&["knet", "collect", "-f", &other, "--agent", "image"]);
    assert_eq!(code, Some(3), "{err}");
    println!("KNET-RAN kubectl_plugin kubectl 1.{minor}");
    // It completes words: of the command line, of a snapshot, and of the cluster.
    if minor < COMPLETES {
        println!("KNET-SKIP kubectl_completion: kubectl 1.{minor} asks no plugin for completions (1.{COMPLETES} does)");
        return;
    }
    let complete = |words: &[&str]| kubectl.run(&[&["__complete", "knet"], words].concat()).1;
    assert!(complete(&["snap"]).starts_with("snapshot\tLook into a snapshot\n:4\n"));
    assert!(complete(&["trace", "--snapshot", three_node, "toolbox-1"]).starts_with("toolbox-1\tpod on node-1\n:4\n"));
    assert!(complete(&["trace", "p1"]).starts_with("p1\tpod\n:4\n"));
    assert!(complete(&["trace", "p1", "svc/default/"]).starts_with("svc/default/web\tservice\n:4\n"));
    assert!(complete(&["collect", "--nodes", ""]).starts_with("n0\tnode\nn1\tnode\n:4\n"));
    println!("KNET-RAN kubectl_completion kubectl 1.{minor}");
}
