//! Pauses that tests ask for, at the steps between which a crash or a slow machine matters most.
//!
//! `SNOWBANKD_TEST_PAUSE=STEP:MILLISECONDS[:TIMES][,…]` makes a debug build wait whenever it comes
//! to a step, or the first TIMES times, and say so on standard error when it begins and when it
//! goes on. A release build waits nowhere and does not read the variable.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

const VARIABLE: &str = "SNOWBANKD_TEST_PAUSE";

/// What is still to be waited for.
static ASKED: LazyLock<Mutex<Pauses>> =
    LazyLock::new(|| Mutex::new(Pauses::parse(&std::env::var(VARIABLE).unwrap_or_default())));

/// Waits here if a test asked for it.
pub async fn pause(step: &'static str) {
    if !cfg!(debug_assertions) {
        return;
    }
    let asked = ASKED.lock().unwrap_or_else(PoisonError::into_inner).take(step);
    if let Some(time) = asked {
        // Not by `tracing`: what a log level hides, a test would wait for in vain.
        eprintln!("{VARIABLE}: {step} begins");
        tokio::time::sleep(time).await;
        eprintln!("{VARIABLE}: {step} is over");
    }
}

/// How long to wait at which step, and how often.
#[derive(Debug, Default)]
struct Pauses(HashMap<String, (Duration, u64)>);

impl Pauses {
    /// What does not parse asks for nothing.
    fn parse(text: &str) -> Self {
        let one = |part: &str| {
            let mut fields = part.trim().split(':');
            let (step, time) = (fields.next()?, fields.next()?.parse().ok()?);
            let times = fields.next().map_or(Some(u64::MAX), |times| times.parse().ok())?;
            Some((step.to_owned(), (Duration::from_millis(time), times)))
        };
        Self(text.split(',').filter_map(one).collect())
    }

    fn take(&mut self, step: &str) -> Option<Duration> {
        let (time, times) = self.0.get_mut(step)?;
        *times = times.checked_sub(1)?;
        Some(*time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_waited_for_as_often_as_was_asked() {
        let mut pauses = Pauses::parse("one:5, two:7:2,three,four:x,:1");
        let second = Some(Duration::from_millis(7));
        assert_eq!(
            [pauses.take("two"), pauses.take("two"), pauses.take("two")],
            [second, second, None]
        );
        assert!((0..100).all(|_| pauses.take("one") == Some(Duration::from_millis(5))));
        assert_eq!([pauses.take("three"), pauses.take("four"), pauses.take("five")], [None; 3]);
    }
}
