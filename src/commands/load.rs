//! From `--snapshot` to a [`Snapshot`].

use std::path::Path;

use anyhow::Context;
use knet_snapshot::Snapshot;

use crate::archive::{self, ArchiveError, Limits, Source};
use crate::args::{FactsArgs, SnapshotOption};
use crate::console::Console;
use crate::exit::Failure;

/// Which nodes of a running cluster a question is about.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "cluster"), allow(dead_code, reason = "without a cluster nobody asks"))]
pub(super) enum About<'a> {
    /// Those of both ends of a packet's way, and of a service's endpoints.
    Ends(Vec<&'a str>),
    /// Those of the ends of many packets' ways: what each is about, and the namespace of its names that have none.
    Flows(Vec<(Vec<&'a str>, Option<&'a str>)>),
    /// One, and those that a packet to the end reaches from there.
    Node {
        /// `None`: the first by name.
        node: Option<&'a str>,
        /// A NodePort of it.
        port: Option<u16>,
        /// Where a packet goes.
        end: Option<&'a str>,
    },
    /// Each of them.
    All,
}

/// What a question is answered from.
pub(super) struct Opened {
    /// The facts.
    pub snapshot: Snapshot,
    /// Namespace of names that have none; `None` leaves it to the answer's own default.
    pub namespace: Option<String>,
}

/// Opens the snapshot that is named; without one, reads of the running cluster what the question is about.
pub(super) fn open(
    facts: &FactsArgs,
    namespace: Option<&str>,
    about: &About<'_>,
    console: &Console,
) -> Result<Opened, Failure> {
    #[cfg(feature = "cluster")]
    if facts.snapshot.path.is_none() {
        return super::collect::for_question(&facts.live, namespace, about, console);
    }
    #[cfg(not(feature = "cluster"))]
    let _ = (&facts.live, about);
    Ok(Opened {
        snapshot: load_option(&facts.snapshot, console)?,
        namespace: namespace.map(str::to_owned),
    })
}

/// Opens the snapshot of an option, and warns about what in it could not be used.
pub(super) fn load_option(option: &SnapshotOption, console: &Console) -> Result<Snapshot, Failure> {
    let Some(path) = &option.path else {
        return Err(Failure::message("no snapshot to read")
            .hint("pass --snapshot PATH: a directory, a .tar, .tar.gz or .tar.zst, or `-` for standard input")
            .hint("`kubectl knet collect` makes one of a running cluster")
            .hint("or set KNET_SNAPSHOT to it"));
    };
    let snapshot = load(path, &Limits::default())?;
    warn_about(&snapshot, path, console);
    Ok(snapshot)
}

/// Opens a snapshot.
///
/// # Errors
/// When it is not there, damaged, refused, or of another version.
pub fn load(path: &Path, limits: &Limits) -> Result<Snapshot, Failure> {
    let source = Source::from_arg(path);
    let files = archive::open(&source, limits).map_err(explained)?;
    let archive::Files { files, problems } = files;
    let mut snapshot = Snapshot::from_files(files.into_iter().collect())
        .with_context(|| source.to_string())
        .map_err(Failure::new)?;
    snapshot.problems.extend(problems);
    Ok(snapshot)
}

fn explained(error: ArchiveError) -> Failure {
    let hint = match &error {
        ArchiveError::Io { .. } => None,
        ArchiveError::Empty(_) | ArchiveError::Damaged { .. } => Some("copy it again from where it was made"),
        ArchiveError::Format { .. } => Some("a snapshot is a directory, a .tar, a .tar.gz or a .tar.zst"),
        ArchiveError::Refused { .. } => {
            Some("unpack it somewhere safe, look at the entry, and pass the directory without it")
        }
        ArchiveError::NotASnapshot(_) => Some("pass the directory (or archive of it) that holds manifest.json"),
    };
    let failure = Failure::from(error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn warn_about(snapshot: &Snapshot, path: &Path, console: &Console) {
    let [first, rest @ ..] = &snapshot.problems[..] else {
        return;
    };
    let subject = if first.artifact.is_empty() {
        "snapshot"
    } else {
        &first.artifact
    };
    let more = match rest.len() {
        0 => String::new(),
        n => format!(" (and {n} more: see `kubectl knet snapshot show {}`)", path.display()),
    };
    console.warn(&format!("{subject}: {}{more}", first.what));
}
