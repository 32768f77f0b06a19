//! What clients get: NARs decoded as they are served, against the hashes in their rows.

use std::collections::HashMap;

use futures_util::TryStreamExt as _;
use roaring::RoaringTreemap;
use snowbank_core::cache_name::CacheName;
use snowbank_core::hash::Sha256Hasher;

use super::rows::of_paths;
use super::{CONTENT, CheckError, PAGE, Pace, Phase, Run};
use crate::db::caches::CacheId;
use crate::db::nars::{Nar, NarId};
use crate::db::paths::PathId;
use crate::db::{self, Db, DbError};
use crate::gc::PathPattern;
use crate::serving::{NarBody, Representation, ServeError, nar_stream};

/// The NAR of every path that is meant: both forms as they are served.
pub(super) async fn nars(run: &mut Run<'_>, after: i64) -> Result<(), CheckError> {
    let checker = run.checker;
    let Some(pattern) = &checker.options.paths else { return Ok(()) };
    let mut wanted = Wanted::new(checker.db, after).await?;
    while let Some((page, last)) = wanted.next(checker.db, pattern).await? {
        for id in page {
            one(run, id).await?;
        }
        run.reached(Phase::Content, last.0);
    }
    Ok(())
}

async fn one(run: &mut Run<'_>, id: NarId) -> Result<(), CheckError> {
    let db = run.checker.db;
    let Some((_, Ok(facts))) = db::check::nar(db.reader().await?.exec(), id).await? else {
        return Ok(());
    };
    run.stats.decoded_nars += 1;
    let (fault, bytes) = content_fault(run.checker.nars, &facts.nar, &mut run.pace).await?;
    run.stats.read_bytes += bytes;
    let Some(detail) = fault else { return Ok(()) };
    // It may have been collected or withdrawn meanwhile.
    if db::check::nar(db.reader().await?.exec(), id).await?.is_some() {
        run.found(
            CONTENT,
            format!("NAR {}{}", facts.nar.nar_hash, of_paths(db, id).await?),
            detail,
        );
    }
    Ok(())
}

/// The NARs of the paths that are meant, each once, in the order of the paths.
pub(in crate::gc) struct Wanted {
    caches: HashMap<CacheId, CacheName>,
    done: RoaringTreemap,
    after: PathId,
}

impl Wanted {
    /// Those of paths with a higher id.
    pub(in crate::gc) async fn new(db: &Db, after: i64) -> Result<Self, DbError> {
        let caches = db::caches::list(db.reader().await?.exec()).await?;
        let caches = caches.into_iter().map(|cache| (cache.id, cache.name)).collect();
        Ok(Self { caches, done: RoaringTreemap::new(), after: PathId(after) })
    }

    /// Some of them, and the last path that was looked at.
    pub(in crate::gc) async fn next(
        &mut self,
        db: &Db,
        pattern: &PathPattern,
    ) -> Result<Option<(Vec<NarId>, PathId)>, DbError> {
        let page = db::check::paths(db.reader().await?.exec(), self.after, PAGE).await?;
        let Some(last) = page.last().map(|path| path.id) else { return Ok(None) };
        self.after = last;
        let mut nars = Vec::new();
        for path in page {
            let meant = self.means(pattern, path.cache, &path.base_name);
            if meant && path.nar_domain.is_some() && self.done.insert(path.nar.0.unsigned_abs()) {
                nars.push(path.nar);
            }
        }
        Ok(Some((nars, last)))
    }

    fn means(&self, pattern: &PathPattern, cache: CacheId, base_name: &str) -> bool {
        self.caches.get(&cache).is_some_and(|cache| pattern.means(cache, base_name))
    }
}

/// Whether a pattern means any path, visible or withdrawn: a misspelt one must not pass for a check
/// that found nothing. All paths may be none.
///
/// # Errors
/// As any read.
pub async fn means_any(db: &Db, pattern: &PathPattern) -> Result<bool, DbError> {
    if pattern.is_all() {
        return Ok(true);
    }
    let mut wanted = Wanted::new(db, 0).await?;
    loop {
        let page = db::check::paths(db.reader().await?.exec(), wanted.after, PAGE).await?;
        let Some(last) = page.last() else { break };
        wanted.after = last.id;
        if page.iter().any(|path| wanted.means(pattern, path.cache, &path.base_name)) {
            return Ok(true);
        }
    }
    let mut after = (CacheId(0), String::new());
    loop {
        let page =
            db::damage::withdrawn(db.reader().await?.exec(), (after.0, &after.1), PAGE).await?;
        let Some(last) = page.last() else { return Ok(false) };
        after = (last.cache, last.hash.clone());
        if page.iter().any(|path| wanted.means(pattern, path.cache, &path.base_name())) {
            return Ok(true);
        }
    }
}

/// Decodes a NAR in both forms; gives what is wrong with it, if anything, and how many bytes came
/// out.
///
/// # Errors
/// When the database or the storage does not answer, which says nothing of the NAR.
pub(in crate::gc) async fn content_fault(
    body: &NarBody,
    nar: &Nar,
    pace: &mut Pace,
) -> Result<(Option<String>, u64), CheckError> {
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
            Err(error) => return Err(error.into()),
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
