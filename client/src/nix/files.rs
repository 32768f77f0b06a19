//! Where Nix looks for its configuration.
//!
//! Source: Nix's manual, "nix.conf", and `loadConfFile`, `getUserConfigFiles` in its `globals.cc`: `$NIX_CONF_DIR/nix.conf`
//! (`/etc/nix`), over it the user's files (the first counts most), over them `NIX_CONFIG`.

use std::env;
use std::path::{Path, PathBuf};

use super::NixSettings;
use crate::config::{ConfigError, config_home};

/// The files of this process's Nix.
#[derive(Debug, Clone)]
pub struct NixFiles {
    system_dir: PathBuf,
    /// The strongest first.
    user: Vec<PathBuf>,
    /// The text of `NIX_CONFIG`.
    text: String,
}

impl NixFiles {
    /// As the environment says.
    #[must_use]
    pub fn of_environment() -> Self {
        let system_dir = env::var_os("NIX_CONF_DIR").filter(|dir| !dir.is_empty());
        let system_dir = system_dir.map_or_else(|| PathBuf::from("/etc/nix"), PathBuf::from);
        let user = match env::var_os("NIX_USER_CONF_FILES") {
            Some(files) => env::split_paths(&files).filter(|file| !file.as_os_str().is_empty()).collect(),
            None => Self::of_user(),
        };
        Self { system_dir, user, text: env::var("NIX_CONFIG").unwrap_or_default() }
    }

    fn of_user() -> Vec<PathBuf> {
        let others = env::var_os("XDG_CONFIG_DIRS").filter(|dirs| !dirs.is_empty());
        let others = others.unwrap_or_else(|| "/etc/xdg".into());
        let folders = config_home().into_iter().chain(env::split_paths(&others));
        folders.map(|folder| folder.join("nix/nix.conf")).collect()
    }

    /// The whole machine's nix.conf.
    #[must_use]
    pub fn system_conf(&self) -> PathBuf {
        self.system_dir.join("nix.conf")
    }

    /// The netrc file that Nix reads unless a setting names another.
    #[must_use]
    pub fn system_netrc(&self) -> PathBuf {
        self.system_dir.join("netrc")
    }

    /// The user's nix.conf files, the strongest first.
    #[must_use]
    pub fn user_confs(&self) -> &[PathBuf] {
        &self.user
    }

    /// What the whole machine's nix.conf sets: what a daemon goes by.
    ///
    /// # Errors
    /// A file that is there and cannot be read.
    pub fn system_settings(&self) -> Result<NixSettings, ConfigError> {
        let mut settings = NixSettings::default();
        settings.add_file(&self.system_conf())?;
        Ok(settings)
    }

    /// What holds for this user.
    ///
    /// # Errors
    /// As [`NixFiles::system_settings`].
    pub fn settings(&self) -> Result<NixSettings, ConfigError> {
        let mut settings = self.system_settings()?;
        for file in self.user.iter().rev() {
            settings.add_file(file)?;
        }
        settings.add_text(&self.text, Path::new("/"))?;
        Ok(settings)
    }
}
