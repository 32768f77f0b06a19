//! SHA-256 of a NAR that is being read: on the reading thread, or on one beside it.
//!
//! Hashing takes about as long as all else that a reader does. Where cores are idle, a thread of
//! its own nearly halves the time that a large path takes; where they are busy, it would only cost
//! a copy.

use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

use snowbank_core::hash::{Sha256, Sha256Hasher};

/// Pieces that wait for the thread beside.
const WAITING: usize = 2;

/// A hash under way.
pub(super) enum Hashing<'scope> {
    /// On the calling thread.
    Here(Sha256Hasher),
    /// On another one.
    Beside {
        /// Pieces to hash.
        pieces: SyncSender<Vec<u8>>,
        /// Buffers to fill again.
        used: Receiver<Vec<u8>>,
        /// Ends with the hash when `pieces` is gone.
        thread: ScopedJoinHandle<'scope, Sha256>,
    },
}

impl<'scope> Hashing<'scope> {
    pub(super) fn here() -> Self {
        Self::Here(Sha256Hasher::new())
    }

    pub(super) fn beside<'env>(scope: &'scope Scope<'scope, 'env>) -> Self {
        let (pieces, waiting) = sync_channel::<Vec<u8>>(WAITING);
        let (give_back, used) = channel();
        let thread = scope.spawn(move || {
            let mut hasher = Sha256Hasher::new();
            for piece in waiting {
                hasher.update(&piece);
                // Whoever has gone fills no buffer again.
                let _ = give_back.send(piece);
            }
            hasher.finish()
        });
        Self::Beside { pieces, used, thread }
    }

    pub(super) fn update(&mut self, piece: &[u8]) {
        match self {
            Self::Here(hasher) => hasher.update(piece),
            Self::Beside { pieces, used, .. } => {
                let mut buffer = used.try_recv().unwrap_or_default();
                buffer.clear();
                buffer.extend_from_slice(piece);
                // The thread ends before only if it panicked, which `finish` passes on.
                let _ = pieces.send(buffer);
            }
        }
    }

    pub(super) fn finish(self) -> Sha256 {
        match self {
            Self::Here(hasher) => hasher.finish(),
            Self::Beside { pieces, thread, .. } => {
                drop(pieces);
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_same_here_and_beside() {
        let pieces: Vec<Vec<u8>> =
            (0..20_u8).map(|number| vec![number; 1000 * usize::from(number)]).collect();
        let whole = Sha256::of(&pieces.concat());
        let hash = |mut hashing: Hashing<'_>| {
            for piece in &pieces {
                hashing.update(piece);
            }
            hashing.finish()
        };
        assert_eq!(hash(Hashing::here()), whole);
        std::thread::scope(|scope| assert_eq!(hash(Hashing::beside(scope)), whole));
    }

    #[test]
    fn a_hash_that_is_given_up_ends_its_thread() {
        std::thread::scope(|scope| Hashing::beside(scope).update(b"some"));
    }
}
