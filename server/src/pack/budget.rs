//! Memory for what is read from packs: a fixed number of permits, one for each 64 KiB, shared by
//! all requests.
//!
//! A request waits for permits only while it holds none, and takes more only when they are free at
//! that moment; so no two requests can wait for each other.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What one permit stands for.
const UNIT_BYTES: u64 = 64 * 1024;

/// The permits. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ReadBudget {
    permits: Arc<Semaphore>,
    /// Permits that one taking gets at most.
    most: u32,
}

/// Memory that may be used until this is dropped.
#[derive(Debug)]
pub struct ReadPermit(OwnedSemaphorePermit);

impl ReadBudget {
    /// Permits for `bytes` in all. No single taking gets more than three eighths of them, so that
    /// one read may be under way while another is used up, and something is left for others.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        let all = u32::try_from(bytes / UNIT_BYTES).unwrap_or(u32::MAX).clamp(1, 1 << 24);
        Self { permits: Arc::new(Semaphore::new(all as usize)), most: (all * 3 / 8).max(1) }
    }

    /// All of `bytes`, or else half of what is free, so that a few requests that do not go on
    /// cannot leave nothing to all others, but `least` in any case; `None` when that much is not
    /// free.
    #[must_use]
    pub fn try_some(&self, bytes: u64, least: u64) -> Option<ReadPermit> {
        let least = u32::try_from(least.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX).max(1);
        let half = || u32::try_from(self.permits.available_permits() / 2).unwrap_or(u32::MAX);
        self.take(self.units(bytes).max(least))
            .or_else(|| self.take(self.units(bytes).min(half()).max(least)))
    }

    /// All of `bytes`, or `None`.
    #[must_use]
    pub fn try_all(&self, bytes: u64) -> Option<ReadPermit> {
        self.take(self.units(bytes))
    }

    /// Waits for `bytes`. Only for a caller that holds nothing, and that goes on by itself when it
    /// is given them.
    ///
    /// # Panics
    /// Never: the permits are not closed.
    pub async fn wait(&self, bytes: u64) -> ReadPermit {
        let permits = Arc::clone(&self.permits).acquire_many_owned(self.units(bytes)).await;
        ReadPermit(permits.expect("nobody closes the semaphore"))
    }

    fn units(&self, bytes: u64) -> u32 {
        u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX).clamp(1, self.most)
    }

    fn take(&self, permits: u32) -> Option<ReadPermit> {
        Arc::clone(&self.permits).try_acquire_many_owned(permits).ok().map(ReadPermit)
    }
}

impl ReadPermit {
    /// How much memory it stands for.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.num_permits() as u64 * UNIT_BYTES
    }

    /// Gives back what is beyond `bytes`.
    pub fn shrink_to(&mut self, bytes: u64) {
        let unused = self
            .0
            .num_permits()
            .saturating_sub(usize::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(usize::MAX));
        drop(self.0.split(unused));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_short_is_taken_by_halves_to_the_last_unit() {
        let budget = ReadBudget::new(32 * UNIT_BYTES);
        let sizes: Vec<u64> = std::iter::from_fn(|| budget.try_some(100 * UNIT_BYTES, 1))
            .map(|permit| {
                let bytes = permit.bytes();
                std::mem::forget(permit);
                bytes / UNIT_BYTES
            })
            .collect();
        assert_eq!(sizes, [12, 12, 4, 2, 1, 1]);
    }

    #[test]
    fn less_than_the_least_is_not_taken() {
        let budget = ReadBudget::new(32 * UNIT_BYTES);
        assert_eq!(
            budget.try_some(UNIT_BYTES, 20 * UNIT_BYTES).map(|permit| permit.bytes()),
            Some(20 * UNIT_BYTES)
        );
        let held = budget.try_all(12 * UNIT_BYTES).unwrap();
        assert!(budget.try_some(UNIT_BYTES, 21 * UNIT_BYTES).is_none());
        assert_eq!(
            budget.try_some(100 * UNIT_BYTES, 11 * UNIT_BYTES).map(|permit| permit.bytes()),
            Some(12 * UNIT_BYTES)
        );
        drop(held);
    }

    #[test]
    fn what_is_not_needed_is_given_back() {
        let budget = ReadBudget::new(32 * UNIT_BYTES);
        let mut permit = budget.try_all(8 * UNIT_BYTES).unwrap();
        permit.shrink_to(3 * UNIT_BYTES - 1);
        assert_eq!(permit.bytes(), 3 * UNIT_BYTES);
        let others: Vec<_> = std::iter::from_fn(|| budget.try_all(10 * UNIT_BYTES)).collect();
        assert_eq!(others.len(), 2);
        drop(permit);
        assert!(budget.try_all(12 * UNIT_BYTES).is_some());
    }
}
