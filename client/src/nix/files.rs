//! Where Nix looks for its configuration.
//!
//! Source: Nix's manual, "nix.conf", and `loadConfFile`, `getUserConfigFiles` in its `globals.cc`:
//! `$NIX_CONF_DIR/nix.conf` (`/etc/nix`), over it the user's files (the first counts most), over
//! them `NIX_CONFIG`.

use std::env;
use std::path::{Path, PathBuf};

use super::NixSettings;
use super::program::version;
use crate::config::{ConfigError, config_home};

/// The first version that reads `NIX_CONFIG_HOME`.
const HAS_CONFIG_HOME: (u32, u32) = (2, 25);

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
            Some(files) => {
                env::split_paths(&files).filter(|file| !file.as_os_str().is_empty()).collect()
            }
            None => Self::of_user(),
        };
        Self { system_dir, user, text: env::var("NIX_CONFIG").unwrap_or_default() }
    }

    fn of_user() -> Vec<PathBuf> {
        let others = env::var_os("XDG_CONFIG_DIRS").filter(|dirs| !dirs.is_empty());
        let others = others.unwrap_or_else(|| "/etc/xdg".into());
        let others = env::split_paths(&others).map(|folder| folder.join("nix/nix.conf"));
        Self::user_folder()
            .map(|folder| folder.join("nix.conf"))
            .into_iter()
            .chain(others)
            .collect()
    }

    /// The folder of the user's own nix.conf: `NIX_CONFIG_HOME` for a Nix that reads that variable,
    /// else `nix` in the user's configuration folder.
    ///
    /// # Errors
    /// [`ConfigError::NoHome`].
    pub fn user_folder() -> Result<PathBuf, ConfigError> {
        let named =
            env::var_os("NIX_CONFIG_HOME").filter(|folder| !folder.is_empty()).map(PathBuf::from);
        match named {
            Some(folder) if version().is_none_or(|version| version >= HAS_CONFIG_HOME) => {
                Ok(folder)
            }
            _ => Ok(config_home()?.join("nix")),
        }
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
        self.add_system(NixSettings::default())
    }

    /// What holds for this user.
    ///
    /// # Errors
    /// As [`NixFiles::system_settings`].
    pub fn settings(&self) -> Result<NixSettings, ConfigError> {
        let mut settings = self.add_files(NixSettings::default())?;
        settings.add_text(&self.text, Path::new("/"))?;
        Ok(settings)
    }

    /// Adds the whole machine's nix.conf to `settings`.
    ///
    /// # Errors
    /// As [`NixFiles::system_settings`].
    pub fn add_system(&self, mut settings: NixSettings) -> Result<NixSettings, ConfigError> {
        settings.add_file(&self.system_conf())?;
        Ok(settings)
    }

    /// Adds all files to `settings`, the machine's and the user's, and leaves out the variable
    /// `NIX_CONFIG`.
    ///
    /// # Errors
    /// As [`NixFiles::system_settings`].
    pub fn add_files(&self, settings: NixSettings) -> Result<NixSettings, ConfigError> {
        let mut settings = self.add_system(settings)?;
        for file in self.user.iter().rev() {
            settings.add_file(file)?;
        }
        Ok(settings)
    }
}
