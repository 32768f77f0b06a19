//! `snowbank watch-store`: pushes what appears in the Nix store.

use std::io::{self, Write as _};
use std::pin::pin;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::push::{path_filter, push_options, store_of_nix_conf, upstreams};
use super::signals::Signals;
use crate::ci::CiLog;
use crate::cli::{GlobalArgs, PushFlags, WatchStoreArgs};
use crate::config::resolve_target;
use crate::exit::{Exit, Failure};
use crate::push::PushOptions;
use crate::queue::drain::{Drain, DrainOptions, Report, Until};
use crate::queue::{Database, QueueError, QueueFolder};
use crate::store::StoreOptions;
use crate::watch::{Origins, StoreWatcher};

/// How long paths are pushed after a signal.
pub(super) const STOP_LIMIT: Duration = Duration::from_secs(20);
/// Time between two looks whether another process still pushes what is in the queue.
const LOCK_EVERY: Duration = Duration::from_secs(5);

/// Runs `snowbank watch-store`, until a signal.
///
/// # Errors
/// A store that cannot be watched; a queue that cannot be used.
pub async fn run(global: &GlobalArgs, args: WatchStoreArgs) -> Result<Exit, Failure> {
    // A mistake in the configuration is shown before anything waits for it.
    resolve_target(global, &args.cache)?;
    let mut signals = Signals::with_hangup()?;
    let folder = QueueFolder::find(args.folder.queue.as_deref())?;
    folder.create()?;
    let store = StoreOptions { uri: args.flags.store.clone().or_else(store_of_nix_conf) };
    let options = drain_options(store.clone(), &args.flags, Report::EachPush)?;
    let origins = if args.include_substituted { Origins::All } else { Origins::BuiltAndAdded };
    let mut watcher = StoreWatcher::start(store, &folder, &args.cache, origins).await?;
    if !global.quiet {
        writeln!(
            io::stderr(),
            "Watching {}: new paths are pushed to {}.",
            watcher.folder().display(),
            args.cache
        )?;
    }
    let (end, until) = watch::channel(Until::Stopped);
    let mut drain = None;
    let exit = {
        let mut draining = pin!(drain_when_free(global, &folder, &options, until, &mut drain));
        let exit = tokio::select! {
            never = watcher.run() => match never {},
            drained = &mut draining => return Ok(drained?),
            exit = signals.next() => exit,
        };
        if let Err(error) = watcher.sweep().await {
            tracing::warn!("{}", Failure::from(error));
        }
        drop(watcher);
        end.send_replace(Until::NothingDue);
        tokio::select! {
            drained = timeout(STOP_LIMIT, &mut draining) => {
                if let Ok(drained) = drained {
                    drained?;
                }
            }
            _ = signals.next() => {}
        }
        exit
    };
    let left = report_left(global, &folder).await?;
    if let Some(drain) = drain.filter(|_| !global.quiet) {
        append_tables(&drain, left)?;
    }
    Ok(exit)
}

/// The way in which `flags` say that paths are pushed.
pub(super) fn drain_options(
    store: StoreOptions,
    flags: &PushFlags,
    report: Report,
) -> Result<DrainOptions, Failure> {
    Ok(DrainOptions {
        report,
        store,
        upstreams: upstreams(&flags.selection.check_upstream)?,
        push: PushOptions { filter: path_filter(&flags.selection)?, ..push_options(flags) },
    })
}

/// Pushes what is in the queue, as soon as no other process does. `drain` then holds the numbers.
async fn drain_when_free<'a>(
    global: &'a GlobalArgs,
    folder: &QueueFolder,
    options: &'a DrainOptions,
    mut until: watch::Receiver<Until>,
    drain: &mut Option<Drain<'a>>,
) -> Result<Exit, QueueError> {
    let mut has_told = false;
    let _lock = loop {
        match folder.lock() {
            Ok(lock) => break lock,
            Err(QueueError::Locked { .. }) if *until.borrow() != Until::Stopped => {
                return Ok(Exit::Success);
            }
            Err(error @ QueueError::Locked { .. }) => {
                if !has_told {
                    tracing::info!("{error}; new paths are only queued");
                    has_told = true;
                }
            }
            Err(error) => return Err(error),
        }
        tokio::select! {
            () = sleep(LOCK_EVERY) => {}
            Ok(()) = until.changed() => {}
        }
    };
    drain.insert(Drain::open(folder, global, options).await?).run(until).await
}

/// Says how many paths were not pushed, and gives their number.
async fn report_left(global: &GlobalArgs, folder: &QueueFolder) -> Result<u64, Failure> {
    let (waiting, aside) = Database::open(folder).await?.counts().await?;
    if waiting + aside > 0 && !global.quiet {
        let queue = folder.path().display();
        writeln!(
            io::stderr(),
            "{waiting} paths wait in {queue}, and {aside} are set aside. `snowbank queue run` and \
             the next `watch-store` push what waits."
        )?;
    }
    Ok(waiting + aside)
}

/// Adds the numbers to the page of a CI run, as `push` does.
fn append_tables(drain: &Drain<'_>, left: u64) -> io::Result<()> {
    let log = CiLog::of_environment();
    for (target, summary) in drain.tally().pushes() {
        let mut rows = summary.rows();
        if left > 0 {
            rows.push(("in the queue", left.to_string()));
        }
        log.append_table(&format!("Pushed to {target}"), &rows)?;
    }
    Ok(())
}
