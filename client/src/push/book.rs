//! Which chunks the cache is known to have, and who waits for those that are on their way.
//!
//! A name is in flight from when its first chunk is met until the cache is known to have it;
//! meanwhile further chunks of that name are dropped, and their paths wait with the first. What is
//! in flight is bounded by the memory budget, what is remembered as known by
//! [`KNOWN_PER_GENERATION`]. Forgetting a known name costs a question, nothing else.

use std::collections::{HashMap, HashSet};

use snowbank_core::chunk::ChunkName;

/// Names remembered since the last change of generations; as many again may be remembered from the
/// one before.
const KNOWN_PER_GENERATION: usize = 64 << 10;

/// Where a chunk that was just met stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// The cache has it.
    Known,
    /// It is on its way; the path now waits for it.
    InFlight,
    /// It has to be asked about; the path now waits for it.
    New,
}

/// The chunks met in a push.
#[derive(Debug, Default)]
pub(super) struct Book {
    /// The paths that wait, once for each chunk.
    in_flight: HashMap<ChunkName, Vec<u32>>,
    young: HashSet<ChunkName>,
    old: HashSet<ChunkName>,
    /// Chunks that cannot be encoded open. There are next to none of them.
    to_close: HashSet<ChunkName>,
}

impl Book {
    /// A chunk of `path` came up.
    pub(super) fn meet(&mut self, name: ChunkName, path: u32) -> Standing {
        if let Some(waiting) = self.in_flight.get_mut(&name) {
            waiting.push(path);
            return Standing::InFlight;
        }
        if self.young.contains(&name) {
            return Standing::Known;
        }
        if self.old.contains(&name) {
            self.remember(name);
            return Standing::Known;
        }
        self.in_flight.insert(name, vec![path]);
        Standing::New
    }

    /// The cache has the chunk. Gives the paths that waited for it, once for each time.
    pub(super) fn settle(&mut self, name: ChunkName) -> Vec<u32> {
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
        if self.young.len() >= KNOWN_PER_GENERATION {
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
        let mut book = Book::default();
        assert_eq!(book.meet(name(1), 7), Standing::New);
        assert_eq!(book.meet(name(1), 8), Standing::InFlight);
        assert_eq!(book.meet(name(1), 7), Standing::InFlight);
        assert_eq!(book.settle(name(1)), [7, 8, 7]);
        assert_eq!(book.meet(name(1), 9), Standing::Known);
    }

    #[test]
    fn what_is_forgotten_or_abandoned_is_new_again() {
        let mut book = Book::default();
        book.meet(name(1), 0);
        book.settle(name(1));
        book.forget(&name(1));
        assert_eq!(book.meet(name(1), 0), Standing::New);
        assert_eq!(book.abandon(&name(1)), [0]);
        assert_eq!(book.meet(name(1), 0), Standing::New);
    }

    #[test]
    fn memory_is_bounded_and_what_is_met_again_stays() {
        let mut book = Book::default();
        for number in 0..5 * KNOWN_PER_GENERATION {
            assert_eq!(book.meet(name(0), 0) == Standing::New, number == 0);
            if number == 0 {
                book.settle(name(0));
            } else {
                book.meet(name(number), 0);
                book.settle(name(number));
            }
        }
        assert!(book.young.len() + book.old.len() <= 2 * KNOWN_PER_GENERATION);
        assert_eq!(book.meet(name(1), 0), Standing::New);
    }
}
