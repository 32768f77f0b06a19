//! `snowbank push`: a closure goes up, and a receipt per path comes back.
//!
//! ```text
//! select ──► ask for missing paths ──► leave out upstream's ──► filter ──► plan
//!                                                                           │
//!        ┌──────────────────────────────────────────────────────────────────┘
//!        ▼
//!      read ──────────► ask ──► encode ──► send ──► commit ──► ledger
//!      (dump, SHA-256,
//!       mask, cut, name)
//! ```
//!
//! `selection`, `missing`, `upstream` and `filter` choose the paths, and `plan` has them in their
//! order. `pipeline` pushes them. The other modules are its parts, and know neither each other's
//! state nor the pipeline. `session` keeps a token that lasts for the push. The [`Ledger`] records
//! the outcome of each path, and writes receipts as they come.
//!
//! Invariant: a path is committed only after the bytes that were read have the hash that Nix
//! recorded, and after all its references are visible in the cache, except those that upstream has.
//!
//! The display meanwhile is left to `progress`, and requests to `api`.

mod batch;
mod budget;
mod bundle;
mod bundle_builders;
mod chunk_index;
mod commit_request;
mod encoder_pool;
mod error;
mod filter;
mod ledger;
mod logs;
mod missing;
mod nar_hasher;
mod ordered_results;
mod pipeline;
mod plan;
mod reader;
mod schedule;
mod selection;
mod session;
mod summary;
mod target;
#[cfg(test)]
mod test_support;
mod upstream;
mod warnings;

use std::collections::HashSet;
use std::sync::Arc;

use snowbank_core::pin_name::PinName;
use snowbank_core::store_path::StorePath;
use snowbank_core::units::Seconds;
use snowbank_core::wire::admin::pins::SetPin;
use snowbank_core::wire::{PinnedGeneration, PushPin};

use crate::api::{Api, UpstreamCache};
use crate::config::PathFilter;
use crate::exit::Exit;
use crate::progress::Progress;
use crate::store::{PathInfo, Store};
use missing::Answers;
use pipeline::{Context, PipelineOptions};
use plan::{Plan, SelectedPath};
use session::PushToken;
use target::Target;

pub use error::PushError;
pub use ledger::{Ledger, LedgerOptions, PathOutcome};
pub use summary::Summary;

/// Most rounds: paths are pushed again when the cache has lost one of their references meanwhile.
const MAX_ROUNDS: u32 = 3;

/// The options of a push.
#[derive(Debug, Clone)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of the command, independent of the others"
)]
pub struct PushOptions {
    /// Paths read at the same time, and chunks compressed at the same time.
    pub jobs: usize,
    /// Push the references of the paths as well, and theirs.
    pub closure: bool,
    /// Leave out paths that a key of the cache's upstreams has signed.
    pub upstream_filter: bool,
    /// Ask which paths are missing, and push nothing.
    pub dry_run: bool,
    /// Have the server read back the paths that it has.
    pub verify_present: bool,
    /// For how long the paths are kept; `None` as long as the cache keeps paths.
    pub expires: Option<Seconds>,
    /// Which paths that the cache lacks are left out.
    pub filter: PathFilter,
    /// Send the build logs of what is pushed.
    pub logs: bool,
    /// A pin for the one path that is pushed.
    pub pin: Option<PinRequest>,
}

/// A pin that is to be made.
#[derive(Debug, Clone)]
pub struct PinRequest {
    /// Its name.
    pub name: PinName,
    /// How many generations are kept; `None` for as many as before.
    pub keep: Option<u32>,
}

/// Pushes `roots` (and, if asked to, their closure) from `store` to the cache of `api`, without the
/// paths that one of `upstreams` has. The outcome of each path is in `ledger`, also after an error.
///
/// No path that is pushed is garbage-collected here while `store` is open.
///
/// The cache may collect a path between its answer and the commit of a path that refers to it. Then
/// the cache is asked once more about all paths that are left, and they are pushed in another
/// round.
///
/// # Errors
/// [`PushError`] is about the push as a whole: a server that cannot be reached, a full disk, a
/// receipts file that cannot be written, a pin that was not made. A path that fails alone is no
/// error of this function.
pub async fn push(
    api: &Api,
    store: &Store,
    roots: &[StorePath],
    upstreams: &[UpstreamCache],
    options: &PushOptions,
    ledger: &mut Ledger,
    progress: &Arc<Progress>,
) -> Result<(), PushError> {
    // A question is answered soon, and needs no token for later.
    let token = if options.dry_run { PushToken::Long } else { PushToken::prepare(api).await? };
    let result = tokio::select! {
        result = push_closure(api, store, roots, upstreams, options, ledger, progress) => result,
        never = token.keep(api) => match never {},
    };
    token.explain(api, &result);
    api.close_push_session();
    result
}

/// [`push`], with a token that lasts.
async fn push_closure(
    api: &Api,
    store: &Store,
    roots: &[StorePath],
    upstreams: &[UpstreamCache],
    options: &PushOptions,
    ledger: &mut Ledger,
    progress: &Arc<Progress>,
) -> Result<(), PushError> {
    let pin = options.pin.as_ref().map(|pin| pin_of(pin, store, roots)).transpose()?;
    let (mut closure, cache) =
        tokio::try_join!(async { store.closure(roots).await.map_err(PushError::from) }, async {
            api.cache_info().await.map_err(PushError::from)
        },)?;
    let target = Target::new(cache, store.store_dir())?;
    ledger.begin();
    if let Some(pin) = &pin {
        ledger.watch(&pin.store_path);
        ledger.follow([pin.store_path.clone()]);
    }
    let mut left = roots.to_vec();
    let mut pinned = None;
    for round in 1..=MAX_ROUNDS {
        let infos = selection::drop_unknown(closure, options, &target, ledger)?;
        let selected = selection::select(infos, &left, options, &target, ledger)?;
        let named = named(&selected, &left);
        let Answers { missing, signed } =
            missing::ask(api, selected, options, &target, ledger).await?;
        let missing =
            upstream::leave_out(upstreams, missing, options.closure, &target, ledger).await?;
        let missing = filter::leave_out(&options.filter, missing, &target, ledger)?;
        if round == 1 {
            warnings::warn_of_late_signatures(api, signed, &target, ledger).await;
            warnings::warn_of_derivations(store, named, &missing).await;
        }
        let plan = Plan::new(missing, |path| store.real_path(path));
        if options.dry_run {
            return ledger.print_plan(&plan, &target);
        }
        progress.begin(plan.paths.len() as u64, plan.nar_bytes());
        let pipeline_options = PipelineOptions {
            jobs: options.jobs,
            expires: options.expires,
            pin: pin.clone(),
            // Without the closure, the cache was not asked for references. One that it lacks was
            // not lost, but never pushed.
            postpones: options.closure && round < MAX_ROUNDS,
        };
        let logs = match options.logs {
            true => logs::find(store, &plan, &target).await,
            false => Vec::new(),
        };
        ledger.follow(logs.iter().map(|log| log.store_path.clone()));
        let context =
            Context { api, store: Some(store), target: &target, plan: &plan, ledger, progress };
        let outcome = pipeline::run(context, &pipeline_options).await?;
        logs::send(api, logs, ledger).await;
        pinned = pinned.or(outcome.pinned);
        if outcome.postponed.is_empty() {
            break;
        }
        tracing::info!(
            "the cache has lost references of {} paths; pushing them again",
            outcome.postponed.len()
        );
        ledger.start_round(outcome.postponed.iter().map(|path| target.full(path)).collect());
        closure = store.closure(&outcome.postponed).await?;
        left = outcome.postponed;
    }
    match pin {
        Some(pin) => finish_pin(api, pin, pinned, ledger).await,
        None => Ok(()),
    }
}

/// The selected paths that are among `roots`.
fn named(selected: &[SelectedPath], roots: &[StorePath]) -> Vec<PathInfo> {
    let roots: HashSet<&StorePath> = roots.iter().collect();
    let infos = selected.iter().map(|path| &path.info);
    infos.filter(|info| roots.contains(&info.path)).cloned().collect()
}

/// The pin for the root, of which there has to be one.
fn pin_of(pin: &PinRequest, store: &Store, roots: &[StorePath]) -> Result<PushPin, PushError> {
    let PinRequest { name, keep } = pin.clone();
    match roots {
        [root] => Ok(PushPin { name, store_path: root.full(store.store_dir()), keep }),
        _ => Err(PushError::PinOfMany { name, paths: roots.len() }),
    }
}

/// Makes sure of the pin after the push. The commit of its path may have made it. Otherwise it is
/// made now: where the path was present, the answer was lost, or the server is too old to make pins
/// in commits.
async fn finish_pin(
    api: &Api,
    pin: PushPin,
    pinned: Option<PinnedGeneration>,
    ledger: &mut Ledger,
) -> Result<(), PushError> {
    let PushPin { name, store_path, keep } = pin;
    if let Some(PathOutcome::LeftOut { reason }) = ledger.outcome(&store_path) {
        let reason = reason.clone();
        return Err(PushError::PinOfLeftOut { name, store_path, reason });
    }
    let generation = match pinned {
        Some(pinned) => pinned.generation,
        None if ledger.has_watched_receipt() => {
            let request = SetPin { path: store_path, keep, expires: None };
            match api.set_pin(&name, &request).await {
                Ok(details) => details.pin.generation,
                Err(source) => return Err(PushError::NotPinned { name, source }),
            }
        }
        None if ledger.exit() == Exit::Success => {
            return Err(PushError::PinOfUpstream { name, store_path });
        }
        // The reason was shown already.
        None => {
            ledger.report_not_pinned(&name);
            return Ok(());
        }
    };
    ledger.record_pin(PinnedGeneration { name, generation });
    Ok(())
}
