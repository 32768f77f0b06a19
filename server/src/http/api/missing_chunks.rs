//! `POST /api/v1/caches/{cache}/missing-chunks`: which of these chunks does the cache's domain lack?

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use snowbank_core::chunk::ChunkName;
use snowbank_core::wire::MissingChunksResponse;

use super::super::access::may_push;
use super::super::body::{collect, declared_length};
use super::super::error::ApiError;
use super::super::extract::Path;
use super::{NAMES_PER_REQUEST, body_limits};
use crate::app::App;
use crate::ingest;

const NAME_BYTES: usize = 32;

pub(in crate::http) async fn missing_chunks(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<MissingChunksResponse>, ApiError> {
    let push = may_push(&app, &headers, &name).await?;
    let limits = body_limits(&app.config.limits, u64::from(NAMES_PER_REQUEST) * NAME_BYTES as u64);
    declared_length(&headers, limits)?;
    let _room = app.budgets.body(limits.bytes).await?;
    let body = collect(body, limits).await?;
    let (names, rest) = body.as_chunks::<NAME_BYTES>();
    if !rest.is_empty() {
        let message = format!("{} bytes are no list of chunk names, which have {NAME_BYTES} bytes each", body.len());
        return Err(ApiError::bad_request(message));
    }
    let names: Vec<ChunkName> = names.iter().map(|name| ChunkName::from_bytes(*name)).collect();
    let missing = ingest::missing_chunks(&app.ingest, &push, &names).await?;
    Ok(Json(MissingChunksResponse { missing }))
}
