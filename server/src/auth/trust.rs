//! Whose tokens are believed besides those that the database's keys have signed: what the settings
//! say of it.

use super::oidc::Issuers;
use super::{AuthError, TokenKey};
use crate::config::AuthConfig;

/// Keys in files, and other issuers.
#[derive(Debug, Default)]
pub struct Trust {
    pub(super) file_keys: Vec<TokenKey>,
    pub(super) issuers: Issuers,
}

/// Why the settings cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// A token key cannot be had from its file.
    #[error("`[[auth.token-key]]`: {0}")]
    Key(#[source] AuthError),
    /// A word is no permission.
    #[error("{place}: `auth.oidc.permissions`: `{word}` is {source}")]
    Permission {
        /// The file and the line.
        place: String,
        /// The word.
        word: String,
        /// What there is instead.
        source: super::UnknownPermission,
    },
}

impl Trust {
    /// Reads the keys; no issuer is asked anything before a token of its comes.
    pub fn from_config(config: &AuthConfig) -> Result<Self, TrustError> {
        let file_keys = TokenKey::from_config(&config.token_keys).map_err(TrustError::Key)?;
        Ok(Self { file_keys, issuers: Issuers::from_config(&config.oidc)? })
    }
}
