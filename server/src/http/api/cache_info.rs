//! `GET /api/v1/caches/{cache}`: what a client must know before it pushes or substitutes.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use snowbank_core::bundle::MAX_BUNDLE_ENTRIES;
use snowbank_core::manifest::MAX_MANIFEST_BYTES;
use snowbank_core::wire::{CacheInfo, Limits};

use super::super::access::may_see;
use super::super::caller::PushCaller;
use super::super::error::ApiError;
use super::super::extract::Path;
use super::{NAMES_PER_REQUEST, PATHS_PER_QUERY, PATHS_PER_REQUEST};
use crate::app::App;

pub(in crate::http) async fn cache_info(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    PushCaller(caller): PushCaller,
) -> Result<Json<CacheInfo>, ApiError> {
    let (target, permissions) = may_see(&app, &caller, &name).await?;
    let cache = &target.cache;
    Ok(Json(CacheInfo {
        url: caller.base_url.map(|base| format!("{base}/{}", cache.name)),
        retired_keys: target.retired_keys.clone(),
        name: cache.name.to_string(),
        public: cache.public,
        store_dir: cache.store_dir.to_string(),
        public_keys: target.keys.iter().map(|key| key.public().to_string()).collect(),
        priority: u32::try_from(cache.priority).unwrap_or(u32::MAX),
        upstream_keys: cache.upstream_keys.clone(),
        cut: app.cut,
        compression_level: cache.compression_level,
        limits: Limits {
            bundle_bytes: app.bundle_bytes(),
            bundle_entries: u32::try_from(MAX_BUNDLE_ENTRIES).unwrap_or(u32::MAX),
            names_per_request: NAMES_PER_REQUEST,
            paths_per_request: PATHS_PER_REQUEST,
            paths_per_query: PATHS_PER_QUERY,
            manifest_bytes: MAX_MANIFEST_BYTES as u64,
            commit_nar_bytes: app.config.limits.max_nar_size.bytes(),
        },
        permissions: permissions.iter().map(ToString::to_string).collect(),
        server_version: env!("CARGO_PKG_VERSION").to_owned(),
    }))
}
