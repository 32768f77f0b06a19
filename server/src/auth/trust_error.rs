//! Why the settings of tokens cannot be followed.

use super::{AuthError, UnknownPermission};

/// Why the settings cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// A token key cannot be had from its file.
    #[error("`[[auth.token-key]]`: {0}")]
    Key(#[source] AuthError),
    /// A legacy key cannot be had from its file.
    #[error("`[[auth.legacy-key]]`: {0}")]
    LegacyKey(#[source] AuthError),
    /// A word is no permission.
    #[error("{place}: `auth.oidc.permissions`: `{word}` is {source}")]
    Permission {
        /// The file and the line.
        place: String,
        /// The word.
        word: String,
        /// What there is instead.
        source: UnknownPermission,
    },
}
