//! Why a request is not let in. No message repeats any part of the token.

use std::fmt;
use std::sync::Arc;

use snowbank_core::cache_name::CacheName;

use super::{KeyFileError, Permission};
use crate::db::DbError;
use crate::secrets::SecretError;

/// Why a token is not believed, or does not allow what is asked.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// There is none.
    #[error(
        "this needs a token; get one from the cache's operator, then run `snowbank login` (for \
         Nix: a netrc line whose password is the token)"
    )]
    Missing,
    /// It is no JSON Web Token of ours, or asks for an algorithm that does not exist here, such as
    /// `none`.
    #[error(
        "the token is malformed; check that it was copied whole, and that nothing was added to it"
    )]
    Malformed,
    /// It is signed with a key that is not in the ring.
    #[error(
        "the token was not issued by this server, or its key was retired; get a new one from the \
         cache's operator"
    )]
    UnknownKey,
    /// Its algorithm is not that of its key.
    #[error(
        "the token names another algorithm than its key's; get a new one from the cache's operator"
    )]
    WrongAlgorithm,
    /// Its signature is not its key's.
    #[error("the token's signature is wrong; check that it was copied whole")]
    BadSignature,
    /// Its time is over.
    #[error("the token has expired; get a new one from the cache's operator")]
    Expired,
    /// Its session has lasted for as long as it may.
    #[error(
        "the push session has ended: this server lets a push go on for `[auth] push-session` after \
         its beginning; push again with a new token, which sends only what is missing"
    )]
    SessionEnded,
    /// It is a session's, and this is no part of a push.
    #[error("the token is of a push session, which is for one push and nothing else")]
    SessionMisused,
    /// Its time has not come.
    #[error("the token is not valid yet; check the clocks of this server and of who issued it")]
    NotYetValid,
    /// It was taken back.
    #[error("the token was revoked; get a new one from the cache's operator")]
    Revoked,
    /// It is valid and does not allow this.
    #[error(
        "the token does not allow to {permission} `{cache}`; ask the cache's operator for one that \
         does"
    )]
    Forbidden {
        /// What was asked.
        permission: Permission,
        /// Of which cache.
        cache: CacheName,
    },
    /// It is valid and not an administrator's.
    #[error(
        "the token does not allow to administrate this server; ask its operator for one made with \
         --admin"
    )]
    NotAdmin,
    /// There is no such cache, or none that the token may know of.
    #[error(
        "there is no cache `{cache}` here that this token may use; look for a misspelt name, or \
         ask the cache's operator"
    )]
    NotHere {
        /// The name that was asked for.
        cache: CacheName,
    },
    /// The keys could not be read.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The keys could not be read, for all who asked at the same time.
    #[error(transparent)]
    Shared(Arc<DbError>),
    /// A key could not be opened, sealed or drawn.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A token could not be signed.
    #[error("cannot sign a token: {0}")]
    Sign(#[source] jsonwebtoken::errors::Error),
    /// A public key was to sign.
    #[error(
        "the token key `{kid}` is a public key and cannot sign; add one that can: snowbankd \
         token-key add"
    )]
    VerifiesOnly {
        /// The key.
        kid: String,
    },
    /// No key could be made.
    #[error("cannot make a key: the system's random number generator failed")]
    Generate,
    /// What was sealed is no key.
    #[error("the token key `{kid}` in the database is damaged; remove it, or restore a backup")]
    DamagedKey {
        /// The key.
        kid: String,
    },
    /// A file gives no key.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    /// An issuer's keys are not known, and it does not tell them.
    #[error(
        "the token's issuer does not answer: `{issuer}` does not tell with which keys it signs; \
         try again in a moment"
    )]
    IssuerUnavailable {
        /// The issuer's name in the settings.
        issuer: String,
        /// When to try again.
        retry_after_seconds: u32,
    },
    /// The token names a key that its issuer does not have.
    #[error("`{issuer}` has no such key as this token names; get a new token from it")]
    UnknownIssuerKey {
        /// The issuer's name in the settings.
        issuer: String,
    },
    /// A token of an issuer lacks what every one has, or has it in another form.
    #[error(
        "the token of `{issuer}` cannot be taken: its claim `{claim}` is missing, or has no value \
         that it may have"
    )]
    IssuerClaim {
        /// The issuer's name in the settings.
        issuer: String,
        /// The claim's name.
        claim: &'static str,
    },
    /// A token of an issuer lives for too long to be a job's.
    #[error(
        "the token of `{issuer}` is valid for more than a day; have it issue tokens for shorter"
    )]
    TooLongLived {
        /// The issuer's name in the settings.
        issuer: String,
    },
    /// A token of an issuer is meant for somebody else.
    #[error(
        "the token of `{issuer}` is meant for another audience (claim `aud`); ask the cache's \
         operator for which audience to request it"
    )]
    WrongAudience {
        /// The issuer's name in the settings.
        issuer: String,
    },
    /// A token of an issuer is one that the settings do not let in.
    #[error(
        "this server lets in some tokens of `{issuer}`, and not this one: no match for {}; ask the \
         cache's operator which jobs may come in",
        ClaimNames(claims)
    )]
    ClaimMismatch {
        /// The issuer's name in the settings.
        issuer: String,
        /// The claims that have another value than they would have to.
        claims: Vec<String>,
    },
}

impl AuthError {
    /// What is wrong with the token, in a word or two that programs can compare; `None` where that
    /// is not known.
    #[must_use]
    pub const fn reason(&self) -> Option<&'static str> {
        Some(match self {
            Self::Malformed => "malformed",
            Self::UnknownKey | Self::UnknownIssuerKey { .. } => "unknown-key",
            Self::WrongAlgorithm | Self::BadSignature => "bad-signature",
            Self::Expired | Self::SessionEnded => "expired",
            Self::NotYetValid => "not-yet-valid",
            Self::Revoked => "revoked",
            Self::IssuerUnavailable { .. } => "issuer-unavailable",
            Self::IssuerClaim { .. }
            | Self::TooLongLived { .. }
            | Self::WrongAudience { .. }
            | Self::ClaimMismatch { .. } => "not-let-in",
            _ => return None,
        })
    }

    /// Every word that [`AuthError::reason`] has.
    pub const REASONS: [&'static str; 8] = [
        "malformed",
        "unknown-key",
        "bad-signature",
        "expired",
        "not-yet-valid",
        "revoked",
        "issuer-unavailable",
        "not-let-in",
    ];
}

/// Names of claims, for people.
struct ClaimNames<'a>(&'a [String]);

impl fmt::Display for ClaimNames<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.len() == 1 { "its claim `" } else { "its claims `" })?;
        f.write_str(&self.0.join("`, `"))?;
        f.write_str("`")
    }
}
