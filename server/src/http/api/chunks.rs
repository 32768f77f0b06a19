//! `POST /api/v1/caches/{cache}/chunks`: a bundle of chunks to store.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::{Extension, Json};
use snowbank_core::wire::StoredChunks;

use super::super::access::may_push;
use super::super::body::{BodyLimits, declared_length, limited};
use super::super::caller::AuditDetail;
use super::super::error::ApiError;
use super::super::extract::Path;
use super::super::origin::Remote;
use crate::admission::Client;
use crate::app::App;
use crate::clock::unix_now;
use crate::ingest::{Bundle, receive_bundle};

pub(in crate::http) async fn chunks(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Remote(address): Remote,
    headers: HeaderMap,
    body: Body,
) -> Result<(Extension<AuditDetail>, Json<StoredChunks>), ApiError> {
    let push = may_push(&app, &headers, &name).await?;
    let limits = BodyLimits::new(&app.config.limits, app.bundle_bytes());
    let declared = declared_length(&headers, limits)?;
    app.free_space.check(declared.unwrap_or(limits.bytes)).await?;
    let client = Client::new(&push.subject, &address);
    let hold = app.budgets.bodies.open(&client);
    let body = limited(body, limits, hold.revoked());
    let bundle = Bundle { client, body, hold };
    let log = app.pushes.request(&push.subject, &address, push.target.cache.name.as_str());
    let stored = receive_bundle(&app.ingest, &push.target.cache, bundle, unix_now()).await?;
    let StoredChunks { stored: chunks, known, stored_bytes } = stored;
    log.stored(stored_bytes);
    let detail = format!("{chunks} chunk(s) of {stored_bytes} bytes stored, {known} there already");
    Ok((Extension(AuditDetail(detail)), Json(stored)))
}
