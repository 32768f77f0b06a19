//! Execution, last part: NARs that cannot be served are withdrawn; then nothing names the chunks
//! that were retired, and their rows go.

use std::collections::HashMap;

use roaring::RoaringTreemap;
use snowbank_core::hash::NarHash;
use snowbank_core::manifest::Segment;

use super::plan::{RepairPlan, RepairReport};
use super::{RepairError, Repairer};
use crate::admin::Actor;
use crate::damage::{manifest_fault, withdraw_nar, withdraw_paths};
use crate::db::audit;
use crate::db::caches::CacheId;
use crate::db::check::NarFacts;
use crate::db::damage::WithdrawnPath;
use crate::db::nars::NarId;
use crate::db::packs::PackId;
use crate::db::{self, DbError, settings};

/// Rows read, or changed in one transaction.
const PAGE: u32 = 128;
const BATCH: usize = 500;

/// Caches' names, for what is told of their paths.
struct Names(HashMap<CacheId, String>);

impl Names {
    fn of(&self, paths: &[WithdrawnPath]) -> Vec<String> {
        let name = |path: &WithdrawnPath| {
            self.0.get(&path.cache).cloned().unwrap_or_else(|| path.cache.to_string())
        };
        paths.iter().map(|path| format!("{} {}", name(path), path.base_name())).collect()
    }
}

impl Repairer<'_> {
    /// Withdraws the NARs of the plan that are not whole by now, those that were expected to be and
    /// are not, and those that came since and name a chunk that was retired; and paths whose rows
    /// make no sense.
    pub(super) async fn withdraw(&self, plan: &RepairPlan) -> Result<RepairReport, RepairError> {
        let mut report = RepairReport::default();
        let caches = db::caches::list(self.db.reader().await?.exec()).await?;
        let names =
            Names(caches.into_iter().map(|cache| (cache.id, cache.name.to_string())).collect());
        for nar in &plan.nars {
            let known = nar.is_decoded.then_some(nar.reason.as_str());
            report += self.withdraw_if_broken(nar.nar, known, &names).await?;
        }
        for nar in &plan.healed {
            report += self.withdraw_if_broken(*nar, None, &names).await?;
        }
        let mut after = plan.last_nar;
        loop {
            let page = db::check::nars(self.db.reader().await?.exec(), after, PAGE).await?;
            let Some((last, _)) = page.last() else { break };
            after = *last;
            for (id, _) in page {
                report += self.withdraw_if_broken(NarId(id), None, &names).await?;
            }
        }
        for path in &plan.paths {
            let withdrawn = withdraw_paths(self.db, &[path.id], &path.reason, self.now).await?;
            report.paths.extend(names.of(&withdrawn));
        }
        Ok(report)
    }

    /// `known` is why a NAR is to go whose rows look well.
    async fn withdraw_if_broken(
        &self,
        nar: NarId,
        known: Option<&str>,
        names: &Names,
    ) -> Result<RepairReport, RepairError> {
        let mut report = RepairReport::default();
        let Some((_, row)) = db::check::nar(self.db.reader().await?.exec(), nar).await? else {
            return Ok(report);
        };
        let (hash, reason) = match row {
            Ok(NarFacts { nar, first }) => {
                let fault = manifest_fault(self.db, &nar, &first, |_, _| {}).await?;
                (nar.nar_hash, fault.map(|fault| fault.detail).or_else(|| known.map(str::to_owned)))
            }
            Err(DbError::Corrupt(reason)) => (NarHash::from_bytes([0; 32]), Some(reason)),
            Err(error) => return Err(error.into()),
        };
        if let Some(reason) = reason {
            let withdrawn = withdraw_nar(self.db, nar, hash, &reason, self.now).await?;
            report.nars += 1;
            report.paths.extend(names.of(&withdrawn.paths));
        }
        Ok(report)
    }

    /// Removes the rows of retired chunks that nothing names, and claims the packs that are empty
    /// then.
    pub(super) async fn settle_chunks(
        &self,
        plan: &RepairPlan,
    ) -> Result<RepairReport, RepairError> {
        let mut report = RepairReport::default();
        let mut retired = RoaringTreemap::new();
        let mut after = 0;
        loop {
            let page = db::damage::page(self.db.reader().await?.exec(), after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = last.id;
            retired.extend(page.iter().map(|chunk| chunk.id));
        }
        let named = if retired.is_empty() {
            RoaringTreemap::new()
        } else {
            self.named_of(&retired).await?
        };
        let ids: Vec<u64> = (retired - named).iter().collect();
        for batch in ids.chunks(BATCH) {
            let mut tx = self.db.exclusive_tx().await?;
            let packs = db::repair::remove_retired(tx.exec(), batch).await?;
            db::packs::claim_empty(tx.exec(), &packs, self.now).await?;
            tx.commit().await?;
            report.settled += batch.len() as u64;
        }
        let packs: Vec<PackId> = plan.packs.iter().map(|pack| pack.pack).collect();
        for batch in packs.chunks(BATCH) {
            let mut tx = self.db.exclusive_tx().await?;
            db::packs::claim_empty(tx.exec(), batch, self.now).await?;
            tx.commit().await?;
        }
        Ok(report)
    }

    /// Removes rows that belong to nothing, turns collection on again, and writes the audit log.
    pub(super) async fn finish(
        &self,
        plan: &RepairPlan,
        report: &RepairReport,
    ) -> Result<(), RepairError> {
        let mut tx = self.db.exclusive_tx().await?;
        if plan.stale > 0 {
            db::repair::remove_stale(tx.exec()).await?;
        }
        settings::remove(tx.exec(), settings::COLLECTION_OFF).await?;
        let said = report.to_string();
        let entry = Actor::host().entry(
            "repair",
            "",
            said.lines().last().unwrap_or_default(),
            "ok",
            self.now,
        );
        audit::add(&mut tx, &[entry]).await?;
        Ok(tx.commit().await?)
    }

    /// Those of `ids` that some manifest names.
    async fn named_of(&self, ids: &RoaringTreemap) -> Result<RoaringTreemap, RepairError> {
        let (mut named, mut after) = (RoaringTreemap::new(), 0);
        let mut note = |data: &[u8]| {
            let entries = Segment::decode(data).map(|segment| segment.entries).unwrap_or_default();
            named.extend(entries.iter().map(|entry| entry.id).filter(|id| ids.contains(*id)));
        };
        loop {
            let page = db::check::nars(self.db.reader().await?.exec(), after, PAGE).await?;
            let Some((last, _)) = page.last() else { break };
            after = *last;
            for facts in page.into_iter().filter_map(|(_, row)| row.ok()) {
                note(&facts.first);
                for seq in 1..facts.nar.segment_count {
                    let data = db::nars::segment(self.db.reader().await?.exec(), facts.nar.id, seq)
                        .await?;
                    note(&data.unwrap_or_default());
                }
            }
        }
        Ok(named)
    }
}
