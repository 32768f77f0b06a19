//! Build logs and realisations: what Nix keeps in a binary cache beside paths.

use std::io;
use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use metrics::counter;
use serde_json::Value;
use snowbank_core::nar::encode;
use snowbank_core::store_path::StorePath;
use snowbank_core::wire::code;

use super::super::access::{may_fetch, may_push};
use super::super::body::{BodyError, BodyLimits, collect, declared_length, limited};
use super::super::caller::AuditDetail;
use super::super::error::ApiError;
use super::super::extract::Path;
use super::super::origin::Remote;
use super::short_lived;
use super::upload::{decoded, encoding, nar_limits};
use crate::admission::{Client, Ending};
use crate::app::App;
use crate::auth::MayPush;
use crate::clock::unix_now;
use crate::db::cache_files::{self, Content, KeptBy, NewFile};
use crate::db::uploads;
use crate::ingest::{Compression, Decompressor, Ingest, NarUpload, receive_nar};
use crate::serving::{Representation, nar_stream};

/// The longest realisation, decompressed, with all its signatures.
const REALISATION_BYTES: u64 = 32 << 10;
/// How often a realisation is merged anew with what others have sent meanwhile.
const MAX_RACES: usize = 8;
/// The longest log that comes compressed, decompressed.
const MAX_COMPRESSED_LOG: u64 = 256 << 20;
/// Streams of a compressed log, one behind the other.
const LOG_STREAMS: u32 = 1024;
/// What is decompressed of a log at a time.
const PIECE_BYTES: usize = 256 << 10;
/// The longest name of a file.
const NAME_BYTES: usize = 600;

/// `PUT /{cache}/log/{deriver}`: plain with a length, or compressed, or short.
pub(in crate::http) async fn put_log(
    State(app): State<Arc<App>>,
    Path((name, deriver)): Path<(String, String)>,
    Remote(address): Remote,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let push = may_push(&app, &headers, &name).await?;
    let deriver = derivation(&deriver)?;
    let client = Client::new(&push.subject, &address);
    app.free_space.check(0).await?;
    let limits = nar_limits(&app);
    let declared = declared_length(&headers, limits)?;
    let log = app.pushes.request(&push.subject, &address, push.target.cache.name.as_str());
    let encoding = encoding(&headers)?;
    let name = format!("log/{deriver}");
    // Its content has a name of its own: another upload of this log may be under way.
    let file = format!("{name} {}", upload_id()?);
    let size = if let (Compression::Plain, Some(size)) = (encoding, declared) {
        let body = limited(body, limits, tokio_util::sync::CancellationToken::new());
        let stored = receive_log(&app, &push, &client, &file, size, body).await?;
        log.stored(stored);
        size
    } else {
        // Its length has to be known first: it is held as it came, and decompressed twice.
        let limits = BodyLimits { bytes: app.budgets.bodies.largest(), ..limits };
        let declared = declared_length(&headers, limits)?;
        let mut hold = app.budgets.bodies.open(&client);
        let bytes = collect(body, declared, limits, &mut hold).await?;
        hold.settle();
        let bytes = Bytes::from(bytes);
        let place = app.budgets.large_upload(&client).await?;
        let size = measure(&app, encoding, bytes.clone()).await?;
        drop(place);
        let pieces = pieces(app.ingest.clone(), encoding, bytes)?;
        let stored = receive_log(&app, &push, &client, &file, size, pieces).await?;
        log.stored(stored);
        size
    };
    keep_log(&app, &push, &name, &file, &deriver, size).await?;
    let note = Extension(AuditDetail(format!("log of {deriver}, {size} bytes")));
    Ok((StatusCode::CREATED, note).into_response())
}

/// What tells one upload of a log from others.
fn upload_id() -> Result<String, ApiError> {
    let mut id = [0; 8];
    getrandom::fill(&mut id)
        .map_err(|error| ApiError::internal().log("a log has no name", &error))?;
    Ok(format!("{:016x}", u64::from_le_bytes(id)))
}

/// The bytes of a NAR with this log for its one file.
fn framed(
    size: u64,
    content: impl stream::Stream<Item = Result<Bytes, BodyError>> + Send,
) -> impl stream::Stream<Item = Result<Bytes, BodyError>> + Send {
    let (mut start, mut end) = (Vec::new(), Vec::new());
    encode::magic(&mut start);
    encode::regular_start(&mut start, false, size);
    encode::regular_end(&mut end, size);
    let piece = |bytes: Vec<u8>| stream::iter([Ok(Bytes::from(bytes))]);
    piece(start).chain(content).chain(piece(end))
}

/// Bytes of such a NAR before the log.
fn offset() -> u64 {
    let mut start = Vec::new();
    encode::magic(&mut start);
    encode::regular_start(&mut start, false, 0);
    start.len() as u64
}

async fn receive_log(
    app: &App,
    push: &MayPush,
    client: &Client,
    file: &str,
    size: u64,
    content: impl stream::Stream<Item = Result<Bytes, BodyError>> + Send,
) -> Result<u64, ApiError> {
    let body = Box::pin(framed(size, content));
    let compression = Some(Compression::Plain);
    let upload = NarUpload { client, file, body, compression, declared: None, params: app.cut };
    let received = receive_nar(&app.ingest, &push.target.cache, upload, unix_now).await?;
    Ok(received.stored_bytes)
}

/// Names what was received as `file` the log of a derivation.
async fn keep_log(
    app: &App,
    push: &MayPush,
    name: &str,
    file: &str,
    deriver: &StorePath,
    size: u64,
) -> Result<(), ApiError> {
    let (cache, now) = (push.target.cache.id, unix_now());
    app.chain.confirm_lately().await?;
    let mut tx = app.db.commit_tx().await?;
    let upload = uploads::find(tx.exec(), cache, file, now - uploads::KEPT_SECONDS).await?;
    let upload = upload
        .ok_or_else(|| ApiError::busy("the log went at this very moment; send it again", 2))?;
    uploads::remove(tx.exec(), cache, file).await?;
    let new = NewFile {
        cache,
        name,
        kept_by: KeptBy::Deriver(deriver),
        content: Content::Nar(upload.nar.id),
        size,
        pushed_by: &push.subject,
        created: now,
    };
    cache_files::put(tx.exec(), &new).await?;
    Ok(tx.commit().await?)
}

/// Length of what `bytes` decompress to.
async fn measure(app: &App, encoding: Compression, bytes: Bytes) -> Result<u64, ApiError> {
    let (mut size, mut pieces) = (0, Box::pin(pieces(app.ingest.clone(), encoding, bytes)?));
    while let Some(piece) = pieces.next().await {
        size += piece.map_err(|error| bad_log(&error))?.len() as u64;
        if size > MAX_COMPRESSED_LOG {
            return Err(ApiError::limit(format!(
                "the log has more than {MAX_COMPRESSED_LOG} bytes; send it without a \
                 Content-Encoding"
            )));
        }
    }
    Ok(size)
}

/// What `bytes` decompress to, in pieces, each a short turn of a worker thread.
fn pieces(
    ingest: Ingest,
    encoding: Compression,
    bytes: Bytes,
) -> Result<impl stream::Stream<Item = Result<Bytes, BodyError>> + Send, ApiError> {
    let memory = encoding.memory(&bytes).min(12 << 20);
    let decoder = Decompressor::new(encoding, memory).map_err(|error| bad_log(&error))?;
    let state = Some((decoder.with_streams(LOG_STREAMS), bytes));
    Ok(stream::try_unfold(state, move |state| {
        let ingest = ingest.clone();
        async move {
            let Some((mut decoder, bytes)) = state else { return Ok(None) };
            let step = move || {
                let mut buffer = vec![0; PIECE_BYTES];
                let mut rest = &bytes[..];
                let len = decoder.step(&mut rest, &mut buffer)?;
                buffer.truncate(len);
                let left = bytes.slice(bytes.len() - rest.len()..);
                if len == 0 && decoder.is_cut_off() {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
                }
                Ok((Bytes::from(buffer), (decoder, left)))
            };
            let stepped = ingest.on_cpu(step).await.map_err(io::Error::other).flatten();
            let (piece, next) =
                stepped.map_err(|error| BodyError::Broken(axum::Error::new(error)))?;
            Ok((!piece.is_empty()).then_some((piece, Some(next))))
        }
    }))
}

fn bad_log(error: &dyn std::fmt::Display) -> ApiError {
    let message = format!("the log does not decompress: {error}");
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, code::BAD_REQUEST, message)
}

/// `GET /{cache}/log/{deriver}`, as text.
pub(in crate::http) async fn log(
    State(app): State<Arc<App>>,
    Path((name, deriver)): Path<(String, String)>,
    method: Method,
    headers: HeaderMap,
    ending: Option<Extension<Ending>>,
) -> Result<Response, ApiError> {
    let fetch = may_fetch(&app, &headers, &name).await?;
    let cache = &fetch.allowed.target.cache;
    let deriver = derivation(&deriver)?;
    let found = {
        let mut conn = app.db.reader().await?;
        cache_files::nar(conn.exec(), cache.id, &format!("log/{deriver}")).await?
    };
    let Some((nar, size)) = found else {
        return Err(ApiError::not_found(format!("the cache `{name}` has no log of {deriver}")));
    };
    let mut response = Response::new(Body::empty());
    let own = response.headers_mut();
    own.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    own.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    own.insert(header::CACHE_CONTROL, short_lived(cache.public));
    own.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
    fetch.sign(&mut response);
    if method == Method::HEAD {
        return Ok(response);
    }
    let place = match ending {
        Some(Extension(ending)) => Some(app.downloads.enter(ending).await?),
        None => None,
    };
    let range = offset()..offset() + size;
    let bytes = nar_stream(app.nars.clone(), place, nar.into(), Representation::Raw, range);
    let bytes = bytes.inspect(|piece| {
        if let Ok(piece) = piece {
            counter!("snowbank_nar_sent_bytes_total").increment(piece.len() as u64);
        }
    });
    *response.body_mut() = Body::from_stream(Box::pin(bytes));
    Ok(response)
}

/// `PUT /{cache}/realisations/{id}.doi`, of Nix up to 2.34.
pub(in crate::http) async fn put_realisation(
    state: State<Arc<App>>,
    Path((name, file)): Path<(String, String)>,
    remote: Remote,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    put_text(&state, &name, format!("realisations/{file}"), remote, &headers, body).await
}

/// `PUT /{cache}/build-trace-v2/{derivation}/{output}.doi`, of Nix from 2.35 on.
pub(in crate::http) async fn put_build_trace(
    state: State<Arc<App>>,
    Path((name, derivation, file)): Path<(String, String, String)>,
    remote: Remote,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let file = format!("build-trace-v2/{derivation}/{file}");
    put_text(&state, &name, file, remote, &headers, body).await
}

async fn put_text(
    app: &App,
    cache: &str,
    name: String,
    Remote(address): Remote,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let push = may_push(app, headers, cache).await?;
    check_name(&name)?;
    app.free_space.check(0).await?;
    let client = Client::new(&push.subject, &address);
    let limits = BodyLimits::new(&app.config.limits, REALISATION_BYTES);
    let declared = declared_length(headers, limits)?;
    let mut hold = app.budgets.bodies.open(&client);
    let bytes = collect(body, declared, limits, &mut hold).await?;
    let text = decoded(app, headers, bytes, REALISATION_BYTES).await?;
    let new = Realisation::parse(&text)?;
    for _ in 0..MAX_RACES {
        if keep_realisation(app, &push, &name, &new).await? {
            let note = Extension(AuditDetail(format!("{name} is {}", new.out_path)));
            return Ok((StatusCode::CREATED, note).into_response());
        }
    }
    Err(ApiError::busy("others send this realisation at the same time; send it again", 2))
}

/// Keeps a realisation beside what was sent of it before; `false` where that has changed meanwhile.
async fn keep_realisation(
    app: &App,
    push: &MayPush,
    name: &str,
    new: &Realisation,
) -> Result<bool, ApiError> {
    let (cache, created) = (push.target.cache.id, unix_now());
    app.chain.confirm_lately().await?;
    let mut tx = app.db.commit_tx().await?;
    let old = cache_files::text(tx.exec(), cache, name).await?;
    let merged = match &old {
        Some(old) => new.merged_into(old, push.may_pull)?,
        None => new.value.to_string(),
    };
    if merged.len() as u64 > REALISATION_BYTES {
        let message = format!("it has more than {REALISATION_BYTES} bytes with all its signatures");
        return Err(ApiError::limit(message));
    }
    let file = NewFile {
        cache,
        name,
        kept_by: KeptBy::Path(&new.out_path.hash()),
        content: Content::Text(&merged),
        size: merged.len() as u64,
        pushed_by: &push.subject,
        created,
    };
    let is_kept = cache_files::replace_text(tx.exec(), &file, old.as_deref()).await?;
    tx.commit().await?;
    Ok(is_kept)
}

/// `GET /{cache}/realisations/{id}.doi`.
pub(in crate::http) async fn realisation(
    state: State<Arc<App>>,
    Path((name, file)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    text(&state, &name, &format!("realisations/{file}"), &headers).await
}

/// `GET /{cache}/build-trace-v2/{derivation}/{output}.doi`.
pub(in crate::http) async fn build_trace(
    state: State<Arc<App>>,
    Path((name, derivation, file)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    text(&state, &name, &format!("build-trace-v2/{derivation}/{file}"), &headers).await
}

async fn text(
    app: &App,
    cache: &str,
    name: &str,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let fetch = may_fetch(app, headers, cache).await?;
    let target = &fetch.allowed.target.cache;
    let found = {
        let mut conn = app.db.reader().await?;
        cache_files::text(conn.exec(), target.id, name).await?
    };
    let text =
        found.ok_or_else(|| ApiError::not_found(format!("the cache `{cache}` has no {name}")))?;
    let mut response = Response::new(Body::from(text));
    let own = response.headers_mut();
    own.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    own.insert(header::CACHE_CONTROL, short_lived(target.public));
    fetch.sign(&mut response);
    Ok(response)
}

/// Which path an output of a content-addressed derivation came to, with signatures of that.
struct Realisation {
    value: Value,
    out_path: StorePath,
}

impl Realisation {
    fn parse(text: &str) -> Result<Self, ApiError> {
        let bad = |why: String| {
            let message = format!("the realisation {why}");
            ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, code::BAD_REQUEST, message)
        };
        let value: Value =
            serde_json::from_str(text).map_err(|error| bad(format!("is no JSON: {error}")))?;
        let out_path = value
            .get("outPath")
            .and_then(Value::as_str)
            .ok_or_else(|| bad("has no `outPath`".to_owned()))?;
        let base_name = out_path.rsplit('/').next().unwrap_or_default();
        let out_path = StorePath::from_base_name(base_name)
            .map_err(|error| bad(format!("has an `outPath` that is none: {error}")))?;
        Ok(Self { value, out_path })
    }

    /// This with the signatures of `old` as well, which is of the same path.
    fn merged_into(&self, old: &str, may_pull: bool) -> Result<String, ApiError> {
        const MAX_SIGNATURES: usize = 64;
        let Ok(old) = Self::parse(old) else { return Ok(self.value.to_string()) };
        if old.out_path != self.out_path {
            let known = if may_pull { format!(", {}", old.out_path) } else { String::new() };
            let message = format!("the cache has another path for it{known}, which stays");
            return Err(ApiError::new(StatusCode::CONFLICT, code::CONFLICT, message));
        }
        let signatures = |value: &Value| {
            value.get("signatures").and_then(Value::as_array).cloned().unwrap_or_default()
        };
        let mut all = signatures(&old.value);
        for signature in signatures(&self.value) {
            if all.len() < MAX_SIGNATURES && !all.contains(&signature) {
                all.push(signature);
            }
        }
        let mut merged = self.value.clone();
        if let Some(fields) = merged.as_object_mut() {
            fields.insert("signatures".to_owned(), Value::Array(all));
        }
        Ok(merged.to_string())
    }
}

/// A derivation's base name.
fn derivation(text: &str) -> Result<StorePath, ApiError> {
    StorePath::from_base_name(text)
        .ok()
        .filter(|path| path.name().strip_suffix(".drv").is_some())
        .ok_or_else(|| ApiError::not_found(format!("`{text}` is not the name of a derivation")))
}

fn check_name(name: &str) -> Result<(), ApiError> {
    let is_plain = |byte: u8| byte.is_ascii_graphic();
    if name.len() <= NAME_BYTES && name.strip_suffix(".doi").is_some() && name.bytes().all(is_plain)
    {
        return Ok(());
    }
    Err(ApiError::bad_request(format!(
        "a realisation's name ends in .doi and has at most {NAME_BYTES} printable characters"
    )))
}
