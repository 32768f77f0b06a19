//! `snowbankd serve`: opens everything, says where it is, and serves until a signal.
//!
//! The order is that of what may fail for reasons outside of the data: settings, the data folder,
//! its lock, the address. Then the storage is opened and tried, then the database. The lock comes
//! before the database, since an upgrade of its schema must not meet another server. A first start
//! writes keys into the database, which servers may share, only when the storage was found to be
//! usable and nobody's: one that fails before leaves the database to whoever starts next.

use std::io::{self, Write};
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use futures_util::FutureExt as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::banner::{SiteAddress, banner};
use crate::admin::restore::settle_epoch;
use crate::admin::{self, Admin};
use crate::app::App;
use crate::auth::{LegacyKeys, TokenKey, Trust, Verifier};
use crate::chain::Chain;
use crate::clock::unix_now;
use crate::config::{Config, DatabaseUrl, ListenAddress, Overrides, StorageConfig};
use crate::damage::Withdrawal;
use crate::db::{Db, DbError};
use crate::listen::{Listener, Listeners, PassedSockets, Tls, open_tcp};
use crate::secrets::{DataDir, Sealer};
use crate::storage::Storage;
use crate::systemd::Trouble;
use crate::{files, gc, http, systemd, telemetry};

pub(super) async fn serve(
    overrides: &Overrides,
    passed: PassedSockets,
) -> anyhow::Result<ExitCode> {
    let config = Config::load(overrides)?;
    telemetry::init(&config.log)?;
    // From here on a signal is not the end of the process, so that it is never the end of a
    // half-made data folder.
    let mut signals = Signals::install()?;
    let trust = Trust::from_config(&config.auth)?;
    let tls = config.tls.as_ref().map(Tls::open).transpose()?.map(Arc::new);
    let data_dir = DataDir::create(&config.data_dir)?;
    if let DatabaseUrl::Sqlite(path) = &config.database.url {
        files::check_private("the database", path)?;
    }
    if let StorageConfig::Local { path } = &config.storage {
        files::warn_if_open("the storage", path);
    }
    let _lock = data_dir.lock()?;
    let listeners = open_listeners(&config, passed)?;
    let addresses = listeners.addresses().context("cannot tell where the server listens")?;
    if tls.is_some() {
        require_tcp(&addresses)?;
    }
    let metrics = match config.metrics.listen() {
        Some(address) => {
            let listener = open_tcp(address).context("`[metrics] listen`")?;
            Some((telemetry::install_metrics()?, listener))
        }
        None => None,
    };

    let sealer = Sealer::for_server(config.server_key_file.as_deref(), &data_dir)?;
    let storage = Arc::new(Storage::open(&config.storage).await?);
    let db = Db::open(&config.database).await?;
    let chain = Chain::new(db.clone(), Arc::clone(&storage));
    chain.find_free().await?;
    let key_files = TokenKey::from_config(&config.auth.token_keys)?;
    let legacy_keys = LegacyKeys::from_config(&config.auth.legacy_keys)?;
    let admin =
        Admin::new(db.clone(), sealer.clone(), key_files, &config).with_legacy_keys(legacy_keys);
    let found = admin::first_start(&admin, &data_dir, unix_now()).await?;
    settle_epoch(&db, &storage, unix_now()).await?;
    chain.take(unix_now()).await?;
    let verifier = Verifier::open_with(db.clone(), sealer, trust).await?;
    let site = SiteAddress::new(&config, &addresses);
    let banner = banner(&site, &data_dir, &found);
    let app = Arc::new(App::new(config, chain.clone(), admin, verifier).await?);
    print_banner(&banner);
    tracing::info!(listen = %shown(&addresses), data_dir = %data_dir.path().display(), "serving");

    let stop = CancellationToken::new();
    let mut background = JoinSet::new();
    if let Some((metrics, listener)) = metrics {
        background.spawn(http::serve_metrics(metrics, listener, stop.clone()));
        // What is counted is shown there and nowhere else.
        background.spawn(gc::usage::run(db.clone(), stop.clone()).map(Ok));
    }
    if let Some(tls) = &tls {
        let watch = Arc::clone(tls).watch();
        background.spawn(stop.clone().run_until_cancelled_owned(watch).map(|_| Ok(())));
    }
    background.spawn(chain.watch(stop.clone()).map(Ok));
    background.spawn(
        stop.clone().run_until_cancelled_owned(app.free_space.clone().watch()).map(|_| Ok(())),
    );
    // Where nothing is collected on a schedule, it notes the clock for `snowbankd gc`.
    background.spawn(gc::schedule::run(app.collector.clone(), stop.clone()).map(Ok));
    background.spawn(stop.clone().run_until_cancelled_owned(db.clone().fold()).map(|_| Ok(())));
    let (audit, tokens, paths) = (app.audit.clone(), app.verifier.uses().clone(), app.uses.clone());
    let noted = admin::upkeep::DeferredWrites { audit, tokens, paths, pushes: app.pushes.clone() };
    let keep = app.config.audit.keep;
    background
        .spawn(admin::upkeep::run(db.clone(), noted, keep, app.retention, stop.clone()).map(Ok));
    // Damage that is met while serving is looked into here.
    let (forgetting, inspector) = (Arc::clone(&app), app.inspector.clone());
    let forget = move |withdrawn: &Withdrawal| forgetting.forget(withdrawn);
    background.spawn(inspector.clone().watch(unix_now, forget.clone(), stop.clone()).map(Ok));
    background.spawn(inspector.follow(unix_now, forget, stop.clone()).map(Ok));
    let status = format!("Serving on {}", shown(&addresses));
    let pinged = db.clone();
    let alive = systemd::watch(move || ping(pinged.clone()), status.clone());
    background.spawn(stop.clone().run_until_cancelled_owned(alive).map(|_| Ok(())));
    let code = run_until_signal(app, listeners, tls, &status, &mut signals).await?;
    stop.cancel();
    while let Some(ended) = background.join_next().await {
        ended.context("a task beside the server stopped")??;
    }
    db.close().await;
    tracing::info!("stopped");
    Ok(code)
}

/// Asks the database whether it is there.
async fn ping(db: Db) -> Result<(), Trouble> {
    db.ping().await.map_err(|error| Trouble {
        has_answered: !matches!(error, DbError::Busy(_)),
        cause: error.to_string(),
    })
}

/// Serves; the first signal lets requests finish, the second does not.
async fn run_until_signal(
    app: Arc<App>,
    listeners: Listeners,
    tls: Option<Arc<Tls>>,
    status: &str,
    signals: &mut Signals,
) -> anyhow::Result<ExitCode> {
    let shutdown = CancellationToken::new();
    let mut server = pin!(http::serve(app, listeners, tls, shutdown.clone()));
    // From here on connections that wait are accepted.
    systemd::ready(status);
    tokio::select! {
        result = &mut server => return result.map(|()| ExitCode::SUCCESS),
        name = signals.next() => tracing::info!(signal = name, "stopping when requests under way \
            are done"),
    }
    systemd::stopping();
    shutdown.cancel();
    tokio::select! {
        result = &mut server => result.map(|()| ExitCode::SUCCESS),
        name = signals.next() => {
            // What was acknowledged is durable, and what was not is never half visible.
            tracing::warn!(signal = name, "stopping at once; clients have to push again what was \
                under way");
            Ok(ExitCode::FAILURE)
        }
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn install() -> anyhow::Result<Self> {
        let install = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            terminate: install(SignalKind::terminate())?,
            interrupt: install(SignalKind::interrupt())?,
        })
    }

    /// Waits for a signal that asks to stop, and gives its name.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// The sockets that systemd passes, or else the configured address.
fn open_listeners(config: &Config, mut passed: PassedSockets) -> anyhow::Result<Listeners> {
    let listeners = passed.listeners()?;
    if listeners.is_empty() {
        return Ok(Listeners::new(vec![Listener::open(&config.listen, config.socket_mode)?]));
    }
    tracing::info!("the sockets are systemd's, and `listen` is not in effect");
    Ok(Listeners::new(listeners))
}

/// Refuses TLS where no socket would have it: its operator takes connections for encrypted that are
/// not.
fn require_tcp(addresses: &[ListenAddress]) -> anyhow::Result<()> {
    let is_tcp = |address: &ListenAddress| matches!(address, ListenAddress::Tcp(_));
    if addresses.iter().any(is_tcp) {
        return Ok(());
    }
    anyhow::bail!(
        "`[tls]` is for sockets of TCP, and the server listens on {} alone, which stays plain. \
         Leave `[tls]` out, or listen on an address with --listen ADDR",
        shown(addresses)
    )
}

fn shown(addresses: &[ListenAddress]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Writes the banner; that nobody reads it is no reason not to serve.
fn print_banner(banner: &str) {
    let mut out = io::stdout().lock();
    if let Err(error) = out.write_all(banner.as_bytes()).and_then(|()| out.flush()) {
        tracing::debug!(%error, "standard output is closed");
    }
}
