//! The push protocol and what operators ask, below `/api/v1` (and the two health checks).

pub(super) mod audit;
pub(super) mod cache_info;
pub(super) mod cache_paths;
pub(super) mod caches;
pub(super) mod chunks;
pub(super) mod collection;
pub(super) mod health;
pub(super) mod missing_chunks;
pub(super) mod missing_paths;
pub(super) mod paths;
pub(super) mod pins;
pub(super) mod tokens;
pub(super) mod whoami;

use std::time::Duration;

use axum::body::Body;
use axum::http::HeaderMap;
use serde::de::DeserializeOwned;

use super::body::{BodyLimits, collect, declared_length};
use super::error::ApiError;
use crate::app::App;
use crate::config::LimitsConfig;

/// The largest JSON body of a commit or a question.
const JSON_BYTES: u64 = 16 * 1024 * 1024;
/// The largest body of what an operator asks.
const SMALL_JSON_BYTES: u64 = 1024 * 1024;
/// Paths in one question.
const PATHS_PER_QUERY: u32 = 4096;
/// Chunk names in one question.
const NAMES_PER_REQUEST: u32 = 8192;
/// Paths in one commit.
const PATHS_PER_REQUEST: u32 = 256;

fn body_limits(limits: &LimitsConfig, bytes: u64) -> BodyLimits {
    BodyLimits {
        bytes,
        silence: Duration::from_secs(limits.body_timeout.get()),
        least_rate: limits.min_body_rate.bytes(),
    }
}

/// Reads what an operator asks.
async fn json_body<T: DeserializeOwned>(app: &App, headers: &HeaderMap, body: Body, what: &str) -> Result<T, ApiError> {
    let limits = body_limits(&app.config.limits, SMALL_JSON_BYTES);
    let declared = declared_length(headers, limits)?;
    let _room = app.budgets.body(declared.unwrap_or(SMALL_JSON_BYTES)).await?;
    let body = collect(body, limits).await?;
    // What serde says may repeat a value, and a value may be a secret: only the place is told.
    serde_json::from_slice(&body).map_err(|error| {
        let place = format!("line {}, column {}", error.line(), error.column());
        ApiError::bad_request(format!("the {what} does not parse at {place}; docs/protocol.md has its form"))
    })
}
