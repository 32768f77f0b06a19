//! `snowbank fetch`: has Nix fetch store paths from one cache and nowhere else, and compares them
//! with receipts.
//!
//! Order: the cache is asked for the narinfo of every path that is not in the store, so that a path
//! that the cache lacks is named before anything is fetched. Then Nix fetches, with the paths made
//! temporary roots before. Then what the store has is compared. A symlink, and the paths on
//! standard output, come last: a path that differs gets neither.

mod closure;
mod engine;
mod nix_store;
mod out_link;
mod report;
mod source;

use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use snowbank_core::pin_name::PinName;
use snowbank_core::store_path::StorePath;
use snowbank_core::wire::CacheInfo;
use snowbank_core::wire::admin::pins::PinDetails;
use tokio::time::timeout;

use super::push::store_of_nix_conf;
use super::receipts::{ReceiptFile, ReceiptKeys, pinned_keys};
use super::signals::Signals;
use crate::api::Api;
use crate::ci::CiLog;
use crate::cli::{FetchArgs, GlobalArgs};
use crate::config::{Target, normalized_url, resolve_target};
use crate::exit::{Exit, Failure};
use crate::progress::{Progress, Style};
use crate::store::{Closure, PathInfo, Store, StoreOptions};
use closure::{Comparison, Receipts};
use engine::Engine;
use nix_store::{NixStoreCommand, Process};
use out_link::{check_link, link_all, links};
use report::Report;
use source::Source;

/// How long Nix may take to end after a signal.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// Runs `snowbank fetch`.
///
/// # Errors
/// A path or pin that the cache does not have; a cache, a store or a receipts file that cannot be
/// used. Paths that differ from their receipts are an outcome.
pub async fn run(global: &GlobalArgs, args: FetchArgs) -> Result<Exit, Failure> {
    let mut signals = Signals::with_hangup()?;
    let process = Process::default();
    let mut fetching = pin!(fetch(global, &args, &process));
    let exit = tokio::select! {
        fetched = &mut fetching => return fetched,
        exit = signals.next() => exit,
    };
    if process.stop() {
        tokio::select! {
            _ = timeout(STOP_LIMIT, &mut fetching) => {}
            _ = signals.next() => {}
        }
    }
    Ok(exit)
}

async fn fetch(global: &GlobalArgs, args: &FetchArgs, process: &Process) -> Result<Exit, Failure> {
    let started = Instant::now();
    let pinned = pinned_keys(&args.public_keys)?;
    let receipts = args.receipts.as_deref().map(ReceiptFile::read).transpose()?;
    let upstreams: Vec<String> =
        args.upstreams.iter().map(|url| normalized_url(url)).collect::<Result<_, _>>()?;
    let target = resolve_target(global, &args.cache)?;
    let api = Api::new(&target)?;
    let progress = Arc::new(Progress::new(Style::of_stderr(global.quiet)));
    let was_away = Arc::new(AtomicBool::new(false));
    let (waits, away) = (Arc::clone(&progress), Arc::clone(&was_away));
    api.on_retry(move |error, delay| {
        away.store(true, Ordering::Relaxed);
        waits.waits(delay, error.in_short());
    });

    let info = api.cache_info().await?;
    let keys = ReceiptKeys::of(&info, &pinned)?;
    let options = StoreOptions { uri: args.store.clone().or_else(store_of_nix_conf) };
    // Temporary roots last as long as it is open.
    let store = Store::open_or_create(options.clone()).await?;
    check_cache(&info, &target, &store)?;
    let roots = roots(&api, &store, args).await?;
    for link in args.out_link.iter().flat_map(|link| links(link, roots.len())) {
        check_link(&link)?;
    }
    let source = Source::new(&api, &info, &args.public_keys)?;
    let command = NixStoreCommand::new(
        &source,
        &target,
        &args.cache,
        &options,
        store.store_dir(),
        global.quiet,
    )?;

    let log = if global.quiet { CiLog::silent() } else { CiLog::of_environment() };
    let section = log.open_section(&format!("Fetch from {source}"))?;
    let engine = Engine { options: &options, store: &store, source: &source, process };
    let fetched = engine.fetch(&command, &roots, &upstreams, receipts.as_ref(), &was_away).await;
    progress.end();
    section.close()?;
    let fetched = fetched?;

    // Temporary roots again, now of all paths of the closure.
    let fresh = Store::open_or_create(options.clone()).await?;
    let closure = whole(fresh.closure(&roots).await?, &fresh)?;
    let comparison = Comparison {
        store: &fresh,
        plan: &fetched.plan,
        receipts: receipts.as_ref().map(|file| Receipts::new(file, &keys, args.partial_receipts)),
        reads_contents: args.verify,
    };
    let results = comparison.compare(&closure).await?;
    let mut report = Report::new(global, args.json, started);
    if let Some(file) = &receipts {
        report.broken_lines(&file.broken)?;
    }
    let asked: HashSet<&StorePath> = roots.iter().collect();
    for (info, verdict) in closure.iter().zip(&results) {
        let full = info.path.full(fresh.store_dir());
        let is_root = asked.contains(&info.path);
        report.path(&full, info, fetched.origin(&info.path), is_root, verdict)?;
    }
    if report.exit() == Exit::Success
        && let Some(link) = &args.out_link
    {
        link_all(&fresh, link, &roots).await?;
    }
    report.finish(&source, &log)?;
    if report.exit() == Exit::Success {
        report.roots(roots.iter().map(|path| path.full(fresh.store_dir())))?;
    }
    Ok(report.exit())
}

/// Whether this token may fetch from the cache, and this store may hold its paths.
fn check_cache(info: &CacheInfo, target: &Target, store: &Store) -> Result<(), Failure> {
    if !info.public && !info.permissions.iter().any(|one| one == "pull") {
        let text = format!(
            "the token from {} may not fetch from the private cache `{}`; ask its operator for one \
             that may pull",
            target.token_source, info.name
        );
        return Err(Failure::new(Exit::Forbidden, anyhow!(text)));
    }
    if info.store_dir != store.store_dir().as_str() {
        let text = format!(
            "the cache `{}` is for the store directory {}, and this store has {}",
            info.name,
            info.store_dir,
            store.store_dir()
        );
        return Err(Failure::new(Exit::Refused, anyhow!(text)));
    }
    Ok(())
}

/// The closure, of which nothing is absent.
fn whole(closure: Closure, store: &Store) -> Result<Vec<PathInfo>, Failure> {
    match closure.absent.first() {
        None => Ok(closure.infos),
        Some(path) => {
            let text = format!(
                "Nix no longer knows {}: it was garbage-collected while it was fetched",
                path.full(store.store_dir())
            );
            Err(Failure::new(Exit::Store, anyhow!(text)))
        }
    }
}

/// The paths that are asked for, each once: those of the arguments, then those of the pins.
async fn roots(api: &Api, store: &Store, args: &FetchArgs) -> Result<Vec<StorePath>, Failure> {
    let mut roots = Vec::new();
    for path in &args.paths {
        let root = match StorePath::from_base_name(path) {
            Ok(root) => root,
            Err(_) => store.locate(path).map_err(|error| Failure::new(Exit::Usage, error))?,
        };
        roots.push(root);
    }
    for name in &args.pins {
        roots.push(pinned_path(api, store, name).await?);
    }
    let mut seen = HashSet::new();
    roots.retain(|root| seen.insert(root.clone()));
    // Nix would build its outputs.
    if let Some(derivation) = roots.iter().find(|root| root.name().strip_suffix(".drv").is_some()) {
        let text = format!("{derivation} is a derivation; name the store paths of its outputs");
        return Err(Failure::new(Exit::Usage, anyhow!(text)));
    }
    Ok(roots)
}

async fn pinned_path(api: &Api, store: &Store, name: &PinName) -> Result<StorePath, Failure> {
    let asked = api.ask::<PinDetails>(&format!("caches/{}/pins/{name}", api.cache())).await;
    let pin = asked
        .map_err(|error| match error.exit() {
            Exit::Absent => Failure::from(error).context(format!(
                "there is no pin `{name}` in `{}`: it was never made, or has ended",
                api.cache()
            )),
            _ => error.into(),
        })?
        .pin;
    if !pin.present {
        let text = format!(
            "the pin `{name}` of `{}` stands for {}, which the cache does not show at the moment; \
             push it again",
            api.cache(),
            pin.store_path
        );
        return Err(Failure::new(Exit::Absent, anyhow!(text)));
    }
    StorePath::parse(store.store_dir(), &pin.store_path).map_err(|error| {
        let text = format!("the server says that the pin `{name}` stands for {}", pin.store_path);
        Failure::new(Exit::Server, error).context(text)
    })
}
