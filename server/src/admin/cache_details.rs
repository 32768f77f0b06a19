//! A cache as operators see it: its settings, its keys, and what its paths take.

use snowbank_core::cache_name::CacheName;
use snowbank_core::wire::admin::{CacheDetails, CacheKey, CacheUsage};

use super::AdminError;
use crate::db::caches::Cache;
use crate::db::ids::DomainId;
use crate::db::keys::SigningKeyRow;
use crate::db::usage::CacheUsages;
use crate::db::{self, Exec, Tx};

pub(super) async fn existing(tx: &mut Tx, name: &CacheName) -> Result<Cache, AdminError> {
    db::caches::lookup(tx.exec(), name).await?.ok_or_else(|| AdminError::NoCache(name.clone()))
}

pub(super) async fn details(mut exec: Exec<'_>, cache: &Cache) -> Result<CacheDetails, AdminError> {
    let usages = db::usage::lookup_caches(exec.again()).await?;
    let keys = db::keys::signing_keys(exec, cache.id).await?;
    Ok(summary(cache, keys, usages.as_ref()))
}

pub(super) fn summary(
    cache: &Cache,
    keys: Vec<SigningKeyRow>,
    usages: Option<&CacheUsages>,
) -> CacheDetails {
    let key = |row: SigningKeyRow| CacheKey {
        public_key: row.key.public_key,
        created: row.created,
        retired: row.retired,
    };
    let usage = usages.and_then(|usages| Some((usages.counted, usages.of(cache.id)?)));
    CacheDetails {
        name: cache.name.to_string(),
        public: cache.public,
        isolated: cache.domain != DomainId::SHARED,
        store_dir: cache.store_dir.to_string(),
        priority: u32::try_from(cache.priority).unwrap_or(u32::MAX),
        want_mass_query: cache.want_mass_query,
        upstream_keys: cache.upstream_keys.clone(),
        compression_level: cache.compression_level,
        description: cache.description.clone(),
        retention: cache.retention,
        max_size: cache.max_size,
        keys: keys.into_iter().map(key).collect(),
        created: cache.created,
        destroyed: cache.destroyed,
        url: None,
        usage: usage.map(|(counted, usage)| CacheUsage {
            paths: usage.paths,
            logical_bytes: usage.logical,
            stored_bytes: usage.stored,
            own_bytes: usage.own,
            shared_bytes: usage.stored.saturating_sub(usage.own),
            counted,
        }),
    }
}
