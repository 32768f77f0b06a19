//! Packs: the objects that chunks lie in.
//!
//! A pack's row is written with its chunks' rows, after the object is durable (W1). Its key is unique, so that a writer
//! that comes back late cannot bring a pack back that the collector has claimed (C3).

use snowbank_core::pack::PackKey;
use sqlx::FromRow;

use super::caches::{CacheId, DomainId};
use super::convert::{self, id_types};
use super::exec::on_either;
use super::{DbError, Exec};

id_types! {
    /// A pack's id.
    PackId;
}

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
///
/// # Errors
/// As any read.
pub async fn lookup(exec: Exec<'_>, id: PackId) -> Result<Option<Pack>, DbError> {
    let row: Option<PackRow> = on_either!(exec, |conn| {
        sqlx::query_as(
            "SELECT id, domain_id, cache_id, key, state, bytes, chunk_count, created FROM packs WHERE id = $1",
        )
        .bind(id.0)
        .fetch_optional(conn)
        .await?
    });
    row.map(Pack::try_from).transpose()
}

/// Up to `limit` packs with an id above `after`, by id.
///
/// # Errors
/// As any read.
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
