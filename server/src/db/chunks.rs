//! The chunk index: a row per chunk and domain, naming the pack record that holds it.
//!
//! Names are unique within a domain; the first row stays (a second copy is dead weight in its
//! pack). Ids are what manifests name chunks by.

use std::collections::{HashMap, HashSet};

use snowbank_core::chunk::ChunkName;
use snowbank_core::pack::PackKey;
use sqlx::FromRow;

use super::batch::{Engine as _, rows_by_key};
use super::exec::on_either;
use super::ids::{DomainId, PackId};
use super::{DbError, Exec, batch, convert};

/// Where a chunk is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkLocation {
    /// Its id.
    pub id: u64,
    /// Its name.
    pub name: ChunkName,
    /// The pack that holds it.
    pub pack: PackId,
    /// Names the pack's object.
    pub pack_key: PackKey,
    /// Where its record starts in the object.
    pub offset: u32,
    /// How long its record is.
    pub len: u32,
}

/// A chunk whose pack has just been stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewChunk {
    /// A reserved id.
    pub id: u64,
    /// Its name.
    pub name: ChunkName,
    /// The pack that holds it.
    pub pack: PackId,
    /// Where its record starts in the object.
    pub offset: u32,
    /// How long its record is.
    pub len: u32,
}

#[derive(FromRow)]
struct ChunkRow {
    id: i64,
    name: Vec<u8>,
    pack_id: i64,
    key: Vec<u8>,
    pack_offset: i64,
    record_len: i64,
}

impl TryFrom<ChunkRow> for ChunkLocation {
    type Error = DbError;

    fn try_from(row: ChunkRow) -> Result<Self, DbError> {
        Ok(Self {
            id: convert::number("chunks.id", row.id)?,
            name: ChunkName::from_bytes(convert::bytes("chunks.name", &row.name)?),
            pack: PackId(row.pack_id),
            pack_key: PackKey::from_bytes(convert::bytes("packs.key", &row.key)?),
            offset: convert::number("chunks.pack_offset", row.pack_offset)?,
            len: convert::number("chunks.record_len", row.record_len)?,
        })
    }
}

const SELECT: &str = "SELECT c.id, c.name, c.pack_id, p.key, c.pack_offset, c.record_len FROM \
                      chunks c JOIN packs p ON p.id = c.pack_id";

/// For [`rows_by_key`].
const IN_DOMAIN: &str = "x.domain_id = $1";

/// Runs of neighbouring ids at least this long are read as a range; shorter ones go into lists.
const RANGE_LEN: usize = 16;

/// Which of these names the domain has.
pub async fn present(
    exec: Exec<'_>,
    domain: DomainId,
    names: &[ChunkName],
) -> Result<HashSet<ChunkName>, DbError> {
    let select = "SELECT c.name FROM chunks c WHERE c.id IN";
    let rows: Vec<(Vec<u8>,)> = on_either!(exec, |conn| {
        rows_by_key!(conn, select, "chunks", IN_DOMAIN, domain.0, "name", names, |name| &name
            .as_bytes()[..])
    });
    rows.iter()
        .map(|(name,)| Ok(ChunkName::from_bytes(convert::bytes("chunks.name", name)?)))
        .collect()
}

/// Where these chunks are; a name that the domain does not have is not in the result.
pub async fn lookup_by_names(
    exec: Exec<'_>,
    domain: DomainId,
    names: &[ChunkName],
) -> Result<HashMap<ChunkName, ChunkLocation>, DbError> {
    let select = format!("{SELECT} WHERE c.id IN");
    let rows: Vec<ChunkRow> = on_either!(exec, |conn| {
        rows_by_key!(conn, select, "chunks", IN_DOMAIN, domain.0, "name", names, |name| &name
            .as_bytes()[..])
    });
    rows.into_iter()
        .map(|row| ChunkLocation::try_from(row).map(|location| (location.name, location)))
        .collect()
}

/// Where these chunks are; an id that no row has is not in the result.
pub async fn lookup_by_ids(
    exec: Exec<'_>,
    ids: &[u64],
) -> Result<HashMap<u64, ChunkLocation>, DbError> {
    let Runs { ranges, singles } = runs(ids)?;
    let mut rows: Vec<ChunkRow> = Vec::with_capacity(ids.len());
    on_either!(exec, |conn| {
        for (first, last) in ranges {
            let sql = format!("{SELECT} WHERE c.id BETWEEN $1 AND $2");
            let range =
                sqlx::query_as(conn.text(sql)).bind(first).bind(last).fetch_all(&mut *conn).await?;
            rows.extend(range);
        }
        for batch in batch::padded(&singles) {
            let sql = format!("{SELECT} WHERE c.id IN ({})", batch.placeholders(1));
            let mut query = sqlx::query_as(conn.text(sql));
            for id in batch.iter() {
                query = query.bind(*id);
            }
            rows.extend(query.fetch_all(&mut *conn).await?);
        }
    });
    rows.into_iter()
        .map(|row| ChunkLocation::try_from(row).map(|location| (location.id, location)))
        .collect()
}

/// Ids as statements ask for them.
#[derive(Debug, Default)]
struct Runs {
    /// First and last of neighbours that are many enough to be read as a range.
    ranges: Vec<(i64, i64)>,
    /// The others.
    singles: Vec<i64>,
}

fn runs(ids: &[u64]) -> Result<Runs, DbError> {
    let mut ids =
        ids.iter().map(|id| convert::to_db(*id)).collect::<Result<Vec<i64>, DbError>>()?;
    ids.sort_unstable();
    ids.dedup();
    let mut runs = Runs::default();
    for run in ids.chunk_by(|a, b| a.checked_add(1) == Some(*b)) {
        match run {
            [first, .., last] if run.len() >= RANGE_LEN => runs.ranges.push((*first, *last)),
            _ => runs.singles.extend_from_slice(run),
        }
    }
    Ok(runs)
}

/// Adds chunks, skipping those whose name the domain has; gives how many were added.
///
/// The caller sorts them by name: transactions that add the same names then wait for each other
/// instead of deadlocking.
///
/// # Errors
/// [`DbError::Constraint`] when an id is taken or a pack does not exist.
pub async fn add(exec: Exec<'_>, domain: DomainId, chunks: &[NewChunk]) -> Result<u64, DbError> {
    let mut added = 0;
    on_either!(exec, |conn| {
        for batch in batch::exact(chunks) {
            let sql = format!(
                "INSERT INTO chunks (id, domain_id, name, pack_id, pack_offset, record_len) VALUES \
                 {} ON CONFLICT (domain_id, name) DO NOTHING",
                batch::rows(6, batch.len())
            );
            let mut query = sqlx::query(conn.text(sql));
            for chunk in batch {
                query = query
                    .bind(convert::to_db(chunk.id)?)
                    .bind(domain.0)
                    .bind(&chunk.name.as_bytes()[..])
                    .bind(chunk.pack.0)
                    .bind(i64::from(chunk.offset))
                    .bind(i64::from(chunk.len));
            }
            added += query.execute(&mut *conn).await?.rows_affected();
        }
    });
    Ok(added)
}

/// Looks whether each id still has the name that it had; gives the names (sorted, once each) for
/// which it has not.
pub async fn exists(
    exec: Exec<'_>,
    chunks: &[(u64, ChunkName)],
) -> Result<Vec<ChunkName>, DbError> {
    let ids: Vec<u64> = chunks.iter().map(|(id, _)| *id).collect();
    let found = lookup_by_ids(exec, &ids).await?;
    let holds =
        |id: &u64, name: &ChunkName| found.get(id).is_some_and(|location| location.name == *name);
    let mut missing: Vec<ChunkName> =
        chunks.iter().filter(|(id, name)| !holds(id, name)).map(|(_, name)| *name).collect();
    missing.sort_unstable();
    missing.dedup();
    Ok(missing)
}

/// Up to `limit` chunks with an id above `after`, by id, with the domain that each is in.
pub async fn page(
    exec: Exec<'_>,
    after: u64,
    limit: u32,
) -> Result<Vec<(DomainId, ChunkLocation)>, DbError> {
    #[derive(FromRow)]
    struct Row {
        domain_id: i64,
        #[sqlx(flatten)]
        chunk: ChunkRow,
    }
    let after = convert::to_db(after)?;
    let rows: Vec<Row> = on_either!(exec, |conn| {
        sqlx::query_as(
            "SELECT c.domain_id, c.id, c.name, c.pack_id, p.key, c.pack_offset, c.record_len FROM \
             chunks c JOIN packs p ON p.id = c.pack_id WHERE c.id > $1 ORDER BY c.id LIMIT $2",
        )
        .bind(after)
        .bind(i64::from(limit))
        .fetch_all(conn)
        .await?
    });
    rows.into_iter()
        .map(|row| Ok((DomainId(row.domain_id), ChunkLocation::try_from(row.chunk)?)))
        .collect()
}

/// The chunks that a pack holds, of every domain, in the order of their places.
pub async fn in_pack(
    exec: Exec<'_>,
    pack: PackId,
) -> Result<Vec<(DomainId, ChunkLocation)>, DbError> {
    #[derive(FromRow)]
    struct Row {
        domain_id: i64,
        #[sqlx(flatten)]
        chunk: ChunkRow,
    }
    let rows: Vec<Row> = on_either!(exec, |conn| {
        sqlx::query_as(
            "SELECT c.domain_id, c.id, c.name, c.pack_id, p.key, c.pack_offset, c.record_len FROM \
             chunks c JOIN packs p ON p.id = c.pack_id WHERE c.pack_id = $1 ORDER BY \
             c.pack_offset, c.id",
        )
        .bind(pack.0)
        .fetch_all(conn)
        .await?
    });
    rows.into_iter()
        .map(|row| Ok((DomainId(row.domain_id), ChunkLocation::try_from(row.chunk)?)))
        .collect()
}

/// A chunk that has been copied to another pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkMove {
    /// Its id.
    pub id: u64,
    /// The pack that it was copied from.
    pub from: PackId,
    /// Where its record starts in the new object.
    pub offset: u32,
    /// How long its record is there.
    pub len: u32,
}

/// C4: names the new place of each chunk that is still where it was copied from; gives how many it
/// were.
pub async fn relocate(exec: Exec<'_>, to: PackId, moves: &[ChunkMove]) -> Result<u64, DbError> {
    let mut changed = 0;
    on_either!(exec, |conn| {
        for batch in batch::exact(moves) {
            let values: Vec<String> = (0..batch.len())
                .map(|row| {
                    let column =
                        |column: usize| format!("CAST(${} AS BIGINT)", 2 + row * 4 + column);
                    format!("({},{},{},{})", column(0), column(1), column(2), column(3))
                })
                .collect();
            let sql = format!(
                "UPDATE chunks SET pack_id = $1, pack_offset = q.column3, record_len = q.column4 \
                 FROM (VALUES {}) AS q WHERE chunks.id = q.column1 AND chunks.pack_id = q.column2",
                values.join(",")
            );
            let mut query = sqlx::query(conn.text(sql)).bind(to.0);
            for chunk in batch {
                query = query
                    .bind(convert::to_db(chunk.id)?)
                    .bind(chunk.from.0)
                    .bind(i64::from(chunk.offset))
                    .bind(i64::from(chunk.len));
            }
            changed += query.execute(&mut *conn).await?.rows_affected();
        }
    });
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_runs_are_ranges_and_the_rest_are_singles() {
        let mut ids: Vec<u64> = (100..120).collect();
        ids.extend([7, 5, 6, 7, 300]);
        let Runs { ranges, singles } = runs(&ids).unwrap();
        assert_eq!(ranges, [(100, 119)]);
        assert_eq!(singles, [5, 6, 7, 300]);
    }

    #[test]
    fn an_id_beyond_the_engines_integers_is_refused() {
        assert!(matches!(runs(&[u64::MAX]), Err(DbError::TooLarge(u64::MAX))));
    }
}
