//! Times of the manifest.

use jiff::Timestamp;

/// Seconds since 1970 of an RFC 3339 time; its fraction is left out.
pub(crate) fn seconds(text: &str) -> Option<u64> {
    let time: Timestamp = text.parse().ok()?;
    u64::try_from(time.as_second()).ok()
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn a_time_is_its_second() {
        assert_eq!(seconds("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(seconds("2000-02-28T23:59:59Z"), Some(951_782_399));
        assert_eq!(seconds("2000-02-29T00:00:00Z"), Some(951_782_400));
        assert_eq!(seconds("2026-11-22T15:43:22.75+02:00"), Some(1_795_355_002));
        assert_eq!(seconds("2026-11-22T11:13:22-02:30"), Some(1_795_355_002));
        for broken in ["", "now", "2026-13-01T00:00:00Z", "2026-11-22", "1969-12-31T23:59:59Z"] {
            assert_eq!(seconds(broken), None, "{broken}");
        }
    }
}
