//! Whose tokens are believed besides those that the database's keys have signed, and how long push
//! sessions may last: what the settings say of it.

use super::TokenKey;
use super::legacy::LegacyKeys;
use super::oidc::Issuers;
use super::trust_error::TrustError;
use crate::config::AuthConfig;

/// Keys in files, other issuers, keys of attic, and push sessions.
#[derive(Debug, Default)]
pub struct Trust {
    pub(super) file_keys: Vec<TokenKey>,
    pub(super) issuers: Issuers,
    pub(super) legacy: LegacyKeys,
    /// How long a push session may last; `None` where there are none.
    pub(super) max_session_seconds: Option<i64>,
}

impl Trust {
    /// Reads the keys; no issuer is asked anything before a token of its comes.
    pub fn from_config(config: &AuthConfig) -> Result<Self, TrustError> {
        let file_keys = TokenKey::from_config(&config.token_keys).map_err(TrustError::Key)?;
        Ok(Self {
            file_keys,
            issuers: Issuers::from_config(&config.oidc)?,
            legacy: LegacyKeys::from_config(&config.legacy_keys).map_err(TrustError::LegacyKey)?,
            max_session_seconds: config.push_session_seconds(),
        })
    }
}
