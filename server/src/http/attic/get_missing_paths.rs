//! `POST /_api/v1/get-missing-paths`: which of these paths does the cache not show? One that waits
//! for a reference is missing.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use snowbank_core::attic::{MissingPathsAnswer, MissingPathsQuestion};
use snowbank_core::store_path::StorePathHash;

use super::super::access::may_push;
use super::super::caller::PushCaller;
use super::super::error::ApiError;
use super::super::json::{self, Detail};
use crate::app::App;
use crate::auth::AuthError;
use crate::clock::unix_now;
use crate::ingest;

/// The largest question. A client asks for a whole closure at once.
const JSON_BYTES: u64 = 8 << 20;
/// Hash parts that are looked up at once.
const HASHES_PER_LOOKUP: usize = 4096;

pub(in crate::http) async fn get_missing_paths(
    State(app): State<Arc<App>>,
    PushCaller(caller): PushCaller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    caller.token.as_ref().ok_or(AuthError::Missing)?;
    let what = (JSON_BYTES, "question for missing paths", Detail::All);
    let (question, _held): (MissingPathsQuestion, _) =
        json::read(&app, &caller.client(), &headers, body, what).await?;
    let push = may_push(&app, &headers, &question.cache).await?;
    let parse = |text: &String| {
        StorePathHash::from_chars(text.as_bytes()).ok_or_else(|| {
            ApiError::bad_request("`store_path_hashes` has a text that is no hash part of a path")
        })
    };
    let hashes: Vec<StorePathHash> =
        question.store_path_hashes.iter().map(parse).collect::<Result<_, _>>()?;
    let mut missing_paths = Vec::new();
    for some in hashes.chunks(HASHES_PER_LOOKUP) {
        let missing = ingest::missing_hashes(&app.ingest, &push, some, unix_now()).await?;
        missing_paths.extend(missing.iter().map(ToString::to_string));
    }
    Ok(Json(MissingPathsAnswer { missing_paths }).into_response())
}
