//! `POST /api/v1/caches/{cache}/paths`: verify paths and make them visible, one answer line each.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use snowbank_core::wire::{CommitLine, CommitRequest, PathCommit};

use super::super::access::may_push;
use super::super::answer::Answers;
use super::super::caller::{AuditDetail, PushCaller};
use super::super::error::ApiError;
use super::super::extract::Path;
use super::super::json::{self, Detail};
use super::super::ndjson::Lines;
use super::{JSON_BYTES, check_paths};
use crate::admin::check_keep;
use crate::admission::{Client, count_hit};
use crate::app::App;
use crate::clock::unix_now;
use crate::ingest::{Committer, commit};

pub(in crate::http) async fn paths(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    PushCaller(caller): PushCaller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let push = may_push(&app, &headers, &name).await?;
    app.free_space.check(0).await?;
    let client = Client::new(&push.subject, &caller.actor.remote);
    let what = (JSON_BYTES, "commit", Detail::All);
    let (request, held): (CommitRequest, _) =
        json::read(&app, &client, &headers, body, what).await?;
    check_paths("in one commit", request.paths.iter().map(|path| &path.store_path))?;
    check_nar_bytes(&request.paths, app.config.limits.max_nar_size.bytes())?;
    check_keep(request.pin.as_ref().and_then(|pin| pin.keep))?;
    let place = app.budgets.commit(&client).await?;
    let detail = detail(&request);
    let answers = Answers::new(&app.budgets.answers, &client);
    let patience = Duration::from_secs(app.config.limits.answer_timeout.get());
    let log =
        app.pushes.request(&push.subject, &caller.actor.remote, push.target.cache.name.as_str());
    let note = move |line: &CommitLine| log.answered(line);
    let lines = Lines::begin(answers, patience, note, |lines| async move {
        let committer = Committer { push: &push, actor: &caller.actor, client: &client };
        commit(&app.ingest, committer, request, unix_now, &lines).await;
        drop((held, place));
    });
    let mut response = lines.response(&CommitLine::Heartbeat);
    response.extensions_mut().insert(detail);
    Ok(response)
}

/// Refuses more than one commit may have verified. A NAR that is too large by itself is refused in
/// its own line.
fn check_nar_bytes(paths: &[PathCommit], limit: u64) -> Result<(), ApiError> {
    let sizes = paths.iter().map(|path| path.nar_size).filter(|size| *size <= limit);
    let sum = sizes.fold(0_u64, u64::saturating_add);
    if sum <= limit {
        return Ok(());
    }
    count_hit("max-nar-size");
    let message = format!(
        "the NARs of this commit have {sum} bytes together; this server takes at most {limit} in \
         one commit (`[limits] max-nar-size`); send the paths in several commits"
    );
    Err(ApiError::limit(message))
}

/// What the audit log says of it. What became of each path is in its receipt.
fn detail(request: &CommitRequest) -> AuditDetail {
    const MAX_NAMED: usize = 3;
    let name = |path: &PathCommit| {
        path.store_path.rsplit('/').next().unwrap_or_default().chars().take(250).collect()
    };
    let names: Vec<String> = request.paths.iter().take(MAX_NAMED).map(name).collect();
    let more = if request.paths.len() > MAX_NAMED { " …" } else { "" };
    AuditDetail(format!("{} path(s): {}{more}", request.paths.len(), names.join(" ")))
}
