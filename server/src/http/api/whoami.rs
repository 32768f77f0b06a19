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
use crate::auth::{Origin, Permission};

pub(in crate::http) async fn whoami(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
) -> Result<Json<WhoAmI>, ApiError> {
    let token = require_token(&app, &headers).await?;
    let names = |permissions: &[Permission]| permissions.iter().map(ToString::to_string).collect();
    let caches: BTreeMap<String, Vec<String>> = match &token.origin {
        Origin::Legacy(legacy) => {
            legacy.entries().map(|(pattern, list)| (pattern, names(&list))).collect()
        }
        Origin::Signer(_) | Origin::Session(_) => {
            let entries = token.grants.caches.iter();
            entries.map(|(pattern, list)| (pattern.to_string(), names(list))).collect()
        }
    };
    Ok(Json(WhoAmI {
        issued: Some(token.iat),
        expires: token.expires(),
        subject: token.sub,
        token_id: token.jti,
        admin: token.grants.admin,
        caches,
        server_version: env!("CARGO_PKG_VERSION").to_owned(),
    }))
}
