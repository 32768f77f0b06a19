//! The stage that reads paths.
//!
//! Owns the order in which paths are opened, the room for their manifests, and the readers. At most
//! `jobs` paths are read at a time, and at most [`MAX_LARGE_PATHS`] large ones. A path is opened
//! only while the manifests of open paths weigh less than [`PipelineLimits::open_weight`], or when
//! no other path is open. It stays open until it has an outcome.
//!
//! Readers alone wait for memory. Each has a few times the largest chunk besides the budget. The
//! chunks that they cut, and the outcome of a path, are left to the router.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use snowbank_core::store_path::StorePath;
use tokio::runtime::Handle;

use super::super::budget::Budget;
use super::super::bundle_builders::MAX_LARGE_PATHS;
use super::super::plan::{Plan, PlannedPath};
use super::super::reader::{ReadJob, ReadOutcome, Reader};
use super::super::target::Target;
use super::Event;
use super::limits::PipelineLimits;
use super::path_table::PathTable;
use super::tasks::Tasks;
use crate::store::Store;

/// The paths that wait to be read, are open, or are being read.
pub(super) struct ReadStage {
    reader: Arc<Reader>,
    max_running: usize,
    max_open_weight: u64,
    /// The next path that was never read.
    next: u32,
    /// Paths to be read again. They are open.
    again: VecDeque<u32>,
    /// The weight of each open path, and of all together.
    open: HashMap<u32, u64>,
    open_weight: u64,
    running: usize,
    /// Of these, readers of large paths.
    running_large: usize,
}

/// The bytes that a path's manifest may have, about: a name for each chunk, and a value for each
/// slot, of which there are rarely more than one in some kilobytes.
const fn weight(nar_size: u64) -> u64 {
    (2 << 10) + nar_size / 512
}

impl ReadStage {
    pub(super) fn new(target: &Target, limits: &PipelineLimits, jobs: usize) -> Self {
        let reader = Reader {
            store_dir: target.store_dir.clone(),
            cut: target.cache.cut,
            budget: Budget::new(limits.budget_bytes),
            stop: Arc::default(),
        };
        Self {
            reader: Arc::new(reader),
            max_running: jobs,
            max_open_weight: limits.open_weight,
            next: 0,
            again: VecDeque::new(),
            open: HashMap::new(),
            open_weight: 0,
            running: 0,
            running_large: 0,
        }
    }

    /// Opens paths in order as long as there is room, and reads them.
    pub(super) fn start(&mut self, plan: &Plan, paths: &mut PathTable, tasks: &mut Tasks) {
        while self.running < self.max_running {
            let Some(path) = self.next_path(plan, paths) else { return };
            let planned = &plan.paths[path as usize];
            self.running += 1;
            self.running_large += usize::from(planned.is_large());
            paths.start_reading(path);
            let job = ReadJob {
                path,
                root: planned.root.clone(),
                nar_hash: planned.info.nar_hash,
                nar_size: planned.info.nar_size,
                // When this path is the last, and readers are left over, so are cores.
                is_core_idle: self.has_started_all(plan) && self.running < self.max_running,
            };
            let reader = Arc::clone(&self.reader);
            tasks.spawn_blocking(move |events| {
                let outcome = reader.read(&job, |chunk| drop(events.send(Event::Chunk(chunk))));
                Event::Read { path, outcome }
            });
        }
    }

    /// Asks Nix about a path that could not be read whole. While Nix still knows the path, its
    /// files are damaged. Otherwise it was collected.
    ///
    /// The path's reader counts as running until then.
    pub(super) fn examine(
        path: u32,
        outcome: ReadOutcome,
        store: &Store,
        store_path: &StorePath,
        tasks: &mut Tasks,
    ) {
        let (store, store_path) = (store.clone(), store_path.clone());
        // The question's future stays on its thread.
        tasks.spawn_blocking(move |_events| {
            let answer = Handle::current().block_on(store.is_still_valid(&store_path));
            // Where Nix cannot be asked, the first outcome counts.
            let is_collected = matches!(answer, Ok(false));
            let outcome = if is_collected { ReadOutcome::Collected } else { outcome };
            Event::Examined { path, outcome }
        });
    }

    /// The reader of a path has ended.
    pub(super) fn finish(&mut self, planned: &PlannedPath) {
        self.running -= 1;
        self.running_large -= usize::from(planned.is_large());
    }

    /// Reads an open path once more.
    pub(super) fn read_again(&mut self, path: u32) {
        self.again.push_back(path);
    }

    /// Makes room: the path has an outcome.
    pub(super) fn close(&mut self, path: u32) {
        self.open_weight -= self.open.remove(&path).unwrap_or(0);
    }

    /// Ends all readers soon, also those that wait for memory.
    pub(super) fn stop(&self) {
        self.reader.budget.close();
        self.reader.stop.store(true, Ordering::Relaxed);
    }

    /// Readers under way.
    pub(super) const fn running(&self) -> usize {
        self.running
    }

    /// Whether no path is left that has to be read.
    pub(super) fn has_started_all(&self, plan: &Plan) -> bool {
        self.next as usize >= plan.paths.len() && self.again.is_empty()
    }

    fn next_path(&mut self, plan: &Plan, paths: &PathTable) -> Option<u32> {
        while let Some(path) = self.again.pop_front() {
            if paths.is_waiting(path) {
                return Some(path);
            }
        }
        loop {
            let path = self.next;
            let planned = plan.paths.get(path as usize)?;
            // The others failed with a reference.
            let is_waiting = paths.is_waiting(path);
            if is_waiting && !self.open(path, planned) {
                return None;
            }
            self.next += 1;
            if is_waiting {
                return Some(path);
            }
        }
    }

    /// Opens a path, if there is room for it.
    fn open(&mut self, path: u32, planned: &PlannedPath) -> bool {
        let weight = weight(planned.info.nar_size);
        let is_too_heavy = self.open_weight > 0 && self.open_weight + weight > self.max_open_weight;
        if is_too_heavy || (planned.is_large() && self.running_large >= MAX_LARGE_PATHS) {
            return false;
        }
        self.open.insert(path, weight);
        self.open_weight += weight;
        true
    }

    #[cfg(test)]
    pub(super) fn assert_bounded(&self) {
        assert!(self.running <= self.max_running && self.running_large <= MAX_LARGE_PATHS);
        assert!(self.open.len() <= 1 || self.open_weight <= self.max_open_weight);
        assert_eq!(self.open.values().sum::<u64>(), self.open_weight);
    }

    #[cfg(test)]
    pub(super) fn budget(&self) -> Budget {
        self.reader.budget.clone()
    }
}
