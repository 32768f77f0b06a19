//! The one place that reads the wall clock. Everything else takes the time as a parameter, in Unix
//! seconds.

use std::time::{SystemTime, UNIX_EPOCH};

/// The time now, in whole seconds since 1970-01-01 UTC.
///
/// A clock set before 1970 counts as 1970: every token is then "not yet valid", which is an error
/// that can be read.
#[must_use]
pub fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
