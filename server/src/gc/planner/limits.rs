//! Size limits: above the high-water mark the roots that were used least recently go, until the
//! low-water mark is reached.
//!
//! A root is a path to which no other path refers that its cache keeps. A path that is pinned, or
//! was used within the least age, stays with its closure. The bytes that a root frees are counted
//! exactly: they are the chunks that no other path needs. Memory is 16 bytes a chunk, and is taken
//! only where a limit is set.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use roaring::RoaringTreemap;
use snowbank_core::units::{Bytes, Limit};
use snowbank_core::wire::admin::collection::GoingReason;

use super::super::GcError;
use super::super::plan::graph::{Graph, PathState};
use super::super::plan::marks::entries;
use super::marking::Marking;
use crate::db::Db;
use crate::db::collection;
use crate::db::nars::NarId;

/// Above this part of a limit, roots go.
const HIGH_WATER: f64 = 0.95;
/// They go until this part is left.
const LOW_WATER: f64 = 0.85;
/// Rows read at a time.
const PAGE: u32 = 8_000;
const NARS: u32 = 256;

/// A part of a limit, in bytes.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of a size; the last digits say nothing"
)]
fn part(limit: u64, share: f64) -> u64 {
    (limit as f64 * share) as u64
}

/// The chunks that are marked, with their lengths at rest, and how many NARs need each.
struct Chunks {
    ids: Vec<u64>,
    lens: Vec<u32>,
    needed: Vec<u32>,
}

impl Chunks {
    async fn load(db: &Db, marked: &RoaringTreemap) -> Result<Self, GcError> {
        let mut chunks = Self { ids: Vec::new(), lens: Vec::new(), needed: Vec::new() };
        let mut after = 0;
        loop {
            let page = collection::chunk_places(db.reader().await?.exec(), after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = last.id;
            for chunk in page.iter().filter(|chunk| marked.contains(chunk.id)) {
                chunks.ids.push(chunk.id);
                chunks.lens.push(chunk.len);
            }
        }
        chunks.needed = vec![0; chunks.ids.len()];
        Ok(chunks)
    }

    /// Bytes of the chunks that the set has.
    fn bytes_of(&self, set: &RoaringTreemap) -> u64 {
        let mut set = set.iter().peekable();
        let mut bytes = 0;
        for (id, len) in self.ids.iter().zip(&self.lens) {
            while set.next_if(|next| next < id).is_some() {}
            if set.next_if_eq(id).is_some() {
                bytes += u64::from(*len);
            }
        }
        bytes
    }

    /// Counts a NAR's need of its chunks. Gives the bytes that no NAR needed before.
    fn need(&mut self, ids: &HashSet<u64>) -> u64 {
        self.count(ids, |needed| {
            *needed += 1;
            *needed == 1
        })
    }

    /// The opposite. Gives the bytes that no NAR needs any more.
    fn release(&mut self, ids: &HashSet<u64>) -> u64 {
        self.count(ids, |needed| {
            *needed = needed.saturating_sub(1);
            *needed == 0
        })
    }

    fn count(&mut self, ids: &HashSet<u64>, mut change: impl FnMut(&mut u32) -> bool) -> u64 {
        let mut bytes = 0;
        for id in ids {
            if let Ok(index) = self.ids.binary_search(id)
                && change(&mut self.needed[index])
            {
                bytes += u64::from(self.lens[index]);
            }
        }
        bytes
    }
}

/// What bounds the size of caches and server.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// The server's limit.
    pub(super) max_bytes: Option<u64>,
    /// Bytes of all packs that are live.
    pub(super) stored_bytes: u64,
    /// Paths that were used after this instant stay.
    pub(super) used_before: i64,
}

impl Bounds {
    /// Whether the server is near its limit, or above it.
    pub(super) fn is_pressed(self) -> bool {
        self.max_bytes.is_some_and(|limit| self.stored_bytes > limit / 10 * 9)
    }
}

fn limit_of(graph: &Graph) -> Option<u64> {
    match graph.cache.max_size {
        Limit::Some(size) if graph.cache.destroyed.is_none() => Some(size.bytes()),
        _ => None,
    }
}

/// Whether a limit is set at all.
pub(super) fn is_any(graphs: &[Graph], bounds: Bounds) -> bool {
    bounds.max_bytes.is_some() || graphs.iter().any(|graph| limit_of(graph).is_some())
}

/// Lets roots go until the limits hold. Gives notes for the operator, and whether a path goes that
/// would have stayed.
pub(super) async fn enforce(
    db: &Db,
    graphs: &mut [Graph],
    marking: &Marking,
    bounds: Bounds,
) -> Result<(Vec<String>, bool), GcError> {
    let mut chunks = Chunks::load(db, marking.marks.chunks()).await?;
    let (mut notes, mut changed) = (Vec::new(), false);
    for index in 0..graphs.len() {
        let Some(limit) = limit_of(&graphs[index]) else { continue };
        let stored = chunks.bytes_of(&marking.caches[index]);
        if stored <= part(limit, HIGH_WATER) {
            continue;
        }
        let excess = stored - part(limit, LOW_WATER);
        let freed = evict(
            db,
            &mut graphs[index..=index],
            marking,
            &mut chunks,
            excess,
            bounds.used_before,
            GoingReason::CacheSize,
        )
        .await?;
        changed |= freed > 0;
        if stored - freed > limit {
            let name = &graphs[index].cache.name;
            notes.push(format!(
                "the cache `{name}` holds {} and may hold {}: what is pinned or was used lately is \
                 more than that. Unpin something, or raise --max-size",
                Bytes(stored - freed),
                Bytes(limit)
            ));
        }
    }
    if let Some(limit) =
        bounds.max_bytes.filter(|limit| bounds.stored_bytes > part(*limit, HIGH_WATER))
    {
        let mut needed = RoaringTreemap::new();
        for set in kept_chunks(db, graphs, marking).await? {
            needed |= set;
        }
        let stored = chunks.bytes_of(&needed);
        let excess = stored.saturating_sub(part(limit, LOW_WATER));
        let freed = if excess == 0 {
            0
        } else {
            evict(
                db,
                graphs,
                marking,
                &mut chunks,
                excess,
                bounds.used_before,
                GoingReason::ServerSize,
            )
            .await?
        };
        changed |= freed > 0;
        if stored - freed > limit {
            notes.push(format!(
                "the server needs {} and may hold {}: what is pinned or was used lately is more \
                 than that. Unpin something, or raise `[gc] max-size`",
                Bytes(stored - freed),
                Bytes(limit)
            ));
        }
    }
    Ok((notes, changed))
}

/// The chunks that the paths of each cache need which stay now.
async fn kept_chunks(
    db: &Db,
    graphs: &[Graph],
    marking: &Marking,
) -> Result<Vec<RoaringTreemap>, GcError> {
    let mut sets = Vec::with_capacity(graphs.len());
    for graph in graphs {
        let nars: RoaringTreemap =
            graph.kept().map(|(_, node)| node.nar.0.unsigned_abs()).collect();
        let mut set = RoaringTreemap::new();
        each_nar(db, marking, &nars, |_, ids| set.extend(ids.iter().copied())).await?;
        sets.push(set);
    }
    Ok(sets)
}

/// Calls `visit` with each of these NARs and its chunks.
async fn each_nar(
    db: &Db,
    marking: &Marking,
    nars: &RoaringTreemap,
    mut visit: impl FnMut(NarId, &HashSet<u64>),
) -> Result<(), GcError> {
    let mut after = NarId(0);
    loop {
        let page =
            collection::manifests(db.reader().await?.exec(), after, marking.marks.last(), NARS)
                .await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = last.id;
        for nar in page.iter().filter(|nar| nars.contains(nar.id.0.unsigned_abs())) {
            let ids =
                entries(db, nar).await?.unwrap_or_default().iter().map(|entry| entry.id).collect();
            visit(nar.id, &ids);
        }
    }
}

/// Lets roots of `graphs` go, least recently used first, until `excess` bytes are freed or no root
/// is left that may go. Gives the bytes.
async fn evict(
    db: &Db,
    graphs: &mut [Graph],
    marking: &Marking,
    chunks: &mut Chunks,
    excess: u64,
    used_before: i64,
    reason: GoingReason,
) -> Result<u64, GcError> {
    let mut paths_of: HashMap<NarId, u32> = HashMap::new();
    for node in graphs.iter().flat_map(|graph| graph.kept().map(|(_, node)| node)) {
        *paths_of.entry(node.nar).or_default() += 1;
    }
    chunks.needed.fill(0);
    let nars: RoaringTreemap = paths_of.keys().map(|nar| nar.0.unsigned_abs()).collect();
    each_nar(db, marking, &nars, |_, ids| {
        chunks.need(ids);
    })
    .await?;

    let mut referrers: Vec<Vec<u32>> =
        graphs.iter().map(|graph| vec![0; graph.nodes.len()]).collect();
    for (graph, referrers) in graphs.iter().zip(&mut referrers) {
        for (index, _) in graph.kept() {
            for &to in graph.refs(index) {
                referrers[to as usize] += 1;
            }
        }
    }
    let mut roots = BinaryHeap::new();
    for (number, graph) in
        graphs.iter().enumerate().filter(|(_, graph)| graph.cache.destroyed.is_none())
    {
        let free = graph.kept().filter(|(index, _)| referrers[number][*index as usize] == 0);
        roots.extend(free.map(|(index, node)| Reverse((node.used_at, number, index))));
    }
    let mut freed = 0;
    while freed < excess
        && let Some(Reverse((used_at, number, index))) = roots.pop()
    {
        let graph = &mut graphs[number];
        let node = graph.node(index);
        let (nar, may_go) =
            (node.nar, used_at <= used_before && !graph.pinned.contains(&node.hash));
        if !may_go {
            continue;
        }
        graph.set_state(index, PathState::Going(reason));
        for &to in graph.refs(index) {
            let count = &mut referrers[number][to as usize];
            *count -= 1;
            if *count == 0 && graph.node(to).state == PathState::Kept {
                roots.push(Reverse((graph.node(to).used_at, number, to)));
            }
        }
        let paths = paths_of.entry(nar).or_default();
        *paths = paths.saturating_sub(1);
        if *paths == 0 {
            let page =
                collection::manifests(db.reader().await?.exec(), NarId(nar.0 - 1), nar, 1).await?;
            for nar in &page {
                let ids = entries(db, nar)
                    .await?
                    .unwrap_or_default()
                    .iter()
                    .map(|entry| entry.id)
                    .collect();
                freed += chunks.release(&ids);
            }
        }
    }
    Ok(freed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_freed_with_the_last_nar_that_needs_it() {
        let mut chunks = Chunks { ids: vec![3, 5, 9], lens: vec![10, 20, 40], needed: vec![0; 3] };
        let (one, two) = (HashSet::from([3, 5]), HashSet::from([5, 9, 77]));
        assert_eq!(chunks.need(&one), 30);
        assert_eq!(chunks.need(&two), 40);
        assert_eq!(chunks.release(&one), 10);
        assert_eq!(chunks.release(&two), 60);
        assert_eq!(chunks.bytes_of(&[3, 4, 9].into_iter().collect()), 50);
    }
}
