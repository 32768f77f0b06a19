//! `[storage.cache]`: a folder of this machine in which a far storage's objects are kept for reading. Off by default.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::error::Problem;
use super::{ConfigError, Size, absolute, beside};

/// The section as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct CacheSection {
    path: PathBuf,
    max_size: Size,
}

impl CacheSection {
    pub(super) fn validate(&self) -> Result<(), Problem> {
        let least = Size::from_mib(64);
        if self.max_size < least {
            let message = format!("{} is too little; allowed is {least} or more", self.max_size);
            return Err(Problem { key: &["storage", "cache", "max-size"], message });
        }
        Ok(())
    }

    /// A relative path is relative to the config file.
    pub(super) fn resolve(self, config_dir: Option<&Path>) -> Result<CacheConfig, ConfigError> {
        Ok(CacheConfig { path: absolute(&beside(config_dir, &self.path))?, max_size: self.max_size })
    }
}

/// Where the read cache is, and how large it may become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheConfig {
    /// The folder, absolute.
    pub path: PathBuf,
    /// The most bytes of disk that it takes.
    pub max_size: Size,
}
