//! Times of the manifest.

/// Seconds since 1970 of an RFC 3339 time; its fraction is left out.
pub(crate) fn seconds(text: &str) -> Option<u64> {
    let (date, rest) = text.split_once(['T', 't', ' '])?;
    let (clock, zone) = rest.split_at(rest.find(['Z', 'z', '+', '-'])?);
    let offset = match zone {
        "Z" | "z" => 0,
        _ => {
            let [hours, minutes] = numbers(&zone[1..], ':')?;
            (hours * 60 + minutes) * if zone.starts_with('-') { -60 } else { 60 }
        }
    };
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = numbers(clock.split('.').next()?, ':')?;
    let seconds = days(year, month, day)? * 86_400 + hour * 3_600 + minute * 60 + second - offset;
    u64::try_from(seconds).ok()
}

/// Small numbers, as many as are wanted.
fn numbers<const N: usize>(text: &str, between: char) -> Option<[i64; N]> {
    let parts = text.split(between).map(|part| part.parse::<u16>().map(i64::from));
    parts.collect::<Result<Vec<_>, _>>().ok()?.try_into().ok()
}

/// Days since 1970, after Howard Hinnant's `days_from_civil`: years begin in March, so the leap day is the last.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let year = year - i64::from(month <= 2);
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
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
        for broken in [
            "",
            "now",
            "2026-13-01T00:00:00Z",
            "2026-11-22",
            "2026-11-22T13:43Z",
            "1969-12-31T23:59:59Z",
        ] {
            assert_eq!(seconds(broken), None, "{broken}");
        }
    }
}
