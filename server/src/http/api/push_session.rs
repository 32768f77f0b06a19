//! `POST /api/v1/push-session`: a token by which one push goes on after its own has ended.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use snowbank_core::wire::{BeginPushSession, PushSession};

use super::super::caller::PushCaller;
use super::super::error::ApiError;
use super::json_body;
use crate::admin;
use crate::app::App;
use crate::auth::AuthError;
use crate::clock::unix_now;

pub(in crate::http) async fn create(
    State(app): State<Arc<App>>,
    PushCaller(caller): PushCaller,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<PushSession>), ApiError> {
    let token = caller.token.as_ref().ok_or(AuthError::Missing)?;
    let max = app.config.auth.push_session_seconds().ok_or_else(ApiError::no_push_sessions)?;
    let (request, _held): (BeginPushSession, _) =
        json_body(&app, &caller, &headers, body, "push session").await?;
    let session = admin::create_push_session(
        &app.admin,
        &caller.actor,
        token,
        &request.caches,
        max,
        unix_now(),
    );
    Ok((StatusCode::CREATED, Json(session.await?)))
}
