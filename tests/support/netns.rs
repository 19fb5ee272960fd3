//! Runs a test in a network namespace of its own, or says visibly why it cannot.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

const CHILD: &str = "KNET_NETNS_CHILD";

/// Prints past the capture of the test harness.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// `true`: this process is alone in a fresh namespace, go on. `false`: it was run there in a child, which
/// passed, or it cannot run here and said so.
pub fn alone(test: &str, tools: &[&str]) -> bool {
    if is_child(test) {
        return true;
    }
    if let Some(reason) = obstacle(tools) {
        say(&format!("KNET-SKIP {test}: {reason}"));
        return false;
    }
    let exe = std::env::current_exe().expect("a test knows its own file");
    let status = Command::new("unshare")
        .arg("-n")
        .arg(exe)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CHILD, test)
        .status()
        .expect("unshare was there a moment ago");
    assert!(status.success(), "{test} failed in its namespace");
    false
}

/// This process is the one in the fresh namespace.
pub fn is_child(test: &str) -> bool {
    std::env::var(CHILD).is_ok_and(|name| name == test)
}

fn obstacle(tools: &[&str]) -> Option<String> {
    let missing = ["unshare", "ip"]
        .iter()
        .chain(tools)
        .find(|tool| !shell(&format!("command -v {tool}"), "").status.success());
    if let Some(tool) = missing {
        return Some(format!("{tool} is not installed"));
    }
    let unshared = Command::new("unshare")
        .args(["-n", "true"])
        .stderr(Stdio::null())
        .status();
    (!unshared.is_ok_and(|s| s.success())).then(|| "may not create a network namespace (not root?)".to_owned())
}

/// Runs a shell command with an input.
pub fn shell(command: &str, input: &str) -> Output {
    let mut child = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a shell");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let input = input.to_owned();
    let writer = std::thread::spawn(move || {
        let _ = stdin.write_all(input.as_bytes());
    });
    let output = child.wait_with_output().expect("the child was started");
    writer.join().expect("the writer does not panic");
    output
}

/// Runs a shell command that must succeed.
pub fn must(command: &str, input: &str) -> String {
    let output = shell(command, input);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {stderr}\n{input}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// SplitMix64: a seed gives the same test on every machine.
pub struct Rng(u64);

impl Rng {
    /// Seeded by `KNET_SEED`; 11 without it. The seed is printed, to replay a failure.
    pub fn seeded(test: &str) -> Self {
        let seed = std::env::var("KNET_SEED")
            .ok()
            .and_then(|s| s.parse().ok())
            // The same sample every time, so that a failure is a change's; any other seed is a new one.
            .unwrap_or(11);
        say(&format!("{test}: KNET_SEED={seed}"));
        Self(seed)
    }

    /// From a number another generator gave.
    #[allow(dead_code, reason = "not every test runs in parallel")]
    pub const fn from(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    /// One in `n`.
    #[allow(dead_code, reason = "not every test asks")]
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// One of several.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(from.len() as u64)).expect("below the length")]
    }
}
