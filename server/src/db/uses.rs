//! When paths were used last: found, and written.

use super::batch::{self, Engine as _};
use super::exec::on_either;
use super::ids::{CacheId, NarId, PathId};
use super::{DbError, Exec};

/// Those of these paths that were not used since `before`, sorted.
pub async fn unused_since(
    exec: Exec<'_>,
    paths: &[PathId],
    before: i64,
) -> Result<Vec<PathId>, DbError> {
    let mut unused = Vec::new();
    on_either!(exec, |conn| {
        for batch in batch::padded(paths) {
            let ids = batch.placeholders(2);
            let sql = format!(
                "SELECT id FROM paths WHERE coalesce(last_used, created) < $1 AND id IN ({ids})"
            );
            let mut query = sqlx::query_scalar(conn.text(sql)).bind(before);
            for path in batch.iter() {
                query = query.bind(path.0);
            }
            let found: Vec<i64> = query.fetch_all(&mut *conn).await?;
            unused.extend(found);
        }
    });
    Ok(sorted(unused))
}

/// The cache's paths with one of these NARs that were not used since `before`, sorted.
pub async fn unused_with_nars(
    exec: Exec<'_>,
    cache: CacheId,
    nars: &[NarId],
    before: i64,
) -> Result<Vec<PathId>, DbError> {
    let mut unused = Vec::new();
    on_either!(exec, |conn| {
        for batch in batch::padded(nars) {
            // One NAR after the other, as with `PaddedBatch::ids`.
            let sql = format!(
                "SELECT p.id FROM (VALUES {}) AS q JOIN paths p ON p.nar_id = q.column1 AND \
                 p.cache_id = ${} WHERE coalesce(p.last_used, p.created) < ${}",
                batch.values(1),
                batch.len() + 1,
                batch.len() + 2
            );
            let mut query = sqlx::query_scalar(conn.text(sql));
            for nar in batch.iter() {
                query = query.bind(nar.0);
            }
            let found: Vec<i64> = query.bind(cache.0).bind(before).fetch_all(&mut *conn).await?;
            unused.extend(found);
        }
    });
    Ok(sorted(unused))
}

/// In one order everywhere, so that two that write rows do not wait for each other.
fn sorted(mut ids: Vec<i64>) -> Vec<PathId> {
    ids.sort_unstable();
    ids.dedup();
    ids.into_iter().map(PathId).collect()
}

/// Notes that paths, sorted, were read at the time `now`; those that were used since `before` stay
/// as they are.
pub async fn used(exec: Exec<'_>, paths: &[PathId], now: i64, before: i64) -> Result<(), DbError> {
    on_either!(exec, |conn| {
        for batch in batch::padded(paths) {
            let ids = batch.placeholders(3);
            let sql = format!(
                "UPDATE paths SET last_used = $1 WHERE coalesce(last_used, created) < $2 AND id IN \
                 ({ids})"
            );
            let mut query = sqlx::query(conn.text(sql)).bind(now).bind(before);
            for path in batch.iter() {
                query = query.bind(path.0);
            }
            query.execute(&mut *conn).await?;
        }
    });
    Ok(())
}

/// Notes that paths were pushed again at the time `now`, to be kept until `expires`, or, where that
/// is `None`, as long as the cache keeps paths. What is kept for longer stays so: a later end goes
/// before a sooner one, and none before any.
pub async fn touch(
    exec: Exec<'_>,
    paths: &[PathId],
    now: i64,
    expires: Option<i64>,
) -> Result<(), DbError> {
    let paths = sorted(paths.iter().map(|path| path.0).collect());
    on_either!(exec, |conn| {
        for batch in batch::padded(&paths) {
            // Where there is no end, the comparison is NULL, and none stays.
            let (end, first) = match expires {
                Some(_) => ("CASE WHEN expires < $2 THEN $3 ELSE expires END", 4),
                None => ("NULL", 2),
            };
            let ids = batch.placeholders(first);
            let sql =
                format!("UPDATE paths SET last_used = $1, expires = {end} WHERE id IN ({ids})");
            let mut query = sqlx::query(conn.text(sql)).bind(now);
            if let Some(expires) = expires {
                query = query.bind(expires).bind(expires);
            }
            for path in batch.iter() {
                query = query.bind(path.0);
            }
            query.execute(&mut *conn).await?;
        }
    });
    Ok(())
}
