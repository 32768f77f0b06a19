//! `[storage]`: where packs live.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{ConfigError, absolute, beside};

/// The section as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct StorageSection {
    r#type: StorageType,
    path: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum StorageType {
    #[default]
    Local,
}

impl StorageSection {
    /// The default is a folder in the data folder; a relative path is relative to the config file.
    pub(super) fn resolve(self, data_dir: &Path, config_dir: Option<&Path>) -> Result<StorageConfig, ConfigError> {
        let StorageType::Local = self.r#type;
        let path = match self.path {
            Some(path) => absolute(&beside(config_dir, &path))?,
            None => data_dir.join("storage"),
        };
        Ok(StorageConfig::Local { path })
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
