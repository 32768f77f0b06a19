//! Planning, second part: which NARs cannot be served any more, and which would be whole again with
//! rows from packs' tables.

use std::collections::{BTreeSet, HashMap, HashSet};

use roaring::RoaringTreemap;

use super::plan::{NarPlan, RepairPlan};
use super::{RepairError, Repairer, Tell};
use crate::damage::manifest_fault;
use crate::db::caches::CacheId;
use crate::db::check::NarFacts;
use crate::db::chunks::ChunkLocation;
use crate::db::collection::last_nar;
use crate::db::damage::paths_of;
use crate::db::nars::NarId;
use crate::db::packs::PackId;
use crate::db::paths::PathId;
use crate::db::{self, DbError};
use crate::integrity::content::{NarSelection, content_fault};
use crate::integrity::pace::Pace;

/// Rows read at a time.
const PAGE: u32 = 512;
const NARS: u32 = 128;
/// Paths of one NAR that are named.
const PATHS: u32 = 10_000;

/// What is wrong with a NAR.
pub(super) enum Verdict {
    Whole,
    /// It names chunks that have no row, or no bytes: perhaps they can be had.
    Lacks(String),
    /// It names rows that are set right.
    Healing,
    Broken(String),
}

impl Repairer<'_> {
    /// Reads all manifests; gives the NARs that lack chunks, with what each lacks.
    pub(super) async fn survey_manifests(
        &self,
        plan: &mut RepairPlan,
        tell: Tell<'_>,
    ) -> Result<Vec<(NarId, String)>, RepairError> {
        let healing: RoaringTreemap = plan.changes.iter().map(|change| change.found.id).collect();
        let (mut pending, mut broken, mut after) = (Vec::new(), Vec::new(), 0);
        plan.last_nar = last_nar(self.db.exclusive_tx().await?.exec()).await?.0;
        loop {
            let page = db::check::nars(self.db.reader().await?.exec(), after, NARS).await?;
            let Some((last, _)) = page.last() else { break };
            after = *last;
            for (id, row) in page {
                let nar = NarId(id);
                let hash = row.as_ref().map(|facts| facts.nar.nar_hash).ok();
                match self.judge_nar(row, plan, &healing).await? {
                    Verdict::Whole => {}
                    Verdict::Lacks(reason) => pending.push((nar, reason)),
                    Verdict::Healing => plan.healed.push(nar),
                    Verdict::Broken(reason) => broken.push((nar, hash, reason)),
                }
            }
            tell(format!("read manifests up to number {after}"));
        }
        for (nar, hash, reason) in broken {
            // Its manifest may be well, and rows of its chunks not.
            match self.look_closer(nar, plan).await? {
                Verdict::Whole => {}
                Verdict::Healing => plan.healed.push(nar),
                Verdict::Lacks(reason) => pending.push((nar, reason)),
                Verdict::Broken(_) => {
                    plan.nars.push(NarPlan {
                        nar,
                        hash,
                        reason,
                        is_decoded: false,
                        paths: Vec::new(),
                    });
                }
            }
        }
        Ok(pending)
    }

    /// Reads the packs of a NAR's chunks, unless all were read, and judges it once more.
    async fn look_closer(&self, nar: NarId, plan: &mut RepairPlan) -> Result<Verdict, RepairError> {
        let found = db::check::nar(self.db.reader().await?.exec(), nar).await?;
        let Some((_, row)) = found else { return Ok(Verdict::Whole) };
        if let (Ok(facts), false) = (&row, self.options.reads_all_packs()) {
            let mut packs: BTreeSet<PackId> = BTreeSet::new();
            let look = |_: &[_], rows: &HashMap<u64, ChunkLocation>| {
                packs.extend(rows.values().map(|row| row.pack));
            };
            manifest_fault(self.db, &facts.nar, &facts.first, look).await?;
            self.survey_packs_of(&packs, plan).await?;
        }
        let healing: RoaringTreemap = plan.changes.iter().map(|change| change.found.id).collect();
        self.judge_nar(row, plan, &healing).await
    }

    async fn judge_nar(
        &self,
        row: Result<NarFacts, DbError>,
        plan: &mut RepairPlan,
        healing: &RoaringTreemap,
    ) -> Result<Verdict, RepairError> {
        let facts = match row {
            Ok(facts) => facts,
            Err(DbError::Corrupt(reason)) => return Ok(Verdict::Broken(reason)),
            Err(error) => return Err(error.into()),
        };
        let (mut bad, mut heals, mut highest) = (None, false, 0);
        let known = &plan.bad;
        let fault = manifest_fault(self.db, &facts.nar, &facts.first, |entries, _| {
            for entry in entries {
                highest = entry.id.max(highest);
                heals |= healing.contains(entry.id);
                if known.contains(entry.id) {
                    bad = bad.or(Some(entry.id));
                }
            }
        });
        let fault = fault.await?;
        plan.highest_chunk = plan.highest_chunk.max(i64::try_from(highest).unwrap_or(i64::MAX - 1));
        Ok(match (fault, bad) {
            (Some(fault), _) if !fault.missing.is_empty() => {
                plan.missing.extend(fault.missing);
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

    /// Tells those that will be whole from those that will not, once it is known what the packs'
    /// tables give.
    pub(super) async fn judge(
        &self,
        pending: Vec<(NarId, String)>,
        plan: &mut RepairPlan,
    ) -> Result<(), RepairError> {
        let lost: RoaringTreemap = (&plan.missing | &plan.bad) - &plan.restored;
        for (nar, reason) in pending {
            let Some((_, Ok(facts))) = db::check::nar(self.db.reader().await?.exec(), nar).await?
            else {
                continue;
            };
            let mut lacks = false;
            manifest_fault(self.db, &facts.nar, &facts.first, |entries, _| {
                lacks |= entries.iter().any(|entry| lost.contains(entry.id));
            })
            .await?;
            if lacks {
                let hash = Some(facts.nar.nar_hash);
                plan.nars.push(NarPlan { nar, hash, reason, is_decoded: false, paths: Vec::new() });
            } else {
                plan.healed.push(nar);
            }
        }
        Ok(())
    }

    /// Paths whose own rows make no sense, NARs that do not decode to what their rows say, and the
    /// names of all that goes.
    pub(super) async fn survey_paths(
        &self,
        plan: &mut RepairPlan,
        tell: Tell<'_>,
    ) -> Result<(), RepairError> {
        let caches = db::caches::list(self.db.reader().await?.exec()).await?;
        let caches: HashMap<CacheId, _> =
            caches.into_iter().map(|cache| (cache.id, (cache.name, cache.domain))).collect();
        let mut after = PathId(0);
        loop {
            let page = db::check::paths(self.db.reader().await?.exec(), after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = last.id;
            for path in page {
                let cache = caches.get(&path.cache);
                let reason = match (&path.parsed, cache, path.nar_domain) {
                    (Err(error), _, _) => error.to_string(),
                    (_, None, _) => "its cache has no row".to_owned(),
                    (_, _, None) => "its NAR has no row".to_owned(),
                    (_, Some((_, domain)), Some(nar)) if *domain != nar => {
                        "its NAR is of another domain".to_owned()
                    }
                    _ => continue,
                };
                let cache =
                    cache.map_or_else(|| path.cache.to_string(), |(name, _)| name.to_string());
                plan.paths.push((path.id, format!("{cache} {}", path.base_name), reason));
            }
        }
        if let Some(pattern) = &self.options.paths {
            let mut selection = NarSelection::new(self.db, pattern, 0).await?;
            let mut pace = Pace::new(self.options.rate);
            let known: HashSet<NarId> =
                plan.nars.iter().map(|nar| nar.nar).chain(plan.healed.iter().copied()).collect();
            while let Some((page, last)) = selection.next(self.db).await? {
                for nar in page.into_iter().filter(|nar| !known.contains(nar)) {
                    let found = db::check::nar(self.db.reader().await?.exec(), nar).await?;
                    let Some((_, Ok(facts))) = found else { continue };
                    if let (Some(reason), _) =
                        content_fault(self.nars, &facts.nar, &mut pace).await?
                    {
                        let hash = Some(facts.nar.nar_hash);
                        plan.nars.push(NarPlan {
                            nar,
                            hash,
                            reason,
                            is_decoded: true,
                            paths: Vec::new(),
                        });
                    }
                }
                tell(format!("decoded NARs of paths up to number {last}"));
            }
        }
        for nar in &mut plan.nars {
            let mut conn = self.db.reader().await?;
            for id in paths_of(conn.exec(), nar.nar, PATHS).await? {
                if let Some(path) = db::check::path(conn.exec(), id).await? {
                    let cache = caches.get(&path.cache);
                    let cache =
                        cache.map_or_else(|| path.cache.to_string(), |(name, _)| name.to_string());
                    nar.paths.push(format!("{cache} {}", path.base_name));
                }
            }
        }
        Ok(())
    }
}
