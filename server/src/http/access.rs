//! From a request's headers and the cache it names to a proof that it may; what is refused, and
//! with which status, is settled in `auth` and `error`.

use std::sync::Arc;

use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use metrics::counter;
use snowbank_core::attic::Right;
use snowbank_core::cache_name::CacheName;

use super::caller::Caller;
use super::error::ApiError;
use super::token::{push_token, token};
use crate::app::App;
use crate::auth::{
    self, AuthError, MayAdmin, MayCreate, MayManage, MayPull, MayPush, Permission, Token,
};
use crate::clock::unix_now;
use crate::directory::OpenCache;
use crate::secrets::SecretString;

/// The header by which an answer says that the request's token was not taken, and why.
const IGNORED_TOKEN: &str = "x-snowbank-ignored-token";

/// The cache of this name, as far as the caller may know of it: any, where the token has one of
/// these permissions on the name, or else a public one. For whoever has none of them, a private
/// cache takes the same work as one that does not exist (S1).
async fn find(
    app: &App,
    token: Option<&Token>,
    name: &CacheName,
    any: &[Permission],
) -> Result<Option<Arc<OpenCache>>, ApiError> {
    let is_granted =
        any.iter().any(|permission| auth::authorize_name(name, token, *permission).is_ok());
    let found = if is_granted {
        app.directory.lookup(name).await
    } else {
        app.directory.lookup_public(name).await
    };
    Ok(found?)
}

/// A cache to read from: public, or named by the token.
pub(super) async fn may_pull(
    app: &App,
    headers: &HeaderMap,
    name: &str,
) -> Result<MayPull, ApiError> {
    let token = token(app, headers).await?;
    may_read(app, token.as_ref(), name).await
}

/// A cache that Nix reads from, and whether the token that came along was of no use.
#[derive(Debug)]
pub(super) struct Fetch {
    pub(super) allowed: MayPull,
    ignored: Option<&'static str>,
}

impl Fetch {
    /// Says in the answer that the token was not taken.
    pub(super) fn sign(&self, response: &mut Response) {
        if let Some(reason) = self.ignored {
            response.headers_mut().insert(IGNORED_TOKEN, HeaderValue::from_static(reason));
        }
    }
}

/// A cache for Nix to read from. A public one may be read whatever token comes along: a netrc has
/// one for all caches of a host, and one that has expired is no reason to keep back what everybody
/// may have.
pub(super) async fn may_fetch(
    app: &App,
    headers: &HeaderMap,
    name: &str,
) -> Result<Fetch, ApiError> {
    match auth::extract_token(headers) {
        // Boxed: most reads bring none, and should not carry its state along.
        Some(secret) => Box::pin(may_fetch_with(app, &secret, name)).await,
        None => Ok(Fetch { allowed: may_read(app, None, name).await?, ignored: None }),
    }
}

async fn may_fetch_with(app: &App, secret: &SecretString, name: &str) -> Result<Fetch, ApiError> {
    let refusal = match app.verifier.verify_at_hand(secret, unix_now()).await {
        Ok(token) => {
            return Ok(Fetch { allowed: may_read(app, Some(&token), name).await?, ignored: None });
        }
        Err(refusal) => refusal,
    };
    // A name that is none is answered as one that nobody has, after the token was looked at.
    if let Ok(name) = name.parse()
        && let Some(target) = app.directory.lookup_public(&name).await?
    {
        let ignored = refusal.reason();
        if let Some(reason) = ignored {
            counter!("snowbank_ignored_tokens_total", "reason" => reason).increment(1);
        }
        return Ok(Fetch { allowed: auth::authorize_pull(&name, Some(target), None)?, ignored });
    }
    let token = app.verifier.verify(secret, unix_now()).await?;
    Ok(Fetch { allowed: may_read(app, Some(&token), name).await?, ignored: None })
}

/// As [`may_pull`], for a token that was verified.
pub(super) async fn may_read(
    app: &App,
    token: Option<&Token>,
    name: &str,
) -> Result<MayPull, ApiError> {
    let name = parse_cache(name, token)?;
    let target = find(app, token, &name, &[Permission::Pull]).await?;
    Ok(auth::authorize_pull(&name, target, token)?)
}

/// A cache to push to: named by the token. A server that another one has taken over from takes no
/// pushes.
pub(super) async fn may_push(
    app: &App,
    headers: &HeaderMap,
    name: &str,
) -> Result<MayPush, ApiError> {
    let token = push_token(app, headers).await?;
    let name = parse_cache(name, token.as_ref())?;
    // Whoever may not is told so before anything is looked up.
    auth::authorize_name(&name, token.as_ref(), Permission::Push)?;
    let target = app.directory.lookup(&name).await?;
    let push = auth::authorize_push(&name, target, token.as_ref())?;
    app.chain.confirm_lately().await?;
    Ok(push)
}

/// A cache whose settings the caller may see, to read or to push, and what it may do there.
pub(super) async fn may_see(
    app: &App,
    caller: &Caller,
    name: &str,
) -> Result<(Arc<OpenCache>, Vec<Permission>), ApiError> {
    let token = caller.token.as_ref();
    let name = parse_cache(name, token)?;
    let target = find(app, token, &name, &[Permission::Pull, Permission::Push]).await?;
    let permissions = token.map(|token| token.permissions(&name)).unwrap_or_default();
    let target = match auth::authorize_pull(&name, target.clone(), token) {
        Ok(pull) => pull.target,
        Err(refusal) => auth::authorize_push(&name, target, token).map_err(|_| refusal)?.target,
    };
    Ok((target, permissions))
}

/// A text that is no cache's name is a cache that does not exist.
pub(super) fn parse_cache(name: &str, token: Option<&Token>) -> Result<CacheName, ApiError> {
    name.parse().map_err(|_| match token {
        Some(_) => ApiError::no_cache(name),
        None => AuthError::Missing.into(),
    })
}

/// A cache to configure: named by the token, or any for an administrator.
pub(super) async fn may_configure(
    app: &App,
    caller: &Caller,
    name: &str,
) -> Result<MayManage, ApiError> {
    may_manage(app, caller, name, Permission::Configure).await
}

/// A cache to delete paths from: named by the token.
pub(super) async fn may_delete(
    app: &App,
    caller: &Caller,
    name: &str,
) -> Result<MayManage, ApiError> {
    may_manage(app, caller, name, Permission::Delete).await
}

/// A cache to change in one respect, for attic's tokens, which tell such rights apart; for others
/// as [`may_configure`].
pub(super) async fn may_change(
    app: &App,
    caller: &Caller,
    name: &str,
    right: Right,
) -> Result<MayManage, ApiError> {
    let name = parse_cache(name, caller.token.as_ref())?;
    // Whoever may not is told so before anything is looked up.
    auth::check_change(&name, caller.token.as_ref(), right)?;
    let target = app.directory.lookup(&name).await?;
    Ok(auth::authorize_change(&name, target, caller.token.as_ref(), right)?)
}

async fn may_manage(
    app: &App,
    caller: &Caller,
    name: &str,
    permission: Permission,
) -> Result<MayManage, ApiError> {
    let name = parse_cache(name, caller.token.as_ref())?;
    // Whoever may not is told so before anything is looked up.
    auth::authorize_name(&name, caller.token.as_ref(), permission)?;
    let target = app.directory.lookup(&name).await?;
    Ok(auth::authorize_manage(&name, target, caller.token.as_ref(), permission)?)
}

/// A cache whose settings the caller may see: to read, to push, to manage. Gives its name.
pub(super) async fn may_see_settings(
    app: &App,
    caller: &Caller,
    name: &str,
) -> Result<CacheName, ApiError> {
    let token = caller.token.as_ref();
    let name = parse_cache(name, token)?;
    let any = [Permission::Push, Permission::Configure, Permission::Delete];
    let target = find(app, token, &name, &[&[Permission::Pull], &any[..]].concat()).await?;
    match auth::authorize_pull(&name, target.clone(), token) {
        Ok(_) => Ok(name),
        Err(refusal) => {
            let managed = any.map(|permission| {
                auth::authorize_manage(&name, target.clone(), token, permission).is_ok()
            });
            if managed.contains(&true) { Ok(name) } else { Err(refusal.into()) }
        }
    }
}

/// A name for a cache to create.
pub(super) fn may_create(caller: &Caller, name: &CacheName) -> Result<MayCreate, ApiError> {
    Ok(auth::authorize_create(name, caller.token.as_ref())?)
}

/// The administration of the server.
pub(super) fn may_admin(caller: &Caller) -> Result<MayAdmin, ApiError> {
    Ok(auth::authorize_admin(caller.token.as_ref())?)
}
