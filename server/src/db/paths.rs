//! Paths: what a cache shows. A path's row is what makes it visible, and ties it to a NAR that was
//! decoded (W4).

use std::collections::HashMap;

use snowbank_core::hash::NarHash;
use snowbank_core::signing::Signature;
use snowbank_core::store_path::{StorePath, StorePathHash};
use sqlx::FromRow;

use super::batch::{Engine as _, rows_by_key};
use super::convert;
use super::exec::on_either;
pub use super::ids::PathId;
use super::ids::{CacheId, NarId};
use super::nars::{Nar, NarRow, nar_columns};
use super::{DbError, Exec, batch};

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
    /// Lines of its narinfo that only its readers know.
    pub extra: String,
    /// The subject of the token that pushed it.
    pub pushed_by: String,
    /// When it became visible.
    pub created: i64,
    /// When it was last read or pushed again, within some minutes; `None` where it was not since it
    /// became visible.
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
    /// Whether a push that wants the path kept until `expires` (`None`: as long as the cache keeps
    /// paths) has anything to write: it was not used since `used_before`, or would end too soon.
    /// See [`uses::touch`](super::uses::touch).
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
    /// Lines of its narinfo that only its readers know.
    pub extra: &'a str,
    /// The subject of the token that pushes it.
    pub pushed_by: &'a str,
    /// When it becomes visible.
    pub created: i64,
    /// Until when it is kept, whoever reads it; `None` where the cache's retention counts.
    pub expires: Option<i64>,
}

#[derive(FromRow)]
pub(super) struct PathRow {
    id: i64,
    hash: String,
    name: String,
    refs: String,
    deriver: Option<String>,
    signatures: String,
    ca: Option<String>,
    extra: String,
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
            "p.id, p.hash, p.name, p.refs, p.deriver, p.signatures, p.ca, p.extra, p.pushed_by, \
             p.created, p.last_used, p.expires, ",
            nar_columns!()
        )
    };
}

pub(super) use path_columns;

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
            deriver: row
                .deriver
                .as_deref()
                .map(|deriver| convert::text("paths.deriver", deriver))
                .transpose()?,
            signatures: convert::words("paths.signatures", &row.signatures)?,
            ca: row.ca,
            extra: row.extra,
            pushed_by: row.pushed_by,
            created: row.created,
            last_used: row.last_used,
            expires: row.expires,
        })
    }
}

pub(super) fn store_path(hash: &str, name: &str) -> Result<StorePath, DbError> {
    convert::text("paths.hash, paths.name", &format!("{hash}-{name}"))
}

/// For [`rows_by_key`].
const IN_CACHE: &str = "x.cache_id = $1";

/// The cache's paths with these hash parts; what it does not have is not in the result.
pub async fn records(
    exec: Exec<'_>,
    cache: CacheId,
    hashes: &[StorePathHash],
) -> Result<HashMap<StorePathHash, PathRecord>, DbError> {
    let select = select_path!("WHERE p.id IN");
    let rows: Vec<PathRow> = on_either!(exec, |conn| {
        rows_by_key!(conn, select, "paths", IN_CACHE, cache.0, "hash", hashes, |hash| hash
            .to_string())
    });
    rows.into_iter()
        .map(|row| PathRecord::try_from(row).map(|path| (path.store_path.hash(), path)))
        .collect()
}

/// Which of these hash parts the cache has, and what it has there.
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
    let select = "SELECT p.id, p.hash, p.name, n.nar_hash, n.nar_size, p.created, p.last_used, \
        p.expires FROM paths p JOIN nars n ON n.id = p.nar_id WHERE p.id IN";
    let rows: Vec<Row> = on_either!(exec, |conn| {
        rows_by_key!(conn, select, "paths", IN_CACHE, cache.0, "hash", hashes, |hash| hash
            .to_string())
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

/// Those of these NARs that the cache has a path with; one of which the domain only has the chunks
/// does not exist for it.
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
                    "SELECT CASE WHEN n.segment_count = 1 AND length(n.manifest) <= $1 THEN \
                     n.manifest END AS short, ",
                    nar_columns!(),
                    " FROM nars n WHERE EXISTS (SELECT 1 FROM paths p WHERE p.nar_id = n.id AND \
                     p.cache_id = $2) AND n.id IN ({})"
                ),
                batch.ids(
                    "nars",
                    "x.domain_id = (SELECT domain_id FROM caches WHERE id = $3)",
                    "nar_hash",
                    4
                )
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
                "INSERT INTO paths (id, cache_id, hash, name, nar_id, refs, deriver, signatures, \
                 ca, pushed_by, created, expires, extra) VALUES {}",
                batch::rows(13, batch.len())
            );
            let mut query = sqlx::query(conn.text(sql));
            for path in batch {
                let mut references: Vec<String> =
                    path.references.iter().map(StorePath::base_name).collect();
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
                    .bind(path.expires)
                    .bind(path.extra);
            }
            query.execute(&mut *conn).await?;
        }
    });
    Ok(())
}

/// The signatures that came with a path.
pub async fn signatures(exec: Exec<'_>, path: PathId) -> Result<Vec<Signature>, DbError> {
    let found: Option<String> = on_either!(exec, |conn| {
        sqlx::query_scalar("SELECT signatures FROM paths WHERE id = $1")
            .bind(path.0)
            .fetch_optional(conn)
            .await?
    });
    convert::words("paths.signatures", &found.unwrap_or_default())
}

/// Gives a path these signatures, in the place of those that it had.
pub async fn set_signatures(
    exec: Exec<'_>,
    path: PathId,
    signatures: &[Signature],
) -> Result<(), DbError> {
    on_either!(exec, |conn| {
        sqlx::query("UPDATE paths SET signatures = $2 WHERE id = $1")
            .bind(path.0)
            .bind(convert::join(signatures))
            .execute(conn)
            .await?;
    });
    Ok(())
}

/// How many paths a cache shows.
pub async fn count(exec: Exec<'_>, cache: CacheId) -> Result<u64, DbError> {
    let count: i64 = on_either!(exec, |conn| {
        sqlx::query_scalar("SELECT count(*) FROM paths WHERE cache_id = $1")
            .bind(cache.0)
            .fetch_one(conn)
            .await?
    });
    convert::number("count of paths", count)
}

/// Up to `limit` paths with an id above `after`, by id, with the cache that shows each.
pub async fn page(
    exec: Exec<'_>,
    after: PathId,
    limit: u32,
) -> Result<Vec<(CacheId, PathRecord)>, DbError> {
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
    rows.into_iter()
        .map(|row| Ok((CacheId(row.cache_id), PathRecord::try_from(row.path)?)))
        .collect()
}

/// Takes paths out of sight. Their NARs stay until they are collected.
pub async fn remove(
    exec: Exec<'_>,
    cache: CacheId,
    hashes: &[StorePathHash],
) -> Result<u64, DbError> {
    let mut removed = 0;
    on_either!(exec, |conn| {
        for batch in batch::padded(hashes) {
            let sql = format!(
                "DELETE FROM paths WHERE id IN ({})",
                batch.ids("paths", IN_CACHE, "hash", 2)
            );
            let mut query = sqlx::query(conn.text(sql)).bind(cache.0);
            for hash in batch.iter() {
                query = query.bind(hash.to_string());
            }
            removed += query.execute(&mut *conn).await?.rows_affected();
        }
    });
    Ok(removed)
}
