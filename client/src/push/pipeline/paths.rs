//! Paths on their way: opened, read, complete, committed, done.

use snowbank_core::bundle::DEFAULT_BUNDLE_BYTES;
use snowbank_core::chunk::{Chunk, ChunkName};
use snowbank_core::manifest::WireManifest;
use snowbank_core::receipt::{Receipt, ReceiptStats};
use snowbank_core::store_path::{StorePath, StorePathHash};
use snowbank_core::wire::{CommitLine, ManifestSource, PathCommit, Pinned, code};
use tokio::runtime::Handle;

use super::super::PushError;
use super::super::budget::Held;
use super::super::commit::{self, Batch};
use super::super::fillings::MAX_OWN;
use super::super::plan::not_without;
use super::super::read::{Pending, ReadEnd};
use super::super::schedule::{BatchLimits, Cost};
use super::{COMMITS, Event, Pipeline};
use crate::api::{ApiError, ApiErrorKind};
use crate::exit::Exit;
use crate::store::dump::DumpError;

/// How often a path is read before it is given up.
const ATTEMPTS: u8 = 12;
/// Manifests up to this long travel in the commit, so that it passes any proxy; larger ones as
/// chunks of this size,
const INLINE_BYTES: usize = 256 << 10;
/// or of more when they would be more than so many.
const MAX_PIECES: usize = 16;
/// What a path takes in a commit besides its manifest and names.
const COMMIT_BYTES: usize = 512;

/// Where a path stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Stage {
    /// Not read, or to be read again.
    #[default]
    Waiting,
    /// A reader has it.
    Reading,
    /// Read to its end; some of its chunks are on their way.
    Read,
    /// Waiting for its references, or for an answer.
    Committing,
    /// It has an outcome.
    Done,
}

/// What is known of a path while it is under way.
#[derive(Debug, Default)]
pub(super) struct PathState {
    stage: Stage,
    /// Whether its weight is counted.
    open: bool,
    /// How often it was read.
    attempts: u8,
    /// Its manifest so far.
    names: Vec<ChunkName>,
    values: Vec<StorePathHash>,
    /// The chunks that its manifest was cut into, when it is a large one and they have been
    /// offered.
    pieces: Option<Vec<ChunkName>>,
    /// Chunks of it that are on their way, counted as often as they occur.
    pub(super) waiting: u32,
    /// One of its chunks has to be closed.
    pub(super) read_again: bool,
    pub(super) stats: ReceiptStats,
}

/// What a path's manifest may come to, about: a name for each chunk, and a value for each slot, of
/// which there are rarely more than one in some kilobytes.
const fn weight(nar_size: u64) -> u64 {
    (2 << 10) + nar_size / 512
}

/// Whether a NAR fills bundles of its own.
pub(super) const fn is_large(nar_size: u64) -> bool {
    nar_size >= DEFAULT_BUNDLE_BYTES as u64
}

impl Pipeline<'_> {
    pub(super) fn full(&self, path: u32) -> String {
        self.push.target.full(&self.push.plan.paths[path as usize].info.path)
    }

    /// Opens paths in order as long as there is room, and reads them.
    pub(super) fn start_readers(&mut self) {
        while self.readers < self.orders.jobs {
            let Some(path) = self.next_to_read() else { return };
            self.readers += 1;
            self.large_readers += usize::from(self.is_large(path));
            let state = &mut self.paths[path as usize];
            state.stage = Stage::Reading;
            state.attempts += 1;
            // When this path is the last, and readers are left over, so are cores.
            let is_last =
                self.next_path as usize >= self.paths.len() && self.to_read_again.is_empty();
            let to_read = self.push.plan.to_read(path, is_last && self.readers < self.orders.jobs);
            let reading = self.reading.clone();
            self.spawn_blocking(move |events| {
                let hand_over = |pending| drop(events.send(Event::Chunk(pending)));
                let end = reading.read(&to_read, hand_over);
                Event::Read { path, end }
            });
        }
    }

    fn next_to_read(&mut self) -> Option<u32> {
        while let Some(path) = self.to_read_again.pop_front() {
            if self.paths[path as usize].stage == Stage::Waiting {
                return Some(path);
            }
        }
        loop {
            let path = self.next_path;
            let state = self.paths.get_mut(path as usize)?;
            if state.stage == Stage::Waiting {
                let nar_size = self.push.plan.paths[path as usize].info.nar_size;
                if self.large_readers >= MAX_OWN && is_large(nar_size) {
                    return None;
                }
                let weight = weight(nar_size);
                if self.open_weight > 0 && self.open_weight + weight > self.tuning.open_weight {
                    return None;
                }
                self.open_weight += weight;
                state.open = true;
            }
            self.next_path += 1;
            if state.stage == Stage::Waiting {
                return Some(path);
            }
        }
    }

    /// Takes in what a reader has cut.
    pub(super) fn on_chunk(&mut self, pending: Pending) {
        let Pending { path, mut name, mut chunk, held } = pending;
        let state = &mut self.paths[path as usize];
        if state.stage != Stage::Reading {
            return;
        }
        if self.book.is_to_close(&name) {
            chunk = chunk.close();
            name = chunk.name();
        }
        state.names.push(name);
        state.values.append(&mut chunk.values);
        state.stats.chunks_total += 1;
        state.stats.bytes_total += chunk.bytes.len() as u64;
        if state.attempts == 1 {
            self.push.progress.read(chunk.bytes.len() as u64);
        }
        self.offer(Pending { path, name, chunk, held });
    }

    /// A path was read. Where its files are not those that Nix recorded, Nix is asked whether it
    /// still knows the path: while that is so, they are damaged.
    pub(super) fn on_read(&mut self, path: u32, end: ReadEnd) -> Result<(), PushError> {
        let store = match end {
            ReadEnd::Damaged { .. } | ReadEnd::Unreadable(_) => self.push.store.cloned(),
            _ => None,
        };
        let Some(store) = store else { return self.on_examined(path, &end) };
        let store_path = self.push.plan.paths[path as usize].info.path.clone();
        // The question's future stays on its thread.
        self.spawn_blocking(move |_events| {
            let answer = Handle::current().block_on(store.is_still_valid(&store_path));
            // Where Nix cannot be asked, what was seen counts.
            let is_gone = matches!(answer, Ok(false));
            Event::Examined { path, end: if is_gone { ReadEnd::Collected } else { end } }
        });
        Ok(())
    }

    /// What came of reading a path is known.
    pub(super) fn on_examined(&mut self, path: u32, end: &ReadEnd) -> Result<(), PushError> {
        self.readers -= 1;
        self.large_readers -= usize::from(self.is_large(path));
        if self.paths[path as usize].stage != Stage::Reading {
            return Ok(());
        }
        let repair = format!("to mend it, run: nix-store --repair-path {}", self.full(path));
        match end {
            ReadEnd::Whole => {
                self.paths[path as usize].stage = Stage::Read;
                self.complete_if_stored(path)
            }
            ReadEnd::Collected => self.fail(path, format!("not pushed: {end}"), Exit::Store),
            ReadEnd::Damaged { .. }
            | ReadEnd::Unreadable(DumpError::Missing { .. } | DumpError::Special { .. }) => {
                self.fail(path, format!("not pushed: {end}; {repair}"), Exit::Damaged)
            }
            ReadEnd::Unreadable(_) => self.fail(path, format!("not pushed: {end}"), Exit::Damaged),
            ReadEnd::Cut(_) | ReadEnd::Stopped => {
                self.fail(path, end.to_string(), Exit::Unexpected)
            }
        }
    }

    /// One chunk less to wait for.
    pub(super) fn arrived(&mut self, path: u32) -> Result<(), PushError> {
        let state = &mut self.paths[path as usize];
        state.waiting -= 1;
        self.complete_if_stored(path)
    }

    /// When all chunks of a path that was read are stored: commits it next, or reads it again.
    fn complete_if_stored(&mut self, path: u32) -> Result<(), PushError> {
        let state = &mut self.paths[path as usize];
        if state.stage != Stage::Read || state.waiting > 0 {
            return Ok(());
        }
        if std::mem::take(&mut state.read_again) {
            return self.read_again(path);
        }
        if let Some(pieces) = state.pieces.take() {
            self.may_be_committed(path, ManifestSource::Chunks(pieces));
            return Ok(());
        }
        let (names, values) = (std::mem::take(&mut state.names), std::mem::take(&mut state.values));
        let encoded = WireManifest { names, values }.encode();
        let most = self.push.target.cache.limits.manifest_bytes;
        if encoded.len() as u64 > most {
            let reason = format!(
                "its manifest has {} bytes, and the cache takes {most} at most",
                encoded.len()
            );
            return self.fail(path, reason, Exit::Refused);
        }
        if encoded.len() > INLINE_BYTES {
            return self.offer_manifest(path, &encoded);
        }
        self.may_be_committed(path, ManifestSource::inline(&encoded));
        Ok(())
    }

    fn may_be_committed(&mut self, path: u32, manifest: ManifestSource) {
        let (commit, cost) = self.commit_of(path, manifest);
        self.paths[path as usize].stage = Stage::Committing;
        self.commits.insert(path, commit);
        self.schedule.ready(path, cost);
    }

    /// Sends a large manifest ahead, as chunks.
    fn offer_manifest(&mut self, path: u32, encoded: &[u8]) -> Result<(), PushError> {
        let piece_bytes = encoded.len().div_ceil(MAX_PIECES).max(INLINE_BYTES);
        let mut pieces = Vec::new();
        for piece in encoded.chunks(piece_bytes) {
            let chunk = Chunk::closed(piece.to_vec());
            let name = chunk.name();
            pieces.push(name);
            // Not on the budget, which this task must never wait for: a path's weight covers its
            // manifest.
            self.offer(Pending { path, name, chunk, held: Held::default() });
        }
        self.paths[path as usize].pieces = Some(pieces);
        self.complete_if_stored(path)
    }

    fn commit_of(&self, path: u32, manifest: ManifestSource) -> (PathCommit, Cost) {
        let planned = &self.push.plan.paths[path as usize];
        let info = &planned.info;
        let references: Vec<String> = info.references.iter().map(StorePath::base_name).collect();
        let manifest_bytes = match &manifest {
            ManifestSource::Inline(text) => text.len(),
            ManifestSource::Chunks(names) => names.len() * 68,
        };
        let names_bytes: usize =
            references.iter().chain(&planned.upstream).map(|name| name.len() + 3).sum();
        let signature_bytes = info.signatures.len() * 160;
        let cost = Cost {
            request_bytes: COMMIT_BYTES + manifest_bytes + names_bytes + signature_bytes,
            nar_bytes: info.nar_size,
        };
        let commit = PathCommit {
            store_path: self.full(path),
            nar_hash: info.nar_hash,
            nar_size: info.nar_size,
            references,
            upstream: planned.upstream.clone(),
            deriver: info.deriver.as_ref().map(StorePath::base_name),
            signatures: info.signatures.iter().map(ToString::to_string).collect(),
            ca: info.ca.clone(),
            cut: Some(u32::from(self.reading.cut.id)),
            manifest,
        };
        (commit, cost)
    }

    /// Commits what can be committed.
    pub(super) fn commit(&mut self) {
        while self.committing < COMMITS {
            let Some(numbers) = self.schedule.next_batch(self.tuning.batch) else { return };
            let commits = &mut self.commits;
            let paths = numbers
                .into_iter()
                .filter_map(|path| Some((path, commits.remove(&path)?)))
                .collect();
            let batch = Batch { paths, expires: self.orders.expires, pin: self.orders.pin.clone() };
            self.committing += 1;
            let (api, events, keys) =
                (self.push.api.clone(), self.events.clone(), self.push.target.keys());
            self.spawn(async move {
                let on_line = |path, line| {
                    // Here, since it takes time, and the one task that sees all lines has other
                    // things to do.
                    let is_signed =
                        matches!(&line, CommitLine::Receipt(receipt) if receipt.verify(&keys));
                    drop(events.send(Event::Line { path, line, is_signed }));
                };
                Event::Committed(commit::commit(&api, batch, on_line).await)
            });
        }
    }

    /// An answer; `is_signed` is whether it is a receipt with a signature of the cache's.
    pub(super) fn on_line(
        &mut self,
        path: u32,
        line: CommitLine,
        is_signed: bool,
    ) -> Result<(), PushError> {
        if self.paths[path as usize].stage != Stage::Committing {
            return Ok(());
        }
        match line {
            CommitLine::Receipt(receipt) => self.on_receipt(path, receipt, is_signed),
            CommitLine::Different { nar_hash, .. } => {
                self.finish(path);
                // What refers to it may still be committed: a path of that name is there.
                self.schedule.visible(path);
                let own = self.push.plan.paths[path as usize].info.nar_hash;
                self.push.ledger.different(self.full(path), own, nar_hash)
            }
            CommitLine::ChunksMissing { missing, .. } => {
                for name in &missing {
                    self.book.forget(name);
                }
                self.read_again(path)
            }
            // A reference in the same batch has to be committed again, and so has this path after
            // it.
            CommitLine::Error { code, .. }
                if code == code::REFERENCES_MISSING
                    && !self.schedule.references_are_visible(path) =>
            {
                self.paths[path as usize].attempts -= 1;
                self.read_again(path)
            }
            // A reference that was there when the cache was asked is gone.
            CommitLine::Error { code, .. }
                if code == code::REFERENCES_MISSING && self.orders.put_off =>
            {
                self.put_off(path);
                Ok(())
            }
            CommitLine::Error { code, message, .. } => {
                let exit = match code.as_str() {
                    code::STORAGE_FULL => Exit::StorageFull,
                    code::BUSY
                    | code::STORAGE_UNAVAILABLE
                    | code::STORAGE_REFUSED
                    | code::INTERNAL => Exit::Server,
                    _ => Exit::Refused,
                };
                self.fail(path, format!("the server did not take it: {message}"), exit)
            }
            CommitLine::Heartbeat | CommitLine::End { .. } => Ok(()),
        }
    }

    fn on_receipt(
        &mut self,
        path: u32,
        mut receipt: Receipt,
        is_signed: bool,
    ) -> Result<(), PushError> {
        let info = &self.push.plan.paths[path as usize].info;
        if let Err(reason) = self.push.target.check_signed(&receipt, info, is_signed) {
            return self.fail(path, reason.to_owned(), Exit::Receipt);
        }
        receipt.stats = Some(self.paths[path as usize].stats);
        self.push.ledger.receipt(receipt)?;
        self.finish(path);
        self.schedule.visible(path);
        Ok(())
    }

    pub(super) fn on_committed(
        &mut self,
        result: Result<Option<Pinned>, (ApiError, Batch)>,
    ) -> Result<(), PushError> {
        self.committing -= 1;
        let (error, batch) = match result {
            Ok(pinned) => {
                self.done.pinned = self.done.pinned.take().or(pinned);
                return Ok(());
            }
            Err(failed) => failed,
        };
        if !matches!(error.kind(), ApiErrorKind::Rejected | ApiErrorKind::TooLarge) {
            return Err(error.into());
        }
        // One path of it may be the reason: halves, until that one is alone.
        if let [(path, _)] = batch.paths.as_slice() {
            return self.fail(*path, format!("the server did not take it: {error}"), Exit::Refused);
        }
        self.tuning.batch =
            BatchLimits { paths: (batch.paths.len() / 2).max(1), ..self.tuning.batch };
        for (path, commit) in batch.paths {
            if self.paths[path as usize].stage == Stage::Committing {
                self.commits.insert(path, commit);
                self.schedule.again(path);
            }
        }
        Ok(())
    }

    /// Has a path read once more, in place of what was read of it.
    fn read_again(&mut self, path: u32) -> Result<(), PushError> {
        let state = &mut self.paths[path as usize];
        if state.attempts >= ATTEMPTS {
            let reason = "the server lost its chunks again and again; its operator should look at \
                the storage";
            return self.fail(path, reason.to_owned(), Exit::Server);
        }
        state.stage = Stage::Waiting;
        state.names.clear();
        state.values.clear();
        state.stats.chunks_total = 0;
        state.stats.bytes_total = 0;
        self.schedule.pending(path);
        self.to_read_again.push_back(path);
        Ok(())
    }

    /// Leaves a path for another push, and with it all that refer to it.
    fn put_off(&mut self, path: u32) {
        let referrers = self.schedule.fail(path).into_iter().map(|(referrer, _)| referrer);
        for path in std::iter::once(path).chain(referrers) {
            if self.finish(path) {
                self.done.put_off.push(self.push.plan.paths[path as usize].info.path.clone());
            }
        }
    }

    /// Gives a path up, and with it all that refer to it.
    pub(super) fn fail(&mut self, path: u32, reason: String, exit: Exit) -> Result<(), PushError> {
        if !self.finish(path) {
            return Ok(());
        }
        self.push.ledger.failed(self.full(path), reason, exit)?;
        for (referrer, reference) in self.schedule.fail(path) {
            if self.finish(referrer) {
                let reason = not_without(&self.full(reference));
                self.push.ledger.failed(self.full(referrer), reason, exit)?;
            }
        }
        Ok(())
    }

    /// Notes that a path has an outcome, and lets go of what it had; whether it had none before.
    pub(super) fn finish(&mut self, path: u32) -> bool {
        let state = &mut self.paths[path as usize];
        if state.stage == Stage::Done {
            return false;
        }
        if state.open {
            self.open_weight -= weight(self.push.plan.paths[path as usize].info.nar_size);
        }
        let PathState { stats, waiting, .. } = *state;
        *state = PathState { stage: Stage::Done, stats, waiting, ..PathState::default() };
        self.commits.remove(&path);
        self.unfinished -= 1;
        self.push.progress.path_done();
        true
    }
}
