//! The stage that asks the cache which chunks it lacks.
//!
//! Owns the window, which collects new chunks, and the questions under way. A full window is asked
//! about as soon as fewer than [`MAX_QUESTIONS`] questions are under way, and any window when no
//! more chunks come. So a window that is not full has less than [`PipelineLimits::window_bytes`]
//! and fewer than [`PipelineLimits::window_names`] chunks. A full one that waits for its turn is
//! bounded by the budget alone: each chunk in it carries its permit.
//!
//! Answers come out in the order in which the questions were asked. The meaning of an answer for
//! the paths that wait for a chunk is left to the router.

use snowbank_core::chunk::ChunkName;

use super::super::ordered_results::OrderedResults;
use super::super::reader::PathChunk;
use super::Event;
use super::limits::{MAX_QUESTIONS, PipelineLimits};
use super::tasks::Tasks;
use crate::api::Api;

/// Chunks that the cache has to be asked about, or is being asked about.
pub(super) struct AskStage {
    api: Api,
    window: Vec<PathChunk>,
    window_bytes: usize,
    questions: OrderedResults<(Vec<PathChunk>, Vec<usize>)>,
    max_window_bytes: usize,
    max_first_window_bytes: usize,
    max_window_names: usize,
}

impl AskStage {
    pub(super) fn new(api: &Api, limits: &PipelineLimits) -> Self {
        Self {
            api: api.clone(),
            window: Vec::new(),
            window_bytes: 0,
            questions: OrderedResults::default(),
            max_window_bytes: limits.window_bytes,
            max_first_window_bytes: limits.first_window_bytes,
            max_window_names: limits.window_names,
        }
    }

    /// Adds a chunk to the window.
    pub(super) fn add(&mut self, chunk: PathChunk) {
        self.window_bytes += chunk.chunk.bytes.len();
        self.window.push(chunk);
    }

    /// Asks about full windows, or about any where `is_flushed`.
    pub(super) fn start(&mut self, is_flushed: bool, tasks: &mut Tasks) {
        while self.questions.running() < MAX_QUESTIONS
            && !self.window.is_empty()
            && (is_flushed || self.is_full())
        {
            let rest = self.window.split_off(self.window.len().min(self.max_window_names));
            let mut window = std::mem::replace(&mut self.window, rest);
            self.window_bytes = self.window.iter().map(|chunk| chunk.chunk.bytes.len()).sum();
            // Readers mix the chunks of their paths.
            window.sort_by_key(|chunk| chunk.path);
            let turn = self.questions.start();
            let api = self.api.clone();
            tasks.spawn(|_events| async move {
                let names: Vec<ChunkName> = window.iter().map(|chunk| chunk.name).collect();
                let answer = api.missing_chunks(&names).await;
                Event::Asked { turn, window, answer }
            });
        }
    }

    /// Takes the answer to a question.
    pub(super) fn finish(&mut self, turn: u64, window: Vec<PathChunk>, missing: Vec<usize>) {
        self.questions.finish(turn, (window, missing));
    }

    /// The chunks of the next question that is answered, each with whether the cache lacks it.
    pub(super) fn next_answer(
        &mut self,
    ) -> Option<impl Iterator<Item = (PathChunk, bool)> + use<>> {
        let (window, missing) = self.questions.take()?;
        let mut missing = missing.into_iter().peekable();
        Some(window.into_iter().enumerate().map(move |(index, chunk)| {
            let is_missing = missing.next_if_eq(&index).is_some();
            (chunk, is_missing)
        }))
    }

    /// Questions under way.
    pub(super) fn running(&self) -> usize {
        self.questions.running()
    }

    /// Whether chunks wait or are asked about.
    pub(super) fn is_busy(&self) -> bool {
        !self.window.is_empty() || self.running() > 0
    }

    fn is_full(&self) -> bool {
        let max_bytes = if self.questions.has_started() {
            self.max_window_bytes
        } else {
            self.max_first_window_bytes
        };
        self.window.len() >= self.max_window_names || self.window_bytes >= max_bytes
    }

    #[cfg(test)]
    pub(super) fn assert_bounded(&self) {
        assert!(self.running() <= MAX_QUESTIONS);
        assert!(self.running() == MAX_QUESTIONS || !self.is_full());
    }

    /// Bytes of chunks in the window.
    #[cfg(test)]
    pub(super) const fn queued_bytes(&self) -> usize {
        self.window_bytes
    }
}
