//! Which chunks the manifests name: a bitmap, which grows with the manifests that are added while a
//! collection runs.
//!
//! C1: `last`, the highest NAR id, was read under the exclusive lock, so that every NAR up to it is
//! there or never will be. A chunk is removed only in an exclusive transaction that has called
//! [`Marks::catch_up`] and finds it unmarked, so that the manifests count that were added since. A
//! NAR that was to go, and that a path has got meanwhile, is marked by [`Marks::add`] before any
//! chunk goes.

use roaring::RoaringTreemap;
use snowbank_core::manifest::{Segment, SegmentEntry};

use super::super::GcError;
use crate::db::collection::{self, NarManifest};
use crate::db::nars::NarId;
use crate::db::{self, Db, Exec};

/// Rows read at a time.
const PAGE: u32 = 256;

/// The chunks that must stay.
#[derive(Debug)]
pub(in crate::gc) struct Marks {
    /// NARs with a higher id have not been read.
    last: NarId,
    chunks: RoaringTreemap,
}

impl Marks {
    /// No marks yet, for the NARs up to `last`.
    pub(in crate::gc) fn up_to(last: NarId) -> Self {
        Self { last, chunks: RoaringTreemap::new() }
    }

    /// The highest NAR id that was read.
    pub(in crate::gc) const fn last(&self) -> NarId {
        self.last
    }

    pub(in crate::gc) fn contains(&self, chunk: u64) -> bool {
        self.chunks.contains(chunk)
    }

    /// All of them.
    pub(in crate::gc) const fn chunks(&self) -> &RoaringTreemap {
        &self.chunks
    }

    /// Marks the chunks of a manifest.
    pub(in crate::gc) fn extend(&mut self, entries: &[SegmentEntry]) {
        self.chunks.extend(entries.iter().map(|entry| entry.id));
    }

    /// Marks the chunks of these NARs, as far as they are there.
    pub(in crate::gc) async fn add(&mut self, db: &Db, nars: &[NarId]) -> Result<(), GcError> {
        for nar in nars {
            let page =
                collection::manifests(db.reader().await?.exec(), NarId(nar.0 - 1), *nar, 1).await?;
            for nar in page {
                self.extend(&entries(db, &nar).await?.unwrap_or_default());
            }
        }
        Ok(())
    }

    /// Marks the chunks of the NARs that were added since, up to `last`, which was read under the
    /// exclusive lock. This leaves little for [`Marks::catch_up`].
    pub(in crate::gc) async fn approach(&mut self, db: &Db, last: NarId) -> Result<(), GcError> {
        while self.last < last {
            let page =
                collection::manifests(db.reader().await?.exec(), self.last, last, PAGE).await?;
            for nar in &page {
                self.extend(&entries(db, nar).await?.unwrap_or_default());
            }
            self.last = page.last().map_or(last, |nar| nar.id);
        }
        Ok(())
    }

    /// Marks the chunks of all NARs that were added since. `exec` is the exclusive transaction that
    /// is to remove chunks.
    pub(in crate::gc) async fn catch_up(&mut self, mut exec: Exec<'_>) -> Result<(), GcError> {
        let last = collection::last_nar(exec.again()).await?;
        while self.last < last {
            let page = collection::manifests(exec.again(), self.last, last, PAGE).await?;
            for nar in &page {
                self.extend(&first_entries(nar).unwrap_or_default());
                for seq in 1..nar.segment_count {
                    let data = db::nars::segment(exec.again(), nar.id, seq).await?;
                    let segment =
                        data.and_then(|data| Segment::decode(&data).ok()).unwrap_or_default();
                    self.extend(&segment.entries);
                }
            }
            self.last = page.last().map_or(last, |nar| nar.id);
        }
        Ok(())
    }
}

fn first_entries(nar: &NarManifest) -> Option<Vec<SegmentEntry>> {
    if nar.segment_count == 0 {
        return Some(Vec::new());
    }
    Segment::decode(&nar.first).ok().map(|segment| segment.entries)
}

/// All chunks of a NAR; `None` when its manifest does not parse. Memory grows with that one NAR: 24
/// bytes a chunk.
pub(in crate::gc) async fn entries(
    db: &Db,
    nar: &NarManifest,
) -> Result<Option<Vec<SegmentEntry>>, GcError> {
    let Some(mut all) = first_entries(nar) else { return Ok(None) };
    for seq in 1..nar.segment_count {
        let data = db::nars::segment(db.reader().await?.exec(), nar.id, seq).await?;
        let Some(segment) = data.and_then(|data| Segment::decode(&data).ok()) else {
            return Ok(None);
        };
        all.extend(segment.entries);
    }
    Ok(Some(all))
}
