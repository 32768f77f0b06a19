//! Planning, first part: which chunks' rows lead to no bytes, or to others, and which rows their
//! pack sets right.

use std::collections::{BTreeSet, HashMap};

use roaring::RoaringTreemap;
use snowbank_core::chunk::ChunkName;
use snowbank_core::frame::FrameVerifier;
use snowbank_core::pack::{PackEntry, PackIndex, PackKey};

use super::plan::{PackPlan, RetiredChunks};
use super::{Progress, RepairError, Repairer};
use crate::damage::{PackExamination, examine, read_pack, record_at};
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

/// The names that retired chunks had, by id.
pub(super) type RetiredNames = HashMap<u64, ChunkName>;

/// Reads packs, and notes what is wrong with them.
pub(super) struct PackSurvey<'a> {
    repairer: &'a Repairer<'a>,
    pace: Pace,
    retired_names: RetiredNames,
    found: PackFindings,
}

/// What was found in packs.
#[derive(Debug, Default)]
pub(super) struct PackFindings {
    /// Packs that are damaged or gone.
    pub(super) packs: Vec<PackPlan>,
    /// Rows that say something else than their pack, which is right.
    pub(super) changes: Vec<RowChange>,
    /// Chunks whose pack has no row.
    pub(super) without_pack: Vec<ChunkRow>,
    /// Chunks whose rows lead to no bytes, or to others.
    pub(super) bad: RoaringTreemap,
    pub(super) retired: RetiredChunks,
    /// Packs that were read whole.
    pub(super) read: u64,
}

impl<'a> PackSurvey<'a> {
    /// Has read nothing yet.
    pub(super) fn new(repairer: &'a Repairer<'a>) -> Self {
        Self {
            repairer,
            pace: Pace::new(repairer.options.rate),
            retired_names: RetiredNames::new(),
            found: PackFindings::default(),
        }
    }

    /// Looks at objects that are gone, at packs that are suspect or drawn by `read_data`, and at
    /// rows of packs that have none.
    pub(super) async fn read(
        &mut self,
        listed: &Objects,
        progress: Progress<'_>,
    ) -> Result<(), RepairError> {
        let db = self.repairer.db;
        let mut suspects: BTreeSet<PackKey> = listed.odd.iter().map(|(pack, _)| pack.key).collect();
        suspects.extend(self.read_retired().await?);
        for (pack, key) in &listed.gone {
            self.note_gone(*pack, *key).await?;
        }
        if let Some(sample) = self.repairer.options.read_data {
            let mut after = PackId(0);
            loop {
                let page = db::packs::page(db.reader().await?.exec(), after, PAGE).await?;
                let Some(last) = page.last() else { break };
                after = last.id;
                let is_read =
                    |pack: &&Pack| sample.includes(pack.id.0) || suspects.contains(&pack.key);
                for pack in page.iter().filter(|pack| pack.state == PackState::Live).filter(is_read)
                {
                    self.read_pack(pack).await?;
                }
                progress(format!("read packs up to number {after}"));
            }
        } else {
            let suspects: Vec<PackKey> = suspects.into_iter().collect();
            for keys in suspects.chunks(PAGE as usize) {
                let found = db::check::packs_by_key(db.reader().await?.exec(), keys).await?;
                for pack in found.values().filter(|pack| pack.state == PackState::Live) {
                    self.read_pack(pack).await?;
                }
            }
        }
        self.read_without_pack().await
    }

    /// Reads these packs, except those that are known to be damaged.
    pub(super) async fn read_these(&mut self, packs: &BTreeSet<PackId>) -> Result<(), RepairError> {
        let known: BTreeSet<PackId> = self
            .found
            .packs
            .iter()
            .map(|pack| pack.pack)
            .chain(self.found.changes.iter().map(|change| change.pack))
            .collect();
        let unknown: Vec<PackId> = packs.difference(&known).copied().collect();
        let mut conn = self.repairer.db.reader().await?;
        let packs = db::packs::lookup_many(conn.exec(), &unknown).await?;
        drop(conn);
        for pack in packs.iter().filter(|pack| pack.state == PackState::Live) {
            self.read_pack(pack).await?;
        }
        Ok(())
    }

    /// Whether the row of a chunk leads to no bytes, or to others.
    pub(super) fn is_bad(&self, chunk: u64) -> bool {
        self.found.bad.contains(chunk)
    }

    /// Chunks whose rows are set right.
    pub(super) fn healing(&self) -> RoaringTreemap {
        self.found.changes.iter().map(|change| change.found.id).collect()
    }

    /// All that was found.
    pub(super) fn finish(self) -> PackFindings {
        self.found
    }

    /// Takes in the chunks that were retired before. Gives the packs in which they are.
    async fn read_retired(&mut self) -> Result<BTreeSet<PackKey>, RepairError> {
        let (mut packs, mut after) = (BTreeSet::new(), 0);
        loop {
            let mut conn = self.repairer.db.reader().await?;
            let page = db::damage::page(conn.exec(), after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(packs) };
            after = last.id;
            for chunk in page {
                self.retired_names.insert(chunk.id, chunk.name);
                self.found.retired.insert((chunk.domain, chunk.name), chunk.id);
                self.found.bad.insert(chunk.id);
                packs.insert(chunk.pack_key);
            }
        }
    }

    async fn read_without_pack(&mut self) -> Result<(), RepairError> {
        let mut after = 0;
        loop {
            let mut conn = self.repairer.db.reader().await?;
            let page = db::repair::without_pack(conn.exec(), after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.id;
            self.found.bad.extend(page.iter().map(|row| row.id));
            self.found.without_pack.extend(
                page.into_iter().filter(|row| row.name != db::damage::retired_name(row.id)),
            );
        }
    }

    async fn note_gone(&mut self, pack: PackId, key: PackKey) -> Result<(), RepairError> {
        let rows = db::chunks::in_pack(self.repairer.db.reader().await?.exec(), pack).await?;
        self.found.bad.extend(rows.iter().map(|(_, chunk)| chunk.id));
        let faults = rows.iter().filter(|(_, chunk)| !is_retired(chunk)).count() as u64;
        self.found.packs.push(PackPlan { pack, key, is_gone: true, faults, sound: 0, table: None });
        Ok(())
    }

    async fn read_pack(&mut self, pack: &Pack) -> Result<(), RepairError> {
        let examined = self.repairer.examine(pack, &self.retired_names).await?;
        // Objects that are gone are known from the listing.
        let Some((examined, changes)) = examined else { return Ok(()) };
        self.pace.read(pack.bytes).await;
        self.found.read += 1;
        let healed: Vec<u64> = changes.iter().map(|change| change.found.id).collect();
        let ids = examined.faults.iter().map(|fault| fault.chunk.id);
        let faults: Vec<u64> = ids.filter(|id| !healed.contains(id)).collect();
        self.found.bad.extend(faults.iter().copied());
        for id in healed {
            self.found.bad.remove(id);
        }
        let faults = faults.len() as u64;
        let sound = (examined.heads.len() + changes.len()) as u64;
        self.found.changes.extend(changes);
        if faults > 0 || examined.table.is_some() {
            let (pack, key, table) = (pack.id, pack.key, examined.table);
            self.found.packs.push(PackPlan { pack, key, is_gone: false, faults, sound, table });
        }
        Ok(())
    }
}

impl Repairer<'_> {
    /// Reads a pack and judges its rows; `None` where the object is gone. The changes are those
    /// that its own table gives.
    pub(super) async fn examine(
        &self,
        pack: &Pack,
        retired: &RetiredNames,
    ) -> Result<Option<(PackExamination, Vec<RowChange>)>, RepairError> {
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
    names: &RetiredNames,
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
