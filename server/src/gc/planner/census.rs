//! Reads every chunk row: which chunks go, and what the others take, by pack and by cache.
//!
//! A chunk goes when no NAR names it and its pack is older than the grace period: a push under way
//! may still name chunks of younger packs. A chunk in a pack that is not known stays: that pack was
//! written after the packs were read.

use roaring::RoaringTreemap;

use super::super::GcError;
use super::super::plan::packs::PackUses;
use super::super::plan::{CacheBytes, ChunkPlan};
use super::marking::Marking;
use crate::db::Db;
use crate::db::collection::{self, ChunkPlace};

/// Rows read at a time.
const PAGE: u32 = 8_000;

/// What the chunk rows add up to.
#[derive(Debug, Default)]
pub(super) struct Census {
    pub(super) chunks: ChunkPlan,
    /// Of each cache, in the order of the markings.
    pub(super) caches: Vec<CacheBytes>,
    /// Bytes that no cache needs, and that stay for the grace period.
    pub(super) waiting_bytes: u64,
}

impl Census {
    /// Reads all chunk rows, and counts in `packs` the chunks that stay.
    pub(super) async fn take(
        db: &Db,
        marking: &Marking,
        packs: &mut PackUses,
    ) -> Result<Self, GcError> {
        let mut needs = Needs::of(&marking.caches);
        let mut census = Self::default();
        let mut after = 0;
        loop {
            let rows = collection::chunk_places(db.reader().await?.exec(), after, PAGE).await?;
            let Some(last) = rows.last() else { break };
            after = last.id;
            for chunk in &rows {
                let is_needed_by_cache = needs.count(chunk);
                let is_marked = marking.marks.contains(chunk.id);
                let Some(pack) = packs.get_mut(chunk.pack) else { continue };
                if is_marked || !pack.is_old {
                    pack.keep_chunk(chunk.len);
                    if !is_needed_by_cache {
                        census.waiting_bytes += u64::from(chunk.len);
                    }
                } else {
                    census.chunks.ids.insert(chunk.id);
                    census.chunks.bytes += u64::from(chunk.len);
                }
            }
        }
        census.caches = needs.bytes;
        Ok(census)
    }
}

/// Which caches need a chunk, asked in the order of ids.
struct Needs<'m> {
    cursors: Vec<std::iter::Peekable<roaring::treemap::Iter<'m>>>,
    bytes: Vec<CacheBytes>,
}

impl<'m> Needs<'m> {
    fn of(caches: &'m [RoaringTreemap]) -> Self {
        let cursors = caches.iter().map(|chunks| chunks.iter().peekable()).collect();
        Self { cursors, bytes: vec![CacheBytes::default(); caches.len()] }
    }

    /// Adds a chunk to the sums of the caches that need it; whether there is one.
    fn count(&mut self, chunk: &ChunkPlace) -> bool {
        let len = u64::from(chunk.len);
        let (mut needing, mut one_of_them) = (0, 0);
        for (cache, cursor) in self.cursors.iter_mut().enumerate() {
            while cursor.next_if(|id| *id < chunk.id).is_some() {}
            if cursor.next_if_eq(&chunk.id).is_some() {
                self.bytes[cache].stored += len;
                (needing, one_of_them) = (needing + 1, cache);
            }
        }
        if needing == 1 {
            self.bytes[one_of_them].own += len;
        }
        needing > 0
    }
}
