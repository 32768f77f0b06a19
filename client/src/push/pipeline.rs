//! The pipeline of a push: five stages, and a router that passes events between them.
//!
//! ```text
//! read ──► ask ──► encode ──► send ──► commit
//! ```
//!
//! Each stage owns its queue and its tasks, in a file of its own: [`read`], [`ask`], [`encode`],
//! [`send`] and [`commit`]. A stage knows no other stage. Its tasks are short-lived and report
//! [`Event`]s. [`Pipeline`] is the router, and one task: it takes an event, gives the result to
//! the stage that is next, and has every stage start as many tasks as its bound permits. It never
//! waits for a stage. The state that several stages need is in [`PathTable`] and [`ChunkIndex`].
//!
//! **Memory.** Chunks, frames and bundles have permits of a budget of
//! [`PipelineLimits::budget_bytes`]; each reader has a few times the largest chunk besides.
//! Manifests of paths without an outcome are bounded by [`PipelineLimits::open_weight`]. Nothing
//! else grows with the push but the plan itself.
//!
//! **Why it never stalls.**
//!
//! 1. Only readers wait for memory, and a reader that waits holds none. Every other stage takes its
//!    input into its queue at once.
//! 2. Memory is held (a) in a window that is not full, below [`PipelineLimits::window_bytes`] and
//!    one chunk, (b) in open bundles, together below two bundles and one chunk, or (c) in a queue
//!    or a task. (a) and (b) together leave room for a chunk in the budget. So where a reader
//!    waits, (c) is not empty.
//! 3. (c) moves. A stage with a queue has a task under way, because the router starts tasks after
//!    every event. A task waits for no other task and for no memory, so it ends, and its result
//!    moves on to the next stage or gives its memory back. A result that waits for its turn waits
//!    for a task that was started earlier.
//! 4. A reader that ends makes room for the next path in order. When no reader is left, because all
//!    paths are read or because no further path may be opened, the window is flushed. When no chunk
//!    is left before the bundles, the open ones are flushed too. So all chunks of every path that
//!    was read are stored in the end.
//! 5. Paths are opened in an order in which references come first. So all references of the first
//!    open path have an outcome. That path is committed or fails, and makes room.
//!
//! The tests in `tests/stops.rs` stop each stage in turn until nothing moves, and let it go.
//!
//! **Order.** Chunks of a window are sorted by path, questions and frames are taken in the order in
//! which their tasks were started, and bundles are filled in that order, those of large paths one
//! path at a time ([`super::bundle_builders`]). Neighbors in a NAR stay neighbors in the server's
//! packs.

mod ask;
mod commit;
mod encode;
mod limits;
mod path_table;
mod read;
mod route_chunks;
mod route_paths;
mod send;
mod tasks;

use snowbank_core::store_path::StorePath;
use snowbank_core::units::Seconds;
use snowbank_core::wire::{CommitLine, PinnedGeneration, PushPin, StoredChunks};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use super::batch::Batch;
use super::bundle::Bundle;
use super::chunk_index::ChunkIndex;
use super::encoder_pool::{EncodeOutcome, EncoderPool};
use super::plan::Plan;
use super::reader::{PathChunk, ReadOutcome};
use super::target::Target;
use super::{Ledger, PushError};
use crate::api::{Api, ApiError};
use crate::progress::{Phase, Progress};
use crate::store::Store;
use ask::AskStage;
use commit::CommitStage;
use encode::EncodeStage;
use limits::{MAX_EVENTS_IN_A_ROW, MAX_WIND_DOWN, PipelineLimits, TICK};
use path_table::PathTable;
use read::ReadStage;
use send::SendStage;
use tasks::Tasks;

/// The report of a task. A path is named by its number in the plan.
enum Event {
    /// A chunk was cut.
    Chunk(PathChunk),
    /// A path was read to its end.
    Read { path: u32, outcome: ReadOutcome },
    /// Nix was asked about a path that could not be read whole.
    Examined { path: u32, outcome: ReadOutcome },
    /// A question was answered: the indexes of the chunks that the cache lacks.
    Asked { turn: u64, window: Vec<PathChunk>, answer: Result<Vec<usize>, ApiError> },
    /// Chunks were encoded.
    EncodedChunk { turn: u64, outcomes: Vec<EncodeOutcome> },
    /// A bundle was sent.
    Sent { bundle: Bundle, answer: Result<StoredChunks, ApiError> },
    /// A path was answered, perhaps with a receipt that the cache has signed.
    Line { path: u32, line: CommitLine, is_signed: bool },
    /// A batch ended; after an error, some of its paths are without an answer.
    Committed(Result<Option<PinnedGeneration>, (ApiError, Batch)>),
}

/// How to push.
#[derive(Debug, Clone)]
pub(super) struct PipelineOptions {
    /// Paths read at the same time, and chunks compressed at the same time.
    pub(super) jobs: usize,
    /// For how long the paths are kept.
    pub(super) expires: Option<Seconds>,
    /// A pin for one of the paths, to be made when that is committed.
    pub(super) pin: Option<PushPin>,
    /// A path is postponed, not failed, when the cache has lost one of its references.
    pub(super) postpones: bool,
}

/// The result of a push besides the lines in the ledger.
#[derive(Debug, Default)]
pub(super) struct PipelineOutcome {
    /// The pin, if it is known to be made.
    pub(super) pinned: Option<PinnedGeneration>,
    /// Paths with a reference that the cache has lost; they have no line in the ledger.
    pub(super) postponed: Vec<StorePath>,
}

/// The paths to push, their source and destination, and the record of the push.
pub(super) struct Context<'a> {
    pub(super) api: &'a Api,
    /// The store of the paths; `None` where nobody can be asked about them.
    pub(super) store: Option<&'a Store>,
    pub(super) target: &'a Target,
    pub(super) plan: &'a Plan,
    pub(super) ledger: &'a mut Ledger,
    pub(super) progress: &'a Progress,
}

/// A push under way: the stages, and the state that they share.
struct Pipeline<'a> {
    context: Context<'a>,
    postpones: bool,
    outcome: PipelineOutcome,
    paths: PathTable,
    chunks: ChunkIndex,
    tasks: Tasks,
    read: ReadStage,
    ask: AskStage,
    encode: EncodeStage,
    send: SendStage,
    commit: CommitStage,
}

/// Pushes all paths of the plan. The outcome of each is in the ledger.
///
/// # Errors
/// A failure that stopped the push as a whole. Paths that were under way, or were postponed, are
/// then in the ledger as failed for that reason.
pub(super) async fn run(
    context: Context<'_>,
    options: &PipelineOptions,
) -> Result<PipelineOutcome, PushError> {
    let limits = PipelineLimits::for_cache(&context.target.cache);
    let (mut pipeline, mut reports) = Pipeline::new(context, options, &limits);
    let result = pipeline.run(&mut reports).await;
    pipeline.read.stop();
    match result {
        Ok(()) => Ok(pipeline.outcome),
        Err(error) => {
            pipeline.wind_down(&error, &mut reports).await?;
            Err(error)
        }
    }
}

impl<'a> Pipeline<'a> {
    fn new(
        context: Context<'a>,
        options: &PipelineOptions,
        limits: &PipelineLimits,
    ) -> (Self, UnboundedReceiver<Event>) {
        let Context { api, target, plan, .. } = context;
        let (tasks, reports) = Tasks::new();
        let jobs = options.jobs.max(1);
        let encoders = EncoderPool::new(target.cache.compression_level, limits.never_open);
        let pipeline = Self {
            postpones: options.postpones,
            outcome: PipelineOutcome::default(),
            paths: PathTable::new(plan.paths.len()),
            chunks: ChunkIndex::default(),
            tasks,
            read: ReadStage::new(target, limits, jobs),
            ask: AskStage::new(api, limits),
            encode: EncodeStage::new(encoders, jobs),
            send: SendStage::new(api, limits),
            commit: CommitStage::new(api, target, plan, limits, options),
            context,
        };
        (pipeline, reports)
    }

    async fn run(&mut self, reports: &mut UnboundedReceiver<Event>) -> Result<(), PushError> {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        while self.paths.unfinished() > 0 {
            self.start_tasks();
            if self.is_idle() {
                return Err(PushError::Internal(format!(
                    "nothing under way with {} paths left",
                    self.paths.unfinished()
                )));
            }
            tokio::select! {
                Some(event) = reports.recv() => {
                    self.route(event)?;
                    for _ in 1..MAX_EVENTS_IN_A_ROW {
                        let Ok(event) = reports.try_recv() else { break };
                        self.route(event)?;
                    }
                }
                Some(ended) = self.tasks.join_next() => {
                    ended.map_err(|error| PushError::Internal(error.to_string()))?;
                }
                _ = ticks.tick() => self.context.progress.tick(self.phase()),
            }
        }
        Ok(())
    }

    /// Has every stage start as many tasks as it may.
    fn start_tasks(&mut self) {
        self.read.start(self.context.plan, &mut self.paths, &mut self.tasks);
        let is_reading = self.read.running() > 0;
        self.ask.start(!is_reading, &mut self.tasks);
        self.encode.start(&mut self.tasks);
        if !is_reading && !self.ask.is_busy() && !self.encode.is_busy() {
            self.send.flush();
        }
        self.send.start(&mut self.tasks);
        self.commit.start(&mut self.tasks);
    }

    /// Passes the result of a task on.
    fn route(&mut self, event: Event) -> Result<(), PushError> {
        match event {
            Event::Chunk(chunk) => {
                self.route_cut_chunk(chunk);
                Ok(())
            }
            Event::Read { path, outcome } => self.route_read(path, outcome),
            Event::Examined { path, outcome } => self.route_examined(path, &outcome),
            Event::Asked { turn, window, answer } => {
                self.ask.finish(turn, window, answer?);
                self.route_answers()
            }
            Event::EncodedChunk { turn, outcomes } => {
                self.encode.finish(turn, outcomes);
                self.route_frames()
            }
            Event::Sent { bundle, answer } => self.route_sent(bundle, answer),
            Event::Line { path, line, is_signed } => self.route_line(path, line, is_signed),
            Event::Committed(result) => self.route_committed(result),
        }
    }

    /// The phase of the push, for people.
    fn phase(&self) -> Phase {
        let is_reading = self.read.running() > 0;
        let is_storing = self.ask.running() + self.encode.running() + self.send.running() > 0;
        if !is_reading && !is_storing && self.commit.running() > 0 {
            Phase::Verifying
        } else if !is_reading && self.read.has_started_all(self.context.plan) {
            Phase::Sending
        } else {
            Phase::Uploading
        }
    }

    /// Whether no task is under way.
    fn is_idle(&self) -> bool {
        self.read.running()
            + self.ask.running()
            + self.encode.running()
            + self.send.running()
            + self.commit.running()
            == 0
    }

    /// After a failure: waits a little for commits under way, whose receipts are due, and records
    /// every other path as failed.
    async fn wind_down(
        &mut self,
        error: &PushError,
        reports: &mut UnboundedReceiver<Event>,
    ) -> Result<(), PushError> {
        let deadline = Instant::now() + MAX_WIND_DOWN;
        while self.commit.running() > 0 {
            match timeout_at(deadline, reports.recv()).await {
                Ok(Some(Event::Line { path, line, is_signed })) => {
                    if matches!(line, CommitLine::Receipt(_) | CommitLine::Different { .. }) {
                        self.route_line(path, line, is_signed)?;
                    }
                }
                // The push has its reason to fail already.
                Ok(Some(Event::Committed(result))) => drop(self.commit.finish(result)),
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => break,
            }
        }
        self.tasks.abort_all();
        let reason = format!("the push stopped before it was done: {error}");
        for path in std::mem::take(&mut self.outcome.postponed) {
            let store_path = self.context.target.full(&path);
            self.context.ledger.record_stopped(store_path, reason.clone(), error.exit())?;
        }
        for path in self.paths.numbers() {
            if self.finish(path) {
                let store_path = self.full(path);
                self.context.ledger.record_stopped(store_path, reason.clone(), error.exit())?;
            }
        }
        Ok(())
    }

    /// The store path of a number, in full.
    fn full(&self, path: u32) -> String {
        self.context.target.full(&self.context.plan.paths[path as usize].info.path)
    }
}

#[cfg(test)]
mod tests;
