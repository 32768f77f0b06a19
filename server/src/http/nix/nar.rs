//! `GET /{cache}/nar/<narhash>.nar.zst` and `.nar`: immutable, by range, only where the cache shows
//! a path with that NAR.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use futures_util::TryStreamExt as _;
use futures_util::stream::{self, StreamExt as _};
use metrics::counter;
use snowbank_core::hash::NarHash;

use super::super::access::may_fetch;
use super::super::error::ApiError;
use super::super::extract::Path;
use super::upload::is_uploaded;
use super::{immutable, show_visibility};
use crate::admission::Ending;
use crate::app::App;
use crate::damage::Suspicion;
use crate::db::nars::Nar;
use crate::serving::{
    RangeRequest, Representation, SMALL_NAR_BYTES, ServeError, charged, nar_stream, parse_range,
};
use crate::storage::Storage;

/// The status goes out once the first bytes are there, so that a storage that is away is answered
/// with 503, and Nix asks again. This is how long it is waited for: shorter than proxies wait.
const MAX_TIME_TO_FIRST_BYTES: Duration = Duration::from_secs(45);

pub(in crate::http) async fn nar(
    State(app): State<Arc<App>>,
    Path((name, file)): Path<(String, String)>,
    method: Method,
    headers: HeaderMap,
    ending: Option<Extension<Ending>>,
) -> Result<Response, ApiError> {
    if method != Method::HEAD {
        return read(app, name, file, method, headers, ending).await;
    }
    // An uploader asks whether its NAR is there, by the name under which it uploads it.
    match read(Arc::clone(&app), name.clone(), file.clone(), method, headers.clone(), ending).await
    {
        Err(_) if is_uploaded(&app, &headers, &name, &file).await => {
            Ok(Response::new(Body::empty()))
        }
        answer => answer,
    }
}

async fn read(
    app: Arc<App>,
    name: String,
    file: String,
    method: Method,
    headers: HeaderMap,
    ending: Option<Extension<Ending>>,
) -> Result<Response, ApiError> {
    let fetch = may_fetch(&app, &headers, &name).await?;
    let target = &fetch.allowed.target;
    let (hash, representation) = parse_name(&file).ok_or_else(|| {
        ApiError::not_found(format!(
            "`{file}` is not a NAR's name, <52 characters>.nar.zst or .nar"
        ))
    })?;
    let cache = target.cache.id;
    let kept = app.small_nars.get(cache, hash, representation);
    let found = match &kept {
        Some(kept) => kept.nar.clone().into(),
        None => app.lookups.nar(cache, hash).await?.ok_or_else(|| {
            ApiError::not_found(format!("the cache `{name}` has no NAR {}", hash.to_nix32()))
        })?,
    };
    app.uses.note_nar(cache, found.nar.id);

    let mut response = head(&found.nar, representation, target.cache.public);
    fetch.sign(&mut response);
    if is_unchanged(&headers, response.headers()) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Ok(response);
    }
    let length = representation.len(&found.nar);
    let range = match wanted(&headers, response.headers(), length) {
        RangeRequest::Whole => 0..length,
        RangeRequest::Part(range) => {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let text = format!("bytes {}-{}/{length}", range.start, range.end - 1);
            set(&mut response, header::CONTENT_RANGE, &text);
            range
        }
        RangeRequest::Unsatisfiable => {
            *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            set(&mut response, header::CONTENT_RANGE, &format!("bytes */{length}"));
            return Ok(response);
        }
    };
    set(&mut response, header::CONTENT_LENGTH, &(range.end - range.start).to_string());
    if method == Method::HEAD {
        return Ok(response);
    }
    if range == (0..length) && length <= SMALL_NAR_BYTES {
        let bytes = if let Some(kept) = &kept {
            kept.bytes.clone()
        } else {
            let report = reporter(&app, &found.nar);
            let read = app.small_nars.read(&app.nars, cache, found.clone(), representation);
            in_time(&app.storage, Box::pin(read)).await?.inspect_err(report)?
        };
        if let Some(bytes) = charged(&app.nars, bytes) {
            counter!("snowbank_nar_sent_bytes_total").increment(bytes.len() as u64);
            *response.body_mut() = Body::from(bytes);
            return Ok(response);
        }
    }
    let place = match ending {
        Some(Extension(ending)) => Some(app.downloads.enter(ending).await?),
        None => None,
    };
    let (log_name, report) = (file, reporter(&app, &found.nar));
    let mut bytes = Box::pin(nar_stream(app.nars.clone(), place, found, representation, range));
    let first = in_time(&app.storage, bytes.try_next()).await?.inspect_err(&report)?;
    let bytes = stream::iter(first.map(Ok))
        .chain(bytes)
        .inspect_ok(|bytes| counter!("snowbank_nar_sent_bytes_total").increment(bytes.len() as u64))
        .inspect_err(move |error| {
            tracing::error!(nar = %log_name, %error, "a NAR was broken off");
            report(error);
        });
    *response.body_mut() = Body::from_stream(bytes);
    Ok(response)
}

/// What `read` gives, unless the storage fails for long. On a slow link the first bytes may take
/// longer.
async fn in_time<T>(
    storage: &Storage,
    mut read: impl Future<Output = T> + Unpin,
) -> Result<T, ApiError> {
    let mut patience = MAX_TIME_TO_FIRST_BYTES;
    loop {
        match tokio::time::timeout(patience, &mut read).await {
            Ok(done) => return Ok(done),
            Err(_) if storage.is_failing() => return Err(ApiError::unavailable("storage")),
            Err(_) => patience = Duration::from_secs(1),
        }
    }
}

/// Tells of a NAR that could not be served, if that looks like damage.
fn reporter(app: &App, found: &Nar) -> impl Fn(&ServeError) + Send + use<> {
    let (inspector, nar, nar_hash) = (app.inspector.clone(), found.id, found.nar_hash);
    move |error| {
        if let Some(suspect) = error.suspect() {
            inspector.report(Suspicion { nar, nar_hash, suspect });
        }
    }
}

fn parse_name(file: &str) -> Option<(NarHash, Representation)> {
    let (hash, representation) = match file.strip_suffix(".nar.zst") {
        Some(hash) => (hash, Representation::Zstd),
        None => (file.strip_suffix(".nar")?, Representation::Raw),
    };
    Some((NarHash::from_nix32(hash).ok()?, representation))
}

fn head(nar: &Nar, representation: Representation, public: bool) -> Response {
    let (content_type, tag) = match representation {
        Representation::Zstd => ("application/zstd", nar.file_hash.to_nix32()),
        Representation::Raw => ("application/x-nix-nar", nar.nar_hash.to_nix32()),
    };
    let mut response = Response::new(Body::empty());
    set(&mut response, header::ETAG, &format!("\"{tag}\""));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CACHE_CONTROL, immutable(public));
    show_visibility(headers, public);
    response
}

/// `If-None-Match` names this very representation.
fn is_unchanged(request: &HeaderMap, response: &HeaderMap) -> bool {
    let Some(known) = request.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok())
    else {
        return false;
    };
    let tag = response.get(header::ETAG).and_then(|value| value.to_str().ok());
    known
        .split(',')
        .map(|one| one.trim().trim_start_matches("W/"))
        .any(|one| one == "*" || Some(one) == tag)
}

/// The range asked for; an `If-Range` that names something else asks for the whole.
fn wanted(request: &HeaderMap, response: &HeaderMap, length: u64) -> RangeRequest {
    let current =
        request.get(header::IF_RANGE).is_none_or(|tag| Some(tag) == response.get(header::ETAG));
    let range =
        request.get(header::RANGE).filter(|_| current).and_then(|value| value.to_str().ok());
    parse_range(range, length)
}

fn set(response: &mut Response, name: header::HeaderName, value: &str) {
    // Digits, hashes and punctuation: always a valid header value.
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}
