//! Collection: a plan of what goes, and then its execution in small transactions. As a dry run, the
//! plan alone.
//!
//! The order is that of the invariants: path rows, NAR rows, chunk rows, packs, objects. Objects go
//! before anything is written, so that a full disk can be collected; compaction, which writes
//! packs, comes last and stops where there is no room. Whatever interrupts it, the next collection
//! goes on: nothing is remembered but what the rows say. One collection runs at a time (a lock that
//! ends with its holder); that is for economy, since each destructive transaction looks at what it
//! relies on by itself.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use snowbank_core::units::{Seconds, Size};
use snowbank_core::wire::admin::collection::{GcReport, GcRequest};
use tokio_util::sync::CancellationToken;

pub use super::GcError;
use super::ages::{self, Ages};
use super::compact::{Effort, Rewriting};
use super::graph::Graph;
use super::limits::{self, Bounds};
use super::mark::Marks;
use super::paths::Keeping;
use super::run::Run;
use super::sweep::PackUses;
use crate::chain::Chain;
use crate::clock::unix_now;
use crate::config::GcConfig;
use crate::db::caches::Cache;
use crate::db::leader::Work;
use crate::db::usage::{self, CacheUsage, CacheUsages};
use crate::db::{self, Db, settings};
use crate::pack::Packs;
use crate::storage::{FreeSpace, Storage};

/// The setting with the time at which the last collection ended.
const COLLECTED: &str = "collected";
/// Objects of claimed packs stay for this long, if the grace period is not shorter.
const READERS: Seconds = Seconds::new(3_600);
/// How often the schedule is looked at, and the clock noted.
const TURN: Duration = Duration::from_mins(1);
/// The first scheduled collection comes this long after the start at the earliest.
const FIRST: Duration = Duration::from_mins(10);
/// A pack of which this part is needed, or less, is worth rewriting; under a size limit that is
/// passed, the other.
const WORTH: f64 = 0.5;
const WORTH_UNDER_PRESSURE: f64 = 0.9;

/// What collects. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Collector {
    chain: Chain,
    db: Db,
    storage: Arc<Storage>,
    packs: Packs,
    room: FreeSpace,
    settings: GcConfig,
}

impl Collector {
    /// Nothing is done before it is asked for.
    #[must_use]
    pub fn new(chain: Chain, packs: Packs, room: FreeSpace, settings: GcConfig) -> Self {
        let (db, storage) = (chain.db().clone(), Arc::clone(chain.storage()));
        Self { chain, db, storage, packs, room, settings }
    }

    /// Collects, or says what would go; `progress` gets what is being done, in a few words.
    ///
    /// # Errors
    /// See [`GcError`]; what was done until then stays done.
    pub async fn run(
        &self,
        request: &GcRequest,
        now: &(dyn Fn() -> i64 + Send + Sync),
        progress: &mut (dyn FnMut(String) + Send),
    ) -> Result<GcReport, GcError> {
        let mut leader = self.db.leader(Work::Collection);
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
        progress: &mut (dyn FnMut(String) + Send),
    ) -> Result<GcReport, GcError> {
        let started = Instant::now();
        self.chain.confirm().await?;
        let instance =
            db::instance::lookup(self.db.reader().await?.exec()).await?.ok_or(GcError::Restored)?;
        if let Some(why) =
            settings::lookup(self.db.reader().await?.exec(), settings::COLLECTION_OFF).await?
        {
            return Err(GcError::Off(why));
        }
        let at = now();
        let ages = ages::note(&self.db, at, request.trust_clock).await?;
        let grace = request.grace.unwrap_or(self.settings.grace);
        let mut run = Run {
            db: &self.db,
            chain: &self.chain,
            grace: ages.cutoff(grace),
            objects: ages.cutoff(grace.min(READERS)),
            epoch: instance.epoch,
            report: GcReport { dry_run: request.dry_run, started: at, ..GcReport::default() },
            stuck: HashSet::new(),
            say: progress,
            ages,
        };
        if let Some((ago, jumped)) = run.ages.jumped_within(grace.max(Seconds::new(86_400))) {
            run.report.notes.push(format!(
                "{ago} s ago the clock was {jumped} s ahead of when a server noted it last; that \
                 time does not count as age. If \
                 nothing of it is wrong, --trust-clock counts it"
            ));
        }
        if !request.dry_run {
            // What an earlier collection has claimed needs no plan, and may be the room that this
            // one takes.
            run.say("removing objects");
            run.remove_objects(&self.storage).await?;
        }
        let plan = self.plan(&mut run).await?;
        self.execute(&mut run, plan, request).await?;
        let mut report = run.report;
        report.milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        show(&report);
        if !request.dry_run {
            tracing::info!(
                paths = report.paths,
                nars = report.nars,
                chunks = report.chunks,
                freed_bytes = report.freed_bytes + report.compacted_bytes,
                waiting_bytes = report.waiting_bytes,
                stored_bytes = report.stored_bytes,
                seconds = started.elapsed().as_secs_f64(),
                "collected"
            );
        }
        Ok(report)
    }

    /// What stays and what goes: paths by what keeps them, then by size limits; and all that is
    /// marked for it.
    async fn plan(&self, run: &mut Run<'_>) -> Result<Plan, GcError> {
        run.say("reading paths");
        let held = run.begin().await?;
        let mut tx = held.tx;
        let mut marks = Marks::begin(tx.exec()).await?;
        let last = db::edges::last_id(tx.exec()).await?;
        drop(tx);
        let caches = db::caches::list(self.db.reader().await?.exec()).await?;
        let mut graphs =
            Graph::load(&self.db, caches, last, run.ages.since(), run.ages.now()).await?;
        for graph in &mut graphs {
            let keeping = self.keeping(&graph.cache, &run.ages);
            let pinned = std::mem::take(&mut graph.pinned);
            graph.settle(|node| keeping.keeps_node(&pinned, node));
            graph.pinned = pinned;
        }
        run.say("reading manifests");
        marks.mark(&self.db, &graphs, run.ages.now(), run.grace).await?;
        let packs = run.load_packs().await?;
        let bounds = Bounds {
            server: self.settings.max_size.map(Size::bytes),
            stored: packs.values().map(|pack| pack.bytes).sum(),
            least_age: run.ages.cutoff(self.settings.min_age),
        };
        if limits::is_any(&graphs, bounds) {
            run.say("looking at size limits");
            let (notes, changed) = limits::enforce(&self.db, &mut graphs, &marks, bounds).await?;
            run.report.notes.extend(notes);
            if changed {
                marks.mark(&self.db, &graphs, run.ages.now(), run.grace).await?;
            }
        }
        if marks.damaged > 0 {
            run.report
                .notes
                .push(format!("{} manifests do not parse; run `snowbankd repair`", marks.damaged));
        }
        run.list_going(&graphs, &marks).await?;
        let is_pressed = bounds.server.is_some_and(|limit| bounds.stored > limit / 10 * 9);
        Ok(Plan { graphs, marks, packs, is_pressed })
    }

    fn keeping(&self, cache: &Cache, ages: &Ages) -> Keeping {
        Keeping::of(cache, self.settings.retention, ages)
    }

    async fn execute(
        &self,
        run: &mut Run<'_>,
        plan: Plan,
        request: &GcRequest,
    ) -> Result<(), GcError> {
        let Plan { mut graphs, mut marks, mut packs, is_pressed } = plan;
        if request.dry_run {
            run.report.nars = marks.removable.len() as u64;
        } else {
            crate::fault::pause("gc-after-mark").await;
            run.say(format!("removing {} paths", run.report.paths));
            for graph in &mut graphs {
                let keeping = self.keeping(&graph.cache, &run.ages);
                run.remove_paths(graph, keeping).await?;
            }
            let mut tx = self.db.upkeep_tx().await?;
            db::pins::remove_expired(tx.exec(), run.ages.now()).await?;
            tx.commit().await?;
            run.remove_nars(&mut marks).await?;
        }
        run.say("reading chunks");
        run.sweep_chunks(&graphs, &mut marks, &mut packs).await?;
        run.claim_packs(&mut packs).await?;
        run.say("listing the storage");
        run.find_unnamed(&self.storage).await?;
        if !request.dry_run {
            run.say("removing objects");
            run.remove_objects(&self.storage).await?;
        }
        if !request.no_compact && !self.settings.compact_budget.is_empty() {
            run.say("compacting");
            let worth = if is_pressed { WORTH_UNDER_PRESSURE } else { WORTH };
            let effort = Effort {
                budget: self.settings.compact_budget,
                rate: self.settings.compact_rate,
                worth,
            };
            let rewriting =
                Rewriting { packs: &self.packs, storage: &self.storage, room: &self.room, effort };
            run.compact(&rewriting, &mut packs).await?;
        }
        run.report.stored_bytes += packs.values().map(|pack| pack.bytes).sum::<u64>();
        run.report.waiting_bytes +=
            packs.values().map(|pack| pack.bytes.saturating_sub(pack.live)).sum::<u64>();
        if !request.dry_run {
            run.remove_objects(&self.storage).await?;
            run.forget_dead().await?;
            self.keep_sums(run, &graphs).await?;
        }
        Ok(())
    }

    /// Keeps what was counted, for operators and for the schedule.
    async fn keep_sums(&self, run: &mut Run<'_>, graphs: &[Graph]) -> Result<(), GcError> {
        let counted = graphs.iter().zip(&run.report.caches).map(|(graph, counted)| {
            let usage = CacheUsage {
                paths: counted.paths,
                logical: counted.logical_bytes,
                stored: counted.stored_bytes,
                own: counted.own_bytes,
            };
            (graph.cache.id.0, usage)
        });
        let usages = CacheUsages {
            counted: run.ages.now(),
            caches: counted.collect(),
            stored: run.report.stored_bytes,
            dead: run.report.waiting_bytes,
        };
        let mut tx = self.db.upkeep_tx().await?;
        usage::store_caches(tx.exec(), &usages).await?;
        settings::set(tx.exec(), COLLECTED, &run.ages.now().to_string()).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Whether a scheduled collection is due.
    async fn is_due(&self, now: i64) -> Result<bool, GcError> {
        let mut conn = self.db.reader().await?;
        let last = settings::lookup(conn.exec(), COLLECTED)
            .await?
            .and_then(|text| text.parse::<i64>().ok());
        let Some(last) = last else { return Ok(true) };
        let passed = now.saturating_sub(last);
        let interval = self
            .settings
            .interval
            .map_or(i64::MAX, |time| i64::try_from(time.get()).unwrap_or(i64::MAX));
        if passed < 0 || passed >= interval {
            return Ok(true);
        }
        // The server is above its limit by what was counted last; no oftener than every ten
        // minutes.
        let Some(limit) = self.settings.max_size else { return Ok(false) };
        let usage = usage::lookup(conn.exec()).await?.unwrap_or_default();
        Ok(usage.bytes > limit.bytes() && passed > 600 && usage.counted > last)
    }
}

struct Plan {
    graphs: Vec<Graph>,
    marks: Marks,
    packs: PackUses,
    /// Whether the server is near its size limit, or above.
    is_pressed: bool,
}

/// Collects when it is due, until `stop`.
pub async fn background(collector: Collector, stop: CancellationToken) {
    let started = Instant::now();
    loop {
        // Noted from the start on, and whether or not anything is collected, so that ages are known
        // when something is.
        if let Err(error) = ages::note(&collector.db, unix_now(), false).await {
            tracing::warn!(%error, "the time could not be noted");
        }
        if stop.run_until_cancelled(tokio::time::sleep(TURN)).await.is_none() {
            return;
        }
        if collector.settings.interval.is_none() || started.elapsed() < first(&collector.settings) {
            continue;
        }
        match collector.is_due(unix_now()).await {
            Ok(true) => {}
            Ok(false) => continue,
            Err(error) => {
                tracing::warn!(%error, "whether a collection is due could not be seen");
                continue;
            }
        }
        let mut progress = |text: String| tracing::debug!("collection: {text}");
        let request = GcRequest::default();
        match stop.run_until_cancelled(collector.run(&request, &unix_now, &mut progress)).await {
            None => return,
            // Another server does it.
            Some(Ok(_) | Err(GcError::Busy)) => {}
            Some(Err(error)) => {
                tracing::error!(%error, "a collection was not finished; the next one goes on");
            }
        }
    }
}

fn first(settings: &GcConfig) -> Duration {
    settings.interval.map_or(FIRST, |interval| FIRST.min(interval.duration()))
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
fn show(report: &GcReport) {
    metrics::counter!("snowbank_collected_paths_total").increment(if report.dry_run {
        0
    } else {
        report.paths
    });
    metrics::gauge!("snowbank_collection_seconds").set(report.milliseconds as f64 / 1_000.0);
    metrics::gauge!("snowbank_waiting_bytes").set(report.waiting_bytes as f64);
}
