//! The messages of `POST /api/v1/push-session`: a token that one push may go on with after the
//! token that it began with has ended.

use serde::{Deserialize, Serialize};

use super::admin::SecretText;
use crate::cache_name::CacheName;

/// Body of `POST /api/v1/push-session`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeginPushSession {
    /// The caches that are pushed to.
    pub caches: Vec<CacheName>,
}

/// Answer to `POST /api/v1/push-session`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushSession {
    /// The token of the session.
    pub token: SecretText,
    /// Its id, by which it can be revoked.
    pub id: String,
    /// For how many seconds from now it is valid.
    pub expires_in: u64,
    /// For how many seconds from now the session may last, renewals included.
    pub ends_in: u64,
}

impl PushSession {
    /// Whether a renewal would make it last longer.
    #[must_use]
    pub const fn is_renewable(&self) -> bool {
        self.expires_in < self.ends_in
    }
}
