//! The state of each path of a push: its stage, its manifest so far, and the chunks that it waits
//! for.
//!
//! A path has one outcome. From then on it has neither manifest nor stage, and late events about it
//! change nothing. The names and values of a manifest are bounded by the room for open paths (see
//! [`super::read`]). Outcomes themselves are in the ledger.

use snowbank_core::chunk::ChunkName;
use snowbank_core::manifest::WireManifest;
use snowbank_core::receipt::ReceiptStats;
use snowbank_core::store_path::StorePathHash;

/// How often a path is read before it is given up.
const MAX_ATTEMPTS: u8 = 12;

/// The stage that has a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Stage {
    /// Not read, or to be read again.
    #[default]
    Waiting,
    /// A reader has it.
    Reading,
    /// Read to its end; some of its chunks are not stored yet.
    Storing,
    /// Waiting for its references, or for an answer.
    Committing,
    /// It has an outcome.
    Finished,
}

#[derive(Debug, Default)]
struct PathState {
    stage: Stage,
    /// How often it was read.
    attempts: u8,
    /// Its manifest so far.
    names: Vec<ChunkName>,
    values: Vec<StorePathHash>,
    /// The chunks of a large manifest, once they are on their way.
    pieces: Option<Vec<ChunkName>>,
    /// Chunks that it waits for, counted as often as they occur.
    unstored: u32,
    /// One of its chunks has to be closed.
    has_stale_chunk: bool,
    stats: ReceiptStats,
}

/// The next step of a path whose chunks are all stored.
pub(super) enum NextStep {
    /// One of its chunks has to be closed: read it again.
    ReadAgain,
    /// Send its manifest.
    SendManifest(WireManifest),
    /// Commit it; these chunks have its manifest.
    Commit(Vec<ChunkName>),
}

/// All paths of a push, by number.
pub(super) struct PathTable {
    states: Vec<PathState>,
    unfinished: usize,
}

impl PathTable {
    /// So many paths, all of which wait to be read.
    pub(super) fn new(paths: usize) -> Self {
        let states = std::iter::repeat_with(PathState::default).take(paths).collect();
        Self { states, unfinished: paths }
    }

    /// Paths without an outcome.
    pub(super) const fn unfinished(&self) -> usize {
        self.unfinished
    }

    /// Every number.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> + use<> {
        (0..).take(self.states.len())
    }

    /// Whether a path waits to be read.
    pub(super) fn is_waiting(&self, path: u32) -> bool {
        self.state(path).stage == Stage::Waiting
    }

    /// Whether a reader has the path.
    pub(super) fn is_reading(&self, path: u32) -> bool {
        self.state(path).stage == Stage::Reading
    }

    /// Whether the path waits for the answer to its commit.
    pub(super) fn is_committing(&self, path: u32) -> bool {
        self.state(path).stage == Stage::Committing
    }

    /// Whether the path is read for the first time.
    pub(super) fn is_first_attempt(&self, path: u32) -> bool {
        self.state(path).attempts == 1
    }

    /// A reader takes the path.
    pub(super) fn start_reading(&mut self, path: u32) {
        let state = self.state_mut(path);
        state.stage = Stage::Reading;
        state.attempts += 1;
    }

    /// Adds a chunk to the path's manifest.
    pub(super) fn add_chunk(
        &mut self,
        path: u32,
        name: ChunkName,
        values: &mut Vec<StorePathHash>,
        bytes: usize,
    ) {
        let state = self.state_mut(path);
        state.names.push(name);
        state.values.append(values);
        state.stats.chunks_total += 1;
        state.stats.bytes_total += bytes as u64;
    }

    /// The path is read to its end.
    pub(super) fn finish_reading(&mut self, path: u32) {
        self.state_mut(path).stage = Stage::Storing;
    }

    /// The path waits for one more chunk.
    pub(super) fn add_unstored(&mut self, path: u32) {
        self.state_mut(path).unstored += 1;
    }

    /// The path waits for one chunk less.
    pub(super) fn remove_unstored(&mut self, path: u32) {
        self.state_mut(path).unstored -= 1;
    }

    /// One of the path's chunks has to be closed, and so the path to be read again.
    pub(super) fn mark_stale(&mut self, path: u32) {
        self.state_mut(path).has_stale_chunk = true;
    }

    /// Chunks with the path's manifest are on their way.
    pub(super) fn set_pieces(&mut self, path: u32, pieces: Vec<ChunkName>) {
        self.state_mut(path).pieces = Some(pieces);
    }

    /// The path is ready to be committed.
    pub(super) fn start_committing(&mut self, path: u32) {
        self.state_mut(path).stage = Stage::Committing;
    }

    /// The next step of a path, if it is read and all its chunks are stored. A manifest is taken
    /// out.
    pub(super) fn take_next_step(&mut self, path: u32) -> Option<NextStep> {
        let state = self.state_mut(path);
        if state.stage != Stage::Storing || state.unstored > 0 {
            return None;
        }
        if std::mem::take(&mut state.has_stale_chunk) {
            return Some(NextStep::ReadAgain);
        }
        if let Some(pieces) = state.pieces.take() {
            return Some(NextStep::Commit(pieces));
        }
        let (names, values) = (std::mem::take(&mut state.names), std::mem::take(&mut state.values));
        Some(NextStep::SendManifest(WireManifest { names, values }))
    }

    /// Has a path wait to be read once more, in place of everything read of it before. `false`
    /// where it was read too often.
    pub(super) fn reset(&mut self, path: u32) -> bool {
        let state = self.state_mut(path);
        if state.attempts >= MAX_ATTEMPTS {
            return false;
        }
        state.stage = Stage::Waiting;
        state.names.clear();
        state.values.clear();
        state.stats.chunks_total = 0;
        state.stats.bytes_total = 0;
        true
    }

    /// Does not count the last attempt: the path was not the reason that it failed.
    pub(super) fn forgive_attempt(&mut self, path: u32) {
        self.state_mut(path).attempts -= 1;
    }

    /// A chunk of the path was sent in a record of so many bytes.
    pub(super) fn count_sent(&mut self, path: u32, record_len: usize) {
        let stats = &mut self.state_mut(path).stats;
        stats.chunks_sent += 1;
        stats.bytes_sent += record_len as u64;
    }

    /// The cache lacked a chunk of the path.
    pub(super) fn count_new(&mut self, path: u32, raw_len: u32) {
        let stats = &mut self.state_mut(path).stats;
        stats.chunks_new += 1;
        stats.bytes_new += u64::from(raw_len);
    }

    /// The numbers for the path's receipt.
    pub(super) fn stats(&self, path: u32) -> ReceiptStats {
        self.state(path).stats
    }

    /// The path has an outcome, and its manifest is dropped. `false` where it had one before.
    pub(super) fn finish(&mut self, path: u32) -> bool {
        let state = self.state_mut(path);
        if state.stage == Stage::Finished {
            return false;
        }
        // Chunks that it waits for still arrive.
        let PathState { stats, unstored, .. } = *state;
        *state = PathState { stage: Stage::Finished, stats, unstored, ..PathState::default() };
        self.unfinished -= 1;
        true
    }

    fn state(&self, path: u32) -> &PathState {
        &self.states[path as usize]
    }

    fn state_mut(&mut self, path: u32) -> &mut PathState {
        &mut self.states[path as usize]
    }
}
