//! The certificate that this client shows to a server that asks for one.

use std::env;
use std::path::{Path, PathBuf};

use super::ConfigError;

const CERTIFICATE_VARIABLE: &str = "SNOWBANK_CLIENT_CERTIFICATE_FILE";
const KEY_VARIABLE: &str = "SNOWBANK_CLIENT_KEY_FILE";

/// One file without the other.
#[derive(Debug)]
pub(super) struct HalfPair;

/// Two files in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate, followed by those between it and its authority's.
    pub certificate_file: PathBuf,
    /// Its private key.
    pub key_file: PathBuf,
}

impl ClientCertificate {
    /// Both files or none of them.
    pub(super) fn of_pair(
        certificate_file: Option<PathBuf>,
        key_file: Option<PathBuf>,
    ) -> Result<Option<Self>, HalfPair> {
        match (certificate_file, key_file) {
            (Some(certificate_file), Some(key_file)) => {
                Ok(Some(Self { certificate_file, key_file }))
            }
            (None, None) => Ok(None),
            _ => Err(HalfPair),
        }
    }

    /// The certificate and the key of a command line, as this configuration can keep them.
    ///
    /// # Errors
    /// The folder that this program runs in is gone.
    pub fn of_arguments(
        certificate_file: Option<&Path>,
        key_file: Option<&Path>,
    ) -> Result<Option<Self>, ConfigError> {
        let Some((certificate_file, key_file)) = certificate_file.zip(key_file) else {
            return Ok(None);
        };
        let absolute = |path: &Path| {
            std::path::absolute(path)
                .map_err(|source| ConfigError::Read { path: path.to_owned(), source })
        };
        let (certificate_file, key_file) = (absolute(certificate_file)?, absolute(key_file)?);
        Ok(Some(Self { certificate_file, key_file }))
    }

    /// The files that the environment names.
    ///
    /// # Errors
    /// One variable without the other.
    pub fn of_environment() -> Result<Option<Self>, ConfigError> {
        let file = |name| env::var_os(name).filter(|file| !file.is_empty()).map(PathBuf::from);
        Self::of_pair(file(CERTIFICATE_VARIABLE), file(KEY_VARIABLE)).map_err(|HalfPair| {
            ConfigError::NoPair(
                "one of SNOWBANK_CLIENT_CERTIFICATE_FILE and SNOWBANK_CLIENT_KEY_FILE is set \
                 without the other: set both, or none",
            )
        })
    }
}
