//! Writing packs. The order is the invariant: W1 the object is durable, then W2 its rows are committed.
//!
//! A crash between the two leaves an object without rows, which the collector claims later (C3); a crash before W1
//! leaves nothing. Rows are inserted sorted by name, so that two writers cannot deadlock on PostgreSQL.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use snowbank_core::chunk::ChunkName;
use snowbank_core::frame::ChunkHeader;
use snowbank_core::pack::{MAX_PACK_BYTES, PackKey, PackWriter, RecordSpan, rekey};
use thiserror::Error;

use super::blocks::Blocks;
use super::{ChunkIds, pack_object_key};
use crate::db::caches::{CacheId, DomainId};
use crate::db::chunks::{ChunkLocation, NewChunk};
use crate::db::counters::Counter;
use crate::db::packs::{NewPack, PackId};
use crate::db::{self, Db, DbError};
use crate::storage::{Storage, StorageError};

/// A verified chunk that is to be stored.
#[derive(Debug)]
pub struct NewRecord {
    /// What the frame holds.
    pub header: ChunkHeader,
    /// One zstd frame, `header.frame_len` bytes.
    pub frame: Vec<u8>,
}

/// Why a pack was not stored.
#[derive(Debug, Error)]
pub enum PackWriteError {
    /// The object could not be made durable.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Its rows could not be committed.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The chunks do not fit one pack.
    #[error("a pack cannot hold these chunks: {0}")]
    Format(#[from] snowbank_core::pack::PackError),
    /// The system gave no random key.
    #[error("the system's random number generator failed: {0}")]
    Random(getrandom::Error),
}

/// Writes packs, and keeps the newest of them in memory for the read-back that follows every push.
#[derive(Debug, Clone)]
pub struct Packs {
    db: Db,
    storage: Arc<Storage>,
    ids: Arc<ChunkIds>,
    recent: moka::sync::Cache<PackId, Bytes>,
    blocks: Option<Blocks>,
}

impl Packs {
    /// `recent_bytes` bounds the memory that recently written packs may take, `block_bytes` that of blocks read from a
    /// storage where each request takes long.
    #[must_use]
    pub fn new(db: Db, storage: Arc<Storage>, recent_bytes: u64, block_bytes: u64) -> Self {
        let recent = moka::sync::Cache::builder()
            .max_capacity(recent_bytes)
            // What was written last is read back next; how often older packs were asked for says nothing.
            .eviction_policy(moka::policy::EvictionPolicy::lru())
            .weigher(|_, bytes: &Bytes| u32::try_from(bytes.len()).unwrap_or(u32::MAX))
            .build();
        let blocks = (block_bytes > 0 && storage.is_far()).then(|| Blocks::new(block_bytes));
        Self { db, storage, ids: Arc::default(), recent, blocks }
    }

    pub(super) fn db(&self) -> &Db {
        &self.db
    }

    pub(super) fn storage(&self) -> &Storage {
        &self.storage
    }

    /// How many bytes a ranged read may usefully have; see [`Storage::read_window`].
    #[must_use]
    pub fn read_window(&self) -> u64 {
        self.storage.read_window()
    }

    pub(super) fn blocks(&self) -> Option<&Blocks> {
        self.blocks.as_ref()
    }

    pub(super) fn recent(&self, pack: PackId) -> Option<Bytes> {
        self.recent.get(&pack)
    }

    /// Stores `records` as packs, one unless they do not fit, and commits their rows in one transaction. Chunks whose name
    /// the domain has meanwhile keep the row that they have; the copy in this pack is dead weight until compaction.
    ///
    /// # Errors
    /// Nothing is visible when this fails; objects may be left for the collector.
    pub async fn store(
        &self,
        domain: DomainId,
        cache: CacheId,
        records: Vec<NewRecord>,
        now: i64,
    ) -> Result<(), PackWriteError> {
        let first_id = self.ids.take(&self.db, count(records.len())).await?.start;
        let mut packs = fill_packs(domain, first_id, records)?;
        for pack in &mut packs {
            let mut is_first = true;
            let attempt = || {
                if !std::mem::take(&mut is_first) {
                    pack.rekey();
                }
                (pack_object_key(&pack.key), pack.object.clone())
            };
            self.storage.put_new(attempt).await?;
        }

        let mut tx = self.db.commit_tx().await?;
        let first_pack = db::counters::reserve(tx.exec(), Counter::Pack, count(packs.len())).await?;
        for (id, pack) in (first_pack..).map(PackId).zip(&packs) {
            let row = NewPack {
                id,
                domain,
                cache,
                key: pack.key,
                bytes: pack.object.len() as u64,
                chunk_count: count(pack.rows.len()),
                created: now,
            };
            db::packs::add(tx.exec(), &row).await?;
        }
        let mut chunks: Vec<NewChunk> = (first_pack..)
            .map(PackId)
            .zip(&packs)
            .flat_map(|(pack, filled)| {
                let row = move |(id, name, span): &(u64, ChunkName, RecordSpan)| NewChunk {
                    id: *id,
                    name: *name,
                    pack,
                    offset: span.offset,
                    len: span.len,
                };
                filled.rows.iter().map(row)
            })
            .collect();
        chunks.sort_unstable_by_key(|chunk| chunk.name);
        db::chunks::add(tx.exec(), domain, &chunks).await?;
        tx.commit().await?;

        for (id, pack) in (first_pack..).map(PackId).zip(packs) {
            self.recent.insert(id, pack.object);
            // By itself the cache makes room only now and then, and may hold any number of packs until it does.
            self.recent.run_pending_tasks();
        }
        Ok(())
    }
}

impl Packs {
    /// Gives `domain` chunk rows of its own on records that are stored for another one. `places` are sorted by name; names
    /// that the domain has meanwhile keep the row that they have. Whether all of the records were still there.
    ///
    /// # Errors
    /// As any write.
    pub async fn share(&self, domain: DomainId, places: &[ChunkLocation]) -> Result<bool, DbError> {
        if places.is_empty() {
            return Ok(true);
        }
        let first = self.ids.take(&self.db, count(places.len())).await?.start;
        let mut tx = self.db.commit_tx().await?;
        let there: Vec<(u64, ChunkName)> = places.iter().map(|chunk| (chunk.id, chunk.name)).collect();
        if !db::chunks::exists(tx.exec(), &there).await?.is_empty() {
            return Ok(false);
        }
        let row = |(id, chunk): (u64, &ChunkLocation)| NewChunk {
            id,
            name: chunk.name,
            pack: chunk.pack,
            offset: chunk.offset,
            len: chunk.len,
        };
        let rows: Vec<NewChunk> = (first..).zip(places).map(row).collect();
        db::chunks::add(tx.exec(), domain, &rows).await?;
        tx.commit().await?;
        Ok(true)
    }
}

/// An object that is ready to be put, and what lies where in it.
struct FilledPack {
    key: PackKey,
    object: Bytes,
    rows: Vec<(u64, ChunkName, RecordSpan)>,
}

impl FilledPack {
    /// Takes another key. Should the system give no random bytes now, it keeps the one that it has.
    fn rekey(&mut self) {
        let mut key = [0; 16];
        if getrandom::fill(&mut key).is_err() {
            return;
        }
        let key = PackKey::from_bytes(key);
        // Whoever held the object for the attempt before is gone, so that nothing is copied as a rule.
        let mut object =
            std::mem::take(&mut self.object).try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        if rekey(&mut object, key).is_ok() {
            self.key = key;
        }
        self.object = object.freeze();
    }
}

/// Lays `records` out in packs, in order.
fn fill_packs(domain: DomainId, first_id: u64, records: Vec<NewRecord>) -> Result<Vec<FilledPack>, PackWriteError> {
    let mut packs = Vec::new();
    // Each header stands in its record and in the table; ids, checksums and lengths are a few words beside it.
    let room = records.iter().map(|new| new.frame.len() + 2 * new.header.encoded_len() + 64).sum();
    let mut records = (first_id..).zip(records).peekable();
    while records.peek().is_some() {
        let mut key = [0; 16];
        getrandom::fill(&mut key).map_err(PackWriteError::Random)?;
        let key = PackKey::from_bytes(key);
        let mut writer = PackWriter::new(domain.0.unsigned_abs(), key);
        writer.reserve(room);
        let mut rows = Vec::new();
        // A record that fits no pack at all is added nevertheless, for the writer to refuse.
        let fits = |writer: &PackWriter, record: &NewRecord| {
            writer.is_empty() || writer.bytes_if_added(&record.header) <= MAX_PACK_BYTES
        };
        while let Some((id, record)) = records.next_if(|(_, record)| fits(&writer, record)) {
            let span = writer.add(id, &record.header, &record.frame)?;
            rows.push((id, record.header.name, span));
        }
        packs.push(FilledPack { key, object: Bytes::from(writer.finish()), rows });
    }
    Ok(packs)
}

fn count(items: usize) -> u32 {
    u32::try_from(items).unwrap_or(u32::MAX)
}
