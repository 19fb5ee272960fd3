//! How far it is, is on standard error: bars on a terminal, lines elsewhere, nothing when nobody wants it.

use std::process::Command;

use super::fake_api::small;
use super::{PROGRAM, cluster, knet};

#[test]
fn standard_output_is_the_snapshot_alone() {
    let api = cluster(2, 2);
    api.state().canned = Some(small);
    let folder = tempfile::tempdir().expect("a directory");
    for (more, lines) in [(&[][..], true), (&["--quiet"][..], false)] {
        let asked = [&["collect", "-f", "-", "--agent", "image"], more].concat();
        let out = knet(&api, folder.path(), &asked).output().expect("it runs");
        assert!(out.status.success());
        assert!(out.stdout.starts_with(&[0x1f, 0x8b]), "a .tar.gz");
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(said.contains("note: n0 captured ("), lines, "{said}");
        assert!(lines || !said.contains("note: "), "{said}");
    }
    // Warnings are said to everybody.
    api.state().faults.exec_code = Some(9);
    let out = knet(&api, folder.path(), &["collect", "-q", "-f", "-", "--agent", "image"]).output();
    let said = String::from_utf8_lossy(&out.expect("it runs").stderr).into_owned();
    assert!(said.contains("warning: ") && !said.contains("note: "), "{said}");
}

/// `script` gives it a terminal.
#[test]
fn a_terminal_gets_bars() {
    let api = cluster(3, 1200);
    api.state().canned = Some(small);
    api.state().faults.slow = std::time::Duration::from_millis(400);
    let folder = tempfile::tempdir().expect("a directory");
    let run = |more: &str| {
        let line = format!(
            "'{PROGRAM}' collect -f '{}' --agent image --kubeconfig '{}' {more}",
            folder.path().join(format!("s{}.tar", more.len())).display(),
            api.kubeconfig(folder.path())
        );
        let out = Command::new("script")
            .args(["-qec", &line, "/dev/null"])
            .env("TERM", "xterm")
            .env_remove("KNET_SNAPSHOT")
            .output();
        out.map(|out| (out.status.success(), String::from_utf8_lossy(&out.stdout).into_owned()))
    };
    let Ok((success, said)) = run("") else {
        println!("KNET-SKIP progress_terminal: script is not installed");
        return;
    };
    assert!(success, "{said}");
    assert!(said.contains("pods [") && said.contains("of 1,200"), "{said}");
    assert!(
        said.contains("nodes [") && said.contains("\x1b[2K"),
        "a bar, drawn and taken away: {said}"
    );
    assert!(!said.contains("captured (1 of"), "a bar says it already: {said}");
    assert!(said.contains("3 nodes captured"), "{said}");
    let (success, said) = run("--quiet").expect("it ran a moment ago");
    assert!(success && !said.contains("nodes [") && !said.contains("note"), "{said}");
    println!("KNET-RAN progress_terminal a bar on a terminal");
}
