//! Leaving out what other binary caches have: each path that is missing is asked for at each of
//! them, in their order.
//!
//! A path is left out only where one of them has it under the same name with the same NAR hash;
//! whoever is served that copy gets these very contents. A cache that does not answer costs a
//! warning, never a path: what is not known to be upstream's is pushed.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU32, Ordering};

use futures_util::{StreamExt, stream};
use snowbank_core::narinfo::NarInfo;
use snowbank_core::receipt::UpstreamReason;
use snowbank_core::store_path::{StoreDir, StorePath};

use super::plan::{Target, Wanted};
use super::{Ledger, PushError};
use crate::api::UpstreamCache;

/// Questions under way at a time.
const QUESTIONS: usize = 16;
/// Failures after which a cache is not asked any more.
const MAX_FAILURES: u32 = 3;

/// Those of `missing` that none of `upstreams` has; the others are in the ledger, and named as
/// upstream's by what refers to them. Without the closure, references are asked for too: they are
/// not pushed, so somebody else must have them.
pub(super) async fn leave_out(
    upstreams: &[UpstreamCache],
    missing: Vec<Wanted>,
    closure: bool,
    target: &Target,
    ledger: &mut Ledger,
) -> Result<Vec<Wanted>, PushError> {
    if upstreams.is_empty() {
        return Ok(missing);
    }
    let asked: Vec<Asked> = upstreams.iter().map(Asked::new).collect();
    let found = find(&asked, questions(&missing, closure), &target.store_dir).await;
    let (mut left_out, mut left) =
        (found_beside(&found, &missing), Vec::with_capacity(missing.len()));
    for wanted in missing {
        let same = |info: &NarInfo| {
            (info.nar_hash, info.nar_size) == (wanted.info.nar_hash, wanted.info.nar_size)
        };
        match found.get(&wanted.info.path) {
            Some((url, info)) if same(info) => {
                let reason = UpstreamReason::FoundAt((*url).to_owned());
                ledger.skipped(target.full(&wanted.info.path), wanted.info.nar_hash, reason)?;
                left_out.insert(wanted.info.path);
            }
            _ => left.push(wanted),
        }
    }
    for Wanted { info, upstream } in &mut left {
        let named = info
            .references
            .iter()
            .filter(|path| left_out.contains(*path))
            .map(StorePath::base_name);
        upstream.extend(named);
    }
    Ok(left)
}

/// The paths to ask for, each once.
fn questions(missing: &[Wanted], closure: bool) -> Vec<StorePath> {
    let mut seen: HashSet<&StorePath> = missing.iter().map(|wanted| &wanted.info.path).collect();
    let mut paths: Vec<StorePath> = missing.iter().map(|wanted| wanted.info.path.clone()).collect();
    if !closure {
        for Wanted { info, upstream } in missing {
            let unknown =
                info.references.iter().filter(|path| !upstream.contains(&path.base_name()));
            paths.extend(unknown.filter(|path| seen.insert(path)).cloned());
        }
    }
    paths
}

/// What was found that is not itself to be pushed.
fn found_beside(found: &Found, missing: &[Wanted]) -> HashSet<StorePath> {
    let own: HashSet<&StorePath> = missing.iter().map(|wanted| &wanted.info.path).collect();
    found.keys().filter(|path| !own.contains(path)).cloned().collect()
}

/// Where each path was found, and what is said of it there.
type Found<'u> = HashMap<StorePath, (&'u str, NarInfo)>;

async fn find<'u>(
    caches: &'u [Asked<'u>],
    paths: Vec<StorePath>,
    store_dir: &StoreDir,
) -> Found<'u> {
    let ask = |path: StorePath| async move {
        for cache in caches {
            if let Some(info) = cache.narinfo(store_dir, &path).await {
                return Some((path, (cache.upstream.url(), info)));
            }
        }
        None
    };
    stream::iter(paths)
        .map(ask)
        .buffer_unordered(QUESTIONS)
        .filter_map(std::future::ready)
        .collect()
        .await
}

/// A cache that is asked as long as it answers.
struct Asked<'u> {
    upstream: &'u UpstreamCache,
    failures: AtomicU32,
}

impl<'u> Asked<'u> {
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
    use snowbank_core::hash::NarHash;

    use super::*;
    use crate::store::PathInfo;

    fn path(number: usize) -> StorePath {
        StorePath::from_base_name(&format!("{}-p{number}", "0".repeat(32))).unwrap()
    }

    fn wanted(number: usize, references: &[usize], upstream: &[usize]) -> Wanted {
        let info = PathInfo {
            path: path(number),
            nar_hash: NarHash::from_bytes([1; 32]),
            nar_size: 1,
            references: references.iter().copied().map(path).collect(),
            deriver: None,
            signatures: Vec::new(),
            ultimate: false,
            ca: None,
            registration_time: 0,
        };
        Wanted { info, upstream: upstream.iter().map(|number| path(*number).base_name()).collect() }
    }

    #[test]
    fn references_are_asked_for_only_where_they_are_not_pushed_themselves() {
        let missing = [wanted(1, &[0, 1, 3], &[0]), wanted(2, &[1, 3, 4], &[])];
        assert_eq!(questions(&missing, true), [path(1), path(2)]);
        assert_eq!(questions(&missing, false), [path(1), path(2), path(3), path(4)]);
    }
}
