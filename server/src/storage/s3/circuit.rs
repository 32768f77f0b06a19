//! Whether the service is asked at all. After a run of failures requests end at once, but for one per second that tries.
//!
//! Closed → open: at least [`FAILURES`] attempts failed one after the other, over at least [`FOR`], with no success between;
//! a few failures of many requests never open it. Open → closed: one success.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So many attempts have to fail in a row.
const FAILURES: u32 = 5;
/// Over at least this time.
const FOR: Duration = Duration::from_secs(5);
/// While open, one request may try this often.
const TRIAL_EVERY: Duration = Duration::from_secs(1);

/// The state, shared by all requests of one storage.
#[derive(Debug, Default)]
pub(super) struct Circuit(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    failing_since: Option<Instant>,
    latest: String,
    /// When the next request may try; `None` while closed.
    next_trial: Option<Instant>,
}

impl Circuit {
    /// Lets a request through, or says how the last one failed.
    pub(super) fn admit(&self, now: Instant) -> Result<(), String> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state.next_trial {
            Some(at) if now < at => Err(state.latest.clone()),
            Some(_) => {
                state.next_trial = Some(now + TRIAL_EVERY);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Whether requests go through.
    pub(super) fn is_closed(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).next_trial.is_none()
    }

    /// Notes an answer; gives whether this closed the circuit.
    pub(super) fn succeeded(&self) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let was_open = state.next_trial.is_some();
        *state = State::default();
        was_open
    }

    /// Notes a failure; gives whether this opened the circuit.
    pub(super) fn failed(&self, now: Instant, how: &str) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.failures = state.failures.saturating_add(1);
        how.clone_into(&mut state.latest);
        let since = *state.failing_since.get_or_insert(now);
        let opens = state.next_trial.is_none() && state.failures >= FAILURES && now.duration_since(since) >= FOR;
        if opens {
            state.next_trial = Some(now + TRIAL_EVERY);
        }
        opens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_run_of_failures_opens_it_and_one_success_closes_it() {
        let (circuit, start) = (Circuit::default(), Instant::now());
        for second in 0..5 {
            assert!(!circuit.failed(start + SECOND * second, "down"), "{second}");
            assert!(circuit.admit(start + SECOND * second).is_ok());
        }
        assert!(circuit.failed(start + SECOND * 5, "down"));
        assert_eq!(circuit.admit(start + SECOND * 5), Err("down".to_owned()));
        assert!(!circuit.is_closed());
        assert!(circuit.succeeded());
        assert!(circuit.admit(start + SECOND * 5).is_ok() && circuit.is_closed());
    }

    #[test]
    fn one_request_per_second_tries_while_it_is_open() {
        let (circuit, start) = (Circuit::default(), Instant::now());
        for second in 0..=5 {
            circuit.failed(start + SECOND * second, "down");
        }
        let later = start + SECOND * 7;
        assert!(circuit.admit(later).is_ok());
        assert!(circuit.admit(later).is_err(), "only one tries");
        assert!(circuit.admit(later + SECOND).is_ok());
    }

    #[test]
    fn failures_among_successes_do_not_open_it() {
        let (circuit, start) = (Circuit::default(), Instant::now());
        for second in 0..100 {
            assert!(!circuit.failed(start + SECOND * second, "one of many"));
            if second % 3 == 0 {
                circuit.succeeded();
            }
        }
    }

    #[test]
    fn a_burst_of_failures_is_no_outage_yet() {
        let (circuit, now) = (Circuit::default(), Instant::now());
        assert!(!(0..100).any(|_| circuit.failed(now, "at once")));
    }
}
