//! `snowbank push`: uploads store paths and all they refer to.

use std::io::{self, BufRead, Write};
use std::sync::Arc;

use crate::api::{Api, UpstreamCache};
use crate::cli::{GlobalArgs, PushArgs};
use crate::config::{normalized_url, resolve_target};
use crate::exit::{Exit, Failure};
use crate::progress::{Progress, Style};
use crate::push::{Ledger, LedgerOptions, PinRequest, PushError, PushOptions, push};
use crate::store::{Store, StoreOptions};

/// Above this, more jobs cost memory and gain nothing.
const MOST_JOBS: usize = 8;

/// Runs `snowbank push`.
///
/// # Errors
/// What kept the push from beginning or going on. Paths that were not pushed while others were are no error here, but are
/// in the code to exit with.
pub async fn run(global: &GlobalArgs, args: PushArgs) -> Result<Exit, Failure> {
    let target = resolve_target(global, &args.cache)?;
    let api = Api::new(&target)?;
    let upstreams = upstreams(&args.check_upstream)?;
    let progress = Arc::new(Progress::new(Style::of_stderr(global.quiet)));
    let options = LedgerOptions { receipts: args.receipts.clone(), json: args.json, verbose: global.verbose > 0 };
    let mut ledger = Ledger::open(options, &progress)?;

    let result = push_installables(&api, &upstreams, &args, &mut ledger, &progress).await;
    progress.end();
    ledger.finish()?;
    let exit = match result {
        Ok(()) => ledger.exit(),
        Err(error) => {
            let exit = error.exit().worse(ledger.exit());
            let failure = Failure::from(error);
            if !(args.best_effort && exit.is_forgivable()) {
                say_summary(global, &api, &ledger)?;
                return Err(Failure { exit, ..failure });
            }
            writeln!(io::stderr(), "snowbank: warning: {failure}")?;
            exit
        }
    };
    say_summary(global, &api, &ledger)?;
    if args.best_effort && exit.is_forgivable() {
        writeln!(
            io::stderr(),
            "snowbank: warning: not everything was pushed; going on, since --best-effort was given"
        )?;
        return Ok(Exit::Success);
    }
    Ok(exit)
}

async fn push_installables(
    api: &Api,
    upstreams: &[UpstreamCache],
    args: &PushArgs,
    ledger: &mut Ledger,
    progress: &Arc<Progress>,
) -> Result<(), PushError> {
    let installables = installables(args).await?;
    let store = Store::open(StoreOptions { uri: args.store.clone() }).await?;
    let roots = store.resolve(&installables).await?;
    let options = PushOptions {
        jobs: args.jobs.map_or_else(default_jobs, usize::from),
        closure: !args.no_closure,
        upstream_filter: !args.no_upstream_filter,
        dry_run: args.dry_run,
        verify_present: args.verify_present,
        expires: args.expires,
        pin: args.pin.clone().map(|name| PinRequest { name, keep: args.pin_keep }),
    };
    push(api, &store, &roots, upstreams, &options, ledger, progress).await
}

/// The binary caches at these addresses.
fn upstreams(urls: &[String]) -> Result<Vec<UpstreamCache>, Failure> {
    urls.iter().map(|url| Ok(UpstreamCache::new(&normalized_url(url)?)?)).collect()
}

fn default_jobs() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(MOST_JOBS)
}

/// The arguments, and with `--stdin` the lines of standard input after them.
async fn installables(args: &PushArgs) -> Result<Vec<String>, PushError> {
    let mut installables = args.installables.clone();
    if args.stdin {
        // A thread may wait for input while signals are answered; it starts with nothing that must be undone.
        let read = tokio::task::spawn_blocking(|| io::stdin().lock().lines().collect::<io::Result<Vec<String>>>());
        let lines = read.await.map_err(|error| PushError::Internal(error.to_string()))?.map_err(PushError::Input)?;
        installables.extend(lines.iter().map(|line| line.trim()).filter(|line| !line.is_empty()).map(str::to_owned));
    }
    if installables.is_empty() { Err(PushError::NothingNamed) } else { Ok(installables) }
}

fn say_summary(global: &GlobalArgs, api: &Api, ledger: &Ledger) -> io::Result<()> {
    if global.quiet {
        return Ok(());
    }
    writeln!(io::stderr(), "{} at {}: {}.", api.cache(), api.server_url(), ledger.summary())
}
