//! Marking: which chunks the manifests name, of each cache and of all.
//!
//! C1: [`Marks::begin`] reads the highest NAR id under the exclusive lock; the manifests up to it
//! are read without one. A NAR row is marked unless it is in `removable`, and those of these that
//! turn out to be needed are marked later ([`Marks::add`]). What is deleted by these marks is
//! deleted in an exclusive transaction that has called [`Marks::catch_up`] first, so that the
//! manifests added meanwhile count.

use std::collections::HashMap;

use roaring::RoaringTreemap;
use snowbank_core::manifest::{Segment, SegmentEntry};

use super::GcError;
use super::graph::Graph;
use crate::db::collection::{self, NarManifest};
use crate::db::nars::NarId;
use crate::db::{self, Db, Exec};

/// Rows read at a time.
const PAGE: u32 = 256;

/// What is marked.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// NARs with a higher id have not been looked at.
    last: NarId,
    /// The chunks that some NAR names that stays.
    pub(super) all: RoaringTreemap,
    /// Those that paths of each cache need, in the order of the graphs.
    pub(super) caches: Vec<RoaringTreemap>,
    /// NARs without a path whose time is over.
    pub(super) removable: Vec<NarId>,
    /// NARs without a path that were not known to be without one.
    pub(super) unreferenced: Vec<NarId>,
    /// NARs that were known to be without a path and have one now.
    pub(super) referenced: Vec<NarId>,
    /// Lengths of NARs, by id.
    sizes: Vec<(NarId, u64)>,
    /// NARs whose manifest does not parse.
    pub(super) damaged: u64,
}

fn number(nar: NarId) -> u64 {
    nar.0.unsigned_abs()
}

impl Marks {
    /// Nothing yet. `exec` is an exclusive transaction.
    pub(super) async fn begin(exec: Exec<'_>) -> Result<Self, GcError> {
        Ok(Self { last: collection::last_nar(exec).await?, ..Self::default() })
    }

    /// Marks what the paths that stay need, and what NARs name that no path has had since after
    /// `cutoff`.
    pub(super) async fn mark(
        &mut self,
        db: &Db,
        graphs: &[Graph],
        now: i64,
        cutoff: i64,
    ) -> Result<(), GcError> {
        let living: Vec<RoaringTreemap> = graphs
            .iter()
            .map(|graph| graph.staying().map(|(_, node)| number(node.nar)).collect())
            .collect();
        let known = collection::unreferenced(db.reader().await?.exec()).await?;
        *self = Self {
            last: self.last,
            caches: vec![RoaringTreemap::new(); graphs.len()],
            ..Self::default()
        };
        let mut after = NarId(0);
        loop {
            let page =
                collection::manifests(db.reader().await?.exec(), after, self.last, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = last.id;
            for nar in page {
                self.sizes.push((nar.id, nar.nar_size));
                let of: Vec<usize> = (0..living.len())
                    .filter(|&cache| living[cache].contains(number(nar.id)))
                    .collect();
                if of.is_empty() && self.is_removable(nar.id, &known, now, cutoff) {
                    continue;
                }
                if !of.is_empty() && known.contains_key(&nar.id) {
                    self.referenced.push(nar.id);
                }
                let entries = self.entries(db, &nar).await?;
                for cache in of {
                    self.caches[cache].extend(entries.iter().map(|entry| entry.id));
                }
                self.all.extend(entries.iter().map(|entry| entry.id));
            }
        }
        Ok(())
    }

    /// Whether a NAR that no path has is to go.
    fn is_removable(
        &mut self,
        nar: NarId,
        known: &HashMap<NarId, i64>,
        now: i64,
        cutoff: i64,
    ) -> bool {
        let since = known.get(&nar).copied().unwrap_or_else(|| {
            self.unreferenced.push(nar);
            now
        });
        if since <= cutoff {
            self.removable.push(nar);
        }
        since <= cutoff
    }

    /// The chunks of a NAR. One whose manifest does not parse cannot be served, and needs none.
    async fn entries(&mut self, db: &Db, nar: &NarManifest) -> Result<Vec<SegmentEntry>, GcError> {
        let found = entries(db, nar).await?;
        self.damaged += u64::from(found.is_none());
        Ok(found.unwrap_or_default())
    }

    /// Marks what these NARs name, as far as they are there.
    pub(super) async fn add(&mut self, db: &Db, nars: &[NarId]) -> Result<(), GcError> {
        for nar in nars {
            let page =
                collection::manifests(db.reader().await?.exec(), NarId(nar.0 - 1), *nar, 1).await?;
            for nar in page {
                let entries = self.entries(db, &nar).await?;
                self.all.extend(entries.iter().map(|entry| entry.id));
            }
        }
        Ok(())
    }

    /// Marks what NARs name that were added since, up to `last`, which was read under the exclusive
    /// lock: so that little is left for [`Marks::catch_up`].
    pub(super) async fn approach(&mut self, db: &Db, last: NarId) -> Result<(), GcError> {
        while self.last < last {
            let page =
                collection::manifests(db.reader().await?.exec(), self.last, last, PAGE).await?;
            for nar in &page {
                let entries = self.entries(db, nar).await?;
                self.all.extend(entries.iter().map(|entry| entry.id));
            }
            self.last = page.last().map_or(last, |nar| nar.id);
        }
        Ok(())
    }

    /// Marks what NARs name that were added since. `exec` is the exclusive transaction that is to
    /// delete.
    pub(super) async fn catch_up(&mut self, mut exec: Exec<'_>) -> Result<(), GcError> {
        let last = collection::last_nar(exec.again()).await?;
        while self.last < last {
            let page = collection::manifests(exec.again(), self.last, last, PAGE).await?;
            for nar in &page {
                self.all
                    .extend(first_entries(nar).unwrap_or_default().iter().map(|entry| entry.id));
                for seq in 1..nar.segment_count {
                    let data = db::nars::segment(exec.again(), nar.id, seq).await?;
                    let segment =
                        data.and_then(|data| Segment::decode(&data).ok()).unwrap_or_default();
                    self.all.extend(segment.entries.iter().map(|entry| entry.id));
                }
            }
            self.last = page.last().map_or(last, |nar| nar.id);
        }
        Ok(())
    }

    /// Length of a NAR that was looked at.
    pub(super) fn nar_size(&self, nar: NarId) -> u64 {
        self.sizes.binary_search_by_key(&nar, |(id, _)| *id).map_or(0, |index| self.sizes[index].1)
    }

    /// The highest id that was looked at.
    pub(super) const fn last(&self) -> NarId {
        self.last
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
pub(super) async fn entries(
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
