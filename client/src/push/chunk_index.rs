//! The chunks that the cache is known to have, and the paths that wait for other chunks.
//!
//! A name is in flight from its first chunk until the cache is known to have it. Meanwhile further
//! chunks of that name are dropped, and their paths wait with the first. Names in flight are
//! bounded by the memory budget, known names by [`MAX_KNOWN_PER_GENERATION`]. Forgetting a known
//! name costs a question, nothing else.

use std::collections::{HashMap, HashSet};

use snowbank_core::chunk::ChunkName;

/// Names remembered since the last change of generations; as many again may be remembered from the
/// one before.
const MAX_KNOWN_PER_GENERATION: usize = 64 << 10;

/// The status of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChunkStatus {
    /// The cache has it.
    Stored,
    /// It is on its way, and the path now waits for it.
    InFlight,
    /// The cache has to be asked about it, and the path now waits for it.
    New,
}

/// The chunks of a push by name.
#[derive(Debug, Default)]
pub(super) struct ChunkIndex {
    /// The paths that wait, once for each chunk.
    in_flight: HashMap<ChunkName, Vec<u32>>,
    young: HashSet<ChunkName>,
    old: HashSet<ChunkName>,
    /// Chunks that cannot be encoded open. There are next to none of them.
    to_close: HashSet<ChunkName>,
}

impl ChunkIndex {
    /// Adds a chunk of `path`.
    pub(super) fn add(&mut self, name: ChunkName, path: u32) -> ChunkStatus {
        if let Some(waiting) = self.in_flight.get_mut(&name) {
            waiting.push(path);
            return ChunkStatus::InFlight;
        }
        if self.young.contains(&name) {
            return ChunkStatus::Stored;
        }
        if self.old.contains(&name) {
            self.remember(name);
            return ChunkStatus::Stored;
        }
        self.in_flight.insert(name, vec![path]);
        ChunkStatus::New
    }

    /// The cache has the chunk. Gives the paths that waited for it, once for each time.
    pub(super) fn mark_stored(&mut self, name: ChunkName) -> Vec<u32> {
        self.remember(name);
        self.in_flight.remove(&name).unwrap_or_default()
    }

    /// The chunk will not come. Gives the paths that waited for it.
    pub(super) fn abandon(&mut self, name: &ChunkName) -> Vec<u32> {
        self.in_flight.remove(name).unwrap_or_default()
    }

    /// The cache does not have the chunk after all.
    pub(super) fn forget(&mut self, name: &ChunkName) {
        self.young.remove(name);
        self.old.remove(name);
    }

    /// Chunks of this name are to be closed from now on.
    pub(super) fn close_from_now_on(&mut self, name: ChunkName) {
        self.to_close.insert(name);
    }

    /// Whether chunks of this name are to be closed.
    pub(super) fn is_to_close(&self, name: &ChunkName) -> bool {
        !self.to_close.is_empty() && self.to_close.contains(name)
    }

    fn remember(&mut self, name: ChunkName) {
        if self.young.len() >= MAX_KNOWN_PER_GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: usize) -> ChunkName {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        ChunkName::from_bytes(bytes)
    }

    #[test]
    fn a_chunk_is_asked_about_once_and_everyone_waits_for_it() {
        let mut index = ChunkIndex::default();
        assert_eq!(index.add(name(1), 7), ChunkStatus::New);
        assert_eq!(index.add(name(1), 8), ChunkStatus::InFlight);
        assert_eq!(index.add(name(1), 7), ChunkStatus::InFlight);
        assert_eq!(index.mark_stored(name(1)), [7, 8, 7]);
        assert_eq!(index.add(name(1), 9), ChunkStatus::Stored);
    }

    #[test]
    fn what_is_forgotten_or_abandoned_is_new_again() {
        let mut index = ChunkIndex::default();
        index.add(name(1), 0);
        index.mark_stored(name(1));
        index.forget(&name(1));
        assert_eq!(index.add(name(1), 0), ChunkStatus::New);
        assert_eq!(index.abandon(&name(1)), [0]);
        assert_eq!(index.add(name(1), 0), ChunkStatus::New);
    }

    #[test]
    fn memory_is_bounded_and_what_is_met_again_stays() {
        let mut index = ChunkIndex::default();
        for number in 0..5 * MAX_KNOWN_PER_GENERATION {
            assert_eq!(index.add(name(0), 0) == ChunkStatus::New, number == 0);
            if number == 0 {
                index.mark_stored(name(0));
            } else {
                index.add(name(number), 0);
                index.mark_stored(name(number));
            }
        }
        assert!(index.young.len() + index.old.len() <= 2 * MAX_KNOWN_PER_GENERATION);
        assert_eq!(index.add(name(1), 0), ChunkStatus::New);
    }
}
