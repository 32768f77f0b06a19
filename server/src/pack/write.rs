//! Writing packs. The order is the invariant: W1 the object is durable, then W2 its rows are
//! committed.
//!
//! A crash between the two leaves an object without rows, which the collector claims later (C3); a
//! crash before W1 leaves nothing. Rows are inserted sorted by name, so that two writers cannot
//! deadlock on PostgreSQL.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use snowbank_core::chunk::ChunkName;
use snowbank_core::frame::ChunkHeader;
use snowbank_core::pack::{MAX_PACK_BYTES, PackKey, PackWriter, RecordSpan, rekey};
use thiserror::Error;

use super::{ChunkIds, pack_object_key};
use crate::db::caches::{CacheId, DomainId};
use crate::db::chunks::{ChunkLocation, ChunkMove, NewChunk};
use crate::db::counters::Counter;
use crate::db::packs::{NewPack, PackId};
use crate::db::{self, Db, DbError};
use crate::storage::{Storage, StorageError};

/// How often objects are put again whose keys were claimed before their rows came.
const MAX_ATTEMPTS: u32 = 3;

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
    /// Whether reads ask the storage itself, whatever is in memory or on this machine's disk.
    is_direct: bool,
}

impl Packs {
    /// `recent_bytes` bounds the memory that recently written packs may take.
    #[must_use]
    pub fn new(db: Db, storage: Arc<Storage>, recent_bytes: u64) -> Self {
        let recent = moka::sync::Cache::builder()
            .max_capacity(recent_bytes)
            // What was written last is read back next; how often older packs were asked for says
            // nothing.
            .eviction_policy(moka::policy::EvictionPolicy::lru())
            .weigher(|_, bytes: &Bytes| u32::try_from(bytes.len()).unwrap_or(u32::MAX))
            .build();
        Self { db, storage, ids: Arc::default(), recent, is_direct: false }
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

    /// Whether they are in a bucket.
    #[must_use]
    pub fn is_far(&self) -> bool {
        self.storage.is_bucket()
    }

    /// The same packs, whose reads ask the storage itself.
    #[must_use]
    pub fn direct(&self) -> Self {
        Self { is_direct: true, ..self.clone() }
    }

    pub(super) const fn is_direct(&self) -> bool {
        self.is_direct
    }

    pub(super) fn recent(&self, pack: PackId) -> Option<Bytes> {
        if self.is_direct { None } else { self.recent.get(&pack) }
    }

    /// Stores `records` as packs, one unless they do not fit, and commits their rows in one
    /// transaction. Chunks whose name the domain has meanwhile keep the row that they have; the
    /// copy in this pack is dead weight until compaction. `packed` is called once the records are
    /// in the packs and take no memory of their own any more.
    ///
    /// # Errors
    /// Nothing is visible when this fails; objects may be left for the collector.
    pub async fn store(
        &self,
        domain: DomainId,
        cache: CacheId,
        records: Vec<NewRecord>,
        now: i64,
        packed: impl FnOnce() + Send,
    ) -> Result<(), PackWriteError> {
        let first_id = self.ids.take(&self.db, count(records.len())).await?.start;
        let mut packs = fill_packs(domain, first_id, records)?;
        packed();
        for pack in &mut packs {
            self.put(pack).await?;
        }
        crate::fault::pause("pack-after-put").await;
        let mut attempts = 0;
        let first_pack = loop {
            match self.add_rows(domain, cache, &packs, now).await {
                Err(DbError::Constraint(_)) if attempts < MAX_ATTEMPTS => attempts += 1,
                result => break result?,
            }
            if attempts == 1 {
                // `repair` may have rebuilt rows under ids that this server had reserved from a
                // restored database. What the records say of their ids does not matter then: they
                // are known by their names.
                self.ids.forget().await;
                let rows = packs.iter().map(|pack| count(pack.rows.len())).sum();
                let ids = self.ids.take(&self.db, rows).await?;
                for (row, id) in packs.iter_mut().flat_map(|pack| &mut pack.rows).zip(ids) {
                    row.0 = id;
                }
            } else {
                // The server slept since it put the objects, for so long that a collector has
                // claimed them (C3).
                for pack in &mut packs {
                    pack.rekey();
                    self.put(pack).await?;
                }
            }
        };

        for (id, pack) in (first_pack..).map(PackId).zip(packs) {
            self.recent.insert(id, pack.object);
            // By itself the cache makes room only now and then, and may hold any number of packs
            // until it does.
            self.recent.run_pending_tasks();
        }
        Ok(())
    }

    /// W2; gives the id of the first pack.
    async fn add_rows(
        &self,
        domain: DomainId,
        cache: CacheId,
        packs: &[FilledPack],
        now: i64,
    ) -> Result<i64, DbError> {
        let mut tx = self.db.commit_tx().await?;
        let first_pack = tx.reserve(Counter::Pack, count(packs.len())).await?;
        for (id, pack) in (first_pack..).map(PackId).zip(packs) {
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
            .zip(packs)
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
        Ok(first_pack)
    }

    /// Drops what is kept of a pack: some of it turned out to be other bytes than the object has.
    pub async fn forget(&self, pack: PackId, key: &PackKey) {
        let all = 0..MAX_PACK_BYTES as u64;
        self.recent.invalidate(&pack);
        self.storage.forget(&pack_object_key(key), all.end).await;
    }

    /// Gives `domain` chunk rows of its own on records that are stored for another one. `places`
    /// are sorted by name; names that the domain has meanwhile keep the row that they have. Whether
    /// all of the records were still there.
    pub async fn share(&self, domain: DomainId, places: &[ChunkLocation]) -> Result<bool, DbError> {
        if places.is_empty() {
            return Ok(true);
        }
        let first = self.ids.take(&self.db, count(places.len())).await?.start;
        let mut tx = self.db.commit_tx().await?;
        // Where they are now: a compaction may have moved them since the caller looked.
        let ids: Vec<u64> = places.iter().map(|chunk| chunk.id).collect();
        let there = db::chunks::lookup_by_ids(tx.exec(), &ids).await?;
        let same = |chunk: &ChunkLocation| {
            there.get(&chunk.id).filter(|found| found.name == chunk.name).cloned()
        };
        let Some(places) = places.iter().map(same).collect::<Option<Vec<ChunkLocation>>>() else {
            return Ok(false);
        };
        let row = |(id, chunk): (u64, &ChunkLocation)| NewChunk {
            id,
            name: chunk.name,
            pack: chunk.pack,
            offset: chunk.offset,
            len: chunk.len,
        };
        let rows: Vec<NewChunk> = (first..).zip(&places).map(row).collect();
        if let Err(error) = db::chunks::add(tx.exec(), domain, &rows).await {
            // An id that is taken is not tried again.
            self.ids.forget().await;
            return Err(error);
        }
        tx.commit().await?;
        Ok(true)
    }
}

/// A record that is to be copied to another pack, with the chunks that lie in it.
#[derive(Debug)]
pub struct MovedRecord {
    /// The id in the record, which is that of one of the chunks.
    pub id: u64,
    /// The chunk, as it is stored.
    pub record: NewRecord,
    /// The ids of the chunk rows that name it, caches of several domains have one each, and the
    /// pack that they name.
    pub rows: Vec<(u64, PackId)>,
}

/// What [`Packs::rewrite`] did.
#[derive(Debug, Clone, Copy)]
pub struct RewriteOutcome {
    /// Length of the new object.
    pub bytes: u64,
    /// Chunk rows that lead there now.
    pub rows: u64,
}

/// Chunk rows that are changed in one transaction.
const MOVES_PER_STATEMENT: usize = 512;

impl Packs {
    /// Copies records that fit one pack into a new one: W1 the object is durable, then C4 each
    /// chunk row that still names its old place gets the new one.
    ///
    /// # Errors
    /// Chunks lie where they lay, or in the new pack already, when this fails.
    pub async fn rewrite(
        &self,
        domain: DomainId,
        cache: CacheId,
        records: Vec<MovedRecord>,
        now: i64,
    ) -> Result<RewriteOutcome, PackWriteError> {
        let key = random_key()?;
        let mut writer = PackWriter::new(domain.0.unsigned_abs(), key);
        writer.reserve(
            records
                .iter()
                .map(|moved| moved.record.frame.len() + 2 * moved.record.header.encoded_len() + 64)
                .sum(),
        );
        let mut moves = Vec::new();
        for MovedRecord { id, record, rows } in records {
            let span = writer.add(id, &record.header, &record.frame)?;
            let row = |(id, from)| ChunkMove { id, from, offset: span.offset, len: span.len };
            moves.extend(rows.into_iter().map(row));
        }
        let chunk_count = writer.records();
        let mut pack = FilledPack { key, object: Bytes::from(writer.finish()), rows: Vec::new() };
        self.put(&mut pack).await?;
        crate::fault::pause("compact-after-put").await;

        let (mut new, mut rows) = (None, 0);
        for batch in moves.chunks(MOVES_PER_STATEMENT) {
            let mut tx = self.db.commit_tx().await?;
            let id = if let Some(id) = new {
                id
            } else {
                let id = PackId(tx.reserve(Counter::Pack, 1).await?);
                let bytes = pack.object.len() as u64;
                let row =
                    NewPack { id, domain, cache, key: pack.key, bytes, chunk_count, created: now };
                db::packs::add(tx.exec(), &row).await?;
                *new.insert(id)
            };
            rows += db::chunks::relocate(tx.exec(), id, batch).await?;
            tx.commit().await?;
        }
        Ok(RewriteOutcome { bytes: pack.object.len() as u64, rows })
    }
}

impl Packs {
    /// W1, under a key that no attempt had before.
    async fn put(&self, pack: &mut FilledPack) -> Result<(), StorageError> {
        let mut is_first = true;
        let attempt = || {
            if !std::mem::take(&mut is_first) {
                pack.rekey();
            }
            (pack_object_key(&pack.key), pack.object.clone())
        };
        self.storage.put_new(attempt).await?;
        self.storage.keep(&pack_object_key(&pack.key), pack.object.clone()).await;
        Ok(())
    }
}

fn random_key() -> Result<PackKey, PackWriteError> {
    let mut key = [0; 16];
    getrandom::fill(&mut key).map_err(PackWriteError::Random)?;
    Ok(PackKey::from_bytes(key))
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
        // Whoever held the object for the attempt before is gone, so that nothing is copied as a
        // rule.
        let mut object = std::mem::take(&mut self.object)
            .try_into_mut()
            .unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        if rekey(&mut object, key).is_ok() {
            self.key = key;
        }
        self.object = object.freeze();
    }
}

/// Lays `records` out in packs, in order.
fn fill_packs(
    domain: DomainId,
    first_id: u64,
    records: Vec<NewRecord>,
) -> Result<Vec<FilledPack>, PackWriteError> {
    let mut packs = Vec::new();
    // Each header stands in its record and in the table; ids, checksums and lengths are a few words
    // beside it.
    let room = records.iter().map(|new| new.frame.len() + 2 * new.header.encoded_len() + 64).sum();
    let mut records = (first_id..).zip(records).peekable();
    while records.peek().is_some() {
        let key = random_key()?;
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
