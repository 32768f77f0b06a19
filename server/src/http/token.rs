//! The token that a request brings, verified.

use axum::http::HeaderMap;

use super::error::ApiError;
use crate::app::App;
use crate::auth::{self, AuthError, Token};
use crate::clock::unix_now;

/// The request's token, if it brings one; a token that is not valid is an error even where none is
/// needed, and so is one of a push session.
pub(super) async fn token(app: &App, headers: &HeaderMap) -> Result<Option<Token>, ApiError> {
    match push_token(app, headers).await? {
        Some(token) if token.session().is_some() => Err(AuthError::SessionMisused.into()),
        token => Ok(token),
    }
}

/// As [`token`], for what a push asks: one of a push session is taken as well.
pub(super) async fn push_token(app: &App, headers: &HeaderMap) -> Result<Option<Token>, ApiError> {
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
