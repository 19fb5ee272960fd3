//! What looks wrong in the snapshot along this path, or explains the answer.

/// Something found.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {}
