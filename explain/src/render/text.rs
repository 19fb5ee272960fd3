//! For people.

use crate::explanation::Explanation;
use crate::resolve::QueryError;
use crate::topics::nodeport::NodePortExplanation;

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Columns.
    pub width: usize,
    /// ANSI colours.
    pub colour: bool,
    /// How much to show.
    pub show: Show,
}

impl Default for Style {
    fn default() -> Self {
        Self { width: 80, colour: false, show: Show::Hops }
    }
}

/// `--detail`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Show {
    /// The verdict and what decided it. Trace with `Detail::Decisions`.
    Summary,
    /// And the hops. Trace with `Detail::Decisions`.
    #[default]
    Hops,
    /// And every rule visited, with file and line. Trace with `Detail::Full`.
    Full,
}

/// A trace, with a newline at the end.
#[must_use]
pub fn trace(_explanation: &Explanation, _style: &Style) -> String {
    String::new()
}

/// `explain nodeport`, with a newline at the end.
#[must_use]
pub fn nodeport(_answer: &NodePortExplanation, _style: &Style) -> String {
    String::new()
}

/// A query error and its hints, for stderr, with a newline at the end.
#[must_use]
pub fn error(_error: &QueryError, _style: &Style) -> String {
    String::new()
}
