//! Writing a snapshot: a directory, or a `.tar`, `.tar.gz` or `.tar.zst` file by its name, or an archive on
//! standard output.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

/// Where a snapshot goes, file by file.
pub struct Writer {
    to: To,
    /// The archive under its temporary and its final name.
    rename: Option<(PathBuf, PathBuf)>,
}

enum To {
    Directory(PathBuf),
    Tar(tar::Builder<Box<dyn Write + Send>>),
    Gzip(Box<tar::Builder<GzEncoder<Box<dyn Write + Send>>>>),
    Zstd(tar::Builder<Frames>),
}

/// Zstandard by frames: the encoder takes a whole input, and a file may have any number of frames.
struct Frames {
    piece: Vec<u8>,
    to: Box<dyn Write + Send>,
}

/// Bytes of a frame.
const FRAME: usize = 8 << 20;

impl Frames {
    fn emit(&mut self) -> io::Result<()> {
        let level = ruzstd::encoding::CompressionLevel::Fastest;
        let packed = ruzstd::encoding::compress_to_vec(self.piece.as_slice(), level);
        self.piece.clear();
        self.to.write_all(&packed)
    }
}

impl Write for Frames {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(FRAME - self.piece.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        if self.piece.len() == FRAME {
            self.emit()?;
        }
        Ok(taken)
    }

    /// Not before a frame is full, or the end.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Writer {
    /// Begins a snapshot. `-` is a `.tar.gz` on standard output; a name without one of the three endings is a
    /// directory, which must be empty or not there.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn create(path: &Path) -> io::Result<Self> {
        if path.as_os_str() == "-" {
            return Ok(Self {
                to: To::Gzip(Box::new(tar::Builder::new(GzEncoder::new(
                    Box::new(io::stdout()),
                    Compression::fast(),
                )))),
                rename: None,
            });
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let ends = |end: &str| name.ends_with(end);
        let (tar, gzip, zstd) = (ends(".tar"), ends(".tar.gz") || ends(".tgz"), ends(".tar.zst"));
        if !(tar || gzip || zstd) {
            let full = fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some());
            if full {
                return Err(io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    "there is something in the directory already",
                ));
            }
            fs::create_dir_all(path)?;
            return Ok(Self {
                to: To::Directory(path.to_owned()),
                rename: None,
            });
        }
        // Under its own name only when it is complete.
        let part = path.with_file_name(format!(".{name}.part"));
        let file: Box<dyn Write + Send> = Box::new(BufWriter::new(private(&part)?));
        let to = if tar {
            To::Tar(tar::Builder::new(file))
        } else if gzip {
            To::Gzip(Box::new(tar::Builder::new(GzEncoder::new(file, Compression::fast()))))
        } else {
            To::Zstd(tar::Builder::new(Frames {
                piece: Vec::new(),
                to: file,
            }))
        };
        Ok(Self {
            to,
            rename: Some((part, path.to_owned())),
        })
    }

    /// Adds a file by its path inside the snapshot.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        match &mut self.to {
            To::Directory(root) => {
                let path = root.join(path);
                if let Some(folder) = path.parent() {
                    fs::create_dir_all(folder)?;
                }
                private(&path)?.write_all(bytes)
            }
            To::Tar(tar) => entry(tar, path, bytes),
            To::Gzip(tar) => entry(tar, path, bytes),
            To::Zstd(tar) => entry(tar, path, bytes),
        }
    }

    /// Adds a file of so many bytes from a stream.
    ///
    /// # Errors
    /// When it cannot be read or written, or ends early.
    pub fn add_stream(&mut self, path: &str, bytes: u64, from: impl io::Read) -> io::Result<()> {
        match &mut self.to {
            To::Directory(root) => {
                let path = root.join(path);
                if let Some(folder) = path.parent() {
                    fs::create_dir_all(folder)?;
                }
                io::copy(&mut io::Read::take(from, bytes), &mut private(&path)?).map(|_| ())
            }
            To::Tar(tar) => stream(tar, path, bytes, from),
            To::Gzip(tar) => stream(tar, path, bytes, from),
            To::Zstd(tar) => stream(tar, path, bytes, from),
        }
    }

    /// Ends the snapshot. Without this an archive never gets its name.
    ///
    /// # Errors
    /// When the rest cannot be written.
    pub fn finish(mut self) -> io::Result<()> {
        match std::mem::replace(&mut self.to, To::Directory(PathBuf::new())) {
            To::Directory(_) => {}
            To::Tar(tar) => tar.into_inner()?.flush()?,
            To::Gzip(tar) => (*tar).into_inner()?.finish()?.flush()?,
            To::Zstd(tar) => {
                let mut frames = tar.into_inner()?;
                frames.emit()?;
                frames.to.flush()?;
            }
        }
        if let Some((part, path)) = &self.rename {
            fs::rename(part, path)?;
            self.rename = None;
        }
        Ok(())
    }
}

impl Drop for Writer {
    /// Half an archive is of no use to anybody.
    fn drop(&mut self) {
        if let Some((part, _)) = self.rename.take() {
            let _ = fs::remove_file(part);
        }
    }
}

/// A snapshot tells much about a cluster: it is its owner's.
fn private(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn entry(tar: &mut tar::Builder<impl Write>, path: &str, bytes: &[u8]) -> io::Result<()> {
    stream(tar, path, bytes.len() as u64, bytes)
}

fn stream(tar: &mut tar::Builder<impl Write>, path: &str, bytes: u64, from: impl io::Read) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o600);
    header.set_size(bytes);
    tar.append_data(&mut header, path, from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::{self, Limits, Source};

    #[test]
    fn what_is_written_is_read_back() {
        let folder = tempfile::tempdir().expect("a directory");
        // More than a frame of zstd.
        let large: Vec<u8> = (0..FRAME * 2 + 7).map(|i| (i % 251) as u8).collect();
        let files = [
            ("manifest.json", b"{}".as_slice()),
            ("nodes/n/host/link.json", b"[]\n"),
            ("nodes/n/host/nft.txt", &large),
        ];
        for name in ["dir", "s.tar", "s.tar.gz", "s.tar.zst"] {
            let path = folder.path().join(name);
            let mut writer = Writer::create(&path).expect("it can be created");
            for (path, bytes) in files {
                writer.add(path, bytes).expect("it can be written");
            }
            assert_eq!(path.exists(), name == "dir", "an archive has no name before its end");
            writer.finish().expect("it can be ended");
            let read = archive::open(&Source::Path(path.clone()), &Limits::default()).expect(name);
            assert_eq!(read.problems, [], "{name}");
            for (path, bytes) in files {
                assert_eq!((*read.files[path]).as_ref(), bytes, "{name}");
            }
        }
        let error = Writer::create(&folder.path().join("dir"))
            .err()
            .expect("it is not empty");
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    }
}
