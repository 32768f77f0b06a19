//! The paths of a cache and their references, and which of them go: about 60 bytes of memory a path
//! and 4 bytes a reference.

use std::collections::{BTreeMap, BinaryHeap, HashSet};

use snowbank_core::store_path::StorePathHash;
use snowbank_core::units::Seconds;
use snowbank_core::wire::admin::collection::GoingReason;

use super::super::GcError;
use super::super::ages::Ages;
use super::retention::RetentionRule;
use crate::db::caches::{Cache, CacheId};
use crate::db::collection::{self, PathUse};
use crate::db::nars::NarId;
use crate::db::paths::PathId;
use crate::db::{self, Db, Exec};

/// Rows read at a time.
const PAGE: u32 = 4_000;

/// Whether a path stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::gc) enum PathState {
    /// It stays by itself, or a path that stays refers to it.
    Kept,
    /// It is to go.
    Going(GoingReason),
    /// It has been removed.
    Removed,
}

/// A path.
#[derive(Debug, Clone)]
pub(in crate::gc) struct Node {
    pub(in crate::gc) hash: StorePathHash,
    pub(in crate::gc) id: PathId,
    pub(in crate::gc) nar: NarId,
    /// When it was pushed or read last.
    pub(in crate::gc) used_at: i64,
    /// Until when it is kept, where it was pushed for a time.
    pub(in crate::gc) expires_at: Option<i64>,
    pub(in crate::gc) state: PathState,
    /// Where its references end in the list of all references.
    refs_end: u32,
}

/// A cache's paths, by hash part.
#[derive(Debug)]
pub(in crate::gc) struct Graph {
    pub(in crate::gc) cache: Cache,
    pub(in crate::gc) rule: RetentionRule,
    pub(in crate::gc) nodes: Vec<Node>,
    refs: Vec<u32>,
    /// Paths with a higher id came later, and have not been read.
    pub(in crate::gc) last_read: PathId,
    /// Hash parts of the paths that are pinned.
    pub(in crate::gc) pinned: HashSet<StorePathHash>,
}

/// When a path was pushed or read last. Uses were noted first at `noted_since`, so none counts as
/// older.
pub(in crate::gc) fn used_at(path: &PathUse, noted_since: i64) -> i64 {
    path.last_used.unwrap_or(noted_since).max(path.created).max(noted_since)
}

impl Graph {
    /// Reads the paths of all caches up to `last`, which was read under the exclusive lock. All of
    /// them go as yet. `retention` is that of caches without their own.
    pub(in crate::gc) async fn load(
        db: &Db,
        caches: Vec<Cache>,
        last: PathId,
        retention: Option<Seconds>,
        ages: &Ages,
    ) -> Result<Vec<Self>, GcError> {
        let mut conn = db.reader().await?;
        let graph = |cache: Cache| Self {
            rule: RetentionRule::of(&cache, retention, ages),
            cache,
            nodes: Vec::new(),
            refs: Vec::new(),
            last_read: PathId(0),
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
                    used_at: used_at(&path, ages.since()),
                    expires_at: path.expires,
                    state: PathState::Going(GoingReason::Unused),
                    refs_end: 0,
                });
            }
        }
        for graph in graphs.values_mut() {
            graph.nodes.sort_unstable_by_key(|node| node.hash);
            graph.last_read = last;
            let pins = db::pins::kept(conn.exec(), graph.cache.id, ages.now()).await?;
            graph.pinned.extend(pins.into_iter().map(|(hash, _)| hash));
        }
        load_refs(conn.exec(), &mut graphs).await?;
        Ok(graphs.into_values().collect())
    }

    /// Takes in the references, as pairs of places in the list of nodes.
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
    pub(in crate::gc) fn find(&self, hash: &StorePathHash) -> Option<u32> {
        let index = self.nodes.binary_search_by_key(hash, |node| node.hash).ok()?;
        u32::try_from(index).ok()
    }

    pub(in crate::gc) fn node(&self, index: u32) -> &Node {
        &self.nodes[index as usize]
    }

    /// The references of a path, without itself and without paths that the cache does not have.
    pub(in crate::gc) fn refs(&self, index: u32) -> &[u32] {
        let start = index.checked_sub(1).map_or(0, |before| self.nodes[before as usize].refs_end);
        &self.refs[start as usize..self.nodes[index as usize].refs_end as usize]
    }

    pub(in crate::gc) fn indexes(&self) -> std::ops::Range<u32> {
        0..u32::try_from(self.nodes.len()).unwrap_or(u32::MAX)
    }

    /// Keeps the paths that are pinned or that the retention rule keeps, with their closures.
    pub(in crate::gc) fn apply_retention(&mut self) {
        for index in self.indexes() {
            let node = self.node(index);
            if self.pinned.contains(&node.hash) || self.rule.keeps(node.used_at, node.expires_at) {
                self.keep(index);
            }
        }
        for node in &mut self.nodes {
            if matches!(node.state, PathState::Going(_)) && node.expires_at.is_some() {
                node.state = PathState::Going(GoingReason::Expired);
            }
        }
    }

    /// Keeps a path and its closure, as far as they have not been removed.
    pub(in crate::gc) fn keep(&mut self, index: u32) {
        let mut next = vec![index];
        while let Some(index) = next.pop() {
            let node = &mut self.nodes[index as usize];
            if matches!(node.state, PathState::Going(_)) {
                node.state = PathState::Kept;
                next.extend_from_slice(self.refs(index));
            }
        }
    }

    pub(in crate::gc) fn set_state(&mut self, index: u32, state: PathState) {
        self.nodes[index as usize].state = state;
    }

    pub(in crate::gc) fn is_going(&self, index: u32) -> bool {
        matches!(self.node(index).state, PathState::Going(_))
    }

    pub(in crate::gc) fn kept(&self) -> impl Iterator<Item = (u32, &Node)> {
        (0..).zip(&self.nodes).filter(|(_, node)| node.state == PathState::Kept)
    }

    /// The paths that go, each before its references, so that every visible path has its closure at
    /// every moment.
    pub(in crate::gc) fn going_in_order(&self) -> Vec<u32> {
        let mut referrers: Vec<u32> = vec![0; self.nodes.len()];
        for index in self.indexes().filter(|index| self.is_going(*index)) {
            for &to in self.refs(index) {
                referrers[to as usize] += 1;
            }
        }
        // The paths that were pushed last come first, which is nearly the order already.
        let ready = |index: u32| (self.node(index).id, index);
        let mut heap: BinaryHeap<_> = self
            .indexes()
            .filter(|&index| self.is_going(index) && referrers[index as usize] == 0)
            .map(ready)
            .collect();
        let mut ordered = Vec::new();
        while let Some((_, index)) = heap.pop() {
            ordered.push(index);
            for &to in self.refs(index) {
                let count = &mut referrers[to as usize];
                *count -= 1;
                if *count == 0 && self.is_going(to) {
                    heap.push(ready(to));
                }
            }
        }
        ordered
    }
}

/// Reads the references of all paths.
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
mod tests {
    use super::*;
    use crate::db::caches::DomainId;
    use snowbank_core::store_path::StoreDir;
    use snowbank_core::units::Limit;

    use crate::gc::ages;

    fn hash(number: u8) -> StorePathHash {
        StorePathHash::from_bytes([number; 20])
    }

    /// Paths 0, 1, 2, … with what each refers to; path `n` was used at time `n` and has the NAR
    /// `n`.
    fn graph(refs: &[&[u32]]) -> Graph {
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
        let rule = RetentionRule::of(&cache, Some(Seconds::new(1)), &ages::tests::started(100));
        let mut graph = Graph {
            cache,
            rule,
            nodes: Vec::new(),
            refs: Vec::new(),
            last_read: PathId(0),
            pinned: HashSet::new(),
        };
        for (number, refs) in (0..).zip(refs) {
            graph.refs.extend_from_slice(refs);
            graph.nodes.push(Node {
                hash: hash(number),
                id: PathId(i64::from(number)),
                nar: NarId(i64::from(number)),
                used_at: i64::from(number),
                expires_at: None,
                state: PathState::Going(GoingReason::Unused),
                refs_end: u32::try_from(graph.refs.len()).unwrap(),
            });
        }
        graph
    }

    #[test]
    fn a_path_that_is_kept_keeps_its_closure() {
        let mut graph = graph(&[&[], &[0], &[1], &[0], &[3]]);
        graph.pinned.insert(hash(2));
        graph.apply_retention();
        let kept: Vec<u32> = graph.kept().map(|(index, _)| index).collect();
        assert_eq!(kept, [0, 1, 2]);
    }

    #[test]
    fn referrers_go_before_their_references() {
        let mut graph = graph(&[&[], &[0], &[0, 1], &[0, 2], &[]]);
        graph.keep(4);
        assert_eq!(graph.going_in_order(), [3, 2, 1, 0]);
        graph.keep(1);
        assert_eq!(graph.going_in_order(), [3, 2]);
    }
}
