//! The order in which paths are committed: references before referrers, many at a time.
//!
//! Paths are numbered in an order in which references come first. Invariants:
//!
//! - A path is in a batch only when each of its references is visible in the cache or stands before
//!   it in the same batch. So batches under way at the same time never depend on each other.
//! - A path fails when one of its references fails. Failure spreads in no other way.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};

/// Bounds on one batch; one path is always let through.
#[derive(Debug, Clone, Copy)]
pub(super) struct BatchLimits {
    pub(super) paths: usize,
    /// Bytes of the request.
    pub(super) request_bytes: usize,
    /// Bytes of NAR that the server decodes for it.
    pub(super) nar_bytes: u64,
}

/// The share of a path in a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct BatchCost {
    pub(super) request_bytes: usize,
    pub(super) nar_bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Its chunks are not all stored yet.
    Pending,
    /// It may be committed as soon as its references are visible.
    Ready(BatchCost),
    /// In a batch.
    Committing(BatchCost),
    /// In the cache.
    Visible,
    /// Given up.
    Failed,
}

#[derive(Debug)]
struct Node {
    state: State,
    /// References that are not visible yet.
    unmet: u32,
    referrers: Vec<u32>,
}

/// The state of every path of a push.
#[derive(Debug)]
pub(super) struct Schedule {
    nodes: Vec<Node>,
    /// Ready paths without unmet references.
    free: BTreeSet<u32>,
}

impl Schedule {
    /// `references` has, for each path in order, the numbers of its references. They come before
    /// it.
    pub(super) fn new<'a>(references: impl IntoIterator<Item = &'a [u32]>) -> Self {
        let mut nodes: Vec<Node> = Vec::new();
        for (number, references) in (0..).zip(references) {
            for &reference in references {
                nodes[reference as usize].referrers.push(number);
            }
            let unmet = u32::try_from(references.len()).unwrap_or(u32::MAX);
            nodes.push(Node { state: State::Pending, unmet, referrers: Vec::new() });
        }
        Self { nodes, free: BTreeSet::new() }
    }

    /// All chunks of the path are stored.
    pub(super) fn mark_ready(&mut self, path: u32, cost: BatchCost) {
        let node = &mut self.nodes[path as usize];
        if node.state == State::Pending {
            node.state = State::Ready(cost);
            if node.unmet == 0 {
                self.free.insert(path);
            }
        }
    }

    /// The path is in a batch and has to be in another one. `false` where it is in none.
    pub(super) fn requeue(&mut self, path: u32) -> bool {
        let State::Committing(cost) = self.nodes[path as usize].state else { return false };
        self.mark_pending(path);
        self.mark_ready(path, cost);
        true
    }

    /// Chunks of the path have to be sent again.
    pub(super) fn mark_pending(&mut self, path: u32) {
        self.free.remove(&path);
        self.nodes[path as usize].state = State::Pending;
    }

    /// The cache has the path.
    pub(super) fn mark_visible(&mut self, path: u32) {
        if std::mem::replace(&mut self.nodes[path as usize].state, State::Visible) == State::Visible
        {
            return;
        }
        self.free.remove(&path);
        for referrer in std::mem::take(&mut self.nodes[path as usize].referrers) {
            let node = &mut self.nodes[referrer as usize];
            node.unmet -= 1;
            if node.unmet == 0 && matches!(node.state, State::Ready(_)) {
                self.free.insert(referrer);
            }
        }
    }

    /// The path is given up. Gives all others that are given up with it, each with the reference
    /// that is the reason.
    pub(super) fn fail(&mut self, path: u32) -> Vec<(u32, u32)> {
        let mut failed = Vec::new();
        let mut stack = vec![path];
        self.nodes[path as usize].state = State::Failed;
        self.free.remove(&path);
        while let Some(reference) = stack.pop() {
            for referrer in std::mem::take(&mut self.nodes[reference as usize].referrers) {
                let node = &mut self.nodes[referrer as usize];
                if !matches!(node.state, State::Failed | State::Visible) {
                    node.state = State::Failed;
                    self.free.remove(&referrer);
                    failed.push((referrer, reference));
                    stack.push(referrer);
                }
            }
        }
        failed
    }

    /// Whether all references of the path are visible.
    pub(super) fn references_are_visible(&self, path: u32) -> bool {
        self.nodes[path as usize].unmet == 0
    }

    /// The next batch, references first; none when nothing can be committed now.
    pub(super) fn next_batch(&mut self, limits: BatchLimits) -> Option<Vec<u32>> {
        let mut batch = Vec::new();
        let mut total = BatchCost::default();
        let mut met_in_batch: HashMap<u32, u32> = HashMap::new();
        let mut candidates: BinaryHeap<Reverse<u32>> =
            self.free.iter().copied().map(Reverse).collect();
        while let Some(Reverse(path)) = candidates.pop() {
            let State::Ready(cost) = self.nodes[path as usize].state else { continue };
            let request_bytes = total.request_bytes + cost.request_bytes;
            let nar_bytes = total.nar_bytes + cost.nar_bytes;
            let fits = request_bytes <= limits.request_bytes && nar_bytes <= limits.nar_bytes;
            if !batch.is_empty() && !fits {
                break;
            }
            total = BatchCost { request_bytes, nar_bytes };
            batch.push(path);
            self.free.remove(&path);
            self.nodes[path as usize].state = State::Committing(cost);
            if batch.len() >= limits.paths {
                break;
            }
            for &referrer in &self.nodes[path as usize].referrers {
                let met = met_in_batch.entry(referrer).or_default();
                *met += 1;
                let node = &self.nodes[referrer as usize];
                if *met == node.unmet && matches!(node.state, State::Ready(_)) {
                    candidates.push(Reverse(referrer));
                }
            }
        }
        (!batch.is_empty()).then_some(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDE: BatchLimits =
        BatchLimits { paths: 1000, request_bytes: 1 << 20, nar_bytes: 1 << 30 };
    const COST: BatchCost = BatchCost { request_bytes: 10, nar_bytes: 100 };

    fn schedule(references: &[&[u32]]) -> Schedule {
        Schedule::new(references.iter().copied())
    }

    fn all_ready(schedule: &mut Schedule) {
        (0..schedule.nodes.len())
            .for_each(|path| schedule.mark_ready(u32::try_from(path).unwrap(), COST));
    }

    #[test]
    fn a_chain_goes_in_one_batch_references_first() {
        let mut schedule = schedule(&[&[], &[0], &[0, 1], &[2]]);
        all_ready(&mut schedule);
        assert_eq!(schedule.next_batch(WIDE), Some(vec![0, 1, 2, 3]));
        assert_eq!(schedule.next_batch(WIDE), None);
    }

    #[test]
    fn a_path_waits_for_a_reference_that_is_not_ready_or_in_another_batch() {
        let mut schedule = schedule(&[&[], &[0], &[]]);
        schedule.mark_ready(1, COST);
        assert_eq!(schedule.next_batch(WIDE), None);
        schedule.mark_ready(0, COST);
        let one = BatchLimits { paths: 1, ..WIDE };
        assert_eq!(schedule.next_batch(one), Some(vec![0]));
        schedule.mark_ready(2, COST);
        assert_eq!(
            schedule.next_batch(WIDE),
            Some(vec![2]),
            "what is independent goes at the same time"
        );
        assert_eq!(schedule.next_batch(WIDE), None);
        schedule.mark_visible(0);
        assert_eq!(schedule.next_batch(WIDE), Some(vec![1]));
    }

    #[test]
    fn batches_keep_their_limits_but_one_path_always_goes() {
        let mut schedule = schedule(&[&[], &[], &[], &[]]);
        all_ready(&mut schedule);
        let two = BatchLimits { request_bytes: 20, ..WIDE };
        assert_eq!(schedule.next_batch(two), Some(vec![0, 1]));
        let none = BatchLimits { nar_bytes: 1, ..WIDE };
        assert_eq!(schedule.next_batch(none), Some(vec![2]));
        assert_eq!(schedule.next_batch(WIDE), Some(vec![3]));
    }

    #[test]
    fn failure_spreads_to_referrers_and_to_no_others() {
        let mut schedule = schedule(&[&[], &[], &[0], &[1], &[2, 3]]);
        all_ready(&mut schedule);
        assert_eq!(schedule.fail(0), [(2, 0), (4, 2)]);
        assert_eq!(schedule.next_batch(WIDE), Some(vec![1, 3]));
        assert!(schedule.fail(1).iter().all(|(path, _)| *path == 3));
    }

    #[test]
    fn a_path_that_is_committed_again_waits_for_its_references_again() {
        let mut schedule = schedule(&[&[], &[0]]);
        all_ready(&mut schedule);
        assert_eq!(schedule.next_batch(WIDE), Some(vec![0, 1]));
        // Chunks of the first are gone, so that the second was refused for its reference.
        schedule.mark_pending(0);
        assert!(schedule.requeue(1) && !schedule.requeue(1));
        assert!(!schedule.references_are_visible(1));
        assert_eq!(schedule.next_batch(WIDE), None);
        schedule.mark_ready(0, COST);
        assert_eq!(schedule.next_batch(WIDE), Some(vec![0, 1]));
        schedule.mark_visible(0);
        assert!(schedule.references_are_visible(1));
    }

    #[test]
    fn random_graphs_are_committed_whole_and_in_order() {
        let mut state = 1_u64;
        let mut random = move |below: u32| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            u32::try_from((state >> 33) % u64::from(below)).unwrap()
        };
        for _ in 0..50 {
            let references: Vec<Vec<u32>> = (0..40)
                .map(|path| {
                    let mut references: Vec<u32> =
                        (0..random(4)).filter(|_| path > 0).map(|_| random(path.max(1))).collect();
                    references.sort_unstable();
                    references.dedup();
                    references
                })
                .collect();
            let mut schedule = Schedule::new(references.iter().map(Vec::as_slice));
            let mut unready: Vec<u32> = (0..40).collect();
            let mut visible = [false; 40];
            let mut flying: Vec<Vec<u32>> = Vec::new();
            while visible.contains(&false) {
                match random(3) {
                    0 if !unready.is_empty() => {
                        let path = unready
                            .swap_remove(random(u32::try_from(unready.len()).unwrap()) as usize);
                        schedule.mark_ready(path, COST);
                    }
                    1 => {
                        let limits = BatchLimits { paths: 1 + random(6) as usize, ..WIDE };
                        let batch = schedule.next_batch(limits).unwrap_or_default();
                        for (place, path) in batch.iter().enumerate() {
                            let met =
                                |one: &u32| visible[*one as usize] || batch[..place].contains(one);
                            assert!(references[*path as usize].iter().all(met));
                        }
                        flying.push(batch);
                    }
                    _ => {
                        for path in flying.pop().unwrap_or_default() {
                            schedule.mark_visible(path);
                            visible[path as usize] = true;
                        }
                    }
                }
            }
        }
    }
}
