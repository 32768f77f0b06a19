//! What can go wrong when something is administrated.

use snowbank_core::cache_name::CacheName;
use snowbank_core::pin_name::PinName;
use snowbank_core::signing::KeyError;
use snowbank_core::token::PartOfToken;

use super::PinError;
use crate::auth::AuthError;
use crate::db::DbError;
use crate::secrets::SecretError;

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// There is a cache of that name.
    #[error("there is a cache `{0}` already; choose another name")]
    NameTaken(CacheName),
    /// A cache of that name was destroyed and can still be restored.
    #[error(
        "a cache `{0}` was destroyed and keeps its name for 7 days; bring it back with `cache \
         restore {0}`, remove it for good with `cache purge {0}`, or choose another name"
    )]
    NameDestroyed(CacheName),
    /// There is no cache of that name.
    #[error("there is no cache `{0}`; `cache list` shows those that there are")]
    NoCache(CacheName),
    /// There is no destroyed cache of that name.
    #[error("there is no cache `{0}` to restore: none was destroyed in the last 7 days")]
    NotDestroyed(CacheName),
    /// A cache that is to be removed for good is in use.
    #[error(
        "the cache `{0}` was not destroyed, and nothing was removed; `cache destroy {0}` takes it \
         out of sight first"
    )]
    InUse(CacheName),
    /// A value is out of bounds.
    #[error("{0}")]
    BadSetting(String),
    /// There is no such token.
    #[error("this server issued no token with the id `{0}`; `token list` shows those that it did")]
    NoToken(String),
    /// An id or a subject that was to be revoked is of no token that was issued here.
    #[error(
        "nothing was revoked: this server issued no token {what} `{text}`; `token list` shows \
         those that it did. Tokens of an identity provider, or of another system's key, are not \
         recorded here: for one of those, add --force"
    )]
    NeverIssued {
        /// Which of the two it is.
        what: &'static str,
        /// The id or the subject.
        text: String,
    },
    /// A text looks like a token, and has no id that can be read.
    #[error(transparent)]
    PartOfToken(#[from] PartOfToken),
    /// The cache has no such path.
    #[error("the cache has no path `{0}`")]
    NoPath(String),
    /// Paths that are to stay refer to those that are to go.
    #[error(
        "nothing was deleted: {} of the paths that stay refer to what would go, such as {}; add \
         --referrers to delete them as well", .0.len(), .0.first().map_or("", String::as_str)
    )]
    Referred(Vec<String>),
    /// Pins keep paths that are to go.
    #[error("nothing was deleted: {}; remove the pin first with `pin rm`, or leave the path \
        out", pinned(.0))]
    Pinned(Vec<(String, String)>),
    /// The cache has no such pin.
    #[error("the cache has no pin `{0}`; `pin list` shows those that there are")]
    NoPin(String),
    /// A pin was not made.
    #[error(transparent)]
    Pin(PinError),
    /// A pin has no such generation.
    #[error("the pin `{pin}` has {what}; `pin show` lists what it keeps")]
    NoGeneration {
        /// The pin.
        pin: PinName,
        /// Which one it has not.
        what: String,
    },
    /// What a pin stood for is not in the cache any more.
    #[error(
        "{path}, which the pin `{pin}` stood for, is out of sight since it was damaged; push it \
         again first"
    )]
    GenerationGone {
        /// The pin.
        pin: PinName,
        /// The path's base name.
        path: String,
    },
    /// Pushes came in between, again and again.
    #[error("nothing was deleted: other pushes changed the cache at the same time; try again")]
    Raced,
    /// The server has never been started, so there is no key to sign tokens with.
    #[error("there is no token key yet; start `snowbankd` once, which makes one")]
    NoTokenKey,
    /// The database belongs to another server key.
    #[error(
        "this database's secrets were sealed with another server key. Give every server that \
         shares it the same file (`server-key-file`, SNOWBANKD_SERVER_KEY_FILE, or `server-key` in \
         the data folder)"
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

/// Which pins keep which paths: the first few by name, the others by their number.
fn pinned(paths: &[(String, String)]) -> String {
    const MAX_NAMED: usize = 5;
    let named =
        paths.iter().take(MAX_NAMED).map(|(path, pin)| format!("{path} is pinned as `{pin}`"));
    let more = paths
        .len()
        .checked_sub(MAX_NAMED)
        .filter(|more| *more > 0)
        .map(|more| format!("{more} more are pinned"));
    named.chain(more).collect::<Vec<_>>().join(", ")
}

impl From<PinError> for AdminError {
    fn from(error: PinError) -> Self {
        match error {
            PinError::Database(error) => Self::Database(error),
            error @ PinError::TooMany(_) => Self::Pin(error),
        }
    }
}
