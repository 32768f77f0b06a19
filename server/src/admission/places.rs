//! Places for work that is counted rather than weighed: a few for each token, and where it matters
//! a few for all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Refusal, count_hit};

const RETRY_AFTER_SECONDS: u32 = 2;

/// Places of one kind.
#[derive(Debug)]
pub(super) struct Places {
    each: usize,
    all: Option<Arc<Semaphore>>,
    by_subject: Mutex<HashMap<String, Weak<Semaphore>>>,
}

/// A place that is taken; free again when this is dropped.
#[derive(Debug)]
pub struct Place {
    _own: OwnedSemaphorePermit,
    _of_all: Option<OwnedSemaphorePermit>,
}

impl Places {
    /// `each` places for every token's subject, and `all` of them together where that is said.
    pub(super) fn new(each: usize, all: Option<usize>) -> Self {
        Self {
            each,
            all: all.map(|all| Arc::new(Semaphore::new(all))),
            by_subject: Mutex::default(),
        }
    }

    /// Waits for a place, in turn. One subject stands in the line of all with no more than its own
    /// places.
    ///
    /// # Panics
    /// Never: nobody closes the semaphores.
    pub(super) async fn take(&self, subject: &str) -> Place {
        let own = {
            let mut by_subject = self.by_subject.lock().unwrap_or_else(PoisonError::into_inner);
            by_subject.retain(|_, places| places.strong_count() > 0);
            by_subject.get(subject).and_then(Weak::upgrade).unwrap_or_else(|| {
                let places = Arc::new(Semaphore::new(self.each));
                by_subject.insert(subject.to_owned(), Arc::downgrade(&places));
                places
            })
        };
        let taken = "nobody closes the semaphore";
        let own = own.acquire_owned().await.expect(taken);
        let of_all = match &self.all {
            Some(all) => Some(Arc::clone(all).acquire_owned().await.expect(taken)),
            None => None,
        };
        Place { _own: own, _of_all: of_all }
    }

    /// As [`Places::take`], for `patience` at most; `limit` is what metrics call it.
    pub(super) async fn take_within(
        &self,
        subject: &str,
        patience: Duration,
        limit: &'static str,
        reason: &'static str,
    ) -> Result<Place, Refusal> {
        tokio::time::timeout(patience, self.take(subject)).await.map_err(|_| {
            count_hit(limit);
            Refusal { reason, retry_after_seconds: RETRY_AFTER_SECONDS }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_token_takes_its_own_places_and_one_turn_of_those_for_all() {
        let places = Places::new(1, Some(1));
        let first = places.take("hostile").await;
        // These wait for the same token's own place, and so stand in nobody's way.
        let more: Vec<_> = (0..8).map(|_| Box::pin(places.take("hostile"))).collect();
        let mut more = futures_util::future::join_all(more);
        assert!(futures_util::poll!(&mut more).is_pending());
        let mut honest = Box::pin(places.take("honest"));
        assert!(futures_util::poll!(&mut honest).is_pending());
        drop(first);
        // It was in the line of all before the others of that token were.
        drop(honest.await);
    }

    #[tokio::test]
    async fn patience_ends_in_a_refusal() {
        let places = Places::new(1, None);
        let _held = places.take("one").await;
        let refused =
            places.take_within("one", Duration::from_millis(50), "commits", "is busy").await;
        assert!(matches!(refused, Err(Refusal { reason: "is busy", .. })));
        assert!(
            places
                .take_within("other", Duration::from_millis(50), "commits", "is busy")
                .await
                .is_ok()
        );
    }
}
