//! Retiring chunks and withdrawing NARs, in exclusive transactions that are short.

use metrics::counter;
use snowbank_core::hash::NarHash;

use crate::db::damage::{Retirement, WithdrawnPath};
use crate::db::nars::NarId;
use crate::db::paths::PathId;
use crate::db::{self, Db, DbError};

/// Rows that are changed in one transaction.
const BATCH: usize = 500;
const BATCH_ROWS: u32 = 500;

/// Retires those of `chunks` whose rows are still as they were found; gives their ids.
///
/// # Errors
/// As any write; what was done before is done.
pub async fn retire(db: &Db, chunks: &[Retirement], now: i64) -> Result<Vec<u64>, DbError> {
    let mut retired = Vec::with_capacity(chunks.len());
    for batch in chunks.chunks(BATCH) {
        let mut tx = db.exclusive_tx().await?;
        let ids = db::damage::retire(tx.exec(), batch, now).await?;
        tx.commit().await?;
        counter!("snowbank_damaged_chunks_total").increment(ids.len() as u64);
        retired.extend(ids);
    }
    Ok(retired)
}

/// What was taken out of sight.
#[derive(Debug, Clone)]
pub struct Withdrawal {
    /// The NAR.
    pub nar_hash: NarHash,
    /// The paths that had it.
    pub paths: Vec<WithdrawnPath>,
}

/// Withdraws all paths of a NAR, then removes its row, so that the next push makes it anew.
///
/// # Errors
/// As any write; what was done before is done.
pub async fn withdraw_nar(
    db: &Db,
    nar: NarId,
    nar_hash: NarHash,
    reason: &str,
    now: i64,
) -> Result<Withdrawal, DbError> {
    let mut paths = Vec::new();
    loop {
        let mut tx = db.exclusive_tx().await?;
        let ids = db::damage::paths_of(tx.exec(), nar, BATCH_ROWS).await?;
        let withdrawn = db::damage::withdraw(tx.exec(), &ids, reason, now).await?;
        let is_last = ids.len() < BATCH;
        if is_last {
            db::damage::remove_nar(tx.exec(), nar).await?;
        }
        tx.commit().await?;
        counter!("snowbank_withdrawn_paths_total").increment(withdrawn.len() as u64);
        paths.extend(withdrawn);
        if is_last {
            tell(&nar_hash.to_string(), reason, &paths);
            return Ok(Withdrawal { nar_hash, paths });
        }
    }
}

/// Withdraws paths whose own rows, or whose NARs' rows, make no sense.
///
/// # Errors
/// As any write; what was done before is done.
pub async fn withdraw_paths(
    db: &Db,
    ids: &[PathId],
    reason: &str,
    now: i64,
) -> Result<Vec<WithdrawnPath>, DbError> {
    let mut paths = Vec::with_capacity(ids.len());
    for batch in ids.chunks(BATCH) {
        let mut tx = db.exclusive_tx().await?;
        let withdrawn = db::damage::withdraw(tx.exec(), batch, reason, now).await?;
        tx.commit().await?;
        counter!("snowbank_withdrawn_paths_total").increment(withdrawn.len() as u64);
        paths.extend(withdrawn);
    }
    tell("unknown", reason, &paths);
    Ok(paths)
}

fn tell(nar: &str, reason: &str, paths: &[WithdrawnPath]) {
    const NAMED: usize = 5;
    let named: Vec<String> = paths.iter().take(NAMED).map(WithdrawnPath::base_name).collect();
    tracing::error!(
        nar,
        reason,
        paths = paths.len(),
        named = named.join(" "),
        "paths were withdrawn, since their NAR is damaged; they are whole again once they are \
         pushed again"
    );
}
