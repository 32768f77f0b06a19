//! Blocks of packs in memory, for small reads from a storage where each request takes long.
//!
//! The small NARs of a closure were pushed together, lie side by side and are asked for one after the other. The second small
//! read of a block brings all of it; whoever comes next finds it here. Whoever wants one path only pays for no more than that.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use snowbank_core::pack::PackKey;

use super::pack_object_key;
use crate::db::packs::PackId;
use crate::storage::{Storage, StorageError};

const BLOCK_BYTES: u64 = 1024 * 1024;
/// A read that is longer is worth a request of its own.
const SMALL_READ_BYTES: u64 = 256 * 1024;
/// Blocks that were read from once, lately; a few bytes each.
const MOST_SEEN: u64 = 8192;

type BlockId = (PackId, u64);

/// The blocks that are kept, the least recently used go first.
#[derive(Debug, Clone)]
pub(super) struct Blocks {
    kept: moka::future::Cache<BlockId, Bytes>,
    seen: moka::sync::Cache<BlockId, ()>,
}

impl Blocks {
    /// Keeps blocks of `most_bytes` in all.
    pub(super) fn new(most_bytes: u64) -> Self {
        let kept = moka::future::Cache::builder()
            .max_capacity(most_bytes)
            .eviction_policy(moka::policy::EvictionPolicy::lru())
            .weigher(|_, bytes: &Bytes| u32::try_from(bytes.len()).unwrap_or(u32::MAX))
            .build();
        Self { kept, seen: moka::sync::Cache::new(MOST_SEEN) }
    }

    /// The bytes `range` of a pack; `None` when they are better read on their own, or a block could not be read.
    pub(super) async fn read(
        &self,
        storage: &Storage,
        pack: PackId,
        key: &PackKey,
        range: &Range<u64>,
    ) -> Option<BytesMut> {
        let len = range.end - range.start;
        if len == 0 || len > SMALL_READ_BYTES {
            return None;
        }
        let mut bytes = BytesMut::with_capacity(usize::try_from(len).ok()?);
        for number in range.start / BLOCK_BYTES..=(range.end - 1) / BLOCK_BYTES {
            let start = number * BLOCK_BYTES;
            let block = self.block(storage, pack, key, number).await?;
            let within = |at: u64| usize::try_from(at.clamp(start, start + BLOCK_BYTES) - start).ok();
            bytes.extend_from_slice(block.get(within(range.start)?..within(range.end)?)?);
        }
        Some(bytes)
    }

    /// Forgets the blocks that hold `range`, which did not have what they should.
    pub(super) async fn forget(&self, pack: PackId, range: &Range<u64>) {
        for number in range.start / BLOCK_BYTES..=range.end / BLOCK_BYTES {
            self.kept.invalidate(&(pack, number)).await;
        }
    }

    async fn block(&self, storage: &Storage, pack: PackId, key: &PackKey, number: u64) -> Option<Bytes> {
        let id = (pack, number);
        if let Some(block) = self.kept.get(&id).await {
            return Some(block);
        }
        if self.seen.get(&id).is_none() {
            self.seen.insert(id, ());
            return None;
        }
        // Those who want the same block at the same time share one request. One that fails leaves nothing behind, and its
        // error to the read that is made instead.
        let read = async {
            let block = storage.get_up_to(&pack_object_key(key), number * BLOCK_BYTES, BLOCK_BYTES).await?;
            Ok::<_, StorageError>(Bytes::from(block))
        };
        let block = self.kept.try_get_with(id, Box::pin(read)).await.ok();
        // By itself the cache makes room only now and then.
        self.kept.run_pending_tasks().await;
        block
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::StorageConfig;

    #[tokio::test]
    async fn the_second_read_of_a_block_brings_all_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let storage = Storage::open(&StorageConfig::Local { path: folder.path().join("storage") }).await.unwrap();
        let key = PackKey::from_bytes([7; 16]);
        let object: Vec<u8> = (0..BLOCK_BYTES * 5 / 2).map(|at| u8::try_from(at % 251).unwrap()).collect();
        storage.put(&pack_object_key(&key), object.clone().into()).await.unwrap();
        let blocks = Blocks::new(8 * BLOCK_BYTES);
        let (pack, len) = (PackId(1), object.len() as u64);
        let place = |at: u64| usize::try_from(at).unwrap();
        let expected = |range: Range<u64>| Some(BytesMut::from(&object[place(range.start)..place(range.end)]));
        assert_eq!(blocks.read(&storage, pack, &key, &(10..20)).await, None, "perhaps nobody comes again");
        assert_eq!(blocks.read(&storage, pack, &key, &(30..90)).await, expected(30..90));
        storage.delete(&pack_object_key(&key)).await.unwrap();
        assert_eq!(blocks.read(&storage, pack, &key, &(0..1000)).await, expected(0..1000), "nothing is asked for");
        assert_eq!(blocks.read(&storage, PackId(2), &key, &(0..1000)).await, None, "packs are told apart");

        storage.put(&pack_object_key(&key), object.clone().into()).await.unwrap();
        let across = BLOCK_BYTES - 5..BLOCK_BYTES + 5;
        assert_eq!(blocks.read(&storage, pack, &key, &across).await, None);
        assert_eq!(blocks.read(&storage, pack, &key, &across).await, expected(across.clone()));
        let last = len - 100..len;
        assert_eq!(blocks.read(&storage, pack, &key, &last).await, None);
        assert_eq!(blocks.read(&storage, pack, &key, &last).await, expected(last.clone()), "a short block at the end");
        assert_eq!(blocks.read(&storage, pack, &key, &(len - 100..len + 1)).await, None, "beyond the end");
        assert_eq!(blocks.read(&storage, pack, &key, &(0..SMALL_READ_BYTES + 1)).await, None, "large reads pass by");
        blocks.forget(pack, &(0..10)).await;
        storage.delete(&pack_object_key(&key)).await.unwrap();
        assert_eq!(blocks.read(&storage, pack, &key, &(0..1000)).await, None);
    }
}
