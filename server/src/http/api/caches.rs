//! `/api/v1/caches`: creating, listing, configuring, renaming, destroying, restoring and purging
//! caches, and rotating their keys.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use snowbank_core::wire::admin::{
    AfterQuery, CacheDetails, CacheSettings, CreateCache, PurgedCache, RenameCache, RotateKey,
};

use super::super::access::{may_admin, may_configure, may_create, may_see_settings, parse_cache};
use super::super::caller::Caller;
use super::super::error::ApiError;
use super::super::extract::{Path, Query};
use super::super::listing::Listing;
use super::json_body;
use crate::admin;
use crate::app::App;
use crate::auth::{self, AuthError, Permission};
use crate::clock::unix_now;

/// For how long a purge removes rows before it leaves the rest to the servers.
const PURGE_PATIENCE: Duration = Duration::from_secs(15);

type Answer = Result<Json<CacheDetails>, ApiError>;

/// What a cache shares with others is for those who manage it, since it says something of the
/// others.
fn answer(details: CacheDetails, caller: &Caller) -> Json<CacheDetails> {
    let url = caller.base_url.as_ref().map(|base| format!("{base}/{}", details.name));
    let name = details.name.parse();
    let manages = name.is_ok_and(|name| {
        auth::authorize_name(&name, caller.token.as_ref(), Permission::Configure).is_ok()
    });
    Json(CacheDetails { url, usage: details.usage.filter(|_| manages), ..details })
}

pub(in crate::http) async fn list(
    State(app): State<Arc<App>>,
    Query(query): Query<AfterQuery>,
    listing: Listing,
) -> Result<Response, ApiError> {
    let caller = &listing.caller;
    let token = caller.token.as_ref().ok_or(AuthError::Missing)?;
    let may_see = |cache: &crate::db::caches::Cache| {
        let permissions = token.permissions(&cache.name);
        let manages = token.grants.admin || permissions.contains(&Permission::Configure);
        // What was destroyed is there for those only who may bring it back.
        manages || (cache.destroyed.is_none() && (cache.public || !permissions.is_empty()))
    };
    let mut page = admin::list_caches(&app.admin, query.after.as_deref(), may_see).await?;
    page.caches = page.caches.into_iter().map(|details| answer(details, caller).0).collect();
    listing.answer(&page)
}

pub(in crate::http) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<CacheDetails>), ApiError> {
    let token = caller.token.as_ref().ok_or(AuthError::Missing)?;
    let (request, _held): (CreateCache, _) =
        json_body(&app, &caller, &headers, body, "cache to create").await?;
    let name = parse_cache(&request.name, Some(token))?;
    may_create(&caller, &name)?;
    let details = admin::create_cache(&app.admin, &caller.actor, &request, unix_now()).await?;
    Ok((StatusCode::CREATED, answer(details, &caller)))
}

pub(in crate::http) async fn details(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    listing: Listing,
) -> Answer {
    let name = may_see_settings(&app, &listing.caller, &name).await?;
    Ok(answer(admin::show_cache(&app.admin, &name).await?, &listing.caller))
}

pub(in crate::http) async fn configure(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let name = may_configure(&app, &caller, &name).await?.target.cache.name.clone();
    let (settings, _held): (CacheSettings, _) =
        json_body(&app, &caller, &headers, body, "settings").await?;
    Ok(answer(
        admin::configure_cache(&app.admin, &caller.actor, &name, &settings, unix_now()).await?,
        &caller,
    ))
}

pub(in crate::http) async fn rename(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let name = may_configure(&app, &caller, &name).await?.target.cache.name.clone();
    let (request, _held): (RenameCache, _) =
        json_body(&app, &caller, &headers, body, "new name").await?;
    let new = request.name.parse().map_err(|error| ApiError::bad_request(format!("{error}")))?;
    // Whoever may use a name may take it: the cache is created there as far as its tokens can tell.
    may_create(&caller, &new)?;
    Ok(answer(
        admin::rename_cache(&app.admin, &caller.actor, &name, &new, unix_now()).await?,
        &caller,
    ))
}

pub(in crate::http) async fn destroy(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    caller: Caller,
) -> Answer {
    let name = may_configure(&app, &caller, &name).await?.target.cache.name.clone();
    Ok(answer(admin::destroy_cache(&app.admin, &caller.actor, &name, unix_now()).await?, &caller))
}

pub(in crate::http) async fn restore(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    caller: Caller,
) -> Answer {
    let name = parse_cache(&name, caller.token.as_ref())?;
    auth::authorize_name(&name, caller.token.as_ref(), Permission::Configure)?;
    Ok(answer(admin::restore_cache(&app.admin, &caller.actor, &name, unix_now()).await?, &caller))
}

/// For administrators alone: whoever may configure may destroy, and that can be undone.
pub(in crate::http) async fn purge(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    caller: Caller,
) -> Result<Json<PurgedCache>, ApiError> {
    may_admin(&caller)?;
    let (name, grace) = (parse_cache(&name, caller.token.as_ref())?, app.config.gc.grace);
    let purged =
        admin::purge_cache(&app.admin, &caller.actor, &name, grace, PURGE_PATIENCE, unix_now());
    Ok(Json(purged.await?))
}

pub(in crate::http) async fn rotate_key(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let name = may_configure(&app, &caller, &name).await?.target.cache.name.clone();
    let (request, _held): (RotateKey, _) =
        json_body(&app, &caller, &headers, body, "key rotation").await?;
    Ok(answer(
        admin::rotate_signing_key(&app.admin, &caller.actor, &name, &request, unix_now()).await?,
        &caller,
    ))
}
