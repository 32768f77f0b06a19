//! Paths: what a cache shows. A path's row is what makes it visible, and ties it to a NAR that was decoded (W4).

use std::collections::HashMap;

use snowbank_core::hash::NarHash;
use snowbank_core::signing::Signature;
use snowbank_core::store_path::{StorePath, StorePathHash};
use sqlx::FromRow;

use super::batch::{Engine as _, rows_by_key};
use super::caches::CacheId;
use super::convert::{self, id_types};
use super::counters::{self, Counter};
use super::exec::on_either;
use super::nars::{Nar, NarId, NarRow, nar_columns};
use super::{DbError, Exec, batch};

id_types! {
    /// A path's id.
    PathId;
}

/// A visible path with everything that its narinfo says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathRecord {
    /// Its id.
    pub id: PathId,
    /// The store path.
    pub store_path: StorePath,
    /// Its content.
    pub nar: Nar,
    /// What it refers to, sorted.
    pub references: Vec<StorePath>,
    /// What built it.
    pub deriver: Option<StorePath>,
    /// Signatures that came with it; the cache's own are made when it is served.
    pub signatures: Vec<Signature>,
    /// Its content address, if it has one.
    pub ca: Option<String>,
    /// The subject of the token that pushed it.
    pub pushed_by: String,
    /// When it became visible.
    pub created: i64,
    /// When it was last read or pushed again, within some minutes; `None` where it was not since it became visible.
    pub last_used: Option<i64>,
    /// Until when it is kept, whoever reads it; `None` where the cache's retention counts.
    pub expires: Option<i64>,
}

/// What a receipt says of a path, and how long it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathBrief {
    /// Its id.
    pub id: PathId,
    /// The store path.
    pub store_path: StorePath,
    /// SHA-256 of its NAR.
    pub nar_hash: NarHash,
    /// Length of its NAR.
    pub nar_size: u64,
    /// When it became visible.
    pub created: i64,
    /// When it was last read or pushed again; `None` where it was not since it became visible.
    pub last_used: Option<i64>,
    /// Until when it is kept, whoever reads it; `None` where the cache's retention counts.
    pub expires: Option<i64>,
}

impl PathBrief {
    /// Whether a push that wants the path kept until `expires` (`None`: as long as the cache keeps paths) has anything to
    /// write: it was not used since `used_before`, or would end too soon. See [`touch`].
    #[must_use]
    pub fn is_to_touch(&self, used_before: i64, expires: Option<i64>) -> bool {
        let ends_too_soon = match (self.expires, expires) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(own), Some(wanted)) => own < wanted,
        };
        ends_too_soon || self.created.max(self.last_used.unwrap_or(i64::MIN)) < used_before
    }
}

/// A path that is to become visible.
#[derive(Debug, Clone)]
pub struct NewPath<'a> {
    /// A reserved id.
    pub id: PathId,
    /// Where.
    pub cache: CacheId,
    /// The store path.
    pub store_path: &'a StorePath,
    /// Its content.
    pub nar: NarId,
    /// What it refers to; kept sorted.
    pub references: &'a [StorePath],
    /// What built it.
    pub deriver: Option<&'a StorePath>,
    /// Signatures that come with it.
    pub signatures: &'a [Signature],
    /// Its content address, if it has one.
    pub ca: Option<&'a str>,
    /// The subject of the token that pushes it.
    pub pushed_by: &'a str,
    /// When it becomes visible.
    pub created: i64,
    /// Until when it is kept, whoever reads it; `None` where the cache's retention counts.
    pub expires: Option<i64>,
}

#[derive(FromRow)]
struct PathRow {
    id: i64,
    hash: String,
    name: String,
    refs: String,
    deriver: Option<String>,
    signatures: String,
    ca: Option<String>,
    pushed_by: String,
    created: i64,
    last_used: Option<i64>,
    expires: Option<i64>,
    #[sqlx(flatten)]
    nar: NarRow,
}

/// What `PathRow` reads, from tables called `p` and `n`.
macro_rules! path_columns {
    () => {
        concat!(
            "p.id, p.hash, p.name, p.refs, p.deriver, p.signatures, p.ca, p.pushed_by, p.created, p.last_used, \
             p.expires, ",
            nar_columns!()
        )
    };
}

macro_rules! select_path {
    ($rest:literal) => {
        concat!("SELECT ", path_columns!(), " FROM paths p JOIN nars n ON n.id = p.nar_id ", $rest)
    };
}

impl TryFrom<PathRow> for PathRecord {
    type Error = DbError;

    fn try_from(row: PathRow) -> Result<Self, DbError> {
        Ok(Self {
            id: PathId(row.id),
            store_path: store_path(&row.hash, &row.name)?,
            nar: row.nar.try_into()?,
            references: convert::words("paths.refs", &row.refs)?,
            deriver: row.deriver.as_deref().map(|deriver| convert::text("paths.deriver", deriver)).transpose()?,
            signatures: convert::words("paths.signatures", &row.signatures)?,
            ca: row.ca,
            pushed_by: row.pushed_by,
            created: row.created,
            last_used: row.last_used,
            expires: row.expires,
        })
    }
}

fn store_path(hash: &str, name: &str) -> Result<StorePath, DbError> {
    convert::text("paths.hash, paths.name", &format!("{hash}-{name}"))
}

/// For [`rows_by_key`].
const IN_CACHE: &str = "x.cache_id = $1";

/// The cache's paths with these hash parts; what it does not have is not in the result.
///
/// # Errors
/// As any read.
pub async fn records(
    exec: Exec<'_>,
    cache: CacheId,
    hashes: &[StorePathHash],
) -> Result<HashMap<StorePathHash, PathRecord>, DbError> {
    let select = select_path!("WHERE p.id IN");
    let rows: Vec<PathRow> = on_either!(exec, |conn| {
        rows_by_key!(conn, select, "paths", IN_CACHE, cache.0, "hash", hashes, |hash| hash.to_string())
    });
    rows.into_iter().map(|row| PathRecord::try_from(row).map(|path| (path.store_path.hash(), path))).collect()
}

/// Which of these hash parts the cache has, and what it has there.
///
/// # Errors
/// As any read.
pub async fn lookup_many(
    exec: Exec<'_>,
    cache: CacheId,
    hashes: &[StorePathHash],
) -> Result<HashMap<StorePathHash, PathBrief>, DbError> {
    #[derive(FromRow)]
    struct Row {
        id: i64,
        hash: String,
        name: String,
        nar_hash: Vec<u8>,
        nar_size: i64,
        created: i64,
        last_used: Option<i64>,
        expires: Option<i64>,
    }
    let select = "SELECT p.id, p.hash, p.name, n.nar_hash, n.nar_size, p.created, p.last_used, p.expires FROM paths p \
                  JOIN nars n ON n.id = p.nar_id WHERE p.id IN";
    let rows: Vec<Row> = on_either!(exec, |conn| {
        rows_by_key!(conn, select, "paths", IN_CACHE, cache.0, "hash", hashes, |hash| hash.to_string())
    });
    let brief = |row: Row| {
        let brief = PathBrief {
            id: PathId(row.id),
            store_path: store_path(&row.hash, &row.name)?,
            nar_hash: NarHash::from_bytes(convert::bytes("nars.nar_hash", &row.nar_hash)?),
            nar_size: convert::number("nars.nar_size", row.nar_size)?,
            created: row.created,
            last_used: row.last_used,
            expires: row.expires,
        };
        Ok((brief.store_path.hash(), brief))
    };
    rows.into_iter().map(brief).collect()
}

/// A NAR that a cache shows, with its manifest where that is short.
#[derive(Debug, Clone)]
pub struct VisibleNar {
    /// The NAR.
    pub nar: Nar,
    /// Its only segment, if that is all of the manifest and at most [`SHORT_MANIFEST_BYTES`] long.
    pub manifest: Option<Vec<u8>>,
}

/// A manifest that is read along with its NAR's row is at most this long.
pub const SHORT_MANIFEST_BYTES: i64 = 4096;

/// Those of these NARs that the cache has a path with; one of which the domain only has the chunks does not exist for it.
///
/// # Errors
/// As any read.
pub async fn visible_nars(
    exec: Exec<'_>,
    cache: CacheId,
    nar_hashes: &[NarHash],
) -> Result<HashMap<NarHash, VisibleNar>, DbError> {
    #[derive(FromRow)]
    struct Row {
        short: Option<Vec<u8>>,
        #[sqlx(flatten)]
        nar: NarRow,
    }
    let mut found = HashMap::with_capacity(nar_hashes.len());
    on_either!(exec, |conn| {
        for batch in batch::padded(nar_hashes) {
            let sql = format!(
                concat!(
                    "SELECT CASE WHEN n.segment_count = 1 AND length(n.manifest) <= $1 THEN n.manifest END AS short, ",
                    nar_columns!(),
                    " FROM nars n WHERE EXISTS (SELECT 1 FROM paths p WHERE p.nar_id = n.id AND p.cache_id = $2) \
                     AND n.id IN ({})"
                ),
                batch.ids("nars", "x.domain_id = (SELECT domain_id FROM caches WHERE id = $3)", "nar_hash", 4)
            );
            let query = sqlx::query_as(conn.text(sql));
            let mut query = query.bind(SHORT_MANIFEST_BYTES).bind(cache.0).bind(cache.0);
            for hash in batch.iter() {
                query = query.bind(&hash.as_bytes()[..]);
            }
            let rows: Vec<Row> = query.fetch_all(&mut *conn).await?;
            for row in rows {
                let nar = Nar::try_from(row.nar)?;
                found.insert(nar.nar_hash, VisibleNar { nar, manifest: row.short });
            }
        }
    });
    Ok(found)
}

/// Makes paths visible.
///
/// # Errors
/// [`DbError::Constraint`] when the cache has one with that hash part, or a NAR does not exist.
pub async fn add(exec: Exec<'_>, paths: &[NewPath<'_>]) -> Result<(), DbError> {
    on_either!(exec, |conn| {
        for batch in batch::exact(paths) {
            let sql = format!(
                "INSERT INTO paths (id, cache_id, hash, name, nar_id, refs, deriver, signatures, ca, pushed_by, created, \
                 expires) VALUES {}",
                batch::rows(12, batch.len())
            );
            let mut query = sqlx::query(conn.text(sql));
            for path in batch {
                let mut references: Vec<String> = path.references.iter().map(StorePath::base_name).collect();
                references.sort_unstable();
                query = query
                    .bind(path.id.0)
                    .bind(path.cache.0)
                    .bind(path.store_path.hash().to_string())
                    .bind(path.store_path.name())
                    .bind(path.nar.0)
                    .bind(references.join(" "))
                    .bind(path.deriver.map(StorePath::base_name))
                    .bind(convert::join(path.signatures))
                    .bind(path.ca)
                    .bind(path.pushed_by)
                    .bind(path.created)
                    .bind(path.expires);
            }
            query.execute(&mut *conn).await?;
        }
    });
    Ok(())
}

/// How many paths a cache shows.
///
/// # Errors
/// As any read.
pub async fn count(exec: Exec<'_>, cache: CacheId) -> Result<u64, DbError> {
    let count: i64 = on_either!(exec, |conn| {
        sqlx::query_scalar("SELECT count(*) FROM paths WHERE cache_id = $1").bind(cache.0).fetch_one(conn).await?
    });
    convert::number("count of paths", count)
}

/// Up to `limit` paths with an id above `after`, by id, with the cache that shows each.
///
/// # Errors
/// As any read.
pub async fn page(exec: Exec<'_>, after: PathId, limit: u32) -> Result<Vec<(CacheId, PathRecord)>, DbError> {
    #[derive(FromRow)]
    struct Row {
        cache_id: i64,
        #[sqlx(flatten)]
        path: PathRow,
    }
    let rows: Vec<Row> = on_either!(exec, |conn| {
        sqlx::query_as(concat!(
            "SELECT p.cache_id, ",
            path_columns!(),
            " FROM paths p JOIN nars n ON n.id = p.nar_id WHERE p.id > $1 ORDER BY p.id LIMIT $2"
        ))
        .bind(after.0)
        .bind(i64::from(limit))
        .fetch_all(conn)
        .await?
    });
    rows.into_iter().map(|row| Ok((CacheId(row.cache_id), PathRecord::try_from(row.path)?))).collect()
}

/// Up to `limit` paths of a cache with an id above `after`, by id.
///
/// # Errors
/// As any read.
pub async fn page_of(exec: Exec<'_>, cache: CacheId, after: PathId, limit: u32) -> Result<Vec<PathRecord>, DbError> {
    let rows: Vec<PathRow> = on_either!(exec, |conn| {
        sqlx::query_as(select_path!("WHERE p.cache_id = $1 AND p.id > $2 ORDER BY p.id LIMIT $3"))
            .bind(cache.0)
            .bind(after.0)
            .bind(i64::from(limit))
            .fetch_all(conn)
            .await?
    });
    rows.into_iter().map(PathRecord::try_from).collect()
}

/// What a path refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathEdges {
    /// The path's id.
    pub id: PathId,
    /// The cache that it is in.
    pub cache: CacheId,
    /// Its hash part.
    pub hash: StorePathHash,
    /// The hash parts of what it refers to, itself among them if it does.
    pub references: Vec<StorePathHash>,
}

type EdgesRow = (i64, i64, String, String);

fn path_edges((id, cache, own, refs): EdgesRow) -> Result<PathEdges, DbError> {
    let hash = |column, text: &str| {
        let hash = text.as_bytes().get(..32).and_then(StorePathHash::from_chars);
        hash.ok_or_else(|| DbError::corrupt(format!("{column}: `{text}` does not begin with a hash part")))
    };
    let references = refs.split_ascii_whitespace().map(|name| hash("paths.refs", name)).collect::<Result<_, _>>()?;
    Ok(PathEdges { id: PathId(id), cache: CacheId(cache), hash: hash("paths.hash", &own)?, references })
}

/// Up to `limit` paths of a cache with a hash part after `after`, sorted by it, with no more than what they refer to.
///
/// # Errors
/// As any read.
pub async fn edges(
    exec: Exec<'_>,
    cache: CacheId,
    after: Option<&StorePathHash>,
    limit: u32,
) -> Result<Vec<PathEdges>, DbError> {
    let after = after.map(StorePathHash::to_string).unwrap_or_default();
    let rows: Vec<EdgesRow> = on_either!(exec, |conn| {
        sqlx::query_as(
            "SELECT id, cache_id, hash, refs FROM paths WHERE cache_id = $1 AND hash > $2 ORDER BY hash LIMIT $3",
        )
        .bind(cache.0)
        .bind(after)
        .bind(i64::from(limit))
        .fetch_all(conn)
        .await?
    });
    rows.into_iter().map(path_edges).collect()
}

/// Up to `limit` paths of all caches with an id above `after`, by id. Ids are given out in the order of commits: whoever has
/// seen one will find no lower one that is new.
///
/// # Errors
/// As any read.
pub async fn edges_since(exec: Exec<'_>, after: PathId, limit: u32) -> Result<Vec<PathEdges>, DbError> {
    let rows: Vec<EdgesRow> = on_either!(exec, |conn| {
        sqlx::query_as("SELECT id, cache_id, hash, refs FROM paths WHERE id > $1 ORDER BY id LIMIT $2")
            .bind(after.0)
            .bind(i64::from(limit))
            .fetch_all(conn)
            .await?
    });
    rows.into_iter().map(path_edges).collect()
}

/// The highest id that a path has, or had.
///
/// # Errors
/// As any read.
pub async fn last_id(exec: Exec<'_>) -> Result<PathId, DbError> {
    counters::last(exec, Counter::Path).await.map(PathId)
}

/// Those of these paths that were not used since `before`, sorted.
///
/// # Errors
/// As any read.
pub async fn unused_since(exec: Exec<'_>, paths: &[PathId], before: i64) -> Result<Vec<PathId>, DbError> {
    let mut unused = Vec::new();
    on_either!(exec, |conn| {
        for batch in batch::padded(paths) {
            let ids = batch.placeholders(2);
            let sql = format!("SELECT id FROM paths WHERE coalesce(last_used, created) < $1 AND id IN ({ids})");
            let mut query = sqlx::query_scalar(conn.text(sql)).bind(before);
            for path in batch.iter() {
                query = query.bind(path.0);
            }
            let found: Vec<i64> = query.fetch_all(&mut *conn).await?;
            unused.extend(found);
        }
    });
    Ok(sorted(unused))
}

/// The cache's paths with one of these NARs that were not used since `before`, sorted.
///
/// # Errors
/// As any read.
pub async fn unused_with_nars(
    exec: Exec<'_>,
    cache: CacheId,
    nars: &[NarId],
    before: i64,
) -> Result<Vec<PathId>, DbError> {
    let mut unused = Vec::new();
    on_either!(exec, |conn| {
        for batch in batch::padded(nars) {
            // One NAR after the other, as with `Padded::ids`.
            let sql = format!(
                "SELECT p.id FROM (VALUES {}) AS q JOIN paths p ON p.nar_id = q.column1 AND p.cache_id = ${} \
                 WHERE coalesce(p.last_used, p.created) < ${}",
                batch.values(1),
                batch.len() + 1,
                batch.len() + 2
            );
            let mut query = sqlx::query_scalar(conn.text(sql));
            for nar in batch.iter() {
                query = query.bind(nar.0);
            }
            let found: Vec<i64> = query.bind(cache.0).bind(before).fetch_all(&mut *conn).await?;
            unused.extend(found);
        }
    });
    Ok(sorted(unused))
}

/// In one order everywhere, so that two that write rows do not wait for each other.
fn sorted(mut ids: Vec<i64>) -> Vec<PathId> {
    ids.sort_unstable();
    ids.dedup();
    ids.into_iter().map(PathId).collect()
}

/// Notes that paths, sorted, were read at the time `now`; those that were used since `before` stay as they are.
///
/// # Errors
/// As any write.
pub async fn used(exec: Exec<'_>, paths: &[PathId], now: i64, before: i64) -> Result<(), DbError> {
    on_either!(exec, |conn| {
        for batch in batch::padded(paths) {
            let ids = batch.placeholders(3);
            let sql =
                format!("UPDATE paths SET last_used = $1 WHERE coalesce(last_used, created) < $2 AND id IN ({ids})");
            let mut query = sqlx::query(conn.text(sql)).bind(now).bind(before);
            for path in batch.iter() {
                query = query.bind(path.0);
            }
            query.execute(&mut *conn).await?;
        }
    });
    Ok(())
}

/// Notes that paths were pushed again at the time `now`, to be kept until `expires`, or, where that is `None`, as long as the
/// cache keeps paths. What is kept for longer stays so: a later end goes before a sooner one, and none before any.
///
/// # Errors
/// As any write.
pub async fn touch(exec: Exec<'_>, paths: &[PathId], now: i64, expires: Option<i64>) -> Result<(), DbError> {
    let paths = sorted(paths.iter().map(|path| path.0).collect());
    on_either!(exec, |conn| {
        for batch in batch::padded(&paths) {
            // Where there is no end, the comparison is NULL, and none stays.
            let (end, first) = match expires {
                Some(_) => ("CASE WHEN expires < $2 THEN $3 ELSE expires END", 4),
                None => ("NULL", 2),
            };
            let ids = batch.placeholders(first);
            let sql = format!("UPDATE paths SET last_used = $1, expires = {end} WHERE id IN ({ids})");
            let mut query = sqlx::query(conn.text(sql)).bind(now);
            if let Some(expires) = expires {
                query = query.bind(expires).bind(expires);
            }
            for path in batch.iter() {
                query = query.bind(path.0);
            }
            query.execute(&mut *conn).await?;
        }
    });
    Ok(())
}

/// Takes paths out of sight. Their NARs stay until they are collected.
///
/// # Errors
/// As any write.
pub async fn remove(exec: Exec<'_>, cache: CacheId, hashes: &[StorePathHash]) -> Result<u64, DbError> {
    let mut removed = 0;
    on_either!(exec, |conn| {
        for batch in batch::padded(hashes) {
            let sql = format!("DELETE FROM paths WHERE id IN ({})", batch.ids("paths", IN_CACHE, "hash", 2));
            let mut query = sqlx::query(conn.text(sql)).bind(cache.0);
            for hash in batch.iter() {
                query = query.bind(hash.to_string());
            }
            removed += query.execute(&mut *conn).await?.rows_affected();
        }
    });
    Ok(removed)
}
