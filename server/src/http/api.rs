//! The push protocol and what operators ask, below `/api/v1` (and the two health checks).

pub(super) mod audit;
pub(super) mod cache_info;
pub(super) mod cache_paths;
pub(super) mod caches;
pub(super) mod chunks;
pub(super) mod collection;
pub(super) mod description;
pub(super) mod health;
pub(super) mod missing_chunks;
pub(super) mod missing_paths;
pub(super) mod paths;
pub(super) mod pins;
pub(super) mod push_session;
pub(super) mod tokens;
pub(super) mod verify_paths;
pub(super) mod whoami;

use axum::body::Body;
use axum::http::HeaderMap;
use serde::de::DeserializeOwned;

use super::caller::Caller;
use super::error::ApiError;
use super::json::{self, Detail};
use crate::admission::Hold;
use crate::app::App;

/// The largest JSON body of a commit or a question.
const JSON_BYTES: u64 = 8 * 1024 * 1024;
/// The largest body of what an operator asks.
const SMALL_JSON_BYTES: u64 = 1024 * 1024;
/// Paths in one question.
const PATHS_PER_QUERY: u32 = 4096;
/// Chunk names in one question.
const NAMES_PER_REQUEST: u32 = 8192;
/// Paths in one commit.
const PATHS_PER_REQUEST: u32 = 256;

/// The longest store path that is read: the longest store directory, hash and name.
const STORE_PATH_BYTES: usize = 1_280;

/// Refuses texts for store paths that no store path is as long as: they would come back in the
/// answer.
fn check_lengths<'a>(mut store_paths: impl Iterator<Item = &'a String>) -> Result<(), ApiError> {
    match store_paths.find(|path| path.len() > STORE_PATH_BYTES) {
        None => Ok(()),
        Some(path) => {
            let message = format!(
                "a store path of {} bytes; at most {STORE_PATH_BYTES} are taken",
                path.len()
            );
            Err(ApiError::limit(message))
        }
    }
}

/// Refuses more paths than one request may have, and texts that are too long for store paths.
/// `what` says what they are for.
fn check_paths<'a>(
    what: &str,
    store_paths: impl ExactSizeIterator<Item = &'a String>,
) -> Result<(), ApiError> {
    let count = store_paths.len();
    if count > PATHS_PER_REQUEST as usize {
        return Err(ApiError::limit(format!(
            "{count} paths {what}; at most {PATHS_PER_REQUEST} are taken"
        )));
    }
    check_lengths(store_paths)
}

/// Reads what an operator asks, and the memory that it takes.
async fn json_body<T: DeserializeOwned>(
    app: &App,
    caller: &Caller,
    headers: &HeaderMap,
    body: Body,
    what: &str,
) -> Result<(T, Hold), ApiError> {
    json::read(app, &caller.client(), headers, body, (SMALL_JSON_BYTES, what, Detail::Place)).await
}
