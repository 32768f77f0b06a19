//! Which paths of the store were seen, and which wait until Nix has registered them. No I/O.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use snowbank_core::store_path::{HASH_BYTES, StorePath};

use super::source::{StoreEvent, store_path};

/// Time from the last change of a path to the first question about it, so that the paths of a build
/// are asked about together.
const QUIET: Duration = Duration::from_millis(400);
/// Longest time between two questions about a path.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// Questions about a path that nobody holds a lock on. Later changes of it begin anew.
const MAX_QUESTIONS: u32 = 8;

/// The names in the store's folder.
#[derive(Debug, Default)]
pub(super) struct Tracker {
    seen: HashSet<Name>,
    pending: HashMap<StorePath, Pending>,
}

/// A name in the store, in few bytes. Nix computes the hash in it from all that the path is, its
/// name included, so only the lock of a path has the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Name {
    hash: [u8; HASH_BYTES],
    has_lock_suffix: bool,
}

#[derive(Debug, Clone, Copy)]
struct Pending {
    ask_at: Instant,
    questions: u32,
}

/// The answer to a question about a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// Nix has registered it.
    Registered,
    /// Nix has not, and somebody works on it.
    Locked,
    /// Nix has not.
    Unregistered,
    /// It is not there.
    Gone,
    /// Nobody could be asked.
    Unknown,
}

impl Tracker {
    /// Counts a name as seen: it was there before the watch.
    pub(super) fn add_seen(&mut self, path: &StorePath) {
        self.seen.insert(name(path));
    }

    /// Has a path asked about, unless it is seen.
    pub(super) fn touch(&mut self, path: &StorePath, now: Instant) {
        if is_candidate(path) && !self.seen.contains(&name(path)) {
            let pending = Pending { ask_at: now + QUIET, questions: 0 };
            self.pending.insert(path.clone(), pending);
        }
    }

    /// Takes an event in.
    pub(super) fn take(&mut self, event: &StoreEvent, now: Instant) {
        match event {
            StoreEvent::Appeared(path) => {
                self.seen.remove(&name(path));
                self.touch(path, now);
            }
            StoreEvent::Touched(path) => self.touch(path, now),
            StoreEvent::Vanished(path) => {
                self.forget(path);
                if let Some(path) = locked_path(path) {
                    self.touch(&path, now);
                }
            }
            StoreEvent::Lost => {}
        }
    }

    fn forget(&mut self, path: &StorePath) {
        self.seen.remove(&name(path));
        self.pending.remove(path);
    }

    /// Compares with all names that are in the folder now: those that were not seen are pending,
    /// and those that are gone are forgotten. A seen path that was removed and made again while
    /// events were lost counts as seen.
    pub(super) fn compare(&mut self, listing: impl Iterator<Item = StorePath>, now: Instant) {
        let mut names = HashSet::new();
        for path in listing {
            names.insert(name(&path));
            if !self.pending.contains_key(&path) {
                self.touch(&path, now);
            }
        }
        self.seen.retain(|name| names.contains(name));
        self.pending.retain(|path, _| names.contains(&name(path)));
    }

    /// When the next question is due.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.pending.values().map(|pending| pending.ask_at).min()
    }

    /// At most `limit` paths to ask about. Those that are due within [`QUIET`] are among them.
    pub(super) fn due(&self, now: Instant, limit: usize) -> Vec<StorePath> {
        let soon = now + QUIET / 2;
        let due = self.pending.iter().filter(|(_, pending)| pending.ask_at <= soon);
        due.map(|(path, _)| path.clone()).take(limit).collect()
    }

    /// All paths that wait.
    pub(super) fn pending(&self) -> Vec<StorePath> {
        self.pending.keys().cloned().collect()
    }

    /// Takes the answer to a question in.
    pub(super) fn answer(&mut self, path: &StorePath, answer: Answer, now: Instant) {
        let Some(pending) = self.pending.get_mut(path) else { return };
        match answer {
            Answer::Registered => {
                self.seen.insert(name(path));
                self.pending.remove(path);
            }
            Answer::Unregistered if pending.questions >= MAX_QUESTIONS => {
                self.pending.remove(path);
            }
            Answer::Gone => {
                self.pending.remove(path);
            }
            Answer::Locked | Answer::Unregistered | Answer::Unknown => {
                let wait = QUIET.saturating_mul(1 << pending.questions.min(10)).min(MAX_WAIT);
                pending.ask_at = now + wait;
                pending.questions = pending.questions.saturating_add(1);
            }
        }
    }
}

#[expect(clippy::case_sensitive_file_extension_comparisons, reason = "Nix writes it in lower case")]
fn name(path: &StorePath) -> Name {
    Name { hash: *path.hash().as_bytes(), has_lock_suffix: path.name().ends_with(".lock") }
}

/// The path whose lock has this name.
pub(super) fn locked_path(lock: &StorePath) -> Option<StorePath> {
    store_path(lock.base_name().strip_suffix(".lock")?)
}

/// Whether the path may be one to push. A derivation is none, nor is the root folder of its
/// builder.
fn is_candidate(path: &StorePath) -> bool {
    ![".drv", ".drv.chroot", ".drv.lock"].iter().any(|suffix| path.name().ends_with(suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> StorePath {
        let number: u32 = name.bytes().map(u32::from).sum();
        store_path(&format!("{number:032}-{name}")).unwrap()
    }

    /// The lock of a path.
    fn lock(path: &StorePath) -> StorePath {
        store_path(&format!("{}.lock", path.base_name())).unwrap()
    }

    fn due(tracker: &Tracker, now: Instant) -> Vec<StorePath> {
        let mut due = tracker.due(now + QUIET, 100);
        due.sort();
        due
    }

    #[test]
    fn a_path_is_asked_about_until_it_is_registered() {
        let now = Instant::now();
        let (mut tracker, new) = (Tracker::default(), path("new"));
        tracker.take(&StoreEvent::Appeared(new.clone()), now);
        assert!(tracker.due(now, 9).is_empty(), "not at once");
        assert_eq!(due(&tracker, now), std::slice::from_ref(&new));
        for _ in 0..50 {
            tracker.answer(&new, Answer::Locked, now);
        }
        assert_eq!(tracker.next_at(), Some(now + MAX_WAIT));
        tracker.take(&StoreEvent::Vanished(lock(&new)), now);
        assert_eq!(due(&tracker, now), std::slice::from_ref(&new), "the end of a lock is news");
        tracker.answer(&new, Answer::Registered, now);
        tracker.take(&StoreEvent::Touched(new.clone()), now);
        assert!(tracker.next_at().is_none(), "a path is registered once");
        tracker.take(&StoreEvent::Vanished(new.clone()), now);
        tracker.take(&StoreEvent::Appeared(new.clone()), now);
        assert_eq!(due(&tracker, now), [new], "a path that comes back is new");
    }

    #[test]
    fn a_path_that_nobody_registers_is_given_up() {
        let now = Instant::now();
        let (mut tracker, failed) = (Tracker::default(), path("failed"));
        tracker.take(&StoreEvent::Appeared(failed.clone()), now);
        for _ in 0..=MAX_QUESTIONS {
            assert!(tracker.next_at().is_some());
            tracker.answer(&failed, Answer::Unregistered, now);
        }
        assert!(tracker.next_at().is_none());
        tracker.take(&StoreEvent::Touched(failed.clone()), now);
        assert_eq!(due(&tracker, now), std::slice::from_ref(&failed));
        tracker.answer(&failed, Answer::Gone, now);
        assert!(tracker.next_at().is_none());
    }

    #[test]
    fn after_lost_events_the_listing_tells_what_is_new() {
        let now = Instant::now();
        let mut tracker = Tracker::default();
        let [old, gone, new] = ["old", "gone", "new"].map(path);
        let pending = path("pending");
        tracker.add_seen(&old);
        tracker.add_seen(&gone);
        tracker.take(&StoreEvent::Appeared(pending.clone()), now);
        tracker.take(&StoreEvent::Lost, now);
        tracker.compare([&old, &new, &pending].into_iter().cloned(), now);
        let mut expected = [new.clone(), pending.clone()];
        expected.sort();
        assert_eq!(due(&tracker, now), expected);
        // What went unseen and comes back is new.
        tracker.answer(&new, Answer::Registered, now);
        tracker.answer(&pending, Answer::Registered, now);
        tracker.compare([&gone, &new, &pending].into_iter().cloned(), now);
        assert_eq!(due(&tracker, now), [gone]);
    }

    #[test]
    fn names_that_appear_while_the_first_listing_is_made_are_new() {
        let now = Instant::now();
        let (mut tracker, new) = (Tracker::default(), path("new"));
        tracker.add_seen(&new);
        tracker.take(&StoreEvent::Appeared(new.clone()), now);
        assert_eq!(due(&tracker, now), [new]);
    }

    #[test]
    fn a_path_is_told_from_its_lock_and_a_path_may_be_called_a_lock() {
        let now = Instant::now();
        let (mut tracker, seen) = (Tracker::default(), path("seen"));
        tracker.add_seen(&seen);
        for event in [StoreEvent::Appeared(lock(&seen)), StoreEvent::Vanished(lock(&seen))] {
            tracker.take(&event, now);
        }
        assert!(tracker.next_at().is_none(), "the path was seen, and its lock is gone");
        let file = path("Cargo.lock");
        tracker.take(&StoreEvent::Appeared(file.clone()), now);
        assert_eq!(due(&tracker, now), [file]);
    }

    #[test]
    fn derivations_are_not_pushed() {
        let now = Instant::now();
        let mut tracker = Tracker::default();
        for name in ["a.drv", "a.drv.chroot", "a.drv.lock"] {
            tracker.take(&StoreEvent::Appeared(path(name)), now);
        }
        assert!(tracker.next_at().is_none());
    }
}
