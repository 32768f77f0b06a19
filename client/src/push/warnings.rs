//! Warnings about paths that are pushed all the same, with less effect than a user may expect.

use std::collections::HashSet;

use futures_util::{StreamExt as _, stream};
use snowbank_core::signing::{PublicKey, Signature};

use super::Ledger;
use super::plan::SelectedPath;
use super::target::Target;
use crate::api::Api;
use crate::store::{PathInfo, Store};

/// Most paths whose signatures in the cache are looked up.
const MAX_LOOKUPS: usize = 256;
/// Lookups under way at a time.
const MAX_CONCURRENT_LOOKUPS: usize = 16;
/// Most paths that a warning names.
const MAX_NAMED: usize = 20;

/// Warns of paths that the cache has without a signature that they have here. The cache keeps the
/// signatures of the push that made a path visible. Signatures of the cache itself and of upstream
/// do not matter.
pub(super) async fn warn_of_late_signatures(
    api: &Api,
    signed: Vec<PathInfo>,
    target: &Target,
    ledger: &mut Ledger,
) {
    let keys = target.keys();
    let known: HashSet<&str> = keys
        .iter()
        .map(PublicKey::name)
        .chain(target.cache.upstream_keys.iter().map(String::as_str))
        .collect();
    let candidates = signed
        .into_iter()
        .filter(|info| info.signatures.iter().any(|one| !known.contains(one.name())))
        .take(MAX_LOOKUPS);
    let late: Vec<String> = stream::iter(candidates)
        .map(|info| late_signatures(api, info, target, &known))
        .buffered(MAX_CONCURRENT_LOOKUPS)
        .filter_map(std::future::ready)
        .collect()
        .await;
    if !late.is_empty() {
        ledger.record_late_signatures(late.len());
        tracing::warn!(
            "signatures that were made after a path was pushed are not in the cache; `nix store \
             copy-sigs` adds them: {}",
            listed(&late)
        );
    }
}

/// The path and the keys of its signatures that the cache lacks; `None` where it lacks none.
async fn late_signatures(
    api: &Api,
    info: PathInfo,
    target: &Target,
    known: &HashSet<&str>,
) -> Option<String> {
    // Without a narinfo there is no warning: the token may not read, or the path has gone.
    let served = api.narinfo(&target.store_dir, &info.path).await.ok().flatten()?;
    let late: Vec<&str> = info
        .signatures
        .iter()
        .filter(|one| !known.contains(one.name()) && !served.signatures.contains(one))
        .map(Signature::name)
        .collect();
    (!late.is_empty()).then(|| format!("{} ({})", target.full(&info.path), late.join(", ")))
}

/// Warns of outputs of content-addressed derivations among the named and the pushed paths.
pub(super) async fn warn_of_derivations(
    store: &Store,
    named: Vec<PathInfo>,
    missing: &[SelectedPath],
) {
    let store = store.clone();
    let mut seen = HashSet::new();
    let mut infos = named;
    infos.extend(missing.iter().map(|path| path.info.clone()));
    infos.retain(|info| info.deriver.is_some() && seen.insert(info.path.clone()));
    let find = move || -> Vec<String> {
        let found = infos.iter().filter(|info| store.is_found_by_realisation(info));
        found.map(|info| info.path.full(store.store_dir())).collect()
    };
    // A search that did not end has nothing to warn of.
    let found = tokio::task::spawn_blocking(find).await.unwrap_or_default();
    if !found.is_empty() {
        tracing::warn!(
            "outputs of content-addressed derivations are pushed without their realisations, and \
             Nix cannot substitute them in a build; `nix copy --to` brings those. By its store path \
             each can be fetched: {}",
            listed(&found)
        );
    }
}

/// The first of `items`, and the number of the others.
fn listed(items: &[String]) -> String {
    let more = items.len().saturating_sub(MAX_NAMED);
    let named = items[..items.len() - more].join(", ");
    if more == 0 { named } else { format!("{named}, and {more} more") }
}
