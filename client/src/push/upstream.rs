//! Leaving out paths that other binary caches have: each missing path is looked up in each of them,
//! in their order.
//!
//! A path is left out only where one of them has it under the same name with the same NAR hash, and
//! so with the same contents. A cache that does not answer costs a warning, never a path: a path
//! that may not be upstream's is pushed.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU32, Ordering};

use futures_util::{StreamExt, stream};
use snowbank_core::narinfo::NarInfo;
use snowbank_core::receipt::UpstreamReason;
use snowbank_core::store_path::{StoreDir, StorePath};

use super::selection::SelectedPath;
use super::target::Target;
use super::{Ledger, PushError};
use crate::api::UpstreamCache;
use crate::store::PathInfo;

/// Lookups under way at a time.
const MAX_LOOKUPS: usize = 16;
/// Failures after which a cache is left alone.
const MAX_FAILURES: u32 = 3;

/// The paths of `missing` that none of `upstreams` has. The ledger has the others, and the paths
/// that refer to them name them as upstream's. Without the closure, references are looked up too:
/// they are not pushed, so another cache must have them.
pub(super) async fn leave_out(
    upstreams: &[UpstreamCache],
    missing: Vec<SelectedPath>,
    closure: bool,
    target: &Target,
    ledger: &mut Ledger,
) -> Result<Vec<SelectedPath>, PushError> {
    if upstreams.is_empty() {
        return Ok(missing);
    }
    let caches: Vec<CacheLookup> = upstreams.iter().map(CacheLookup::new).collect();
    let found = look_up(&caches, lookup_paths(&missing, closure), &target.store_dir).await;
    let mut left_out = found_references(&found, &missing);
    let mut left = Vec::with_capacity(missing.len());
    for path in missing {
        let info = &path.info;
        match found.get(&info.path) {
            Some((url, found)) if has_same_nar(found, info) => {
                let reason = UpstreamReason::FoundAt((*url).to_owned());
                ledger.record_skipped(target.full(&info.path), info.nar_hash, reason)?;
                left_out.insert(path.info.path);
            }
            _ => left.push(path),
        }
    }
    for SelectedPath { info, upstream } in &mut left {
        let references = info.references.iter().filter(|path| left_out.contains(*path));
        upstream.extend(references.map(StorePath::base_name));
    }
    Ok(left)
}

fn has_same_nar(found: &NarInfo, info: &PathInfo) -> bool {
    (found.nar_hash, found.nar_size) == (info.nar_hash, info.nar_size)
}

/// The paths to look up, each once.
fn lookup_paths(missing: &[SelectedPath], closure: bool) -> Vec<StorePath> {
    let mut seen: HashSet<&StorePath> = missing.iter().map(|path| &path.info.path).collect();
    let mut paths: Vec<StorePath> = missing.iter().map(|path| path.info.path.clone()).collect();
    if !closure {
        for SelectedPath { info, upstream } in missing {
            let unknown =
                info.references.iter().filter(|path| !upstream.contains(&path.base_name()));
            paths.extend(unknown.filter(|path| seen.insert(path)).cloned());
        }
    }
    paths
}

/// The paths that were found and are references only.
fn found_references(found: &UpstreamInfos, missing: &[SelectedPath]) -> HashSet<StorePath> {
    let own: HashSet<&StorePath> = missing.iter().map(|path| &path.info.path).collect();
    found.keys().filter(|path| !own.contains(path)).cloned().collect()
}

/// Each path that was found, with the cache's URL and the narinfo there.
type UpstreamInfos<'u> = HashMap<StorePath, (&'u str, NarInfo)>;

async fn look_up<'u>(
    caches: &'u [CacheLookup<'u>],
    paths: Vec<StorePath>,
    store_dir: &StoreDir,
) -> UpstreamInfos<'u> {
    let look_up = |path: StorePath| async move {
        for cache in caches {
            if let Some(info) = cache.narinfo(store_dir, &path).await {
                return Some((path, (cache.upstream.url(), info)));
            }
        }
        None
    };
    stream::iter(paths)
        .map(look_up)
        .buffer_unordered(MAX_LOOKUPS)
        .filter_map(std::future::ready)
        .collect()
        .await
}

/// A cache, looked up as long as it answers.
struct CacheLookup<'u> {
    upstream: &'u UpstreamCache,
    failures: AtomicU32,
}

impl<'u> CacheLookup<'u> {
    const fn new(upstream: &'u UpstreamCache) -> Self {
        Self { upstream, failures: AtomicU32::new(0) }
    }

    async fn narinfo(&self, store_dir: &StoreDir, path: &StorePath) -> Option<NarInfo> {
        if self.failures.load(Ordering::Relaxed) >= MAX_FAILURES {
            return None;
        }
        match self.upstream.narinfo(store_dir, path).await {
            // The URL has only the hash: another name with that hash is another path.
            Ok(info) => info.filter(|info| info.store_path == *path),
            Err(error) => {
                if self.failures.fetch_add(1, Ordering::Relaxed) == 0 {
                    tracing::warn!(
                        "what {} may have is pushed, since it cannot be asked: {error}",
                        self.upstream.url()
                    );
                }
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::push::test_support::{path, path_info};

    fn selected(number: usize, references: &[usize], upstream: &[usize]) -> SelectedPath {
        let upstream = upstream.iter().map(|number| path(*number).base_name()).collect();
        SelectedPath { info: path_info(path(number), references), upstream }
    }

    #[test]
    fn references_are_looked_up_only_where_they_are_not_pushed_themselves() {
        let missing = [selected(1, &[0, 1, 3], &[0]), selected(2, &[1, 3, 4], &[])];
        assert_eq!(lookup_paths(&missing, true), [path(1), path(2)]);
        assert_eq!(lookup_paths(&missing, false), [path(1), path(2), path(3), path(4)]);
    }
}
