//! Marking: reads every manifest, and finds the chunks that they name and the NARs that go.
//!
//! The manifests up to the last settled NAR are read without a lock. The chunks of a NAR are marked
//! unless it goes: then no path has had it for the grace period, nor
//! is it a log, or was uploaded a day ago or less. A manifest that does not parse
//! cannot be served, and needs no chunks.

use std::collections::HashMap;

use roaring::RoaringTreemap;
use snowbank_core::manifest::SegmentEntry;

use super::super::GcError;
use super::super::cutoffs::Cutoffs;
use super::super::plan::graph::Graph;
use super::super::plan::marks::{Marks, entries};
use super::super::plan::{NarPlan, NarSizes};
use crate::db::collection::{self, NarManifest};
use crate::db::nars::NarId;
use crate::db::{self, Db};

/// Rows read at a time.
const PAGE: u32 = 256;

/// What all manifests together say.
#[derive(Debug)]
pub(super) struct Marking {
    pub(super) marks: Marks,
    /// The chunks that the paths of each cache need which stay, in the order of the graphs.
    pub(super) caches: Vec<RoaringTreemap>,
    pub(super) nars: NarPlan,
    pub(super) sizes: NarSizes,
    /// NARs whose manifest does not parse.
    pub(super) damaged: u64,
}

fn number(nar: NarId) -> u64 {
    nar.0.unsigned_abs()
}

impl Marking {
    /// Reads the manifests up to `last`, which was read under the exclusive lock. `graphs` say
    /// which paths stay.
    pub(super) async fn read(
        db: &Db,
        last: NarId,
        graphs: &[Graph],
        cutoffs: &Cutoffs,
    ) -> Result<Self, GcError> {
        let needed: Vec<RoaringTreemap> = graphs
            .iter()
            .map(|graph| graph.kept().map(|(_, node)| number(node.nar)).collect())
            .collect();
        let known = collection::unreferenced(db.reader().await?.exec()).await?;
        let mut others =
            db::uploads::nars(db.reader().await?.exec(), cutoffs.uploaded_after()).await?;
        others.extend(db::cache_files::nars(db.reader().await?.exec()).await?);
        let mut marking = Self {
            marks: Marks::up_to(last),
            caches: vec![RoaringTreemap::new(); graphs.len()],
            nars: NarPlan::default(),
            sizes: NarSizes::default(),
            damaged: 0,
        };
        let mut after = NarId(0);
        loop {
            let page = collection::manifests(db.reader().await?.exec(), after, last, PAGE).await?;
            let Some(end) = page.last() else { return Ok(marking) };
            after = end.id;
            for nar in page {
                marking.sizes.push(nar.id, nar.nar_size);
                let needing: Vec<usize> = (0..needed.len())
                    .filter(|&cache| needed[cache].contains(number(nar.id)))
                    .collect();
                let is_needed = !needing.is_empty() || others.contains(&nar.id);
                if !is_needed && marking.is_removable(nar.id, &known, cutoffs) {
                    continue;
                }
                if is_needed && known.contains_key(&nar.id) {
                    marking.nars.referenced.push(nar.id);
                }
                let entries = marking.entries(db, &nar).await?;
                for cache in needing {
                    marking.caches[cache].extend(entries.iter().map(|entry| entry.id));
                }
                marking.marks.extend(&entries);
            }
        }
    }

    /// Whether a NAR without a path goes now. One that was not known to be without a path is noted.
    fn is_removable(&mut self, nar: NarId, known: &HashMap<NarId, i64>, cutoffs: &Cutoffs) -> bool {
        let unneeded_since = known.get(&nar).copied().unwrap_or_else(|| {
            self.nars.unreferenced.push(nar);
            cutoffs.now()
        });
        let is_removable = unneeded_since <= cutoffs.unneeded_before();
        if is_removable {
            self.nars.removable.push(nar);
        }
        is_removable
    }

    async fn entries(&mut self, db: &Db, nar: &NarManifest) -> Result<Vec<SegmentEntry>, GcError> {
        let found = entries(db, nar).await?;
        self.damaged += u64::from(found.is_none());
        Ok(found.unwrap_or_default())
    }
}
