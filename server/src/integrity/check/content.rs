//! R1: clients get NARs with the hashes that the rows declare. Reads each NAR in both forms, as it
//! is served.

use super::rows::of_paths;
use super::{CONTENT, CheckError, Phase, Run};
use crate::db;
use crate::db::nars::NarId;
use crate::integrity::content::{NarSelection, content_fault};

/// Decodes the NAR of every path that matches the pattern, if there is one.
pub(super) async fn nars(run: &mut Run<'_>, after: i64) -> Result<(), CheckError> {
    let checker = run.checker;
    let Some(pattern) = &checker.options.paths else { return Ok(()) };
    let mut selection = NarSelection::new(checker.db, pattern, after).await?;
    while let Some((page, last)) = selection.next(checker.db).await? {
        for id in page {
            one(run, id).await?;
        }
        run.reached(Phase::Content, last.0);
    }
    Ok(())
}

async fn one(run: &mut Run<'_>, id: NarId) -> Result<(), CheckError> {
    let db = run.checker.db;
    let Some((_, Ok(facts))) = db::check::nar(db.reader().await?.exec(), id).await? else {
        return Ok(());
    };
    run.stats.decoded_nars += 1;
    let (fault, bytes) = content_fault(run.checker.nars, &facts.nar, &mut run.pace).await?;
    run.stats.read_bytes += bytes;
    let Some(detail) = fault else { return Ok(()) };
    // The NAR may have been collected or withdrawn meanwhile.
    if db::check::nar(db.reader().await?.exec(), id).await?.is_some() {
        run.found(
            CONTENT,
            format!("NAR {}{}", facts.nar.nar_hash, of_paths(db, id).await?),
            detail,
        );
    }
    Ok(())
}
