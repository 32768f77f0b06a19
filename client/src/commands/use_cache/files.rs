//! The files that `snowbank use` edits: the user's or the machine's nix.conf, and the netrc file that Nix reads with it.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::Access;
use zeroize::Zeroizing;

use super::netrc::{self, Edited};
use super::{host, nix_conf};
use crate::config::{ConfigError, Secret, config_home, write_atomically, write_secret};
use crate::exit::Failure;
use crate::nix::NixFiles;

/// The files that are edited.
pub(super) struct Files {
    /// The nix.conf.
    pub nix_conf: PathBuf,
    /// Whether it is the whole machine's.
    pub is_system: bool,
    nix: NixFiles,
    /// The netrc file where no setting names one.
    own_netrc: PathBuf,
}

impl Files {
    /// The machine's, or the user's as Nix finds them: the first of `NIX_USER_CONF_FILES`, else in the user's configuration
    /// folder.
    pub(super) fn find(is_system: bool) -> Result<Self, ConfigError> {
        let nix = NixFiles::of_environment();
        if is_system {
            return Ok(Self { nix_conf: nix.system_conf(), is_system, own_netrc: nix.system_netrc(), nix });
        }
        let folder = config_home()?.join("nix");
        let named = env::var_os("NIX_USER_CONF_FILES")
            .and_then(|files| env::split_paths(&files).find(|file| file.is_absolute()));
        let nix_conf = named.unwrap_or_else(|| folder.join("nix.conf"));
        Ok(Self { nix_conf, is_system, own_netrc: folder.join("netrc"), nix })
    }

    /// The text of nix.conf; empty when it is not there.
    pub(super) fn nix_conf_text(&self) -> Result<Zeroizing<String>, ConfigError> {
        read(&self.nix_conf)
    }

    /// The netrc file that Nix uses, or will.
    pub(super) fn netrc_file(&self) -> Result<NetrcFile, ConfigError> {
        let own = nix_conf::setting(&self.nix_conf_text()?, "netrc-file").map(PathBuf::from);
        if let Some(path) = own.filter(|path| !path.as_os_str().is_empty()) {
            return Ok(NetrcFile { path, is_set: true });
        }
        if self.is_system {
            // Where Nix looks for it unless told otherwise.
            return Ok(NetrcFile { path: self.own_netrc.clone(), is_set: true });
        }
        let system = self.nix.system_settings()?.text("netrc-file").map(PathBuf::from);
        let is_named = system.is_some();
        let system = system.unwrap_or_else(|| self.nix.system_netrc());
        if is_named && rustix::fs::access(&system, Access::WRITE_OK).is_ok() {
            return Ok(NetrcFile { path: system, is_set: true });
        }
        if system.exists() {
            tracing::warn!(
                "your Nix will no longer read {}: a netrc-file of your own takes its place",
                system.display()
            );
        }
        Ok(NetrcFile { path: self.own_netrc.clone(), is_set: false })
    }

    /// Replaces nix.conf; a copy of what was there before the first change stays beside it.
    pub(super) fn write_nix_conf(&self, old: &str, new: &str) -> Result<(), ConfigError> {
        let copy = self.nix_conf.with_file_name("nix.conf.before-snowbank");
        if let Ok(metadata) = fs::metadata(&self.nix_conf)
            && !copy.exists()
        {
            // For the owner alone until it has the mode of the original, which may hold tokens.
            write_secret(&copy, old.as_bytes())?;
            fs::set_permissions(&copy, metadata.permissions())
                .map_err(|source| ConfigError::Write { path: copy.clone(), source })?;
        }
        write_atomically(&self.nix_conf, new.as_bytes())
    }

    /// Takes the host's entry out of the netrc file, unless another cache of the host is still in `nix_conf`.
    pub(super) fn remove_netrc_entry(&self, host_name: &str, nix_conf: &str) -> Result<(), ConfigError> {
        if nix_conf::substituters(nix_conf).iter().any(|other| host(other).as_deref() == Some(host_name)) {
            return Ok(());
        }
        let path = nix_conf::setting(nix_conf, "netrc-file").map_or_else(|| self.own_netrc.clone(), PathBuf::from);
        match netrc::without_entry(&read(&path)?, host_name) {
            Edited::Text(text) => write_atomically(&path, text.as_bytes()),
            Edited::Same | Edited::Foreign => Ok(()),
        }
    }

    /// What keeps nix.conf from being edited by a program.
    pub(super) fn invalid(&self, error: &nix_conf::Unfinished) -> ConfigError {
        ConfigError::Invalid { path: self.nix_conf.clone(), message: error.to_string() }
    }

    /// Refuses a nix.conf that NixOS or home-manager built: it is a link into the Nix store, where nothing may be changed.
    pub(super) fn check_editable(&self) -> Result<(), ConfigError> {
        match fs::canonicalize(&self.nix_conf) {
            Ok(target) if target.starts_with("/nix/store") => Err(ConfigError::Invalid {
                path: self.nix_conf.clone(),
                message: format!(
                    "it is made by NixOS or home-manager ({}); put what `snowbank use --print` shows into \
                     `nix.settings` there",
                    target.display()
                ),
            }),
            _ => Ok(()),
        }
    }

    /// A failure to write, with the way out where it is known.
    pub(super) fn explained(&self, error: ConfigError) -> Failure {
        let is_denied = matches!(&error, ConfigError::Write { source, .. }
            if source.kind() == io::ErrorKind::PermissionDenied);
        let failure = Failure::from(error);
        if self.is_system && is_denied {
            failure.context("--system writes the whole machine's files: run it as root")
        } else {
            failure
        }
    }
}

/// A netrc file, and whether Nix knows of it already.
pub(super) struct NetrcFile {
    pub path: PathBuf,
    pub is_set: bool,
}

impl NetrcFile {
    /// Its text: a secret.
    pub(super) fn text(&self) -> Result<Zeroizing<String>, ConfigError> {
        read(&self.path)
    }

    /// Gives `host` an entry with `token`, which came from `source`.
    pub(super) fn add(&self, host: &str, token: &Secret, source: &str) -> Result<(), ConfigError> {
        match netrc::with_entry(&self.text()?, host, token) {
            // A file that somebody else made keeps its mode: others may be meant to read it.
            Edited::Text(text) if self.is_set && self.path.exists() => write_atomically(&self.path, text.as_bytes()),
            Edited::Text(text) => write_secret(&self.path, text.as_bytes()),
            Edited::Same => Ok(()),
            Edited::Foreign => {
                tracing::warn!(
                    "{} already has an entry for {host}, which is left as it is; if Nix is refused, change it to `login \
                     snowbank` and the token from {source}",
                    self.path.display()
                );
                Ok(())
            }
        }
    }
}

/// The file's text, which may hold secrets; empty when it is not there.
fn read(path: &Path) -> Result<Zeroizing<String>, ConfigError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Zeroizing::new(String::new())),
        Err(source) => Err(ConfigError::Read { path: path.to_owned(), source }),
    }
}
