//! Removes chunk rows that no NAR names.
//!
//! C1: each batch takes the exclusive lock, marks what the manifests name that were added since
//! ([`Marks::catch_up`]), and removes the chunks of the plan that are still unmarked. Their packs
//! were older than the grace period when the plan was made, so no push under way has put them
//! there. A push that found such a chunk present and has not committed yet finds it missing when it
//! does.

use std::collections::HashSet;

use super::super::GcError;
use super::super::plan::marks::Marks;
use super::super::plan::packs::PackUses;
use super::super::plan::{ChunkPlan, Rewrites};
use super::super::transactions::{Pace, Transactions};
use crate::db::collection::{self, last_nar};
use crate::db::packs::PackId;

/// Chunks between two approaches to the NARs that are added meanwhile.
const APPROACH_EVERY: u64 = 8_000;

/// The removal of chunks, and what it kept.
pub(super) struct ChunkRemoval {
    removed: u64,
    removed_bytes: u64,
    /// Packs that hold a chunk which was to go, and stays.
    packs_with_kept: HashSet<PackId>,
}

impl ChunkRemoval {
    /// Removes the chunks of the plan that no NAR names. Those that stay are counted in `packs`.
    pub(super) async fn run(
        transactions: &Transactions<'_>,
        plan: ChunkPlan,
        mut marks: Marks,
        packs: &mut PackUses,
    ) -> Result<Self, GcError> {
        let mut removal =
            Self { removed: 0, removed_bytes: plan.bytes, packs_with_kept: HashSet::new() };
        let (mut ids, mut pace) = (plan.ids.iter(), Pace::default());
        let (mut looked_at, mut approach_at) = (0, 0);
        loop {
            let batch: Vec<u64> = ids.by_ref().take(pace.rows()).collect();
            if batch.is_empty() {
                return Ok(removal);
            }
            if looked_at >= approach_at {
                approach(transactions, &mut marks).await?;
                approach_at = looked_at + APPROACH_EVERY;
            }
            looked_at += batch.len() as u64;
            crate::fault::pause("gc-before-chunks").await;
            let mut exclusive = transactions.begin().await?;
            marks.catch_up(exclusive.exec()).await?;
            let (kept, unneeded): (Vec<u64>, Vec<u64>) =
                batch.into_iter().partition(|id| marks.contains(*id));
            collection::remove_chunks(exclusive.exec(), &unneeded).await?;
            let time = transactions.commit(exclusive).await?;
            removal.removed += unneeded.len() as u64;
            removal.keep(transactions, &kept, packs).await?;
            pace.rest(time).await;
        }
    }

    /// Counts chunks that stay, though they were to go.
    async fn keep(
        &mut self,
        transactions: &Transactions<'_>,
        ids: &[u64],
        packs: &mut PackUses,
    ) -> Result<(), GcError> {
        for id in ids {
            let mut conn = transactions.db().reader().await?;
            let found = collection::chunk_places(conn.exec(), id.saturating_sub(1), 1).await?;
            let Some(chunk) = found.first().filter(|chunk| chunk.id == *id) else { continue };
            self.removed_bytes = self.removed_bytes.saturating_sub(u64::from(chunk.len));
            self.packs_with_kept.insert(chunk.pack);
            if let Some(pack) = packs.get_mut(chunk.pack) {
                pack.keep_chunk(chunk.len);
            }
        }
        Ok(())
    }

    /// How many went.
    pub(super) const fn removed(&self) -> u64 {
        self.removed
    }

    /// Bytes of their records.
    pub(super) const fn removed_bytes(&self) -> u64 {
        self.removed_bytes
    }

    /// Takes the packs out of a plan of which more is needed than it says.
    pub(super) fn correct(&self, rewrites: &mut Rewrites) {
        for packs in rewrites.values_mut() {
            packs.retain(|pack| !self.packs_with_kept.contains(pack));
        }
    }
}

/// Marks the chunks of the NARs that were added so far. Only their last id is read under the lock.
async fn approach(transactions: &Transactions<'_>, marks: &mut Marks) -> Result<(), GcError> {
    let mut exclusive = transactions.begin().await?;
    let last = last_nar(exclusive.exec()).await?;
    drop(exclusive);
    marks.approach(transactions.db(), last).await
}
