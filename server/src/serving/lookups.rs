//! What readers ask the database, gathered: narinfos, and NARs, small ones with the places of their
//! chunks.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Instant;

use snowbank_core::hash::NarHash;
use snowbank_core::manifest::Segment;
use snowbank_core::store_path::StorePathHash;

use crate::db::caches::CacheId;
use crate::db::chunks::ChunkLocation;
use crate::db::nars::Nar;
use crate::db::paths::{PathRecord, VisibleNar};
use crate::db::{self, Answers, Db, DbError, Gather};

/// The chunks of a NAR that has no more than these are located along with it.
const FEW_CHUNKS: usize = 8;

/// A NAR that is to be read, and what is known of it already.
#[derive(Debug, Clone)]
pub struct FoundNar {
    /// The NAR.
    pub nar: Nar,
    /// All of its manifest, where that is short.
    pub(super) known: Option<Arc<ShortManifest>>,
    /// When it was looked for.
    pub(super) at: Instant,
}

/// A short manifest, and where its chunks lie, if they are few.
#[derive(Debug)]
pub(super) struct ShortManifest {
    pub(super) manifest: Segment,
    pub(super) places: HashMap<u64, ChunkLocation>,
}

impl From<Nar> for FoundNar {
    fn from(nar: Nar) -> Self {
        Self { nar, known: None, at: Instant::now() }
    }
}

/// The questions of all readers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Lookups {
    paths: Gather<(CacheId, StorePathHash), Arc<PathRecord>>,
    nars: Gather<(CacheId, NarHash), FoundNar>,
}

impl Lookups {
    /// Nothing is asked before somebody wants to know.
    #[must_use]
    pub fn new(db: &Db) -> Self {
        Self { paths: Gather::new(db.clone(), ask_paths), nars: Gather::new(db.clone(), ask_nars) }
    }

    /// The path with this hash part, if the cache has it.
    pub async fn path(
        &self,
        cache: CacheId,
        hash: StorePathHash,
    ) -> Result<Option<Arc<PathRecord>>, Arc<DbError>> {
        self.paths.get((cache, hash)).await
    }

    /// The NAR with this hash, if the cache shows a path with it.
    pub async fn nar(
        &self,
        cache: CacheId,
        hash: NarHash,
    ) -> Result<Option<FoundNar>, Arc<DbError>> {
        self.nars.get((cache, hash)).await
    }
}

fn ask_paths(
    db: Db,
    keys: Vec<(CacheId, StorePathHash)>,
) -> Answers<(CacheId, StorePathHash), Arc<PathRecord>> {
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

fn ask_nars(db: Db, keys: Vec<(CacheId, NarHash)>) -> Answers<(CacheId, NarHash), FoundNar> {
    Box::pin(async move {
        let at = Instant::now();
        let mut conn = db.reader().await?;
        let mut found = Vec::with_capacity(keys.len());
        let mut few = Vec::new();
        for (cache, hashes) in by_cache(keys) {
            for (hash, VisibleNar { nar, manifest }) in
                db::paths::visible_nars(conn.exec(), cache, &hashes).await?
            {
                // One that is damaged is read once more, and told of, by whoever wants that NAR.
                let manifest = manifest.and_then(|manifest| Segment::decode(&manifest).ok());
                if let Some(Segment { entries, .. }) =
                    manifest.as_ref().filter(|known| known.entries.len() <= FEW_CHUNKS)
                {
                    few.extend(entries.iter().map(|entry| entry.id));
                }
                found.push(((cache, hash), nar, manifest));
            }
        }
        let places = db::chunks::lookup_by_ids(conn.exec(), &few).await?;
        let known = |manifest: Segment| {
            let place = |id: u64| places.get(&id).map(|place| (id, place.clone()));
            let places = manifest
                .entries
                .iter()
                .take(FEW_CHUNKS)
                .filter_map(|entry| place(entry.id))
                .collect();
            Arc::new(ShortManifest { manifest, places })
        };
        Ok(found
            .into_iter()
            .map(|(key, nar, manifest)| (key, FoundNar { nar, known: manifest.map(known), at }))
            .collect())
    })
}

fn by_cache<K: Eq + Hash>(keys: Vec<(CacheId, K)>) -> HashMap<CacheId, Vec<K>> {
    let mut sorted: HashMap<CacheId, Vec<K>> = HashMap::new();
    for (cache, key) in keys {
        sorted.entry(cache).or_default().push(key);
    }
    sorted
}
