//! Proofs that a permission was checked. They can be made only here, so that a function that takes one cannot be called
//! without the check.

use super::{AuthError, Permission, Token};
use crate::db::caches::Cache;

/// Proves that paths may be pushed to a cache.
#[derive(Debug, Clone)]
pub struct MayPush {
    /// The cache.
    pub cache: Cache,
    /// Who pushes.
    pub subject: String,
    _checked: Checked,
}

/// Proves that a cache may be read.
#[derive(Debug, Clone)]
pub struct MayPull {
    /// The cache.
    pub cache: Cache,
    _checked: Checked,
}

#[derive(Debug, Clone, Copy)]
struct Checked;

/// Whether a token allows to push to a cache; nobody pushes without one.
///
/// # Errors
/// [`AuthError::Missing`] without a token, [`AuthError::Forbidden`] with one that does not allow it.
pub fn authorize_push(cache: &Cache, token: Option<&Token>) -> Result<MayPush, AuthError> {
    let token = check(cache, token, Permission::Push)?;
    Ok(MayPush { cache: cache.clone(), subject: token.sub.clone(), _checked: Checked })
}

/// Whether a cache may be read: a public one by anyone, a private one with a token that allows it.
///
/// # Errors
/// As [`authorize_push`].
pub fn authorize_pull(cache: &Cache, token: Option<&Token>) -> Result<MayPull, AuthError> {
    if !cache.public {
        check(cache, token, Permission::Pull)?;
    }
    Ok(MayPull { cache: cache.clone(), _checked: Checked })
}

fn check<'t>(cache: &Cache, token: Option<&'t Token>, permission: Permission) -> Result<&'t Token, AuthError> {
    let token = token.ok_or(AuthError::Missing)?;
    if token.permissions(&cache.name).contains(&permission) {
        return Ok(token);
    }
    Err(AuthError::Forbidden { permission, cache: cache.name.clone() })
}
