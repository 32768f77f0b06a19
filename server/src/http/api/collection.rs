//! `POST /api/v1/gc`: a collection, with a line for what it is doing and its report at the end.
//!
//! What refuses it at once is a refusal like any other; what goes wrong later is the last line. A
//! client that goes away ends the collection, as a crash would: the next one goes on where it was.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use snowbank_core::wire::admin::collection::{GcLine, GcRequest};
use tokio::sync::{mpsc, oneshot};

use super::super::access::may_admin;
use super::super::answer::Answers;
use super::super::caller::Caller;
use super::super::error::ApiError;
use super::super::ndjson::Lines;
use super::json_body;
use crate::admin::Actor;
use crate::app::App;
use crate::clock::unix_now;
use crate::gc::GcError;

/// A collection that has not been refused by then has begun.
const PATIENCE: Duration = Duration::from_millis(500);

pub(in crate::http) async fn collect(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    may_admin(&caller)?;
    let (request, _held): (GcRequest, _) =
        json_body(&app, &caller, &headers, body, "collection").await?;
    let (refuse, refused) = oneshot::channel();
    let answers = Answers::new(&app.budgets.answers, &caller.client());
    let patience = Duration::from_secs(app.config.limits.answer_timeout.get());
    let work = |lines| async move { run(&app, &caller.actor, &request, refuse, lines).await };
    let lines = Lines::begin(answers, patience, |_| {}, work);
    match tokio::time::timeout(PATIENCE, refused).await {
        Ok(Ok(error)) => Err(error.into()),
        // It goes on, or is done already.
        Ok(Err(_)) | Err(_) => Ok(lines.response(&GcLine::Progress { text: String::new() })),
    }
}

async fn run(
    app: &App,
    actor: &Actor,
    request: &GcRequest,
    refuse: oneshot::Sender<GcError>,
    lines: mpsc::Sender<GcLine>,
) {
    let mut progress = |text| {
        // To a client that reads slowly, less is said.
        let _ = lines.try_send(GcLine::Progress { text });
    };
    let last = match app.collector.run(request, &unix_now, &mut progress).await {
        Ok(report) => {
            if !request.dry_run {
                app.audit.note(actor.collected(request, unix_now()));
            }
            GcLine::Report(Box::new(report))
        }
        Err(error) => match refuse.send(error) {
            Ok(()) => return,
            // Nobody waits for a refusal any more.
            Err(error) => GcLine::Failed { message: ApiError::from(error).into_message() },
        },
    };
    // A client that has gone needs no report.
    let _ = lines.send(last).await;
}
