//! The messages of administration: caches, tokens, keys, the audit log, paths, pins, collections.
//!
//! Snowbank's two programs make them of their arguments and print them as tables; neither is done
//! here.

mod audit;
mod caches;
pub mod collection;
mod paths;
pub mod pins;
mod tokens;
pub mod withdrawn;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use self::audit::{AuditEntry, AuditPage, AuditQuery};
pub use self::caches::{
    CacheDetails, CacheKey, CacheList, CacheSettings, CacheUsage, CreateCache, PurgedCache,
    RenameCache, RotateKey,
};
pub use self::paths::{
    CopiedPaths, CopyPaths, DeletePaths, DeletedPaths, PathDetails, PathPage, PathQueryText,
};
pub use self::tokens::{
    CreateToken, CreatedToken, RevokeTokens, RevokedTokens, RotateToken, TokenGrants, TokenInfo,
    TokenList,
};

/// A secret on its way: `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretText(pub String);

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(…)")
    }
}

/// Query of the listings that go on after a name or an id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AfterQuery {
    /// Go on after this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}
