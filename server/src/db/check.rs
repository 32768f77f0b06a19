//! Rows as `check` and `repair` read them: one that makes no sense is an answer like another, and
//! what a row names may be missing. Everything else of the server reads rows that it can rely on.

use std::collections::HashMap;

use snowbank_core::chunk::ChunkName;
use snowbank_core::pack::PackKey;
use snowbank_core::signing::Signature;
use snowbank_core::store_path::{StorePath, StorePathHash};
use sqlx::FromRow;

use super::batch::{self, Engine as _};
use super::exec::on_either;
use super::ids::{CacheId, DomainId, NarId, PackId, PathId};
use super::nars::{Nar, NarRow, nar_columns};
use super::packs::{Pack, PackState};
use super::{DbError, Exec, convert, packs};

/// A chunk's row, and what is known of what it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkFacts {
    /// Its id.
    pub id: u64,
    /// The domain that it is in.
    pub domain: DomainId,
    /// Whether there is such a domain.
    pub is_domain_known: bool,
    /// Its name.
    pub name: ChunkName,
    /// The pack that holds it.
    pub pack: PackId,
    /// Where its record starts in the object.
    pub offset: u32,
    /// How long its record is.
    pub len: u32,
    /// Whether its pack lives, and how long its object is; `None` where there is no such pack.
    pub found_pack: Option<(PackState, u64)>,
}

#[derive(FromRow)]
struct ChunkRow {
    id: i64,
    domain_id: i64,
    known_domain: Option<i64>,
    name: Vec<u8>,
    pack_id: i64,
    pack_offset: i64,
    record_len: i64,
    state: Option<i64>,
    bytes: Option<i64>,
}

impl TryFrom<ChunkRow> for ChunkFacts {
    type Error = DbError;

    fn try_from(row: ChunkRow) -> Result<Self, DbError> {
        let state =
            row.state.map(|state| if state == 0 { PackState::Live } else { PackState::Dead });
        let bytes = row.bytes.map(|bytes| convert::number("packs.bytes", bytes)).transpose()?;
        Ok(Self {
            id: convert::number("chunks.id", row.id)?,
            domain: DomainId(row.domain_id),
            is_domain_known: row.known_domain.is_some(),
            name: ChunkName::from_bytes(convert::bytes("chunks.name", &row.name)?),
            pack: PackId(row.pack_id),
            offset: convert::number("chunks.pack_offset", row.pack_offset)?,
            len: convert::number("chunks.record_len", row.record_len)?,
            found_pack: state.zip(bytes),
        })
    }
}

/// A row's id, and the row unless it makes no sense.
pub type CheckedRow<T> = (i64, Result<T, DbError>);

/// Up to `limit` chunks with an id above `after`, by id.
pub async fn chunks(
    exec: Exec<'_>,
    after: i64,
    limit: u32,
) -> Result<Vec<CheckedRow<ChunkFacts>>, DbError> {
    let rows: Vec<ChunkRow> = on_either!(exec, |conn| {
        sqlx::query_as(
            "SELECT c.id, c.domain_id, d.id AS known_domain, c.name, c.pack_id, c.pack_offset, \
             c.record_len, p.state, p.bytes FROM chunks c LEFT JOIN packs p ON p.id = c.pack_id \
             LEFT JOIN domains d ON d.id = c.domain_id WHERE c.id > $1 ORDER BY c.id LIMIT $2",
        )
        .bind(after)
        .bind(i64::from(limit))
        .fetch_all(conn)
        .await?
    });
    Ok(rows.into_iter().map(|row| (row.id, row.try_into())).collect())
}

/// A NAR's row, with the beginning of its manifest.
#[derive(Debug, Clone)]
pub struct NarFacts {
    /// The row.
    pub nar: Nar,
    /// The first segment of its manifest, encoded.
    pub first: Vec<u8>,
}

#[derive(FromRow)]
struct NarFactsRow {
    checked_id: i64,
    first: Vec<u8>,
    #[sqlx(flatten)]
    nar: NarRow,
}

/// Up to `limit` NARs with an id above `after`, by id.
pub async fn nars(
    exec: Exec<'_>,
    after: i64,
    limit: u32,
) -> Result<Vec<CheckedRow<NarFacts>>, DbError> {
    let rows: Vec<NarFactsRow> = on_either!(exec, |conn| {
        sqlx::query_as(concat!(
            "SELECT n.id AS checked_id, n.manifest AS first, ",
            nar_columns!(),
            " FROM nars n WHERE n.id > $1 ORDER BY n.id LIMIT $2"
        ))
        .bind(after)
        .bind(i64::from(limit))
        .fetch_all(conn)
        .await?
    });
    let facts = |row: NarFactsRow| {
        let NarFactsRow { checked_id, first, nar } = row;
        (checked_id, Nar::try_from(nar).map(|nar| NarFacts { nar, first }))
    };
    Ok(rows.into_iter().map(facts).collect())
}

/// The NAR of that id.
pub async fn nar(exec: Exec<'_>, id: NarId) -> Result<Option<CheckedRow<NarFacts>>, DbError> {
    let found = nars(exec, id.0.saturating_sub(1), 1).await?;
    Ok(found.into_iter().find(|(found, _)| *found == id.0))
}

/// A path's row, and what is known of what it names.
#[derive(Debug)]
pub struct PathFacts {
    /// Its id.
    pub id: PathId,
    /// The cache that shows it.
    pub cache: CacheId,
    /// `HASH-NAME`, as the row has them.
    pub base_name: String,
    /// Its content.
    pub nar: NarId,
    /// The domain of that, if there is such a NAR.
    pub nar_domain: Option<DomainId>,
    /// The store path and what it refers to, unless the row makes no sense.
    pub parsed: Result<(StorePath, Vec<StorePathHash>), DbError>,
}

#[derive(FromRow)]
struct PathFactsRow {
    id: i64,
    cache_id: i64,
    hash: String,
    name: String,
    nar_id: i64,
    nar_domain: Option<i64>,
    refs: String,
    deriver: Option<String>,
    signatures: String,
}

impl From<PathFactsRow> for PathFacts {
    fn from(row: PathFactsRow) -> Self {
        let base_name = format!("{}-{}", row.hash, row.name);
        let parse = || -> Result<_, DbError> {
            let path: StorePath = convert::text("paths.hash, paths.name", &base_name)?;
            let references: Vec<StorePath> = convert::words("paths.refs", &row.refs)?;
            let _: Option<StorePath> = row
                .deriver
                .as_deref()
                .map(|deriver| convert::text("paths.deriver", deriver))
                .transpose()?;
            let _: Vec<Signature> = convert::words("paths.signatures", &row.signatures)?;
            Ok((path, references.iter().map(StorePath::hash).collect()))
        };
        Self {
            id: PathId(row.id),
            cache: CacheId(row.cache_id),
            nar: NarId(row.nar_id),
            nar_domain: row.nar_domain.map(DomainId),
            parsed: parse(),
            base_name,
        }
    }
}

/// Up to `limit` paths with an id above `after`, by id.
pub async fn paths(exec: Exec<'_>, after: PathId, limit: u32) -> Result<Vec<PathFacts>, DbError> {
    let rows: Vec<PathFactsRow> = on_either!(exec, |conn| {
        sqlx::query_as(
            "SELECT p.id, p.cache_id, p.hash, p.name, p.nar_id, n.domain_id AS nar_domain, p.refs, \
             p.deriver, p.signatures FROM paths p LEFT JOIN nars n ON n.id = p.nar_id WHERE p.id > \
             $1 ORDER BY p.id LIMIT $2",
        )
        .bind(after.0)
        .bind(i64::from(limit))
        .fetch_all(conn)
        .await?
    });
    Ok(rows.into_iter().map(PathFacts::from).collect())
}

/// The path of that id.
pub async fn path(exec: Exec<'_>, id: PathId) -> Result<Option<PathFacts>, DbError> {
    let found = paths(exec, PathId(id.0.saturating_sub(1)), 1).await?;
    Ok(found.into_iter().find(|found| found.id == id))
}

/// The packs under these keys, live or dead.
pub async fn packs_by_key(
    mut exec: Exec<'_>,
    keys: &[PackKey],
) -> Result<HashMap<PackKey, Pack>, DbError> {
    let mut ids: Vec<i64> = Vec::with_capacity(keys.len());
    on_either!(exec.again(), |conn| {
        for batch in batch::padded(keys) {
            let sql = format!("SELECT id FROM packs WHERE key IN ({})", batch.placeholders(1));
            let mut query = sqlx::query_scalar(conn.text(sql));
            for key in batch.iter() {
                query = query.bind(&key.as_bytes()[..]);
            }
            let found: Vec<i64> = query.fetch_all(&mut *conn).await?;
            ids.extend(found);
        }
    });
    let ids: Vec<PackId> = ids.into_iter().map(PackId).collect();
    Ok(packs::lookup_many(exec, &ids).await?.into_iter().map(|pack| (pack.key, pack)).collect())
}

/// A generation of a pin whose path is neither visible nor withdrawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoosePin {
    /// The cache.
    pub cache: String,
    /// The pin's name.
    pub name: String,
    /// Which generation of it.
    pub generation: i64,
    /// `HASH-NAME` of the path.
    pub path: String,
}

/// Up to `limit` generations of pins, of caches that are there, that point to nothing. What has
/// expired may.
pub async fn loose_pins(exec: Exec<'_>, now: i64, limit: u32) -> Result<Vec<LoosePin>, DbError> {
    let rows: Vec<(String, String, i64, String, String)> = on_either!(exec, |conn| {
        sqlx::query_as(
            "SELECT c.name, g.name, g.generation, g.hash, g.path_name FROM pin_generations g JOIN \
             pins i ON i.cache_id = g.cache_id AND i.name = g.name JOIN caches c ON c.id = \
             g.cache_id WHERE c.destroyed IS NULL AND (i.expires IS NULL OR i.expires > $1) AND \
             NOT EXISTS (SELECT 1 FROM paths p WHERE p.cache_id = g.cache_id AND p.hash = g.hash) \
             AND NOT EXISTS (SELECT 1 FROM withdrawn_paths w WHERE w.cache_id = g.cache_id AND \
             w.hash = g.hash) ORDER BY g.cache_id, g.name, g.generation LIMIT $2",
        )
        .bind(now)
        .bind(i64::from(limit))
        .fetch_all(conn)
        .await?
    });
    let pin = |(cache, name, generation, hash, path): (_, _, _, String, String)| LoosePin {
        cache,
        name,
        generation,
        path: format!("{hash}-{path}"),
    };
    Ok(rows.into_iter().map(pin).collect())
}

/// Names of up to `limit` pins that stand for a generation that is not there, each with its
/// cache's.
pub async fn pins_without_generation(
    exec: Exec<'_>,
    limit: u32,
) -> Result<Vec<(String, String)>, DbError> {
    Ok(on_either!(exec, |conn| {
        sqlx::query_as(
            "SELECT c.name, i.name FROM pins i JOIN caches c ON c.id = i.cache_id WHERE NOT EXISTS \
             (SELECT 1 FROM pin_generations g WHERE g.cache_id = i.cache_id AND g.name = i.name \
             AND g.generation = i.generation) ORDER BY i.cache_id, i.name LIMIT $1",
        )
        .bind(i64::from(limit))
        .fetch_all(conn)
        .await?
    }))
}

/// A counter, and the highest id that something has of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CounterFacts {
    /// The counter's name.
    pub name: &'static str,
    /// The next id that it gives; `None` where the counter is gone.
    pub next: Option<i64>,
    /// The highest that is in use.
    pub highest: i64,
}

/// A counter's name, and what asks for it and for the highest id in the table that it is for.
macro_rules! counted {
    ($name:literal, $table:literal) => {
        (
            $name,
            concat!(
                "SELECT (SELECT next FROM counters WHERE name = '",
                $name,
                "'), (SELECT coalesce(max(id), 0) FROM ",
                $table,
                ")"
            ),
        )
    };
}

const COUNTED: [(&str, &str); 8] = [
    counted!("chunk", "chunks"),
    counted!("pack", "packs"),
    counted!("nar", "nars"),
    counted!("path", "paths"),
    counted!("cache", "caches"),
    counted!("domain", "domains"),
    counted!("signing-key", "signing_keys"),
    counted!("audit", "audit"),
];

/// Every counter, each by one statement, so that it is seen together with what it counts.
pub async fn counters(mut exec: Exec<'_>) -> Result<Vec<CounterFacts>, DbError> {
    let mut found = Vec::with_capacity(COUNTED.len());
    for (name, sql) in COUNTED {
        let (next, highest): (Option<i64>, i64) =
            on_either!(exec.again(), |conn| { sqlx::query_as(sql).fetch_one(conn).await? });
        found.push(CounterFacts { name, next, highest });
    }
    Ok(found)
}

/// Segments of manifests that no NAR's row accounts for.
pub async fn loose_segments(exec: Exec<'_>) -> Result<u64, DbError> {
    let count: i64 = on_either!(exec, |conn| {
        sqlx::query_scalar(
            "SELECT count(*) FROM nar_segments s WHERE NOT EXISTS (SELECT 1 FROM nars n WHERE n.id \
             = s.nar_id AND n.segment_count > s.seq)",
        )
        .fetch_one(conn)
        .await?
    });
    convert::number("count of nar_segments", count)
}
