//! Receiving, verifying and committing what clients push.
//!
//! The write order, each step durable before the next:
//! - W1 `pack::Packs::store` puts the pack object (fsynced, or an acknowledged PUT);
//! - W2 the same call commits the chunk rows that name it;
//! - W3 [`verify`] reads those chunks back, fills their slots, decodes them and finds the declared
//!   SHA-256 and size: it decodes the very stream that will be served;
//! - W4 [`commit`] makes the path visible in the transaction that ties it to its NAR row, after
//!   looking once more that every chunk that W3 read still exists under the same id.
//!
//! A crash between two steps leaves something that nothing names yet: an object without rows,
//! chunks without a NAR. It is found again by a push that is run again, or collected after the
//! grace period. Nothing is half visible.
//!
//! A chunk that W3 cannot read back since it is damaged or gone is retired, and counts as missing:
//! the client is told to send it again, and the push succeeds.

mod candidate;
mod commit;
mod copy;
mod group;
mod in_flight;
mod lines;
mod locate;
mod manifest;
mod questions;
mod read_back;
mod receive;
mod recode;
mod upload;
mod verify;
mod verify_error;
mod verify_small;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

pub use commit::{Committer, commit};
pub use copy::{CopyError, copy};
pub use questions::{missing_chunks, missing_hashes, missing_paths};
pub use receive::{Bundle, ReceiveError, receive_bundle};
pub use upload::{
    Compression, Decompressor, NarUpload, NarUploadError, Published, ReceivedNar, StoreFailure,
    UploadError, publish, receive_nar, wake,
};
pub use verify::{NarClaim, VerifiedNar, verify};
pub use verify_error::VerifyError;

use snowbank_core::units::Seconds;
use tokio_util::task::AbortOnDropHandle;

use crate::admission::Budgets;
use crate::chain::Chain;
use crate::damage::Inspector;
use crate::db::Db;
use crate::db::caches::CacheId;
use crate::pack::{Packs, ReadBudget};
use in_flight::InFlight;

/// What ingest works with. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Ingest {
    /// Whose the storage is: nothing is acknowledged by a server that another one has taken over
    /// from.
    chain: Chain,
    /// Metadata.
    pub db: Db,
    /// Chunk bytes.
    pub packs: Packs,
    /// Chunks that some request of this process is storing at this moment.
    in_flight: Arc<InFlight>,
    /// Caches whose waiting paths are looked at at this moment, and whether once more after that.
    waking: Arc<Mutex<HashMap<CacheId, bool>>>,
    /// Permits for threads that verify frames and decode NARs.
    cpu: Arc<tokio::sync::Semaphore>,
    /// Memory for chunks that are read back and decoded.
    read_back: ReadBudget,
    /// Looks into what cannot be read back.
    inspector: Inspector,
    /// Memory and places that clients share.
    budgets: Arc<Budgets>,
    /// The place to verify chunks that take more than the budget for reading back has for one of
    /// its users.
    oversized: Arc<tokio::sync::Semaphore>,
    /// The turn to fetch parts of packs ahead, of a pack's size at most.
    ahead: Arc<tokio::sync::Semaphore>,
    limits: IngestLimits,
}

/// Bounds on the work that one request may cause, and for how long what is pushed is kept.
#[derive(Debug, Clone, Copy)]
pub struct IngestLimits {
    /// Threads that verify and decode at the same time, over all requests.
    pub verify_threads: usize,
    /// The largest NAR, raw bytes.
    pub max_nar_size: u64,
    /// Memory for chunks that are read back and decoded, over all requests.
    pub read_back: u64,
    /// For how long caches that do not say keep paths that nobody uses.
    pub retention: Option<Seconds>,
    /// Pins that one cache may have.
    pub pins_per_cache: u64,
    /// Frames that one request brings together in a pack.
    pub bundle_bytes: u64,
}

impl Ingest {
    /// Puts the parts together.
    #[must_use]
    pub fn new(
        chain: Chain,
        packs: Packs,
        inspector: Inspector,
        budgets: Arc<Budgets>,
        limits: IngestLimits,
    ) -> Self {
        let db = chain.db().clone();
        let cpu = Arc::new(tokio::sync::Semaphore::new(limits.verify_threads.max(1)));
        let read_back = ReadBudget::new(limits.read_back);
        let [oversized, ahead] = [(); 2].map(|()| Arc::new(tokio::sync::Semaphore::new(1)));
        Self {
            chain,
            db,
            packs,
            in_flight: Arc::default(),
            waking: Arc::default(),
            cpu,
            read_back,
            inspector,
            budgets,
            oversized,
            ahead,
            limits,
        }
    }

    /// The bounds on one request's work.
    #[must_use]
    pub const fn limits(&self) -> &IngestLimits {
        &self.limits
    }

    /// Runs CPU-bound work on a blocking thread, as many at a time as configured.
    ///
    /// Waiting for a permit is a task of its own: a caller that is not polled for a while (it waits
    /// for something else, or its client does not read) would otherwise keep a permit that was
    /// handed to it, and may wait for itself.
    ///
    /// # Errors
    /// [`WorkerStopped`] when the work panicked, or the server is stopping.
    pub async fn on_cpu<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, WorkerStopped> {
        let cpu = Arc::clone(&self.cpu);
        let task = tokio::spawn(async move {
            let permit = cpu.acquire_owned().await.map_err(|_| WorkerStopped)?;
            let done = tokio::task::spawn_blocking(move || {
                let result = work();
                drop(permit);
                result
            });
            done.await.map_err(|_| WorkerStopped)
        });
        AbortOnDropHandle::new(task).await.map_err(|_| WorkerStopped)?
    }
}

/// A worker thread panicked or the server is stopping; the request fails as an internal error.
#[derive(Debug, thiserror::Error)]
#[error("a worker thread stopped before it had finished")]
pub struct WorkerStopped;
