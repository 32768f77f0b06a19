//! Pins: names for paths that are to stay, and what each name stood for before.
//!
//! A pin's row says which generation the name stands for; the generations are rows of their own,
//! and every one that is there keeps its path. They refer to paths by hash part and name, not by
//! id: one that was withdrawn is pinned again as soon as it is pushed again. Whoever changes a pin
//! takes its row's lock first ([`lock`]), so that two who do it at once count on from each other. A
//! pin whose time is over keeps nothing, and is not there for whoever asks.

use snowbank_core::hash::NarHash;
use snowbank_core::pin_name::PinName;
use snowbank_core::store_path::{StorePath, StorePathHash};
use sqlx::FromRow;

use super::convert;
use super::exec::on_either;
use super::ids::CacheId;
use super::{DbError, Exec};

/// A pin, without what it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pin {
    /// The generation that the name stands for.
    pub generation: u64,
    /// How many generations are kept.
    pub keep: u32,
    /// Until when it holds; `None` until it is removed.
    pub expires: Option<i64>,
}

/// What a name stands for, or stood for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    /// Its number: they count up from 1.
    pub number: u64,
    /// The store path.
    pub store_path: StorePath,
    /// When it was made.
    pub created: i64,
    /// The subject of the token that made it.
    pub created_by: String,
    /// Whether the cache shows the path.
    pub present: bool,
}

/// A path that a pin stands for and that the cache shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinTarget {
    /// The generation.
    pub generation: u64,
    /// The store path.
    pub store_path: StorePath,
    /// SHA-256 of its NAR.
    pub nar_hash: NarHash,
    /// Length of its NAR.
    pub nar_size: u64,
    /// When it was pinned.
    pub created: i64,
    /// Until when the pin holds; `None` until it is removed.
    pub expires: Option<i64>,
}

#[derive(FromRow)]
pub(super) struct PinRow {
    generation: i64,
    keep: i64,
    pub(super) expires: Option<i64>,
}

impl TryFrom<PinRow> for Pin {
    type Error = DbError;

    fn try_from(row: PinRow) -> Result<Self, DbError> {
        Ok(Self {
            generation: convert::number("pins.generation", row.generation)?,
            keep: convert::number("pins.keep", row.keep)?,
            expires: row.expires,
        })
    }
}

#[derive(FromRow)]
struct GenerationRow {
    number: i64,
    hash: String,
    path_name: String,
    created: i64,
    created_by: String,
    present: i64,
}

/// What [`GenerationRow`] reads, from a table called `g`.
macro_rules! generation_columns {
    () => {
        "g.generation AS number, g.hash, g.path_name, g.created, g.created_by, (SELECT count(*) \
         FROM paths p WHERE p.cache_id = g.cache_id AND p.hash = g.hash AND p.name = g.path_name) \
         AS present"
    };
}

impl TryFrom<GenerationRow> for Generation {
    type Error = DbError;

    fn try_from(row: GenerationRow) -> Result<Self, DbError> {
        Ok(Self {
            number: convert::number("pin_generations.generation", row.number)?,
            store_path: store_path(&row.hash, &row.path_name)?,
            created: row.created,
            created_by: row.created_by,
            present: row.present != 0,
        })
    }
}

pub(super) fn store_path(hash: &str, name: &str) -> Result<StorePath, DbError> {
    convert::text("pin_generations.hash, pin_generations.path_name", &format!("{hash}-{name}"))
}

/// The pin of that name, unless its time is over.
pub async fn lookup(
    exec: Exec<'_>,
    cache: CacheId,
    name: &PinName,
    now: i64,
) -> Result<Option<Pin>, DbError> {
    let row: Option<PinRow> = on_either!(exec, |conn| {
        sqlx::query_as(
            "SELECT generation, keep, expires FROM pins WHERE cache_id = $1 AND name = $2 AND \
             (expires IS NULL OR expires > $3)",
        )
        .bind(cache.0)
        .bind(name.as_str())
        .bind(now)
        .fetch_optional(conn)
        .await?
    });
    row.map(Pin::try_from).transpose()
}

pub(super) const GENERATIONS: &str = concat!(
    "SELECT ",
    generation_columns!(),
    " FROM pin_generations g WHERE g.cache_id = $1 AND g.name = $2 AND g.generation < $3 ORDER BY \
     g.generation DESC LIMIT $4"
);

/// Up to `limit` generations of a name with a number below `before`, newest first.
pub async fn generations(
    exec: Exec<'_>,
    cache: CacheId,
    name: &PinName,
    before: u64,
    limit: u32,
) -> Result<Vec<Generation>, DbError> {
    let before = i64::try_from(before).unwrap_or(i64::MAX);
    let rows: Vec<GenerationRow> = on_either!(exec, |conn| {
        sqlx::query_as(GENERATIONS)
            .bind(cache.0)
            .bind(name.as_str())
            .bind(before)
            .bind(i64::from(limit))
            .fetch_all(conn)
            .await?
    });
    rows.into_iter().map(Generation::try_from).collect()
}

/// The newest generation of a name with a number below `before`.
pub async fn generation_before(
    exec: Exec<'_>,
    cache: CacheId,
    name: &PinName,
    before: u64,
) -> Result<Option<Generation>, DbError> {
    Ok(generations(exec, cache, name, before, 1).await?.pop())
}

/// How many pins a cache has, also those whose time is over; counts no further than `limit`.
pub async fn count(exec: Exec<'_>, cache: CacheId, limit: u64) -> Result<u64, DbError> {
    let limit = convert::to_db(limit)?;
    let count: i64 = on_either!(exec, |conn| {
        sqlx::query_scalar(
            "SELECT count(*) FROM (SELECT 1 AS one FROM pins WHERE cache_id = $1 LIMIT $2) AS \
            counted",
        )
        .bind(cache.0)
        .bind(limit)
        .fetch_one(conn)
        .await?
    });
    convert::number("count of pins", count)
}

/// The path that a name stands for, where the cache shows it at this moment.
pub async fn resolve(
    exec: Exec<'_>,
    cache: CacheId,
    name: &PinName,
    now: i64,
) -> Result<Option<PinTarget>, DbError> {
    #[derive(FromRow)]
    struct Row {
        generation: i64,
        hash: String,
        path_name: String,
        nar_hash: Vec<u8>,
        nar_size: i64,
        created: i64,
        expires: Option<i64>,
    }
    let row: Option<Row> = on_either!(exec, |conn| {
        sqlx::query_as(
            "SELECT g.generation, g.hash, g.path_name, n.nar_hash, n.nar_size, g.created, \
             s.expires FROM pins s JOIN pin_generations g ON g.cache_id = s.cache_id AND g.name = \
             s.name AND g.generation = s.generation JOIN paths p ON p.cache_id = g.cache_id AND \
             p.hash = g.hash AND p.name = g.path_name JOIN nars n ON n.id = p.nar_id WHERE \
             s.cache_id = $1 AND s.name = $2 AND (s.expires IS NULL OR s.expires > $3)",
        )
        .bind(cache.0)
        .bind(name.as_str())
        .bind(now)
        .fetch_optional(conn)
        .await?
    });
    let resolved = |row: Row| {
        Ok(PinTarget {
            generation: convert::number("pins.generation", row.generation)?,
            store_path: store_path(&row.hash, &row.path_name)?,
            nar_hash: NarHash::from_bytes(convert::bytes("nars.nar_hash", &row.nar_hash)?),
            nar_size: convert::number("nars.nar_size", row.nar_size)?,
            created: row.created,
            expires: row.expires,
        })
    };
    row.map(resolved).transpose()
}

/// The hash parts that the cache's pins keep, all generations of those whose time is not over, each
/// with the pin's name.
pub async fn kept(
    exec: Exec<'_>,
    cache: CacheId,
    now: i64,
) -> Result<Vec<(StorePathHash, String)>, DbError> {
    let rows: Vec<(String, String)> = on_either!(exec, |conn| {
        sqlx::query_as(
            "SELECT DISTINCT g.hash, g.name FROM pins s JOIN pin_generations g ON g.cache_id = \
             s.cache_id AND g.name = s.name WHERE s.cache_id = $1 AND (s.expires IS NULL OR \
             s.expires > $2) ORDER BY g.name, g.hash",
        )
        .bind(cache.0)
        .bind(now)
        .fetch_all(conn)
        .await?
    });
    let hash = |text: &str| {
        let hash = StorePathHash::from_chars(text.as_bytes());
        hash.ok_or_else(|| {
            DbError::corrupt(format!("pin_generations.hash: `{text}` is no hash part"))
        })
    };
    rows.into_iter().map(|(text, name)| Ok((hash(&text)?, name))).collect()
}

/// Takes a pin's row, if there is one, so that nobody else changes the pin until the transaction
/// ends.
pub async fn lock(exec: Exec<'_>, cache: CacheId, name: &PinName) -> Result<Option<Pin>, DbError> {
    let row: Option<PinRow> = on_either!(exec, |conn| {
        sqlx::query_as(
            "UPDATE pins SET generation = generation WHERE cache_id = $1 AND name = $2 RETURNING \
             generation, keep, expires",
        )
        .bind(cache.0)
        .bind(name.as_str())
        .fetch_optional(conn)
        .await?
    });
    row.map(Pin::try_from).transpose()
}

/// Makes a pin or changes the one that is there, which the caller has locked; gives no word of its
/// generations.
pub async fn set(exec: Exec<'_>, cache: CacheId, name: &PinName, pin: &Pin) -> Result<(), DbError> {
    let generation = convert::to_db(pin.generation)?;
    on_either!(exec, |conn| {
        sqlx::query(
            "INSERT INTO pins (cache_id, name, generation, keep, expires) VALUES ($1, $2, $3, $4, \
             $5) ON CONFLICT (cache_id, name) DO UPDATE SET generation = $3, keep = $4, expires = \
             $5",
        )
        .bind(cache.0)
        .bind(name.as_str())
        .bind(generation)
        .bind(i64::from(pin.keep))
        .bind(pin.expires)
        .execute(conn)
        .await?;
    });
    Ok(())
}

/// Adds a generation to a pin that is there; its `present` is not looked at.
///
/// # Errors
/// [`DbError::Constraint`] when the name has one of that number.
pub async fn add_generation(
    exec: Exec<'_>,
    cache: CacheId,
    name: &PinName,
    generation: &Generation,
) -> Result<(), DbError> {
    let number = convert::to_db(generation.number)?;
    on_either!(exec, |conn| {
        sqlx::query(
            "INSERT INTO pin_generations (cache_id, name, generation, hash, path_name, created, \
             created_by) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(cache.0)
        .bind(name.as_str())
        .bind(number)
        .bind(generation.store_path.hash().to_string())
        .bind(generation.store_path.name())
        .bind(generation.created)
        .bind(&generation.created_by)
        .execute(conn)
        .await?;
    });
    Ok(())
}

/// Removes the generations of a pin that are neither among its newest, as many as are kept, nor
/// what it stands for.
pub async fn remove_surplus(
    exec: Exec<'_>,
    cache: CacheId,
    name: &PinName,
    pin: &Pin,
) -> Result<(), DbError> {
    let generation = convert::to_db(pin.generation)?;
    on_either!(exec, |conn| {
        sqlx::query(
            "DELETE FROM pin_generations WHERE cache_id = $1 AND name = $2 AND generation <> $3 \
             AND generation NOT IN (SELECT g.generation FROM pin_generations g WHERE g.cache_id = \
             $1 AND g.name = $2 ORDER BY g.generation DESC LIMIT $4)",
        )
        .bind(cache.0)
        .bind(name.as_str())
        .bind(generation)
        .bind(i64::from(pin.keep))
        .execute(conn)
        .await?;
    });
    Ok(())
}

/// Removes a pin and its generations; whether there was one.
pub async fn remove(mut exec: Exec<'_>, cache: CacheId, name: &PinName) -> Result<bool, DbError> {
    on_either!(exec.again(), |conn| {
        let sql = "DELETE FROM pin_generations WHERE cache_id = $1 AND name = $2";
        sqlx::query(sql).bind(cache.0).bind(name.as_str()).execute(conn).await?;
    });
    let removed = on_either!(exec, |conn| {
        let sql = "DELETE FROM pins WHERE cache_id = $1 AND name = $2";
        sqlx::query(sql).bind(cache.0).bind(name.as_str()).execute(conn).await?.rows_affected()
    });
    Ok(removed > 0)
}

/// Removes all pins of a cache.
pub async fn remove_all(mut exec: Exec<'_>, cache: CacheId) -> Result<(), DbError> {
    for sql in
        ["DELETE FROM pin_generations WHERE cache_id = $1", "DELETE FROM pins WHERE cache_id = $1"]
    {
        on_either!(exec.again(), |conn| {
            sqlx::query(sql).bind(cache.0).execute(conn).await?;
        });
    }
    Ok(())
}

/// Removes the pins of all caches whose time is over; gives how many it were.
pub async fn remove_expired(mut exec: Exec<'_>, now: i64) -> Result<u64, DbError> {
    let expired: Vec<(i64, String)> = on_either!(exec.again(), |conn| {
        // Their rows' locks are taken, so that one that is set anew at this moment is not among
        // them.
        let sql =
            "UPDATE pins SET generation = generation WHERE expires <= $1 RETURNING cache_id, name";
        sqlx::query_as(sql).bind(now).fetch_all(conn).await?
    });
    remove_these(exec, expired).await
}

/// As [`remove_expired`], in one cache.
pub async fn remove_expired_of(
    mut exec: Exec<'_>,
    cache: CacheId,
    now: i64,
) -> Result<u64, DbError> {
    let expired: Vec<(i64, String)> = on_either!(exec.again(), |conn| {
        let sql = "UPDATE pins SET generation = generation WHERE cache_id = $1 AND expires <= $2 \
                   RETURNING cache_id, name";
        sqlx::query_as(sql).bind(cache.0).bind(now).fetch_all(conn).await?
    });
    remove_these(exec, expired).await
}

async fn remove_these(mut exec: Exec<'_>, pins: Vec<(i64, String)>) -> Result<u64, DbError> {
    let mut removed = 0;
    for (cache, name) in pins {
        removed += u64::from(
            remove(exec.again(), CacheId(cache), &convert::text("pins.name", &name)?).await?,
        );
    }
    Ok(removed)
}
