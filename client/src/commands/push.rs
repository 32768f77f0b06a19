//! `snowbank push`: uploads store paths and all they refer to.

pub(crate) mod input;

use std::io::{self, Write as _};
use std::sync::Arc;

use crate::api::{Api, UpstreamCache};
use crate::ci::CiLog;
use crate::cli::{GlobalArgs, PushArgs, PushFlags, SelectionArgs};
use crate::config::{
    ConfigError, NamePattern, PathFilter, PatternError, normalized_url, resolve_target,
};
use crate::exit::{Exit, Failure};
use crate::nix::NixFiles;
use crate::progress::{Progress, Style};
use crate::push::{Ledger, LedgerOptions, PinRequest, PushError, PushOptions, push};
use crate::store::{Resolution, Store, StoreError, StoreOptions};
use input::Input;

/// Above this, more jobs cost memory and gain nothing.
const MAX_JOBS: usize = 8;

/// Runs `snowbank push`.
///
/// # Errors
/// What kept the push from beginning or going on. Paths that were not pushed while others were are
/// no error here, but are in the code to exit with.
pub async fn run(global: &GlobalArgs, args: PushArgs) -> Result<Exit, Failure> {
    let target = resolve_target(global, &args.cache)?;
    let filter = target.filter.with(&path_filter(&args.flags.selection)?);
    let api = Api::new(&target)?;
    let upstreams = upstreams(&args.flags.selection.check_upstream)?;
    let progress = Arc::new(Progress::new(Style::of_stderr(global.quiet)));
    let waits = Arc::clone(&progress);
    api.on_retry(move |error, delay| waits.waits(delay, error.in_short()));
    let options = LedgerOptions {
        receipts: args.receipts.clone(),
        json: args.json,
        verbose: global.verbose > 0,
        mute: false,
    };
    let mut ledger = Ledger::open(options, &progress)?;

    let log = if global.quiet { CiLog::silent() } else { CiLog::of_environment() };
    let section = log.open_section(&format!("Push to {} at {}", api.cache(), api.server_url()))?;
    let result =
        push_installables(global, &api, &upstreams, &filter, &args, &mut ledger, &progress).await;
    progress.end();
    section.close()?;
    ledger.finish()?;
    let exit = match result {
        Ok(()) => ledger.exit(),
        Err(error) => {
            let exit = error.exit().worse(ledger.exit());
            let failure = Failure::from(error);
            if !(args.best_effort && exit.is_forgivable()) {
                say_summary(global, &api, &ledger, &log)?;
                return Err(Failure { exit, ..failure });
            }
            writeln!(io::stderr(), "snowbank: warning: {failure}")?;
            exit
        }
    };
    say_summary(global, &api, &ledger, &log)?;
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
    global: &GlobalArgs,
    api: &Api,
    upstreams: &[UpstreamCache],
    filter: &PathFilter,
    args: &PushArgs,
    ledger: &mut Ledger,
    progress: &Arc<Progress>,
) -> Result<(), PushError> {
    let input = Input::read(&args.installables, args.stdin, global.quiet).await?;
    let pin = args.pin.clone().map(|name| PinRequest { name, keep: args.pin_keep });
    if input.is_empty() && pin.is_none() {
        if !global.quiet {
            progress.say(
                "Nothing to push: standard input names no path. Did the command before the pipe \
                fail?",
            );
        }
        return Ok(());
    }
    let store = open_store(args.flags.store.as_deref()).await?;
    let Resolution { paths: roots, refused } =
        store.resolve_each(&input.installables(store.store_dir())).await?;
    if let Some(pin) = &pin
        && roots.len() + refused.len() != 1
    {
        return Err(PushError::PinOfMany {
            name: pin.name.clone(),
            paths: roots.len() + refused.len(),
        });
    }
    for (argument, reason) in refused {
        ledger.record_refused(argument, reason)?;
    }
    if roots.is_empty() {
        return Ok(());
    }
    let options = PushOptions {
        closure: !args.no_closure,
        dry_run: args.dry_run,
        verify_present: args.verify_present,
        pin,
        filter: filter.clone(),
        ..push_options(&args.flags)
    };
    push(api, &store, &roots, upstreams, &options, ledger, progress).await
}

/// The store of `--store`, or else that of nix.conf's `store`, which for Nix as well goes before
/// `NIX_REMOTE`.
async fn open_store(uri: Option<&str>) -> Result<Store, StoreError> {
    if uri.is_some() {
        return Store::open(StoreOptions { uri: uri.map(str::to_owned) }).await;
    }
    let uri = store_of_nix_conf();
    let opened = Store::open(StoreOptions { uri: uri.clone() }).await;
    if let (Err(_), Some(uri)) = (&opened, uri) {
        tracing::warn!("the store is that of `store = {uri}` in nix.conf; --store names another");
    }
    opened
}

/// The store that nix.conf names.
pub(super) fn store_of_nix_conf() -> Option<String> {
    // A nix.conf that cannot be read is Nix's to complain of.
    let settings = NixFiles::of_environment().settings().unwrap_or_default();
    settings.text("store").filter(|uri| !uri.is_empty()).map(str::to_owned)
}

/// The binary caches at these addresses.
pub(super) fn upstreams(urls: &[String]) -> Result<Vec<UpstreamCache>, Failure> {
    urls.iter().map(|url| Ok(UpstreamCache::new(&normalized_url(url)?)?)).collect()
}

/// The filter of the command line.
pub(super) fn path_filter(selection: &SelectionArgs) -> Result<PathFilter, ConfigError> {
    let compile = |patterns: &[String], flag: &str| -> Result<Vec<NamePattern>, PatternError> {
        patterns.iter().map(|pattern| NamePattern::new(pattern, flag)).collect()
    };
    Ok(PathFilter {
        exclude: compile(&selection.exclude, "--exclude")?,
        only: compile(&selection.only, "--only")?,
        max_path_size: selection.max_path_size,
    })
}

/// The options of a push of closures that leaves out nothing.
pub(super) fn push_options(flags: &PushFlags) -> PushOptions {
    PushOptions {
        jobs: flags.jobs.map_or_else(default_jobs, usize::from),
        closure: true,
        upstream_filter: !flags.selection.no_upstream_filter,
        dry_run: false,
        verify_present: false,
        expires: flags.expires,
        filter: PathFilter::NONE,
        logs: !flags.no_logs,
        pin: None,
    }
}

fn default_jobs() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(MAX_JOBS)
}

fn say_summary(global: &GlobalArgs, api: &Api, ledger: &Ledger, log: &CiLog) -> io::Result<()> {
    if global.quiet || !ledger.has_begun() {
        return Ok(());
    }
    let (cache, summary) = (format!("{} at {}", api.cache(), api.server_url()), ledger.summary());
    log.append_table(&format!("Pushed to {cache}"), &summary.rows())?;
    writeln!(io::stderr(), "{cache}: {summary}.")
}
