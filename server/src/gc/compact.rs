//! Compaction: packs that are mostly dead, or small, are rewritten, frames verbatim, within a
//! budget of bytes and at a rate.
//!
//! C4: a record is copied to a new pack, which is durable before any row names it, and each chunk
//! row moves by comparing where it lay. The old pack, in which no chunk is then, is claimed like
//! any other, and its object stays for a while: who is reading it can end, and who comes late looks
//! the chunk up again. Each record's checksum and name are looked at on the way; a pack that is
//! damaged stays as it is, for `repair`. Where the disk has no room for another pack, the rest
//! stays as it is.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use snowbank_core::pack::MAX_PACK_BYTES;
use snowbank_core::units::{Bytes, Size};

use super::GcError;
use super::run::Run;
use super::sweep::{PackUse, PackUses};
use crate::db::caches::{CacheId, DomainId};
use crate::db::chunks::ChunkLocation;
use crate::db::packs::PackId;
use crate::db::{self, DbError};
use crate::pack::{MovedRecord, NewRecord, PackWriteError, Packs, read_chunks};
use crate::storage::{FreeSpace, NoRoom, Storage, StorageError};

/// A pack below this is small.
const SMALL: u64 = 4 << 20;
/// So many small packs of a domain are worth putting together, or as many as have this many bytes.
const MANY: usize = 8;
const ENOUGH: u64 = 8 << 20;
/// Bytes of a record beside its frame in a pack: head and table, less slots.
const RECORD_BYTES: usize = 2 * 64;

/// How much may be rewritten.
#[derive(Debug, Clone, Copy)]
pub(super) struct Effort {
    /// Bytes that may be written in one run.
    pub(super) budget: Size,
    /// Bytes written in a second.
    pub(super) rate: Size,
    /// A pack of which this part is needed, or less, is worth rewriting.
    pub(super) worth: f64,
}

/// What is to be rewritten, by domain, in the order of ids.
#[expect(clippy::cast_precision_loss, reason = "a share of a size")]
fn choose(packs: &PackUses, effort: Effort) -> BTreeMap<DomainId, Vec<PackId>> {
    let mut by_domain: BTreeMap<DomainId, (Vec<_>, Vec<_>)> = BTreeMap::new();
    for (id, pack) in packs.iter().filter(|(_, pack)| pack.is_old && pack.chunks > 0) {
        let (dead, small) = by_domain.entry(pack.domain).or_default();
        if pack.live as f64 <= pack.bytes as f64 * effort.worth {
            dead.push((*id, pack));
        } else if pack.bytes < SMALL {
            small.push((*id, pack));
        }
    }
    let mut left = effort.budget.bytes();
    let mut chosen = BTreeMap::new();
    for (domain, (mut dead, mut small)) in by_domain {
        // What frees most for what is written comes first.
        dead.sort_by_key(|(id, pack)| (pack.live.saturating_mul(1_000) / pack.bytes.max(1), *id));
        small.sort_by_key(|(id, _)| *id);
        if small.len() < MANY && small.iter().map(|(_, pack)| pack.live).sum::<u64>() < ENOUGH {
            small.clear();
        }
        let mut within = |(id, pack): (PackId, &PackUse)| {
            left = left.checked_sub(pack.live)?;
            Some(id)
        };
        let mut ids: Vec<PackId> = dead.into_iter().map_while(&mut within).collect();
        ids.extend(small.into_iter().map_while(&mut within));
        ids.sort_unstable();
        if !ids.is_empty() {
            chosen.insert(domain, ids);
        }
    }
    chosen
}

/// What compaction works with.
pub(super) struct Rewriting<'a> {
    pub(super) packs: &'a Packs,
    pub(super) storage: &'a Storage,
    pub(super) room: &'a FreeSpace,
    pub(super) effort: Effort,
}

impl Rewriting<'_> {
    /// How large the next pack may be.
    async fn most(&self) -> Result<usize, NoRoom> {
        let room = self.room.room_to_rewrite().await?;
        Ok(usize::try_from(room).map_or(MAX_PACK_BYTES, |room| room.min(MAX_PACK_BYTES)))
    }
}

/// Records that wait for their pack, and the packs whose records have all been read.
#[derive(Default)]
struct Pending {
    records: Vec<MovedRecord>,
    bytes: usize,
    sources: Vec<PackId>,
}

impl Run<'_> {
    /// Rewrites what is worth it and what there is room for; as a dry run, sums up what that would
    /// free.
    pub(super) async fn compact(
        &mut self,
        with: &Rewriting<'_>,
        uses: &mut PackUses,
    ) -> Result<(), GcError> {
        let chosen = choose(uses, with.effort);
        if self.report.dry_run {
            for pack in chosen.values().flatten().filter_map(|source| uses.get(source)) {
                self.report.compacted_packs += 1;
                self.report.compacted_bytes += pack.bytes.saturating_sub(pack.live);
            }
            return Ok(());
        }
        for (domain, sources) in chosen {
            if let Err(error) = self.compact_domain(with, uses, domain, &sources).await {
                let Some(why) = want_of_room(&error) else { return Err(error) };
                self.report.notes.push(format!(
                    "packs were left as they are for want of room: {why}. Make room, or wait until \
                     what this collection has \
                     claimed is removed; a later one rewrites them"
                ));
                break;
            }
        }
        Ok(())
    }

    async fn compact_domain(
        &mut self,
        with: &Rewriting<'_>,
        uses: &mut PackUses,
        domain: DomainId,
        sources: &[PackId],
    ) -> Result<(), GcError> {
        let mut pending = Pending::default();
        let mut most = with.most().await?;
        for &source in sources {
            let records = match self.records(with.packs, domain, source).await? {
                Ok(records) => records,
                Err(problem) => {
                    self.report.notes.push(problem);
                    continue;
                }
            };
            for record in records {
                let bytes = record.record.frame.len()
                    + 2 * record.record.header.encoded_len()
                    + RECORD_BYTES;
                if pending.bytes + bytes > most {
                    self.write(with, uses, domain, &mut pending).await?;
                    most = with.most().await?;
                }
                pending.bytes += bytes;
                pending.records.push(record);
            }
            pending.sources.push(source);
        }
        self.write(with, uses, domain, &mut pending).await?;
        self.finish_sources(with, uses, &pending.sources).await
    }

    /// The records of a pack that chunk rows name, checked; or what is wrong with them.
    async fn records(
        &mut self,
        packs: &Packs,
        domain: DomainId,
        source: PackId,
    ) -> Result<Result<Vec<MovedRecord>, String>, GcError> {
        let rows = db::chunks::in_pack(self.db.reader().await?.exec(), source).await?;
        let mut places: Vec<ChunkLocation> = rows.iter().map(|(_, chunk)| chunk.clone()).collect();
        places.dedup_by_key(|chunk| chunk.offset);
        let chunks = match read_chunks(packs, &places).await {
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

    /// Writes what is pending, and rests for as long as that much may take.
    async fn write(
        &mut self,
        with: &Rewriting<'_>,
        uses: &mut PackUses,
        domain: DomainId,
        pending: &mut Pending,
    ) -> Result<(), GcError> {
        if pending.records.is_empty() {
            return Ok(());
        }
        self.chain.confirm().await?;
        let started = Instant::now();
        let records = std::mem::take(&mut pending.records);
        pending.bytes = 0;
        let written = with.packs.rewrite(domain, CacheId(0), records, self.ages.now()).await?.bytes;
        self.report.stored_bytes += written;
        // The records of these have all moved; the pack that is being read comes to the list when
        // it has been.
        let done = std::mem::take(&mut pending.sources);
        self.finish_sources(with, uses, &done).await?;
        if let Some(milliseconds) =
            written.saturating_mul(1_000).checked_div(with.effort.rate.bytes())
        {
            tokio::time::sleep(
                Duration::from_millis(milliseconds).saturating_sub(started.elapsed()),
            )
            .await;
        }
        Ok(())
    }

    /// Claims packs that were rewritten; one in which a chunk still is stays. What may go at once
    /// does, so that the next pack finds its room.
    async fn finish_sources(
        &mut self,
        with: &Rewriting<'_>,
        uses: &mut PackUses,
        sources: &[PackId],
    ) -> Result<(), GcError> {
        for batch in sources.chunks(256) {
            let mut held = self.begin().await?;
            db::packs::claim_empty(held.tx.exec(), batch, self.ages.now()).await?;
            self.end(held).await?;
        }
        for source in sources {
            if let Some(pack) = uses.remove(source) {
                self.report.compacted_packs += 1;
                self.report.compacted_bytes += pack.bytes.saturating_sub(pack.live);
            }
        }
        if !sources.is_empty() && self.objects >= self.ages.now() {
            self.remove_objects(with.storage).await?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(bytes: u64, live: u64) -> PackUse {
        PackUse { domain: DomainId::SHARED, bytes, is_old: true, chunks: u64::from(live > 0), live }
    }

    fn chosen(packs: &[PackUse], budget: u64) -> Vec<i64> {
        let uses = (1..).map(PackId).zip(packs.iter().cloned()).collect();
        let effort =
            Effort { budget: Size::from_bytes(budget), rate: Size::from_mib(1), worth: 0.5 };
        choose(&uses, effort).into_values().flatten().map(|id| id.0).collect()
    }

    #[test]
    fn mostly_dead_packs_are_chosen_within_the_budget_the_deadest_first() {
        let packs = [
            pack(10 << 20, 5 << 20),
            pack(10 << 20, 6 << 20),
            pack(10 << 20, 1 << 20),
            pack(10 << 20, 0),
        ];
        assert_eq!(chosen(&packs, 1 << 30), [1, 3]);
        assert_eq!(chosen(&packs, 2 << 20), [3]);
    }

    #[test]
    fn small_packs_are_put_together_once_they_are_many() {
        let small = pack(1 << 20, 1_000_000);
        assert!(chosen(&vec![small.clone(); 7], 1 << 30).is_empty());
        assert_eq!(chosen(&vec![small.clone(); 8], 1 << 30).len(), 8);
        assert_eq!(chosen(&vec![pack(3 << 20, 3 << 20); 3], 1 << 30).len(), 3);
        let young = PackUse { is_old: false, ..small };
        assert!(chosen(&vec![young; 20], 1 << 30).is_empty());
    }
}
