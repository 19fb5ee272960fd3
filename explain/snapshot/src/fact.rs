//! "Empty", "not there" and "could not look" are three things.

use crate::manifest::AbsentReason;

/// What a snapshot says about one table.
#[derive(Clone, Debug)]
pub enum Fact<T> {
    /// The artifact is there; `T` is what it says (possibly nothing).
    Known(T),
    /// The kernel cannot hold such state (`not-supported`, `module-not-loaded`): the same as empty.
    Empty(T, AbsentReason),
    /// Nobody looked, or looking failed. A lookup that needs it answers *unknown*.
    Unknown(AbsentReason),
}

impl<T> Fact<T> {
    /// The content when it is known, be it empty; `None` when nobody could look.
    pub const fn get(&self) -> Option<&T> {
        match self {
            Self::Known(t) | Self::Empty(t, _) => Some(t),
            Self::Unknown(_) => None,
        }
    }

    /// Why there is no content.
    pub const fn missing(&self) -> Option<AbsentReason> {
        match self {
            Self::Known(_) | Self::Empty(..) => None,
            Self::Unknown(why) => Some(*why),
        }
    }
}

/// Something in an artifact that could not be read. The rest of the artifact is kept.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Path of the artifact inside the snapshot.
    pub artifact: String,
    /// Byte offset in the artifact where the trouble is, if it has a place.
    pub offset: Option<u64>,
    /// What could not be read, in one line.
    pub what: String,
}
