//! `[storage.cache]`: a folder of this machine that keeps parts of a bucket's packs: those just
//! written, and those just read.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::error::Problem;
use super::{ConfigError, Size, absolute, beside};

/// The folder within the data folder where no other is named.
const DEFAULT_FOLDER: &str = "pack-cache";
/// How much is kept where nothing is said.
const DEFAULT_MAX_SIZE: Size = Size::from_mib(2 << 10);

/// The section as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct CacheSection {
    path: Option<PathBuf>,
    max_size: Option<Size>,
}

impl CacheSection {
    pub(super) fn validate(&self) -> Result<(), Problem> {
        let least = Size::from_mib(64);
        match self.max_size {
            Some(size) if size < least => {
                let message = format!("{size} is too little; allowed is {least} or more");
                Err(Problem { key: &["storage", "cache", "max-size"], message })
            }
            _ => Ok(()),
        }
    }

    /// A relative path is relative to the config file; without one it is a folder in the data
    /// folder.
    pub(super) fn resolve(
        self,
        data_dir: &Path,
        config_dir: Option<&Path>,
    ) -> Result<CacheConfig, ConfigError> {
        let path = match self.path {
            Some(path) => absolute(&beside(config_dir, &path))?,
            None => data_dir.join(DEFAULT_FOLDER),
        };
        Ok(CacheConfig { path, max_size: self.max_size.unwrap_or(DEFAULT_MAX_SIZE) })
    }
}

/// Where the cache is, and how large it may become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheConfig {
    /// The folder, absolute.
    pub path: PathBuf,
    /// The most bytes of disk that it takes.
    pub max_size: Size,
}
