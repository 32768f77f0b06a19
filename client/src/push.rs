//! `snowbank push`: a closure goes up, and a receipt per path comes back.
//!
//! ```text
//! plan ──► read (dump, SHA-256, mask, cut, name) ──► ask ──► encode ──► bundle ──► send ──► commit ──► ledger
//! ```
//!
//! `plan` decides what is to be pushed, `pipeline` does it, and the [`Ledger`] keeps what came of each path: it is
//! where receipts are written, as they come. Invariant: a path is committed only after the bytes that were read have the
//! hash that Nix recorded, and after all that it refers to (what upstream has apart) is visible in the cache.
//!
//! What is shown meanwhile is `progress`'s, what travels is `api`'s.

mod book;
mod budget;
mod bundle;
mod commit;
mod encode;
mod error;
mod hash;
mod ledger;
mod pipeline;
mod plan;
mod read;
mod schedule;
mod upstream;

use std::sync::Arc;

use snowbank_core::store_path::StorePath;

use crate::api::{Api, UpstreamCache};
use crate::progress::Progress;
use crate::store::Store;

pub use error::PushError;
pub use ledger::{Ledger, LedgerOptions, Summary};

/// What is asked of a push.
#[derive(Debug, Clone, Copy)]
pub struct PushOptions {
    /// Paths read at the same time, and chunks compressed at the same time.
    pub jobs: usize,
    /// Push what the paths refer to as well.
    pub closure: bool,
    /// Leave out what a key of the cache's upstreams has signed.
    pub upstream_filter: bool,
    /// Ask what is missing, and push nothing.
    pub dry_run: bool,
}

/// Pushes `roots` (and, if asked to, all that they refer to) from `store` to the cache of `api`, less what one of
/// `upstreams` has. What came of each path is in `ledger`, also after an error.
///
/// # Errors
/// [`PushError`], which is about the push as a whole: a server that cannot be reached, a full disk, a receipts file that
/// cannot be written. What is about single paths is no error of this function.
pub async fn push(
    api: &Api,
    store: &Store,
    roots: &[StorePath],
    upstreams: &[UpstreamCache],
    options: PushOptions,
    ledger: &mut Ledger,
    progress: &Arc<Progress>,
) -> Result<(), PushError> {
    let (infos, cache) = tokio::try_join!(async { store.closure(roots).await.map_err(PushError::from) }, async {
        api.cache_info().await.map_err(PushError::from)
    },)?;
    let target = plan::Target::new(cache, store.store_dir())?;
    let wanted = plan::choose(infos, roots, options, &target, ledger)?;
    let missing = plan::ask(api, wanted, &target, ledger).await?;
    let missing = upstream::leave_out(upstreams, missing, options.closure, &target, ledger).await?;
    let plan = plan::Plan::new(missing, |path| store.real_path(path));
    if options.dry_run {
        return ledger.would_push(&plan, &target);
    }
    progress.begin(plan.paths.len() as u64, plan.nar_bytes());
    pipeline::run(api, target, plan, options.jobs, ledger, progress).await
}
