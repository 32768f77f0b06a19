//! `/api/v1/caches/{cache}/pins`: names for paths that are to stay. Whoever may read the cache sees them, whoever may push to it
//! changes them.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use snowbank_core::pin_name::PinName;
use snowbank_core::wire::admin::pins::{PinDetails, PinList, RollbackPin, SetPin};

use super::super::access::{may_pull, may_push};
use super::super::caller::Caller;
use super::super::error::ApiError;
use super::super::extract::Path;
use super::json_body;
use crate::admin::{self, AdminError};
use crate::app::App;
use crate::clock::unix_now;

type Answer = Result<Json<PinDetails>, ApiError>;

pub(in crate::http) async fn list(
    State(app): State<Arc<App>>,
    Path(cache): Path<String>,
    headers: HeaderMap,
) -> Result<Json<PinList>, ApiError> {
    let pull = may_pull(&app, &headers, &cache).await?;
    Ok(Json(admin::list_pins(&app.db, &pull.target.cache, unix_now()).await?))
}

pub(in crate::http) async fn show(
    State(app): State<Arc<App>>,
    Path((cache, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Answer {
    let pull = may_pull(&app, &headers, &cache).await?;
    Ok(Json(admin::show_pin(&app.db, &pull.target.cache, &existing(&name)?, unix_now()).await?))
}

pub(in crate::http) async fn set(
    State(app): State<Arc<App>>,
    Path((cache, name)): Path<(String, String)>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let push = may_push(&app, &headers, &cache).await?;
    let name: PinName = name.parse().map_err(|error| ApiError::bad_request(format!("{error}")))?;
    let request: SetPin = json_body(&app, &headers, body, "path to pin").await?;
    let cache = &push.target.cache;
    Ok(Json(admin::set_pin(&app.db, &caller.actor, cache, &name, &request, unix_now()).await?))
}

pub(in crate::http) async fn remove(
    State(app): State<Arc<App>>,
    Path((cache, name)): Path<(String, String)>,
    caller: Caller,
    headers: HeaderMap,
) -> Answer {
    let push = may_push(&app, &headers, &cache).await?;
    let cache = &push.target.cache;
    Ok(Json(admin::remove_pin(&app.db, &caller.actor, cache, &existing(&name)?, unix_now()).await?))
}

pub(in crate::http) async fn rollback(
    State(app): State<Arc<App>>,
    Path((cache, name)): Path<(String, String)>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let push = may_push(&app, &headers, &cache).await?;
    let name = existing(&name)?;
    let request: RollbackPin = json_body(&app, &headers, body, "generation to go back to").await?;
    let cache = &push.target.cache;
    Ok(Json(admin::rollback_pin(&app.db, &caller.actor, cache, &name, &request, unix_now()).await?))
}

/// A text that is no pin's name is a pin that does not exist.
pub(in crate::http) fn existing(name: &str) -> Result<PinName, ApiError> {
    Ok(name.parse().map_err(|_| AdminError::NoPin(name.chars().take(100).collect()))?)
}
