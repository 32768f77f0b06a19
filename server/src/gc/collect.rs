//! One collection: a plan of what goes, and then its execution, or as a dry run the plan alone.
//!
//! One collection runs at a time, by a lock that ends with its holder. The lock is for economy:
//! each transaction that removes rows looks by itself at everything that it relies on.

use std::sync::Arc;
use std::time::Instant;

use snowbank_core::units::Seconds;
use snowbank_core::wire::admin::collection::{GcReport, GcRequest};

use super::cutoffs::Cutoffs;
use super::execute::Executor;
use super::planner::Planner;
use super::transactions::Transactions;
use super::{GcError, Progress, ages};
use crate::chain::Chain;
use crate::config::GcConfig;
use crate::db::leader::Work;
use crate::db::{Db, settings};
use crate::pack::Packs;
use crate::storage::{FreeSpace, Storage};

/// A jump of the clock is told of for this long, if the grace period is not longer.
const JUMP_TOLD: Seconds = Seconds::new(86_400);

/// Collects when asked to. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Collector {
    chain: Chain,
    storage: Arc<Storage>,
    packs: Packs,
    room: FreeSpace,
    settings: GcConfig,
}

impl Collector {
    /// Nothing is done before it is asked for.
    #[must_use]
    pub fn new(chain: Chain, packs: Packs, room: FreeSpace, settings: GcConfig) -> Self {
        let storage = Arc::clone(chain.storage());
        Self { chain, storage, packs, room, settings }
    }

    pub(super) fn db(&self) -> &Db {
        self.chain.db()
    }

    pub(super) const fn settings(&self) -> &GcConfig {
        &self.settings
    }

    /// Collects, or says what would go. `progress` gets what is being done, in a few words.
    ///
    /// # Errors
    /// See [`GcError`]. What was done before stays done.
    pub async fn run(
        &self,
        request: &GcRequest,
        now: &(dyn Fn() -> i64 + Send + Sync),
        progress: Progress<'_>,
    ) -> Result<GcReport, GcError> {
        let mut leader = self.db().leader(Work::Collection);
        if !leader.holds().await? {
            return Err(GcError::Busy);
        }
        let result = self.collect(request, now, progress).await;
        leader.release().await;
        result
    }

    async fn collect(
        &self,
        request: &GcRequest,
        now: &(dyn Fn() -> i64 + Send + Sync),
        progress: Progress<'_>,
    ) -> Result<GcReport, GcError> {
        let began_at = Instant::now();
        self.chain.confirm().await?;
        let transactions = Transactions::new(&self.chain).await?;
        let mut conn = self.db().reader().await?;
        if let Some(why) = settings::lookup(conn.exec(), settings::COLLECTION_OFF).await? {
            return Err(GcError::Off(why));
        }
        drop(conn);
        let started = now();
        let grace = request.grace.unwrap_or(self.settings.grace);
        let ages = ages::note(self.db(), started, request.trust_clock).await?;
        let cutoffs = Cutoffs::new(ages, grace);
        let planner = Planner {
            transactions: &transactions,
            storage: &self.storage,
            settings: &self.settings,
            cutoffs: &cutoffs,
            compacts: !request.no_compact && !self.settings.compact_budget.is_empty(),
        };
        let mut report = if request.dry_run {
            planner.plan(progress).await?.report()
        } else {
            let with = (&self.packs, &self.room, self.settings.compact_rate);
            let mut executor = Executor::new(&transactions, &cutoffs, &self.storage, with);
            progress("removing objects".to_owned());
            executor.remove_claimed_objects().await?;
            let plan = planner.plan(progress).await?;
            executor.execute(plan, progress).await?
        };
        report.notes.splice(0..0, jump_note(&cutoffs, grace));
        report.started = started;
        report.milliseconds = u64::try_from(began_at.elapsed().as_millis()).unwrap_or(u64::MAX);
        record_report(&report);
        Ok(report)
    }
}

/// What an operator should know of the clock.
fn jump_note(cutoffs: &Cutoffs, grace: Seconds) -> Option<String> {
    let (ago, seconds) = cutoffs.ages().jumped_within(grace.max(JUMP_TOLD))?;
    Some(format!(
        "{ago} s ago the clock was {seconds} s ahead of when a server noted it last; that time \
         does not count as age. If nothing of it is wrong, --trust-clock counts it"
    ))
}

/// Records a report in the metrics, and logs what was removed.
#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
fn record_report(report: &GcReport) {
    let seconds = report.milliseconds as f64 / 1_000.0;
    metrics::gauge!("snowbank_collection_seconds").set(seconds);
    metrics::gauge!("snowbank_waiting_bytes").set(report.waiting_bytes as f64);
    if report.dry_run {
        return;
    }
    metrics::counter!("snowbank_collected_paths_total").increment(report.paths);
    tracing::info!(
        paths = report.paths,
        nars = report.nars,
        chunks = report.chunks,
        freed_bytes = report.freed_bytes + report.compacted_bytes,
        waiting_bytes = report.waiting_bytes,
        stored_bytes = report.stored_bytes,
        seconds,
        "collected"
    );
}
