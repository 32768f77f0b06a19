//! The stage that compresses the chunks that the cache lacks.
//!
//! Owns the queue of these chunks and the encodings under way: at most as many as there are jobs,
//! each with [`MAX_TASK_CHUNKS`] chunks or about [`MAX_TASK_BYTES`]. The queue is bounded by the
//! budget: each chunk in it carries its permit. Frames come out in the order in which the chunks
//! were added. The use of a frame, and of a chunk that cannot be encoded, is left to the router.

use std::collections::VecDeque;

use super::super::encoder_pool::{EncodeOutcome, EncoderPool};
use super::super::ordered_results::OrderedResults;
use super::super::reader::PathChunk;
use super::Event;
use super::tasks::Tasks;

/// Chunks that one task encodes: up to these bytes, and so many.
const MAX_TASK_BYTES: usize = 256 << 10;
const MAX_TASK_CHUNKS: usize = 64;

/// Chunks that have to be encoded, or are being encoded.
pub(super) struct EncodeStage {
    encoders: EncoderPool,
    max_running: usize,
    queue: VecDeque<PathChunk>,
    encodings: OrderedResults<Vec<EncodeOutcome>>,
}

impl EncodeStage {
    pub(super) fn new(encoders: EncoderPool, jobs: usize) -> Self {
        Self {
            encoders,
            max_running: jobs,
            queue: VecDeque::new(),
            encodings: OrderedResults::default(),
        }
    }

    /// Queues a chunk.
    pub(super) fn add(&mut self, chunk: PathChunk) {
        self.queue.push_back(chunk);
    }

    /// Gives chunks to encoders that are idle.
    pub(super) fn start(&mut self, tasks: &mut Tasks) {
        while self.running() < self.max_running && !self.queue.is_empty() {
            let chunks: Vec<PathChunk> = self.queue.drain(..self.next_task_chunks()).collect();
            let turn = self.encodings.start();
            let encoders = self.encoders.clone();
            tasks.spawn_blocking(move |_events| Event::EncodedChunk {
                turn,
                outcomes: encoders.encode_all(chunks),
            });
        }
    }

    /// Takes the frames of a task.
    pub(super) fn finish(&mut self, turn: u64, outcomes: Vec<EncodeOutcome>) {
        self.encodings.finish(turn, outcomes);
    }

    /// The frames of the next task, where it has ended.
    pub(super) fn next_outcomes(&mut self) -> Option<Vec<EncodeOutcome>> {
        self.encodings.take()
    }

    /// Tasks under way.
    pub(super) fn running(&self) -> usize {
        self.encodings.running()
    }

    /// Whether chunks wait or are encoded.
    pub(super) fn is_busy(&self) -> bool {
        !self.queue.is_empty() || self.running() > 0
    }

    /// How many chunks of the queue the next task gets: at least one.
    fn next_task_chunks(&self) -> usize {
        let mut bytes = 0;
        let fitting = self.queue.iter().take(MAX_TASK_CHUNKS).take_while(|chunk| {
            let is_first = bytes == 0;
            bytes += chunk.chunk.bytes.len();
            is_first || bytes <= MAX_TASK_BYTES
        });
        fitting.count()
    }

    #[cfg(test)]
    pub(super) fn assert_bounded(&self) {
        assert!(self.running() <= self.max_running);
    }

    /// Bytes of chunks in the queue.
    #[cfg(test)]
    pub(super) fn queued_bytes(&self) -> usize {
        self.queue.iter().map(|chunk| chunk.chunk.bytes.len()).sum()
    }
}
