//! What `repair` reads and writes: rows of chunks as the packs' own tables have them, and the
//! settling of what was retired.
//!
//! Everything that writes is called in an [`exclusive_tx`](super::Db::exclusive_tx), and changes a
//! row only where it is still as it was found.

use std::collections::HashSet;

use snowbank_core::chunk::ChunkName;
use sqlx::FromRow;

use super::batch::{self, Engine as _, rows_by_key};
use super::counters::Counter;
use super::exec::on_either;
use super::ids::{CacheId, DomainId, PackId};
use super::{DbError, Exec, convert};

/// A chunk's row, whether or not its pack has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkRow {
    /// Its id.
    pub id: u64,
    /// The domain that it is in.
    pub domain: DomainId,
    /// Its name.
    pub name: ChunkName,
    /// The pack that it says it is in.
    pub pack: PackId,
    /// Where its record is said to start.
    pub offset: u32,
    /// How long its record is said to be.
    pub len: u32,
}

#[derive(FromRow)]
struct Row {
    id: i64,
    domain_id: i64,
    name: Vec<u8>,
    pack_id: i64,
    pack_offset: i64,
    record_len: i64,
}

impl TryFrom<Row> for ChunkRow {
    type Error = DbError;

    fn try_from(row: Row) -> Result<Self, DbError> {
        Ok(Self {
            id: convert::number("chunks.id", row.id)?,
            domain: DomainId(row.domain_id),
            name: ChunkName::from_bytes(convert::bytes("chunks.name", &row.name)?),
            pack: PackId(row.pack_id),
            offset: convert::number("chunks.pack_offset", row.pack_offset)?,
            len: convert::number("chunks.record_len", row.record_len)?,
        })
    }
}

/// For [`rows_by_key`].
const IN_DOMAIN: &str = "x.domain_id = $1";

/// The rows that a domain has under these names.
pub async fn by_names(
    exec: Exec<'_>,
    domain: DomainId,
    names: &[ChunkName],
) -> Result<Vec<ChunkRow>, DbError> {
    let select = "SELECT c.id, c.domain_id, c.name, c.pack_id, c.pack_offset, c.record_len FROM \
        chunks c WHERE c.id IN";
    let rows: Vec<Row> = on_either!(exec, |conn| {
        rows_by_key!(conn, select, "chunks", IN_DOMAIN, domain.0, "name", names, |name| &name
            .as_bytes()[..])
    });
    rows.into_iter().map(ChunkRow::try_from).collect()
}

/// Those of these ids that a row has.
pub async fn taken(exec: Exec<'_>, ids: &[u64]) -> Result<HashSet<u64>, DbError> {
    let ids = ids.iter().map(|id| convert::to_db(*id)).collect::<Result<Vec<i64>, DbError>>()?;
    let mut found: Vec<i64> = Vec::with_capacity(ids.len());
    on_either!(exec, |conn| {
        for batch in batch::padded(&ids) {
            let sql = format!("SELECT id FROM chunks WHERE id IN ({})", batch.placeholders(1));
            let mut query = sqlx::query_scalar(conn.text(sql));
            for id in batch.iter() {
                query = query.bind(*id);
            }
            let batch: Vec<i64> = query.fetch_all(&mut *conn).await?;
            found.extend(batch);
        }
    });
    found.into_iter().map(|id| convert::number("chunks.id", id)).collect()
}

/// Up to `limit` chunks with an id above `after` whose pack has no row, by id.
pub async fn without_pack(
    exec: Exec<'_>,
    after: u64,
    limit: u32,
) -> Result<Vec<ChunkRow>, DbError> {
    let after = convert::to_db(after)?;
    let rows: Vec<Row> = on_either!(exec, |conn| {
        sqlx::query_as(
            "SELECT c.id, c.domain_id, c.name, c.pack_id, c.pack_offset, c.record_len FROM chunks \
             c WHERE c.id > $1 AND NOT EXISTS (SELECT 1 FROM packs p WHERE p.id = c.pack_id) ORDER \
             BY c.id LIMIT $2",
        )
        .bind(after)
        .bind(i64::from(limit))
        .fetch_all(conn)
        .await?
    });
    rows.into_iter().map(ChunkRow::try_from).collect()
}

/// Up to `limit` live packs with an id above `after` that have more records than chunks name, by
/// id.
pub async fn incomplete_packs(
    exec: Exec<'_>,
    after: PackId,
    limit: u32,
) -> Result<Vec<PackId>, DbError> {
    let ids: Vec<i64> = on_either!(exec, |conn| {
        sqlx::query_scalar(
            "SELECT p.id FROM packs p WHERE p.id > $1 AND p.state = 0 AND p.chunk_count > (SELECT \
             count(*) FROM chunks c WHERE c.pack_id = p.id) ORDER BY p.id LIMIT $2",
        )
        .bind(after.0)
        .bind(i64::from(limit))
        .fetch_all(conn)
        .await?
    });
    Ok(ids.into_iter().map(PackId).collect())
}

/// Where a chunk's row is to point, and under which name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowChange {
    /// The row as it was found.
    pub found: ChunkRow,
    /// Its name from then on.
    pub name: ChunkName,
    /// Its pack from then on.
    pub pack: PackId,
    /// Where its record starts there.
    pub offset: u32,
    /// How long its record is.
    pub len: u32,
}

/// Changes rows that are still as they were found, and forgets that they were retired; gives how
/// many were changed.
///
/// # Errors
/// [`DbError::Constraint`] when the domain has a row with the new name.
pub async fn change_rows(exec: Exec<'_>, changes: &[RowChange]) -> Result<u64, DbError> {
    let mut written = 0;
    on_either!(exec, |conn| {
        for change in changes {
            let id = convert::to_db(change.found.id)?;
            let rows = sqlx::query(
                "UPDATE chunks SET name = $1, pack_id = $2, pack_offset = $3, record_len = $4 \
                 WHERE id = $5 AND name = $6 AND pack_id = $7 AND pack_offset = $8",
            )
            .bind(&change.name.as_bytes()[..])
            .bind(change.pack.0)
            .bind(i64::from(change.offset))
            .bind(i64::from(change.len))
            .bind(id)
            .bind(&change.found.name.as_bytes()[..])
            .bind(change.found.pack.0)
            .bind(i64::from(change.found.offset))
            .execute(&mut *conn)
            .await?
            .rows_affected();
            if rows > 0 && change.found.name != change.name {
                sqlx::query("DELETE FROM damaged_chunks WHERE chunk_id = $1")
                    .bind(id)
                    .execute(&mut *conn)
                    .await?;
            }
            written += rows;
        }
    });
    Ok(written)
}

/// Removes the rows of these retired chunks, which nothing names, and what is known of the damage;
/// gives the packs that they were in.
pub async fn remove_retired(exec: Exec<'_>, ids: &[u64]) -> Result<Vec<PackId>, DbError> {
    let ids = ids.iter().map(|id| convert::to_db(*id)).collect::<Result<Vec<i64>, DbError>>()?;
    let mut packs: Vec<i64> = Vec::new();
    on_either!(exec, |conn| {
        for batch in batch::padded(&ids) {
            let places = batch.placeholders(1);
            let sql = format!(
                "DELETE FROM chunks WHERE id IN ({places}) AND EXISTS (SELECT 1 FROM \
                 damaged_chunks d WHERE d.chunk_id = chunks.id) RETURNING pack_id"
            );
            let mut query = sqlx::query_scalar(conn.text(sql));
            for id in batch.iter() {
                query = query.bind(*id);
            }
            let left: Vec<i64> = query.fetch_all(&mut *conn).await?;
            packs.extend(left);
            let sql = format!("DELETE FROM damaged_chunks WHERE chunk_id IN ({places})");
            let mut query = sqlx::query(conn.text(sql));
            for id in batch.iter() {
                query = query.bind(*id);
            }
            query.execute(&mut *conn).await?;
        }
    });
    packs.sort_unstable();
    packs.dedup();
    Ok(packs.into_iter().map(PackId).collect())
}

/// Makes sure that a counter gives no id below `next`.
pub async fn raise(exec: Exec<'_>, counter: Counter, next: i64) -> Result<(), DbError> {
    raise_named(exec, counter.name(), next).await
}

/// As [`raise`], for the counter of that name.
pub async fn raise_named(exec: Exec<'_>, counter: &str, next: i64) -> Result<(), DbError> {
    on_either!(exec, |conn| {
        sqlx::query(
            "INSERT INTO counters (name, next) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET \
             next = excluded.next WHERE counters.next < excluded.next",
        )
        .bind(counter)
        .bind(next)
        .execute(conn)
        .await?;
    });
    Ok(())
}

/// Domains that there are, each with a cache of it, if it has one.
pub async fn domains(exec: Exec<'_>) -> Result<Vec<(DomainId, CacheId)>, DbError> {
    let rows: Vec<(i64, i64)> = on_either!(exec, |conn| {
        sqlx::query_as(
            "SELECT d.id, coalesce((SELECT min(c.id) FROM caches c WHERE c.domain_id = d.id), 0) \
             FROM domains d ORDER BY d.id",
        )
        .fetch_all(conn)
        .await?
    });
    Ok(rows.into_iter().map(|(domain, cache)| (DomainId(domain), CacheId(cache))).collect())
}

/// What contradicts other rows and tells nothing by itself: damage to chunks that have no row any
/// more, withdrawals of paths that are visible, segments of manifests that no NAR accounts for.
const STALE: [&str; 3] = [
    "damaged_chunks WHERE NOT EXISTS (SELECT 1 FROM chunks c WHERE c.id = damaged_chunks.chunk_id)",
    "withdrawn_paths WHERE EXISTS (SELECT 1 FROM paths p WHERE p.cache_id = \
     withdrawn_paths.cache_id AND p.hash = withdrawn_paths.hash)",
    "nar_segments WHERE NOT EXISTS (SELECT 1 FROM nars n WHERE n.id = nar_segments.nar_id AND \
     n.segment_count > nar_segments.seq)",
];

/// How many rows there are that contradict others and tell nothing by themselves.
pub async fn count_stale(exec: Exec<'_>) -> Result<u64, DbError> {
    let mut found = 0;
    on_either!(exec, |conn| {
        for stale in STALE {
            let sql = format!("SELECT count(*) FROM {stale}");
            let count: i64 = sqlx::query_scalar(conn.text(sql)).fetch_one(&mut *conn).await?;
            found += convert::number::<u64>("count of stale rows", count)?;
        }
    });
    Ok(found)
}

/// Removes them; gives how many it were.
pub async fn remove_stale(exec: Exec<'_>) -> Result<u64, DbError> {
    let mut removed = 0;
    on_either!(exec, |conn| {
        for stale in STALE {
            let sql = format!("DELETE FROM {stale}");
            removed += sqlx::query(conn.text(sql)).execute(&mut *conn).await?.rows_affected();
        }
    });
    Ok(removed)
}

/// Forgets every path that was withdrawn up to `until`; gives how many it were.
pub async fn forget_withdrawn(exec: Exec<'_>, until: i64) -> Result<u64, DbError> {
    Ok(on_either!(exec, |conn| {
        sqlx::query("DELETE FROM withdrawn_paths WHERE since <= $1")
            .bind(until)
            .execute(conn)
            .await?
            .rows_affected()
    }))
}
