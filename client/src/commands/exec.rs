//! `snowbank exec`: runs a command, and pushes what Nix builds for it meanwhile.
//!
//! The paths come from a post-build hook that holds for this command alone, or, where Nix would not
//! heed it, from a watch over the store. Either puts them into a queue of this command's own, which
//! goes with it.

mod private_hook;
mod report;

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::pin::{Pin, pin};
use std::process::{ExitCode, ExitStatus};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::timeout;

use super::push::store_of_nix_conf;
use super::signals::Signals;
use super::watch_store::{STOP_LIMIT, drain_options};
use crate::cli::{ExecArgs, GlobalArgs};
use crate::config::resolve_target;
use crate::exit::{Exit, Failure};
use crate::queue::drain::{Drain, Report, Until};
use crate::queue::{QueueError, QueueFolder};
use crate::store::StoreOptions;
use crate::watch::{Origins, StoreWatcher};
use private_hook::PrivateHook;

/// The exit codes of a shell for a command that did not run.
const NO_SUCH_PROGRAM: u8 = 127;
const NOT_STARTED: u8 = 126;

/// Runs `snowbank exec`. Gives the command's exit code, or that of the push.
///
/// # Errors
/// A command that was not started, since nothing of it could be pushed.
pub async fn run(global: &GlobalArgs, args: ExecArgs) -> Result<ExitCode, Failure> {
    resolve_target(global, &args.cache)?;
    let mut signals = Signals::with_hangup()?;
    let scratch = tempfile::Builder::new()
        .prefix("snowbank-exec-")
        .permissions(std::fs::Permissions::from_mode(0o700))
        .tempdir()
        .map_err(|error| Failure::from(error).context("cannot make a folder for the queue"))?;
    let folder = QueueFolder::find(Some(&scratch.path().join("queue")))?;
    let store = StoreOptions { uri: args.flags.store.clone().or_else(store_of_nix_conf) };
    let options = drain_options(store.clone(), &args.flags, Report::Tally)?;
    // The hook may run as root: what it finds is its caller's already.
    let mut drain = Drain::open(&folder, global, &options).await?;

    let mut command = Command::new(&args.command[0]);
    command.args(&args.command[1..]);
    let mut watcher = None;
    if let Some(hook) = PrivateHook::make(scratch.path(), &folder, &args.cache, &store)? {
        command.env("NIX_CONFIG", hook.nix_config());
    } else {
        tracing::info!("Nix heeds no hook of this user: the store is watched");
        let origins = Origins::Built;
        watcher = Some(StoreWatcher::start(store, &folder, &args.cache, origins).await?);
    }
    let child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return Ok(not_started(&args, &error)),
    };

    let (end, until) = watch::channel(Until::Stopped);
    let (status, interrupted, failure) = {
        let mut pushing = Pushing { run: pin!(drain.run(until)), failure: None, has_ended: false };
        let (status, signal) = attend(child, &mut watcher, &mut pushing, &mut signals).await?;
        if let Some(watcher) = &mut watcher
            && let Err(error) = watcher.sweep().await
        {
            tracing::warn!("{}", Failure::from(error));
        }
        end.send_replace(Until::NothingWaits);
        let limit = Duration::from_secs(args.timeout.get());
        let limit = if signal.is_some() { limit.min(STOP_LIMIT) } else { limit };
        let interrupted = tokio::select! {
            _ = timeout(limit, pushing.end()) => None,
            exit = signals.next() => Some(exit),
        };
        (status, interrupted, pushing.failure)
    };
    let push = report::report(global, &args, &mut drain, failure, interrupted).await;
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    match code {
        0 if args.require_push => Ok(push.into()),
        code => Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))),
    }
}

/// The pushing beside the command. Its failure ends no command.
struct Pushing<'a, F> {
    run: Pin<&'a mut F>,
    has_ended: bool,
    failure: Option<QueueError>,
}

impl<F: Future<Output = Result<Exit, QueueError>>> Pushing<'_, F> {
    /// Pushes until the end.
    async fn end(&mut self) {
        if !self.has_ended {
            let ended = self.run.as_mut().await;
            self.has_ended = true;
            self.failure = ended.err();
        }
    }

    /// Pushes for ever.
    async fn go_on(&mut self) -> Infallible {
        self.end().await;
        pending().await
    }
}

/// Waits for the end of the command, and pushes meanwhile. Gives the last signal that came, too.
async fn attend<F: Future<Output = Result<Exit, QueueError>>>(
    mut child: Child,
    watcher: &mut Option<StoreWatcher>,
    pushing: &mut Pushing<'_, F>,
    signals: &mut Signals,
) -> io::Result<(ExitStatus, Option<Exit>)> {
    let mut signal = None;
    let mut pushing = pin!(pushing.go_on());
    let mut watching = pin!(async {
        match watcher {
            Some(watcher) => watcher.run().await,
            None => pending().await,
        }
    });
    loop {
        tokio::select! {
            status = child.wait() => return Ok((status?, signal)),
            never = &mut pushing => match never {},
            never = &mut watching => match never {},
            exit = signals.next() => {
                signal = Some(exit);
                // A terminal sends SIGINT to the command itself.
                if exit == Exit::Terminated {
                    terminate(&child);
                }
            }
        }
    }
}

fn terminate(child: &Child) {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // Fails only where the command has ended.
        let _ = kill_process(pid, Signal::TERM);
    }
}

fn not_started(args: &ExecArgs, error: &io::Error) -> ExitCode {
    let program = args.command[0].display();
    tracing::error!("cannot start {program}: {error}");
    ExitCode::from(if error.kind() == io::ErrorKind::NotFound {
        NO_SUCH_PROGRAM
    } else {
        NOT_STARTED
    })
}
