//! Runs the reference commands in the network namespace of this thread.

use knet_snapshot::manifest::{AbsentReason, ArtifactEntry};
use sha2::{Digest, Sha256};
use std::fmt::Write;

use crate::clock;
use crate::exec::{self, Limits, NotRun, Ran};
use crate::guard::Modules;
use crate::reference::{REFERENCES, Reference};

/// One artifact of a namespace, or why there is none. Its paths are file names: where the namespace's
/// folder is in a snapshot is for [`crate::bundle`] to say.
#[derive(Clone, Debug)]
pub struct Captured {
    /// Where it came from.
    pub entry: ArtifactEntry,
    /// The bytes, or why there are none, and in words.
    pub content: Result<Vec<u8>, (AbsentReason, String)>,
}

impl Captured {
    /// An artifact whose bytes are there.
    #[must_use]
    pub fn known(mut entry: ArtifactEntry, bytes: Vec<u8>) -> Self {
        entry.bytes = Some(bytes.len() as u64);
        entry.sha256 = sha256(&bytes);
        Self {
            entry,
            content: Ok(bytes),
        }
    }

    /// An artifact that is not there.
    #[must_use]
    pub fn absent(artifact: &str, reason: AbsentReason, detail: impl Into<String>) -> Self {
        let entry = ArtifactEntry {
            path: artifact.to_owned(),
            ..ArtifactEntry::default()
        };
        Self {
            entry,
            content: Err((reason, detail.into())),
        }
    }
}

/// Captures every artifact of the registry with the reference commands, for comparison with what the
/// collectors read themselves.
#[must_use]
pub fn capture_with_tools(limits: Limits) -> Vec<Captured> {
    let modules = Modules::look();
    REFERENCES
        .iter()
        .map(|reference| capture(reference, &modules, limits))
        .collect()
}

/// Runs the commands of one artifact.
pub(crate) fn capture(reference: &Reference, modules: &Modules, limits: Limits) -> Captured {
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
    if let Some(absent) = not_asked(reference, modules) {
        captured.content = Err(absent);
        return captured;
    }
    let mut bytes = Vec::new();
    for command in reference.commands {
        match exec::run(command, limits) {
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
    Captured::known(captured.entry, bytes)
}

/// Why a command is not run: the kernel holds no such state, and running it would change that.
pub(crate) fn not_asked(reference: &Reference, modules: &Modules) -> Option<(AbsentReason, String)> {
    if let Some(file) = reference.only_if {
        // The command would see this thread's namespace in its own /proc/self.
        let here = file.replace("/proc/self/", "/proc/thread-self/");
        match std::fs::exists(&here) {
            Ok(true) => {}
            Ok(false) => {
                let detail = format!("no {file}: the kernel holds no such state");
                return Some((AbsentReason::ModuleNotLoaded, detail));
            }
            Err(e) => return Some((AbsentReason::Permission, format!("{file}: {e}"))),
        }
    }
    let module = modules.would_load(reference.modules)?;
    let detail = format!("module {module} is not loaded, and asking would load it");
    Some((AbsentReason::ModuleNotLoaded, detail))
}

pub(crate) fn why(not_run: &NotRun, program: &str) -> (AbsentReason, String) {
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

/// Hides columns. A line of another shape may hold a key anywhere, and is left out.
fn without_secrets(bytes: &[u8], secrets: &[(usize, usize)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    for line in bytes.split(|&b| b == b'\n') {
        let mut words: Vec<&[u8]> = line.split(|&b| b == b'\t').collect();
        let Some((_, column)) = secrets.iter().find(|(columns, _)| *columns == words.len()) else {
            continue;
        };
        words[*column] = b"(hidden)";
        out.extend(words.join(&b'\t'));
        out.push(b'\n');
    }
    out
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
    fn keys_stay_where_they_are() {
        let dump =
            b"wg0\tPRIVATE\tpub\t51820\toff\nwg0\tpeer\tPRESHARED\t192.0.2.1:9\t10.0.0.0/8\t0\t0\t0\toff\nPRIVATE x\n";
        let kept = without_secrets(dump, &[(5, 1), (9, 2)]);
        let kept = String::from_utf8(kept).expect("text");
        assert!(!kept.contains("PRIVATE") && !kept.contains("PRESHARED"), "{kept}");
        let table = knet_snapshot::wireguard::parse("wg.txt".into(), kept.as_bytes());
        assert_eq!((table.rows.len(), table.problems.len()), (2, 0), "{kept}");
    }
}
