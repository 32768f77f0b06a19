//! `POST /api/v1/caches/{cache}/paths`: verify paths and make them visible, one answer line each.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use snowbank_core::wire::{CommitLine, CommitRequest, PathCommit};

use super::super::access::may_push;
use super::super::body::{collect, declared_length};
use super::super::caller::{AuditDetail, Caller};
use super::super::error::ApiError;
use super::super::extract::Path;
use super::super::ndjson::Lines;
use super::{JSON_BYTES, PATHS_PER_REQUEST, body_limits};
use crate::admin::check_keep;
use crate::app::App;
use crate::clock::unix_now;
use crate::ingest::commit;

/// The text, what it parses to, and the manifests decoded from it.
const COPIES: u64 = 3;

pub(in crate::http) async fn paths(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let push = may_push(&app, &headers, &name).await?;
    app.free_space.check(0).await?;
    let limits = body_limits(&app.config.limits, JSON_BYTES);
    let declared = declared_length(&headers, limits)?;
    let room = app.budgets.body(declared.unwrap_or(JSON_BYTES) * COPIES).await?;
    let body = collect(body, limits).await?;
    let request: CommitRequest = serde_json::from_slice(&body)
        .map_err(|error| ApiError::bad_request(format!("the commit does not parse: {error}")))?;
    drop(body);
    if request.paths.len() > PATHS_PER_REQUEST as usize {
        let message = format!("{} paths in one commit; at most {PATHS_PER_REQUEST} are taken", request.paths.len());
        return Err(ApiError::limit(message));
    }
    check_keep(request.pin.as_ref().and_then(|pin| pin.keep))?;
    let place = app.budgets.commit(&push.subject).await?;
    let detail = detail(&request);
    let lines = Lines::begin(|lines| async move {
        commit(&app.ingest, &push, &caller.actor, request, unix_now, &lines).await;
        drop((room, place));
    });
    let mut response = lines.response(CommitLine::Heartbeat);
    response.extensions_mut().insert(detail);
    Ok(response)
}

/// What the audit log says of it. What became of each path is in its receipt.
fn detail(request: &CommitRequest) -> AuditDetail {
    const NAMED: usize = 3;
    let name = |path: &PathCommit| path.store_path.rsplit('/').next().unwrap_or_default().chars().take(250).collect();
    let names: Vec<String> = request.paths.iter().take(NAMED).map(name).collect();
    let more = if request.paths.len() > NAMED { " …" } else { "" };
    AuditDetail(format!("{} path(s): {}{more}", request.paths.len(), names.join(" ")))
}
