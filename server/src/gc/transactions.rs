//! The transactions of one collection that remove rows.
//!
//! Before each of them the storage is known to be the database's (C3). It takes the exclusive lock
//! first, and then looks whether the database is still the one on which the collection began: a
//! backup that was restored meanwhile makes the plan untrue.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::GcError;
use crate::chain::Chain;
use crate::db::{self, Db, Exec, Tx};

/// How long one transaction may keep others from committing, as far as the size of a batch decides
/// that: a quarter of what is promised, since a disk is slow now and then.
const MAX_LOCK: Duration = Duration::from_millis(25);
/// Rows in a batch.
const MIN_BATCH: usize = 8;
const MAX_BATCH: usize = 512;

/// Begins exclusive transactions, and remembers which one took longest.
#[derive(Debug)]
pub(super) struct Transactions<'a> {
    chain: &'a Chain,
    /// The epoch of the database that the plan was made from.
    epoch: u64,
    longest_milliseconds: AtomicU64,
}

/// An exclusive transaction, which keeps others from committing until it ends.
pub(super) struct ExclusiveTx {
    tx: Tx,
    began_at: Instant,
}

impl ExclusiveTx {
    pub(super) fn exec(&mut self) -> Exec<'_> {
        self.tx.exec()
    }
}

impl<'a> Transactions<'a> {
    /// For the database of `chain` as it is now.
    pub(super) async fn new(chain: &'a Chain) -> Result<Self, GcError> {
        let instance = db::instance::lookup(chain.db().reader().await?.exec()).await?;
        let epoch = instance.ok_or(GcError::Restored)?.epoch;
        Ok(Self { chain, epoch, longest_milliseconds: AtomicU64::new(0) })
    }

    pub(super) fn db(&self) -> &'a Db {
        self.chain.db()
    }

    /// Looks, at this moment, whether the storage is the database's.
    pub(super) async fn confirm_storage(&self) -> Result<(), GcError> {
        Ok(self.chain.confirm().await?)
    }

    /// Begins a transaction that removes rows.
    pub(super) async fn begin(&self) -> Result<ExclusiveTx, GcError> {
        self.chain.confirm_lately().await?;
        let mut tx = self.db().exclusive_tx().await?;
        let began_at = Instant::now();
        let instance = db::instance::lookup(tx.exec()).await?;
        if instance.is_none_or(|instance| instance.epoch != self.epoch) {
            return Err(GcError::Restored);
        }
        Ok(ExclusiveTx { tx, began_at })
    }

    /// Commits it, and gives how long it kept others waiting.
    pub(super) async fn commit(&self, exclusive: ExclusiveTx) -> Result<Duration, GcError> {
        exclusive.tx.commit().await?;
        let time = exclusive.began_at.elapsed();
        let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.longest_milliseconds.fetch_max(milliseconds, Ordering::Relaxed);
        Ok(time)
    }

    /// The longest time for which one of them kept others waiting.
    pub(super) fn longest_milliseconds(&self) -> u64 {
        self.longest_milliseconds.load(Ordering::Relaxed)
    }
}

/// How many rows a batch has: as many as can be removed within [`MAX_LOCK`].
#[derive(Debug)]
pub(super) struct Pace(usize);

impl Default for Pace {
    fn default() -> Self {
        Self(64)
    }
}

impl Pace {
    pub(super) const fn rows(&self) -> usize {
        self.0
    }

    /// Sizes the next batch by the time for which this one held the lock, and leaves the lock to
    /// others for as long.
    pub(super) async fn rest(&mut self, locked: Duration) {
        if locked > MAX_LOCK {
            self.0 = (self.0 / 2).max(MIN_BATCH);
        } else if locked < MAX_LOCK / 3 {
            self.0 = (self.0 * 2).min(MAX_BATCH);
        }
        tokio::time::sleep(locked.min(MAX_LOCK)).await;
    }
}
