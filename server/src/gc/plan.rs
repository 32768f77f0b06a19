//! What a collection will do: made by reading alone, and consumed by [`execute`](super::execute).
//!
//! A dry run prints the plan, as the report of an execution that finds everything as planned. An
//! execution looks again at everything that it removes, and keeps more than planned where something
//! is needed after all. It removes no path, NAR or chunk that is not in the plan.
//!
//! Memory: about 60 bytes a path and 4 a reference, 16 bytes a NAR, 60 bytes a pack, 16 bytes an
//! object without a row, and two bitmaps of chunk ids (those that stay and those that go), of two
//! bytes a chunk at most.

pub(super) mod graph;
pub(super) mod marks;
pub(super) mod packs;
pub(super) mod retention;

use std::collections::BTreeMap;

use roaring::RoaringTreemap;
use snowbank_core::pack::PackKey;
use snowbank_core::wire::admin::collection::{GcCache, GcReport, GoingPath};

use crate::db::caches::{DomainId, RESTORABLE_SECONDS};
use crate::db::nars::NarId;
use crate::db::packs::PackId;
use graph::{Graph, PathState};
use marks::Marks;
use packs::PackUses;

/// What goes, and what is known of the rest.
#[derive(Debug)]
pub(super) struct Plan {
    /// The paths of each cache, and which of them go.
    pub(super) graphs: Vec<Graph>,
    /// How many paths go, and the bytes of their NARs.
    pub(super) paths: u64,
    pub(super) nar_bytes: u64,
    /// The first of the paths that go, for the report.
    pub(super) listed: Vec<ListedPath>,
    pub(super) nars: NarPlan,
    pub(super) nar_sizes: NarSizes,
    /// The chunks that stay.
    pub(super) marks: Marks,
    pub(super) chunks: ChunkPlan,
    /// Of each cache, in the order of the graphs.
    pub(super) cache_bytes: Vec<CacheBytes>,
    /// The live packs, with the chunks that stay.
    pub(super) packs: PackUses,
    /// The packs in which no chunk stays.
    pub(super) empty_packs: Vec<PackId>,
    pub(super) rewrites: Rewrites,
    /// Objects that no row names.
    pub(super) unnamed: Vec<PackKey>,
    /// Bytes of chunks that no cache needs, and that stay for the grace period.
    pub(super) waiting_bytes: u64,
    /// What an operator should know.
    pub(super) notes: Vec<String>,
}

/// What becomes of the NARs that no path has.
#[derive(Debug, Default)]
pub(super) struct NarPlan {
    /// They have been without a path for the grace period, and go.
    pub(super) removable: Vec<NarId>,
    /// They were not known to be without a path, which is to be noted.
    pub(super) unreferenced: Vec<NarId>,
    /// They were known to be without a path and have one now, which is to be forgotten.
    pub(super) referenced: Vec<NarId>,
}

impl NarPlan {
    /// Leaves out of the book the NARs that have a path after all, since it was wanted again.
    pub(super) fn correct(&mut self, graphs: &[Graph]) {
        let nodes = graphs.iter().flat_map(|graph| &graph.nodes);
        let with_path: RoaringTreemap = nodes
            .filter(|node| node.state != PathState::Removed)
            .map(|node| node.nar.0.unsigned_abs())
            .collect();
        self.unreferenced.retain(|nar| !with_path.contains(nar.0.unsigned_abs()));
    }
}

/// The chunks that go: no NAR names them, and their packs are older than the grace period.
#[derive(Debug, Default)]
pub(super) struct ChunkPlan {
    pub(super) ids: RoaringTreemap,
    /// Bytes of their records.
    pub(super) bytes: u64,
}

/// Packs to rewrite, of each domain in the order of ids.
pub(super) type Rewrites = BTreeMap<DomainId, Vec<PackId>>;

/// Bytes at rest that the paths of a cache need.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct CacheBytes {
    /// Each chunk once.
    pub(super) stored: u64,
    /// Those that no other cache needs.
    pub(super) own: u64,
}

/// A path that goes, as the report lists it.
#[derive(Debug)]
pub(super) struct ListedPath {
    /// Its graph, and its place there.
    pub(super) place: (usize, u32),
    pub(super) path: GoingPath,
}

/// Lengths of NARs, by id.
#[derive(Debug, Default)]
pub(super) struct NarSizes(Vec<(NarId, u64)>);

impl NarSizes {
    /// Adds the NAR with the highest id so far.
    pub(super) fn push(&mut self, nar: NarId, bytes: u64) {
        self.0.push((nar, bytes));
    }

    /// Length of a NAR; 0 of one that was not read.
    pub(super) fn of(&self, nar: NarId) -> u64 {
        self.0.binary_search_by_key(&nar, |(id, _)| *id).map_or(0, |index| self.0[index].1)
    }
}

impl Plan {
    /// What would be done.
    pub(super) fn report(self) -> GcReport {
        let caches = cache_reports(&self.graphs, &self.cache_bytes, &self.nar_sizes);
        let (mut left, mut freed_bytes) = (self.packs, 0);
        for id in &self.empty_packs {
            freed_bytes += left.remove(*id).map_or(0, |pack| pack.bytes);
        }
        let rewritten = || self.rewrites.values().flatten().filter_map(|id| left.get(*id));
        GcReport {
            dry_run: true,
            caches,
            paths: self.paths,
            going: self.listed.into_iter().map(|listed| listed.path).collect(),
            nar_bytes: self.nar_bytes,
            nars: self.nars.removable.len() as u64,
            chunks: self.chunks.ids.len(),
            chunk_bytes: self.chunks.bytes,
            packs: self.empty_packs.len() as u64,
            freed_bytes,
            compacted_packs: rewritten().count() as u64,
            compacted_bytes: rewritten().map(packs::PackUse::dead_bytes).sum(),
            waiting_bytes: self.waiting_bytes + left.dead_bytes(),
            unnamed_objects: self.unnamed.len() as u64,
            stored_bytes: left.stored_bytes(),
            notes: self.notes,
            ..GcReport::default()
        }
    }
}

/// The number of paths that `counts` selects, and the bytes of their NARs.
pub(super) fn count_paths(
    graphs: &[Graph],
    sizes: &NarSizes,
    counts: impl Fn(&Graph, u32) -> bool,
) -> (u64, u64) {
    let (mut paths, mut bytes) = (0, 0);
    for graph in graphs {
        for index in graph.indexes().filter(|index| counts(graph, *index)) {
            paths += 1;
            bytes += sizes.of(graph.node(index).nar);
        }
    }
    (paths, bytes)
}

/// What is reported of each cache.
pub(super) fn cache_reports(
    graphs: &[Graph],
    bytes: &[CacheBytes],
    sizes: &NarSizes,
) -> Vec<GcCache> {
    let report = |(graph, bytes): (&Graph, &CacheBytes)| {
        let (paths, logical_bytes) = graph
            .kept()
            .fold((0_u64, 0), |(paths, bytes), (_, node)| (paths + 1, bytes + sizes.of(node.nar)));
        GcCache {
            name: graph.cache.name.to_string(),
            paths,
            going: graph.nodes.len() as u64 - paths,
            logical_bytes,
            stored_bytes: bytes.stored,
            own_bytes: bytes.own,
            restorable_until: graph.cache.destroyed.map(|at| at.saturating_add(RESTORABLE_SECONDS)),
        }
    };
    graphs.iter().zip(bytes).map(report).collect()
}

/// The listed paths that were removed.
pub(super) fn removed_paths(listed: Vec<ListedPath>, graphs: &[Graph]) -> Vec<GoingPath> {
    let is_removed = |listed: &ListedPath| {
        let (graph, index) = listed.place;
        graphs[graph].node(index).state == PathState::Removed
    };
    listed.into_iter().filter(is_removed).map(|listed| listed.path).collect()
}
