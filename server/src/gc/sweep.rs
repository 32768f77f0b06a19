//! Sweeping, in the order of the invariants: NAR rows, chunk rows, and then packs that no chunk is
//! in are claimed.
//!
//! C1: NAR rows go once no path has had them for the grace period, chunk rows once no NAR names
//! them and their pack is older than it. Each batch takes the exclusive lock, looks again (at
//! paths; at manifests added since, [`Marks::catch_up`]; at chunks in the pack), and only then
//! deletes.

use std::collections::HashMap;

use snowbank_core::wire::admin::collection::GcCache;

use super::GcError;
use super::graph::Graph;
use super::mark::Marks;
use super::run::{Pace, Run};
use crate::db;
use crate::db::caches::{DomainId, RESTORABLE_SECONDS};
use crate::db::collection::{self, ChunkPlace};
use crate::db::nars::NarId;
use crate::db::packs::{PackId, PackState};

/// Rows read at a time.
const PAGE: u32 = 8_000;
const PACKS: u32 = 4_000;

/// A live pack, and what of it is needed.
#[derive(Debug, Clone)]
pub(super) struct PackUse {
    pub(super) domain: DomainId,
    pub(super) bytes: u64,
    /// Whether it is older than the grace period.
    pub(super) is_old: bool,
    /// Records that a chunk row names which stays; records that caches of several domains share
    /// count for each.
    pub(super) chunks: u64,
    /// Their bytes.
    pub(super) live: u64,
}

/// Every live pack.
pub(super) type PackUses = HashMap<PackId, PackUse>;

impl Run<'_> {
    /// Removes NARs that no path has had for the grace period, and keeps book of those without one.
    pub(super) async fn remove_nars(&mut self, marks: &mut Marks) -> Result<(), GcError> {
        for batch in marks.unreferenced.chunks(500) {
            let mut tx = self.db.upkeep_tx().await?;
            collection::note_unreferenced(tx.exec(), batch, self.ages.now()).await?;
            tx.commit().await?;
        }
        for batch in marks.referenced.chunks(500) {
            let mut tx = self.db.upkeep_tx().await?;
            collection::forget_unreferenced(tx.exec(), batch).await?;
            tx.commit().await?;
        }
        let removable = std::mem::take(&mut marks.removable);
        let (mut rest, mut pace) = (&removable[..], Pace::default());
        while !rest.is_empty() {
            let (batch, later) = rest.split_at(pace.rows().min(rest.len()));
            rest = later;
            crate::fault::pause("gc-before-nars").await;
            let mut held = self.begin().await?;
            let needed: Vec<NarId> = collection::remove_nars(held.tx.exec(), batch).await?;
            let time = self.end(held).await?;
            self.report.nars += (batch.len() - needed.len()) as u64;
            marks.add(self.db, &needed).await?;
            pace.rest(time).await;
        }
        Ok(())
    }

    /// Every live pack, with nothing of it needed yet.
    pub(super) async fn load_packs(&mut self) -> Result<PackUses, GcError> {
        let mut packs = PackUses::new();
        let mut after = PackId(0);
        loop {
            let page = db::packs::page(self.db.reader().await?.exec(), after, PACKS).await?;
            let Some(last) = page.last() else { return Ok(packs) };
            after = last.id;
            for pack in page.into_iter().filter(|pack| pack.state == PackState::Live) {
                let is_old = pack.created <= self.grace;
                packs.insert(
                    pack.id,
                    PackUse { domain: pack.domain, bytes: pack.bytes, is_old, chunks: 0, live: 0 },
                );
            }
        }
    }

    /// Removes chunks that no NAR names, and sums up what the others take, by pack and by cache.
    pub(super) async fn sweep_chunks(
        &mut self,
        graphs: &[Graph],
        marks: &mut Marks,
        packs: &mut PackUses,
    ) -> Result<(), GcError> {
        let caches = std::mem::take(&mut marks.caches);
        let mut cursors: Vec<_> = caches.iter().map(|set| set.iter().peekable()).collect();
        let mut sums = vec![(0_u64, 0_u64); caches.len()];
        let (mut after, mut tempo) = (0, Pace::default());
        let mut dead: Vec<ChunkPlace> = Vec::new();
        loop {
            let rows =
                collection::chunk_places(self.db.reader().await?.exec(), after, PAGE).await?;
            if let Some(last) = rows.last() {
                after = last.id;
            }
            for chunk in &rows {
                let len = u64::from(chunk.len);
                let (mut needing, mut one_of_them) = (0, 0);
                for (cache, cursor) in cursors.iter_mut().enumerate() {
                    while cursor.next_if(|id| *id < chunk.id).is_some() {}
                    if cursor.next_if_eq(&chunk.id).is_some() {
                        sums[cache].0 += len;
                        (needing, one_of_them) = (needing + 1, cache);
                    }
                }
                if needing == 1 {
                    sums[one_of_them].1 += len;
                }
                let is_needed = marks.all.contains(chunk.id);
                // A pack that is not known was written after they were read.
                let Some(pack) = packs.get_mut(&chunk.pack) else { continue };
                if is_needed || !pack.is_old {
                    pack.chunks += 1;
                    pack.live += len;
                    self.report.waiting_bytes += if needing == 0 { len } else { 0 };
                } else {
                    dead.push(*chunk);
                }
            }
            self.remove_chunks(marks, packs, &mut dead, rows.is_empty(), &mut tempo).await?;
            if rows.is_empty() {
                break;
            }
        }
        for (graph, (stored, own)) in graphs.iter().zip(sums) {
            let staying = || graph.staying().map(|(_, node)| node);
            self.report.caches.push(GcCache {
                name: graph.cache.name.to_string(),
                paths: staying().count() as u64,
                going: (graph.nodes.len() - staying().count()) as u64,
                logical_bytes: staying().map(|node| marks.nar_size(node.nar)).sum(),
                stored_bytes: stored,
                own_bytes: own,
                restorable_until: graph
                    .cache
                    .destroyed
                    .map(|at| at.saturating_add(RESTORABLE_SECONDS)),
            });
        }
        Ok(())
    }

    /// Removes `dead` in batches: whole ones, and at the end what is left.
    async fn remove_chunks(
        &mut self,
        marks: &mut Marks,
        packs: &mut PackUses,
        dead: &mut Vec<ChunkPlace>,
        is_last: bool,
        pace: &mut Pace,
    ) -> Result<(), GcError> {
        if !dead.is_empty() && !self.report.dry_run {
            let mut held = self.begin().await?;
            let last = collection::last_nar(held.tx.exec()).await?;
            drop(held);
            marks.approach(self.db, last).await?;
        }
        while !dead.is_empty() && (is_last || dead.len() >= pace.rows()) {
            let batch: Vec<ChunkPlace> = dead.drain(..pace.rows().min(dead.len())).collect();
            let (mut going, mut time) = (batch.clone(), None);
            if !self.report.dry_run {
                crate::fault::pause("gc-before-chunks").await;
                let mut held = self.begin().await?;
                marks.catch_up(held.tx.exec()).await?;
                going.retain(|chunk| !marks.all.contains(chunk.id));
                let ids: Vec<u64> = going.iter().map(|chunk| chunk.id).collect();
                collection::remove_chunks(held.tx.exec(), &ids).await?;
                time = Some(self.end(held).await?);
            }
            self.report.chunks += going.len() as u64;
            self.report.chunk_bytes += going.iter().map(|chunk| u64::from(chunk.len)).sum::<u64>();
            for chunk in batch.iter().filter(|chunk| marks.all.contains(chunk.id)) {
                if let Some(pack) = packs.get_mut(&chunk.pack) {
                    pack.chunks += 1;
                    pack.live += u64::from(chunk.len);
                }
            }
            if let Some(time) = time {
                pace.rest(time).await;
            }
        }
        Ok(())
    }

    /// Claims the packs that no chunk is in (C3); their objects go later.
    pub(super) async fn claim_packs(&mut self, packs: &mut PackUses) -> Result<(), GcError> {
        let mut empty: Vec<PackId> = packs
            .iter()
            .filter(|(_, pack)| pack.is_old && pack.chunks == 0)
            .map(|(id, _)| *id)
            .collect();
        empty.sort_unstable();
        for batch in empty.chunks(256) {
            if !self.report.dry_run {
                crate::fault::pause("gc-before-dead").await;
                let mut held = self.begin().await?;
                db::packs::claim_empty(held.tx.exec(), batch, self.ages.now()).await?;
                self.end(held).await?;
            }
            for id in batch {
                self.report.packs += 1;
                self.report.freed_bytes += packs.remove(id).map_or(0, |pack| pack.bytes);
            }
        }
        Ok(())
    }
}
