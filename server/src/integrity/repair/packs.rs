//! Planning, first part: which chunks' rows lead to no bytes, or to others, and which rows their
//! pack sets right.

use std::collections::{BTreeSet, HashMap};

use snowbank_core::chunk::ChunkName;
use snowbank_core::frame::FrameVerifier;
use snowbank_core::pack::{PackEntry, PackIndex, PackKey};

use super::plan::{PackPlan, RepairPlan};
use super::{RepairError, Repairer, Tell};
use crate::damage::{Examined, examine, read_pack, record_at};
use crate::db;
use crate::db::caches::DomainId;
use crate::db::chunks::ChunkLocation;
use crate::db::damage::is_retired;
use crate::db::packs::{Pack, PackId, PackState};
use crate::db::repair::{ChunkRow, RowChange};
use crate::integrity::listing::Objects;
use crate::integrity::pace::Pace;
use crate::serving::ServeError;

/// Rows read at a time.
const PAGE: u32 = 512;

/// What retired chunks were called, by id.
pub(super) type Retired = HashMap<u64, ChunkName>;

impl Repairer<'_> {
    /// Objects that are gone, packs that are suspect or drawn by `read_data`, and rows of packs
    /// that have none.
    pub(super) async fn survey_packs(
        &self,
        listed: &Objects,
        plan: &mut RepairPlan,
        tell: Tell<'_>,
    ) -> Result<(), RepairError> {
        let mut retired = Retired::new();
        let mut suspects: BTreeSet<PackKey> = listed.odd.iter().map(|(pack, _)| pack.key).collect();
        let mut after = 0;
        loop {
            let page = db::damage::page(self.db.reader().await?.exec(), after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = last.id;
            for chunk in page {
                retired.insert(chunk.id, chunk.name);
                plan.retired.insert((chunk.domain, chunk.name), chunk.id);
                plan.bad.insert(chunk.id);
                suspects.insert(chunk.pack_key);
            }
        }
        for (pack, key) in &listed.gone {
            self.note_gone(*pack, *key, plan).await?;
        }
        let mut tempo = Pace::new(self.options.rate);
        if let Some(sample) = self.options.read_data {
            let mut after = PackId(0);
            loop {
                let page = db::packs::page(self.db.reader().await?.exec(), after, PAGE).await?;
                let Some(last) = page.last() else { break };
                after = last.id;
                let is_read =
                    |pack: &&Pack| sample.includes(pack.id.0) || suspects.contains(&pack.key);
                for pack in page.iter().filter(|pack| pack.state == PackState::Live).filter(is_read)
                {
                    self.survey_pack(pack, &retired, plan, &mut tempo).await?;
                }
                tell(format!("read packs up to number {after}"));
            }
        } else {
            let suspects: Vec<PackKey> = suspects.into_iter().collect();
            for keys in suspects.chunks(PAGE as usize) {
                let found = db::check::packs_by_key(self.db.reader().await?.exec(), keys).await?;
                for pack in found.values().filter(|pack| pack.state == PackState::Live) {
                    self.survey_pack(pack, &retired, plan, &mut tempo).await?;
                }
            }
        }
        self.survey_without_pack(plan).await
    }

    /// Reads these packs, but for those that are known to be damaged.
    pub(super) async fn survey_packs_of(
        &self,
        packs: &BTreeSet<PackId>,
        plan: &mut RepairPlan,
    ) -> Result<(), RepairError> {
        let known: BTreeSet<PackId> = plan
            .packs
            .iter()
            .map(|pack| pack.pack)
            .chain(plan.changes.iter().map(|change| change.pack))
            .collect();
        let unknown: Vec<PackId> = packs.difference(&known).copied().collect();
        let retired: Retired = plan.retired.iter().map(|((_, name), id)| (*id, *name)).collect();
        let mut tempo = Pace::new(self.options.rate);
        for pack in db::packs::lookup_many(self.db.reader().await?.exec(), &unknown).await? {
            if pack.state == PackState::Live {
                self.survey_pack(&pack, &retired, plan, &mut tempo).await?;
            }
        }
        Ok(())
    }

    async fn survey_without_pack(&self, plan: &mut RepairPlan) -> Result<(), RepairError> {
        let mut after = 0;
        loop {
            let page =
                db::repair::without_pack(self.db.reader().await?.exec(), after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.id;
            plan.bad.extend(page.iter().map(|row| row.id));
            plan.without_pack.extend(
                page.into_iter().filter(|row| row.name != db::damage::retired_name(row.id)),
            );
        }
    }

    async fn note_gone(
        &self,
        pack: PackId,
        key: PackKey,
        plan: &mut RepairPlan,
    ) -> Result<(), RepairError> {
        let rows = db::chunks::in_pack(self.db.reader().await?.exec(), pack).await?;
        plan.bad.extend(rows.iter().map(|(_, chunk)| chunk.id));
        let faults = rows.iter().filter(|(_, chunk)| !is_retired(chunk)).count() as u64;
        plan.packs.push(PackPlan { pack, key, is_gone: true, faults, sound: 0, table: None });
        Ok(())
    }

    async fn survey_pack(
        &self,
        pack: &Pack,
        retired: &Retired,
        plan: &mut RepairPlan,
        tempo: &mut Pace,
    ) -> Result<(), RepairError> {
        let Some((found, changes)) = self.examine(pack, retired).await? else {
            // Those that the listing did not have are known.
            return Ok(());
        };
        tempo.read(pack.bytes).await;
        plan.read.packs += 1;
        let healed: Vec<u64> = changes.iter().map(|change| change.found.id).collect();
        let faults: Vec<u64> = found
            .faults
            .iter()
            .map(|fault| fault.chunk.id)
            .filter(|id| !healed.contains(id))
            .collect();
        plan.bad.extend(faults.iter().copied());
        for id in healed {
            plan.bad.remove(id);
        }
        let faults = faults.len() as u64;
        let sound = (found.heads.len() + changes.len()) as u64;
        plan.changes.extend(changes);
        if faults > 0 || found.table.is_some() {
            let (pack, key) = (pack.id, pack.key);
            plan.packs.push(PackPlan {
                pack,
                key,
                is_gone: false,
                faults,
                sound,
                table: found.table,
            });
        }
        Ok(())
    }

    /// Reads a pack and judges its rows; `None` where the object is gone. The changes are those
    /// that its own table gives.
    pub(super) async fn examine(
        &self,
        pack: &Pack,
        retired: &Retired,
    ) -> Result<Option<(Examined, Vec<RowChange>)>, RepairError> {
        let Some(object) = read_pack(self.storage, &pack.key).await? else { return Ok(None) };
        let rows = db::chunks::in_pack(self.db.reader().await?.exec(), pack.id).await?;
        let (key, retired) = (pack.key, rows_retired(&rows, retired));
        let judged = tokio::task::spawn_blocking(move || {
            let found = examine(&key, Some(&object), &rows);
            let mut changes = Vec::new();
            if let Some(index) = &found.index {
                let mut verifier = FrameVerifier::new();
                let at_fault =
                    found.faults.iter().map(|fault| (fault.domain, &fault.chunk, fault.chunk.name));
                let wanted = at_fault
                    .chain(retired.iter().map(|(domain, chunk, name)| (*domain, chunk, *name)));
                for (domain, chunk, name) in wanted {
                    changes.extend(change(&mut verifier, index, &object, domain, chunk, name));
                }
            }
            (found, changes)
        });
        Ok(Some(judged.await.map_err(|_| ServeError::Stopped)?))
    }
}

/// The rows that are retired, with the names that they had.
fn rows_retired(
    rows: &[(DomainId, ChunkLocation)],
    names: &Retired,
) -> Vec<(DomainId, ChunkLocation, ChunkName)> {
    let retired = rows.iter().filter(|(_, chunk)| is_retired(chunk));
    retired
        .filter_map(|(domain, chunk)| Some((*domain, chunk.clone(), *names.get(&chunk.id)?)))
        .collect()
}

/// How a row is set right: the pack has a sound record that was written for that very row, or one
/// alone of that name. (Two of one name may be different frames, and a manifest knows which.)
fn change(
    verifier: &mut FrameVerifier,
    index: &PackIndex,
    object: &[u8],
    domain: DomainId,
    chunk: &ChunkLocation,
    name: ChunkName,
) -> Option<RowChange> {
    let mut sound = |entry: &&PackEntry| {
        record_at(verifier, object, entry.span.offset, entry.span.len, &entry.header.name).is_ok()
    };
    let of_row =
        |entry: &&PackEntry| entry.id == chunk.id && index.domain == domain.0.unsigned_abs();
    let own = index.entries.iter().filter(of_row).find(&mut sound);
    let mut of_name = index.entries.iter().filter(|entry| entry.header.name == name);
    let only = of_name.next().filter(|_| of_name.next().is_none());
    let entry = own.or_else(|| only.filter(&mut sound))?;
    let found = ChunkRow {
        id: chunk.id,
        domain,
        name: chunk.name,
        pack: chunk.pack,
        offset: chunk.offset,
        len: chunk.len,
    };
    let (name, pack) = (entry.header.name, chunk.pack);
    Some(RowChange { found, name, pack, offset: entry.span.offset, len: entry.span.len })
}
