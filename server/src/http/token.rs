//! The token that a request brings, verified.

use axum::http::HeaderMap;

use super::error::ApiError;
use crate::app::App;
use crate::auth::{self, AuthError, Token};
use crate::clock::unix_now;

/// The request's token, if it brings one; a token that is not valid is an error even where none is
/// needed.
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
