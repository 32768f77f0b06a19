//! What a cache keeps beside its paths, by name: build logs and realisations.
//!
//! The content of a log is the one file of a NAR, and so has chunks, is verified, and is collected
//! like any other NAR once no row names it.

use std::collections::HashSet;

use snowbank_core::store_path::{StorePath, StorePathHash};
use sqlx::FromRow;

use super::exec::on_either;
use super::ids::{CacheId, NarId};
use super::nars::{Nar, NarRow, nar_columns};
use super::{DbError, Exec, convert};

/// What keeps a file.
#[derive(Debug, Clone, Copy)]
pub enum KeptBy<'a> {
    /// A visible path that this derivation built.
    Deriver(&'a StorePath),
    /// The visible path with this hash part.
    Path(&'a StorePathHash),
}

/// What a file consists of.
#[derive(Debug, Clone, Copy)]
pub enum Content<'a> {
    /// The one file of this NAR.
    Nar(NarId),
    /// This text.
    Text(&'a str),
}

/// A file that is to be kept.
#[derive(Debug, Clone, Copy)]
pub struct NewFile<'a> {
    /// Where.
    pub cache: CacheId,
    /// Its name below the cache's address, such as `log/<deriver>`.
    pub name: &'a str,
    /// What keeps it.
    pub kept_by: KeptBy<'a>,
    /// Its content.
    pub content: Content<'a>,
    /// Bytes of the content.
    pub size: u64,
    /// The subject of the token that pushes it.
    pub pushed_by: &'a str,
    /// When.
    pub created: i64,
}

/// Keeps a file, in the place of one of the same name.
pub async fn put(exec: Exec<'_>, file: &NewFile<'_>) -> Result<(), DbError> {
    let size = convert::to_db(file.size)?;
    let (deriver, hash) = match file.kept_by {
        KeptBy::Deriver(deriver) => (Some(deriver.base_name()), None),
        KeptBy::Path(hash) => (None, Some(hash.to_string())),
    };
    let (nar, body) = match file.content {
        Content::Nar(nar) => (Some(nar.0), None),
        Content::Text(text) => (None, Some(text)),
    };
    on_either!(exec, |conn| {
        sqlx::query(
            "INSERT INTO cache_files (cache_id, name, deriver, hash, nar_id, size, body, \
             pushed_by, created) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT \
             (cache_id, name) DO UPDATE SET deriver = excluded.deriver, hash = excluded.hash, \
             nar_id = excluded.nar_id, size = excluded.size, body = excluded.body, pushed_by = \
             excluded.pushed_by, created = excluded.created",
        )
        .bind(file.cache.0)
        .bind(file.name)
        .bind(&deriver)
        .bind(&hash)
        .bind(nar)
        .bind(size)
        .bind(body)
        .bind(file.pushed_by)
        .bind(file.created)
        .execute(conn)
        .await?;
    });
    Ok(())
}

/// Keeps a text in the place of `old`, or where there was none. Whether that was still so.
pub async fn replace_text(
    exec: Exec<'_>,
    file: &NewFile<'_>,
    old: Option<&str>,
) -> Result<bool, DbError> {
    let size = convert::to_db(file.size)?;
    let (deriver, hash) = match file.kept_by {
        KeptBy::Deriver(deriver) => (Some(deriver.base_name()), None),
        KeptBy::Path(hash) => (None, Some(hash.to_string())),
    };
    let Content::Text(text) = file.content else { return Ok(false) };
    let changed = on_either!(exec, |conn| {
        let sql = if old.is_some() {
            "UPDATE cache_files SET deriver = $3, hash = $4, size = $5, body = $6, pushed_by = $7, \
             created = $8 WHERE cache_id = $1 AND name = $2 AND body = $9"
        } else {
            "INSERT INTO cache_files (cache_id, name, deriver, hash, size, body, pushed_by, \
             created) SELECT $1, $2, $3, $4, $5, $6, $7, $8 WHERE CAST($9 AS TEXT) IS NULL ON \
             CONFLICT (cache_id, name) DO NOTHING"
        };
        sqlx::query(sql)
            .bind(file.cache.0)
            .bind(file.name)
            .bind(&deriver)
            .bind(&hash)
            .bind(size)
            .bind(text)
            .bind(file.pushed_by)
            .bind(file.created)
            .bind(old)
            .execute(conn)
            .await?
            .rows_affected()
    });
    Ok(changed == 1)
}

/// The text of a file.
pub async fn text(exec: Exec<'_>, cache: CacheId, name: &str) -> Result<Option<String>, DbError> {
    let found: Option<Option<String>> = on_either!(exec, |conn| {
        sqlx::query_scalar("SELECT body FROM cache_files WHERE cache_id = $1 AND name = $2")
            .bind(cache.0)
            .bind(name)
            .fetch_optional(conn)
            .await?
    });
    Ok(found.flatten())
}

/// The NAR of a file, and the file's length.
pub async fn nar(
    exec: Exec<'_>,
    cache: CacheId,
    name: &str,
) -> Result<Option<(Nar, u64)>, DbError> {
    #[derive(FromRow)]
    struct Row {
        size: i64,
        #[sqlx(flatten)]
        nar: NarRow,
    }
    let row: Option<Row> = on_either!(exec, |conn| {
        sqlx::query_as(concat!(
            "SELECT f.size, ",
            nar_columns!(),
            " FROM cache_files f JOIN nars n ON n.id = f.nar_id WHERE f.cache_id = $1 AND f.name \
             = $2"
        ))
        .bind(cache.0)
        .bind(name)
        .fetch_optional(conn)
        .await?
    });
    let Some(row) = row else { return Ok(None) };
    Ok(Some((Nar::try_from(row.nar)?, convert::number("cache_files.size", row.size)?)))
}

/// The NARs of all files.
pub async fn nars(exec: Exec<'_>) -> Result<HashSet<NarId>, DbError> {
    let rows: Vec<i64> = on_either!(exec, |conn| {
        sqlx::query_scalar("SELECT nar_id FROM cache_files WHERE nar_id IS NOT NULL")
            .fetch_all(conn)
            .await?
    });
    Ok(rows.into_iter().map(NarId).collect())
}

/// Forgets files from `until` or before whose path is not visible.
pub async fn expire(exec: Exec<'_>, until: i64) -> Result<u64, DbError> {
    Ok(on_either!(exec, |conn| {
        sqlx::query(
            "DELETE FROM cache_files WHERE created <= $1 AND NOT EXISTS (SELECT 1 FROM paths p \
             WHERE p.cache_id = cache_files.cache_id AND p.deriver = cache_files.deriver) AND NOT \
             EXISTS (SELECT 1 FROM paths p WHERE p.cache_id = cache_files.cache_id AND p.hash = \
             cache_files.hash)",
        )
        .bind(until)
        .execute(conn)
        .await?
        .rows_affected()
    }))
}
