//! Opening a snapshot: from a directory, a `.tar`, `.tar.gz` or `.tar.zst`, or standard input.
//!
//! What a file is is told by its first bytes, never by its name. Everything here is read as if a
//! stranger had made it: an entry that wants to leave the snapshot, comes twice, is not a file, or is
//! out of all proportion refuses the whole snapshot with the entry's name ([`Limits`] has the numbers).
//! What is merely unreadable becomes a [`Problem`] and the rest is used.

mod detect;
mod directory;
mod entries;
mod limits;
mod packed;
mod unpacked;
mod write;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use knet_snapshot::Problem;
use knet_snapshot::store::Blob;

pub use limits::Limits;
pub use write::Writer;

/// Where a snapshot is read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Standard input, which must hold an archive (`-`).
    Stdin,
    /// A directory or an archive.
    Path(PathBuf),
}

impl Source {
    /// `-` is standard input, everything else a path.
    #[must_use]
    pub fn from_arg(arg: &Path) -> Self {
        if arg.as_os_str() == "-" {
            Self::Stdin
        } else {
            Self::Path(arg.to_owned())
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdin => f.write_str("standard input"),
            Self::Path(path) => write!(f, "{}", path.display()),
        }
    }
}

/// The files of a snapshot by their path inside it (`nodes/node-1/host/link.json`).
pub struct Files {
    /// Path and bytes, ordered.
    pub files: BTreeMap<String, Blob>,
    /// Everything that was skipped or cannot be read, in one line each. What is not among `files` is not
    /// known to whoever asks for it, so nothing skipped is taken for empty.
    pub problems: Vec<Problem>,
}

/// Why a snapshot was not opened at all.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The operating system said no.
    #[error("{source_name}: {error}")]
    Io {
        /// Which file.
        source_name: String,
        /// What it said.
        error: io::Error,
    },
    /// Nothing in it.
    #[error("{0}: the file is empty")]
    Empty(String),
    /// Not a format this program reads.
    #[error("{source_name}: not a snapshot archive: {what}")]
    Format {
        /// Which file.
        source_name: String,
        /// What it looks like instead.
        what: &'static str,
    },
    /// It ends in the middle, or its compression is damaged.
    #[error("{source_name}: damaged or cut off{}: {error}", at(.entry))]
    Damaged {
        /// Which file.
        source_name: String,
        /// The last entry that was begun.
        entry: Option<String>,
        /// What the decoder said.
        error: String,
    },
    /// An entry is not accepted.
    #[error("{source_name}: refused because of entry {entry:?}: {why}")]
    Refused {
        /// Which file.
        source_name: String,
        /// The entry.
        entry: String,
        /// Why.
        why: Refusal,
    },
    /// There is nothing of a snapshot in it.
    #[error("{0}: not a snapshot: neither manifest.json nor nodes/ nor cluster/ is in it")]
    NotASnapshot(String),
}

fn at(entry: &Option<String>) -> String {
    entry.as_ref().map(|e| format!(" in entry {e:?}")).unwrap_or_default()
}

/// Why an entry is not accepted. Closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Begins with `/`.
    #[error("its path is absolute")]
    Absolute,
    /// Has `..` in it.
    #[error("its path has `..` in it")]
    ParentDir,
    /// A link whose target is absolute or climbs out.
    #[error("it is a link that leaves the snapshot")]
    LinkLeaves,
    /// Links that lead back to themselves.
    #[error("it is a link that leads back to itself")]
    LinkLoop,
    /// The same path twice.
    #[error("it is in the snapshot twice")]
    Duplicate,
    /// A device, FIFO or socket.
    #[error("it is a device, FIFO or socket")]
    Special,
    /// A sparse or otherwise exotic tar entry.
    #[error("it is a kind of tar entry that no snapshot needs (sparse, continued)")]
    Exotic,
    /// Path longer or deeper than any snapshot's.
    #[error("its path is too long or too deep")]
    PathTooLong,
    /// One file over the limit.
    #[error("it is larger than {0} bytes")]
    FileTooLarge(u64),
    /// Too many entries.
    #[error("it is one entry more than the limit of {0}")]
    TooManyEntries(usize),
    /// Too much in all.
    #[error("with it the snapshot is larger than {0} bytes")]
    TooLarge(u64),
    /// Compressed beyond belief.
    #[error("it expands more than {0} times: a compression bomb")]
    Bomb(u64),
}

/// The files of an archive whose file is open, from where it stands.
///
/// # Errors
/// When it is not a snapshot, damaged, or refused.
pub fn read(file: &std::fs::File, name: &str, limits: &Limits) -> Result<Files, ArchiveError> {
    packed::read_file(file, name, limits)?.finish(name, limits)
}

/// Opens a snapshot and returns its files.
///
/// # Errors
/// When it is not there, not a snapshot, damaged, or refused.
pub fn open(source: &Source, limits: &Limits) -> Result<Files, ArchiveError> {
    let name = source.to_string();
    let io = |error| ArchiveError::Io {
        source_name: name.clone(),
        error,
    };
    let entries = match source {
        Source::Path(path) => {
            let meta = std::fs::metadata(path).map_err(io)?;
            if meta.is_dir() {
                directory::read(path, &name, limits)?
            } else if meta.is_file() {
                let file = std::fs::File::open(path).map_err(io)?;
                packed::read_file(&file, &name, limits)?
            } else {
                return Err(ArchiveError::Format {
                    source_name: name,
                    what: "it is a device, FIFO or socket (pass `-` to read an archive from standard input)",
                });
            }
        }
        Source::Stdin => packed::read_stream(io::stdin().lock(), &name, limits)?,
    };
    let files = entries.finish(&name, limits)?;
    if files.files.is_empty() {
        return Err(ArchiveError::NotASnapshot(name));
    }
    Ok(files)
}
