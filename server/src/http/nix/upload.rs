//! What `nix copy --to` sends: NARs, then narinfos, each with PUT; and what it sends besides, which
//! this server makes by itself.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use snowbank_core::narinfo::NarInfo;
use snowbank_core::store_path::StorePathHash;
use snowbank_core::wire::{CommitLine, code};
use tracing::Instrument as _;

use super::super::access::may_push;
use super::super::body::{BodyLimits, collect, declared_length, limited};
use super::super::caller::{AuditDetail, PushCaller};
use super::super::error::ApiError;
use super::super::extract::Path;
use super::super::origin::Remote;
use crate::admission::Client;
use crate::app::App;
use crate::clock::unix_now;
use crate::db::uploads::{self, KEPT_SECONDS};
use crate::ingest::{
    Committer, Compression, Decompressor, NarUpload, Published, ReceivedNar, publish, receive_nar,
};

/// The longest narinfo, decompressed: ten thousand references.
const NARINFO_BYTES: u64 = 1 << 20;
/// Streams of a compressed text, one behind the other.
const TEXT_STREAMS: u32 = 16;
/// The longest file that is not kept.
const IGNORED_BYTES: u64 = 64 << 20;
/// The longest time in which a NAR comes in.
const NAR_DEADLINE: Duration = Duration::from_hours(12);
/// The longest name of a NAR's file.
const FILE_NAME_BYTES: usize = 255;

/// `PUT /{cache}/nar/{file}`.
pub(in crate::http) async fn nar(
    State(app): State<Arc<App>>,
    Path((name, file)): Path<(String, String)>,
    Remote(address): Remote,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let push = may_push(&app, &headers, &name).await?;
    check_file_name(&file)?;
    let limits = nar_limits(&app);
    let declared = declared_length(&headers, limits)?;
    app.free_space.check(declared.unwrap_or(0)).await?;
    let client = Client::new(&push.subject, &address);
    let log = app.pushes.request(&push.subject, &address, push.target.cache.name.as_str());
    let body = limited(body, limits, tokio_util::sync::CancellationToken::new());
    let upload = NarUpload {
        client: &client,
        file: &file,
        body: Box::pin(body),
        compression: None,
        declared: None,
        params: app.cut,
    };
    let received = receive_nar(&app.ingest, &push.target.cache, upload, unix_now).await?;
    let ReceivedNar { nar_hash, nar_size, stored_bytes, new_bytes } = received;
    log.stored(stored_bytes);
    let text = format!("{nar_hash} {nar_size} bytes, {new_bytes} of them new\n");
    Ok((StatusCode::CREATED, text).into_response())
}

/// What a NAR's body may be: it has no length in common with others, and so no time either, but its
/// rate.
pub(super) fn nar_limits(app: &App) -> BodyLimits {
    let limits = &app.config.limits;
    BodyLimits { deadline: NAR_DEADLINE, ..BodyLimits::new(limits, limits.max_nar_size.bytes()) }
}

/// Whether this NAR was uploaded a short while ago, for whoever may push it.
pub(in crate::http) async fn is_uploaded(
    app: &App,
    headers: &HeaderMap,
    name: &str,
    file: &str,
) -> bool {
    let Ok(push) = may_push(app, headers, name).await else { return false };
    // Not so long ago that it goes before its narinfo comes.
    let after = unix_now() - KEPT_SECONDS / 2;
    let Ok(mut conn) = app.db.reader().await else { return false };
    matches!(uploads::find(conn.exec(), push.target.cache.id, file, after).await, Ok(Some(_)))
}

/// `PUT /{cache}/{file}`: a narinfo, or a listing, which is not kept.
pub(in crate::http) async fn file(
    state: State<Arc<App>>,
    Path((name, file)): Path<(String, String)>,
    caller: PushCaller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    if file.strip_suffix(".ls").is_some() {
        return ignored(&state, &name, &headers, body).await;
    }
    let hash = file
        .strip_suffix(".narinfo")
        .and_then(|hash| StorePathHash::from_chars(hash.as_bytes()))
        .ok_or_else(|| {
            ApiError::not_found(format!(
                "`{file}` is not a name under which something can be uploaded: narinfos are \
                 <32 characters>.narinfo, and NARs are below nar/"
            ))
        })?;
    narinfo(&state, &name, hash, caller, &headers, body).await
}

/// `PUT /{cache}/nix-cache-info`: the server makes its own.
pub(in crate::http) async fn cache_info(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    ignored(&app, &name, &headers, body).await
}

/// `PUT /{cache}/debuginfo/{file}`: where in which NAR debug information lies, which is not kept.
pub(in crate::http) async fn debug_info(
    State(app): State<Arc<App>>,
    Path((name, _)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    ignored(&app, &name, &headers, body).await
}

async fn narinfo(
    app: &Arc<App>,
    name: &str,
    hash: StorePathHash,
    PushCaller(caller): PushCaller,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let push = may_push(app, headers, name).await?;
    app.free_space.check(0).await?;
    let client = Client::new(&push.subject, &caller.actor.remote);
    let limits = BodyLimits::new(&app.config.limits, NARINFO_BYTES);
    let declared = declared_length(headers, limits)?;
    let mut hold = app.budgets.bodies.open(&client);
    let bytes = collect(body, declared, limits, &mut hold).await?;
    let text = decoded(app, headers, bytes, NARINFO_BYTES).await?;
    let info = NarInfo::parse(&push.target.cache.store_dir, &text)
        .map_err(|error| unprocessable(code::NARINFO_INVALID, error.to_string()))?;
    if info.store_path.hash() != hash {
        let message = format!("the narinfo of {} was uploaded as {hash}.narinfo", info.store_path);
        return Err(unprocessable(code::NARINFO_INVALID, message));
    }
    let place = app.budgets.commit(&client).await?;
    let log =
        app.pushes.request(&push.subject, &caller.actor.remote, push.target.cache.name.as_str());
    let base_name = info.store_path.base_name();
    let cache = push.target.cache.id;
    let ingest = app.ingest.clone();
    // A task of its own: what became visible is looked for by what waits for it, also when the
    // client has gone.
    let publishing = async move {
        let committer = Committer { push: &push, actor: &caller.actor, client: &client };
        let published = publish(&ingest, committer, info, &text, unix_now()).await;
        drop(place);
        published
    };
    let published =
        tokio::spawn(publishing.in_current_span()).await.map_err(|_| ApiError::internal())??;
    let (text, detail) = match published {
        Published::Visible(receipt) => {
            app.narinfos.forget(cache, hash);
            let detail = format!("{base_name} {} {}", receipt.status, receipt.nar_hash);
            let text = serde_json::to_string(&receipt)
                .map_err(|error| ApiError::unserializable(&error))?;
            log.answered(&CommitLine::Receipt(*receipt));
            (text, detail)
        }
        Published::Waiting(missing) => {
            let count = missing.len();
            let first = missing.first().map(ToString::to_string).unwrap_or_default();
            let text = format!(
                "{base_name} becomes visible when its references are: {count} are missing, such \
                 as {first}; it waits for a day\n"
            );
            (text, format!("{base_name} waits for {count} references"))
        }
        Published::Refused(line) => {
            log.answered(&line);
            return Err(ApiError::of_line(*line));
        }
    };
    let mut response = (StatusCode::CREATED, text).into_response();
    response.extensions_mut().insert(AuditDetail(detail));
    Ok(response)
}

/// The compression that a request's body is encoded in.
pub(super) fn encoding(headers: &HeaderMap) -> Result<Compression, ApiError> {
    let named: Vec<&str> = headers
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .map(|value| value.to_str().unwrap_or("?"))
        .collect();
    let named = named.join(",");
    Compression::of_encoding(&named).ok_or_else(|| {
        let message = format!("this server does not know the Content-Encoding `{named}`");
        ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, code::BAD_REQUEST, message)
    })
}

/// A text of at most `limit` bytes, whatever it is encoded in.
pub(super) async fn decoded(
    app: &App,
    headers: &HeaderMap,
    bytes: Vec<u8>,
    limit: u64,
) -> Result<String, ApiError> {
    let encoding = encoding(headers)?;
    let bytes =
        match encoding {
            Compression::Plain => bytes,
            _ => app.ingest.on_cpu(move || decompressed(encoding, &bytes, limit)).await.map_err(
                |error| ApiError::internal().log("a text was not decompressed", &error),
            )??,
        };
    let text = String::from_utf8(bytes).map_err(|error| undecodable(&error))?;
    if text.contains(|c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
        return Err(undecodable(&"it has control characters"));
    }
    Ok(text)
}

fn decompressed(encoding: Compression, bytes: &[u8], limit: u64) -> Result<Vec<u8>, ApiError> {
    let decoder = Decompressor::new(encoding, encoding.memory(bytes).min(16 << 20));
    let mut decoder = decoder.map_err(|error| undecodable(&error))?.with_streams(TEXT_STREAMS);
    // One byte more than there may be.
    let mut output = vec![0; usize::try_from(limit).unwrap_or(usize::MAX) + 1];
    let (mut rest, mut len) = (bytes, 0);
    loop {
        let step = decoder.step(&mut rest, &mut output[len..]);
        let more = step.map_err(|error| undecodable(&error))?;
        len += more;
        if len == output.len() {
            return Err(ApiError::limit(format!("it has more than {limit} bytes")));
        }
        if more == 0 {
            break;
        }
    }
    if !decoder.is_whole() {
        return Err(undecodable(&"it is cut off"));
    }
    output.truncate(len);
    Ok(output)
}

fn undecodable(error: &dyn std::fmt::Display) -> ApiError {
    unprocessable(code::NARINFO_INVALID, format!("the text does not decode: {error}"))
}

/// Reads a body to its end and keeps nothing of it.
async fn ignored(
    app: &App,
    name: &str,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    may_push(app, headers, name).await?;
    let limits = BodyLimits::new(&app.config.limits, IGNORED_BYTES);
    declared_length(headers, limits)?;
    let mut body = Box::pin(limited(body, limits, tokio_util::sync::CancellationToken::new()));
    while let Some(piece) = body.next().await {
        piece?;
    }
    let note = Extension(AuditDetail("not kept".to_owned()));
    Ok((StatusCode::CREATED, note, "the server makes this by itself\n").into_response())
}

fn check_file_name(file: &str) -> Result<(), ApiError> {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'/' && byte != b'\\';
    if file.len() <= FILE_NAME_BYTES && !file.starts_with('.') && file.bytes().all(is_plain) {
        return Ok(());
    }
    Err(ApiError::bad_request(format!(
        "a NAR's file has a name of at most {FILE_NAME_BYTES} letters, digits and punctuation"
    )))
}

fn unprocessable(code: &'static str, message: String) -> ApiError {
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, code, message)
}
