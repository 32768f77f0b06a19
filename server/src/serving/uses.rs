//! Which paths were read: noted in memory, and written by whoever takes it, so that no request
//! writes (R2).
//!
//! A narinfo is its path's; a NAR may be that of several paths of a cache, all of which count as
//! read. When a path was read is not noted: what is noted is written within seconds.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::db::caches::CacheId;
use crate::db::nars::NarId;
use crate::db::paths::PathId;

/// Paths and NARs that are noted between two writes; of more, some reads are not noted.
const MAX_ENTRIES: usize = 100_000;
/// With so many it is time to write.
const NEARLY_FULL: usize = 80_000;

/// Reads that were not written yet. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct PathUses(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    noted: Mutex<UseSet>,
    nearly_full: Notify,
}

#[derive(Debug, Default)]
struct UseSet {
    paths: HashSet<(CacheId, PathId)>,
    nars: HashSet<(CacheId, NarId)>,
}

/// Reads that somebody is about to write, sorted.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct TakenUses {
    /// Paths whose narinfos were read.
    pub paths: Vec<(CacheId, PathId)>,
    /// NARs that were read.
    pub nars: Vec<(CacheId, NarId)>,
}

impl UseSet {
    fn len(&self) -> usize {
        self.paths.len() + self.nars.len()
    }
}

impl PathUses {
    /// A narinfo was read.
    pub fn note_path(&self, cache: CacheId, path: PathId) {
        let mut noted = self.noted();
        if noted.len() < MAX_ENTRIES
            && noted.paths.insert((cache, path))
            && noted.len() == NEARLY_FULL
        {
            self.0.nearly_full.notify_one();
        }
    }

    /// A NAR was read, or a part of it.
    pub fn note_nar(&self, cache: CacheId, nar: NarId) {
        let mut noted = self.noted();
        if noted.len() < MAX_ENTRIES
            && noted.nars.insert((cache, nar))
            && noted.len() == NEARLY_FULL
        {
            self.0.nearly_full.notify_one();
        }
    }

    /// Comes back when much is noted.
    pub async fn nearly_full(&self) {
        self.0.nearly_full.notified().await;
    }

    /// Whether much is noted.
    #[must_use]
    pub fn is_nearly_full(&self) -> bool {
        self.noted().len() >= NEARLY_FULL
    }

    /// Everything that was noted, which is forgotten here.
    #[must_use]
    pub fn take(&self) -> TakenUses {
        let UseSet { paths, nars } = std::mem::take(&mut *self.noted());
        let mut taken =
            TakenUses { paths: paths.into_iter().collect(), nars: nars.into_iter().collect() };
        // Always in the same order, so that two servers that write do not wait for each other.
        taken.paths.sort_unstable();
        taken.nars.sort_unstable();
        taken
    }

    /// Notes again what was taken and not written, as far as there is room.
    pub fn give_back(&self, taken: TakenUses) {
        let mut noted = self.noted();
        let room = MAX_ENTRIES.saturating_sub(noted.len());
        noted.paths.extend(taken.paths.into_iter().take(room));
        let room = MAX_ENTRIES.saturating_sub(noted.len());
        noted.nars.extend(taken.nars.into_iter().take(room));
    }

    fn noted(&self) -> MutexGuard<'_, UseSet> {
        self.0.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CACHE: CacheId = CacheId(1);

    #[test]
    fn what_is_read_often_is_noted_once_and_taken_once() {
        let uses = PathUses::default();
        for id in [3, 1, 3, 2, 1] {
            uses.note_path(CACHE, PathId(id));
            uses.note_nar(CACHE, NarId(id));
        }
        uses.note_path(CacheId(0), PathId(9));
        let taken = uses.take();
        let paths =
            [(CacheId(0), PathId(9)), (CACHE, PathId(1)), (CACHE, PathId(2)), (CACHE, PathId(3))];
        assert_eq!((&taken.paths[..], taken.nars.len()), (&paths[..], 3));
        assert_eq!(uses.take(), TakenUses::default());
        uses.note_path(CACHE, PathId(4));
        uses.give_back(taken);
        assert_eq!(uses.take().paths.len(), 5, "what was not written is noted still");
    }

    #[tokio::test]
    async fn memory_is_bounded_and_whoever_writes_is_told_in_time() {
        let uses = PathUses::default();
        let many = |count: usize| (1..).map(PathId).take(count);
        many(NEARLY_FULL - 1).for_each(|path| uses.note_path(CACHE, path));
        assert!(!uses.is_nearly_full());
        assert!(futures_util::poll!(std::pin::pin!(uses.nearly_full())).is_pending());
        many(NEARLY_FULL).for_each(|path| uses.note_path(CACHE, path));
        assert!(uses.is_nearly_full());
        uses.nearly_full().await;
        assert!(futures_util::poll!(std::pin::pin!(uses.nearly_full())).is_pending(), "told once");
        many(2 * MAX_ENTRIES).for_each(|path| uses.note_path(CACHE, path));
        uses.note_nar(CACHE, NarId(1));
        let taken = uses.take();
        assert_eq!((taken.paths.len(), taken.nars.len()), (MAX_ENTRIES, 0));
        uses.give_back(taken);
        uses.give_back(TakenUses {
            paths: vec![(CACHE, PathId(0))],
            nars: vec![(CACHE, NarId(1))],
        });
        assert_eq!(uses.take().paths.len(), MAX_ENTRIES);
    }
}
