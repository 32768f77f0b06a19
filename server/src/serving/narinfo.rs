//! Narinfos: looked up, signed with every active key of the cache, and kept rendered for a few
//! seconds.
//!
//! A path that was added is there at once, since what is missing is never kept; one that was
//! deleted or whose cache was reconfigured is gone within [`STALENESS`].

use std::sync::Arc;

use bytes::Bytes;
use snowbank_core::narinfo::{NarInfo, fingerprint};
use snowbank_core::store_path::StorePathHash;

use crate::db::DbError;
use crate::db::caches::CacheId;
use crate::db::paths::{PathId, PathRecord};
use crate::directory::{OpenCache, STALENESS};

use super::Lookups;

/// What is kept of them: a few hundred bytes each.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// A narinfo as it goes out.
#[derive(Debug, Clone)]
pub struct RenderedNarinfo {
    /// The text.
    pub body: Bytes,
    /// The path that it is about.
    pub path: PathId,
}

/// Looks up and renders narinfos.
#[derive(Debug, Clone)]
pub struct Narinfos {
    lookups: Lookups,
    rendered: moka::sync::Cache<(CacheId, StorePathHash), RenderedNarinfo>,
}

impl Narinfos {
    /// Nothing is read before it is asked for.
    #[must_use]
    pub fn new(lookups: Lookups) -> Self {
        let rendered = moka::sync::Cache::builder()
            .max_capacity(MAX_BYTES)
            .weigher(|_, narinfo: &RenderedNarinfo| {
                u32::try_from(narinfo.body.len() + 128).unwrap_or(u32::MAX)
            })
            .time_to_live(STALENESS)
            .build();
        Self { lookups, rendered }
    }

    /// The narinfo of the path with this hash part, if the cache has it.
    pub async fn lookup(
        &self,
        cache: &OpenCache,
        hash: &StorePathHash,
    ) -> Result<Option<RenderedNarinfo>, Arc<DbError>> {
        let key = (cache.cache.id, *hash);
        if let Some(rendered) = self.rendered.get(&key) {
            return Ok(Some(rendered));
        }
        let Some(path) = self.lookups.path(cache.cache.id, *hash).await? else {
            return Ok(None);
        };
        // Those who want it at the same time share one signing.
        Ok(Some(self.rendered.get_with(key, || render(cache, &path))))
    }
}

impl Narinfos {
    /// Drops what is kept of a path that is out of sight now.
    pub fn forget(&self, cache: CacheId, hash: StorePathHash) {
        self.rendered.invalidate(&(cache, hash));
    }
}

fn render(cache: &OpenCache, path: &PathRecord) -> RenderedNarinfo {
    let store_dir = &cache.cache.store_dir;
    let nar = &path.nar;
    let signed =
        fingerprint(store_dir, &path.store_path, &nar.nar_hash, nar.nar_size, &path.references);
    let mut signatures: Vec<_> = cache.keys.iter().map(|key| key.sign(signed.as_bytes())).collect();
    // A pusher's signature in a name of ours would be the cache's own word from another mouth.
    let own = |name: &str| cache.keys.iter().any(|key| key.name() == name);
    signatures.extend(path.signatures.iter().filter(|signature| !own(signature.name())).cloned());
    let narinfo = NarInfo {
        url: format!("nar/{}.nar.zst", nar.nar_hash.to_nix32()),
        store_path: path.store_path.clone(),
        compression: "zstd".to_owned(),
        file_hash: Some(nar.file_hash),
        file_size: Some(nar.file_size),
        nar_hash: nar.nar_hash,
        nar_size: nar.nar_size,
        references: path.references.clone(),
        deriver: path.deriver.clone(),
        system: None,
        signatures,
        ca: path.ca.clone(),
        extra: path.extra.lines().map(str::to_owned).collect(),
    };
    RenderedNarinfo { body: Bytes::from(narinfo.render(store_dir)), path: path.id }
}

/// The text of `nix-cache-info`.
#[must_use]
pub fn nix_cache_info(cache: &OpenCache) -> String {
    let cache = &cache.cache;
    format!(
        "StoreDir: {}\nWantMassQuery: {}\nPriority: {}\n",
        cache.store_dir,
        u8::from(cache.want_mass_query),
        cache.priority
    )
}
