//! Planning, last part: paths whose own rows make no sense, NARs that do not decode to what their
//! rows say, and the names of all paths that are withdrawn.

use std::collections::{HashMap, HashSet};

use snowbank_core::cache_name::CacheName;

use super::manifests::NarFindings;
use super::plan::{NarPlan, PathPlan};
use super::{Progress, RepairError, Repairer};
use crate::db;
use crate::db::caches::{CacheId, DomainId};
use crate::db::check::PathFacts;
use crate::db::damage::paths_of;
use crate::db::nars::NarId;
use crate::db::paths::PathId;
use crate::integrity::content::{NarSelection, content_fault};
use crate::integrity::pace::Pace;

/// Rows read at a time.
const PAGE: u32 = 512;
/// Paths of one NAR that are named.
const MAX_NAMED: u32 = 10_000;

/// Reads paths, and NARs as clients get them.
pub(super) struct PathSurvey<'a> {
    repairer: &'a Repairer<'a>,
    caches: HashMap<CacheId, (CacheName, DomainId)>,
}

impl<'a> PathSurvey<'a> {
    /// Has read the caches alone.
    pub(super) async fn new(repairer: &'a Repairer<'a>) -> Result<Self, RepairError> {
        let caches = db::caches::list(repairer.db.reader().await?.exec()).await?;
        let caches = caches.into_iter().map(|cache| (cache.id, (cache.name, cache.domain)));
        Ok(Self { repairer, caches: caches.collect() })
    }

    /// The paths whose rows make no sense.
    pub(super) async fn broken_paths(&self) -> Result<Vec<PathPlan>, RepairError> {
        let (mut broken, mut after) = (Vec::new(), PathId(0));
        loop {
            let mut conn = self.repairer.db.reader().await?;
            let page = db::check::paths(conn.exec(), after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(broken) };
            after = last.id;
            for path in &page {
                let Some(reason) = self.fault(path) else { continue };
                broken.push(PathPlan { id: path.id, path: self.name(path), reason });
            }
        }
    }

    fn fault(&self, path: &PathFacts) -> Option<String> {
        Some(match (&path.parsed, self.caches.get(&path.cache), path.nar_domain) {
            (Err(error), _, _) => error.to_string(),
            (_, None, _) => "its cache has no row".to_owned(),
            (_, _, None) => "its NAR has no row".to_owned(),
            (_, Some((_, domain)), Some(nar)) if *domain != nar => {
                "its NAR is of another domain".to_owned()
            }
            _ => return None,
        })
    }

    /// `CACHE HASH-NAME`.
    fn name(&self, path: &PathFacts) -> String {
        let cache = self.caches.get(&path.cache);
        let cache = cache.map_or_else(|| path.cache.to_string(), |(name, _)| name.to_string());
        format!("{cache} {}", path.base_name)
    }

    /// Of the paths that match the pattern, the NARs that do not decode to what their rows say, and
    /// of which nothing else is known.
    pub(super) async fn undecodable_nars(
        &self,
        known: &NarFindings,
        progress: Progress<'_>,
    ) -> Result<Vec<NarPlan>, RepairError> {
        let Repairer { db, nars, options, .. } = self.repairer;
        let mut broken = Vec::new();
        let Some(pattern) = &options.paths else { return Ok(broken) };
        let mut selection = NarSelection::new(db, pattern, 0).await?;
        let mut pace = Pace::new(options.rate);
        let known: HashSet<NarId> =
            known.broken.iter().map(|plan| plan.nar).chain(known.healed.iter().copied()).collect();
        while let Some((page, last)) = selection.next(db).await? {
            for nar in page.into_iter().filter(|nar| !known.contains(nar)) {
                let found = db::check::nar(db.reader().await?.exec(), nar).await?;
                let Some((_, Ok(facts))) = found else { continue };
                if let (Some(reason), _) = content_fault(nars, &facts.nar, &mut pace).await? {
                    let plan = NarPlan::new(nar, Some(facts.nar.nar_hash), reason);
                    broken.push(NarPlan { is_decoded: true, ..plan });
                }
            }
            progress(format!("decoded NARs of paths up to number {last}"));
        }
        Ok(broken)
    }

    /// Adds the names of the paths that each NAR takes with it.
    pub(super) async fn name_paths(&self, nars: &mut [NarPlan]) -> Result<(), RepairError> {
        for nar in nars {
            let mut conn = self.repairer.db.reader().await?;
            for id in paths_of(conn.exec(), nar.nar, MAX_NAMED).await? {
                if let Some(path) = db::check::path(conn.exec(), id).await? {
                    nar.paths.push(self.name(&path));
                }
            }
        }
        Ok(())
    }
}
