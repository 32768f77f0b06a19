//! NARs that were uploaded by themselves, under the names that their narinfos will say; and paths
//! whose narinfo waits for a reference.
//!
//! A NAR with a young upload is needed, as one with a path is. An upload whose NAR is gone is none.

use std::collections::HashSet;

use snowbank_core::hash::FileHash;
use snowbank_core::store_path::StorePathHash;
use sqlx::FromRow;

use super::exec::on_either;
use super::ids::{CacheId, NarId};
use super::nars::{Nar, NarRow, nar_columns};
use super::{DbError, Exec, convert};

/// For how long an uploaded NAR waits for a path, and a path for its references.
pub const KEPT_SECONDS: i64 = 24 * 60 * 60;

/// A NAR that has come.
#[derive(Debug, Clone, Copy)]
pub struct NewUpload<'a> {
    /// Where.
    pub cache: CacheId,
    /// Under which name.
    pub file: &'a str,
    /// SHA-256 of the bytes as they came.
    pub file_hash: FileHash,
    /// Their number.
    pub file_size: u64,
    /// When.
    pub created: i64,
}

/// An uploaded NAR.
#[derive(Debug, Clone)]
pub struct Upload {
    /// The NAR.
    pub nar: Nar,
    /// SHA-256 of the bytes as they came.
    pub file_hash: FileHash,
    /// Their number.
    pub file_size: u64,
}

/// A path that waits for a reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingPath {
    /// Its hash part.
    pub hash: StorePathHash,
    /// The hash part of a reference that was not visible.
    pub waits_for: StorePathHash,
    /// Its narinfo, as it came.
    pub narinfo: String,
    /// The subject of the token that pushed it.
    pub pushed_by: String,
}

/// Notes an upload, in the place of one of the same name.
pub async fn put(exec: Exec<'_>, upload: &NewUpload<'_>, nar: NarId) -> Result<(), DbError> {
    let file_size = convert::to_db(upload.file_size)?;
    on_either!(exec, |conn| {
        sqlx::query(
            "INSERT INTO nar_uploads (cache_id, file, nar_id, file_hash, file_size, created) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (cache_id, file) DO UPDATE SET nar_id = \
             excluded.nar_id, file_hash = excluded.file_hash, file_size = excluded.file_size, \
             created = excluded.created",
        )
        .bind(upload.cache.0)
        .bind(upload.file)
        .bind(nar.0)
        .bind(&upload.file_hash.as_bytes()[..])
        .bind(file_size)
        .bind(upload.created)
        .execute(conn)
        .await?;
    });
    Ok(())
}

/// The NAR that was uploaded to a cache under this name after `after`.
pub async fn find(
    exec: Exec<'_>,
    cache: CacheId,
    file: &str,
    after: i64,
) -> Result<Option<Upload>, DbError> {
    #[derive(FromRow)]
    struct Row {
        upload_hash: Vec<u8>,
        upload_size: i64,
        #[sqlx(flatten)]
        nar: NarRow,
    }
    let row: Option<Row> = on_either!(exec, |conn| {
        sqlx::query_as(concat!(
            "SELECT u.file_hash AS upload_hash, u.file_size AS upload_size, ",
            nar_columns!(),
            " FROM nar_uploads u JOIN nars n ON n.id = u.nar_id WHERE u.cache_id = $1 AND u.file \
             = $2 AND u.created > $3"
        ))
        .bind(cache.0)
        .bind(file)
        .bind(after)
        .fetch_optional(conn)
        .await?
    });
    let Some(row) = row else { return Ok(None) };
    let hash = convert::bytes("nar_uploads.file_hash", &row.upload_hash)?;
    Ok(Some(Upload {
        nar: Nar::try_from(row.nar)?,
        file_hash: FileHash::from_bytes(hash),
        file_size: convert::number("nar_uploads.file_size", row.upload_size)?,
    }))
}

/// Forgets an upload.
pub async fn remove(exec: Exec<'_>, cache: CacheId, file: &str) -> Result<(), DbError> {
    on_either!(exec, |conn| {
        sqlx::query("DELETE FROM nar_uploads WHERE cache_id = $1 AND file = $2")
            .bind(cache.0)
            .bind(file)
            .execute(conn)
            .await?;
    });
    Ok(())
}

/// The NARs that were uploaded after `after`.
pub async fn nars(exec: Exec<'_>, after: i64) -> Result<HashSet<NarId>, DbError> {
    let rows: Vec<i64> = on_either!(exec, |conn| {
        sqlx::query_scalar("SELECT nar_id FROM nar_uploads WHERE created > $1")
            .bind(after)
            .fetch_all(conn)
            .await?
    });
    Ok(rows.into_iter().map(NarId).collect())
}

/// Forgets uploads and waiting paths from `until` or before; gives how many waiting paths that
/// were.
pub async fn expire(mut exec: Exec<'_>, until: i64) -> Result<u64, DbError> {
    on_either!(exec.again(), |conn| {
        sqlx::query("DELETE FROM nar_uploads WHERE created <= $1")
            .bind(until)
            .execute(conn)
            .await?;
    });
    Ok(on_either!(exec, |conn| {
        sqlx::query("DELETE FROM waiting_paths WHERE created <= $1")
            .bind(until)
            .execute(conn)
            .await?
            .rows_affected()
    }))
}

/// Has a path wait for a reference, in the place of what waited under its hash part before.
pub async fn wait(
    exec: Exec<'_>,
    cache: CacheId,
    path: &WaitingPath,
    now: i64,
) -> Result<(), DbError> {
    on_either!(exec, |conn| {
        sqlx::query(
            "INSERT INTO waiting_paths (cache_id, hash, waits_for, narinfo, pushed_by, created) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (cache_id, hash) DO UPDATE SET waits_for \
             = excluded.waits_for, narinfo = excluded.narinfo, pushed_by = excluded.pushed_by",
        )
        .bind(cache.0)
        .bind(path.hash.to_string())
        .bind(path.waits_for.to_string())
        .bind(&path.narinfo)
        .bind(&path.pushed_by)
        .bind(now)
        .execute(conn)
        .await?;
    });
    Ok(())
}

/// Up to `limit` paths with a hash part above `after` whose reference is visible, by hash part.
pub async fn ready(
    exec: Exec<'_>,
    cache: CacheId,
    after: &str,
    limit: u32,
) -> Result<Vec<WaitingPath>, DbError> {
    let rows: Vec<(String, String, String, String)> = on_either!(exec, |conn| {
        sqlx::query_as(
            "SELECT w.hash, w.waits_for, w.narinfo, w.pushed_by FROM waiting_paths w WHERE \
             w.cache_id = $1 AND w.hash > $2 AND EXISTS (SELECT 1 FROM paths p WHERE p.cache_id = \
             w.cache_id AND p.hash = w.waits_for) ORDER BY w.hash LIMIT $3",
        )
        .bind(cache.0)
        .bind(after)
        .bind(i64::from(limit))
        .fetch_all(conn)
        .await?
    });
    let hash = |column: &str, text: &str| {
        StorePathHash::from_chars(text.as_bytes())
            .ok_or_else(|| DbError::corrupt(format!("{column}: `{text}` is no hash part")))
    };
    rows.into_iter()
        .map(|(own, waits_for, narinfo, pushed_by)| {
            Ok(WaitingPath {
                hash: hash("waiting_paths.hash", &own)?,
                waits_for: hash("waiting_paths.waits_for", &waits_for)?,
                narinfo,
                pushed_by,
            })
        })
        .collect()
}

/// How many paths of a cache wait, besides the one with this hash part.
pub async fn waiting_count(
    exec: Exec<'_>,
    cache: CacheId,
    besides: &StorePathHash,
) -> Result<u64, DbError> {
    let count: i64 = on_either!(exec, |conn| {
        sqlx::query_scalar("SELECT count(*) FROM waiting_paths WHERE cache_id = $1 AND hash <> $2")
            .bind(cache.0)
            .bind(besides.to_string())
            .fetch_one(conn)
            .await?
    });
    convert::number("count of waiting paths", count)
}

/// A path waits no more.
pub async fn end_wait(exec: Exec<'_>, cache: CacheId, hash: &StorePathHash) -> Result<(), DbError> {
    on_either!(exec, |conn| {
        sqlx::query("DELETE FROM waiting_paths WHERE cache_id = $1 AND hash = $2")
            .bind(cache.0)
            .bind(hash.to_string())
            .execute(conn)
            .await?;
    });
    Ok(())
}
