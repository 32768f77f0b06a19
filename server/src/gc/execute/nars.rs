//! Removes NAR rows that no path has had for the grace period, and keeps book of NARs without a
//! path.
//!
//! C1: each batch takes the exclusive lock, looks which of its NARs a path has by now, and removes
//! the others. The chunks of those that stay are marked before any chunk goes.

use super::super::GcError;
use super::super::cutoffs::Cutoffs;
use super::super::plan::NarPlan;
use super::super::plan::marks::Marks;
use super::super::transactions::{Pace, Transactions};
use crate::db::{cache_files, collection, uploads};

/// Rows of one transaction that keeps book.
const NOTED: usize = 500;

/// Gives how many NARs were removed.
pub(super) async fn remove(
    transactions: &Transactions<'_>,
    cutoffs: &Cutoffs,
    plan: NarPlan,
    marks: &mut Marks,
) -> Result<u64, GcError> {
    let db = transactions.db();
    for batch in plan.unreferenced.chunks(NOTED) {
        let mut tx = db.upkeep_tx().await?;
        collection::note_unreferenced(tx.exec(), batch, cutoffs.now()).await?;
        tx.commit().await?;
    }
    for batch in plan.referenced.chunks(NOTED) {
        let mut tx = db.upkeep_tx().await?;
        collection::forget_unreferenced(tx.exec(), batch).await?;
        tx.commit().await?;
    }
    let uploaded_after = cutoffs.uploaded_after();
    let mut tx = db.upkeep_tx().await?;
    uploads::expire(tx.exec(), uploaded_after).await?;
    cache_files::expire(tx.exec(), uploaded_after).await?;
    tx.commit().await?;
    let (mut rest, mut pace, mut removed) = (&plan.removable[..], Pace::default(), 0);
    while !rest.is_empty() {
        let (batch, later) = rest.split_at(pace.rows().min(rest.len()));
        rest = later;
        crate::fault::pause("gc-before-nars").await;
        let mut exclusive = transactions.begin().await?;
        let needed = collection::remove_nars(exclusive.exec(), batch, uploaded_after).await?;
        let time = transactions.commit(exclusive).await?;
        removed += (batch.len() - needed.len()) as u64;
        marks.add(db, &needed).await?;
        pace.rest(time).await;
    }
    Ok(removed)
}
