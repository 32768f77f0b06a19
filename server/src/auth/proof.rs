//! Proofs that a permission was checked. They can be made only here, so that a function that takes
//! one cannot be called without the check.
//!
//! S1: what does not exist and what is not the caller's are answered alike, by the same code.
//! Without a token both are [`AuthError::Missing`]; with one that does not name the permission both
//! are [`AuthError::NotHere`] on reads and [`AuthError::Forbidden`] on pushes, whether there is
//! such a cache or not. How long that takes tells neither: `http/access` has both looked up by the
//! same statement.

use std::sync::Arc;

use snowbank_core::attic::Right;
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
    _checked: Check,
}

impl MayPush {
    /// The same, for a path that waited since somebody else pushed it here.
    #[must_use]
    pub fn on_behalf_of(&self, subject: &str) -> Self {
        Self { subject: subject.to_owned(), ..self.clone() }
    }
}

/// Proves that a cache may be read.
#[derive(Debug, Clone)]
pub struct MayPull {
    /// The cache, and the keys that sign its narinfos.
    pub target: Arc<OpenCache>,
    /// Whether the reader may know who pushed and pinned: whoever may push there, or manage the
    /// cache or the server.
    pub sees_subjects: bool,
    _checked: Check,
}

/// Proves that a cache may be configured, or its paths deleted, whichever was asked for.
#[derive(Debug, Clone)]
pub struct MayManage {
    /// The cache.
    pub target: Arc<OpenCache>,
    _checked: Check,
}

/// Proves that a cache of this name may be created.
#[derive(Debug, Clone)]
pub struct MayCreate {
    /// The name.
    pub name: CacheName,
    _checked: Check,
}

/// Proves that the server may be administrated.
#[derive(Debug, Clone, Copy)]
pub struct MayAdmin {
    _checked: Check,
}

#[derive(Debug, Clone, Copy)]
struct Check;

impl MayPush {
    /// For whoever may run commands on the server's host, and so may do anything.
    #[must_use]
    pub fn on_host(target: Arc<OpenCache>) -> Self {
        Self { target, subject: "host".to_owned(), may_pull: true, _checked: Check }
    }
}

impl MayPull {
    /// For whoever may run commands on the server's host, and so may do anything.
    #[must_use]
    pub fn on_host(target: Arc<OpenCache>) -> Self {
        Self { target, sees_subjects: true, _checked: Check }
    }
}

/// Whether a token allows to push to the cache `name`, which is `target` if there is one; nobody
/// pushes without a token.
///
/// # Errors
/// [`AuthError::Missing`] without a token, [`AuthError::Forbidden`] with one that does not allow
/// it, [`AuthError::NotHere`] when it would, but there is no such cache.
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
    Ok(MayPush { target, subject: token.sub.clone(), may_pull, _checked: Check })
}

/// Whether the cache `name`, which is `target` if there is one, may be read: a public one by
/// anyone, a private one with a token that allows it.
///
/// # Errors
/// [`AuthError::Missing`] without a token, [`AuthError::NotHere`] with one.
pub fn authorize_pull(
    name: &CacheName,
    target: Option<Arc<OpenCache>>,
    token: Option<&Token>,
) -> Result<MayPull, AuthError> {
    let permissions = token.map(|token| token.permissions(name)).unwrap_or_default();
    let granted = permissions.contains(&Permission::Pull);
    let changes = |one: &Permission| {
        matches!(one, Permission::Push | Permission::Delete | Permission::Configure)
    };
    let sees_subjects =
        permissions.iter().any(changes) || token.is_some_and(|token| token.grants.admin);
    match target.filter(|target| target.cache.public || granted) {
        Some(target) => Ok(MayPull { target, sees_subjects, _checked: Check }),
        None if token.is_none() => Err(AuthError::Missing),
        None => Err(AuthError::NotHere { cache: name.clone() }),
    }
}

/// Whether a token allows `permission`, to configure or to delete, on the cache `name`, which is
/// `target` if there is one. Whoever administrates may configure every cache.
///
/// # Errors
/// As [`authorize_push`].
pub fn authorize_manage(
    name: &CacheName,
    target: Option<Arc<OpenCache>>,
    token: Option<&Token>,
    permission: Permission,
) -> Result<MayManage, AuthError> {
    check(name, token, permission)?;
    let target = target.ok_or_else(|| AuthError::NotHere { cache: name.clone() })?;
    Ok(MayManage { target, _checked: Check })
}

/// As [`authorize_manage`] to configure, for what attic's tokens tell apart. They need the right to
/// this, and all others need [`Permission::Configure`].
///
/// # Errors
/// As [`authorize_push`].
pub fn authorize_change(
    name: &CacheName,
    target: Option<Arc<OpenCache>>,
    token: Option<&Token>,
    right: Right,
) -> Result<MayManage, AuthError> {
    check_change(name, token, right)?;
    let target = target.ok_or_else(|| AuthError::NotHere { cache: name.clone() })?;
    Ok(MayManage { target, _checked: Check })
}

/// Whether a token allows such a change to whatever cache is called `name`.
///
/// # Errors
/// As [`authorize_create`].
pub fn check_change(
    name: &CacheName,
    token: Option<&Token>,
    right: Right,
) -> Result<(), AuthError> {
    if token.is_some_and(|token| token.has_right(name, right)) {
        return Ok(());
    }
    check(name, token, Permission::Configure)
}

/// Whether a token allows to create a cache called `name`.
///
/// # Errors
/// [`AuthError::Missing`] without a token, [`AuthError::Forbidden`] with one that does not allow
/// it.
pub fn authorize_create(name: &CacheName, token: Option<&Token>) -> Result<MayCreate, AuthError> {
    check(name, token, Permission::Create)?;
    Ok(MayCreate { name: name.clone(), _checked: Check })
}

/// Whether a token allows to administrate the server.
///
/// # Errors
/// [`AuthError::Missing`] without a token, [`AuthError::NotAdmin`] with one that does not allow it.
pub fn authorize_admin(token: Option<&Token>) -> Result<MayAdmin, AuthError> {
    if token.ok_or(AuthError::Missing)?.grants.admin {
        Ok(MayAdmin { _checked: Check })
    } else {
        Err(AuthError::NotAdmin)
    }
}

/// Whether a token allows `permission` on whatever cache is or was called `name`.
///
/// # Errors
/// As [`authorize_create`].
pub fn authorize_name(
    name: &CacheName,
    token: Option<&Token>,
    permission: Permission,
) -> Result<(), AuthError> {
    check(name, token, permission)
}

fn check(name: &CacheName, token: Option<&Token>, permission: Permission) -> Result<(), AuthError> {
    let token = token.ok_or(AuthError::Missing)?;
    let by_office =
        token.grants.admin && matches!(permission, Permission::Configure | Permission::Create);
    if by_office || token.permissions(name).contains(&permission) {
        return Ok(());
    }
    Err(AuthError::Forbidden { permission, cache: name.clone() })
}
