//! `/api/v1/tokens`: issuing, listing, revoking and rotating tokens; for administrators.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use snowbank_core::wire::admin::{
    CreateToken, CreatedToken, RevokeTokens, RevokedTokens, RotateToken, TokenInfo, TokenList,
};

use super::super::access::may_admin;
use super::super::caller::Caller;
use super::super::error::ApiError;
use super::super::extract::{Path, Query};
use super::json_body;
use crate::admin;
use crate::app::App;
use crate::clock::unix_now;

/// Where a list goes on.
#[derive(Debug, Deserialize)]
pub(in crate::http) struct After {
    after: Option<String>,
}

pub(in crate::http) async fn list(
    State(app): State<Arc<App>>,
    Query(After { after }): Query<After>,
    caller: Caller,
) -> Result<Json<TokenList>, ApiError> {
    may_admin(&caller)?;
    Ok(Json(admin::list_tokens(&app.admin, after.as_deref()).await?))
}

pub(in crate::http) async fn show(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    caller: Caller,
) -> Result<Json<TokenInfo>, ApiError> {
    may_admin(&caller)?;
    Ok(Json(admin::show_token(&app.admin, &id).await?))
}

pub(in crate::http) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<CreatedToken>), ApiError> {
    may_admin(&caller)?;
    let request: CreateToken = json_body(&app, &headers, body, "token to create").await?;
    let created = admin::create_token(&app.admin, &caller.actor, &request, unix_now()).await?;
    Ok((StatusCode::CREATED, Json(created)))
}

pub(in crate::http) async fn revoke(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<RevokedTokens>, ApiError> {
    may_admin(&caller)?;
    let request: RevokeTokens = json_body(&app, &headers, body, "list of tokens to revoke").await?;
    Ok(Json(admin::revoke_tokens(&app.admin, &caller.actor, &request, unix_now()).await?))
}

pub(in crate::http) async fn rotate(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<CreatedToken>), ApiError> {
    may_admin(&caller)?;
    let request: RotateToken = json_body(&app, &headers, body, "token rotation").await?;
    let created = admin::rotate_token(&app.admin, &caller.actor, &id, &request, unix_now()).await?;
    Ok((StatusCode::CREATED, Json(created)))
}
