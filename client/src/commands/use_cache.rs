//! `snowbank use`: makes the user's Nix fetch from a cache, and undoes that.
//!
//! Order when writing: netrc before nix.conf, so that Nix never asks a private cache without the token; the reverse when
//! removing. Each file is replaced whole.

mod netrc;
mod nix_conf;

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::api::Api;
use crate::cli::{GlobalArgs, UseArgs};
use crate::config::{ConfigError, Target, config_home, resolve_target, write_atomically, write_secret};
use crate::exit::{Exit, Failure};

use netrc::Edited;
use nix_conf::Block;

/// Runs `snowbank use`.
///
/// # Errors
/// No such cache, a server that cannot be reached, a file that cannot be read or written.
pub async fn run(global: &GlobalArgs, args: UseArgs) -> Result<Exit, Failure> {
    let target = resolve_target(global, &args.cache)?;
    let files = Files::find()?;
    let substituter = format!("{}/{}", target.server_url, target.cache);
    if args.remove {
        files.remove(global, &args, &target, &substituter)?;
        return Ok(Exit::Success);
    }

    let info = Api::new(&target)?.cache_info().await?;
    let netrc_file = if info.public { None } else { Some(files.netrc_file()?) };
    let block = Block {
        substituter,
        public_keys: info.public_keys,
        netrc_file: netrc_file.as_ref().filter(|file| !file.is_set).map(|file| file.path.display().to_string()),
    };
    if args.print {
        let mut text = block.text();
        if let (Some(file), Some(host)) = (&netrc_file, host(&target)) {
            // As a comment, so that the whole can be pasted; the token stays where it is. Writing to a string does not
            // fail.
            let _ = writeln!(
                text,
                "# and in {}: machine {host} login snowbank password TOKEN   (the token from {})",
                file.path.display(),
                target.token_source
            );
        }
        io::stdout().write_all(text.as_bytes())?;
        return Ok(Exit::Success);
    }
    if let Some(file) = &netrc_file {
        file.add(&target)?;
    }
    let changed = files.add(&block)?;
    if !global.quiet {
        let what = if changed { "now fetches" } else { "already fetches" };
        say(&format!("Nix {what} from {} ({}).", block.substituter, files.nix_conf.display()))?;
        say(
            "Where a Nix daemon serves several users, it heeds this for `trusted-users` only; for all users, put the \
             lines of `snowbank use --print` into /etc/nix/nix.conf.",
        )?;
    }
    Ok(Exit::Success)
}

/// The files that are edited.
struct Files {
    nix_conf: PathBuf,
    system_nix_conf: PathBuf,
    own_netrc: PathBuf,
}

impl Files {
    /// As Nix finds them: the first of `NIX_USER_CONF_FILES`, else in the user's configuration folder.
    fn find() -> Result<Self, ConfigError> {
        let folder = config_home()?.join("nix");
        let named = env::var_os("NIX_USER_CONF_FILES")
            .and_then(|files| env::split_paths(&files).find(|file| file.is_absolute()));
        let system = env::var_os("NIX_CONF_DIR").map_or_else(|| PathBuf::from("/etc/nix"), PathBuf::from);
        Ok(Self {
            nix_conf: named.unwrap_or_else(|| folder.join("nix.conf")),
            system_nix_conf: system.join("nix.conf"),
            own_netrc: folder.join("netrc"),
        })
    }

    /// The netrc file that Nix uses, or will.
    fn netrc_file(&self) -> Result<NetrcFile, ConfigError> {
        for file in [&self.nix_conf, &self.system_nix_conf] {
            if let Some(path) = nix_conf::setting(&read(file)?, "netrc-file").filter(|path| !path.is_empty()) {
                return Ok(NetrcFile { path: PathBuf::from(path), is_set: true });
            }
        }
        let system = self.system_nix_conf.with_file_name("netrc");
        if system.exists() {
            tracing::warn!(
                "your Nix will no longer read {}: a netrc-file of your own takes its place",
                system.display()
            );
        }
        Ok(NetrcFile { path: self.own_netrc.clone(), is_set: false })
    }

    /// Writes `block`; whether that changed anything.
    fn add(&self, block: &Block) -> Result<bool, ConfigError> {
        let old = read(&self.nix_conf)?;
        let new = nix_conf::with_block(&old, block).map_err(|error| self.invalid(&error))?;
        if new == *old {
            return Ok(false);
        }
        write_atomically(&self.nix_conf, new.as_bytes())?;
        Ok(true)
    }

    fn remove(&self, global: &GlobalArgs, args: &UseArgs, target: &Target, substituter: &str) -> Result<(), Failure> {
        let old = read(&self.nix_conf)?;
        let new = nix_conf::without_block(&old, substituter).map_err(|error| self.invalid(&error))?;
        let Some(new) = new else {
            return if global.quiet {
                Ok(())
            } else {
                Ok(say(&format!("{} has nothing of `snowbank use` for {substituter}.", self.nix_conf.display()))?)
            };
        };
        if args.print {
            let text = format!("The block for {substituter} would be taken out of {}.\n", self.nix_conf.display());
            io::stdout().write_all(text.as_bytes())?;
            return Ok(());
        }
        write_atomically(&self.nix_conf, new.as_bytes())?;
        self.remove_netrc_entry(target, &new)?;
        if !global.quiet {
            say(&format!("Nix no longer fetches from {substituter} ({}).", self.nix_conf.display()))?;
        }
        Ok(())
    }

    /// Takes the host's entry out of the netrc file, unless another cache of the host is still used.
    fn remove_netrc_entry(&self, target: &Target, nix_conf: &str) -> Result<(), ConfigError> {
        let Some(host) = host(target) else { return Ok(()) };
        if nix_conf::substituters(nix_conf).iter().any(|other| url_host(other).as_ref() == Some(&host)) {
            return Ok(());
        }
        let path = nix_conf::setting(nix_conf, "netrc-file").map_or_else(|| self.own_netrc.clone(), PathBuf::from);
        match netrc::without_entry(&read(&path)?, &host) {
            Edited::Text(text) => write_atomically(&path, text.as_bytes()),
            Edited::Same | Edited::Foreign => Ok(()),
        }
    }

    fn invalid(&self, error: &nix_conf::Unfinished) -> ConfigError {
        ConfigError::Invalid { path: self.nix_conf.clone(), message: error.to_string() }
    }
}

/// A netrc file, and whether a configuration names it already.
struct NetrcFile {
    path: PathBuf,
    is_set: bool,
}

impl NetrcFile {
    fn add(&self, target: &Target) -> Result<(), ConfigError> {
        let (Some(token), Some(host)) = (&target.token, host(target)) else {
            return Ok(());
        };
        match netrc::with_entry(&read(&self.path)?, &host, token) {
            // A file that somebody else made keeps its mode: others may be meant to read it.
            Edited::Text(text) if self.is_set && self.path.exists() => write_atomically(&self.path, text.as_bytes()),
            Edited::Text(text) => write_secret(&self.path, text.as_bytes()),
            Edited::Same => Ok(()),
            Edited::Foreign => {
                tracing::warn!(
                    "{} already has an entry for {host}, which is left as it is; if Nix is refused, change it to `login \
                     snowbank` and the token from {}",
                    self.path.display(),
                    target.token_source
                );
                Ok(())
            }
        }
    }
}

fn host(target: &Target) -> Option<String> {
    url_host(&target.server_url)
}

fn url_host(url: &str) -> Option<String> {
    reqwest::Url::parse(url).ok()?.host_str().map(str::to_owned)
}

/// The file's text, which may hold secrets; empty when it is not there.
fn read(path: &Path) -> Result<Zeroizing<String>, ConfigError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Zeroizing::new(String::new())),
        Err(source) => Err(ConfigError::Read { path: path.to_owned(), source }),
    }
}

fn say(text: &str) -> io::Result<()> {
    writeln!(io::stderr(), "{text}")
}
