//! Packs: the objects that chunks lie in.
//!
//! A pack's row is written with its chunks' rows, after the object is durable (W1). Its key is
//! unique, so that a writer that comes back late cannot bring a pack back that the collector has
//! claimed (C3).

use snowbank_core::pack::PackKey;
use sqlx::FromRow;

use super::batch::{self, Engine as _};
use super::convert;
use super::exec::on_either;
pub use super::ids::PackId;
use super::ids::{CacheId, DomainId};
use super::{DbError, Exec};

/// Whether a pack's object is still needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackState {
    /// Chunks are read from it.
    Live,
    /// The collector has claimed it; its object may be gone.
    Dead,
}

/// A stored pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pack {
    /// Its id.
    pub id: PackId,
    /// The domain that its chunks belong to.
    pub domain: DomainId,
    /// The cache whose push wrote it.
    pub cache: CacheId,
    /// Names its object.
    pub key: PackKey,
    /// Whether its object is still needed.
    pub state: PackState,
    /// Length of the object.
    pub bytes: u64,
    /// Records in the object.
    pub chunk_count: u32,
    /// When it was written.
    pub created: i64,
}

/// A pack whose object has just been stored.
#[derive(Debug, Clone)]
pub struct NewPack {
    /// A reserved id.
    pub id: PackId,
    /// The domain that its chunks belong to.
    pub domain: DomainId,
    /// The cache whose push wrote it.
    pub cache: CacheId,
    /// Names its object.
    pub key: PackKey,
    /// Length of the object.
    pub bytes: u64,
    /// Records in the object.
    pub chunk_count: u32,
    /// When it was written.
    pub created: i64,
}

#[derive(FromRow)]
struct PackRow {
    id: i64,
    domain_id: i64,
    cache_id: i64,
    key: Vec<u8>,
    state: i64,
    bytes: i64,
    chunk_count: i64,
    created: i64,
}

impl TryFrom<PackRow> for Pack {
    type Error = DbError;

    fn try_from(row: PackRow) -> Result<Self, DbError> {
        Ok(Self {
            id: PackId(row.id),
            domain: DomainId(row.domain_id),
            cache: CacheId(row.cache_id),
            key: PackKey::from_bytes(convert::bytes("packs.key", &row.key)?),
            state: match row.state {
                0 => PackState::Live,
                1 => PackState::Dead,
                other => return Err(DbError::corrupt(format!("packs.state is {other}"))),
            },
            bytes: convert::number("packs.bytes", row.bytes)?,
            chunk_count: convert::number("packs.chunk_count", row.chunk_count)?,
            created: row.created,
        })
    }
}

/// Adds a pack.
///
/// # Errors
/// [`DbError::Constraint`] when its key or id exists.
pub async fn add(exec: Exec<'_>, pack: &NewPack) -> Result<(), DbError> {
    let bytes = convert::to_db(pack.bytes)?;
    on_either!(exec, |conn| {
        sqlx::query(
            "INSERT INTO packs (id, domain_id, cache_id, key, state, bytes, chunk_count, created) \
             VALUES ($1, $2, $3, $4, 0, $5, $6, $7)",
        )
        .bind(pack.id.0)
        .bind(pack.domain.0)
        .bind(pack.cache.0)
        .bind(&pack.key.as_bytes()[..])
        .bind(bytes)
        .bind(i64::from(pack.chunk_count))
        .bind(pack.created)
        .execute(conn)
        .await?;
    });
    Ok(())
}

/// The pack of that id.
pub async fn lookup(exec: Exec<'_>, id: PackId) -> Result<Option<Pack>, DbError> {
    let row: Option<PackRow> = on_either!(exec, |conn| {
        sqlx::query_as(
            "SELECT id, domain_id, cache_id, key, state, bytes, chunk_count, created FROM packs \
             WHERE id = $1",
        )
        .bind(id.0)
        .fetch_optional(conn)
        .await?
    });
    row.map(Pack::try_from).transpose()
}

/// Those of these packs that there are.
pub async fn lookup_many(exec: Exec<'_>, ids: &[PackId]) -> Result<Vec<Pack>, DbError> {
    let mut rows: Vec<PackRow> = Vec::with_capacity(ids.len());
    on_either!(exec, |conn| {
        for batch in batch::padded(ids) {
            let sql = format!(
                "SELECT id, domain_id, cache_id, key, state, bytes, chunk_count, created FROM \
                 packs WHERE id IN ({})",
                batch.placeholders(1)
            );
            let mut query = sqlx::query_as(conn.text(sql));
            for id in batch.iter() {
                query = query.bind(id.0);
            }
            rows.extend(query.fetch_all(&mut *conn).await?);
        }
    });
    rows.into_iter().map(Pack::try_from).collect()
}

/// Up to `limit` packs with an id above `after`, by id.
pub async fn page(exec: Exec<'_>, after: PackId, limit: u32) -> Result<Vec<Pack>, DbError> {
    let rows: Vec<PackRow> = on_either!(exec, |conn| {
        sqlx::query_as(
            "SELECT id, domain_id, cache_id, key, state, bytes, chunk_count, created FROM packs \
             WHERE id > $1 ORDER BY id LIMIT $2",
        )
        .bind(after.0)
        .bind(i64::from(limit))
        .fetch_all(conn)
        .await?
    });
    rows.into_iter().map(Pack::try_from).collect()
}

/// Claims those of these packs that no chunk is in (C3); gives how many it were.
pub async fn claim_empty(exec: Exec<'_>, packs: &[PackId], now: i64) -> Result<u64, DbError> {
    let mut claimed = 0;
    on_either!(exec, |conn| {
        for batch in batch::padded(packs) {
            let sql = format!(
                "UPDATE packs SET state = 1, died = $1 WHERE state = 0 AND NOT EXISTS (SELECT 1 \
                 FROM chunks c WHERE c.pack_id = packs.id) AND id IN ({})",
                batch.placeholders(2)
            );
            let mut query = sqlx::query(conn.text(sql)).bind(now);
            for pack in batch.iter() {
                query = query.bind(pack.0);
            }
            claimed += query.execute(&mut *conn).await?.rows_affected();
        }
    });
    Ok(claimed)
}

/// Claims an object that no row names, by a row of its own, which a writer who comes late collides
/// with (C3). Whether there was none. The row has no chunks, and a byte for as long as the object
/// is there.
pub async fn claim_unnamed(
    exec: Exec<'_>,
    id: PackId,
    key: &PackKey,
    now: i64,
) -> Result<bool, DbError> {
    let rows = on_either!(exec, |conn| {
        sqlx::query(
            "INSERT INTO packs (id, domain_id, cache_id, key, state, bytes, chunk_count, created, \
             died) VALUES ($1, $2, 0, $3, 1, 1, 0, $4, $5) ON CONFLICT (key) DO NOTHING",
        )
        .bind(id.0)
        .bind(DomainId::SHARED.0)
        .bind(&key.as_bytes()[..])
        .bind(now)
        .bind(now)
        .execute(conn)
        .await?
        .rows_affected()
    });
    Ok(rows == 1)
}

/// Up to `limit` claimed packs with an id above `after` whose objects are to be removed, by id:
/// those that chunks once named and that died at `until` or before, and those that no row ever
/// named, at once.
pub async fn dead(
    exec: Exec<'_>,
    after: PackId,
    until: i64,
    limit: u32,
) -> Result<Vec<Pack>, DbError> {
    let rows: Vec<PackRow> = on_either!(exec, |conn| {
        sqlx::query_as(
            "SELECT id, domain_id, cache_id, key, state, bytes, chunk_count, created FROM packs \
             WHERE state = 1 AND id > $1 AND ((chunk_count > 0 AND (died IS NULL OR died <= $2)) \
             OR (chunk_count = 0 AND bytes > 0)) ORDER BY id LIMIT $3",
        )
        .bind(after.0)
        .bind(until)
        .bind(i64::from(limit))
        .fetch_all(conn)
        .await?
    });
    rows.into_iter().map(Pack::try_from).collect()
}

/// Notes that the objects of these claimed packs are gone: their rows go, but those of objects that
/// no row ever named stay until [`forget_dead`].
pub async fn remove_dead(exec: Exec<'_>, packs: &[PackId]) -> Result<(), DbError> {
    on_either!(exec, |conn| {
        for batch in batch::padded(packs) {
            for sql in [
                "DELETE FROM packs WHERE state = 1 AND chunk_count > 0 AND id IN",
                "UPDATE packs SET bytes = 0 WHERE state = 1 AND chunk_count = 0 AND id IN",
            ] {
                let sql = format!("{sql} ({})", batch.placeholders(1));
                let mut query = sqlx::query(conn.text(sql));
                for pack in batch.iter() {
                    query = query.bind(pack.0);
                }
                query.execute(&mut *conn).await?;
            }
        }
    });
    Ok(())
}

/// Removes the rows of objects that no row ever named and that were claimed at `until` or before.
pub async fn forget_dead(exec: Exec<'_>, until: i64) -> Result<(), DbError> {
    on_either!(exec, |conn| {
        sqlx::query(
            "DELETE FROM packs WHERE state = 1 AND chunk_count = 0 AND bytes = 0 AND died <= $1",
        )
        .bind(until)
        .execute(conn)
        .await?;
    });
    Ok(())
}
