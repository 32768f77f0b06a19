//! Logical caches, and the domains within which caches share chunks.

use snowbank_core::cache_name::CacheName;
use snowbank_core::store_path::StoreDir;
use snowbank_core::units::{Limit, Seconds, Size};
use sqlx::FromRow;

use super::batch::Engine as _;
use super::convert;
use super::counters::{self, Counter};
use super::exec::on_either;
pub use super::ids::{CacheId, DomainId};
use super::{DbError, Exec, batch, pins};

/// For how long a destroyed cache can be restored, in seconds.
pub const RESTORABLE_SECONDS: i64 = 7 * 86_400;

/// A logical cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    /// Its id.
    pub id: CacheId,
    /// The name in its address.
    pub name: CacheName,
    /// With whom it shares chunks.
    pub domain: DomainId,
    /// Whether anyone may read it.
    pub public: bool,
    /// The store that its paths belong to.
    pub store_dir: StoreDir,
    /// Nix asks caches with a lower number first.
    pub priority: i64,
    /// Whether Nix asks it about many paths at once.
    pub want_mass_query: bool,
    /// Paths signed with a key of one of these names are not pushed.
    pub upstream_keys: Vec<String>,
    /// The zstd level that clients are told to use.
    pub compression_level: i32,
    /// When it was made.
    pub created: i64,
    /// What it is for.
    pub description: String,
    /// How long a path is kept that nobody pushes or reads.
    pub retention: Limit<Seconds>,
    /// How much it may hold.
    pub max_size: Limit<Size>,
    /// When it was destroyed, if it was.
    pub destroyed: Option<i64>,
}

impl Cache {
    /// For how many seconds it keeps a path that nobody uses, where `default` is the server's
    /// setting; `None` for ever.
    #[must_use]
    pub fn keeps_unused(&self, default: Option<Seconds>) -> Option<i64> {
        let retention = match self.retention {
            Limit::Default => default,
            Limit::None => None,
            Limit::Some(time) => Some(time),
        };
        retention.map(|time| i64::try_from(time.get()).unwrap_or(i64::MAX))
    }
}

/// A cache that is to be made.
#[derive(Debug, Clone)]
pub struct NewCache {
    /// The name in its address.
    pub name: CacheName,
    /// With whom it shares chunks.
    pub domain: DomainId,
    /// Whether anyone may read it.
    pub public: bool,
    /// The store that its paths belong to.
    pub store_dir: StoreDir,
    /// Nix asks caches with a lower number first.
    pub priority: i64,
    /// The zstd level that clients are told to use.
    pub compression_level: i32,
    /// When it is made.
    pub created: i64,
}

/// Key names whose paths are not pushed, unless a cache says otherwise.
const DEFAULT_UPSTREAM_KEYS: &str = "cache.nixos.org-1";

#[derive(FromRow)]
struct CacheRow {
    id: i64,
    name: String,
    domain_id: i64,
    public: i64,
    store_dir: String,
    priority: i64,
    want_mass_query: i64,
    upstream_keys: String,
    compression_level: i64,
    created: i64,
    description: String,
    retention: Option<i64>,
    max_size: Option<i64>,
    destroyed: Option<i64>,
}

macro_rules! columns {
    () => {
        "id, name, domain_id, public, store_dir, priority, want_mass_query, upstream_keys, \
         compression_level, created, description, retention, max_size, destroyed"
    };
}

/// NULL is the server's default, and 0 no limit.
fn limit<T>(
    column: &str,
    value: Option<i64>,
    from: impl Fn(u64) -> T,
) -> Result<Limit<T>, DbError> {
    match value {
        None => Ok(Limit::Default),
        Some(0) => Ok(Limit::None),
        Some(value) => Ok(Limit::Some(from(convert::number(column, value)?))),
    }
}

/// The opposite of [`limit`].
fn limit_to_db<T: Copy>(limit: Limit<T>, into: impl Fn(T) -> u64) -> Result<Option<i64>, DbError> {
    match limit {
        Limit::Default => Ok(None),
        Limit::None => Ok(Some(0)),
        Limit::Some(value) => convert::to_db(into(value)).map(Some),
    }
}

impl TryFrom<CacheRow> for Cache {
    type Error = DbError;

    fn try_from(row: CacheRow) -> Result<Self, DbError> {
        Ok(Self {
            id: CacheId(row.id),
            name: convert::text("caches.name", &row.name)?,
            domain: DomainId(row.domain_id),
            public: row.public != 0,
            store_dir: convert::text("caches.store_dir", &row.store_dir)?,
            priority: row.priority,
            want_mass_query: row.want_mass_query != 0,
            upstream_keys: row.upstream_keys.split_ascii_whitespace().map(str::to_owned).collect(),
            compression_level: convert::number("caches.compression_level", row.compression_level)?,
            created: row.created,
            description: row.description,
            retention: limit("caches.retention", row.retention, Seconds::new)?,
            max_size: limit("caches.max_size", row.max_size, Size::from_bytes)?,
            destroyed: row.destroyed,
        })
    }
}

/// The cache of that name, unless it was destroyed.
pub async fn lookup(exec: Exec<'_>, name: &CacheName) -> Result<Option<Cache>, DbError> {
    Ok(lookup_any(exec, name).await?.filter(|cache| cache.destroyed.is_none()))
}

/// The cache of that name, also one that was destroyed.
pub async fn lookup_any(exec: Exec<'_>, name: &CacheName) -> Result<Option<Cache>, DbError> {
    let row: Option<CacheRow> = on_either!(exec, |conn| {
        sqlx::query_as(concat!("SELECT ", columns!(), " FROM caches WHERE name = $1"))
            .bind(name.as_str())
            .fetch_optional(conn)
            .await?
    });
    row.map(Cache::try_from).transpose()
}

/// Caches with these names or behind them, by name, and whether each is public.
///
/// Each name leads to one row, its own or else the next one, and it is for the caller to tell
/// which: so a name that no cache has takes as long as that of a private one.
pub async fn publicity(
    exec: Exec<'_>,
    names: &[CacheName],
) -> Result<Vec<(CacheName, bool)>, DbError> {
    let mut rows: Vec<(String, i64, Option<i64>)> = Vec::new();
    on_either!(exec, |conn| {
        for batch in batch::padded(names) {
            let sql = format!(
                "SELECT name, public, destroyed FROM caches WHERE id IN (SELECT coalesce(\
                 (SELECT x.id FROM caches x WHERE x.name >= q.column1 ORDER BY x.name LIMIT 1), \
                 (SELECT x.id FROM caches x ORDER BY x.name LIMIT 1)) FROM (VALUES {}) AS q)",
                batch.values(1)
            );
            let mut query = sqlx::query_as(conn.text(sql));
            for name in batch.iter() {
                query = query.bind(name.as_str());
            }
            rows.extend(query.fetch_all(&mut *conn).await?);
        }
    });
    let of_row = |(name, public, destroyed): (String, i64, Option<i64>)| {
        Ok((convert::text("caches.name", &name)?, public != 0 && destroyed.is_none()))
    };
    rows.into_iter().map(of_row).collect()
}

/// Every cache, by name, also those that were destroyed.
pub async fn list(exec: Exec<'_>) -> Result<Vec<Cache>, DbError> {
    let rows: Vec<CacheRow> = on_either!(exec, |conn| {
        sqlx::query_as(concat!("SELECT ", columns!(), " FROM caches ORDER BY name"))
            .fetch_all(conn)
            .await?
    });
    rows.into_iter().map(Cache::try_from).collect()
}

pub(super) const PAGE: &str =
    concat!("SELECT ", columns!(), " FROM caches WHERE name > $1 ORDER BY name LIMIT $2");

/// Up to `limit` caches whose name comes after `after`, by name, also those that were destroyed.
pub async fn page(exec: Exec<'_>, after: &str, limit: u32) -> Result<Vec<Cache>, DbError> {
    let rows: Vec<CacheRow> = on_either!(exec, |conn| {
        sqlx::query_as(PAGE).bind(after).bind(i64::from(limit)).fetch_all(conn).await?
    });
    rows.into_iter().map(Cache::try_from).collect()
}

/// Writes what can be changed of a cache: its name, settings, and whether it is destroyed. The
/// caller's transaction has read it, and excludes others.
///
/// # Errors
/// [`DbError::Constraint`] when the name is taken.
pub async fn update(exec: Exec<'_>, cache: &Cache) -> Result<(), DbError> {
    let retention = limit_to_db(cache.retention, Seconds::get)?;
    let max_size = limit_to_db(cache.max_size, Size::bytes)?;
    on_either!(exec, |conn| {
        sqlx::query(
            "UPDATE caches SET name = $2, public = $3, priority = $4, want_mass_query = $5, \
             upstream_keys = $6, compression_level = $7, description = $8, retention = $9, \
             max_size = $10, destroyed = $11 WHERE id = $1",
        )
        .bind(cache.id.0)
        .bind(cache.name.as_str())
        .bind(i64::from(cache.public))
        .bind(cache.priority)
        .bind(i64::from(cache.want_mass_query))
        .bind(cache.upstream_keys.join(" "))
        .bind(i64::from(cache.compression_level))
        .bind(&cache.description)
        .bind(retention)
        .bind(max_size)
        .bind(cache.destroyed)
        .execute(conn)
        .await?;
    });
    Ok(())
}

/// Makes a cache.
///
/// # Errors
/// [`DbError::Constraint`] when the name is taken.
pub async fn add(mut exec: Exec<'_>, new: &NewCache) -> Result<Cache, DbError> {
    let id = counters::reserve(exec.again(), Counter::Cache, 1).await?;
    let row: CacheRow = on_either!(exec, |conn| {
        sqlx::query_as(concat!(
            "INSERT INTO caches (id, name, domain_id, public, store_dir, priority, \
             want_mass_query, upstream_keys, compression_level, created) VALUES ($1, $2, $3, $4, \
             $5, $6, 1, $7, $8, $9) RETURNING ",
            columns!()
        ))
        .bind(id)
        .bind(new.name.as_str())
        .bind(new.domain.0)
        .bind(i64::from(new.public))
        .bind(new.store_dir.as_str())
        .bind(new.priority)
        .bind(DEFAULT_UPSTREAM_KEYS)
        .bind(i64::from(new.compression_level))
        .bind(new.created)
        .fetch_one(conn)
        .await?
    });
    Cache::try_from(row)
}

/// Makes a domain of its own for a cache that is to share with no other.
pub async fn add_domain(mut exec: Exec<'_>, now: i64) -> Result<DomainId, DbError> {
    let id = counters::reserve(exec.again(), Counter::Domain, 1).await?;
    on_either!(exec, |conn| {
        sqlx::query("INSERT INTO domains (id, created) VALUES ($1, $2)")
            .bind(id)
            .bind(now)
            .execute(conn)
            .await?;
    });
    Ok(DomainId(id))
}

/// Removes up to `limit` of a cache's path rows; gives how many it were.
pub async fn remove_some_paths(exec: Exec<'_>, cache: CacheId, limit: u32) -> Result<u64, DbError> {
    Ok(on_either!(exec, |conn| {
        sqlx::query(
            "DELETE FROM paths WHERE id IN (SELECT id FROM paths WHERE cache_id = $1 LIMIT $2)",
        )
        .bind(cache.0)
        .bind(i64::from(limit))
        .execute(conn)
        .await?
        .rows_affected()
    }))
}

/// Removes a cache that has no paths, its pins, its keys, and what is known of paths that it lost.
///
/// # Errors
/// [`DbError::Constraint`] when it has paths.
pub async fn remove(mut exec: Exec<'_>, cache: CacheId) -> Result<(), DbError> {
    pins::remove_all(exec.again(), cache).await?;
    on_either!(exec.again(), |conn| {
        for sql in [
            "DELETE FROM signing_keys WHERE cache_id = $1",
            "DELETE FROM withdrawn_paths WHERE cache_id = $1",
            "DELETE FROM nar_uploads WHERE cache_id = $1",
            "DELETE FROM waiting_paths WHERE cache_id = $1",
            "DELETE FROM cache_files WHERE cache_id = $1",
        ] {
            sqlx::query(sql).bind(cache.0).execute(&mut *conn).await?;
        }
    });
    on_either!(exec, |conn| {
        sqlx::query("DELETE FROM caches WHERE id = $1").bind(cache.0).execute(conn).await?;
    });
    Ok(())
}
