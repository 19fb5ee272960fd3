//! Now, as RFC 3339 in UTC.

use jiff::{Timestamp, Unit};

/// Now, as the manifest writes times: `2026-11-22T13:43:22Z`.
#[must_use]
pub fn now() -> String {
    let now = Timestamp::now();
    now.round(Unit::Second).unwrap_or(now).to_string()
}
