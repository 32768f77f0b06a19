//! `POST /api/v1/caches/{cache}/verify-paths`: reads back the paths that the cache has, one answer
//! line each.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use snowbank_core::wire::{CommitLine, MissingPathsRequest};

use super::super::access::may_push;
use super::super::answer::Answers;
use super::super::caller::PushCaller;
use super::super::error::ApiError;
use super::super::extract::Path;
use super::super::json::{self, Detail};
use super::super::ndjson::Lines;
use super::{JSON_BYTES, check_paths};
use crate::admission::Client;
use crate::app::App;
use crate::clock::unix_now;
use crate::integrity::verify_present::ReadBack;

pub(in crate::http) async fn verify_paths(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    PushCaller(caller): PushCaller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let push = may_push(&app, &headers, &name).await?;
    let client = Client::new(&push.subject, &caller.actor.remote);
    let what = (JSON_BYTES, "question for a read-back", Detail::All);
    let (request, held): (MissingPathsRequest, _) =
        json::read(&app, &client, &headers, body, what).await?;
    check_paths("to read back", request.paths.iter().map(|query| &query.store_path))?;
    // As much work as a commit, and counted as one.
    let place = app.budgets.commit(&client).await?;
    let answers = Answers::new(&app.budgets.answers, &client);
    let patience = Duration::from_secs(app.config.limits.answer_timeout.get());
    let lines = Lines::begin(
        answers,
        patience,
        |_| {},
        |lines| async move {
            let read_back = ReadBack {
                ingest: &app.ingest,
                lookups: &app.lookups,
                nars: &app.nars,
                inspector: &app.inspector,
                forget: &|withdrawn| app.forget(withdrawn),
            };
            let request = MissingPathsRequest { dry_run: true, ..request };
            // Without its end the answer was cut off, and the client asks again.
            if let Err(error) = Box::pin(read_back.verify(&push, &request, unix_now, &lines)).await
            {
                tracing::error!(%error, "paths could not be read back");
            }
            drop((held, place));
        },
    );
    Ok(lines.response(&CommitLine::Heartbeat))
}
