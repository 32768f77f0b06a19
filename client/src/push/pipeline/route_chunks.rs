//! The router's part about chunks: from the reader through window, question, encoding and bundle
//! to the paths that wait for them.
//!
//! A chunk is in one place at a time, and its permit with it. Each time that the cache is known to
//! have a chunk, the paths that wait for it are told. Their next step is left to [`route_paths`].
//!
//! [`route_paths`]: super::route_paths

use snowbank_core::chunk::ChunkName;
use snowbank_core::wire::StoredChunks;

use super::super::PushError;
use super::super::bundle::Bundle;
use super::super::chunk_index::ChunkStatus;
use super::super::encoder_pool::EncodeOutcome;
use super::super::reader::PathChunk;
use super::Pipeline;
use super::send::SendOutcome;
use crate::api::ApiError;
use crate::exit::Exit;

impl Pipeline<'_> {
    /// A chunk from a reader.
    pub(super) fn route_cut_chunk(&mut self, chunk: PathChunk) {
        let PathChunk { path, mut name, mut chunk, permit } = chunk;
        if !self.paths.is_reading(path) {
            return;
        }
        if self.chunks.is_to_close(&name) {
            chunk = chunk.close();
            name = chunk.name();
        }
        let bytes = chunk.bytes.len();
        self.paths.add_chunk(path, name, &mut chunk.values, bytes);
        if self.paths.is_first_attempt(path) {
            self.context.progress.read(bytes as u64);
        }
        self.store_chunk(PathChunk { path, name, chunk, permit });
    }

    /// Has a chunk stored, unless the cache is known to have it. Its path waits for that.
    pub(super) fn store_chunk(&mut self, chunk: PathChunk) {
        let status = self.chunks.add(chunk.name, chunk.path);
        if status != ChunkStatus::Stored {
            self.paths.add_unstored(chunk.path);
        }
        if status == ChunkStatus::New {
            self.ask.add(chunk);
        } else {
            self.context.progress.deduplicated(chunk.chunk.bytes.len() as u64);
        }
    }

    /// Chunks of answered questions are stored already, or have to be encoded.
    pub(super) fn route_answers(&mut self) -> Result<(), PushError> {
        while let Some(answer) = self.ask.next_answer() {
            for (chunk, is_missing) in answer {
                if is_missing {
                    self.encode.add(chunk);
                } else {
                    self.context.progress.deduplicated(chunk.chunk.bytes.len() as u64);
                    self.finish_chunk(chunk.name, None)?;
                }
            }
        }
        Ok(())
    }

    /// Frames go into bundles.
    pub(super) fn route_frames(&mut self) -> Result<(), PushError> {
        while let Some(outcomes) = self.encode.next_outcomes() {
            for outcome in outcomes {
                self.route_frame(outcome)?;
            }
        }
        Ok(())
    }

    fn route_frame(&mut self, outcome: EncodeOutcome) -> Result<(), PushError> {
        match outcome {
            EncodeOutcome::Frame { path, encoded, permit } => {
                let is_large = self.context.plan.paths[path as usize].is_large();
                self.send.add(path, is_large, &encoded, permit);
            }
            // Each path has values of its own in such a chunk. All of them are read again, and
            // then the chunk is closed.
            EncodeOutcome::Close(name) => {
                self.chunks.close_from_now_on(name);
                for path in self.chunks.abandon(&name) {
                    self.paths.mark_stale(path);
                    self.paths.remove_unstored(path);
                    self.take_next_step(path)?;
                }
            }
            EncodeOutcome::Broken(name, error) => {
                for path in self.chunks.abandon(&name) {
                    let reason = format!("its chunk {name} cannot be compressed: {error}");
                    self.fail(path, reason, Exit::Unexpected)?;
                }
            }
        }
        Ok(())
    }

    /// A bundle was stored or refused.
    pub(super) fn route_sent(
        &mut self,
        bundle: Bundle,
        answer: Result<StoredChunks, ApiError>,
    ) -> Result<(), PushError> {
        match self.send.finish(bundle, answer)? {
            SendOutcome::Stored(bundle) => self.finish_bundle(&bundle),
            SendOutcome::Split => Ok(()),
            SendOutcome::Refused(bundle, error) => {
                let reason = format!("its chunks were refused: {error}");
                for entry in &bundle.entries {
                    for path in self.chunks.abandon(&entry.name) {
                        self.fail(path, reason.clone(), Exit::Refused)?;
                    }
                }
                Ok(())
            }
        }
    }

    fn finish_bundle(&mut self, bundle: &Bundle) -> Result<(), PushError> {
        self.context.progress.sent(bundle.body.len() as u64);
        let summary = &mut self.context.ledger.summary;
        summary.chunks_sent += bundle.entries.len() as u64;
        summary.sent_bytes += bundle.body.len() as u64;
        summary.new_bytes +=
            bundle.entries.iter().map(|entry| u64::from(entry.raw_len)).sum::<u64>();
        for entry in &bundle.entries {
            self.paths.count_sent(entry.path, entry.record_len);
            self.finish_chunk(entry.name, Some(entry.raw_len))?;
        }
        Ok(())
    }

    /// The cache has a chunk. `new_bytes` are those of a chunk that it lacked when it was asked.
    fn finish_chunk(&mut self, name: ChunkName, new_bytes: Option<u32>) -> Result<(), PushError> {
        for path in self.chunks.mark_stored(name) {
            if let Some(bytes) = new_bytes {
                self.paths.count_new(path, bytes);
            }
            self.paths.remove_unstored(path);
            self.take_next_step(path)?;
        }
        Ok(())
    }
}
