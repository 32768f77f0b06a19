//! Where a manifest's chunks are, and which of them are not stored.

use snowbank_core::chunk::ChunkName;

use super::Ingest;
use crate::db::caches::DomainId;
use crate::db::chunks::ChunkLocation;
use crate::db::{self, DbError};

/// Chunks that are looked up by one question to the database.
pub(super) const LOOKUP_NAMES: usize = 1024;
/// At most this many missing chunks are named in one answer.
const MAX_MISSING_NAMED: usize = 8192;

/// The locations of `names` in their order, or those that are missing.
pub(super) async fn lookup(
    ingest: &Ingest,
    domain: DomainId,
    names: &[ChunkName],
) -> Result<Result<Vec<ChunkLocation>, Vec<ChunkName>>, DbError> {
    let mut conn = ingest.db.reader().await?;
    let found = db::chunks::lookup_by_names(conn.exec(), domain, names).await?;
    let locations: Vec<ChunkLocation> =
        names.iter().filter_map(|name| found.get(name).cloned()).collect();
    if locations.len() == names.len() {
        return Ok(Ok(locations));
    }
    Ok(Err(names.iter().filter(|name| !found.contains_key(name)).copied().collect()))
}

/// Adds what is missing from `rest`, so that the client learns of all of it at once.
pub(super) async fn all_missing(
    ingest: &Ingest,
    domain: DomainId,
    mut missing: Vec<ChunkName>,
    rest: &[ChunkName],
) -> Result<Vec<ChunkName>, DbError> {
    for names in rest.chunks(LOOKUP_NAMES) {
        if missing.len() >= MAX_MISSING_NAMED {
            break;
        }
        let mut conn = ingest.db.reader().await?;
        let present = db::chunks::present(conn.exec(), domain, names).await?;
        missing.extend(names.iter().filter(|name| !present.contains(name)));
    }
    missing.sort_unstable();
    missing.dedup();
    missing.truncate(MAX_MISSING_NAMED);
    Ok(missing)
}
