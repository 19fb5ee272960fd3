//! What the process says when it ends, and the errors that end it.

use std::fmt;
use std::io;
use std::process::ExitCode;

/// Exit codes. Scripts rely on them; `--help` documents them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: every branch is delivered and answered, or the command did what it was asked.
    Delivered,
    /// 1: some branch is not.
    NotDelivered,
    /// 2: the question or the snapshot is wrong.
    Usage,
    /// 3: cannot tell.
    Unknown,
}

impl Exit {
    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Delivered => 0,
            Self::NotDelivered => 1,
            Self::Usage => 2,
            Self::Unknown => 3,
        }
    }

    /// The worse of two, for many flows: an error weighs more than a packet that is lost, which weighs
    /// more than not knowing, which weighs more than success.
    #[must_use]
    pub const fn worst(self, other: Self) -> Self {
        if self.weight() >= other.weight() { self } else { other }
    }

    const fn weight(self) -> u8 {
        match self {
            Self::Delivered => 0,
            Self::Unknown => 1,
            Self::NotDelivered => 2,
            Self::Usage => 3,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// A failure to be told to a person: what, where, and what to do about it.
#[derive(Debug)]
pub struct Failure {
    error: anyhow::Error,
    hints: Vec<String>,
}

impl Failure {
    /// An error without a hint.
    #[must_use]
    pub const fn new(error: anyhow::Error) -> Self {
        Self {
            error,
            hints: Vec::new(),
        }
    }

    /// An error in words.
    #[must_use]
    pub fn message(message: impl fmt::Display) -> Self {
        Self {
            error: anyhow::anyhow!("{message}"),
            hints: Vec::new(),
        }
    }

    /// Adds a line that says what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// The reader of our output went away. That is its right and no error.
    #[must_use]
    pub fn is_broken_pipe(&self) -> bool {
        self.error
            .chain()
            .filter_map(|cause| cause.downcast_ref::<io::Error>())
            .any(|error| error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// What to do, one line each.
    #[must_use]
    pub fn hints(&self) -> &[String] {
        &self.hints
    }
}

impl fmt::Display for Failure {
    /// The chain on one line; `Display` of an error never repeats its source.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.error)
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(error.into())
    }
}
