//! `POST /api/v1/caches/{cache}/chunks`: a bundle of chunks to store.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::{Extension, Json};
use snowbank_core::wire::StoredChunks;

use super::super::access::may_push;
use super::super::body::{declared_length, limited};
use super::super::caller::AuditDetail;
use super::super::error::ApiError;
use super::super::extract::Path;
use super::body_limits;
use crate::app::App;
use crate::clock::unix_now;
use crate::ingest::receive_bundle;

/// A bundle is held as frames, and once more as the pack that is written from them.
const COPIES: u64 = 2;

pub(in crate::http) async fn chunks(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<(Extension<AuditDetail>, Json<StoredChunks>), ApiError> {
    let push = may_push(&app, &headers, &name).await?;
    let limits = body_limits(&app.config.limits, app.config.limits.bundle_size.bytes());
    let declared = declared_length(&headers, limits)?;
    app.free_space.check(declared.unwrap_or(limits.bytes)).await?;
    let _room = app.budgets.body(declared.unwrap_or(limits.bytes) * COPIES).await?;
    let stored = receive_bundle(&app.ingest, &push.target.cache, limited(body, limits), unix_now()).await?;
    let StoredChunks { stored: chunks, known, stored_bytes } = stored;
    let detail = format!("{chunks} chunk(s) of {stored_bytes} bytes stored, {known} there already");
    Ok((Extension(AuditDetail(detail)), Json(stored)))
}
