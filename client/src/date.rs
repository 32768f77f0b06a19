//! Moments as people read them, in UTC, from seconds since 1970.

use std::time::{SystemTime, UNIX_EPOCH};

const DAY: i64 = 24 * 3600;
/// The last second of the year 9999.
const LAST: i64 = 253_402_300_799;

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

/// `2026-02-20 12:00 UTC`; what lies outside of the years 1970 to 9999, as the number that it is.
#[must_use]
pub fn utc(seconds: i64) -> String {
    if !(0..=LAST).contains(&seconds) {
        return format!("{seconds} s after 1970");
    }
    let (mut days, time) = (seconds / DAY, seconds % DAY);
    let mut year = 1970;
    while days >= days_in(year) {
        days -= days_in(year);
        year += 1;
    }
    let february = days_in(year) - 337;
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    format!("{year}-{month:02}-{:02} {:02}:{:02} UTC", days + 1, time / 3600, time / 60 % 60)
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

fn days_in(year: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    if leap { 366 } else { 365 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        // By `date -u -d @SECONDS`.
        for (seconds, text) in [
            (0, "1970-01-01 00:00 UTC"),
            (951_782_400, "2000-02-29 00:00 UTC"),
            (1_735_689_599, "2024-12-31 23:59 UTC"),
            (1_772_366_400, "2026-03-01 12:00 UTC"),
            (LAST, "9999-12-31 23:59 UTC"),
        ] {
            assert_eq!(utc(seconds), text);
        }
        assert!(utc(-1).starts_with("-1 s") && utc(i64::MAX).contains("after 1970"));
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
