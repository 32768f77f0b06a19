//! How much a server may take out of sight of its own accord. Where more than that looks damaged,
//! it is more likely that something else is wrong, and a person should look.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The time that is looked back on.
const HOUR: Duration = Duration::from_hours(1);

/// Lets through so many things in an hour.
#[derive(Debug)]
pub(super) struct Valve {
    most: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    taken: VecDeque<Instant>,
    /// Whether it was told that it is shut.
    told: bool,
}

impl Valve {
    pub(super) fn new(most: usize) -> Self {
        Self { most, state: Mutex::default() }
    }

    /// Takes one of what may be done, if any is left. A valve that shuts says so once.
    pub(super) fn take(&self, now: Instant) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.taken.front().is_some_and(|taken| now.duration_since(*taken) >= HOUR) {
            state.taken.pop_front();
        }
        if state.taken.len() < self.most {
            state.taken.push_back(now);
            state.told = false;
            return true;
        }
        if !std::mem::replace(&mut state.told, true) {
            tracing::error!(
                most = self.most,
                "more NARs than this were withdrawn within an hour, and no more are until it is \
                 over. See whether the storage \
                 is well; then run `snowbankd check --read-data` and `snowbankd repair --read-data`"
            );
        }
        false
    }

    /// Whether any is left.
    pub(super) fn is_open(&self, now: Instant) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = state.taken.iter().filter(|taken| now.duration_since(**taken) < HOUR).count();
        recent < self.most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_shuts_and_opens_again_an_hour_later() {
        let (valve, start) = (Valve::new(3), Instant::now());
        for minute in 0..3 {
            assert!(valve.is_open(start) && valve.take(start + Duration::from_mins(minute)));
        }
        assert!(
            !valve.is_open(start + Duration::from_mins(59))
                && !valve.take(start + Duration::from_mins(59))
        );
        assert!(valve.is_open(start + HOUR) && valve.take(start + HOUR));
        assert!(!valve.take(start + HOUR));
        assert!(valve.take(start + HOUR + Duration::from_mins(1)));
    }
}
