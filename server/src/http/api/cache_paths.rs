//! `/api/v1/caches/{cache}/paths` and beside it: what a cache holds, deleting from it, and copying
//! into it.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use snowbank_core::store_path::StorePathHash;
use snowbank_core::wire::admin::withdrawn::WithdrawnQuery;
use snowbank_core::wire::admin::{
    CopiedPaths, CopyPaths, DeletePaths, DeletedPaths, PathQueryText,
};

use super::super::access::{may_delete, may_pull, may_push, may_read};
use super::super::caller::Caller;
use super::super::error::ApiError;
use super::super::extract::{Path, Query};
use super::super::listing::Listing;
use super::json_body;
use crate::admin::{self, AdminError};
use crate::app::App;
use crate::clock::unix_now;
use crate::ingest;

/// Paths in one request to copy.
const MAX_COPIED: usize = 10_000;

pub(in crate::http) async fn list(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Query(query): Query<PathQueryText>,
    listing: Listing,
) -> Result<Response, ApiError> {
    let pull = may_read(&app, listing.caller.token.as_ref(), &name).await?;
    let page =
        admin::list_paths(&app.db, &pull.target.cache, &query, pull.sees_subjects, unix_now())
            .await?;
    listing.answer(&page)
}

pub(in crate::http) async fn show(
    State(app): State<Arc<App>>,
    Path((name, path)): Path<(String, String)>,
    listing: Listing,
) -> Result<Response, ApiError> {
    let pull = may_read(&app, listing.caller.token.as_ref(), &name).await?;
    let details =
        admin::show_path(&app.db, &pull.target.cache, &path, pull.sees_subjects, unix_now())
            .await?;
    listing.answer(&details)
}

pub(in crate::http) async fn withdrawn(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Query(query): Query<WithdrawnQuery>,
    listing: Listing,
) -> Result<Response, ApiError> {
    let pull = may_read(&app, listing.caller.token.as_ref(), &name).await?;
    let page = admin::list_withdrawn(&app.db, &pull.target.cache, &query).await?;
    listing.answer(&page)
}

pub(in crate::http) async fn delete(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<DeletedPaths>, ApiError> {
    let delete = may_delete(&app, &caller, &name).await?;
    let (request, _held): (DeletePaths, _) =
        json_body(&app, &caller, &headers, body, "list of paths to delete").await?;
    let _place = app.budgets.closure(&caller.client()).await?;
    let cache = &delete.target.cache;
    Ok(Json(admin::delete_paths(&app.admin, &caller.actor, cache, &request, unix_now()).await?))
}

pub(in crate::http) async fn copy(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<CopiedPaths>, ApiError> {
    let to = may_push(&app, &headers, &name).await?;
    let (request, _held): (CopyPaths, _) =
        json_body(&app, &caller, &headers, body, "list of paths to copy").await?;
    let from = may_pull(&app, &headers, &request.from).await?;
    if request.paths.is_empty() || request.paths.len() > MAX_COPIED {
        return Err(ApiError::limit(format!(
            "name 1 to {MAX_COPIED} paths to copy; their closures come along"
        )));
    }
    let dir = &from.target.cache.store_dir;
    let hash = |path: &String| admin::hash_part(dir, path);
    let roots: Vec<StorePathHash> =
        request.paths.iter().map(hash).collect::<Result<_, AdminError>>()?;
    app.free_space.check(0).await?;
    let _place = app.budgets.closure(&caller.client()).await?;
    let now = unix_now();
    let entry = |copied: &CopiedPaths| {
        caller.actor.copied(&from.target.cache.name, &to.target.cache.name, copied, now)
    };
    Ok(Json(ingest::copy(&app.ingest, &from, &to, &roots, &entry, now).await?))
}
