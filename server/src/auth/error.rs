//! Why a request is not let in. No message repeats any part of the token.

use snowbank_core::cache_name::CacheName;

use super::Permission;
use crate::db::DbError;
use crate::secrets::SecretError;

/// Why a token is not believed, or does not allow what is asked.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// There is none.
    #[error(
        "this needs a token; get one from the cache's operator, then run `snowbank login` (for Nix: a netrc line whose \
         password is the token)"
    )]
    Missing,
    /// It is no JSON Web Token of ours, or asks for an algorithm that does not exist here, such as `none`.
    #[error("the token is malformed; check that it was copied whole, and that nothing was added to it")]
    Malformed,
    /// It is signed with a key that is not in the ring.
    #[error("the token was not issued by this server, or its key was retired; get a new one from the cache's operator")]
    UnknownKey,
    /// Its algorithm is not that of its key.
    #[error("the token names another algorithm than its key's; get a new one from the cache's operator")]
    WrongAlgorithm,
    /// Its signature is not its key's.
    #[error("the token's signature is wrong; check that it was copied whole")]
    BadSignature,
    /// Its time is over.
    #[error("the token has expired; get a new one from the cache's operator")]
    Expired,
    /// Its time has not come.
    #[error("the token is not valid yet; check the clocks of this server and of who issued it")]
    NotYetValid,
    /// It was taken back.
    #[error("the token was revoked; get a new one from the cache's operator")]
    Revoked,
    /// It is valid and does not allow this.
    #[error("the token does not allow to {permission} `{cache}`; ask the cache's operator for one that does")]
    Forbidden {
        /// What was asked.
        permission: Permission,
        /// Of which cache.
        cache: CacheName,
    },
    /// It is valid and not an administrator's.
    #[error("the token does not allow to administrate this server; ask its operator for one made with --admin")]
    NotAdmin,
    /// There is no such cache, or none that the token may know of.
    #[error(
        "there is no cache `{cache}` here that this token may use; look for a misspelt name, or ask the cache's operator"
    )]
    NotHere {
        /// The name that was asked for.
        cache: CacheName,
    },
    /// The keys could not be read.
    #[error(transparent)]
    Database(#[from] DbError),
    /// A key could not be opened, sealed or drawn.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A token could not be signed.
    #[error("cannot sign a token: {0}")]
    Sign(#[source] jsonwebtoken::errors::Error),
}
