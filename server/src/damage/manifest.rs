//! A manifest against the rows that it names: what can be said of a NAR without reading its bytes.

use std::borrow::Cow;
use std::collections::HashMap;

use snowbank_core::manifest::{ContentDigester, Segment, SegmentEntry};

use crate::db::chunks::ChunkLocation;
use crate::db::damage::is_retired;
use crate::db::nars::Nar;
use crate::db::{self, Db, DbError};

/// What is wrong with a manifest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ManifestFault {
    /// The invariant that does not hold, as `docs/architecture.md` numbers them; `damage` where
    /// that was found and noted before.
    pub invariant: &'static str,
    /// What is wrong.
    pub detail: String,
    /// Chunks that it names and that have no row.
    pub missing: Vec<u64>,
    /// Chunks that it names and that are retired.
    pub retired: Vec<u64>,
}

impl ManifestFault {
    fn new(invariant: &'static str, detail: impl Into<String>) -> Self {
        Self { invariant, detail: detail.into(), ..Self::default() }
    }
}

/// Reads all of a NAR's manifest, of which `first` is the first segment: that it parses, adds up to
/// what the row says, names chunks that there are, and that names and slot values are those that
/// were verified (W2, W3). `each` sees every segment's chunks with their rows. Gives what is wrong,
/// if anything.
///
/// # Errors
/// When the database fails. Rows that make no sense are what is wrong.
pub async fn manifest_fault(
    db: &Db,
    nar: &Nar,
    first: &[u8],
    mut each: impl FnMut(&[SegmentEntry], &HashMap<u64, ChunkLocation>) + Send,
) -> Result<Option<ManifestFault>, DbError> {
    let mut digester = ContentDigester::new();
    let mut values = Vec::new();
    let (mut missing, mut retired) = (Vec::new(), Vec::new());
    let (mut raw, mut stored, mut chunks) = (0, 0, 0);
    for seq in 0..nar.segment_count {
        let read = match seq {
            0 => Some(Cow::Borrowed(first)),
            seq => db::nars::segment(db.reader().await?.exec(), nar.id, seq).await?.map(Cow::Owned),
        };
        let Some(data) = read else {
            return Ok(Some(ManifestFault::new(
                "W3",
                format!("segment {seq} of its manifest is not there"),
            )));
        };
        let segment = match Segment::decode(&data) {
            Ok(segment) => segment,
            Err(error) => {
                return Ok(Some(ManifestFault::new(
                    "W3",
                    format!("segment {seq} of its manifest: {error}"),
                )));
            }
        };
        if segment.first_raw != raw || segment.first_stored != stored {
            let detail =
                format!("segment {seq} of its manifest does not begin where the last one ends");
            return Ok(Some(ManifestFault::new("W3", detail)));
        }
        (raw, stored) = (segment.end_raw(), segment.end_stored());
        chunks += segment.entries.len() as u64;
        let rows = match rows_of(db, &segment).await {
            Err(DbError::Corrupt(reason)) => return Ok(Some(ManifestFault::new("W2", reason))),
            rows => rows?,
        };
        for SegmentEntry { id, .. } in &segment.entries {
            match rows.get(id) {
                None => missing.push(*id),
                Some(row) if is_retired(row) => retired.push(*id),
                Some(row) => digester.name(&row.name),
            }
        }
        each(&segment.entries, &rows);
        values.extend(segment.values);
    }
    for ids in [&mut missing, &mut retired] {
        ids.sort_unstable();
        ids.dedup();
    }
    if let Some(id) = missing.first() {
        let more = if missing.len() > 1 {
            format!(", and {} others", missing.len() - 1)
        } else {
            String::new()
        };
        let detail = format!("chunk {id} of its manifest has no row{more}");
        return Ok(Some(ManifestFault { missing, retired, ..ManifestFault::new("W2", detail) }));
    }
    if let Some(id) = retired.first() {
        let more = if retired.len() > 1 {
            format!(", and {} others are", retired.len() - 1)
        } else {
            " is".to_owned()
        };
        let detail = format!("chunk {id} of its manifest{more} damaged or gone");
        return Ok(Some(ManifestFault {
            missing,
            retired,
            ..ManifestFault::new("damage", detail)
        }));
    }
    if raw != nar.nar_size || stored != nar.file_size || chunks != nar.chunk_count {
        let detail = format!(
            "its manifest adds up to {raw} raw and {stored} stored bytes in {chunks} chunks"
        );
        return Ok(Some(ManifestFault::new("W3", detail)));
    }
    for value in &values {
        digester.value(value);
    }
    if digester.finish() != nar.content_digest {
        let detail = "its chunks and slot values are not those that were verified";
        return Ok(Some(ManifestFault::new("W3", detail)));
    }
    Ok(None)
}

async fn rows_of(db: &Db, segment: &Segment) -> Result<HashMap<u64, ChunkLocation>, DbError> {
    let ids: Vec<u64> = segment.entries.iter().map(|entry| entry.id).collect();
    // No row has an id that is beyond the database's integers.
    let ids: Vec<u64> = ids.into_iter().filter(|id| i64::try_from(*id).is_ok()).collect();
    db::chunks::lookup_by_ids(db.reader().await?.exec(), &ids).await
}
