//! The stage that commits paths whose chunks are all stored.
//!
//! Owns the [`Schedule`], which says when a path may be committed, the requests of paths that wait
//! for that, and at most [`MAX_COMMITS`] batches under way. The requests that wait are bounded by
//! the room for open paths: each is the manifest of one.
//!
//! A batch that the server refuses as a whole is halved until the one path is found that is the
//! reason. The meaning of an answer for its path is left to the router.

use std::collections::HashMap;
use std::sync::Arc;

use snowbank_core::signing::PublicKey;
use snowbank_core::units::Seconds;
use snowbank_core::wire::{CommitLine, PathCommit, PinnedGeneration, PushPin};

use super::super::batch::{self, Batch};
use super::super::plan::Plan;
use super::super::schedule::{BatchCost, BatchLimits, Schedule};
use super::super::target::Target;
use super::limits::{MAX_COMMITS, PipelineLimits};
use super::tasks::Tasks;
use super::{Event, PipelineOptions};
use crate::api::{Api, ApiError, ApiErrorKind};

/// Paths that wait to be committed, or are being committed.
pub(super) struct CommitStage {
    api: Api,
    /// The keys of the cache, for the signatures of receipts.
    keys: Arc<[PublicKey]>,
    expires: Option<Seconds>,
    pin: Option<PushPin>,
    schedule: Schedule,
    /// Paths whose chunks are all stored, until they are in a batch.
    requests: HashMap<u32, PathCommit>,
    /// Bounds on a batch; they shrink when the server refuses one.
    limits: BatchLimits,
    running: usize,
}

/// The result of a batch besides the answers for its paths.
pub(super) enum BatchOutcome {
    /// Every path has its answer; the pin, if one is known to be made.
    Answered(Option<PinnedGeneration>),
    /// The server refused it, and its paths are committed again in smaller batches.
    Split,
    /// The server refused this path.
    Refused(u32, ApiError),
}

impl CommitStage {
    pub(super) fn new(
        api: &Api,
        target: &Target,
        plan: &Plan,
        limits: &PipelineLimits,
        options: &PipelineOptions,
    ) -> Self {
        Self {
            api: api.clone(),
            keys: target.keys(),
            expires: options.expires,
            pin: options.pin.clone(),
            schedule: Schedule::new(plan.paths.iter().map(|path| path.references.as_slice())),
            requests: HashMap::new(),
            limits: limits.batch,
            running: 0,
        }
    }

    /// Adds a path whose chunks are all stored.
    pub(super) fn add(&mut self, path: u32, request: PathCommit, cost: BatchCost) {
        self.requests.insert(path, request);
        self.schedule.mark_ready(path, cost);
    }

    /// Commits the paths that may be committed.
    pub(super) fn start(&mut self, tasks: &mut Tasks) {
        while self.running < MAX_COMMITS {
            let Some(numbers) = self.schedule.next_batch(self.limits) else { return };
            let paths = numbers
                .into_iter()
                .filter_map(|path| Some((path, self.requests.remove(&path)?)))
                .collect();
            let batch = Batch { paths, expires: self.expires, pin: self.pin.clone() };
            self.running += 1;
            let (api, keys) = (self.api.clone(), Arc::clone(&self.keys));
            tasks.spawn(|events| async move {
                let on_line = |path, line| {
                    // Here, since it takes time, and the router has other things to do.
                    let is_signed =
                        matches!(&line, CommitLine::Receipt(receipt) if receipt.verify(&keys));
                    drop(events.send(Event::Line { path, line, is_signed }));
                };
                Event::Committed(batch::commit(&api, batch, on_line).await)
            });
        }
    }

    /// Takes the end of a batch.
    ///
    /// # Errors
    /// A failure that stops the push.
    pub(super) fn finish(
        &mut self,
        result: Result<Option<PinnedGeneration>, (ApiError, Batch)>,
    ) -> Result<BatchOutcome, ApiError> {
        self.running -= 1;
        let (error, batch) = match result {
            Ok(pinned) => return Ok(BatchOutcome::Answered(pinned)),
            Err(failure) => failure,
        };
        if !matches!(error.kind(), ApiErrorKind::Rejected | ApiErrorKind::TooLarge) {
            return Err(error);
        }
        if let [(path, _)] = batch.paths.as_slice() {
            return Ok(BatchOutcome::Refused(*path, error));
        }
        self.limits.paths = (batch.paths.len() / 2).max(1);
        for (path, request) in batch.paths {
            if self.schedule.requeue(path) {
                self.requests.insert(path, request);
            }
        }
        Ok(BatchOutcome::Split)
    }

    /// Takes a path back, whose chunks have to be sent again.
    pub(super) fn withdraw(&mut self, path: u32) {
        self.requests.remove(&path);
        self.schedule.mark_pending(path);
    }

    /// The cache has the path.
    pub(super) fn mark_visible(&mut self, path: u32) {
        self.schedule.mark_visible(path);
    }

    /// Gives a path up. Gives all paths that are given up with it, each with the reference that is
    /// the reason.
    pub(super) fn fail(&mut self, path: u32) -> Vec<(u32, u32)> {
        self.schedule.fail(path)
    }

    /// Drops the request of a path that has an outcome.
    pub(super) fn close(&mut self, path: u32) {
        self.requests.remove(&path);
    }

    /// Whether the cache has all references of the path.
    pub(super) fn references_are_visible(&self, path: u32) -> bool {
        self.schedule.references_are_visible(path)
    }

    /// Batches under way.
    pub(super) const fn running(&self) -> usize {
        self.running
    }

    #[cfg(test)]
    pub(super) fn assert_bounded(&self) {
        assert!(self.running <= MAX_COMMITS);
    }
}
