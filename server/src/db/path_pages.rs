//! Pages of a cache's paths: few columns of many rows, each page a range of an index, and then all
//! of the rows that are shown.
//!
//! Every function looks at no more rows than its `limit`, whatever the cache holds.

use std::collections::HashMap;

use snowbank_core::store_path::StorePath;
use sqlx::FromRow;

use super::batch::Engine as _;
use super::exec::on_either;
use super::ids::{CacheId, PathId};
use super::nars::nar_columns;
use super::paths::{PathRecord, PathRow, path_columns, store_path};
use super::{DbError, Exec, batch, convert};

/// What a page is chosen by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathKey {
    /// Its id: ids grow in the order in which paths were pushed.
    pub id: PathId,
    /// The store path.
    pub store_path: StorePath,
    /// Bytes of the texts in its row.
    pub bytes: u64,
}

#[derive(FromRow)]
struct KeyRow {
    id: i64,
    hash: String,
    name: String,
    bytes: i64,
}

impl TryFrom<KeyRow> for PathKey {
    type Error = DbError;

    fn try_from(row: KeyRow) -> Result<Self, DbError> {
        Ok(Self {
            id: PathId(row.id),
            store_path: store_path(&row.hash, &row.name)?,
            bytes: convert::number("bytes of a path's row", row.bytes)?,
        })
    }
}

/// Both engines know a text's length without reading it.
macro_rules! select_key {
    ($rest:literal) => {
        concat!(
            "SELECT p.id, p.hash, p.name, CAST(octet_length(p.refs) + octet_length(p.signatures) + \
             octet_length(p.pushed_by) AS BIGINT) AS bytes FROM paths p ",
            $rest
        )
    };
}

pub(super) const IN_ORDER: &str =
    select_key!("WHERE p.cache_id = $1 AND p.id > $2 ORDER BY p.id LIMIT $3");
/// No order but that of the index is this one: PostgreSQL goes through the ids of all caches where
/// one seems to have most.
pub(super) const IN_ORDER_ON_POSTGRES: &str = select_key!(
    "WHERE (p.cache_id, p.id) > ($1, $2) AND p.cache_id <= $1 ORDER BY p.cache_id, p.id LIMIT $3"
);
pub(super) const BY_NAME_ON_POSTGRES: &str = select_key!(
    "WHERE p.cache_id = $1 AND (p.name, p.id) > ($2, $3) AND p.name < $4 ORDER BY p.name, p.id \
     LIMIT $5"
);
/// In two parts: SQLite goes through all that have the name otherwise.
pub(super) const OF_NAME: &str =
    select_key!("WHERE p.cache_id = $1 AND p.name = $2 AND p.id > $3 ORDER BY p.id LIMIT $4");
pub(super) const BEHIND_NAME: &str = select_key!(
    "WHERE p.cache_id = $1 AND p.name > $2 AND p.name < $3 ORDER BY p.name, p.id LIMIT $4"
);
pub(super) const BY_HASH: &str =
    select_key!("WHERE p.cache_id = $1 AND p.hash > $2 AND p.hash < $3 ORDER BY p.hash LIMIT $4");

/// Keys with an id above `after`, by id.
pub async fn in_order(
    exec: Exec<'_>,
    cache: CacheId,
    after: PathId,
    limit: u32,
) -> Result<Vec<PathKey>, DbError> {
    let sql = match &exec {
        Exec::Sqlite(_) => IN_ORDER,
        Exec::Postgres(_) => IN_ORDER_ON_POSTGRES,
    };
    let rows: Vec<KeyRow> = on_either!(exec, |conn| {
        sqlx::query_as(sql)
            .bind(cache.0)
            .bind(after.0)
            .bind(i64::from(limit))
            .fetch_all(conn)
            .await?
    });
    rows.into_iter().map(PathKey::try_from).collect()
}

/// Keys whose name is below `end` and that come after a name and an id, by name and id. Texts
/// compare bytewise.
pub async fn by_name(
    exec: Exec<'_>,
    cache: CacheId,
    after: (&str, PathId),
    end: &str,
    limit: u32,
) -> Result<Vec<PathKey>, DbError> {
    let (name, PathId(id)) = after;
    let rows: Vec<KeyRow> = match exec {
        Exec::Sqlite(conn) => {
            let of_name =
                sqlx::query_as(OF_NAME).bind(cache.0).bind(name).bind(id).bind(i64::from(limit));
            let mut rows: Vec<KeyRow> = of_name.fetch_all(&mut *conn).await?;
            let left = i64::from(limit) - i64::try_from(rows.len()).unwrap_or(i64::MAX);
            if left > 0 {
                let behind =
                    sqlx::query_as(BEHIND_NAME).bind(cache.0).bind(name).bind(end).bind(left);
                rows.extend(behind.fetch_all(conn).await?);
            }
            rows
        }
        Exec::Postgres(conn) => {
            let query =
                sqlx::query_as(BY_NAME_ON_POSTGRES).bind(cache.0).bind(name).bind(id).bind(end);
            query.bind(i64::from(limit)).fetch_all(conn).await?
        }
    };
    rows.into_iter().map(PathKey::try_from).collect()
}

/// Keys whose hash part is above `after` and below `end`, by hash part.
pub async fn by_hash(
    exec: Exec<'_>,
    cache: CacheId,
    after: &str,
    end: &str,
    limit: u32,
) -> Result<Vec<PathKey>, DbError> {
    let rows: Vec<KeyRow> = on_either!(exec, |conn| {
        sqlx::query_as(BY_HASH)
            .bind(cache.0)
            .bind(after)
            .bind(end)
            .bind(i64::from(limit))
            .fetch_all(conn)
            .await?
    });
    rows.into_iter().map(PathKey::try_from).collect()
}

/// The paths with these ids; one that is gone is not in the result.
pub async fn records(
    exec: Exec<'_>,
    ids: &[PathId],
) -> Result<HashMap<PathId, PathRecord>, DbError> {
    let mut found = HashMap::with_capacity(ids.len());
    on_either!(exec, |conn| {
        for batch in batch::padded(ids) {
            let sql = format!(
                concat!(
                    "SELECT ",
                    path_columns!(),
                    " FROM paths p JOIN nars n ON n.id = p.nar_id WHERE p.id IN ({})"
                ),
                batch.placeholders(1)
            );
            let mut query = sqlx::query_as(conn.text(sql));
            for id in batch.iter() {
                query = query.bind(id.0);
            }
            let rows: Vec<PathRow> = query.fetch_all(&mut *conn).await?;
            for row in rows {
                let record = PathRecord::try_from(row)?;
                found.insert(record.id, record);
            }
        }
    });
    Ok(found)
}
