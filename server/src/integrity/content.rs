//! NARs decoded as clients get them, against the hashes in their rows: for `check` and `repair`.

use std::collections::HashMap;

use futures_util::TryStreamExt as _;
use roaring::RoaringTreemap;
use snowbank_core::cache_name::CacheName;
use snowbank_core::hash::Sha256Hasher;

use super::PathPattern;
use super::pace::Pace;
use crate::db::caches::CacheId;
use crate::db::nars::{Nar, NarId};
use crate::db::paths::PathId;
use crate::db::{self, Db, DbError};
use crate::serving::{NarBody, Representation, ServeError, nar_stream};

/// Rows read by one query.
const PAGE: u32 = 512;

/// The NARs of the visible paths that match a pattern: each once, in the order of the paths.
pub(super) struct NarSelection<'p> {
    pattern: &'p PathPattern,
    caches: HashMap<CacheId, CacheName>,
    selected: RoaringTreemap,
    after: PathId,
}

impl<'p> NarSelection<'p> {
    /// Selects among the paths with an id above `after`.
    pub(super) async fn new(
        db: &Db,
        pattern: &'p PathPattern,
        after: i64,
    ) -> Result<Self, DbError> {
        let caches = db::caches::list(db.reader().await?.exec()).await?;
        let caches = caches.into_iter().map(|cache| (cache.id, cache.name)).collect();
        Ok(Self { pattern, caches, selected: RoaringTreemap::new(), after: PathId(after) })
    }

    /// The next NARs, and the last path that was read for them; `None` after the last path.
    pub(super) async fn next(&mut self, db: &Db) -> Result<Option<(Vec<NarId>, PathId)>, DbError> {
        let page = db::check::paths(db.reader().await?.exec(), self.after, PAGE).await?;
        let Some(last) = page.last().map(|path| path.id) else { return Ok(None) };
        self.after = last;
        let mut nars = Vec::new();
        for path in page {
            let matches = path.nar_domain.is_some() && self.matches(path.cache, &path.base_name);
            if matches && self.selected.insert(path.nar.0.unsigned_abs()) {
                nars.push(path.nar);
            }
        }
        Ok(Some((nars, last)))
    }

    fn matches(&self, cache: CacheId, base_name: &str) -> bool {
        self.caches.get(&cache).is_some_and(|cache| self.pattern.matches(cache, base_name))
    }
}

/// Whether a pattern matches any path, visible or withdrawn: a check with a misspelt pattern must
/// not pass for one that found nothing. The pattern for all paths always matches.
///
/// # Errors
/// When the database fails.
pub async fn matches_any(db: &Db, pattern: &PathPattern) -> Result<bool, DbError> {
    if pattern.is_all() {
        return Ok(true);
    }
    let selection = NarSelection::new(db, pattern, 0).await?;
    let mut after = PathId(0);
    loop {
        let page = db::check::paths(db.reader().await?.exec(), after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.id;
        if page.iter().any(|path| selection.matches(path.cache, &path.base_name)) {
            return Ok(true);
        }
    }
    let mut after = (CacheId(0), String::new());
    loop {
        let page =
            db::damage::withdrawn(db.reader().await?.exec(), (after.0, &after.1), PAGE).await?;
        let Some(last) = page.last() else { return Ok(false) };
        after = (last.cache, last.hash.clone());
        if page.iter().any(|path| selection.matches(path.cache, &path.base_name())) {
            return Ok(true);
        }
    }
}

/// Decodes a NAR in both forms. Gives its fault, if it has one, and how many bytes came out.
///
/// # Errors
/// When the database or the storage does not answer, which says nothing of the NAR.
pub(super) async fn content_fault(
    body: &NarBody,
    nar: &Nar,
    pace: &mut Pace,
) -> Result<(Option<String>, u64), ServeError> {
    let mut read = 0;
    for (representation, expected) in [
        (Representation::Raw, nar.nar_hash.to_string()),
        (Representation::Zstd, nar.file_hash.to_string()),
    ] {
        match served_hash(body, nar.clone(), representation, pace).await {
            Ok((hash, bytes)) => {
                read += bytes;
                if hash != expected {
                    let detail = format!(
                        "served as {representation:?} it has {hash} where its row says {expected}"
                    );
                    return Ok((Some(detail), read));
                }
            }
            Err(error) if error.suspect().is_some() => return Ok((Some(error.to_string()), read)),
            Err(error) => return Err(error),
        }
    }
    Ok((None, read))
}

async fn served_hash(
    body: &NarBody,
    nar: Nar,
    representation: Representation,
    pace: &mut Pace,
) -> Result<(String, u64), ServeError> {
    let length = representation.len(&nar);
    let mut stream =
        std::pin::pin!(nar_stream(body.clone(), None, nar.into(), representation, 0..length));
    let mut hasher = Sha256Hasher::new();
    let mut bytes = 0;
    while let Some(piece) = stream.try_next().await? {
        hasher.update(&piece);
        bytes += piece.len() as u64;
        pace.read(piece.len() as u64).await;
    }
    Ok((hasher.finish().to_string(), bytes))
}
