//! Who may take how much of the server at once: memory for bodies, and commits per token.
//!
//! A request that finds no room waits a little, then is told 429 with Retry-After; the client slows down. So memory stays
//! within `[limits] memory` whatever arrives, and one token cannot take every verifying thread.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Refusal;

/// Bodies are counted in units of this many bytes.
const UNIT: u64 = 64 * 1024;
/// How long a request waits for room before it is told to come back.
const PATIENCE: Duration = Duration::from_secs(10);
const RETRY_AFTER_SECONDS: u32 = 2;
/// Commits of one token that are verified at the same time.
const COMMITS_PER_TOKEN: usize = 8;

/// Shared bounds on what requests hold.
#[derive(Debug)]
pub struct Budgets {
    body_units: Arc<Semaphore>,
    all_units: u32,
    commits: Mutex<HashMap<String, Weak<Semaphore>>>,
}

impl Budgets {
    /// `body_bytes` bounds the memory that all request bodies take together.
    #[must_use]
    pub fn new(body_bytes: u64) -> Self {
        let all_units = u32::try_from(body_bytes / UNIT).unwrap_or(u32::MAX / 2).clamp(1, u32::MAX / 2);
        let body_units = Arc::new(Semaphore::new(all_units as usize));
        Self { body_units, all_units, commits: Mutex::default() }
    }

    /// Room for `bytes` of a request's body and what is made of it.
    ///
    /// # Errors
    /// [`Refusal`] when there was no room for some seconds.
    pub async fn body(&self, bytes: u64) -> Result<OwnedSemaphorePermit, Refusal> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).clamp(1, self.all_units);
        wait(Arc::clone(&self.body_units).acquire_many_owned(units), "has no memory left for another body").await
    }

    /// A place among the commits of `subject`.
    ///
    /// # Errors
    /// [`Refusal`] when there was no place for some seconds.
    pub async fn commit(&self, subject: &str) -> Result<OwnedSemaphorePermit, Refusal> {
        let places = {
            let mut commits = self.commits.lock().unwrap_or_else(PoisonError::into_inner);
            commits.retain(|_, places| places.strong_count() > 0);
            commits.get(subject).and_then(Weak::upgrade).unwrap_or_else(|| {
                let places = Arc::new(Semaphore::new(COMMITS_PER_TOKEN));
                commits.insert(subject.to_owned(), Arc::downgrade(&places));
                places
            })
        };
        wait(places.acquire_owned(), "is verifying as many commits of this token as it may").await
    }
}

async fn wait(
    permit: impl Future<Output = Result<OwnedSemaphorePermit, tokio::sync::AcquireError>>,
    reason: &'static str,
) -> Result<OwnedSemaphorePermit, Refusal> {
    match tokio::time::timeout(PATIENCE, permit).await {
        Ok(Ok(permit)) => Ok(permit),
        // Nobody closes the semaphore.
        Ok(Err(_)) | Err(_) => Err(Refusal { reason, retry_after_seconds: RETRY_AFTER_SECONDS }),
    }
}
