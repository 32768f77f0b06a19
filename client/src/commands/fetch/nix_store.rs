//! `nix-store --realise`, which fetches: its options, its netrc file, and its end.
//!
//! Nix may fetch from the named addresses alone, and may build nothing. Where it goes through a
//! daemon that does not trust this user, the daemon heeds no keys, netrc file or unknown address of
//! ours. It then has to know the cache already, and fetches with its own keys and its own token.

use std::cell::Cell;
use std::ffi::OsString;
use std::fs::{OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Stdio;

use anyhow::anyhow;
use rustix::process::{Pid, Signal, kill_process};
use snowbank_core::store_path::{StoreDir, StorePath};
use tempfile::TempDir;

use super::super::use_cache::host;
use super::super::use_cache::netrc::{NetrcEdit, with_entry};
use super::source::{Plan, Source};
use crate::config::{Secret, Target};
use crate::exit::{Exit, Failure};
use crate::nix::program::{NIX_STORE, start};
use crate::nix::{NixFiles, User, is_served_by_daemon, same_substituter};
use crate::store::StoreOptions;

/// Most paths of one command line.
const MAX_ARGUMENTS: usize = 1_000;
const NETRC: &str = "netrc";

/// A `nix-store` for one cache.
pub(super) struct NixStoreCommand {
    /// Holds the netrc file, and what Nix remembers of caches. Removed on drop.
    scratch: TempDir,
    /// For every run.
    common: Vec<OsString>,
    /// For fetching from the cache.
    options: Vec<OsString>,
    store_dir: StoreDir,
    trust: Trust,
}

/// Whether Nix heeds all settings of this user.
enum Trust {
    All,
    /// A daemon knows the cache by this address.
    KnownCache(String),
}

/// The `nix-store` that runs, for ending it.
#[derive(Default)]
pub(super) struct Process {
    id: Cell<Option<Pid>>,
    is_stopped: Cell<bool>,
}

impl Process {
    /// Asks the process to end, and keeps others from being started. Says whether there is one.
    pub(super) fn stop(&self) -> bool {
        self.is_stopped.set(true);
        let Some(id) = self.id.get() else { return false };
        // Fails only where the process has ended.
        let _ = kill_process(id, Signal::TERM);
        true
    }
}

impl NixStoreCommand {
    /// The command for the cache that `source` is, which the user called `reference`.
    ///
    /// # Errors
    /// A daemon that does not fetch from the cache for this user; a folder that cannot be written.
    pub(super) fn new(
        source: &Source<'_>,
        target: &Target,
        reference: &str,
        options: &StoreOptions,
        store_dir: &StoreDir,
        is_quiet: bool,
    ) -> Result<Self, Failure> {
        let trust = trust(source, reference, options)?;
        let scratch = tempfile::Builder::new()
            .prefix("snowbank-fetch-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir()
            .map_err(|error| Failure::from(error).context("cannot make a temporary folder"))?;

        let mut common: Vec<OsString> =
            ["--realise", "--no-gc-warning", "--max-jobs", "0"].map(OsString::from).into();
        let set = |options: &mut Vec<OsString>, name: &str, value: &str| {
            options.extend(["--option", name, value].map(OsString::from));
        };
        set(&mut common, "builders", "");
        set(&mut common, "substitute", "true");
        set(&mut common, "fallback", "false");
        if let Some(uri) = &options.uri {
            set(&mut common, "store", uri);
        }
        if is_quiet {
            common.push("--quiet".into());
        }
        let mut options = Vec::new();
        match &trust {
            Trust::KnownCache(address) => set(&mut options, "substituters", address),
            Trust::All => {
                set(&mut options, "substituters", &source.url());
                set(&mut options, "trusted-public-keys", &source.key_texts.join(" "));
                set(&mut options, "require-sigs", "true");
                // A miss from before the push would hide the path for an hour.
                set(&mut common, "narinfo-cache-negative-ttl", "0");
                set(&mut common, "narinfo-cache-positive-ttl", "0");
                if let Some(token) = target.token.as_ref().filter(|_| !source.info.public) {
                    let netrc = scratch.path().join(NETRC);
                    write_netrc(&netrc, &target.server_url, token)?;
                    options.extend(["--option".into(), "netrc-file".into(), netrc.into()]);
                }
            }
        }
        Ok(Self { scratch, common, options, store_dir: store_dir.clone(), trust })
    }

    /// Fetches `paths` and all that they refer to from the cache, as far as that goes: the store
    /// tells the outcome.
    pub(super) async fn fetch(
        &self,
        process: &Process,
        paths: &[StorePath],
    ) -> Result<(), Failure> {
        self.run(process, &self.options, paths).await
    }

    /// As [`Self::fetch`], from other caches, with Nix's own keys and tokens.
    pub(super) async fn fetch_from(
        &self,
        process: &Process,
        urls: &[String],
        paths: &[StorePath],
    ) -> Result<(), Failure> {
        let options = ["--option", "substituters", &urls.join(" ")].map(OsString::from);
        self.run(process, &options, paths).await
    }

    async fn run(
        &self,
        process: &Process,
        options: &[OsString],
        paths: &[StorePath],
    ) -> Result<(), Failure> {
        for batch in paths.chunks(MAX_ARGUMENTS) {
            if process.is_stopped.get() {
                break;
            }
            let mut child = start(NIX_STORE, |command| {
                command.args(&self.common).args(options).stdin(Stdio::null()).stdout(Stdio::null());
                command.args(batch.iter().map(|path| path.full(&self.store_dir)));
                // Nothing that this user's Nix remembers of the cache counts, and no home folder is
                // needed.
                let cache = self.scratch.path().join("cache");
                command.env("XDG_CACHE_HOME", &cache).env("NIX_CACHE_HOME", cache.join("nix"));
            })
            .map_err(|error| Failure::new(Exit::Store, error))?;
            process
                .id
                .set(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw));
            let ended = child.wait().await;
            process.id.set(None);
            let status = ended?;
            tracing::debug!("nix-store has ended: {status}");
        }
        if process.is_stopped.get() {
            return Err(Failure::new(Exit::Terminated, anyhow!("a signal has ended Nix")));
        }
        Ok(())
    }

    /// The error for paths that the cache has and Nix did not fetch.
    pub(super) fn failure(&self, source: &Source<'_>, left: &Plan) -> Failure {
        let first = left.paths.keys().next().map(|path| path.full(&self.store_dir));
        let mut text = format!(
            "Nix did not fetch {} paths from {source}, such as {}; its messages above say why",
            left.paths.len(),
            first.unwrap_or_default()
        );
        if let Trust::KnownCache(_) = self.trust {
            text.push_str(
                ". It went through a daemon that does not trust this user: the daemon may still \
                 remember that the cache did not have the path (narinfo-cache-negative-ttl)",
            );
            if !source.info.public {
                text.push_str(
                    ", and takes the token for the cache from its own netrc file (`sudo snowbank \
                     use --system` writes it)",
                );
            }
        }
        Failure::new(Exit::Store, anyhow!(text))
    }
}

fn write_netrc(file: &Path, server_url: &str, token: &Secret) -> Result<(), Failure> {
    let host = host(server_url).unwrap_or_default();
    let Ok(NetrcEdit::Text(text)) = with_entry("", &host, token) else {
        let text = format!("netrc cannot have the token for {host}");
        return Err(Failure::new(Exit::Config, anyhow!(text)));
    };
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    written
        .map_err(|error| Failure::from(error).context(format!("cannot write {}", file.display())))
}

/// Whether Nix heeds the settings of this user, and by which address it knows the cache otherwise.
fn trust(source: &Source<'_>, reference: &str, store: &StoreOptions) -> Result<Trust, Failure> {
    if !is_served_by_daemon(store.uri.as_deref()) {
        return Ok(Trust::All);
    }
    let files = NixFiles::of_environment();
    // A file that cannot be read is as good as one that says nothing: Nix itself then says what it
    // does not heed.
    let daemon = files.system_settings().unwrap_or_default();
    let Some(user) = User::current().filter(|user| !user.is_trusted(&daemon)) else {
        return Ok(Trust::All);
    };
    let url = source.url();
    let mut known = daemon.substituters();
    known.extend(daemon.words("trusted-substituters", ""));
    let known = known.into_iter().find(|one| same_substituter(one, &url));
    let trusted = daemon.trusted_keys();
    let missing = match known {
        Some(address) if source.info.public_keys.iter().any(|key| trusted.contains(key)) => {
            return Ok(Trust::KnownCache(address));
        }
        Some(_) => "trusts no key of it",
        None => "does not know it",
    };
    let text = format!(
        "the Nix daemon fetches from {url} for no user whom it does not trust, since it {missing}; \
         {} is not among its trusted-users. An administrator makes the cache known to everyone \
         here with `sudo snowbank use {reference} --system`, or trusts this user in everything \
         with the line `extra-trusted-users = {}` in {}",
        user.name,
        user.name,
        files.system_conf().display()
    );
    Err(Failure::new(Exit::Config, anyhow!(text)))
}
