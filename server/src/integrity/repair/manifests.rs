//! Planning, second part: which NARs cannot be served any more, and which would be whole again with
//! rows from packs' tables.

use std::collections::{BTreeSet, HashMap};

use roaring::RoaringTreemap;

use super::packs::PackSurvey;
use super::plan::NarPlan;
use super::{Progress, RepairError, Repairer};
use crate::damage::manifest_fault;
use crate::db::check::NarFacts;
use crate::db::chunks::ChunkLocation;
use crate::db::collection::last_nar;
use crate::db::nars::NarId;
use crate::db::packs::PackId;
use crate::db::{self, DbError};

/// Rows read at a time.
const PAGE: u32 = 128;

/// What is wrong with a NAR.
enum Verdict {
    Whole,
    /// It names chunks that have no row, or no bytes. Perhaps tables give them.
    Lacks(String),
    /// It names rows that are set right.
    Healing,
    Broken(String),
}

/// Reads all manifests, and judges their NARs.
pub(super) struct ManifestSurvey<'a> {
    repairer: &'a Repairer<'a>,
    missing: RoaringTreemap,
    /// NARs that lack chunks, and what each lacks.
    pending: Vec<(NarId, String)>,
    found: NarFindings,
}

/// What was found of NARs.
#[derive(Debug, Default)]
pub(super) struct NarFindings {
    /// They are to be withdrawn.
    pub(super) broken: Vec<NarPlan>,
    /// They are expected to be whole after the repair.
    pub(super) healed: Vec<NarId>,
    /// NARs with a higher id came later.
    pub(super) last_nar: i64,
    /// The highest chunk id in any manifest.
    pub(super) highest_chunk: i64,
}

impl<'a> ManifestSurvey<'a> {
    /// Has read nothing yet.
    pub(super) fn new(repairer: &'a Repairer<'a>) -> Self {
        let (missing, pending) = (RoaringTreemap::new(), Vec::new());
        Self { repairer, missing, pending, found: NarFindings::default() }
    }

    /// Reads all manifests. Where one is broken, `packs` reads the packs of its chunks too.
    pub(super) async fn read(
        &mut self,
        packs: &mut PackSurvey<'_>,
        progress: Progress<'_>,
    ) -> Result<(), RepairError> {
        let db = self.repairer.db;
        let healing = packs.healing();
        let (mut broken, mut after) = (Vec::new(), 0);
        self.found.last_nar = last_nar(db.exclusive_tx().await?.exec()).await?.0;
        loop {
            let page = db::check::nars(db.reader().await?.exec(), after, PAGE).await?;
            let Some((last, _)) = page.last() else { break };
            after = *last;
            for (id, row) in page {
                let nar = NarId(id);
                let hash = row.as_ref().map(|facts| facts.nar.nar_hash).ok();
                let verdict = self.judge(row, packs, &healing).await?;
                if let Some(reason) = self.note(nar, verdict) {
                    broken.push(NarPlan::new(nar, hash, reason));
                }
            }
            progress(format!("read manifests up to number {after}"));
        }
        for plan in broken {
            // Its manifest may be well, and rows of its chunks not.
            let verdict = self.look_closer(plan.nar, packs).await?;
            if self.note(plan.nar, verdict).is_some() {
                self.found.broken.push(plan);
            }
        }
        Ok(())
    }

    /// Chunks that manifests name and that have no row.
    pub(super) fn take_missing(&mut self) -> RoaringTreemap {
        std::mem::take(&mut self.missing)
    }

    /// Tells the NARs that will be whole from those that will not, once it is known which chunks no
    /// table gives.
    pub(super) async fn finish(
        mut self,
        lost: &RoaringTreemap,
    ) -> Result<NarFindings, RepairError> {
        let db = self.repairer.db;
        for (nar, reason) in self.pending {
            let Some((_, Ok(facts))) = db::check::nar(db.reader().await?.exec(), nar).await? else {
                continue;
            };
            let mut lacks = false;
            manifest_fault(db, &facts.nar, &facts.first, |entries, _| {
                lacks |= entries.iter().any(|entry| lost.contains(entry.id));
            })
            .await?;
            if lacks {
                self.found.broken.push(NarPlan::new(nar, Some(facts.nar.nar_hash), reason));
            } else {
                self.found.healed.push(nar);
            }
        }
        Ok(self.found)
    }

    /// Takes in a verdict. Gives the reason where the NAR is broken.
    fn note(&mut self, nar: NarId, verdict: Verdict) -> Option<String> {
        match verdict {
            Verdict::Whole => {}
            Verdict::Lacks(reason) => self.pending.push((nar, reason)),
            Verdict::Healing => self.found.healed.push(nar),
            Verdict::Broken(reason) => return Some(reason),
        }
        None
    }

    /// Reads the packs of a NAR's chunks, unless all were read, and judges it once more.
    async fn look_closer(
        &mut self,
        nar: NarId,
        packs: &mut PackSurvey<'_>,
    ) -> Result<Verdict, RepairError> {
        let db = self.repairer.db;
        let found = db::check::nar(db.reader().await?.exec(), nar).await?;
        let Some((_, row)) = found else { return Ok(Verdict::Whole) };
        if let (Ok(facts), false) = (&row, self.repairer.options.reads_all_packs()) {
            let mut named: BTreeSet<PackId> = BTreeSet::new();
            let look = |_: &[_], rows: &HashMap<u64, ChunkLocation>| {
                named.extend(rows.values().map(|row| row.pack));
            };
            manifest_fault(db, &facts.nar, &facts.first, look).await?;
            packs.read_these(&named).await?;
        }
        self.judge(row, packs, &packs.healing()).await
    }

    async fn judge(
        &mut self,
        row: Result<NarFacts, DbError>,
        packs: &PackSurvey<'_>,
        healing: &RoaringTreemap,
    ) -> Result<Verdict, RepairError> {
        let facts = match row {
            Ok(facts) => facts,
            Err(DbError::Corrupt(reason)) => return Ok(Verdict::Broken(reason)),
            Err(error) => return Err(error.into()),
        };
        let (mut bad, mut heals, mut highest) = (None, false, 0);
        let fault = manifest_fault(self.repairer.db, &facts.nar, &facts.first, |entries, _| {
            for entry in entries {
                highest = entry.id.max(highest);
                heals |= healing.contains(entry.id);
                if packs.is_bad(entry.id) {
                    bad = bad.or(Some(entry.id));
                }
            }
        });
        let fault = fault.await?;
        let highest = i64::try_from(highest).unwrap_or(i64::MAX - 1);
        self.found.highest_chunk = self.found.highest_chunk.max(highest);
        Ok(match (fault, bad) {
            (Some(fault), _) if !fault.missing.is_empty() => {
                self.missing.extend(fault.missing);
                Verdict::Lacks(fault.detail)
            }
            (_, Some(id)) => {
                Verdict::Lacks(format!("chunk {id} of its manifest is damaged or gone"))
            }
            (_, None) if heals => Verdict::Healing,
            (Some(fault), None) => Verdict::Broken(fault.detail),
            (None, None) => Verdict::Whole,
        })
    }
}
