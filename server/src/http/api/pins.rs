//! `/api/v1/caches/{cache}/pins`: names for paths that are to stay. Whoever may read the cache sees
//! them, whoever may push to it changes them.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use snowbank_core::pin_name::PinName;
use snowbank_core::wire::admin::AfterQuery;
use snowbank_core::wire::admin::pins::{HistoryQuery, PinDetails, RollbackPin, SetPin};

use super::super::access::{may_push, may_read};
use super::super::caller::{Caller, PushCaller};
use super::super::error::ApiError;
use super::super::extract::{Path, Query};
use super::super::listing::Listing;
use super::json_body;
use crate::admin::{self, AdminError};
use crate::app::App;
use crate::clock::unix_now;

type Answer = Result<Json<PinDetails>, ApiError>;

pub(in crate::http) async fn list(
    State(app): State<Arc<App>>,
    Path(cache): Path<String>,
    Query(query): Query<AfterQuery>,
    listing: Listing,
) -> Result<Response, ApiError> {
    let pull = may_read(&app, listing.caller.token.as_ref(), &cache).await?;
    let mut page =
        admin::list_pins(&app.db, &pull.target.cache, query.after.as_deref(), unix_now()).await?;
    if !pull.sees_subjects {
        page.pins.iter_mut().for_each(|pin| pin.created_by = None);
    }
    listing.answer(&page)
}

pub(in crate::http) async fn show(
    State(app): State<Arc<App>>,
    Path((cache, name)): Path<(String, String)>,
    Query(query): Query<HistoryQuery>,
    listing: Listing,
) -> Result<Response, ApiError> {
    let pull = may_read(&app, listing.caller.token.as_ref(), &cache).await?;
    let mut details =
        admin::show_pin(&app.db, &pull.target.cache, &existing(&name)?, &query, unix_now()).await?;
    if !pull.sees_subjects {
        details.pin.created_by = None;
        details.history.iter_mut().for_each(|one| one.created_by = None);
    }
    listing.answer(&details)
}

pub(in crate::http) async fn set(
    State(app): State<Arc<App>>,
    Path((cache, name)): Path<(String, String)>,
    PushCaller(caller): PushCaller,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let push = may_push(&app, &headers, &cache).await?;
    let name: PinName = name.parse().map_err(|error| ApiError::bad_request(format!("{error}")))?;
    let (request, _held): (SetPin, _) =
        json_body(&app, &caller, &headers, body, "path to pin").await?;
    let cache = &push.target.cache;
    let max_pins = app.config.limits.pins_per_cache;
    Ok(Json(
        admin::set_pin(&app.db, &caller.actor, cache, &name, &request, max_pins, unix_now())
            .await?,
    ))
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
    let (request, _held): (RollbackPin, _) =
        json_body(&app, &caller, &headers, body, "generation to go back to").await?;
    let cache = &push.target.cache;
    Ok(Json(admin::rollback_pin(&app.db, &caller.actor, cache, &name, &request, unix_now()).await?))
}

/// A text that is no pin's name is a pin that does not exist.
pub(in crate::http) fn existing(name: &str) -> Result<PinName, ApiError> {
    Ok(name.parse().map_err(|_| AdminError::NoPin(name.chars().take(100).collect()))?)
}
