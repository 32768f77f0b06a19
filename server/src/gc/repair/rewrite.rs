//! A pack whose records are sound and whose table is not: its records are written anew, as they are, into a pack that knows
//! them, and the rows lead there (C4). The old one is claimed, and collected like any other.

use std::collections::BTreeMap;

use snowbank_core::pack::Record;

use super::{RepairError, Repairer};
use crate::damage::{examine, read_pack};
use crate::db;
use crate::db::caches::DomainId;
use crate::db::chunks::ChunkLocation;
use crate::db::counters::{self, Counter};
use crate::db::packs::{NewPack, Pack, PackId};
use crate::db::repair::{ChunkRow, RowChange};
use crate::pack::NewRecord;
use crate::serving::ServeError;

/// The sound records of a pack by where they are, and the rows that name them.
type Sound = (BTreeMap<u32, (u64, NewRecord)>, Vec<(DomainId, ChunkLocation)>);

impl Repairer<'_> {
    /// Writes the sound records of `pack` anew; gives how many rows lead to them now.
    pub(super) async fn rewrite(&self, pack: &Pack) -> Result<u64, RepairError> {
        let Some(object) = read_pack(self.storage, &pack.key).await? else { return Ok(0) };
        let rows = db::chunks::in_pack(self.db.reader().await?.exec(), pack.id).await?;
        let key = pack.key;
        let (records, rows): Sound = tokio::task::spawn_blocking(move || {
            let heads = examine(&key, Some(&object), &rows).heads;
            let rows: Vec<(DomainId, ChunkLocation)> =
                rows.into_iter().filter(|(_, chunk)| heads.contains_key(&chunk.id)).collect();
            let record = |(_, chunk): &(DomainId, ChunkLocation)| {
                let start = chunk.offset as usize;
                let record = Record::parse(object.get(start..start + chunk.len as usize)?).ok()?;
                let new = NewRecord { header: record.header, frame: record.frame.to_vec() };
                Some((chunk.offset, (record.id, new)))
            };
            (rows.iter().filter_map(record).collect(), rows)
        })
        .await
        .map_err(|_| ServeError::Stopped)?;
        if records.is_empty() {
            return Ok(0);
        }
        let (offsets, records): (Vec<u32>, Vec<(u64, NewRecord)>) = records.into_iter().unzip();
        let chunk_count = u32::try_from(records.len()).unwrap_or(u32::MAX);
        let stored = self.packs.put_records(pack.domain, records).await?;

        let mut tx = self.db.exclusive_tx().await?;
        let id = PackId(counters::reserve(tx.exec(), Counter::Pack, 1).await?);
        let (domain, cache, key, bytes) = (pack.domain, pack.cache, stored.key, stored.bytes);
        let row = NewPack { id, domain, cache, key, bytes, chunk_count, created: self.now };
        db::packs::add(tx.exec(), &row).await?;
        let places: BTreeMap<u32, _> = offsets.into_iter().zip(stored.spans).collect();
        let change = |(domain, chunk): &(DomainId, ChunkLocation)| {
            let span = places.get(&chunk.offset)?;
            let (pack, offset, len) = (chunk.pack, chunk.offset, chunk.len);
            let found = ChunkRow { id: chunk.id, domain: *domain, name: chunk.name, pack, offset, len };
            Some(RowChange { found, name: chunk.name, pack: id, offset: span.offset, len: span.len })
        };
        let changes: Vec<RowChange> = rows.iter().filter_map(change).collect();
        let moved = db::repair::change_rows(tx.exec(), &changes).await?;
        db::packs::claim_empty(tx.exec(), &[pack.id], self.now).await?;
        tx.commit().await?;
        Ok(moved)
    }
}
