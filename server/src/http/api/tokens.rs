//! `/api/v1/tokens`: issuing, listing, revoking and rotating tokens; for administrators.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use snowbank_core::wire::admin::{
    AfterQuery, CreateToken, CreatedToken, RevokeTokens, RevokedTokens, RotateToken, TokenInfo,
};

use super::super::access::may_admin;
use super::super::caller::Caller;
use super::super::error::ApiError;
use super::super::extract::{Path, Query};
use super::super::listing::Listing;
use super::json_body;
use crate::admin;
use crate::app::App;
use crate::clock::unix_now;

pub(in crate::http) async fn list(
    State(app): State<Arc<App>>,
    Query(query): Query<AfterQuery>,
    listing: Listing,
) -> Result<Response, ApiError> {
    may_admin(&listing.caller)?;
    let page = admin::list_tokens(&app.admin, query.after.as_deref()).await?;
    listing.answer(&page)
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
    let (request, _held): (CreateToken, _) =
        json_body(&app, &caller, &headers, body, "token to create").await?;
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
    let (request, _held): (RevokeTokens, _) =
        json_body(&app, &caller, &headers, body, "list of tokens to revoke").await?;
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
    let (request, _held): (RotateToken, _) =
        json_body(&app, &caller, &headers, body, "token rotation").await?;
    let created = admin::rotate_token(&app.admin, &caller.actor, &id, &request, unix_now()).await?;
    Ok((StatusCode::CREATED, Json(created)))
}
