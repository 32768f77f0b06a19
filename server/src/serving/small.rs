//! Small NARs, which go out in one piece, and are kept for some seconds: what one machine of many
//! has just fetched, the others are about to.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use snowbank_core::hash::NarHash;

use super::error::ServeError;
use super::load::{Holdings, held_bytes, load};
use super::lookups::FoundNar;
use super::nar::NarBody;
use super::representation::Representation;
use super::source::BatchSource;
use crate::db::caches::CacheId;
use crate::db::nars::Nar;
use crate::directory::STALENESS;

/// A NAR that is at most this long goes out in one piece.
pub const SMALL_NAR_BYTES: u64 = 64 * 1024;
/// What is sent of one without a permit: no more than its headers are.
const MAX_FREE_BYTES: usize = 4 * 1024;
/// What is kept of them, a few thousand.
const MAX_BYTES: u64 = 12 * 1024 * 1024;
/// How long after it was looked for it may be kept; with [`STALENESS`] less than the 5 s that R2
/// allows.
const REPEAT_WINDOW: Duration = Duration::from_secs(1);
/// What keeping one takes beside its bytes.
const ENTRY_OVERHEAD_BYTES: u64 = 512;

type Key = (CacheId, NarHash, Representation);

/// Small NARs as caches showed them at most [`STALENESS`] ago. Clones share them.
#[derive(Debug, Clone)]
pub struct SmallNars(moka::sync::Cache<Key, Arc<SmallNar>>);

/// All of a small NAR.
#[derive(Debug)]
pub struct SmallNar {
    /// The NAR.
    pub nar: Nar,
    /// Its bytes, in one of the two forms.
    pub bytes: Bytes,
}

impl Default for SmallNars {
    fn default() -> Self {
        Self::new()
    }
}

impl SmallNars {
    /// Nothing is kept before it is asked for.
    #[must_use]
    pub fn new() -> Self {
        let kept = moka::sync::Cache::builder()
            .max_capacity(MAX_BYTES)
            .eviction_policy(moka::policy::EvictionPolicy::lru())
            .weigher(|_, small: &Arc<SmallNar>| {
                u32::try_from(small.bytes.len() as u64 + ENTRY_OVERHEAD_BYTES).unwrap_or(u32::MAX)
            })
            .time_to_live(STALENESS)
            .build();
        Self(kept)
    }

    /// The NAR, if the cache has shown it a moment ago.
    #[must_use]
    pub fn get(
        &self,
        cache: CacheId,
        hash: NarHash,
        representation: Representation,
    ) -> Option<Arc<SmallNar>> {
        self.0.get(&(cache, hash, representation))
    }

    /// Drops what is kept of a NAR that is out of sight now.
    pub fn forget(&self, cache: CacheId, hash: NarHash) {
        for representation in [Representation::Zstd, Representation::Raw] {
            self.0.invalidate(&(cache, hash, representation));
        }
    }

    /// Reads all of a NAR of at most [`SMALL_NAR_BYTES`], and keeps it.
    ///
    /// # Errors
    /// As [`nar_stream`](super::nar_stream).
    pub async fn read(
        &self,
        body: &NarBody,
        cache: CacheId,
        found: FoundNar,
        representation: Representation,
    ) -> Result<Bytes, ServeError> {
        let (nar, at) = (found.nar.clone(), found.at);
        let bytes = whole(body, found, representation).await?;
        // What took longer to read would be shown for too long after it is gone.
        if at.elapsed() < REPEAT_WINDOW {
            let key = (cache, nar.nar_hash, representation);
            self.0.insert(key, Arc::new(SmallNar { nar, bytes: bytes.clone() }));
        }
        Ok(bytes)
    }
}

/// Charges `bytes` of a small NAR to the budget until they have left; `None` when it has no room.
#[must_use]
pub fn charged(body: &NarBody, bytes: Bytes) -> Option<Bytes> {
    if bytes.len() <= MAX_FREE_BYTES {
        return Some(bytes);
    }
    let permit = body.read_ahead.try_all(bytes.len() as u64)?;
    Some(held_bytes(bytes, Arc::new(Holdings { permit: Some(permit), _place: None })))
}

async fn whole(
    body: &NarBody,
    found: FoundNar,
    representation: Representation,
) -> Result<Bytes, ServeError> {
    let length = representation.len(&found.nar);
    let mut source = BatchSource::new(&body.db, found, representation, 0..length);
    // A copy: what was read together with a piece would stay in memory as long as the piece does.
    let mut whole = Vec::with_capacity(usize::try_from(length.min(SMALL_NAR_BYTES)).unwrap_or(0));
    while let Some(batch) = source.next(4 * SMALL_NAR_BYTES).await? {
        let _place = body.bench.wait(batch.cost).await;
        let held = Holdings { permit: None, _place: None };
        for piece in load(body.packs.clone(), batch, held, representation, 0..length).await? {
            whole.extend_from_slice(&piece);
        }
    }
    if whole.len() as u64 == length {
        return Ok(whole.into());
    }
    Err(ServeError::Manifest(format!("it gives {} of {length} bytes", whole.len())))
}
