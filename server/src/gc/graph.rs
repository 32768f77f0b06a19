//! The paths of a cache and what they refer to, in memory: about 60 bytes a path and 4 bytes a
//! reference.

use std::collections::{BTreeMap, BinaryHeap, HashSet};

use snowbank_core::store_path::StorePathHash;
use snowbank_core::wire::admin::collection::GoingReason;

use super::GcError;
use crate::db::caches::{Cache, CacheId};
use crate::db::collection::{self, PathUse};
use crate::db::nars::NarId;
use crate::db::paths::PathId;
use crate::db::{self, Db, Exec};

/// Rows read at a time.
const PAGE: u32 = 4_000;

/// Whether a path stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is kept by itself or by what refers to it.
    Stays,
    /// It goes.
    Goes(GoingReason),
    /// It has gone, or was gone already.
    Gone,
}

/// A path.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) hash: StorePathHash,
    pub(super) id: PathId,
    pub(super) nar: NarId,
    /// When it was pushed or read last.
    pub(super) used: i64,
    /// Until when it is kept, where it was pushed for a time.
    pub(super) expires: Option<i64>,
    pub(super) fate: Fate,
    /// Where its references end in the list of all.
    refs_end: u32,
}

/// A cache's paths, by hash part.
#[derive(Debug)]
pub(super) struct Graph {
    pub(super) cache: Cache,
    pub(super) nodes: Vec<Node>,
    refs: Vec<u32>,
    /// Paths with a higher id came later.
    pub(super) seen: PathId,
    /// Names by which paths are pinned.
    pub(super) pinned: HashSet<StorePathHash>,
}

/// When a path was pushed or read last, as far as was noted.
pub(super) fn used_at(path: &PathUse, since: i64) -> i64 {
    path.last_used.unwrap_or(since).max(path.created).max(since)
}

impl Graph {
    /// Reads the paths of all caches up to `last`, which was read under the exclusive lock, and
    /// gives the graphs of these. `since` is when uses were noted first, `now` decides which pins
    /// count.
    pub(super) async fn load(
        db: &Db,
        caches: Vec<Cache>,
        last: PathId,
        since: i64,
        now: i64,
    ) -> Result<Vec<Self>, GcError> {
        let mut conn = db.reader().await?;
        let graph = |cache| Self {
            cache,
            nodes: Vec::new(),
            refs: Vec::new(),
            seen: PathId(0),
            pinned: HashSet::new(),
        };
        let mut graphs: BTreeMap<CacheId, Self> =
            caches.into_iter().map(|cache| (cache.id, graph(cache))).collect();
        let mut after = PathId(0);
        while after < last {
            let page = collection::path_uses(conn.exec(), after, PAGE).await?;
            after = page.last().map_or(last, |path| path.id);
            for path in page.into_iter().filter(|path| path.id <= last) {
                let Some(graph) = graphs.get_mut(&path.cache) else { continue };
                graph.nodes.push(Node {
                    hash: path.hash,
                    id: path.id,
                    nar: path.nar,
                    used: used_at(&path, since),
                    expires: path.expires,
                    fate: Fate::Goes(GoingReason::Unused),
                    refs_end: 0,
                });
            }
        }
        for graph in graphs.values_mut() {
            graph.nodes.sort_unstable_by_key(|node| node.hash);
            graph.seen = last;
            let pins = db::pins::kept(conn.exec(), graph.cache.id, now).await?;
            graph.pinned.extend(pins.into_iter().map(|(hash, _)| hash));
        }
        load_refs(conn.exec(), &mut graphs).await?;
        Ok(graphs.into_values().collect())
    }

    /// Takes in what the paths refer to, as pairs of places in the list of nodes.
    fn set_refs(&mut self, mut pairs: Vec<(u32, u32)>) {
        pairs.sort_unstable();
        pairs.dedup();
        let mut pairs = pairs.into_iter().peekable();
        for (index, node) in (0..).zip(&mut self.nodes) {
            while let Some((_, to)) = pairs.next_if(|(from, _)| *from == index) {
                self.refs.push(to);
            }
            node.refs_end = u32::try_from(self.refs.len()).unwrap_or(u32::MAX);
        }
    }

    /// Where the path with this hash part is.
    pub(super) fn find(&self, hash: &StorePathHash) -> Option<u32> {
        let index = self.nodes.binary_search_by_key(hash, |node| node.hash).ok()?;
        u32::try_from(index).ok()
    }

    pub(super) fn node(&self, index: u32) -> &Node {
        &self.nodes[index as usize]
    }

    /// What the path refers to, less itself and what the cache does not have.
    pub(super) fn refs(&self, index: u32) -> &[u32] {
        let start = index.checked_sub(1).map_or(0, |before| self.nodes[before as usize].refs_end);
        &self.refs[start as usize..self.nodes[index as usize].refs_end as usize]
    }

    pub(super) fn indexes(&self) -> std::ops::Range<u32> {
        0..u32::try_from(self.nodes.len()).unwrap_or(u32::MAX)
    }

    /// Keeps the paths that `alive` says are kept by themselves, and all that these refer to.
    pub(super) fn settle(&mut self, alive: impl Fn(&Node) -> bool) {
        for index in self.indexes() {
            if alive(self.node(index)) {
                self.keep(index);
            }
        }
        for node in &mut self.nodes {
            if matches!(node.fate, Fate::Goes(_)) && node.expires.is_some() {
                node.fate = Fate::Goes(GoingReason::Expired);
            }
        }
    }

    /// Keeps a path and all that it refers to, as far as it has not gone.
    pub(super) fn keep(&mut self, index: u32) {
        let mut next = vec![index];
        while let Some(index) = next.pop() {
            let node = &mut self.nodes[index as usize];
            if matches!(node.fate, Fate::Goes(_)) {
                node.fate = Fate::Stays;
                next.extend_from_slice(self.refs(index));
            }
        }
    }

    pub(super) fn set_fate(&mut self, index: u32, fate: Fate) {
        self.nodes[index as usize].fate = fate;
    }

    pub(super) fn staying(&self) -> impl Iterator<Item = (u32, &Node)> {
        (0..).zip(&self.nodes).filter(|(_, node)| node.fate == Fate::Stays)
    }

    /// The paths that go, each before all that it refers to: whatever is visible has its closure at
    /// every moment.
    pub(super) fn going_in_order(&self) -> Vec<u32> {
        let goes = |index: u32| matches!(self.node(index).fate, Fate::Goes(_));
        let mut referrers: Vec<u32> = vec![0; self.nodes.len()];
        for index in self.indexes().filter(|index| goes(*index)) {
            for &to in self.refs(index) {
                referrers[to as usize] += 1;
            }
        }
        // Those that were pushed last come first, which is nearly the order already.
        let ready = |index: u32| (self.node(index).id, index);
        let mut heap: BinaryHeap<_> = self
            .indexes()
            .filter(|&index| goes(index) && referrers[index as usize] == 0)
            .map(ready)
            .collect();
        let mut ordered = Vec::new();
        while let Some((_, index)) = heap.pop() {
            ordered.push(index);
            for &to in self.refs(index) {
                let count = &mut referrers[to as usize];
                *count -= 1;
                if *count == 0 && goes(to) {
                    heap.push(ready(to));
                }
            }
        }
        ordered
    }
}

/// Reads what the paths refer to.
async fn load_refs(
    mut exec: Exec<'_>,
    graphs: &mut BTreeMap<CacheId, Graph>,
) -> Result<(), GcError> {
    // Pairs first, since rows come by id and nodes are sorted by hash.
    let mut pairs: BTreeMap<CacheId, Vec<(u32, u32)>> = BTreeMap::new();
    let mut after = PathId(0);
    loop {
        let page = db::edges::since(exec.again(), after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.id;
        for path in page {
            let Some(graph) = graphs.get(&path.cache) else { continue };
            let Some(from) = graph.find(&path.hash) else { continue };
            let refs =
                path.references.iter().filter_map(|hash| graph.find(hash)).filter(|to| *to != from);
            pairs.entry(path.cache).or_default().extend(refs.map(|to| (from, to)));
        }
    }
    for (cache, graph) in graphs {
        graph.set_refs(pairs.remove(cache).unwrap_or_default());
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::db::caches::DomainId;
    use snowbank_core::store_path::StoreDir;
    use snowbank_core::units::Limit;

    fn hash(number: u8) -> StorePathHash {
        StorePathHash::from_bytes([number; 20])
    }

    /// Paths 0, 1, 2, … with what each refers to; path `n` was used at time `n` and has the NAR
    /// `n`.
    pub(in super::super) fn graph(refs: &[&[u32]]) -> Graph {
        let cache = Cache {
            id: CacheId(1),
            name: "test".parse().unwrap(),
            domain: DomainId::SHARED,
            public: true,
            store_dir: StoreDir::default(),
            priority: 41,
            want_mass_query: true,
            upstream_keys: Vec::new(),
            compression_level: 3,
            created: 0,
            description: String::new(),
            retention: Limit::Default,
            max_size: Limit::Default,
            destroyed: None,
        };
        let mut graph = Graph {
            cache,
            nodes: Vec::new(),
            refs: Vec::new(),
            seen: PathId(0),
            pinned: HashSet::new(),
        };
        for (number, refs) in (0..).zip(refs) {
            graph.refs.extend_from_slice(refs);
            graph.nodes.push(Node {
                hash: hash(number),
                id: PathId(i64::from(number)),
                nar: NarId(i64::from(number)),
                used: i64::from(number),
                expires: None,
                fate: Fate::Goes(GoingReason::Unused),
                refs_end: u32::try_from(graph.refs.len()).unwrap(),
            });
        }
        graph
    }

    #[test]
    fn what_a_kept_path_needs_is_kept_however_indirectly() {
        let mut graph = graph(&[&[], &[0], &[1], &[0], &[3]]);
        graph.settle(|node| node.id == PathId(2));
        let stays: Vec<u32> = graph.staying().map(|(index, _)| index).collect();
        assert_eq!(stays, [0, 1, 2]);
    }

    #[test]
    fn referrers_go_before_what_they_refer_to() {
        let mut graph = graph(&[&[], &[0], &[0, 1], &[0, 2], &[]]);
        graph.keep(4);
        assert_eq!(graph.going_in_order(), [3, 2, 1, 0]);
        graph.keep(1);
        assert_eq!(graph.going_in_order(), [3, 2]);
    }
}
