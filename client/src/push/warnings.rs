//! What a push does, and a user would expect more of: said, and pushed all the same.

use std::collections::HashSet;

use futures_util::{StreamExt as _, stream};
use snowbank_core::signing::{PublicKey, Signature};

use super::Ledger;
use super::plan::{Target, Wanted};
use crate::api::Api;
use crate::store::{PathInfo, Store};

/// Most paths whose signatures in the cache are asked for.
const MAX_ASKED: usize = 256;
/// Questions under way at a time.
const QUESTIONS: usize = 16;
/// Most paths that a warning names.
const MAX_NAMED: usize = 20;

/// Warns of paths that the cache has without a signature that they have here. It keeps the
/// signatures of the push that made a path visible. Those of the cache itself and of upstream are
/// not looked for.
pub(super) async fn of_late_signatures(
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
    let is_foreign = |signature: &Signature| !known.contains(signature.name());
    let candidates =
        signed.into_iter().filter(|info| info.signatures.iter().any(is_foreign)).take(MAX_ASKED);
    let ask = |info: PathInfo| async move {
        // A token that may not read cannot tell, and a path that has gone meanwhile is no matter of
        // signatures.
        let served = api.narinfo(&target.store_dir, &info.path).await.ok().flatten()?;
        let is_late = |signature: &&Signature| {
            is_foreign(signature) && !served.signatures.contains(signature)
        };
        let late: Vec<String> =
            info.signatures.iter().filter(is_late).map(|one| one.name().to_owned()).collect();
        (!late.is_empty()).then(|| format!("{} ({})", target.full(&info.path), late.join(", ")))
    };
    let late: Vec<String> = stream::iter(candidates)
        .map(ask)
        .buffered(QUESTIONS)
        .filter_map(std::future::ready)
        .collect()
        .await;
    if !late.is_empty() {
        ledger.late_signatures(late.len());
        tracing::warn!(
            "the cache keeps the signatures that a path was first pushed with, and does not take \
             newer ones: {}",
            listed(&late)
        );
    }
}

/// Warns of outputs of content-addressed derivations among the paths that were named and those that
/// are pushed.
pub(super) async fn of_derivations(store: &Store, named: Vec<PathInfo>, missing: &[Wanted]) {
    let store = store.clone();
    let mut seen = HashSet::new();
    let mut infos = named;
    infos.extend(missing.iter().map(|wanted| wanted.info.clone()));
    infos.retain(|info| info.deriver.is_some() && seen.insert(info.path.clone()));
    let find = move || -> Vec<String> {
        let found = infos.iter().filter(|info| store.is_found_by_realisation(info));
        found.map(|info| info.path.full(store.store_dir())).collect()
    };
    // A search that did not end has nothing to warn of.
    let found = tokio::task::spawn_blocking(find).await.unwrap_or_default();
    if !found.is_empty() {
        tracing::warn!(
            "outputs of content-addressed derivations are pushed, and Nix cannot substitute them \
             in a build: the cache does \
             not serve realisations yet. By its store path each can be fetched: {}",
            listed(&found)
        );
    }
}

/// The first of `items`, and how many more there are.
fn listed(items: &[String]) -> String {
    let more = items.len().saturating_sub(MAX_NAMED);
    let named = items[..items.len() - more].join(", ");
    if more == 0 { named } else { format!("{named}, and {more} more") }
}
