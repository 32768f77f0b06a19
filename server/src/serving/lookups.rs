//! What readers ask the database, gathered: narinfos, NARs, and where the few chunks of a small NAR lie.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use snowbank_core::hash::NarHash;
use snowbank_core::store_path::StorePathHash;

use crate::db::caches::CacheId;
use crate::db::chunks::ChunkLocation;
use crate::db::paths::{PathRecord, VisibleNar};
use crate::db::{self, Answers, Db, DbError, Gather};

/// Up to this many chunks are looked up one by one, together with those of other requests; more are worth a statement.
pub(super) const FEW_CHUNKS: usize = 8;

/// The questions of all readers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Lookups {
    paths: Gather<(CacheId, StorePathHash), Arc<PathRecord>>,
    nars: Gather<(CacheId, NarHash), VisibleNar>,
    chunks: Gather<u64, ChunkLocation>,
}

impl Lookups {
    /// Nothing is asked before somebody wants to know.
    #[must_use]
    pub fn new(db: &Db) -> Self {
        Self {
            paths: Gather::new(db.clone(), ask_paths),
            nars: Gather::new(db.clone(), ask_nars),
            chunks: Gather::new(db.clone(), ask_chunks),
        }
    }

    /// The path with this hash part, if the cache has it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn path(&self, cache: CacheId, hash: StorePathHash) -> Result<Option<Arc<PathRecord>>, Arc<DbError>> {
        self.paths.get((cache, hash)).await
    }

    /// The NAR with this hash, if the cache shows a path with it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn nar(&self, cache: CacheId, hash: NarHash) -> Result<Option<VisibleNar>, Arc<DbError>> {
        self.nars.get((cache, hash)).await
    }

    /// Where these few chunks lie; those that are gone are not in the result.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) async fn few_chunks(&self, ids: &[u64]) -> Result<HashMap<u64, ChunkLocation>, Arc<DbError>> {
        let found = futures_util::future::try_join_all(ids.iter().map(|id| self.chunks.get(*id))).await?;
        Ok(found.into_iter().flatten().map(|location| (location.id, location)).collect())
    }
}

fn ask_paths(db: Db, keys: Vec<(CacheId, StorePathHash)>) -> Answers<(CacheId, StorePathHash), Arc<PathRecord>> {
    Box::pin(async move {
        let mut conn = db.reader().await?;
        let mut answers = HashMap::with_capacity(keys.len());
        for (cache, hashes) in by_cache(keys) {
            let found = db::paths::records(conn.exec(), cache, &hashes).await?;
            answers.extend(found.into_iter().map(|(hash, path)| ((cache, hash), Arc::new(path))));
        }
        Ok(answers)
    })
}

fn ask_nars(db: Db, keys: Vec<(CacheId, NarHash)>) -> Answers<(CacheId, NarHash), VisibleNar> {
    Box::pin(async move {
        let mut conn = db.reader().await?;
        let mut answers = HashMap::with_capacity(keys.len());
        for (cache, hashes) in by_cache(keys) {
            let found = db::paths::visible_nars(conn.exec(), cache, &hashes).await?;
            answers.extend(found.into_iter().map(|(hash, nar)| ((cache, hash), nar)));
        }
        Ok(answers)
    })
}

fn ask_chunks(db: Db, ids: Vec<u64>) -> Answers<u64, ChunkLocation> {
    Box::pin(async move { db::chunks::lookup_by_ids(db.reader().await?.exec(), &ids).await })
}

fn by_cache<K: Eq + Hash>(keys: Vec<(CacheId, K)>) -> HashMap<CacheId, Vec<K>> {
    let mut sorted: HashMap<CacheId, Vec<K>> = HashMap::new();
    for (cache, key) in keys {
        sorted.entry(cache).or_default().push(key);
    }
    sorted
}
