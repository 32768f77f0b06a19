//! How many NARs a server withdraws of its own accord within an hour. Where more than that look
//! damaged, it is more likely that something else is wrong, and a person should look.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const HOUR: Duration = Duration::from_hours(1);

/// A number of withdrawals within any hour.
#[derive(Debug)]
pub(super) struct HourlyLimit {
    max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    taken: VecDeque<Instant>,
    /// Whether the log says that it is reached.
    told: bool,
}

impl HourlyLimit {
    pub(super) fn new(max: usize) -> Self {
        Self { max, state: Mutex::default() }
    }

    /// Takes one of the withdrawals, if one is left. The log says once that none is.
    pub(super) fn take(&self, now: Instant) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.taken.front().is_some_and(|taken| now.duration_since(*taken) >= HOUR) {
            state.taken.pop_front();
        }
        if state.taken.len() < self.max {
            state.taken.push_back(now);
            state.told = false;
            return true;
        }
        if !std::mem::replace(&mut state.told, true) {
            tracing::error!(
                most = self.max,
                "more NARs than this were withdrawn within an hour, and no more are until it is \
                 over. See whether the storage is well; then run `snowbankd check --read-data` and \
                 `snowbankd repair --read-data`"
            );
        }
        false
    }

    /// Whether a withdrawal is left.
    pub(super) fn has_room(&self, now: Instant) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = state.taken.iter().filter(|taken| now.duration_since(**taken) < HOUR).count();
        recent < self.max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_reached_and_has_room_again_an_hour_later() {
        let (limit, start) = (HourlyLimit::new(3), Instant::now());
        for minute in 0..3 {
            assert!(limit.has_room(start) && limit.take(start + Duration::from_mins(minute)));
        }
        assert!(
            !limit.has_room(start + Duration::from_mins(59))
                && !limit.take(start + Duration::from_mins(59))
        );
        assert!(limit.has_room(start + HOUR) && limit.take(start + HOUR));
        assert!(!limit.take(start + HOUR));
        assert!(limit.take(start + HOUR + Duration::from_mins(1)));
    }
}
