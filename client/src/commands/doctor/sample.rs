//! A path that is here and in the cache, on which fetching can be tried.

use futures_util::{StreamExt, TryStreamExt, stream};
use snowbank_core::narinfo::NarInfo;
use snowbank_core::signing::PublicKey;
use snowbank_core::wire::CacheInfo;

use super::Subject;
use super::report::Finding;
use crate::api::{Api, ApiError};
use crate::exit::Exit;
use crate::store::{PathInfo, Store};

const STORE: &str = "store";
const PATH: &str = "path";
const SIGNATURE: &str = "signature";
/// Paths looked at, and those of them for which the cache is asked.
const MAX_LOOKED_AT: usize = 20_000;
const MAX_ASKED: usize = 256;
/// Questions under way at a time.
const SAMPLED_PATHS: usize = 16;

/// A path, as this machine and the cache describe it.
pub(super) struct Sample {
    pub here: PathInfo,
    pub there: NarInfo,
    /// The full store path.
    pub full: String,
}

/// Whether Nix answers.
pub(super) async fn store() -> (Finding, Option<Store>) {
    match Store::open(crate::store::StoreOptions::default()).await {
        Ok(store) => {
            (Finding::ok(STORE, format!("Nix answers for {}", store.store_dir())), Some(store))
        }
        Err(error) => (Finding::of_failure(STORE, error), None),
    }
}

/// A path to try fetching on: the one that `given` names, or any that is found in both.
pub(super) async fn find(
    store: &Store,
    api: &Api,
    info: &CacheInfo,
    given: Option<&str>,
) -> Result<Sample, Finding> {
    if info.store_dir != store.store_dir().as_str() {
        let text =
            format!("the cache is for {}, this store is {}", info.store_dir, store.store_dir());
        return Err(Finding::problem(PATH, Exit::Refused, text)
            .advice("push to a cache that was created for it"));
    }
    let candidates = candidates(store, info, given).await?;
    let asked = candidates.len();
    let ask = |here: PathInfo| async move {
        let there = api.narinfo(store.store_dir(), &here.path).await?;
        Ok::<_, ApiError>(
            there.filter(|there| there.store_path == here.path).map(|there| (here, there)),
        )
    };
    let mut answers = stream::iter(candidates).map(ask).buffer_unordered(SAMPLED_PATHS);
    while let Some(answer) =
        answers.try_next().await.map_err(|error| Finding::of_failure(PATH, error))?
    {
        if let Some((here, there)) = answer {
            let full = here.path.full(store.store_dir());
            return Ok(Sample { here, there, full });
        }
    }
    Err(match given {
        Some(path) => {
            Finding::problem(PATH, Exit::NotFound, format!("the cache does not have {path}"))
                .advice(format!("snowbank push {} {path}", info.name))
        }
        None => Finding::skipped(
            PATH,
            format!("the cache has none of {asked} paths of this machine; name one with --path"),
        ),
    })
}

/// Paths of this machine, those first that the cache is likely to have: signed by it, or built
/// here, the newest before others.
async fn candidates(
    store: &Store,
    info: &CacheInfo,
    given: Option<&str>,
) -> Result<Vec<PathInfo>, Finding> {
    let failed = |error| Finding::of_failure(PATH, error);
    let paths = match given {
        Some(path) => store.resolve(&[path.to_owned()]).await.map_err(failed)?,
        None => store.all_valid_paths().await.map_err(failed)?,
    };
    let looked_at = &paths[..paths.len().min(MAX_LOOKED_AT)];
    let infos = store.path_infos(looked_at).await.map_err(failed)?;
    let mut infos: Vec<PathInfo> = infos.into_iter().flatten().collect();
    let names: Vec<&str> =
        info.public_keys.iter().filter_map(|key| key.split(':').next()).collect();
    infos.sort_by_key(|path| {
        let is_signed = path.signatures.iter().any(|signature| names.contains(&signature.name()));
        (!is_signed, !path.ultimate, std::cmp::Reverse(path.registration_time))
    });
    infos.truncate(MAX_ASKED);
    Ok(infos)
}

/// Whether a key that nix.conf trusts signed what the cache serves; where nix.conf does not name
/// the cache, a key of its own.
pub(super) fn signature(
    subject: &Subject,
    info: &CacheInfo,
    sample: &Sample,
    store: &Store,
) -> Finding {
    let settings = match subject.nix.settings() {
        Ok(settings) => settings,
        Err(error) => return Finding::of_failure(SIGNATURE, error),
    };
    let fingerprint = sample.there.fingerprint(store.store_dir());
    let signed_by = |keys: &[String]| {
        let keys = keys.iter().filter_map(|key| key.parse::<PublicKey>().ok());
        let signatures = &sample.there.signatures;
        let mut signed =
            keys.filter(|key| signatures.iter().any(|one| key.verify(fingerprint.as_bytes(), one)));
        signed.next().map(|key| key.name().to_owned())
    };
    let full = &sample.full;
    let trusted = signed_by(&settings.trusted_keys());
    let (key, whose) = match (trusted, signed_by(&info.public_keys)) {
        (Some(key), _) => (key, "which nix.conf trusts"),
        (None, Some(key)) if !settings.has_substituter(&subject.substituter) => {
            (key, "a key of the cache")
        }
        (None, Some(key)) => {
            let text = format!("{full} is signed by {key}, which nix.conf does not trust");
            let advice = format!("snowbank use {}", subject.reference);
            return Finding::problem(SIGNATURE, Exit::Config, text).advice(advice);
        }
        (None, None) => {
            let text = format!("{full} is signed by no key that the cache names");
            let advice = "ask the operator; does a proxy change what the server sends?";
            return Finding::problem(SIGNATURE, Exit::Server, text).advice(advice);
        }
    };
    if (sample.here.nar_hash, sample.here.nar_size)
        != (sample.there.nar_hash, sample.there.nar_size)
    {
        return Finding::warn(
            SIGNATURE,
            format!("{full} is signed by {key}, but differs from the one here"),
        )
        .advice(
            "a build that does not give the same twice; the first that was pushed stays in the \
                cache",
        );
    }
    Finding::ok(SIGNATURE, format!("{full} is signed by {key}, {whose}"))
}
