//! `/_api/v1/cache-config/{cache}`: a cache's settings, by the functions of this server's own API.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use snowbank_core::attic::{CacheConfig, Keypair, NewCache, RetentionPeriod, Right};
use snowbank_core::signing::SecretKey;
use snowbank_core::units::{Limit, Seconds};
use snowbank_core::wire::admin::{CacheKey, CacheSettings, CreateCache, RotateKey, SecretText};
use snowbank_core::wire::code;

use super::super::access::{may_change, may_create, may_see_settings, parse_cache};
use super::super::caller::Caller;
use super::super::error::ApiError;
use super::super::extract::Path;
use super::super::json::{self, Detail};
use crate::admin::{self, AdminError};
use crate::app::App;
use crate::auth::AuthError;
use crate::clock::unix_now;

/// The largest body.
const JSON_BYTES: u64 = 64 << 10;
/// For how long the old key goes on signing when a cache gets another: longer than Nix keeps
/// signatures.
const OVERLAP: Seconds = Seconds::new(45 * 86_400);

pub(in crate::http) async fn show(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    caller: Caller,
) -> Result<Json<CacheConfig>, ApiError> {
    let name = may_see_settings(&app, &caller, &name).await?;
    let details = admin::show_cache(&app.admin, &name).await?;
    let base = caller.base_url.as_ref();
    Ok(Json(CacheConfig {
        keypair: None,
        substituter_endpoint: base.map(|base| format!("{base}/{name}")),
        api_endpoint: base.map(|base| format!("{base}/")),
        public_key: newest_key(&details.keys),
        is_public: Some(details.public),
        store_dir: Some(details.store_dir),
        // attic's client reads 32 bits of both.
        priority: Some(i64::from(details.priority).min(i64::from(i32::MAX))),
        upstream_cache_key_names: Some(details.upstream_keys),
        retention_period: Some(match details.retention {
            Limit::Default => RetentionPeriod::Global,
            Limit::None => RetentionPeriod::Period(0),
            Limit::Some(time) => RetentionPeriod::Period(time.get().min(u64::from(u32::MAX))),
        }),
    }))
}

/// The one key that attic's client shows: the newest of those that sign without an end.
fn newest_key(keys: &[CacheKey]) -> Option<String> {
    let lasting = keys.iter().rev().find(|key| key.retired.is_none());
    lasting.or_else(|| keys.last()).map(|key| key.public_key.clone())
}

pub(in crate::http) async fn create(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, ApiError> {
    let token = caller.token.as_ref().ok_or(AuthError::Missing)?;
    may_create(&caller, &parse_cache(&name, Some(token))?)?;
    let what = (JSON_BYTES, "cache to create", Detail::Place);
    let (new, _held): (NewCache, _) =
        json::read(&app, &caller.client(), &headers, body, what).await?;
    let request = CreateCache {
        name,
        isolated: false,
        store_dir: Some(new.store_dir),
        signing_key: signing_key(new.keypair)?,
        settings: CacheSettings {
            public: Some(new.is_public),
            priority: Some(priority(new.priority)?),
            upstream_keys: Some(new.upstream_cache_key_names),
            ..CacheSettings::default()
        },
    };
    match admin::create_cache(&app.admin, &caller.actor, &request, unix_now()).await {
        Ok(_) => Ok(StatusCode::OK),
        Err(error @ (AdminError::NameTaken(_) | AdminError::NameDestroyed(_))) => {
            Err(ApiError::new(StatusCode::BAD_REQUEST, code::CONFLICT, error.to_string()))
        }
        Err(error) => Err(error.into()),
    }
}

pub(in crate::http) async fn configure(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, ApiError> {
    let target = may_change(&app, &caller, &name, Right::Configure).await?.target;
    let what = (JSON_BYTES, "settings", Detail::Place);
    let (config, _held): (CacheConfig, _) =
        json::read(&app, &caller.client(), &headers, body, what).await?;
    if config.retention_period.is_some() {
        may_change(&app, &caller, &name, Right::Retention).await?;
    }
    let cache = &target.cache;
    if config.store_dir.as_ref().is_some_and(|dir| dir != cache.store_dir.as_str()) {
        let message = format!(
            "`{name}` has the store directory {}, which cannot be changed; make another cache",
            cache.store_dir
        );
        return Err(ApiError::bad_request(message));
    }
    if matches!(config.retention_period, Some(RetentionPeriod::Period(time)) if time > u64::from(u32::MAX))
    {
        return Err(ApiError::bad_request(
            "`retention_period` is longer than 136 years; 0 is for ever",
        ));
    }
    let settings = CacheSettings {
        public: config.is_public,
        priority: config.priority.map(priority).transpose()?,
        upstream_keys: config.upstream_cache_key_names,
        retention: config.retention_period.map(|period| match period {
            RetentionPeriod::Global => Limit::Default,
            RetentionPeriod::Period(0) => Limit::None,
            RetentionPeriod::Period(seconds) => Limit::Some(Seconds::new(seconds)),
        }),
        ..CacheSettings::default()
    };
    let rotation = match config.keypair {
        Some(keypair) => Some(RotateKey { overlap: OVERLAP, signing_key: signing_key(keypair)? }),
        None => None,
    };
    if settings.is_empty() && rotation.is_none() && config.store_dir.is_none() {
        return Err(ApiError::bad_request("the body names no setting that can be changed"));
    }
    let (actor, now) = (&caller.actor, unix_now());
    // A key that cannot be taken leaves the settings as they are.
    if let Some(rotation) = rotation {
        admin::rotate_signing_key(&app.admin, actor, &cache.name, &rotation, now).await?;
    }
    if !settings.is_empty() {
        admin::configure_cache(&app.admin, actor, &cache.name, &settings, now).await?;
    }
    Ok(StatusCode::OK)
}

pub(in crate::http) async fn destroy(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    caller: Caller,
) -> Result<StatusCode, ApiError> {
    let target = may_change(&app, &caller, &name, Right::Destroy).await?.target;
    admin::destroy_cache(&app.admin, &caller.actor, &target.cache.name, unix_now()).await?;
    Ok(StatusCode::OK)
}

/// The key that a client brings, if it brings one; looked at before anything is changed.
fn signing_key(keypair: Keypair) -> Result<Option<SecretText>, ApiError> {
    match keypair {
        Keypair::Generate => Ok(None),
        Keypair::Keypair(text) => match SecretKey::parse(text.0.trim()) {
            Ok(_) => Ok(Some(text)),
            Err(error) => Err(ApiError::bad_request(format!("`keypair`: {error}"))),
        },
    }
}

fn priority(priority: i64) -> Result<u32, ApiError> {
    u32::try_from(priority).map_err(|_| {
        ApiError::bad_request(format!("the priority {priority} is below 0 or too high"))
    })
}
