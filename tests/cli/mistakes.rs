//! Good and nonsense command lines. The pages are in `snapshots/`.

use insta::assert_snapshot;

use crate::{command, fixture, run, run_with, three_node};

#[test]
fn help() {
    let ran = run(&["--help"]);
    assert_eq!(ran.code, 0);
    assert_snapshot!("help", ran.page());
    assert_snapshot!("help_trace", run(&["trace", "--help"]).page());
    assert_snapshot!("help_explain", run(&["explain", "nodeport", "--help"]).page());
}

#[test]
fn nothing_asked() {
    let ran = run(&[]);
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""));
    assert!(ran.stderr.contains("Usage: kubectl knet"));
}

#[test]
fn version_and_completion() {
    assert_eq!(
        run(&["version"]).stdout,
        format!("kubectl-knet {}\n", env!("CARGO_PKG_VERSION"))
    );
    assert_eq!(run(&["--version"]).stdout, run(&["version"]).stdout);
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let ran = run(&["completion", shell]);
        assert_eq!(ran.code, 0);
        assert!(ran.stdout.contains("kubectl-knet"), "{shell}");
    }
}

#[test]
fn manual_pages_of_every_command() {
    let folder = tempfile::tempdir().expect("a directory");
    let to = folder.path().join("man").display().to_string();
    let ran = run(&["man", &to]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    for page in [
        "kubectl-knet",
        "kubectl-knet-trace",
        "kubectl-knet-collect",
        "kubectl-knet-snapshot-redact",
    ] {
        let text = std::fs::read_to_string(folder.path().join(format!("man/{page}.1"))).expect(page);
        assert!(
            text.contains(".TH") && text.contains(".SH DESCRIPTION"),
            "{page}: {text}"
        );
    }
}

#[test]
fn typos_get_a_suggestion() {
    assert_snapshot!("typo_command", run(&["trase", "a", "b"]).page());
    assert_snapshot!("typo_option", run(&["trace", "a", "b", "--snapshto", "x"]).page());
    assert_snapshot!("typo_proto", run(&["trace", "a", "b", "-p", "tpc"]).page());
    assert_snapshot!("bad_mark", run(&["trace", "a", "b", "--mark", "0xzz"]).page());
}

#[test]
fn without_a_snapshot_it_says_what_to_pass() {
    let ran = run(&["trace", "a", "b"]);
    assert_eq!(ran.code, 2);
    assert_snapshot!("no_snapshot", ran.page());
}

#[test]
fn the_environment_names_a_default() {
    let mut with = command(&["trace", "toolbox-1", "shop/web"]);
    with.env("KNET_SNAPSHOT", "/nowhere");
    let ran = run_with(with, b"");
    assert_eq!(
        (ran.code, ran.stderr.lines().next()),
        (2, Some("error: /nowhere: No such file or directory (os error 2)"))
    );
}

#[test]
fn what_is_no_snapshot_is_said_in_a_line() {
    let cases: &[(&str, &str)] = &[
        ("README.md", "neither a tar archive nor gzip nor zstd"),
        ("three-node/META.json", "looks like JSON"),
        ("three-node/truth.json.gz", "no tar is inside"),
        ("kube-proxy-cases", "neither manifest.json nor nodes/ nor cluster/"),
    ];
    for (path, says) in cases {
        let ran = run(&["trace", "a", "b", "-s", &fixture(path)]);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{path}");
        let first = ran.stderr.lines().next().unwrap_or_default();
        assert!(first.starts_with("error: ") && first.contains(says), "{path}: {first}");
        assert!(!ran.stderr.contains("backtrace"), "{path}: {}", ran.stderr);
    }
}

#[test]
fn names_that_are_not_there_get_the_closest() {
    let snapshot = three_node();
    for (src, dst, hint) in [
        ("toolbox-9", "shop/web", "toolbox-1"),
        ("toolbox-1", "shop/weeb", "shop/web"),
        ("node/node-11", "10.96.0.10:53", "node-1"),
    ] {
        let ran = run(&["trace", src, dst, "-s", &snapshot]);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{src} {dst}: {}", ran.stderr);
        assert!(ran.stderr.contains(hint), "{src} {dst}: {}", ran.stderr);
    }
}

#[test]
fn two_things_cannot_come_from_one_pipe() {
    let ran = run(&["trace", "--flows", "-", "-s", "-"]);
    assert_eq!(ran.code, 2);
    assert!(
        ran.stderr.contains("cannot both come from standard input"),
        "{}",
        ran.stderr
    );
}

#[test]
fn an_answer_and_a_snapshot_do_not_go_into_one_pipe() {
    let ran = run(&["trace", "a", "b:80", "--save", "-"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("--save -: standard output is for the answer"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_snapshot_may_come_through_a_pipe() {
    let archive = std::fs::read(three_node()).expect("the fixture is there");
    let piped = run_with(command(&["snapshot", "show", "-"]), &archive);
    assert_eq!(piped.stdout, run(&["snapshot", "show", &three_node()]).stdout);
}

#[test]
fn what_is_in_the_shipped_capture() {
    assert_snapshot!("snapshot_show", run(&["snapshot", "show", &three_node()]).page());
    let json = run(&["snapshot", "show", &three_node(), "-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json.stdout).expect("it is JSON");
    assert_eq!(json["schema"], "knet.inventory/v1");
    assert_eq!(json["nodes"].as_array().map(Vec::len), Some(3));
    assert_eq!(json["problems"], serde_json::json!([]));
}
