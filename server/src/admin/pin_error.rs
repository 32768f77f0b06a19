//! Why a pin is not made.

use crate::db::DbError;

/// Why a pin was not made.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// The cache has as many as it may.
    #[error(
        "the cache has {0} pins, as many as the server lets it have (`[limits] pins-per-cache`); \
         remove one with `pin rm`, or pin under a name that is there already"
    )]
    TooMany(u64),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
}
