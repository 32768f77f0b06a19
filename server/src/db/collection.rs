//! What the collector reads of paths, NARs and chunks, and how their rows go.
//!
//! Reads are pages of narrow rows. What removes rows is called in an
//! [`exclusive_tx`](super::Db::exclusive_tx) of the collector, which has looked, in that
//! transaction, that nothing needs them.

use std::collections::{HashMap, HashSet};

use snowbank_core::store_path::StorePathHash;
use sqlx::FromRow;

use super::batch::{self, Engine as _};
use super::counters::{self, Counter};
use super::exec::on_either;
use super::ids::{CacheId, NarId, PackId, PathId};
use super::{DbError, Exec, convert};

/// What decides whether a path stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathUse {
    /// The path's id.
    pub id: PathId,
    /// The cache that it is in.
    pub cache: CacheId,
    /// Its hash part.
    pub hash: StorePathHash,
    /// Its content.
    pub nar: NarId,
    /// When it became visible.
    pub created: i64,
    /// When it was read or pushed again last.
    pub last_used: Option<i64>,
    /// Until when it is kept, whoever reads it, if it was pushed for a time.
    pub expires: Option<i64>,
}

#[derive(FromRow)]
struct PathUseRow {
    id: i64,
    cache_id: i64,
    hash: String,
    nar_id: i64,
    created: i64,
    last_used: Option<i64>,
    expires: Option<i64>,
}

impl TryFrom<PathUseRow> for PathUse {
    type Error = DbError;

    fn try_from(row: PathUseRow) -> Result<Self, DbError> {
        let hash = StorePathHash::from_chars(row.hash.as_bytes());
        Ok(Self {
            id: PathId(row.id),
            cache: CacheId(row.cache_id),
            hash: hash.ok_or_else(|| {
                DbError::corrupt(format!("paths.hash: `{}` is no hash part", row.hash))
            })?,
            nar: NarId(row.nar_id),
            created: row.created,
            last_used: row.last_used,
            expires: row.expires,
        })
    }
}

/// Up to `limit` paths of all caches with an id above `after`, by id.
pub async fn path_uses(exec: Exec<'_>, after: PathId, limit: u32) -> Result<Vec<PathUse>, DbError> {
    let rows: Vec<PathUseRow> = on_either!(exec, |conn| {
        sqlx::query_as(
            "SELECT id, cache_id, hash, nar_id, created, last_used, expires FROM paths WHERE id > \
             $1 ORDER BY id LIMIT $2",
        )
        .bind(after.0)
        .bind(i64::from(limit))
        .fetch_all(conn)
        .await?
    });
    rows.into_iter().map(PathUse::try_from).collect()
}

/// The same for these paths, as far as they are there.
pub async fn path_uses_of(exec: Exec<'_>, ids: &[PathId]) -> Result<Vec<PathUse>, DbError> {
    let mut rows: Vec<PathUseRow> = Vec::with_capacity(ids.len());
    on_either!(exec, |conn| {
        for batch in batch::padded(ids) {
            let sql = format!(
                "SELECT id, cache_id, hash, nar_id, created, last_used, expires FROM paths WHERE \
                 id IN ({})",
                batch.placeholders(1)
            );
            let mut query = sqlx::query_as(conn.text(sql));
            for id in batch.iter() {
                query = query.bind(id.0);
            }
            rows.extend(query.fetch_all(&mut *conn).await?);
        }
    });
    rows.into_iter().map(PathUse::try_from).collect()
}

/// The base names of these paths.
pub async fn path_names(
    exec: Exec<'_>,
    ids: &[PathId],
) -> Result<HashMap<PathId, String>, DbError> {
    let mut rows: Vec<(i64, String, String)> = Vec::with_capacity(ids.len());
    on_either!(exec, |conn| {
        for batch in batch::padded(ids) {
            let sql =
                format!("SELECT id, hash, name FROM paths WHERE id IN ({})", batch.placeholders(1));
            let mut query = sqlx::query_as(conn.text(sql));
            for id in batch.iter() {
                query = query.bind(id.0);
            }
            rows.extend(query.fetch_all(&mut *conn).await?);
        }
    });
    Ok(rows.into_iter().map(|(id, hash, name)| (PathId(id), format!("{hash}-{name}"))).collect())
}

/// Runs `$sql`, a statement that ends in `… IN`, for ids, and gives how many rows it changed.
macro_rules! for_ids {
    ($exec:expr, $sql:expr, $ids:expr, |$id:ident| $value:expr) => {{
        let mut changed = 0;
        on_either!($exec, |conn| {
            for batch in batch::padded($ids) {
                let sql = format!("{} ({})", $sql, batch.placeholders(1));
                let mut query = sqlx::query(conn.text(sql));
                for $id in batch.iter() {
                    query = query.bind($value);
                }
                changed += query.execute(&mut *conn).await?.rows_affected();
            }
        });
        changed
    }};
}

/// Takes paths out of sight.
pub async fn remove_paths(exec: Exec<'_>, ids: &[PathId]) -> Result<u64, DbError> {
    Ok(for_ids!(exec, "DELETE FROM paths WHERE id IN", ids, |id| id.0))
}

/// The highest id that a NAR may have. Under an exclusive transaction, every NAR up to it is there
/// or never will be.
pub async fn last_nar(exec: Exec<'_>) -> Result<NarId, DbError> {
    counters::last(exec, Counter::Nar).await.map(NarId)
}

/// A NAR's row, with the beginning of its manifest.
#[derive(Debug, Clone)]
pub struct NarManifest {
    /// The NAR's id.
    pub id: NarId,
    /// Length of the NAR.
    pub nar_size: u64,
    /// Segments of its manifest.
    pub segment_count: u32,
    /// The first of them, encoded.
    pub first: Vec<u8>,
}

/// Up to `limit` NARs with an id above `after` and at most `last`, by id.
pub async fn manifests(
    exec: Exec<'_>,
    after: NarId,
    last: NarId,
    limit: u32,
) -> Result<Vec<NarManifest>, DbError> {
    let rows: Vec<(i64, i64, i64, Vec<u8>)> = on_either!(exec, |conn| {
        sqlx::query_as(
            "SELECT id, nar_size, segment_count, manifest FROM nars WHERE id > $1 AND id <= $2 \
             ORDER BY id LIMIT $3",
        )
        .bind(after.0)
        .bind(last.0)
        .bind(i64::from(limit))
        .fetch_all(conn)
        .await?
    });
    let manifest = |(id, nar_size, segment_count, first)| {
        Ok(NarManifest {
            id: NarId(id),
            nar_size: convert::number("nars.nar_size", nar_size)?,
            segment_count: convert::number("nars.segment_count", segment_count)?,
            first,
        })
    };
    rows.into_iter().map(manifest).collect()
}

/// NARs that were found without a path, and when.
pub async fn unreferenced(exec: Exec<'_>) -> Result<HashMap<NarId, i64>, DbError> {
    let rows: Vec<(i64, i64)> = on_either!(exec, |conn| {
        sqlx::query_as("SELECT nar_id, since FROM unreferenced_nars").fetch_all(conn).await?
    });
    Ok(rows.into_iter().map(|(nar, since)| (NarId(nar), since)).collect())
}

/// Notes that these NARs were found without a path; of those that were before, the earlier time
/// stays.
pub async fn note_unreferenced(exec: Exec<'_>, nars: &[NarId], since: i64) -> Result<(), DbError> {
    on_either!(exec, |conn| {
        for batch in batch::exact(nars) {
            let sql = format!(
                "INSERT INTO unreferenced_nars (nar_id, since) VALUES {} ON CONFLICT (nar_id) DO \
                 NOTHING",
                batch::rows(2, batch.len())
            );
            let mut query = sqlx::query(conn.text(sql));
            for nar in batch {
                query = query.bind(nar.0).bind(since);
            }
            query.execute(&mut *conn).await?;
        }
    });
    Ok(())
}

/// Forgets that these NARs were found without a path.
pub async fn forget_unreferenced(exec: Exec<'_>, nars: &[NarId]) -> Result<(), DbError> {
    for_ids!(exec, "DELETE FROM unreferenced_nars WHERE nar_id IN", nars, |nar| nar.0);
    Ok(())
}

/// Removes those of these NARs that no path and no log has, and that were not uploaded after
/// `uploaded_after`, with their manifests; gives those that stay.
pub async fn remove_nars(
    mut exec: Exec<'_>,
    nars: &[NarId],
    uploaded_after: i64,
) -> Result<Vec<NarId>, DbError> {
    let mut needed: HashSet<NarId> = HashSet::new();
    on_either!(exec.again(), |conn| {
        for batch in batch::padded(nars) {
            let sql = format!(
                "SELECT nar_id FROM paths WHERE nar_id IN ({nars}) UNION SELECT nar_id FROM \
                 nar_uploads WHERE created > $1 AND nar_id IN ({nars}) UNION SELECT nar_id FROM \
                 cache_files WHERE nar_id IN ({nars})",
                nars = batch.placeholders(2)
            );
            let mut query = sqlx::query_scalar(conn.text(sql)).bind(uploaded_after);
            for nar in batch.iter() {
                query = query.bind(nar.0);
            }
            let found: Vec<i64> = query.fetch_all(&mut *conn).await?;
            needed.extend(found.into_iter().map(NarId));
        }
    });
    let going: Vec<NarId> = nars.iter().copied().filter(|nar| !needed.contains(nar)).collect();
    for_ids!(exec.again(), "DELETE FROM nar_segments WHERE nar_id IN", &going, |nar| nar.0);
    for_ids!(exec.again(), "DELETE FROM nars WHERE id IN", &going, |nar| nar.0);
    forget_unreferenced(exec, nars).await?;
    Ok(needed.into_iter().collect())
}

/// A chunk's row, as far as collecting it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkPlace {
    /// Its id.
    pub id: u64,
    /// The pack that holds it.
    pub pack: PackId,
    /// How long its record is.
    pub len: u32,
}

/// Up to `limit` chunks with an id above `after`, by id.
pub async fn chunk_places(
    exec: Exec<'_>,
    after: u64,
    limit: u32,
) -> Result<Vec<ChunkPlace>, DbError> {
    let after = convert::to_db(after)?;
    let rows: Vec<(i64, i64, i64)> = on_either!(exec, |conn| {
        sqlx::query_as(
            "SELECT id, pack_id, record_len FROM chunks WHERE id > $1 ORDER BY id LIMIT $2",
        )
        .bind(after)
        .bind(i64::from(limit))
        .fetch_all(conn)
        .await?
    });
    let place = |(id, pack, len)| {
        Ok(ChunkPlace {
            id: convert::number("chunks.id", id)?,
            pack: PackId(pack),
            len: convert::number("chunks.record_len", len)?,
        })
    };
    rows.into_iter().map(place).collect()
}

/// Removes chunks, and what is known of damage to them.
pub async fn remove_chunks(mut exec: Exec<'_>, ids: &[u64]) -> Result<u64, DbError> {
    let ids = ids.iter().map(|id| convert::to_db(*id)).collect::<Result<Vec<i64>, DbError>>()?;
    for_ids!(exec.again(), "DELETE FROM damaged_chunks WHERE chunk_id IN", &ids, |id| *id);
    Ok(for_ids!(exec, "DELETE FROM chunks WHERE id IN", &ids, |id| *id))
}
