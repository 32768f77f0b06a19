//! Blocks of immutable objects on this machine's disk, before a storage that is far away.
//!
//! Objects are cached in blocks of half a megabyte, each a file with a checksum. Blocks that are
//! missing side by side are fetched by one request; two readers of one block fetch it once. An
//! object that was just stored is put here as well, so that verifying a push reads nothing back.
//! The block whose last use is the longest ago goes first, before the limit would be exceeded, and
//! before the disk is nearly full. Nothing here is needed: a block that was deleted or damaged is
//! fetched again, and a disk that is full or broken turns the cache off for a while.
//!
//! Only for objects that never change and whose keys are never used again.
//!
//! Rule: whoever waits holds nothing. A reader claims the blocks that are neither there nor
//! claimed, fetches and writes them, releases them, and only then waits for what others had
//! claimed.

mod block;
mod files;
mod index;

use std::collections::HashSet;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::{try_join, try_join_all};
use tokio::sync::Notify;

use self::block::{BLOCK_LEN, BlockId};
use self::files::{BlockRead, Files};
use self::index::Index;
use super::{StorageError, StorageFailure};
use crate::config::CacheConfig;

/// How long nothing is cached after the disk has failed.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_mins(1);
/// After so many turns of waiting for others, or of finding damage, what is missing is fetched
/// without the cache.
const MAX_TURNS: usize = 4;

/// A read cache. Cheap to clone.
#[derive(Debug, Clone)]
pub struct DiskCache {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    files: Files,
    state: Mutex<State>,
    released: Notify,
}

#[derive(Debug)]
struct State {
    index: Index,
    /// Blocks that some reader is fetching.
    claimed: HashSet<BlockId>,
    off_until: Option<Instant>,
    /// Whether the disk's failure has been told.
    warned: bool,
}

impl DiskCache {
    /// Opens the folder, making it where it is not there, and finds what is in it.
    ///
    /// # Errors
    /// When it cannot be written to, or another server uses it.
    pub async fn open(config: &CacheConfig) -> Result<Self, StorageError> {
        let CacheConfig { path, max_size } = config.clone();
        let shown = format!("the read cache {}", path.display());
        let opened = blocking(&shown, move || {
            let files = Files::open(&path)?;
            let mut index = Index::new(max_size.bytes());
            for (id, disk_bytes) in files.scan()? {
                let room = index.reserve(disk_bytes, false);
                for evicted in room.evicted {
                    files.remove(evicted)?;
                }
                if room.is_reserved {
                    index.insert(id, disk_bytes);
                }
            }
            Ok((files, index))
        });
        let (files, index) = opened.await?.map_err(|error| StorageError::Unavailable {
            key: shown.clone(),
            source: StorageFailure::Io(error),
        })?;
        let state = State { index, claimed: HashSet::new(), off_until: None, warned: false };
        state.show_size();
        let shared = Shared { files, state: Mutex::new(state), released: Notify::new() };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Reads `len` bytes of `key` from `offset` on, exactly. `fetch` reads from the storage itself:
    /// up to so many bytes (its second argument) from a place on (its first), fewer only where the
    /// object ends, none beyond.
    ///
    /// # Errors
    /// What `fetch` says, and [`StorageError::Short`] when the object ends before. The cache adds
    /// none of its own.
    pub async fn get_range<F, R>(
        &self,
        fetch: F,
        key: &str,
        offset: u64,
        len: u64,
    ) -> Result<Vec<u8>, StorageError>
    where
        F: Fn(u64, u64) -> R,
        R: Future<Output = Result<Vec<u8>, StorageError>>,
    {
        let mut wanted = Assembly::new(key, offset..offset.saturating_add(len));
        let numbers = offset / BLOCK_LEN..wanted.range.end.div_ceil(BLOCK_LEN);
        if len == 0 || self.shared.is_off() {
            wanted.put(offset..wanted.range.end, fetch(offset, len).await?)?;
            return Ok(wanted.bytes);
        }
        let mut missing: Vec<u64> = numbers.collect();
        for _ in 0..MAX_TURNS {
            let (there, claim, others) = self.shared.sort(key, &missing);
            let others_ids: Vec<BlockId> =
                others.iter().map(|number| BlockId::of(key, *number)).collect();
            let shared = Arc::clone(&self.shared);
            let read = blocking(key, move || {
                there.into_iter().map(|(number, id)| (number, shared.read(id))).collect::<Vec<_>>()
            });
            let claim = Arc::new(claim);
            let fetched =
                try_join_all(runs(&claim.numbers).map(|run| fetch_and_store(&fetch, &claim, run)));
            let (read, fetched) = try_join(read, fetched).await?;
            drop(claim);

            missing = others;
            for (run, bytes) in fetched {
                wanted.put(places(&run), bytes)?;
            }
            for (number, bytes) in read {
                // A block that ends too early is not believed: perhaps the storage's answer was cut
                // off then.
                if let Some(bytes) = bytes.filter(|bytes| wanted.is_covered(number, bytes.len())) {
                    wanted.put(places(&(number..number + 1)), bytes)?;
                } else {
                    self.shared.lock().index.remove(BlockId::of(key, number));
                    missing.push(number);
                }
            }
            if missing.is_empty() {
                return Ok(wanted.bytes);
            }
            self.shared.wait_for(&others_ids).await;
            missing.sort_unstable();
        }
        for run in runs(&missing) {
            let places = places(&run);
            let bytes = fetch(places.start, places.end - places.start).await?;
            wanted.put(places, bytes)?;
        }
        Ok(wanted.bytes)
    }
}

impl DiskCache {
    /// Keeps the blocks of a whole object.
    pub async fn put(&self, key: &str, object: Bytes) {
        if self.shared.is_off() {
            return;
        }
        let (shared, owned) = (Arc::clone(&self.shared), key.to_owned());
        let stored = blocking(key, move || {
            let blocks = object.chunks(usize::try_from(BLOCK_LEN).unwrap_or(usize::MAX));
            // A block that a reader fetches at this moment has the same bytes.
            for (number, block) in (0..).zip(blocks) {
                if !shared.store(BlockId::of(&owned, number), block) {
                    break;
                }
            }
        });
        // A thread that panics has cached less.
        let _ = stored.await;
    }

    /// Fetches the blocks of `range` that are missing, together with what lies between them, by one
    /// request.
    ///
    /// # Errors
    /// What `fetch` says (see [`Self::get_range`]).
    pub async fn fetch_ahead<F, R>(
        &self,
        fetch: F,
        key: &str,
        range: Range<u64>,
    ) -> Result<(), StorageError>
    where
        F: Fn(u64, u64) -> R,
        R: Future<Output = Result<Vec<u8>, StorageError>>,
    {
        if range.is_empty() || self.shared.is_off() {
            return Ok(());
        }
        let numbers: Vec<u64> = (range.start / BLOCK_LEN..range.end.div_ceil(BLOCK_LEN)).collect();
        let (_, claim, _) = self.shared.sort(key, &numbers);
        let Some(run) =
            claim.numbers.first().zip(claim.numbers.last()).map(|(first, last)| *first..last + 1)
        else {
            return Ok(());
        };
        fetch_and_store(&fetch, &Arc::new(claim), run).await?;
        Ok(())
    }

    /// Drops what is there of the first `len` bytes of an object.
    pub async fn forget(&self, key: &str, len: u64) {
        let ids: Vec<BlockId> =
            (0..len.div_ceil(BLOCK_LEN)).map(|number| BlockId::of(key, number)).collect();
        let shared = Arc::clone(&self.shared);
        let forgotten = blocking(key, move || {
            let there: Vec<BlockId> = {
                let mut state = shared.lock();
                let there: Vec<BlockId> =
                    ids.into_iter().filter(|id| state.index.touch(*id)).collect();
                for id in &there {
                    state.index.remove(*id);
                }
                there
            };
            if let Err(error) = there.into_iter().try_for_each(|id| shared.files.remove(id)) {
                shared.turn_off(&error);
            }
        });
        // A thread that panics has dropped them from the index before.
        let _ = forgotten.await;
    }
}

/// Fetches neighbouring blocks, and writes them before their claim is given back.
async fn fetch_and_store<F, R>(
    fetch: &F,
    claim: &Arc<BlockClaim>,
    run: Range<u64>,
) -> Result<(Range<u64>, Vec<u8>), StorageError>
where
    F: Fn(u64, u64) -> R,
    R: Future<Output = Result<Vec<u8>, StorageError>>,
{
    let places = places(&run);
    let bytes = fetch(places.start, places.end - places.start).await?;
    let held = Arc::clone(claim);
    blocking(&claim.key, move || {
        for (number, block) in
            run.clone().zip(bytes.chunks(usize::try_from(BLOCK_LEN).unwrap_or(usize::MAX)))
        {
            if !held.shared.store(BlockId::of(&held.key, number), block) {
                break;
            }
        }
        (run, bytes)
    })
    .await
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_off(&self) -> bool {
        let mut state = self.lock();
        state.off_until = state.off_until.filter(|until| Instant::now() < *until);
        state.off_until.is_some()
    }

    /// Which of the blocks are on disk, which are now this reader's to fetch, and which are
    /// another's.
    fn sort(
        self: &Arc<Self>,
        key: &str,
        numbers: &[u64],
    ) -> (Vec<(u64, BlockId)>, BlockClaim, Vec<u64>) {
        let mut claim = BlockClaim {
            shared: Arc::clone(self),
            key: key.to_owned(),
            numbers: Vec::new(),
            ids: Vec::new(),
        };
        let (mut there, mut others) = (Vec::new(), Vec::new());
        let mut state = self.lock();
        for &number in numbers {
            let id = BlockId::of(key, number);
            if state.index.touch(id) {
                there.push((number, id));
            } else if state.claimed.insert(id) {
                claim.numbers.push(number);
                claim.ids.push(id);
                count("miss");
            } else {
                others.push(number);
            }
        }
        (there, claim, others)
    }

    async fn wait_for(&self, ids: &[BlockId]) {
        loop {
            let released = self.released.notified();
            tokio::pin!(released);
            released.as_mut().enable();
            {
                let state = self.lock();
                if ids.iter().all(|id| !state.claimed.contains(id)) {
                    return;
                }
            }
            released.await;
        }
    }

    fn read(&self, id: BlockId) -> Option<Vec<u8>> {
        match self.files.read(id) {
            BlockRead::Block(bytes) => {
                count("hit");
                return Some(bytes);
            }
            // It counts as missing when it is looked for again.
            BlockRead::Nothing => {}
            BlockRead::Damaged => {
                count("damaged");
                if let Err(error) = self.files.remove(id) {
                    self.turn_off(&error);
                }
            }
        }
        None
    }

    /// Writes a block; `false` when nothing more should be written.
    fn store(&self, id: BlockId, bytes: &[u8]) -> bool {
        let disk_bytes = block::disk_bytes(bytes.len() as u64);
        let is_disk_nearly_full = self.files.is_disk_nearly_full();
        let room = {
            let mut state = self.lock();
            if state.off_until.is_some() {
                return false;
            }
            state.index.reserve(disk_bytes, is_disk_nearly_full)
        };
        let removed = room.evicted.into_iter().try_for_each(|id| self.files.remove(id));
        if !room.is_reserved {
            // All that is left is being written at this moment, or the disk is full of other
            // things.
            let _ = removed.inspect_err(|error| self.turn_off(error));
            if is_disk_nearly_full {
                // Else what is fetched ahead would be fetched once more.
                self.lock().off_until = Some(Instant::now() + PAUSE_AFTER_FAILURE);
            }
            return false;
        }
        let written = removed.and_then(|()| self.files.write(id, bytes));
        let mut state = self.lock();
        match &written {
            Ok(()) => {
                state.index.insert(id, disk_bytes);
                state.warned = false;
            }
            Err(_) => state.index.release(disk_bytes),
        }
        state.show_size();
        drop(state);
        written.inspect_err(|error| self.turn_off(error)).is_ok()
    }

    fn turn_off(&self, error: &io::Error) {
        let mut state = self.lock();
        state.off_until = Some(Instant::now() + PAUSE_AFTER_FAILURE);
        if !std::mem::replace(&mut state.warned, true) {
            tracing::warn!(
                %error,
                "the read cache's disk failed; reading goes on without it, and it is tried again \
                 every minute"
            );
        }
    }
}

impl State {
    fn show_size(&self) {
        #[expect(clippy::cast_precision_loss, reason = "no disk has 2^52 bytes")]
        metrics::gauge!("snowbank_storage_cache_bytes").set(self.index.bytes() as f64);
    }
}

fn count(outcome: &'static str) {
    metrics::counter!("snowbank_storage_cache_requests_total", "outcome" => outcome).increment(1);
}

/// Blocks that one reader fetches; dropping it releases them and wakes those who wait.
#[derive(Debug)]
struct BlockClaim {
    shared: Arc<Shared>,
    key: String,
    numbers: Vec<u64>,
    ids: Vec<BlockId>,
}

impl Drop for BlockClaim {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        for id in &self.ids {
            state.claimed.remove(id);
        }
        drop(state);
        self.shared.released.notify_waiters();
    }
}

/// The range that a reader wants, as it is put together.
struct Assembly<'a> {
    key: &'a str,
    range: Range<u64>,
    bytes: Vec<u8>,
}

impl<'a> Assembly<'a> {
    fn new(key: &'a str, range: Range<u64>) -> Self {
        Self { key, range, bytes: Vec::new() }
    }

    /// Whether `len` bytes of block `number` are all that is wanted of it.
    fn is_covered(&self, number: u64, len: usize) -> bool {
        let start = number * BLOCK_LEN;
        start + len as u64 >= self.range.end.min(start + BLOCK_LEN)
    }

    /// Takes what is wanted of `bytes`, which were to be those at `places` and are fewer only where
    /// the object ends.
    fn put(&mut self, places: Range<u64>, mut bytes: Vec<u8>) -> Result<(), StorageError> {
        let (from, to) = (places.start.max(self.range.start), places.end.min(self.range.end));
        if places.start + (bytes.len() as u64) < to {
            return Err(StorageError::Short { key: self.key.to_owned(), wanted: self.range.end });
        }
        let within = |place: u64, base: u64| usize::try_from(place - base).unwrap_or(usize::MAX);
        if from == self.range.start && to == self.range.end {
            // Nothing else is wanted: the very buffer is the answer.
            bytes.truncate(within(to, places.start));
            bytes.drain(..within(from, places.start));
            self.bytes = bytes;
            return Ok(());
        }
        self.bytes.resize(within(self.range.end, self.range.start), 0);
        let (from_here, to_here) = (within(from, self.range.start), within(to, self.range.start));
        self.bytes[from_here..to_here]
            .copy_from_slice(&bytes[within(from, places.start)..within(to, places.start)]);
        Ok(())
    }
}

/// Where the blocks of a run lie in their object.
fn places(run: &Range<u64>) -> Range<u64> {
    run.start * BLOCK_LEN..run.end * BLOCK_LEN
}

/// Runs of neighbours in ascending `numbers`.
fn runs(numbers: &[u64]) -> impl Iterator<Item = Range<u64>> {
    let first_and_last = |run: &[u64]| run.first().copied().zip(run.last().map(|last| last + 1));
    numbers
        .chunk_by(|one, next| one + 1 == *next)
        .filter_map(first_and_last)
        .map(|(first, end)| first..end)
}

async fn blocking<T: Send + 'static>(
    key: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StorageError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|panic| StorageError::from_io(key, io::Error::other(panic)))
}

#[cfg(test)]
mod tests;
