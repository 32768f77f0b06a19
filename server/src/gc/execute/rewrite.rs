//! Compaction: rewrites packs of which little is needed, or small ones, at a rate.
//!
//! C4: a record is copied to a new pack, which is durable before any row names it, and each chunk
//! row moves by comparing where it lay. Then no chunk is in the old pack, and it is claimed like
//! any other. Its object stays for a while, so that its readers can end, and a reader that comes
//! late looks the chunk up again. Frames are copied verbatim, after their checksums and names were
//! looked at. A damaged pack stays as it is, for `repair`. Where the disk has no room for another
//! pack, the remaining packs stay as they are.

use std::time::{Duration, Instant};

use snowbank_core::pack::MAX_PACK_BYTES;
use snowbank_core::units::{Bytes, Size};

use super::super::GcError;
use super::super::cutoffs::Cutoffs;
use super::super::plan::Rewrites;
use super::super::plan::packs::PackUses;
use super::super::transactions::Transactions;
use super::objects::ObjectRemoval;
use crate::db::caches::{CacheId, DomainId};
use crate::db::chunks::ChunkLocation;
use crate::db::packs::PackId;
use crate::db::{self, DbError};
use crate::pack::{MovedRecord, NewRecord, PackWriteError, Packs, read_chunks};
use crate::storage::{FreeSpace, NoRoom, StorageError};

/// Bytes of a record beside its frame in a pack: head and table, less slots.
const RECORD_BYTES: usize = 2 * 64;
/// Packs claimed in one transaction.
const BATCH: usize = 256;

/// Rewrites packs.
pub(super) struct Rewriter<'a, 'r> {
    pub(super) transactions: &'a Transactions<'a>,
    pub(super) cutoffs: &'a Cutoffs,
    pub(super) packs: &'a Packs,
    pub(super) room: &'a FreeSpace,
    /// Bytes written in a second.
    pub(super) rate: Size,
    pub(super) objects: &'r mut ObjectRemoval<'a>,
    /// Live packs. Those that were rewritten are taken out.
    pub(super) uses: &'r mut PackUses,
    pub(super) rewritten: RewriteStats,
}

/// What was rewritten.
#[derive(Debug, Default)]
pub(super) struct RewriteStats {
    /// Packs that were rewritten.
    pub(super) packs: u64,
    /// Bytes that this freed.
    pub(super) freed_bytes: u64,
    /// Bytes of the new packs.
    pub(super) written_bytes: u64,
    /// What an operator should know.
    pub(super) notes: Vec<String>,
}

/// Records that wait for their pack, and the packs whose records have all been read.
#[derive(Default)]
struct PendingRecords {
    records: Vec<MovedRecord>,
    bytes: usize,
    sources: Vec<PackId>,
}

impl Rewriter<'_, '_> {
    /// Rewrites the packs of the plan, as far as there is room.
    pub(super) async fn run(mut self, plan: Rewrites) -> Result<RewriteStats, GcError> {
        for (domain, sources) in plan {
            if let Err(error) = self.rewrite_domain(domain, &sources).await {
                let Some(why) = want_of_room(&error) else { return Err(error) };
                self.rewritten.notes.push(format!(
                    "packs were left as they are for want of room: {why}. Make room, or wait until \
                     what this collection has claimed is removed; a later one rewrites them"
                ));
                break;
            }
        }
        Ok(self.rewritten)
    }

    async fn rewrite_domain(
        &mut self,
        domain: DomainId,
        sources: &[PackId],
    ) -> Result<(), GcError> {
        let mut pending = PendingRecords::default();
        let mut max_bytes = self.max_bytes().await?;
        for &source in sources {
            let records = match self.records(domain, source).await? {
                Ok(records) => records,
                Err(problem) => {
                    self.rewritten.notes.push(problem);
                    continue;
                }
            };
            for record in records {
                let bytes = record.record.frame.len()
                    + 2 * record.record.header.encoded_len()
                    + RECORD_BYTES;
                if pending.bytes + bytes > max_bytes {
                    self.write(domain, &mut pending).await?;
                    max_bytes = self.max_bytes().await?;
                }
                pending.bytes += bytes;
                pending.records.push(record);
            }
            pending.sources.push(source);
        }
        self.write(domain, &mut pending).await?;
        self.finish_sources(&pending.sources).await
    }

    /// How large the next pack may be.
    async fn max_bytes(&self) -> Result<usize, NoRoom> {
        let room = self.room.room_to_rewrite().await?;
        Ok(usize::try_from(room).map_or(MAX_PACK_BYTES, |room| room.min(MAX_PACK_BYTES)))
    }

    /// The records of a pack that chunk rows name, checked; or why they cannot be had.
    async fn records(
        &self,
        domain: DomainId,
        source: PackId,
    ) -> Result<Result<Vec<MovedRecord>, String>, GcError> {
        let rows =
            db::chunks::in_pack(self.transactions.db().reader().await?.exec(), source).await?;
        let mut places: Vec<ChunkLocation> = rows.iter().map(|(_, chunk)| chunk.clone()).collect();
        places.dedup_by_key(|chunk| chunk.offset);
        let chunks = match read_chunks(self.packs, &places).await {
            Ok(chunks) => chunks,
            Err(error) => return Ok(Err(format!("a pack was not rewritten: {error}"))),
        };
        let mut rows = rows.into_iter().peekable();
        let mut records = Vec::with_capacity(chunks.len());
        for (place, chunk) in places.into_iter().zip(chunks) {
            let mut sharing = Vec::new();
            while let Some((of, row)) = rows.next_if(|(_, row)| row.offset == place.offset) {
                sharing.push((of, row.id));
            }
            // Rebuilt from the pack, the record is first of all that of the pack's own domain.
            let own = sharing.iter().find(|(of, _)| *of == domain).map_or(place.id, |(_, id)| *id);
            let record = NewRecord { header: chunk.header, frame: chunk.frame.to_vec() };
            let rows = sharing.into_iter().map(|(_, id)| (id, source)).collect();
            records.push(MovedRecord { id: own, record, rows });
        }
        Ok(Ok(records))
    }

    /// Writes the pending records, and rests for as long as the rate asks.
    async fn write(
        &mut self,
        domain: DomainId,
        pending: &mut PendingRecords,
    ) -> Result<(), GcError> {
        if pending.records.is_empty() {
            return Ok(());
        }
        self.transactions.confirm_storage().await?;
        let started = Instant::now();
        let records = std::mem::take(&mut pending.records);
        pending.bytes = 0;
        let now = self.cutoffs.now();
        let written = self.packs.rewrite(domain, CacheId(0), records, now).await?.bytes;
        self.rewritten.written_bytes += written;
        // The records of these sources have all moved. The pack that is being read becomes one when
        // all of it has been read.
        let done = std::mem::take(&mut pending.sources);
        self.finish_sources(&done).await?;
        let milliseconds = written.saturating_mul(1_000).checked_div(self.rate.bytes());
        let due = Duration::from_millis(milliseconds.unwrap_or(0));
        tokio::time::sleep(due.saturating_sub(started.elapsed())).await;
        Ok(())
    }

    /// Claims packs that were rewritten. A pack in which a chunk still is stays. Objects that may
    /// go at once do, so that the next pack finds their room.
    async fn finish_sources(&mut self, sources: &[PackId]) -> Result<(), GcError> {
        for batch in sources.chunks(BATCH) {
            let mut exclusive = self.transactions.begin().await?;
            db::packs::claim_empty(exclusive.exec(), batch, self.cutoffs.now()).await?;
            self.transactions.commit(exclusive).await?;
        }
        let uses = sources.iter().filter_map(|source| self.uses.remove(*source));
        for freed_bytes in uses.map(|pack| pack.dead_bytes()) {
            self.rewritten.packs += 1;
            self.rewritten.freed_bytes += freed_bytes;
        }
        if !sources.is_empty() && self.objects.is_immediate(self.cutoffs.now()) {
            self.objects.remove().await?;
        }
        Ok(())
    }
}

/// Why there is no room to rewrite packs, if that is what an error says.
fn want_of_room(error: &GcError) -> Option<String> {
    match error {
        GcError::Room(NoRoom { of, folder, free, least, wanted }) => Some(format!(
            "the disk with the {of}, {}, has {} free; a pack takes {}, and {} stay",
            folder.display(),
            Bytes(*free),
            Bytes(*wanted),
            Bytes(*least)
        )),
        GcError::Storage(error @ StorageError::Full { .. })
        | GcError::Write(PackWriteError::Storage(error @ StorageError::Full { .. })) => {
            Some(error.to_string())
        }
        GcError::Database(error @ DbError::Full(_))
        | GcError::Write(PackWriteError::Database(error @ DbError::Full(_))) => {
            Some(error.to_string())
        }
        _ => None,
    }
}
