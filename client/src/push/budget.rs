//! The bound on a push's bytes in memory, and the permits for them.
//!
//! A permit travels with the bytes that it was acquired for, from the reader into the bundle, and
//! is given back when they are dropped. Only readers wait for a permit, and a reader that waits
//! holds none. So whether a push can stall on memory is a question about the later stages alone:
//! `pipeline` argues that they always give bytes back.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

/// A number of bytes that may be in memory at once. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    bytes: Arc<Semaphore>,
    total: u32,
}

/// Bytes of a [`Budget`], given back when dropped.
#[derive(Debug, Default)]
pub(super) struct Permit(Option<OwnedSemaphorePermit>);

impl Budget {
    pub(super) fn new(total: u32) -> Self {
        Self { bytes: Arc::new(Semaphore::new(total as usize)), total }
    }

    /// Waits for `bytes`, on a thread that may block. A request above the total gets the total.
    /// `None` once the budget is closed.
    pub(super) fn acquire(&self, bytes: usize) -> Option<Permit> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.total);
        let permit = match Arc::clone(&self.bytes).try_acquire_many_owned(bytes) {
            Ok(permit) => permit,
            Err(TryAcquireError::Closed) => return None,
            Err(TryAcquireError::NoPermits) => Handle::current()
                .block_on(Arc::clone(&self.bytes).acquire_many_owned(bytes))
                .ok()?,
        };
        Some(Permit(Some(permit)))
    }

    /// Ends all waiting, now and later.
    pub(super) fn close(&self) {
        self.bytes.close();
    }

    #[cfg(test)]
    pub(super) fn free(&self) -> usize {
        self.bytes.available_permits()
    }
}

impl Permit {
    /// Gives back all but `bytes`.
    pub(super) fn shrink_to(&mut self, bytes: usize) {
        if let Some(permit) = &mut self.0 {
            let surplus = permit.num_permits().saturating_sub(bytes);
            drop(permit.split(surplus));
        }
    }

    /// Adds the bytes of `other`, a permit of the same budget.
    pub(super) fn join(&mut self, other: Self) {
        match (&mut self.0, other.0) {
            (Some(permit), Some(other)) => permit.merge(other),
            (own, other) => *own = own.take().or(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_comes_back_when_it_shrinks_or_goes() {
        let budget = Budget::new(100);
        let mut permit = budget.acquire(60).unwrap();
        permit.shrink_to(20);
        assert_eq!(budget.free(), 80);
        permit.shrink_to(50);
        assert_eq!(budget.free(), 80, "shrinking never grows");
        let mut joined = Permit::default();
        joined.join(permit);
        joined.join(budget.acquire(10).unwrap());
        joined.join(Permit::default());
        assert_eq!(budget.free(), 70);
        drop(joined);
        assert_eq!(budget.free(), 100);
    }

    #[test]
    fn more_than_there_is_counts_as_all_of_it() {
        let budget = Budget::new(100);
        let permit = budget.acquire(1_000).unwrap();
        assert_eq!(budget.free(), 0);
        drop(permit);
        assert_eq!(budget.free(), 100);
    }

    #[tokio::test]
    async fn whoever_waits_goes_on_when_there_is_room_or_the_budget_is_closed() {
        let budget = Budget::new(10);
        let permit = budget.acquire(10).unwrap();
        let waiting = |bytes| {
            let budget = budget.clone();
            tokio::task::spawn_blocking(move || budget.acquire(bytes).is_some())
        };
        let one = waiting(5);
        drop(permit);
        assert!(one.await.unwrap());
        let all = budget.acquire(10).unwrap();
        let two = waiting(5);
        budget.close();
        assert!(!two.await.unwrap());
        drop(all);
    }
}
