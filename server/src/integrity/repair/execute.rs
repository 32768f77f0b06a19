//! Execution: heals what can be healed, then takes out of sight what cannot.

use std::time::Duration;

use snowbank_core::pack::{PackIndex, PackKey};

use super::packs::RetiredNames;
use super::plan::{LostChunks, PackPlan, RepairPlan, RepairReport, Source};
use super::read_table::{read_sound, read_table};
use super::table_rows::{ExistingRows, NewRow, TableQuery, TableRows, rows_from_table};
use super::{Progress, RepairError, Repairer};
use crate::damage::retire;
use crate::db::caches::{CacheId, DomainId};
use crate::db::chunks::{ChunkLocation, NewChunk};
use crate::db::counters::{self, Counter};
use crate::db::damage::{Retirement, is_retired, retired_name};
use crate::db::leader::Work;
use crate::db::packs::{NewPack, PackId, PackState};
use crate::db::repair::{ChunkRow, RowChange};
use crate::db::{self, Tx};
use crate::pack::pack_object_key;

/// Rows that are changed in one transaction.
const BATCH: usize = 200;
/// How often it is tried to be the one that changes what is stored.
const WAIT: Duration = Duration::from_millis(500);

impl Repairer<'_> {
    /// Does what the plan says, as far as it still holds. Waits for a collection, or another
    /// repair, to end: both would move the chunks that the plan names.
    ///
    /// # Errors
    /// When database or storage fail. What was done before stays done; a new plan has the rest.
    pub async fn execute(
        &self,
        plan: RepairPlan,
        progress: Progress<'_>,
    ) -> Result<RepairReport, RepairError> {
        let mut leader = self.db.leader(Work::Collection);
        while !leader.holds().await? {
            progress("waiting for a collection, or another repair, to end".to_owned());
            tokio::time::sleep(WAIT).await;
        }
        let result = self.work(plan, progress).await;
        leader.release().await;
        result
    }

    async fn work(
        &self,
        mut plan: RepairPlan,
        progress: Progress<'_>,
    ) -> Result<RepairReport, RepairError> {
        self.chain.confirm().await?;
        self.raise(&plan).await?;
        let mut report = self.change_rows(&plan.changes).await?;
        let sources = std::mem::take(&mut plan.sources);
        report += self.take_from_tables(sources, &plan.lost, progress).await?;
        let names = plan.lost.retired.iter().map(|((_, name), id)| (*id, *name));
        let retired: RetiredNames = names.collect();
        for pack in &plan.packs {
            self.chain.confirm_lately().await?;
            report += self.mend(pack, &retired).await?;
            progress(format!("mended {}", pack_object_key(&pack.key)));
        }
        self.chain.confirm().await?;
        // Rows that a table has given another place are not as they were found.
        report += self.retire_rows(&plan.without_pack, "its pack has no row").await?;
        report += self.withdraw(&plan).await?;
        progress(format!("withdrew {} paths", report.paths.len()));
        report += self.settle_chunks(&plan).await?;
        self.finish(&plan, &report).await?;
        Ok(report)
    }

    /// C2, before any id from a table is used; and the list of withdrawn paths, before it grows.
    async fn raise(&self, plan: &RepairPlan) -> Result<(), RepairError> {
        let mut tx = self.db.exclusive_tx().await?;
        for (name, next) in &plan.counters {
            db::repair::raise_named(tx.exec(), name, *next).await?;
        }
        if plan.forget_withdrawn {
            db::repair::forget_withdrawn(tx.exec(), self.now).await?;
        }
        Ok(tx.commit().await?)
    }

    /// Sets rows right. A row whose name another row has got since is of no use, and is retired.
    async fn change_rows(&self, changes: &[RowChange]) -> Result<RepairReport, RepairError> {
        let (mut report, mut useless) = (RepairReport::default(), Vec::new());
        for batch in changes.chunks(BATCH) {
            let mut tx = self.db.exclusive_tx().await?;
            let mut possible = Vec::with_capacity(batch.len());
            for change in batch {
                let same = change.found.name == change.name;
                let taken = !same && is_taken(&mut tx, change).await?;
                if taken { useless.push(change.found) } else { possible.push(*change) }
            }
            report.rows += db::repair::change_rows(tx.exec(), &possible).await?;
            tx.commit().await?;
        }
        let reason = "its row does not say what its record is";
        report += self.retire_rows(&useless, reason).await?;
        Ok(report)
    }

    /// First what manifests name, under the ids that they name; then the other chunks of objects
    /// that no row names.
    async fn take_from_tables(
        &self,
        mut sources: Vec<Source>,
        lost: &LostChunks,
        progress: Progress<'_>,
    ) -> Result<RepairReport, RepairError> {
        let mut report = RepairReport::default();
        for source in sources.iter_mut().filter(|source| source.is_needed) {
            self.chain.confirm_lately().await?;
            report += self.take_from(source, false, lost).await?;
            progress(format!("took chunks that are needed from {}", pack_object_key(&source.key)));
        }
        for source in sources.iter_mut().filter(|source| source.takes_all) {
            self.chain.confirm_lately().await?;
            report += self.take_from(source, true, lost).await?;
            progress(format!("took chunks from {}", pack_object_key(&source.key)));
        }
        Ok(report)
    }

    async fn take_from(
        &self,
        source: &mut Source,
        all: bool,
        lost: &LostChunks,
    ) -> Result<RepairReport, RepairError> {
        let mut report = RepairReport::default();
        // Records on which a manifest depends are read. Of the others the table is believed.
        let index = if all && !self.options.reads_all_packs() {
            read_table(self.storage, &source.key, source.bytes).await?
        } else {
            read_sound(self.storage, &source.key).await?
        };
        let Ok(index) = index else { return Ok(report) };
        let mut tx = self.db.exclusive_tx().await?;
        let Some(into) = self.target(&mut tx, source).await? else { return Ok(report) };
        let domains = db::repair::domains(tx.exec()).await?;
        let known: Vec<DomainId> = domains.iter().map(|(domain, _)| *domain).collect();
        let rows = ExistingRows::load(tx.exec(), &index, &known, lost).await?;
        let given = rows_from_table(&index, &known, &rows, TableQuery { lost, all }, into);
        if given.is_empty() {
            return Ok(report);
        }
        let domain = DomainId(i64::try_from(index.domain).unwrap_or(i64::MAX));
        if source.pack.is_none() {
            let cache = domains
                .iter()
                .find(|(known, _)| *known == domain)
                .map_or(CacheId(0), |(_, cache)| *cache);
            self.name_pack(&mut tx, source, &index, (into, domain, cache)).await?;
            report.packs += 1;
        }
        report.rows += add_rows(&mut tx, domain, into, &given).await?;
        tx.commit().await?;
        source.pack = Some(into);
        Ok(report)
    }

    /// The pack that rows are to name; `None` where the object was claimed or named meanwhile.
    async fn target(&self, tx: &mut Tx, source: &Source) -> Result<Option<PackId>, RepairError> {
        let row = db::check::packs_by_key(tx.exec(), &[source.key]).await?.remove(&source.key);
        Ok(match (source.pack, row) {
            (Some(id), Some(row)) if row.id == id && row.state == PackState::Live => Some(id),
            (None, None) => Some(PackId(counters::reserve(tx.exec(), Counter::Pack, 1).await?)),
            _ => None,
        })
    }

    async fn name_pack(
        &self,
        tx: &mut Tx,
        source: &Source,
        index: &PackIndex,
        (id, domain, cache): (PackId, DomainId, CacheId),
    ) -> Result<(), RepairError> {
        let chunk_count = u32::try_from(index.entries.len()).unwrap_or(u32::MAX);
        let row = NewPack {
            id,
            domain,
            cache,
            key: source.key,
            bytes: source.bytes,
            chunk_count,
            created: self.now,
        };
        db::packs::add(tx.exec(), &row).await?;
        Ok(db::unnamed::forget(tx.exec(), &[source.key]).await?)
    }

    /// Retires the chunks of a pack that are damaged or gone, and saves the others where the pack
    /// does not know them.
    async fn mend(
        &self,
        plan: &PackPlan,
        retired: &RetiredNames,
    ) -> Result<RepairReport, RepairError> {
        let mut report = RepairReport::default();
        let row = db::packs::lookup(self.db.reader().await?.exec(), plan.pack).await?;
        let Some(pack) = row.filter(|pack| pack.state == PackState::Live) else {
            return Ok(report);
        };
        let lost: Vec<Retirement> = match self.examine(&pack, retired).await? {
            None => {
                let rows = db::chunks::in_pack(self.db.reader().await?.exec(), pack.id).await?;
                let lost = rows.into_iter().filter(|(_, chunk)| !is_retired(chunk));
                let reason = "its pack's object is gone";
                lost.map(|(domain, chunk)| Retirement { domain, chunk, reason: reason.to_owned() })
                    .collect()
            }
            Some((found, changes)) => {
                report += self.change_rows(&changes).await?;
                let healed = |id: u64| changes.iter().any(|change| change.found.id == id);
                if found.table.is_some() && !found.heads.is_empty() {
                    report.rows += self.rewrite(&pack).await?;
                    report.packs += 1;
                }
                let lost = found.faults.into_iter().filter(|fault| !healed(fault.chunk.id));
                lost.map(|fault| Retirement {
                    domain: fault.domain,
                    chunk: fault.chunk,
                    reason: fault.reason,
                })
                .collect()
            }
        };
        report.retired += retire(self.db, &lost, self.now).await?.len() as u64;
        Ok(report)
    }

    async fn retire_rows(
        &self,
        rows: &[ChunkRow],
        reason: &str,
    ) -> Result<RepairReport, RepairError> {
        let retirement = |row: &ChunkRow| {
            // Which pack it is does not matter any more.
            let pack_key = PackKey::from_bytes([0; 16]);
            let (id, name, pack, offset, len) = (row.id, row.name, row.pack, row.offset, row.len);
            let chunk = ChunkLocation { id, name, pack, pack_key, offset, len };
            Retirement { domain: row.domain, chunk, reason: reason.to_owned() }
        };
        let lost = rows.iter().filter(|row| row.name != retired_name(row.id)).map(retirement);
        let retired = retire(self.db, &lost.collect::<Vec<_>>(), self.now).await?.len() as u64;
        Ok(RepairReport { retired, ..RepairReport::default() })
    }
}

async fn is_taken(tx: &mut Tx, change: &RowChange) -> Result<bool, RepairError> {
    let found = db::repair::by_names(tx.exec(), change.found.domain, &[change.name]).await?;
    Ok(found.iter().any(|row| row.id != change.found.id))
}

/// W2 for what a table gives.
async fn add_rows(
    tx: &mut Tx,
    domain: DomainId,
    into: PackId,
    given: &TableRows,
) -> Result<u64, RepairError> {
    let without_id = given.new.iter().filter(|row| row.id.is_none()).count();
    let without_id = u32::try_from(without_id).unwrap_or(u32::MAX);
    let first = counters::reserve(tx.exec(), Counter::Chunk, without_id).await?;
    let mut next = u64::try_from(first).unwrap_or(u64::MAX);
    let mut row = |new: &NewRow| {
        let id = new.id.unwrap_or_else(|| {
            next += 1;
            next - 1
        });
        NewChunk { id, name: new.name, pack: into, offset: new.offset, len: new.len }
    };
    let mut chunks: Vec<NewChunk> = given.new.iter().map(&mut row).collect();
    // In one order everywhere, so that two writers cannot lock each other out.
    chunks.sort_unstable_by_key(|chunk| chunk.name);
    let added = db::chunks::add(tx.exec(), domain, &chunks).await?;
    Ok(added + db::repair::change_rows(tx.exec(), &given.changes).await?)
}
