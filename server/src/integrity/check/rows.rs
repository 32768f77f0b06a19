//! The rows of chunks and NARs, against each other.

use super::{CheckError, PAGE, Phase, Run};
use crate::damage::{ManifestFault, manifest_fault};
use crate::db::check::{ChunkFacts, NarFacts};
use crate::db::damage::{paths_of, retired_name};
use crate::db::nars::NarId;
use crate::db::packs::PackState;
use crate::db::{self, Db, DbError};

/// Paths that are named with a NAR.
const NAMED: u32 = 3;
/// NARs are read with their manifests.
const NARS: u32 = 128;

/// W1: every chunk row lies within a live pack. It may be of another domain: copies between caches
/// share records.
pub(super) async fn chunks(run: &mut Run<'_>, mut after: i64) -> Result<(), CheckError> {
    let db = run.checker.db;
    loop {
        let page = db::check::chunks(db.reader().await?.exec(), after, PAGE).await?;
        let Some((last, _)) = page.last() else { return Ok(()) };
        after = *last;
        for (id, row) in page {
            run.stats.chunks += 1;
            if chunk_fault(&row).is_none() {
                continue;
            }
            let again =
                db::check::chunks(db.reader().await?.exec(), id.saturating_sub(1), 1).await?;
            let Some((_, row)) = again.into_iter().find(|(found, _)| *found == id) else {
                continue;
            };
            if let Some(detail) = chunk_fault(&row) {
                let name = row.map(|chunk| format!(" ({})", chunk.name)).unwrap_or_default();
                run.found("W1", format!("chunk {id}{name}"), detail);
            }
        }
        run.reached(Phase::Chunks, after);
    }
}

fn chunk_fault(row: &Result<ChunkFacts, DbError>) -> Option<String> {
    let chunk = match row {
        Ok(chunk) => chunk,
        Err(error) => return Some(error.to_string()),
    };
    if !chunk.is_domain_known {
        return Some(format!("its domain {} has no row", chunk.domain));
    }
    let end = u64::from(chunk.offset) + u64::from(chunk.len);
    match chunk.found_pack {
        None => Some(format!("its pack {} has no row", chunk.pack)),
        // Where a retired chunk lies does not matter.
        Some(_) if chunk.name == retired_name(chunk.id) => None,
        Some((PackState::Dead, _)) => Some(format!("its pack {} is dead", chunk.pack)),
        Some((PackState::Live, bytes)) if end > bytes => {
            Some(format!("it ends at byte {end} of a pack of {bytes}"))
        }
        Some((PackState::Live, _)) => None,
    }
}

/// W2, W3: every chunk that a manifest names has a row, and names and slot values are those that
/// were verified.
pub(super) async fn nars(run: &mut Run<'_>, mut after: i64) -> Result<(), CheckError> {
    let db = run.checker.db;
    loop {
        let page = db::check::nars(db.reader().await?.exec(), after, NARS).await?;
        let Some((last, _)) = page.last() else { return Ok(()) };
        after = *last;
        for (id, row) in page {
            run.stats.nars += 1;
            let mut highest = 0;
            let fault = nar_fault(db, row, &mut highest).await?;
            run.stats.highest_named_chunk = run.stats.highest_named_chunk.max(highest);
            if fault.is_none() {
                continue;
            }
            // It may have been collected or withdrawn meanwhile, with its chunks.
            let Some((_, row)) = db::check::nar(db.reader().await?.exec(), NarId(id)).await? else {
                continue;
            };
            let hash = row.as_ref().map(|facts| facts.nar.nar_hash.to_string()).ok();
            if let Some(fault) = nar_fault(db, row, &mut highest).await? {
                let name = hash.unwrap_or_else(|| format!("with the id {id}"));
                run.found(
                    fault.invariant,
                    format!("NAR {name}{}", of_paths(db, NarId(id)).await?),
                    fault.detail,
                );
            }
        }
        run.reached(Phase::Nars, after);
    }
}

async fn nar_fault(
    db: &Db,
    row: Result<NarFacts, DbError>,
    highest: &mut u64,
) -> Result<Option<ManifestFault>, DbError> {
    match row {
        Ok(NarFacts { nar, first }) => {
            let note = |entries: &[snowbank_core::manifest::SegmentEntry], _: &_| {
                *highest = entries.iter().map(|entry| entry.id).fold(*highest, u64::max);
            };
            manifest_fault(db, &nar, &first, note).await
        }
        Err(DbError::Corrupt(detail)) => {
            Ok(Some(ManifestFault { invariant: "W3", detail, ..ManifestFault::default() }))
        }
        Err(error) => Err(error),
    }
}

/// Some of the paths that have a NAR, in parentheses.
pub(super) async fn of_paths(db: &Db, nar: NarId) -> Result<String, DbError> {
    let mut conn = db.reader().await?;
    let mut names = Vec::new();
    for id in paths_of(conn.exec(), nar, NAMED).await? {
        names.extend(db::check::path(conn.exec(), id).await?.map(|path| path.base_name));
    }
    Ok(if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) })
}
