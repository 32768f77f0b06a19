//! Whether the service is asked at all. After a run of failures requests wait, but for one per
//! second that tries.
//!
//! Reading and writing have a circuit each, since they fail apart: a service may be read-only for a
//! while.
//!
//! Closed → open: at least [`OPENING_FAILURES`] attempts failed one after the other, over at least
//! [`OPENING_TIME`], with no success between; a few failures of many requests never open it. Open →
//! closed: one success. Requests wait for that as long as they would try again anyway
//! (`retry-for`). Once the service has failed for longer than that, nobody waits: new requests end
//! at once.
//!
//! A trial is some caller's request. When the caller goes away before it has an answer, the next
//! one tries at once.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// So many attempts have to fail in a row.
const OPENING_FAILURES: u32 = 5;
/// Over at least this time.
const OPENING_TIME: Duration = Duration::from_secs(5);
/// A run of failures ends when nothing was asked for this long, and for longer than anybody waits:
/// what was before says little.
const FAILURE_MEMORY: Duration = Duration::from_mins(1);
/// While open, one request may try this often.
const TRIAL_EVERY: Duration = Duration::from_secs(1);

/// The state, shared by all requests of one direction.
#[derive(Debug)]
pub(super) struct Circuit {
    state: Mutex<State>,
    /// Told when it closes, and when a trial was dropped.
    changed: Notify,
    /// For how long a service that fails is waited for.
    patience: Duration,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    failing_since: Option<Instant>,
    last_failed_at: Option<Instant>,
    latest: String,
    /// When the next request may try; `None` while closed.
    next_trial: Option<Instant>,
}

/// Why a request may not go.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// How the last one failed.
    pub(super) latest: String,
    /// When it may be worth asking again; `None` when the service has failed for too long to wait.
    pub(super) next_trial: Option<Instant>,
}

/// A request's pass. One that tries is to be settled once it has an answer.
#[derive(Debug)]
pub(super) struct Pass<'a>(Option<&'a Circuit>);

impl Pass<'_> {
    /// For a request that is made in any case.
    pub(super) const fn free() -> Self {
        Self(None)
    }

    /// Notes that there was an answer, or a failure.
    pub(super) fn settle(mut self) {
        self.0 = None;
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let Some(circuit) = self.0 else { return };
        if let Some(next_trial) = &mut circuit.state().next_trial {
            *next_trial = Instant::now();
        }
        circuit.changed.notify_waiters();
    }
}

impl Circuit {
    pub(super) fn new(patience: Duration) -> Self {
        Self { state: Mutex::default(), changed: Notify::new(), patience }
    }

    /// Lets a request through, or says how the last one failed.
    pub(super) fn admit(&self, now: Instant) -> Result<Pass<'_>, Refusal> {
        let mut state = self.state_at(now);
        let is_given_up = self.is_given_up_in(&state, now);
        match &mut state.next_trial {
            None => Ok(Pass::free()),
            Some(at) if now < *at => {
                let next_trial = (!is_given_up).then_some(*at);
                Err(Refusal { latest: state.latest.clone(), next_trial })
            }
            Some(at) => {
                *at = now + TRIAL_EVERY;
                Ok(Pass(Some(self)))
            }
        }
    }

    /// Comes once the circuit has closed or a trial was dropped, from this call on.
    pub(super) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Whether it is open, and the service has failed for longer than anybody waits.
    pub(super) fn is_given_up(&self, now: Instant) -> bool {
        self.is_given_up_in(&self.state_at(now), now)
    }

    fn is_given_up_in(&self, state: &State, now: Instant) -> bool {
        state.next_trial.is_some() && state.failing_for(now) >= self.patience
    }

    /// Whether the latest attempts failed, open or not.
    pub(super) fn is_failing(&self) -> bool {
        self.state().failing_since.is_some()
    }

    /// For how long a failing service is waited for from now on.
    pub(super) fn patience_left(&self, now: Instant) -> Duration {
        self.patience.saturating_sub(self.state_at(now).failing_for(now))
    }

    /// Notes an answer; gives whether this closed the circuit.
    pub(super) fn succeeded(&self) -> bool {
        let mut state = self.state();
        let was_open = state.next_trial.is_some();
        *state = State::default();
        drop(state);
        if was_open {
            self.changed.notify_waiters();
        }
        was_open
    }

    /// Notes a failure; gives whether this opened the circuit.
    pub(super) fn failed(&self, now: Instant, how: &str) -> bool {
        let mut state = self.state_at(now);
        state.failures = state.failures.saturating_add(1);
        state.last_failed_at = Some(now);
        how.clone_into(&mut state.latest);
        let since = *state.failing_since.get_or_insert(now);
        let opens = state.next_trial.is_none()
            && state.failures >= OPENING_FAILURES
            && now.duration_since(since) >= OPENING_TIME;
        if opens {
            state.next_trial = Some(now + TRIAL_EVERY);
        }
        opens
    }

    /// The state, with a new run of failures where the last one is old.
    fn state_at(&self, now: Instant) -> MutexGuard<'_, State> {
        let mut state = self.state();
        let is_old =
            |at: Instant| now.saturating_duration_since(at) > self.patience.max(FAILURE_MEMORY);
        if state.last_failed_at.is_some_and(is_old) {
            let is_open = state.next_trial.is_some();
            state.last_failed_at = is_open.then_some(now);
            state.failing_since = is_open.then_some(now);
            state.failures = 0;
        }
        state
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn failing_for(&self, now: Instant) -> Duration {
        self.failing_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn circuit() -> Circuit {
        Circuit::new(60 * SECOND)
    }

    /// Fails once a second until it opens; gives when that is.
    fn open(circuit: &Circuit, start: Instant) -> Instant {
        let opened = (0..=5).find(|second| circuit.failed(start + SECOND * *second, "down"));
        assert_eq!(opened, Some(5));
        start + SECOND * 5
    }

    #[test]
    fn a_run_of_failures_opens_it_and_one_success_closes_it() {
        let (circuit, start) = (circuit(), Instant::now());
        let opened_at = open(&circuit, start);
        let refusal = circuit.admit(opened_at).unwrap_err();
        assert_eq!(
            refusal,
            Refusal { latest: "down".to_owned(), next_trial: Some(opened_at + SECOND) }
        );
        assert!(circuit.succeeded());
        assert!(circuit.admit(opened_at).is_ok());
        assert!(!circuit.succeeded(), "it was closed");
    }

    #[test]
    fn after_a_quiet_time_a_run_of_failures_begins_anew() {
        let (circuit, start) = (circuit(), Instant::now());
        let opened_at = open(&circuit, start);
        circuit.failed(opened_at + SECOND * 60, "down");
        assert!(circuit.is_given_up(opened_at + SECOND * 61));
        let later = opened_at + SECOND * 3600;
        circuit.admit(later).unwrap().settle();
        assert!(
            circuit.admit(later).unwrap_err().next_trial.is_some(),
            "others wait for the one that tries"
        );
        assert_eq!(circuit.patience_left(later), SECOND * 60);

        let circuit = Circuit::new(SECOND * 60);
        for second in 0..4 {
            circuit.failed(start + SECOND * second, "down");
        }
        assert!(!circuit.failed(start + SECOND * 3600, "down"), "one failure opens nothing");
    }

    #[test]
    fn one_request_per_second_tries_while_it_is_open() {
        let (circuit, start) = (circuit(), Instant::now());
        let later = open(&circuit, start) + SECOND * 2;
        circuit.admit(later).unwrap().settle();
        assert!(circuit.admit(later).is_err(), "only one tries");
        circuit.admit(later + SECOND).unwrap().settle();
    }

    #[test]
    fn when_the_trial_is_dropped_the_next_request_tries() {
        let circuit = circuit();
        let start = Instant::now().checked_sub(SECOND * 10).unwrap();
        let later = open(&circuit, start) + SECOND * 2;
        drop(circuit.admit(later).unwrap());
        circuit.admit(Instant::now()).unwrap().settle();
    }

    #[test]
    fn nobody_waits_for_a_service_that_has_failed_for_long() {
        let (circuit, start) = (circuit(), Instant::now());
        let opened_at = open(&circuit, start);
        assert!(!circuit.is_given_up(opened_at));
        assert_eq!(circuit.patience_left(opened_at), SECOND * 55);
        let late = start + SECOND * 61;
        circuit.admit(late).unwrap().settle();
        assert_eq!(circuit.admit(late).unwrap_err().next_trial, None);
        assert!(circuit.is_given_up(late));
        assert_eq!(circuit.patience_left(late), Duration::ZERO);
        circuit.succeeded();
        assert_eq!(circuit.patience_left(late), SECOND * 60);
    }

    #[test]
    fn failures_among_successes_do_not_open_it() {
        let (circuit, start) = (circuit(), Instant::now());
        for second in 0..100 {
            assert!(!circuit.failed(start + SECOND * second, "one of many"));
            if second % 3 == 0 {
                circuit.succeeded();
            }
        }
    }

    #[test]
    fn a_burst_of_failures_is_no_outage_yet() {
        let (circuit, now) = (circuit(), Instant::now());
        assert!(!(0..100).any(|_| circuit.failed(now, "at once")));
    }
}
