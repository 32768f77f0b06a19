//! Chunks whose bytes are damaged or gone, and paths that were taken out of sight because of them.
//!
//! A chunk is *retired* by another name for its row, [`retired_name`], which no client can ask for.
//! So by its own name it is missing, and is sent again under a new id (C2); a commit that has read
//! it finds that it is no longer what it was (W4); a manifest that names it still finds a row, and
//! whoever reads it sees that another chunk lies there. Both, retiring and withdrawing, are done in
//! an [`exclusive_tx`](super::Db::exclusive_tx).

use std::collections::HashSet;

use snowbank_core::chunk::ChunkName;
use snowbank_core::hash::NarHash;
use snowbank_core::pack::PackKey;
use snowbank_core::store_path::StorePathHash;
use sqlx::FromRow;

use super::batch::{self, Engine as _};
use super::chunks::ChunkLocation;
use super::exec::on_either;
use super::ids::{CacheId, DomainId, NarId, PathId};
use super::{DbError, Exec, convert};

/// BLAKE3's context for retired names.
const RETIRED: &str = "snowbank 2026-11 retired chunk";

/// The name that the row of a retired chunk has.
#[must_use]
pub fn retired_name(id: u64) -> ChunkName {
    let mut hasher = blake3::Hasher::new_derive_key(RETIRED);
    hasher.update(&id.to_le_bytes());
    ChunkName::from_bytes(*hasher.finalize().as_bytes())
}

/// Whether the chunk of this row is retired.
#[must_use]
pub fn is_retired(chunk: &ChunkLocation) -> bool {
    chunk.name == retired_name(chunk.id)
}

/// A chunk that is to be retired, as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retirement {
    /// The domain of its row.
    pub domain: DomainId,
    /// Its row.
    pub chunk: ChunkLocation,
    /// What is wrong with its bytes.
    pub reason: String,
}

/// Retires those of these chunks whose rows are still as they were found; gives their ids.
pub async fn retire(
    mut exec: Exec<'_>,
    chunks: &[Retirement],
    now: i64,
) -> Result<Vec<u64>, DbError> {
    let mut renamed: HashSet<u64> = HashSet::new();
    on_either!(exec.again(), |conn| {
        for batch in batch::exact(chunks) {
            let sql = format!(
                "UPDATE chunks SET name = q.column2 FROM (VALUES {}) AS q WHERE chunks.id = \
                 q.column1 AND chunks.name = q.column3 AND chunks.pack_id = q.column4 AND \
                 chunks.pack_offset = q.column5 RETURNING id",
                batch::rows(5, batch.len())
            );
            let mut query = sqlx::query_scalar(conn.text(sql));
            for Retirement { chunk, .. } in batch {
                query = query
                    .bind(convert::to_db(chunk.id)?)
                    .bind(retired_name(chunk.id).as_bytes().to_vec())
                    .bind(chunk.name.as_bytes().to_vec())
                    .bind(chunk.pack.0)
                    .bind(i64::from(chunk.offset));
            }
            let ids: Vec<i64> = query.fetch_all(&mut *conn).await?;
            for id in ids {
                renamed.insert(convert::number("chunks.id", id)?);
            }
        }
    });
    let retired: Vec<&Retirement> =
        chunks.iter().filter(|one| renamed.contains(&one.chunk.id)).collect();
    on_either!(exec, |conn| {
        for batch in batch::exact(&retired) {
            let sql = format!(
                "INSERT INTO damaged_chunks (chunk_id, domain_id, name, pack_key, reason, found) \
                 VALUES {} ON CONFLICT (chunk_id) DO NOTHING",
                batch::rows(6, batch.len())
            );
            let mut query = sqlx::query(conn.text(sql));
            for Retirement { domain, chunk, reason } in batch {
                query = query
                    .bind(convert::to_db(chunk.id)?)
                    .bind(domain.0)
                    .bind(&chunk.name.as_bytes()[..])
                    .bind(&chunk.pack_key.as_bytes()[..])
                    .bind(reason)
                    .bind(now);
            }
            query.execute(&mut *conn).await?;
        }
    });
    Ok(retired.into_iter().map(|one| one.chunk.id).collect())
}

/// A chunk that was retired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedChunk {
    /// Its id.
    pub id: u64,
    /// The domain of its row.
    pub domain: DomainId,
    /// The name that it had.
    pub name: ChunkName,
    /// The pack that it lay in.
    pub pack_key: PackKey,
    /// What was wrong with its bytes.
    pub reason: String,
    /// When that was found.
    pub found: i64,
}

#[derive(FromRow)]
struct DamagedRow {
    chunk_id: i64,
    domain_id: i64,
    name: Vec<u8>,
    pack_key: Vec<u8>,
    reason: String,
    found: i64,
}

impl TryFrom<DamagedRow> for DamagedChunk {
    type Error = DbError;

    fn try_from(row: DamagedRow) -> Result<Self, DbError> {
        Ok(Self {
            id: convert::number("damaged_chunks.chunk_id", row.chunk_id)?,
            domain: DomainId(row.domain_id),
            name: ChunkName::from_bytes(convert::bytes("damaged_chunks.name", &row.name)?),
            pack_key: PackKey::from_bytes(convert::bytes(
                "damaged_chunks.pack_key",
                &row.pack_key,
            )?),
            reason: row.reason,
            found: row.found,
        })
    }
}

/// Up to `limit` retired chunks with an id above `after`, by id.
pub async fn page(exec: Exec<'_>, after: u64, limit: u32) -> Result<Vec<DamagedChunk>, DbError> {
    let after = convert::to_db(after)?;
    let rows: Vec<DamagedRow> = on_either!(exec, |conn| {
        sqlx::query_as(
            "SELECT chunk_id, domain_id, name, pack_key, reason, found FROM damaged_chunks WHERE \
             chunk_id > $1 ORDER BY chunk_id LIMIT $2",
        )
        .bind(after)
        .bind(i64::from(limit))
        .fetch_all(conn)
        .await?
    });
    rows.into_iter().map(DamagedChunk::try_from).collect()
}

/// How many chunks are retired, and how many paths withdrawn.
pub async fn counts(exec: Exec<'_>) -> Result<(u64, u64), DbError> {
    let (chunks, paths): (i64, i64) = on_either!(exec, |conn| {
        sqlx::query_as(
            "SELECT (SELECT count(*) FROM damaged_chunks), (SELECT count(*) FROM withdrawn_paths)",
        )
        .fetch_one(conn)
        .await?
    });
    Ok((
        convert::number("count of damaged_chunks", chunks)?,
        convert::number("count of withdrawn_paths", paths)?,
    ))
}

/// A path that was taken out of sight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WithdrawnPath {
    /// The cache that showed it.
    pub cache: CacheId,
    /// Its hash part, as its row had it.
    pub hash: String,
    /// Its name, as its row had it.
    pub name: String,
    /// Its content; zeros where no row says it any more.
    pub nar_hash: NarHash,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: i64,
}

impl WithdrawnPath {
    /// `HASH-NAME`.
    #[must_use]
    pub fn base_name(&self) -> String {
        format!("{}-{}", self.hash, self.name)
    }
}

#[derive(FromRow)]
struct WithdrawnRow {
    cache_id: i64,
    hash: String,
    name: String,
    nar_hash: Vec<u8>,
    reason: String,
    since: i64,
}

impl TryFrom<WithdrawnRow> for WithdrawnPath {
    type Error = DbError;

    fn try_from(row: WithdrawnRow) -> Result<Self, DbError> {
        Ok(Self {
            cache: CacheId(row.cache_id),
            hash: row.hash,
            name: row.name,
            nar_hash: NarHash::from_bytes(convert::bytes(
                "withdrawn_paths.nar_hash",
                &row.nar_hash,
            )?),
            reason: row.reason,
            since: row.since,
        })
    }
}

/// Up to `limit` of the paths that have this NAR, by id.
pub async fn paths_of(exec: Exec<'_>, nar: NarId, limit: u32) -> Result<Vec<PathId>, DbError> {
    let ids: Vec<i64> = on_either!(exec, |conn| {
        sqlx::query_scalar("SELECT id FROM paths WHERE nar_id = $1 ORDER BY id LIMIT $2")
            .bind(nar.0)
            .bind(i64::from(limit))
            .fetch_all(conn)
            .await?
    });
    Ok(ids.into_iter().map(PathId).collect())
}

/// Takes paths out of sight, and writes down that and why; gives those that were there.
pub async fn withdraw(
    exec: Exec<'_>,
    paths: &[PathId],
    reason: &str,
    now: i64,
) -> Result<Vec<WithdrawnPath>, DbError> {
    const UNKNOWN: [u8; 32] = [0; 32];
    let mut rows: Vec<WithdrawnRow> = Vec::with_capacity(paths.len());
    on_either!(exec, |conn| {
        for batch in batch::padded(paths) {
            let sql = format!(
                "INSERT INTO withdrawn_paths (cache_id, hash, name, nar_hash, reason, since) \
                 SELECT p.cache_id, p.hash, p.name, coalesce(n.nar_hash, $1), $2, $3 FROM paths p \
                 LEFT JOIN nars n ON n.id = p.nar_id WHERE p.id IN ({}) ON CONFLICT (cache_id, \
                 hash) DO UPDATE SET name = excluded.name, nar_hash = excluded.nar_hash, reason = \
                 excluded.reason, since = excluded.since RETURNING cache_id, hash, name, nar_hash, \
                 reason, since",
                batch.placeholders(4)
            );
            let mut query =
                sqlx::query_as(conn.text(sql)).bind(&UNKNOWN[..]).bind(reason).bind(now);
            for path in batch.iter() {
                query = query.bind(path.0);
            }
            rows.extend(query.fetch_all(&mut *conn).await?);
            let sql = format!("DELETE FROM paths WHERE id IN ({})", batch.placeholders(1));
            let mut query = sqlx::query(conn.text(sql));
            for path in batch.iter() {
                query = query.bind(path.0);
            }
            query.execute(&mut *conn).await?;
        }
    });
    rows.into_iter().map(WithdrawnPath::try_from).collect()
}

/// Removes a NAR that no path has any more, and its manifest.
///
/// # Errors
/// [`DbError::Constraint`] when a path has it.
pub async fn remove_nar(exec: Exec<'_>, nar: NarId) -> Result<(), DbError> {
    on_either!(exec, |conn| {
        for sql in [
            "DELETE FROM nar_segments WHERE nar_id = $1",
            "DELETE FROM unreferenced_nars WHERE nar_id = $1",
            "DELETE FROM nars WHERE id = $1",
        ] {
            sqlx::query(sql).bind(nar.0).execute(&mut *conn).await?;
        }
    });
    Ok(())
}

/// Forgets that paths were withdrawn, since they are visible again: part of what makes them so.
pub async fn clear(
    exec: Exec<'_>,
    cache: CacheId,
    hashes: &[StorePathHash],
) -> Result<(), DbError> {
    on_either!(exec, |conn| {
        for batch in batch::padded(hashes) {
            let sql = format!(
                "DELETE FROM withdrawn_paths WHERE cache_id = $1 AND hash IN ({})",
                batch.placeholders(2)
            );
            let mut query = sqlx::query(conn.text(sql)).bind(cache.0);
            for hash in batch.iter() {
                query = query.bind(hash.to_string());
            }
            query.execute(&mut *conn).await?;
        }
    });
    Ok(())
}

/// Up to `limit` withdrawn paths after this cache and hash part, by both.
pub async fn withdrawn(
    exec: Exec<'_>,
    (cache, hash): (CacheId, &str),
    limit: u32,
) -> Result<Vec<WithdrawnPath>, DbError> {
    let rows: Vec<WithdrawnRow> = on_either!(exec, |conn| {
        sqlx::query_as(
            "SELECT cache_id, hash, name, nar_hash, reason, since FROM withdrawn_paths WHERE \
             (cache_id, hash) > ($1, $2) ORDER BY cache_id, hash LIMIT $3",
        )
        .bind(cache.0)
        .bind(hash)
        .bind(i64::from(limit))
        .fetch_all(conn)
        .await?
    });
    rows.into_iter().map(WithdrawnPath::try_from).collect()
}

pub(super) const WITHDRAWN_OF: &str = "SELECT cache_id, hash, name, nar_hash, reason, since FROM \
    withdrawn_paths WHERE cache_id = $1 AND hash > $2 ORDER BY hash LIMIT $3";

/// Up to `limit` withdrawn paths of a cache with a hash part above `after`, by hash part.
pub async fn withdrawn_of(
    exec: Exec<'_>,
    cache: CacheId,
    after: &str,
    limit: u32,
) -> Result<Vec<WithdrawnPath>, DbError> {
    let rows: Vec<WithdrawnRow> = on_either!(exec, |conn| {
        sqlx::query_as(WITHDRAWN_OF)
            .bind(cache.0)
            .bind(after)
            .bind(i64::from(limit))
            .fetch_all(conn)
            .await?
    });
    rows.into_iter().map(WithdrawnPath::try_from).collect()
}

/// Which of these hash parts a cache has withdrawn.
pub async fn withdrawn_among(
    exec: Exec<'_>,
    cache: CacheId,
    hashes: &[StorePathHash],
) -> Result<HashSet<StorePathHash>, DbError> {
    let mut found: Vec<String> = Vec::new();
    on_either!(exec, |conn| {
        for batch in batch::padded(hashes) {
            let sql = format!(
                "SELECT hash FROM withdrawn_paths WHERE cache_id = $1 AND hash IN ({})",
                batch.placeholders(2)
            );
            let mut query = sqlx::query_scalar(conn.text(sql)).bind(cache.0);
            for hash in batch.iter() {
                query = query.bind(hash.to_string());
            }
            found.extend(query.fetch_all(&mut *conn).await?);
        }
    });
    Ok(found.iter().filter_map(|hash| StorePathHash::from_chars(hash.as_bytes())).collect())
}
