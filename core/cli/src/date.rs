//! Moments as people read them, in UTC, from seconds since 1970.

use std::time::{SystemTime, UNIX_EPOCH};

const DAY: i64 = 24 * 3600;
/// The first second of the year 0.
const MIN_SECONDS: i64 = -62_167_219_200;
/// The last second of the year 9999.
const MAX_SECONDS: i64 = 253_402_300_799;

/// Seconds since 1970, by this machine's clock.
#[must_use]
pub fn now() -> i64 {
    seconds(SystemTime::now())
}

/// `time` in seconds since 1970.
#[must_use]
pub fn seconds(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_secs()).ok())
        .unwrap_or(0)
}

/// `2026-01-31 12:00:00 UTC`; outside of the years 0 to 9999, the number of seconds.
#[must_use]
pub fn utc(seconds: i64) -> String {
    if !(MIN_SECONDS..=MAX_SECONDS).contains(&seconds) {
        return format!("{seconds} s after 1970");
    }
    let time = seconds.rem_euclid(DAY);
    let (hour, minute, second) = (time / 3_600, time / 60 % 60, time % 60);
    format!("{} {hour:02}:{minute:02}:{second:02} UTC", day(seconds))
}

/// [`utc`], or `never`.
#[must_use]
pub fn utc_or_never(seconds: Option<i64>) -> String {
    seconds.map_or_else(|| "never".to_owned(), utc)
}

/// `2026-01-31`: the date without the time of day.
#[must_use]
pub fn day(seconds: i64) -> String {
    // Days since 0000-03-01, in eras of 400 years; H. Hinnant, "chrono-Compatible Low-Level Date
    // Algorithms".
    let shifted = seconds.div_euclid(DAY) + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// `in 12 days`, `in 3 hours`, `5 days ago`: from `now` to `then`.
#[must_use]
pub fn distance(now: i64, then: i64) -> String {
    let seconds = then.saturating_sub(now).saturating_abs();
    let (count, unit) = match seconds {
        0..120 => (seconds, "second"),
        120..7_200 => (seconds / 60, "minute"),
        7_200..172_800 => (seconds / 3600, "hour"),
        _ => (seconds / DAY, "day"),
    };
    let plural = if count == 1 { "" } else { "s" };
    if then < now {
        format!("{count} {unit}{plural} ago")
    } else {
        format!("in {count} {unit}{plural}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        // By `date -u -d @SECONDS`.
        for (seconds, text) in [
            (MIN_SECONDS, "0000-01-01 00:00:00 UTC"),
            (-1, "1969-12-31 23:59:59 UTC"),
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_735_689_599, "2024-12-31 23:59:59 UTC"),
            (1_772_366_400, "2026-03-01 12:00:00 UTC"),
            (1_798_761_599, "2026-12-31 23:59:59 UTC"),
            (MAX_SECONDS, "9999-12-31 23:59:59 UTC"),
        ] {
            assert_eq!(utc(seconds), text);
            assert_eq!(day(seconds), text[..10]);
        }
        assert_eq!(utc(MAX_SECONDS + 1), "253402300800 s after 1970");
        assert!(utc(i64::MIN).contains("after 1970") && !day(i64::MIN).is_empty());
    }

    #[test]
    fn distances_are_told_roughly() {
        assert_eq!(distance(0, 90 * DAY + 5), "in 90 days");
        assert_eq!(distance(DAY * 3, 0), "3 days ago");
        assert_eq!(distance(0, 7200), "in 2 hours");
        assert_eq!(distance(1, 0), "1 second ago");
        assert_eq!(distance(0, i64::MAX), "in 106751991167300 days");
    }
}
