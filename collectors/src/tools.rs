//! Captures one network namespace with the reference commands.

use std::fmt::Write;

use knet_snapshot::artifact::name;
use knet_snapshot::manifest::{AbsentReason, ArtifactEntry};
use sha2::{Digest, Sha256};

use crate::clock;
use crate::exec::{self, Limits, NotRun, Ran};
use crate::reference::{REFERENCES, Reference};

/// Which network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The one this process is in.
    Current,
    /// A named one (`ip netns`).
    Named(String),
}

impl Target {
    /// A command as it is run in this namespace.
    fn argv<'a>(&'a self, command: &[&'a str]) -> Vec<&'a str> {
        match self {
            Self::Current => command.to_vec(),
            Self::Named(name) => [&["ip", "netns", "exec", name.as_str()], command].concat(),
        }
    }
}

/// One artifact of a namespace, or why there is none. Its paths are file names: where the namespace's
/// folder is in a snapshot is for [`crate::bundle`] to say.
#[derive(Clone, Debug)]
pub struct Captured {
    /// Where it came from.
    pub entry: ArtifactEntry,
    /// The bytes, or why there are none, and in words.
    pub content: Result<Vec<u8>, (AbsentReason, String)>,
}

/// Captures every artifact of the registry, in capture order, and then looks again at links and rules:
/// what changed meanwhile is marked inconsistent. Never fails; failures are in the result.
#[must_use]
pub fn capture_netns(target: &Target, limits: Limits) -> Vec<Captured> {
    let mut captured: Vec<Captured> = REFERENCES
        .iter()
        .map(|reference| capture(reference, target, limits))
        .collect();
    for again in REFERENCES
        .iter()
        .filter(|reference| is_checked_twice(reference.artifact))
    {
        let Some(first) = captured.iter_mut().find(|c| c.entry.path == again.artifact) else {
            continue;
        };
        let Ok(before) = &first.content else { continue };
        let second = capture(again, target, limits);
        first.entry.consistent = second.content.ok().map(|after| stable(before) == stable(&after));
    }
    captured
}

fn is_checked_twice(artifact: &str) -> bool {
    matches!(
        artifact,
        name::LINK | name::IPTABLES_NFT | name::IP6TABLES_NFT | name::IPTABLES_LEGACY | name::IP6TABLES_LEGACY
    )
}

/// A save without what changes all the time: counters, and the comment lines with the date.
fn stable(save: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(save.len());
    for line in save.split(|&b| b == b'\n').filter(|line| !line.starts_with(b"#")) {
        let rule = match line {
            [b'[', rest @ ..] => rest
                .iter()
                .position(|&b| b == b']')
                .map_or(line, |end| &rest[end + 1..]),
            // `:INPUT ACCEPT [12:3456]`
            [b':', ..] => line
                .iter()
                .rposition(|&b| b == b'[')
                .map_or(line, |start| &line[..start]),
            _ => line,
        };
        kept.extend_from_slice(rule);
        kept.push(b'\n');
    }
    kept
}

fn capture(reference: &Reference, target: &Target, limits: Limits) -> Captured {
    let entry = ArtifactEntry {
        path: reference.artifact.to_owned(),
        via: "exec".to_owned(),
        argv: reference
            .commands
            .join(&";")
            .iter()
            .map(|&word| word.to_owned())
            .collect(),
        at: clock::now(),
        ..ArtifactEntry::default()
    };
    let mut captured = Captured {
        entry,
        content: Ok(Vec::new()),
    };
    if let Some(file) = reference.only_if
        && let Some(absent) = not_there(file, target, limits)
    {
        captured.content = Err(absent);
        return captured;
    }
    let mut bytes = Vec::new();
    for command in reference.commands {
        match exec::run(&target.argv(command), limits) {
            Ok(Ran {
                stdout,
                code: Some(0),
                stderr,
            }) => {
                captured.entry.exit = Some(0);
                captured.entry.notes.extend(stderr.lines().next().map(str::to_owned));
                bytes.extend(stdout);
            }
            Ok(ran) => {
                captured.entry.exit = ran.code;
                captured.content = Err((reason(&ran), first_line(&ran)));
                return captured;
            }
            Err(not_run) => {
                captured.content = Err(why(&not_run, command[0]));
                return captured;
            }
        }
    }
    if !reference.secrets.is_empty() {
        bytes = without_secrets(&bytes, reference.secrets);
    }
    captured.entry.bytes = Some(bytes.len() as u64);
    captured.entry.sha256 = sha256(&bytes);
    captured.content = Ok(bytes);
    captured
}

/// `None` when the file is there.
fn not_there(file: &str, target: &Target, limits: Limits) -> Option<(AbsentReason, String)> {
    match exec::run(&target.argv(&["test", "-e", file]), limits) {
        Ok(Ran { code: Some(0), .. }) => None,
        Ok(Ran {
            code: Some(1), stderr, ..
        }) if stderr.is_empty() => Some((
            AbsentReason::ModuleNotLoaded,
            format!("no {file}: the kernel holds no such state"),
        )),
        Ok(ran) => Some((reason(&ran), first_line(&ran))),
        Err(not_run) => Some(why(&not_run, "test")),
    }
}

fn why(not_run: &NotRun, program: &str) -> (AbsentReason, String) {
    match not_run {
        NotRun::Missing => (AbsentReason::ToolMissing, format!("{program} is not installed")),
        NotRun::Timeout => (AbsentReason::Timeout, format!("{program} took too long")),
        NotRun::TooLarge => (AbsentReason::Error, format!("{program} printed more than the limit")),
        NotRun::Io(error) => (AbsentReason::Error, format!("{program}: {error}")),
    }
}

/// Only a plain "not supported" of the kernel means empty. Everything else means that nobody could look.
fn reason(ran: &Ran) -> AbsentReason {
    let says = |words: &[&str]| words.iter().any(|word| ran.stderr.contains(word));
    if says(&[
        "Operation not permitted",
        "Permission denied",
        "you must be root",
        "must be run as root",
    ]) {
        AbsentReason::Permission
    } else if says(&["Operation not supported", "Protocol not supported"]) {
        AbsentReason::NotSupported
    } else if says(&["No such file or directory"]) && says(&["exec of"]) {
        // `ip netns exec` found the namespace but not the program.
        AbsentReason::ToolMissing
    } else {
        AbsentReason::Error
    }
}

fn first_line(ran: &Ran) -> String {
    match (ran.stderr.lines().next(), ran.code) {
        (Some(line), _) => line.to_owned(),
        (None, Some(code)) => format!("exit code {code}"),
        (None, None) => "ended by a signal".to_owned(),
    }
}

fn without_secrets(bytes: &[u8], secrets: &[&str]) -> Vec<u8> {
    let secret = |line: &&[u8]| {
        !secrets
            .iter()
            .any(|s| line.trim_ascii_start().starts_with(s.as_bytes()))
    };
    bytes
        .split_inclusive(|&b| b == b'\n')
        .filter(secret)
        .flatten()
        .copied()
        .collect()
}

/// Lower-case hex.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .fold(String::with_capacity(64), |mut hex, byte| {
            // Writing to a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capture_of_this_namespace_has_every_artifact_or_a_reason() {
        let captured = capture_netns(&Target::Current, Limits::default());
        assert_eq!(captured.len(), REFERENCES.len());
        for artifact in captured {
            match artifact.content {
                Ok(bytes) => assert_eq!(artifact.entry.sha256, sha256(&bytes)),
                Err((_, detail)) => assert!(!detail.is_empty(), "{}", artifact.entry.path),
            }
        }
    }

    #[test]
    fn a_namespace_that_is_not_there_is_never_empty() {
        for artifact in capture_netns(&Target::Named("knet-no-such".into()), Limits::default()) {
            let (reason, _) = artifact.content.expect_err("nobody could look");
            assert!(!reason.means_empty(), "{}: {reason:?}", artifact.entry.path);
        }
    }

    #[test]
    fn counters_are_no_change() {
        let a = b"# Generated on Sun\n*nat\n:PREROUTING ACCEPT [1:60]\n[1:60] -A PREROUTING -j X\n";
        let b = b"# Generated on Mon\n*nat\n:PREROUTING ACCEPT [2:99]\n[7:60] -A PREROUTING -j X\n";
        assert_eq!(stable(a), stable(b));
        assert_ne!(
            stable(a),
            stable(b"*nat\n:PREROUTING DROP [1:60]\n[1:60] -A PREROUTING -j X\n")
        );
    }

    #[test]
    fn keys_stay_where_they_are() {
        let shown = b"interface: wg0\n  private key: (hidden)\n  preshared key: x\n  listening port: 51820\n";
        let kept = without_secrets(shown, &["private key:", "preshared key:"]);
        assert_eq!(kept, b"interface: wg0\n  listening port: 51820\n");
    }
}
