//! Proofs that a permission was checked. They can be made only here, so that a function that takes one cannot be called
//! without the check.
//!
//! S1: what does not exist and what is not the caller's are answered alike, by the same code. Without a token both are
//! [`AuthError::Missing`]; with one that does not name the permission both are [`AuthError::NotHere`] on reads and
//! [`AuthError::Forbidden`] on pushes, whether there is such a cache or not.

use std::sync::Arc;

use snowbank_core::cache_name::CacheName;

use super::{AuthError, Permission, Token};
use crate::directory::OpenCache;

/// Proves that paths may be pushed to a cache.
#[derive(Debug, Clone)]
pub struct MayPush {
    /// The cache, and the keys that sign its receipts.
    pub target: Arc<OpenCache>,
    /// Who pushes; kept with each path.
    pub subject: String,
    /// Whether the token may also read here, and so learn hashes that it did not bring.
    pub may_pull: bool,
    _checked: Checked,
}

/// Proves that a cache may be read.
#[derive(Debug, Clone)]
pub struct MayPull {
    /// The cache, and the keys that sign its narinfos.
    pub target: Arc<OpenCache>,
    _checked: Checked,
}

#[derive(Debug, Clone, Copy)]
struct Checked;

/// Whether a token allows to push to the cache `name`, which is `target` if there is one; nobody pushes without a token.
///
/// # Errors
/// [`AuthError::Missing`] without a token, [`AuthError::Forbidden`] with one that does not allow it,
/// [`AuthError::NotHere`] when it would, but there is no such cache.
pub fn authorize_push(
    name: &CacheName,
    target: Option<Arc<OpenCache>>,
    token: Option<&Token>,
) -> Result<MayPush, AuthError> {
    let token = token.ok_or(AuthError::Missing)?;
    let permissions = token.permissions(name);
    if !permissions.contains(&Permission::Push) {
        return Err(AuthError::Forbidden { permission: Permission::Push, cache: name.clone() });
    }
    let target = target.ok_or_else(|| AuthError::NotHere { cache: name.clone() })?;
    let may_pull = target.cache.public || permissions.contains(&Permission::Pull);
    Ok(MayPush { target, subject: token.sub.clone(), may_pull, _checked: Checked })
}

/// Whether the cache `name`, which is `target` if there is one, may be read: a public one by anyone, a private one with a
/// token that allows it.
///
/// # Errors
/// [`AuthError::Missing`] without a token, [`AuthError::NotHere`] with one.
pub fn authorize_pull(
    name: &CacheName,
    target: Option<Arc<OpenCache>>,
    token: Option<&Token>,
) -> Result<MayPull, AuthError> {
    let granted = token.is_some_and(|token| token.permissions(name).contains(&Permission::Pull));
    match target.filter(|target| target.cache.public || granted) {
        Some(target) => Ok(MayPull { target, _checked: Checked }),
        None if token.is_none() => Err(AuthError::Missing),
        None => Err(AuthError::NotHere { cache: name.clone() }),
    }
}
