//! Bytes that may be in memory at once, and who holds them.
//!
//! Only readers wait for bytes, and a reader that waits holds none. So whether a push can stall on
//! memory is a question about the later stages alone; `pipeline` argues that they always give bytes
//! back.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

/// A bound on bytes in memory. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    bytes: Arc<Semaphore>,
    total: u32,
}

/// Bytes of a [`Budget`], given back when dropped.
#[derive(Debug, Default)]
pub(super) struct Held(Option<OwnedSemaphorePermit>);

impl Budget {
    pub(super) fn new(total: u32) -> Self {
        Self { bytes: Arc::new(Semaphore::new(total as usize)), total }
    }

    /// Waits for `bytes`, on a thread that may block; more than there are in total count as all of
    /// them. `None` once the budget is closed.
    pub(super) fn hold(&self, bytes: usize) -> Option<Held> {
        let wanted = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.total);
        let permit = match Arc::clone(&self.bytes).try_acquire_many_owned(wanted) {
            Ok(permit) => permit,
            Err(TryAcquireError::Closed) => return None,
            Err(TryAcquireError::NoPermits) => Handle::current()
                .block_on(Arc::clone(&self.bytes).acquire_many_owned(wanted))
                .ok()?,
        };
        Some(Held(Some(permit)))
    }

    /// Lets nobody wait any more.
    pub(super) fn close(&self) {
        self.bytes.close();
    }

    #[cfg(test)]
    pub(super) fn free(&self) -> usize {
        self.bytes.available_permits()
    }
}

impl Held {
    /// Gives back what is above `bytes`.
    pub(super) fn shrink_to(&mut self, bytes: usize) {
        if let Some(permit) = &mut self.0 {
            let surplus = permit.num_permits().saturating_sub(bytes);
            drop(permit.split(surplus));
        }
    }

    /// Takes over what `other` holds, of the same budget.
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
        let mut held = budget.hold(60).unwrap();
        held.shrink_to(20);
        assert_eq!(budget.free(), 80);
        held.shrink_to(50);
        assert_eq!(budget.free(), 80, "shrinking never grows");
        let mut joined = Held::default();
        joined.join(held);
        joined.join(budget.hold(10).unwrap());
        joined.join(Held::default());
        assert_eq!(budget.free(), 70);
        drop(joined);
        assert_eq!(budget.free(), 100);
    }

    #[test]
    fn more_than_there_is_counts_as_all_of_it() {
        let budget = Budget::new(100);
        let held = budget.hold(1_000).unwrap();
        assert_eq!(budget.free(), 0);
        drop(held);
        assert_eq!(budget.free(), 100);
    }

    #[tokio::test]
    async fn whoever_waits_goes_on_when_there_is_room_or_the_budget_is_closed() {
        let budget = Budget::new(10);
        let held = budget.hold(10).unwrap();
        let waiting = |bytes| {
            let budget = budget.clone();
            tokio::task::spawn_blocking(move || budget.hold(bytes).is_some())
        };
        let one = waiting(5);
        drop(held);
        assert!(one.await.unwrap());
        let all = budget.hold(10).unwrap();
        let two = waiting(5);
        budget.close();
        assert!(!two.await.unwrap());
        drop(all);
    }
}
