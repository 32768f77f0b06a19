//! What a cache holds, path by path.
//!
//! A page costs the same whatever the cache holds: it ends where enough rows were looked at, where
//! enough of them fit, or where its JSON is long enough, and says where to go on.

use snowbank_core::store_path::{StoreDir, StorePath, StorePathHash};
use snowbank_core::wire::admin::{PathDetails, PathPage, PathQueryText};

use super::AdminError;
use super::page::{self, MAX_PAGE_BYTES, fitting};
use super::path_cursor::{NameFilter, PathCursor};
use crate::db::caches::Cache;
use crate::db::path_pages::PathKey;
use crate::db::paths::{PathId, PathRecord};
use crate::db::pin_pages::PinsOfPath;
use crate::db::{self, Conn, Db};

/// Rows that are looked at for one answer.
const MAX_LOOKED_AT: usize = 2_000;
/// Paths in one answer.
const MAX_LISTED: usize = 500;
/// Bytes of texts that are read for one answer, but for its first path; in JSON they are a little
/// longer.
const MAX_READ_BYTES: u64 = MAX_PAGE_BYTES as u64;
/// References of one path that are shown, and pins.
const MAX_REFERENCES: usize = 2_000;
const MAX_PINS: usize = 20;
/// Generations of pins that are looked at for each path of a page, and for one that is asked for by
/// itself.
const MAX_GENERATIONS_LISTED: u32 = 32;
const MAX_GENERATIONS_SHOWN: u32 = 1_000;

/// Paths whose name fits a pattern. `shows_subjects`: whether the answer says who pushed them.
///
/// # Errors
/// [`AdminError::BadSetting`] for a cursor that is none.
pub async fn list_paths(
    db: &Db,
    cache: &Cache,
    query: &PathQueryText,
    shows_subjects: bool,
    now: i64,
) -> Result<PathPage, AdminError> {
    let wanted = NameFilter::new(query.pattern.as_deref());
    let start = query.after.as_deref().map(str::parse).transpose()?.or_else(|| wanted.start());
    let mut conn = db.reader().await?;
    let Selection { keys, mut next } = find(&mut conn, cache, &wanted, start).await?;
    let ids: Vec<PathId> = keys.iter().map(|(key, _)| key.id).collect();
    let hashes: Vec<StorePathHash> = keys.iter().map(|(key, _)| key.store_path.hash()).collect();
    let mut records = db::path_pages::records(conn.exec(), &ids).await?;
    let mut pins =
        db::pin_pages::of_paths(conn.exec(), cache.id, &hashes, now, MAX_GENERATIONS_LISTED)
            .await?;
    drop(conn);
    page::count_rows(records.len() + pins.values().map(|pins| pins.names.len()).sum::<usize>());
    let mut paths = Vec::with_capacity(keys.len());
    for (key, cursor) in keys {
        // One that went meanwhile is not there.
        if let Some(record) = records.remove(&key.id) {
            let pins = pins.remove(&key.store_path.hash()).unwrap_or_default();
            paths.push((details(&cache.store_dir, record, pins, shows_subjects), cursor));
        }
    }
    let fitting = fitting(paths.iter().map(|(details, _)| details));
    if fitting < paths.len() {
        paths.truncate(fitting);
        next = paths.last().map(|(_, cursor)| cursor.clone());
    }
    let next = next.map(|cursor| cursor.to_string());
    Ok(PathPage { paths: paths.into_iter().map(|(details, _)| details).collect(), next })
}

/// What is to be shown, each with the cursor behind it, and where to go on.
struct Selection {
    keys: Vec<(PathKey, PathCursor)>,
    next: Option<PathCursor>,
}

async fn find(
    conn: &mut Conn,
    cache: &Cache,
    wanted: &NameFilter<'_>,
    start: Option<PathCursor>,
) -> Result<Selection, AdminError> {
    let (mut keys, mut next) = (Vec::new(), start);
    let (mut looked_at, mut bytes) = (0, 0_u64);
    while let Some(cursor) = next.clone().filter(|_| looked_at < MAX_LOOKED_AT) {
        let limit = MAX_LOOKED_AT - looked_at;
        let seen = wanted
            .keys(conn.exec(), cache.id, &cursor, u32::try_from(limit).unwrap_or(u32::MAX))
            .await?;
        looked_at += seen.len().max(1);
        page::count_rows(seen.len());
        let is_last = seen.len() < limit;
        for key in seen {
            let behind = cursor.behind(&key);
            if wanted.fits(&cursor, &key) {
                bytes = bytes.saturating_add(key.bytes);
                if keys.len() >= MAX_LISTED || (bytes > MAX_READ_BYTES && !keys.is_empty()) {
                    return Ok(Selection { keys, next });
                }
                keys.push((key, behind.clone()));
            }
            next = Some(behind);
        }
        if is_last {
            next = wanted.next_part(&cursor);
        }
    }
    Ok(Selection { keys, next })
}

/// A path, by its full store path, base name or hash part. `shows_subjects`: whether the answer
/// says who pushed it.
///
/// # Errors
/// [`AdminError::NoPath`], [`AdminError::BadSetting`] for what is no path.
pub async fn show_path(
    db: &Db,
    cache: &Cache,
    path: &str,
    shows_subjects: bool,
    now: i64,
) -> Result<PathDetails, AdminError> {
    let hash = hash_part(&cache.store_dir, path)?;
    let mut conn = db.reader().await?;
    let mut found = db::paths::records(conn.exec(), cache.id, &[hash]).await?;
    let record = found.remove(&hash).ok_or_else(|| AdminError::NoPath(path.to_owned()))?;
    let mut pins =
        db::pin_pages::of_paths(conn.exec(), cache.id, &[hash], now, MAX_GENERATIONS_SHOWN).await?;
    page::count_rows(1 + pins.values().map(|pins| pins.names.len()).sum::<usize>());
    Ok(details(&cache.store_dir, record, pins.remove(&hash).unwrap_or_default(), shows_subjects))
}

/// The hash part of what a person calls a path: the whole of it, its base name, or the hash part
/// itself.
///
/// # Errors
/// [`AdminError::BadSetting`] for what is none of these.
pub fn hash_part(dir: &StoreDir, text: &str) -> Result<StorePathHash, AdminError> {
    let bad = || {
        AdminError::BadSetting(format!(
            "`{text}` is not a store path, its base name or its hash part"
        ))
    };
    if text.len() == 32 {
        return StorePathHash::from_chars(text.as_bytes()).ok_or_else(bad);
    }
    let base = text.strip_prefix(dir.as_str()).map_or(text, |rest| rest.trim_start_matches('/'));
    let path =
        StorePath::from_base_name(base.split('/').next().unwrap_or(base)).map_err(|_| bad())?;
    Ok(path.hash())
}

fn details(
    dir: &StoreDir,
    record: PathRecord,
    pins: PinsOfPath,
    shows_subjects: bool,
) -> PathDetails {
    let more_pins = pins.has_more || pins.names.len() > MAX_PINS;
    PathDetails {
        store_path: record.store_path.full(dir),
        nar_hash: record.nar.nar_hash.to_string(),
        nar_size: record.nar.nar_size,
        file_size: record.nar.file_size,
        references: record
            .references
            .iter()
            .take(MAX_REFERENCES)
            .map(StorePath::base_name)
            .collect(),
        more_references: record.references.len().saturating_sub(MAX_REFERENCES) as u64,
        deriver: record.deriver.as_ref().map(StorePath::base_name),
        signatures: record.signatures.iter().map(ToString::to_string).collect(),
        ca: record.ca,
        pushed_by: shows_subjects.then_some(record.pushed_by),
        created: record.created,
        last_used: record.last_used,
        expires: record.expires,
        pins: pins.names.into_iter().take(MAX_PINS).collect(),
        more_pins,
    }
}

#[cfg(test)]
mod tests;
