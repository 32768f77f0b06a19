//! Removes objects: first of all those of packs that were claimed (C3), and those that no row names
//! once they have been so for the grace period.
//!
//! Before objects go, the storage is found to be the database's at that moment: they may be another
//! database's by now.
//!
//! An object goes a while after its pack was claimed, so that readers of the pack can end. The row
//! goes after the object, so that a removal that failed is tried again. The row of an object that
//! had none stays for a month: a writer that slept since it put the object finds the key taken when
//! it comes to commit its rows.

use std::collections::HashSet;

use snowbank_core::pack::PackKey;

use super::super::GcError;
use super::super::cutoffs::Cutoffs;
use super::super::plan::packs::PackUses;
use super::super::transactions::Transactions;
use crate::db::counters::{self, Counter};
use crate::db::packs::PackId;
use crate::db::{self, unnamed};
use crate::pack::pack_object_key;
use crate::storage::Storage;

/// Claimed packs read at a time.
const PAGE: u32 = 1_000;
/// Objects that are removed between two looks at whose the storage is.
const DELETED_AT_ONCE: usize = 100;
/// Rows changed in one transaction.
const BATCH: u32 = 256;
const BATCH_ROWS: usize = BATCH as usize;
/// Objects that are noted in one transaction.
const NOTED: usize = 1_000;

/// Removes the objects of claimed packs.
pub(super) struct ObjectRemoval<'a> {
    transactions: &'a Transactions<'a>,
    storage: &'a Storage,
    /// Objects of packs that were claimed at this instant or before may go.
    claimed_before: i64,
    /// Packs whose objects could not be removed. None is tried twice in one collection.
    failed: HashSet<PackId>,
    removed: u64,
}

impl<'a> ObjectRemoval<'a> {
    pub(super) fn new(
        transactions: &'a Transactions<'a>,
        storage: &'a Storage,
        claimed_before: i64,
    ) -> Self {
        Self { transactions, storage, claimed_before, failed: HashSet::new(), removed: 0 }
    }

    /// Removes the objects of the packs that were claimed early enough, and then their rows.
    pub(super) async fn remove(&mut self) -> Result<(), GcError> {
        let db = self.transactions.db();
        let mut after = PackId(0);
        loop {
            let mut dead =
                db::packs::dead(db.reader().await?.exec(), after, self.claimed_before, PAGE)
                    .await?;
            let Some(last) = dead.last() else { return Ok(()) };
            after = last.id;
            dead.retain(|pack| !self.failed.contains(&pack.id));
            let keys: Vec<String> = dead.iter().map(|pack| pack_object_key(&pack.key)).collect();
            let failed = self.delete(&keys).await?;
            let mut gone: Vec<PackId> = Vec::with_capacity(dead.len());
            for (pack, key) in dead.iter().zip(&keys) {
                if failed.contains(key) {
                    self.failed.insert(pack.id);
                } else {
                    gone.push(pack.id);
                }
            }
            self.removed += gone.len() as u64;
            for batch in gone.chunks(BATCH_ROWS) {
                let mut tx = db.upkeep_tx().await?;
                db::packs::remove_dead(tx.exec(), batch).await?;
                tx.commit().await?;
            }
        }
    }

    /// Gives the keys of the objects that could not be removed.
    async fn delete(&self, keys: &[String]) -> Result<HashSet<String>, GcError> {
        let mut failed = Vec::new();
        for keys in keys.chunks(DELETED_AT_ONCE) {
            crate::fault::pause("gc-before-object-delete").await;
            self.transactions.confirm_storage().await?;
            failed.extend(self.storage.delete_many(keys).await);
        }
        if let Some((_, error)) = failed.first() {
            tracing::warn!(%error, objects = failed.len(), "objects could not be removed; the next \
                collection tries again");
        }
        Ok(failed.into_iter().map(|(key, _)| key).collect())
    }

    /// Objects that were removed.
    pub(super) const fn removed(&self) -> u64 {
        self.removed
    }

    /// Objects that could not be removed.
    pub(super) fn failed(&self) -> u64 {
        self.failed.len() as u64
    }

    /// Whether an object may go as soon as its pack is claimed.
    pub(super) const fn is_immediate(&self, now: i64) -> bool {
        self.claimed_before >= now
    }
}

/// Claims the packs of the plan in which no chunk is (C3). Their objects go later. Gives how many
/// packs it were, and their bytes.
pub(super) async fn claim_empty_packs(
    transactions: &Transactions<'_>,
    cutoffs: &Cutoffs,
    planned: Vec<PackId>,
    packs: &mut PackUses,
) -> Result<(u64, u64), GcError> {
    let is_empty = |id: &PackId| packs.get(*id).is_some_and(|pack| pack.chunks == 0);
    let empty: Vec<PackId> = planned.into_iter().filter(is_empty).collect();
    let mut bytes = 0;
    for batch in empty.chunks(BATCH_ROWS) {
        crate::fault::pause("gc-before-dead").await;
        let mut exclusive = transactions.begin().await?;
        db::packs::claim_empty(exclusive.exec(), batch, cutoffs.now()).await?;
        transactions.commit(exclusive).await?;
        bytes +=
            batch.iter().filter_map(|id| packs.remove(*id)).map(|pack| pack.bytes).sum::<u64>();
    }
    Ok((empty.len() as u64, bytes))
}

/// Notes objects that no row names, and claims those that were noted a grace period ago.
pub(super) async fn claim_unnamed(
    transactions: &Transactions<'_>,
    cutoffs: &Cutoffs,
    found: &[PackKey],
) -> Result<(), GcError> {
    let db = transactions.db();
    for keys in found.chunks(NOTED) {
        let mut tx = db.upkeep_tx().await?;
        unnamed::note(tx.exec(), keys, cutoffs.now()).await?;
        tx.commit().await?;
    }
    let seen_before = cutoffs.unneeded_before();
    loop {
        let keys = unnamed::seen_until(db.reader().await?.exec(), seen_before, BATCH).await?;
        if keys.is_empty() {
            break;
        }
        crate::fault::pause("gc-before-claim").await;
        let mut exclusive = transactions.begin().await?;
        for key in &keys {
            let id = PackId(counters::reserve(exclusive.exec(), Counter::Pack, 1).await?);
            db::packs::claim_unnamed(exclusive.exec(), id, key, cutoffs.now()).await?;
        }
        unnamed::forget(exclusive.exec(), &keys).await?;
        transactions.commit(exclusive).await?;
    }
    let mut tx = db.upkeep_tx().await?;
    unnamed::forget_named(tx.exec()).await?;
    tx.commit().await?;
    Ok(())
}

/// Frees keys that were claimed so long ago that no writer can come late any more.
pub(super) async fn free_keys(
    transactions: &Transactions<'_>,
    cutoffs: &Cutoffs,
) -> Result<(), GcError> {
    let mut tx = transactions.db().upkeep_tx().await?;
    db::packs::forget_dead(tx.exec(), cutoffs.keys_claimed_before()).await?;
    tx.commit().await?;
    Ok(())
}
