//! The files that `snowbank use` edits: the user's or the machine's nix.conf, and the netrc file
//! that Nix reads with it.
//!
//! Determinate Nix replaces the machine's nix.conf and its netrc file whenever it starts. It leaves
//! `nix.custom.conf`, which its nix.conf includes, to the administrator, and takes netrc entries
//! from the files that its own configuration lists.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::Access;
use snowbank_core::token::token_id;
use zeroize::Zeroizing;

use super::netrc::{self, NetrcEdit};
use super::{host, nix_conf};
use crate::config::{ConfigError, FolderLock, Secret, write_atomically, write_copy, write_secret};
use crate::exit::Failure;
use crate::nix::{self, NixFiles, NixSettings};

/// The file for an administrator's settings beside a nix.conf that a program replaces.
const CUSTOM_CONF: &str = "nix.custom.conf";
/// Where Determinate Nix keeps the netrc file that it replaces, and what names the files that go
/// into it.
pub(super) const DETERMINATE_FOLDER: &str = "/nix/var/determinate/";
const DETERMINATE_CONFIG: &str = "/etc/determinate/config.json";

/// The files that are edited.
pub(super) struct Files {
    /// The nix.conf, or the file that takes its place for an administrator.
    pub nix_conf: PathBuf,
    /// Whether it is the whole machine's.
    pub is_system: bool,
    nix: NixFiles,
    /// The netrc file where no setting names one.
    own_netrc: PathBuf,
}

impl Files {
    /// The machine's, or the user's as Nix finds them: the first of `NIX_USER_CONF_FILES`, else in
    /// the user's configuration folder.
    pub(super) fn find(is_system: bool) -> Result<Self, ConfigError> {
        let nix = NixFiles::of_environment();
        if is_system {
            let nix_conf = nix.system_conf();
            let custom = nix_conf.with_file_name(CUSTOM_CONF);
            let nix_conf =
                if includes(&read(&nix_conf)?, &nix_conf, &custom) { custom } else { nix_conf };
            return Ok(Self { nix_conf, is_system, own_netrc: nix.system_netrc(), nix });
        }
        let folder = NixFiles::user_folder()?;
        let named = env::var_os("NIX_USER_CONF_FILES")
            .and_then(|files| env::split_paths(&files).find(|file| file.is_absolute()));
        let nix_conf = named.unwrap_or_else(|| folder.join("nix.conf"));
        Ok(Self { nix_conf, is_system, own_netrc: folder.join("netrc"), nix })
    }

    /// Whether the machine's nix.conf includes the file that is edited, and is left alone.
    pub(super) fn is_included(&self) -> bool {
        self.is_system && self.nix_conf != self.nix.system_conf()
    }

    /// Keeps other processes from changing files beside nix.conf.
    pub(super) async fn lock(&self) -> Result<FolderLock, Failure> {
        FolderLock::of(&self.nix_conf).await.map_err(|error| self.explained(error))
    }

    /// The text of nix.conf; empty when it is not there.
    pub(super) fn nix_conf_text(&self) -> Result<Zeroizing<String>, ConfigError> {
        read(&self.nix_conf)
    }

    /// The netrc file that Nix uses, or will.
    pub(super) fn netrc_file(&self) -> Result<NetrcFile, ConfigError> {
        let others = nix_conf::outside_blocks(&self.nix_conf_text()?);
        let files = NixSettings::with_file(&self.nix_conf, &others);
        let files =
            if self.is_system { self.nix.add_system(files)? } else { self.nix.add_files(files)? };
        let named = |settings: &NixSettings| {
            settings.text("netrc-file").filter(|path| !path.is_empty()).map(PathBuf::from)
        };
        let path = named(&files);
        if self.is_system {
            // Where Nix looks for it unless told otherwise.
            let own = || self.own_netrc.clone();
            let path =
                path.filter(|path| !path.starts_with(DETERMINATE_FOLDER)).unwrap_or_else(own);
            return Ok(NetrcFile { path, is_set: true, replaces: None });
        }
        let system = named(&self.nix.system_settings()?);
        match path {
            // The user's own setting, or one of the machine's that this user may write to.
            Some(path) if system.as_ref() != Some(&path) || is_writable(&path) => {
                Ok(NetrcFile { path, is_set: true, replaces: None })
            }
            path => {
                let replaces = path.unwrap_or_else(|| self.nix.system_netrc());
                let replaces = Some(replaces).filter(|file| file.exists());
                Ok(NetrcFile { path: self.own_netrc.clone(), is_set: false, replaces })
            }
        }
    }

    /// What must be done before Nix reads the netrc file, where a program makes the one that Nix
    /// reads from others.
    pub(super) fn netrc_is_not_a_source(&self, netrc: &Path) -> Option<String> {
        let used = self.nix.system_settings().ok()?.text("netrc-file").map(PathBuf::from)?;
        let config =
            fs::read(DETERMINATE_CONFIG).ok().and_then(|text| serde_json::from_slice(&text).ok());
        let config: serde_json::Value = config.unwrap_or_default();
        let sources = config["authentication"]["additionalNetrcSources"].as_array();
        let is_source = sources
            .is_some_and(|sources| sources.iter().any(|source| netrc.to_str() == source.as_str()));
        let is_missing = self.is_system && used.starts_with(DETERMINATE_FOLDER) && !is_source;
        is_missing.then(|| {
            format!(
                "Determinate Nix makes {} from other files, and {} is not one of them: add it to \
                 {DETERMINATE_CONFIG}, as in {{\"authentication\": {{\"additionalNetrcSources\": \
                 [\"{}\"]}}}}, and restart the Nix daemon",
                used.display(),
                netrc.display(),
                netrc.display()
            )
        })
    }

    /// All files of this Nix.
    pub(super) const fn nix(&self) -> &NixFiles {
        &self.nix
    }

    /// Replaces nix.conf; a copy of the text from before the first change stays beside it.
    pub(super) fn write_nix_conf(&self, old: &str, new: &str) -> Result<(), ConfigError> {
        let mut copy = self.nix_conf.clone().into_os_string();
        copy.push(".before-snowbank");
        let copy = PathBuf::from(copy);
        // Text that has a block already is not from before the first change.
        if nix_conf::outside_blocks(old) == old && self.nix_conf.exists() && !copy.exists() {
            write_copy(&copy, old.as_bytes(), &self.nix_conf)?;
        }
        write_atomically(&self.nix_conf, new.as_bytes())
    }

    /// Takes the host's entry out of the netrc file, unless another cache of the host is still in
    /// `nix_conf`. The id of the token that stood there.
    pub(super) async fn remove_netrc_entry(
        &self,
        host_name: &str,
        nix_conf: &str,
        lock: &FolderLock,
    ) -> Result<Option<String>, ConfigError> {
        if nix_conf::substituters(nix_conf)
            .iter()
            .any(|other| host(other).as_deref() == Some(host_name))
        {
            return Ok(None);
        }
        let file = self.netrc_file()?;
        let _lock = file.lock(lock).await?;
        let old = file.text()?;
        match netrc::without_entry(&old, host_name) {
            NetrcEdit::Text(text) => write_atomically(&file.path, text.as_bytes())?,
            NetrcEdit::Same | NetrcEdit::Foreign => return Ok(None),
        }
        let token = nix::netrc::password(&old, host_name).ok().flatten();
        Ok(token.and_then(|token| token_id(&token)))
    }

    /// What keeps nix.conf from being edited by a program.
    pub(super) fn invalid(&self, error: &nix_conf::UnclosedBlock) -> ConfigError {
        ConfigError::Invalid { path: self.nix_conf.clone(), message: error.to_string() }
    }

    /// Refuses a nix.conf that NixOS or home-manager built: it is a link into the Nix store, where
    /// nothing may be changed.
    pub(super) fn check_editable(&self) -> Result<(), ConfigError> {
        match fs::canonicalize(&self.nix_conf) {
            Ok(target) if target.starts_with("/nix/store") => Err(ConfigError::Invalid {
                path: self.nix_conf.clone(),
                message: format!(
                    "it is made by NixOS or home-manager ({}); put what `snowbank use --print` \
                     shows into `nix.settings` there",
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
    /// The file that this user's Nix no longer reads then.
    replaces: Option<PathBuf>,
}

impl NetrcFile {
    /// Keeps other processes from changing it, where the lock of nix.conf does not.
    pub(super) async fn lock(
        &self,
        of_nix_conf: &FolderLock,
    ) -> Result<Option<FolderLock>, ConfigError> {
        if of_nix_conf.is_of(&self.path) {
            Ok(None)
        } else {
            FolderLock::of(&self.path).await.map(Some)
        }
    }

    /// Its text: a secret.
    pub(super) fn text(&self) -> Result<Zeroizing<String>, ConfigError> {
        read(&self.path)
    }

    /// Gives `host` an entry with `token`. An entry of somebody else's stays; whether its token is
    /// good is known by then.
    pub(super) fn add(&self, host: &str, token: &Secret) -> Result<(), ConfigError> {
        if let Some(system) = &self.replaces {
            tracing::warn!(
                "your Nix will no longer read {}: a netrc-file of your own takes its place",
                system.display()
            );
        }
        match netrc::with_entry(&self.text()?, host, token).map_err(|error| self.invalid(error))? {
            // A file that somebody else made keeps its mode: others may be meant to read it.
            NetrcEdit::Text(text) if self.is_set && self.path.exists() => {
                write_atomically(&self.path, text.as_bytes())
            }
            NetrcEdit::Text(text) => write_secret(&self.path, text.as_bytes()),
            NetrcEdit::Same | NetrcEdit::Foreign => Ok(()),
        }
    }

    /// What keeps the file from being read by curl.
    pub(super) fn invalid(&self, error: nix::netrc::UnclosedQuote) -> ConfigError {
        ConfigError::Invalid { path: self.path.clone(), message: error.to_string() }
    }
}

/// Whether `text`, that of `nix_conf`, includes `other`.
fn includes(text: &str, nix_conf: &Path, other: &Path) -> bool {
    let folder = nix_conf.parent().unwrap_or(Path::new("/"));
    text.lines().any(|line| {
        let words: Vec<&str> =
            line.split('#').next().unwrap_or_default().split_whitespace().collect();
        matches!(words[..], ["include" | "!include", file] if folder.join(file) == other)
    })
}

fn is_writable(path: &Path) -> bool {
    rustix::fs::access(path, Access::WRITE_OK).is_ok()
}

/// The file's text, which may hold secrets; empty when it is not there.
fn read(path: &Path) -> Result<Zeroizing<String>, ConfigError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Zeroizing::new(String::new())),
        Err(source) => Err(ConfigError::Read { path: path.to_owned(), source }),
    }
}
