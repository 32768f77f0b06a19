//! Which blocks are on disk, in the order of their last use. About a hundred bytes for each half
//! megabyte.

use std::collections::{BTreeMap, HashMap};

use super::block::BlockId;

/// Invariant: `bytes` is what the entries and the reservations take, and never more than
/// `max_bytes`.
#[derive(Debug)]
pub(super) struct Index {
    entries: HashMap<BlockId, Entry>,
    /// Last uses, oldest first.
    order: BTreeMap<u64, BlockId>,
    next_use: u64,
    bytes: u64,
    max_bytes: u64,
}

#[derive(Debug)]
struct Entry {
    used: u64,
    disk_bytes: u64,
}

/// What [`Index::reserve`] did.
#[derive(Debug)]
pub(super) struct Room {
    /// Blocks that have to go from the disk, before anything is written.
    pub(super) evicted: Vec<BlockId>,
    /// Whether a block may be written now.
    pub(super) is_reserved: bool,
}

impl Index {
    pub(super) fn new(max_bytes: u64) -> Self {
        Self { entries: HashMap::new(), order: BTreeMap::new(), next_use: 0, bytes: 0, max_bytes }
    }

    /// Whether the block is there; if so, it was used just now.
    pub(super) fn touch(&mut self, id: BlockId) -> bool {
        let Some(entry) = self.entries.get_mut(&id) else {
            return false;
        };
        self.order.remove(&entry.used);
        entry.used = self.next_use;
        self.order.insert(self.next_use, id);
        self.next_use += 1;
        true
    }

    /// Makes room for a block, and reserves it where there is enough. On a disk that is nearly full
    /// the cache shrinks: twice as much goes as comes.
    pub(super) fn reserve(&mut self, disk_bytes: u64, is_disk_nearly_full: bool) -> Room {
        let mut room = Room { evicted: Vec::new(), is_reserved: false };
        let most = if is_disk_nearly_full {
            self.bytes.saturating_sub(disk_bytes)
        } else {
            self.max_bytes
        };
        while self.bytes + disk_bytes > most {
            let Some((_, id)) = self.order.pop_first() else { return room };
            self.bytes -= self.entries.remove(&id).map_or(0, |entry| entry.disk_bytes);
            room.evicted.push(id);
        }
        self.bytes += disk_bytes;
        room.is_reserved = true;
        room
    }

    /// Gives a reservation back.
    pub(super) fn release(&mut self, disk_bytes: u64) {
        self.bytes -= disk_bytes;
    }

    /// Turns a reservation into an entry.
    pub(super) fn insert(&mut self, id: BlockId, disk_bytes: u64) {
        self.remove(id);
        self.entries.insert(id, Entry { used: self.next_use, disk_bytes });
        self.order.insert(self.next_use, id);
        self.next_use += 1;
    }

    /// Forgets a block, if it is there.
    pub(super) fn remove(&mut self, id: BlockId) {
        if let Some(entry) = self.entries.remove(&id) {
            self.order.remove(&entry.used);
            self.bytes -= entry.disk_bytes;
        }
    }

    /// Bytes of disk in use.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> BlockId {
        BlockId::of("a", number)
    }

    fn reserve(index: &mut Index, disk_bytes: u64) -> (Vec<BlockId>, bool) {
        let Room { evicted, is_reserved } = index.reserve(disk_bytes, false);
        (evicted, is_reserved)
    }

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let mut index = Index::new(30);
        for number in 0..3 {
            assert_eq!(reserve(&mut index, 10), (vec![], true));
            index.insert(id(number), 10);
        }
        assert!(index.touch(id(0)));
        assert_eq!(reserve(&mut index, 15), (vec![id(1), id(2)], true));
        assert_eq!(index.bytes(), 25);
        assert!(index.touch(id(0)) && !index.touch(id(1)));
    }

    #[test]
    fn what_is_being_written_cannot_be_evicted() {
        let mut index = Index::new(30);
        assert_eq!(reserve(&mut index, 20), (vec![], true));
        assert_eq!(reserve(&mut index, 20), (vec![], false));
        index.release(20);
        assert_eq!(reserve(&mut index, 20), (vec![], true));
        index.insert(id(1), 20);
        index.remove(id(1));
        index.remove(id(1));
        assert_eq!(index.bytes(), 0);
    }

    #[test]
    fn on_a_disk_that_is_nearly_full_it_shrinks_and_ends_empty() {
        let mut index = Index::new(100);
        for number in 0..5 {
            assert!(index.reserve(10, false).is_reserved);
            index.insert(id(number), 10);
        }
        let room = index.reserve(10, true);
        assert_eq!((room.evicted, room.is_reserved, index.bytes()), (vec![id(0), id(1)], true, 40));
        index.insert(id(5), 10);
        let room = index.reserve(30, true);
        assert_eq!((room.evicted.len(), room.is_reserved, index.bytes()), (4, false, 0));
    }
}
