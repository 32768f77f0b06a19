//! From a request's headers and the cache it names to a proof that it may; what is refused, and with which status, is
//! settled in `auth` and `error`.

use std::sync::Arc;

use axum::http::HeaderMap;
use snowbank_core::cache_name::CacheName;

use super::error::ApiError;
use crate::app::App;
use crate::auth::{self, AuthError, MayPull, MayPush, Permission, Token};
use crate::clock::unix_now;
use crate::directory::OpenCache;

/// The request's token, if it brings one; a token that is not valid is an error even where none is needed.
pub(super) async fn token(app: &App, headers: &HeaderMap) -> Result<Option<Token>, ApiError> {
    match auth::extract_token(headers) {
        // Boxed: most reads bring none, and should not carry its state along.
        Some(secret) => Ok(Some(Box::pin(app.verifier.verify(&secret, unix_now())).await?)),
        None => Ok(None),
    }
}

/// The request's token, or 401.
pub(super) async fn require_token(app: &App, headers: &HeaderMap) -> Result<Token, ApiError> {
    Ok(token(app, headers).await?.ok_or(AuthError::Missing)?)
}

/// A cache to read from: public, or named by the token.
pub(super) async fn may_pull(app: &App, headers: &HeaderMap, name: &str) -> Result<MayPull, ApiError> {
    let token = token(app, headers).await?;
    let name = parse(name, token.as_ref())?;
    let target = app.directory.lookup(&name).await?;
    Ok(auth::authorize_pull(&name, target, token.as_ref())?)
}

/// A cache to push to: named by the token.
pub(super) async fn may_push(app: &App, headers: &HeaderMap, name: &str) -> Result<MayPush, ApiError> {
    let token = token(app, headers).await?;
    let name = parse(name, token.as_ref())?;
    let target = app.directory.lookup(&name).await?;
    Ok(auth::authorize_push(&name, target, token.as_ref())?)
}

/// A cache whose settings the caller may see, to read or to push, and what it may do there.
pub(super) async fn may_see(
    app: &App,
    headers: &HeaderMap,
    name: &str,
) -> Result<(Arc<OpenCache>, Vec<Permission>), ApiError> {
    let token = token(app, headers).await?;
    let name = parse(name, token.as_ref())?;
    let target = app.directory.lookup(&name).await?;
    let permissions = token.as_ref().map(|token| token.permissions(&name)).unwrap_or_default();
    let target = match auth::authorize_pull(&name, target.clone(), token.as_ref()) {
        Ok(pull) => pull.target,
        Err(refusal) => auth::authorize_push(&name, target, token.as_ref()).map_err(|_| refusal)?.target,
    };
    Ok((target, permissions))
}

/// A text that is no cache's name is a cache that does not exist.
fn parse(name: &str, token: Option<&Token>) -> Result<CacheName, ApiError> {
    name.parse().map_err(|_| match token {
        Some(_) => ApiError::no_cache(name),
        None => AuthError::Missing.into(),
    })
}
