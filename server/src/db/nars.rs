//! NARs: what the server has decoded and found to be what was declared (W3), with the manifest to
//! make it from chunks.
//!
//! A manifest is kept in segments: the first with the NAR's row, so that small NARs cost one row
//! and one read, the others in rows of their own, found by position for ranged reads.

use std::collections::HashMap;

use snowbank_core::hash::{FileHash, NarHash};
use snowbank_core::manifest::ContentDigest;
use sqlx::FromRow;

use super::batch::{Engine as _, rows_by_key};
use super::convert;
use super::exec::on_either;
use super::ids::DomainId;
pub use super::ids::NarId;
use super::{DbError, Exec, batch};

/// The version of the stored manifests that this program writes.
const FORMAT: i64 = 1;

/// A stored NAR, without its manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nar {
    /// Its id.
    pub id: NarId,
    /// The domain that its chunks belong to.
    pub domain: DomainId,
    /// SHA-256 of the NAR.
    pub nar_hash: NarHash,
    /// Length of the NAR.
    pub nar_size: u64,
    /// SHA-256 of the compressed stream as it is served.
    pub file_hash: FileHash,
    /// Length of the compressed stream.
    pub file_size: u64,
    /// Binds chunk names and slot values.
    pub content_digest: ContentDigest,
    /// Chunks, counting repetitions.
    pub chunk_count: u64,
    /// Segments of its manifest.
    pub segment_count: u32,
    /// Version of its stored manifest.
    pub format: u32,
    /// When it was made.
    pub created: i64,
}

/// A segment of a stored manifest, encoded, and where it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedSegment {
    /// Bytes of the NAR before it.
    pub first_raw: u64,
    /// Bytes of the compressed stream before it.
    pub first_stored: u64,
    /// The segment itself.
    pub data: Vec<u8>,
}

/// A NAR that has just been decoded.
#[derive(Debug, Clone)]
pub struct NewNar<'a> {
    /// A reserved id.
    pub id: NarId,
    /// The domain that its chunks belong to.
    pub domain: DomainId,
    /// SHA-256 of the NAR.
    pub nar_hash: NarHash,
    /// Length of the NAR.
    pub nar_size: u64,
    /// SHA-256 of the compressed stream as it is served.
    pub file_hash: FileHash,
    /// Length of the compressed stream.
    pub file_size: u64,
    /// Binds chunk names and slot values.
    pub content_digest: ContentDigest,
    /// Chunks, counting repetitions.
    pub chunk_count: u64,
    /// Its manifest, in order.
    pub segments: &'a [EncodedSegment],
    /// The chunking under which the client says it cut; 0 where it does not say.
    pub cut_id: u32,
    /// When it is made.
    pub created: i64,
}

/// A NAR's columns as they come from the database, under the names that `nar_columns` gives them.
#[derive(FromRow)]
pub(super) struct NarRow {
    nar_id: i64,
    nar_domain: i64,
    nar_hash: Vec<u8>,
    nar_size: i64,
    file_hash: Vec<u8>,
    file_size: i64,
    content_digest: Vec<u8>,
    chunk_count: i64,
    segment_count: i64,
    format: i64,
    nar_created: i64,
}

/// What `NarRow` reads, from a table called `n`.
macro_rules! nar_columns {
    () => {
        "n.id AS nar_id, n.domain_id AS nar_domain, n.nar_hash, n.nar_size, n.file_hash, \
         n.file_size, n.content_digest, n.chunk_count, n.segment_count, n.format, n.created AS \
         nar_created"
    };
}
pub(super) use nar_columns;

impl TryFrom<NarRow> for Nar {
    type Error = DbError;

    fn try_from(row: NarRow) -> Result<Self, DbError> {
        Ok(Self {
            id: NarId(row.nar_id),
            domain: DomainId(row.nar_domain),
            nar_hash: NarHash::from_bytes(convert::bytes("nars.nar_hash", &row.nar_hash)?),
            nar_size: convert::number("nars.nar_size", row.nar_size)?,
            file_hash: FileHash::from_bytes(convert::bytes("nars.file_hash", &row.file_hash)?),
            file_size: convert::number("nars.file_size", row.file_size)?,
            content_digest: ContentDigest::from_bytes(convert::bytes(
                "nars.content_digest",
                &row.content_digest,
            )?),
            chunk_count: convert::number("nars.chunk_count", row.chunk_count)?,
            segment_count: convert::number("nars.segment_count", row.segment_count)?,
            format: convert::number("nars.format", row.format)?,
            created: row.nar_created,
        })
    }
}

/// For [`rows_by_key`].
const IN_DOMAIN: &str = "x.domain_id = $1";

/// Those of these NARs that the domain has, whether or not a path makes them visible.
pub async fn lookup_many(
    exec: Exec<'_>,
    domain: DomainId,
    nar_hashes: &[NarHash],
) -> Result<HashMap<NarHash, Nar>, DbError> {
    let select = concat!("SELECT ", nar_columns!(), " FROM nars n WHERE n.id IN");
    let rows: Vec<NarRow> = on_either!(exec, |conn| {
        rows_by_key!(conn, select, "nars", IN_DOMAIN, domain.0, "nar_hash", nar_hashes, |hash| {
            &hash.as_bytes()[..]
        })
    });
    rows.into_iter().map(|row| Nar::try_from(row).map(|nar| (nar.nar_hash, nar))).collect()
}

/// The ids of those of these NARs that the domain has.
pub async fn ids(
    exec: Exec<'_>,
    domain: DomainId,
    nar_hashes: &[NarHash],
) -> Result<HashMap<NarHash, NarId>, DbError> {
    let select = "SELECT n.nar_hash, n.id FROM nars n WHERE n.id IN";
    let rows: Vec<(Vec<u8>, i64)> = on_either!(exec, |conn| {
        rows_by_key!(conn, select, "nars", IN_DOMAIN, domain.0, "nar_hash", nar_hashes, |hash| {
            &hash.as_bytes()[..]
        })
    });
    let id = |(hash, id): (Vec<u8>, i64)| {
        Ok((NarHash::from_bytes(convert::bytes("nars.nar_hash", &hash)?), NarId(id)))
    };
    rows.into_iter().map(id).collect()
}

/// Adds NARs and their manifests; the caller has looked, in the same transaction, that the domain
/// has none of those hashes.
///
/// # Errors
/// [`DbError::Constraint`] when there is one.
pub async fn add(exec: Exec<'_>, nars: &[NewNar<'_>]) -> Result<(), DbError> {
    let numbers = nars
        .iter()
        .map(|nar| {
            let segments = nar.segments.len() as u64;
            Ok([
                convert::to_db(nar.nar_size)?,
                convert::to_db(nar.file_size)?,
                convert::to_db(nar.chunk_count)?,
                convert::to_db(segments)?,
            ])
        })
        .collect::<Result<Vec<_>, DbError>>()?;
    let rows: Vec<_> = nars.iter().zip(numbers).collect();
    let mut later = Vec::new();
    for nar in nars {
        for (segment, seq) in nar.segments.iter().zip(0_i64..).skip(1) {
            let (raw, stored) =
                (convert::to_db(segment.first_raw)?, convert::to_db(segment.first_stored)?);
            later.push((nar.id.0, seq, raw, stored, &segment.data));
        }
    }
    on_either!(exec, |conn| {
        for batch in batch::exact(&rows) {
            let sql = format!(
                "INSERT INTO nars (id, domain_id, nar_hash, nar_size, file_hash, file_size, \
                 content_digest, chunk_count, segment_count, format, created, manifest, cut_id) \
                 VALUES {}",
                batch::rows(13, batch.len())
            );
            let mut query = sqlx::query(conn.text(sql));
            for (nar, [nar_size, file_size, chunk_count, segment_count]) in batch {
                let first =
                    nar.segments.first().map(|segment| &segment.data[..]).unwrap_or_default();
                query = query
                    .bind(nar.id.0)
                    .bind(nar.domain.0)
                    .bind(&nar.nar_hash.as_bytes()[..])
                    .bind(*nar_size)
                    .bind(&nar.file_hash.as_bytes()[..])
                    .bind(*file_size)
                    .bind(&nar.content_digest.as_bytes()[..])
                    .bind(*chunk_count)
                    .bind(*segment_count)
                    .bind(FORMAT)
                    .bind(nar.created)
                    .bind(first)
                    .bind(i64::from(nar.cut_id));
            }
            query.execute(&mut *conn).await?;
        }
        for batch in batch::exact(&later) {
            let sql = format!(
                "INSERT INTO nar_segments (nar_id, seq, first_raw, first_stored, data) VALUES {}",
                batch::rows(5, batch.len())
            );
            let mut query = sqlx::query(conn.text(sql));
            for (nar, seq, first_raw, first_stored, data) in batch {
                query = query
                    .bind(*nar)
                    .bind(*seq)
                    .bind(*first_raw)
                    .bind(*first_stored)
                    .bind(&data[..]);
            }
            query.execute(&mut *conn).await?;
        }
    });
    Ok(())
}

/// The chunking under which a NAR was cut, 0 where the client did not say. It is no part of
/// [`Nar`], since its column stands behind the manifest.
pub async fn cut_id(exec: Exec<'_>, nar: NarId) -> Result<Option<u32>, DbError> {
    let found: Option<i64> = on_either!(exec, |conn| {
        sqlx::query_scalar("SELECT cut_id FROM nars WHERE id = $1")
            .bind(nar.0)
            .fetch_optional(conn)
            .await?
    });
    found.map(|id| convert::number("nars.cut_id", id)).transpose()
}

/// One segment of a NAR's manifest, counted from 0.
pub async fn segment(exec: Exec<'_>, nar: NarId, seq: u32) -> Result<Option<Vec<u8>>, DbError> {
    Ok(on_either!(exec, |conn| {
        if seq == 0 {
            let sql = "SELECT manifest FROM nars WHERE id = $1 AND segment_count > 0";
            sqlx::query_scalar(sql).bind(nar.0).fetch_optional(conn).await?
        } else {
            let sql = "SELECT data FROM nar_segments WHERE nar_id = $1 AND seq = $2";
            sqlx::query_scalar(sql).bind(nar.0).bind(i64::from(seq)).fetch_optional(conn).await?
        }
    }))
}

/// The segment that holds the byte at `offset` of the compressed stream, and its number. An offset
/// behind the end gives the last segment.
pub async fn segment_at_stored(
    exec: Exec<'_>,
    nar: NarId,
    offset: u64,
) -> Result<Option<(u32, Vec<u8>)>, DbError> {
    let sql = "SELECT seq, data FROM nar_segments WHERE nar_id = $1 AND seq = (SELECT max(seq) \
               FROM nar_segments WHERE nar_id = $1 AND first_stored <= $2)";
    segment_at(exec, sql, nar, offset).await
}

/// The segment that holds the byte at `offset` of the NAR, and its number. An offset behind the end
/// gives the last segment.
pub async fn segment_at_raw(
    exec: Exec<'_>,
    nar: NarId,
    offset: u64,
) -> Result<Option<(u32, Vec<u8>)>, DbError> {
    let sql = "SELECT seq, data FROM nar_segments WHERE nar_id = $1 AND seq = (SELECT max(seq) \
               FROM nar_segments WHERE nar_id = $1 AND first_raw <= $2)";
    segment_at(exec, sql, nar, offset).await
}

async fn segment_at(
    mut exec: Exec<'_>,
    sql: &'static str,
    nar: NarId,
    offset: u64,
) -> Result<Option<(u32, Vec<u8>)>, DbError> {
    // What lies beyond the database's integers lies behind every end.
    let offset = i64::try_from(offset).unwrap_or(i64::MAX);
    let row: Option<(i64, Vec<u8>)> = on_either!(exec.again(), |conn| {
        sqlx::query_as(sql).bind(nar.0).bind(offset).fetch_optional(conn).await?
    });
    match row {
        Some((seq, data)) => Ok(Some((convert::number("nar_segments.seq", seq)?, data))),
        None => Ok(segment(exec, nar, 0).await?.map(|data| (0, data))),
    }
}

/// Up to `limit` NARs with an id above `after`, by id.
pub async fn page(exec: Exec<'_>, after: NarId, limit: u32) -> Result<Vec<Nar>, DbError> {
    let rows: Vec<NarRow> = on_either!(exec, |conn| {
        sqlx::query_as(concat!(
            "SELECT ",
            nar_columns!(),
            " FROM nars n WHERE n.id > $1 ORDER BY n.id LIMIT $2"
        ))
        .bind(after.0)
        .bind(i64::from(limit))
        .fetch_all(conn)
        .await?
    });
    rows.into_iter().map(Nar::try_from).collect()
}
