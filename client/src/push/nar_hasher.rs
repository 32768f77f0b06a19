//! SHA-256 of a NAR that is being read: on the reader's thread, or on a thread of its own.
//!
//! Hashing takes about as long as all other work of a reader. Where cores are idle, a thread of its
//! own nearly halves the time for a large path. Where cores are busy, it would only cost a copy.

use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

use snowbank_core::hash::{Sha256, Sha256Hasher};

/// Most pieces that wait for the hasher's thread.
const MAX_WAITING_PIECES: usize = 2;

/// A hash under way.
pub(super) enum NarHasher<'scope> {
    /// On the calling thread.
    Inline(Sha256Hasher),
    /// On a thread of its own.
    Threaded {
        /// Pieces to hash.
        pieces: SyncSender<Vec<u8>>,
        /// Buffers to fill again.
        used: Receiver<Vec<u8>>,
        /// Ends with the hash when `pieces` is gone.
        thread: ScopedJoinHandle<'scope, Sha256>,
    },
}

impl<'scope> NarHasher<'scope> {
    pub(super) fn inline() -> Self {
        Self::Inline(Sha256Hasher::new())
    }

    pub(super) fn threaded<'env>(scope: &'scope Scope<'scope, 'env>) -> Self {
        let (pieces, waiting) = sync_channel::<Vec<u8>>(MAX_WAITING_PIECES);
        let (give_back, used) = channel();
        let thread = scope.spawn(move || {
            let mut hasher = Sha256Hasher::new();
            for piece in waiting {
                hasher.update(&piece);
                // Where the reader has gone, nobody fills the buffer again.
                let _ = give_back.send(piece);
            }
            hasher.finish()
        });
        Self::Threaded { pieces, used, thread }
    }

    pub(super) fn update(&mut self, piece: &[u8]) {
        match self {
            Self::Inline(hasher) => hasher.update(piece),
            Self::Threaded { pieces, used, .. } => {
                let mut buffer = used.try_recv().unwrap_or_default();
                buffer.clear();
                buffer.extend_from_slice(piece);
                // The thread ends earlier only by a panic, which `finish` passes on.
                let _ = pieces.send(buffer);
            }
        }
    }

    pub(super) fn finish(self) -> Sha256 {
        match self {
            Self::Inline(hasher) => hasher.finish(),
            Self::Threaded { pieces, thread, .. } => {
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
    fn the_hash_is_the_same_inline_and_threaded() {
        let pieces: Vec<Vec<u8>> =
            (0..20_u8).map(|number| vec![number; 1000 * usize::from(number)]).collect();
        let whole = Sha256::of(&pieces.concat());
        let hash = |mut hasher: NarHasher<'_>| {
            for piece in &pieces {
                hasher.update(piece);
            }
            hasher.finish()
        };
        assert_eq!(hash(NarHasher::inline()), whole);
        std::thread::scope(|scope| assert_eq!(hash(NarHasher::threaded(scope)), whole));
    }

    #[test]
    fn a_hash_that_is_given_up_ends_its_thread() {
        std::thread::scope(|scope| NarHasher::threaded(scope).update(b"some"));
    }
}
