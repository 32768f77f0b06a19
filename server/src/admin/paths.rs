//! What a cache holds, path by path.

use snowbank_core::pattern::fits;
use snowbank_core::store_path::{StoreDir, StorePath, StorePathHash};
use snowbank_core::wire::admin::{PathDetails, PathPage, PathQueryText};

use super::AdminError;
use super::pins::pins_by_path;
use crate::db::caches::Cache;
use crate::db::paths::{PathId, PathRecord};
use crate::db::{self, Db};

/// Rows that are looked at for one answer: a pattern that nothing fits gives an empty page with a `next`.
const MOST_LOOKED_AT: u32 = 2_000;

/// Paths whose name fits a pattern, in the order in which they were pushed.
///
/// # Errors
/// As any read.
pub async fn list_paths(db: &Db, cache: &Cache, query: &PathQueryText, now: i64) -> Result<PathPage, AdminError> {
    let after = PathId(query.after.unwrap_or(0));
    let mut conn = db.reader().await?;
    let records = db::paths::page_of(conn.exec(), cache.id, after, MOST_LOOKED_AT).await?;
    let mut pins = pins_by_path(conn.exec(), cache, now).await?;
    drop(conn);
    let next = records.last().filter(|_| records.len() == MOST_LOOKED_AT as usize).map(|last| last.id.0);
    let wanted = |record: &PathRecord| {
        query.pattern.as_deref().is_none_or(|pattern| {
            fits(pattern, record.store_path.name()) || fits(pattern, &record.store_path.base_name())
        })
    };
    let details = |record: PathRecord| {
        let pins = pins.remove(&record.store_path.hash()).unwrap_or_default();
        details(&cache.store_dir, record, pins)
    };
    Ok(PathPage { paths: records.into_iter().filter(wanted).map(details).collect(), next })
}

/// A path, by its full store path, base name or hash part.
///
/// # Errors
/// [`AdminError::NoPath`], [`AdminError::BadSetting`] for what is no path.
pub async fn show_path(db: &Db, cache: &Cache, path: &str, now: i64) -> Result<PathDetails, AdminError> {
    let hash = hash_part(&cache.store_dir, path)?;
    let mut conn = db.reader().await?;
    let mut found = db::paths::records(conn.exec(), cache.id, &[hash]).await?;
    let record = found.remove(&hash).ok_or_else(|| AdminError::NoPath(path.to_owned()))?;
    let pins = pins_by_path(conn.exec(), cache, now).await?.remove(&hash);
    Ok(details(&cache.store_dir, record, pins.unwrap_or_default()))
}

/// The hash part of what a person calls a path: the whole of it, its base name, or the hash part itself.
///
/// # Errors
/// [`AdminError::BadSetting`] for what is none of these.
pub fn hash_part(dir: &StoreDir, text: &str) -> Result<StorePathHash, AdminError> {
    let bad = || AdminError::BadSetting(format!("`{text}` is not a store path, its base name or its hash part"));
    if text.len() == 32 {
        return StorePathHash::from_chars(text.as_bytes()).ok_or_else(bad);
    }
    let base = text.strip_prefix(dir.as_str()).map_or(text, |rest| rest.trim_start_matches('/'));
    let path = StorePath::from_base_name(base.split('/').next().unwrap_or(base)).map_err(|_| bad())?;
    Ok(path.hash())
}

fn details(dir: &StoreDir, record: PathRecord, pins: Vec<String>) -> PathDetails {
    PathDetails {
        store_path: record.store_path.full(dir),
        nar_hash: record.nar.nar_hash.to_string(),
        nar_size: record.nar.nar_size,
        file_size: record.nar.file_size,
        references: record.references.iter().map(StorePath::base_name).collect(),
        deriver: record.deriver.as_ref().map(StorePath::base_name),
        signatures: record.signatures.iter().map(ToString::to_string).collect(),
        ca: record.ca,
        pushed_by: record.pushed_by,
        created: record.created,
        last_used: record.last_used,
        expires: record.expires,
        pins,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_named_in_any_usual_way() {
        let dir = StoreDir::default();
        let hash = "0123456789abcdfghijklmnpqrsvwxyz";
        for text in [
            hash.to_owned(),
            format!("{hash}-hello"),
            format!("/nix/store/{hash}-hello"),
            format!("/nix/store/{hash}-hello/bin/hello"),
        ] {
            assert_eq!(hash_part(&dir, &text).unwrap().to_string(), hash, "{text}");
        }
        for text in ["", "hello", "/nix/store/hello", "/tmp/x"] {
            assert!(hash_part(&dir, text).is_err(), "{text}");
        }
    }
}
