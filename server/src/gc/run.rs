//! One collection under way: its transactions, and what it reports.
//!
//! Before every transaction that destroys the storage is known to be the database's (C3). It takes
//! the exclusive lock first and then looks whether the database is still the one that the run began
//! on: a backup that was restored meanwhile makes what the run knows untrue.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use snowbank_core::wire::admin::collection::GcReport;

use super::GcError;
use super::ages::Ages;
use crate::chain::Chain;
use crate::db::packs::PackId;
use crate::db::{self, Db, Tx};

/// How long others may be kept from committing, as far as batches can be chosen: a quarter of what
/// is promised, since now and then a disk takes its time.
const HELD: Duration = Duration::from_millis(25);
/// Rows in a batch.
const MIN_BATCH: usize = 8;
const MAX_BATCH: usize = 512;

/// A run, of which the parts of a collection take what they need.
pub(super) struct Run<'a> {
    pub(super) db: &'a Db,
    pub(super) chain: &'a Chain,
    pub(super) ages: Ages,
    /// What was so at this time or before is older than the grace period.
    pub(super) grace: i64,
    /// Objects of packs that died at this time or before may go.
    pub(super) objects: i64,
    pub(super) epoch: u64,
    pub(super) report: GcReport,
    /// Dead packs whose objects could not be removed in this run.
    pub(super) stuck: HashSet<PackId>,
    pub(super) say: &'a mut (dyn FnMut(String) + Send),
}

/// An exclusive transaction, and since when it keeps others waiting.
pub(super) struct Held {
    pub(super) tx: Tx,
    since: Instant,
}

/// How many rows a batch has: as many as fit into [`HELD`].
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

    /// Takes in how long a batch held the lock, and lets others have it for as long.
    pub(super) async fn rest(&mut self, held: Duration) {
        if held > HELD {
            self.0 = (self.0 / 2).max(MIN_BATCH);
        } else if held < HELD / 3 {
            self.0 = (self.0 * 2).min(MAX_BATCH);
        }
        tokio::time::sleep(held.min(HELD)).await;
    }
}

impl Run<'_> {
    /// Begins a transaction that destroys.
    pub(super) async fn begin(&mut self) -> Result<Held, GcError> {
        self.chain.confirm_lately().await?;
        let mut tx = self.db.exclusive_tx().await?;
        let since = Instant::now();
        let instance = db::instance::lookup(tx.exec()).await?;
        if instance.is_none_or(|instance| instance.epoch != self.epoch) {
            return Err(GcError::Restored);
        }
        Ok(Held { tx, since })
    }

    /// Commits it; gives how long others were kept waiting.
    pub(super) async fn end(&mut self, held: Held) -> Result<Duration, GcError> {
        held.tx.commit().await?;
        let time = held.since.elapsed();
        let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.report.longest_lock_milliseconds =
            self.report.longest_lock_milliseconds.max(milliseconds);
        Ok(time)
    }

    pub(super) fn say(&mut self, text: impl Into<String>) {
        (self.say)(text.into());
    }
}
