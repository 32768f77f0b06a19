//! The pipeline: one task that owns the state of a push, and short-lived tasks that read, ask,
//! encode, send and commit for it and report back as [`Event`]s.
//!
//! **Memory.** Chunks, frames and bundles are counted against [`Tuning::budget_bytes`]; each reader
//! has a few times the largest chunk besides. Manifests of paths that are not yet committed are
//! bounded by [`Tuning::open_weight`]: a path is opened only while there is room, or when no other
//! is open. Nothing else grows with what is pushed but the plan itself.
//!
//! **Why it never stalls.** Only readers wait for memory, and whoever waits holds none. What is
//! held is, at any time, (a) in the window of chunks that were not yet asked about, below
//! [`Tuning::window_bytes`] and one chunk; (b) in the bundles that are being filled, together below
//! 16 MiB and one chunk; or (c) queued for, or in the hands of, a task that ends by itself and
//! passes it on or gives it back. (a) and (b) together leave room for a chunk in the budget, so a
//! reader that waits means that (c) is not empty, and (c) moves. A reader that ends makes room for
//! the next path in order. When no reader is left, because all is read or because no further path
//! may be opened, window and bundles are flushed however little is in them, so that every path that
//! was read gets all its chunks stored. Of these the first in order has no reference that is not
//! final: paths are opened in an order in which references come first. So it is committed or fails,
//! and makes room.
//!
//! **Order.** Chunks of a window are sorted by path, questions and frames are taken in the order in
//! which they were given out, and bundles are filled in that order, those of large paths one path
//! at a time ([`Fillings`]): what a NAR has side by side stays side by side in the server's packs.

mod chunks;
mod in_order;
mod paths;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use snowbank_core::bundle::{DEFAULT_BUNDLE_BYTES, MAX_BUNDLE_ENTRIES, MIN_BUNDLE_BYTES};
use snowbank_core::store_path::StorePath;
use snowbank_core::units::Seconds;
use snowbank_core::wire::{CacheInfo, CommitLine, PathCommit, Pinned, PushPin, StoredChunks};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::book::Book;
use super::budget::Budget;
use super::bundle::Bundle;
use super::commit::Batch;
use super::encode::{Encoders, Outcome};
use super::fillings::{BundleLimits, Fillings};
use super::plan::{Plan, Target};
use super::read::{Pending, ReadEnd, Reading};
use super::schedule::{BatchLimits, Schedule};
use super::{Ledger, PushError};
use crate::api::{Api, ApiError};
use crate::progress::{Phase, Progress};
use crate::store::Store;
use in_order::InOrder;
use paths::PathState;

/// What bounds a push's memory and its requests' sizes.
#[derive(Debug, Clone, Copy)]
struct Tuning {
    /// Bytes of chunks, frames and bundles in memory.
    budget_bytes: u32,
    /// What manifests of open paths may weigh, see [`paths::weight`].
    open_weight: u64,
    /// A question is asked when its chunks have this many bytes,
    window_bytes: usize,
    /// or are so many.
    window_names: usize,
    /// The first question is asked sooner, and the first bundle sent: until then network and server
    /// have nothing to do.
    first_window_bytes: usize,
    first_bundle_bytes: usize,
    /// Bytes of a bundle.
    bundle_bytes: usize,
    /// Bounds on one commit.
    batch: BatchLimits,
    /// Treat every chunk with slots as one whose slots do not stay open: for tests.
    never_open: bool,
}

impl Tuning {
    /// What suits `cache`, and proxies that let no more through than 1 MiB.
    fn of(cache: &CacheInfo) -> Self {
        let limits = &cache.limits;
        let bundle_bytes = usize::try_from(limits.bundle_bytes).unwrap_or(usize::MAX);
        Self {
            budget_bytes: 64 << 20,
            open_weight: 32 << 20,
            window_bytes: 8 << 20,
            window_names: (limits.names_per_request as usize).clamp(1, 2048),
            first_window_bytes: 2 << 20,
            first_bundle_bytes: 1 << 20,
            bundle_bytes: bundle_bytes.clamp(MIN_BUNDLE_BYTES, DEFAULT_BUNDLE_BYTES),
            batch: BatchLimits {
                paths: (limits.paths_per_request as usize).clamp(1, 256),
                request_bytes: 512 << 10,
                nar_bytes: limits.commit_nar_bytes.min(64 << 20),
            },
            never_open: false,
        }
    }
}

/// Questions, bundles and commits under way at a time.
const QUESTIONS: usize = 4;
const BUNDLES: usize = 3;
const COMMITS: usize = 4;
const TICK: Duration = Duration::from_millis(200);
/// How long commits under way are waited for when a push is given up.
const WIND_DOWN: Duration = Duration::from_secs(10);
/// Events handled before new work is given out.
const EVENTS_AT_A_TIME: usize = 256;

/// What a task reports.
enum Event {
    /// A chunk was cut.
    Chunk(Pending),
    /// A path was read to its end.
    Read { path: u32, end: ReadEnd },
    /// Nix was asked about a path that could not be read whole.
    Examined { path: u32, end: ReadEnd },
    /// A question was answered: which of the chunks to send.
    Asked { turn: u64, window: Vec<Pending>, answer: Result<Vec<usize>, ApiError> },
    /// Chunks were encoded.
    Encoded { turn: u64, outcomes: Vec<Outcome> },
    /// A bundle was sent.
    Sent { bundle: Bundle, answer: Result<StoredChunks, ApiError> },
    /// A path was answered, perhaps with a receipt that the cache has signed.
    Line { path: u32, line: CommitLine, is_signed: bool },
    /// A commit ended; with an error, some of its paths are without an answer.
    Committed(Result<Option<Pinned>, (ApiError, Batch)>),
}

/// How to push.
#[derive(Debug, Clone)]
pub(super) struct Orders {
    /// Paths read at the same time, and chunks compressed at the same time.
    pub(super) jobs: usize,
    /// For how long the paths are kept.
    pub(super) expires: Option<Seconds>,
    /// A pin for one of the paths, to be made when that is committed.
    pub(super) pin: Option<PushPin>,
    /// What refers to something that has gone from the cache meanwhile is put off, not failed.
    pub(super) put_off: bool,
}

/// What came of a push besides what is in the ledger.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// The pin, if it is known to be made.
    pub(super) pinned: Option<Pinned>,
    /// Paths that refer to something that has gone from the cache; they have no line in the ledger.
    pub(super) put_off: Vec<StorePath>,
}

/// What is pushed, where to, and who is told.
struct Push<'a> {
    api: &'a Api,
    /// Where the paths are from; `None` where nobody can be asked about them.
    store: Option<&'a Store>,
    target: &'a Target,
    plan: &'a Plan,
    ledger: &'a mut Ledger,
    progress: &'a Progress,
}

/// A push under way.
struct Pipeline<'a> {
    push: Push<'a>,
    orders: Orders,
    done: Done,
    reading: Arc<Reading>,
    encoders: Encoders,
    tasks: JoinSet<()>,
    events: UnboundedSender<Event>,
    /// Bundles shrink when a proxy refuses one, commits when the server does.
    tuning: Tuning,

    paths: Vec<PathState>,
    schedule: Schedule,
    book: Book,
    /// Paths without an outcome.
    unfinished: usize,

    /// The next path that was never read.
    next_path: u32,
    /// Paths to be read again.
    to_read_again: VecDeque<u32>,
    open_weight: u64,
    readers: usize,
    /// Of these, readers of large paths.
    large_readers: usize,

    window: Vec<Pending>,
    window_bytes: usize,
    questions: InOrder<(Vec<Pending>, Vec<usize>)>,
    to_encode: VecDeque<Pending>,
    encodings: InOrder<Vec<Outcome>>,

    fillings: Fillings,
    /// A bundle was filled.
    has_filled: bool,
    /// A bundle was refused for its size, and none has passed since: one at a time.
    probing: bool,
    to_send: VecDeque<Bundle>,
    sending: usize,

    /// Paths whose chunks are all stored, until they are in a batch.
    commits: HashMap<u32, PathCommit>,
    committing: usize,
}

/// Pushes all paths of `plan`. What came of each is in `ledger`.
///
/// # Errors
/// What stopped the push as a whole. Paths that were under way, or were put off, are then in the
/// ledger as failed for that reason.
pub(super) async fn run(
    api: &Api,
    store: &Store,
    target: &Target,
    plan: Plan,
    orders: Orders,
    ledger: &mut Ledger,
    progress: &Progress,
) -> Result<Done, PushError> {
    let (events, mut reports) = unbounded_channel();
    let push = Push { api, store: Some(store), target, plan: &plan, ledger, progress };
    let mut pipeline = Pipeline::new(push, orders, Tuning::of(&target.cache), events);
    let result = pipeline.run(&mut reports).await;
    pipeline.reading.budget.close();
    pipeline.reading.stop.store(true, Ordering::Relaxed);
    match result {
        Ok(()) => Ok(pipeline.done),
        Err(error) => {
            pipeline.wind_down(&error, &mut reports).await?;
            Err(error)
        }
    }
}

impl<'a> Pipeline<'a> {
    fn new(push: Push<'a>, orders: Orders, tuning: Tuning, events: UnboundedSender<Event>) -> Self {
        let (cache, plan) = (&push.target.cache, push.plan);
        let reading = Reading {
            store_dir: push.target.store_dir.clone(),
            cut: cache.cut,
            budget: Budget::new(tuning.budget_bytes),
            stop: Arc::default(),
        };
        Self {
            orders: Orders { jobs: orders.jobs.max(1), ..orders },
            done: Done::default(),
            reading: Arc::new(reading),
            encoders: Encoders::new(cache.compression_level, tuning.never_open),
            tasks: JoinSet::new(),
            events,
            tuning,
            paths: plan.paths.iter().map(|_| PathState::default()).collect(),
            schedule: Schedule::new(plan.paths.iter().map(|path| path.references.as_slice())),
            book: Book::default(),
            unfinished: plan.paths.len(),
            next_path: 0,
            to_read_again: VecDeque::new(),
            open_weight: 0,
            readers: 0,
            large_readers: 0,
            window: Vec::new(),
            window_bytes: 0,
            questions: InOrder::default(),
            to_encode: VecDeque::new(),
            encodings: InOrder::default(),
            fillings: Fillings::default(),
            has_filled: false,
            probing: false,
            to_send: VecDeque::new(),
            sending: 0,
            commits: HashMap::new(),
            committing: 0,
            push,
        }
    }

    async fn run(&mut self, reports: &mut UnboundedReceiver<Event>) -> Result<(), PushError> {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        while self.unfinished > 0 {
            self.give_out_work();
            if self.unfinished > 0 && self.is_idle() {
                return Err(PushError::Internal(format!(
                    "nothing under way with {} paths left",
                    self.unfinished
                )));
            }
            tokio::select! {
                Some(event) = reports.recv() => {
                    self.handle(event)?;
                    for _ in 1..EVENTS_AT_A_TIME {
                        let Ok(event) = reports.try_recv() else { break };
                        self.handle(event)?;
                    }
                }
                Some(ended) = self.tasks.join_next() => {
                    ended.map_err(|error| PushError::Internal(error.to_string()))?;
                }
                _ = ticks.tick() => self.push.progress.tick(self.phase()),
            }
        }
        Ok(())
    }

    /// Starts whatever can be started.
    fn give_out_work(&mut self) {
        self.start_readers();
        self.ask();
        self.encode();
        self.flush();
        self.send();
        self.commit();
    }

    fn handle(&mut self, event: Event) -> Result<(), PushError> {
        match event {
            Event::Chunk(pending) => {
                self.on_chunk(pending);
                Ok(())
            }
            Event::Read { path, end } => self.on_read(path, end),
            Event::Examined { path, end } => self.on_examined(path, &end),
            Event::Asked { turn, window, answer } => {
                self.questions.back(turn, (window, answer?));
                self.on_answers()
            }
            Event::Encoded { turn, outcomes } => {
                self.encodings.back(turn, outcomes);
                self.on_encoded()
            }
            Event::Sent { bundle, answer } => self.on_sent(bundle, answer),
            Event::Line { path, line, is_signed } => self.on_line(path, line, is_signed),
            Event::Committed(result) => self.on_committed(result),
        }
    }

    /// What is going on, in a word.
    fn phase(&self) -> Phase {
        let is_reading = self.readers > 0;
        let is_asking = self.questions.out() + self.encodings.out() > 0;
        let is_all_read =
            self.next_path as usize >= self.paths.len() && self.to_read_again.is_empty();
        if !is_reading && !is_asking && self.sending == 0 && self.committing > 0 {
            Phase::Verifying
        } else if !is_reading && is_all_read {
            Phase::Sending
        } else {
            Phase::Uploading
        }
    }

    /// Whether no task is under way.
    fn is_idle(&self) -> bool {
        self.readers + self.questions.out() + self.encodings.out() + self.sending + self.committing
            == 0
    }

    /// What one bundle may have now.
    fn bundle_limits(&self) -> BundleLimits {
        let Tuning { first_bundle_bytes, bundle_bytes, .. } = self.tuning;
        let bytes =
            if self.has_filled { bundle_bytes } else { first_bundle_bytes.min(bundle_bytes) };
        let entries =
            (self.push.target.cache.limits.bundle_entries as usize).clamp(1, MAX_BUNDLE_ENTRIES);
        BundleLimits { bytes, entries }
    }

    /// Whether a path fills bundles of its own.
    fn is_large(&self, path: u32) -> bool {
        paths::is_large(self.push.plan.paths[path as usize].info.nar_size)
    }

    /// Runs `work` as a task of the push; it ends with the push.
    fn spawn(&mut self, work: impl Future<Output = Event> + Send + 'static) {
        let events = self.events.clone();
        // Where nobody listens any more, the push has ended.
        self.tasks.spawn(async move { drop(events.send(work.await)) });
    }

    /// Runs `work` on a thread that may block.
    fn spawn_blocking(
        &mut self,
        work: impl FnOnce(&UnboundedSender<Event>) -> Event + Send + 'static,
    ) {
        let events = self.events.clone();
        self.tasks.spawn_blocking(move || drop(events.send(work(&events))));
    }

    /// After a failure: waits a little for commits under way, whose receipts are due, and notes
    /// every other path as failed.
    async fn wind_down(
        &mut self,
        error: &PushError,
        reports: &mut UnboundedReceiver<Event>,
    ) -> Result<(), PushError> {
        let deadline = tokio::time::Instant::now() + WIND_DOWN;
        while self.committing > 0 {
            match tokio::time::timeout_at(deadline, reports.recv()).await {
                Ok(Some(Event::Line { path, line, is_signed })) => {
                    if matches!(line, CommitLine::Receipt(_) | CommitLine::Different { .. }) {
                        self.on_line(path, line, is_signed)?;
                    }
                }
                Ok(Some(Event::Committed(_))) => self.committing -= 1,
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => break,
            }
        }
        self.tasks.abort_all();
        let reason = format!("the push stopped before it was done: {error}");
        for path in std::mem::take(&mut self.done.put_off) {
            self.push.ledger.given_up(
                self.push.target.full(&path),
                reason.clone(),
                error.exit(),
            )?;
        }
        for path in (0..).take(self.paths.len()) {
            if self.finish(path) {
                self.push.ledger.given_up(self.full(path), reason.clone(), error.exit())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
