//! Sums over what is stored, counted by one server and read by all.

use serde::{Deserialize, Serialize};

use super::exec::on_either;
use super::{DbError, Exec, convert, settings};

const USAGE: &str = "usage";

/// What is stored, as it was counted last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Packs.
    pub packs: u64,
    /// Bytes of their objects.
    pub bytes: u64,
    /// Chunks in them.
    pub chunks: u64,
    /// NARs.
    pub nars: u64,
    /// Paths of all caches.
    pub paths: u64,
    /// When it was counted.
    pub counted: i64,
}

/// Counts. Chunks are summed up over packs, of which there are thousands of times fewer.
///
/// # Errors
/// As any read.
pub async fn count(mut exec: Exec<'_>, now: i64) -> Result<Usage, DbError> {
    // The one question that is about all rows.
    read_whole_tables(&mut exec, "on").await?;
    let counted = count_rows(exec.again(), now).await;
    read_whole_tables(&mut exec, "off").await?;
    counted
}

/// What PostgreSQL's sessions are kept from otherwise.
async fn read_whole_tables(exec: &mut Exec<'_>, setting: &str) -> Result<(), DbError> {
    if let Exec::Postgres(conn) = exec {
        let set = sqlx::query("SELECT set_config('enable_seqscan', $1, false)").bind(setting);
        set.execute(&mut **conn).await?;
    }
    Ok(())
}

async fn count_rows(exec: Exec<'_>, now: i64) -> Result<Usage, DbError> {
    let (packs, bytes, chunks, nars, paths): (i64, i64, i64, i64, i64) = on_either!(exec, |conn| {
        sqlx::query_as(
            "SELECT count(*), CAST(coalesce(sum(bytes), 0) AS BIGINT), CAST(coalesce(sum(chunk_count), 0) AS BIGINT), \
             (SELECT count(*) FROM nars), (SELECT count(*) FROM paths) FROM packs WHERE state = 0",
        )
        .fetch_one(conn)
        .await?
    });
    Ok(Usage {
        packs: convert::number("count of packs", packs)?,
        bytes: convert::number("sum of packs.bytes", bytes)?,
        chunks: convert::number("sum of packs.chunk_count", chunks)?,
        nars: convert::number("count of nars", nars)?,
        paths: convert::number("count of paths", paths)?,
        counted: now,
    })
}

/// Keeps the sums for every server to read.
///
/// # Errors
/// As any write.
pub async fn store(exec: Exec<'_>, usage: &Usage) -> Result<(), DbError> {
    let text = serde_json::to_string(usage).map_err(|error| DbError::corrupt(format!("usage: {error}")))?;
    settings::set(exec, USAGE, &text).await
}

/// The sums that were counted last.
///
/// # Errors
/// As any read; [`DbError::Corrupt`] when they make no sense.
pub async fn lookup(exec: Exec<'_>) -> Result<Option<Usage>, DbError> {
    let parse = |text: String| {
        serde_json::from_str(&text).map_err(|error| DbError::corrupt(format!("the setting `{USAGE}`: {error}")))
    };
    settings::lookup(exec, USAGE).await?.map(parse).transpose()
}
