//! W4: what a cache shows has a NAR of its domain, and its closure is there.
//!
//! A reference that the cache does not have may be upstream's. One that it had and that is
//! withdrawn is told of, and is no fault of the path that refers to it: Nix gets that one
//! elsewhere, or builds it.

use std::collections::{HashMap, HashSet};

use snowbank_core::store_path::StorePathHash;

use super::{CheckError, PAGE, Phase, Run};
use crate::db::caches::{CacheId, DomainId};
use crate::db::check::PathFacts;
use crate::db::damage::withdrawn_among;
use crate::db::paths::PathId;
use crate::db::{self, Db};

pub(super) async fn paths(run: &mut Run<'_>, after: i64) -> Result<(), CheckError> {
    let db = run.checker.db;
    let mut conn = db.reader().await?;
    let (_, withdrawn) = db::damage::counts(conn.exec()).await?;
    drop(conn);
    let mut caches = Caches::default();
    let mut after = PathId(after);
    loop {
        let page = db::check::paths(db.reader().await?.exec(), after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = last.id;
        caches.know(db, &page).await?;
        for path in &page {
            run.stats.paths += 1;
            if caches.fault(path).is_none() {
                continue;
            }
            let Some(again) = db::check::path(db.reader().await?.exec(), path.id).await? else {
                continue;
            };
            if let Some(detail) = caches.fault(&again) {
                run.found(
                    "W4",
                    format!("path {}{}", again.base_name, caches.suffix(again.cache)),
                    detail,
                );
            }
        }
        if withdrawn > 0 {
            closures(run, &caches, &page).await?;
        }
        run.reached(Phase::Paths, after.0);
    }
}

/// Caches' names and domains, read anew when an unknown one is met.
#[derive(Default)]
struct Caches(HashMap<CacheId, (String, DomainId)>);

impl Caches {
    async fn know(&mut self, db: &Db, page: &[PathFacts]) -> Result<(), CheckError> {
        if page.iter().any(|path| !self.0.contains_key(&path.cache)) {
            let caches = db::caches::list(db.reader().await?.exec()).await?;
            self.0 = caches
                .into_iter()
                .map(|cache| (cache.id, (cache.name.to_string(), cache.domain)))
                .collect();
        }
        Ok(())
    }

    fn suffix(&self, cache: CacheId) -> String {
        self.0.get(&cache).map(|(name, _)| format!(" of the cache {name}")).unwrap_or_default()
    }

    fn fault(&self, path: &PathFacts) -> Option<String> {
        if let Err(error) = &path.parsed {
            return Some(error.to_string());
        }
        match (self.0.get(&path.cache), path.nar_domain) {
            (None, _) => Some(format!("its cache {} has no row", path.cache)),
            (_, None) => Some(format!("its NAR {} has no row", path.nar)),
            (Some((_, domain)), Some(nar)) if *domain != nar => {
                Some("its NAR is of another domain than its cache".to_owned())
            }
            _ => None,
        }
    }
}

/// Notes paths whose references are withdrawn.
async fn closures(
    run: &mut Run<'_>,
    caches: &Caches,
    page: &[PathFacts],
) -> Result<(), CheckError> {
    let mut by_cache: HashMap<CacheId, Vec<(&str, &[StorePathHash])>> = HashMap::new();
    for path in page {
        if let Ok((_, references)) = &path.parsed {
            by_cache.entry(path.cache).or_default().push((&path.base_name, references));
        }
    }
    for (cache, paths) in by_cache {
        let asked: HashSet<StorePathHash> =
            paths.iter().flat_map(|(_, references)| *references).copied().collect();
        let asked: Vec<StorePathHash> = asked.into_iter().collect();
        let withdrawn =
            withdrawn_among(run.checker.db.reader().await?.exec(), cache, &asked).await?;
        for (name, references) in paths {
            let lacks = references.iter().filter(|reference| withdrawn.contains(reference)).count();
            if lacks > 0 {
                run.stats.incomplete_closures += 1;
                run.observer.noted(format!(
                    "path {name}{}: {lacks} of its references are withdrawn",
                    caches.suffix(cache)
                ));
            }
        }
    }
    Ok(())
}
