//! `[storage]`: where packs live.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{ConfigError, absolute, beside};

/// The section as it is written.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum StorageSection {
    Local { path: Option<PathBuf> },
}

impl Default for StorageSection {
    fn default() -> Self {
        Self::Local { path: None }
    }
}

impl StorageSection {
    /// The default is a folder in the data folder; a relative path is relative to the config file.
    pub(super) fn resolve(self, data_dir: &Path, config_dir: Option<&Path>) -> Result<StorageConfig, ConfigError> {
        match self {
            Self::Local { path: None } => Ok(StorageConfig::Local { path: data_dir.join("storage") }),
            Self::Local { path: Some(path) } => Ok(StorageConfig::Local { path: absolute(&beside(config_dir, &path))? }),
        }
    }
}

/// Which object storage to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StorageConfig {
    /// A folder of this machine.
    Local {
        /// The folder, absolute.
        path: PathBuf,
    },
}
