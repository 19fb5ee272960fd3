//! Which line a byte offset is in.

use memchr::memchr_iter;

/// Bytes between two remembered places.
const BLOCK: usize = 64 * 1024;

/// Line ends before each block of a file: 6 KB for a file of 50 MB.
pub(crate) struct LineIndex {
    before: Vec<u64>,
}

impl LineIndex {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        let mut lines = 0;
        let before = bytes.chunks(BLOCK).map(|block| {
            let before = lines;
            lines += memchr_iter(b'\n', block).count() as u64;
            before
        });
        Self {
            before: before.collect(),
        }
    }

    /// From 1. `None` beyond the end of the file.
    pub(crate) fn line_of(&self, bytes: &[u8], offset: u64) -> Option<u64> {
        let offset = usize::try_from(offset).ok().filter(|offset| *offset < bytes.len())?;
        let block = offset / BLOCK;
        let within = memchr_iter(b'\n', &bytes[block * BLOCK..offset]).count() as u64;
        Some(self.before.get(block)? + within + 1)
    }
}
