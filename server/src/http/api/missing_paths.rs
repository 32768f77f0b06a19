//! `POST /api/v1/caches/{cache}/missing-paths`: which of these paths does the cache lack?

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use snowbank_core::wire::MissingPathsRequest;

use super::super::access::may_push;
use super::super::answer::{self, Answers};
use super::super::error::ApiError;
use super::super::extract::Path;
use super::super::json::{self, Detail};
use super::super::origin::Remote;
use super::{JSON_BYTES, PATHS_PER_QUERY, check_lengths};
use crate::admission::Client;
use crate::app::App;
use crate::clock::unix_now;
use crate::ingest;

/// What the answer has for a path at most besides its text: a receipt with some signatures.
const ANSWER_BYTES: u64 = 1024;

pub(in crate::http) async fn missing_paths(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Remote(address): Remote,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let push = may_push(&app, &headers, &name).await?;
    let client = Client::new(&push.subject, &address);
    let what = (JSON_BYTES, "question for missing paths", Detail::All);
    let (request, _held): (MissingPathsRequest, _) =
        json::read(&app, &client, &headers, body, what).await?;
    if request.paths.len() > PATHS_PER_QUERY as usize {
        let message = format!(
            "{} paths in one question; at most {PATHS_PER_QUERY} are taken",
            request.paths.len()
        );
        return Err(ApiError::limit(message));
    }
    check_lengths(request.paths.iter().map(|query| &query.store_path))?;
    let texts: u64 = request.paths.iter().map(|query| query.store_path.len() as u64).sum();
    let answers = Answers::new(&app.budgets.answers, &client);
    let room = answers.room_for_answer(texts + ANSWER_BYTES * request.paths.len() as u64).await?;
    let log = app.pushes.request(&push.subject, &address, push.target.cache.name.as_str());
    let missing = ingest::missing_paths(&app.ingest, &push, &request, unix_now()).await?;
    if !request.dry_run {
        log.asked(&missing);
    }
    answer::json(&missing, room)
}
