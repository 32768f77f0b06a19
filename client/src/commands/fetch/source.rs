//! The cache: what it says of the paths that are not in the store yet.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use anyhow::anyhow;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use snowbank_core::narinfo::NarInfo;
use snowbank_core::signing::PublicKey;
use snowbank_core::store_path::StorePath;
use snowbank_core::wire::CacheInfo;

use super::super::receipts::key_of_server;
use crate::api::{Api, ApiError};
use crate::exit::{Exit, Failure};
use crate::store::Store;

/// Most paths that a message names.
pub(super) const MAX_NAMED: usize = 10;
/// Questions under way at a time.
const PARALLEL_REQUESTS: usize = 32;

/// One cache, and the keys by which it signs.
pub(super) struct Source<'a> {
    api: &'a Api,
    /// What the server says of the cache.
    pub(super) info: &'a CacheInfo,
    /// The keys, as nix.conf has them.
    pub(super) key_texts: &'a [String],
    keys: Vec<PublicKey>,
}

/// The paths of a closure that are not in the store yet.
#[derive(Default)]
pub(super) struct Plan {
    /// What the cache has, and says of each path.
    pub(super) paths: BTreeMap<StorePath, NarInfo>,
    /// What the cache does not have.
    pub(super) absent: Vec<AbsentPath>,
}

/// A path that the cache does not have.
pub(super) struct AbsentPath {
    pub(super) path: StorePath,
    /// A path that refers to it, unless it was asked for.
    pub(super) referrer: Option<StorePath>,
}

impl<'a> Source<'a> {
    /// The cache of `api`. Keys that are `pinned` replace those that the server names.
    pub(super) fn new(
        api: &'a Api,
        info: &'a CacheInfo,
        pinned: &'a [String],
    ) -> Result<Self, Failure> {
        let key_texts = if pinned.is_empty() { &info.public_keys } else { pinned };
        let keys = key_texts.iter().map(|key| key_of_server(key)).collect::<Result<_, _>>()?;
        Ok(Self { api, info, key_texts, keys })
    }

    /// The address by which Nix asks the cache.
    pub(super) fn url(&self) -> String {
        format!("{}/{}", self.api.server_url(), self.api.cache())
    }

    /// Asks for the narinfo of each path that `roots` refer to, themselves included, and that
    /// `store` does not have. A path in the store has its references there too.
    pub(super) async fn plan(&self, store: &Store, roots: &[StorePath]) -> Result<Plan, Failure> {
        let store_dir = store.store_dir();
        let mut plan = Plan::default();
        let mut asked: HashSet<StorePath> = roots.iter().cloned().collect();
        let mut frontier: Vec<(StorePath, Option<StorePath>)> =
            roots.iter().map(|root| (root.clone(), None)).collect();
        while !frontier.is_empty() {
            let paths: Vec<StorePath> = frontier.iter().map(|(path, _)| path.clone()).collect();
            let valid = store.valid_paths(&paths).await?;
            frontier.retain(|(path, _)| !valid.contains(path));
            let ask = |(path, referrer): (StorePath, Option<StorePath>)| async move {
                let info = self.api.narinfo(store_dir, &path).await?;
                Ok::<_, ApiError>((path, referrer, info))
            };
            let mut answers = stream::iter(frontier).map(ask).buffer_unordered(PARALLEL_REQUESTS);
            let mut next = Vec::new();
            while let Some((path, referrer, info)) = answers.try_next().await? {
                // The address has only the hash: another name with that hash is another path.
                let Some(info) = info.filter(|info| info.store_path == path) else {
                    plan.absent.push(AbsentPath { path, referrer });
                    continue;
                };
                self.check_signature(store, &info)?;
                for reference in &info.references {
                    if asked.insert(reference.clone()) {
                        next.push((reference.clone(), Some(path.clone())));
                    }
                }
                plan.paths.insert(path, info);
            }
            frontier = next;
        }
        plan.absent.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(plan)
    }

    fn check_signature(&self, store: &Store, info: &NarInfo) -> Result<(), Failure> {
        let fingerprint = info.fingerprint(store.store_dir());
        let is_signed = self
            .keys
            .iter()
            .any(|key| info.signatures.iter().any(|one| key.verify(fingerprint.as_bytes(), one)));
        if is_signed {
            return Ok(());
        }
        let keys: Vec<&str> = self.keys.iter().map(PublicKey::name).collect();
        let text = format!(
            "{self} serves {} without a signature by {}; nothing was fetched. Ask its operator: \
             was its key changed, or does a proxy change what it sends?",
            info.store_path.full(store.store_dir()),
            keys.join(" or ")
        );
        Err(Failure::new(Exit::Receipt, anyhow!(text)))
    }
}

impl fmt::Display for Source<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.api.cache(), self.api.server_url())
    }
}
