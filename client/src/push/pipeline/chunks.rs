//! Chunks on their way: window, question, encoding, bundle, acknowledgement.

use snowbank_core::chunk::ChunkName;
use snowbank_core::wire::StoredChunks;

use super::super::PushError;
use super::super::book::Standing;
use super::super::bundle::Bundle;
use super::super::encode::Outcome;
use super::super::read::Pending;
use super::{BUNDLES, Event, Pipeline, QUESTIONS, Tuning};
use crate::api::{ApiError, ApiErrorKind};
use crate::exit::Exit;

/// What one task encodes: chunks up to these bytes, or so many.
const JOB_BYTES: usize = 256 << 10;
const JOB_CHUNKS: usize = 64;

impl Pipeline<'_> {
    /// Takes a chunk in whose path waits for it until it is stored.
    pub(super) fn offer(&mut self, pending: Pending) {
        let bytes = pending.chunk.bytes.len();
        let state = &mut self.paths[pending.path as usize];
        match self.book.meet(pending.name, pending.path) {
            Standing::Known => self.push.progress.deduplicated(bytes as u64),
            Standing::InFlight => {
                state.waiting += 1;
                self.push.progress.deduplicated(bytes as u64);
            }
            Standing::New => {
                state.waiting += 1;
                self.window_bytes += bytes;
                self.window.push(pending);
            }
        }
    }

    /// Asks about a window that is full, or about any when no more chunks come.
    pub(super) fn ask(&mut self) {
        while self.questions.out() < QUESTIONS && !self.window.is_empty() {
            let Tuning { first_window_bytes, window_bytes, window_names, .. } = self.tuning;
            let bytes =
                if self.questions.has_started() { window_bytes } else { first_window_bytes };
            let full = self.window.len() >= window_names || self.window_bytes >= bytes;
            if !full && self.readers > 0 {
                return;
            }
            let rest = self.window.split_off(self.window.len().min(self.tuning.window_names));
            let mut window = std::mem::replace(&mut self.window, rest);
            self.window_bytes = self.window.iter().map(|pending| pending.chunk.bytes.len()).sum();
            window.sort_by_key(|pending| pending.path);
            let turn = self.questions.start();
            let api = self.push.api.clone();
            self.spawn(async move {
                let names: Vec<ChunkName> = window.iter().map(|pending| pending.name).collect();
                let answer = api.missing_chunks(&names).await;
                Event::Asked { turn, window, answer }
            });
        }
    }

    /// Chunks that were asked about are stored already, or have to be sent.
    pub(super) fn on_answers(&mut self) -> Result<(), PushError> {
        while let Some((window, missing)) = self.questions.take() {
            let mut missing = missing.into_iter().peekable();
            for (index, pending) in window.into_iter().enumerate() {
                if missing.next_if_eq(&index).is_some() {
                    self.to_encode.push_back(pending);
                } else {
                    self.push.progress.deduplicated(pending.chunk.bytes.len() as u64);
                    self.settle(pending.name, None)?;
                }
            }
        }
        Ok(())
    }

    /// Gives chunks to encoders that are free.
    pub(super) fn encode(&mut self) {
        while self.encodings.out() < self.orders.jobs && !self.to_encode.is_empty() {
            let mut bytes = 0;
            let ours = self.to_encode.iter().take(JOB_CHUNKS).take_while(|pending| {
                let first = bytes == 0;
                bytes += pending.chunk.bytes.len();
                first || bytes <= JOB_BYTES
            });
            let count = ours.count();
            let chunks: Vec<Pending> = self.to_encode.drain(..count).collect();
            let turn = self.encodings.start();
            let encoders = self.encoders.clone();
            self.spawn_blocking(move |_| Event::Encoded {
                turn,
                outcomes: encoders.encode_all(chunks),
            });
        }
    }

    /// Puts frames into bundles.
    pub(super) fn on_encoded(&mut self) -> Result<(), PushError> {
        while let Some(outcomes) = self.encodings.take() {
            for outcome in outcomes {
                self.on_outcome(outcome)?;
            }
        }
        Ok(())
    }

    fn on_outcome(&mut self, outcome: Outcome) -> Result<(), PushError> {
        match outcome {
            Outcome::Frame { path, encoded, held } => {
                let (limits, is_large) = (self.bundle_limits(), self.is_large(path));
                let full = self.fillings.add(path, is_large, &encoded, held, limits);
                self.has_filled |= !full.is_empty();
                self.to_send.extend(full);
            }
            // Each path has values of its own in such a chunk. They are read again, and then the
            // chunk is closed.
            Outcome::Close(name) => {
                self.book.close_from_now_on(name);
                for path in self.book.abandon(&name) {
                    self.paths[path as usize].read_again = true;
                    self.arrived(path)?;
                }
            }
            Outcome::Broken(name, error) => {
                for path in self.book.abandon(&name) {
                    let reason = format!("its chunk {name} cannot be compressed: {error}");
                    self.fail(path, reason, Exit::Unexpected)?;
                }
            }
        }
        Ok(())
    }

    /// Ends the bundle that is being filled, when nothing more comes for it.
    pub(super) fn flush(&mut self) {
        let more_may_come = self.readers + self.questions.out() + self.encodings.out() > 0
            || !self.window.is_empty()
            || !self.to_encode.is_empty();
        if !more_may_come {
            let limits = self.bundle_limits();
            self.to_send.extend(self.fillings.take_all(limits));
        }
    }

    /// Sends bundles that are full.
    pub(super) fn send(&mut self) {
        let most = if self.probing { 1 } else { BUNDLES };
        while self.sending < most {
            let Some(bundle) = self.to_send.pop_front() else { return };
            if bundle.body.len() > self.tuning.bundle_bytes && bundle.entries.len() > 1 {
                self.split(bundle);
                continue;
            }
            self.sending += 1;
            let api = self.push.api.clone();
            self.spawn(async move {
                let answer = api.send_bundle(bundle.body.clone()).await;
                Event::Sent { bundle, answer }
            });
        }
    }

    /// Sends the chunks of a bundle in smaller ones, before any other.
    fn split(&mut self, bundle: Bundle) {
        for part in bundle.split(self.tuning.bundle_bytes).into_iter().rev() {
            self.to_send.push_front(part);
        }
    }

    pub(super) fn on_sent(
        &mut self,
        bundle: Bundle,
        answer: Result<StoredChunks, ApiError>,
    ) -> Result<(), PushError> {
        self.sending -= 1;
        let Err(error) = answer else {
            self.probing = false;
            self.push.progress.sent(bundle.body.len() as u64);
            return self.on_stored(&bundle);
        };
        match (error.kind(), bundle.half()) {
            (ApiErrorKind::TooLarge, Some(half)) => {
                self.tuning.bundle_bytes = self.tuning.bundle_bytes.min(half);
                self.probing = true;
                self.split(bundle);
                Ok(())
            }
            (ApiErrorKind::TooLarge | ApiErrorKind::Rejected, _) => {
                for entry in &bundle.entries {
                    for path in self.book.abandon(&entry.name) {
                        self.fail(
                            path,
                            format!("its chunks were refused: {error}"),
                            Exit::Refused,
                        )?;
                    }
                }
                Ok(())
            }
            _ => Err(error.into()),
        }
    }

    fn on_stored(&mut self, bundle: &Bundle) -> Result<(), PushError> {
        let summary = &mut self.push.ledger.summary;
        summary.chunks_sent += bundle.entries.len() as u64;
        summary.sent_bytes += bundle.body.len() as u64;
        summary.new_bytes +=
            bundle.entries.iter().map(|entry| u64::from(entry.raw_len)).sum::<u64>();
        for entry in &bundle.entries {
            let stats = &mut self.paths[entry.path as usize].stats;
            stats.chunks_sent += 1;
            stats.bytes_sent += entry.record_len as u64;
            self.settle(entry.name, Some(entry.raw_len))?;
        }
        Ok(())
    }

    /// The cache has a chunk; with the bytes of one that it did not have when it was asked.
    fn settle(&mut self, name: ChunkName, new_bytes: Option<u32>) -> Result<(), PushError> {
        for path in self.book.settle(name) {
            if let Some(bytes) = new_bytes {
                let stats = &mut self.paths[path as usize].stats;
                stats.chunks_new += 1;
                stats.bytes_new += u64::from(bytes);
            }
            self.arrived(path)?;
        }
        Ok(())
    }
}
