//! Archives: plain, gzip- or zstd-compressed tar. The whole archive is one buffer (a mapping when it is
//! a plain tar on disk) and files are slices of it.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use knet_snapshot::store::Blob;

use super::detect::{self, Kind};
use super::entries::{Entries, link_target, normalise};
use super::unpacked::Unpacked;
use super::{ArchiveError, Limits, Refusal, directory};

/// Reads an archive that is a regular file.
pub(super) fn read_file(file: &File, name: &str, limits: &Limits) -> Result<Entries, ArchiveError> {
    let blob = directory::load(file).map_err(|error| ArchiveError::Io {
        source_name: name.to_owned(),
        error,
    })?;
    read_bytes(blob, name, limits)
}

/// Reads an archive that comes as a stream.
pub(super) fn read_stream(stream: impl Read, name: &str, limits: &Limits) -> Result<Entries, ArchiveError> {
    let failed = |error| ArchiveError::Io {
        source_name: name.to_owned(),
        error,
    };
    let mut bytes = Unpacked::new(limits);
    let mut stream = stream.take(limits.total_bytes + 1);
    while bytes.append(&mut stream).map_err(failed)? {}
    if bytes.size() > limits.total_bytes {
        return Err(refused(name, name, Refusal::TooLarge(limits.total_bytes)));
    }
    read_bytes(bytes.finish().map_err(failed)?, name, limits)
}

fn read_bytes(blob: Blob, name: &str, limits: &Limits) -> Result<Entries, ArchiveError> {
    let bytes: &[u8] = blob.as_ref().as_ref();
    if bytes.is_empty() {
        return Err(ArchiveError::Empty(name.to_owned()));
    }
    let unpacked = match detect::kind(bytes) {
        Kind::Tar => return index(&blob, name, limits),
        Kind::Other(what) => {
            return Err(ArchiveError::Format {
                source_name: name.to_owned(),
                what,
            });
        }
        Kind::Gzip => unpack(flate2::bufread::MultiGzDecoder::new(bytes), bytes.len(), limits),
        Kind::Zstd => unpack_zstd(bytes, limits),
    };
    let whole = |out: Unpacked| {
        out.finish().map_err(|error| ArchiveError::Io {
            source_name: format!("{name}, unpacked"),
            error,
        })
    };
    let tar: Blob = match unpacked {
        Ok(tar) => whole(tar)?,
        Err(Unpack::Decoder { so_far, error }) => {
            return Err(ArchiveError::Damaged {
                source_name: name.to_owned(),
                entry: last_entry((*whole(so_far)?).as_ref()),
                error,
            });
        }
        Err(Unpack::Refused { so_far, why }) => {
            let entry = last_entry((*whole(so_far)?).as_ref()).unwrap_or_else(|| name.to_owned());
            return Err(refused(name, &entry, why));
        }
    };
    match detect::kind(tar.as_ref().as_ref()) {
        Kind::Tar => index(&tar, name, limits),
        _ => Err(ArchiveError::Format {
            source_name: name.to_owned(),
            what: "it is compressed, but no tar is inside",
        }),
    }
}

/// Why unpacking stopped, with what was unpacked until then.
enum Unpack {
    Decoder { so_far: Unpacked, error: String },
    Refused { so_far: Unpacked, why: Refusal },
}

fn unpack(decoder: impl Read, packed: usize, limits: &Limits) -> Result<Unpacked, Unpack> {
    let mut out = Unpacked::new(limits);
    match append(&mut out, decoder, packed, limits) {
        Ok(()) => Ok(out),
        Err(Stop::Decoder(error)) => Err(Unpack::Decoder {
            so_far: out,
            error: error.to_string(),
        }),
        Err(Stop::Refused(why)) => Err(Unpack::Refused { so_far: out, why }),
    }
}

enum Stop {
    Decoder(io::Error),
    Refused(Refusal),
}

/// Appends what a decoder gives, a bounded piece at a time, and stops at the first bound.
fn append(out: &mut Unpacked, mut decoder: impl Read, packed: usize, limits: &Limits) -> Result<(), Stop> {
    loop {
        // On an error everything decoded before it stays in `out`.
        let more = out.append(&mut decoder).map_err(Stop::Decoder)?;
        let size = out.size();
        if size > limits.total_bytes {
            return Err(Stop::Refused(Refusal::TooLarge(limits.total_bytes)));
        }
        if size > limits.ratio_from && size / (packed as u64).max(1) > limits.ratio {
            return Err(Stop::Refused(Refusal::Bomb(limits.ratio)));
        }
        if !more {
            return Ok(());
        }
    }
}

/// A zstd file is any number of frames, some of which hold no data.
fn unpack_zstd(bytes: &[u8], limits: &Limits) -> Result<Unpacked, Unpack> {
    let mut out = Unpacked::new(limits);
    let mut rest = bytes;
    while !rest.is_empty() {
        if detect::is_skippable_frame(rest) {
            let len = rest
                .get(4..8)
                .and_then(|l| l.try_into().ok())
                .map_or(usize::MAX, |l| u32::from_le_bytes(l) as usize);
            match rest.get(8..).and_then(|r| r.get(len..)) {
                Some(after) => rest = after,
                None => {
                    return Err(Unpack::Decoder {
                        so_far: out,
                        error: "a frame ends too early".to_owned(),
                    });
                }
            }
            continue;
        }
        let mut decoder = match ruzstd::decoding::StreamingDecoder::new(&mut rest) {
            Ok(decoder) => decoder,
            Err(error) => {
                return Err(Unpack::Decoder {
                    so_far: out,
                    error: error.to_string(),
                });
            }
        };
        match append(&mut out, &mut decoder, bytes.len(), limits) {
            Ok(()) => {}
            Err(Stop::Decoder(error)) => {
                return Err(Unpack::Decoder {
                    so_far: out,
                    error: error.to_string(),
                });
            }
            Err(Stop::Refused(why)) => return Err(Unpack::Refused { so_far: out, why }),
        }
    }
    Ok(out)
}

/// The last entry whose header is in a cut-off tar: the one that was being unpacked.
fn last_entry(tar: &[u8]) -> Option<String> {
    let mut archive = tar::Archive::new(io::Cursor::new(tar));
    let entries = archive.entries_with_seek().ok()?;
    entries
        .map_while(Result::ok)
        .last()
        .map(|e| String::from_utf8_lossy(&e.path_bytes()).into_owned())
}

fn refused(name: &str, entry: &str, why: Refusal) -> ArchiveError {
    ArchiveError::Refused {
        source_name: name.to_owned(),
        entry: entry.to_owned(),
        why,
    }
}

/// Lists the entries of a tar; files become slices of `tar`.
fn index(tar: &Blob, name: &str, limits: &Limits) -> Result<Entries, ArchiveError> {
    let bytes: &[u8] = tar.as_ref().as_ref();
    let mut entries = Entries::default();
    let mut archive = tar::Archive::new(io::Cursor::new(bytes));
    let damaged = |entry: Option<String>, error: String| ArchiveError::Damaged {
        source_name: name.to_owned(),
        entry,
        error,
    };
    let mut last = None;
    let mut end = 0;
    for entry in archive.entries_with_seek().map_err(|e| damaged(None, e.to_string()))? {
        let entry = entry.map_err(|e| damaged(last.clone(), e.to_string()))?;
        let raw = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        entries.count(limits).map_err(|why| refused(name, &raw, why))?;
        acceptable(entry.header().entry_type()).map_err(|why| refused(name, &raw, why))?;
        let size = entry.size();
        let start = entry.raw_file_position();
        let data = usize::try_from(start)
            .ok()
            .zip(start.checked_add(size).and_then(|e| usize::try_from(e).ok()))
            .filter(|&(_, end)| end <= bytes.len());
        let Some((from, to)) = data else {
            return Err(damaged(Some(raw), "the archive ends before the entry does".to_owned()));
        };
        end = end.max(to);
        add(&mut entries, tar, &entry, &raw, (from, to), limits).map_err(|why| refused(name, &raw, why))?;
        last = Some(raw);
    }
    // Every writer ends with two blocks of zeros; without them the file may have been cut between entries.
    let ended = bytes
        .get(end.next_multiple_of(512)..)
        .is_some_and(|rest| rest.iter().take(512).filter(|&&b| b == 0).count() == 512);
    if !ended {
        entries.problem("", "the archive has no end mark: it may have been cut off".to_owned());
    }
    Ok(entries)
}

fn add(
    entries: &mut Entries,
    tar: &Blob,
    entry: &tar::Entry<'_, io::Cursor<&[u8]>>,
    raw: &str,
    (from, to): (usize, usize),
    limits: &Limits,
) -> Result<(), Refusal> {
    use tar::EntryType;
    let path = normalise(raw, limits)?;
    if raw.contains(char::REPLACEMENT_CHARACTER) {
        entries.problem(&path, "its name is not UTF-8: skipped".to_owned());
        return Ok(());
    }
    let target = || {
        entry
            .link_name_bytes()
            .map(|t| String::from_utf8_lossy(&t).into_owned())
            .unwrap_or_default()
    };
    match entry.header().entry_type() {
        EntryType::Regular | EntryType::Continuous if path.is_empty() || raw.ends_with('/') => Ok(()),
        EntryType::Regular | EntryType::Continuous => {
            if (to - from) as u64 > limits.file_bytes {
                return Err(Refusal::FileTooLarge(limits.file_bytes));
            }
            entries.file(
                path,
                Arc::new(Slice {
                    whole: tar.clone(),
                    from,
                    to,
                }),
            )
        }
        EntryType::Directory | EntryType::XGlobalHeader => Ok(()),
        EntryType::Symlink => {
            let target = link_target(&path, &target(), limits)?;
            entries.link(path, target)
        }
        // The target of a hard link is a path in the archive.
        EntryType::Link => {
            let target = normalise(&target(), limits).map_err(|_| Refusal::LinkLeaves)?;
            entries.link(path, target)
        }
        other => acceptable(other),
    }
}

/// Refuses what no snapshot needs before its size is looked at: a sparse entry says any size it likes.
const fn acceptable(kind: tar::EntryType) -> Result<(), Refusal> {
    use tar::EntryType as T;
    match kind {
        T::Regular | T::Continuous | T::Directory | T::XGlobalHeader | T::Symlink | T::Link => Ok(()),
        T::Char | T::Block | T::Fifo => Err(Refusal::Special),
        _ => Err(Refusal::Exotic),
    }
}

/// A file inside an archive that is held as a whole.
struct Slice {
    whole: Blob,
    from: usize,
    to: usize,
}

impl AsRef<[u8]> for Slice {
    fn as_ref(&self) -> &[u8] {
        let whole: &[u8] = self.whole.as_ref().as_ref();
        &whole[self.from..self.to]
    }
}
