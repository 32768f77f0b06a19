//! Sums over what is stored, counted by one server and read by all.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::exec::on_either;
use super::ids::CacheId;
use super::{DbError, Exec, convert, damage, settings};

const USAGE: &str = "usage";
const USAGE_BY_CACHE: &str = "usage-by-cache";

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
    /// Chunks that are retired.
    pub damaged_chunks: u64,
    /// Paths that are withdrawn.
    pub withdrawn_paths: u64,
    /// When it was counted.
    pub counted: i64,
}

/// Counts. Chunks are summed up over packs, of which there are thousands of times fewer.
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

async fn count_rows(mut exec: Exec<'_>, now: i64) -> Result<Usage, DbError> {
    let (damaged_chunks, withdrawn_paths) = damage::counts(exec.again()).await?;
    let (packs, bytes, chunks, nars, paths): (i64, i64, i64, i64, i64) = on_either!(exec, |conn| {
        sqlx::query_as(
            "SELECT count(*), CAST(coalesce(sum(bytes), 0) AS BIGINT), \
             CAST(coalesce(sum(chunk_count), 0) AS BIGINT), (SELECT count(*) FROM nars), (SELECT \
             count(*) FROM paths) FROM packs WHERE state = 0",
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
        damaged_chunks,
        withdrawn_paths,
        counted: now,
    })
}

/// Keeps the sums for every server to read.
pub async fn store(exec: Exec<'_>, usage: &Usage) -> Result<(), DbError> {
    store_as(exec, USAGE, usage).await
}

/// The sums that were counted last.
///
/// # Errors
/// As any read; [`DbError::Corrupt`] when they make no sense.
pub async fn lookup(exec: Exec<'_>) -> Result<Option<Usage>, DbError> {
    lookup_as(exec, USAGE).await
}

/// What the caches hold, as a collection counted it last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CacheUsages {
    /// When.
    pub counted: i64,
    /// Each cache's, by its id.
    pub caches: BTreeMap<i64, CacheUsage>,
    /// Bytes of all packs.
    pub stored: u64,
    /// Those of them that nothing needs.
    pub dead: u64,
}

/// What one cache holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CacheUsage {
    /// Paths.
    pub paths: u64,
    /// Bytes of their NARs.
    pub logical: u64,
    /// Bytes of the records that its chunks lie in, each once.
    pub stored: u64,
    /// Those of them that no other cache needs.
    pub own: u64,
}

impl CacheUsages {
    /// What a cache holds, if it was there when it was counted.
    #[must_use]
    pub fn of(&self, cache: CacheId) -> Option<CacheUsage> {
        self.caches.get(&cache.0).copied()
    }
}

/// Keeps what the caches hold for every server to read.
pub async fn store_caches(exec: Exec<'_>, usages: &CacheUsages) -> Result<(), DbError> {
    store_as(exec, USAGE_BY_CACHE, usages).await
}

/// What the caches hold, if it was ever counted.
///
/// # Errors
/// As [`lookup`].
pub async fn lookup_caches(exec: Exec<'_>) -> Result<Option<CacheUsages>, DbError> {
    lookup_as(exec, USAGE_BY_CACHE).await
}

async fn store_as<T: Serialize>(exec: Exec<'_>, key: &str, value: &T) -> Result<(), DbError> {
    let text = serde_json::to_string(value)
        .map_err(|error| DbError::corrupt(format!("the setting `{key}`: {error}")))?;
    settings::set(exec, key, &text).await
}

async fn lookup_as<T: DeserializeOwned>(exec: Exec<'_>, key: &str) -> Result<Option<T>, DbError> {
    let parse = |text: String| {
        serde_json::from_str(&text)
            .map_err(|error| DbError::corrupt(format!("the setting `{key}`: {error}")))
    };
    settings::lookup(exec, key).await?.map(parse).transpose()
}
