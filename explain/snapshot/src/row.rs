//! A row of a table, tied to the bytes it was read from.

use std::sync::Arc;

use crate::fact::Problem;

/// Where in its artifact a row stands. `start..start+len` are the bytes as written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Row {
    /// Byte offset of the row's first byte.
    pub start: u64,
    /// Length of the row in bytes.
    pub len: u32,
}

/// The rows of one artifact in file order, and what in it could not be read.
#[derive(Clone, Debug)]
pub struct Table<T> {
    /// Path of the artifact inside the snapshot; evidence quotes it.
    pub artifact: Arc<str>,
    /// The rows, in file order.
    pub rows: Vec<T>,
    /// Rows that could not be read. A lookup that needs completeness must look here.
    pub problems: Vec<Problem>,
}

// By hand: deriving would ask `T: Default`.
impl<T> Default for Table<T> {
    fn default() -> Self {
        Self::empty(Arc::from(""))
    }
}

impl<T> Table<T> {
    /// No rows.
    #[must_use]
    pub const fn empty(artifact: Arc<str>) -> Self {
        Self {
            artifact,
            rows: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// Records what could not be read at a byte offset. A file of garbage has a problem a line: the list ends.
    pub(crate) fn problem(&mut self, offset: u64, what: String) {
        const MOST: usize = 1000;
        let what = match self.problems.len() {
            MOST => "there are more problems, not listed".to_owned(),
            n if n > MOST => return,
            _ => what,
        };
        self.problems.push(Problem {
            artifact: (*self.artifact).to_owned(),
            offset: Some(offset),
            what,
        });
    }
}
