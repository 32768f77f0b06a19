//! The bench: memory for a chunk that is loaded for a moment, to copy a piece of it.
//!
//! Nobody keeps a place on it while a client is waited for, so that everybody who waits for one
//! gets it soon. It takes 12 MiB at most, besides `[limits] memory`.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Places on the bench. Clones share them.
#[derive(Debug, Clone)]
pub struct Bench {
    small: Arc<Semaphore>,
    large: Arc<Semaphore>,
}

/// What a small load takes at most.
const SMALL_LOAD_BYTES: u64 = 512 * 1024;
/// Small loads at the same time; of large ones, of up to 9 MiB, there is one.
const SMALL_LOADS: usize = 8;

impl Default for Bench {
    fn default() -> Self {
        Self { small: Arc::new(Semaphore::new(SMALL_LOADS)), large: Arc::new(Semaphore::new(1)) }
    }
}

impl Bench {
    /// Waits for memory. For a caller that goes on by itself when it is given it.
    pub(super) async fn wait(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let semaphore = if bytes <= SMALL_LOAD_BYTES { &self.small } else { &self.large };
        // Nobody closes it.
        Arc::clone(semaphore).acquire_owned().await.ok()
    }
}
