//! How often and after how long a failed request is repeated.
//!
//! Waiting doubles from a quarter of a second to 15 seconds, with jitter so that a fleet of clients
//! does not come back as one, and is never shorter than the server's `Retry-After`. How many
//! attempts there are depends on what failed: a full disk does not empty itself, a busy server gets
//! free. A path of a commit that failed for a reason that passes is repeated alike.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use snowbank_core::wire::code;

use super::{ApiError, ApiErrorKind};

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const MAX_PAUSE: Duration = Duration::from_secs(15);
/// The longest that a server is obeyed that asks to wait.
const MAX_RETRY_AFTER: Duration = Duration::from_mins(2);

/// Who is told that a failed request will be repeated, and after how long.
#[derive(Clone)]
pub(super) struct RetryListener(Arc<Listen>);

type Listen = dyn Fn(&ApiError, Duration) + Send + Sync;

impl RetryListener {
    pub(super) fn new(listen: impl Fn(&ApiError, Duration) + Send + Sync + 'static) -> Self {
        Self(Arc::new(listen))
    }
}

impl fmt::Debug for RetryListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RetryListener")
    }
}

/// The attempts at one request.
#[derive(Debug)]
pub struct Backoff {
    listener: Option<RetryListener>,
    /// Whether the server had answered anything before.
    reached: bool,
    /// Failed attempts so far.
    failed: u32,
}

impl Backoff {
    pub(super) const fn new(reached: bool, listener: Option<RetryListener>) -> Self {
        Self { listener, reached, failed: 0 }
    }

    /// Waits until the request may be repeated.
    ///
    /// # Errors
    /// `error` itself, when it is of a kind that does not pass or has been waited for long enough.
    pub async fn wait(&mut self, error: ApiError) -> Result<(), ApiError> {
        let Some(delay) = self.next(&error) else { return Err(error) };
        if let Some(RetryListener(listen)) = &self.listener {
            listen(&error, delay);
        }
        tracing::info!("{error}; trying again in {:.1} s", delay.as_secs_f32());
        tokio::time::sleep(delay).await;
        Ok(())
    }

    /// How long to wait after one more failure; `None` to give up.
    fn next(&mut self, error: &ApiError) -> Option<Duration> {
        self.failed += 1;
        let attempts = match error.kind() {
            // A wrong address should be told at once; a server that is being restarted comes back.
            ApiErrorKind::Unreachable if !self.reached => 4,
            // Somebody has to mend it.
            ApiErrorKind::Unavailable if error.code() == Some(code::STORAGE_REFUSED) => 1,
            ApiErrorKind::Unreachable | ApiErrorKind::Unavailable => 9,
            ApiErrorKind::Busy => 60,
            ApiErrorKind::Server => 5,
            ApiErrorKind::Timeout | ApiErrorKind::StorageFull => 3,
            _ => 1,
        };
        if self.failed >= attempts {
            return None;
        }
        let doubled = FIRST_PAUSE.saturating_mul(1 << (self.failed - 1).min(16)).min(MAX_PAUSE);
        let asked_for = error.retry_after().unwrap_or_default().min(MAX_RETRY_AFTER);
        Some(asked_for + jittered(doubled))
    }
}

/// Between half of `delay` and all of it.
fn jittered(delay: Duration) -> Duration {
    // Without randomness there is no jitter, which only matters to a fleet.
    let random = getrandom::u32().unwrap_or(u32::MAX);
    delay.mul_f64(0.5 + f64::from(random) / f64::from(u32::MAX) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(kind: ApiErrorKind, retry_after: Option<u64>) -> ApiError {
        ApiError::for_tests(kind, retry_after.map(Duration::from_secs))
    }

    fn attempts(reached: bool, kind: ApiErrorKind) -> usize {
        let mut backoff = Backoff::new(reached, None);
        1 + std::iter::from_fn(|| backoff.next(&failure(kind, None))).count()
    }

    #[test]
    fn what_cannot_pass_is_not_repeated() {
        use ApiErrorKind::{Forbidden, NotFound, Rejected, TooLarge, Unauthenticated};
        for kind in [Unauthenticated, Forbidden, NotFound, Rejected, TooLarge] {
            assert_eq!(attempts(true, kind), 1, "{kind:?}");
        }
    }

    #[test]
    fn what_an_operator_has_to_mend_is_not_repeated() {
        let mut backoff = Backoff::new(true, None);
        let refused = ApiError::of_line(code::STORAGE_REFUSED, "no");
        assert_eq!(refused.kind(), ApiErrorKind::Unavailable);
        assert_eq!(backoff.next(&refused), None);
    }

    #[test]
    fn a_path_is_repeated_as_often_as_a_request_would_be() {
        let attempts_at_line = |code: &str| {
            let mut backoff = Backoff::new(true, None);
            1 + std::iter::from_fn(|| backoff.next(&ApiError::of_line(code, "no"))).count()
        };
        assert_eq!(
            attempts_at_line(code::STORAGE_UNAVAILABLE),
            attempts(true, ApiErrorKind::Unavailable)
        );
        assert_eq!(attempts_at_line(code::BUSY), attempts(true, ApiErrorKind::Busy));
        assert_eq!(attempts_at_line(code::INTERNAL), attempts(true, ApiErrorKind::Server));
        assert_eq!(attempts_at_line(code::NAR_MISMATCH), 1);
    }

    #[test]
    fn a_server_that_never_answered_is_given_up_sooner() {
        assert!(
            attempts(false, ApiErrorKind::Unreachable) < attempts(true, ApiErrorKind::Unreachable)
        );
    }

    #[test]
    fn the_server_is_obeyed_within_reason() {
        let mut backoff = Backoff::new(true, None);
        let delay = backoff.next(&failure(ApiErrorKind::Busy, Some(7))).unwrap();
        assert!((Duration::from_secs(7)..Duration::from_secs(8)).contains(&delay), "{delay:?}");
        let delay = backoff.next(&failure(ApiErrorKind::Busy, Some(100_000))).unwrap();
        assert!(delay < MAX_RETRY_AFTER + MAX_PAUSE, "{delay:?}");
    }

    #[test]
    fn waits_grow_up_to_a_limit() {
        let mut backoff = Backoff::new(true, None);
        let delays: Vec<_> =
            std::iter::from_fn(|| backoff.next(&failure(ApiErrorKind::Busy, None)))
                .take(20)
                .collect();
        assert!(
            delays[0] <= FIRST_PAUSE && delays.iter().all(|delay| *delay <= MAX_PAUSE),
            "{delays:?}"
        );
        assert!(delays[19] >= MAX_PAUSE / 2);
    }
}
