//! `POST /api/v1/caches/{cache}/missing-paths`: which of these paths does the cache lack?

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use snowbank_core::wire::{MissingPathsRequest, MissingPathsResponse};

use super::super::access::may_push;
use super::super::body::{collect, declared_length};
use super::super::error::ApiError;
use super::super::extract::Path;
use super::{JSON_BYTES, PATHS_PER_QUERY, body_limits};
use crate::app::App;
use crate::clock::unix_now;
use crate::ingest;

pub(in crate::http) async fn missing_paths(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<MissingPathsResponse>, ApiError> {
    let push = may_push(&app, &headers, &name).await?;
    let limits = body_limits(&app.config.limits, JSON_BYTES);
    let declared = declared_length(&headers, limits)?;
    let _room = app.budgets.body(declared.unwrap_or(JSON_BYTES)).await?;
    let body = collect(body, limits).await?;
    let request: MissingPathsRequest = serde_json::from_slice(&body)
        .map_err(|error| ApiError::bad_request(format!("the question for missing paths does not parse: {error}")))?;
    if request.paths.len() > PATHS_PER_QUERY as usize {
        let message = format!("{} paths in one question; at most {PATHS_PER_QUERY} are taken", request.paths.len());
        return Err(ApiError::limit(message));
    }
    Ok(Json(ingest::missing_paths(&app.ingest, &push, &request, unix_now()).await?))
}
