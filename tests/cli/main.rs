//! The binary as people and scripts meet it: exit code, standard output, standard error.

mod against;
mod answers;
mod flows;
mod mistakes;
mod plugin;

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The shipped capture.
fn three_node() -> String {
    fixture("three-node/snapshot.tar.zst")
}

fn fixture(path: &str) -> String {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(path)
        .to_string_lossy()
        .into_owned()
}

/// How a run ended.
struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Ran {
    /// All of it on one page, without paths of this machine.
    fn page(&self) -> String {
        let Self { code, stdout, stderr } = self;
        let text = format!("exit: {code}\n----- stdout\n{stdout}----- stderr\n{stderr}");
        text.replace(env!("CARGO_MANIFEST_DIR"), "[REPO]")
            .replace(env!("CARGO_PKG_VERSION"), "[VERSION]")
    }
}

/// The binary in a fixed environment.
fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-knet"));
    command.args(args);
    for key in ["KNET_SNAPSHOT", "NO_COLOR", "CLICOLOR_FORCE", "COLUMNS", "KUBECONFIG"] {
        command.env_remove(key);
    }
    // Whoever runs the tests may have a cluster.
    command.env("HOME", "/nowhere");
    // Whatever happens, a person gets a sentence and no backtrace.
    command.env("RUST_BACKTRACE", "1");
    command
}

fn run(args: &[&str]) -> Ran {
    run_with(command(args), b"")
}

fn run_with(mut command: Command, input: &[u8]) -> Ran {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary was built");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let input = input.to_owned();
    let feeder = std::thread::spawn(move || {
        // It may end before it has read everything.
        let _ = stdin.write_all(&input);
    });
    let out = child.wait_with_output().expect("it ends");
    feeder.join().expect("the feeder ends");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output is UTF-8");
    Ran {
        code: out.status.code().expect("no signal ended it"),
        stdout: text(out.stdout),
        stderr: text(out.stderr),
    }
}
