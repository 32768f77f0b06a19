//! What paths refer to, for those who walk over many of them.

use snowbank_core::store_path::StorePathHash;

use super::counters::{self, Counter};
use super::exec::on_either;
use super::ids::{CacheId, PathId};
use super::{DbError, Exec};

/// What a path refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathEdges {
    /// The path's id.
    pub id: PathId,
    /// The cache that it is in.
    pub cache: CacheId,
    /// Its hash part.
    pub hash: StorePathHash,
    /// The hash parts of what it refers to, itself among them if it does.
    pub references: Vec<StorePathHash>,
}

type EdgesRow = (i64, i64, String, String);

fn path_edges((id, cache, own, refs): EdgesRow) -> Result<PathEdges, DbError> {
    let hash = |column, text: &str| {
        let hash = text.as_bytes().get(..32).and_then(StorePathHash::from_chars);
        hash.ok_or_else(|| {
            DbError::corrupt(format!("{column}: `{text}` does not begin with a hash part"))
        })
    };
    let references = refs
        .split_ascii_whitespace()
        .map(|name| hash("paths.refs", name))
        .collect::<Result<_, _>>()?;
    Ok(PathEdges {
        id: PathId(id),
        cache: CacheId(cache),
        hash: hash("paths.hash", &own)?,
        references,
    })
}

/// Up to `limit` paths of a cache with a hash part after `after`, sorted by it, with no more than
/// what they refer to.
pub async fn of_cache(
    exec: Exec<'_>,
    cache: CacheId,
    after: Option<&StorePathHash>,
    limit: u32,
) -> Result<Vec<PathEdges>, DbError> {
    let after = after.map(StorePathHash::to_string).unwrap_or_default();
    let rows: Vec<EdgesRow> = on_either!(exec, |conn| {
        sqlx::query_as(
            "SELECT id, cache_id, hash, refs FROM paths WHERE cache_id = $1 AND hash > $2 ORDER BY \
             hash LIMIT $3",
        )
        .bind(cache.0)
        .bind(after)
        .bind(i64::from(limit))
        .fetch_all(conn)
        .await?
    });
    rows.into_iter().map(path_edges).collect()
}

/// Up to `limit` paths of all caches with an id above `after`, by id. Ids are not in the order of
/// commits: only what was [`last_id`] under an exclusive transaction has no lower one that is yet
/// to come.
pub async fn since(exec: Exec<'_>, after: PathId, limit: u32) -> Result<Vec<PathEdges>, DbError> {
    let rows: Vec<EdgesRow> = on_either!(exec, |conn| {
        sqlx::query_as(
            "SELECT id, cache_id, hash, refs FROM paths WHERE id > $1 ORDER BY id LIMIT $2",
        )
        .bind(after.0)
        .bind(i64::from(limit))
        .fetch_all(conn)
        .await?
    });
    rows.into_iter().map(path_edges).collect()
}

/// The highest id that a path has, or had.
pub async fn last_id(exec: Exec<'_>) -> Result<PathId, DbError> {
    counters::last(exec, Counter::Path).await.map(PathId)
}
