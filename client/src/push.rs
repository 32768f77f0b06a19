//! `snowbank push`: a closure goes up, and a receipt per path comes back.
//!
//! ```text
//! plan ──► read (dump, SHA-256, mask, cut, name) ──► ask ──► encode ──► bundle ──► send ──► commit ──► ledger
//! ```
//!
//! `plan` decides what is to be pushed, `pipeline` does it, and the [`Ledger`] keeps what came of
//! each path: it is where receipts are written, as they come. Invariant: a path is committed only
//! after the bytes that were read have the hash that Nix recorded, and after all that it refers to
//! (what upstream has apart) is visible in the cache.
//!
//! What is shown meanwhile is `progress`'s, what travels is `api`'s.

mod book;
mod budget;
mod bundle;
mod commit;
mod encode;
mod error;
mod fillings;
mod hash;
mod ledger;
mod pipeline;
mod plan;
mod read;
mod schedule;
mod upstream;
mod warnings;

use std::collections::HashSet;
use std::sync::Arc;

use snowbank_core::pin_name::PinName;
use snowbank_core::store_path::StorePath;
use snowbank_core::units::Seconds;
use snowbank_core::wire::admin::pins::SetPin;
use snowbank_core::wire::{Pinned, PushPin};

use crate::api::{Api, UpstreamCache};
use crate::exit::Exit;
use crate::progress::Progress;
use crate::store::{PathInfo, Store};

pub use error::PushError;
pub use ledger::{Ledger, LedgerOptions, Summary};

/// How often paths are pushed anew when something that they refer to has gone from the cache
/// meanwhile.
const ROUNDS: u32 = 3;

/// What is asked of a push.
#[derive(Debug, Clone)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of the command, independent of the others"
)]
pub struct PushOptions {
    /// Paths read at the same time, and chunks compressed at the same time.
    pub jobs: usize,
    /// Push what the paths refer to as well.
    pub closure: bool,
    /// Leave out what a key of the cache's upstreams has signed.
    pub upstream_filter: bool,
    /// Ask what is missing, and push nothing.
    pub dry_run: bool,
    /// Have the server read back the paths that it has.
    pub verify_present: bool,
    /// For how long the paths are kept; `None` as long as the cache keeps paths.
    pub expires: Option<Seconds>,
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

/// Pushes `roots` (and, if asked to, all that they refer to) from `store` to the cache of `api`,
/// less what one of `upstreams` has. What came of each path is in `ledger`, also after an error.
///
/// All that is pushed is kept from garbage collections while `store` is open.
///
/// What the cache had when it was asked may be gone when what refers to it is committed, since
/// nobody had used it for long. Then everything that is left is asked about and pushed once more.
///
/// # Errors
/// [`PushError`], which is about the push as a whole: a server that cannot be reached, a full disk,
/// a receipts file that cannot be written, a pin that was not made. What is about single paths is
/// no error of this function.
pub async fn push(
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
    let target = plan::Target::new(cache, store.store_dir())?;
    ledger.begin();
    if let Some(pin) = &pin {
        ledger.watch(&pin.store_path);
    }
    let mut left = roots.to_vec();
    let mut pinned = None;
    for round in 1..=ROUNDS {
        let infos = plan::known(closure, options, &target, ledger)?;
        let wanted = plan::choose(infos, &left, options, &target, ledger)?;
        let named = named(&wanted, &left);
        let plan::Answers { missing, signed } =
            plan::ask(api, wanted, options, &target, ledger).await?;
        let missing =
            upstream::leave_out(upstreams, missing, options.closure, &target, ledger).await?;
        if round == 1 {
            warnings::of_late_signatures(api, signed, &target, ledger).await;
            warnings::of_derivations(store, named, &missing).await;
        }
        let plan = plan::Plan::new(missing, |path| store.real_path(path));
        if options.dry_run {
            return ledger.would_push(&plan, &target);
        }
        progress.begin(plan.paths.len() as u64, plan.nar_bytes());
        let orders = pipeline::Orders {
            jobs: options.jobs,
            expires: options.expires,
            pin: pin.clone(),
            // Without the closure nobody has asked for references, and those that are not there
            // never were.
            put_off: options.closure && round < ROUNDS,
        };
        let done = pipeline::run(api, store, &target, plan, orders, ledger, progress).await?;
        pinned = pinned.or(done.pinned);
        if done.put_off.is_empty() {
            break;
        }
        tracing::info!(
            "the cache has lost what {} paths refer to; pushing it again",
            done.put_off.len()
        );
        ledger.go_on(done.put_off.iter().map(|path| target.full(path)).collect());
        closure = store.closure(&done.put_off).await?;
        left = done.put_off;
    }
    match pin {
        Some(pin) => pin_now(api, pin, pinned, ledger).await,
        None => Ok(()),
    }
}

/// Those of `wanted` that are among `roots`.
fn named(wanted: &[plan::Wanted], roots: &[StorePath]) -> Vec<PathInfo> {
    let roots: HashSet<&StorePath> = roots.iter().collect();
    wanted
        .iter()
        .map(|wanted| &wanted.info)
        .filter(|info| roots.contains(&info.path))
        .cloned()
        .collect()
}

/// The pin for the one root that there has to be.
fn pin_of(pin: &PinRequest, store: &Store, roots: &[StorePath]) -> Result<PushPin, PushError> {
    let PinRequest { name, keep } = pin.clone();
    match roots {
        [root] => Ok(PushPin { name, store_path: root.full(store.store_dir()), keep }),
        _ => Err(PushError::PinOfMany { name, paths: roots.len() }),
    }
}

/// Sees to the pin after the push: it came with its path's commit, or is made now, where the path
/// was there before, the answer was lost, or the server knows of no pins in commits.
async fn pin_now(
    api: &Api,
    pin: PushPin,
    pinned: Option<Pinned>,
    ledger: &mut Ledger,
) -> Result<(), PushError> {
    let PushPin { name, store_path, keep } = pin;
    let generation = match pinned {
        Some(pinned) => pinned.generation,
        None if ledger.watched_is_there() => {
            let request = SetPin { path: store_path, keep, expires: None };
            match api.set_pin(&name, &request).await {
                Ok(details) => details.pin.generation,
                Err(source) => return Err(PushError::NotPinned { name, source }),
            }
        }
        None if ledger.exit() == Exit::Success => {
            return Err(PushError::PinOfUpstream { name, store_path });
        }
        // Why is known by now.
        None => {
            ledger.not_pinned(&name);
            return Ok(());
        }
    };
    ledger.pinned(Pinned { name, generation });
    Ok(())
}
