//! Pages of a cache's pins, and the pins of a page of paths.
//!
//! Every function looks at no more rows than its limit says, whatever the cache holds: rows are cut
//! off first, and those whose time is over are left out of what remains.

use std::collections::{BTreeSet, HashMap};

use snowbank_core::pin_name::PinName;
use snowbank_core::store_path::StorePathHash;
use sqlx::FromRow;

use super::batch::Engine as _;
use super::exec::on_either;
use super::ids::CacheId;
use super::pins::{Generation, Pin, PinRow, store_path};
use super::{DbError, Exec, batch, convert, paths};

/// Paths whose pins one statement asks for: SQLite takes no more than 500 parts of one.
const MAX_PARTS: usize = 64;

/// Some pins of a cache, by name.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct PinPage {
    /// Those whose time is not over, with the generation that each stands for.
    pub pins: Vec<(PinName, Pin, Generation)>,
    /// The last name that was looked at, where more may follow.
    pub next: Option<PinName>,
}

/// One part of a pin's generation. Not joined: with few statistics PostgreSQL goes through all
/// generations for each pin.
macro_rules! of_generation {
    ($column:literal) => {
        concat!(
            "(SELECT g.",
            $column,
            " FROM pin_generations g WHERE g.cache_id = s.cache_id AND g.name = s.name AND \
             g.generation = s.generation) AS ",
            $column
        )
    };
}

pub(super) const PAGE: &str = concat!(
    "SELECT s.name, s.generation, s.keep, s.expires, ",
    of_generation!("hash"),
    ", ",
    of_generation!("path_name"),
    ", ",
    of_generation!("created"),
    ", ",
    of_generation!("created_by"),
    " FROM pins s WHERE s.cache_id = $1 AND s.name > $2 ORDER BY s.name LIMIT $3"
);

#[derive(FromRow)]
struct Row {
    name: String,
    #[sqlx(flatten)]
    pin: PinRow,
    hash: Option<String>,
    path_name: Option<String>,
    created: Option<i64>,
    created_by: Option<String>,
}

impl Row {
    fn into_pin(self) -> Result<(PinName, Pin, Generation), DbError> {
        let Self { name, pin, hash, path_name, created, created_by } = self;
        let (Some(hash), Some(path_name), Some(created), Some(created_by)) =
            (hash, path_name, created, created_by)
        else {
            return Err(DbError::corrupt(format!(
                "pins.generation of {name}: there is no such generation"
            )));
        };
        let pin = Pin::try_from(pin)?;
        let store_path = store_path(&hash, &path_name)?;
        let generation =
            Generation { number: pin.generation, store_path, created, created_by, present: false };
        Ok((convert::text("pins.name", &name)?, pin, generation))
    }
}

/// The pins whose name is above `after`, by name: of at most `limit` rows those whose time is not
/// over.
pub async fn page(
    mut exec: Exec<'_>,
    cache: CacheId,
    after: &str,
    now: i64,
    limit: u32,
) -> Result<PinPage, DbError> {
    let rows: Vec<Row> = on_either!(exec.again(), |conn| {
        sqlx::query_as(PAGE)
            .bind(cache.0)
            .bind(after)
            .bind(i64::from(limit))
            .fetch_all(conn)
            .await?
    });
    let last = rows.last().filter(|_| rows.len() >= limit as usize);
    let next = last.map(|row| convert::text("pins.name", &row.name)).transpose()?;
    let holds = |row: &Row| row.pin.expires.is_none_or(|expires| expires > now);
    let mut pins =
        rows.into_iter().filter(holds).map(Row::into_pin).collect::<Result<Vec<_>, _>>()?;
    let hashes: Vec<StorePathHash> =
        pins.iter().map(|(_, _, generation)| generation.store_path.hash()).collect();
    let shown = paths::lookup_many(exec, cache, &hashes).await?;
    for (_, _, generation) in &mut pins {
        let found = shown.get(&generation.store_path.hash());
        generation.present = found.is_some_and(|found| found.store_path == generation.store_path);
    }
    Ok(PinPage { pins, next })
}

/// The pins that keep a path.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct PinsOfPath {
    /// Their names, in order.
    pub names: BTreeSet<String>,
    /// Whether there may be others.
    pub has_more: bool,
}

/// The pins that keep each of these paths, by the first `rows` generations of each; a path that has
/// none is not in the result.
pub async fn of_paths(
    mut exec: Exec<'_>,
    cache: CacheId,
    hashes: &[StorePathHash],
    now: i64,
    rows: u32,
) -> Result<HashMap<StorePathHash, PinsOfPath>, DbError> {
    let pinned = pinned_among(exec.again(), cache, hashes).await?;
    let mut pins: HashMap<StorePathHash, PinsOfPath> = HashMap::new();
    for some in pinned.chunks(MAX_PARTS).flat_map(batch::exact) {
        let found: Vec<(String, String, Option<i64>)> = on_either!(exec.again(), |conn| {
            let parts: Vec<String> =
                (0..some.len()).map(|part| of_path(part * 3 + 1, part)).collect();
            let sql = format!(
                "SELECT g.hash, g.name, (SELECT s.expires FROM pins s WHERE s.cache_id = \
                 g.cache_id AND s.name = g.name) AS expires FROM ({}) AS g",
                parts.join(" UNION ALL ")
            );
            let mut query = sqlx::query_as(conn.text(sql));
            for hash in some {
                query = query.bind(cache.0).bind(hash).bind(i64::from(rows));
            }
            query.fetch_all(&mut *conn).await?
        });
        let mut counts: HashMap<StorePathHash, u32> = HashMap::new();
        for (hash, name, expires) in found {
            let parsed = StorePathHash::from_chars(hash.as_bytes());
            let hash = parsed.ok_or_else(|| {
                DbError::corrupt(format!("pin_generations.hash: `{hash}` is no hash part"))
            })?;
            *counts.entry(hash).or_default() += 1;
            if expires.is_none_or(|expires| expires > now) {
                pins.entry(hash).or_default().names.insert(name);
            }
        }
        for (hash, _) in counts.into_iter().filter(|(_, count)| *count >= rows) {
            pins.entry(hash).or_default().has_more = true;
        }
    }
    Ok(pins)
}

/// The first generations that name a path, by the pin's name; three values from `$first` on.
pub(super) fn of_path(first: usize, part: usize) -> String {
    format!(
        "SELECT * FROM (SELECT cache_id, hash, name FROM pin_generations WHERE cache_id = ${first} \
         AND hash = ${} ORDER BY name LIMIT ${}) AS part{part}",
        first + 1,
        first + 2
    )
}

/// Those of these hash parts that some pin's generation names.
async fn pinned_among(
    exec: Exec<'_>,
    cache: CacheId,
    hashes: &[StorePathHash],
) -> Result<Vec<String>, DbError> {
    let mut pinned = Vec::new();
    on_either!(exec, |conn| {
        for batch in batch::padded(hashes) {
            let sql = format!(
                "SELECT q.column1 FROM (VALUES {}) AS q WHERE EXISTS (SELECT 1 FROM \
                 pin_generations g WHERE g.hash = q.column1 AND g.cache_id = ${})",
                batch.values(1),
                batch.len() + 1
            );
            let mut query = sqlx::query_scalar(conn.text(sql));
            for hash in batch.iter() {
                query = query.bind(hash.to_string());
            }
            pinned.extend(query.bind(cache.0).fetch_all(&mut *conn).await?);
        }
    });
    let pinned: BTreeSet<String> = pinned.into_iter().collect();
    Ok(pinned.into_iter().collect())
}
