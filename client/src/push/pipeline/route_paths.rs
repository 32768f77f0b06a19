//! The router's part about paths: read, stored, committed, and given an outcome.
//!
//! Every path gets one outcome, and with it a line in the ledger or a place among the postponed
//! paths. A path that fails takes all paths with it that refer to it.

use snowbank_core::receipt::Receipt;
use snowbank_core::wire::{CommitLine, ManifestSource, PinnedGeneration, code};

use super::super::PushError;
use super::super::batch::Batch;
use super::super::budget::Permit;
use super::super::commit_request::{MAX_INLINE_BYTES, manifest_pieces, path_commit};
use super::super::plan::{PlannedPath, reference_not_pushed};
use super::super::reader::{PathChunk, ReadOutcome};
use super::Pipeline;
use super::commit::BatchOutcome;
use super::path_table::NextStep;
use super::read::ReadStage;
use crate::api::ApiError;
use crate::exit::Exit;
use crate::store::dump::DumpError;

impl<'a> Pipeline<'a> {
    /// A path was read. Where its files are not those that Nix recorded, Nix is asked whether it
    /// still knows the path.
    pub(super) fn route_read(&mut self, path: u32, outcome: ReadOutcome) -> Result<(), PushError> {
        let is_suspect =
            matches!(outcome, ReadOutcome::Damaged { .. } | ReadOutcome::Unreadable(_));
        match self.context.store.filter(|_| is_suspect) {
            None => self.route_examined(path, &outcome),
            Some(store) => {
                let store_path = &self.planned(path).info.path;
                ReadStage::examine(path, outcome, store, store_path, &mut self.tasks);
                Ok(())
            }
        }
    }

    /// The outcome of reading a path is final.
    pub(super) fn route_examined(
        &mut self,
        path: u32,
        outcome: &ReadOutcome,
    ) -> Result<(), PushError> {
        self.read.finish(self.planned(path));
        if !self.paths.is_reading(path) {
            return Ok(());
        }
        match outcome {
            ReadOutcome::Whole => {
                self.paths.finish_reading(path);
                self.take_next_step(path)
            }
            ReadOutcome::Collected => {
                self.fail(path, format!("not pushed: {outcome}"), Exit::Store)
            }
            ReadOutcome::Damaged { .. }
            | ReadOutcome::Unreadable(DumpError::Missing { .. } | DumpError::Special { .. }) => {
                let repair =
                    format!("to mend it, run: nix-store --repair-path {}", self.full(path));
                self.fail(path, format!("not pushed: {outcome}; {repair}"), Exit::Damaged)
            }
            ReadOutcome::Unreadable(_) => {
                self.fail(path, format!("not pushed: {outcome}"), Exit::Damaged)
            }
            ReadOutcome::Cut(_) | ReadOutcome::Stopped => {
                self.fail(path, outcome.to_string(), Exit::Unexpected)
            }
        }
    }

    /// Moves a path on, if it is read and all its chunks are stored.
    pub(super) fn take_next_step(&mut self, path: u32) -> Result<(), PushError> {
        match self.paths.take_next_step(path) {
            None => Ok(()),
            Some(NextStep::ReadAgain) => self.read_again(path),
            Some(NextStep::SendManifest(manifest)) => self.send_manifest(path, &manifest.encode()),
            Some(NextStep::Commit(pieces)) => {
                self.commit_path(path, ManifestSource::Chunks(pieces));
                Ok(())
            }
        }
    }

    /// Has a path committed with its manifest inside, or sends a large one ahead as chunks.
    fn send_manifest(&mut self, path: u32, encoded: &[u8]) -> Result<(), PushError> {
        let (bytes, max) = (encoded.len(), self.context.target.cache.limits.manifest_bytes);
        if bytes as u64 > max {
            let reason =
                format!("its manifest has {bytes} bytes, and the cache takes {max} at most");
            return self.fail(path, reason, Exit::Refused);
        }
        if bytes <= MAX_INLINE_BYTES {
            self.commit_path(path, ManifestSource::inline(encoded));
            return Ok(());
        }
        let mut pieces = Vec::new();
        for chunk in manifest_pieces(encoded) {
            let name = chunk.name();
            pieces.push(name);
            // No permit, for which this task must never wait: the room for open paths covers their
            // manifests.
            self.store_chunk(PathChunk { path, name, chunk, permit: Permit::default() });
        }
        self.paths.set_pieces(path, pieces);
        self.take_next_step(path)
    }

    fn commit_path(&mut self, path: u32, manifest: ManifestSource) {
        let (request, cost) = path_commit(self.planned(path), self.context.target, manifest);
        self.paths.start_committing(path);
        self.commit.add(path, request, cost);
    }

    /// The answer for a path; `is_signed` is whether it is a receipt with a signature of the
    /// cache's.
    pub(super) fn route_line(
        &mut self,
        path: u32,
        line: CommitLine,
        is_signed: bool,
    ) -> Result<(), PushError> {
        if !self.paths.is_committing(path) {
            return Ok(());
        }
        match line {
            CommitLine::Receipt(receipt) => self.route_receipt(path, receipt, is_signed),
            CommitLine::Different { nar_hash, .. } => {
                self.finish(path);
                // Paths that refer to it may still be committed: a path of that name is there.
                self.commit.mark_visible(path);
                let own = self.planned(path).info.nar_hash;
                self.context.ledger.record_different(self.full(path), own, nar_hash)
            }
            CommitLine::ChunksMissing { missing, .. } => {
                for name in &missing {
                    self.chunks.forget(name);
                }
                self.read_again(path)
            }
            CommitLine::Error { code, message, .. } => self.route_refusal(path, &code, &message),
            CommitLine::Heartbeat | CommitLine::End { .. } => Ok(()),
        }
    }

    fn route_receipt(
        &mut self,
        path: u32,
        mut receipt: Receipt,
        is_signed: bool,
    ) -> Result<(), PushError> {
        let info = &self.planned(path).info;
        if let Err(reason) = self.context.target.check_signed(&receipt, info, is_signed) {
            return self.fail(path, reason.to_owned(), Exit::Receipt);
        }
        receipt.stats = Some(self.paths.stats(path));
        self.context.ledger.record_receipt(receipt)?;
        self.finish(path);
        self.commit.mark_visible(path);
        Ok(())
    }

    fn route_refusal(&mut self, path: u32, code: &str, message: &str) -> Result<(), PushError> {
        if code == code::REFERENCES_MISSING {
            // A reference in the same batch has to be committed again, and this path after it.
            if !self.commit.references_are_visible(path) {
                self.paths.forgive_attempt(path);
                return self.read_again(path);
            }
            // A reference that was there when the cache was asked is gone.
            if self.postpones {
                self.postpone(path);
                return Ok(());
            }
        }
        let exit = match code {
            code::STORAGE_FULL => Exit::StorageFull,
            code::BUSY | code::STORAGE_UNAVAILABLE | code::STORAGE_REFUSED | code::INTERNAL => {
                Exit::Server
            }
            _ => Exit::Refused,
        };
        self.fail(path, refused(message), exit)
    }

    /// A batch has ended.
    pub(super) fn route_committed(
        &mut self,
        result: Result<Option<PinnedGeneration>, (ApiError, Batch)>,
    ) -> Result<(), PushError> {
        match self.commit.finish(result)? {
            BatchOutcome::Answered(pinned) => {
                self.outcome.pinned = self.outcome.pinned.take().or(pinned);
                Ok(())
            }
            BatchOutcome::Split => Ok(()),
            BatchOutcome::Refused(path, error) => {
                self.fail(path, refused(&error.to_string()), Exit::Refused)
            }
        }
    }

    /// Has a path read once more, in place of everything read of it before.
    fn read_again(&mut self, path: u32) -> Result<(), PushError> {
        if !self.paths.reset(path) {
            let reason = "the server lost its chunks again and again; its operator should look at \
                the storage";
            return self.fail(path, reason.to_owned(), Exit::Server);
        }
        self.commit.withdraw(path);
        self.read.read_again(path);
        Ok(())
    }

    /// Leaves a path for another push, and with it all that refer to it.
    fn postpone(&mut self, path: u32) {
        let referrers = self.commit.fail(path).into_iter().map(|(referrer, _)| referrer);
        for path in std::iter::once(path).chain(referrers) {
            if self.finish(path) {
                let store_path = self.planned(path).info.path.clone();
                self.outcome.postponed.push(store_path);
            }
        }
    }

    /// Gives a path up, and with it all that refer to it.
    pub(super) fn fail(&mut self, path: u32, reason: String, exit: Exit) -> Result<(), PushError> {
        if !self.finish(path) {
            return Ok(());
        }
        self.context.ledger.record_failed(self.full(path), reason, exit)?;
        for (referrer, reference) in self.commit.fail(path) {
            if self.finish(referrer) {
                let reason = reference_not_pushed(&self.full(reference));
                self.context.ledger.record_failed(self.full(referrer), reason, exit)?;
            }
        }
        Ok(())
    }

    /// Notes that a path has an outcome, and drops everything that the stages have of it. `false`
    /// where it had an outcome before.
    pub(super) fn finish(&mut self, path: u32) -> bool {
        let is_first = self.paths.finish(path);
        if is_first {
            self.read.close(path);
            self.commit.close(path);
            self.context.progress.path_done();
        }
        is_first
    }

    fn planned(&self, path: u32) -> &'a PlannedPath {
        &self.context.plan.paths[path as usize]
    }
}

fn refused(message: &str) -> String {
    format!("the server did not take it: {message}")
}
