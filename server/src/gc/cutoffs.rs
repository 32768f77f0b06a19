//! The instants before which one collection calls things old.

use snowbank_core::units::Seconds;

use super::ages::Ages;
use crate::db::uploads::KEPT_SECONDS;

/// Objects of claimed packs stay for this long, unless the grace period is shorter: readers that
/// have looked their chunks up before can end.
const READER_GRACE: Seconds = Seconds::new(3_600);
/// For how long the key of an object that had no row stays claimed.
const KEY_CLAIMED: Seconds = Seconds::new(30 * 86_400);

/// For how long an uploaded NAR waits for its path.
const KEPT: Seconds = Seconds::new(KEPT_SECONDS.unsigned_abs());

/// What counts as old, at the time of a collection. Each cutoff includes its own instant.
#[derive(Debug)]
pub(super) struct Cutoffs {
    ages: Ages,
    grace: Seconds,
}

impl Cutoffs {
    pub(super) const fn new(ages: Ages, grace: Seconds) -> Self {
        Self { ages, grace }
    }

    pub(super) const fn ages(&self) -> &Ages {
        &self.ages
    }

    /// The time of the collection.
    pub(super) const fn now(&self) -> i64 {
        self.ages.now()
    }

    /// The grace period is over for everything that nothing has needed since this instant.
    pub(super) fn unneeded_before(&self) -> i64 {
        self.ages.cutoff(self.grace)
    }

    /// A NAR that was uploaded after this instant waits for its path.
    pub(super) fn uploaded_after(&self) -> i64 {
        self.ages.cutoff(KEPT)
    }

    /// The objects of packs that were claimed before this instant may go.
    pub(super) fn claimed_before(&self) -> i64 {
        self.ages.cutoff(self.grace.min(READER_GRACE))
    }

    /// Keys that were claimed before this instant are free again.
    pub(super) fn keys_claimed_before(&self) -> i64 {
        self.ages.cutoff(KEY_CLAIMED)
    }
}
