//! What an answer holds: typed, self-contained, without words.

/// The answer to one [`crate::Query`].
#[derive(Clone, Debug)]
pub struct Explanation {}

impl Explanation {
    /// The exit code that says it in one digit: 0 the client gets its answer on every branch, 1 on some
    /// branch it does not, 3 cannot tell. (2 is for queries that could not be asked.)
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        3
    }
}
