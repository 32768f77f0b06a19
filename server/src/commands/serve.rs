//! `snowbankd serve`: opens everything, says where it is, and serves until a signal.
//!
//! The order is that of what may fail for reasons outside of the data: settings, the data folder,
//! its lock, the address. Then the storage is opened and tried, then the database. The lock comes
//! before the database, since an upgrade of its schema must not meet another server. A first start
//! writes keys into the database, which servers may share, only when the storage was found to be
//! usable and nobody's: one that fails before leaves the database to whoever starts next.

use std::io::{self, ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use futures_util::FutureExt as _;
use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::shell_quoted;
use crate::admin::restore::settle_epoch;
use crate::admin::{self, Admin, FirstStart};
use crate::app::App;
use crate::auth::{TokenKey, Trust, Verifier};
use crate::chain::Chain;
use crate::clock::unix_now;
use crate::config::{Config, DatabaseUrl, Overrides, StorageConfig};
use crate::damage::Withdrawal;
use crate::db::Db;
use crate::secrets::{DataDir, Sealer};
use crate::storage::Storage;
use crate::{files, gc, http, telemetry};

pub(super) async fn serve(overrides: &Overrides) -> anyhow::Result<ExitCode> {
    let config = Config::load(overrides)?;
    telemetry::init(&config.log)?;
    // From here on a signal is not the end of the process, so that it is never the end of a
    // half-made data folder.
    let mut signals = Signals::install()?;
    let trust = Trust::from_config(&config.auth)?;
    let data_dir = DataDir::create(&config.data_dir)?;
    if let DatabaseUrl::Sqlite(path) = &config.database.url {
        files::check_private("the database", path)?;
    }
    if let StorageConfig::Local { path } = &config.storage {
        files::warn_if_open("the storage", path);
    }
    let _lock = data_dir.lock()?;
    let listener = listen(config.listen)?;
    let address = listener.local_addr().context("cannot tell the address that is listened on")?;
    let metrics = match config.metrics.listen() {
        Some(address) => {
            Some((telemetry::install_metrics()?, listen(address).context("`[metrics] listen`")?))
        }
        None => None,
    };

    let sealer = Sealer::for_server(config.server_key_file.as_deref(), &data_dir)?;
    let storage = Arc::new(Storage::open(&config.storage).await?);
    let db = Db::open(&config.database).await?;
    let chain = Chain::new(db.clone(), Arc::clone(&storage));
    chain.find_free().await?;
    let key_files = TokenKey::from_config(&config.auth.token_keys)?;
    let admin = Admin::new(db.clone(), sealer.clone(), key_files, &config);
    let found = admin::first_start(&admin, &data_dir, unix_now()).await?;
    settle_epoch(&db, &storage, unix_now()).await?;
    chain.take(unix_now()).await?;
    let verifier = Verifier::open_with(db.clone(), sealer, trust).await?;
    let banner = banner(&config, address, &data_dir, &found);
    let app = Arc::new(App::new(config, chain.clone(), admin, verifier).await?);
    print_banner(&banner);
    tracing::info!(%address, data_dir = %data_dir.path().display(), "serving");

    let stop = CancellationToken::new();
    let mut background = JoinSet::new();
    if let Some((metrics, listener)) = metrics {
        background.spawn(http::serve_metrics(metrics, listener, stop.clone()));
        // What is counted is shown there and nowhere else.
        background.spawn(gc::usage::run(db.clone(), stop.clone()).map(Ok));
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
    let code = run_until_signal(app, listener, &mut signals).await?;
    stop.cancel();
    while let Some(ended) = background.join_next().await {
        ended.context("a task beside the server stopped")??;
    }
    db.close().await;
    tracing::info!("stopped");
    Ok(code)
}

/// Serves; the first signal lets requests finish, the second does not.
async fn run_until_signal(
    app: Arc<App>,
    listener: TcpListener,
    signals: &mut Signals,
) -> anyhow::Result<ExitCode> {
    let shutdown = CancellationToken::new();
    let mut server = pin!(http::serve(app, listener, shutdown.clone()));
    tokio::select! {
        result = &mut server => return result.map(|()| ExitCode::SUCCESS),
        name = signals.next() => tracing::info!(signal = name, "stopping when requests under way \
            are done"),
    }
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

/// Connections that wait to be accepted. More than the system's default: when a thousand come at
/// once, one that finds no room is tried again by its client after a second.
const BACKLOG: u32 = 4096;

fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let bind = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    bind().map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => anyhow!(
            "cannot listen on {address}: another program does. Stop that one, or choose another \
             address with --listen ADDR"
        ),
        ErrorKind::PermissionDenied => anyhow!(
            "cannot listen on {address}: the system does not allow this user to. Choose a port \
             above 1023 with --listen ADDR"
        ),
        ErrorKind::AddrNotAvailable => anyhow!(
            "cannot listen on {address}: this machine does not have that address. Choose one of \
             its own with --listen ADDR"
        ),
        _ => anyhow!(
            "cannot listen on {address}: {error}. Choose another address with --listen ADDR"
        ),
    })
}

/// The server's address for programs on this machine: the public one, or the listening one as this
/// machine reaches it.
fn base_url(config: &Config, listening: SocketAddr) -> String {
    if let Some(url) = &config.public_url {
        return url.to_string();
    }
    let ip = match listening.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(ip, listening.port()))
}

/// The server's address in a nix.conf, and on which machines that holds.
fn substituter(config: &Config, listening: SocketAddr) -> (String, String) {
    let base = base_url(config, listening);
    if config.public_url.is_some() {
        (base, "Substitute on any machine, in nix.conf:".to_owned())
    } else if listening.ip().is_unspecified() {
        let host = host_name();
        let text = format!("Substitute on machines that know this one as {host}, in nix.conf:");
        (format!("http://{host}:{}", listening.port()), text)
    } else if listening.ip().is_loopback() {
        (
            base,
            format!(
                "Substitute on this machine, in nix.conf (for others: snowbankd --listen \
                 0.0.0.0:{}):",
                listening.port()
            ),
        )
    } else {
        (base, "Substitute on any machine that reaches this address, in nix.conf:".to_owned())
    }
}

/// This machine's name, as its own system has it.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let is_name = |name: &&str| {
        name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte))
    };
    Some(name.trim())
        .filter(|name| !name.is_empty())
        .filter(is_name)
        .unwrap_or("THIS-HOST")
        .to_owned()
}

/// A few lines that can be pasted. No secret is among them: the root token's file is, and `snowbank
/// login` reads that.
fn banner(config: &Config, address: SocketAddr, data_dir: &DataDir, found: &FirstStart) -> String {
    let base = base_url(config, address);
    let token_file = data_dir.root_token();
    let mut lines = vec![
        format!("Snowbank is listening on {base}"),
        format!("  data        {}", data_dir.path().display()),
    ];
    if token_file.exists() {
        lines.push(format!("  root token  {}", token_file.display()));
    }
    if let Some((main, key)) = &found.main {
        lines.push("Push from this machine:".to_owned());
        if token_file.exists() {
            lines.push(format!("  snowbank login local {base} < {}", shell_quoted(&token_file)));
        }
        lines.push(format!("  snowbank push {main} ./result"));
        let (url, machines) = substituter(config, address);
        lines.push(machines);
        lines.push(format!("  extra-substituters = {url}/{main}"));
        lines.push(format!("  extra-trusted-public-keys = {key}"));
    }
    lines.push(String::new());
    lines.join("\n")
}

/// Writes the banner; that nobody reads it is no reason not to serve.
fn print_banner(banner: &str) {
    let mut out = io::stdout().lock();
    if let Err(error) = out.write_all(banner.as_bytes()).and_then(|()| out.flush()) {
        tracing::debug!(%error, "standard output is closed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_in_use_is_named_with_what_to_do() {
        let taken = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = taken.local_addr().unwrap();
        let message = listen(address).unwrap_err().to_string();
        assert!(
            message.contains(&address.to_string()) && message.contains("--listen"),
            "{message}"
        );
    }
}
