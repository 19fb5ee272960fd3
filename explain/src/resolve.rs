//! From the names of a query to the packet and the namespace a walk starts with.

/// Why a query cannot be asked. `Display` is one line; [`QueryError::hints`] has what would help.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum QueryError {
    /// Not yet answered by this version.
    #[error("not supported")]
    Unsupported,
}

impl QueryError {
    /// Lines that help: the closest names, what exists, what to write instead. Print each after `hint: `.
    #[must_use]
    pub fn hints(&self) -> Vec<String> {
        Vec::new()
    }
}
