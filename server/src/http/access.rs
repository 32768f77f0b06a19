//! From a request's headers and the cache it names to a proof that it may: the rules of S1, in one place.
//!
//! What does not exist and what is not the caller's are answered alike, by the same code: without a valid token 401, with
//! one that does not name the permission 404 on reads and 403 on pushes, whether there is such a cache or not.

use std::sync::Arc;

use axum::http::HeaderMap;
use snowbank_core::cache_name::CacheName;

use super::error::ApiError;
use crate::app::App;
use crate::auth::{self, AuthError, Permission, Token};
use crate::clock::unix_now;
use crate::directory::OpenCache;
use crate::ingest::Pusher;

/// A cache that the caller may read.
#[derive(Debug)]
pub(super) struct MayRead {
    pub(super) target: Arc<OpenCache>,
    /// What the caller's token may do here; nothing without a token.
    pub(super) permissions: Vec<Permission>,
}

/// A cache that the caller may push to.
#[derive(Debug)]
pub(super) struct MayPush {
    pub(super) target: Arc<OpenCache>,
    pub(super) token: Token,
    may_pull: bool,
}

impl MayPush {
    pub(super) fn pusher(&self) -> Pusher<'_> {
        Pusher { target: &self.target, subject: &self.token.sub, may_pull: self.may_pull }
    }
}

/// The request's token, if it brings one; a token that is not valid is an error even where none is needed.
pub(super) async fn token(app: &App, headers: &HeaderMap) -> Result<Option<Token>, ApiError> {
    let Some(secret) = auth::extract_token(headers) else {
        return Ok(None);
    };
    match app.verifier.verify(&secret, unix_now()).await {
        Ok(token) => Ok(Some(token)),
        Err(AuthError::Database(error)) => Err(error.into()),
        Err(error) => Err(ApiError::unauthenticated(error.to_string())),
    }
}

/// The request's token, or 401.
pub(super) async fn require_token(app: &App, headers: &HeaderMap) -> Result<Token, ApiError> {
    token(app, headers).await?.ok_or_else(|| {
        ApiError::unauthenticated("this needs a token: `Authorization: Bearer TOKEN`, or Basic with the token as password")
    })
}

/// A cache to read from: public, or named by the token.
pub(super) async fn may_read(app: &App, headers: &HeaderMap, name: &str) -> Result<MayRead, ApiError> {
    let token = token(app, headers).await?;
    let target = open(app, name).await?;
    let permissions = permissions(token.as_ref(), name);
    match target {
        Some(target) if target.cache.public || permissions.contains(&Permission::Pull) => {
            Ok(MayRead { target, permissions })
        }
        _ if token.is_none() => Err(ApiError::unauthenticated(format!(
            "there is no public cache `{name}`; if it is private, give a token (for Nix: a netrc line whose password is it)"
        ))),
        _ => Err(no_cache(name)),
    }
}

/// A cache whose settings the caller may see: one to read, or one to push to.
pub(super) async fn may_see(app: &App, headers: &HeaderMap, name: &str) -> Result<MayRead, ApiError> {
    match may_read(app, headers, name).await {
        Err(refusal) => match may_push(app, headers, name).await {
            Ok(push) => Ok(MayRead { permissions: permissions(Some(&push.token), name), target: push.target }),
            Err(_) => Err(refusal),
        },
        allowed => allowed,
    }
}

/// A cache to push to: named by the token.
pub(super) async fn may_push(app: &App, headers: &HeaderMap, name: &str) -> Result<MayPush, ApiError> {
    let token = require_token(app, headers).await?;
    let permissions = permissions(Some(&token), name);
    let target = open(app, name).await?;
    if !permissions.contains(&Permission::Push) {
        return Err(ApiError::forbidden(format!(
            "this token may not push to `{name}`; ask the operator for one that may (`snowbankd token create --push {name}`)"
        )));
    }
    let target = target.ok_or_else(|| no_cache(name))?;
    let may_pull = target.cache.public || permissions.contains(&Permission::Pull);
    Ok(MayPush { target, token, may_pull })
}

fn no_cache(name: &str) -> ApiError {
    ApiError::not_found(format!("there is no cache `{name}` here that this token may use; look for a misspelt name"))
}

fn permissions(token: Option<&Token>, name: &str) -> Vec<Permission> {
    match (token, name.parse::<CacheName>()) {
        (Some(token), Ok(name)) => token.permissions(&name),
        _ => Vec::new(),
    }
}

async fn open(app: &App, name: &str) -> Result<Option<Arc<OpenCache>>, ApiError> {
    match name.parse() {
        Ok(name) => Ok(app.directory.lookup(&name).await?),
        Err(_) => Ok(None),
    }
}
