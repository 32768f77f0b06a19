//! What can go wrong when something is administrated.

use snowbank_core::cache_name::CacheName;
use snowbank_core::signing::KeyError;

use crate::auth::AuthError;
use crate::db::DbError;
use crate::secrets::SecretError;

/// Why something was not made.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// There is a cache of that name.
    #[error("there is a cache `{0}` already; choose another name")]
    NameTaken(CacheName),
    /// The server has never been started, so there is no key to sign tokens with.
    #[error("there is no token key yet; start `snowbankd` once, which makes one")]
    NoTokenKey,
    /// The database belongs to another server key.
    #[error(
        "this database's secrets were sealed with another server key. Give every server that shares it the same file \
         (`server-key-file`, SNOWBANKD_SERVER_KEY_FILE, or `server-key` in the data folder)"
    )]
    OtherServerKey,
    /// A token would be of no use.
    #[error("{0}")]
    BadToken(&'static str),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
    /// A secret could not be sealed, opened or written.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A token could not be signed.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// A signing key could not be made.
    #[error(transparent)]
    Key(#[from] KeyError),
}
