//! What an archive unpacks to: in memory, and when that is too much of it, in a temporary file that is mapped.

use std::fs::File;
use std::io::{self, Read, Seek as _, Write as _};
use std::sync::Arc;

use knet_snapshot::store::Blob;

use super::{Limits, directory};

/// A piece: so much is read before the limits are looked at.
const PIECE: u64 = 1 << 20;

/// Bytes that are not all here yet.
pub(super) struct Unpacked {
    held: Vec<u8>,
    /// All bytes, `held` being those that are not written yet.
    file: Option<File>,
    written: u64,
    most: u64,
}

impl Unpacked {
    pub(super) const fn new(limits: &Limits) -> Self {
        Self {
            held: Vec::new(),
            file: None,
            written: 0,
            most: limits.held_bytes,
        }
    }

    /// Takes a piece; `false` when there was none left. On an error what was read before it is kept.
    pub(super) fn append(&mut self, mut from: impl Read) -> io::Result<bool> {
        let before = self.held.len();
        let read = from.by_ref().take(PIECE).read_to_end(&mut self.held);
        let more = self.held.len() > before;
        if self.file.is_some() || self.held.len() as u64 > self.most {
            self.spill()?;
        }
        read.map(|_| more)
    }

    pub(super) fn size(&self) -> u64 {
        self.written + self.held.len() as u64
    }

    /// All bytes.
    pub(super) fn finish(mut self) -> io::Result<Blob> {
        if self.file.is_some() {
            self.spill()?;
        }
        match self.file {
            Some(mut file) => {
                file.rewind()?;
                directory::load(&file)
            }
            None => Ok(Arc::new(self.held)),
        }
    }

    fn spill(&mut self) -> io::Result<()> {
        let failed = |error: io::Error| {
            let folder = std::env::temp_dir();
            let what = format!(
                "{}: what is unpacked cannot be kept there: {error} (TMPDIR names another folder)",
                folder.display()
            );
            io::Error::new(error.kind(), what)
        };
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(knet_collectors::spool().map_err(failed)?),
        };
        file.write_all(&self.held).map_err(failed)?;
        self.written += self.held.len() as u64;
        self.held = Vec::with_capacity(PIECE as usize);
        Ok(())
    }
}
