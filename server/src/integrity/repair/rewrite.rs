//! A pack whose records are sound and whose table is not: its records are written anew, as they
//! are, into a pack that knows them, and the rows lead there (C4). The old one is claimed, and
//! collected like any other.

use std::collections::BTreeMap;

use snowbank_core::pack::Record;

use super::{RepairError, Repairer};
use crate::damage::{examine, read_pack};
use crate::db;
use crate::db::packs::Pack;
use crate::pack::{MovedRecord, NewRecord};
use crate::serving::ServeError;

impl Repairer<'_> {
    /// Writes the sound records of `pack` anew; gives how many rows lead to them now.
    pub(super) async fn rewrite(&self, pack: &Pack) -> Result<u64, RepairError> {
        let Some(object) = read_pack(self.storage, &pack.key).await? else { return Ok(0) };
        let rows = db::chunks::in_pack(self.db.reader().await?.exec(), pack.id).await?;
        let (key, id) = (pack.key, pack.id);
        let sound = move || -> Vec<MovedRecord> {
            let heads = examine(&key, Some(&object), &rows).heads;
            let mut moved = BTreeMap::new();
            for (_, chunk) in rows.iter().filter(|(_, chunk)| heads.contains_key(&chunk.id)) {
                let start = chunk.offset as usize;
                let bytes = object.get(start..start + chunk.len as usize);
                let Some(record) = bytes.and_then(|bytes| Record::parse(bytes).ok()) else {
                    continue;
                };
                let entry = moved.entry(chunk.offset).or_insert_with(|| {
                    let new = NewRecord { header: record.header, frame: record.frame.to_vec() };
                    MovedRecord { id: record.id, record: new, rows: Vec::new() }
                });
                entry.rows.push((chunk.id, id));
            }
            moved.into_values().collect()
        };
        let records = tokio::task::spawn_blocking(sound).await.map_err(|_| ServeError::Stopped)?;
        if records.is_empty() {
            return Ok(0);
        }
        let rows = self.packs.rewrite(pack.domain, pack.cache, records, self.now).await?.rows;
        let mut tx = self.db.exclusive_tx().await?;
        db::packs::claim_empty(tx.exec(), &[pack.id], self.now).await?;
        tx.commit().await?;
        Ok(rows)
    }
}
