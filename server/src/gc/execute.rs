//! Execution of a plan, in small transactions.
//!
//! The order is that of the invariants: path rows, NAR rows, chunk rows, packs, objects. Objects
//! are removed before anything is written, so that a full disk can be collected. Compaction, which
//! writes packs, comes last and stops where there is no room. An execution may be interrupted at
//! any point: nothing is remembered except what the rows say, so that the next collection goes on.
//!
//! Each stage has a file. Whatever a stage keeps that was planned to go, the stages after it keep
//! too: a path that is wanted again keeps its NAR, a NAR its chunks, a chunk its pack.

mod chunks;
mod nars;
mod objects;
mod paths;
mod rewrite;

use snowbank_core::units::Size;
use snowbank_core::wire::admin::collection::{GcCache, GcReport};

use super::cutoffs::Cutoffs;
use super::plan::graph::{Graph, PathState};
use super::plan::{Plan, cache_reports, count_paths, removed_paths};
use super::transactions::Transactions;
use super::{COLLECTED_AT, GcError, Progress};
use crate::db::usage::{self, CacheUsage, CacheUsages};
use crate::db::{self, settings};
use crate::pack::Packs;
use crate::storage::{FreeSpace, Storage};
use chunks::ChunkRemoval;
use objects::ObjectRemoval;
use rewrite::{RewriteStats, Rewriter};

/// Executes the plan of one collection.
pub(super) struct Executor<'a> {
    transactions: &'a Transactions<'a>,
    cutoffs: &'a Cutoffs,
    packs: &'a Packs,
    room: &'a FreeSpace,
    /// Bytes that compaction writes in a second.
    rate: Size,
    objects: ObjectRemoval<'a>,
}

impl<'a> Executor<'a> {
    /// Nothing is done yet. `rate` is how many bytes compaction may write in a second.
    pub(super) fn new(
        transactions: &'a Transactions<'a>,
        cutoffs: &'a Cutoffs,
        storage: &'a Storage,
        (packs, room, rate): (&'a Packs, &'a FreeSpace, Size),
    ) -> Self {
        let objects = ObjectRemoval::new(transactions, storage, cutoffs.claimed_before());
        Self { transactions, cutoffs, packs, room, rate, objects }
    }

    /// Removes the objects that earlier collections have claimed. This needs no plan, and may make
    /// the room that the execution of one takes.
    pub(super) async fn remove_claimed_objects(&mut self) -> Result<(), GcError> {
        self.objects.remove().await
    }

    /// Does what the plan says, as far as it still holds.
    ///
    /// # Errors
    /// See [`GcError`]. What was done before stays done.
    pub(super) async fn execute(
        mut self,
        plan: Plan,
        progress: Progress<'_>,
    ) -> Result<GcReport, GcError> {
        crate::fault::pause("gc-after-mark").await;
        let (transactions, cutoffs) = (self.transactions, self.cutoffs);
        let Plan { mut graphs, mut nars, mut marks, mut packs, mut rewrites, mut notes, .. } = plan;
        progress(format!("removing {} paths", plan.paths));
        for graph in &mut graphs {
            notes.extend(paths::remove(transactions, cutoffs, graph).await?);
        }
        self.remove_expired_pins().await?;
        nars.correct(&graphs);
        let nars = nars::remove(transactions, cutoffs, nars, &mut marks).await?;
        progress(format!("removing {} chunks", plan.chunks.ids.len()));
        let chunks = ChunkRemoval::run(transactions, plan.chunks, marks, &mut packs).await?;
        chunks.correct(&mut rewrites);
        let (claimed, freed_bytes) =
            objects::claim_empty_packs(transactions, cutoffs, plan.empty_packs, &mut packs).await?;
        objects::claim_unnamed(transactions, cutoffs, &plan.unnamed).await?;
        progress("removing objects".to_owned());
        self.objects.remove().await?;
        if !rewrites.is_empty() {
            progress("compacting".to_owned());
        }
        let rewriter = Rewriter {
            transactions,
            cutoffs,
            packs: self.packs,
            room: self.room,
            rate: self.rate,
            objects: &mut self.objects,
            uses: &mut packs,
            rewritten: RewriteStats::default(),
        };
        let rewritten = rewriter.run(rewrites).await?;
        notes.extend(rewritten.notes);
        self.objects.remove().await?;
        objects::free_keys(transactions, cutoffs).await?;

        let is_removed = |graph: &Graph, index| graph.node(index).state == PathState::Removed;
        let (paths, nar_bytes) = count_paths(&graphs, &plan.nar_sizes, is_removed);
        let report = GcReport {
            longest_lock_milliseconds: transactions.longest_milliseconds(),
            caches: cache_reports(&graphs, &plan.cache_bytes, &plan.nar_sizes),
            paths,
            going: removed_paths(plan.listed, &graphs),
            nar_bytes,
            nars,
            chunks: chunks.removed(),
            chunk_bytes: chunks.removed_bytes(),
            packs: claimed,
            freed_bytes,
            compacted_packs: rewritten.packs,
            compacted_bytes: rewritten.freed_bytes,
            waiting_bytes: plan.waiting_bytes + packs.dead_bytes(),
            objects: self.objects.removed(),
            failed_objects: self.objects.failed(),
            unnamed_objects: plan.unnamed.len() as u64,
            stored_bytes: packs.stored_bytes() + rewritten.written_bytes,
            notes,
            ..GcReport::default()
        };
        self.store_usage(&graphs, &report).await?;
        Ok(report)
    }

    async fn remove_expired_pins(&self) -> Result<(), GcError> {
        let mut tx = self.transactions.db().upkeep_tx().await?;
        db::pins::remove_expired(tx.exec(), self.cutoffs.now()).await?;
        Ok(tx.commit().await?)
    }

    /// Stores the sums, for operators, and the time, for the schedule.
    async fn store_usage(&self, graphs: &[Graph], report: &GcReport) -> Result<(), GcError> {
        let usage = |(graph, counted): (&Graph, &GcCache)| {
            let usage = CacheUsage {
                paths: counted.paths,
                logical: counted.logical_bytes,
                stored: counted.stored_bytes,
                own: counted.own_bytes,
            };
            (graph.cache.id.0, usage)
        };
        let usages = CacheUsages {
            counted: self.cutoffs.now(),
            caches: graphs.iter().zip(&report.caches).map(usage).collect(),
            stored: report.stored_bytes,
            dead: report.waiting_bytes,
        };
        let mut tx = self.transactions.db().upkeep_tx().await?;
        usage::store_caches(tx.exec(), &usages).await?;
        settings::set(tx.exec(), COLLECTED_AT, &self.cutoffs.now().to_string()).await?;
        Ok(tx.commit().await?)
    }
}
