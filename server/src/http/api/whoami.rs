//! `GET /api/v1/whoami`: what the server makes of a token.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use snowbank_core::wire::WhoAmI;

use super::super::error::ApiError;
use super::super::token::require_token;
use crate::app::App;

pub(in crate::http) async fn whoami(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
) -> Result<Json<WhoAmI>, ApiError> {
    let token = require_token(&app, &headers).await?;
    let caches: BTreeMap<String, Vec<String>> = token
        .grants
        .caches
        .iter()
        .map(|(pattern, permissions)| {
            (pattern.to_string(), permissions.iter().map(ToString::to_string).collect())
        })
        .collect();
    Ok(Json(WhoAmI {
        subject: token.sub,
        token_id: token.jti,
        issued: Some(token.iat),
        expires: Some(token.exp),
        admin: token.grants.admin,
        caches,
        server_version: env!("CARGO_PKG_VERSION").to_owned(),
    }))
}
