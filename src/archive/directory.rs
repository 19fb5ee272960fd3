//! A snapshot that is a directory.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use knet_snapshot::store::Blob;

use super::entries::{Entries, link_target, normalise};
use super::{ArchiveError, Limits, Refusal};

/// From this size on a file is mapped instead of read: a table nobody asks for costs nothing then.
const MAP_FROM: u64 = 1 << 20;

/// Up to this size a mapping is read ahead; of an archive of 5,000 nodes most is never looked at.
#[cfg(target_os = "linux")]
const POPULATE_TO: usize = 256 << 20;

/// Lists a directory. Links are noted, never followed here, so nothing outside is ever opened.
pub(super) fn read(root: &Path, name: &str, limits: &Limits) -> Result<Entries, ArchiveError> {
    let io_error = |path: &Path, error| ArchiveError::Io {
        source_name: path.display().to_string(),
        error,
    };
    let refused = |entry: &str, why| ArchiveError::Refused {
        source_name: name.to_owned(),
        entry: entry.to_owned(),
        why,
    };
    let Some(start) = find_root(root).map_err(|e| io_error(root, e))? else {
        return Err(ArchiveError::NotASnapshot(name.to_owned()));
    };
    let mut entries = Entries::default();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        let here = start.join(&folder);
        let listing = match fs::read_dir(&here) {
            Ok(listing) => listing,
            Err(error) if folder.is_empty() => return Err(io_error(&here, error)),
            Err(error) => {
                entries.problem(&folder, format!("cannot be listed: {error}"));
                continue;
            }
        };
        for item in listing {
            let item = item.map_err(|e| io_error(&here, e))?;
            let file_name = item.file_name();
            let Some(file_name) = file_name.to_str() else {
                entries.problem(
                    &format!("{folder}{}", file_name.to_string_lossy()),
                    "its name is not UTF-8: skipped".into(),
                );
                continue;
            };
            let path = format!("{folder}{file_name}");
            entries.count(limits).map_err(|why| refused(&path, why))?;
            normalise(&path, limits).map_err(|why| refused(&path, why))?;
            let kind = item.file_type().map_err(|e| io_error(&item.path(), e))?;
            if kind.is_dir() {
                folders.push(format!("{path}/"));
            } else if kind.is_symlink() {
                let target = fs::read_link(item.path()).map_err(|e| io_error(&item.path(), e))?;
                let target =
                    link_target(&path, &target.to_string_lossy(), limits).map_err(|why| refused(&path, why))?;
                entries.link(path.clone(), target).map_err(|why| refused(&path, why))?;
            } else if kind.is_file() {
                add_file(&mut entries, &item.path(), &path, limits).map_err(|why| refused(&path, why))?;
            } else {
                return Err(refused(&path, Refusal::Special));
            }
        }
    }
    Ok(entries)
}

/// The directory itself, or its only folder that looks like a snapshot.
fn find_root(dir: &Path) -> io::Result<Option<PathBuf>> {
    let looks = |dir: &Path| {
        ["manifest.json", "nodes", "cluster"]
            .iter()
            .any(|n| dir.join(n).symlink_metadata().is_ok())
    };
    if looks(dir) {
        return Ok(Some(dir.to_owned()));
    }
    let mut found = Vec::new();
    for item in fs::read_dir(dir)? {
        let item = item?;
        if item.file_type()?.is_dir() && looks(&item.path()) {
            found.push(item.path());
        }
    }
    Ok(found.pop().filter(|_| found.is_empty()))
}

fn add_file(entries: &mut Entries, on_disk: &Path, path: &str, limits: &Limits) -> Result<(), Refusal> {
    let loaded = File::open(on_disk).and_then(|file| Ok((file.metadata()?.len(), file)));
    let (len, file) = match loaded {
        Ok(found) => found,
        Err(error) => {
            entries.problem(path, format!("cannot be read: {error}"));
            return Ok(());
        }
    };
    if len > limits.file_bytes {
        return Err(Refusal::FileTooLarge(limits.file_bytes));
    }
    match load(&file) {
        Ok(blob) => entries.file(path.to_owned(), blob),
        Err(error) => {
            entries.problem(path, format!("cannot be read: {error}"));
            Ok(())
        }
    }
}

/// The bytes of a regular file, mapped when it is large.
pub(super) fn load(mut file: &File) -> io::Result<Blob> {
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    if meta.len() >= MAP_FROM {
        return map(file);
    }
    let mut bytes = Vec::with_capacity(usize::try_from(meta.len()).unwrap_or(0));
    file.read_to_end(&mut bytes)?;
    Ok(Arc::new(bytes))
}

#[allow(
    unsafe_code,
    reason = "mapping a file is unsafe because another process may change it meanwhile"
)]
fn map(file: &File) -> io::Result<Blob> {
    // SAFETY: the mapping is private and read-only, and nothing in this program writes to a snapshot. If another
    // process rewrites the file while it is read, the bytes seen are undefined as they would be with `read`;
    // if it truncates the file the process is stopped by SIGBUS, which is documented for `--snapshot DIR`.
    let mapping = Arc::new(unsafe { memmap2::Mmap::map(file)? });
    #[cfg(target_os = "linux")]
    if mapping.len() <= POPULATE_TO {
        populate(Arc::clone(&mapping));
    }
    Ok(mapping)
}

/// Maps the pages while the smaller files are read; otherwise the first trace faults on each 64 KB of 50 MB.
/// Where it cannot be done the pages come one by one.
#[cfg(target_os = "linux")]
fn populate(mapping: Arc<memmap2::Mmap>) {
    let _ = std::thread::Builder::new().spawn(move || mapping.advise(memmap2::Advice::PopulateRead));
}
